"""Files that are there whole or not at all, and folders that one process writes at a time."""

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stsun_processing._files import OWNER_NAME, FolderLock, put_in_place, read_json, sync, write_whole
from stsun_processing.errors import OutputInUseError, STSUNError, WriteError


@pytest.mark.parametrize("data", ["Übung", b"\x00\xff", memoryview(b"abc")])
def test_a_file_is_replaced_as_a_whole(tmp_path, data):
    path = tmp_path / "a.txt"
    path.write_text("before")
    write_whole(path, data)
    assert path.read_bytes() == (data.encode() if isinstance(data, str) else bytes(data))
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("before")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, "after")
    assert path.read_text() == "before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_all_is_on_the_disk_before_a_name_is_given_and_the_name_after(tmp_path, monkeypatch):
    partial, path = tmp_path / ".partial", tmp_path / "whole"
    (partial / "inner").mkdir(parents=True)
    (partial / "inner" / "a").write_text("x")
    events = []
    replace, open_ = os.replace, os.open
    monkeypatch.setattr(os, "open", lambda path, *rest: events.append(os.path.basename(path)) or open_(path, *rest))
    monkeypatch.setattr(os, "replace", lambda *paths: events.append("replace") or replace(*paths))
    put_in_place(partial, path)
    at = events.index("replace")
    assert {"a", "inner", ".partial"} <= set(events[:at])
    assert tmp_path.name in events[at:]
    assert (path / "inner" / "a").read_text() == "x"
    with pytest.raises(FileNotFoundError):
        sync(tmp_path / "absent")


@given(st.binary(max_size=30) | st.sampled_from([b"[" * 200_000, b"[1]", b"null", b'{"a": 1}']))
def test_whatever_a_json_file_holds_it_is_an_object_or_a_value_error(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("json") / "a.json"
    path.write_bytes(content)
    try:
        assert isinstance(read_json(path), dict)
    except ValueError:
        assert content != b'{"a": 1}'


def test_a_lock_is_given_back_with_its_files(tmp_path):
    with FolderLock(tmp_path, "Wait."):
        with pytest.raises(OutputInUseError, match=f"process {os.getpid()} on .* UTC. Name another."):
            FolderLock(tmp_path, "Name another.").acquire()
        assert (tmp_path / OWNER_NAME).exists()
    assert not list(tmp_path.iterdir())
    FolderLock(tmp_path, "Wait.").release()  # not held


def test_a_folder_that_cannot_be_locked_is_named(tmp_path):
    (tmp_path / OWNER_NAME).mkdir()
    lock = FolderLock(tmp_path, "Wait.")
    with pytest.raises(WriteError, match="cannot be written"):
        lock.acquire()
    (tmp_path / OWNER_NAME).rmdir()
    lock.acquire()
    lock.release()


def test_our_errors_are_built_in_ones_too():
    assert issubclass(WriteError, STSUNError)
    assert issubclass(WriteError, OSError)
    assert issubclass(OutputInUseError, OSError)
