import colorsys
import itertools
import json
import math
import os
import warnings
from datetime import datetime
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio import Affine
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning

from stsun_processing.metadata import Acquisition, Band, ImageSeries, MetadataError
from stsun_processing.raster import (
    MapWriter,
    RasterError,
    check_writable,
    default_colours,
    describe,
    open_series,
    read_series,
    write_series,
)
from stsun_processing.sensors import sensor_bands

CORPUS = os.environ.get("STSUN_CORPUS")
needs_corpus = pytest.mark.skipif(not CORPUS, reason="set STSUN_CORPUS to the folder of the sample corpus")
UTM = {"crs": "EPSG:32633", "transform": Affine(10, 0, 500000, 0, -10, 5000000)}
RED = Band("red", center_nm=660, fwhm_nm=30)


def write(path, array, *, tags=None, band_tags=(), imagery=(), descriptions=None, colours=None, mask=None, **profile):
    """A raster of `array` (bands, height, width); UTM at 10 m unless said otherwise."""
    array = np.asarray(array)
    profile = {"driver": "GTiff", **UTM, **profile}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", count=len(array), height=array.shape[1], width=array.shape[2], dtype=array.dtype, **profile
        ) as dataset:
            if colours:
                dataset.colorinterp = colours
            dataset.write(array)
            if tags:
                dataset.update_tags(**tags)
            for index, values in enumerate(band_tags, start=1):
                dataset.update_tags(index, **values)
            for index, values in enumerate(imagery, start=1):
                dataset.update_tags(index, ns="IMAGERY", **values)
            if descriptions:
                dataset.descriptions = descriptions
            if mask is not None:
                dataset.write_mask(mask)
    return path


def ramp(count=1, height=4, width=5, dtype="uint16"):
    return (1 + np.arange(count * height * width)).reshape(count, height, width).astype(dtype)


def bands_of(path, **options):
    with open_series(path, **options) as opened:
        return opened.series.acquisitions[0].bands


def fact(opened, name, band=None):
    (found,) = [fact for fact in opened.facts if fact.name == name and fact.band == band]
    return found


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


# What the bands are


def test_tags_of_bands(tmp_path):
    tags = [
        {"wavelength_nm": "664.6", "fwhm_nm": "31", "kind": "optical"},
        {"WAVELENGTH": "2.2024", "FWHM": "0.175", "Wavelength_Units": "Micrometers"},
        {"central_wavelength_um": "10.895"},
        {"KIND": "elevation"},
        {"polarisation": "vh"},
    ]
    path = write(tmp_path / "a.tif", ramp(5), band_tags=tags, descriptions=("red", "swir", "heat", "DEM", "radar"))
    assert bands_of(path) == (
        Band("red", 664.6, 31),
        Band("swir", 2202.4, 175),
        Band("heat", 10895, kind="thermal"),
        Band("DEM", kind="elevation"),
        Band("radar", kind="sar", polarisation="VH"),
    )


def test_imagery_domain_is_in_micrometres(tmp_path):
    imagery = [{"CENTRAL_WAVELENGTH_UM": "0.485", "FWHM_UM": "0.07"}]
    path = write(tmp_path / "a.tif", ramp(), imagery=imagery)
    with open_series(path) as opened:
        (band,) = opened.series.acquisitions[0].bands
        assert (band.center_nm, band.fwhm_nm, band.kind) == (485, 70, "reflective")
        assert "CENTRAL_WAVELENGTH_UM" in fact(opened, "center_nm", 1).source


def test_statements_that_differ_by_rounding_agree_on_the_most_precise(tmp_path):
    path = write(
        tmp_path / "a.tif",
        ramp(),
        imagery=[{"CENTRAL_WAVELENGTH_UM": "0.400"}],
        band_tags=[{"wavelength_nm": "400.02"}],
    )
    assert bands_of(path)[0].center_nm == 400.02


@pytest.mark.parametrize(
    ("imagery", "tags", "words"),
    [
        ({"CENTRAL_WAVELENGTH_UM": "0.400"}, {"wavelength_nm": "404"}, ["center_nm", "400", "404"]),
        ({"FWHM_UM": "0.020"}, {"fwhm_nm": "31", "wavelength_nm": "500"}, ["fwhm_nm", "20", "31"]),
        ({}, {"wavelength_nm": "500", "wavelength": "600"}, ["center_nm", "500", "600"]),
        ({}, {"kind": "optical", "polarisation": "VV"}, ["kind", "'reflective'", "'sar'"]),
        ({}, {"polarisation": "VH"}, ["polarisation", "'VH'", "'VV'"]),
    ],
)
def test_contradictions_inside_a_file_are_refused(tmp_path, imagery, tags, words):
    name = "VV" if words[0] == "polarisation" else "b"
    path = write(tmp_path / "a.tif", ramp(), imagery=[imagery], band_tags=[tags], descriptions=[name])
    with pytest.raises(RasterError, match="two values") as error:
        open_series(path)
    assert all(word in str(error.value) for word in [*words, "Band 1", str(path), "bands=[...]"])
    # The user's word ends the dispute.
    assert bands_of(path, bands=[RED]) == (RED,)


