import itertools

import numpy as np
import pytest
import rasterio
import torch

from modeling_stsun import STSUNImageProcessor
from stsun_processing import Acquisition, Band, ImageSeries, load_checkpoint, open_series, predict_raster, predict_scene
from stsun_processing.inference import ScenePredictor, blend_weights, tile_starts
from stsun_processing.raster_output import write_series

BANDS = (Band("B02", 492, 66), Band("B08", 833, 106))


def make_series(height=50, width=41, dates=("2021-01-03", "2021-03-01"), holes=True):
    rng = np.random.default_rng(0)
    pixels = rng.uniform(0, 0.6, (len(dates), 2, height, width))
    if holes:
        pixels[:, :, 20:30, :15] = np.nan  # on all dates
        pixels[0, :, 5:9, 5:9] = np.nan  # on one
    return ImageSeries(
        tuple(Acquisition(BANDS, date, 10) for date in dates),
        crs="EPSG:32633",
        transform=(10, 0, 400_000, 0, -10, 5_000_000),
        pixels=tuple(pixels),
    )


@pytest.mark.parametrize(("length", "tile", "overlap"), [(1, 8, 2), (8, 8, 2), (9, 8, 2), (100, 8, 0), (101, 16, 15)])
def test_tiles_cover_the_scene_and_stay_inside(length, tile, overlap):
    starts = tile_starts(length, tile, overlap)
    covered = np.zeros(length, dtype=int)
    for start in starts:
        assert start >= 0
        assert length < tile or start + tile <= length
        covered[start : start + tile] += 1
    assert covered.min() >= 1
    assert all(second - first <= tile - overlap for first, second in itertools.pairwise(starts))


def test_blend_weights_fall_to_the_edges_and_never_vanish():
    weights = blend_weights(16, 20, 4)
    assert weights.min() > 0
    assert (weights[4:12, 4:16] == 1).all()
    assert torch.equal(weights, weights.flip(0).flip(1))
    # Two neighbours that overlap by 4 share the overlap: their weights add up to 1 there.
    assert torch.allclose(weights[8, -4:] + weights[8, :4], torch.ones(4))


def test_one_tile_is_the_model_itself(checkpoint):
    model, processor = load_checkpoint(checkpoint)
    series = make_series(holes=False)
    maps = predict_scene(model, processor, series, "semantic_change_detection", ["water", "forest"], progress=False)
    with torch.no_grad():
        outputs = model(**processor(series, "semantic_change_detection", ["water", "forest"]))
    expected = processor.post_process_dense_prediction(outputs)[0]
    assert maps.dtype == np.uint8
    assert np.array_equal(maps, expected)


def test_blending_is_the_weighted_mean_of_the_logits_of_all_tiles(checkpoint):
    model, processor = load_checkpoint(checkpoint)
    series, classes = make_series(), ["water", "forest", "urban"]
    maps = predict_scene(
        *(model, processor, series, "semantic_segmentation", classes), tile_size=24, overlap=7, progress=False
    )
    total, weights = np.zeros((3, 50, 41)), np.zeros((50, 41))
    for row in tile_starts(50, 24, 7):
        for column in tile_starts(41, 24, 7):
            with torch.no_grad():
                logits = model(**processor(series.crop(row, column, 24, 24), classes=classes)).logits[0, 0].numpy()
            weight = blend_weights(24, 24, 7).numpy()
            total[:, row : row + 24, column : column + 24] += logits * weight
            weights[row : row + 24, column : column + 24] += weight
    expected = (total / weights).argmax(0)
    expected[20:30, :15] = 255
    assert (maps[0] == expected).mean() > 0.999  # ties at float precision may fall either way


def test_the_result_does_not_depend_on_the_batch_size(checkpoint):
    model, processor = load_checkpoint(checkpoint)
    arguments = (model, processor, make_series(), "binary_change_detection")
    options = {"tile_size": 16, "overlap": 4, "progress": False}
    one, eight = (predict_scene(*arguments, batch_size=size, **options) for size in (1, 8))
    assert (one == eight).mean() > 0.999


def test_map_of_a_raster_lies_on_the_grid_of_the_raster(checkpoint, tmp_path):
    model, processor = load_checkpoint(checkpoint)
    series = make_series()
    paths = write_series(series, tmp_path / "series")
    out = tmp_path / "maps.tif"
    with open_series(paths) as source:
        assert source.series == series
        predict_raster(
            *(model, processor, source, out, "semantic_change_detection", ["water", "urban"]),
            tile_size=24,
            overlap=8,
            progress=False,
        )
    with rasterio.open(out) as written, rasterio.open(paths[0]) as read:
        assert written.crs == read.crs
        assert written.transform == read.transform
        assert written.shape == read.shape
        assert written.count == 2
        assert written.nodata == 255
        assert "2021-01-03" in written.descriptions[0]
        maps = written.read()
    assert (maps[:, 20:30, :15] == 255).all()
    assert set(np.unique(maps)) <= {0, 1, 255}
    assert (maps == 255).sum() == 2 * 10 * 15
    memory = predict_scene(
        *(model, processor, series, "semantic_change_detection", ["water", "urban"]),
        tile_size=24,
        overlap=8,
        progress=False,
    )
    assert np.array_equal(maps, memory)


def test_values_in_another_unit_are_refused_before_any_tile_is_predicted(checkpoint):
    model, processor = load_checkpoint(checkpoint)
    series = make_series()
    scaled = ImageSeries(series.acquisitions, pixels=tuple(10_000 * array for array in series.pixels))
    with pytest.raises(ValueError, match=r"another unit.*scale=0.0001"):
        ScenePredictor(model, processor, scaled, "semantic_segmentation", ["water"], progress=False)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [({"tile_size": 8, "overlap": 8}, "overlap"), ({"batch_size": 0}, "batch_size"), ({"tile_size": 0}, "tile_size")],
)
def test_tile_settings_that_do_not_fit_are_refused(checkpoint, kwargs, message):
    model, processor = load_checkpoint(checkpoint)
    with pytest.raises(ValueError, match=message):
        predict_scene(model, processor, make_series(), "semantic_segmentation", ["water"], **kwargs)


@pytest.mark.parametrize(
    ("missing", "what"),
    [
        ("model.safetensors", "weights"),
        ("config.json", "configuration"),
        ("preprocessor_config.json", "image processor"),
    ],
)
def test_a_checkpoint_without_one_of_its_parts_is_refused_by_name(checkpoint, tmp_path, missing, what):
    for path in checkpoint.iterdir():
        if path.name != missing:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ValueError, match=rf"no {what}.*{missing}"):
        load_checkpoint(tmp_path)


def test_missing_and_left_over_weights_are_named(checkpoint, tmp_path):
    from safetensors.torch import load_file, save_file

    for path in checkpoint.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = load_file(checkpoint / "model.safetensors")
    weights["left.over"] = weights.pop("stsun.norm.weight")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"stsun\.norm\.weight") as error:
        load_checkpoint(tmp_path)
    assert "left.over" in str(error.value)


def test_model_and_processor_of_different_vocabularies_are_refused(checkpoint, tmp_path):
    for path in checkpoint.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    processor = STSUNImageProcessor.from_pretrained(checkpoint)
    processor.add_categories(["glacier"])
    processor.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="glacier"):
        load_checkpoint(tmp_path)
