"""Scenes predicted into files: what they hold, and what becomes of work that is killed, fails or is shared."""

import errno
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import torch
from PIL import Image

from stsun_processing import (
    Acquisition,
    Band,
    ImageSeries,
    load_checkpoint,
    open_series,
    predict_raster,
    read_series,
)
from stsun_processing.cli import main
from stsun_processing.errors import WriteError
from stsun_processing.rasters.records import RasterError
from stsun_processing.scenes import predictor as predictor_module
from stsun_processing.scenes import scene_files
from stsun_processing.scenes.journal import Journal
from stsun_processing.scenes.predictor import PROBABILITY_SCALE, ScenePredictor
from stsun_processing.scenes.raster_output import class_names, write_series
from tests.processing.scenes.scene_work import BANDS, CLASSES, TASK, TILES, blocks, read, run, slowed, whole, work

pytestmark = pytest.mark.usefixtures("small_blocks")


# What the files hold


def test_all_outputs_of_a_scene_agree(checkpoint, rasters, tmp_path):
    names = ("maps", "probabilities", "margin", "change", "from_to")
    files = {name: tmp_path / f"{name}.tif" for name in names}
    out, files["quick_look"] = files.pop("maps"), tmp_path / "look.png"
    timings = run(checkpoint, rasters, out, **files)
    assert not work(out).exists()
    assert sum(timings[part] for part in ("wait", "model", "blend", "write")) <= timings["total"]
    assert min(timings.values()) > 0

    model, processor = load_checkpoint(checkpoint)
    with open_series(rasters) as source:
        predictor = ScenePredictor(model, processor, source, TASK, CLASSES, **TILES)
        logits = torch.zeros(2, 3, 90, 100)
        for strip in predictor.logits():
            rows = slice(strip.row, strip.row + strip.logits.shape[-2])
            logits[..., rows, strip.column : strip.column + strip.logits.shape[-1]] = strip.logits
        first, second = (array[0] for array in source.read().pixels)
    gone = np.isnan(first) & np.isnan(second)
    either = np.isnan(first) | np.isnan(second)
    assert 0 < gone.sum() < either.sum()

    maps = read(out)
    expected = logits.argmax(1).numpy()
    assert np.array_equal(maps, np.where(gone, 255, expected))
    assert len(np.unique(maps)) > 2
    shares = logits.softmax(1).numpy()
    stored = read(files["probabilities"]).reshape(2, 3, 90, 100)
    assert np.abs(stored * PROBABILITY_SCALE - shares)[..., ~gone].max() <= PROBABILITY_SCALE / 2 + 1e-6
    assert (stored[..., gone] == 255).all()
    ordered = np.sort(shares, axis=1)
    margin = read(files["margin"])
    assert np.abs(margin * PROBABILITY_SCALE - (ordered[:, 2] - ordered[:, 1]))[..., ~gone].max() <= 0.0021
    changed = expected[0] != expected[1]
    assert 0 < changed.sum() < changed.size
    assert np.array_equal(read(files["change"])[0], np.where(either, 255, changed))
    assert np.array_equal(read(files["from_to"])[0], np.where(either, 255, 3 * expected[0] + expected[1]))

    with rasterio.open(files["from_to"]) as dataset, rasterio.open(rasters[0]) as source:
        assert class_names(dataset)[3 * 1 + 2] == "forest -> urban"
        assert len({dataset.colormap(1)[value] for value in range(9)}) == 9
        assert (dataset.crs, dataset.transform, dataset.shape) == (source.crs, source.transform, source.shape)
    with rasterio.open(files["probabilities"]) as dataset:
        assert dataset.scales == (PROBABILITY_SCALE,) * 6
        assert dataset.descriptions[1] == "semantic_change_detection 2021-01-03: forest"
    assert Image.open(files["quick_look"]).format == "PNG"


def test_all_rasters_say_how_the_input_was_normalised(checkpoint, rasters, tmp_path):
    names = ("probabilities", "margin", "change", "from_to")
    files = {name: tmp_path / f"{name}.tif" for name in names}
    run(checkpoint, rasters, tmp_path / "maps.tif", **files)
    _, processor = load_checkpoint(checkpoint)
    with open_series(rasters) as source:
        expected = processor.describe_statistics(source.series, None)
    assert expected
    for path in (tmp_path / "maps.tif", *files.values()):
        with rasterio.open(path) as dataset:
            assert dataset.tags()["STSUN_NORMALISATION"] == expected


