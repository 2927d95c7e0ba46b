import math
import os
import warnings
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio import Affine
from rasterio.enums import ColorInterp

from stsun_processing.metadata import Band, MetadataError
from stsun_processing.rasters.checks import check_complete
from stsun_processing.rasters.records import RasterError
from stsun_processing.rasters.report import describe
from stsun_processing.rasters.sensors import sensor_bands
from stsun_processing.rasters.series import open_series, read_series
from tests.processing.rasters.raster_files import RED, fact, ramp, write

# Pixels


def test_pixels_are_those_of_the_file(tmp_path):
    array = ramp(2, 6, 7)
    path = write(tmp_path / "a.tif", array)
    series = read_series([path], bands=[RED, RED])
    assert series.pixels[0].dtype == np.float32
    assert np.array_equal(series.pixels[0], array)
    assert series.valid[0].all()
    assert series.crs == "EPSG:32633"
    assert series.transform == (10, 0, 500000, 0, -10, 5000000)


def test_windows_are_crops_of_the_whole(tmp_path):
    path = write(tmp_path / "a.tif", ramp(2, 40, 50), nodata=7)
    with open_series([path, path], bands=[RED, RED]) as opened:
        assert (opened.height, opened.width) == (40, 50)
        whole = opened.read()
        for row, column, height, width in [(0, 0, 40, 50), (3, 5, 7, 1), (39, 49, 1, 1), (0, 0, 1, 50)]:
            window, crop = opened.read(row, column, height, width), whole.crop(row, column, height, width)
            assert window == crop
            assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(window.pixels, crop.pixels, strict=True))
            assert all(np.array_equal(a, b) for a, b in zip(window.valid, crop.valid, strict=True))
        assert opened.read(38, 45).size == (2, 5)


@pytest.mark.parametrize("window", [(-1, 0, 2, 2), (0, -1, 2, 2), (0, 0, 5, 1), (0, 0, 1, 6), (2, 2, 0, 1), (4, 0)])
def test_window_outside_is_refused(tmp_path, window):
    path = write(tmp_path / "a.tif", ramp())
    with open_series(path, bands=[RED]) as opened, pytest.raises(RasterError, match="does not lie inside 4 x 5"):
        opened.read(*window)


def test_scale_and_offset_of_the_file_give_physical_units(tmp_path):
    # ESA's convention since baseline 04.00: reflectance = DN / 10000 - 0.1; DN 0 = no data.
    path = write(tmp_path / "a.tif", np.array([[[0, 1005, 3500]]], dtype="uint16"), nodata=0)
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = (1e-4,), (-0.1,)
    series = read_series(path, bands=[RED])
    np.testing.assert_allclose(series.pixels[0][0, 0, 1:], [0.0005, 0.25], atol=1e-7)
    assert np.isnan(series.pixels[0][0, 0, 0])
    assert series.valid[0].tolist() == [[False, True, True]]
    # An explicit scale stands for both, and the facts say so.
    with open_series(path, bands=[RED], scale=0.5) as opened:
        np.testing.assert_allclose(opened.read().pixels[0][0, 0, 1:], [502.5, 1750])
        assert "offset -0.1 of the file not applied" in fact(opened, "scale", 1).source


def test_scale_for_all_for_each_band_and_for_each_date(tmp_path):
    one, two = (
        write(tmp_path / "a.tif", np.ones((1, 1, 1), "uint8")),
        write(tmp_path / "b.tif", np.ones((2, 1, 1), "u1")),
    )

    def values(paths, scale):
        bands = [[RED] * (1 if path is one else 2) for path in paths]
        return [pixels.ravel().tolist() for pixels in read_series(paths, bands=bands, scale=scale).pixels]

    assert values([one, two], 4) == [[4], [4, 4]]
    assert values([two], [2, 3]) == [[2, 3]]
    assert values([one, two], [4, [2, 3]]) == [[4], [2, 3]]
    assert values([one, two], [None, np.float32(2)]) == [[1], [2, 2]]
    for scale in ([1, 2, 3], 0, math.nan, "2"):
        with pytest.raises(RasterError, match="scale"):
            values([two], scale)


