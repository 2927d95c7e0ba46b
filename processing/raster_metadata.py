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
"""What a raster file tells about its bands, date, ground sampling distance, georeference, scale and missing data.

Each [`Fact`] remembers where it came from, what nothing states stays unknown, and statements that exclude each other
are an error.
"""

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from rasterio import Affine
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.io import DatasetReader
from rasterio.warp import transform as transform_points

from .metadata import KIND_ALIASES, MIN_WAVELENGTH_NM, POLARISATIONS, Band, MetadataError, parse_datetime
from .sensors import Sensor, SensorBand, find_sensor, plain_band_name

# What a folder is searched for. Other formats are read too when the file itself is named.
RASTER_SUFFIXES = (
    *(".tif", ".tiff", ".vrt", ".jp2", ".j2k", ".img", ".dat", ".bil", ".bip", ".bsq"),
    *(".png", ".jpg", ".jpeg", ".nc", ".hdf", ".h5"),
)
# ISO 20473 ends the near infrared at 3 um; bands beyond it see more emitted heat than reflected sunlight.
THERMAL_FROM_NM = 3000.0
# Parts of one acquisition (granules, start and middle of a strip) differ by less.
DATE_TOLERANCE = timedelta(hours=12)
# WGS 84 ellipsoid: semi-major axis in metres and first eccentricity squared (NIMA TR8350.2, table 3.1 and 3.3).
WGS84_A, WGS84_E2 = 6378137.0, 6.69437999014e-3

_MAX_LISTED = 12
_UNITS_NM = {"nm": 1, "nanometer": 1, "nanometre": 1, "um": 1000, "µm": 1000, "μm": 1000, "micron": 1000}
_UNITS_NM |= {"micrometer": 1000, "micrometre": 1000}
_NO_UNIT = ("", "unknown", "none")
# Narrower bands exist only in nanometres' fractions; 0.02 without a unit is one of 20 nm written in micrometres.
_MIN_UNITLESS_WIDTH_NM = 1.0
# A band as wide as most of the camera bands whose width nobody published.
_USUAL_WIDTH_NM = 50.0
_CENTER_TAG = re.compile(r"(?:(?:cent(?:er|re|ral)_?)?wavelength|cent(?:er|re)(?=_nm|_um))(?:_(nm|um))?")
_FWHM_TAG = re.compile(r"fwhm(?:_(nm|um))?")
_POLARISATION_NAME = re.compile(
    r"(?:(?:sigma|gamma|beta)(?:0|_?nought)?_?)?(vv|vh|hh|hv)(?:_?(?:db|lin|linear|amplitude|intensity))?", re.I
)
_INSTRUMENT_TAGS = ("sensor", "sensor_id", "sensor_name", "sensor_type", "instrument")
_PLATFORM_TAGS = (
    *("platform", "satellite", "satellite_id", "satelliteid", "mission"),
    *("spacecraft", "spacecraft_id", "spacecraft_name"),
)
_DATE_TAGS = (
    *("timestamp", "acquisition_date", "acquisition_datetime", "acquisition_time", "acquisitiondatetime"),
    *("date_acquired", "sensing_time", "product_start_time", "datetime"),
)
_NAME_DATE = re.compile(
    r"(?<!\d)(?:(\d{4})-(\d{2})-(\d{2})|(\d{4})(\d{2})(\d{2}))(?:[Tt_ ](\d{2})[:-]?(\d{2})[:-]?(\d{2})(?!\d))?(?!\d)"
)


class RasterError(ValueError):
    """A raster that cannot be used, or an output that cannot be written. The message says which and what to do."""


@dataclass(frozen=True)
class Fact:
    """One thing known, or found to be unknown, about a raster.

    Args:
        path: the file.
        band: number of the band in the file, from 1; `None` for facts of the whole file.
        name: what it is, with its unit (`center_nm`, `gsd_m`, `datetime`...).
        value: its value; `None` = unknown.
        source: where it came from, or what was looked for.
    """

    path: str
    band: int | None
    name: str
    value: Any
    source: str


