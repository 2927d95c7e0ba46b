"""Names of cubes, and what lies in groups of files and stores."""

import numpy as np
import pytest
import rasterio

from stsun_processing.rasters import cube_files
from stsun_processing.rasters.cube_files import cube_name, is_cube, is_xarray
from stsun_processing.rasters.records import RasterError
from tests.processing.rasters.cube_objects import layer, numbers, opened, ramp, strong, xr

netcdf4 = pytest.importorskip("netCDF4")

GROUP = "measurements/r10m"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.nc", ("a.nc", None)),
        ("netcdf:a.nc:b", ("a.nc", ("b",))),
        ("netcdf:/folder/a.nc:/group/b", ("/folder/a.nc", ("/group/b",))),
        ('NETCDF:"a b.nc":b', ("a b.nc", ("b",))),
        ('NETCDF:"a.nc"', ("a.nc", None)),
        ("netcdf:a.nc", ("a.nc", None)),
        (r"netcdf:C:\a.nc", (r"C:\a.nc", None)),
        ("netcdf:https://host/a.nc", ("https://host/a.nc", None)),
        ("netcdf:https://host/a.nc:b", ("https://host/a.nc", ("b",))),
        ('ZARR:"a.zarr":/group/b', ("a.zarr", ("/group/b",))),
    ],
)
def test_names_of_parts_as_gdal_writes_them(path, expected):
    assert cube_name(path) == expected


def test_what_is_read_through_xarray(tmp_path):
    layer().to_zarr(tmp_path / "store", group=GROUP, consolidated=False)
    for path in (tmp_path / "store", tmp_path / "store" / GROUP, tmp_path / "store" / GROUP / "b"):
        assert is_cube(str(path))
    for path in ("A.NC", "a.zarr/", "https://host/a.zarr", "netcdf:a.nc:b"):
        assert is_cube(path)
    for path in ("a.tif", str(tmp_path), "/vsizip/a.zip/a.nc", "netcdf:/vsicurl/https://host/a.nc:b"):
        assert not is_cube(path)
    for value in (layer(), layer().b, xr.DataTree(layer())):
        assert is_xarray(value)
    assert not is_xarray(layer().b.values)


def in_groups(path, **options):
    source = xr.Dataset({name: layer(name=name)[name] for name in ("b03", "b04")})
    write = source.to_zarr if path.suffix == ".zarr" else source.to_netcdf
    write(path, group=GROUP, **options)
    return path


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_groups(tmp_path, suffix):
    options = {"consolidated": False} if suffix == ".zarr" else {}
    path = in_groups(tmp_path / f"a{suffix}", **options)
    with pytest.raises(RasterError, match=rf"no raster itself, but its groups do: {GROUP}\..*parts=.*--parts"):
        opened(path)
    for variables, names in [
        ([f"{GROUP}/b04", f"{GROUP}/b03"], ["b04", "b03"]),
        ([f"/{GROUP}/b04"], ["b04"]),
        ([f"{GROUP}/"], ["b03", "b04"]),
    ]:
        cube = opened(path, variables)
        assert [strong(band.names) for band in cube.states().bands] == [[name] for name in names]
        assert cube.crs.to_epsg() == 32633
    with pytest.raises(RasterError, match=r"several groups .*\('a', 'b'\)"):
        opened(path, ["a/b03", "b/b04"])
    with pytest.raises(RasterError, match=r"Group 'nowhere' of cube cannot be opened"):
        opened(path, ["nowhere/b03"])
    with pytest.raises(RasterError, match=r"no part 'b99'\. It has b03, b04"):
        opened(path, [f"{GROUP}/b99"])


@pytest.mark.parametrize("version", [2, 3])
def test_nodes_of_zarr_stores(tmp_path, version):
    path = in_groups(tmp_path / "a.zarr", zarr_format=version)
    for node, names in ((path / GROUP, ["b03", "b04"]), (path / GROUP / "b04", ["b04"])):
        cube = opened(node)
        assert [strong(band.names) for band in cube.states().bands] == [[name] for name in names]
        assert cube.crs.to_epsg() == 32633
        assert cube.files == (str(node),)
    with pytest.raises(RasterError, match=r"its groups do: r10m"):
        opened(path / "measurements")
    assert opened(f'ZARR:"{path}":/{GROUP}/b04').count == 1