@pytest.mark.parametrize(
    "tags", [{"wavelength": "0.665"}, {"wavelength_nm": "0.665"}, {"wavelength": "665", "fwhm": "0.03"}]
)
def test_wavelength_that_looks_like_micrometres_is_refused(tmp_path, tags):
    path = write(tmp_path / "a.tif", ramp(), band_tags=[tags])
    with pytest.raises(RasterError, match="looks like micrometres"):
        open_series(path)


def test_unknown_unit_and_unknown_kind_are_refused(tmp_path):
    unit = write(tmp_path / "a.tif", ramp(), band_tags=[{"wavelength": "5.4", "wavelength_units": "GHz"}])
    with pytest.raises(RasterError, match=r"'ghz'.*nm"):
        open_series(unit)
    kind = write(tmp_path / "b.tif", ramp(), band_tags=[{"kind": "lidar"}])
    with pytest.raises(RasterError, match=r"Band 1 of .*b\.tif.*'lidar'.*elevation"):
        open_series(kind)


def test_envi_file_and_header_beside_a_file(tmp_path):
    header = (
        "wavelength units = Micrometers\nwavelength = {\n 0.40002,\n 0.66}\nfwhm = {0.00978, 0.03}\n"
        "band names = {first, second}\nacquisition time = 1992-06-12T16:00:00Z\n"
    )
    envi = write(tmp_path / "cube.img", ramp(2), driver="ENVI")
    with (tmp_path / "cube.hdr").open("a") as file:
        file.write(header)
    tiff = write(tmp_path / "other.tif", ramp(2))
    (tmp_path / "other.hdr").write_text("ENVI\n" + header)
    for path in (envi, tiff):
        first, second = bands_of(path)
        assert (first.center_nm, first.fwhm_nm) == pytest.approx((400.02, 9.78))
        assert (second.center_nm, second.fwhm_nm) == pytest.approx((660, 30))
    assert [band.name for band in bands_of(tiff)] == ["first", "second"]
    with open_series(envi) as opened:
        assert opened.series.acquisitions[0].datetime == datetime(1992, 6, 12, 16)
    (tmp_path / "other.hdr").write_text("ENVI\nwavelength = {400}\n")
    with pytest.raises(RasterError, match="1 values of 'wavelength' for 2 bands"):
        open_series(tiff)


def test_names_are_looked_up_in_the_sensor_given(tmp_path):
    names = ("B4, central wavelength 665 nm", "B8A", "swir16")
    path = write(tmp_path / "a.tif", ramp(3), descriptions=names)
    with open_series(path, sensor="s2a") as opened:
        assert opened.series.acquisitions[0].bands == sensor_bands("sentinel-2a", ["B04", "B8A", "B11"])
        assert opened.series.acquisitions[0].sensor == "sentinel-2a"
        assert "sentinel-2a" in fact(opened, "center_nm", 2).source
        assert "'B8A'" in fact(opened, "center_nm", 2).source


@pytest.mark.parametrize(
    ("tags", "sensor"),
    [
        ({"SENSOR": "Sentinel-2B"}, "sentinel-2b"),
        ({"SPACECRAFT_NAME": "Sentinel-2A"}, "sentinel-2a"),
        ({"SPACECRAFT_ID": "LANDSAT_8", "SENSOR_ID": "OLI_TIRS"}, "landsat-8-oli-tirs"),
        ({"PLATFORM": "Terra", "INSTRUMENT": "MODIS"}, "modis"),
        # Landsat 5 also carried the MSS: the platform alone does not tell.
        ({"SPACECRAFT_ID": "LANDSAT_5", "SENSOR_ID": "MSS"}, None),
        ({"SENSOR": "unheard of"}, None),
    ],
)
def test_sensor_named_by_tags(tmp_path, tags, sensor):
    path = write(tmp_path / "a.tif", ramp(), tags=tags, descriptions=["B4"])
    if sensor is None:
        with pytest.raises(RasterError, match="nothing says"):
            open_series(path)
    else:
        assert bands_of(path) == sensor_bands(sensor, ["B4"])


