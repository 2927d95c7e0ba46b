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
"""Grids: whether rasters lie on one, and how those on others are warped to it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from rasterio import CRS, Affine
from rasterio.enums import Resampling
from rasterio.io import MemoryFile
from rasterio.transform import from_gcps
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform as transform_points
from rasterio.windows import Window

from .georeference import apply, coefficients
from .records import GDAL_ERRORS, RasterError, RasterSource

# Two grids are one if no corner differs by more than this many pixels: software rounds corners and pixel sizes (degrees
# to nine digits are 0.1 mm, but a pixel size to six digits drifts by a hundredth of a pixel over 10 000), and no sensor
# is registered better.
GRID_TOLERANCE_PIXELS = 0.01
# A fit by an affine map that is off by less is as good as the points.
_MAX_GCP_PIXELS = 0.5
# GDAL's widest kernel, that of lanczos, reaches so many pixels of the coarser grid.
_KERNEL_PIXELS = 3
# What is read at once for a warped window; larger ones are warped in parts.
_MAX_SOURCE_PIXELS = 2**24
# In pixels.
_EXACT = 1e-9
_LATTICE = np.linspace(0, 1, 33)

ReadWindow = Callable[[Window], np.ndarray]


@dataclass(frozen=True)
class Grid:
    """A grid of pixels.

    Args:
        path: the raster that has it, for messages.
        crs: coordinate reference system; `None` if unknown.
        transform: from pixels to coordinates; `None` if unknown.
        shape: rows and columns.
    """

    path: str
    crs: CRS | None
    transform: Affine | None
    shape: tuple[int, int]

    @classmethod
    def of(cls, source: RasterSource) -> "Grid":
        """The grid that a raster is stored on."""
        return cls(source.path, source.crs, source.transform, source.shape)

    def difference(self, other: "Grid") -> str | None:
        """How another grid differs, in words; `None` if it does not."""
        if other.shape != self.shape:
            return (
                f"it measures {other.shape[0]} x {other.shape[1]} pixels, the other {self.shape[0]} x {self.shape[1]}"
            )
        if other.crs != self.crs:
            return f"its CRS is {other.crs or 'unknown'}, that of the other {self.crs or 'unknown'}"
        here, there = self.transform or Affine.identity(), other.transform or Affine.identity()
        distance = corner_distance(here, there, self.shape)
        if distance > GRID_TOLERANCE_PIXELS:
            transforms = f"{coefficients(there)}, {coefficients(here)}"
            return f"they lie up to {distance:.3g} pixels apart (transforms {transforms})"
        return None


def corner_distance(transform: Affine, other: Affine, shape: tuple[int, int]) -> float:
    """Largest distance of the corners of two grids in pixels of the first one."""
    a, b, _, d, e, _ = coefficients(transform)
    difference = np.subtract(coefficients(other), coefficients(transform)).reshape(2, 3)
    if a * e == b * d:
        return math.inf if difference.any() else 0.0
    corners = np.array([(0, 0, 1), (shape[1], 0, 1), (0, shape[0], 1), (shape[1], shape[0], 1)])
    offsets = np.linalg.solve([[a, b], [d, e]], difference @ corners.T)
    return float(np.hypot(*offsets).max())


def source_grid(source: RasterSource, target: Grid) -> Grid:
    """The grid that a raster is warped from: fitted to control points, or moved by whole turns to the target."""
    points, points_crs = source.gcps
    crs = source.crs or points_crs
    transform = from_gcps(points) if points else source.transform
    own = Grid(source.path, crs, transform, source.shape)
    if points or transform is None or target.transform is None:
        return own
    if not (crs and crs.is_geographic and target.crs and target.crs.is_geographic):
        return own
    turn = 2 * math.pi / crs.units_factor[1]
    here, there = _center_x(own), _center_x(target)
    turns = round((there - here) / turn)
    a, b, c, d, e, f = coefficients(transform)
    return Grid(source.path, crs, Affine(a, b, c + turns * turn, d, e, f), source.shape)


def _center_x(grid: Grid) -> float:
    a, b, c, *_ = coefficients(grid.transform or Affine.identity())
    return a * grid.shape[1] / 2 + b * grid.shape[0] / 2 + c


def check_warpable(source: RasterSource, target: Grid) -> None:
    """Refuses what cannot be warped.

    Raises:
        RasterError: a grid has no georeference or no area, control points fit no affine map, or nothing overlaps.
    """
    own = source_grid(source, target)
    for grid in (target, own):
        if not grid.crs or grid.transform is None:
            raise RasterError(
                f"{source.path} cannot be warped to the grid of {target.path}: {grid.path} has no georeference. Give "
                "it one, for instance with gdal_edit -a_srs -a_ullr."
            )
        if grid.transform.is_degenerate:
            raise RasterError(
                f"{source.path} cannot be warped to the grid of {target.path}: the transform "
                f"{coefficients(grid.transform)} of {grid.path} gives pixels no area. Correct it, for instance with "
                "gdal_edit -a_ullr."
            )
    _check_control_points(source, own)
    if not (_reaches(own, target) or _reaches(target, own)):
        raise RasterError(
            f"{source.path} lies outside the grid of {target.path}: no pixel of the two meets. Leave one out."
        )


def _check_control_points(source: RasterSource, own: Grid) -> None:
    points, _ = source.gcps
    if not points or own.transform is None:
        return
    xs = np.array([point.x for point in points])
    ys = np.array([point.y for point in points])
    columns, rows = apply(~own.transform, xs, ys)
    off = np.hypot(columns - [point.col for point in points], rows - [point.row for point in points]).max()
    if off > _MAX_GCP_PIXELS:
        raise RasterError(
            f"{source.path} cannot be warped: its ground control points lie up to {off:.3g} pixels off an affine map. "
            "Warp it yourself, for instance with gdalwarp -tps."
        )


def _reaches(grid: Grid, other: Grid) -> bool:
    """Whether points of one grid lie inside the other."""
    columns, rows = _lattice(grid.shape[1], grid.shape[0])
    columns, rows = _pixels_of(grid, other, columns, rows)
    inside = (columns > 0) & (columns < other.shape[1]) & (rows > 0) & (rows < other.shape[0])
    return bool(inside.any())


def _lattice(width: float, height: float) -> tuple[np.ndarray, np.ndarray]:
    columns, rows = np.meshgrid(_LATTICE * width, _LATTICE * height)
    return columns.ravel(), rows.ravel()


def _pixels_of(grid: Grid, other: Grid, columns: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixel coordinates of one grid in another."""
    if grid.transform is None or other.transform is None:
        raise RasterError(f"{grid.path} or {other.path} has no georeference.")
    xs, ys = apply(grid.transform, columns, rows)
    if grid.crs != other.crs:
        try:
            xs, ys = (np.asarray(values) for values in transform_points(grid.crs, other.crs, xs, ys))
        except GDAL_ERRORS as error:
            raise RasterError(f"Coordinates cannot be converted from {grid.crs} to {other.crs}: {error}") from error
    return apply(~other.transform, xs, ys)


