"""netCDF and Zarr cubes."""

import os
import subprocess
import sys
from datetime import datetime

import numpy as np
import pytest
from rasterio import Affine
from rasterio.windows import Window

from stsun_processing.metadata import Band
from stsun_processing.rasters.cubes import Cube
from stsun_processing.rasters.records import RasterError
from stsun_processing.rasters.report import describe
from stsun_processing.rasters.sensors import sensor_bands
from stsun_processing.rasters.series import open_series, read_series
from tests.processing.rasters.raster_files import fact, ramp, write

xr = pytest.importorskip("xarray", reason="needs pip install 'stsun[xarray]'")
pytest.importorskip("rioxarray", reason="needs pip install 'stsun[xarray]'")

TIMES = np.array(["2021-05-01", "2021-06-01T10:20:30", "2021-07-01"], "datetime64[ns]")


def cube(values=None, **coordinates):
    """(time, band, y, x), 10 m, with its upper left corner at 500000, 5000000."""
    values = (1 + np.arange(3 * 2 * 4 * 5)).reshape(3, 2, 4, 5).astype("uint16") if values is None else values
    ys, xs = 5000000 - 5 - 10.0 * np.arange(values.shape[2]), 500000 + 5 + 10.0 * np.arange(values.shape[3])
    coords = {"time": TIMES[: len(values)], "band": ["B04", "B08"], "y": ys, "x": xs, **coordinates}
    data = xr.DataArray(values, coords, ("time", "band", "y", "x"), name="reflectance")
    return data.to_dataset().rio.write_crs("EPSG:32633")


def save(dataset, path, **options):
    if path.suffix == ".zarr":
        dataset.to_zarr(path, zarr_format=2, **options)
    else:
        dataset.to_netcdf(path, **options)
    return path


# The class


@pytest.mark.parametrize("suffix", [".nc", ".zarr", None])
def test_windows_of_stored_numbers(tmp_path, suffix):
    values = cube().reflectance.values
    source = cube() if suffix is None else str(save(cube(), tmp_path / f"a{suffix}"))
    opened = Cube(source, "cube", None)
    assert (opened.path, opened.shape, opened.block_shape, opened.mask_source) == ("cube", (4, 5), (1, 1), None)
    assert opened.files == (() if suffix is None else (source,))
    assert opened.dtypes == ("uint16",) * 6
    for indexes in ([1], [6], [2, 1], [1, 2, 3, 4, 5, 6]):
        for row, column, height, width in ((0, 0, 4, 5), (1, 2, 3, 1), (3, 4, 1, 1)):
            window = Window(column, row, width, height)
            expected = values[:, :, row : row + height, column : column + width].reshape(6, height, width)
            assert np.array_equal(opened.read(indexes, window), expected[np.array(indexes) - 1])
            assert opened.masked([1], window) is None
    assert [opened.applied(index) for index in opened.indexes] == [None] * 6
    opened.close()


def test_numbers_are_read_as_they_are_stored(tmp_path):
    encoding = {"dtype": "int16", "scale_factor": 1e-4, "add_offset": -0.1, "_FillValue": -999}
    values = np.full((1, 2, 4, 5), 0.25)
    path = save(cube(values), tmp_path / "a.nc", encoding={"reflectance": encoding})
    window = Window(0, 0, 5, 4)
    packed = Cube(str(path), "a", None)
    assert (packed.dtypes, packed.applied(1)) == (("int16", "int16"), None)
    assert (packed.read([1], window) == 3500).all()
    with xr.open_dataset(path, decode_coords="all") as dataset:
        decoded = Cube(dataset, "b", None)
        assert np.allclose(decoded.read([1], window), 0.25)
        assert (decoded.applied(1).scale, decoded.applied(1).offset) == (1e-4, -0.1)
        assert decoded.states().bands[0].scaling[0].value == packed.states().bands[0].scaling[0].value


class Counted(xr.backends.BackendArray):
    """The array of `cube`, which remembers the shapes that were read."""

    def __init__(self):
        self.values = cube().reflectance.values
        self.shape, self.dtype = self.values.shape, self.values.dtype
        self.read = []

    def __getitem__(self, key):
        support = xr.core.indexing.IndexingSupport.OUTER
        return xr.core.indexing.explicit_indexing_adapter(key, self.shape, support, self._read)

    def _read(self, key):
        found = self.values[np.ix_(*(np.arange(size)[one] for size, one in zip(self.shape, key, strict=True)))]
        self.read.append(found.shape)
        return found


