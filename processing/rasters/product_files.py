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
"""Products as they are distributed, in a folder, a zip or a tar archive: which files they hold, and their metadata."""

import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from xml.etree import ElementTree

from .records import RasterError

# What broken archives raise; RuntimeError comes of encrypted ones and of unknown compressions.
_BROKEN = (OSError, EOFError, RuntimeError, zlib.error, tarfile.TarError, zipfile.BadZipFile)
# Metadata of products with many granules have a few megabytes; a larger text is none.
_MAX_TEXT_BYTES = 32 * 2**20


@dataclass(frozen=True)
class ProductFiles:
    """The files of a product.

    Args:
        path: the folder or archive.
        names: names of the files relative to it, with `/`.
        prefix: what GDAL wants before these names.
        read: reads the first bytes of a file, given its name and their number.
    """

    path: str
    names: tuple[str, ...]
    prefix: str
    read: Callable[[str, int], bytes]

    def gdal_path(self, name: str) -> str:
        """What GDAL opens a file of the product by."""
        return f"{self.prefix}/{name}"

    def text(self, name: str) -> str:
        """The text of a metadata file.

        Raises:
            RasterError: it cannot be read, is too long, or is not UTF-8.
        """
        where = f"{self.path}/{name}"
        try:
            content = self.read(name, _MAX_TEXT_BYTES + 1)
        except _BROKEN as error:
            raise RasterError(f"{where} cannot be read: {error}. Fetch the product again.") from error
        if len(content) > _MAX_TEXT_BYTES:
            raise RasterError(f"{where} has more than {_MAX_TEXT_BYTES} bytes, which no metadata of a product has.")
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise RasterError(f"{where} is no text in UTF-8: {error}. Fetch the product again.") from error

    def xml(self, name: str) -> ElementTree.Element:
        """The root of an XML file.

        Raises:
            RasterError: it cannot be read, is no XML, or defines a document type (whose entities could grow without
                bound, and which no product has).
        """
        text = self.text(name)
        where = f"{self.path}/{name}"
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise RasterError(f"{where} defines a document type, which metadata of products do not. It is not read.")
        try:
            return ElementTree.fromstring(text.encode())
        except ElementTree.ParseError as error:
            raise RasterError(f"{where} is no XML: {error}. Fetch the product again.") from error


def files_in(path: str) -> ProductFiles | None:
    """The files of a local folder, zip or tar archive; `None` if the path is something else.

    Raises:
        RasterError: an archive is broken.
    """
    if os.path.isdir(path):
        return _in_folder(path)
    if not os.path.isfile(path):
        return None
    if path.lower().endswith(".zip"):
        return _in_zip(path)
    return _in_tar(path) if path.lower().endswith(".tar") else None


def file_in(folder: str, name: str) -> ProductFiles | None:
    """A single file of a folder, of which the others are not looked at; `None` if it is not there."""
    if not os.path.isfile(os.path.join(folder, name)):
        return None
    return ProductFiles(folder, (name,), folder, _reader(folder))


def _reader(folder: str) -> Callable[[str, int], bytes]:
    def read(name: str, size: int) -> bytes:
        with open(os.path.join(folder, name), "rb") as file:
            return file.read(size)

    return read


def _in_folder(path: str) -> ProductFiles:
    """Files of the folder itself and of Sentinel-2's granules; others may be many (Zarr) and are not looked at."""
    top = [entry.name for entry in os.scandir(path) if entry.is_file()]
    granules = []
    for folder, _, files in os.walk(os.path.join(path, "GRANULE")):
        inside = os.path.relpath(folder, path).replace(os.sep, "/")
        granules += [f"{inside}/{name}" for name in files]
    return ProductFiles(path, _shown([*top, *granules]), path.rstrip("/"), _reader(path))


def _in_zip(path: str) -> ProductFiles:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except _BROKEN as error:
        raise RasterError(f"{path} cannot be read as a zip archive: {error}. Fetch it again.") from error

    def read(name: str, size: int) -> bytes:
        with zipfile.ZipFile(path) as archive, archive.open(name) as file:
            return file.read(size)

    return ProductFiles(path, _shown(names), f"/vsizip/{{{path}}}", read)


def _in_tar(path: str) -> ProductFiles:
    try:
        with tarfile.open(path, "r:") as archive:
            members = {member.name.removeprefix("./"): member for member in archive if member.isfile()}
    except _BROKEN as error:
        raise RasterError(f"{path} cannot be read as a tar archive: {error}. Fetch it again.") from error

    def read(name: str, size: int) -> bytes:
        with tarfile.open(path, "r:") as archive:
            file = archive.extractfile(members[name])
            return b"" if file is None else file.read(size)

    return ProductFiles(path, _shown(members), f"/vsitar/{{{path}}}", read)


def _shown(names: Iterable[str]) -> tuple[str, ...]:
    """Sorted, without folders, hidden files, and names that lead out of the product."""
    shown = []
    for name in names:
        steps = name.split("/")
        if steps[-1] and not any(step.startswith(".") or step == "__MACOSX" for step in steps):
            shown.append(name)
    return tuple(sorted(shown))
