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

"""netCDF and Zarr cubes (time, band, y, x) as rasters, read through xarray (`pip install 'stsun[xarray]'`)."""

import os
import re
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

try:
    from rasterio import CRS, Affine
    from rasterio.enums import ColorInterp, MaskFlags
    from rasterio.windows import Window
except ImportError as error:
    raise ImportError("Reading rasters needs rasterio: pip install rasterio") from error

from ..metadata import MetadataError, parse_datetime
from .statements import RasterError, abridged

if TYPE_CHECKING:
    try:  # noqa: SIM105 (hides them from the check of what a checkpoint's code needs)
        from xarray import DataArray, Dataset
    except ImportError:
        pass

# Files and folders that are read through xarray, not by GDAL, which shows the dates of a variable as its bands.
CUBE_SUFFIXES = (".nc", ".nc4", ".cdf", ".zarr")

_TIME_NAMES = ("time", "t", "date", "datetime")
_UNITS = {
    "nm": "nm",
    "nanometer": "nm",
    "nanometre": "nm",
    "um": "um",
    "µm": "um",
    "micrometer": "um",
    "micrometre": "um",
}
# Coordinates are stored rounded: steps that differ by less than this share of a pixel are even.
_STEP_TOLERANCE = 0.01


def is_xarray(value: Any) -> bool:
    """Whether a value is an xarray `Dataset` or `DataArray`, without importing xarray."""
    kinds = [f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(value).__mro__]
    return "xarray.Dataset" in kinds or "xarray.DataArray" in kinds


def _import_xarray(name: str) -> Any:
    try:
        import rioxarray  # noqa: F401
        import xarray
    except ImportError as error:
        raise RasterError(
            f"{name} is read through xarray, but {error.name} is not installed. Install the extra with pip install "
            "'stsun[xarray]', or name a part as GDAL does (netcdf:FILE:VARIABLE)."
        ) from error
    return xarray


