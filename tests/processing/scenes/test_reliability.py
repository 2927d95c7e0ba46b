"""Unfinished work that is damaged, disturbed or shared: the maps are right, or there are none."""

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio

from stsun_processing import load_checkpoint, open_series, predict_raster
from stsun_processing.errors import InputsChangedError, OutputInUseError, STSUNError, WriteError
from stsun_processing.rasters.records import RasterError
from stsun_processing.scenes import predictor as predictor_module
from stsun_processing.scenes import scene_files
from stsun_processing.scenes.journal import Journal
from tests.processing.scenes.scene_work import TASK, TILES, blocks, run, slowed, whole, work

pytestmark = pytest.mark.usefixtures("small_blocks")


def brightened(path):
    """Writes other pixels into a raster, in place."""
    with rasterio.open(path, "r+") as dataset:
        dataset.write(dataset.read() * np.float32(0.3))


def uncompress(path):
    """Other pixels then take as many bytes."""
    draft = f"{path}.draft"
    with rasterio.open(path) as source:
        tags, bands = source.tags(), [source.tags(index) for index in source.indexes]
        profile = source.profile | {"compress": None}
        with rasterio.open(draft, "w", **profile) as target:
            target.write(source.read())
            target.update_tags(**tags)
            for index, own in enumerate(bands, start=1):
                target.update_tags(index, **own)
                target.set_band_description(index, source.descriptions[index - 1])
    os.replace(draft, path)


@pytest.fixture
def unfinished(checkpoint, rasters, tmp_path, monkeypatch):
    """The work of a command that stopped before it wrote its maps, and what the maps should be."""
    for path in rasters:
        uncompress(path)
    reference, out = tmp_path / "reference" / "maps.tif", tmp_path / "maps.tif"
    reference.parent.mkdir()
    run(checkpoint, rasters, reference)
    with monkeypatch.context() as patch:
        patch.setattr(scene_files, "_write_rasters", lambda *_: (_ for _ in ()).throw(OSError("stopped")))
        with pytest.raises(WriteError, match="stopped"):
            run(checkpoint, rasters, out)
    return out, whole(reference)


# Inputs


def test_an_input_that_is_overwritten_meanwhile_is_noticed_before_maps_are_written(
    checkpoint,
    rasters,
    tmp_path,
    monkeypatch,
):
    out, save, saved = tmp_path / "maps.tif", Journal.save, []

    def save_and_overwrite(self, index, arrays):
        save(self, index, arrays)
        saved.append(index)
        if len(saved) == 2:
            brightened(rasters[1])

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "save", save_and_overwrite)
        with pytest.raises(InputsChangedError, match=r"date_1\.tif changed .*restart=True, --restart"):
            run(checkpoint, rasters, out)
    assert not out.exists()
    with pytest.raises(RasterError, match="input files was"):
        run(checkpoint, rasters, out)
    run(checkpoint, rasters, out, restart=True)
    run(checkpoint, rasters, tmp_path / "reference.tif")
    assert whole(out) == whole(tmp_path / "reference.tif")


def test_other_pixels_of_the_same_size_and_time_are_noticed(unfinished, checkpoint, rasters):
    out, _ = unfinished
    path = Path(rasters[0])
    status = path.stat()
    brightened(path)
    assert path.stat().st_size == status.st_size
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(RasterError, match="input files was"):
        run(checkpoint, rasters, out)
    assert not out.exists()


# Tampering: each is told (work, names of its blocks) and does its damage.


def rewrite(change):
    def tamper(folder, names):
        path = folder / names[2]
        path.write_bytes(change(path.read_bytes()))

    return tamper


def with_arrays(change):
    """Another archive in a block, as np.savez writes it, under the header that was there."""

    def tamper(folder, names):
        path = folder / names[2]
        header, _, archive = path.read_bytes().partition(b"\n")
        draft = folder.parent / "draft.npz"
        draft.write_bytes(archive)
        with np.load(draft) as arrays:
            changed = change(dict(arrays))
        np.savez_compressed(draft, **changed)
        path.write_bytes(header + b"\n" + draft.read_bytes())
        draft.unlink()

    return tamper


def swap(folder, names):
    one, two = folder / names[0], folder / names[1]
    data = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(data)


def replace_by(make):
    def tamper(folder, names):
        path = folder / names[2]
        path.unlink()
        make(path)

    return tamper


def request(text):
    return lambda folder, _: (folder / "request.json").write_text(text)


def edited_request(folder, _):
    path = folder / "request.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"classes": ["a"]}))


