"""Several dates or sensors, in stacked files and on different grids."""

import threading
import warnings
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio import Affine

from stsun_processing.cli import main
from stsun_processing.metadata import Band
from stsun_processing.rasters import gdal_file
from stsun_processing.rasters.records import RasterError
from stsun_processing.rasters.report import describe
from stsun_processing.rasters.sensors import sensor_bands
from stsun_processing.rasters.series import open_series, read_series
from tests.processing.rasters.raster_files import CORPUS, RED, UTM, fact, needs_corpus, ramp, write

NIR = Band("nir", center_nm=840, fwhm_nm=100)
NDVI = Band("NDVI", kind="index")


def stack(values):
    """A raster whose band i holds values[i]."""
    return np.array(values, "uint16")[:, None, None] * np.ones((1, 3, 4), "uint16")


def first_pixels(series):
    return [pixels[:, 0, 0].tolist() for pixels in series.pixels]


# Several dates in a file


def test_date_after_date_and_band_after_band(tmp_path):
    path = write(tmp_path / "a.tif", stack([1, 2, 3, 4, 5, 6]))
    two, three = [RED, NIR], [RED, NIR, NDVI]
    assert first_pixels(read_series(path, bands=two, stacked="dates")) == [[1, 2], [3, 4], [5, 6]]
    assert first_pixels(read_series(path, bands=two, stacked="bands")) == [[1, 4], [2, 5], [3, 6]]
    assert first_pixels(read_series(path, bands=three, stacked="dates", num_dates=2)) == [[1, 2, 3], [4, 5, 6]]
    dates = ["2021", "2022", "2023", "2024", "2025", "2026"]
    series = read_series(path, bands=[NDVI], stacked="bands", dates=dates)
    assert [a.datetime.year for a in series.acquisitions] == [2021, 2022, 2023, 2024, 2025, 2026]
    # Without being told so, a file is one date.
    assert len(read_series(path, bands=two * 3).pixels) == 1


def test_a_stack_in_the_other_order_contradicts_its_bands(tmp_path):
    path = write(tmp_path / "a.tif", stack([1, 2, 3, 4, 5, 6]), descriptions=["B04", "B08"] * 3)
    assert first_pixels(read_series(path, sensor="s2", stacked="dates", num_dates=3)) == [[1, 2], [3, 4], [5, 6]]
    with pytest.raises(RasterError, match="stacked='bands', which gives dates 1 and 2 different bands"):
        read_series(path, sensor="s2", stacked="bands", num_dates=3)


def test_several_bands_with_nan_as_nodata_are_warped(tmp_path):
    first = write(tmp_path / "a.tif", np.ones((2, 4, 4), "float32"), nodata=np.nan)
    finer = UTM["transform"] * Affine.scale(0.5)
    pixels = np.full((2, 8, 8), 3, "float32")
    pixels[:, :2, :2] = np.nan
    second = write(tmp_path / "b.tif", pixels, nodata=np.nan, transform=finer)
    series = read_series([first, second], bands=[RED, NIR], dates=["2021", "2022"], grid="first")
    assert np.isnan(series.pixels[1][:, 0, 0]).all()
    assert (series.pixels[1][:, 1:, 1:] == 3).all()


def test_one_file_a_band_that_holds_all_its_dates(tmp_path):
    files = [write(tmp_path / f"{name}.tif", stack(values)) for name, values in (("B04", [1, 2]), ("B08", [3, 4]))]
    for order in ("dates", "bands"):
        series = read_series([files], bands=[RED, NIR], stacked=order, dates=["2021", "2022"])
        assert first_pixels(series) == [[1, 3], [2, 4]]


def test_several_stacked_files_follow_each_other(tmp_path):
    paths = [write(tmp_path / f"{year}.tif", stack(values)) for year, values in ((2021, [1, 2]), (2022, [3, 4, 5]))]
    assert first_pixels(read_series(paths, bands=[NDVI], stacked="dates")) == [[1], [2], [3], [4], [5]]


