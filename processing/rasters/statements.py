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
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

try:
    from rasterio import CRS, Affine
    from rasterio.enums import ColorInterp, MaskFlags
    from rasterio.io import DatasetReader
    from rasterio.warp import transform as transform_points
except ImportError as error:
    raise ImportError("Reading rasters needs rasterio: pip install rasterio") from error

from ..metadata import KIND_ALIASES, MIN_WAVELENGTH_NM, POLARISATIONS, Band, MetadataError, parse_datetime
from .sensors import Sensor, SensorBand, find_sensor, plain_band_name

if TYPE_CHECKING:
    from .cubes import Cube
    from .stac import Asset

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
_UNITS_NM |= {
    "micrometer": 1000,
    "micrometre": 1000,
    "angstrom": 0.1,
    "mm": 1e6,
    "millimeter": 1e6,
    "m": 1e9,
    "meter": 1e9,
}
_NO_UNIT = ("", "unknown", "none")
# Narrower bands exist only in nanometres' fractions; 0.02 without a unit is one of 20 nm written in micrometres.
_MIN_UNITLESS_WIDTH_NM = 1.0
# A band as wide as most of the camera bands whose width nobody published.
_USUAL_WIDTH_NM = 50.0
_WEAK_SOURCES = ("file name", "colour interpretation")
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
    *("date_acquired", "sensing_time", "product_start_time", "datetime", "time", "time_coverage_start"),
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
    """The bands of one date that lie in one file, and what makes their numbers physical.

    Args:
        path: the file.
        indexes: numbers of the bands in the file, from 1.
        scales: factor of each band from stored numbers to physical units.
        offsets: what is added after that.
        masked: whether the file marks missing data (nodata value, mask or alpha).
        nodata: for each band the number that means missing where the file does not say so itself; `None` = none.
        warped: whether the file lies on another grid and is warped while it is read.
    """

    path: str
    indexes: tuple[int, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    masked: bool
    nodata: tuple[float | None, ...]
    warped: bool = False


@dataclass(frozen=True)
class Tag:
    """Something that a file, or what describes it, states: key in lower case, where it stands, and the text."""

    key: str
    label: str
    text: str


def tag_key(text: str) -> str:
    """A key in lower case, its words joined by `_`."""
    return re.sub(r"[\s-]+", "_", text.strip().casefold())


@dataclass(frozen=True)
class Source:
    """An open file and, where a STAC item led to it, what that says about it."""

    path: str
    dataset: "DatasetReader | Cube"
    asset: "Asset | None" = None

    def tags(self, index: int = 0, *domains: str) -> list[Tag]:
        """What is stated of the file (`index` 0) or of a band; without `domains`, in the default one and by STAC."""
        word = getattr(self.dataset, "TAG_WORD", "tag")
        tags = []
        for domain in domains or ("",):
            found = self.dataset.tags(index, ns=domain) if domain else self.dataset.tags(index)
            label = f"{domain} {{}}" if domain in ("IMAGERY",) else f"{word} {{}}"
            tags += [Tag(tag_key(key), label.format(key.strip()), str(text).strip()) for key, text in found.items()]
        if self.asset and not domains:
            tags += self.asset.tags if index == 0 else self.asset.tags_of_band(index, self.dataset)
        return tags

    @property
    def channels(self) -> tuple[int, ...]:
        """Numbers of the bands that are not alpha."""
        pairs = zip(self.dataset.indexes, self.dataset.colorinterp, strict=True)
        return tuple(index for index, colour in pairs if colour != ColorInterp.alpha)


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
        earlier, later = sorted((self, other), key=lambda date: (date.start, date.end))
        if max(self.end - self.start, other.end - other.start) > timedelta(days=1):
            # A period ends where the next one begins.
            return later.start >= earlier.end > earlier.start or later.start > earlier.end
        return later.start - earlier.end > DATE_TOLERANCE


def abridged(items: Iterable[Any]) -> str:
    """A list for a message, abridged if it is long."""
    items = list(map(str, items))
    more = f" and {len(items) - _MAX_LISTED} more" if len(items) > _MAX_LISTED else ""
    return ", ".join(items[:_MAX_LISTED]) + more


# The whole file


def georeference(source: Source) -> tuple[str | None, tuple[float, ...] | None, list[Fact]]:
    """CRS and transform as in [`ImageSeries`], and the facts about size and georeference."""
    path, dataset = source.path, source.dataset
    size = Fact(path, None, "size", f"{dataset.height} x {dataset.width}", "raster")
    text = None
    if dataset.crs:
        epsg = dataset.crs.to_string()
        text = epsg if epsg.startswith("EPSG:") else dataset.crs.to_wkt()
    # GDAL reports the identity for rasters without a geotransform.
    if coefficients(dataset.transform) == (1.0, 0.0, 0.0, 0.0, 1.0, 0.0):
        missing = "no geotransform in the file"
        if dataset.gcps[0]:
            missing += f", only {len(dataset.gcps[0])} ground control points: warp it (grid=...) to give it one"
        crs_source = f"{text} not used without a geotransform" if text else "none in the file"
        return (
            None,
            None,
            [size, Fact(path, None, "crs", None, crs_source), Fact(path, None, "transform", None, missing)],
        )
    transform = coefficients(dataset.transform)
    crs_fact = Fact(path, None, "crs", text, "georeference of the file" if text else "none in the file")
    return text, transform, [size, crs_fact, Fact(path, None, "transform", transform, "georeference of the file")]


def coefficients(transform: Affine) -> tuple[float, ...]:
    """The six that an [`ImageSeries`] holds; `Affine` adds a constant row."""
    return tuple(transform)[:6]


def ground_sampling_distance(
    source: Source, crs: CRS | None, transform: tuple[float, ...] | None, shape: tuple[int, int]
) -> tuple[float | None, str]:
    """Ground sampling distance in metres (side of a square of the same area as a pixel), and its source.

    A grid tells; only where it does not, the distance counts that a STAC item states, which is that of the instrument.
    """
    reason = ""
    if transform is None:
        reason = "no geotransform in the file"
    elif not crs or not (crs.is_geographic or crs.is_projected):
        reason = "the file has no geographic or projected CRS"
    if reason:
        stated = _numbers(source, [tag for tag in source.tags() if tag.key == "gsd"])
        positive = [(value, tag) for value, tag in stated if value > 0]
        if positive:
            return positive[0][0], positive[0][1].label
        return None, f"{reason}, and no argument gsd_m"
    a, b, c, d, e, f = transform
    column, row = shape[1] / 2, shape[0] / 2
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


def sensor_of(source: Source, given: Sensor | None) -> tuple[Sensor | None, Fact]:
    """The sensor given, or else that which the file's tags or a STAC item name."""
    path = source.path
    if given is not None:
        return given, Fact(path, None, "sensor", given.name, "argument sensor")
    tags = [*source.tags(0, "", "ENVI", "IMAGERY"), *(source.asset.tags if source.asset else ())]
    instruments = [tag for tag in tags if tag.key in _INSTRUMENT_TAGS]
    platforms = [tag for tag in tags if tag.key in _PLATFORM_TAGS]
    found: list[tuple[Sensor, str]] = []
    known: set[Tag] = set()
    # Instruments of one name fly on several platforms (OLI), so both are looked up together first. A platform may carry
    # several instruments: its name alone counts only where no instrument is named.
    pairs = [(f"{p.label} and {i.label.split()[-1]}", f"{p.text} {i.text}", i) for p in platforms for i in instruments]
    for label, text, tag in [*pairs, *((tag.label, tag.text, tag) for tag in instruments or platforms)]:
        if tag in known:
            continue
        try:
            found.append((find_sensor(text), f"{label} {text!r}"))
        except MetadataError:
            continue
        known.add(tag)
    if found:
        # "sentinel-2" and "sentinel-2a" agree, and the longer name says more.
        sensor, source_text = max(found, key=lambda pair: pair[0].name.startswith(found[0][0].name) * len(pair[0].name))
        for other, other_text in found:
            if not sensor.name.startswith(other.name):
                raise RasterError(
                    f"{path} names two sensors: {sensor.name} ({source_text}) and {other.name} ({other_text}). Say "
                    "which holds with sensor=..."
                )
        return sensor, Fact(path, None, "sensor", sensor.name, source_text)
    listed = ", ".join(f"{tag.label} {tag.text!r}" for tag in (*platforms, *instruments))
    looked = f"tags name none that the table knows ({listed})" if listed else "no tag names one"
    return None, Fact(path, None, "sensor", None, f"{looked}, and no argument sensor")


def date_of(sources: Iterable[Source], channels: Sequence[Sequence[int]], stacked: bool) -> Fact:
    """When one date was taken.

    Args:
        sources: its files; each is asked before the next one is drawn.
        channels: the bands of each file that belong to this date.
        stacked: whether the files hold other dates as well, so that only bands can tell.
    """
    first, stated = "", []
    for source, indexes in zip(sources, channels, strict=True):
        first = first or source.path
        of_file = None if stacked else _stated_date(source)
        date = of_file or _date_of_channels(source, indexes)
        if date:
            stated.append((source.path, date))
    for (one_path, one), (two_path, two) in pairwise(stated):
        if one.contradicts(two):
            raise RasterError(
                f"Files of one date were taken at different times: {one_path} at {one.value.isoformat()} "
                f"({one.source}), {two_path} at {two.value.isoformat()} ({two.source}). Give each date an entry of "
                "its own in paths, or say what holds with dates=[...]."
            )
    if stated:
        return Fact(first, None, "datetime", stated[0][1].value, stated[0][1].source)
    looked = f"no tag such as TIMESTAMP or TIFFTAG_DATETIME, not exactly one date in the name {Path(first).name}"
    if stacked:
        looked = "the file holds several dates, and no tag or description of these bands states one"
    return Fact(first, None, "datetime", None, f"{looked}, and no argument dates")


def _stated_date(source: Source) -> _Date | None:
    """The date that a file states: in a tag or a STAC item, or else in its name."""
    tags = [*source.tags(0, "", "ENVI", "IMAGERY"), *(source.asset.tags if source.asset else ())]
    stated = [_tag_date(tag.text, tag.label) for key in _DATE_TAGS for tag in tags if tag.key == key]
    in_name = _name_date(Path(source.path).name, "file name")
    if not any(stated):
        made = [_tag_date(tag.text, tag.label) for tag in tags if tag.key == "tifftag_datetime"]
        # TIFF 6.0 defines it as the time of the image's creation. Processing may have set it: the name must not differ.
        stated = [*made, in_name] if made else []
    known = [date for date in stated if date] or [date for date in [in_name] if date]
    for date in known[1:]:
        if date.contradicts(known[0]):
            raise RasterError(
                f"{source.path} states two dates: {known[0].source} says {known[0].value.isoformat()}, {date.source} "
                f"{date.value.isoformat()}. Say which holds with dates=[...]."
            )
    return known[0] if known else None


def _date_of_channels(source: Source, indexes: Sequence[int]) -> _Date | None:
    """The date that tags or descriptions of bands state, which must be one."""
    known: list[tuple[int, _Date]] = []
    for index in indexes:
        dates = [_tag_date(tag.text, tag.label) for tag in source.tags(index) if tag.key in _DATE_TAGS]
        if not any(dates):
            dates = [_name_date(source.dataset.descriptions[index - 1] or "", "description")]
        known += [(index, date) for date in dates if date]
    for index, date in known[1:]:
        first, other = known[0]
        if date.contradicts(other):
            raise RasterError(
                f"{source.path} states two dates: band {first} {other.value.isoformat()} ({other.source}), band "
                f"{index} {date.value.isoformat()} ({date.source}). If the file holds several dates, say how with "
                "stacked=... and num_dates=...; or say which holds with dates=[...]."
            )
    return known[0][1] if known else None


def _tag_date(text: str, source: str) -> _Date | None:
    """`None` if the text is not a date."""
    # TIFF and EXIF write 2021:07:23 13:22:41.
    text = re.sub(r"^(\d{4}):(\d{2}):(\d{2})", r"\1-\2-\3", text)
    # ISO 8601 writes a period as start/end.
    if len(ends := text.split("/")) == 2:
        start, end = (_tag_date(part.strip(), source) for part in ends)
        if start is None or end is None or start.start > end.end:
            return None
        return _Date(start.start + (end.end - start.start) / 2, source, start.start, end.end)
    try:
        value = parse_datetime(text)
        # `parse_datetime` takes the middle of a year or a month, and the first instant of a day.
        first = datetime(value.year, value.month if len(text) == 7 else 1, 1) if len(text) in (4, 7) else value
        return _Date(value, source, first, value + (value - first) + timedelta(days=len(text) == 10))
    except (MetadataError, OverflowError):
        return None


def _name_date(name: str, source: str) -> _Date | None:
    """The date in a name, if it is exactly one."""
    found: dict[datetime, datetime] = {}
    for match in _NAME_DATE.finditer(name):
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
    return _Date(value, source, value, value if value != day else day + timedelta(days=1))


# Its bands


def identify_bands(
    source: Source, indexes: Sequence[int], sensor: Sensor | None, stacked: bool
) -> tuple[list[Band], list[Fact]]:
    """What the bands of a file measured, from the file, its STAC item and the sensor's table."""
    path = source.path
    header, header_source = _envi_header(source)
    all_names = _band_names(source, indexes, header, stacked)
    bands, facts, unknown = [], [], []
    for index, names in zip(indexes, all_names, strict=True):
        lengths = _stated_lengths(source, index, header, header_source)
        try:
            band, sources = _identify(source, index, names, lengths, sensor)
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
            f"polarisation, an ENVI header, a STAC item, and for the names that the file gives ({listed}) in {table}. "
            "Name the "
            "bands (bands=[...]: Band records, or names of a sensor), or the sensor whose band names the file uses "
            "(sensor=...)."
        )
    return bands, facts