def test_a_window_is_read_once_with_the_bands_that_are_asked_for():
    counted = Counted()
    lazy = xr.Variable(("time", "band", "y", "x"), xr.core.indexing.LazilyIndexedArray(counted))
    opened = Cube(xr.Dataset({"reflectance": lazy}, cube().coords), "cube", ["B08"])
    expected = counted.values[:, 1, :3, 1:3]
    for index in opened.indexes:
        assert np.array_equal(opened.read([index], Window(1, 0, 2, 3))[0], expected[index - 1])
    # Chunks span dates: all of them are read at once.
    assert counted.read == [(3, 1, 3, 2)]
    turned = Cube(xr.Dataset({"reflectance": lazy}, cube().coords), "cube", ["B08", "B04"])
    whole = turned.read(turned.indexes, Window(0, 0, 5, 4))
    assert np.array_equal(whole, counted.values[:, ::-1].reshape(6, 4, 5))


def test_a_damaged_chunk_is_named(tmp_path):
    path = save(cube(), tmp_path / "a.zarr")
    (path / "reflectance" / "0.0.0.0").write_bytes(b"broken")
    with pytest.raises(RasterError, match=r"a\.zarr cannot be read at row 1, column 2: .*probably damaged"):
        Cube(str(path), "a.zarr", None).read([1], Window(2, 1, 1, 1))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc to see open files")