def test_file_beats_table_but_must_not_contradict_it(tmp_path):
    path = write(tmp_path / "a.tif", ramp(), descriptions=["B4"], band_tags=[{"wavelength_nm": "667"}])
    assert bands_of(path, sensor="s2") == (Band("B04", 667, 31),)
    # 667 nm is not the B4 of Landsat 7, its near infrared.
    with pytest.raises(RasterError, match=r"667 nm \(tag wavelength_nm\).*835 nm as band B4 of landsat-7-etm"):
        open_series(path, sensor="landsat-7")
    thermal = write(tmp_path / "b.tif", ramp(), descriptions=["B4"], band_tags=[{"kind": "thermal"}])
    with pytest.raises(RasterError, match=r"'thermal'.*'reflective'"):
        open_series(thermal, sensor="s2")


def test_colours_are_names_too_where_a_sensor_is_given(tmp_path):
    colours = (ColorInterp.blue, ColorInterp.green, ColorInterp.red)
    path = write(tmp_path / "a.tif", ramp(3, dtype="uint8"), colours=colours)
    assert [band.name for band in bands_of(path, sensor="rgb")] == ["B", "G", "R"]
    with pytest.raises(RasterError, match=r"Bands 1, 2, 3 of .*'blue', 'green', 'red'"):
        open_series(path)


@pytest.mark.parametrize("name", ["x_B02.tif", "x_B02_10m.tif", "LC08_SR_B2.TIF", "HLS.S30.T32.B02.tif", "x_blue.tif"])
def test_single_band_is_named_by_its_file(tmp_path, name):
    path = write(tmp_path / name, ramp())
    assert bands_of(path, sensor="s2") == sensor_bands("s2", ["B02"])
    assert bands_of(path, sensor="l8") == sensor_bands("l8", ["B2"])


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


@pytest.mark.parametrize("name", ["VV", "vv", "Sigma0_VV", "Sigma0_VV_db"])
def test_polarisations_are_radar_by_definition(tmp_path, name):
    (band,) = bands_of(write(tmp_path / "a.tif", ramp(), descriptions=[name]))
    assert (band.kind, band.polarisation, band.center_nm) == ("sar", "VV", None)


@pytest.mark.parametrize("name", ["VV/VH", "VV_VH", "VVV", "RVI"])
def test_what_is_derived_from_polarisations_is_not_guessed(tmp_path, name):
    with pytest.raises(RasterError, match="nothing says"):
        open_series(write(tmp_path / "a.tif", ramp(), descriptions=[name]))


def test_radar_file_named_by_its_polarisation(tmp_path):
    path = write(tmp_path / "s1a-iw-grd-vh-20200112t232723-001.tif", ramp())
    with open_series(path) as opened:
        assert opened.series.acquisitions[0].bands[0].type == "sar_vh"
        assert opened.series.acquisitions[0].datetime == datetime(2020, 1, 12, 23, 27, 23)


def test_unknown_bands_name_file_and_remedies(tmp_path):
    path = write(tmp_path / "a.tif", ramp(3), descriptions=("VV", "foo", ""))
    with pytest.raises(RasterError) as error:
        open_series(path)
    message = str(error.value)
    assert f"Bands 2, 3 of {path}" in message
    for word in ("'foo'", "CENTRAL_WAVELENGTH_UM", "wavelength_nm", "ENVI", "sensor=...", "bands=[...]"):
        assert word in message
    with pytest.raises(RasterError, match="the table of sentinel-2"):
        open_series(path, sensor="s2")


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


# When and where