def _identify(
    source: Source,
    index: int,
    names: Sequence[_Text],
    lengths: Mapping[str, _Length | None],
    sensor: Sensor | None,
) -> tuple[Band | None, dict[str, str]]:
    """One band and the source of each field; no band if nothing says what it measured."""
    where = f"Band {index} of {source.path}"
    kind, polarisation = _stated_kind(where, source.tags(index), names)
    center = lengths["center_nm"]
    record, by_name = _look_up(where, sensor, names)
    table = f"band {record.band.name} of {sensor.name}, by {by_name}" if record else ""
    if record:
        _check_record(where, record, table, kind, center)
        kind = kind or _Text(record.band.kind, table)
        if polarisation is None and record.band.polarisation:
            polarisation = _Text(record.band.polarisation, table)
    if kind is None and center:
        reflective = center.value < THERMAL_FROM_NM
        reason = f"wavelength {'below' if reflective else 'not below'} {THERMAL_FROM_NM:g} nm"
        kind = _Text("reflective" if reflective else "thermal", reason)
    if kind is None:
        return None, {}
    missing = "no IMAGERY domain, tag, ENVI header, STAC item or sensor table states it"
    sources = {"kind": kind.source, "polarisation": polarisation.source if polarisation else missing}
    values: dict[str, Any] = {}
    for field_name, length in lengths.items():
        value = length.value if length else record and getattr(record.band, field_name)
        values[field_name] = value
        sources[field_name] = length.source if length else table if value is not None else missing
    label = _Text(record.band.name, table) if record else _label(source, index, names)
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


