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
"""An open series of rasters, whose pixels are read whole or window by window."""

from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType

import numpy as np
from rasterio.windows import Window

from ..metadata import ImageSeries, window_transform
from .acquisition import ResolvedDate
from .opening import Handles
from .placing import Placement
from .records import Fact, RasterError


class RasterSeries:
    """Rasters of one grid as a series whose pixels are read window by window; made by `open_series`.

    A context manager. It holds open files: use it in the process that opened it.

    Attributes:
        series: the metadata, an [`ImageSeries`] without pixels.
        layers: per date, the rasters and how their numbers become physical.
        date_facts: per date, the report: what is known of each raster and band, and where it came from.
        files: the local files that it is read from, and that which has its grid.
        height: rows of the grid.
        width: columns of the grid.
    """

    def __init__(self, dates: Sequence[ResolvedDate], placement: Placement, handles: Handles) -> None:
        acquisitions = tuple(date.acquisition for date in dates)
        self.series = ImageSeries(acquisitions, crs=placement.crs, transform=placement.transform)
        self.layers = tuple(date.layers for date in dates)
        self.date_facts = tuple(date.facts for date in dates)
        own_files = [name for path in handles.parts for name in handles.source(path).files]
        self.files = tuple(dict.fromkeys([*own_files, *placement.files]))
        self.height, self.width = placement.grid.shape
        self._handles = handles

    @property
    def facts(self) -> list[Fact]:
        """The report, date by date."""
        return [fact for facts in self.date_facts for fact in facts]

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
            A series with pixels in physical units, NaN where a band is missing (nodata, mask, alpha 0, outside of the
            valid range, not finite). `valid` is True where every band is there. The transform is that of the window.

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
        pixels = tuple(self.read_date(date, window) for date in range(len(self.layers)))
        return replace(self.series, pixels=pixels, transform=window_transform(self.series.transform, row, column))

    def read_date(self, date: int, window: Window) -> np.ndarray:
        """Physical values (bands, height, width) float32 of one date, NaN = missing."""
        arrays = [self._handles.read(layer, window) for layer in self.layers[date]]
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