@pytest.mark.parametrize(
    ("tags", "name", "expected"),
    [
        ({"TIMESTAMP": "2021-07-23"}, "a.tif", datetime(2021, 7, 23)),
        ({"timestamp": "2021-07-23T13:22:41Z"}, "a.tif", datetime(2021, 7, 23, 13, 22, 41)),
        ({"TIFFTAG_DATETIME": "2021:07:23 13:22:41"}, "a.tif", datetime(2021, 7, 23, 13, 22, 41)),
        ({"ACQUISITION_DATE": "2021-07-23"}, "2020-01-01.tif", datetime(2021, 7, 23)),
        # The TIFF tag is when the file was made: it yields to what says when the scene was taken.
        ({"TIFFTAG_DATETIME": "2024:01:01 00:00:00", "DATETIME": "2021-07-23"}, "a.tif", datetime(2021, 7, 23)),
        ({"TIMESTAMP": "2021-07-23", "SENSING_TIME": "2021-07-23T13:22:41"}, "a.tif", datetime(2021, 7, 23)),
        # The middle of the year stands for a year; any day of that year agrees.
        ({"TIMESTAMP": "2021", "DATETIME": "2021-12-30"}, "a.tif", datetime(2021, 7, 2, 12)),
        ({"TIMESTAMP": "2021-07", "DATETIME": "2021-07-01"}, "a.tif", datetime(2021, 7, 16, 12)),
        ({"TIMESTAMP": "soon"}, "a.tif", None),
        ({}, "T33_2021-07-23_x.tif", datetime(2021, 7, 23)),
        ({}, "T33_20210723.tif", datetime(2021, 7, 23)),
        ({}, "T33_20210723T132241_x.tif", datetime(2021, 7, 23, 13, 22, 41)),
        ({}, "S2_20210723T100031_N0301_20210723T120000.tif", datetime(2021, 7, 23, 10, 0, 31)),
        ({}, "20210723_20210801.tif", None),
        ({}, "20219923.tif", None),
        ({}, "120210723.tif", None),
        ({}, "30210723.tif", None),
        ({}, "scene.tif", None),
    ],
)
def test_date(tmp_path, tags, name, expected):
    path = write(tmp_path / name, ramp(), tags=tags)
    with open_series(path, bands=[RED]) as opened:
        assert opened.series.acquisitions[0].datetime == expected
        stated = fact(opened, "datetime")
        assert stated.value == expected
        assert stated.source


@pytest.mark.parametrize(
    ("tags", "name"),
    [
        ({"TIMESTAMP": "2021-07-23", "ACQUISITION_DATE": "2021-07-25"}, "a.tif"),
        ({"TIMESTAMP": "2021", "ACQUISITION_DATE": "2022-07-25"}, "a.tif"),
        ({"TIFFTAG_DATETIME": "2024:01:01 00:00:00"}, "a_20210723.tif"),
    ],
)
def test_two_dates_of_one_file_are_refused(tmp_path, tags, name):
    path = write(tmp_path / name, ramp(), tags=tags)
    with pytest.raises(RasterError, match=r"two dates.*dates=\[...\]"):
        open_series(path, bands=[RED])
    with open_series(path, bands=[RED], dates=["2021-07-23"]) as opened:
        assert opened.series.acquisitions[0].datetime == datetime(2021, 7, 23)


def test_files_of_one_date_must_be_of_one_date(tmp_path):
    files = [write(tmp_path / f"2021-07-{day}_B{day}.tif", ramp()) for day in (10, 12)]
    with pytest.raises(RasterError, match="different times"):
        open_series([files], sensor="s2")


def test_dates_given(tmp_path):
    path = write(tmp_path / "2020-01-01.tif", ramp())
    with open_series([path, path], bands=[RED], dates=[None, "2021-07"]) as opened:
        assert [a.datetime for a in opened.series.acquisitions] == [None, datetime(2021, 7, 16, 12)]
    with pytest.raises(MetadataError, match="out of order"):
        open_series([path, path], bands=[RED], dates=["2021", "2020"])
    with pytest.raises(MetadataError, match="not a date"):
        open_series([path], bands=[RED], dates=["yesterday"])
    for dates in (["2020"], "20"):
        with pytest.raises(RasterError, match="one date for each of the 2 entries"):
            open_series([path, path], bands=[RED], dates=dates)


