import copy
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.auto.image_processing_auto import AutoImageProcessor

from modeling_stsun import STSUNForDensePrediction, STSUNForSemanticSegmentation, STSUNImageProcessor
from stsun_processing import Acquisition, Band, ImageSeries
from stsun_processing.statistics_stsun import BandStatistics
from tests.conftest import CLASSES, small_config

BLUE, NIR = Band("B02", 492, 66), Band("B08", 833, 106)
VV = Band("VV", kind="sar", polarisation="VV")


@pytest.fixture
def processor():
    return STSUNImageProcessor.from_config(small_config())


def statistics(band, mean, std):
    return BandStatistics.of(band, mean, std).to_dict()


def make_series(dates=("2021-01-03", "2021-03-01"), size=(9, 7), bands=(BLUE, NIR), gsd_m=10.0):
    rng = np.random.default_rng(0)
    return ImageSeries(
        tuple(Acquisition(bands, date, gsd_m) for date in dates),
        pixels=tuple(rng.uniform(0, 0.6, (len(bands), *size)) for _ in dates),
    )


def test_everything_has_the_shape_and_unit_that_the_model_asks_for(processor):
    radar = ImageSeries(
        (Acquisition((VV,), None), Acquisition((BLUE, NIR), "2000-01-11T12:00")),
        pixels=(np.full((1, 5, 11), -12.0), np.full((2, 5, 11), 0.2)),
    )
    batch = processor([make_series(), radar], ["semantic_change_detection", "binary_change_detection"])
    assert batch.pop("cell_sizes") == 1  # all are alike
    shapes = {name: tuple(tensor.shape) for name, tensor in batch.items()}
    assert shapes["pixel_values"] == (2, 2, 2, 9, 11)
    assert shapes["category_ids"] == (2, 4)
    assert shapes["output_date_roles"] == (2, 2, 2)
    assert batch["timestamps"][1].isnan().tolist() == [True, False]
    assert batch["timestamps"][1, 1] == 10.5  # days since 2000-01-01
    assert batch["wavelengths"][0, 0].tolist() == [492, 833]
    assert batch["wavelengths"][1, 0].isnan().all()
    assert batch["band_mask"][1].tolist() == [[True, False], [True, True]]
    assert [processor.band_types[i] for i in batch["band_types"][1, :, 0]] == ["sar_vv", "reflective"]
    assert batch["gsd"].isnan().tolist() == [False, True]
    assert batch["pixel_mask"].sum().item() == 2 * 9 * 7 + 2 * 5 * 11
    assert batch["output_mask"].tolist() == [[True, True], [True, False]]
    assert batch["category_mask"].sum(1).tolist() == [4, 2]
    assert batch["output_date_roles"].tolist() == [[[1, 0], [0, 1]], [[2, 3], [0, 0]]]
    # Values of typical backscatter and reflectance are normalised to about 0.
    assert batch["pixel_values"][1].abs().max() < 1


def test_a_sample_is_the_same_alone_and_in_a_batch(processor):
    one, other = make_series(), make_series(dates=(None,), size=(20, 3), bands=(BLUE,))
    alone, batch = processor(one), processor([other, one])
    assert alone.pop("cell_sizes") == batch.pop("cell_sizes") == 1
    for name, tensor in alone.items():
        part = batch[name][1][tuple(slice(0, size) for size in tensor.shape[1:])]
        assert torch.equal(part.nan_to_num(-1), tensor[0].nan_to_num(-1)), name


def test_batch_of_the_processor_runs_through_the_model(processor):
    torch.manual_seed(0)
    model = STSUNForDensePrediction(small_config()).eval()
    batch = processor(
        [make_series(), make_series(size=(30, 4))],
        ["semantic_segmentation", "binary_change_detection"],
        [["forest", "water"], ["changed"]],
        labels=[np.ones((1, 9, 7)), np.full((1, 30, 4), 255)],
    )
    with torch.no_grad():
        output = model(**batch)
    assert output.loss.isfinite()
    maps = processor.post_process_dense_prediction(output, [(9, 7), (30, 4)])
    assert [tuple(m.shape) for m in maps] == [(1, 9, 7), (1, 30, 4)]