def warp(
    read: ReadWindow, num_bands: int, own: Grid, target: Grid, window: Window, resampling: Resampling
) -> np.ndarray:
    """A window of a raster on the grid of the series.

    Args:
        read: physical values (bands, height, width) float32 of a window of the raster's own grid, NaN = missing.
        num_bands: how many bands it reads.
        own: the grid that they are stored on.
        target: the grid of the series.
        window: on that grid.
        resampling: how; missing pixels take no part.

    Raises:
        RasterError: the raster cannot be read, or GDAL cannot warp it.
    """
    values = np.full((num_bands, window.height, window.width), np.nan, dtype=np.float32)
    needed = _source_window(own, target, window)
    if needed is None:
        return values
    if needed.height * needed.width > _MAX_SOURCE_PIXELS and window.height * window.width > 1:
        for part in _halves(window):
            rows = slice(part.row_off - window.row_off, part.row_off - window.row_off + part.height)
            columns = slice(part.col_off - window.col_off, part.col_off - window.col_off + part.width)
            values[:, rows, columns] = warp(read, num_bands, own, target, part, resampling)
        return values
    return _warped(read(needed), own, needed, target, window, resampling)


def _warped(
    array: np.ndarray, own: Grid, needed: Window, target: Grid, window: Window, resampling: Resampling
) -> np.ndarray:
    """Values (bands, height, width) of the window `needed` of a raster in a window of another grid."""
    across, down = _scales(own, target)
    profile = {"driver": "GTiff", "dtype": "float32", "nodata": math.nan, "crs": own.crs}
    profile |= {"count": len(array), "height": needed.height, "width": needed.width}
    try:
        with MemoryFile() as memory:
            with memory.open(transform=_moved(own, needed), **profile) as dataset:
                dataset.write(array)
            with (
                memory.open() as dataset,
                WarpedVRT(
                    dataset,
                    crs=target.crs,
                    transform=_moved(target, window),
                    height=window.height,
                    width=window.width,
                    src_nodata=math.nan,
                    nodata=math.nan,
                    resampling=resampling,
                    # Exact for every pixel, with one kernel for all: values must not depend on how a scene is cut into
                    # windows. GDAL takes 0 for no tolerance at all.
                    tolerance=_EXACT,
                    XSCALE=str(across),
                    YSCALE=str(down),
                ) as warped,
            ):
                values: np.ndarray = warped.read()
                return values
    except GDAL_ERRORS as error:
        raise RasterError(f"{own.path} cannot be warped to the grid of {target.path}: {error}") from error