def test_dates_and_bands_of_a_stack_come_from_its_bands(tmp_path):
    names = ("2021-05-01_B04", "2021-05-01_B08", "2021-06-01_B04", "2021-06-01_B08")
    path = write(tmp_path / "2020-01-01_stack.tif", stack([1, 2, 3, 4]), descriptions=names)
    with open_series(path, sensor="s2", stacked="dates", num_dates=2) as opened:
        assert [a.datetime for a in opened.series.acquisitions] == [datetime(2021, 5, 1), datetime(2021, 6, 1)]
        assert all(a.bands == sensor_bands("s2", ["B04", "B08"]) for a in opened.series.acquisitions)
        assert "date 2 of 2" in describe(opened)
    tagged = write(tmp_path / "b.tif", stack([1, 2]), band_tags=[{"TIMESTAMP": "2021"}, {"TIMESTAMP": "2022"}])
    series = read_series(tagged, bands=[NDVI], stacked="bands")
    assert [a.datetime.year for a in series.acquisitions] == [2021, 2022]
    # Laid out the other way, the dates of one date differ; and so they do if the file is taken for one date.
    with pytest.raises(RasterError, match=r"two dates.*2021-05-01.*2021-06-01.*stacked="):
        open_series(path, sensor="s2", stacked="bands", num_dates=2)
    with pytest.raises(RasterError, match=r"two dates.*stacked="):
        open_series(tagged, bands=[NDVI, NDVI])


def test_date_of_a_stack_s_file_name_is_not_that_of_its_dates(tmp_path):
    path = write(tmp_path / "2020-01-01.tif", stack([1, 2]), tags={"TIMESTAMP": "2020-01-01"})
    with open_series(path, bands=[NDVI], stacked="dates") as opened:
        assert [a.datetime for a in opened.series.acquisitions] == [None, None]
        assert [f.source for f in opened.facts if f.name == "datetime" and "several dates" not in f.source] == []


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"stacked": "dates"}, "is not said. Give num_dates"),
        ({"stacked": "dates", "num_dates": 4}, "holds 6 bands, which do not divide into 4 dates"),
        ({"stacked": "dates", "bands": [RED] * 4}, "holds 6 bands, which is no multiple of the 4"),
        ({"stacked": "time", "num_dates": 2}, "stacked must be one of dates, bands or None, got 'time'"),
        ({"num_dates": 2}, r"num_dates must be 1 or more, together with stacked"),
        ({"stacked": "dates", "num_dates": 0}, "num_dates must be 1 or more"),
        ({"stacked": "dates", "num_dates": 2, "dates": ["2021"]}, "one date for each of the 2 dates"),
    ],
)
def test_stacks_that_do_not_divide(tmp_path, options, problem):
    with pytest.raises(RasterError, match=problem):
        open_series(write(tmp_path / "a.tif", stack([1, 2, 3, 4, 5, 6])), **options)


# Different sensors


def test_radar_before_optical_after(tmp_path):
    before = write(tmp_path / "s1_20210101.tif", ramp(1, dtype="float32"), descriptions=["VV"])
    after = write(tmp_path / "rgb_20220101.tif", ramp(3, dtype="uint8"), descriptions=["red", "green", "blue"])
    series = read_series([before, after], sensor=[None, "aerial-rgb"], scale=[None, 1 / 255])
    assert [[band.type for band in a.bands] for a in series.acquisitions] == [["sar_vv"], ["reflective"] * 3]
    assert [pixels.shape for pixels in series.pixels] == [(1, 4, 5), (3, 4, 5)]
    assert series.pixels[1].max() == pytest.approx(60 / 255)
    assert [a.datetime.year for a in series.acquisitions] == [2021, 2022]


# Bad bands and other facts of ENVI headers


def envi(path, array, extra):
    write(path, array, driver="ENVI")
    with path.with_suffix(".hdr").open("a") as header:
        header.write(extra)
    return path


def test_bad_bands_are_left_out(tmp_path):
    path = envi(tmp_path / "a.img", stack([1, 2, 3]), "wavelength = {500, 1400, 1650}\nbbl = {1, 0, 1}\n")
    with open_series(path) as opened:
        assert [band.center_nm for band in opened.series.acquisitions[0].bands] == [500, 1650]
        assert opened.read().pixels[0][:, 0, 0].tolist() == [1, 3]
        assert (fact(opened, "bad_bands").value, fact(opened, "bad_bands").source) == (
            "band 2 left out",
            "ENVI header bbl",
        )
    # Records for the good bands, or for all of which the bad ones are dropped.
    for bands in ([RED, NIR], [RED, NDVI, NIR]):
        read = read_series(path, bands=bands, scale=[2] * len(bands)).acquisitions[0].bands
        assert [band.name for band in read] == [RED.name, NIR.name]
    with pytest.raises(RasterError, match="holds 2, alpha not counted and 1 bad bands left out"):
        open_series(path, bands=[RED])


