import builtins
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import pipeline

import stsun_processing
from modeling_stsun import STSUNForDensePrediction, STSUNForSemanticSegmentation, STSUNImageProcessor
from stsun_processing import Acquisition, Band, ImageSeries, predict_scene
from stsun_processing.scenes.predictor import PROBABILITY_SCALE
from tests.conftest import small_config

BANDS = (Band("B02", 492, 66), Band("B08", 833, 106))
DATES = ["2021-01-03", "2021-03-01", "2021-07-01"]
CLASSES = ["water", "forest", "urban"]
TASKS = {
    "semantic_segmentation": CLASSES,
    "binary_change_detection": ["unchanged", "changed"],
    "semantic_change_detection": CLASSES,
}


@pytest.fixture
def pipe():
    # A model of its own: the pipeline and the processor's settings are changed.
    torch.manual_seed(0)
    model = STSUNForDensePrediction(small_config()).eval()
    return pipeline("dense-prediction", model=model, image_processor=STSUNImageProcessor.from_config(model.config))


@pytest.fixture(scope="module")
def pixels():
    """Three dates; all lack some pixels, and the second its left half."""
    array = np.random.default_rng(0).uniform(0.02, 0.5, (3, 2, 16, 20)).astype(np.float32)
    array[:, :, 3:6, 12:] = np.nan
    array[1, :, :, :10] = np.nan
    return array


@pytest.mark.parametrize("task", TASKS)
def test_maps_are_those_of_scene_inference_nodata_too(pipe, pixels, task):
    result = pipe(pixels, task=task, classes=TASKS[task], bands=BANDS, dates=DATES, gsd_m=10, probabilities=True)
    (series,) = pipe.image_processor.to_series(pixels, BANDS, DATES, 10)
    expected = predict_scene(pipe.model, pipe.image_processor, series, task, TASKS[task], progress=False)
    assert result["maps"].dtype == np.uint8
    assert np.array_equal(result["maps"], expected)
    assert result["classes"] == TASKS[task]
    assert np.array_equal(np.isnan(result["probabilities"]).any(1), expected == 255)
    np.testing.assert_allclose(np.nansum(result["probabilities"], 1)[expected != 255], 1, rtol=1e-5)
    assert (expected == 255).any()


def test_probabilities_are_those_of_scene_inference(pipe, pixels):
    (series,) = pipe.image_processor.to_series(pixels, BANDS, DATES, 10)
    options = {"classes": CLASSES}
    result = pipe(series, probabilities=True, **options)
    predictor = stsun_processing.ScenePredictor(
        pipe.model, pipe.image_processor, series, "semantic_segmentation", **options, probabilities=True, progress=False
    )
    (block,) = predictor.predict()
    known = block.probabilities != 255
    stored = block.probabilities * PROBABILITY_SCALE
    np.testing.assert_allclose(result["probabilities"][known], stored[known], atol=PROBABILITY_SCALE / 2 + 1e-4)


def test_change_is_told_only_where_both_dates_hold_data(pipe, pixels):
    result = pipe(pixels, task="semantic_change_detection", classes=CLASSES, bands=BANDS, dates=DATES)
    valid = np.isfinite(pixels).all(1)
    both = valid[1:] & valid[:-1]
    assert np.array_equal(result["valid"], both)
    maps = result["maps"]
    assert np.array_equal(result["change"], (maps[1:] != maps[:-1]) & both)
    assert not result["change"][:, :, :10].any()


def test_arrays_series_and_pictures_are_taken(pipe, pixels, tmp_path):
    (series,) = pipe.image_processor.to_series(pixels, BANDS, DATES, 10)
    expected = pipe(series, classes=CLASSES)["maps"]
    masked = np.ma.masked_invalid(pixels)
    for images in (masked, tuple(masked)):
        assert np.array_equal(pipe(images, classes=CLASSES, bands=BANDS, dates=DATES, gsd_m=10)["maps"], expected)
    several = pipe([series, series], classes=CLASSES)
    assert [np.array_equal(result["maps"], expected) for result in several] == [True, True]

    stored = np.random.default_rng(0).integers(0, 256, (16, 20, 3), dtype=np.uint8)
    picture = Image.fromarray(stored)
    physical = stored.transpose(2, 0, 1)[None] / 255
    expected = pipe(np.concatenate([physical] * 2), sensor="rgb", classes=CLASSES)["maps"]
    with pytest.warns(UserWarning, match="nominal red, green and blue"):
        assert np.array_equal(pipe((picture, picture), classes=CLASSES)["maps"], expected)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pipe(picture, sensor="rgb", classes=CLASSES)["maps"].shape == (1, 16, 20)
        assert pipe(stored, sensor="rgb", classes=CLASSES)["maps"].shape == (1, 16, 20)