class Cube:
    """An xarray data set behind the part of rasterio's `DatasetReader` that a series is read through.

    Its bands are numbered date by date, each date with all its bands. Values are those that xarray decodes: scale,
    offset and fill value of the file are applied.

    Attributes:
        num_dates: dates along the time dimension; 1 if there is none.
    """

    TAG_WORD = "attribute"

    def __init__(self, source: "str | Dataset | DataArray", name: str, parts: Sequence[str] | None) -> None:
        """Opens a file or folder, or takes an xarray object.

        Args:
            source: path, or object.
            name: what messages call it.
            parts: variables, or labels along the band dimension, in this order; `None` = all.

        Raises:
            RasterError: xarray is not installed, or the data are no raster cube.
        """
        xarray = _import_xarray(name)
        self.name = name
        self._is_own = isinstance(source, str)
        if isinstance(source, str):
            if "://" not in source and not os.path.exists(source):
                raise RasterError(f"{name} does not exist.")
            try:
                self._dataset = xarray.open_dataset(source, decode_coords="all")
            except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
                # What the libraries below xarray raise for damaged files.
                raise RasterError(f"{name} cannot be opened through xarray: {error}") from error
        else:
            self._dataset = source if hasattr(source, "data_vars") else source.to_dataset(name=source.name or "data")
        self._find_space()
        self._find_bands(parts)
        self._last: tuple[Window, list[np.ndarray]] | None = None

    def _find_space(self) -> None:
        exceptions = import_module("rioxarray.exceptions")
        try:
            self._x, self._y = self._dataset.rio.x_dim, self._dataset.rio.y_dim
            crs = self._dataset.rio.crs
        except exceptions.MissingSpatialDimensionError as error:
            raise RasterError(
                f"{self.name} has no dimensions x and y, only {abridged(self._dataset.sizes)}. Rename them "
                "(dataset.rename) and pass the xarray object."
            ) from error
        except (ValueError, exceptions.RioXarrayError) as error:
            raise RasterError(f"{self.name} has a coordinate system that cannot be read: {error}") from error
        self.crs: CRS | None = crs
        self.height, self.width = self._dataset.sizes[self._y], self._dataset.sizes[self._x]
        (left, a), (top, e) = self._axis(self._x), self._axis(self._y)
        self.transform = Affine(a, 0, left, 0, e, top) if a and e else Affine.identity()

    def _axis(self, name: str) -> tuple[float, float]:
        """Outer edge of the first pixel, and step; 0, 0 if unknown."""
        if name not in self._dataset.coords or not self._dataset.sizes[name]:
            return 0.0, 0.0
        values = np.asarray(self._dataset.coords[name].values)
        if values.ndim != 1 or values.dtype.kind not in "iuf" or not np.isfinite(values).all():
            raise RasterError(f"{self.name} has no numbers as coordinate {name!r}. Rasters on a regular grid are read.")
        values = values.astype(np.float64)
        if len(values) == 1:
            # One pixel has no step; the file may state it.
            resolution = self._dataset.rio.resolution(recalc=False) if self._stated_transform() else (0.0, 0.0)
            step = float(resolution[0 if name == self._x else 1])
            return (values[0] - step / 2, step) if step else (0.0, 0.0)
        step = (values[-1] - values[0]) / (len(values) - 1)
        even = values[0] + step * np.arange(len(values))
        if step == 0 or np.abs(values - even).max() > _STEP_TOLERANCE * abs(step):
            raise RasterError(
                f"{self.name} is no regular grid: the steps of coordinate {name!r} differ. Interpolate it to one "
                "(dataset.interp) and pass the xarray object."
            )
        return float(values[0] - step / 2), float(step)

    def _stated_transform(self) -> bool:
        return any("GeoTransform" in coordinate.attrs for coordinate in self._dataset.coords.values())

    def _find_bands(self, parts: Sequence[str] | None) -> None:
        dataset = self._dataset
        rasters = [
            str(name) for name, variable in dataset.data_vars.items() if {self._x, self._y} <= set(variable.dims)
        ]
        rasters = [name for name in rasters if dataset[name].dtype.kind in "biufc"]
        if not rasters:
            raise RasterError(
                f"{self.name} holds no variable over {self._y} and {self._x}. Its variables are "
                f"{abridged(dataset.data_vars) or 'none'}."
            )
        bands: list[tuple[str, int | None, str]] = []
        others: set[str] = set()
        self._time = next(
            (name for variable in rasters for name in dataset[variable].dims if self._is_time(name)), None
        )
        for name in rasters:
            rest = [str(dim) for dim in dataset[name].dims if dim not in (self._x, self._y, self._time)]
            if len(rest) > 1:
                if parts is None or name in parts:
                    others.add(f"{name} ({', '.join(rest)})")
                continue
            labels = self._labels(rest[0]) if rest else [None]
            bands += [(name, None if label is None else i, label or name) for i, label in enumerate(labels)]
        if others:
            raise RasterError(
                f"{self.name} has more dimensions than time, band, y and x: {abridged(sorted(others))}. Select along "
                "them (dataset.isel) and pass the xarray object."
            )
        if parts is not None:
            known = [*dict.fromkeys(name for name, _, _ in bands), *dict.fromkeys(label for _, _, label in bands)]
            if unknown := [part for part in parts if part not in known]:
                raise RasterError(f"{self.name} has no part {unknown[0]!r}. It has {abridged(dict.fromkeys(known))}.")
            bands = [band for part in parts for band in bands if part in (band[0], band[2])]
        timed = {name: self._time in dataset[name].dims for name, _, _ in bands}
        if len(set(timed.values())) > 1:
            without = [name for name, has_time in timed.items() if not has_time]
            raise RasterError(
                f"{self.name} has variables with and without time ({abridged(without)} have none). Name those to read "
                "with parts=[...]."
            )
        if not all(timed.values()):
            self._time = None
        self._bands = bands
        self.num_dates = dataset.sizes[self._time] if self._time else 1
        if not bands or 0 in (self.num_dates, self.height, self.width):
            raise RasterError(f"{self.name} is empty: its dimensions are {dict(dataset.sizes)}.")

    def _is_time(self, name: Any) -> bool:
        if name in (self._x, self._y):
            return False
        coordinate = self._dataset.coords.get(name)
        attributes = {} if coordinate is None else coordinate.attrs
        return (
            str(name).casefold() in _TIME_NAMES
            or attributes.get("standard_name") == "time"
            or attributes.get("axis") == "T"
            or (coordinate is not None and coordinate.dtype.kind == "M")
        )

    def _labels(self, dim: str) -> list[str]:
        if dim in self._dataset.coords:
            return [str(value) for value in self._dataset.coords[dim].values]
        return [f"{dim} {index + 1}" for index in range(self._dataset.sizes[dim])]

    # What rasterio's datasets have too

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.height, self.width

    @property
    def count(self) -> int:
        """Number of bands of all dates."""
        return self.num_dates * len(self._bands)

    @property
    def indexes(self) -> tuple[int, ...]:
        """Numbers of the bands, from 1."""
        return tuple(range(1, self.count + 1))

    def _each(self, values: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(values) * self.num_dates

    @property
    def descriptions(self) -> tuple[str, ...]:
        """Names of the bands: labels along the band dimension, or names of variables."""
        return self._each([label for _, _, label in self._bands])

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Types of the numbers."""
        return self._each([str(self._dataset[name].dtype) for name, _, _ in self._bands])

    @property
    def decoded(self) -> dict[int, tuple[float, float]]:
        """Scale and offset that xarray applied to each band."""
        return dict(zip(self.indexes, zip(self.scales, self.offsets, strict=True), strict=True))

    @property
    def scales(self) -> tuple[float, ...]:
        """Scale of each band in the file."""
        return self._encoded("scale_factor", 1.0)

    @property
    def offsets(self) -> tuple[float, ...]:
        """Offset of each band in the file."""
        return self._encoded("add_offset", 0.0)

    def _encoded(self, key: str, default: float) -> tuple[float, ...]:
        return self._each([float(self._dataset[name].encoding.get(key, default)) for name, _, _ in self._bands])

    @property
    def nodatavals(self) -> tuple[float | None, ...]:
        """Fill value of each band in the file."""
        encodings = [self._dataset[name].encoding for name, _, _ in self._bands]
        fills = [e.get("_FillValue", e.get("missing_value")) for e in encodings]
        return self._each([None if fill is None else float(np.ravel(fill)[0]) for fill in fills])

    @property
    def mask_flag_enums(self) -> tuple[list[MaskFlags], ...]:
        """Whether a band has a fill value."""
        return tuple([MaskFlags.all_valid if fill is None else MaskFlags.nodata] for fill in self.nodatavals)

    @property
    def colorinterp(self) -> tuple[ColorInterp, ...]:
        """Colours are unknown."""
        return (ColorInterp.undefined,) * self.count

    @property
    def block_shapes(self) -> list[tuple[int, int]]:
        """Damage shows at any pixel: chunks are read whole."""
        return [(1, 1)] * self.count

    @property
    def gcps(self) -> tuple[list[Any], None]:
        """There are no ground control points."""
        return [], None

    @property
    def subdatasets(self) -> list[str]:
        """There are no parts that hold the data in place of the cube."""
        return []

    def tags(self, index: int = 0, ns: str | None = None) -> dict[str, str]:
        """Attributes of the data set, or those of a band's variable with its coordinates."""
        if ns:
            return {}
        if index == 0:
            return {str(key): str(value) for key, value in self._dataset.attrs.items()}
        name, band, _ = self._bands[(index - 1) % len(self._bands)]
        variable = self._dataset[name]
        tags = {str(key): str(value) for key, value in variable.attrs.items()}
        for key, coordinate in variable.coords.items():
            dims = set(coordinate.dims)
            if {self._x, self._y, self._time} & dims:
                continue
            value = coordinate.values if not dims else None if band is None else coordinate.values[band]
            if value is not None and np.ndim(value) == 0:
                unit = _UNITS.get(str(coordinate.attrs.get("units", "")).casefold().removesuffix("s"))
                key = re.sub(r"^radiation_", "", str(key))  # CF standard name radiation_wavelength
                tags[f"{key}_{unit}" if unit and not key.endswith(f"_{unit}") else key] = str(value)
        if self._time and self._time in self._dataset.coords:
            value = self._dataset.coords[self._time].values[(index - 1) // len(self._bands)]
            try:
                # Other calendars than ours are of cftime's types.
                date = parse_datetime(value if isinstance(value, np.datetime64) else value.isoformat())
            except (MetadataError, AttributeError) as error:
                raise RasterError(
                    f"{self.name} has {value!r} as coordinate {self._time!r}, which is not a date. Decode it "
                    "(xarray.decode_cf) and pass the xarray object."
                ) from error
            tags["time"] = date.isoformat() if date else ""
        return tags

    def read(self, indexes: Sequence[int], window: Window) -> np.ndarray:
        """Reads bands, NaN = missing, as (bands, height, width).

        All dates of a window are read at once and kept until the last one is asked for: chunks often span dates.
        """
        if self._last is None or self._last[0] != window:
            rows = slice(window.row_off, window.row_off + window.height)
            columns = slice(window.col_off, window.col_off + window.width)
            self._last = window, self._read_window(rows, columns)
        arrays = self._last[1]
        found = np.stack([arrays[(i - 1) % len(self._bands)][(i - 1) // len(self._bands)] for i in indexes])
        if self.count in indexes:
            self._last = None
        return found

    def _read_window(self, rows: slice, columns: slice) -> list[np.ndarray]:
        """One (dates, height, width) array a band."""
        whole: dict[str, np.ndarray] = {}
        arrays = []
        for name, band, _ in self._bands:
            if name not in whole:
                variable = self._dataset[name].isel({self._y: rows, self._x: columns})
                others = [dim for dim in variable.dims if dim not in (self._time, self._y, self._x)]
                order = [*([self._time] if self._time else []), *others, self._y, self._x]
                try:
                    values = variable.transpose(*order).values
                except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
                    raise RasterError(
                        f"{self.name} cannot be read at row {rows.start}, column {columns.start}: {error} The file is "
                        "probably damaged; fetch or write it again."
                    ) from error
                whole[name] = values if self._time else values[None]
            arrays.append(whole[name] if band is None else whole[name][:, band])
        return arrays

    def close(self) -> None:
        """Closes the file, but no object of the caller's."""
        if self._is_own:
            self._dataset.close()
        self._last = None
