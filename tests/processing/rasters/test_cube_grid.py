"""Where the pixels of cubes lie."""

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio import CRS, Affine
from rasterio.control import GroundControlPoint

from stsun_processing.rasters.records import RasterError
from tests.processing.rasters.cube_objects import TRANSFORM, layer, opened, ramp, stack, xr
from tests.processing.rasters.raster_files import write

rioxarray = pytest.importorskip("rioxarray")
pyproj = pytest.importorskip("pyproj")

UTM = CRS.from_epsg(32633)
ROTATED = Affine(8, 6, 500000, 6, -8, 5000000)


TWO_CRS = r"EPSG:32633 \(grid mapping spatial_ref\) and EPSG:32632"


def coefficients(cube):
    return None if cube.transform is None else tuple(cube.transform)[:6]


def bare(attrs=None, **coordinates):
    """A data set (y, x) without coordinates."""
    array = xr.DataArray(ramp(4, 5), coordinates, ("y", "x"), "b", attrs)
    return array.to_dataset()


@pytest.mark.parametrize("transform", [Affine(*TRANSFORM), ROTATED])
def test_grid_mapping_without_axes_is_read_as_gdal_and_rioxarray_do(tmp_path, transform):
    source = bare().rio.write_crs(UTM).rio.write_transform(transform)
    path = tmp_path / "a.nc"
    source.to_netcdf(path)
    with rasterio.open(f"netcdf:{path}:b") as dataset:
        assert (dataset.transform, dataset.crs) == (transform, UTM)
    assert source.rio.transform() == transform
    for door in (source, path):
        cube = opened(door)
        assert (cube.transform, cube.crs) == (transform, UTM)


@pytest.mark.parametrize("transform", [Affine(*TRANSFORM), ROTATED])
def test_parts_of_an_object_lie_where_they_did(tmp_path, transform):
    whole = rioxarray.open_rasterio(write(tmp_path / "a.tif", ramp(1, 6, 7), transform=transform))
    cube = opened(whole[:, 2:, 3:])
    found = np.array(coefficients(cube)).reshape(2, 3)
    corner = np.array(tuple(transform)[:6]).reshape(2, 3) @ [3, 2, 1]
    np.testing.assert_allclose(found[:, 2], corner)
    np.testing.assert_allclose(found[:, :2], [[transform.a, transform.b], [transform.d, transform.e]])
    if transform != ROTATED:
        assert coefficients(opened(whole.sortby("y"))) == (10, 0, 500000, 0, 10, 5000000 - 60)
        # Slicing by whole pixels is no contradiction, moving by part of one is.
        with pytest.raises(
            RasterError, match=r"two transforms: \(10, 0, 500003, .* by its coordinates, and \(10, 0, 5000"
        ):
            opened(whole.assign_coords(x=whole.x + 3))
    else:
        with pytest.raises(RasterError, match=r"first pixel at .* none of the grid .* GeoTransform of spatial_ref"):
            opened(whole.assign_coords(xc=whole.xc + 3))


def test_a_file_whose_coordinates_and_transform_differ_is_refused(tmp_path):
    source = layer().rio.write_transform(Affine(10, 0, 499970, 0, -10, 5000000))
    # As an object it might be a part of the larger grid.
    assert coefficients(opened(source)) == TRANSFORM
    source.to_netcdf(tmp_path / "a.nc")
    with pytest.raises(RasterError, match=r"\(10, 0, 500000, .* coordinates, and \(10, 0, 499970, .* GeoTransform"):
        opened(tmp_path / "a.nc")
    for transform in (Affine(10, 0, 499995, 0, -10, 5000005), Affine(0, 0, 0, 0, 0, 0)):
        with pytest.raises(RasterError, match="states two transforms"):
            opened(layer().rio.write_transform(transform))


def test_netcdf_files_of_gdal_are_bottom_up_and_their_transforms_are_not(tmp_path):
    pixels = ramp(1, 4, 5)
    tiff = write(tmp_path / "a.tif", pixels)
    rasterio.shutil.copy(tiff, tmp_path / "a.nc", driver="netCDF")
    cube = opened(tmp_path / "a.nc")
    assert coefficients(cube) == (10, 0, 500000, 0, 10, 5000000 - 40)
    assert np.array_equal(cube.read([1], rasterio.windows.Window(0, 0, 5, 4)), pixels[:, ::-1])


