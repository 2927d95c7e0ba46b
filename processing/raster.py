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
"""Between georeferenced rasters (anything GDAL reads) and [`ImageSeries`], and from class maps to GeoTIFF.

A raster's own metadata say what its bands measured and when. Each fact that is used remembers where it came from, what
nothing states stays unknown, and statements that exclude each other are an error.
"""

import colorsys
import json
import math
import os
import re
import secrets
import warnings
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from numbers import Real
from pathlib import Path
from types import TracebackType
from typing import Any
from xml.etree import ElementTree

import numpy as np
import rasterio
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError, RasterioIOError
from rasterio.io import DatasetReader, DatasetWriter
from rasterio.warp import transform as transform_points
from rasterio.windows import Window

from .metadata import (
    KIND_ALIASES,
    MIN_WAVELENGTH_NM,
    POLARISATIONS,
    Acquisition,
    Band,
    ImageSeries,
    MetadataError,
    parse_datetime,
)
from .sensors import Sensor, SensorBand, find_sensor, plain_band_name, sensor_bands

PathLike = str | os.PathLike[str]

# What a folder is searched for. Other formats are read too when the file itself is named.
RASTER_SUFFIXES = (
    *(".tif", ".tiff", ".vrt", ".jp2", ".j2k", ".img", ".dat", ".bil", ".bip", ".bsq"),
    *(".png", ".jpg", ".jpeg", ".nc", ".hdf", ".h5"),
)
# Two grids are one if no corner differs by more than this many pixels.
GRID_TOLERANCE_PIXELS = 1e-6
# ISO 20473 ends the near infrared at 3 um; bands beyond it see more emitted heat than reflected sunlight.
THERMAL_FROM_NM = 3000.0
# Parts of one acquisition (granules, start and middle of a strip) differ by less.
DATE_TOLERANCE = timedelta(hours=12)
# WGS 84 ellipsoid: semi-major axis in metres and first eccentricity squared (NIMA TR8350.2, table 3.1 and 3.3).
WGS84_A, WGS84_E2 = 6378137.0, 6.69437999014e-3

_MAX_OPEN_FILES = 64
_MAX_TEXT = 60
_MAX_LISTED = 12
_PROBE_PIXELS = 256
_UNITS_NM = {"nm": 1, "nanometer": 1, "nanometre": 1, "um": 1000, "µm": 1000, "μm": 1000, "micron": 1000}
_UNITS_NM |= {"micrometer": 1000, "micrometre": 1000}
_NO_UNIT = ("", "unknown", "none")
# Narrower bands exist only in nanometres' fractions; 0.02 without a unit is one of 20 nm written in micrometres.
_MIN_UNITLESS_WIDTH_NM = 1.0
# A band as wide as most of the camera bands whose width nobody published.
_USUAL_WIDTH_NM = 50.0
_CENTER_TAG = re.compile(r"(?:(?:cent(?:er|re|ral)_?)?wavelength|cent(?:er|re)(?=_nm|_um))(?:_(nm|um))?")
_FWHM_TAG = re.compile(r"fwhm(?:_(nm|um))?")
_BAND_FIELDS = ("name", "center_nm", "fwhm_nm", "kind", "polarisation")
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