@lru_cache
def _scales(own: Grid, target: Grid) -> tuple[float, float]:
    """Pixels of the target per pixel of a raster, along the raster's columns and rows, where the two meet.

    They set the width of GDAL's kernel, which would otherwise follow the shape of each window.
    """
    columns, rows = _lattice(target.shape[1], target.shape[0])
    there = _pixels_of(target, own, columns, rows)
    inside = (there[0] > 0) & (there[0] < own.shape[1]) & (there[1] > 0) & (there[1] < own.shape[0])
    known = np.flatnonzero(inside if inside.any() else np.isfinite(there[0]) & np.isfinite(there[1]))
    middle = known[len(known) // 2]
    column, row = columns[middle], rows[middle]
    near_columns, near_rows = _pixels_of(
        target, own, np.array([column, column + 1, column]), np.array([row, row, row + 1])
    )
    across = float(np.hypot(*(near_columns[1:] - near_columns[0])))
    down = float(np.hypot(*(near_rows[1:] - near_rows[0])))
    return 1 / across, 1 / down


def _moved(grid: Grid, window: Window) -> Affine:
    """The transform of a window."""
    a, b, c, d, e, f = coefficients(grid.transform or Affine.identity())
    column, row = window.col_off, window.row_off
    return Affine(a, b, c + a * column + b * row, d, e, f + d * column + e * row)


def _halves(window: Window) -> tuple[Window, Window]:
    column, row, width, height = window.col_off, window.row_off, window.width, window.height
    if height >= width:
        half = height // 2
        return Window(column, row, width, half), Window(column, row + half, width, height - half)
    half = width // 2
    return Window(column, row, half, height), Window(column + half, row, width - half, height)


def _source_window(own: Grid, target: Grid, window: Window) -> Window | None:
    """The pixels of a raster that a window of the target grid needs; `None` if there are none."""
    columns, rows = _lattice(window.width, window.height)
    columns, rows = _pixels_of(target, own, columns + window.col_off, rows + window.row_off)
    known = np.isfinite(columns) & np.isfinite(rows)
    if not known.any():
        return None
    columns, rows = columns[known], rows[known]
    spans = []
    for values, length, full in (
        (columns, window.width, own.shape[1]),
        (rows, window.height, own.shape[0]),
    ):
        ratio = max(float(np.ptp(values)) / length, 1.0)
        margin = math.ceil((_KERNEL_PIXELS + 1) * ratio)
        first = max(math.floor(values.min()) - margin, 0)
        last = min(math.ceil(values.max()) + margin, full)
        if first >= last:
            return None
        spans.append((first, last - first))
    (column, width), (row, height) = spans
    return Window(column, row, width, height)
