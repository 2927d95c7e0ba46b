"""Odd rasters: each is read as it should be, or refused with a message that says why and what to do."""

import hashlib
import json
import math
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio import CRS, Affine
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning

from stsun_processing.metadata import Band
from stsun_processing.rasters.records import RasterError
from stsun_processing.rasters.report import describe
from stsun_processing.rasters.sensors import sensor_bands
from stsun_processing.rasters.series import open_series, read_series
from tests.processing.rasters.raster_files import CORPUS, RED, fact, needs_corpus, ramp, write

IO_CASES = Path(CORPUS or ".") / "io_cases"
CASES = json.loads((IO_CASES / "expected.json").read_text())["cases"] if CORPUS else []
CUBES = (".nc", ".zarr")


def unnamed(count):
    return [Band(f"b{index}", kind="other") for index in range(count)]


def digest(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


# Real files, with what is known of each


@needs_corpus
@pytest.mark.parametrize(
    "case", [case for case in CASES if not case["file"].endswith(CUBES)], ids=lambda case: case["file"]
)
def test_file_reads_as_expected_or_is_refused(case):
    path = IO_CASES / case["file"]
    bands = unnamed(case["count"] - case["colorinterp"].count("alpha"))
    if not case["opens"]:
        with pytest.raises(RasterError, match=rf"{path.name} cannot be read.*truncated"):
            open_series(path, bands=bands)
        return
    if case["nodata"] is not None and case["min"] == case["max"] == float(case["nodata"]):
        with pytest.raises(RasterError, match=rf"no data.*{path.name}.*Check the nodata value"):
            open_series(path, bands=bands)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as dataset:
            stored, masks = dataset.read(), dataset.read_masks()
            crs = dataset.crs
    # What rasterio reads here is what was expected, so that it can be the reference below.
    assert digest(stored) == case["sha256_pixels"]
    with open_series(path, bands=bands) as opened:
        series = opened.read()
        facts = {
            index: {f.name: f.value for f in opened.facts if f.band == index} for index in range(1, len(bands) + 1)
        }
    assert series.size == (case["height"], case["width"])
    georeferenced = tuple(case["transform"]) != (1, 0, 0, 0, 1, 0)
    assert series.transform == (pytest.approx(case["transform"]) if georeferenced else None)
    if georeferenced and crs:
        assert CRS.from_user_input(series.crs) == crs
        if case["crs"].startswith("EPSG:"):
            assert series.crs == case["crs"]
    else:
        assert series.crs is None
    scale, offset = case["scales"][0], case["offsets"][0]
    for index in range(1, len(bands) + 1):
        assert (facts[index]["scale"] or 1.0, facts[index].get("offset", 0.0)) == (scale, offset)
        expected = case["nodata"] and float(case["nodata"])
        assert (
            facts[index]["nodata"] == pytest.approx(expected, nan_ok=True) if expected else not facts[index]["nodata"]
        )
    channels = [i for i, colour in enumerate(case["colorinterp"]) if colour != "alpha"] or range(len(bands))
    channels = list(range(len(bands))) if len(channels) != len(bands) else channels
    physical = stored[channels].astype("float64") * scale + offset
    missing = (masks[channels] == 0) | ~np.isfinite(physical)
    assert np.array_equal(np.isnan(series.pixels[0]), missing)
    np.testing.assert_allclose(series.pixels[0][~missing], physical[~missing], rtol=1e-6, atol=1e-6)
    if case["n_nan"]:
        assert missing.sum() >= case["n_nan"]


@needs_corpus
@pytest.mark.parametrize(
    "case", [case for case in CASES if case["file"].endswith(CUBES)], ids=lambda case: case["file"]
)
def test_cube_reads_as_expected(case):
    pytest.importorskip("rioxarray", reason="needs pip install 'stsun[xarray]'")
    path = IO_CASES / case["file"]
    if "subdatasets" in case:
        # One variable through GDAL is the reference; it turns netCDF grids around.
        names = [part.rpartition(":")[2] for part in case["subdatasets"]]
        with open_series(path, bands=unnamed(len(names))) as opened:
            series = opened.read()
        for band, name in enumerate(names):
            with rasterio.open(f"netcdf:{path}:{name}") as dataset:
                assert len(series.acquisitions) == dataset.count
                own = np.stack([pixels[band, ::-1] for pixels in series.pixels])
                assert np.array_equal(np.isnan(own), dataset.read_masks() == 0)
                assert np.array_equal(np.nan_to_num(own), np.where(np.isnan(own), 0, dataset.read()))
                if series.transform[4] > 0:  # bottom-up, so that GDAL's is top-down
                    a, b, c, d, e, f = series.transform
                    top_down = (a, b, c, d, -e, f + e * dataset.height)
                    assert tuple(dataset.transform)[:6] == pytest.approx(top_down, rel=1e-4)
        return
    series = read_series(path)
    shape = (len(series.pixels), *series.pixels[0].shape)
    assert list(shape) == case["shape"]
    assert digest(np.stack(series.pixels).astype("uint16")) == case["sha256_pixels"]
    assert [band.name for band in series.acquisitions[0].bands][:3] == ["B01", "B02", "B03"]
    assert series.acquisitions[0].bands[3].center_nm == 664.6
    assert series.acquisitions[0].datetime.isoformat() == "2015-07-11T10:00:08"


@needs_corpus
def test_corpus_envi_file_has_its_header_s_wavelengths():
    bands = read_series(IO_CASES / "indian_pines_crop_bil.img").acquisitions[0].bands
    assert len(bands) == 200
    assert (bands[0].name, bands[0].center_nm, bands[0].fwhm_nm) == (
        "AVIRIS_001",
        400.02,
        pytest.approx(9.78, abs=0.01),
    )


# Hand-made ones


def test_zero_bytes_and_truncated_are_refused(tmp_path):
    empty, cut = tmp_path / "empty.tif", write(tmp_path / "cut.tif", ramp(4, 300, 300), tiled=True)
    empty.write_bytes(b"")
    with pytest.raises(RasterError, match=r"empty\.tif is empty \(0 bytes\)\. Fetch or write it again"):
        open_series(empty, bands=[RED])
    whole = cut.stat().st_size
    for share in (0.9, 0.5, 0.01):
        os.truncate(cut, int(whole * share))
        with pytest.raises(RasterError, match=r"cut\.tif cannot be (read|opened)"):
            open_series(cut, bands=unnamed(4))


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1)])
def test_one_pixel_row_or_column(tmp_path, shape):
    array = ramp(2, *shape)
    series = read_series(write(tmp_path / "a.tif", array), bands=[RED, RED])
    assert series.size == shape
    assert np.array_equal(series.pixels[0], array)
    assert series.gsd_m == 10