def test_a_single_class_and_fewer_maps_are_the_same_in_a_mixed_batch(processor):
    torch.manual_seed(0)
    model = STSUNForDensePrediction(small_config()).eval()
    change, three = "binary_change_detection", make_series(dates=("2020", "2021", "2022"), size=(20, 4))
    requests = [
        (make_series(), change, ["changed"]),
        (three, "semantic_change_detection", ["water", "urban", "forest"]),
    ]
    with torch.no_grad():
        alone = [model(**processor(*request)) for request in requests]
        together = model(**processor(*map(list, zip(*requests, strict=True))))
        twice = model(**processor([requests[0][0]] * 2, change, [["changed"], ["unchanged", "changed"]]))
    maps = processor.post_process_dense_prediction(together, [(9, 7), (20, 4)])
    for index in range(2):
        assert torch.equal(maps[index], processor.post_process_dense_prediction(alone[index])[0])
    mask, _ = processor.post_process_change_detection(twice)
    assert torch.equal(mask, processor.post_process_change_detection(alone[0])[0])
    assert mask.any()


def test_by_kind_leaves_the_statistics_of_data_sets_alone(processor):
    series = make_series()
    expected = processor(series)["pixel_values"]
    processor.band_statistics = {"mine": [statistics(BLUE, 1500.0, 400.0), statistics(NIR, 1500.0, 400.0)]}
    assert not torch.equal(processor(series)["pixel_values"], expected)
    assert torch.equal(processor(series, statistics="by_kind")["pixel_values"], expected)


def test_metadata_stays_exact_when_the_batch_is_cast(processor):
    batch = processor(make_series(dates=("2026-01-01", "2026-01-02"))).to(torch.bfloat16)
    assert batch["pixel_values"].dtype == torch.bfloat16
    assert batch["timestamps"].tolist() == [[9497.0, 9498.0]]


def test_arrays_and_series_give_the_same(processor):
    series = make_series()
    arrays = np.stack(series.pixels)
    batch = processor(arrays, bands=[BLUE, NIR], timestamps=["2021-01-03", "2021-03-01"], gsd_m=10)
    for name, tensor in processor(series).items():
        assert torch.equal(torch.as_tensor(batch[name]), torch.as_tensor(tensor)), name


def test_statistics_of_a_data_set_are_found_by_its_bands(processor):
    processor.band_statistics = {"mine": [statistics(BLUE, 100.0, 10.0), statistics(NIR, 100.0, 10.0)]}
    counts = ImageSeries((Acquisition((BLUE, NIR)),), pixels=(np.full((2, 3, 3), 110.0),))
    assert processor(counts)["pixel_values"].unique().tolist() == [1.0]
    # Names are free.
    renamed = ImageSeries((Acquisition((Band("b1", 491.5), Band("b2", 834))),), pixels=counts.pixels)
    assert processor(renamed)["pixel_values"].unique().tolist() == [1.0]
    assert processor(renamed, statistics="mine")["pixel_values"].unique().tolist() == [1.0]
    processor.band_statistics |= {"other": processor.band_statistics["mine"]}
    with pytest.raises(ValueError, match=r"several data sets: mine, other.*statistics="):
        processor(counts)
    assert processor(counts, statistics="other")["pixel_values"].unique().tolist() == [1.0]


def test_nodata_is_zero_and_masked(processor):
    series = make_series(dates=("2021-01-03",))
    pixels = np.array(series.pixels[0])
    pixels[1, 2, 3] = np.nan
    batch = processor(ImageSeries(series.acquisitions, pixels=(pixels,)))
    assert not batch["pixel_mask"][0, 0, 2, 3]
    assert batch["pixel_mask"].sum() == 9 * 7 - 1
    assert batch["pixel_values"][0, 0, :, 2, 3].tolist() == [0, 0]


