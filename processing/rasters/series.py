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
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from numbers import Real
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

try:
    import rasterio
    from rasterio import CRS, Affine
    from rasterio._err import CPLE_BaseError
    from rasterio.enums import Resampling
    from rasterio.errors import NotGeoreferencedWarning, RasterioError, RasterioIOError
    from rasterio.io import DatasetReader
    from rasterio.transform import from_gcps
    from rasterio.vrt import WarpedVRT
    from rasterio.warp import transform as transform_points
    from rasterio.windows import Window
except ImportError as error:
    raise ImportError("Reading rasters needs rasterio: pip install rasterio") from error

from ..metadata import Acquisition, Band, ImageSeries, parse_datetime, window_transform
from .cubes import CUBE_SUFFIXES, Cube, is_xarray
from .sensors import Sensor, find_sensor, sensor_bands
from .stac import ITEM_SUFFIXES, Asset, read_item
from .statements import (
    RASTER_SUFFIXES,
    Fact,
    Layer,
    RasterError,
    Source,
    abridged,
    bad_bands,
    coefficients,
    date_of,
    facts_of_band,
    georeference,
    ground_sampling_distance,
    identify_bands,
    layer_of,
    sensor_of,
)

if TYPE_CHECKING:
    try:  # noqa: SIM105 (hides them from the check of what a checkpoint's code needs)
        from xarray import DataArray, Dataset
    except ImportError:
        pass

PathLike = str | os.PathLike[str]
Entry: TypeAlias = "PathLike | Mapping[str, Any] | Dataset | DataArray"
# The bands of each file that belong to one date.
Slot: TypeAlias = list[tuple[str, tuple[int, ...]]]

# Two grids are one if no corner differs by more than this many pixels: software rounds corners and pixel sizes (degrees
# to nine digits are 0.1 mm, but a pixel size to six digits drifts by a hundredth of a pixel over 10 000), and no sensor
# is registered better.
GRID_TOLERANCE_PIXELS = 0.01
STACKED = ("dates", "bands")
RESAMPLING = ("nearest", "bilinear", "cubic", "cubic_spline", "lanczos", "average", "mode", "max", "min", "med")

# Of the 1024 that Linux lets a process open; a series of more files reopens them at every window.
_MAX_OPEN_FILES = 256
_MAX_TEXT = 60
# A fit by an affine map that is off by less is as good as the points.
_MAX_GCP_PIXELS = 0.5
_PROBE_PIXELS = 256
# No map of the Earth, 4e7 m around, is larger; PROJ takes for ever over coordinates of 1e37.
_MAX_DEGREES, _MAX_COORDINATE = 1080.0, 1e9
# What rasterio raises: its own errors, and GDAL's where it does not translate them.
_GDAL_ERRORS = (RasterioError, CPLE_BaseError)


@dataclass(frozen=True)
class _File:
    """What leads to a dataset: a name for messages, and a STAC asset or an xarray object behind it."""

    path: str
    asset: Asset | None = None
    cube: Any = field(default=None, compare=False)
    parts: tuple[str, ...] | None = None


@dataclass(frozen=True)
class _Grid:
    """The grid of a series, which others are warped to."""

    path: str
    crs: CRS | None
    transform: Affine
    shape: tuple[int, int]