def test_four_hundred_bands(tmp_path):
    centers = np.linspace(400, 2500, 400)
    tags = [{"wavelength": f"{center:.2f}", "fwhm": "6.5", "wavelength_units": "Nanometers"} for center in centers]
    with open_series(write(tmp_path / "a.tif", ramp(400, 3, 4, "float32"), band_tags=tags)) as opened:
        bands = opened.series.acquisitions[0].bands
        assert [band.center_nm for band in bands] == pytest.approx(list(centers), abs=0.005)
        assert opened.read().pixels[0][399, 2, 3] == 400 * 12
        assert len(describe(opened).splitlines()) < 420


def test_not_finite_numbers_are_missing(tmp_path):
    array = np.array([[[1, np.nan, np.inf], [-np.inf, 5, 6]]], dtype="float32")
    series = read_series(write(tmp_path / "a.tif", array), bands=[RED])
    assert series.valid[0].tolist() == [[True, False, False], [False, True, True]]
    assert np.isnan(series.pixels[0][0][~series.valid[0]]).all()


@pytest.mark.parametrize("dtype", ["complex64", "complex128", "complex_int16"])
def test_complex_is_refused(tmp_path, dtype):
    with rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", count=1, height=2, width=2, dtype=dtype) as dataset:
        dataset.write(np.ones((1, 2, 2), "complex64"))
    with pytest.raises(RasterError, match=rf"Band 1 of .*a\.tif is of type {dtype}.*convert them first"):
        open_series(tmp_path / "a.tif", bands=[RED])