def test_cell_size_belongs_to_the_sample(processor):
    # unified_size is 24 in the small configuration.
    batch = processor([make_series(size=(24, 5)), make_series(size=(25, 5)), make_series(size=(3, 100))])
    assert batch["cell_sizes"].tolist() == [1, 2, 5]
    assert processor(make_series(), cell_size=3)["cell_sizes"] == 3
    with pytest.raises(ValueError, match="whole number"):
        processor(make_series(), cell_size=2.5)


def test_save_and_load(processor, tmp_path):
    processor.band_statistics = {"mine": [statistics(BLUE, 1.0, 2.0), statistics(VV, -10.0, 3.0)]}
    processor.readings = {"mine": [{"bands": [BLUE.to_dict()], "dtype": "uint16", "scale": [1e-4]}]}
    processor.save_pretrained(tmp_path)
    config = small_config()
    config.save_pretrained(tmp_path)
    loaded = AutoImageProcessor.from_pretrained(tmp_path)
    assert loaded.to_settings() == processor.to_settings()
    loaded.check_config(config)
    loaded.add_categories(["glacier"])
    with pytest.raises(ValueError, match="glacier"):
        loaded.check_config(config)
    assert json.loads((tmp_path / "preprocessor_config.json").read_text())["categories"] == list(CLASSES)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"task": "classification"}, r"'classification'; known tasks are semantic_segmentation"),
        ({"classes": ["lake"]}, r"'lake'; known classes are water, .*add_categories"),
        ({"classes": []}, "No class"),
        ({"classes": ["water", "water"]}, "twice"),
        ({"classes": [["water"], ["water"]]}, "2 entries for 1 series"),
        ({"outputs": [(0, 2)]}, r"\(0, 2\).*0..1"),
        ({"outputs": []}, "outputs"),
        ({"task": "binary_change_detection", "outputs": [(1, 1)]}, "before, after"),
        ({"statistics": "nowhere"}, "nowhere"),
        ({"labels": np.zeros((1, 3, 3))}, "labels have shape"),
        ({"labels": np.full((1, 9, 7), 4)}, r"labels hold \[4\]"),
        ({"cell_size": 0}, "cell_size"),
        ({"do_resize": True}, "do_resize mean nothing"),
        ({"bands": [BLUE, NIR]}, "carries its own"),
        ({"task": [np.zeros((9, 7))] * 2}, "Give label maps by name: segmentation_maps="),
        ({"labels": np.zeros((1, 9, 7)), "segmentation_maps": np.zeros((9, 7))}, "two names of the same"),
        ({"segmentation_maps": [np.zeros((1, 9, 7))]}, r"has shape \(1, 9, 7\); \(height, width\)"),
        ({"segmentation_maps": np.zeros((9, 7)), "task": "semantic_change_detection"}, "labels have shape"),
        ({"labels": [np.zeros((1, 9, 7))] * 2}, "2 entries for 1 series"),
        ({"kind_statistics": {"thermal": {"mean": 290.0, "std": 15.0}}}, "hold no statistics of 'reflective'"),
    ],
)
def test_requests_that_cannot_be_met_are_refused(processor, kwargs, message):
    with pytest.raises(ValueError, match=message):
        processor(make_series(), **kwargs)