@pytest.mark.parametrize(
    ("crs", "transform", "expected", "tolerance"),
    [
        ("EPSG:32633", Affine(10, 0, 500000, 0, -10, 5000000), 10, 1e-9),
        ("EPSG:32633", Affine(20, 0, 500000, 0, -5, 5000000), 10, 1e-9),
        ("EPSG:32633", Affine(8, 6, 500000, 6, -8, 5000000), 10, 1e-9),
        # US survey foot: 1200/3937 m.
        ("EPSG:2227", Affine(100, 0, 6000000, 0, -100, 2000000), 100 * 1200 / 3937, 1e-9),
        # Lengths of one degree on WGS 84 at 45 degrees: 111131.7 m of latitude, 78846.8 m of longitude.
        ("EPSG:4326", Affine(1e-4, 0, 10, 0, -1e-4, 45.0002), math.sqrt(11.11317 * 7.88468), 1e-5),
        # Web Mercator stretches by 1 / cos(latitude) on a sphere, within 0.4 % on the ellipsoid; y of 60 degrees north.
        ("EPSG:3857", Affine(10, 0, 0, 0, -10, 8399737.89 + 20), 5, 4e-3),
        (None, Affine(10, 0, 0, 0, -10, 0), None, None),
        ("EPSG:32633", None, None, None),
    ],
)
def test_gsd_is_metres_on_the_ground(tmp_path, crs, transform, expected, tolerance):
    profile = {"crs": crs} | ({} if transform is None else {"transform": transform})
    path = tmp_path / "a.tif"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver="GTiff", count=1, height=4, width=5, dtype="uint8", **profile) as dataset:
            dataset.write(ramp(dtype="uint8"))
    with open_series(path, bands=[RED]) as opened:
        series, stated = opened.series, fact(opened, "gsd_m")
        assert stated.source
        if expected is None:
            assert series.gsd_m is None
        else:
            assert series.gsd_m == pytest.approx(expected, rel=tolerance)
        assert (series.transform is None) == (transform is None)
    with open_series(path, bands=[RED], gsd_m=3) as opened:
        assert opened.series.gsd_m == 3


def test_control_points_alone_are_no_georeference(tmp_path):
    points = [rasterio.control.GroundControlPoint(r, c, 10 + c, 50 - r) for r, c in [(0, 0), (0, 5), (4, 0)]]
    path = tmp_path / "a.tif"
    with rasterio.open(path, "w", driver="GTiff", count=1, height=4, width=5, dtype="uint8") as dataset:
        dataset.write(ramp(dtype="uint8"))
        dataset.gcps = (points, rasterio.CRS.from_epsg(4326))
    with open_series(path, bands=[RED]) as opened:
        assert (opened.series.crs, opened.series.transform, opened.series.gsd_m) == (None, None, None)
        assert "3 ground control points" in fact(opened, "transform").source


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
        (ramp(), {"transform": Affine(10, 0, 500000.0001, 0, -10, 5000000)}, "1e-05 pixels apart"),
    ],
)
def test_grids_that_differ_are_refused(tmp_path, array, profile, problem):
    one, two = write(tmp_path / "a.tif", ramp()), write(tmp_path / "b.tif", array, **profile)
    for paths in ([one, two], [[one, two]]):
        with pytest.raises(RasterError, match=problem) as error:
            open_series(paths, bands=[RED] if len(paths) == 2 else [RED, RED])
        assert all(word in str(error.value) for word in (str(one), str(two), "gdalwarp"))


def test_grids_within_rounding_are_one(tmp_path):
    shifted = {"transform": Affine(10, 0, 500000 + 1e-6, 0, -10, 5000000)}
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
    monkeypatch.setattr("stsun_processing.raster._MAX_OPEN_FILES", 2)
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


# Writing a series


def test_series_survives_the_round_trip(tmp_path):
    rng = np.random.default_rng(0)
    radar = (Band("VV", kind="sar", polarisation="VV"), Band("VH", kind="sar", polarisation="VH"))
    optical = (Band("B04", 664.6, 31), Band("heat", 10895, 590, "thermal"), Band("?", None, None, "other"))
    pixels = [rng.normal(size=(len(bands), 9, 11)).astype("float32") for bands in (radar, optical)]
    pixels[0][:, 3, 4] = np.nan
    series = ImageSeries(
        (Acquisition(radar, "2020-01-11T23:27:23", 10), Acquisition(optical, None, 10)),
        crs="EPSG:32633",
        transform=(10, 0, 500000, 0, -10, 5000000),
        pixels=tuple(pixels),
    )
    paths = write_series(series, tmp_path / "series")
    back = read_series(paths)
    assert back == series
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(back.pixels, pixels, strict=True))
    assert sorted(path.name for path in (tmp_path / "series").iterdir()) == ["date_0.tif", "date_1.tif"]
    with pytest.raises(RasterError, match="does not exist"):
        write_series(series, tmp_path / "no" / "such")
    with pytest.raises(MetadataError, match="no pixels"):
        write_series(ImageSeries.from_dict(series.to_dict()), tmp_path / "series")


# Writing maps

NAMES = ("water & ice", "forest", "<built-up>")


def write_maps(path, maps, **options):
    with MapWriter(path, *maps.shape[1:], len(maps), NAMES, **options) as writer:
        writer.write(maps)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 5), (3, 300, 270), (4, 20, 20)])
