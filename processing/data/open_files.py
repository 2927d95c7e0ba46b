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
"""Files that stay open between reads, as many as a process may keep."""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Protocol, TypeVar, cast


class Closable(Protocol):
    """Something that holds open files."""

    def close(self) -> None:
        """Closes them."""


T = TypeVar("T", bound=Closable)

# Of the 1024 files that Linux lets a process open.
MAX_OPEN_FILES = 256


class OpenFiles(threading.local):
    """What is open in this thread of this process; beyond a number of files the least recently used are closed.

    Handles of GDAL serve one thread at a time, and do not survive a fork.

    Args:
        limit: number of files.
    """

    def __init__(self, limit: int = MAX_OPEN_FILES) -> None:
        self._limit = limit
        self._process = os.getpid()
        self._entries: OrderedDict[tuple[Hashable, Hashable], tuple[Closable, int]] = OrderedDict()

    def get(self, owner: Hashable, key: Hashable, open_it: Callable[[], T], num_files: int = 1) -> T:
        """What an owner has open under a key; it is opened if nothing is.

        Args:
            owner: who asks.
            key: what for.
            open_it: opens it.
            num_files: files that it holds open.
        """
        entries = self._of_this_process()
        if (owner, key) not in entries:
            self.put(owner, key, open_it(), num_files)
        entries.move_to_end((owner, key))
        return cast(T, entries[owner, key][0])

    def put(self, owner: Hashable, key: Hashable, opened: Closable, num_files: int = 1) -> None:
        """Keeps what an owner has opened, in place of what it had under that key; see [`OpenFiles.get`]."""
        entries = self._of_this_process()
        if (owner, key) in entries:
            entries.pop((owner, key))[0].close()
        entries[owner, key] = opened, num_files
        while len(entries) > 1 and sum(number for _, number in entries.values()) > self._limit:
            entries.popitem(last=False)[1][0].close()

    def close_all(self, owner: Hashable) -> None:
        """Closes what an owner has open in this thread."""
        entries = self._of_this_process()
        for entry in [entry for entry in entries if entry[0] == owner]:
            entries.pop(entry)[0].close()

    def _of_this_process(self) -> OrderedDict[tuple[Hashable, Hashable], tuple[Closable, int]]:
        if self._process != os.getpid():
            self._process, self._entries = os.getpid(), OrderedDict()
        return self._entries


OPEN_FILES = OpenFiles()
