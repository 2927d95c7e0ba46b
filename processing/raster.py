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
"""From georeferenced rasters (anything GDAL reads) to [`ImageSeries`], whole or window by window."""

import math
import os
import re
import warnings
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from numbers import Real
from types import TracebackType
from typing import Any

import numpy as np
import rasterio
from rasterio import Affine
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from .metadata import Acquisition, Band, ImageSeries, parse_datetime, window_transform
from .raster_metadata import (
    RASTER_SUFFIXES,
    Fact,
    Layer,
    RasterError,
    abridged,
    coefficients,
    date_of,
    facts_of_band,
    georeference,
    ground_sampling_distance,
    identify_bands,
    layer_of,
    sensor_of,
)
from .sensors import Sensor, find_sensor, sensor_bands

PathLike = str | os.PathLike[str]

# Two grids are one if no corner differs by more than this many pixels.
GRID_TOLERANCE_PIXELS = 1e-6

# Of the 1024 that Linux lets a process open; a series of more files reopens them at every window.
_MAX_OPEN_FILES = 256
_MAX_TEXT = 60
_PROBE_PIXELS = 256


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
        layers: Sequence[Sequence[Layer]],
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
        return replace(self.series, pixels=pixels, transform=window_transform(self.series.transform, row, column))

    def _read_date(self, date: int, window: Window) -> np.ndarray:
        arrays = [_read(self._handles.get(layer.path), layer, window) for layer in self._layers[date]]
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _read(dataset: DatasetReader, layer: Layer, window: Window) -> np.ndarray:
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
        crs, transform, georeference_facts = georeference(entries[0][0], reference)
        acquisitions, all_facts, all_layers = [], [], []
        for index, files in enumerate(entries):
            facts = [replace(fact, path=files[0]) for fact in georeference_facts]
            gsd = Fact(files[0], None, "gsd_m", float(gsd_m), "argument gsd_m") if gsd_m is not None else None
            facts.append(gsd or Fact(files[0], None, "gsd_m", *ground_sampling_distance(reference, transform)))
            if given_dates is not None:
                facts.append(Fact(files[0], None, "datetime", given_dates[index], "argument dates"))
            else:
                facts.append(date_of(files, map(handles.get, files)))
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
) -> tuple[tuple[Band, ...], list[Layer], list[Fact]]:
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
        listed = abridged(band.name if isinstance(band, Band) else band for band in given)
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
        found_sensor, sensor_fact = sensor_of(path, dataset, sensor)
        facts.append(sensor_fact)
        own = slice(len(records), len(records) + len(indexes))
        if given is None:
            bands, band_facts = identify_bands(path, dataset, indexes, found_sensor)
            records += bands
            facts += band_facts
        else:
            for index, item in zip(indexes, given[own], strict=True):
                band = item if isinstance(item, Band) else sensor_bands(sensor, [item])[0]
                source = "argument bands" if isinstance(item, Band) else f"argument bands, table of {sensor.name}"
                facts += facts_of_band(path, index, band, source)
                records.append(band)
        layer, layer_facts = layer_of(path, dataset, indexes, scales[own])
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
            transforms = f"{coefficients(other.transform)}, {coefficients(transform)}"
            problem = f"they lie up to {distance:.3g} pixels apart (transforms {transforms})"
        else:
            continue
        raise RasterError(
            f"{path} and {files[0]} are not on one grid: {problem}. Warp them to one, for instance with gdalwarp "
            "-t_srs -te -ts, or rasterio's WarpedVRT."
        )


def _grid_distance(transform: Affine, other: Affine, shape: tuple[int, int]) -> float:
    """Largest distance of the corners in pixels of the first grid."""
    a, b, _, d, e, _ = coefficients(transform)
    difference = np.subtract(coefficients(other), coefficients(transform)).reshape(2, 3)
    corners = [(column, row, 1) for column in (0, shape[1]) for row in (0, shape[0])]
    if a * e == b * d:
        return math.inf if difference.any() else 0.0
    return float(np.hypot(*np.linalg.solve([[a, b], [d, e]], difference @ np.transpose(corners))).max())


def _check_last_block(layer: Layer, dataset: DatasetReader) -> None:
    """Reads the last block of each band: what a truncated file lacks."""
    height, width = dataset.block_shapes[layer.indexes[0] - 1]
    row = (dataset.height - 1) // height * height
    column = (dataset.width - 1) // width * width
    _read(dataset, layer, Window(column, row, dataset.width - column, dataset.height - row))


def check_complete(path: PathLike) -> None:
    """Makes sure that a file holds all that its header promises: a full disk does not show when GDAL closes it.

    Args:
        path: the raster.

    Raises:
        RasterError: the file cannot be opened, or the last block of a band cannot be read.
    """
    with _open(os.fspath(path)) as dataset:
        ones, zeros = (1.0,) * dataset.count, (0.0,) * dataset.count
        _check_last_block(Layer(os.fspath(path), dataset.indexes, ones, zeros, masked=False), dataset)


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
    listed = "; ".join(f"{path}, bands {abridged(bands)}" for path, bands in list(empty.items())[:3])
    where = f"Bands without any data: {listed}." if listed else "No pixel has data in all bands of a date."
    raise RasterError(
        f"The input holds no data: all pixels are nodata, masked or not finite. {where} Check the nodata value and the "
        "masks (gdalinfo -stats), or leave bands without data out."
    )


# Facts as text


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
