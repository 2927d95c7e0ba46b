"""Scales, missing values and valid ranges of cubes, by whichever door their numbers come in."""

import warnings

import numpy as np
import pytest
import rasterio

from stsun_processing.rasters.records import RasterError, Scaling
from tests.processing.rasters.cube_objects import (
    TRANSFORM,
    bands_of,
    layer,
    opened,
    physical,
    ramp,
    stack,
    strong,
    values,
    xr,
)
from tests.processing.rasters.raster_files import write

rioxarray = pytest.importorskip("rioxarray")
netcdf4 = pytest.importorskip("netCDF4")

AXES = ("projection_y_coordinate", "projection_x_coordinate")
SCALE, OFFSET, NODATA = 1e-4, -0.1, -9999


@pytest.fixture
def tiff(tmp_path):
    """Two packed bands with names, wavelengths and missing pixels, and what rasterio makes of them."""
    packed = ramp(2, 6, 7, dtype="int16") * 20
    packed[:, :2] = NODATA
    path = write(
        tmp_path / "a.tif",
        packed,
        nodata=NODATA,
        descriptions=("B03", "B04"),
        band_tags=[{"wavelength_nm": "560"}, {"wavelength_nm": "665"}],
    )
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = (SCALE,) * 2, (OFFSET,) * 2
    with rasterio.open(path) as dataset:
        stored, masks = dataset.read(), dataset.read_masks()
    return path, np.where(masks == 0, np.nan, stored * SCALE + OFFSET)


def through_netcdf(path, **options):
    copy = path.with_suffix(".nc")
    rioxarray.open_rasterio(path, **options).to_netcdf(copy)
    return copy


def through_zarr(path, **options):
    copy = path.with_suffix(".zarr")
    rioxarray.open_rasterio(path).to_dataset(name="r").to_zarr(copy, consolidated=False, **options)
    return copy


DOORS = {
    "open_rasterio": rioxarray.open_rasterio,
    "open_rasterio(masked)": lambda path: rioxarray.open_rasterio(path, masked=True),
    "open_rasterio(mask_and_scale)": lambda path: rioxarray.open_rasterio(path, mask_and_scale=True),
    "bands as variables": lambda path: rioxarray.open_rasterio(path, band_as_variable=True),
    "bands as variables, masked": lambda path: rioxarray.open_rasterio(path, band_as_variable=True, masked=True),
    "bands as variables, scaled": lambda path: rioxarray.open_rasterio(
        path, band_as_variable=True, mask_and_scale=True
    ),
    "open_dataset(rasterio)": lambda path: xr.open_dataset(path, engine="rasterio"),
    "open_dataset(rasterio), packed": lambda path: xr.open_dataset(path, engine="rasterio", mask_and_scale=False),
    "netCDF file": through_netcdf,
    "netCDF file of scaled numbers": lambda path: through_netcdf(path, mask_and_scale=True),
    "netCDF file of masked numbers": lambda path: through_netcdf(path, masked=True),
    "open_dataset": lambda path: xr.open_dataset(through_netcdf(path)),
    "open_dataset(decode_coords)": lambda path: xr.open_dataset(through_netcdf(path), decode_coords="all"),
    "open_dataset(mask_and_scale=False)": lambda path: xr.open_dataset(through_netcdf(path), mask_and_scale=False),
    "decode_cf(mask_and_scale=False)": lambda path: xr.decode_cf(
        xr.open_dataset(through_netcdf(path), decode_cf=False), mask_and_scale=False
    ),
    "Zarr 2 store": lambda path: through_zarr(path, zarr_format=2),
    "Zarr 3 store": lambda path: through_zarr(path, zarr_format=3),
    "open_zarr": lambda path: xr.open_zarr(through_zarr(path), consolidated=False, chunks=None),
    "open_zarr(mask_and_scale=False)": lambda path: xr.open_zarr(
        through_zarr(path), consolidated=False, chunks=None, mask_and_scale=False
    ),
    "DataTree": lambda path: xr.DataTree(xr.open_dataset(path, engine="rasterio")),
    "loaded": lambda path: rioxarray.open_rasterio(path, mask_and_scale=True).load(),
    "transposed": lambda path: rioxarray.open_rasterio(path, masked=True).transpose("y", "x", "band"),
}


