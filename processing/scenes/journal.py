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

import io
import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..rasters.records import RasterError

_REQUEST = "request.json"


class Journal:
    """A folder of finished blocks, each a file that is there whole or not at all.

    Several processes may write different blocks of one journal. A journal belongs to one request (weights, inputs,
    settings...): whoever asks for something else is refused, or starts anew.

    Args:
        folder: where to keep the blocks.
        request: what decides about the values of the blocks, JSON-ready.
    """

    def __init__(self, folder: Path, request: Mapping[str, Any]) -> None:
        self.folder = folder
        self.request = json.loads(json.dumps(request))

    def check(self, accepted: Container[str] = ()) -> None:
        """Refuses to go on with the blocks of another request.

        Args:
            accepted: parts of the request that may differ.

        Raises:
            RasterError: the folder holds such blocks, or does not tell whose they are.
        """
        if not any(self.folder.glob("block_*.npz")):
            return
        try:
            found = json.loads((self.folder / _REQUEST).read_text())
        except (OSError, ValueError) as error:
            raise RasterError(
                f"{self.folder} is where unfinished work is kept, but it cannot be read ({error}). Remove it."
            ) from error
        names = {**self.request, **found}
        changed = [name for name in names if found.get(name) != self.request.get(name) and name not in accepted]
        if changed:
            listed = "; ".join(f"{n} was {_short(found.get(n))}, now {_short(self.request.get(n))}" for n in changed)
            remedy = "Repeat that request to finish it, write to another file, or discard it (restart=True, --restart)"
            if changed == ["input files"]:
                remedy += ", or, if a damaged file was only fetched again, go on (accept_inputs=True, --accept-inputs)"
            raise RasterError(f"{self.folder} holds the unfinished work of another request: {listed}. {remedy}.")

    def open(self, restart: bool = False) -> None:
        """Makes the folder; call it in one process.

        Args:
            restart: whether what is there is discarded.

        Raises:
            RasterError: the folder cannot be written.
        """
        try:
            if restart:
                self.remove()
            self.folder.mkdir(exist_ok=True)
            text = json.dumps(self.request, indent=1).encode()
            path = self.folder / _REQUEST
            # A full disk takes no second copy.
            if not path.exists() or path.read_bytes() != text:
                self._write(_REQUEST, text)
        except OSError as error:
            raise RasterError(f"{self.folder} cannot be written: {error}") from error

    def __contains__(self, index: int) -> bool:
        return self._path(index).exists()

    def save(self, index: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Keeps a finished block.

        Raises:
            RasterError: the disk is full or fails.
        """
        data = io.BytesIO()
        np.savez_compressed(data, **arrays)
        path = self._path(index)
        try:
            self._write(path.name, data.getbuffer())
        except OSError as error:
            raise RasterError(f"{path} cannot be written: {error}") from error

    def load(self, index: int) -> dict[str, np.ndarray]:
        """A block that was kept.

        Raises:
            RasterError: it is not there, or damaged.
        """
        path = self._path(index)
        try:
            with np.load(path) as arrays:
                return dict(arrays)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise RasterError(
                f"{path}, a finished block, cannot be read: {error}. Remove it and run the same again to make it anew."
            ) from error

    def remove(self) -> None:
        """Removes the folder."""
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def _path(self, index: int) -> Path:
        return self.folder / f"block_{index:06d}.npz"

    def _write(self, name: str, data: bytes | memoryview) -> None:
        # One writer a file: a left-over of a killed process is simply written over.
        partial = self.folder / f"{name}.partial"
        try:
            with open(partial, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, self.folder / name)
        except OSError:
            partial.unlink(missing_ok=True)
            raise


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
