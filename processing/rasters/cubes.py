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
"""netCDF and Zarr cubes (time, band, y, x), read through xarray (`pip install 'stsun[xarray]'`)."""

from collections.abc import Hashable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from rasterio import CRS, Affine
from rasterio.control import GroundControlPoint
from rasterio.windows import Window

from .cube_files import XARRAY_ERRORS, cube_name, import_xarray, is_cube, is_xarray, open_cube
from .cube_grid import georeference
from .cube_layout import UNNAMED, CubeBand, find_layout, raster_variables
from .cube_numbers import ACCESSOR_NODATA, nodata_of_accessor, packing_of, unsigned
from .cube_statements import states_of
from .records import RasterError, Scaling, Statements, abridged

if TYPE_CHECKING:
    from xarray import DataArray, Dataset, DataTree

__all__ = ["Cube", "cube_name", "is_cube", "is_xarray"]

_PACKING = {"scale_factor", "add_offset", "_FillValue", "missing_value"}


class Cube:
    """A netCDF file, a Zarr store or an xarray object as a [`RasterSource`].

    Its bands are numbered date by date, each date with all its bands. Numbers of a file are those
    that are stored, and those of an object are as they are: `applied` says which scaling xarray has
    put them through.
    """

    def __init__(
        self,
        source: "str | Dataset | DataArray | DataTree",
        name: str,
        variables: Sequence[str] | None,
    ) -> None:
        """Opens a file or folder, or takes an xarray object.

        Args:
            source: a netCDF file, a Zarr store, a group or an array of one, GDAL's name of a part
                (`netcdf:FILE:VARIABLE`), or an object.
            name: what messages call it.
            variables: variables, or labels along the band dimension, in this order; those of a
                group in a file as `group/variable`, or `group/` for all of them. `None` = all.

        Raises:
            RasterError: xarray is not installed, or the data are no raster cube on a regular grid.
        """
        xarray = import_xarray(name)
        self._name = name
        self._is_file = isinstance(source, str)
        self._path = ""
        if isinstance(source, str):
            self._path, _ = cube_name(source)
            self._opened, variables = open_cube(source, name, variables)
        else:
            self._opened = _as_dataset(source, name, xarray)
            self._path = _origin(self._opened)
        self._last: tuple[Window, list[np.ndarray]] | None = None
        try:
            self._dataset = _with_decoded_coordinates(self._opened, xarray)
            self._layout = find_layout(self._dataset, name, variables)
            self._georeference = georeference(self._dataset, self._layout, name, self._is_file)
        except RasterError:
            self.close()
            raise

    @property
    def path(self) -> str:
        """Its name, for messages and reports."""
        return self._name

    @property
    def files(self) -> tuple[str, ...]:
        """The file or folder behind it; empty for objects and what is remote."""
        return (self._path,) if self._is_file and "://" not in self._path else ()

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self._dataset.sizes[self._layout.y], self._dataset.sizes[self._layout.x]

    @property
    def indexes(self) -> tuple[int, ...]:
        """Numbers of the bands of all dates, from 1."""
        return tuple(range(1, self.count + 1))

    @property
    def count(self) -> int:
        """Number of bands of all dates."""
        return self.num_dates * len(self._layout.bands)

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Types of the numbers that `read` returns, one for each of `indexes`."""
        variables = [self._dataset[band.variable] for band in self._layout.bands]
        types = [str(unsigned(variable.dtype, variable)) for variable in variables]
        return tuple(types * self.num_dates)

    @property
    def num_dates(self) -> int:
        """Dates along the time dimension; 1 if there is none."""
        return self._layout.num_dates

    @property
    def crs(self) -> CRS | None:
        """Coordinate reference system; `None` if unknown."""
        return self._georeference.crs

    @property
    def transform(self) -> Affine | None:
        """From pixels to coordinates of the CRS; `None` if unknown."""
        return self._georeference.transform

    @property
    def gcps(self) -> tuple[Sequence[GroundControlPoint], CRS | None]:
        """Ground control points that rioxarray keeps, and their CRS."""
        return self._georeference.gcps

    @property
    def mask_source(self) -> None:
        """Nothing but stored numbers marks missing pixels."""
        return None

    @property
    def block_shape(self) -> tuple[int, int]:
        """One pixel: reading it reads its whole chunk, where damage shows."""
        return 1, 1

    def states(self) -> Statements:
        """What attributes and coordinates state, with one entry for each of `indexes`.

        Raises:
            RasterError: a statement cannot be understood; the message says which.
        """
        return states_of(self._dataset, self._layout, self._name, self._is_file, self._path)

    def applied(self, index: int) -> Scaling | None:
        """The scaling that xarray applied to the numbers of an object; `None` if it did not."""
        return self._applied[(index - 1) % len(self._layout.bands)]

    @cached_property
    def _applied(self) -> list[Scaling | None]:
        packings = [
            packing_of(self._dataset[band.variable], band, self._name, self._is_file) for band in self._layout.bands
        ]
        return [packing.applied for packing in packings]

    def read(self, indexes: Sequence[int], window: Window) -> np.ndarray:
        """Numbers (bands, height, width) of a window.

        All dates of a window are read at once and kept until the last one is asked for: chunks
        often span dates.

        Args:
            indexes: numbers of the bands.
            window: where.

        Raises:
            RasterError: the file is damaged.
        """
        if self._last is None or self._last[0] != window:
            rows = slice(window.row_off, window.row_off + window.height)
            columns = slice(window.col_off, window.col_off + window.width)
            self._last = window, self._read_window(rows, columns)
        arrays = self._last[1]
        num_bands = len(self._layout.bands)
        found = np.stack([arrays[(i - 1) % num_bands][(i - 1) // num_bands] for i in indexes])
        if self.count in indexes:
            self._last = None
        return found

    def _read_window(self, rows: slice, columns: slice) -> list[np.ndarray]:
        """One (dates, height, width) array per band."""
        arrays: dict[CubeBand, np.ndarray] = {}
        for variable in dict.fromkeys(band.variable for band in self._layout.bands):
            bands = [band for band in self._layout.bands if band.variable == variable]
            values = self._read_variable(variable, bands, rows, columns)
            arrays |= {band: values[:, number] for number, band in enumerate(bands)}
        return [arrays[band] for band in self._layout.bands]

    def _read_variable(
        self,
        variable: Hashable,
        bands: Sequence[CubeBand],
        rows: slice,
        columns: slice,
    ) -> np.ndarray:
        """A window of some bands of one variable as (dates, bands, height, width)."""
        layout = self._layout
        array = self._dataset[variable].isel({layout.y: rows, layout.x: columns})
        dim = bands[0].dim
        if dim is not None:
            array = array.isel({dim: _selection([band.position for band in bands])})
        order = [axis for axis in (layout.time, dim, layout.y, layout.x) if axis is not None]
        try:
            values = np.asarray(array.transpose(*order).values)
        except XARRAY_ERRORS as error:
            raise RasterError(
                f"{self._name} cannot be read at row {rows.start}, column {columns.start}: {error} "
                "The file is probably damaged; fetch or write it again."
            ) from error
        values = values.view(unsigned(values.dtype, array))
        if layout.time is None:
            values = values[None]
        return values[:, None] if dim is None else values

    def masked(self, indexes: Sequence[int], window: Window) -> None:
        """There is no mask beside the stored numbers."""
        return None

    def close(self) -> None:
        """Closes the file, but no object of the caller's."""
        if self._is_file:
            self._opened.close()
        self._last = None