def test_paths_and_series_in_memory_give_the_same_files_as_open_rasters(checkpoint, rasters, tmp_path):
    model, processor = load_checkpoint(checkpoint)
    run(checkpoint, rasters, tmp_path / "open.tif")
    for name, source in {"paths": rasters, "memory": read_series(rasters)}.items():
        predict_raster(model, processor, source, tmp_path / f"{name}.tif", TASK, CLASSES, **TILES)
        assert np.array_equal(read(tmp_path / f"{name}.tif"), read(tmp_path / "open.tif"))


def test_from_to_of_many_classes_is_wide(tmp_path, checkpoint, rasters):
    model, processor = load_checkpoint(checkpoint)
    names = [f"class {index}" for index in range(16)]
    model.add_categories(names)
    processor.add_categories(names)
    with open_series(rasters) as source:
        predict_raster(
            *(model, processor, source, tmp_path / "maps.tif", TASK, names), from_to=tmp_path / "pairs.tif", **TILES
        )
    maps, pairs = read(tmp_path / "maps.tif"), read(tmp_path / "pairs.tif")
    known = pairs[0] != 65535
    assert pairs.dtype == np.uint16
    assert np.array_equal(pairs[0][known], 16 * maps[0][known].astype(int) + maps[1][known])
    assert known.mean() > 0.9


