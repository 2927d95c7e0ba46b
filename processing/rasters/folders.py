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
"""Ordinary folders of rasters: which files are read, and how the caller chooses among them."""

import os
import re
from collections.abc import Iterable, Sequence

from .records import Entry, Part, RasterError, abridged
from .sensors import SENSORS

# What a folder is searched for. Other formats are read too when the file itself is named.
RASTER_SUFFIXES = (
    *(".tif", ".tiff", ".vrt", ".jp2", ".j2k", ".img", ".dat", ".bil", ".bip", ".bsq"),
    *(".png", ".jpg", ".jpeg", ".nc", ".hdf", ".h5"),
)

# Words in names of files that go with bands and are none: quality flags, scene classes, pictures, layers of the air,
# angles of sun and view.
_OTHER_FILE = re.compile(r"qa\d*|mtl|scl|tci|aot|wvp|fmask|udm2?|s[az]a|v[az]a", re.IGNORECASE)
_PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")


def folder_entry(path: str, parts: Sequence[str] | None) -> Entry:
    """The rasters of a folder, as bands of one date.

    Hidden files (`._B04.tif` of macOS) do not count.

    Args:
        path: the folder.
        parts: the files to read, in this order: names, stems, or what stands after a separator in them (`B04` for
            `scene_B04.tif`); `None` = all rasters, in natural order of their names; where the others are named
            like bands, without quality flags, scene classes, angles and previews.

    Raises:
        RasterError: there is no raster, or `parts` names none or several.
    """
    shown = [name for name in os.listdir(path) if not name.startswith(".")]
    names = sorted((name for name in shown if name.lower().endswith(RASTER_SUFFIXES)), key=natural_key)
    if not names:
        raise RasterError(
            f"Folder {path} holds no raster ({', '.join(RASTER_SUFFIXES)}). Name the files themselves if they end "
            "differently."
        )
    if parts is not None:
        return Entry(tuple(Part(os.path.join(path, name)) for name in choose(path, parts, names)))
    pictures = [name for name in names if name.lower().endswith(_PICTURE_SUFFIXES)]
    previews = [name for name in pictures if len(pictures) < len(names) and not _names_band(name)]
    bands = [name for name in names if not _is_other(name) and name not in previews]
    if not bands or len(bands) == len(names) or not all(map(_names_band, bands)):
        return Entry(tuple(Part(os.path.join(path, name)) for name in names))
    others = [name for name in names if name not in bands]
    return Entry(tuple(Part(os.path.join(path, name)) for name in bands), notes=(left_out(path, others),))


def left_out(path: str, names: Iterable[str], why: str = "which hold no measurement") -> str:
    """The line of the report about files that are not read."""
    return f"{path}: left out {abridged(names)}, {why}. parts=[...] (--parts) reads them."


def choose(path: str, parts: Sequence[str], names: Sequence[str]) -> list[str]:
    """The files that the caller names.

    Args:
        path: where they lie, for messages.
        parts: what to look for (see `folder_entry`); case does not matter.
        names: names of the files.

    Raises:
        RasterError: nothing goes by a name, or several files do.
    """
    chosen = []
    for part in parts:
        fitting = [name for name in names if _is(part, name)] or [name for name in names if _ends(part, name)]
        if len(fitting) != 1:
            problem = f"several files that {part!r} may mean: {abridged(fitting)}" if fitting else f"no file {part!r}"
            raise RasterError(
                f"{path} holds {problem}. parts (--parts) takes names without suffix, or how they end: its files are "
                f"{abridged(names)}."
            )
        chosen.append(fitting[0])
    return chosen


def _is(part: str, name: str) -> bool:
    return part.casefold() in (name.casefold(), os.path.splitext(name)[0].casefold())


def _ends(part: str, name: str) -> bool:
    stem = os.path.splitext(name)[0].casefold()
    return part != "" and stem.endswith(tuple(f"{separator}{part.casefold()}" for separator in "_-. "))


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sort key that puts B2 before B10."""
    return [
        (0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name.casefold()) if part
    ]


def _is_other(name: str) -> bool:
    words = re.split(r"[^0-9A-Za-z]+", os.path.splitext(name)[0])
    return any(_OTHER_FILE.fullmatch(word) for word in words)


def _names_band(name: str) -> bool:
    """Whether a file's name ends like a band of some sensor (`..._B04`, `..._SR_B4`, `..._B04_10m`, `red`)."""
    words = [word for word in re.split(r"[^0-9A-Za-z]+", os.path.splitext(name)[0]) if word]
    endings = ["_".join(words[-length:]) for length in (1, 2, 3)]
    return any(sensor.match(ending) for ending in endings for sensor in SENSORS.values())