@pytest.mark.parametrize("door", DOORS)
def test_the_same_values_through_every_door(door, tiff):
    path, expected = tiff
    source = DOORS[door](path)
    np.testing.assert_allclose(physical(source), expected, atol=1e-6)
    cube = opened(source)
    assert tuple(cube.transform)[:6] == TRANSFORM
    assert cube.crs.to_epsg() == 32633
    assert [strong(band.names) for band in cube.states().bands] == [["B03"], ["B04"]]
    # Tags of the first band, which rioxarray copies to all, are those of no other.
    centres = [[length.value for length in values(band.center_nm)] for band in cube.states().bands]
    assert centres in ([[], []], [[560], [665]])


def test_bands_keep_their_own_tags_whatever_is_selected(tiff):
    path, expected = tiff
    bands = rioxarray.open_rasterio(path)
    for selected in (bands.sel(band=2), bands[[1]], bands[[1, 0]].isel(band=0)):
        (band,) = bands_of(selected)
        assert (strong(band.names), values(band.center_nm)) == (["B04"], [])
        np.testing.assert_allclose(physical(selected)[0], expected[1], atol=1e-6)
    assert [strong(band.names) for band in bands_of(bands[[1, 0]])] == [["B04"], ["B03"]]


def test_scales_that_differ_between_bands(tmp_path):
    path = write(tmp_path / "a.tif", ramp(2, 4, 5))
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = (0.1, 0.2), (1, 2)
    expected = ramp(2, 4, 5) * [[[0.1]], [[0.2]]] + [[[1]], [[2]]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arrays = [rioxarray.open_rasterio(path), rioxarray.open_rasterio(path, mask_and_scale=True)]
        variables = rioxarray.open_rasterio(path, band_as_variable=True, mask_and_scale=True)
    for source in (*arrays, variables):
        np.testing.assert_allclose(physical(source), expected, rtol=1e-6)
    np.testing.assert_allclose(physical(arrays[0][[1]])[0], expected[1], rtol=1e-6)
    with pytest.raises(RasterError, match=r"attribute scales \(0\.1, 0\.2\); a number is expected, or one per band"):
        bands_of(arrays[0][[1]].assign_coords(band=["b"]))


@pytest.mark.parametrize("key", ["_FillValue", "missing_value", "fill_value", "nodata"])
def test_nodata_of_attributes_is_that_of_rioxarray(key):
    array = stack(attrs={key: 7})
    assert values(bands_of(array)[0].nodata) == [array.rio.nodata] == [7]


def test_nodata_per_band_in_a_vector_and_set_by_rioxarray():
    assert [values(band.nodata) for band in bands_of(stack(attrs={"nodatavals": (7.0, None)}))] == [[7], []]
    both = layer(attrs={"_FillValue": 1, "missing_value": np.array([1, 2, 3])})
    assert values(bands_of(both)[0].nodata) == [1, 2, 3]
    assert np.isnan(physical(both)).sum() == 3
    array = stack()
    array.rio.set_nodata(9, inplace=True)
    assert values(bands_of(array)[0].nodata) == [9]
    # rioxarray fails over a number that the type cannot hold, and over texts.
    assert values(bands_of(stack(attrs={"nodata": -9999}))[0].nodata) == [-9999]
    assert values(bands_of(stack(attrs={"nodata": "none"}))[0].nodata) == []


def test_nodata_of_scaled_numbers_is_stated_as_stored(tmp_path):
    path = tmp_path / "a.nc"
    packing = {"dtype": "int16", "scale_factor": 0.5, "add_offset": 1.0}
    layer(ramp(4, 5) / 2 + 1).to_netcdf(path, encoding={"b": packing})
    scaled = xr.open_dataset(path)
    # The attribute means the numbers in memory, 3 x 0.5 + 1.
    scaled.b.attrs["nodata"] = 2.5
    assert 3 in values(bands_of(scaled)[0].nodata)
    assert np.isnan(physical(scaled)).sum() == 1


def test_zarr_s_fill_value_is_no_missing_value(tmp_path):
    path = tmp_path / "a.zarr"
    layer(ramp(4, 5) - 1).to_zarr(path, zarr_format=3, consolidated=False)
    for source in (path, xr.open_zarr(path, consolidated=False, chunks=None)):
        assert not np.isnan(physical(source)).any()


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8"])
def test_netcdf_s_default_fill_value_is_the_one_that_gdal_reads(tmp_path, dtype):
    path = tmp_path / "a.nc"
    with netcdf4.Dataset(path, "w") as file:
        for name, size in (("y", 4), ("x", 5)):
            file.createDimension(name, size)
        file.createVariable("b", dtype, ("y", "x"))[:2] = 3
    with rasterio.open(f"netcdf:{path}:b") as dataset:
        expected = [] if dataset.nodata is None else [dataset.nodata]
    for source in (path, xr.open_dataset(path)):
        found = values(bands_of(source)[0].nodata)
        assert found == (expected if np.dtype(dtype).itemsize > 1 else [])
        assert np.isnan(physical(source)).sum() == 10 * len(found)


def test_unsigned_bytes_are_those_that_xarray_decodes(tmp_path):
    path = tmp_path / "a.nc"
    with netcdf4.Dataset(path, "w", format="NETCDF3_CLASSIC") as file:
        for name, size in (("y", 16), ("x", 16)):
            file.createDimension(name, size)
        variable = file.createVariable("b", "i1", ("y", "x"), fill_value=-1)
        variable.set_auto_maskandscale(False)
        variable[:] = np.arange(256, dtype="uint8").view("int8").reshape(16, 16)
        variable.setncatts({"_Unsigned": "true", "valid_range": np.array([0, -6], "int8")})
    decoded = xr.open_dataset(path)
    expected = decoded.b.where(decoded.b <= 250).values
    for source in (path, decoded, xr.open_dataset(path, mask_and_scale=False)):
        np.testing.assert_array_equal(physical(source)[0], expected)
    assert opened(path).dtypes == ("uint8",)


def test_signed_numbers_in_an_unsigned_type():
    source = layer(np.array([[1, 254, 255]], "uint8"), attrs={"_Unsigned": "false", "_FillValue": np.uint8(255)})
    np.testing.assert_array_equal(physical(source)[0], [[1, -2, np.nan]])


@pytest.mark.parametrize(
    ("attributes", "kept"),
    [
        ({"valid_range": np.array([5, 10], "int16")}, (5, 10)),
        ({"valid_min": np.int16(5)}, (5, 20)),
        ({"valid_max": np.int16(10)}, (1, 10)),
        ({"valid_min": np.int16(5), "valid_max": np.int16(10)}, (5, 10)),
        # The type of the scale makes them physical: 5 x 0.5 + 1 and 10 x 0.5 + 1.
        ({"valid_range": np.array([3.5, 6.0])}, (5, 10)),
    ],
)
def test_valid_ranges_of_packed_numbers(tmp_path, attributes, kept):
    source = layer(ramp(4, 5, dtype="int16"), attrs={"scale_factor": 0.5, "add_offset": 1.0, **attributes})
    # GDAL turns the rows around an axis that it does not know.
    source.y.attrs["standard_name"], source.x.attrs["standard_name"] = AXES
    path = tmp_path / "a.nc"
    source.to_netcdf(path)
    stored = ramp(4, 5)
    expected = np.where((stored >= kept[0]) & (stored <= kept[1]), stored * 0.5 + 1, np.nan)
    doors = [source, path, xr.open_dataset(path), xr.open_dataset(path, mask_and_scale=False)]
    if np.asarray(attributes.get("valid_range", 0)).dtype.kind == "i":
        doors += [rioxarray.open_rasterio(f"netcdf:{path}:b", mask_and_scale=scale) for scale in (False, True)]
    for door in doors:
        np.testing.assert_allclose(physical(door)[0], expected)


def test_valid_range_of_floats_is_rounded_as_they_are():
    source = layer(np.array([[0.1, 0.2, 0.3]], "float32"), attrs={"valid_range": [0.1, 0.2]})
    assert np.isnan(physical(source)[0]).tolist() == [[False, False, True]]


def test_arithmetic_keeps_attributes_that_may_no_longer_hold(tiff):
    path, _ = tiff
    masked = rioxarray.open_rasterio(path, masked=True)
    for array in (masked.where(masked > 0), masked * SCALE + OFFSET):
        array.attrs |= masked.attrs
        with pytest.raises(
            RasterError, match=r"scale 0\.0001 and offset -0\.1 \(attribute scale_factor and add_offset\)"
        ):
            bands_of(array)
        # What the message proposes.
        array.attrs.pop("scale_factor")
        array.attrs.pop("add_offset")
        assert bands_of(array)[0].scaling == ()
    both = rioxarray.open_rasterio(path, mask_and_scale=True).assign_attrs(scale_factor=0.5)
    with pytest.raises(RasterError, match=r"scale 0\.5 .*may have been through them already"):
        bands_of(both)


@pytest.mark.parametrize(
    ("attributes", "problem"),
    [
        ({"scale_factor": "ten"}, "attribute scale_factor 'ten'; a number is expected"),
        ({"scale_factor": 0.0, "add_offset": 1.0}, "scale 0 and offset 1 .* no physical unit"),
        ({"add_offset": np.inf}, "scale 1 and offset inf .* no physical unit"),
        ({"valid_range": 7}, "valid_range 7; two numbers"),
        ({"valid_range": "1 to 9"}, "valid_range .*; two numbers"),
        ({"valid_range": [9, 1]}, "valid_range from 9 to 1, which holds nothing"),
        ({"valid_min": "low"}, "valid_min 'low'; a number"),
        ({"reflectance_scale_factor": "0"}, "reflectance_scale_factor '0'; a number above 0"),
    ],
)
def test_attributes_that_cannot_be_understood(attributes, problem):
    with pytest.raises(RasterError, match=problem):
        bands_of(layer(attrs=attributes))


def test_reflectance_scale_factor_of_envi(tmp_path):
    path = write(tmp_path / "a.img", ramp(2, 4, 5, dtype="int16"), driver="ENVI")
    with (tmp_path / "a.hdr").open("a") as header:
        header.write("reflectance scale factor = 10000\n")
    for source in (rioxarray.open_rasterio(path), rioxarray.open_rasterio(path, mask_and_scale=True)):
        np.testing.assert_allclose(physical(source), ramp(2, 4, 5) / 10000)


def stackstac_like(values, **coordinates):
    """What stackstac makes of items with raster:bands, which it applies unless rescale=False."""
    fields = {"nodata": 0, "scale": SCALE, "offset": OFFSET}
    return stack(values).assign_coords({"raster:bands": np.array(fields, object), **coordinates})


def test_raster_bands_of_stackstac():
    stored = ramp(2, 4, 5, dtype="int64") - 1
    raw = physical(stackstac_like(stored))
    assert np.isnan(raw).sum() == 1
    np.testing.assert_allclose(raw, np.where(stored == 0, np.nan, stored * SCALE + OFFSET))
    assert bands_of(stackstac_like(stored * SCALE + OFFSET))[0].scaling == ()
    flag = {"earthsearch:boa_offset_applied": True}
    assert values(bands_of(stackstac_like(stored, **flag))[0].scaling) == [Scaling(SCALE)]
    with pytest.raises(RasterError, match=r"offset -0\.1 \(coordinate raster:bands\).*boa_offset_applied"):
        bands_of(stackstac_like(stored * SCALE + OFFSET, **flag))