def test_large_maps_are_cloud_optimized_with_overviews_of_whole_classes(checkpoint, tmp_path):
    rng = np.random.default_rng(0)
    pixels = np.kron(rng.uniform(0, 0.6, (2, 10, 12)), np.ones((60, 60)))
    series = ImageSeries((Acquisition(BANDS, "2021-01-03", 10),), crs="EPSG:32633", pixels=(pixels,))
    paths = write_series(series, tmp_path / "series")
    model, processor = load_checkpoint(checkpoint)
    out = tmp_path / "maps.tif"
    with open_series(paths) as source:
        predict_raster(
            *(model, processor, source, out, "semantic_segmentation", CLASSES),
            tile_size=240,
            overlap=32,
            cell_size=10,
            quick_look=tmp_path / "look.png",
            progress=False,
        )
    with rasterio.open(out) as dataset:
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.overviews(1)
        values = set(np.unique(dataset.read(1)))
        assert set(np.unique(dataset.read(1, out_shape=(dataset.height // 4, dataset.width // 4)))) <= values


# Work that ends early


def test_work_that_is_interrupted_goes_on_where_it_was(checkpoint, rasters, tmp_path, monkeypatch):
    reference, out = tmp_path / "reference.tif", tmp_path / "maps.tif"
    run(checkpoint, rasters, reference)
    sync, calls = os.fsync, []

    def full(file):
        calls.append(file)
        if len(calls) > 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(file)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match=r"No space left.*4 of \d+ blocks, is kept in .*maps\.tif\.work") as error:
        run(checkpoint, rasters, out)
    assert "block_000004" in str(error.value)
    assert not list(work(out).glob("*.partial"))
    assert len(blocks(out)) == 4
    assert not out.exists()
    monkeypatch.setattr(os, "fsync", sync)
    before = {name: (work(out) / name).stat().st_mtime_ns for name in blocks(out)}

    # Another request is refused, and says what differs.
    for change, named in [({"batch_size": 2}, "batch size was 1, now 2"), ({"tile_size": 32}, "tile size")]:
        with pytest.raises(RasterError, match=rf"another request.*{named}.*--restart"):
            run(checkpoint, rasters, out, **change)
    with pytest.raises(RasterError, match="probabilities was false, now true"):
        run(checkpoint, rasters, out, probabilities=tmp_path / "p.tif")
    assert {name: (work(out) / name).stat().st_mtime_ns for name in blocks(out)} == before

    # The same one computes what is left, and no more.
    predict, asked = ScenePredictor.predict, []
    monkeypatch.setattr(ScenePredictor, "predict", lambda self, left: asked.extend(left) or predict(self, left))
    run(checkpoint, rasters, out)
    assert asked[0].index == 4
    assert whole(out) == whole(reference)
    assert not work(out).exists()


def test_the_work_on_other_pixels_in_memory_is_not_gone_on_with(checkpoint, rasters, tmp_path, monkeypatch):
    model, processor = load_checkpoint(checkpoint)
    series, out = read_series(rasters), tmp_path / "maps.tif"
    with monkeypatch.context() as patch:
        patch.setattr(scene_files, "_write_rasters", lambda *_: (_ for _ in ()).throw(OSError("no")))
        with pytest.raises(WriteError, match="is kept in"):
            predict_raster(model, processor, series, out, TASK, CLASSES, **TILES)
    other = tuple(array / 2 for array in series.pixels)
    with pytest.raises(RasterError, match="input pixels was"):
        predict_raster(model, processor, replace(series, pixels=other), out, TASK, CLASSES, **TILES)
    predict_raster(model, processor, series, out, TASK, CLASSES, **TILES)
    assert not work(out).exists()


def test_restart_discards_unfinished_work(checkpoint, rasters, tmp_path, monkeypatch):
    out = tmp_path / "maps.tif"
    with monkeypatch.context() as patch:
        patch.setattr(scene_files, "_write_rasters", lambda *_: (_ for _ in ()).throw(OSError("no")))
        with pytest.raises(WriteError, match=r"no\. What was finished"):
            run(checkpoint, rasters, out, batch_size=2)
    assert blocks(out)
    run(checkpoint, rasters, out, restart=True)
    assert out.exists()
    assert not work(out).exists()


def test_an_unreadable_tile_is_named_and_the_rest_kept(checkpoint, tmp_path, rasters):
    reference, out, path = tmp_path / "reference.tif", tmp_path / "maps.tif", Path(rasters[1])
    with rasterio.open(path) as dataset:
        profile, pixels, tags = dataset.profile, dataset.read(), [dataset.tags(index) for index in (1, 2)]
        general = dataset.tags()
    with rasterio.open(path, "w", **{**profile, "blockxsize": 16, "blockysize": 16}) as dataset:
        dataset.write(pixels)
        dataset.update_tags(**general)
        for index, own in enumerate(tags, start=1):
            dataset.update_tags(index, **own)
    run(checkpoint, rasters, reference)
    good = path.read_bytes()
    with rasterio.open(path) as dataset:
        # Row 64, column 80: neither at the end, which is looked at when the file is opened, nor in the middle.
        offset, size = (int(dataset.get_tag_item(f"BLOCK_{what}_5_4", "TIFF", bidx=1)) for what in ("OFFSET", "SIZE"))
    path.write_bytes(good[:offset] + bytes(size) + good[offset + size :])
    with pytest.raises(RasterError, match=r"date_1\.tif cannot be read at row \d+, column \d+.*blocks, is kept in"):
        run(checkpoint, rasters, out)
    done = blocks(out)
    assert done
    assert not out.exists()
    path.write_bytes(good)
    os.utime(path, ns=(1, 1))
    with pytest.raises(RasterError, match=r"input files was .*--accept-inputs"):
        run(checkpoint, rasters, out)
    assert blocks(out) == done
    run(checkpoint, rasters, out, accept_inputs=True)
    assert whole(out) == whole(reference)


# In a process of its own: killed, or without room on the disk


def in_process(checkpoint, rasters, out, limit=None):
    torch.set_num_threads(1)
    predictor_module._BLOCK_TILES = (1, 3)
    # Time to be killed in: after each block, and while the finished file has not got its name yet.
    Journal.save = slowed(Journal.save, 0.03)
    rasterio.shutil.copy = slowed(rasterio.shutil.copy, 0.5)
    if limit is not None:
        # A disk that takes small files only.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        run(checkpoint, rasters, out)
    except RasterError as error:
        out.with_suffix(".txt").write_text(str(error))
        sys.exit(2)


def test_kills_at_random_moments_leave_no_partial_file_and_lose_nothing(processes, checkpoint, rasters, tmp_path):
    reference, out = tmp_path / "reference.tif", tmp_path / "maps.tif"
    first = processes.Process(target=in_process, args=(checkpoint, rasters, reference))
    first.start()
    first.join()
    assert first.exitcode == 0
    draw, kept = random.Random(0), 0
    for kill in range(4):
        worker = processes.Process(target=in_process, args=(checkpoint, rasters, out))
        worker.start()
        # Three kills while blocks are made, one while the files are written.
        wanted = kept + draw.randint(1, 3)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and worker.is_alive():
            if kill < 3 and len(blocks(out)) >= wanted:
                time.sleep(draw.random() * 0.05)
                break
            if kill == 3 and list(tmp_path.glob(".maps.tif.*.partial")):
                break
        worker.kill()
        worker.join()
        assert worker.exitcode == -signal.SIGKILL
        assert not out.exists()
        assert len(blocks(out)) >= kept
        kept = len(blocks(out))
    last = processes.Process(target=in_process, args=(checkpoint, rasters, out))
    last.start()
    last.join()
    assert last.exitcode == 0
    assert whole(out) == whole(reference)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["series", *(f"{name}.tif{end}" for name in ("maps", "reference") for end in ("", ".aux.xml"))]
    )


def test_a_full_disk_is_told_and_the_blocks_are_kept(processes, checkpoint, rasters, tmp_path):
    reference, out = tmp_path / "reference.tif", tmp_path / "maps.tif"
    run(checkpoint, rasters, reference)
    # Blocks fit, the finished file does not.
    limit = reference.stat().st_size // 2
    worker = processes.Process(target=in_process, args=(checkpoint, rasters, out, limit))
    worker.start()
    worker.join()
    assert worker.exitcode == 2
    message = out.with_suffix(".txt").read_text()
    assert f"{out} cannot be written" in message
    assert "is kept in" in message
    assert not out.exists()
    with open_series(rasters) as source:
        assert len(blocks(out)) == len(
            ScenePredictor(*load_checkpoint(checkpoint), source, TASK, CLASSES, **TILES).blocks
        )
    assert not list(tmp_path.glob(".maps.tif.*"))
    run(checkpoint, rasters, out)
    assert whole(out) == whole(reference)


def test_two_processes_write_what_one_does(checkpoint, rasters, tmp_path):
    out, reference = tmp_path / "maps.tif", tmp_path / "reference.tif"
    code = (
        "import sys, stsun_processing.scenes.predictor as i; i._BLOCK_TILES = (1, 3); "
        "from stsun_processing.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    (tmp_path / "run.py").write_text(code)
    arguments = ["predict", "--checkpoint", str(checkpoint), "--task", TASK, "--classes", *CLASSES]
    arguments += ["--tile-size", "24", "--overlap", "8", "-o"]
    root = Path(__file__).parents[3]
    launched = subprocess.run(
        [
            *(sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch"),
            *("--multi_gpu", "--num_processes", "2", "--main_process_port", "0"),
            *(tmp_path / "run.py", *arguments, out, *rasters),
        ],
        cwd=root,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert launched.returncode == 0, launched.stderr
    assert launched.stdout.count("Wrote") == 1
    run(checkpoint, rasters, reference)
    assert whole(out) == whole(reference)


# The command line


def test_radar_before_and_optical_after_end_in_a_change_map(checkpoint, tmp_path, capsys):
    """One band before, three after, each date with a hole of its own: from files to files."""
    rng = np.random.default_rng(0)
    radar = (Band("VV", kind="sar", polarisation="VV"),)
    optical = (Band("B03", 560, 36), Band("B04", 665, 31), Band("B08", 833, 106))
    pixels = [rng.normal(-12, 5, (1, 60, 70)), rng.uniform(0, 0.6, (3, 60, 70))]
    pixels[0][:, :10, :20], pixels[1][:, 50:, 60:] = np.nan, np.nan
    series = ImageSeries(
        (Acquisition(radar, "2021-01-03", 10), Acquisition(optical, "2021-03-01", 10)),
        crs="EPSG:32633",
        transform=(10, 0, 400_000, 0, -10, 5_000_000),
        pixels=tuple(pixels),
    )
    files = [str(path) for path in write_series(series, tmp_path / "series")]
    common = ["predict", "--checkpoint", str(checkpoint), "--tile-size", "24", "--overlap", "8"]
    gone = np.isnan(pixels[0][0]) | np.isnan(pixels[1][0])

    binary = tmp_path / "binary.tif"
    assert main([*common, "--task", "binary_change_detection", "-o", str(binary), *files]) == 0
    found = read(binary)
    assert np.array_equal(found[0] == 255, gone)
    with rasterio.open(binary) as dataset:
        assert class_names(dataset) == ["unchanged", "changed"]
        assert "2021-01-03 / 2021-03-01" in dataset.descriptions[0]

    maps, change = tmp_path / "maps.tif", tmp_path / "change.tif"
    request = ["--task", TASK, "--classes", *CLASSES, "--change", str(change), "-o", str(maps)]
    assert main([*common, *request, "--", *files]) == 0
    written = capsys.readouterr().out
    assert str(maps) in written
    assert str(change) in written
    before, after = read(maps)
    assert np.array_equal(read(change)[0], np.where(gone, 255, before != after))


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (["--task", "binary_change_detection", "--change", "c.tif"], ["binary_change_detection", "semantic_change"]),
        (["--task", TASK, "--maps", "0", "--from-to", "c.tif"], ["two maps", "only one"]),
        (["--task", TASK, "--margin", "maps.tif"], ["maps.tif", "two outputs"]),
        (["--task", TASK, "--margin", "margin.png"], ["margin.png", ".tif"]),
        (["--task", TASK, "--quick-look", "look.tif"], ["look.tif", ".png"]),
        (["--task", TASK, "--polygons", "areas.shp"], ["areas.shp", ".gpkg or .geojson"]),
    ],
)
def test_outputs_that_cannot_be_are_refused_before_work(
    checkpoint, rasters, tmp_path, monkeypatch, capsys, arguments, fragments
):
    monkeypatch.chdir(tmp_path)
    status = main(["predict", "--checkpoint", str(checkpoint), "-o", "maps.tif", *arguments, "--", *rasters])
    message = capsys.readouterr().err
    assert status == 2
    assert all(fragment in message for fragment in fragments), message
    assert sorted(os.listdir(tmp_path)) == ["series"]


def test_geojson_of_a_scene_without_crs_is_refused_before_work(checkpoint, tmp_path, capsys):
    series = ImageSeries((Acquisition(BANDS, "2021-01-03", 10),), pixels=(np.full((2, 9, 9), 0.2),))
    files = [str(path) for path in write_series(series, tmp_path / "series")]
    arguments = ["--task", "semantic_segmentation", "-o", str(tmp_path / "maps.tif")]
    arguments += ["--polygons", str(tmp_path / "areas.geojson")]
    assert main(["predict", "--checkpoint", str(checkpoint), *arguments, "--", *files]) == 2
    assert "no CRS" in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path)) == ["series"]


def test_an_output_never_replaces_an_input(checkpoint, rasters, capsys):
    before = Path(rasters[0]).read_bytes()
    arguments = ["predict", "--checkpoint", str(checkpoint), "--task", TASK, "-o", "maps.tif", "--change", rasters[0]]
    assert main([*arguments, "--", *rasters]) == 2
    assert "one of the inputs" in capsys.readouterr().err
    assert Path(rasters[0]).read_bytes() == before


@pytest.mark.parametrize("through", ["folder", "virtual raster", "grid"])
def test_an_output_never_replaces_what_is_read_by_another_name(checkpoint, rasters, tmp_path, capsys, through):
    victim = Path(rasters[0])
    before = victim.read_bytes()
    inputs, options = [str(victim.parent)], []
    if through == "virtual raster":
        inputs = [str(tmp_path / "scene.vrt")]
        rasterio.shutil.copy(str(victim), inputs[0], driver="VRT")
    elif through == "grid":
        inputs, options = [rasters[1]], ["--grid", str(victim)]
    elif through == "folder":
        Path(rasters[1]).unlink()
    arguments = ["predict", "--checkpoint", str(checkpoint), "--task", TASK, "-o", str(victim), *options]
    assert main([*arguments, "--", *inputs]) == 2
    assert "one of the inputs" in capsys.readouterr().err
    assert victim.read_bytes() == before


def test_an_interrupt_says_how_to_go_on(monkeypatch, capsys):
    monkeypatch.setattr("stsun_processing.cli._predict", lambda arguments: (_ for _ in ()).throw(KeyboardInterrupt))
    assert main(["predict", "--checkpoint", "x", "--task", TASK, "-o", "maps.tif", "a.tif"]) == 130
    assert "the same command goes on" in capsys.readouterr().err


def test_the_request_of_unfinished_work_can_be_read(checkpoint, rasters, tmp_path, monkeypatch):
    out = tmp_path / "maps.tif"
    monkeypatch.setattr(scene_files, "_write_rasters", lambda *_: (_ for _ in ()).throw(OSError("no")))
    with pytest.raises(WriteError):
        run(checkpoint, rasters, out)
    request = json.loads((work(out) / "request.json").read_text())
    assert request["task"] == TASK
    assert request["classes"] == CLASSES
    assert set(rasters) <= set(request["input files"])
