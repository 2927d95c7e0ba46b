"""The command line, from files to files, and what it refuses before any work starts."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio

from modeling_stsun import STSUNImageProcessor
from stsun_processing import Acquisition, Band, ImageSeries, SyntheticDataset
from stsun_processing.cli import main
from stsun_processing.rasters import series
from stsun_processing.rasters.records import Fact, RasterError
from stsun_processing.scenes.checkpoints import default_checkpoint
from stsun_processing.scenes.raster_output import write_series
from tests.conftest import small_config

BANDS = (Band("B02", 492, 66), Band("B08", 833, 106))


def write_rasters(folder, dates=("2021-01-03", "2021-03-01"), bands=BANDS, value=None, size=(30, 20), left=400_000):
    rng = np.random.default_rng(0)
    pixels = [
        np.full((len(bands), *size), value) if value is not None else rng.uniform(0, 0.6, (len(bands), *size))
        for _ in dates
    ]
    series = ImageSeries(
        tuple(Acquisition(bands, date, 10) for date in dates),
        crs="EPSG:32633",
        transform=(10, 0, left, 0, -10, 5_000_000),
        pixels=tuple(pixels),
    )
    return [str(path) for path in write_series(series, folder)]


@pytest.fixture
def rasters(tmp_path):
    return write_rasters(tmp_path / "series")


def predict(checkpoint, out, *arguments):
    return main(["predict", "--checkpoint", str(checkpoint), "-o", str(out), *arguments])


def test_predict_writes_a_map_on_the_grid_of_the_input(checkpoint, rasters, tmp_path, capsys):
    out = tmp_path / "maps.tif"
    assert predict(checkpoint, out, "--task", "binary_change_detection", *rasters) == 0
    assert str(out) in capsys.readouterr().out
    with rasterio.open(out) as written, rasterio.open(rasters[0]) as read:
        assert (written.crs, written.transform, written.shape) == (read.crs, read.transform, read.shape)
        assert written.count == 1
        assert set(np.unique(written.read())) <= {0, 1}


def test_half_precision_is_asked_for_by_name_and_moves_probabilities_a_little(checkpoint, rasters, tmp_path):
    maps = {}
    for dtype in ("float32", "bfloat16", "auto"):
        out, probabilities = tmp_path / f"{dtype}.tif", tmp_path / f"{dtype}_probabilities.tif"
        options = ("--dtype", dtype, "--task", "binary_change_detection", "--probabilities", str(probabilities))
        assert predict(checkpoint, out, *options, *rasters) == 0
        with rasterio.open(probabilities) as written:
            maps[dtype] = written.read().astype(float) * written.scales[0]
    assert np.array_equal(maps["auto"], maps["float32"])
    assert 0 < np.abs(maps["bfloat16"] - maps["float32"]).max() < 0.1


def test_the_checkpoint_of_the_package_is_the_default_and_knows_the_synthetic_world(tmp_path):
    world = SyntheticDataset(
        4, sensors=("landsat-5-tm",), tasks=("semantic_segmentation",), sizes=(80, 80), num_dates=(1, 1), seed=5
    )
    right = []
    for index, sample in enumerate(world):
        rasters = write_series(sample.series, tmp_path / f"series_{index}")
        out = tmp_path / f"maps_{index}.tif"
        assert main(["predict", *SEGMENTATION, "-o", str(out), *map(str, rasters), "--classes", *sample.classes]) == 0
        with rasterio.open(out) as written:
            right.append((written.read() == sample.labels)[sample.labels != 255].mean())
    # The most common class alone covers less than half.
    assert np.mean(right) > 0.7
    assert (default_checkpoint() / "model.safetensors").stat().st_size < 15e6


def test_predict_says_how_it_normalises(checkpoint, rasters, tmp_path, capsys):
    out = tmp_path / "maps.tif"
    assert predict(checkpoint, out, *SEGMENTATION, *rasters) == 0
    shown = capsys.readouterr()
    with rasterio.open(out) as written:
        said = written.tags()["STSUN_NORMALISATION"]
    assert f"stsun: normalisation: {said}\n" in shown.err
    assert said not in shown.out


@pytest.fixture
def opened(monkeypatch):
    """What the command asks of `open_series`, which opens nothing."""
    asked = []

    def refuse(paths, **options):
        asked.append((paths, options))
        raise RasterError("nothing is opened here")

    monkeypatch.setattr(series, "open_series", refuse)
    return asked


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--scale", "0.0001"), {"scale": 0.0001, "offset": None, "nodata": None}),
        (("--scale", "0.0001", "--offset", "-0.1"), {"scale": 0.0001, "offset": -0.1}),
        (("--offset", "-0.2", "149"), {"offset": [-0.2, 149.0]}),
        (("--offset", "none", "/", "-0.1", "/", "0", "1"), {"offset": [None, [-0.1], [0.0, 1.0]]}),
        (("--nodata", "0"), {"nodata": 0.0}),
        (("--nodata", "-9999", "none"), {"nodata": [-9999.0, None]}),
        (("--nodata", "None"), {"nodata": None}),
        (("--dates", "2021-01-03", "unknown", "None"), {"dates": ["2021-01-03", None, None]}),
        (("--product", "landsat-c2-l2"), {"product": "landsat-c2-l2"}),
        (("--bands", "nir:833:106", "VV"), {"bands": ["nir:833:106", "VV"]}),
        (("--bands", "VV", "/", "red:660", "nir:833"), {"bands": [["VV"], ["red:660", "nir:833"]]}),
        (("--grid", "finest"), {"grid": "finest"}),
        (("--parts", "B04", "B08"), {"parts": ["B04", "B08"]}),
        (("--sensor", "sentinel-1,sentinel-2"), {"sensor": ["sentinel-1", "sentinel-2"]}),
    ],
)
def test_what_is_stated_of_rasters_reaches_the_reader(opened, arguments, expected):
    assert main(["inspect", *arguments, "--", "a.tif", "b.tif"]) == 2
    ((paths, options),) = opened
    assert paths == ["a.tif", "b.tif"]
    assert {name: options[name] for name in expected} == expected


def test_numbers_that_are_none_are_refused(capsys):
    with pytest.raises(SystemExit) as error:
        main(["inspect", "a.tif", "--offset", "much"])
    assert error.value.code == 2
    assert "--offset: 'much' is not a number, none, or the / that parts dates" in capsys.readouterr().err


def test_what_the_checkpoint_knows_of_files_is_used_and_said(checkpoint, rasters, tmp_path, monkeypatch, capsys):
    """A checkpoint's readings reach the reader, and each one that was used is named."""
    folder = tmp_path / "tuned"
    shutil.copytree(checkpoint, folder)
    processor = STSUNImageProcessor.from_pretrained(folder)
    processor.readings = {"own": [{"bands": [band.to_dict() for band in BANDS], "dtype": "float32"}]}
    processor.save_pretrained(folder)
    open_series, asked = series.open_series, []

    def spy(paths, *, readings, **options):
        asked.append(readings)
        return open_series(paths, **options)

    used = [
        Fact(rasters[0], 1, "center_nm", 492.0, "checkpoint, data set own"),
        Fact(rasters[0], 2, "center_nm", 833.0, "checkpoint, data set own"),
        Fact(rasters[0], 1, "scale", 1.0, "checkpoint, data set own"),
        Fact(rasters[0], None, "gsd_m", 10.0, "transform"),
    ]
    monkeypatch.setattr(series, "open_series", spy)
    monkeypatch.setattr(series.RasterSeries, "facts", used)
    assert predict(folder, tmp_path / "maps.tif", *SEGMENTATION, *rasters) == 0
    assert asked == [processor.readings]
    # Of several data sets the one whose statistics are named counts.
    processor.readings = {"own": processor.readings["own"], "other": processor.readings["own"]}
    statistics = [{"name": band.name, "center_nm": band.center_nm, "mean": 0.3, "std": 0.2} for band in BANDS]
    processor.band_statistics = {"own": {entry.pop("name"): entry for entry in statistics}}
    processor.save_pretrained(folder)
    assert predict(folder, tmp_path / "maps.tif", *SEGMENTATION, "--statistics", "own", *rasters) == 0
    assert asked[1:] == [{"own": processor.readings["own"]}]
    shown = capsys.readouterr().err
    assert "center_nm, scale: not stated by the files, taken from the checkpoint, data set own" in shown
    assert "transform" not in shown