@dataclass
class _Handles:
    """Open datasets, the least recently used closed beyond a fixed number: long series have thousands of files."""

    files: dict[str, _File] = field(default_factory=dict)
    grid: _Grid | None = None
    resampling: Resampling = Resampling.bilinear
    # For each file the dataset, under "", and its warped forms, under the number that means missing.
    opened: OrderedDict[str, dict[Any, Any]] = field(default_factory=OrderedDict)

    def source(self, path: str) -> Source:
        """The file as it is."""
        return Source(path, self._open(path)[""], self.files[path].asset)

    def reader(self, layer: Layer) -> "DatasetReader | WarpedVRT | Cube":
        """What the pixels of a layer are read from, on the grid of the series."""
        opened = self._open(layer.path)
        if not layer.warped:
            return opened[""]
        given = [opened[""].nodatavals[index - 1] for index in layer.indexes]
        # NaN differs from itself: one object stands for it in sets and as a key.
        given, layers = (
            {math.nan if value is not None and math.isnan(value) else value for value in values}
            for values in (given, layer.nodata)
        )
        stated = given | layers
        nodata = stated - {None} if len(stated) > 1 else stated
        if len(nodata) > 1 or (None in layers and layers != {None}):
            raise RasterError(
                f"{layer.path} cannot be warped: its bands have different nodata values ({abridged(stated)}). Warp it "
                "yourself, for instance with gdalwarp."
            )
        (number,) = nodata
        if number not in opened:
            opened[number] = self._warp(layer.path, opened[""], number)
        return opened[number]

    def _open(self, path: str) -> dict[Any, Any]:
        if path not in self.opened:
            if len(self.opened) >= _MAX_OPEN_FILES:
                self._close(self.opened.popitem(last=False)[1])
            file = self.files[path]
            if file.cube is not None or _is_cube(path):
                self.opened[path] = {"": Cube(path if file.cube is None else file.cube, path, file.parts)}
            else:
                self.opened[path] = {"": _open(path)}
        self.opened.move_to_end(path)
        return self.opened[path]

    def _warp(self, path: str, dataset: DatasetReader, nodata: float | None) -> WarpedVRT:
        """The file on the grid of the series, float32 with NaN where it holds no data."""
        try:
            return WarpedVRT(
                dataset,
                crs=self.grid.crs,
                transform=self.grid.transform,
                height=self.grid.shape[0],
                width=self.grid.shape[1],
                src_crs=_source_crs(dataset),
                src_transform=_source_transform(dataset, self.grid),
                src_nodata=nodata,
                nodata=math.nan,
                dtype="float32",
                resampling=self.resampling,
            )
        except _GDAL_ERRORS as error:
            raise RasterError(f"{path} cannot be warped to the grid of {self.grid.path}: {error}") from error

    @staticmethod
    def _close(datasets: Mapping[Any, Any]) -> None:
        for dataset in reversed(datasets.values()):
            dataset.close()

    def close(self) -> None:
        while self.opened:
            self._close(self.opened.popitem()[1])


def _is_cube(path: str) -> bool:
    return path.rstrip("/\\").lower().endswith(CUBE_SUFFIXES)


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
    def grid_files(self) -> list[str]:
        """The raster that the others were warped to, if it is a file."""
        grid = self._handles.grid
        return [] if grid is None else [str(grid.path)]

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
        arrays = [_read(self._handles.reader(layer), layer, window) for layer in self._layers[date]]
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _read(dataset: "DatasetReader | WarpedVRT | Cube", layer: Layer, window: Window) -> np.ndarray:
    """Reads (bands, height, width) float32 in physical units, NaN = missing."""
    indexes = list(layer.indexes)
    # Cubes and warped rasters mark missing data as NaN.
    native = not layer.warped and not isinstance(dataset, Cube)
    try:
        array = dataset.read(indexes, window=window)
        masks = dataset.read_masks(indexes, window=window) if layer.masked and native else None
    except RasterioIOError as error:
        raise RasterError(
            f"{layer.path} cannot be read at row {window.row_off}, column {window.col_off}, {window.height} x "
            f"{window.width} pixels: {error.__cause__ or error} The file is probably truncated; fetch or write it "
            "again."
        ) from error
    missing = masks == 0 if masks is not None else np.zeros(array.shape, dtype=bool)
    for band, gone, nodata in zip(array, missing, layer.nodata, strict=True):
        if nodata is not None and native:
            gone |= band == band.dtype.type(nodata) if band.dtype.kind == "f" else band == nodata
    # Nodata of double precision may overflow; it becomes NaN below.
    with np.errstate(over="ignore", invalid="ignore"):
        array = array.astype(np.float32, copy=False)
        for band, scale, offset in zip(array, layer.scales, layer.offsets, strict=True):
            if (scale, offset) != (1.0, 0.0):
                band *= scale
                band += offset
    missing |= ~np.isfinite(array)
    array[missing] = np.nan
    return array