@pytest.mark.parametrize(
    ("images", "kwargs", "message"),
    [
        (np.zeros((1, 2, 4, 4)), {}, "bands="),
        (np.zeros((1, 3, 4, 4)), {"bands": [BLUE, NIR]}, "2 band records"),
        (np.zeros((2, 4, 4)), {"bands": [BLUE, NIR]}, "array must be"),
        (np.zeros((2, 2, 4, 4)), {"bands": [BLUE, NIR], "timestamps": ["2021-01-01"]}, "1 entries for 2 dates"),
        (np.zeros((2, 2, 4, 4)), {"bands": [BLUE, NIR], "timestamps": ["2021-02-01", "2021-01-01"]}, "out of order"),
        (np.zeros((1, 2, 4, 4)), {"bands": [BLUE, NIR], "timestamps": ["soon"]}, "'soon' is not a date"),
        (np.full((1, 2, 4, 4), np.nan), {"bands": [BLUE, NIR]}, "no valid pixel"),
        (np.full((1, 2, 4, 4), 2500.0), {"bands": [BLUE, NIR]}, r"median of 2500.*scale=0.0001"),
        (np.full((1, 2, 4, 4), 25.0), {"bands": [BLUE, NIR]}, r"8-bit picture.*scale=1/255"),
        (np.full((1, 2, 4, 4), 2e-5), {"bands": [BLUE, NIR]}, "scaled twice"),
        ([], {}, "No image"),
        (np.zeros((1, 2, 4, 4)), {"bands": []}, "bands="),
    ],
)
def test_arrays_that_do_not_fit_are_refused(processor, images, kwargs, message):
    with pytest.raises(ValueError, match=message):
        processor(images, **kwargs)


def test_post_processing_follows_the_conventions_of_transformers(processor):
    logits = torch.zeros(2, 3, 4, 6)
    logits[0, 2] = 1
    output = type("Output", (), {"logits": logits})
    maps = processor.post_process_semantic_segmentation(output, [(3, 5), (8, 12)])
    assert [tuple(m.shape) for m in maps] == [(3, 5), (8, 12)]
    assert maps[0].unique().tolist() == [2]
    with pytest.raises(ValueError, match="one \\(height, width\\) a sample"):
        processor.post_process_semantic_segmentation(output, [(3, 5)])
    several = type("Output", (), {"logits": torch.zeros(1, 2, 3, 4, 6)})
    with pytest.raises(ValueError, match="2 maps a sample"):
        processor.post_process_semantic_segmentation(several)


def random_model(head=STSUNForDensePrediction):
    torch.manual_seed(0)
    return head(small_config()).eval()


def run(model, processor, *args, **kwargs):
    with torch.no_grad():
        return model(**processor(*args, **kwargs))


@pytest.mark.parametrize("head", [STSUNForDensePrediction, STSUNForSemanticSegmentation])
@pytest.mark.parametrize("target", [(36, 28), (40, 20), (20, 16), (24, 7), (9, 7), (4, 5), None])
def test_padding_never_reaches_the_maps_of_a_sample(processor, target, head):
    model, small, large = random_model(head), make_series(size=(9, 7)), make_series(size=(24, 20))
    classes = ["water", "forest", "urban"]
    alone = run(model, processor, small, classes=classes)
    batch = run(model, processor, [small, large], classes=classes)
    sizes = [target, (24, 20)] if target else None
    for process in (processor.post_process_semantic_segmentation, processor.post_process_probabilities):
        expected = process(alone, [target] if target else None)[0]
        got = process(batch, sizes)
        assert got[0].shape[-2:] == (target or (9, 7))
        assert got[1].shape[-2:] == (24, 20)
        torch.testing.assert_close(got[0], expected, rtol=0, atol=1e-5)


def test_nodata_at_the_border_is_no_padding(processor):
    series = make_series(dates=("2021-01-03",), size=(9, 7))
    pixels = np.array(series.pixels[0])
    pixels[:, :, 5:] = np.nan
    series = ImageSeries(series.acquisitions, pixels=(pixels,))
    model = random_model()
    alone = run(model, processor, series, classes=["water", "forest"])
    batch = run(model, processor, [series, make_series(size=(24, 20))], classes=["water", "forest"])
    expected = processor.post_process_probabilities(alone, [(18, 14)])[0]
    resized = torch.nn.functional.interpolate(alone.logits[0], size=(18, 14), mode="bilinear").softmax(1)
    torch.testing.assert_close(expected, resized)
    got = processor.post_process_probabilities(batch, [(18, 14), (24, 20)])[0]
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


