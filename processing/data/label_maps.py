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
"""Label rasters: opened, checked, and read as positions of classes."""

import math
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import rasterio
from rasterio import CRS, Affine
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.warp import transform as transform_points
from rasterio.windows import Window as RasterWindow

from ..metadata import IGNORE_INDEX
from ..rasters.records import GDAL_ERRORS
from .fields import DatasetError
from .samples import SampleRecord, Window

# Label maps come out of many tools, whose transforms differ by rounding.
_MAX_SHIFT_PIXELS = 0.01
# What rasterio raises: its own errors, and GDAL's where it does not translate them.
# Ids are 0 to 255; this stands for stored values that no class has.
_NUM_IDS = 256
_NO_CLASS = 256


def position_table(positions: Mapping[int, int]) -> np.ndarray:
    """(256,) uint16: the position of each stored value, 256 for those that label maps may not hold."""
    table = np.full(_NUM_IDS, _NO_CLASS, dtype=np.uint16)
    table[list(positions)] = list(positions.values())
    return table


class LabelMap:
    """An open label raster.

    Args:
        path: the raster.
        record: the sample that it labels, with what the rasters of its images state.

    Raises:
        DatasetError: it cannot be read, holds several bands or pages or other numbers than integers, or does not lie
            on the grid of the images.
    """

    def __init__(self, path: Path, record: SampleRecord) -> None:
        self.path, self._sample = path, record.name
        try:
            with warnings.catch_warnings():
                # A label map need not be georeferenced.
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                self._raster = rasterio.open(path)
        except RasterioError as error:
            raise self._unreadable(error) from error
        try:
            self._check_place(record)
            self._index, self._alpha = self._data_and_alpha()
        except DatasetError:
            self._raster.close()
            raise
        self.nodata: float | None = self._raster.nodatavals[self._index - 1]
        self._has_mask = MaskFlags.per_dataset in self._raster.mask_flag_enums[self._index - 1]

    def close(self) -> None:
        """Closes the file."""
        self._raster.close()

    def read(self, window: Window, table: np.ndarray) -> np.ndarray:
        """Reads a window.

        Args:
            window: first row, first column, height, width.
            table: see [`position_table`].

        Returns:
            (height, width) uint8 positions of classes, 255 where nothing is labelled.

        Raises:
            DatasetError: the file cannot be read, or holds a value that is no class's id.
        """
        row, column, height, width = window
        part = RasterWindow(column, row, width, height)
        try:
            values = self._raster.read(self._index, window=part)
            unlabelled = self._masked(part)
        except RasterioError as error:
            raise self._unreadable(error) from error
        positions = _look_up(values, table)
        if unlabelled is not None:
            positions[unlabelled] = IGNORE_INDEX
        outside = positions == _NO_CLASS
        if outside.any():
            # The raster's own nodata value counts only where it is no class's id.
            positions[outside & (values == self.nodata)] = IGNORE_INDEX
            outside = positions == _NO_CLASS
        if outside.any():
            raise self._unknown_ids(np.unique(values[outside]), table)
        return positions.astype(np.uint8)

    def _masked(self, part: RasterWindow) -> np.ndarray | None:
        """(height, width) bool: where an alpha band or a mask leaves pixels out; `None` if there is neither."""
        if self._alpha is not None:
            # GDAL's mask of a band is that of its nodata value wherever it has one, and then forgets the alpha band.
            return np.asarray(self._raster.read(self._alpha, window=part) == 0)
        if self._has_mask:
            return np.asarray(self._raster.read_masks(self._index, window=part) == 0)
        return None

    def _data_and_alpha(self) -> tuple[int, int | None]:
        """Numbers of the band of ids and of the alpha band, if there is one."""
        raster = self._raster
        if raster.count and raster.subdatasets:
            raise DatasetError(
                f"Label map {self.path} has {len(raster.subdatasets)} pages, of which only the first would be read "
                f"({', '.join(raster.subdatasets[:3])}...). Save the page that holds the labels as a file of its own."
            )
        alphas = [index for index, colour in enumerate(raster.colorinterp, 1) if colour == ColorInterp.alpha]
        data = [index for index in raster.indexes if index not in alphas]
        if len(data) != 1 or np.dtype(raster.dtypes[data[0] - 1]).kind not in "iu":
            raise DatasetError(
                f"Label map {self.path} has {raster.count} bands of {', '.join(dict.fromkeys(raster.dtypes))}; one "
                "band of integers is needed, whose values are ids of classes."
            )
        return data[0], alphas[0] if alphas else None

    def _check_place(self, record: SampleRecord) -> None:
        """Refuses a map of another size, or on another place; one without a georeference lies where it should."""
        raster = self._raster
        if (raster.height, raster.width) != (record.height, record.width):
            raise DatasetError(
                f"Label map {self.path} measures {raster.height} x {raster.width} pixels, sample {record.name!r} "
                f"{record.height} x {record.width}. Bring the label map to the grid of the images."
            )
        series = record.series
        if series.transform is None or raster.transform == Affine.identity():
            return
        shift = _shift_pixels(raster.transform, raster.crs, series.transform, series.crs, raster.shape)
        if shift <= _MAX_SHIFT_PIXELS:
            return
        raise DatasetError(
            f"Label map {self.path} does not lie where the images of sample {record.name!r} do: its transform is "
            f"{tuple(raster.transform)[:6]} ({raster.crs or 'CRS unknown'}), theirs {series.transform} "
            f"({series.crs or 'CRS unknown'}). Warp it to their grid, with nearest neighbours."
        )

    def _unreadable(self, error: RasterioError) -> DatasetError:
        return DatasetError(f"Label map {self.path} of sample {self._sample!r} cannot be read: {error}.")

    def _unknown_ids(self, values: np.ndarray, table: np.ndarray) -> DatasetError:
        allowed = ", ".join(map(str, np.flatnonzero(table != _NO_CLASS)))
        (ignored,) = np.flatnonzero(table == IGNORE_INDEX)
        return DatasetError(
            f"Label map {self.path} of sample {self._sample!r} holds {', '.join(map(str, values[:10]))}; {allowed} are "
            f"allowed (the ids of the classes, and ignore_index {ignored}). Correct the map, or add the class to "
            "dataset.json."
        )