def test_maps_are_what_was_written(tmp_path, shape):
    maps = np.random.default_rng(0).choice(np.array([0, 1, 2, 255], "uint8"), size=shape)
    path = tmp_path / "map.tif"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_maps(
            path,
            maps,
            crs="EPSG:32633",
            transform=(10, 0, 500000, 0, -10, 5000000),
            descriptions=[f"map {index}" for index in range(len(maps))],
            tags={"TASK": "semantic_segmentation"},
        )
    with rasterio.open(path) as dataset:
        assert np.array_equal(dataset.read(), maps)
        assert dataset.dtypes == ("uint8",) * len(maps)
        assert (dataset.crs.to_epsg(), tuple(dataset.transform)[:6]) == (32633, (10, 0, 500000, 0, -10, 5000000))
        assert dataset.nodatavals == (255,) * len(maps)
        assert dataset.compression.value.lower() == "deflate"
        assert set(dataset.block_shapes) == {(256, 256)}
        assert dataset.descriptions == tuple(f"map {index}" for index in range(len(maps)))
        assert dataset.tags()["TASK"] == "semantic_segmentation"
        assert all(json.loads(dataset.tags(index)["CLASS_NAMES"]) == list(NAMES) for index in dataset.indexes)
        # A palette, never red, green and blue: readers must not show three maps as one picture.
        assert set(dataset.colorinterp) == {ColorInterp.palette}
        table = dataset.colormap(1)
    assert [table[value][:3] for value in range(3)] == default_colours(NAMES)
    assert table[255][3] == 0


def test_gdal_finds_names_and_colours_of_every_map(tmp_path):
    write_maps(tmp_path / "map.tif", np.zeros((2, 4, 4), "uint8"), transform=(1, 0, 0, 0, -1, 9), crs="EPSG:32633")
    # rasterio has no call for category names: GDAL writes into a VRT what it read from the file.
    rasterio.shutil.copy(tmp_path / "map.tif", tmp_path / "map.vrt", driver="VRT")
    bands = ElementTree.parse(tmp_path / "map.vrt").getroot().findall("VRTRasterBand")
    assert len(bands) == 2
    for band in bands:
        assert [item.text for item in band.find("CategoryNames")] == list(NAMES)
        rows = [
            [cell.text for cell in row.findall("F")] for row in band.find("GDALRasterAttributeTable").findall("Row")
        ]
        expected = [
            [str(value), name, *map(str, colour)]
            for value, (name, colour) in enumerate(zip(NAMES, default_colours(NAMES), strict=True))
        ]
        assert rows == expected


@pytest.mark.parametrize("count", [1, 3, 4])
def test_map_without_its_sidecar_is_no_colour_picture(tmp_path, count):
    path = tmp_path / "map.tif"
    write_maps(path, np.zeros((count, 4, 4), "uint8"), transform=(1, 0, 0, 0, -1, 9), crs="EPSG:32633")
    (tmp_path / "map.tif.aux.xml").unlink()
    with rasterio.open(path) as dataset:
        assert set(dataset.colorinterp) <= {ColorInterp.palette, ColorInterp.gray, ColorInterp.undefined}
        if count == 1:
            assert [dataset.colormap(1)[value][:3] for value in range(3)] == default_colours(NAMES)


def test_windows_fill_the_map_and_the_rest_is_nodata(tmp_path):
    path = tmp_path / "map.tif"
    with MapWriter(path, 300, 280, 2, NAMES) as writer:
        writer.write(np.ones((2, 100, 30), "uint8"), row=190, column=250)
        writer.write(np.zeros((2, 10, 280), "uint8"))
    with rasterio.open(path) as dataset:
        maps = dataset.read()
    expected = np.full((2, 300, 280), 255)
    expected[:, 190:290, 250:], expected[:, :10] = 1, 0
    assert np.array_equal(maps, expected)


@pytest.mark.parametrize(
    ("maps", "place", "problem"),
    [
        (np.zeros((2, 4, 4), "uint8"), {}, r"shape \(1, height, width\)"),
        (np.zeros((1, 4, 4), "int64"), {}, "uint8"),
        (np.zeros((4, 4), "uint8"), {}, "uint8"),
        ([[[0]]], {}, "list"),
        (np.zeros((1, 4, 4), "uint8"), {"row": 1}, "does not lie inside"),
        (np.zeros((1, 4, 4), "uint8"), {"column": -1}, "does not lie inside"),
        (np.full((1, 4, 4), 3, "uint8"), {}, "Value 3 has no class"),
    ],
)
def test_wrong_windows_leave_nothing_behind(tmp_path, maps, place, problem):
    with pytest.raises(RasterError, match=problem), MapWriter(tmp_path / "map.tif", 4, 4, 1, NAMES) as writer:
        writer.write(maps, **place)
    assert list(tmp_path.iterdir()) == []