def test_pictures_are_read_as_those_of_the_training_data(pipe):
    bands = [Band(name, nm).to_dict() for name, nm in (("red", 650), ("green", 550), ("blue", 450))]
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 20, 3), dtype=np.uint8))
    reading = {"bands": bands, "dtype": "uint8", "scale": [1 / 255] * 3, "gsd_m": 0.5}
    pipe.image_processor.readings = {"levir": [reading], "whu": [reading | {"gsd_m": 0.2}]}
    with pytest.raises(ValueError, match="several kinds of pictures"):
        pipe(picture, classes=CLASSES)
    record = {"kind": "reflective", "mean": 0.4, "std": 0.2}
    pipe.image_processor.band_statistics = {"whu": [{**band, **record} for band in bands]}
    with pytest.warns(UserWarning, match="read as those of 'whu'"):
        maps = pipe(picture, classes=CLASSES, statistics="whu")["maps"]
    array = np.asarray(picture).transpose(2, 0, 1)[None] / 255
    assert np.array_equal(maps, pipe(array, bands=bands, gsd_m=0.2, classes=CLASSES, statistics="whu")["maps"])


@pytest.fixture
def read_series(monkeypatch):
    """Stands for the reader of rasters, and notes what it is asked for."""
    asked = []

    def read(paths, **options):
        asked.append((paths, options))
        pixels = np.random.default_rng(0).uniform(0.02, 0.5, (2, 8, 8))
        return ImageSeries((Acquisition(BANDS, gsd_m=10),), pixels=(pixels,))

    monkeypatch.setattr(stsun_processing, "read_series", read, raising=False)
    return asked


def test_options_of_rasters_reach_their_reader(pipe, read_series):
    options = {
        "bands": ["B02", "B08"],
        "sensor": "sentinel-2",
        "product": "sentinel-2-l2a",
        "dates": ["2021"],
        "gsd_m": 10,
        "scale": 1e-4,
        "offset": -0.1,
        "nodata": 0,
        "parts": ["B02"],
        "grid": "finest",
    }
    pipe("scene.tif", classes=CLASSES, **options)
    pipe((Path("a.tif"), "b.tif"), timestamps=["2020", "2021"], classes=CLASSES)
    assert read_series == [("scene.tif", options), ((Path("a.tif"), "b.tif"), {"dates": ["2020", "2021"]})]


def test_rasters_are_read_with_what_the_checkpoint_knows_of_its_own(pipe, read_series):
    processor = pipe.image_processor
    reading = {"bands": [band.to_dict() for band in BANDS], "dtype": "uint16", "scale": [1e-4] * 2}
    processor.readings = {"mine": [reading], "other": [reading]}
    pipe("scene.tif", classes=CLASSES)
    assert read_series[0][1] == {"readings": processor.readings}
    processor.band_statistics = {
        "mine": [{"name": band.name, "center_nm": band.center_nm, "mean": 0.2, "std": 0.1} for band in BANDS]
    }
    pipe("scene.tif", classes=CLASSES, statistics="mine")
    assert read_series[1][1] == {"readings": {"mine": processor.readings["mine"]}}
    pipe("scene.tif", classes=CLASSES, statistics="by_kind")
    assert read_series[2][1] == {"readings": processor.readings}


@pytest.mark.parametrize(
    ("inputs", "kwargs", "message"),
    [
        (np.zeros((1, 2, 4, 4)), {"bands": BANDS, "dates": ["2021"], "timestamps": ["2021"]}, "two names of the same"),
        (np.zeros((1, 2, 4, 4)), {"bands": BANDS, "scale": 1e-4, "offset": 0.1}, "offset, scale describe rasters"),
        (np.zeros((1, 2, 4, 4)), {"bands": BANDS, "colour": "red"}, "colour mean nothing.*dates.*probabilities"),
        (np.zeros((2, 4, 4)), {"bands": BANDS}, "array must be"),
        (np.zeros((1, 2, 4, 4)), {}, "bands="),
        (np.zeros((1, 2, 4, 4)), {"bands": BANDS, "batch_size": 2}, "batch_size=2"),
    ],
)
def test_requests_that_cannot_be_met_are_refused(pipe, inputs, kwargs, message):
    with pytest.raises(ValueError, match=message):
        pipe(inputs, **kwargs)


def test_loading_asks_for_nobodys_trust(pipe, tmp_path, monkeypatch):
    # As save_pretrained writes it: with the code, and an auto_map that leads to it.
    pipe.model.save_pretrained(tmp_path)
    pipe.image_processor.save_pretrained(tmp_path)
    assert "auto_map" in (tmp_path / "preprocessor_config.json").read_text()
    asked = []
    monkeypatch.setattr(builtins, "input", lambda *prompt: asked.append(prompt) or "n")
    loaded = pipeline("dense-prediction", model=str(tmp_path))
    assert not asked
    assert type(loaded.image_processor) is STSUNImageProcessor


@pytest.mark.filterwarnings("ignore:Pictures are taken as nominal")
def test_a_picture_goes_through_the_pipeline_of_transformers(pipe):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 20, 3), dtype=np.uint8))
    model = STSUNForSemanticSegmentation(pipe.model.config).eval()
    model.load_state_dict(pipe.model.state_dict())
    segments = pipeline("image-segmentation", model=model, image_processor=pipe.image_processor)(picture)
    (maps,) = pipe(picture)["maps"]
    names = [name for name in pipe.image_processor.categories if name not in ("unchanged", "changed")]
    assert {segment["label"] for segment in segments} == {names[value] for value in np.unique(maps)}
    for segment in segments:
        assert np.array_equal(np.asarray(segment["mask"]) > 0, maps == names.index(segment["label"]))