def _look_up(values: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Positions of stored values, `_NO_CLASS` where there is none."""
    if values.dtype == np.uint8:
        return np.asarray(table.take(values))
    known = (values >= 0) & (values < _NUM_IDS) & (values == np.floor(values))
    return np.where(known, table[np.where(known, values, 0).astype(np.intp)], _NO_CLASS).astype(np.uint16)


def _shift_pixels(
    own: Affine,
    own_crs: CRS | None,
    images: tuple[float, ...],
    images_crs: str | None,
    shape: tuple[int, int],
) -> float:
    """How many pixels the corners of two grids are apart at most; infinite if they cannot be compared.

    Args:
        own: transform of the label map.
        own_crs: its CRS; where one of the two is unknown, they are taken for the same.
        images: transform of the images.
        images_crs: their CRS.
        shape: rows and columns.
    """
    columns, rows = np.array([(x, y) for x in (0.0, shape[1]) for y in (0.0, shape[0])]).T
    grid = Affine(*images)
    if grid.is_degenerate:
        return 0.0 if own == grid else math.inf
    xs, ys = _apply(own, columns, rows)
    try:
        if own_crs and images_crs and (target := CRS.from_user_input(images_crs)) != own_crs:
            xs, ys = (np.array(values) for values in transform_points(own_crs, target, xs, ys))
    except GDAL_ERRORS:
        return math.inf
    # Points that a projection cannot show are infinite.
    with np.errstate(invalid="ignore"):
        own_columns, own_rows = _apply(~grid, xs, ys)
        return float(np.hypot(own_columns - columns, own_rows - rows).max())


def _apply(transform: Affine, columns: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b, c, d, e, f = tuple(transform)[:6]
    return a * columns + b * rows + c, d * columns + e * rows + f
