"""Values that no sensor measures: fills that nobody declared, and faults. They never reach beyond their own pixels."""

import math
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
import rasterio
import torch
from hypothesis import given
from hypothesis import strategies as st

from modeling_stsun import STSUNImageProcessor
from stsun_processing import Acquisition, Band, ImageSeries, load_checkpoint, predict_raster
from stsun_processing.rasters.records import RasterError
from stsun_processing.scenes.predictor import PredictionError, ScenePredictor
from stsun_processing.scenes.raster_output import check_writable
from stsun_processing.scenes.scene_files import predict_scene

BANDS = (Band("B02", 492, 66), Band("B08", 833, 106))
CLASSES = ["water", "forest", "urban"]
TILES = {"tile_size": 24, "overlap": 8, "progress": False}
# What float GeoTIFFs and netCDF files are filled with where nobody wrote, and other numbers far from any reflectance.
ABSURD = st.sampled_from([-3.4028235e38, 3.4028235e38, 9.96921e36, 1e30, -1e30, 1e20, 1e10, -1e6]) | st.floats(
    1e5, 2.0**127, width=32
)
PIXELS = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 1), st.integers(0, 29), st.integers(0, 35)), min_size=1, max_size=9
)


def clean_pixels():
    rng = np.random.default_rng(0)
    return (rng.uniform(0, 0.6, (2, 2, 30, 36)) * rng.uniform(0.1, 1, (2, 2, 1, 1))).astype(np.float32)


def series_of(pixels):
    dates = ("2021-01-03", "2021-03-01")
    return ImageSeries(
        tuple(Acquisition(BANDS, date, 10) for date in dates),
        crs="EPSG:32633",
        transform=(10, 0, 400_000, 0, -10, 5_000_000),
        pixels=tuple(pixels),
    )


def predict(model, processor, pixels, task="semantic_change_detection"):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return predict_scene(model, processor, series_of(pixels), task, CLASSES, **TILES)


@given(value=ABSURD, places=PIXELS)
def test_absurd_values_are_taken_as_missing(checkpoint, value, places):
    """The model's inputs are those of the same series with these pixels declared as missing."""
    processor = STSUNImageProcessor.from_pretrained(checkpoint)
    absurd, missing = clean_pixels(), clean_pixels()
    for place in places:
        absurd[place] = value
        missing[place[0], :, place[2], place[3]] = np.nan
    with pytest.warns(UserWarning, match=r"beyond all that it can measure.*nodata=\.\.\., --nodata"):
        found = processor(series_of(absurd), "semantic_change_detection", CLASSES)
    expected = processor(series_of(missing), "semantic_change_detection", CLASSES)
    for name, tensor in expected.items():
        assert torch.equal(torch.as_tensor(found[name]).nan_to_num(), torch.as_tensor(tensor).nan_to_num()), name


@pytest.mark.parametrize("value", [-3.4028235e38, 9.96921e36, 1e30])
def test_the_map_of_a_scene_with_an_absurd_pixel_is_that_with_a_missing_one(checkpoint, value):
    model, processor = load_checkpoint(checkpoint)
    clean = clean_pixels()
    absurd, missing = clean.copy(), clean.copy()
    absurd[:, 0, 20:23, 20:23], missing[:, 0, 20:23, 20:23] = value, np.nan
    maps = predict(model, processor, absurd)
    assert np.array_equal(maps, predict(model, processor, missing))
    assert (maps[:, 20:23, 20:23] == 255).all()
    assert (maps == 255).sum() == 2 * 9
    assert len(np.unique(maps)) > 2


@given(value=st.floats(-1e3, 1e3, width=32))
def test_values_that_can_be_measured_stay(checkpoint, value):
    processor = STSUNImageProcessor.from_pretrained(checkpoint)
    pixels = clean_pixels()
    pixels[0, 0, 3, 4] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        batch = processor(series_of(pixels), "semantic_change_detection", CLASSES)
    assert batch["pixel_mask"].all()
    assert batch["pixel_values"].isfinite().all()


def test_a_series_of_nothing_but_absurd_values_is_refused(checkpoint):
    processor = STSUNImageProcessor.from_pretrained(checkpoint)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match="no valid pixel"):
            processor(series_of(np.full((2, 2, 9, 9), 1e30)), "semantic_segmentation", CLASSES, check_range=False)
        with pytest.raises(ValueError, match="another unit"):
            processor(series_of(np.full((2, 2, 9, 9), 1e30)), "semantic_segmentation", CLASSES)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_logits_that_are_not_finite_are_refused_with_their_place(checkpoint, value):
    model, processor = load_checkpoint(checkpoint)
    with torch.no_grad():
        model.stsun.norm.weight[3] = value
    with pytest.raises(PredictionError, match=r"not finite in rows 0 to \d+ of the scene, columns 0 to 35"):
        predict(model, processor, clean_pixels())


# Requests that cannot be met


def test_requests_beyond_all_bounds_end_before_work(checkpoint):
    model, processor = load_checkpoint(checkpoint)
    series = series_of(clean_pixels())
    request = (series, "semantic_segmentation", CLASSES)
    with pytest.raises(ValueError, match=r"cell_size \(--cell-size\) must be from 1 to the 24 pixels"):
        ScenePredictor(model, processor, *request, **TILES, cell_size=10**9)
    with pytest.raises(ValueError, match="device 'meta'"):
        ScenePredictor(model.to("meta"), processor, *request, **TILES)


def test_more_classes_than_a_map_tells_apart_are_refused_with_the_remedy(checkpoint):
    model, processor = load_checkpoint(checkpoint)
    series, names = series_of(clean_pixels()), [f"class {index}" for index in range(300)]
    model.add_categories(names)
    processor.add_categories(names)
    with pytest.raises(ValueError, match=r"304 classes are more than .* at most 255 of them \(classes="):
        ScenePredictor(model, processor, series, "semantic_segmentation", **TILES)
    assert len(
        ScenePredictor(model, processor, series_of(clean_pixels()), "semantic_segmentation", names[:255]).classes
    )


@pytest.mark.parametrize("length", range(225, 254, 4))
def test_names_that_are_too_long_are_refused_before_work(checkpoint, tmp_path, length):
    model, processor = load_checkpoint(checkpoint)
    out = tmp_path / ("a" * (length - 4) + ".tif")
    if length > 229:
        # 26 bytes more are needed, and 255 are allowed.
        with pytest.raises(RasterError, match="too long"):
            check_writable(out)
        return
    predict_raster(model, processor, series_of(clean_pixels()), out, "semantic_segmentation", CLASSES, **TILES)
    with rasterio.open(out) as dataset:
        assert dataset.count == 1


def test_names_that_are_not_utf_8_are_refused_before_work(tmp_path):
    with pytest.raises(RasterError, match="no name in UTF-8"):
        check_writable(tmp_path / os.fsdecode(b"a\xff.tif"))


def test_processes_that_never_come_are_waited_for_with_a_word_and_not_for_ever():
    code = (
        "import datetime, stsun_processing.scenes.scene_files as s\n"
        "s._MEETING_TIMEOUT = datetime.timedelta(seconds=2)\n"
        "try: s.join_processes('cpu')\n"
        "except ValueError as error: print(error)\n"
    )
    environment = os.environ | {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29517"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert "Waiting for 2 processes" in done.stderr
    assert "did not meet within 2 s" in done.stdout
    assert "unset RANK and WORLD_SIZE" in done.stdout