def stackstac_like(offset=0.0, numbers=False, rows=slice(None), columns=slice(None)):
    """Coordinates of upper left corners, as stackstac makes them, and the true transform beside them."""
    array = stack(attrs={"transform": Affine(*TRANSFORM), "crs": "epsg:32633", "resolution": 10.0}).drop_vars(
        "spatial_ref"
    )
    del array.encoding["grid_mapping"]
    if numbers:
        array = array.assign_coords(x=np.arange(5), y=np.arange(4))
    else:
        array = array.assign_coords(x=array.x - 5 + offset, y=array.y + 5)
    return array.assign_coords(epsg=32633)[:, rows, columns]


def test_stackstac_s_coordinates_are_corners():
    for array in (stackstac_like(), stackstac_like(numbers=True), stackstac_like().drop_vars(["x", "y"])):
        cube = opened(array)
        assert (coefficients(cube), cube.crs) == (TRANSFORM, UTM)
    for numbers in (False, True):
        part = opened(stackstac_like(numbers=numbers, rows=slice(1, None), columns=slice(2, None)))
        assert coefficients(part) == (10, 0, 500020, 0, -10, 4999990)
    with pytest.raises(RasterError, match=r"coordinates, and .* attribute transform"):
        opened(stackstac_like(offset=1))


def test_conventions_of_zarr(tmp_path):
    projection = pyproj.CRS(32633)
    for number, crs in enumerate(
        [
            {"proj:epsg": 32633},
            {"proj:code": "EPSG:32633"},
            {"proj:wkt2": projection.to_wkt()},
            {"proj:projjson": projection.to_json_dict()},
        ]
    ):
        attributes = {"spatial:dimensions": ["row", "column"], "spatial:transform": list(TRANSFORM), **crs}
        source = bare().rename(x="column", y="row").assign_attrs(attributes)
        path = tmp_path / f"{number}.zarr"
        source.to_zarr(path, consolidated=False)
        cube = opened(path)
        assert (coefficients(cube), cube.crs) == (TRANSFORM, UTM)
    # Nodes lie in the middle of pixels.
    nodes = {"spatial:transform": [10, 0, 500005, 0, -10, 4999995], "spatial:registration": "node"}
    assert coefficients(opened(bare(attrs=nodes))) == TRANSFORM
    # EOPF writes nine coefficients with each array.
    assert coefficients(opened(layer(attrs={"proj:transform": [*TRANSFORM, 0, 0, 1]}))) == TRANSFORM


def test_units_of_axes_are_converted(tmp_path):
    kilometres = layer()
    kilometres = kilometres.assign_coords(x=kilometres.x / 1000, y=kilometres.y / 1000)
    for axis in "xy":
        kilometres[axis].attrs["units"] = "km"
    assert coefficients(opened(kilometres)) == pytest.approx(TRANSFORM)
    # Geostationary angles times the satellite's height; GDAL is the reference.
    mapping = {
        "grid_mapping_name": "geostationary",
        "perspective_point_height": 35786023.0,
        "semi_major_axis": 6378137.0,
        "semi_minor_axis": 6356752.31414,
        "latitude_of_projection_origin": 0.0,
        "longitude_of_projection_origin": -75.0,
        "sweep_angle_axis": "x",
    }
    angles = {
        "y": ("y", 0.1 - 5.6e-5 * np.arange(4), {"units": "rad", "standard_name": "projection_y_coordinate"}),
        "x": ("x", -0.1 + 5.6e-5 * np.arange(5), {"units": "rad", "standard_name": "projection_x_coordinate"}),
    }
    disk = bare(attrs={"grid_mapping": "projection"}).assign_coords(angles)
    disk["projection"] = xr.Variable((), 0, mapping)
    # Axes of GOES are packed integers.
    packing = {"dtype": "int16", "scale_factor": 5.6e-5, "add_offset": 0.1}
    disk.to_netcdf(tmp_path / "a.nc", encoding={"y": packing, "x": {**packing, "add_offset": -0.1}})
    with rasterio.open(f"netcdf:{tmp_path / 'a.nc'}:b") as dataset:
        expected = tuple(dataset.transform)[:6]
    for source in (tmp_path / "a.nc", disk, xr.open_dataset(tmp_path / "a.nc", mask_and_scale=False)):
        assert coefficients(opened(source)) == pytest.approx(expected, rel=1e-6)


def test_one_pixel_takes_its_size_from_what_states_it(tmp_path):
    source = layer()
    source.x.attrs["resolution"], source.y.attrs["resolution"] = 10.0, -10.0
    assert coefficients(opened(source.isel(x=[2], y=[1]))) == (10, 0, 500020, 0, -10, 4999990)
    pixel = rioxarray.open_rasterio(write(tmp_path / "a.tif", ramp(1, 4, 5)))[:, 1:2, 2:3]
    assert coefficients(opened(pixel)) == (10, 0, 500020, 0, -10, 4999990)
    assert opened(layer().isel(x=[0], y=[0])).transform is None