@dataclass(frozen=True)
class _Layer:
    """The bands of one date that lie in one file."""

    path: str
    indexes: tuple[int, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    masked: bool


@dataclass
class _Handles:
    """Open datasets, the least recently used closed beyond a fixed number: long series have thousands of files."""

    datasets: OrderedDict[str, DatasetReader] = field(default_factory=OrderedDict)

    def get(self, path: str) -> DatasetReader:
        if path not in self.datasets:
            if len(self.datasets) >= _MAX_OPEN_FILES:
                self.datasets.popitem(last=False)[1].close()
            self.datasets[path] = _open(path)
        self.datasets.move_to_end(path)
        return self.datasets[path]

    def close(self) -> None:
        while self.datasets:
            self.datasets.popitem()[1].close()


def _open(path: str) -> DatasetReader:
    local = not re.match(r"/vsi|[A-Za-z][A-Za-z0-9+]+:", path)
    if local and not os.path.exists(path):
        raise RasterError(f"{path} does not exist.")
    if local and os.path.isfile(path) and os.path.getsize(path) == 0:
        raise RasterError(f"{path} is empty (0 bytes). Fetch or write it again.")
    try:
        with warnings.catch_warnings():
            # No geotransform is no fault: georeference and GSD are then unknown, and the facts say so.
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            return rasterio.open(path)
    except RasterioIOError as error:
        raise RasterError(f"{path} cannot be opened as a raster: {error}") from error


class RasterSeries:
    """Rasters of one grid as a series whose pixels are read window by window; made by [`open_series`].

    A context manager. It holds open files: use it in the process that opened it.

    Attributes:
        series: the metadata, an [`ImageSeries`] without pixels.
        facts: what is known of each file and band, and where it came from.
        height: rows of the grid.
        width: columns of the grid.
    """

    def __init__(
        self,
        series: ImageSeries,
        facts: Sequence[Sequence[Fact]],
        layers: Sequence[Sequence[_Layer]],
        size: tuple[int, int],
        handles: _Handles,
    ) -> None:
        self.series = series
        self.height, self.width = size
        self._facts = facts
        self._layers = layers
        self._handles = handles

    @property
    def facts(self) -> list[Fact]:
        """What is known of each file and band, date by date."""
        return [fact for facts in self._facts for fact in facts]

    def __enter__(self) -> "RasterSeries":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the files."""
        self._handles.close()

    def read(self, row: int = 0, column: int = 0, height: int | None = None, width: int | None = None) -> ImageSeries:
        """Reads a window of all dates.

        Args:
            row: first row.
            column: first column.
            height: rows; `None` = down to the last one.
            width: columns; `None` = up to the last one.

        Returns:
            A series with pixels in physical units, NaN where a band is missing (nodata, mask, alpha 0, not finite).
            `valid` is True where every band is there. The transform is that of the window.

        Raises:
            RasterError: the window does not lie inside the raster, or the file cannot be read.
        """
        height = self.height - row if height is None else height
        width = self.width - column if width is None else width
        if not (0 <= row < row + height <= self.height and 0 <= column < column + width <= self.width):
            raise RasterError(
                f"Window row={row}, column={column}, height={height}, width={width} does not lie inside {self.height} "
                f"x {self.width} pixels."
            )
        window = Window(column, row, width, height)
        pixels = tuple(self._read_date(date, window) for date in range(len(self._layers)))
        transform = self.series.transform
        if transform is not None:
            a, b, c, d, e, f = transform
            transform = (a, b, c + a * column + b * row, d, e, f + d * column + e * row)
        return replace(self.series, pixels=pixels, transform=transform)

    def _read_date(self, date: int, window: Window) -> np.ndarray:
        arrays = [_read(self._handles.get(layer.path), layer, window) for layer in self._layers[date]]
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _read(dataset: DatasetReader, layer: _Layer, window: Window) -> np.ndarray:
    """Reads (bands, height, width) float32 in physical units, NaN = missing."""
    indexes = list(layer.indexes)
    try:
        array = dataset.read(indexes, window=window)
        masks = dataset.read_masks(indexes, window=window) if layer.masked else None
    except RasterioIOError as error:
        raise RasterError(
            f"{layer.path} cannot be read at row {window.row_off}, column {window.col_off}, {window.height} x "
            f"{window.width} pixels: {error.__cause__ or error} The file is probably truncated; fetch or write it "
            "again."
        ) from error
    # Nodata of double precision may overflow; it becomes NaN below.
    with np.errstate(over="ignore"):
        array = array.astype(np.float32, copy=False)
    for band, scale, offset in zip(array, layer.scales, layer.offsets, strict=True):
        if (scale, offset) != (1.0, 0.0):
            band *= scale
            band += offset
    if masks is not None:
        array[masks == 0] = np.nan
    array[~np.isfinite(array)] = np.nan
    return array


def open_series(
    paths: PathLike | Sequence[PathLike | Sequence[PathLike]],
    *,
    bands: Sequence[Band | str] | Sequence[Sequence[Band | str] | None] | None = None,
    sensor: str | Sensor | Sequence[str | Sensor | None] | None = None,
    dates: Sequence[Any] | None = None,
    gsd_m: float | None = None,
    scale: float | Sequence[float] | Sequence[float | Sequence[float] | None] | None = None,
) -> RasterSeries:
    """Opens rasters as one image series; pixels are read later, window by window.

    What a band measured is taken from, in this order: `bands`; GDAL's IMAGERY domain; tags of the band
    (`wavelength_nm`, `fwhm_nm`, `kind`, `polarisation`...); an ENVI header; the band's name (description, or else its
    part of the name of a file with a single band, or else its colour) looked up in the table of `sensor` or of the
    sensor that the file's tags name. When it was taken: `dates`, tags, a date in the file name. GSD: `gsd_m`, or else
    the georeference.

    Args:
        paths: one entry a date, oldest first. An entry is a file, a folder (its rasters in natural order of their
            names), or a sequence of files whose bands are put one after another. A single path is one date. Whatever
            GDAL takes as a name may stand for a file.
        bands: the bands, for all dates or one sequence a date (`None` = from the file): [`Band`] records, or names in
            the table of `sensor`.
        sensor: sensor whose table holds the names of the bands, for all dates or one a date.
        dates: when each entry was taken, as [`parse_datetime`] takes it; `None` in the list = unknown.
        gsd_m: ground sampling distance in metres.
        scale: factor from stored numbers to physical units: one number, or one a band, or a sequence of these with one
            entry a date (`None` = from the file). Scale and offset of the file then do not apply.

    Returns:
        The open series.

    Raises:
        RasterError: a file is missing, empty, truncated, not a raster or of complex numbers; grids differ; a band is
            unknown, or its metadata contradict each other; the number of records does not fit; nothing but nodata.
        MetadataError: a given value is not possible, or dates are out of order.
    """
    entries = _entries(paths)
    count = len(entries)
    if dates is not None and (isinstance(dates, str) or len(dates) != count):
        raise RasterError(f"dates must hold one date for each of the {count} entries of paths, got {dates!r}.")
    given_dates = None if dates is None else [parse_datetime(date) for date in dates]
    date_bands = _per_date(bands, count, "bands", (Band, str))
    date_sensors = [
        find_sensor(name) if isinstance(name, str) else name
        for name in ([sensor] * count if isinstance(sensor, (str, Sensor)) else _per_date(sensor, count, "sensor", ()))
    ]
    date_scales = [scale] * count if isinstance(scale, Real) else _per_date(scale, count, "scale", (Real,))

    with ExitStack() as stack:
        handles = _Handles()
        stack.callback(handles.close)
        for path in (path for files in entries for path in files):
            _check_usable(path, handles.get(path))
        _check_one_grid(entries, handles)

        reference = handles.get(entries[0][0])
        crs, transform, georeference_facts = _georeference(entries[0][0], reference)
        acquisitions, all_facts, all_layers = [], [], []
        for index, files in enumerate(entries):
            facts = [replace(fact, path=files[0]) for fact in georeference_facts]
            gsd = Fact(files[0], None, "gsd_m", float(gsd_m), "argument gsd_m") if gsd_m is not None else None
            facts.append(gsd or Fact(files[0], None, "gsd_m", *_gsd(reference, transform)))
            if given_dates is not None:
                facts.append(Fact(files[0], None, "datetime", given_dates[index], "argument dates"))
            else:
                facts.append(_date_of(files, handles))
            records, layers, band_facts = _date_bands(
                files, handles, date_bands[index], date_sensors[index], date_scales[index]
            )
            facts += band_facts
            values = {fact.name: fact.value for fact in facts if fact.name in ("datetime", "gsd_m")}
            sensors = [fact.value for fact in facts if fact.name == "sensor" and fact.value]
            acquisitions.append(Acquisition(records, sensor=sensors[0] if sensors else None, **values))
            all_facts.append(facts)
            all_layers.append(layers)
        series = ImageSeries(tuple(acquisitions), crs=crs, transform=transform)
        opened = RasterSeries(series, all_facts, all_layers, reference.shape, handles)
        for layer in (layer for layers in all_layers for layer in layers):
            _check_last_block(layer, handles.get(layer.path))
        check_has_data(opened)
        stack.pop_all()
        return opened


def read_series(paths: PathLike | Sequence[PathLike | Sequence[PathLike]], **options: Any) -> ImageSeries:
    """Reads rasters whole.

    Args:
        paths: as for [`open_series`].
        **options: as for [`open_series`].

    Returns:
        A series with pixels (see [`RasterSeries.read`]).

    Raises:
        RasterError: as [`open_series`] and [`RasterSeries.read`].
        MetadataError: as [`open_series`].
    """
    with open_series(paths, **options) as opened:
        return opened.read()


# Arguments


def _entries(paths: Any) -> list[list[str]]:
    """The files of each date."""
    entries: list[list[str]] = []
    for entry in [paths] if isinstance(paths, (str, os.PathLike)) else list(paths):
        if not isinstance(entry, (str, os.PathLike)):
            files = [os.fspath(path) for path in entry]
            if not files:
                raise RasterError(
                    f"Entry {len(entries)} of paths holds no file. Give one entry a date, with its files."
                )
        elif os.path.isdir(entry):
            names = [name for name in os.listdir(entry) if name.lower().endswith(RASTER_SUFFIXES)]
            if not names:
                raise RasterError(
                    f"Folder {os.fspath(entry)} holds no raster ({', '.join(RASTER_SUFFIXES)}). Name the files "
                    "themselves if they end differently."
                )
            files = [os.path.join(entry, name) for name in sorted(names, key=_natural)]
        else:
            files = [os.fspath(entry)]
        entries.append(files)
    if not entries:
        raise RasterError("paths holds no entry. Give at least one raster.")
    return entries


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Sort key that puts B2 before B10."""
    return [
        (0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name.casefold()) if part
    ]


