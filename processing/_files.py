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
"""Files that are there whole or not at all, even after a power cut, and folders that one process writes at a time."""

import errno
import json
import os
import socket
import warnings
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock, Timeout

from .errors import OutputInUseError, WriteError

LOCK_NAME = ".lock"
OWNER_NAME = ".owner.json"
# What file systems answer that keep no locks, network ones above all.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


def partial_path(path: Path) -> Path:
    """Where a file is written until it is complete."""
    return path.with_name(f".{path.name}.partial")


def write_whole(path: Path, data: str | bytes | memoryview) -> None:
    """Writes a file that appears at once or not at all.

    Args:
        path: the file; one that exists is replaced, and a link is replaced by the file.
        data: its content; text is encoded as UTF-8.

    Raises:
        OSError: the disk is full or fails; nothing is left behind.
    """
    partial = partial_path(path)
    try:
        # What a killed process left is removed rather than opened: it may be a link by now.
        partial.unlink(missing_ok=True)
        with partial.open("xb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def put_in_place(partial: Path, path: Path) -> None:
    """Gives a finished file or folder its name once all of it is on the disk.

    Args:
        partial: where it was written.
        path: its name; a file that exists is replaced.

    Raises:
        OSError: the disk fails.
    """
    if partial.is_dir():
        for part in partial.rglob("*"):
            sync(part)
    sync(partial)
    os.replace(partial, path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk.

    Raises:
        OSError: the disk fails.
    """
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folders, and keeps names by itself.
    # Windows syncs only what is open for writing.
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds no JSON, or no object.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deeply") from error
    if not isinstance(document, dict):
        raise ValueError(f"{path} holds no object but {type(document).__name__}")
    return document


class FolderLock:
    """The right to write into a folder, which one process has at a time; it ends with the process.

    Args:
        folder: the folder, which exists when the lock is taken.
        remedy: what a second process can do, for its message.
    """

    def __init__(self, folder: Path, remedy: str) -> None:
        self.folder, self.remedy = folder, remedy
        self._lock = FileLock(folder / LOCK_NAME)

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def acquire(self) -> None:
        """Takes the lock. Where the file system keeps none, warns and goes on without.

        Raises:
            OutputInUseError: another process holds it; the message says which.
            WriteError: the folder cannot be written.
        """
        try:
            self._lock.acquire(timeout=0)
            owner = {"pid": os.getpid(), "host": socket.gethostname(), "since": f"{datetime.now(UTC):%Y-%m-%d %H:%M}"}
            (self.folder / OWNER_NAME).unlink(missing_ok=True)
            (self.folder / OWNER_NAME).write_text(json.dumps(owner))
        except Timeout:
            raise OutputInUseError(f"{self.folder} is being written by {self._owner()}. {self.remedy}") from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                self._lock.release()
                raise WriteError(f"{self.folder} cannot be written: {error}") from error
            (self.folder / LOCK_NAME).unlink(missing_ok=True)
            warnings.warn(
                f"The file system of {self.folder} keeps no locks ({error.strerror}): make sure that no other process "
                "writes there.",
                stacklevel=2,
            )

    def release(self) -> None:
        """Gives the lock back and removes its files; does nothing if this process does not hold it."""
        if not self._lock.is_locked:
            return
        (self.folder / OWNER_NAME).unlink(missing_ok=True)
        if os.name == "nt":
            # An open file cannot be removed there; elsewhere nobody must take the lock in between.
            self._lock.release()
        (self.folder / LOCK_NAME).unlink(missing_ok=True)
        self._lock.release()

    def _owner(self) -> str:
        try:
            owner = read_json(self.folder / OWNER_NAME)
            return f"process {owner['pid']} on {owner['host']} since {owner['since']} UTC"
        except (OSError, ValueError, KeyError):
            return "another process"