def test_inspect_shows_facts_and_where_they_came_from(rasters, capsys):
    assert main(["inspect", *rasters]) == 0
    shown = capsys.readouterr().out
    for fact in ("B02", "492", "66", "2021-03-01", "EPSG:32633", "tag"):
        assert fact in shown


def test_sensors_are_listed_and_shown(capsys):
    assert main(["sensors"]) == 0
    assert "sentinel-2" in capsys.readouterr().out
    assert main(["sensors", "S2A"]) == 0
    assert "664.6" in capsys.readouterr().out  # B04 of Sentinel-2A, as ESA publishes it


def test_help_does_not_wait_for_torch():
    code = "import sys; sys.modules['torch'] = None; from stsun_processing.cli import main; main(['--help'])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "predict" in result.stdout


SEGMENTATION = ("--task", "semantic_segmentation")


def refused(capsys, status, *fragments):
    message = capsys.readouterr().err
    assert status == 2
    assert "stsun: error: " in message
    for fragment in fragments:
        assert fragment in message, message


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (("--task", "classify"), ("'classify'", "semantic_segmentation", "binary_change_detection")),
        ((*SEGMENTATION, "--classes", "lake"), ("'lake'", "water, forest", "add_categories")),
        ((*SEGMENTATION, "--sensor", "sentinel-9", "--bands", "B02", "B08"), ("sentinel-9", "sentinel-2a")),
        ((*SEGMENTATION, "--sensor", "sentinel-2", "--bands", "B02", "B77"), ("B77", "B8A")),
        ((*SEGMENTATION, "--sensor", "sentinel-2", "--bands", "B02"), ("1", "2", "band")),
        ((*SEGMENTATION, "--dates", "2022-01-01", "2021-01-01"), ("out of order", "oldest first")),
        ((*SEGMENTATION, "--dates", "2021-01-01", "soon"), ("'soon'", "ISO 8601")),
        ((*SEGMENTATION, "--statistics", "nowhere"), ("'nowhere'",)),
        ((*SEGMENTATION, "--scale", "10000"), ("another unit", "B0")),
    ],
)
def test_bad_requests_are_refused_before_work(checkpoint, rasters, tmp_path, capsys, arguments, fragments):
    out = tmp_path / "maps.tif"
    refused(capsys, predict(checkpoint, out, *arguments, "--", *rasters), *fragments)
    assert not out.exists()