def test_probabilities_are_softmax_and_sigmoid(processor):
    logits = torch.tensor([[0.0, 1.0, 3.0], [2.0, -1.0, 0.5]]).reshape(1, 2, 3, 1, 1)
    shares = processor.post_process_probabilities(type("Output", (), {"logits": logits}))[0]
    powers = np.exp(logits.numpy().astype(float)[0])
    np.testing.assert_allclose(shares, powers / powers.sum(1, keepdims=True), rtol=1e-6)
    one = processor.post_process_probabilities(type("Output", (), {"logits": logits[:, :, :1]}))[0]
    np.testing.assert_allclose(one, 1 / (1 + np.exp(-logits.numpy().astype(float)[0, :, :1])), rtol=1e-6)


def half_missing(processor, task, classes, **kwargs):
    """Outputs of two dates, of which the second lacks the left half."""
    series = make_series(size=(8, 12))
    second = np.array(series.pixels[1])
    second[:, :, :6] = np.nan
    series = ImageSeries(series.acquisitions, pixels=(series.pixels[0], second))
    # Beside a larger one with three dates, so that every axis is padded.
    other = make_series(dates=("2020", "2021", "2022"), size=(20, 24))
    return run(random_model(), processor, [series, other], task, classes, **kwargs)


@pytest.mark.parametrize("outputs", [None, [[(0, 1)], [(2, 0)]], [[(1, 0)], [(0, 1), (1, 2)]]])
def test_change_is_unknown_where_a_date_has_no_data(processor, outputs):
    batch = half_missing(processor, "binary_change_detection", ["changed"], outputs=outputs)
    masks = processor.post_process_change_detection(batch, threshold=0.0)
    assert not masks[0][:, :, :6].any()
    assert masks[0][:, :, 6:].all()
    assert masks[1].all()
    for result, mask in zip(
        processor.post_process_change_detection(batch, threshold=0.0, return_validity=True), masks, strict=True
    ):
        assert torch.equal(result["change"], mask)
        assert torch.equal(result["valid"], mask)
    # Twice as large: so is what is known.
    larger = processor.post_process_change_detection(batch, [(16, 24), (40, 48)], 0.0)
    assert not larger[0][:, :, :12].any()
    assert larger[0][:, :, 12:].all()


def test_semantic_change_is_unknown_where_a_date_has_no_data(processor):
    batch = half_missing(processor, "semantic_change_detection", ["water", "forest", "urban"])
    small, large = processor.post_process_semantic_change_detection(batch)
    maps = small["segmentation"]
    assert maps.shape == (2, 8, 12)
    assert not small["valid"][:, :, :6].any()
    assert small["valid"][:, :, 6:].all()
    assert torch.equal(small["change"], (maps[1:] != maps[:-1]) & small["valid"])
    assert (maps[1:] != maps[:-1])[:, :, :6].any()
    assert large["valid"].shape == (2, 20, 24)
    assert large["valid"].all()


def test_a_map_of_several_dates_is_known_where_one_of_them_is(processor):
    pixel_mask = torch.tensor([[[True, False, False]], [[True, True, False]], [[False, True, False]]])
    roles = torch.tensor([[1, 1, 0], [0, 0, 1], [2, 3, 0], [3, 0, 2]])
    expected = [[True, True, False], [False, True, False], [True, False, False], [False, False, False]]
    assert processor.valid_maps(pixel_mask, roles)[:, 0].tolist() == expected


