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
"""What a long prediction has finished so far, kept on disk so that a killed one goes on where it was."""

import hashlib
import io
import json
import os
import re
from collections.abc import Container, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from .._files import LOCK_NAME, OWNER_NAME, FolderLock, read_json, write_whole
from ..errors import WriteError
from ..rasters.records import RasterError

_REQUEST = "request.json"
# In the request: digests of earlier ones whose blocks are good too, for the caller accepted what has changed since.
_EARLIER = "earlier"
# The files of a journal, and what a killed process leaves of them.
_OURS = re.compile(r"\.?(request\.json|block_\d{6,}\.npz)(\.partial)?")
# A block begins with one line of JSON, which is far shorter.
_HEADER_BYTES = 4096


class Journal:
    """A folder of finished blocks, each a file that is there whole or not at all.

    A journal belongs to one request (weights, inputs, settings...): whoever asks for something else is refused, or
    starts anew. One command writes it at a time, from one process, or from several that share the blocks: then the main
    one opens it. Each block says which request and which place it belongs to, and carries a checksum: one that is
    damaged, cut or from elsewhere counts as not finished. A context manager: on exit the folder is given free.

    Args:
        folder: where to keep the blocks.
        request: what decides about the values of the blocks, JSON-ready.
    """

    def __init__(self, folder: Path, request: Mapping[str, Any]) -> None:
        self.folder = folder
        self.request = json.loads(json.dumps(request))
        self._digest = _digest(json.dumps(self.request, sort_keys=True).encode())
        self._earlier: list[str] = []
        self._lock = FolderLock(folder, "Wait until it has ended, or write to another file.")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def check(self, accepted: Container[str] = ()) -> None:
        """Refuses to go on with the blocks of another request, or to work in a folder that is not ours.

        Args:
            accepted: parts of the request that may differ.

        Raises:
            RasterError: the folder holds such blocks or files of others, is a link, or does not say whose blocks it
                holds.
        """
        self._check_folder()
        if not any(self.folder.glob("block_*.npz")):
            return
        try:
            found = read_json(self.folder / _REQUEST)
        except (OSError, ValueError) as error:
            raise RasterError(
                f"{self.folder} is where unfinished work is kept, but it cannot be read ({error}). Discard it "
                "(restart=True, --restart)."
            ) from error
        earlier = found.pop(_EARLIER, [])
        names = {**self.request, **found}
        changed = [name for name in names if found.get(name) != self.request.get(name)]
        refused = [name for name in changed if name not in accepted]
        if refused:
            listed = "; ".join(f"{n} was {_short(found.get(n))}, now {_short(self.request.get(n))}" for n in refused)
            remedy = "Repeat that request to finish it, write to another file, or discard it (restart=True, --restart)"
            if refused == ["input files"]:
                remedy += ", or, if a damaged file was only fetched again, go on (accept_inputs=True, --accept-inputs)"
            raise RasterError(f"{self.folder} holds the unfinished work of another request: {listed}. {remedy}.")
        self._earlier = earlier if isinstance(earlier, list) else []
        if changed:
            self._earlier.append(_digest(json.dumps(found, sort_keys=True).encode()))

    def open(self, restart: bool = False, accepted: Container[str] = ()) -> None:
        """Makes the folder and takes it for this command; call it in the main process.

        Args:
            restart: whether what is there is discarded.
            accepted: see [`Journal.check`].

        Raises:
            RasterError: see [`Journal.check`].
            OutputInUseError: another command is writing there.
            WriteError: the folder cannot be written.
        """
        self._check_folder()
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise WriteError(f"{self.folder} cannot be made: {error}") from error
        self._lock.acquire()
        try:
            if restart:
                self._clear()
            # Again, for another command may have written there until now.
            self.check(accepted)
            self._note_request()
        except OSError as error:
            self.close()
            raise WriteError(f"{self.folder} cannot be written: {error}") from error
        except RasterError:
            self.close()
            raise

    def close(self) -> None:
        """Lets other commands write there; blocks stay."""
        self._lock.release()

    def __contains__(self, index: int) -> bool:
        try:
            self._archive(index)
        except (OSError, ValueError):
            return False
        return True

    def save(self, index: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Keeps a finished block.

        Raises:
            WriteError: the disk is full or fails.
        """
        file = io.BytesIO()
        np.savez_compressed(file, **arrays)
        archive = file.getvalue()
        header = {"request": self._digest, "index": index, "size": len(archive), "blake2b": _digest(archive)}
        path = self._path(index)
        try:
            write_whole(path, json.dumps(header).encode() + b"\n" + archive)
        except OSError as error:
            raise WriteError(f"{path} cannot be written: {error}") from error

    def load(self, index: int) -> dict[str, np.ndarray]:
        """A block that was kept.

        Raises:
            RasterError: it is not there, damaged, or from elsewhere.
        """
        try:
            archive = self._archive(index)
        except (OSError, ValueError) as error:
            raise RasterError(
                f"{self._path(index)}, a finished block, cannot be read: {error}. Run the same again to make it anew."
            ) from error
        with np.load(io.BytesIO(archive)) as arrays:
            return dict(arrays)

    def remove(self) -> None:
        """Removes the journal; a file of someone else that has come into its folder meanwhile stays."""
        self._clear()
        self.close()
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _archive(self, index: int) -> bytes:
        """The content of a block: an archive of arrays.

        Raises:
            OSError: it cannot be read.
            ValueError: it is damaged, or of another request or place; the message says which.
        """
        with self._path(index).open("rb") as file:
            line, archive = file.readline(_HEADER_BYTES), file.read()
        try:
            header = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError("it does not say what it belongs to") from error
        if not isinstance(header, dict) or header.get("request") not in (self._digest, *self._earlier):
            raise ValueError("it belongs to another request")
        if header.get("index") != index:
            raise ValueError(f"it is block {header.get('index')}")
        if header.get("size") != len(archive) or header.get("blake2b") != _digest(archive):
            raise ValueError("it is damaged")
        return archive

    def _check_folder(self) -> None:
        if self.folder.is_symlink() or (self.folder.exists() and not self.folder.is_dir()):
            raise RasterError(
                f"{self.folder} is where unfinished work is kept, but it is no folder of its own (a link or a file is "
                "not followed). Remove it, or write to another file."
            )
        if not self.folder.exists():
            return
        with os.scandir(self.folder) as entries:
            foreign = sorted(entry.name for entry in entries if not _is_ours(entry))
        if foreign:
            raise RasterError(
                f"{self.folder} is where unfinished work would be kept, but it holds {', '.join(foreign[:3])}, which "
                "is not of a prediction and would be lost. Move it elsewhere, or write to another file."
            )

    def _note_request(self) -> None:
        document = self.request | ({_EARLIER: self._earlier} if self._earlier else {})
        text = json.dumps(document, indent=1)
        path = self.folder / _REQUEST
        # A full disk takes no second copy.
        if not path.exists() or path.read_text() != text:
            write_whole(path, text)

    def _clear(self) -> None:
        """Removes what is ours, but the lock."""
        if not self.folder.is_dir():
            return
        for path in list(self.folder.iterdir()):
            if _OURS.fullmatch(path.name):
                path.unlink()

    def _path(self, index: int) -> Path:
        return self.folder / f"block_{index:06d}.npz"


def _is_ours(entry: os.DirEntry[str]) -> bool:
    known = entry.name in (LOCK_NAME, OWNER_NAME) or _OURS.fullmatch(entry.name) is not None
    # What is ours is written as a plain file; a link of that name was put there by someone else.
    return known and entry.is_file(follow_symlinks=False)


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