@pytest.mark.parametrize(
    ("extra", "problem"),
    [
        ("bbl = {0, 0, 0}\n", "All bands of .* are marked as bad"),
        ("bbl = {0, 1}\n", "2 values of 'bbl' for 3 bands"),
        ("bbl = {0, bad, 1}\n", "bad-band mark 'bad'"),
        ("reflectance scale factor = 0\n", "reflectance scale factor '0'"),
        ("reflectance scale factor = 10000\ndata gain values = {0.1, 0.1, 0.1}\n", "two scales: 0.1 .*0.0001"),
    ],
)
def test_envi_headers_that_make_no_sense(tmp_path, extra, problem):
    with pytest.raises(RasterError, match=problem):
        open_series(envi(tmp_path / "a.img", stack([1, 2, 3]), extra), bands=[RED, NIR, NDVI])


def test_envi_scales(tmp_path):
    factor = envi(tmp_path / "a.img", stack([5000]), "reflectance scale factor = 10000\n")
    with open_series(factor, bands=[RED]) as opened:
        assert opened.read().pixels[0][0, 0, 0] == pytest.approx(0.5)
        assert fact(opened, "scale", 1).source == "ENVI header reflectance scale factor"
    gains = envi(tmp_path / "b.img", stack([5, 6]), "data gain values = {0.5, 2}\ndata offset values = {0, 1}\n")
    assert first_pixels(read_series(gains, bands=[RED, NIR])) == [[2.5, 13]]


# Different grids


def slope(x, y):
    return 100 + (x - 500000) / 10 + 2 * (y - 5000000) / 10


def sloping(path, transform, height, width, crs="EPSG:32633", **options):
    """Samples a plane at the centres of pixels."""
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    a, b, c, d, e, f = tuple(transform)[:6]
    values = slope(a * columns + b * rows + c, d * columns + e * rows + f)
    return write(path, values[None].astype("float32"), transform=transform, crs=crs, **options)


FINE = Affine(10, 0, 500000, 0, -10, 5000000)


@pytest.mark.parametrize(
    "other",
    [
        Affine(20, 0, 499980, 0, -20, 5000040),
        Affine(10, 0, 499995, 0, -10, 5000005),
        Affine(5, 0, 499990, 0, -5, 5000010),
    ],
    ids=["coarser", "shifted", "finer"],
)
def test_warped_rasters_show_the_same_place(tmp_path, other):
    one = sloping(tmp_path / "a.tif", FINE, 20, 30)
    two = sloping(tmp_path / "b.tif", other, 100, 140)
    with open_series([one, two], bands=[RED], grid="first") as opened:
        series = opened.read()
        assert (fact(opened, "warped").path, fact(opened, "warped").value) == (
            str(two),
            f"to the grid of {one.name}, bilinear",
        )
        assert [a.gsd_m for a in opened.series.acquisitions] == [10, 10]
        # Windows are crops of the whole, however the warping is cut.
        for box in [(0, 0, 20, 30), (7, 11, 5, 6), (19, 29, 1, 1)]:
            assert np.array_equal(opened.read(*box).pixels[1], series.crop(*box).pixels[1])
    # A plane is interpolated without error.
    np.testing.assert_allclose(series.pixels[1], series.pixels[0], atol=1e-3)
    onto = read_series([one], bands=[RED], grid=two)
    assert onto.transform == tuple(other)[:6]
    assert onto.size == (100, 140)


def test_another_projection(tmp_path):
    one = sloping(tmp_path / "a.tif", FINE, 20, 30)
    corners = rasterio.warp.transform_bounds("EPSG:32633", "EPSG:4326", 499900, 4999700, 500400, 5000100)
    step = 1e-4
    degrees = Affine(step, 0, corners[0], 0, -step, corners[3])
    columns, rows = np.meshgrid(np.arange(64) + 0.5, np.arange(40) + 0.5)
    xs, ys = rasterio.warp.transform(
        "EPSG:4326", "EPSG:32633", (corners[0] + step * columns).ravel(), (corners[3] - step * rows).ravel()
    )
    values = slope(np.array(xs), np.array(ys)).reshape(1, 40, 64).astype("float32")
    two = write(tmp_path / "b.tif", values, crs="EPSG:4326", transform=degrees)
    series = read_series([one, two], bands=[RED], grid="first", resampling="cubic")
    # GDAL approximates the projection to within an eighth of a pixel.
    np.testing.assert_allclose(series.pixels[1], series.pixels[0], atol=0.3)
    assert np.abs(series.pixels[1] - series.pixels[0]).mean() < 0.1


