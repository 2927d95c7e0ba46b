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
"""The grid of a series: which it is, which rasters are warped to it, and the facts about that."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from .cubes import Cube, cube_name, is_cube
from .entries import Slot
from .gdal_file import GdalFile
from .georeference import check_coordinates, coefficients, crs_text, ground_sampling_distance
from .grids import Grid, check_warpable
from .opening import Handles
from .records import Entry, Fact, RasterError

FIRST, FINEST = "first", "finest"


@dataclass(frozen=True)
class Placement:
    """The grid of a series.

    Args:
        grid: the grid.
        files: the local files of a raster that has it, if that is not one of the series.
        points: ground control points of the raster that has it.
        warped: rasters on other grids.
        resampling: how they are warped.
    """

    grid: Grid
    files: tuple[str, ...]
    points: int
    warped: frozenset[str]
    resampling: str

    @property
    def crs(self) -> str | None:
        """As in `ImageSeries`; a CRS without a transform says nothing."""
        return None if self.grid.transform is None else crs_text(self.grid.crs)

    @property
    def transform(self) -> tuple[float, ...] | None:
        """As in `ImageSeries`."""
        return None if self.grid.transform is None else coefficients(self.grid.transform)

    def facts(self, slot: Slot) -> list[Fact]:
        """What is known of the place of one date."""
        path = slot[0][0]
        height, width = self.grid.shape
        facts = [Fact(path, None, "size", f"{height} x {width}", "raster")]
        text = crs_text(self.grid.crs)
        if self.grid.transform is None:
            missing = "no geotransform in the file"
            if self.points:
                missing += f", only {self.points} ground control points: warp it (grid=..., --grid) to give it one"
            crs_source = f"{text} not used without a geotransform" if text else "none in the file"
            facts.append(Fact(path, None, "crs", None, crs_source))
            facts.append(Fact(path, None, "transform", None, missing))
        else:
            source = "georeference of the file"
            facts.append(Fact(path, None, "crs", text, source if text else "none in the file"))
            facts.append(Fact(path, None, "transform", self.transform, source))
        for name, _ in slot:
            if name in self.warped:
                text = f"to the grid of {os.path.basename(self.grid.path)}, {self.resampling}"
                facts.append(Fact(name, None, "warped", text, "grid of the series"))
        return facts


def place(
    asked: str | os.PathLike[str] | None, entries: Sequence[Entry], handles: Handles, resampling: str
) -> Placement:
    """Decides on the grid of a series.

    Args:
        asked: `first`, `finest`, a raster that has it, or `None` = all must lie on one, but those of a product.
        entries: the rasters.
        handles: the open rasters.
        resampling: how rasters on other grids are warped.

    Raises:
        RasterError: grids differ and none was asked for, or a raster cannot be warped.
    """
    first = entries[0].parts[0].path
    files: tuple[str, ...] = ()
    is_product = any(entry.finest for entry in entries)
    wanted = FINEST if asked is None and is_product else asked
    if wanted == FINEST:
        path = _finest(handles, first)
        grid, points = Grid.of(handles.source(path)), len(handles.source(path).gcps[0])
    elif wanted in (None, FIRST) or os.fspath(wanted) in handles.parts:
        path = first if wanted in (None, FIRST) else os.fspath(wanted)
        grid, points = Grid.of(handles.source(path)), len(handles.source(path).gcps[0])
    else:
        grid, points, files = _other_grid(os.fspath(wanted))
    warped = _off_grid(handles, grid, ask=wanted is None)
    return Placement(grid, files, points, warped, resampling)


def _finest(handles: Handles, first: str) -> str:
    """The raster with the smallest pixels on the ground; the first of those that are alike."""
    best, smallest = first, float("inf")
    for path in handles.parts:
        source = handles.source(path)
        gsd = ground_sampling_distance(source.crs, source.transform, source.shape).value
        if gsd is not None and gsd < smallest * (1 - 1e-6):
            best, smallest = path, gsd
    return best


def _other_grid(path: str) -> tuple[Grid, int, tuple[str, ...]]:
    """The grid of a raster that is none of the series."""
    source: Cube | GdalFile
    if is_cube(path):
        file, variables = cube_name(path)
        source = Cube(file, path, variables)
    else:
        source = GdalFile(path, alpha_is_data=True)
    try:
        check_coordinates(source)
        return Grid.of(source), len(source.gcps[0]), source.files
    finally:
        source.close()


def _off_grid(handles: Handles, grid: Grid, ask: bool) -> frozenset[str]:
    """The rasters that have to be warped; an error if that was not asked for, or cannot be done."""
    warped = set()
    for path in handles.parts:
        source = handles.source(path)
        difference = grid.difference(Grid.of(source))
        if difference is None:
            continue
        if ask:
            raise RasterError(
                f"{path} and {grid.path} are not on one grid: {difference}. Ask for one grid with grid='finest', "
                "grid='first' or grid=RASTER (--grid finest), which warps the others to it while reading, or warp them "
                "yourself, for instance with gdalwarp -t_srs -te -ts."
            )
        check_warpable(source, grid)
        warped.add(path)
    return frozenset(warped)