def _look_up(where: str, sensor: Sensor | None, names: Sequence[_Text]) -> tuple[SensorBand | None, str]:
    """The entry of the table that the first known name leads to; other stated names must not lead to another."""
    found: list[tuple[SensorBand, _Text]] = []
    for name in names:
        records = sensor.match(name.value) if sensor else ()
        if len(records) == 1:
            found.append((records[0], name))
    if not found:
        return None, ""
    record, name = found[0]
    for other, other_name in found[1:]:
        # What a file is called, and the colour that a band is shown in, are hints and no statements.
        if other != record and other_name.source not in _WEAK_SOURCES:
            raise RasterError(
                f"{where} is called {name.value!r} ({name.source}) and {other_name.value!r} ({other_name.source}), "
                f"which are bands {record.band.name} and {other.band.name} of {sensor.name}. Correct one, or give the "
                "bands with bands=[...]."
            )
    return record, f"{name.source} {name.value!r}"


def _label(source: Source, index: int, names: Sequence[_Text]) -> _Text:
    """What a band is called that no table knows."""
    if names and names[0].source != "file name":
        return names[0]
    if source.dataset.count == 1:
        return _Text(Path(source.path).stem, "file name")
    return _Text(f"band_{index}", "its number; the file gives no name")


def _band_names(source: Source, indexes: Sequence[int], header: Mapping[str, str], stacked: bool) -> list[list[_Text]]:
    """Names that a file gives to each band, the first one to be believed, and where they stand."""
    descriptions, colours = source.dataset.descriptions, source.dataset.colorinterp
    in_file_name = _file_name_parts(source.path) if len(indexes) == 1 else []
    all_names = []
    for index in indexes:
        names = []
        if description := (descriptions[index - 1] or "").strip():
            names.append(_Text(plain_band_name(description), "description"))
            undated = _NAME_DATE.sub("", description).strip(" _-.:,")
            if stacked and undated and undated != description:
                names.append(_Text(plain_band_name(undated), "description"))
        elif "band_names" in header:
            names.append(_Text(_envi_item(source, header, "band_names", index), "ENVI header"))
        names += [_Text(tag.text, tag.label) for tag in source.tags(index) if tag.key in ("name", "common_name")]
        names += in_file_name
        if colours[index - 1] not in (ColorInterp.undefined, ColorInterp.gray, ColorInterp.palette):
            names.append(_Text(colours[index - 1].name, "colour interpretation"))
        all_names.append([name for name in names if name.value])
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