def test_map_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "map.tif"

    def interrupted(shape, error):
        with MapWriter(path, *shape[1:], shape[0], NAMES) as writer:
            writer.write(np.full(shape, 1, "uint8"))
            raise error

    with pytest.raises(KeyboardInterrupt):
        interrupted((1, 4, 4), KeyboardInterrupt)
    assert list(tmp_path.iterdir()) == []
    write_maps(path, np.zeros((1, 4, 4), "uint8"))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert set(before) == {"map.tif", "map.tif.aux.xml"}
    # A failure keeps the earlier result.
    with pytest.raises(ZeroDivisionError):
        interrupted((2, 5, 5), ZeroDivisionError)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    # A success replaces it, sidecar and all.
    write_maps(path, np.ones((2, 5, 5), "uint8"))
    with rasterio.open(path) as dataset:
        assert dataset.count == 2
    assert set(os.listdir(tmp_path)) == set(before)


@pytest.mark.parametrize("failing", [1, 2])
def test_map_that_cannot_be_put_in_place_leaves_nothing(tmp_path, monkeypatch, failing):
    replace, calls = os.replace, []

    def fail(*names):
        calls.append(names)
        if len(calls) == failing:
            raise OSError("no")
        replace(*names)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(RasterError, match=r"map\.tif cannot be written: no"):
        write_maps(tmp_path / "map.tif", np.zeros((1, 4, 4), "uint8"))
    assert list(tmp_path.iterdir()) == []


def test_writing_needs_the_context(tmp_path):
    writer = MapWriter(tmp_path / "map.tif", 4, 4, 1, NAMES)
    with pytest.raises(RasterError, match="with MapWriter"):
        writer.write(np.zeros((1, 4, 4), "uint8"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"class_names": [str(i) for i in range(256)]}, "1 to 255 classes, got 256"),
        ({"class_names": []}, "got 0"),
        ({"nodata": 2}, "nodata must be free"),
        ({"nodata": 256}, "nodata must be free"),
        ({"height": 0}, "must be 1 or more"),
        ({"colours": [(0, 0, 0)]}, "each of 3 classes"),
        ({"colours": [(0, 0, 0), (1, 1, 1), (0, 0, 256)]}, "0 to 255"),
        ({"descriptions": ["a", "b"]}, "each of 1 maps"),
    ],
)
def test_impossible_maps_are_refused_at_once(tmp_path, change, problem):
    arguments = {"path": tmp_path / "map.tif", "height": 4, "width": 4, "num_maps": 1, "class_names": NAMES} | change
    with pytest.raises(RasterError, match=problem):
        MapWriter(**arguments)


def test_255_classes_fit(tmp_path):
    names = [f"class {index}" for index in range(255)]
    maps = np.arange(256, dtype="uint8").reshape(1, 16, 16)
    with MapWriter(tmp_path / "map.tif", 16, 16, 1, names) as writer:
        writer.write(maps)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(tmp_path / "map.tif") as dataset:
            assert np.array_equal(dataset.read(), maps)


def test_unknown_crs_of_a_map_is_refused_before_writing(tmp_path):
    for crs in ("EPSG:nonsense", "EPSG:999999", "somewhere"):
        with pytest.raises(RasterError, match=crs):
            MapWriter(tmp_path / "map.tif", 4, 4, 1, NAMES, crs=crs)
    assert list(tmp_path.iterdir()) == []


def test_output_is_checked_before_work(tmp_path, monkeypatch):
    check_writable(tmp_path / "map.tif")
    check_writable(tmp_path / "map.TIFF")
    (tmp_path / "folder.tif").mkdir()
    for path, problem in [
        (tmp_path / "map.png", r"\.tif or \.tiff"),
        (tmp_path / "map", r"\.tif or \.tiff"),
        (tmp_path / "folder.tif", "is a folder"),
        (tmp_path / "no" / "map.tif", "does not exist"),
    ]:
        with pytest.raises(RasterError, match=problem):
            check_writable(path)
        with pytest.raises(RasterError, match=problem):
            MapWriter(path, 4, 4, 1, NAMES)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(RasterError, match="not writable"):
        check_writable(tmp_path / "map.tif")