def _selection(positions: list[int]) -> slice | list[int]:
    """Positions along a dimension as an index, which netCDF reads at once if it is a slice."""
    first, count = positions[0], len(positions)
    is_run = positions == list(range(first, first + count))
    return slice(first, first + count) if is_run else positions


def _as_dataset(source: "Dataset | DataArray | DataTree", name: str, xarray: Any) -> "Dataset":
    """An object as a data set."""
    if isinstance(source, xarray.DataArray):
        return _array_as_dataset(source)
    if isinstance(source, xarray.Dataset):
        return cast("Dataset", source)
    dataset: Dataset = source.to_dataset()
    if raster_variables(dataset):
        return dataset
    groups = [node.path for node in source.subtree if raster_variables(node.to_dataset())]
    if groups:
        raise RasterError(
            f"{name} holds no raster itself, but its groups do: {abridged(groups)}. Pass one of "
            f"them (tree[{groups[0]!r}])."
        )
    return dataset


def _array_as_dataset(array: "DataArray") -> "Dataset":
    nodata = nodata_of_accessor(array)
    if nodata is not None:
        array = array.assign_attrs({ACCESSOR_NODATA: nodata})
    name = UNNAMED if array.name is None or array.name in array.coords else array.name
    dataset: Dataset = array.to_dataset(name=name)
    return dataset


def _origin(dataset: "Dataset") -> str:
    """The file that an object was read from, as far as xarray knows it."""
    encodings = [dataset.encoding, *(dataset[name].encoding for name in raster_variables(dataset))]
    return next((str(encoding["source"]) for encoding in encodings if "source" in encoding), "")


def _with_decoded_coordinates(dataset: "Dataset", xarray: Any) -> "Dataset":
    """The data set with its coordinates unpacked: nobody wants these as they are stored."""
    packed = {
        key: coordinate.variable
        for key, coordinate in dataset.coords.items()
        if coordinate.dtype.kind in "iuf" and not _PACKING.isdisjoint(coordinate.attrs)
    }
    if not packed:
        return dataset
    decoded = xarray.decode_cf(xarray.Dataset(packed), decode_times=False, decode_timedelta=False)
    return dataset.assign_coords({key: decoded[key].variable for key in packed})