def test_change_masks_agree_for_one_and_two_classes(processor):
    odds = torch.randn(1, 2, 4, 4)
    one = type("Output", (), {"logits": odds[:, :, None]})
    two = type("Output", (), {"logits": torch.stack([torch.zeros_like(odds), odds], dim=2)})
    (first,), (second,) = (processor.post_process_change_detection(output) for output in (one, two))
    assert torch.equal(first, second)
    assert torch.equal(first, odds[0] >= 0)


def test_semantic_change_is_where_neighbouring_dates_differ(processor):
    logits = torch.nn.functional.one_hot(torch.tensor([[[0, 1]], [[0, 2]], [[1, 2]]]), 3).permute(0, 3, 1, 2).float()
    result = processor.post_process_semantic_change_detection(type("Output", (), {"logits": logits[None]}))[0]
    assert result["segmentation"].tolist() == [[[0, 1]], [[0, 2]], [[1, 2]]]
    assert result["change"].tolist() == [[[False, True]], [[True, False]]]


def test_the_model_and_the_processor_import_without_the_geo_stack():
    # None in sys.modules makes an import fail as if the package were absent.
    absent = ("rasterio", "affine", "datasets", "evaluate")
    code = f"import sys; sys.modules |= dict.fromkeys({absent}); import modeling_stsun"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_padded_classes_stay_padding_when_logits_are_cast(processor):
    torch.manual_seed(0)
    model = STSUNForDensePrediction(small_config()).eval()
    one, two = make_series(), make_series(dates=("2022-02-02",))
    with torch.no_grad():
        alone = model(**processor(one, classes=["water"]))
        batch = model(**processor([one, two], classes=[["water"], ["water", "forest"]]))
    expected = processor.post_process_dense_prediction(alone)[0]
    # What mixed precision does: computed in half precision, handed back as float32.
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        cast = copy.copy(batch)
        padding = torch.finfo(dtype).min
        mask = batch.category_mask[:, None, :, None, None]
        cast.logits = torch.where(mask, batch.logits, padding)
        assert torch.equal(processor.post_process_dense_prediction(cast, [(9, 7)] * 2)[0], expected)
        assert processor.post_process_probabilities(cast)[0].shape == (1, 1, 9, 7)


@pytest.mark.parametrize("images", [None, 3, "scene.tif"])
def test_other_things_than_images_are_refused_by_name(processor, images):
    with pytest.raises(ValueError, match=f"type {type(images).__name__}"):
        processor(images)


def test_a_text_is_no_list_of_classes(processor):
    with pytest.raises(ValueError, match="give a list"):
        processor(make_series(), classes="water")
    with pytest.raises(ValueError, match="give a list"):
        processor.add_categories("mangrove")


def test_a_name_is_added_once(processor):
    processor.add_categories(["glacier"])
    assert processor.categories[-1] == "glacier"
    for names in (["glacier"], ["water"], ["reef", "reef"]):
        with pytest.raises(ValueError, match=f"Class '{names[-1]}' is known already; known classes are water, "):
            processor.add_categories(names)
    assert processor.categories == [*CLASSES, "glacier"]


@pytest.mark.parametrize("task", ["semantic_segmentation", "binary_change_detection", "semantic_change_detection"])
def test_the_two_halves_make_the_whole(processor, task):
    series = ImageSeries(
        (Acquisition((VV,), "2020"), Acquisition((BLUE, NIR), "2021", 10), Acquisition((NIR,))),
        pixels=tuple(np.full((count, 9, 30), value) for count, value in ((1, -12.0), (2, 0.3), (1, 0.2))),
    )
    outputs = None if task == "semantic_segmentation" else [(0, 2)] if task.startswith("binary") else [(1,), (0, 2)]
    bare = ImageSeries(series.acquisitions)
    metadata = processor.encode_metadata(bare, task, outputs=outputs, size=(9, 30))
    pixel_values, pixel_mask = processor.encode_pixels(series)
    assert pixel_values.shape == (3, 2, 9, 30)
    assert pixel_mask.shape == (3, 9, 30)
    whole = processor.encode(series, task, None, outputs, None, None)
    assert set(whole) == {*metadata, "pixel_values", "pixel_mask"}
    for name, array in {**metadata, "pixel_values": pixel_values, "pixel_mask": pixel_mask}.items():
        np.testing.assert_array_equal(whole[name], array)
    assert metadata["cell_sizes"] == 2  # 30 pixels, at most 24 cells
    assert metadata["image_sizes"].tolist() == [9, 30]
    assert processor.encode_metadata(bare, task, outputs=outputs, cell_size=3, size=(9, 30))["cell_sizes"] == 3