def open_series(
    paths: "Entry | Sequence[Entry | Sequence[Entry]]",
    *,
    bands: Sequence[Band | str] | Sequence[Sequence[Band | str] | None] | None = None,
    sensor: str | Sensor | Sequence[str | Sensor | None] | None = None,
    dates: Sequence[Any] | None = None,
    gsd_m: float | None = None,
    scale: float | Sequence[float] | Sequence[float | Sequence[float] | None] | None = None,
    parts: Sequence[str] | None = None,
    stacked: str | None = None,
    num_dates: int | None = None,
    grid: PathLike | None = None,
    resampling: str = "bilinear",
) -> RasterSeries:
    """Opens rasters as one image series; pixels are read later, window by window.

    What a band measured is taken from, in this order: `bands`; GDAL's IMAGERY domain; tags of the band
    (`wavelength_nm`, `fwhm_nm`, `kind`, `polarisation`...); a STAC item; an ENVI header; the band's name (description,
    or else its part of the name of a file with a single band, or else its colour) looked up in the table of `sensor` or
    of the sensor that tags or the STAC item name. When it was taken: `dates`, tags, the STAC item, a date in the file
    name. GSD: `gsd_m`, or else the georeference, or else the STAC item. Statements that exclude each other are an
    error. Bands that an ENVI header lists as bad (`bbl`) are left out.

    Args:
        paths: one entry a date, oldest first. An entry is one of

            - a file: whatever GDAL takes as a name;
            - a folder: its rasters in natural order of their names, each with bands of that date;
            - a STAC item: a `.json` file or a dictionary;
            - a netCDF or Zarr cube (`.nc`, `.zarr`) or an xarray object: all its dates (`pip install 'stsun[xarray]'`);
            - a sequence of these, whose bands are put one after another.

            A single one stands for a list of one.
        bands: the bands, for all dates or one sequence a date (`None` = from the file): [`Band`] records, or names in
            the table of `sensor`.
        sensor: sensor whose table holds the names of the bands, for all dates or one a date.
        dates: when each date was taken, as [`parse_datetime`] takes it; `None` in the list = unknown.
        gsd_m: ground sampling distance in metres.
        scale: factor from stored numbers to physical units: one number, or one a band, or a sequence of these with one
            entry a date (`None` = from the file). Scale and offset of the file then do not apply.
        parts: which assets of STAC items, or which variables or bands of cubes are read, in this order. `None` = of
            items the rasters with the role `data`, of cubes everything.
        stacked: how files hold several dates: `dates` = date after date, each with all its bands; `bands` = band after
            band, each with all its dates. `None` = each file holds bands of one date. Cubes know their dates.
        num_dates: dates in each stacked entry; not needed if `dates` tells, or `bands` for all dates.
        grid: the grid to which rasters on other ones are warped: `first` (that of the first file), or a raster that has
            it. `None` = rasters on different grids are an error.
        resampling: how they are warped: `nearest` for numbers that are no quantities, `bilinear`, `cubic`, `average`...
            (GDAL averages over the pixels that a coarser one covers).

    Returns:
        The open series.

    Raises:
        RasterError: a file is missing, empty, truncated, not a raster or of complex numbers; grids differ; a band is
            unknown, or its metadata contradict each other; the number of records does not fit; nothing but nodata.
        MetadataError: a given value is not possible, or dates are out of order.
    """
    if stacked is not None and stacked not in STACKED:
        raise RasterError(f"stacked must be one of {', '.join(STACKED)} or None, got {stacked!r}.")
    if num_dates is not None and (stacked is None or not _is_count(num_dates)):
        raise RasterError(f"num_dates must be 1 or more, together with stacked=..., got {num_dates!r}.")
    if resampling not in RESAMPLING:
        raise RasterError(f"resampling must be one of {', '.join(RESAMPLING)}, got {resampling!r}.")
    if dates is not None:
        if isinstance(dates, str) or not isinstance(dates, Iterable):
            raise RasterError(f"dates must hold one date for each date of the series, got {dates!r}.")
        dates = list(dates)
    if grid is not None and not isinstance(grid, (str, os.PathLike)):
        raise RasterError(f"grid must be 'first' or the path of a raster, got {grid!r}.")
    if isinstance(parts, str):
        raise RasterError(f"parts must be a sequence of names, got the text {parts!r}. Write [{parts!r}].")
    entries = _entries(paths, parts)
    with ExitStack() as stack:
        handles = _Handles(resampling=Resampling[resampling])
        stack.callback(handles.close)
        for file in (file for files in entries for file in files):
            if handles.files.setdefault(file.path, file) != file:
                raise RasterError(f"{file.path} is named twice, with different metadata. Copy it, or name it once.")
            _check_usable(handles.source(file.path))
        slots = [
            slot
            for files in entries
            for slot in _slots([file.path for file in files], handles, stacked, num_dates, dates, bands, len(entries))
        ]
        count = len(slots)
        if dates is not None and len(dates) != count:
            raise RasterError(f"dates must hold one date for each of the {count} dates of the series, got {dates!r}.")
        given_dates = None if dates is None else [parse_datetime(date) for date in dates]
        date_bands = _per_date(bands, count, "bands", (Band, str))
        by_date = [sensor] * count if isinstance(sensor, (str, Sensor)) else _per_date(sensor, count, "sensor", ())
        date_sensors = [one if one is None or isinstance(one, Sensor) else find_sensor(one) for one in by_date]
        date_scales = [scale] * count if isinstance(scale, Real) else _per_date(scale, count, "scale", (Real,))

        target, georeference_facts = _target_grid(entries[0][0].path if grid in (None, "first") else grid, handles)
        handles.grid = target
        warped = _off_grid(handles, ask=grid is None)
        crs, transform = (fact.value for fact in georeference_facts[1:])
        acquisitions, all_facts, all_layers = [], [], []
        for index, slot in enumerate(slots):
            files = [path for path, _ in slot]
            facts = [replace(fact, path=files[0]) for fact in georeference_facts]
            facts += [_warp_fact(path, target, resampling) for path in files if path in warped]
            gsd = Fact(files[0], None, "gsd_m", gsd_m, "argument gsd_m") if gsd_m is not None else None
            found = ground_sampling_distance(handles.source(files[0]), target.crs, transform, target.shape)
            facts.append(gsd or Fact(files[0], None, "gsd_m", *found))
            if given_dates is not None:
                facts.append(Fact(files[0], None, "datetime", given_dates[index], "argument dates"))
            else:
                sources = map(handles.source, files)
                facts.append(date_of(sources, [own for _, own in slot], stacked=_is_part(slot, handles)))
            records, layers, band_facts = _date_bands(
                slot, handles, date_bands[index], date_sensors[index], date_scales[index], stacked, warped
            )
            facts += band_facts
            values = {fact.name: fact.value for fact in facts if fact.name in ("datetime", "gsd_m")}
            sensors = [fact.value for fact in facts if fact.name == "sensor" and fact.value]
            acquisitions.append(Acquisition(records, sensor=sensors[0] if sensors else None, **values))
            all_facts.append(facts)
            all_layers.append(layers)
        _check_stacks(slots, acquisitions, stacked)
        series = ImageSeries(tuple(acquisitions), crs=crs, transform=transform)
        opened = RasterSeries(series, all_facts, all_layers, target.shape, handles)
        for layer in (layer for layers in all_layers for layer in layers):
            _check_last_block(layer, handles.source(layer.path).dataset)
        check_has_data(opened)
        stack.pop_all()
        return opened


