# Copyright 2026 The STSUN Authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""What an input file was like, so that work is never finished on other pixels than it was begun on."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

# Of each file so many pieces of so many bytes are looked at, spread evenly: a copy that kept size and time of change
# is told apart for the price of a few reads.
_PIECES = 16
_PIECE_BYTES = 2**16


def file_states(files: Sequence[str]) -> dict[str, list[int | str]]:
    """Size in bytes, time of change in nanoseconds, and a checksum, of files and folders.

    Args:
        files: local paths; of a folder (Zarr) all files below count.

    Returns:
        The state of each, JSON-ready. The checksum of a file covers up to 16 pieces of 64 KiB of its content; that of a
        folder covers name, size and time of change of every file in it, and pieces of up to 16 of them.

    Raises:
        OSError: one of them cannot be read.
    """
    return {file: _folder_state(Path(file)) if os.path.isdir(file) else _file_state(Path(file)) for file in files}


def changed_files(before: dict[str, list[int | str]]) -> list[str]:
    """Those of the files that are no longer as `file_states` found them, or can no longer be read."""
    return [file for file, state in before.items() if _differs(file, state)]


def _differs(file: str, state: list[int | str]) -> bool:
    try:
        return file_states([file])[file] != state
    except OSError:
        return True


def _file_state(path: Path) -> list[int | str]:
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        for piece in _pieces(file, status.st_size):
            digest.update(piece)
    return [status.st_size, status.st_mtime_ns, digest.hexdigest()]


def _pieces(file: BinaryIO, size: int) -> Iterator[bytes]:
    last = max(size - _PIECE_BYTES, 0)
    for offset in sorted({last * index // (_PIECES - 1) for index in range(_PIECES)}):
        file.seek(offset)
        yield file.read(_PIECE_BYTES)


def _folder_state(folder: Path) -> list[int | str]:
    digest = hashlib.blake2b(digest_size=16)
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    total = newest = 0
    for path in paths:
        status = path.stat()
        total, newest = total + status.st_size, max(newest, status.st_mtime_ns)
        digest.update(f"{path.relative_to(folder)} {status.st_size} {status.st_mtime_ns}\n".encode(errors="replace"))
    for path in paths[:: max(1, len(paths) // _PIECES)]:
        digest.update(str(_file_state(path)).encode())
    return [total, newest, digest.hexdigest()]
