"""Finished blocks: what is damaged or of another request is never taken for one, and nothing of others is lost."""

import errno
import fcntl
import io
import json
import multiprocessing
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stsun_processing._files import LOCK_NAME, OWNER_NAME
from stsun_processing.errors import OutputInUseError, WriteError
from stsun_processing.rasters.records import RasterError
from stsun_processing.scenes.journal import Journal

REQUEST = {"weights": "abc", "input files": {"a.tif": [1, 2]}, "batch size": 1}


def arrays(seed):
    rng = np.random.default_rng(seed)
    return {"maps": rng.integers(0, 5, (2, 30, 40), dtype=np.uint8), "described": rng.random((2, 30, 40)) > 0.5}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert np.array_equal(found[name], array)
        assert found[name].dtype == array.dtype


@pytest.fixture
def folder(tmp_path):
    """A journal of three finished blocks, which nobody writes at the moment."""
    path = tmp_path / "maps.tif.work"
    with Journal(path, REQUEST) as journal:
        journal.open()
        for index in range(3):
            journal.save(index, arrays(index))
    return path


def block(folder, index):
    return folder / f"block_{index:06d}.npz"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """Bytes of a finished block."""
    path = tmp_path_factory.mktemp("original") / "maps.tif.work"
    with Journal(path, REQUEST) as journal:
        journal.open()
        journal.save(0, arrays(0))
    return block(path, 0).read_bytes()


@pytest.fixture(scope="module")
def damaged_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged") / "maps.tif.work"


def test_blocks_are_read_back_as_they_were_kept(folder):
    with Journal(folder, REQUEST) as journal:
        journal.open()
        for index in range(3):
            assert index in journal
            assert_same(journal.load(index), arrays(index))
        assert 3 not in journal
        journal.remove()
    assert not folder.exists()


def flipped(data, at, mask):
    return data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]


@st.composite
def damage(draw):
    """A function from the bytes of a file to others."""
    kind = draw(st.sampled_from(["cut", "flip", "insert", "replace", "extend"]))
    place = draw(st.floats(0, 1, exclude_max=True))
    added = draw(st.binary(min_size=1, max_size=60))
    if kind == "cut":
        return lambda data: data[: int(place * len(data))]
    if kind == "flip":
        mask = draw(st.integers(1, 255))
        return lambda data: flipped(data, int(place * len(data)), mask)
    if kind == "insert":
        return lambda data: data[: int(place * len(data))] + added + data[int(place * len(data)) :]
    if kind == "replace":
        return lambda data: added
    return lambda data: data + added


@given(damage=damage())
def test_a_block_that_differs_in_any_byte_counts_as_not_finished(original, damaged_folder, damage):
    with Journal(damaged_folder, REQUEST) as journal:
        journal.open()
        changed = damage(original)
        block(damaged_folder, 0).write_bytes(changed)
        if 0 in journal:
            # A header may say the same with other white space.
            assert_same(journal.load(0), arrays(0))
        else:
            with pytest.raises(RasterError, match="Run the same again"):
                journal.load(0)
        journal.save(0, arrays(0))
        assert_same(journal.load(0), arrays(0))


def test_blocks_of_another_place_or_request_are_not_taken(folder, tmp_path):
    one, two = block(folder, 0).read_bytes(), block(folder, 1).read_bytes()
    block(folder, 0).write_bytes(two)
    block(folder, 1).write_bytes(one)
    with Journal(tmp_path / "other.work", REQUEST | {"weights": "def"}) as other:
        other.open()
        other.save(2, arrays(7))
    block(folder, 2).write_bytes(block(other.folder, 2).read_bytes())
    with Journal(folder, REQUEST) as journal:
        journal.open()
        assert not any(index in journal for index in range(3))
        with pytest.raises(RasterError, match="it is block 1"):
            Journal(folder, REQUEST).load(0)
        with pytest.raises(RasterError, match="belongs to another request"):
            journal.load(2)