def _stated_kind(where: str, tags: Sequence[Tag], names: Sequence[_Text]) -> tuple[_Text | None, _Text | None]:
    """Kind and polarisation from tags and names."""
    kinds, polarisations = [], []
    for tag in tags:
        if tag.key == "kind":
            kind = tag.text.casefold()
            kinds.append(_Text(KIND_ALIASES.get(kind, kind), tag.label))
        elif tag.key in ("polarisation", "polarization") and tag.text.upper() in POLARISATIONS:
            polarisations.append(_Text(tag.text.upper(), tag.label))
    for name in names:
        if match := _POLARISATION_NAME.fullmatch(name.value):
            polarisations.append(_Text(match[1].upper(), f"{name.source} {name.value!r}"))
    kinds += [_Text("sar", f"polarisation in {text.source}") for text in polarisations[:1]]
    for what, texts in (("kind", kinds), ("polarisation", polarisations)):
        for text in texts[1:]:
            if text.value != texts[0].value:
                raise RasterError(
                    f"{where} states two values of {what}: {texts[0].value!r} ({texts[0].source}) and "
                    f"{text.value!r} ({text.source}). Correct the file, or give the bands with bands=[...]."
                )
    return kinds[0] if kinds else None, polarisations[0] if polarisations else None


def _stated_lengths(
    source: Source, index: int, header: Mapping[str, str], header_source: str
) -> dict[str, _Length | None]:
    """Centre and width from the IMAGERY domain, tags, a STAC item and an ENVI header, which must agree."""
    where = f"Band {index} of {source.path}"
    tags = source.tags(index)
    units = next((tag.text for tag in tags if tag.key in ("wavelength_units", "wavelength_unit")), "")
    stated: dict[str, list[_Length]] = {"center_nm": [], "fwhm_nm": []}
    for tag in source.tags(index, "IMAGERY"):
        for name, key in (("center_nm", "central_wavelength_um"), ("fwhm_nm", "fwhm_um")):
            if tag.key == key:
                stated[name] += _length(where, name, tag.text, "um", tag.label)
    for tag in tags:
        for name, pattern in (("center_nm", _CENTER_TAG), ("fwhm_nm", _FWHM_TAG)):
            if match := pattern.fullmatch(tag.key):
                stated[name] += _length(where, name, tag.text, match[1] or units, tag.label)
    for name, key in (("center_nm", "wavelength"), ("fwhm_nm", "fwhm")):
        if key in header:
            text = _envi_item(source, header, key, index)
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
    value = float(number * Decimal(str(factor)))
    smallest = MIN_WAVELENGTH_NM if name == "center_nm" else _MIN_UNITLESS_WIDTH_NM if unit in _NO_UNIT else 0.0
    if value < smallest or value <= 0:
        raise RasterError(
            f"{where} has {name} = {value:g} ({source}), which looks like micrometres: nanometres of {smallest:g} or "
            "more are expected. State the unit in the file (wavelength_units=Micrometers), or give the bands with "
            "bands=[...]."
        )
    return [_Length(value, source, float(Decimal(1).scaleb(number.as_tuple().exponent)) * factor)]