def read_series(paths: "Entry | Sequence[Entry | Sequence[Entry]]", **options: Any) -> ImageSeries:
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


def _check_stacks(slots: Sequence[Slot], acquisitions: Sequence[Acquisition], stacked: str | None) -> None:
    """Refuses dates of one stacked file whose bands differ: the layout is another one."""
    if stacked is None:
        return
    first: dict[str, tuple[int, list[Any]]] = {}
    for number, (slot, acquisition) in enumerate(zip(slots, acquisitions, strict=True), start=1):
        known = [
            (band.center_nm, band.kind, band.polarisation)
            for band in acquisition.bands
            if band.center_nm is not None or band.polarisation is not None
        ]
        path = slot[0][0]
        if first.setdefault(path, (number, known))[1] != known:
            other = "bands" if stacked == "dates" else "dates"
            raise RasterError(
                f"{path} was read with stacked={stacked!r}, which gives dates {first[path][0]} and {number} different "
                f"bands. Try stacked={other!r} (--stacked {other})."
            )


# Arguments


def _entries(paths: Any, parts: Sequence[str] | None) -> list[list[_File]]:
    """The files of each entry."""
    single = isinstance(paths, (str, os.PathLike, Mapping)) or is_xarray(paths)
    entries: list[list[_File]] = []
    for number, entry in enumerate([paths] if single else list(paths)):
        if isinstance(entry, (str, os.PathLike, Mapping)) or is_xarray(entry):
            files = _files(entry, parts, f"{number}")
        else:
            files = [file for i, one in enumerate(entry) for file in _files(one, parts, f"{number}.{i}")]
            if not files:
                raise RasterError(f"Entry {number} of paths holds no file. Give one entry a date, with its files.")
        entries.append(files)
    if not entries:
        raise RasterError("paths holds no entry. Give at least one raster.")
    every = [file for files in entries for file in files]
    if parts is not None and not any(file.asset or file.parts for file in every):
        raise RasterError("parts names assets or variables, but paths holds no STAC item and no netCDF or Zarr cube.")
    return entries


