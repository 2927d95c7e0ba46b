import json
import math
import warnings
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio import Affine
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning

from stsun_processing.metadata import Band
from stsun_processing.rasters.records import RasterError
from stsun_processing.rasters.sensors import sensor_bands
from stsun_processing.rasters.series import open_series, read_series
from tests.processing.rasters.raster_files import CORPUS, RED, bands_of, fact, needs_corpus, ramp, write

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
    with pytest.raises(RasterError, match=r"'GHz'.*nm"):
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
        # USGS writes the same instrument for both.
        ({"SPACECRAFT_ID": "LANDSAT_9", "SENSOR_ID": "OLI_TIRS"}, "landsat-9-oli2-tirs2"),
        ({"SENSOR": "sentinel-2", "PLATFORM": "Sentinel-2A", "INSTRUMENT": "MSI"}, "sentinel-2a"),
        # Landsat 5 carried two instruments: the platform alone does not say which.
        ({"SPACECRAFT_ID": "LANDSAT_5", "SENSOR_ID": "MSS"}, "landsat-4-5-mss"),
        ({"SPACECRAFT_ID": "LANDSAT_5", "SENSOR_ID": "unheard of"}, None),
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


def test_a_colour_or_file_name_does_not_say_what_a_band_of_another_name_is(tmp_path):
    colours = [ColorInterp.red, ColorInterp.green, ColorInterp.blue]
    names = ("burn_scar_score", "nir", "swir1")
    path = write(tmp_path / "a.tif", ramp(3), descriptions=names, colours=colours, tags={"platform": "Sentinel-2A"})
    with pytest.raises(RasterError, match=r"Bands? 1.* of .*nothing says what was measured.*burn_scar_score"):
        open_series(path)
    single = write(tmp_path / "x_B04.tif", ramp(), descriptions=("burn_scar_score",))
    with pytest.raises(RasterError, match="nothing says what was measured"):
        open_series(single, sensor="s2")


def test_a_picture_says_by_its_colours_what_it_is(tmp_path):
    colours = (ColorInterp.blue, ColorInterp.green, ColorInterp.red)
    values = np.array([[[0, 51]], [[102, 255]], [[7, 8]]], dtype="uint8")
    path = write(tmp_path / "a.tif", values, colours=colours)
    with open_series(path) as opened:
        pixels = opened.read().pixels[0]
        assert opened.series.acquisitions[0].bands == tuple(
            replace(band, unit="reflectance") for band in sensor_bands("rgb", ["B", "G", "R"])
        )
        assert "nominal" in fact(opened, "sensor").source
        assert "nominal" in fact(opened, "scale", 1).source
    np.testing.assert_allclose(pixels, values / 255, atol=1e-7)
    with open_series(path, sensor="rgb") as opened:
        np.testing.assert_array_equal(opened.read().pixels[0], pixels)
    # Two colours, or three of another type of numbers, are no picture.
    for array, kind in ((values[:2], "uint8"), (values, "uint16")):
        other = write(tmp_path / f"{kind}{len(array)}.tif", array.astype(kind), colours=colours[: len(array)])
        with pytest.raises(RasterError, match=r"Bands 1, 2.* of .*'blue', 'green'"):
            open_series(other)


@pytest.mark.parametrize("name", ["x_B02.tif", "x_B02_10m.tif", "LC08_SR_B2.TIF", "HLS.S30.T32.B02.tif", "x_blue.tif"])
def test_single_band_is_named_by_its_file(tmp_path, name):
    path = write(tmp_path / name, ramp())
    assert bands_of(path, sensor="s2") == sensor_bands("s2", ["B02"])
    assert bands_of(path, sensor="l8") == sensor_bands("l8", ["B2"])


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
        ({"TIMESTAMP": "2021-07", "DATETIME": "2021-07-31T23:59:59"}, "a.tif", datetime(2021, 7, 16, 12)),
        ({"TIMESTAMP": "2021-05-01/2021-05-30", "DATETIME": "2021-05-09"}, "a.tif", datetime(2021, 5, 16)),
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
        ({"TIMESTAMP": "2021", "ACQUISITION_DATE": "2022-01-01"}, "a.tif"),
        ({"TIMESTAMP": "2021-07", "ACQUISITION_DATE": "2021-06"}, "a.tif"),
        ({"TIMESTAMP": "2021-05-01/2021-06-01", "ACQUISITION_DATE": "2021-07-02"}, "a.tif"),
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


# Real files


@needs_corpus
@pytest.mark.parametrize("source", sorted(p.parent.name for p in Path(CORPUS or ".").glob("*/dataset.json")))
def test_corpus_bands_are_those_of_its_description(source):
    root = Path(CORPUS) / source
    described = json.loads((root / "dataset.json").read_text())
    sample = described["samples"][0]
    for image in sample["images"][:3]:
        records = described["band_sets"][image["band_set"]] if image.get("band_set") else described["bands"]
        # The first radar image of one source lacks a polarisation altogether.
        with open_series(root / image["path"], check=False) as opened:
            assert (opened.height, opened.width) == (sample["height"], sample["width"])
            for band, record in zip(opened.series.acquisitions[0].bands, records, strict=True):
                expected = Band.from_dict(record)
                assert (band.name, band.kind) == (expected.name, expected.kind)
                if band.center_nm is not None:
                    assert band.center_nm == pytest.approx(expected.center_nm, abs=0.01)


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