def _per_date(value: Any, count: int, what: str, leaf: tuple[type, ...]) -> list[Any]:
    """One value a date from an argument that is either for all dates, a sequence of `leaf`, or has an entry a date."""
    if value is None:
        return [None] * count
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise RasterError(f"{what} must be a sequence or None, got {value!r}.")
    values = list(value)
    if leaf and values and all(isinstance(item, leaf) for item in values):
        return [values] * count
    if len(values) != count:
        raise RasterError(f"{what} holds {len(values)} entries for {count} dates. Give one entry a date.")
    return [item if isinstance(item, (str, Sensor, Real, type(None))) else list(item) for item in values]


def _date_bands(
    files: Sequence[str],
    handles: _Handles,
    given: Sequence[Band | str] | None,
    sensor: Sensor | None,
    scale: float | Sequence[float] | None,
) -> tuple[tuple[Band, ...], list[_Layer], list[Fact]]:
    """Bands and layers of one date, and the facts about them."""
    channels = [_channels(handles.get(path)) for path in files]
    count = sum(map(len, channels))
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    names = [band for band in given or () if isinstance(band, str)]
    if names and sensor is None:
        raise RasterError(
            f"bands names {names[0]!r}, but no sensor says what that is. Give sensor=..., or Band records."
        )
    if given is not None and len(given) != count:
        listed = _some(band.name if isinstance(band, Band) else band for band in given)
        raise RasterError(
            f"{len(given)} bands were given ({listed}), but {files[0]}{more} holds {count}, alpha not counted. Give "
            "one band a channel, in the order of the file."
        )
    scales = [scale] * count if scale is None or isinstance(scale, Real) else list(scale)
    if len(scales) != count:
        raise RasterError(
            f"{len(scales)} values of scale were given, but {files[0]}{more} holds {count} bands. Give one number, or "
            "one a band."
        )
    records: list[Band] = []
    layers, facts = [], []
    for path, indexes in zip(files, channels, strict=True):
        dataset = handles.get(path)
        found_sensor, sensor_fact = _sensor_of(path, dataset, sensor)
        facts.append(sensor_fact)
        own = slice(len(records), len(records) + len(indexes))
        if given is None:
            bands, band_facts = _identify_bands(path, dataset, indexes, found_sensor)
            records += bands
            facts += band_facts
        else:
            for index, item in zip(indexes, given[own], strict=True):
                band = item if isinstance(item, Band) else sensor_bands(sensor, [item])[0]
                source = "argument bands" if isinstance(item, Band) else f"argument bands, table of {sensor.name}"
                facts += _band_facts(path, index, band, dict.fromkeys(_BAND_FIELDS, source))
                records.append(band)
        layer, layer_facts = _layer(path, dataset, indexes, scales[own])
        layers.append(layer)
        facts += layer_facts
    return tuple(records), layers, facts