def test_missing_data_stay_missing_when_warped(tmp_path):
    reference = write(tmp_path / "a.tif", np.ones((1, 8, 8), "uint8"))
    half = {"transform": Affine(20, 0, 500000, 0, -20, 5000000)}
    array, mask = np.full((1, 4, 2), 7, "uint8"), np.full((4, 2), 255, "uint8")
    array[0, :2], mask[:2] = 0, 0
    files = {
        "nodata": write(tmp_path / "n.tif", array, nodata=0, **half),
        "mask": write(tmp_path / "m.tif", array, mask=mask, **half),
        "nan": write(tmp_path / "f.tif", np.where(array == 0, np.nan, array).astype("float32"), **half),
    }
    for name, path in files.items():
        series = read_series([reference, path], bands=[RED], grid="first", resampling="nearest")
        expected = np.zeros((8, 8), bool)
        expected[4:, :4] = True  # the file has data in its lower half, and covers the left half
        assert np.array_equal(series.valid[1], expected), name
        assert set(series.pixels[1][0][expected]) == {7}, name


def test_bands_of_one_date_at_different_resolutions(tmp_path):
    """As Sentinel-2 delivers them."""
    names = {"B04": Affine(10, 0, 500000, 0, -10, 5000000), "B11": Affine(20, 0, 500000, 0, -20, 5000000)}
    files = [
        write(tmp_path / f"{name}.tif", ramp(1, *size), transform=names[name])
        for name, size in (("B04", (8, 8)), ("B11", (4, 4)))
    ]
    series = read_series([files], sensor="s2", grid="first", resampling="nearest")
    assert series.acquisitions[0].bands == sensor_bands("s2", ["B04", "B11"])
    assert np.array_equal(series.pixels[0], [ramp(1, 8, 8)[0], np.kron(ramp(1, 4, 4)[0], np.ones((2, 2)))])
    # Coarser pixels average what they cover.
    coarse = read_series([files], sensor="s2", grid=files[1], resampling="average").pixels[0]
    assert np.array_equal(coarse[0], ramp(1, 8, 8)[0].reshape(4, 2, 4, 2).mean((1, 3)))


def test_scale_applies_to_warped_rasters_and_unneeded_warping_is_not_done(tmp_path):
    one = write(tmp_path / "a.tif", ramp(1, 8, 8))
    two = write(tmp_path / "b.tif", ramp(1, 8, 8))
    three = write(tmp_path / "c.tif", ramp(1, 4, 4), transform=Affine(20, 0, 500000, 0, -20, 5000000))
    with open_series([one, two, three], bands=[RED], scale=0.5, grid="first", resampling="nearest") as opened:
        assert [f.path for f in opened.facts if f.name == "warped"] == [str(three)]
        pixels = opened.read().pixels
    assert np.array_equal(pixels[1], ramp(1, 8, 8) / 2)
    assert np.array_equal(pixels[2][0], np.kron(ramp(1, 4, 4)[0], np.ones((2, 2))) / 2)


@pytest.mark.parametrize(
    ("profile", "options", "problem"),
    [
        ({"crs": None}, {}, r"b\.tif has no georeference.*gdal_edit"),
        ({"transform": Affine(10, 0, 600000, 0, -10, 5000000)}, {}, "lies outside the grid of"),
        ({"transform": Affine(10, 0, 500000, 10, 0, 5000000)}, {}, "gives pixels no area"),
        ({"crs": "EPSG:32601"}, {}, "lies outside the grid of"),
        ({"crs": "EPSG:32634"}, {"resampling": "best"}, "resampling must be one of nearest, bilinear"),
        ({"crs": "EPSG:32634"}, {"grid": "missing.tif"}, r"missing\.tif does not exist"),
    ],
)
def test_rasters_that_cannot_be_warped(tmp_path, profile, options, problem):
    one, two = write(tmp_path / "a.tif", ramp(1, 4, 4)), write(tmp_path / "b.tif", ramp(), **profile)
    with pytest.raises(RasterError, match=problem):
        open_series([one, two], bands=[RED], **{"grid": "first", **options})