def test_rotated_keeps_its_transform(tmp_path):
    rotated = Affine.translation(500000, 5000000) @ Affine.rotation(30) @ Affine.scale(10, -10)
    path = write(tmp_path / "a.tif", ramp(), transform=rotated)
    with open_series(path, bands=[RED]) as opened:
        assert opened.series.transform == pytest.approx(tuple(rotated)[:6])
        assert opened.series.gsd_m == pytest.approx(10)
        # The corner of a window lies where the whole raster has that pixel.
        assert opened.read(2, 3).transform[2::3] == pytest.approx(rotated @ (3, 2))


def test_without_crs_the_transform_is_kept_and_the_gsd_unknown(tmp_path):
    series = read_series(write(tmp_path / "a.tif", ramp(), crs=None), bands=[RED])
    assert (series.crs, series.transform, series.gsd_m) == (None, (10, 0, 500000, 0, -10, 5000000), None)


@pytest.mark.parametrize(
    ("crs", "transform"),
    [("EPSG:3857", Affine(-4e37, 171, 160, 144, 6e-188, -2e-17)), ("EPSG:4326", Affine(0.1, 0, 500000, 0, -0.1, 45))],
)
def test_places_that_are_on_no_map_are_refused(tmp_path, crs, transform):
    """PROJ takes minutes over some of them; others are metres that are called degrees."""
    path = write(tmp_path / "a.tif", ramp(), crs=crs, transform=transform)
    with pytest.raises(RasterError, match=r"a\.tif has a georeference that lies on no map.*gdal_edit"):
        open_series(path, bands=[RED])


def ground_control(path, array):
    rows, columns = array.shape[1:]
    corners = [(0, 0), (0, columns), (rows, 0), (rows, columns)]
    points = [GroundControlPoint(r, c, 500000 + 10 * c, 5000000 - 10 * r) for r, c in corners]
    with rasterio.open(path, "w", driver="GTiff", count=1, height=rows, width=columns, dtype=array.dtype) as dataset:
        dataset.write(array)
        dataset.gcps = points, CRS.from_epsg(32633)
    return path


def test_control_points_are_no_grid_until_one_is_asked_for(tmp_path):
    path, reference = ground_control(tmp_path / "a.tif", ramp()), write(tmp_path / "b.tif", ramp())
    with open_series(path, bands=[RED]) as opened:
        assert (opened.series.crs, opened.series.transform, opened.series.gsd_m) == (None, None, None)
        assert "4 ground control points: warp it (grid=..., --grid)" in fact(opened, "transform").source
        assert np.array_equal(opened.read().pixels[0], ramp())
    series = read_series(path, bands=[RED], grid=reference, resampling="nearest")
    assert series.transform == (10, 0, 500000, 0, -10, 5000000)
    assert np.array_equal(series.pixels[0], ramp())
    with pytest.raises(RasterError, match=r"a\.tif has no georeference"):
        open_series([path, reference], bands=[RED], grid="first")
    # Points that no affine map fits would be off by whole pixels.
    with rasterio.open(path, "r+") as dataset:
        points, crs = dataset.gcps
        points[3].x += 60
        dataset.gcps = points, crs
    with pytest.raises(RasterError, match="pixels off an affine map"):
        open_series(path, bands=[RED], grid=reference)


def test_south_up_is_read_as_stored(tmp_path):
    up = {"transform": Affine(10, 0, 500000, 0, 10, 5000000)}
    path = write(tmp_path / "a.tif", ramp(), **up)
    series = read_series(path, bands=[RED])
    assert series.transform == (10, 0, 500000, 0, 10, 5000000)
    assert np.array_equal(series.pixels[0], ramp())
    assert series.gsd_m == 10
    # Asked for, it is turned to the grid of a raster that is the right way up.
    north = write(tmp_path / "b.tif", ramp(), transform=Affine(10, 0, 500000, 0, -10, 5000040))
    turned = read_series([north, path], bands=[RED], grid="first", resampling="nearest")
    assert np.array_equal(turned.pixels[1], ramp()[:, ::-1])