def _envi_header(source: Source) -> tuple[dict[str, str], str]:
    """Fields of an ENVI header, from GDAL's ENVI domain or else from a .hdr file beside the raster."""
    if domain := source.tags(0, "ENVI"):
        return {tag.key: tag.text for tag in domain}, "ENVI header"
    for beside in (os.path.splitext(source.path)[0] + ".hdr", source.path + ".hdr"):
        if os.path.isfile(beside):
            text = Path(beside).read_text(encoding="utf-8", errors="replace")
            if text.startswith("ENVI"):
                pairs = re.findall(r"^[ \t]*([^=\n]+?)[ \t]*=[ \t]*(\{[^}]*\}|[^\n]*)", text, re.MULTILINE)
                return {tag_key(key): value.strip() for key, value in pairs}, Path(beside).name
    return {}, ""


def _envi_item(source: Source, header: Mapping[str, str], key: str, index: int) -> str:
    items = [item.strip() for item in header[key].strip("{} \n").split(",")]
    if len(items) != source.dataset.count:
        raise RasterError(
            f"The ENVI header of {source.path} lists {len(items)} values of {key.replace('_', ' ')!r} for "
            f"{source.dataset.count} bands. Correct it, or give the bands with bands=[...]."
        )
    return items[index - 1]


def bad_bands(source: Source, indexes: Sequence[int]) -> dict[int, str]:
    """Bands that the file marks as bad, and where: 0 in the list `bbl` of an ENVI header, or in a tag of the band.

    ENVI defines the entries as multipliers, 0 for bad bands and 1 for good ones.
    """
    header, header_source = _envi_header(source)
    bad = {}
    for index in indexes:
        marks = [(tag.text, tag.label) for tag in source.tags(index) if tag.key in ("bbl", "bad_band_multiplier")]
        if "bbl" in header:
            marks.append((_envi_item(source, header, "bbl", index), f"{header_source} bbl"))
        for text, label in marks:
            if _finite(text) is None:
                raise RasterError(
                    f"Band {index} of {source.path} has the bad-band mark {text!r} ({label}); 0 for bad and 1 for good "
                    "bands are expected. Correct it."
                )
            if _finite(text) == 0:
                bad[index] = label
    return bad