# Reading by another thread


def test_windows_may_be_read_by_one_other_thread(tmp_path, monkeypatch):
    monkeypatch.setattr("stsun_processing.rasters.opening._MAX_OPEN_FILES", 2)
    paths = [write(tmp_path / f"{i}.tif", ramp(1, 40, 50) + i) for i in range(3)]
    warped = write(tmp_path / "w.tif", ramp(1, 20, 25), transform=Affine(20, 0, 500000, 0, -20, 5000000))
    read = {}
    with open_series([*paths, warped], bands=[RED], grid="first") as opened:
        whole = opened.read()
        thread = threading.Thread(
            target=lambda: read.update({box: opened.read(*box) for box in [(0, 0, 9, 9), (31, 41, 9, 9)]})
        )
        thread.start()
        thread.join()
    for box, window in read.items():
        for date in range(4):
            assert np.array_equal(window.pixels[date], whole.crop(*box).pixels[date])


def test_files_are_opened_once_for_all_windows(tmp_path, monkeypatch):
    opened_files = []
    original = gdal_file.open_dataset

    def spy(path):
        opened_files.append(path)
        return original(path)

    paths = [write(tmp_path / f"{i}.tif", ramp(1, 40, 50)) for i in range(2)]
    monkeypatch.setattr(gdal_file, "open_dataset", spy)
    with warnings.catch_warnings(), open_series(paths, bands=[RED], grid="first") as opened:
        for row in range(0, 40, 8):
            opened.read(row, 0, 8, 50)
    assert opened_files == [str(path) for path in paths]


def test_radar_before_and_optical_after_from_files_to_a_change_map(checkpoint, tmp_path):
    rng = np.random.default_rng(0)
    grid = {"transform": Affine(10, 0, 400000, 0, -10, 5000000)}
    radar = rng.normal(-12, 3, (1, 40, 60)).astype("float32")
    radar[:, :5] = np.nan
    before = write(tmp_path / "s1_20210101.tif", radar, descriptions=["VV"], **grid)
    optical = rng.integers(1, 255, (3, 20, 30), "uint8")
    after = write(tmp_path / "20220101.tif", optical, transform=Affine(20, 0, 400000, 0, -20, 5000000))
    arguments = ["predict", "--checkpoint", str(checkpoint), "--task", "binary_change_detection"]
    arguments += ["--bands", "VV", "/", "red", "green", "blue", "--sensor", "s1,rgb", "--scale", "1", "/", "0.004"]
    arguments += [
        "--grid",
        "first",
        "-o",
        str(tmp_path / "change.tif"),
        "--device",
        "cpu",
        "--",
        str(before),
        str(after),
    ]
    assert main(arguments) == 0
    with rasterio.open(tmp_path / "change.tif") as written:
        assert (written.count, written.shape, written.transform) == (1, (40, 60), grid["transform"])
        change = written.read(1)
    assert set(np.unique(change)) <= {0, 1, 255}
    # One date is enough for a pixel to be mapped, as the model is told which one lacks it.
    assert (change[10:] != 255).all()


@needs_corpus
def test_corpus_pair_of_different_sensors():
    folder = Path(CORPUS) / "italy_multisensor_cd" / "images" / "italy_south"
    series = read_series(sorted(folder.iterdir()), scale=1 / 255)
    assert [[band.name for band in a.bands] for a in series.acquisitions] == [["nir"], ["red", "green", "blue"]]
    assert [pixels.shape for pixels in series.pixels] == [(1, 130, 412), (3, 130, 412)]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), None),
        (("--bands", "red", "nir", "--sensor", "s2"), (["B04", "B08"], ["B04", "B08"])),
        (("--bands", "red", "nir", "/", "B2", "B3", "--sensor", "s2,s2a"), (["B04", "B08"], ["B02", "B03"])),
    ],
)
def test_bands_and_sensors_of_each_date_on_the_command_line(tmp_path, capsys, arguments, expected):
    paths = [str(write(tmp_path / f"202{i}-01-01.tif", ramp(2))) for i in range(2)]
    status = main(["inspect", *arguments, "--", *paths])
    shown = capsys.readouterr()
    if expected is None:
        assert status == 2
        assert "nothing says what was measured" in shown.err
        return
    blocks = shown.out.split("date 2 of 2")
    for block, names in zip(blocks, expected, strict=True):
        assert all(f"  {name} " in block for name in names)