def plain_archive(**content):
    file = io.BytesIO()
    np.savez_compressed(file, **content)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"[1]\n",
        b"[" * 5000,
        b"{" + b'"a":' * 900 + b"\n",
        plain_archive(maps=np.zeros((2, 30, 40), np.uint8)),
        plain_archive(maps=np.zeros(()), described=np.zeros(())),
        b"\x93NUMPY\x01\x00",
    ],
)
def test_what_is_no_block_at_all_counts_as_not_finished(folder, content):
    block(folder, 1).write_bytes(content)
    with Journal(folder, REQUEST) as journal:
        journal.open()
        assert 1 not in journal
        assert 0 in journal
        assert 2 in journal


# Requests

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=8,
)


@given(content=JSON.map(json.dumps).map(str.encode) | st.binary(max_size=40))
def test_any_other_request_is_refused_and_nothing_removed(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("requests") / "maps.tif.work"
    with Journal(folder, REQUEST) as journal:
        journal.open()
        journal.save(0, arrays(0))
    (folder / "request.json").write_bytes(content)
    with Journal(folder, REQUEST) as journal, pytest.raises(RasterError, match=r"restart=True, --restart"):
        journal.open()
    assert block(folder, 0).exists()


def test_a_request_nested_too_deeply_is_refused(folder):
    (folder / "request.json").write_text("[" * 200_000)
    with Journal(folder, REQUEST) as journal, pytest.raises(RasterError, match="nested too deeply"):
        journal.open()
    with Journal(folder, REQUEST) as journal:
        journal.open(restart=True)
        assert 0 not in journal


def test_accepted_changes_keep_the_blocks_of_before(folder):
    changed = REQUEST | {"input files": {"a.tif": [1, 3]}}
    with Journal(folder, changed) as journal:
        with pytest.raises(RasterError, match=r"input files was .*accept_inputs=True, --accept-inputs"):
            journal.open()
        journal.open(accepted=["input files"])
        assert_same(journal.load(0), arrays(0))
        journal.save(3, arrays(3))
    # Also when that was interrupted too.
    with Journal(folder, changed) as journal:
        journal.open()
        for index in range(4):
            assert_same(journal.load(index), arrays(index))
    with Journal(folder, REQUEST | {"weights": "def"}) as journal, pytest.raises(RasterError, match="weights was"):
        journal.open(accepted=["input files"])


# Files of others


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("name", ["thesis.txt", "chapters/one.txt", "block_1.npz", "block_000001.npz/data"])
def test_a_folder_with_files_of_others_is_refused_and_left_as_it_is(tmp_path, name, restart):
    folder = tmp_path / "maps.tif.work"
    (folder / name).parent.mkdir(parents=True)
    (folder / name).write_text("years of work")
    with Journal(folder, REQUEST) as journal, pytest.raises(RasterError, match="Move it elsewhere"):
        journal.open(restart)
    assert (folder / name).read_text() == "years of work"
    assert [path.name for path in folder.iterdir()] == [name.split("/")[0]]


@pytest.mark.parametrize("restart", [False, True])
def test_links_are_not_followed(folder, tmp_path, restart):
    target = tmp_path / "scratch"
    target.mkdir()
    (target / "kept.txt").write_text("x")
    link = tmp_path / "linked.work"
    link.symlink_to(target)
    with Journal(link, REQUEST) as journal, pytest.raises(RasterError, match="no folder of its own"):
        journal.open(restart)
    assert [path.name for path in target.iterdir()] == ["kept.txt"]
    block(folder, 0).unlink()
    block(folder, 0).symlink_to(target / "kept.txt")
    with Journal(folder, REQUEST) as journal, pytest.raises(RasterError, match=r"block_000000\.npz, which is not"):
        journal.open(restart)
    (tmp_path / "file.work").write_text("x")
    with Journal(tmp_path / "file.work", REQUEST) as journal, pytest.raises(RasterError, match="no folder of its own"):
        journal.open(restart)


def test_a_link_that_appears_where_a_block_is_written_is_replaced_and_its_target_kept(folder, tmp_path):
    victim = tmp_path / "victim"
    with Journal(folder, REQUEST) as journal:
        journal.open()
        for path in (folder / ".block_000000.npz.partial", block(folder, 0)):
            path.unlink(missing_ok=True)
            victim.write_text("mine")
            path.symlink_to(victim)
            journal.save(0, arrays(5))
            assert victim.read_text() == "mine"
            assert_same(journal.load(0), arrays(5))


def test_a_file_that_others_put_there_meanwhile_stays(folder):
    with Journal(folder, REQUEST) as journal:
        journal.open()
        (folder / "notes.txt").write_text("x")
        journal.remove()
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


# Two commands


def hold(folder, ready, done):
    with Journal(folder, REQUEST) as journal:
        journal.open()
        ready.set()
        done.wait()


@pytest.fixture
def holder(folder):
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=hold, args=(folder, ready, done))
    process.start()
    assert ready.wait(120)
    yield process
    done.set()
    process.join()