def _finite(text: str) -> float | None:
    """The number that a text states; `None` if it states none."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _numbers(source: Source, tags: Iterable[Tag]) -> list[tuple[float, Tag]]:
    """Numbers that tags state; those of one key must agree."""
    stated = [(number, tag) for tag in tags if (number := _finite(tag.text)) is not None]
    for (one, first), (two, second) in pairwise(stated):
        if not math.isclose(one, two, rel_tol=1e-6):
            raise RasterError(
                f"{source.path} states two values of {first.key}: {one:g} ({first.label}) and {two:g} "
                f"({second.label}). Correct one."
            )
    return stated


def facts_of_band(path: str, index: int, band: Band, sources: str | Mapping[str, str]) -> list[Fact]:
    """The facts of a band, without those that its kind cannot have; `sources`: one for all, or one a field."""
    names = ["name", "kind"]
    names += ["polarisation"] if band.kind == "sar" else []
    names += ["center_nm", "fwhm_nm"] if band.kind in ("reflective", "thermal", "other") else []
    sources = dict.fromkeys(names, sources) if isinstance(sources, str) else sources
    return [Fact(path, index, name, getattr(band, name), sources[name]) for name in names]


def layer_of(
    source: Source, indexes: Sequence[int], given: Sequence[float | None], warped: bool
) -> tuple[Layer, list[Fact]]:
    """How the bands of a file become physical units, and the facts about scale and missing data."""
    path, dataset = source.path, source.dataset
    header, header_source = _envi_header(source)
    scales, offsets, outside, facts = [], [], [], []
    of_file = dict(zip(dataset.indexes, zip(dataset.nodatavals, dataset.mask_flag_enums, strict=True), strict=True))
    for index, factor in zip(indexes, given, strict=True):
        nodata, flags = of_file[index]
        scale, offset, stated = _stated_scale(source, index, header, header_source, factor is not None)
        reason = stated or "none in the file, and no argument scale"
        if factor is not None:
            if not isinstance(factor, Real) or isinstance(factor, bool) or not math.isfinite(factor) or factor == 0:
                raise RasterError(
                    f"scale must be a finite number other than 0, got {factor!r} for band {index} of {path}."
                )
            reason = "argument scale" + (
                f"; scale {scale:g} and offset {offset:g} of {stated} not applied" * bool(stated)
            )
            scale, offset = float(factor), 0.0
        facts.append(Fact(path, index, "scale", scale if factor is not None or stated else None, reason))
        if offset:
            facts.append(Fact(path, index, "offset", offset, reason))
        number, mask_source = nodata, _mask_source(flags)
        tags = [tag for tag in source.tags(index) if tag.key == "nodata" and source.asset]
        for value, tag in _numbers(source, tags):
            if nodata is not None and not math.isclose(value, nodata, rel_tol=1e-6):
                raise RasterError(
                    f"Band {index} of {path} states two values of nodata: {nodata:g} (of the file) and {value:g} "
                    f"({tag.label}). Correct one."
                )
            if nodata is None:
                number, mask_source = value, tag.label
        facts.append(Fact(path, index, "nodata", number, mask_source))
        outside.append(number if nodata is None else None)
        undo_scale, undo_offset = getattr(dataset, "decoded", {}).get(index, (1.0, 0.0))
        # xarray has applied the cube's own scale already.
        scales.append(scale / undo_scale)
        offsets.append(offset - undo_offset * scale / undo_scale)
    masked = any(MaskFlags.all_valid not in of_file[index][1] for index in indexes)
    return Layer(path, tuple(indexes), tuple(scales), tuple(offsets), masked, tuple(outside), warped), facts


def _stated_scale(
    source: Source, index: int, header: Mapping[str, str], header_source: str, overruled: bool
) -> tuple[float, float, str]:
    """Scale and offset that the file, its STAC item or its ENVI header states, and where; 1, 0 and "" if none does.

    Statements must agree unless the user overrules them. A file that GDAL reports without scale and offset has scale 1
    and offset 0, which is no statement.
    """
    dataset = source.dataset
    stated: list[tuple[float, float, str]] = []
    own = (dataset.scales[index - 1], dataset.offsets[index - 1])
    if own != (1.0, 0.0):
        stated.append((*own, "the file"))
    if source.asset:
        tags = source.tags(index)
        factors = _numbers(source, [tag for tag in tags if tag.key == "scale"])
        shifts = _numbers(source, [tag for tag in tags if tag.key == "offset"])
        if factors or shifts:
            label = (factors or shifts)[0][1].label
            stated.append((factors[0][0] if factors else 1.0, shifts[0][0] if shifts else 0.0, label))
    if "reflectance_scale_factor" in header:
        # ENVI defines it as the number to divide by to get reflectance from 0 to 1.
        divisor = _finite(header["reflectance_scale_factor"])
        if divisor is None or divisor <= 0:
            raise RasterError(
                f"The ENVI header of {source.path} has the reflectance scale factor "
                f"{header['reflectance_scale_factor']!r}; a number above 0 is expected. Correct it."
            )
        stated.append((1 / divisor, 0.0, f"{header_source} reflectance scale factor"))
    stated = [item for item in stated if item[:2] != (1.0, 0.0)]
    for one, two in pairwise(stated):
        same = math.isclose(one[0], two[0], rel_tol=1e-6) and math.isclose(one[1], two[1], rel_tol=1e-6, abs_tol=1e-12)
        if not same and not overruled:
            raise RasterError(
                f"Band {index} of {source.path} states two scales: {one[0]:g} with offset {one[1]:g} ({one[2]}) and "
                f"{two[0]:g} with offset {two[1]:g} ({two[2]}). Say which holds with scale=..."
            )
    for scale, offset, label in stated[:1]:
        if not (math.isfinite(scale) and math.isfinite(offset)) or scale == 0:
            raise RasterError(
                f"Band {index} of {source.path} has scale {scale:g} and offset {offset:g} ({label}), which make no "
                "physical unit. Correct them, or say what holds with scale=..."
            )
    return stated[0] if stated else (1.0, 0.0, "")


def _mask_source(flags: Sequence[MaskFlags]) -> str:
    if MaskFlags.alpha in flags:
        return "none in the file; its alpha band says where data are missing"
    if MaskFlags.per_dataset in flags:
        return "none in the file; its mask says where data are missing"
    return "nodata value of the file" if MaskFlags.nodata in flags else "none in the file, nor a mask"