# Checks


def _channels(dataset: DatasetReader) -> tuple[int, ...]:
    """Numbers of the bands that are not alpha."""
    pairs = zip(dataset.indexes, dataset.colorinterp, strict=True)
    return tuple(index for index, colour in pairs if colour != ColorInterp.alpha)


def _check_usable(path: str, dataset: DatasetReader) -> None:
    if dataset.count == 0:
        parts = dataset.subdatasets
        hint = f" It is a container; name one of its parts, for instance {parts[0]!r}." if parts else ""
        raise RasterError(f"{path} holds no band.{hint}")
    if not _channels(dataset):
        raise RasterError(f"{path} holds an alpha band and no other. Give a raster with at least one band of data.")
    for index, dtype in zip(dataset.indexes, dataset.dtypes, strict=True):
        if "complex" in dtype:
            raise RasterError(
                f"Band {index} of {path} is of type {dtype}. Complex numbers are not read: convert them first, for "
                "instance to intensity in decibel."
            )


def _check_one_grid(entries: Sequence[Sequence[str]], handles: _Handles) -> None:
    files = [path for entry in entries for path in entry]
    first = handles.get(files[0])
    shape, crs, transform = first.shape, first.crs, first.transform
    for path in files[1:]:
        other = handles.get(path)
        if other.shape != shape:
            problem = f"it measures {other.shape[0]} x {other.shape[1]} pixels, the other {shape[0]} x {shape[1]}"
        elif other.crs != crs:
            problem = f"its CRS is {other.crs or 'unknown'}, that of the other {crs or 'unknown'}"
        elif (distance := _grid_distance(transform, other.transform, shape)) > GRID_TOLERANCE_PIXELS:
            problem = (
                f"they lie up to {distance:.3g} pixels apart (transforms {_six(other.transform)}, {_six(transform)})"
            )
        else:
            continue
        raise RasterError(
            f"{path} and {files[0]} are not on one grid: {problem}. Warp them to one, for instance with gdalwarp "
            "-t_srs -te -ts, or rasterio's WarpedVRT."
        )


def _grid_distance(transform: Affine, other: Affine, shape: tuple[int, int]) -> float:
    """Largest distance of the corners in pixels of the first grid."""
    a, b, _, d, e, _ = _six(transform)
    difference = np.subtract(_six(other), _six(transform)).reshape(2, 3)
    corners = [(column, row, 1) for column in (0, shape[1]) for row in (0, shape[0])]
    if a * e == b * d:
        return math.inf if difference.any() else 0.0
    return float(np.hypot(*np.linalg.solve([[a, b], [d, e]], difference @ np.transpose(corners))).max())


def _six(transform: Affine) -> tuple[float, ...]:
    return tuple(transform)[:6]


def _check_last_block(layer: _Layer, dataset: DatasetReader) -> None:
    """Reads the last block of each band: what a truncated file lacks."""
    height, width = dataset.block_shapes[layer.indexes[0] - 1]
    row = (dataset.height - 1) // height * height
    column = (dataset.width - 1) // width * width
    _read(dataset, layer, Window(column, row, dataset.width - column, dataset.height - row))