def test_default_colours_are_distinct_and_do_not_depend_on_what_follows():
    names = ["water", "river", "forest", "corn", "wheat", "changed", "unchanged", *(f"class {i}" for i in range(248))]
    colours = default_colours(names)
    assert len(set(colours)) == 255
    assert all(0 <= part <= 255 for colour in colours for part in colour)
    for count in (1, 5, 30):
        assert default_colours(names[:count]) == colours[:count]
    few = default_colours([f"class {index}" for index in range(18)])
    assert min(math.dist(a, b) for a, b in itertools.combinations(few, 2)) >= 40


@pytest.mark.parametrize(
    ("name", "hue"), [("Water", 210), ("deciduous_forest", 120), ("Building", 0), ("changed", 0), ("shrubland", 40)]
)
def test_telling_names_get_the_customary_hue(name, hue):
    (colour,) = default_colours([name])
    own = 360 * colorsys.rgb_to_hsv(*(part / 255 for part in colour))[0]
    assert min(abs(own - hue), 360 - abs(own - hue)) < 15


@pytest.mark.parametrize("name", ["unchanged", "no building", "not water", "background"])
def test_absence_is_grey(name):
    (colour,) = default_colours([name])
    assert len(set(colour)) == 1


# Real files


@needs_corpus
@pytest.mark.parametrize("source", sorted(p.parent.name for p in Path(CORPUS or ".").glob("*/dataset.json")))
def test_corpus_bands_are_those_of_its_description(source):
    root = Path(CORPUS) / source
    described = json.loads((root / "dataset.json").read_text())
    sample = described["samples"][0]
    for image in sample["images"][:3]:
        records = described["band_sets"][image["band_set"]] if image.get("band_set") else described["bands"]
        with open_series(root / image["path"]) as opened:
            assert (opened.height, opened.width) == (sample["height"], sample["width"])
            for band, record in zip(opened.series.acquisitions[0].bands, records, strict=True):
                expected = Band.from_dict(record)
                assert (band.name, band.kind) == (expected.name, expected.kind)
                if band.center_nm is not None:
                    assert band.center_nm == pytest.approx(expected.center_nm, abs=0.01)


@needs_corpus
@pytest.mark.parametrize(
    "case",
    json.loads((Path(CORPUS) / "io_cases" / "expected.json").read_text())["cases"] if CORPUS else [],
    ids=lambda case: case["file"],
)
def test_odd_files_are_read_right_or_refused(case):
    path = Path(CORPUS) / "io_cases" / case["file"]
    count = case.get("count", 0) - case.get("colorinterp", []).count("alpha")
    bands = [Band(f"b{index}", kind="other") for index in range(count)] or None
    empty = case.get("min") == case.get("max")
    if case["opens"] is not True or case["count"] == 0 or empty:
        with pytest.raises(RasterError, match=path.name):
            open_series(path, bands=bands)
        return
    series = read_series(path, bands=bands)
    assert series.size == (case["height"], case["width"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as dataset:
            reference = dataset.read(list(range(1, count + 1)), masked=True)
            scales, offsets = (np.array(values)[:count, None, None] for values in (dataset.scales, dataset.offsets))
    reference = np.ma.masked_invalid(reference.astype("float64") * scales + offsets)
    assert np.array_equal(np.isnan(series.pixels[0]), np.ma.getmaskarray(reference))
    np.testing.assert_allclose(series.pixels[0], reference.filled(np.nan), rtol=1e-6, atol=1e-6)


@needs_corpus
def test_landsat_scene_as_a_folder():
    """GDAL reads sensor and time from the scene's MTL file; the bands' names are in the file names."""
    series = read_series([Path(CORPUS) / "io_cases" / "landsat5_one_file_per_band"])
    assert series.acquisitions[0].sensor == "landsat-5-tm"
    assert series.acquisitions[0].datetime.date().isoformat() == "1988-08-14"
    assert [band.name for band in series.acquisitions[0].bands] == [f"B{index}" for index in range(1, 8)]
    assert [band.kind for band in series.acquisitions[0].bands].index("thermal") == 5


@needs_corpus
def test_series_of_dates_in_file_names():
    paths = sorted((Path(CORPUS) / "io_cases" / "modis_ndvi_jp2_series").iterdir())
    series = read_series(paths, bands=[Band("NDVI", kind="index")], scale=1e-4)
    assert [a.datetime.date().isoformat() for a in series.acquisitions] == [path.stem[-10:] for path in paths]
    assert all(0 < np.median(pixels) < 1 for pixels in series.pixels)
    # MODIS pixels of "250 m" measure 231.66 m on the sinusoidal grid.
    assert series.gsd_m == pytest.approx(231.656, abs=0.001)
