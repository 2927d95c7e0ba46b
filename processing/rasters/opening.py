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
"""Open rasters of a series; the least recently used are closed, for long series have thousands of files."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from rasterio.enums import Resampling
from rasterio.windows import Window

from .cubes import Cube, is_cube
from .gdal_file import GdalFile
from .grids import Grid, source_grid, warp
from .physical import Channel, to_physical
from .records import Part, RasterError, RasterSource, Statements

# Of the 1024 that Linux lets a process open; a series of more files reopens them at every window.
_MAX_OPEN_FILES = 256


@dataclass(frozen=True)
class Layer:
    """The bands of one date that lie in one raster.

    Args:
        path: the raster.
        channels: how the numbers of each band become physical.
        warped: whether the raster lies on another grid than the series, and is warped while it is read.
    """

    path: str
    channels: tuple[Channel, ...]
    warped: bool = False

    @property
    def indexes(self) -> tuple[int, ...]:
        """Numbers of the bands in the raster, from 1."""
        return tuple(channel.index for channel in self.channels)


@dataclass
class Handles:
    """The rasters of a series.

    Args:
        parts: what leads to each raster, by path.
        resampling: how rasters on other grids are warped.
    """

    parts: dict[str, Part] = field(default_factory=dict)
    resampling: Resampling = Resampling.bilinear
    grid: Grid | None = None
    # Rasters whose band that is coloured alpha holds data.
    alpha_is_data: set[str] = field(default_factory=set)
    _sources: OrderedDict[str, RasterSource] = field(default_factory=OrderedDict)
    _statements: dict[str, Statements] = field(default_factory=dict)

    def add(self, part: Part) -> None:
        """Notes a raster of the series.

        Raises:
            RasterError: it is named twice, with something else said about it.
        """
        if self.parts.setdefault(part.path, part) is not part and self.parts[part.path] != part:
            raise RasterError(f"{part.path} is named twice, with different metadata. Copy it, or name it once.")

    def source(self, path: str) -> RasterSource:
        """The open raster.

        Raises:
            RasterError: it cannot be opened.
        """
        if path not in self._sources:
            if len(self._sources) >= _MAX_OPEN_FILES:
                self._sources.popitem(last=False)[1].close()
            self._sources[path] = self._open(self.parts[path])
        self._sources.move_to_end(path)
        return self._sources[path]

    def _open(self, part: Part) -> RasterSource:
        if part.cube is not None:
            return Cube(part.cube, part.path, part.variables)
        if is_cube(part.path):
            return Cube(part.path, part.path, part.variables)
        return GdalFile(part.path, alpha_is_data=part.path in self.alpha_is_data)

    def statements(self, path: str) -> Statements:
        """What the raster itself states."""
        if path not in self._statements:
            self._statements[path] = self.source(path).states()
        return self._statements[path]

    def take_alpha_as_data(self, path: str) -> None:
        """Opens a raster anew, with the band that is coloured alpha as one of data."""
        self.alpha_is_data.add(path)
        self._statements.pop(path, None)
        if path in self._sources:
            self._sources.pop(path).close()

    def read(self, layer: Layer, window: Window) -> np.ndarray:
        """Physical values (bands, height, width) float32 of a window of the series' grid, NaN = missing."""
        source = self.source(layer.path)
        if not layer.warped:
            return read_physical(source, layer.channels, window)
        if self.grid is None:
            raise RasterError(f"{layer.path} is to be warped, but the series has no grid.")
        return warp(
            lambda needed: read_physical(source, layer.channels, needed),
            len(layer.channels),
            source_grid(source, self.grid),
            self.grid,
            window,
            self.resampling,
        )

    def close(self) -> None:
        """Closes all rasters."""
        while self._sources:
            self._sources.popitem()[1].close()


def read_physical(source: RasterSource, channels: Sequence[Channel], window: Window) -> np.ndarray:
    """Physical values (bands, height, width) float32 of a window of the raster's own grid, NaN = missing."""
    indexes = [channel.index for channel in channels]
    return to_physical(source.read(indexes, window), source.masked(indexes, window), channels)
