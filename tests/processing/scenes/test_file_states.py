"""Whether an input is still what it was, by size, time of change and pieces of its content."""

import os

import numpy as np
import pytest

from stsun_processing.scenes.file_states import changed_files, file_states


@pytest.fixture(params=["file", "folder"])
def source(request, tmp_path):
    """A raster file of 3 MB, or a folder with chunks of a cube."""
    rng = np.random.default_rng(0)
    if request.param == "file":
        path = tmp_path / "a.tif"
        path.write_bytes(rng.bytes(3_000_000))
        return path, path
    folder = tmp_path / "a.zarr"
    for index in range(40):
        (folder / "red" / str(index)).mkdir(parents=True)
        (folder / "red" / str(index) / "0").write_bytes(rng.bytes(2_000))
    return folder, folder / "red" / "0" / "0"


def test_what_stays_as_it_is_has_not_changed(source):
    path, _ = source
    states = file_states([str(path)])
    assert changed_files(states) == []


@pytest.mark.parametrize("change", ["content", "size", "time", "removed", "content of the same time"])
def test_what_changes_is_seen(source, change):
    path, part = source
    states = file_states([str(path)])
    status, data = part.stat(), part.read_bytes()
    if change == "removed":
        part.unlink()
    elif change == "size":
        part.write_bytes(data + b"x")
    elif change == "time":
        os.utime(part, ns=(1, 1))
    else:
        part.write_bytes(np.random.default_rng(1).bytes(len(data)))
        if change == "content of the same time":
            os.utime(part, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert changed_files(states) == [str(path)]