def test_pixels_are_checked_only_if_asked(processor):
    series = ImageSeries((Acquisition((BLUE, NIR)),), pixels=(np.full((2, 3, 3), 1200.0),))
    with pytest.raises(ValueError, match="another unit"):
        processor.encode_pixels(series)
    with pytest.raises(ValueError, match="another unit"):
        processor.check_units(series, None)
    values, _ = processor.encode_pixels(series, check_range=False)
    assert values.min() > 5e3
    empty = ImageSeries((Acquisition((BLUE, NIR)),), pixels=(np.full((2, 3, 3), np.nan),))
    processor.check_units(empty, None)


def test_normalised_values_are_those_of_the_formula(processor):
    series = make_series()
    processor.band_statistics = {"mine": [statistics(NIR, 0.3, 0.0), statistics(BLUE, 0.1, 0.05)]}
    values, _ = processor.encode_pixels(series)
    blue, nir = series.pixels[0].astype(np.float64)
    np.testing.assert_allclose(values[0, 0], (blue - 0.1) / 0.05, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(values[0, 1], nir - 0.3, rtol=1e-5, atol=1e-6)  # no spread to divide by


@pytest.mark.parametrize("name", ["radar", "by_kind"])
def test_linear_backscatter_without_a_unit_is_not_taken_for_decibel(processor, name):
    linear = np.random.default_rng(0).gamma(4, 0.02, (1, 9, 7))
    series = ImageSeries((Acquisition((VV,)),), pixels=(linear,))
    processor.band_statistics = {"radar": [statistics(replace(VV, unit="dB"), -10.0, 3.0)]}
    with pytest.raises(ValueError, match="looks like linear power or amplitude"):
        processor(series, statistics=name)
    processor(series, statistics=name, check_range=False)
    processor(ImageSeries(series.acquisitions, pixels=(10 * np.log10(linear),)), statistics=name)


def test_an_input_that_fits_no_data_set_is_not_normalised_another_way(processor):
    series = make_series()
    by_kind = processor(series)["pixel_values"]
    processor.band_statistics = {"radar": [statistics(VV, -10.0, 3.0)]}
    with pytest.raises(ValueError, match=r"fits no data set.*'radar' lack the bands B02.*--statistics by_kind"):
        processor(series)
    assert torch.equal(processor(series, statistics="by_kind")["pixel_values"], by_kind)
    assert processor.describe_statistics(series, "by_kind").startswith("by kind of band, in physical units")
    processor.band_statistics |= {"mine": [statistics(BLUE, 0.1, 0.1), statistics(NIR, 0.1, 0.1)]}
    assert processor.describe_statistics(series, None) == "statistics of 'mine' (B02 492 nm, B08 833 nm)"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("band_statistics", {"mine": {"B02": {"mean": float("nan"), "std": 1.0}}}),
        ("kind_statistics", {"sar": {"mean": 0.0, "std": -1.0}}),
        ("kind_statistics", None),
        ("readings", {"mine": [{}]}),
    ],
)
def test_settings_are_checked_whenever_they_are_set(processor, tmp_path, name, value):
    with pytest.raises(ValueError, match=name):
        setattr(processor, name, value)
    with pytest.raises(ValueError, match=name):
        STSUNImageProcessor(**{name: value})
    processor.save_pretrained(tmp_path)
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    with pytest.raises(ValueError, match=name):
        STSUNImageProcessor.from_pretrained(tmp_path)