TAMPERINGS = {
    "truncated": rewrite(lambda data: data[: len(data) // 2]),
    "empty": rewrite(lambda data: b""),
    "a flipped bit in the header": rewrite(lambda data: data[:20] + bytes([data[20] ^ 1]) + data[21:]),
    "a flipped bit in the middle": rewrite(lambda data: data[:-400] + bytes([data[-400] ^ 1]) + data[-399:]),
    "zeros": rewrite(lambda data: bytes(len(data))),
    "doubled": rewrite(lambda data: data + data),
    "no header": rewrite(lambda data: data.partition(b"\n")[2]),
    "other values": with_arrays(lambda arrays: arrays | {"maps": np.zeros_like(arrays["maps"])}),
    "fewer columns": with_arrays(lambda arrays: {name: array[..., :10] for name, array in arrays.items()}),
    "another dtype": with_arrays(lambda arrays: arrays | {"maps": arrays["maps"].astype(float)}),
    "no maps": with_arrays(lambda arrays: {"described": arrays["described"]}),
    "not described": with_arrays(lambda arrays: {"maps": arrays["maps"]}),
    "no axes": with_arrays(lambda arrays: {name: np.zeros((), array.dtype) for name, array in arrays.items()}),
    "objects": with_arrays(lambda arrays: arrays | {"maps": np.array([{}], dtype=object)}),
    "swapped blocks": swap,
    "a copy of another block": lambda folder, names: shutil.copy(folder / names[1], folder / names[2]),
    "a removed block": lambda folder, names: (folder / names[2]).unlink(),
    "a folder for a block": replace_by(lambda path: path.mkdir()),
    "a link to another file": replace_by(lambda path: path.symlink_to("/etc/hostname")),
    "a link to nothing": replace_by(lambda path: path.symlink_to("absent")),
    "a list for a request": request("[1]"),
    "no request": lambda folder, _: (folder / "request.json").unlink(),
    "an empty request": request(""),
    "a deep request": request("[" * 200_000),
    "another request": edited_request,
    "a file of the user's": lambda folder, _: (folder / "thesis.txt").write_text("x"),
    "a link for a partial file": lambda folder, _: (folder / ".block_000001.npz.partial").symlink_to("../victim"),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_work_that_was_tampered_with_ends_in_the_right_maps_or_is_refused(
    unfinished,
    checkpoint,
    rasters,
    name,
):
    out, expected = unfinished
    victim = out.with_name("victim")
    victim.write_text("mine")
    TAMPERINGS[name](work(out), blocks(out))
    before = sorted(path.name for path in work(out).iterdir())
    try:
        run(checkpoint, rasters, out)
    except STSUNError:
        assert not out.exists()
        assert sorted(path.name for path in work(out).iterdir()) == before
    else:
        assert whole(out) == expected
        assert not work(out).exists()
    assert victim.read_text() == "mine"


# Two commands


def command(checkpoint, rasters, out, classes, start, wait):
    """Predicts in a process of its own; notes how it ended."""
    predictor_module._BLOCK_TILES = (1, 3)
    Journal.save = slowed(Journal.save, 0.02)
    model, processor = load_checkpoint(checkpoint)
    start.wait()
    time.sleep(wait)
    note = Path(f"{out}.{classes[0]}.txt")
    try:
        with open_series(rasters) as source:
            predict_raster(model, processor, source, out, TASK, classes, **TILES)
        note.write_text("written")
    except STSUNError as error:
        note.write_text(f"{type(error).__name__}: {error}")


def test_of_two_commands_with_one_output_each_is_right_or_refused(processes, checkpoint, rasters, tmp_path):
    """Other requests, and the same one, started up to 0.4 s apart, twenty times."""
    requests = (["water", "forest", "urban"], ["cropland", "forest", "water"])
    expected = []
    for classes in requests:
        reference = tmp_path / "reference" / f"{classes[0]}.tif"
        reference.parent.mkdir(exist_ok=True)
        start = processes.Event()
        start.set()
        command(checkpoint, rasters, reference, classes, start, 0)
        expected.append(whole(reference))
    ended = []
    for attempt in range(20):
        out = tmp_path / f"maps_{attempt}.tif"
        start = processes.Event()
        workers = [
            processes.Process(target=command, args=(checkpoint, rasters, out, classes, start, wait))
            for classes, wait in zip(requests, (0, attempt * 0.02), strict=True)
        ]
        for worker in workers:
            worker.start()
        start.set()
        for worker in workers:
            worker.join()
            assert worker.exitcode == 0
        notes = [Path(f"{out}.{classes[0]}.txt").read_text() for classes in requests]
        ended.append(notes)
        written = [index for index, note in enumerate(notes) if note == "written"]
        assert written, notes
        assert whole(out) in [expected[index] for index in written]
        for note in notes:
            assert note == "written" or note.startswith((OutputInUseError.__name__, "RasterError")), note
        assert not work(out).exists()
    assert any(OutputInUseError.__name__ in note for notes in ended for note in notes)
