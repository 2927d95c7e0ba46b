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
"""Sentinel-2 products as distributed: SAFE folders and zips of all layouts, and what their metadata state."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np

from ..metadata import MetadataError
from .dates import between, parse_period
from .folders import left_out, natural_key
from .product_files import ProductFiles, files_in
from .product_presets import PRODUCTS, Preset, StoredAs
from .quantities import finite, length_nm
from .records import Entry, Part, Period, Quantity, RasterError, Scaling, abridged
from .sensors import SENSORS, Sensor, find_sensor

# Order of bandId in the metadata, for products that do not list their bands.
_BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
_QUANTIFICATION = 10000.0
# From this processing baseline on, stored numbers are shifted by 1000 so that reflectance below 0 can be told.
_FIRST_WITH_OFFSET = (4, 0)
_OFFSET = -1000.0
# Baseline of products that users process themselves; it says nothing about the offset.
_USER_BASELINE = (99, 99)

_PRODUCT_ID = re.compile(r"S2([A-D])_MSIL(1C|2A)_(\d{8}T\d{6})_N(\d\d)(\d\d)_R\d{3}_T\w{5}_\d{8}T\d{6}", re.IGNORECASE)
# Until December 2016: one product for many tiles, and no baseline with an offset yet.
_OLD_PRODUCT_ID = re.compile(r"S2([AB])_(?:OPER|USER)_PRD_MSIL(1C|2A)_\w+_V(\d{8}T\d{6})", re.IGNORECASE)
_METADATA = re.compile(
    r"(?:(.*)/)?(?:MTD_MSIL(?:1C|2A)|S2[AB]_(?:OPER|USER)_MTD_SAFL(?:1C|2A)_\w+)\.xml", re.IGNORECASE
)
_IMAGE = re.compile(
    r"(.*?)GRANULE/([^/]+)/IMG_DATA/(?:R\d\dm/)?[^/]*_(B\d[0-9A]|SCL|TCI|AOT|WVP)(?:_(\d\d)m)?\.(?:jp2|tiff?)",
    re.IGNORECASE,
)
_PART = re.compile(r"(.+?)(?:_(\d\d)m)?", re.IGNORECASE)


@dataclass(frozen=True)
class _Image:
    """One image file of a product."""

    name: str
    granule: str
    band: str
    gsd_m: int | None


# Scaling by processing baseline


def parse_baseline(text: str) -> tuple[int, int] | None:
    """A processing baseline (`05.09`) as two numbers; `None` if it is none, or that of products made by users."""
    match = re.fullmatch(r"\s*(\d\d?)\.(\d\d)\s*", text)
    baseline = (int(match[1]), int(match[2])) if match else None
    return None if baseline == _USER_BASELINE else baseline


def has_offset(baseline: tuple[int, int]) -> bool:
    """Whether numbers of a processing baseline are stored with an offset."""
    return baseline >= _FIRST_WITH_OFFSET


def reflectance_of(baseline: tuple[int, int], applied: bool = False) -> StoredAs:
    """What the stored numbers of a processing baseline mean.

    Args:
        baseline: see `parse_baseline`.
        applied: whether whoever made the files has added the offset already.
    """
    offset = _OFFSET if has_offset(baseline) and not applied else 0.0
    return StoredAs(Scaling(1 / _QUANTIFICATION, offset / _QUANTIFICATION))


def preset_of_id(text: str) -> Preset | None:
    """What a product identifier in a name says; `None` if it is none, or leaves the offset open."""
    if match := _PRODUCT_ID.search(text):
        unit, level, sensed = match[1], match[2], match[3]
        baseline = parse_baseline(f"{match[4]}.{match[5]}")
    elif match := _OLD_PRODUCT_ID.search(text):
        unit, level, sensed = match[1], match[2], match[3]
        baseline = (2, 4)
    else:
        return None
    if baseline is None:
        return None
    return Preset(
        PRODUCTS[f"sentinel-2-l{level.lower()}"],
        f"product id {match[0]}",
        by_kind={"reflective": reflectance_of(baseline)},
        sensor=_sensor(f"sentinel-2{unit}"),
        date=parse_period(sensed),
    )


def _sensor(spacecraft: str) -> Sensor:
    try:
        return find_sensor(spacecraft)
    except MetadataError:
        return SENSORS["sentinel-2"]


# Products in folders and archives


def find_safe(path: str, parts: Sequence[str] | None) -> Entry | None:
    """The bands of a Sentinel-2 product.

    Args:
        path: a SAFE folder, the folder of one of its granules, its metadata file, or a zip of it.
        parts: bands (`B02`, `red`), with a resolution (`B02_20m`) or without, or `SCL`, `TCI`, `AOT` and `WVP`, in
            this order; `None` = all spectral bands.

    Returns:
        One part per band, at the resolution of the instrument, or else the finest there is; `None` if `path` is no
        Sentinel-2 product.

    Raises:
        RasterError: the product is broken, holds several tiles, or lacks a part.
    """
    root, granule = _root(path)
    files = files_in(root)
    found = _metadata_name(files) if files else None
    if files is None or found is None:
        return None
    images = _images(files, os.path.dirname(found), granule)
    if not images:
        raise RasterError(f"{path} holds no image of a Sentinel-2 product. Fetch it again.")
    if len(tiles := dict.fromkeys(image.granule for image in images)) > 1:
        raise RasterError(
            f"{path} holds {len(tiles)} tiles: {abridged(tiles)}. Name the folder of one (GRANULE/...; unpack the "
            "product first if it is a zip)."
        )
    preset = _read_metadata(files, found)
    if parts is None:
        bands = [name for name in _BANDS if any(image.band == name for image in images)]
        chosen = [_best(images, name) for name in bands]
        others = sorted({image.band for image in images} - set(bands))
        notes = (left_out(path, others),) if others else ()
    else:
        chosen, notes = [_named(path, images, preset, part) for part in parts], ()
    entries = tuple(Part(files.gdal_path(image.name), beside=(_for_image(preset, image),)) for image in chosen)
    return Entry(entries, notes, finest=True)


def _root(path: str) -> tuple[str, str | None]:
    """The product that a path leads to, and the granule, if it names one."""
    path = path.rstrip("/") or path
    if _METADATA.fullmatch(os.path.basename(path)) and os.path.isfile(path):
        return os.path.dirname(path) or ".", None
    folder = os.path.dirname(path) if os.path.basename(path) == "IMG_DATA" else path
    if os.path.basename(os.path.dirname(folder)) == "GRANULE" and os.path.isdir(folder):
        return os.path.dirname(os.path.dirname(folder)) or ".", os.path.basename(folder)
    return path, None


def _metadata_name(files: ProductFiles) -> str | None:
    """The metadata file of the product, nearest to the root."""
    names = [name for name in files.names if _METADATA.fullmatch(name)]
    return min(names, key=lambda name: name.count("/"), default=None)


def _images(files: ProductFiles, folder: str, granule: str | None) -> list[_Image]:
    images = []
    for name in sorted(files.names, key=natural_key):
        match = _IMAGE.fullmatch(name)
        if match and match[1].rstrip("/") == folder and granule in (None, match[2]):
            images.append(_Image(name, match[2], match[3].upper(), int(match[4]) if match[4] else None))
    return images


def _best(images: Sequence[_Image], band: str, gsd_m: int | None = None) -> _Image:
    """The image of a band at a resolution, or else at that of the instrument, or else the finest."""
    native = {record.band.name: record.gsd_m for record in SENSORS["sentinel-2"].bands}.get(band)
    fitting = [image for image in images if image.band == band and gsd_m in (None, image.gsd_m)]
    return min(fitting, key=lambda image: (image.gsd_m not in (None, native), image.gsd_m or 0))


def _named(path: str, images: Sequence[_Image], preset: Preset, part: str) -> _Image:
    match = _PART.fullmatch(part)
    name, gsd_m = (match[1], int(match[2]) if match[2] else None) if match else (part, None)
    records = preset.sensor.match(name) if preset.sensor else ()
    band = records[0].band.name if len(records) == 1 else name.upper()
    held = {(image.band, gsd) for image in images for gsd in (None, image.gsd_m)}
    if (band, gsd_m) not in held:
        listed = dict.fromkeys(image.band + (f"_{image.gsd_m}m" if image.gsd_m else "") for image in images)
        raise RasterError(f"{path} has no part {part!r} (parts=[...], --parts). It holds {abridged(listed)}.")
    return _best(images, band, gsd_m)


def _for_image(preset: Preset, image: _Image) -> Preset:
    if image.band not in _BANDS:
        return Preset(preset.product, preset.source, sensor=preset.sensor, date=preset.date)
    return Preset(
        preset.product,
        preset.source,
        by_band=preset.by_band,
        sensor=preset.sensor,
        wavelengths=preset.wavelengths,
        date=preset.date,
        bands=(image.band,),
    )


def preset_of_path(path: str) -> Preset | None:
    """What the metadata of the SAFE folder state about one of its image files; `None` if a file is none of them."""
    before, _, after = path.rpartition("/GRANULE/")
    files = files_in(before) if _IMAGE.fullmatch(f"GRANULE/{after}") else None
    name = _metadata_name(files) if files else None
    return None if files is None or name is None else _read_metadata(files, name)


# The metadata file


def _read_metadata(files: ProductFiles, name: str) -> Preset:
    """What the metadata of a product state.

    Raises:
        RasterError: they lack the quantification value, or the offset that their processing baseline has.
    """
    where, source = f"{files.path}/{name}", os.path.basename(name)
    root = files.xml(name)
    level = "2a" if "2A" in (_text(root, "PROCESSING_LEVEL") or source).upper() else "1c"
    names = ("BOA_QUANTIFICATION_VALUE", "L2A_BOA_QUANTIFICATION_VALUE") if level == "2a" else ("QUANTIFICATION_VALUE",)
    quantification = next((number for tag in names if (number := _number(root, tag))), None)
    if quantification is None:
        raise RasterError(f"{where} states no {' or '.join(names)} above 0. Fetch the product again.")
    band_ids = _band_ids(root)
    offsets = _offsets(where, root, "BOA_ADD_OFFSET" if level == "2a" else "RADIO_ADD_OFFSET", band_ids)
    nodata = _nodata(root)
    stored = {
        band: StoredAs(Scaling(1 / quantification, offset / quantification), nodata=(nodata,))
        for band, offset in offsets.items()
    }
    start, end = _text(root, "PRODUCT_START_TIME"), _text(root, "PRODUCT_STOP_TIME")
    return Preset(
        PRODUCTS[f"sentinel-2-l{level}"],
        source,
        by_band=stored,
        sensor=_sensor(_text(root, "SPACECRAFT_NAME") or ""),
        wavelengths=_wavelengths(where, root, band_ids),
        date=_date(start, end),
    )


def _date(start: str | None, end: str | None) -> Period | None:
    if start is None:
        return None
    return (between(start, end) if end else None) or parse_period(start)


def _text(root: ElementTree.Element, tag: str) -> str | None:
    text = root.findtext(f".//{{*}}{tag}")
    return text.strip() if text and text.strip() else None


def _number(root: ElementTree.Element, tag: str) -> float | None:
    number = finite(_text(root, tag) or "")
    return number if number and number > 0 else None


def _band_ids(root: ElementTree.Element) -> dict[str, str]:
    """Names of bands by their bandId."""
    listed = {}
    for band in root.iterfind(".//{*}Spectral_Information"):
        records = SENSORS["sentinel-2"].match(band.get("physicalBand", ""))
        if len(records) == 1 and (number := band.get("bandId")) is not None:
            listed[number] = records[0].band.name
    return listed or {str(number): name for number, name in enumerate(_BANDS)}


def _offsets(where: str, root: ElementTree.Element, tag: str, band_ids: Mapping[str, str]) -> dict[str, float]:
    """What is added to the stored numbers of each band; 0 where the baseline knows no offset."""
    offsets = dict.fromkeys(band_ids.values(), 0.0)
    listed = {band.get("band_id", ""): finite(band.text or "") for band in root.iterfind(f".//{{*}}{tag}")}
    for number, offset in listed.items():
        if offset is None:
            raise RasterError(f"{where} states {tag} of band {number} that is no number. Fetch the product again.")
        if number in band_ids:
            offsets[band_ids[number]] = offset
    baseline = parse_baseline(_text(root, "PROCESSING_BASELINE") or "")
    lacking = [name for number, name in band_ids.items() if number not in listed]
    if baseline is not None and has_offset(baseline) and lacking:
        raise RasterError(
            f"{where} states processing baseline {baseline[0]:02d}.{baseline[1]:02d}, but no {tag} of "
            f"{abridged(lacking)}. Fetch the product again, or copy the image files elsewhere, name these and say "
            "scale=... and offset=... (--scale, --offset)."
        )
    return offsets


def _nodata(root: ElementTree.Element) -> float:
    for special in root.iterfind(".//{*}Special_Values"):
        if (special.findtext("{*}SPECIAL_VALUE_TEXT") or "").strip().upper() == "NODATA":
            return finite(special.findtext("{*}SPECIAL_VALUE_INDEX") or "") or 0.0
    return 0.0


def _wavelengths(
    where: str, root: ElementTree.Element, band_ids: Mapping[str, str]
) -> dict[str, tuple[Quantity, Quantity | None]]:
    """Centre and full width at half maximum of each band, as far as they are stated."""
    wavelengths = {}
    for band in root.iterfind(".//{*}Spectral_Information"):
        name, central = band_ids.get(band.get("bandId", "")), band.find("{*}Wavelength/{*}CENTRAL")
        if name is None or central is None:
            continue
        center = length_nm(
            f"Band {name} of {where}", "center_nm", central.text or "", central.get("unit", "nm"), "CENTRAL"
        )
        if center is not None:
            wavelengths[name] = (center, _width(band.find("{*}Spectral_Response")))
    return wavelengths


def _width(response: ElementTree.Element | None) -> Quantity | None:
    """Full width at half maximum of a spectral response; MIN and MAX of the metadata span all of it, which is wider."""
    step = response.find("{*}STEP") if response is not None else None
    if response is None or step is None or step.get("unit", "nm") != "nm":
        return None
    step_nm = finite(step.text or "")
    numbers = [finite(text) for text in (response.findtext("{*}VALUES") or "").split()]
    values = np.array([np.nan if number is None else number for number in numbers])
    if not step_nm or values.size < 2 or not np.isfinite(values).all() or values.max() <= 0:
        return None
    above = np.flatnonzero(values >= values.max() / 2)
    if above[0] == 0 or above[-1] == values.size - 1:
        return None
    first = _crossing(values, above[0] - 1, above[0])
    last = _crossing(values, above[-1] + 1, above[-1])
    return Quantity((last - first) * step_nm, tolerance=step_nm)


def _crossing(values: np.ndarray, low: int, high: int) -> float:
    """Where a response crosses its half maximum between two neighbouring samples, in samples."""
    half = values.max() / 2
    return float(low + (high - low) * (half - values[low]) / (values[high] - values[low]))