def test_each_kind_of_mask_makes_missing_pixels(tmp_path):
    array, mask = ramp(1, 1, 3), np.array([[255, 0, 255]], dtype="uint8")
    expected = [[True, False, True]]
    nodata = write(tmp_path / "nodata.tif", array, nodata=2)
    beside = write(tmp_path / "mask.tif", array, mask=mask)
    not_finite = write(tmp_path / "nan.tif", np.array([[[1, np.inf, 3]]], dtype="float32"))
    double = write(tmp_path / "double.tif", np.array([[[1, -1.7e308, 3]]]), nodata=-1.7e308)
    alpha = write(
        tmp_path / "alpha.tif", np.concatenate([array, mask[None]]), colours=(ColorInterp.gray, ColorInterp.alpha)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for path in (nodata, beside, not_finite, double, alpha):
            series = read_series(path, bands=[RED])
            assert series.valid[0].tolist() == expected, path
            assert np.isnan(series.pixels[0][0]).tolist() == [[False, True, False]], path
            assert series.pixels[0][0, 0, 2] == 3


def test_pixel_is_valid_only_where_all_bands_are(tmp_path):
    path = write(tmp_path / "a.tif", np.array([[[0, 5]], [[6, 7]]], dtype="uint8"), nodata=0)
    series = read_series(path, bands=[RED, RED])
    assert series.valid[0].tolist() == [[False, True]]
    assert np.isnan(series.pixels[0]).tolist() == [[[True, False]], [[False, False]]]


def test_raster_without_georeference_is_read_without_a_warning(tmp_path):
    path = write(tmp_path / "a.tif", ramp(), crs=None, transform=None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        series = read_series([path, path], bands=[RED])
    assert (series.crs, series.transform, series.gsd_m) == (None, None, None)


# Files, bands and dates


def test_files_of_one_date_in_order_or_as_a_folder(tmp_path):
    folder = tmp_path / "scene"
    folder.mkdir()
    numbers = [10, 2, 1]
    files = [write(folder / f"scene_B{n}.tif", np.full((1, 2, 2), n, "uint8")) for n in numbers]
    (folder / "notes.txt").write_text("not a raster")
    listed = read_series([files], sensor="l8")
    assert [band.name for band in listed.acquisitions[0].bands] == ["B10", "B2", "B1"]
    assert listed.pixels[0][:, 0, 0].tolist() == numbers
    natural = read_series([folder], sensor="l8")
    assert [band.name for band in natural.acquisitions[0].bands] == ["B1", "B2", "B10"]
    assert natural.pixels[0][:, 0, 0].tolist() == [1, 2, 10]
    (tmp_path / "empty").mkdir()
    with pytest.raises(RasterError, match="holds no raster"):
        open_series([tmp_path / "empty"])


def test_bands_given_as_records_or_names(tmp_path):
    one, two = write(tmp_path / "a.tif", ramp(1)), write(tmp_path / "b.tif", ramp(2))
    radar = [Band("VV", kind="sar", polarisation="VV")]
    with open_series([one, two], bands=[radar, ["red", "B8A"]], sensor=[None, "s2"]) as opened:
        first, second = opened.series.acquisitions
        assert first.bands == tuple(radar)
        assert second.bands == sensor_bands("s2", ["B04", "B8A"])
        assert [first.sensor, second.sensor] == [None, "sentinel-2"]
        assert [pixels.shape[0] for pixels in opened.read().pixels] == [1, 2]
    with pytest.raises(RasterError, match=r"2 bands were given \(red, nir\).*holds 1"):
        open_series(one, bands=["red", "nir"], sensor="s2")
    with pytest.raises(RasterError, match="'red', but no sensor"):
        open_series(one, bands=["red"])
    with pytest.raises(MetadataError, match="'foo' is not known"):
        open_series(one, bands=["foo"], sensor="s2")
    with pytest.raises(RasterError, match="1 entries for 2 dates"):
        open_series([one, two], bands=[[RED]])


def test_dates_given(tmp_path):
    path = write(tmp_path / "2020-01-01.tif", ramp())
    with open_series([path, path], bands=[RED], dates=[None, "2021-07"]) as opened:
        assert [a.datetime for a in opened.series.acquisitions] == [None, datetime(2021, 7, 16, 12)]
    days = np.array(["2020-01-01", "NaT"], "datetime64[D]")
    assert [a.datetime for a in read_series([path, path], bands=[RED], dates=days).acquisitions] == [
        *(datetime(2020, 1, 1), None)
    ]
    with pytest.raises(MetadataError, match="out of order"):
        open_series([path, path], bands=[RED], dates=["2021", "2020"])
    with pytest.raises(MetadataError, match="not a date"):
        open_series([path], bands=[RED], dates=["yesterday"])
    for dates in (["2020"], "20"):
        with pytest.raises(RasterError, match="one date for each"):
            open_series([path, path], bands=[RED], dates=dates)


# What cannot be used


def test_files_that_are_no_rasters(tmp_path):
    (tmp_path / "empty.tif").write_bytes(b"")
    (tmp_path / "text.tif").write_text("hello")
    for name, problem in [("missing.tif", "does not exist"), ("empty.tif", "empty"), ("text.tif", "cannot be opened")]:
        with pytest.raises(RasterError, match=problem) as error:
            open_series([tmp_path / name], bands=[RED])
        assert str(tmp_path / name) in str(error.value)
    for paths in ([], [[]]):
        with pytest.raises(RasterError, match="holds no"):
            open_series(paths)


def test_truncated_file_is_refused_when_opened(tmp_path):
    path = write(tmp_path / "a.tif", ramp(1, 600, 500), tiled=True, blockxsize=256, blockysize=256)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(RasterError, match=r"a\.tif cannot be read at row 512, column 256.*truncated"):
        open_series(path, bands=[RED])


def test_complete_files_pass_and_truncated_ones_do_not(tmp_path):
    path = write(tmp_path / "a.tif", ramp(3, 600, 500), tiled=True, blockxsize=256, blockysize=256)
    check_complete(path)
    os.truncate(path, path.stat().st_size * 2 // 3)
    with pytest.raises(RasterError, match=r"a\.tif cannot be read at row 512, column 256.*truncated"):
        check_complete(path)


def test_error_while_reading_names_file_and_window(tmp_path):
    path = write(tmp_path / "a.tif", ramp(1, 600, 600), tiled=True, blockxsize=64, blockysize=64)
    with open_series(path, bands=[RED]) as opened:
        os.truncate(path, 2000)
        with pytest.raises(RasterError, match=r"a\.tif cannot be read at row 64, column 0, 10 x 20 pixels"):
            opened.read(64, 0, 10, 20)


@pytest.mark.parametrize(
    ("array", "profile", "problem"),
    [
        (ramp(1, 4, 6), {}, "4 x 6 pixels, the other 4 x 5"),
        (ramp(), {"crs": "EPSG:32634"}, "CRS is EPSG:32634, that of the other EPSG:32633"),
        (ramp(), {"crs": None}, "CRS is unknown"),
        (ramp(), {"transform": Affine(10, 0, 500005, 0, -10, 5000000)}, "0.5 pixels apart"),
        (ramp(), {"transform": Affine(20, 0, 500000, 0, -10, 5000000)}, "5 pixels apart"),
        (ramp(), {"transform": Affine(10, 0, 500000.2, 0, -10, 5000000)}, "0.02 pixels apart"),
    ],
)
def test_grids_that_differ_are_refused(tmp_path, array, profile, problem):
    one, two = write(tmp_path / "a.tif", ramp()), write(tmp_path / "b.tif", array, **profile)
    for paths in ([one, two], [[one, two]]):
        with pytest.raises(RasterError, match=problem) as error:
            open_series(paths, bands=[RED] if len(paths) == 2 else [RED, RED])
        assert all(word in str(error.value) for word in (str(one), str(two), "grid='first'", "gdalwarp"))


def test_grids_within_rounding_are_one(tmp_path):
    # Corners rounded to centimetres, as many programs write them.
    shifted = {"transform": Affine(10, 0, 500000.01, 0, -10, 5000000)}
    paths = [write(tmp_path / "a.tif", ramp()), write(tmp_path / "b.tif", ramp(), **shifted)]
    assert len(read_series(paths, bands=[RED]).pixels) == 2


def test_complex_numbers_and_lone_alpha_are_refused(tmp_path):
    path = write(tmp_path / "a.tif", ramp(dtype="complex64"))
    with pytest.raises(RasterError, match=r"Band 1 of .*complex64"):
        open_series(path, bands=[RED])
    alpha = write(tmp_path / "b.tif", ramp(), colours=[ColorInterp.alpha])
    with pytest.raises(RasterError, match="alpha band and no other"):
        open_series(alpha, bands=[RED])


def test_input_without_data_is_refused(tmp_path):
    zeros = np.zeros((2, 300, 600), "uint8")
    path = write(tmp_path / "a.tif", zeros, nodata=0)
    with pytest.raises(RasterError, match=r"no data.*a\.tif, bands 1, 2\. Check the nodata value"):
        open_series(path, bands=[RED, RED])
    # One band without data anywhere leaves no valid pixel either, and is named.
    zeros[0] = 1
    with pytest.raises(RasterError, match="bands 2"):
        open_series(write(tmp_path / "b.tif", zeros, nodata=0), bands=[RED, RED])


def test_a_single_valid_pixel_is_found(tmp_path):
    array = np.zeros((1, 700, 600), "uint8")
    for row, column in [(0, 0), (699, 599), (300, 10)]:
        array[:] = 0
        array[0, row, column] = 9
        series = read_series(write(tmp_path / "a.tif", array, nodata=0), bands=[RED])
        assert series.valid[0].sum() == 1
    # One empty date in a series is no error: masks travel with the data.
    empty = write(tmp_path / "empty.tif", np.zeros_like(array), nodata=0)
    assert [mask.sum() for mask in read_series([empty, tmp_path / "a.tif"], bands=[RED]).valid] == [0, 1]


def open_files():
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc to count open files")
def test_open_files_stay_few(tmp_path, monkeypatch):
    paths = [write(tmp_path / f"{index}.tif", np.full((1, 2, 2), index + 1, "uint8")) for index in range(6)]
    before = open_files()
    with pytest.raises(RasterError, match="nothing says"):
        open_series(paths)
    assert open_files() == before
    monkeypatch.setattr("stsun_processing.rasters.opening._MAX_OPEN_FILES", 2)
    with open_series(paths, bands=[RED]) as opened:
        for _ in range(2):
            assert [pixels[0, 0, 0] for pixels in opened.read().pixels] == [1, 2, 3, 4, 5, 6]
        assert open_files() == before + 2
    assert open_files() == before


# Facts


def test_facts_say_where_everything_came_from(tmp_path):
    path = write(tmp_path / "x_2021-07-23.tif", ramp(2), descriptions=("B04", "VV"), nodata=0)
    with open_series(path, sensor="s2") as opened:
        assert all(item.source and item.path == str(path) for item in opened.facts)
        general = {item.name: item.value for item in opened.facts if item.band is None}
        assert general == {
            **{"size": "4 x 5", "crs": "EPSG:32633", "transform": (10, 0, 500000, 0, -10, 5000000), "gsd_m": 10},
            **{"datetime": datetime(2021, 7, 23), "sensor": "sentinel-2"},
        }
        red = {item.name: item.value for item in opened.facts if item.band == 1}
        expected = {"name": "B04", "kind": "reflective", "center_nm": 665, "fwhm_nm": 31, "nodata": 0, "scale": None}
        assert red == expected
        radar = {item.name: item.value for item in opened.facts if item.band == 2}
        assert radar == {"name": "VV", "kind": "sar", "polarisation": "VV", "nodata": 0, "scale": None}
        text = describe(opened)
    for word in (str(path), "4 x 5", "EPSG:32633", "2021-07-23", "665", "31", "sar", "VV", "file name", "unknown"):
        assert word in text
    band_lines = [line for line in text.splitlines() if line.split()[:1] in (["1"], ["2"])]
    assert [line.split()[1:3] for line in band_lines] == [["B04", "reflective"], ["VV", "sar"]]


def test_unknown_facts_are_listed(tmp_path):
    path = write(tmp_path / "a.tif", ramp(), crs=None, band_tags=[{"kind": "optical"}])
    with open_series(path) as opened:
        unknown = {item.name for item in opened.facts if item.value is None}
        assert unknown == {"crs", "gsd_m", "datetime", "sensor", "center_nm", "fwhm_nm", "scale", "nodata"}
        assert all(item.source for item in opened.facts)
        assert describe(opened).count("unknown") >= len(unknown)