def _files(entry: Any, parts: Sequence[str] | None, number: str) -> list[_File]:
    """The files that one item of an entry stands for."""
    own_parts = None if parts is None else tuple(parts)
    if is_xarray(entry):
        name = f"xarray object {number} ({entry.encoding.get('source', 'in memory')})"
        return [_File(name, cube=entry, parts=own_parts)]
    if isinstance(entry, Mapping) or os.fspath(entry).lower().endswith(ITEM_SUFFIXES):
        return [_File(asset.path, asset=asset) for asset in read_item(entry, parts)]
    path = os.fspath(entry)
    if _is_cube(path):
        return [_File(path, parts=own_parts)]
    if not os.path.isdir(path):
        return [_File(path)]
    names = [name for name in os.listdir(path) if name.lower().endswith(RASTER_SUFFIXES)]
    if not names:
        raise RasterError(
            f"Folder {path} holds no raster ({', '.join(RASTER_SUFFIXES)}). Name the files themselves if they end "
            "differently."
        )
    return [_File(os.path.join(path, name)) for name in sorted(names, key=_natural)]


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
    return [list(item) if isinstance(item, Iterable) and not isinstance(item, str) else item for item in values]


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _slots(
    files: Sequence[str],
    handles: _Handles,
    stacked: str | None,
    num_dates: int | None,
    dates: Sequence[Any] | None,
    bands: Any,
    num_entries: int,
) -> list[Slot]:
    """The dates of one entry."""
    cubes = {path: handles.source(path).dataset.num_dates for path in files if _is_own_cube(path, handles)}
    channels = [(path, handles.source(path).channels) for path in files]
    if cubes:
        counts = set(cubes.values())
        if len(counts) > 1 or (len(cubes) < len(set(files)) and counts != {1}):
            listed = abridged(f"{path}: {number}" for path, number in cubes.items())
            raise RasterError(
                f"The files of one entry hold different numbers of dates ({listed}). Give each an entry of its own in "
                "paths."
            )
        (count,) = counts
    elif stacked is None:
        return [channels]
    else:
        count = num_dates or _count_dates(channels, dates, bands, num_entries)
    slots: list[Slot] = [[] for _ in range(count)]
    for path, own in channels:
        if len(own) % count:
            raise RasterError(
                f"{path} holds {len(own)} bands, which do not divide into {count} dates. Correct num_dates or dates, "
                "or leave stacked=... out."
            )
        each = len(own) // count
        for date, slot in enumerate(slots):
            by_date = path in cubes or stacked == "dates"
            slot.append((path, own[date * each : (date + 1) * each] if by_date else own[date::count]))
    return slots


def _count_dates(channels: Slot, dates: Sequence[Any] | None, bands: Any, num_entries: int) -> int:
    """Dates in a stacked entry where `num_dates` does not tell."""
    if dates is not None and num_entries == 1:
        return len(dates) or 1
    path, total = channels[0][0], sum(len(own) for _, own in channels)
    flat = list(bands) if isinstance(bands, Iterable) and not isinstance(bands, str) else []
    if flat and all(isinstance(band, (Band, str)) for band in flat):
        if total % len(flat):
            raise RasterError(f"{path} holds {total} bands, which is no multiple of the {len(flat)} given in bands.")
        return total // len(flat)
    raise RasterError(f"How many dates {path} holds is not said. Give num_dates=..., or dates=[...] for one entry.")