@pytest.mark.parametrize("variables", [None, ["data/reflectance"]])
def test_files_are_closed_and_objects_are_not(tmp_path, variables):
    path = save(cube(), tmp_path / "a.nc", group=None if variables is None else "data")

    def is_open():
        links = [os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
        return str(path) in [os.readlink(link) for link in links if os.path.islink(link)]

    opened = Cube(str(path), "a", variables)
    opened.read([1], Window(0, 0, 1, 1))
    assert is_open()
    opened.close()
    assert not is_open()
    with pytest.raises(RasterError, match="no part"):
        Cube(str(path), "a", ["B99"] if variables is None else ["data/B99"])
    assert not is_open()
    with xr.open_dataset(path, group=None if variables is None else "data", decode_coords="all") as dataset:
        Cube(dataset, "a", None).close()
        assert is_open()


# As dates of a series


@pytest.mark.parametrize("suffix", [".nc", ".zarr", None])
def test_all_dates_of_a_cube(tmp_path, suffix):
    source = cube() if suffix is None else save(cube(), tmp_path / f"a{suffix}")
    with open_series(source, sensor="s2") as opened:
        series = opened.read()
        for box in [(0, 0, 4, 5), (1, 2, 3, 1), (3, 4, 1, 1)]:
            window, crop = opened.read(*box), series.crop(*box)
            assert all(np.array_equal(a, b) for a, b in zip(window.pixels, crop.pixels, strict=True))
        assert "2021-06-01T10:20:30" in describe(opened)
    assert np.array_equal(np.stack(series.pixels), cube().reflectance.values)
    assert [a.datetime for a in series.acquisitions][1:] == [datetime(2021, 6, 1, 10, 20, 30), datetime(2021, 7, 1)]
    assert all(a.bands == sensor_bands("s2", ["B04", "B08"]) for a in series.acquisitions)
    assert (series.crs, series.transform, series.gsd_m) == ("EPSG:32633", (10, 0, 500000, 0, -10, 5000000), 10)


def test_variables_are_bands_and_parts_choose_among_them(tmp_path):
    data = cube().reflectance
    dataset = xr.Dataset(
        {"B4": data.isel(band=0, drop=True), "SCL": data.isel(band=1, drop=True), "B8": data.isel(band=1, drop=True)}
    )
    path = save(dataset, tmp_path / "a.nc")
    series = read_series(path, parts=["B8", "B4"], sensor="s2")
    assert [band.name for band in series.acquisitions[2].bands] == ["B08", "B04"]
    assert np.array_equal(series.pixels[2], data.values[2, ::-1])
    assert [band.name for band in read_series(cube(), parts=["B08"], sensor="s2").acquisitions[0].bands] == ["B08"]
    with pytest.raises(RasterError, match=r"a\.nc has no part 'B2'\. It has B4, SCL, B8"):
        open_series(path, parts=["B2"])
    with pytest.raises(RasterError, match=r"nothing says what was measured.*'SCL'"):
        open_series(path, sensor="s2")


def test_wavelengths_and_kinds_from_coordinates_and_attributes():
    lengths = cube(
        wavelength=("band", [0.665, 0.842], {"units": "um"}), fwhm_nm=("band", [31.0, 106.0]), band=["red", "infrared"]
    )
    assert read_series(lengths).acquisitions[0].bands == (Band("red", 665, 31), Band("infrared", 842, 106))
    plain = cube(band=["a", "b"])
    plain.reflectance.attrs["kind"] = ["elevation", "elevation"]
    with open_series(plain) as opened:
        assert {band.kind for band in opened.series.acquisitions[0].bands} == {"elevation"}
        assert fact(opened, "kind", 1).source == "attribute kind"
    plain.reflectance.attrs["wavelength_nm"] = [500, 600]
    with pytest.raises(RasterError, match="'elevation'"):
        open_series(plain)


def test_scale_offset_and_fill_value_are_those_of_the_file(tmp_path):
    values = np.full((1, 2, 4, 5), 0.25)
    values[0, :, 0, 0] = np.nan
    encoding = {"reflectance": {"dtype": "int16", "scale_factor": 1e-4, "add_offset": -0.1, "_FillValue": -999}}
    path = save(cube(values), tmp_path / "a.nc", encoding=encoding)
    with open_series(path, sensor="s2") as opened:
        series = opened.read()
        assert [fact(opened, name, 1).value for name in ("scale", "offset", "nodata")] == [1e-4, -0.1, -999]
    assert series.valid[0].sum() == 19
    assert series.pixels[0][0, 1, 1] == pytest.approx(0.25, abs=1e-6)
    # The user's factor stands for both: 0.25 is stored as 3500.
    assert read_series(path, sensor="s2", scale=2).pixels[0][0, 1, 1] == pytest.approx(7000, rel=1e-5)


def test_objects_stay_open_and_apart(tmp_path):
    path = save(cube(), tmp_path / "a.nc")
    with xr.open_dataset(path, decode_coords="all") as dataset:
        red, nir = (dataset.isel(band=[i]) for i in range(2))
        series = read_series([[red, nir]], sensor="s2")
        assert [band.name for band in series.acquisitions[0].bands] == ["B04", "B08"]
        assert np.array_equal(np.stack(series.pixels), dataset.reflectance.values)


def test_chunks_are_read_once_for_all_dates(monkeypatch):
    read = []
    original = Cube._read_window
    monkeypatch.setattr(Cube, "_read_window", lambda self, *window: read.append(window) or original(self, *window))
    with open_series(cube(), sensor="s2") as opened:
        read.clear()
        for row in (0, 2):
            assert len(opened.read(row, 0, 2, 5).pixels) == 3
    assert len(read) == 2


def test_cube_next_to_rasters(tmp_path):
    path = write(tmp_path / "2021-01-01.tif", ramp(2), descriptions=("B04", "B08"))
    series = read_series([path, cube()], sensor="s2")
    assert [a.datetime.month for a in series.acquisitions] == [1, 5, 6, 7]
    coarse = write(
        tmp_path / "2020-01-01.tif",
        ramp(2, 2, 2),
        descriptions=("B04", "B08"),
        transform=Affine(20, 0, 500000, 0, -20, 5000000),
    )
    # A cube on another grid is warped like any raster: each coarse pixel is one of the four that it covers.
    fine = read_series([coarse, cube()], sensor="s2", grid="first", resampling="nearest")
    assert [pixels.shape for pixels in fine.pixels] == [(2, 2, 2)] * 4
    values = read_series(cube(), sensor="s2").pixels[0][0]
    assert fine.pixels[1][0, 0, 0] in values[:2, :2]
    target = save(cube(), tmp_path / "grid.nc")
    warped = read_series([coarse, cube()], sensor="s2", grid=target, resampling="nearest")
    assert [pixels.shape for pixels in warped.pixels] == [(2, 4, 5)] * 4


@pytest.mark.parametrize(
    ("dataset", "problem"),
    [
        (lambda: cube().rename(x="column", y="row"), "has no dimensions x and y"),
        (lambda: cube(x=[1.0, 2, 3, 4, 9]), "no regular grid: the steps of coordinate 'x' differ"),
        (lambda: cube().expand_dims(level=2), r"more dimensions than time, band, y and x: reflectance \(level, band\)"),
        (lambda: cube().drop_vars("reflectance"), "holds no variable over y and x"),
        (lambda: cube().assign(dem=cube().reflectance[0, 0].drop_vars(["time", "band"])), r"dem have none.*parts="),
        (lambda: cube().isel(time=slice(0)), "is empty"),
        (lambda: cube().isel(time=[2, 0]), "out of order"),
        (lambda: cube(time=[1, 2, 3]), "not a date"),
        (lambda: cube(np.full((1, 2, 4, 5), np.nan)), "holds no data"),
        (lambda: cube(np.ones((1, 2, 4, 5), "complex64")), "complex64"),
    ],
)
def test_cubes_that_cannot_be_read(dataset, problem):
    with pytest.raises(ValueError, match=problem):
        open_series(dataset(), sensor="s2")


def test_damaged_files(tmp_path):
    (tmp_path / "a.nc").write_bytes(b"CDF or not")
    (tmp_path / "b.zarr").mkdir()
    for name, problem in (("a.nc", "cannot be opened"), ("b.zarr", "cannot be opened"), ("c.nc", "does not exist")):
        with pytest.raises(RasterError, match=f"{name} {problem}"):
            open_series(tmp_path / name)


def test_without_the_extra_an_error_names_it(tmp_path):
    path = save(cube(), tmp_path / "a.nc")
    code = (
        "import sys; sys.modules['xarray'] = None; from stsun_processing import open_series\n"
        f"try: open_series({str(path)!r})\nexcept ValueError as error: print(error)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "xarray is not installed" in shown
    assert "pip install 'stsun[xarray]'" in shown