def test_no_class_is_refused(checkpoint, rasters, tmp_path, capsys):
    with pytest.raises(SystemExit) as error:
        predict(checkpoint, tmp_path / "maps.tif", *rasters, *SEGMENTATION, "--classes")
    assert error.value.code == 2
    assert "--classes" in capsys.readouterr().err


def test_wavelengths_in_micrometres_are_refused(rasters, capsys):
    with rasterio.open(rasters[0], "r+") as file:
        file.update_tags(1, wavelength_nm="0.492")
    refused(capsys, main(["inspect", *rasters]), "0.492", "nanometres")


def test_rasters_that_are_no_series_are_refused(checkpoint, rasters, tmp_path, capsys):
    def run(*files):
        return predict(checkpoint, tmp_path / "maps.tif", *SEGMENTATION, *files)

    empty, truncated = tmp_path / "empty.tif", tmp_path / "truncated.tif"
    empty.touch()
    refused(capsys, run(str(empty)), "empty.tif", "0 bytes")
    truncated.write_bytes(Path(rasters[0]).read_bytes()[:-1500])
    refused(capsys, run(str(truncated)), "truncated.tif")
    refused(capsys, run(str(tmp_path / "missing.tif")), "missing.tif")
    shifted = write_rasters(tmp_path / "shifted", left=400_005)
    refused(capsys, run(rasters[0], shifted[1]), "grid", "gdalwarp")
    smaller = write_rasters(tmp_path / "smaller", size=(30, 19))
    refused(capsys, run(rasters[0], smaller[1]), "30", "19")
    nothing = write_rasters(tmp_path / "nothing", value=np.nan)
    refused(capsys, run(*nothing), "nodata")
    assert not (tmp_path / "maps.tif").exists()


def test_a_device_that_is_not_there_is_refused(checkpoint, rasters, tmp_path, capsys):
    status = predict(checkpoint, tmp_path / "maps.tif", *SEGMENTATION, "--device", "quantum", *rasters)
    refused(capsys, status, "'quantum' cannot be used", "--device")


def test_checkpoints_that_are_none_are_refused(checkpoint, rasters, tmp_path, capsys):
    folder = tmp_path / "weightless"
    small_config().save_pretrained(folder)
    refused(
        capsys,
        predict(str(folder), tmp_path / "maps.tif", *SEGMENTATION, *rasters),
        "weightless",
        "model.safetensors",
        "save_pretrained",
    )


def test_output_paths_that_cannot_be_written_are_refused_first(rasters, tmp_path, capsys):
    # The checkpoint does not exist either: the path is looked at before anything is loaded.
    refused(capsys, predict("none", tmp_path / "no" / "maps.tif", *SEGMENTATION, *rasters), str(tmp_path / "no"))
    refused(capsys, predict("none", tmp_path / "maps.jpg", *SEGMENTATION, *rasters), "maps.jpg", ".tif")
    refused(capsys, predict("none", tmp_path, *SEGMENTATION, *rasters), str(tmp_path))


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused(rasters, tmp_path, capsys):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    refused(capsys, predict("none", locked / "maps.tif", *SEGMENTATION, *rasters), "locked")