def _is_own_cube(path: str, handles: _Handles) -> bool:
    return isinstance(handles.source(path).dataset, Cube)


def _is_part(slot: Slot, handles: _Handles) -> bool:
    """Whether the files of a date hold other dates as well."""
    return any(len(indexes) < len(handles.source(path).channels) for path, indexes in slot)


def _date_bands(
    slot: Slot,
    handles: _Handles,
    given: Sequence[Band | str] | None,
    sensor: Sensor | None,
    scale: float | Sequence[float] | None,
    stacked: str | None,
    warped: Iterable[str],
) -> tuple[tuple[Band, ...], list[Layer], list[Fact]]:
    """Bands and layers of one date, and the facts about them."""
    first, *others = [path for path, _ in slot]
    more = f" and {len(others)} more" if others else ""
    bad = {path: bad_bands(handles.source(path), indexes) for path, indexes in slot}
    # What is given for all bands of a file holds for its good ones.
    good = [index not in bad[path] for path, indexes in slot for index in indexes]
    count = sum(good)
    if count == 0:
        raise RasterError(f"All bands of {first}{more} are marked as bad. Correct the list (bbl).")
    if given is not None and not (isinstance(given, list) and all(isinstance(band, (Band, str)) for band in given)):
        raise RasterError(f"bands must hold Band records or names, got {given!r}.")
    names = [band for band in given or () if isinstance(band, str)]
    if names and sensor is None:
        raise RasterError(
            f"bands names {names[0]!r}, but no sensor says what that is. Give sensor=..., or Band records."
        )
    ignored = f"alpha not counted{f' and {len(good) - count} bad bands left out' if len(good) > count else ''}"
    if given is not None:
        if len(given) == len(good):
            given = [band for band, keep in zip(given, good, strict=True) if keep]
        elif len(given) != count:
            listed = abridged(band.name if isinstance(band, Band) else band for band in given)
            raise RasterError(
                f"{len(given)} bands were given ({listed}), but {first}{more} holds {count}, {ignored}. Give "
                "one band a channel, in the order of the file."
            )
    scales = scale if isinstance(scale, list) else [scale]
    scales = scales * count if len(scales) == 1 else scales
    if len(scales) == len(good):
        scales = [factor for factor, keep in zip(scales, good, strict=True) if keep]
    if len(scales) != count:
        raise RasterError(
            f"{len(scales)} values of scale were given, but {first}{more} holds {count} bands, {ignored}. Give one "
            "number, or one a band."
        )
    records: list[Band] = []
    layers, facts = [], []
    for path, all_indexes in slot:
        source = handles.source(path)
        indexes = [index for index in all_indexes if index not in bad[path]]
        if bad[path]:
            label = next(iter(bad[path].values()))
            facts.append(Fact(path, None, "bad_bands", f"band {abridged(bad[path])} left out", label))
        if not indexes:
            continue
        found_sensor, sensor_fact = sensor_of(source, sensor)
        facts.append(sensor_fact)
        own = slice(len(records), len(records) + len(indexes))
        if given is None:
            bands, band_facts = identify_bands(source, indexes, found_sensor, stacked is not None)
            records += bands
            facts += band_facts
        else:
            for index, item in zip(indexes, given[own], strict=True):
                band = item if isinstance(item, Band) else sensor_bands(sensor, [item])[0]
                label = "argument bands" if isinstance(item, Band) else f"argument bands, table of {sensor.name}"
                facts += facts_of_band(path, index, band, label)
                records.append(band)
        layer, layer_facts = layer_of(source, indexes, scales[own], path in warped)
        layers.append(layer)
        facts += layer_facts
    return tuple(records), layers, facts


# Grids


def _target_grid(path: PathLike, handles: _Handles) -> tuple[_Grid, list[Fact]]:
    """The grid of the series, and the facts about it."""
    path = os.fspath(path)
    if path in handles.files:
        return _grid_of(handles.source(path))
    if _is_cube(path):
        cube = Cube(path, path, None)
        grid = _grid_of(Source(path, cube))
        cube.close()
        return grid
    with _open(path) as dataset:
        return _grid_of(Source(path, dataset))