def test_antimeridian(tmp_path):
    east = {"crs": "EPSG:4326", "transform": Affine(0.5, 0, 179, 0, -0.5, 1)}
    west = {"crs": "EPSG:4326", "transform": Affine(0.5, 0, -181, 0, -0.5, 1)}
    one, two = write(tmp_path / "a.tif", ramp(), **east), write(tmp_path / "b.tif", ramp(), **west)
    series = read_series(one, bands=[RED])
    assert series.transform == (0.5, 0, 179, 0, -0.5, 1)
    # Half a degree at the equator on WGS 84: 55 660 m of longitude, 55 287 m of latitude.
    assert series.gsd_m == pytest.approx(math.sqrt(55660 * 55287), rel=1e-3)
    # The same place written a whole turn away is another grid, but the same place.
    with pytest.raises(RasterError, match="720 pixels apart"):
        open_series([one, two], bands=[RED])
    both = read_series([one, two], bands=[RED], grid="first", resampling="nearest")
    assert np.array_equal(both.pixels[0], both.pixels[1])


def test_sixteen_bits_with_scale_and_offset(tmp_path):
    path = write(tmp_path / "a.tif", np.array([[[0, 1, 10000, 65535]]], dtype="uint16"), nodata=0)
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = (0.00341802,), (149.0,)  # Landsat Collection 2, surface temperature
    with open_series(path, bands=[Band("B10", 10895, kind="thermal")]) as opened:
        # USGS, Landsat 8-9 C2 L2 Science Product Guide, table 6-1: 149.003418 to 372.999941 K for 1 to 65535.
        np.testing.assert_allclose(opened.read().pixels[0][0, 0, 1:], [149.003418, 183.1802, 372.999941], rtol=1e-6)
        assert (fact(opened, "scale", 1).value, fact(opened, "offset", 1).value) == (0.00341802, 149)
        assert fact(opened, "scale", 1).source == "the file"


def test_palette_numbers_are_classes_and_no_colours(tmp_path):
    """A palette says how to draw numbers: they are read as stored, and nothing says that they are a spectral band."""
    path = write(tmp_path / "a.tif", ramp(dtype="uint8"), colours=[ColorInterp.palette])
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {index: (index, 0, 0, 255) for index in range(256)})
    with pytest.raises(RasterError, match=r"nothing says what was measured.*\('a'\)"):
        open_series(path, sensor="rgb")
    assert np.array_equal(read_series(path, bands=[Band("cover", kind="other")]).pixels[0], ramp())


def test_virtual_and_cloud_optimised_rasters(tmp_path):
    array = ramp(2, 700, 600)
    plain = write(tmp_path / "a.tif", array, descriptions=("B02", "B04"))
    cog = write(tmp_path / "cog.tif", array, driver="COG", blocksize=256)
    (tmp_path / "a.vrt").write_text(
        '<VRTDataset rasterXSize="600" rasterYSize="700"><SRS>EPSG:32633</SRS>'
        "<GeoTransform>500000, 10, 0, 5000000, 0, -10</GeoTransform>"
        '<VRTRasterBand dataType="UInt16" band="1"><Description>B04</Description><SimpleSource>'
        '<SourceFilename relativeToVRT="1">a.tif</SourceFilename><SourceBand>2</SourceBand></SimpleSource>'
        "</VRTRasterBand></VRTDataset>"
    )
    virtual = read_series(tmp_path / "a.vrt", sensor="s2")
    assert virtual.acquisitions[0].bands == sensor_bands("s2", ["B04"])
    assert np.array_equal(virtual.pixels[0], array[1:])
    assert np.array_equal(read_series(cog, bands=[RED, RED]).pixels[0], array)
    assert read_series(plain, sensor="s2").transform == virtual.transform