def test_a_second_command_is_told_who_writes_and_loses_nothing(folder, holder):
    for restart in (False, True):
        with Journal(folder, REQUEST) as journal, pytest.raises(OutputInUseError, match="Wait until") as error:
            journal.open(restart)
        assert f"process {holder.pid} on {os.uname().nodename}" in str(error.value)
        assert block(folder, 0).exists()
    # Who writes it may not be known, if the second came too early.
    owner = (folder / OWNER_NAME).read_text()
    (folder / OWNER_NAME).unlink()
    with Journal(folder, REQUEST) as journal, pytest.raises(OutputInUseError, match="by another process"):
        journal.open()
    (folder / OWNER_NAME).write_text(owner)
    # The lock ends with its process, however that ends.
    holder.kill()
    holder.join()
    with Journal(folder, REQUEST) as journal:
        journal.open()
        assert_same(journal.load(0), arrays(0))
    assert sorted(path.name for path in folder.iterdir()) == [*(f"block_{n:06d}.npz" for n in range(3)), "request.json"]


def test_two_journals_of_one_process_exclude_each_other_too(folder):
    with Journal(folder, REQUEST) as first, Journal(folder, REQUEST) as second:
        first.open()
        with pytest.raises(OutputInUseError, match=str(os.getpid())):
            second.open()
        first.close()
        second.open()


def test_a_file_system_without_locks_is_told(folder, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with Journal(folder, REQUEST) as journal:
        with pytest.warns(UserWarning, match=r"keeps no locks \(No locks available\)"):
            journal.open()
        assert_same(journal.load(0), arrays(0))
        journal.remove()
    assert not folder.exists()


# Disks that fail


def test_what_cannot_be_written_is_named(tmp_path, folder, monkeypatch):
    (tmp_path / "file").write_text("x")
    with pytest.raises(WriteError, match="cannot be made"):
        Journal(tmp_path / "file" / "maps.tif.work", REQUEST).open()

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Journal(folder, REQUEST) as journal:
        journal.open()
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(WriteError, match=r"block_000009.*No space left"):
                journal.save(9, arrays(9))
        assert not list(folder.glob("*.partial"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with Journal(folder, REQUEST | {"weights": 1}) as journal, pytest.raises(WriteError, match="No space left"):
            journal.open(restart=True)
    assert not (folder / LOCK_NAME).exists()


def test_left_over_partial_files_are_removed(folder):
    for name in ("block_000001.npz.partial", ".block_000007.npz.partial", ".request.json.partial"):
        (folder / name).write_text("half")
    with Journal(folder, REQUEST) as journal:
        journal.open()
        journal.remove()
    assert not folder.exists()