def _grid_of(source: Source) -> tuple[_Grid, list[Fact]]:
    _check_usable(source)
    dataset = source.dataset
    return _Grid(source.path, dataset.crs, dataset.transform, dataset.shape), georeference(source)[2]


def _off_grid(handles: _Handles, ask: bool) -> set[str]:
    """The files that have to be warped; an error if that was not asked for, or cannot be done."""
    grid, warped = handles.grid, set()
    for path in handles.files:
        source = handles.source(path)
        problem = _grid_problem(source, grid)
        if problem is None:
            continue
        if ask:
            raise RasterError(
                f"{path} and {grid.path} are not on one grid: {problem}. Ask for one grid with grid='first' or "
                "grid=RASTER (--grid on the command line), which warps the others to it while reading, or warp them "
                "yourself, for instance with gdalwarp -t_srs -te -ts."
            )
        _check_warpable(source, grid)
        warped.add(path)
    return warped


def _grid_problem(source: Source, grid: _Grid) -> str | None:
    """How a file's grid differs; `None` if it does not."""
    other = source.dataset
    if other.shape != grid.shape:
        return f"it measures {other.shape[0]} x {other.shape[1]} pixels, the other {grid.shape[0]} x {grid.shape[1]}"
    if other.crs != grid.crs:
        return f"its CRS is {other.crs or 'unknown'}, that of the other {grid.crs or 'unknown'}"
    if (distance := _grid_distance(grid.transform, other.transform, grid.shape)) > GRID_TOLERANCE_PIXELS:
        transforms = f"{coefficients(other.transform)}, {coefficients(grid.transform)}"
        return f"they lie up to {distance:.3g} pixels apart (transforms {transforms})"
    return None


def _check_warpable(source: Source, grid: _Grid) -> None:
    dataset, path = source.dataset, source.path
    if isinstance(dataset, Cube):
        raise RasterError(
            f"{path} is a cube on another grid than {grid.path}, and cubes are not warped. Name it with grid=..., so "
            "that the others are warped to it, or reproject it (rioxarray's reproject_match) and pass the object."
        )
    points = dataset.gcps[0]
    own = (path, _source_crs(dataset), _source_transform(dataset, grid) or dataset.transform)
    for name, crs, transform in ((grid.path, grid.crs, grid.transform), own):
        if not crs or coefficients(transform) == coefficients(Affine.identity()):
            raise RasterError(
                f"{path} cannot be warped to the grid of {grid.path}: {name} has no georeference. Give it one, for "
                "instance with gdal_edit -a_srs -a_ullr."
            )
        if transform.is_degenerate:
            raise RasterError(
                f"{path} cannot be warped to the grid of {grid.path}: the transform {coefficients(transform)} of "
                f"{name} gives pixels no area. Correct it, for instance with gdal_edit -a_ullr."
            )
    if points:
        columns, rows = _apply(~own[2], *(np.array([getattr(point, axis) for point in points]) for axis in "xy"))
        off = np.hypot(columns - [point.col for point in points], rows - [point.row for point in points]).max()
        if off > _MAX_GCP_PIXELS:
            raise RasterError(
                f"{path} cannot be warped: its ground control points lie up to {off:.3g} pixels off an affine map. "
                "Warp it yourself, for instance with gdalwarp -tps."
            )
    if not _overlap(dataset, grid):
        raise RasterError(f"{path} lies outside the grid of {grid.path}: no pixel of the two meets. Leave one out.")


def _overlap(dataset: DatasetReader, grid: _Grid) -> bool:
    """Whether points of one grid lie inside the other."""
    source = (_source_crs(dataset), _source_transform(dataset, grid) or dataset.transform, dataset.shape)
    target = (grid.crs, grid.transform, grid.shape)
    for (crs, transform, shape), (other_crs, other_transform, other_shape) in ((source, target), (target, source)):
        steps = np.linspace(0, 1, 33)
        columns, rows = (axis.ravel() for axis in np.meshgrid(steps * shape[1], steps * shape[0]))
        xs, ys = _apply(transform, columns, rows)
        try:
            xs, ys = (np.asarray(values) for values in transform_points(crs, other_crs, xs, ys))
        except _GDAL_ERRORS as error:
            raise RasterError(f"Coordinates cannot be converted from {crs} to {other_crs}: {error}") from error
        columns, rows = _apply(~other_transform, xs, ys)
        inside = (columns > 0) & (columns < other_shape[1]) & (rows > 0) & (rows < other_shape[0])
        if inside.any():
            return True
    return False


