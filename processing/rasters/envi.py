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
"""ENVI headers: what they say of a raster and its bands."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .quantities import finite
from .records import RasterError

# Headers list thousands of wavelengths at most.
_MAX_BYTES = 2**22
# Files that an ENVI header beside them describes, besides one without a suffix.
_DATA_SUFFIXES = ("", ".img", ".dat", ".bil", ".bip", ".bsq", ".raw", ".bin")


def header_key(text: str) -> str:
    """A key in lower case, its words joined by `_`."""
    return "_".join(text.strip().casefold().replace("-", " ").split())


@dataclass(frozen=True)
class EnviHeader:
    """The fields of an ENVI header.

    Args:
        path: the raster it describes, for messages.
        source: what messages call the header.
        fields: texts by key (`band_names`, `wavelength`, `bbl`...).
        is_own: whether the raster is an ENVI file. A header beside a file of another format may describe its bands, but
            not how its numbers are stored.
    """

    path: str
    source: str
    fields: Mapping[str, str]
    is_own: bool

    def item(self, key: str, index: int, count: int) -> str | None:
        """The entry for band `index` (from 1) of a list with one entry per band; `None` if there is no such list.

        Raises:
            RasterError: the list has another number of entries than the raster has bands.
        """
        if key not in self.fields:
            return None
        items = [item.strip() for item in self.fields[key].strip("{} \n").split(",")]
        if len(items) != count:
            raise RasterError(
                f"The ENVI header of {self.path} lists {len(items)} values of {key.replace('_', ' ')!r} for {count} "
                "bands. Correct it, or give the bands yourself: bands=[...] (--bands)."
            )
        return items[index - 1]

    @property
    def scale(self) -> float | None:
        """Factor to reflectance from 0 to 1: ENVI's `reflectance scale factor` is the number to divide by.

        Raises:
            RasterError: it is not a number above 0.
        """
        text = self.fields.get("reflectance_scale_factor")
        if text is None or not self.is_own:
            return None
        divisor = finite(text)
        if divisor is None or divisor <= 0:
            raise RasterError(
                f"The ENVI header of {self.path} has the reflectance scale factor {text!r}; a number above 0 is "
                "expected. Correct it, or say what holds with scale=... (--scale)."
            )
        return 1 / divisor


def header_of(path: str, domain: Mapping[str, str]) -> EnviHeader | None:
    """The header of a raster: GDAL's ENVI domain, or else a .hdr file beside it that describes no other file.

    Args:
        path: the raster.
        domain: metadata of the domain ENVI.
    """
    if domain:
        fields = {header_key(key): text.strip() for key, text in domain.items()}
        return EnviHeader(path, "ENVI header", fields, is_own=True)
    stem = os.path.splitext(path)[0]
    for beside in (f"{path}.hdr", f"{stem}.hdr"):
        if not os.path.isfile(beside) or _describes_another(beside, path):
            continue
        read = _read(beside)
        if read is not None:
            return EnviHeader(path, Path(beside).name, read, is_own=False)
    return None


def _describes_another(header: str, path: str) -> bool:
    """Whether an ENVI file lies beside the header that it belongs to rather than to the raster."""
    stem = header.removesuffix(".hdr")
    candidates = {stem + suffix for suffix in _DATA_SUFFIXES} - {path}
    return any(os.path.isfile(candidate) for candidate in candidates)


def _read(path: str) -> dict[str, str] | None:
    """The fields of a header file; `None` if it is none of ENVI's."""
    with open(path, "rb") as file:
        data = file.read(_MAX_BYTES)
    lines = iter(data.decode("utf-8", errors="replace").splitlines())
    if not next(lines, "").startswith("ENVI"):
        return None
    fields = {}
    for line in lines:
        key, equals, value = line.partition("=")
        if not equals:
            continue
        parts = [value.strip()]
        # A list in braces may go over many lines.
        while parts[0].startswith("{") and "}" not in parts[-1]:
            more = next(lines, None)
            if more is None:
                break
            parts.append(more.strip())
        fields[header_key(key)] = " ".join(parts)
    return fields
