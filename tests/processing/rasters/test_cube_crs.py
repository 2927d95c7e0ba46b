"""Coordinate reference systems of cubes."""

import pytest
from rasterio import CRS

from stsun_processing.rasters.records import RasterError
from tests.processing.rasters.cube_objects import layer, opened, stack, xr

pyproj = pytest.importorskip("pyproj")

UTM = CRS.from_epsg(32633)
TWO_CRS = r"EPSG:32633 \(grid mapping spatial_ref\) and EPSG:32632"


def unknown(attrs=None, **coordinates):
    """A data set without a CRS."""
    return layer(attrs=attrs).drop_vars("spatial_ref").drop_encoding().assign_coords(coordinates)


def test_crs_of_a_data_set_opened_without_its_coordinates(tmp_path):
    layer().to_netcdf(tmp_path / "a.nc")
    dataset = xr.open_dataset(tmp_path / "a.nc")
    assert "spatial_ref" in dataset.data_vars
    assert opened(dataset).crs == UTM
    problem = r"grid mapping 'spatial_ref', but does not hold it.*decode_coords='all'"
    with pytest.raises(RasterError, match=problem):
        opened(dataset.b)
    assert opened(dataset.b.rio.write_crs(UTM)).crs == UTM
    # The extended form of CF names the coordinates of each mapping.
    dataset.b.attrs["grid_mapping"] = "spatial_ref: x y"
    dataset.b.encoding.pop("grid_mapping", None)
    assert opened(dataset).crs == UTM


@pytest.mark.parametrize(
    "attributes",
    [
        {"crs": "EPSG:32633"},
        {"crs": "+init=epsg:32633"},
        {"proj:epsg": 32633},
        {"proj:code": "EPSG:32633"},
        {"proj:wkt2": pyproj.CRS(32633).to_wkt()},
        {"proj:projjson": pyproj.CRS(32633).to_json_dict()},
    ],
)
def test_attributes_of_rioxarray_stackstac_and_the_conventions_of_zarr(tmp_path, attributes):
    of_the_group = unknown().assign_attrs(attributes)
    for source in (unknown(attrs=attributes), of_the_group, unknown(attrs=attributes).b):
        assert opened(source).crs == UTM
    of_the_group.to_zarr(tmp_path / "a.zarr", consolidated=False)
    assert opened(tmp_path / "a.zarr").crs == UTM


def test_parameters_of_a_cf_grid_mapping():
    source = unknown()
    source.b.attrs["grid_mapping"] = "projection"
    source["projection"] = xr.Variable((), 0, pyproj.CRS(32633).to_cf())
    del source.projection.attrs["crs_wkt"]
    assert opened(source).crs == CRS.from_wkt(pyproj.CRS.from_cf(source.projection.attrs).to_wkt())
    # A variable that states nothing is none.
    source.projection.attrs = {"long_name": "projection"}
    assert opened(source).crs is None


def test_stackstac_may_have_warped_its_items():
    warped = unknown(epsg=32633).assign_coords({"proj:epsg": 32632})
    assert opened(warped).crs == UTM
    assert opened(stack().assign_coords(epsg=32633)).crs == UTM


def two_mappings():
    one = layer(name="a").rename(spatial_ref="one")
    one.a.encoding["grid_mapping"] = "one"
    return one.merge(layer(name="b"))


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (two_mappings, r"several grid mappings \(one, spatial_ref\).*--parts"),
        (lambda: unknown(attrs={"crs": "nowhere"}), r"cannot be read \(attribute crs\).*write_crs"),
        (lambda: unknown(attrs={"proj:projjson": {"type": "nothing"}}), r"cannot be read \(attribute proj:projjson"),
        (lambda: layer(attrs={"crs": "EPSG:32632"}), rf"{TWO_CRS} \(attribute crs\)"),
        (lambda: layer().assign_coords(epsg=32632), rf"{TWO_CRS} \(coordinate epsg\)"),
    ],
)
def test_statements_that_contradict_or_cannot_be_read(source, problem):
    with pytest.raises(RasterError, match=problem):
        opened(source())