def check_has_data(opened: RasterSeries) -> None:
    """Makes sure that a series holds a valid pixel.

    Looks into a few places spread over the raster first, and reads all of it only if these are empty.

    Args:
        opened: the series.

    Raises:
        RasterError: no date holds a pixel with data in all bands.
    """
    size = _PROBE_PIXELS
    corners = [(row, column) for row in range(0, opened.height, size) for column in range(0, opened.width, size)]
    # Steps of the golden section visit the whole raster evenly at any number of looks.
    step = max(1, round(len(corners) * 0.618))
    while math.gcd(step, len(corners)) != 1:
        step += 1
    seen = [np.zeros(len(acquisition.bands), dtype=bool) for acquisition in opened.series.acquisitions]
    for look in range(len(corners)):
        row, column = corners[(len(corners) // 2 + look * step) % len(corners)]
        window = Window(column, row, min(size, opened.width - column), min(size, opened.height - row))
        for date, found in enumerate(seen):
            finite = np.isfinite(opened._read_date(date, window))
            if finite.all(axis=0).any():
                return
            found |= finite.any(axis=(1, 2))
    empty: dict[str, list[int]] = {}
    for layers, found in zip(opened._layers, seen, strict=True):
        bands = [(layer.path, index) for layer in layers for index in layer.indexes]
        for (path, index), has_data in zip(bands, found, strict=True):
            if not has_data:
                empty.setdefault(path, []).append(index)
    listed = "; ".join(f"{path}, bands {_some(bands)}" for path, bands in list(empty.items())[:3])
    where = f"Bands without any data: {listed}." if listed else "No pixel has data in all bands of a date."
    raise RasterError(
        f"The input holds no data: all pixels are nodata, masked or not finite. {where} Check the nodata value and the "
        "masks (gdalinfo -stats), or leave bands without data out."
    )


# Facts of a file


def _tags(dataset: DatasetReader, index: int = 0, domain: str | None = None) -> dict[str, tuple[str, str]]:
    """Tags by lower-case key: (key as written, text)."""
    tags = dataset.tags(index, ns=domain) if domain else dataset.tags(index)
    return {re.sub(r"[\s-]+", "_", key.strip().casefold()): (key, text.strip()) for key, text in tags.items()}


def _georeference(path: str, dataset: DatasetReader) -> tuple[str | None, tuple[float, ...] | None, list[Fact]]:
    size = Fact(path, None, "size", f"{dataset.height} x {dataset.width}", "raster")
    text = None
    if dataset.crs:
        epsg = dataset.crs.to_string()
        text = epsg if epsg.startswith("EPSG:") else dataset.crs.to_wkt()
    # GDAL reports the identity for rasters without a geotransform.
    if _six(dataset.transform) == (1.0, 0.0, 0.0, 0.0, 1.0, 0.0):
        source = "no geotransform in the file"
        if dataset.gcps[0]:
            source += f", only {len(dataset.gcps[0])} ground control points: warp it to give it one"
        crs_source = f"{text} not used without a geotransform" if text else "none in the file"
        return (
            None,
            None,
            [size, Fact(path, None, "crs", None, crs_source), Fact(path, None, "transform", None, source)],
        )
    transform = _six(dataset.transform)
    crs_fact = Fact(path, None, "crs", text, "georeference of the file" if text else "none in the file")
    return text, transform, [size, crs_fact, Fact(path, None, "transform", transform, "georeference of the file")]


def _gsd(dataset: DatasetReader, transform: tuple[float, ...] | None) -> tuple[float | None, str]:
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


def _sensor_of(path: str, dataset: DatasetReader, given: Sensor | None) -> tuple[Sensor | None, Fact]:
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


def _date_of(files: Sequence[str], handles: _Handles) -> Fact:
    """When the files of one date were taken."""
    stated = [(path, date) for path in files if (date := _stated_date(path, handles.get(path)))]
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


# Bands of a file


def _identify_bands(
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
            facts += _band_facts(path, index, band, sources)
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
        listed = _some(map(repr, looked_up)) or "none"
        raise RasterError(
            f"{'Bands' if len(unknown) > 1 else 'Band'} {_some(unknown)} of {path}: nothing says what "
            "was measured. Looked for CENTRAL_WAVELENGTH_UM in the IMAGERY domain, tags such as wavelength_nm, kind or "
            f"polarisation, an ENVI header, and for the names that the file gives ({listed}) in {table}. Name the "
            "bands (bands=[...]: Band records, or names of a sensor), or the sensor whose band names the file uses "
            "(sensor=...)."
        )
    return bands, facts


def _some(items: Iterable[Any]) -> str:
    """A list for a message, abridged if it is long."""
    items = list(map(str, items))
    more = f" and {len(items) - _MAX_LISTED} more" if len(items) > _MAX_LISTED else ""
    return ", ".join(items[:_MAX_LISTED]) + more


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


def _band_facts(path: str, index: int, band: Band, sources: Mapping[str, str]) -> list[Fact]:
    """The facts of a band, without those that its kind cannot have."""
    names = ["name", "kind"]
    names += ["polarisation"] if band.kind == "sar" else []
    names += ["center_nm", "fwhm_nm"] if band.kind in ("reflective", "thermal", "other") else []
    return [Fact(path, index, name, getattr(band, name), sources[name]) for name in names]


def _layer(
    path: str, dataset: DatasetReader, indexes: Sequence[int], given: Sequence[float | None]
) -> tuple[_Layer, list[Fact]]:
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
    return _Layer(path, tuple(indexes), tuple(scales), tuple(offsets), masked), facts


def _mask_source(flags: Sequence[MaskFlags]) -> str:
    if MaskFlags.alpha in flags:
        return "none in the file; its alpha band says where data are missing"
    if MaskFlags.per_dataset in flags:
        return "none in the file; its mask says where data are missing"
    return "nodata value of the file" if MaskFlags.nodata in flags else "none in the file, nor a mask"


def describe(opened: RasterSeries) -> str:
    """What is known of a series and where it came from, as text for people.

    Args:
        opened: the series.

    Returns:
        A block of lines a date: file, size, CRS, GSD, date and sensor, then a table with one line a band.
    """
    blocks = []
    for number, (facts, layers) in enumerate(zip(opened._facts, opened._layers, strict=True), start=1):
        files = [layer.path for layer in layers]
        lines = [f"date {number} of {len(opened._layers)}: {files[0]}"]
        lines += [f"{'':>{len(lines[0]) - len(files[0])}}{path}" for path in files[1:]]
        general = {(fact.name, fact.value, fact.source): None for fact in facts if fact.band is None}
        lines += _table([["  " + name, _text(value)[:_MAX_TEXT], f"({source})"] for name, value, source in general])
        columns = ["name", "kind", "center_nm", "fwhm_nm", "polarisation", "scale", "offset", "nodata"]
        bands = [(layer.path, index) for layer in layers for index in layer.indexes]
        own = [{fact.name: fact for fact in facts if (fact.path, fact.band) == band} for band in bands]
        cells = [[_text(known[name].value) if name in known else "-" for name in columns] for known in own]
        # A source that holds for a fact of every band is written once, below the table.
        sources = [{(name, fact.source): None for name, fact in known.items()} for known in own]
        common = [source for source in sources[0] if all(source in others for others in sources)]
        if len(own) == 1:
            common = []
        rows = [["  band", *columns, "sources"]]
        for (_, index), row, known in zip(bands, cells, sources, strict=True):
            rows.append([f"  {index}", *row, _sources(source for source in known if source not in common)])
        lines += _table(rows)
        if common:
            lines.append(f"  all bands: {_sources(common)}")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _sources(pairs: Iterable[tuple[str, str]]) -> str:
    by_source: dict[str, list[str]] = {}
    for name, source in pairs:
        by_source.setdefault(source, []).append(name)
    return "; ".join(f"{', '.join(names)}: {source}" for source, names in by_source.items())


def _text(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, tuple):
        return ", ".join(map(_text, value))
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


# Output


def check_writable(path: PathLike) -> None:
    """Makes sure that a map can be written, before any work is done for it.

    Args:
        path: the output file; one that exists will be replaced.

    Raises:
        RasterError: the name does not end in .tif or .tiff, it is that of a folder, or its folder is missing or not
            writable.
    """
    target = Path(path)
    folder = target.absolute().parent
    if target.is_dir():
        raise RasterError(f"{target} is a folder. Name a file in it, for instance {target / 'map.tif'}.")
    if target.suffix.lower() not in (".tif", ".tiff"):
        raise RasterError(f"Maps are written as GeoTIFF, but {target} does not end in .tif or .tiff. Name it so.")
    if not folder.is_dir():
        raise RasterError(f"Folder {folder} does not exist. Make it, or write elsewhere.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise RasterError(f"Folder {folder} is not writable. Change its permissions, or write elsewhere.")


def write_series(series: ImageSeries, folder: PathLike) -> list[Path]:
    """Writes a series as one GeoTIFF of float32 a date, which [`open_series`] reads back with its metadata.

    GSD is not written, as it follows from the georeference, nor is the sensor, whose table might then add to the bands.

    Args:
        series: the series, with pixels.
        folder: where to write `date_0.tif`, `date_1.tif`...; made if its parent exists. Files there are replaced.

    Returns:
        The files, in the order of the dates.

    Raises:
        MetadataError: the series holds no pixels.
        RasterError: the folder cannot be written to.
    """
    height, width = series.size
    if Path(folder).absolute().parent.is_dir() and not Path(folder).exists():
        Path(folder).mkdir()
    paths = [Path(folder) / f"date_{index}.tif" for index in range(len(series.acquisitions))]
    for path, acquisition, pixels, valid in zip(paths, series.acquisitions, series.pixels, series.valid, strict=True):
        check_writable(path)
        partial = _partial(path)
        profile = _profile(height, width, len(pixels), "float32", series.crs, series.transform)
        try:
            with _create(partial, nodata=math.nan, predictor=3, **profile) as dataset:
                dataset.write(np.where(valid, pixels, np.float32(np.nan)))
                if acquisition.datetime is not None:
                    dataset.update_tags(TIMESTAMP=acquisition.datetime.isoformat())
                for index, band in enumerate(acquisition.bands, start=1):
                    dataset.set_band_description(index, band.name)
                    tags: dict[str, Any] = {"kind": band.kind, "polarisation": band.polarisation}
                    tags |= {"wavelength_nm": band.center_nm, "fwhm_nm": band.fwhm_nm}
                    dataset.update_tags(index, **{key: value for key, value in tags.items() if value is not None})
            os.replace(partial, path)
        except (OSError, RasterioError) as error:
            raise RasterError(f"{path} cannot be written: {error}") from error
        finally:
            partial.unlink(missing_ok=True)
    return paths


def _partial(path: Path) -> Path:
    """A name beside the target that no other writer uses."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")


def _profile(
    height: int, width: int, count: int, dtype: str, crs: str | None, transform: Sequence[float] | None
) -> dict[str, Any]:
    """Tiled, compressed GeoTIFF; bands apart, and never taken for a colour picture."""
    try:
        known_crs = None if crs is None else CRS.from_user_input(crs)
    except ValueError as error:
        raise RasterError(f"crs {crs!r} is not known: {error}. Write WKT or EPSG:code, or None.") from error
    return {
        **{"driver": "GTiff", "dtype": dtype, "count": count, "height": height, "width": width, "crs": known_crs},
        **({} if transform is None else {"transform": Affine(*tuple(transform)[:6])}),
        **{"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate", "interleave": "band"},
        **{"photometric": "minisblack", "bigtiff": "IF_SAFER"},
    }


def _create(path: Path, **profile: Any) -> DatasetWriter:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(path, "w", **profile)


Colour = tuple[int, int, int]

# Colours that the field expects: from water to built-up those of the legend of ESA WorldCover 2021.
_CONVENTIONS: tuple[tuple[str, Colour], ...] = (
    ("unchanged|(?:no|not|non|without) .*|background|unlabell?ed|clutter|other", (225, 225, 225)),
    ("changed|change", (215, 25, 28)),
    ("water|river|lake|sea|ocean", (0, 100, 200)),
    ("wetland|marsh|swamp", (0, 150, 160)),
    ("mangroves?", (0, 207, 117)),
    ("forest|trees?|woods|woodland", (0, 100, 0)),
    ("shrub|shrubland|bush|scrub", (255, 187, 34)),
    ("grass|grassland|meadow|pasture", (255, 255, 76)),
    ("crops?|cropland|farmland|agriculture|agricultural|cultivated", (240, 150, 255)),
    ("buildings?|built|urban|settlement|artificial|impervious", (250, 0, 0)),
    ("roads?|street|pavement|asphalt", (130, 100, 90)),
    ("bare|barren|bareland|soil|sand", (190, 165, 120)),
    ("snow|ice|glacier", (240, 240, 255)),
    ("clouds?", (250, 250, 210)),
)
# After S. Trubetskoy, "List of 20 Simple, Distinct Colors" (2017), without its greys and its near-white.
_PALETTE: tuple[Colour, ...] = (
    *((230, 25, 75), (60, 180, 75), (255, 225, 25), (0, 130, 200), (245, 130, 48), (145, 30, 180), (70, 240, 240)),
    *((240, 50, 230), (210, 245, 60), (250, 190, 212), (0, 128, 128), (220, 190, 255), (170, 110, 40), (128, 0, 0)),
    *((170, 255, 195), (128, 128, 0), (255, 215, 180), (0, 0, 128)),
)
# Two colours closer than this (Euclidean, 0-255 each) are hard to tell apart on a map.
_MIN_COLOUR_DISTANCE = 48.0


def default_colours(names: Sequence[str]) -> list[Colour]:
    """A colour for each class: the customary one where the name is telling, else one of a categorical palette.

    Args:
        names: the classes.

    Returns:
        Red, green and blue (0-255), all different. The colours of the first classes do not depend on those that follow.
    """
    # Steps of the golden angle over three depths of colour: enough for any number of classes.
    hues = [
        colorsys.hsv_to_rgb(0.618034 * step % 1, *depth)
        for depth in ((0.65, 0.95), (0.9, 0.6), (0.35, 0.8))
        for step in range(256)
    ]
    pool = np.array([*_PALETTE, *np.round(255 * np.array(hues))])
    # How far each colour of the pool is from those in use.
    distances = np.full(len(pool), np.inf)
    colours: list[Colour] = []
    for name in names:
        words = re.sub(r"[\W_]+", " ", name.casefold()).strip()
        customary = next((colour for pattern, colour in _CONVENTIONS if re.search(rf"\b(?:{pattern})\b", words)), None)
        free = np.flatnonzero(distances[: len(_PALETTE)] >= _MIN_COLOUR_DISTANCE)
        if customary and all(math.dist(customary, used) >= _MIN_COLOUR_DISTANCE for used in colours):
            chosen = customary
        else:
            chosen = tuple(int(part) for part in pool[free[0] if len(free) else distances.argmax()])
        colours.append(chosen)
        distances = np.minimum(distances, np.linalg.norm(pool - chosen, axis=1))
    return colours


# Columns of a raster attribute table: name, GDALRATFieldType (0 integer, 2 text), GDALRATFieldUsage.
_ATTRIBUTE_FIELDS = (("Value", 0, 5), ("Class", 2, 2), ("Red", 0, 6), ("Green", 0, 7), ("Blue", 0, 8))


class MapWriter:
    """Writes class maps as a coloured GeoTIFF, window by window; the file appears whole or not at all.

    A context manager: on normal exit the maps and beside them `<path>.aux.xml` (names and colours of the classes, as
    GDAL and QGIS read them) get their names, on an exception nothing is left. What was not written is nodata.

    Args:
        path: the output, .tif or .tiff; a file that exists is replaced.
        height: rows.
        width: columns.
        num_maps: number of maps; each becomes a band.
        class_names: names of the values 0, 1, ...; at most 255.
        crs: coordinate reference system, as in [`ImageSeries`].
        transform: the six coefficients, as in [`ImageSeries`].
        descriptions: what each map shows, for instance its date.
        nodata: value of pixels without a class.
        colours: red, green and blue (0-255) of each class; `None` = [`default_colours`].
        tags: tags of the file.

    Raises:
        RasterError: the file cannot be written there (see [`check_writable`]), or the arguments do not fit each other.
    """

    def __init__(
        self,
        path: PathLike,
        height: int,
        width: int,
        num_maps: int,
        class_names: Sequence[str],
        *,
        crs: str | None = None,
        transform: Sequence[float] | None = None,
        descriptions: Sequence[str] | None = None,
        nodata: int = 255,
        colours: Sequence[Colour] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        check_writable(path)
        self.path = Path(path)
        self.shape = (num_maps, height, width)
        self.class_names = tuple(class_names)
        self.nodata = nodata
        if min(self.shape) < 1:
            raise RasterError(f"num_maps, height and width must be 1 or more, got {self.shape}.")
        if not 1 <= len(self.class_names) <= 255:
            raise RasterError(f"A map holds 1 to 255 classes, got {len(self.class_names)}. Merge classes.")
        if not len(self.class_names) <= nodata <= 255:
            raise RasterError(f"nodata must be free of classes, {len(self.class_names)} to 255, got {nodata}.")
        self.colours = [tuple(colour) for colour in (default_colours(self.class_names) if colours is None else colours)]
        if len(self.colours) != len(self.class_names) or not all(
            len(colour) == 3 and all(0 <= part <= 255 for part in colour) for colour in self.colours
        ):
            raise RasterError(
                f"colours must hold (red, green, blue), 0 to 255, for each of {len(self.class_names)} classes, got "
                f"{self.colours}."
            )
        if descriptions is not None and len(descriptions) != num_maps:
            raise RasterError(f"descriptions must hold one text for each of {num_maps} maps, got {list(descriptions)}.")
        self._descriptions = descriptions
        self._tags = dict(tags or {})
        self._profile = _profile(height, width, num_maps, "uint8", crs, transform)
        self._partial = _partial(self.path)
        self._partial_sidecar = _partial(self.path)
        self._dataset: DatasetWriter | None = None

    def __enter__(self) -> "MapWriter":
        try:
            self._dataset = _create(self._partial, nodata=self.nodata, **self._profile)
            self._dataset.update_tags(**self._tags)
            for index in self._dataset.indexes:
                self._dataset.update_tags(index, CLASS_NAMES=json.dumps(self.class_names))
                if self._descriptions is not None:
                    self._dataset.set_band_description(index, self._descriptions[index - 1])
            if self._dataset.count == 1:
                self._dataset.write_colormap(1, dict(enumerate(self._table())))
        except RasterioError as error:
            self._discard()
            raise RasterError(f"{self.path} cannot be written: {error}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._discard()
            return
        try:
            self._dataset.close()
            self._check_written()
            ElementTree.ElementTree(self._sidecar()).write(self._partial_sidecar, encoding="utf-8")
            sidecar = self.path.with_name(self.path.name + ".aux.xml")
            os.replace(self._partial_sidecar, sidecar)
            try:
                os.replace(self._partial, self.path)
            except OSError:
                sidecar.unlink()
                raise
        except (OSError, RasterioError) as problem:
            raise RasterError(f"{self.path} cannot be written: {problem}") from problem
        finally:
            self._discard()

    def write(self, maps: np.ndarray, row: int = 0, column: int = 0) -> None:
        """Writes a window of all maps.

        Args:
            maps: (num_maps, height, width) uint8, positions in `class_names`, or nodata.
            row: row of its first pixel.
            column: column of its first pixel.

        Raises:
            RasterError: wrong type or shape, a window outside the map, a value without a class, or a failing disk.
        """
        if self._dataset is None:
            raise RasterError("MapWriter is a context manager: write inside `with MapWriter(...) as writer:`.")
        count, height, width = self.shape
        if not isinstance(maps, np.ndarray) or maps.dtype != np.uint8 or maps.ndim != 3 or len(maps) != count:
            found = f"{maps.dtype} of shape {maps.shape}" if isinstance(maps, np.ndarray) else type(maps).__name__
            raise RasterError(f"maps must be an array of uint8 of shape ({count}, height, width), got {found}.")
        if row < 0 or column < 0 or row + maps.shape[1] > height or column + maps.shape[2] > width:
            raise RasterError(
                f"Window row={row}, column={column} of {maps.shape[1]} x {maps.shape[2]} pixels does not lie inside "
                f"the map of {height} x {width}."
            )
        if (wrong := maps[(maps >= len(self.class_names)) & (maps != self.nodata)]).size:
            raise RasterError(
                f"Value {wrong[0]} has no class: values are 0 to {len(self.class_names) - 1}, and {self.nodata} for "
                "nodata."
            )
        try:
            self._dataset.write(maps, window=Window(column, row, maps.shape[2], maps.shape[1]))
        except RasterioIOError as error:
            raise RasterError(f"{self.path} cannot be written: {error.__cause__ or error}") from error

    def _table(self) -> Iterator[tuple[int, int, int, int]]:
        """Red, green, blue and alpha of the values 0 to 255; values without a class are transparent."""
        for value in range(256):
            yield (*self.colours[value], 255) if value < len(self.colours) else (0, 0, 0, 0)

    def _sidecar(self) -> ElementTree.Element:
        """GDAL's auxiliary file: names and colours of the classes for each band, which TIFF has no room for.

        Of a GeoTIFF with several bands GDAL reads the colour table of the first one only, but the attribute tables
        (value, name, colour) of all.
        """
        root = ElementTree.Element("PAMDataset")
        for index in range(1, self.shape[0] + 1):
            band = ElementTree.SubElement(root, "PAMRasterBand", band=str(index))
            ElementTree.SubElement(band, "ColorInterp").text = "Palette"
            categories = ElementTree.SubElement(band, "CategoryNames")
            for name in self.class_names:
                ElementTree.SubElement(categories, "Category").text = name
            colours = ElementTree.SubElement(band, "ColorTable")
            for colour in self._table():
                entry = {f"c{position}": str(part) for position, part in enumerate(colour, start=1)}
                ElementTree.SubElement(colours, "Entry", entry)
            attributes = ElementTree.SubElement(band, "GDALRasterAttributeTable", tableType="thematic")
            for position, (name, kind, usage) in enumerate(_ATTRIBUTE_FIELDS):
                column = ElementTree.SubElement(attributes, "FieldDefn", index=str(position))
                for key, value in (("Name", name), ("Type", kind), ("Usage", usage)):
                    ElementTree.SubElement(column, key).text = str(value)
            for value, (name, colour) in enumerate(zip(self.class_names, self.colours, strict=True)):
                row = ElementTree.SubElement(attributes, "Row", index=str(value))
                for cell in (value, name, *colour):
                    ElementTree.SubElement(row, "F").text = str(cell)
        return root

    def _check_written(self) -> None:
        """A full disk shows when the file is read back, not when GDAL closes it."""
        with _open(str(self._partial)) as dataset:
            ones, zeros = (1.0,) * dataset.count, (0.0,) * dataset.count
            _check_last_block(_Layer(str(self._partial), dataset.indexes, ones, zeros, masked=False), dataset)

    def _discard(self) -> None:
        if self._dataset is not None:
            self._dataset.close()
            self._dataset = None
        self._partial.unlink(missing_ok=True)
        self._partial_sidecar.unlink(missing_ok=True)
        self._partial.with_name(self._partial.name + ".aux.xml").unlink(missing_ok=True)