def test_without_georeference(tmp_path):
    path = write(tmp_path / "a.tif", ramp(1, 4, 5), crs=None, transform=None)
    for source in (rioxarray.open_rasterio(path), bare()):
        cube = opened(source)
        assert (cube.crs, cube.transform, cube.gcps) == (None, None, ((), None))
    points = [
        GroundControlPoint(row, column, 500000 + 10 * column, 5000000 - 10 * row)
        for row, column in ((0, 0), (0, 5), (4, 0))
    ]
    path = write(tmp_path / "b.tif", ramp(1, 4, 5), crs=None, transform=None)
    with rasterio.open(path, "r+") as dataset:
        dataset.gcps = (points, UTM)
    cube = opened(rioxarray.open_rasterio(path))
    assert (cube.crs, cube.transform, cube.gcps[1]) == (None, None, UTM)
    assert [(point.row, point.col, point.x, point.y) for point in cube.gcps[0]] == [
        (point.row, point.col, point.x, point.y) for point in points
    ]


def test_crs_of_a_data_set_opened_without_its_coordinates(tmp_path):
    layer().to_netcdf(tmp_path / "a.nc")
    dataset = xr.open_dataset(tmp_path / "a.nc")
    assert "spatial_ref" in dataset.data_vars
    assert opened(dataset).crs == UTM
    with pytest.raises(RasterError, match=r"grid mapping 'spatial_ref', but does not hold it.*decode_coords='all'"):
        opened(dataset.b)
    assert opened(dataset.b.rio.write_crs(UTM)).crs == UTM
    # The extended form of CF names the coordinates of each mapping.
    dataset.b.attrs["grid_mapping"] = "spatial_ref: x y"
    dataset.b.encoding.pop("grid_mapping", None)
    assert opened(dataset).crs == UTM


def two_mappings():
    one = layer(name="a").rename(spatial_ref="one")
    one.a.encoding["grid_mapping"] = "one"
    return one.merge(layer(name="b"))


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (two_mappings, r"several grid mappings \(one, spatial_ref\).*--parts"),
        (lambda: bare(attrs={"crs": "nowhere"}), r"cannot be read \(attribute crs\)"),
        (lambda: bare(attrs={"proj:projjson": {"type": "nothing"}}), r"cannot be read \(attribute proj:projjson\)"),
        (
            lambda: layer(attrs={"crs": "EPSG:32632"}),
            r"EPSG:32633 \(grid mapping spatial_ref\) and EPSG:32632 \(attribute",
        ),
        (
            lambda: layer().assign_coords(epsg=32632),
            r"EPSG:32633 \(grid mapping spatial_ref\) and EPSG:32632 \(coordinate",
        ),
        (lambda: layer(x=list("abcde")), "no numbers as coordinate 'x'"),
        (lambda: layer(x=[1.0, 2, 3, 4, np.nan]), "no numbers as coordinate 'x'"),
        (lambda: layer(x=[1.0, 2, 3, 4, 9]), "no regular grid: the steps of coordinate 'x' differ"),
        (lambda: layer(x=[1.0] * 5), "no regular grid"),
        (
            lambda: bare(attrs={"transform": TRANSFORM, "spatial:transform": [9, *TRANSFORM[1:]]}),
            r"two transforms: .* its attribute transform, and .* its attribute spatial:transform",
        ),
    ],
)
def test_statements_that_contradict_or_cannot_be_read(source, problem):
    with pytest.raises(RasterError, match=problem):
        opened(source())


def test_a_geotransform_has_six_numbers():
    source = layer()
    source.spatial_ref.attrs["GeoTransform"] = "500000 10 0"
    with pytest.raises(RasterError, match=r"GeoTransform '500000 10 0' .*six numbers"):
        opened(source)
    # Attributes of that name may be anything.
    assert coefficients(opened(layer(attrs={"transform": "logarithm"}))) == TRANSFORM
    assert coefficients(opened(layer(attrs={"transform": ["a"] * 6}))) == TRANSFORM


def test_degrees():
    coordinates = {"lat": 45 - 0.1 * np.arange(4), "lon": 10 + 0.1 * np.arange(5)}
    array = xr.DataArray(ramp(4, 5), coordinates, ("lat", "lon"), "b").to_dataset()
    assert coefficients(opened(array)) == pytest.approx((0.1, 0, 9.95, 0, -0.1, 45.05))