def _apply(transform: Affine, columns: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b, c, d, e, f = coefficients(transform)
    # Points that a projection cannot show are infinite.
    with np.errstate(invalid="ignore", over="ignore"):
        return a * columns + b * rows + c, d * columns + e * rows + f


def _source_crs(dataset: DatasetReader) -> CRS | None:
    return dataset.crs or dataset.gcps[1]


def _source_transform(dataset: DatasetReader, grid: _Grid) -> Affine | None:
    """The transform that a file is warped with where it is not its own: fitted to control points, or in degrees and
    moved by whole turns to where the target grid is."""
    crs = _source_crs(dataset)
    if dataset.gcps[0]:
        return from_gcps(dataset.gcps[0])
    if not (crs and crs.is_geographic and grid.crs and grid.crs.is_geographic):
        return None
    turn = 2 * math.pi / crs.units_factor[1]
    source, target = (_apply(one.transform, one.shape[1] / 2, one.shape[0] / 2)[0] for one in (dataset, grid))
    turns = round((target - source) / turn)
    a, b, c, d, e, f = coefficients(dataset.transform)
    return Affine(a, b, c + turns * turn, d, e, f) if turns else None


def _warp_fact(path: str, grid: _Grid, resampling: str) -> Fact:
    return Fact(path, None, "warped", f"to the grid of {grid.path}, {resampling}", "argument grid")


# Checks


def _check_usable(source: Source) -> None:
    path, dataset = source.path, source.dataset
    if dataset.count == 0:
        parts = dataset.subdatasets
        hint = f" It is a container; name one of its parts, for instance {parts[0]!r}." if parts else ""
        raise RasterError(f"{path} holds no band.{hint}")
    if not source.channels:
        raise RasterError(f"{path} holds an alpha band and no other. Give a raster with at least one band of data.")
    if crs := _source_crs(dataset):
        corners = _apply(
            dataset.transform, *np.array([(0, 0), (0, 1), (1, 0), (1, 1)]).T * [[dataset.width], [dataset.height]]
        )
        points = [(point.x, point.y) for point in dataset.gcps[0]] or np.transpose(corners)
        limit = _MAX_DEGREES if crs.is_geographic else _MAX_COORDINATE
        if not (np.abs(points) <= limit).all():
            raise RasterError(
                f"{path} has a georeference that lies on no map: its corners or control points have coordinates of "
                f"{np.abs(points).max():.3g}, at most {limit:g} are possible. Correct it, for instance with gdal_edit "
                "-a_ullr."
            )
    for index, dtype in zip(dataset.indexes, dataset.dtypes, strict=True):
        if "complex" in dtype:
            raise RasterError(
                f"Band {index} of {path} is of type {dtype}. Complex numbers are not read: convert them first, for "
                "instance to intensity in decibel."
            )


def _grid_distance(transform: Affine, other: Affine, shape: tuple[int, int]) -> float:
    """Largest distance of the corners in pixels of the first grid."""
    a, b, _, d, e, _ = coefficients(transform)
    difference = np.subtract(coefficients(other), coefficients(transform)).reshape(2, 3)
    corners = [(column, row, 1) for column in (0, shape[1]) for row in (0, shape[0])]
    if a * e == b * d:
        return math.inf if difference.any() else 0.0
    return float(np.hypot(*np.linalg.solve([[a, b], [d, e]], difference @ np.transpose(corners))).max())


def _check_last_block(layer: Layer, dataset: "DatasetReader | Cube") -> None:
    """Reads the last block of each band: what a truncated file lacks."""
    layer = replace(layer, warped=False)
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
        _check_last_block(Layer(os.fspath(path), dataset.indexes, ones, zeros, False, (None,) * dataset.count), dataset)


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