def test_a_checkpoint_of_version_0_1_loads(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    path = tmp_path / "preprocessor_config.json"
    settings = json.loads(path.read_text())
    del settings["readings"]
    entry = {"mean": 100.0, "std": 10.0}
    settings["band_statistics"] = {"mine": {"B02": entry | {"center_nm": 492}, "B08": entry | {"center_nm": 833.0}}}
    path.write_text(json.dumps(settings))
    loaded = STSUNImageProcessor.from_pretrained(tmp_path)
    counts = ImageSeries((Acquisition((BLUE, NIR)),), pixels=(np.full((2, 3, 3), 110.0),))
    assert loaded(counts)["pixel_values"].unique().tolist() == [1.0]
    loaded.save_pretrained(tmp_path)
    assert STSUNImageProcessor.from_pretrained(tmp_path).to_settings() == loaded.to_settings()


def test_segmentation_maps_are_labels_as_other_processors_take_them(processor):
    first, second = make_series(dates=("2021",)), make_series(dates=("2022",), size=(5, 8))
    maps = [np.random.default_rng(0).integers(0, 2, series.size) for series in (first, second)]
    options = {"classes": ["water", "forest"]}
    expected = processor([first, second], labels=[one[None] for one in maps], **options)["labels"]
    images = [series.pixels[0] for series in (first, second)]
    pictures = [Image.fromarray(one.astype(np.uint8)) for one in maps]
    for segmentation_maps in (maps, pictures):
        batch = processor(images, segmentation_maps=segmentation_maps, bands=[BLUE, NIR], **options)
        assert batch["pixel_values"].shape == (2, 1, 2, 9, 8)
        assert torch.equal(batch["labels"], expected[:, 0])
    alone = processor(first, segmentation_maps=maps[0], **options)["labels"]
    assert torch.equal(alone, torch.tensor(maps[0])[None])
    stacked = processor([first, first], segmentation_maps=np.stack([maps[0]] * 2), **options)["labels"]
    assert torch.equal(stacked, torch.cat([alone, alone]))


def test_segmentation_maps_train_both_heads(processor):
    series = make_series(dates=("2021",))
    batch = processor(series, segmentation_maps=np.ones((9, 7)), classes=["water", "forest"])
    losses = []
    for head in (STSUNForDensePrediction, STSUNForSemanticSegmentation):
        torch.manual_seed(0)
        losses.append(head(small_config()).eval()(**batch).loss.item())
    assert losses[0] == losses[1]


def test_labels_of_one_series_are_an_array_or_a_list_of_maps(processor):
    series = make_series()
    maps = np.ma.masked_array(np.ones((2, 9, 7), dtype=np.int8), np.zeros((2, 9, 7), dtype=bool))
    maps[0, 3, 4] = np.ma.masked
    expected = np.where(maps.mask, 255, 1)
    task = "semantic_change_detection"
    for labels in (maps, [maps], list(maps)):
        assert np.array_equal(processor(series, task, labels=labels)["labels"][0], expected)


def test_statistics_of_a_data_set_know_its_own_unit(processor):
    heat = Band("heat", 10895, kind="thermal")
    series = ImageSeries(
        (Acquisition((BLUE,)), Acquisition((heat,))), pixels=(np.full((1, 3, 3), 1e-3), np.full((1, 3, 3), 20.0))
    )
    processor.band_statistics = {"water": [statistics(BLUE, 1e-3, 1e-3), statistics(heat, 15.0, 5.0)]}
    assert processor(series)["pixel_values"][0, :, 0].unique().tolist() == [0.0, 1.0]
    for date, message in ((0, "scaled twice"), (1, "Celsius")):
        with pytest.raises(ValueError, match=message):
            processor(series.select([date]), statistics="by_kind")