def test_names_of_gdal_are_read_as_the_file_is(tmp_path):
    # GDAL recognises no y axis here, and turns the rows around.
    layer().drop_vars(["x", "y"]).to_netcdf(tmp_path / "a.nc")
    name = f"netcdf:{tmp_path / 'a.nc'}:b"
    with rasterio.open(name) as dataset:
        assert np.array_equal(dataset.read(1), ramp(4, 5)[::-1])
    assert np.array_equal(numbers(opened(name)), numbers(opened(tmp_path / "a.nc")))
    assert np.array_equal(numbers(opened(name))[0], ramp(4, 5))
    assert opened(name).files == (str(tmp_path / "a.nc"),)
    with pytest.raises(RasterError, match=r"no raster 'c'\. It has b"):
        opened(f"netcdf:{tmp_path / 'a.nc'}:c")


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_groups_share_the_coordinates_around_them(tmp_path, suffix):
    outer = layer().drop_vars("b").assign_coords(time=np.datetime64("2021-05-01", "ns"))
    outer = outer.assign_attrs({"platform": "Sentinel-2A", "spatial:transform": [1, 2, 3, 4, 5, 6]})
    inner = xr.Dataset({"b": (("y", "x"), ramp(4, 5), {"grid_mapping": "spatial_ref"})})
    path = tmp_path / f"a{suffix}"
    if suffix == ".zarr":
        outer.to_zarr(path, consolidated=False)
        inner.to_zarr(path, group="data", consolidated=False, mode="a")
        doors = [opened(path, ["data/b"]), opened(path / "data")]
    else:
        outer.to_netcdf(path)
        inner.to_netcdf(path, group="data", mode="a")
        doors = [opened(path, ["data/b"]), opened(f"netcdf:{path}:/data/b")]
    for cube in doors:
        assert (cube.crs.to_epsg(), tuple(cube.transform)[:6]) == (32633, (10, 0, 500000, 0, -10, 5000000))
        statements = cube.states()
        assert strong(statements.platform) == ["Sentinel-2A"]
        assert [date.value.value.day for date in statements.bands[0].date] == [1]


def test_groups_that_cannot_be_listed_are_left_out(tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise ValueError("broken")

    path = in_groups(tmp_path / "a.nc")
    monkeypatch.setattr(xr, "open_groups", fail)
    with pytest.raises(RasterError, match="has no dimensions x and y"):
        opened(path)


def test_groups_of_a_tree():
    tree = xr.DataTree.from_dict({"/": xr.Dataset(), f"/{GROUP}": layer()})
    with pytest.raises(RasterError, match=rf"no raster itself, but its groups do: /{GROUP}.*tree\['/{GROUP}'\]"):
        opened(tree)
    assert opened(tree[GROUP]).count == 1


def test_files_that_cannot_be_opened(tmp_path, monkeypatch):
    (tmp_path / "a.nc").write_bytes(b"CDF or not")
    (tmp_path / "b.zarr").mkdir()
    (tmp_path / "c.zarr").mkdir()
    (tmp_path / "c.zarr" / "zarr.json").write_text("{")
    for name in ("a.nc", "b.zarr", "c.zarr"):
        with pytest.raises(RasterError, match="cube cannot be opened through xarray"):
            opened(tmp_path / name)
    with pytest.raises(RasterError, match="cube does not exist"):
        opened(tmp_path / "d.nc")

    def old(name):
        raise ImportError("zarr is too old", name=name)

    layer().to_netcdf(tmp_path / "e.nc")
    monkeypatch.setattr(xr, "open_dataset", lambda *arguments, **options: old("zarr"))
    with pytest.raises(RasterError, match=r"zarr is missing or too old.*pip install -U 'stsun\[xarray\]'"):
        opened(tmp_path / "e.nc")
    monkeypatch.setattr(cube_files, "import_module", old)
    with pytest.raises(RasterError, match=r"rioxarray is not installed.*pip install 'stsun\[xarray\]'"):
        opened(tmp_path / "e.nc")