@dataclass(frozen=True)
class Layer:
    """The bands of one date that lie in one file, and what makes their numbers physical."""

    path: str
    indexes: tuple[int, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    masked: bool


@dataclass(frozen=True)
class _Text:
    """A name or word that a file states."""

    value: str
    source: str


@dataclass(frozen=True)
class _Length:
    """A wavelength or width in nanometres that a file states, to within one unit of its last digit."""

    value: float
    source: str
    tolerance: float


@dataclass(frozen=True)
class _Date:
    """A date that a file states; it leaves the time from `start` to `end` open."""

    value: datetime
    source: str
    start: datetime
    end: datetime

    def contradicts(self, other: "_Date") -> bool:
        return self.start > other.end + DATE_TOLERANCE or other.start > self.end + DATE_TOLERANCE


def abridged(items: Iterable[Any]) -> str:
    """A list for a message, abridged if it is long."""
    items = list(map(str, items))
    more = f" and {len(items) - _MAX_LISTED} more" if len(items) > _MAX_LISTED else ""
    return ", ".join(items[:_MAX_LISTED]) + more


# The whole file


def _tags(dataset: DatasetReader, index: int = 0, domain: str | None = None) -> dict[str, tuple[str, str]]:
    """Tags by lower-case key: (key as written, text)."""
    tags = dataset.tags(index, ns=domain) if domain else dataset.tags(index)
    return {re.sub(r"[\s-]+", "_", key.strip().casefold()): (key, text.strip()) for key, text in tags.items()}


def georeference(path: str, dataset: DatasetReader) -> tuple[str | None, tuple[float, ...] | None, list[Fact]]:
    """CRS and transform as in [`ImageSeries`], and the facts about size and georeference."""
    size = Fact(path, None, "size", f"{dataset.height} x {dataset.width}", "raster")
    text = None
    if dataset.crs:
        epsg = dataset.crs.to_string()
        text = epsg if epsg.startswith("EPSG:") else dataset.crs.to_wkt()
    # GDAL reports the identity for rasters without a geotransform.
    if coefficients(dataset.transform) == (1.0, 0.0, 0.0, 0.0, 1.0, 0.0):
        source = "no geotransform in the file"
        if dataset.gcps[0]:
            source += f", only {len(dataset.gcps[0])} ground control points: warp it to give it one"
        crs_source = f"{text} not used without a geotransform" if text else "none in the file"
        return (
            None,
            None,
            [size, Fact(path, None, "crs", None, crs_source), Fact(path, None, "transform", None, source)],
        )
    transform = coefficients(dataset.transform)
    crs_fact = Fact(path, None, "crs", text, "georeference of the file" if text else "none in the file")
    return text, transform, [size, crs_fact, Fact(path, None, "transform", transform, "georeference of the file")]


def coefficients(transform: Affine) -> tuple[float, ...]:
    """The six that an [`ImageSeries`] holds; `Affine` adds a constant row."""
    return tuple(transform)[:6]


def ground_sampling_distance(dataset: DatasetReader, transform: tuple[float, ...] | None) -> tuple[float | None, str]:
    """Ground sampling distance in metres (side of a square of the same area as a pixel), and its source."""
    if transform is None:
        return None, "no geotransform in the file, and no argument gsd_m"
    crs = dataset.crs
    if not crs or not (crs.is_geographic or crs.is_projected):
        return None, "the file has no geographic or projected CRS, and no argument gsd_m was given"
    a, b, c, d, e, f = transform
    column, row = dataset.width / 2, dataset.height / 2
    points = [(column, row), (column + 1, row), (column, row + 1)]
    xs, ys = zip(*((a * x + b * y + c, d * x + e * y + f) for x, y in points), strict=True)
    if crs.is_geographic:
        radians = crs.units_factor[1]
        return _ground_size_m([x * radians for x in xs], [y * radians for y in ys]), (
            "geotransform in degrees, at the latitude of the raster's centre"
        )
    if crs.to_dict().get("proj") == "merc":
        longitudes, latitudes = transform_points(crs, "EPSG:4326", xs, ys)
        return _ground_size_m(np.radians(longitudes), np.radians(latitudes)), (
            "geotransform, Mercator's stretch undone at the latitude of the raster's centre"
        )
    unit, metres = crs.linear_units_factor
    return math.sqrt(abs(a * e - b * d)) * metres, f"geotransform in units of {unit}"


def _ground_size_m(longitudes: Sequence[float], latitudes: Sequence[float]) -> float:
    """Side in metres of a square as large as a pixel on WGS 84, from its corner and two neighbours in radians."""
    sine = math.sin(latitudes[0])
    prime_vertical = WGS84_A / math.sqrt(1 - WGS84_E2 * sine**2)
    meridional = prime_vertical * (1 - WGS84_E2) / (1 - WGS84_E2 * sine**2)
    east = [(value - longitudes[0]) * prime_vertical * math.cos(latitudes[0]) for value in longitudes]
    north = [(value - latitudes[0]) * meridional for value in latitudes]
    return math.sqrt(abs(east[1] * north[2] - east[2] * north[1]))


def sensor_of(path: str, dataset: DatasetReader, given: Sensor | None) -> tuple[Sensor | None, Fact]:
    """The sensor given, or else that which the file's tags name."""
    if given is not None:
        return given, Fact(path, None, "sensor", given.name, "argument sensor")
    tags = _tags(dataset) | _tags(dataset, domain="ENVI") | _tags(dataset, domain="IMAGERY")
    instruments = [tags[key] for key in _INSTRUMENT_TAGS if key in tags]
    platforms = [tags[key] for key in _PLATFORM_TAGS if key in tags]
    # A platform may carry several instruments: its name alone counts only where no instrument is named.
    named = [(f"{p[0]} {i[0]}", f"{p[1]} {i[1]}") for p in platforms for i in instruments]
    named += instruments or platforms
    for key, text in named:
        try:
            sensor = find_sensor(text)
        except MetadataError:
            continue
        return sensor, Fact(path, None, "sensor", sensor.name, f"tag {key} {text!r}")
    listed = ", ".join(f"{key} {text!r}" for key, text in named)
    looked = f"tags name none that the table knows ({listed})" if listed else "no tag names one"
    return None, Fact(path, None, "sensor", None, f"{looked}, and no argument sensor")


def date_of(files: Sequence[str], datasets: Iterable[DatasetReader]) -> Fact:
    """When the files of one date were taken; each of `datasets` is asked before the next one is drawn."""
    pairs = zip(files, datasets, strict=True)
    stated = [(path, date) for path, dataset in pairs if (date := _stated_date(path, dataset))]
    for (one_path, one), (two_path, two) in pairwise(stated):
        if one.contradicts(two):
            raise RasterError(
                f"Files of one date were taken at different times: {one_path} at {one.value.isoformat()} "
                f"({one.source}), {two_path} at {two.value.isoformat()} ({two.source}). Give each date an entry of "
                "its own in paths, or say what holds with dates=[...]."
            )
    if stated:
        return Fact(files[0], None, "datetime", stated[0][1].value, stated[0][1].source)
    looked = f"no tag such as TIMESTAMP or TIFFTAG_DATETIME, not exactly one date in the name {Path(files[0]).name}"
    return Fact(files[0], None, "datetime", None, f"{looked}, and no argument dates")


def _stated_date(path: str, dataset: DatasetReader) -> _Date | None:
    """The date that a file states: in a tag, or else in its name."""
    tags = _tags(dataset) | _tags(dataset, domain="ENVI") | _tags(dataset, domain="IMAGERY")
    stated = [_tag_date(tags[key][1], f"tag {tags[key][0]}") for key in _DATE_TAGS if key in tags]
    in_name = _name_date(path)
    if not any(stated) and "tifftag_datetime" in tags:
        # TIFF 6.0 defines it as the time of the image's creation. Processing may have set it: the name must not differ.
        stated = [_tag_date(tags["tifftag_datetime"][1], "tag TIFFTAG_DATETIME"), in_name]
    known = [date for date in stated if date] or [date for date in [in_name] if date]
    for date in known[1:]:
        if date.contradicts(known[0]):
            raise RasterError(
                f"{path} states two dates: {known[0].source} says {known[0].value.isoformat()}, {date.source} "
                f"{date.value.isoformat()}. Say which holds with dates=[...]."
            )
    return known[0] if known else None


def _tag_date(text: str, source: str) -> _Date | None:
    """`None` if the text is not a date."""
    # TIFF and EXIF write 2021:07:23 13:22:41.
    text = re.sub(r"^(\d{4}):(\d{2}):(\d{2})", r"\1-\2-\3", text)
    try:
        value = parse_datetime(text)
    except MetadataError:
        return None
    # `parse_datetime` takes the middle of a year or a month, and the first instant of a day.
    half_open = {4: timedelta(days=183), 7: timedelta(days=16)}.get(len(text), timedelta(0))
    after = timedelta(days=1) if len(text) == 10 else half_open
    return _Date(value, source, value - half_open, value + after)


def _name_date(path: str) -> _Date | None:
    """The date in a file name, if it is exactly one."""
    found: dict[datetime, datetime] = {}
    for match in _NAME_DATE.finditer(Path(path).name):
        parts = [int(part) for part in match.groups() if part is not None]
        try:
            day, value = datetime(*parts[:3]), datetime(*parts)
        except ValueError:
            continue
        if 1950 <= value.year < 2100:
            # The first time of day counts: that of processing follows it in product names.
            found[day] = value if found.get(day, day) == day else found[day]
    if len(found) != 1:
        return None
    (day, value), *_ = found.items()
    return _Date(value, "file name", value, value if value != day else day + timedelta(days=1))


# Its bands


def identify_bands(
    path: str, dataset: DatasetReader, indexes: Sequence[int], sensor: Sensor | None
) -> tuple[list[Band], list[Fact]]:
    """What the bands of a file measured, from the file and the sensor's table."""
    header, header_source = _envi_header(path, dataset)
    all_names = _band_names(path, dataset, indexes, header)
    bands, facts, unknown = [], [], []
    for index, names in zip(indexes, all_names, strict=True):
        lengths = _stated_lengths(path, dataset, index, header, header_source)
        try:
            band, sources = _identify(path, dataset, index, names, lengths, sensor)
        except MetadataError as error:
            raise RasterError(f"Band {index} of {path}: {error} Or give the bands with bands=[...].") from error
        if band is None:
            unknown.append(index)
        else:
            bands.append(band)
            facts += facts_of_band(path, index, band, sources)
    if unknown:
        looked_up = {
            name.value: None
            for index, found in zip(indexes, all_names, strict=True)
            for name in found
            if index in unknown
        }
        table = (
            f"the table of {sensor.name}" if sensor else "a sensor's table (neither the file nor sensor=... names one)"
        )
        listed = abridged(map(repr, looked_up)) or "none"
        raise RasterError(
            f"{'Bands' if len(unknown) > 1 else 'Band'} {abridged(unknown)} of {path}: nothing says what "
            "was measured. Looked for CENTRAL_WAVELENGTH_UM in the IMAGERY domain, tags such as wavelength_nm, kind or "
            f"polarisation, an ENVI header, and for the names that the file gives ({listed}) in {table}. Name the "
            "bands (bands=[...]: Band records, or names of a sensor), or the sensor whose band names the file uses "
            "(sensor=...)."
        )
    return bands, facts


def _identify(
    path: str,
    dataset: DatasetReader,
    index: int,
    names: Sequence[_Text],
    lengths: Mapping[str, _Length | None],
    sensor: Sensor | None,
) -> tuple[Band | None, dict[str, str]]:
    """One band and the source of each field; no band if nothing says what it measured."""
    kind, polarisation = _stated_kind(path, dataset, index, names)
    center = lengths["center_nm"]
    record, by_name = _look_up(sensor, names)
    table = f"band {record.band.name} of {sensor.name}, by {by_name}" if record else ""
    if record:
        _check_record(f"Band {index} of {path}", record, table, kind, center)
        kind = kind or _Text(record.band.kind, table)
        if polarisation is None and record.band.polarisation:
            polarisation = _Text(record.band.polarisation, table)
    if kind is None and center:
        reflective = center.value < THERMAL_FROM_NM
        source = f"wavelength {'below' if reflective else 'not below'} {THERMAL_FROM_NM:g} nm"
        kind = _Text("reflective" if reflective else "thermal", source)
    if kind is None:
        return None, {}
    missing = "no IMAGERY domain, tag, ENVI header or sensor table states it"
    sources = {"kind": kind.source, "polarisation": polarisation.source if polarisation else missing}
    values: dict[str, Any] = {}
    for field_name, length in lengths.items():
        value = length.value if length else record and getattr(record.band, field_name)
        values[field_name] = value
        sources[field_name] = length.source if length else table if value is not None else missing
    label = _Text(record.band.name, table) if record else _label(path, dataset, index, names)
    sources["name"] = label.source
    values["polarisation"] = polarisation.value if polarisation else None
    return Band(label.value, kind=kind.value, **values), sources


def _check_record(where: str, record: SensorBand, table: str, kind: _Text | None, center: _Length | None) -> None:
    """The file must not contradict the entry of the table that its band name leads to."""
    remedy = "Leave sensor=... out if the file is right, name the right one, or give the bands with bands=[...]."
    if kind and kind.value != record.band.kind:
        raise RasterError(
            f"{where} is of kind {kind.value!r} ({kind.source}), but {record.band.kind!r} as {table}. {remedy}"
        )
    known = record.band.center_nm
    if center and known is not None and abs(center.value - known) > (record.band.fwhm_nm or _USUAL_WIDTH_NM):
        raise RasterError(
            f"{where} has its centre at {center.value:g} nm ({center.source}), but at {known:g} nm as {table}: "
            f"further off than that band is wide. {remedy}"
        )


def _look_up(sensor: Sensor | None, names: Sequence[_Text]) -> tuple[SensorBand | None, str]:
    for name in names:
        found = sensor.match(name.value) if sensor else ()
        if len(found) == 1:
            return found[0], f"{name.source} {name.value!r}"
    return None, ""


def _label(path: str, dataset: DatasetReader, index: int, names: Sequence[_Text]) -> _Text:
    """What a band is called that no table knows."""
    if names and names[0].source != "file name":
        return names[0]
    if dataset.count == 1:
        return _Text(Path(path).stem, "file name")
    return _Text(f"band_{index}", "its number; the file gives no name")


def _band_names(
    path: str, dataset: DatasetReader, indexes: Sequence[int], header: Mapping[str, str]
) -> list[list[_Text]]:
    """Names that a file gives to each band, the first one to be believed, and where they stand."""
    descriptions, colours = dataset.descriptions, dataset.colorinterp
    in_file_name = _file_name_parts(path) if len(indexes) == 1 else []
    all_names = []
    for index in indexes:
        names = []
        if description := descriptions[index - 1]:
            names.append(_Text(plain_band_name(description), "description"))
        elif "band_names" in header:
            names.append(_Text(_envi_item(path, dataset, header, "band_names", index), "ENVI header"))
        names += in_file_name
        if colours[index - 1] not in (ColorInterp.undefined, ColorInterp.gray, ColorInterp.palette):
            names.append(_Text(colours[index - 1].name, "colour interpretation"))
        all_names.append(names)
    return all_names


def _file_name_parts(path: str) -> list[_Text]:
    """What may name the band of a file that holds one."""
    base = Path(path).name
    stem = base[: -len(Path(base).suffix)] if base.lower().endswith(RASTER_SUFFIXES) else base
    parts = [part for part in re.split(r"[^0-9A-Za-z]+", stem) if part]
    # The last part names the band, or the last few do: ..._B02, ..._B02_10m, ..._SR_B2.
    names = ["_".join(parts[-length:]) for length in (1, 2, 3) if length <= len(parts)]
    radar = {part.upper() for part in parts} & set(POLARISATIONS)
    return [_Text(name, "file name") for name in (*names, *(radar if len(radar) == 1 else ()))]


def _stated_kind(
    path: str, dataset: DatasetReader, index: int, names: Sequence[_Text]
) -> tuple[_Text | None, _Text | None]:
    """Kind and polarisation from tags and names."""
    kinds, polarisations = [], []
    for key, (written, value) in _tags(dataset, index).items():
        if key == "kind":
            kind = value.casefold()
            kinds.append(_Text(KIND_ALIASES.get(kind, kind), f"tag {written}"))
        elif key in ("polarisation", "polarization") and value.upper() in POLARISATIONS:
            polarisations.append(_Text(value.upper(), f"tag {written}"))
    for name in names:
        if match := _POLARISATION_NAME.fullmatch(name.value):
            polarisations.append(_Text(match[1].upper(), f"{name.source} {name.value!r}"))
    kinds += [_Text("sar", f"polarisation in {text.source}") for text in polarisations[:1]]
    for what, texts in (("kind", kinds), ("polarisation", polarisations)):
        for text in texts[1:]:
            if text.value != texts[0].value:
                raise RasterError(
                    f"Band {index} of {path} states two values of {what}: {texts[0].value!r} ({texts[0].source}) and "
                    f"{text.value!r} ({text.source}). Correct the file, or give the bands with bands=[...]."
                )
    return kinds[0] if kinds else None, polarisations[0] if polarisations else None


def _stated_lengths(
    path: str, dataset: DatasetReader, index: int, header: Mapping[str, str], header_source: str
) -> dict[str, _Length | None]:
    """Centre and width from the IMAGERY domain, tags and an ENVI header, which must agree."""
    where = f"Band {index} of {path}"
    imagery, tags = _tags(dataset, index, "IMAGERY"), _tags(dataset, index)
    units = tags.get("wavelength_units") or tags.get("wavelength_unit") or ("", "")
    stated: dict[str, list[_Length]] = {"center_nm": [], "fwhm_nm": []}
    for name, key in (("center_nm", "central_wavelength_um"), ("fwhm_nm", "fwhm_um")):
        if key in imagery:
            stated[name] += _length(where, name, imagery[key][1], "um", f"IMAGERY {imagery[key][0]}")
    for key, (written, text) in tags.items():
        for name, pattern in (("center_nm", _CENTER_TAG), ("fwhm_nm", _FWHM_TAG)):
            if match := pattern.fullmatch(key):
                stated[name] += _length(where, name, text, match[1] or units[1], f"tag {written}")
    for name, key in (("center_nm", "wavelength"), ("fwhm_nm", "fwhm")):
        if key in header:
            text = _envi_item(path, dataset, header, key, index)
            stated[name] += _length(where, name, text, header.get("wavelength_units", ""), f"{header_source} {key}")
    for name, lengths in stated.items():
        for one in lengths:
            for two in lengths:
                if abs(one.value - two.value) > one.tolerance + two.tolerance:
                    raise RasterError(
                        f"{where} states two values of {name}: {one.value:g} ({one.source}) and {two.value:g} "
                        f"({two.source}). Correct the file, or give the bands with bands=[...]."
                    )
    # GDAL's IMAGERY domain is rounded to 1 nm: of values that agree, the one with most digits is the best.
    return {name: min(lengths, key=lambda length: length.tolerance, default=None) for name, lengths in stated.items()}


def _length(where: str, name: str, text: str, unit: str, source: str) -> list[_Length]:
    """A length in nanometres; none if the text is not a number."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        return []
    if not number.is_finite():
        return []
    unit = unit.strip().casefold()
    if unit == "index":
        return []
    factor = _UNITS_NM.get(unit.removesuffix("s"), 1 if unit in _NO_UNIT else None)
    if factor is None:
        known = ", ".join(_UNITS_NM)
        raise RasterError(
            f"{where} gives a wavelength in {unit!r} ({source}). Known units are {known}. Give the bands with "
            "bands=[...]."
        )
    value = float(number) * factor
    smallest = MIN_WAVELENGTH_NM if name == "center_nm" else _MIN_UNITLESS_WIDTH_NM if unit in _NO_UNIT else 0.0
    if value < smallest or value <= 0:
        raise RasterError(
            f"{where} has {name} = {value:g} ({source}), which looks like micrometres: nanometres of {smallest:g} or "
            "more are expected. State the unit in the file (wavelength_units=Micrometers), or give the bands with "
            "bands=[...]."
        )
    return [_Length(value, source, float(Decimal(1).scaleb(number.as_tuple().exponent)) * factor)]


def _envi_header(path: str, dataset: DatasetReader) -> tuple[dict[str, str], str]:
    """Fields of an ENVI header, from GDAL's ENVI domain or else from a .hdr file beside the raster."""
    if domain := _tags(dataset, domain="ENVI"):
        return {key: text for key, (_, text) in domain.items()}, "ENVI header"
    for beside in (os.path.splitext(path)[0] + ".hdr", path + ".hdr"):
        if os.path.isfile(beside):
            text = Path(beside).read_text(encoding="utf-8", errors="replace")
            if text.startswith("ENVI"):
                pairs = re.findall(r"^[ \t]*([^=\n]+?)[ \t]*=[ \t]*(\{[^}]*\}|[^\n]*)", text, re.MULTILINE)
                return {re.sub(r"\s+", "_", key.casefold()): value.strip() for key, value in pairs}, Path(beside).name
    return {}, ""


def _envi_item(path: str, dataset: DatasetReader, header: Mapping[str, str], key: str, index: int) -> str:
    items = [item.strip() for item in header[key].strip("{} \n").split(",")]
    if len(items) != dataset.count:
        raise RasterError(
            f"The ENVI header of {path} lists {len(items)} values of {key.replace('_', ' ')!r} for {dataset.count} "
            "bands. Correct it, or give the bands with bands=[...]."
        )
    return items[index - 1]


def facts_of_band(path: str, index: int, band: Band, sources: str | Mapping[str, str]) -> list[Fact]:
    """The facts of a band, without those that its kind cannot have; `sources`: one for all, or one a field."""
    names = ["name", "kind"]
    names += ["polarisation"] if band.kind == "sar" else []
    names += ["center_nm", "fwhm_nm"] if band.kind in ("reflective", "thermal", "other") else []
    sources = dict.fromkeys(names, sources) if isinstance(sources, str) else sources
    return [Fact(path, index, name, getattr(band, name), sources[name]) for name in names]


def layer_of(
    path: str, dataset: DatasetReader, indexes: Sequence[int], given: Sequence[float | None]
) -> tuple[Layer, list[Fact]]:
    """How the bands of a file become physical units, and the facts about scale and missing data."""
    scales, offsets, facts = [], [], []
    own = zip(dataset.scales, dataset.offsets, dataset.nodatavals, dataset.mask_flag_enums, strict=True)
    of_file = dict(zip(dataset.indexes, own, strict=True))
    for index, factor in zip(indexes, given, strict=True):
        scale, offset, nodata, flags = of_file[index]
        stated = f"scale {scale:g} and offset {offset:g} of the file" if (scale, offset) != (1.0, 0.0) else ""
        source = "scale and offset of the file" if stated else "none in the file, and no argument scale"
        if factor is not None:
            if not math.isfinite(factor) or factor == 0:
                raise RasterError(
                    f"scale must be a finite number other than 0, got {factor!r} for band {index} of {path}."
                )
            scale, offset = float(factor), 0.0
            source = "argument scale" + (f"; {stated} not applied" if stated else "")
        known = factor is not None or bool(stated)
        facts.append(Fact(path, index, "scale", scale if known else None, source))
        if offset:
            facts.append(Fact(path, index, "offset", offset, source))
        facts.append(Fact(path, index, "nodata", nodata, _mask_source(flags)))
        scales.append(scale)
        offsets.append(offset)
    masked = any(MaskFlags.all_valid not in of_file[index][3] for index in indexes)
    return Layer(path, tuple(indexes), tuple(scales), tuple(offsets), masked), facts


def _mask_source(flags: Sequence[MaskFlags]) -> str:
    if MaskFlags.alpha in flags:
        return "none in the file; its alpha band says where data are missing"
    if MaskFlags.per_dataset in flags:
        return "none in the file; its mask says where data are missing"
    return "nodata value of the file" if MaskFlags.nodata in flags else "none in the file, nor a mask"
