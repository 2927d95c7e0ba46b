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
"""Landsat Collection 2 products as distributed: folders and tar archives, and the scaling in their MTL files."""

import math
import os
import re
from collections.abc import Mapping, Sequence

from .dates import parse_period
from .folders import choose, left_out, natural_key
from .product_files import ProductFiles, file_in, files_in
from .product_presets import PRODUCTS, Preset, StoredAs
from .quantities import finite
from .records import Entry, Part, RasterError, Scaling
from .sensors import Sensor, find_sensor

# LXSS_LLLL_PPPRRR_YYYYMMDD_yyyymmdd_CC_TX of scenes, LXSS_UU_HHHVVV_YYYYMMDD_yyyymmdd_CC of analysis ready data.
_PRODUCT_ID = re.compile(
    r"(L[COTEM]0\d)_(?:(L\d)\w\w|(?:CU|AK|HI))_\d{6}_(\d{8})_\d{8}_02(?:_(?:T1|T2|RT|A1|A2))?(?=_|\.|/|$)",
    re.IGNORECASE,
)
_BAND_L2, _BAND_L1 = re.compile(r"S[RT]_B\d+"), re.compile(r"B\d+(?:_VCID_[12])?")
# Bands of radiance of heat, by the number of the satellite.
_THERMAL_L1 = {
    **{"04": ("B6",), "05": ("B6",), "07": ("B6_VCID_1", "B6_VCID_2")},
    **{"08": ("B10", "B11"), "09": ("B10", "B11")},
}
_MTL_LINE = re.compile(r"^\s*(\w+)\s*=\s*\"?([^\"\n]*?)\"?\s*$", re.MULTILINE)
# Names in the sensor table by the first four letters of an identifier; a scene of OLI or TIRS alone has the same bands.
_SENSORS = {
    **{"LC08": "landsat-8", "LO08": "landsat-8", "LT08": "landsat-8", "LC09": "landsat-9", "LO09": "landsat-9"},
    **{"LT09": "landsat-9", "LE07": "landsat-7", "LT05": "landsat-5", "LT04": "landsat-4"},
    **{"LM05": "lm05", "LM04": "lm04", "LM03": "lm03", "LM02": "lm02", "LM01": "lm01"},
}


def find_landsat(path: str, parts: Sequence[str] | None) -> Entry | None:
    """The bands of a Landsat Collection 2 scene.

    Args:
        path: its folder or tar archive.
        parts: ends of file names (`SR_B4`), in this order; `None` = all bands of reflectance and, of Level-2, of
            surface temperature.

    Returns:
        One part per band; `None` if `path` is no such scene, or holds several.

    Raises:
        RasterError: the archive is broken, or lacks a part.
    """
    files = files_in(path)
    if files is None:
        return None
    found = {name: match for name in files.names if (match := _PRODUCT_ID.match(os.path.basename(name)))}
    if len({match[0].upper() for match in found.values()}) != 1:
        return None
    match = next(iter(found.values()))
    rasters = sorted((name for name in files.names if name.lower().endswith((".tif", ".tiff"))), key=natural_key)
    reasons = {name: _why_left_out(name, match) for name in rasters}
    bands = [name for name in rasters if not reasons[name]]
    if not bands:
        return None
    preset = _preset(match, files)
    chosen = bands if parts is None else choose(path, parts, rasters)
    notes = []
    if parts is None:
        for why in dict.fromkeys(reason for reason in reasons.values() if reason):
            notes.append(left_out(path, [_ending(name, match) for name in rasters if reasons[name] == why], why))
    return Entry(tuple(Part(files.gdal_path(name), beside=(preset,)) for name in chosen), tuple(notes))


def preset_of_id(path: str, text: str) -> Preset | None:
    """What a product identifier in a name says.

    Args:
        path: the file.
        text: its name, or that of a folder above it.

    Returns:
        What it says; `None` if there is no identifier.
    """
    match = _PRODUCT_ID.search(text)
    if match is None:
        return None
    return _preset(match, file_in(os.path.dirname(path), f"{match[0]}_MTL.txt"))


def _why_left_out(name: str, match: re.Match[str]) -> str:
    """Why a file is not read unless it is asked for; empty if it is read."""
    ending, craft = _ending(name, match).upper(), match[1].upper()
    if not (_BAND_L1 if _is_level_1(match) else _BAND_L2).fullmatch(ending):
        return "which hold no measurement"
    if _is_level_1(match):
        if ending in _THERMAL_L1.get(craft[-2:], ()):
            return "whose temperature is not linear in the stored numbers"
        if ending == "B8":
            return "which have a finer grid than the others"
    return ""


def _ending(name: str, match: re.Match[str]) -> str:
    stem = os.path.splitext(os.path.basename(name))[0]
    return stem[len(match[0]) :].lstrip("_") if stem.upper().startswith(match[0].upper()) else stem


def _is_level_1(match: re.Match[str]) -> bool:
    return (match[2] or "").upper() == "L1"


def _preset(match: re.Match[str], files: ProductFiles | None) -> Preset:
    source = f"product id {match[0]}"
    fields = _mtl(match[0], files)
    sensor = find_sensor(_SENSORS[match[1].upper()]) if match[1].upper() in _SENSORS else None
    date = parse_period(f"{fields.get('DATE_ACQUIRED', '')}T{fields.get('SCENE_CENTER_TIME', '')}")
    date = date or parse_period(match[3])
    if not _is_level_1(match):
        product = PRODUCTS["landsat-c2-l2"]
        return Preset(product, source, by_kind=product.by_kind, sensor=sensor, date=date)
    return Preset(
        PRODUCTS["landsat-c2-l1"],
        f"{match[0]}_MTL.txt" if fields else source,
        by_band={} if sensor is None else _reflectance_at_top(fields, sensor, f"{match[0]}_MTL.txt"),
        sensor=sensor,
        date=date,
    )


def _mtl(product_id: str, files: ProductFiles | None) -> dict[str, str]:
    """Fields of the MTL file of a scene, of several of one name the first; none if the file is not there."""
    names = [] if files is None else [name for name in files.names if name.endswith(f"{product_id}_MTL.txt")]
    if files is None or not names:
        return {}
    fields: dict[str, str] = {}
    for key, value in _MTL_LINE.findall(files.text(names[0])):
        fields.setdefault(key, value)
    return fields


def _reflectance_at_top(fields: Mapping[str, str], sensor: Sensor, where: str) -> dict[str, StoredAs]:
    """The scaling of the reflective bands of Level-1: (M x DN + A) / sin(sun elevation).

    Raises:
        RasterError: the MTL file states factors, but no elevation of the sun above the horizon.
    """
    stored = {}
    for record in sensor.bands:
        number = record.band.name.removeprefix("B")
        factor = finite(fields.get(f"REFLECTANCE_MULT_BAND_{number}", ""))
        shift = finite(fields.get(f"REFLECTANCE_ADD_BAND_{number}", ""))
        if factor is None or shift is None:
            continue
        elevation = finite(fields.get("SUN_ELEVATION", ""))
        if elevation is None or not 0 < elevation <= 90:
            raise RasterError(
                f"{where} states SUN_ELEVATION {fields.get('SUN_ELEVATION')!r}; reflectance needs an angle above 0 and "
                "up to 90 degrees. Correct it, or remove the file and say scale=... and offset=... (--scale, --offset)."
            )
        sine = math.sin(math.radians(elevation))
        stored[record.band.name] = StoredAs(Scaling(factor / sine, shift / sine))
    return stored
