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
"""From the published layouts of well-known data sets to the folder format of `data.description`.

A converter reads the layout in which a data set was published, writes a `dataset.json` that names the source's own
rasters by relative paths, and writes rasters anew only where the source holds something else than class ids or rasters:
colours, 0 and 255, signed numbers, arrays. The source is never changed; the target appears when it is complete. Move
source and target together, or convert again.

Each converter's docstring says what is expected and where the layout is described. A layout that is not recognised, a
file that lacks its counterpart, and a label with a value or colour that the data set does not have are refused by name.
"""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..description import DatasetDescription
from .common import ConversionError, Target, binary_ids, colour_ids
from .levir_cd import convert_levir_cd
from .loveda import convert_loveda
from .oscd import convert_oscd
from .pastis import PASTIS_CLASSES, convert_pastis
from .second import convert_second
from .sen1floods11 import convert_sen1floods11
from .tscd import convert_tscd
from .whu_building import convert_whu_building
from .whu_cd import convert_whu_cd

__all__ = ["CONVERTERS", "PASTIS_CLASSES", "ConversionError", "binary_ids", "colour_ids", "convert"]


def convert(name: str, source: str | Path, target: str | Path, progress: bool = True) -> list[str]:
    """Makes a folder with a `dataset.json` from a data set in its published layout.

    Args:
        name: which data set; see `CONVERTERS`.
        source: the folder that holds it, as its archives unpack.
        target: the folder to make; it must not exist, or be empty.
        progress: whether a progress bar is shown.

    Returns:
        What was left out, and why; empty if nothing was.

    Raises:
        ConversionError: an unknown name, a layout that is not recognised, a missing counterpart, a label with a value
            or colour that the data set does not have, sizes that differ, or a target that is not free.
    """
    key = re.sub(r"[\s_]+", "-", name.strip().casefold())
    if key not in CONVERTERS:
        raise ConversionError(f"Data set {name!r} is unknown; known are {', '.join(CONVERTERS)}.")
    source, path = Path(source), Path(target)
    if not source.is_dir():
        raise ConversionError(f"{source} is not a folder. Name the one that the archives of {name} were unpacked into.")
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ConversionError(f"{path} exists already. Name a new folder.")
    folder = Target(path, progress)
    shutil.rmtree(folder.partial, ignore_errors=True)
    folder.partial.mkdir(parents=True)
    try:
        document = CONVERTERS[key](source, folder)
        document |= {"samples": folder.samples, "splits": folder.splits, "notes": folder.notes}
        (folder.partial / "dataset.json").write_text(json.dumps({"name": key.replace("-", "_"), **document}, indent=1))
        DatasetDescription.read(folder.partial / "dataset.json")
        if path.exists():
            path.rmdir()
        folder.partial.rename(path)
    except BaseException:
        shutil.rmtree(folder.partial, ignore_errors=True)
        raise
    return folder.notes


CONVERTERS: dict[str, Callable[[Path, Target], dict[str, Any]]] = {
    "levir-cd": convert_levir_cd,
    "whu-cd": convert_whu_cd,
    "whu-building": convert_whu_building,
    "loveda": convert_loveda,
    "second": convert_second,
    "tscd": convert_tscd,
    "pastis": convert_pastis,
    "oscd": convert_oscd,
    "sen1floods11": convert_sen1floods11,
}
