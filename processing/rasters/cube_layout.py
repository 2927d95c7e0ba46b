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
"""Which variables of an xarray data set are rasters, and which bands and dates they hold."""

import re
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from .records import RasterError, abridged
from .sensors import is_counting_name

if TYPE_CHECKING:
    try:  # noqa: SIM105 (hides it from the check of what a checkpoint's code needs)
        from xarray import Dataset
    except ImportError:
        pass

# What xarray calls the variable of an array without a name in a file.
UNNAMED = "__xarray_dataarray_variable__"
_TIME_NAMES = ("time", "t", "date", "datetime")
# Names of the dimensions x and y that rioxarray knows by their attributes only.
_SPATIAL_NAMES = (("lon", "lat"), ("x", "y"), ("easting", "northing"))
# Names that rioxarray gives to the bands of a file as variables.
_PLACEHOLDER = re.compile(r"band_\d+")
_NUMBERED_BAND = re.compile(r"[Bb]\d+")


@dataclass(frozen=True)
class CubeBand:
    """One band of a cube.

    Args:
        variable: the variable that holds it.
        dim: the band dimension of that variable; `None` if it has none.
        position: where it lies along that dimension; 0 without one.
        count: number of bands of that variable.
        label: its label along the band dimension, or that which is left of a dimension `band` after
            a selection; `None` if there is none.
        number: the label, if it is an integer: rioxarray counts a file's bands from 1.
        label_counts: whether the labels do no more than count the bands.
        variable_counts: whether the names of the variables do no more than count them.
    """

    variable: Hashable
    dim: Hashable | None
    position: int
    count: int
    label: str | None
    number: int | None
    label_counts: bool = False
    variable_counts: bool = False


@dataclass(frozen=True)
class Layout:
    """What the dimensions of a data set mean.

    Args:
        x: dimension of the columns.
        y: dimension of the rows.
        time: dimension of the dates; `None` if there is none.
        bands: the bands of one date.
        num_dates: dates along the time dimension; 1 without one.
    """

    x: Hashable
    y: Hashable
    time: Hashable | None
    bands: tuple[CubeBand, ...]
    num_dates: int


def count_up(names: Sequence[str]) -> bool:
    """Whether names do no more than count from 1; a single B1 may well be a sensor's band."""
    numbers = [is_counting_name(name) for name in names]
    is_alone = len(names) == 1 and _NUMBERED_BAND.fullmatch(names[0]) is not None
    return numbers == list(range(1, len(names) + 1)) and not is_alone


def listed(value: Any) -> list[Any] | None:
    """The items of an attribute that is a list; `None` if it is a single value."""
    if isinstance(value, (list, tuple)):
        return list(value)
    return list(value) if isinstance(value, np.ndarray) and value.ndim == 1 else None


def value_of_band(value: Any, band: CubeBand) -> Any:
    """What an attribute of a variable says of one of its bands; `None` if nothing is certain.

    A list holds one value per band, by number where the labels are numbers of a file's bands. A
    single value is that of a variable's only band: rioxarray copies tags of a file's first band to
    all of them.
    """
    values = listed(value)
    number = band.number or 0
    if values is None:
        return value if band.count == 1 and number <= 1 else None
    if 1 <= number <= len(values):
        return values[number - 1]
    return values[band.position] if len(values) == band.count else None


def value_of_variable(value: Any, band: CubeBand) -> Any:
    """What an attribute that CF defines for a whole variable says of one of its bands."""
    values = listed(value)
    if values is None or len(values) == 1:
        return value if values is None else values[0]
    return value_of_band(value, band)


def spatial_dims(dataset: "Dataset") -> tuple[Hashable, Hashable] | None:
    """The dimensions of columns and rows; `None` if the data set has none."""
    missing = import_module("rioxarray.exceptions").MissingSpatialDimensionError
    try:
        return dataset.rio.x_dim, dataset.rio.y_dim
    except missing:
        pass
    named = {str(dim).casefold(): dim for dim in dataset.sizes}
    for x, y in _SPATIAL_NAMES:
        if x in named and y in named:
            return named[x], named[y]
    # The spatial convention of Zarr names them, rows first.
    stated = dataset.attrs.get("spatial:dimensions", ())
    if len(stated) >= 2 and set(stated[-2:]) <= set(dataset.sizes):
        return stated[-1], stated[-2]
    return None


def raster_variables(dataset: "Dataset") -> list[Hashable]:
    """The variables of numbers over rows and columns."""
    dims = spatial_dims(dataset)
    if dims is None:
        return []
    return [
        name
        for name, variable in dataset.data_vars.items()
        if set(dims) <= set(variable.dims) and variable.dtype.kind in "biufc"
    ]


def grid_mappings(dataset: "Dataset", variables: Iterable[Hashable]) -> list[str]:
    """The grid mappings that variables name, each once."""
    named = []
    for variable in variables:
        encoding, attributes = dataset[variable].encoding, dataset[variable].attrs
        text = str(encoding.get("grid_mapping", attributes.get("grid_mapping", "")))
        # CF's extended form lists the coordinates of each mapping: "crs: x y".
        named += [word.rstrip(":") for word in text.split()[:1]]
    return list(dict.fromkeys(named))


def is_time(dataset: "Dataset", name: Hashable) -> bool:
    """Whether a dimension or coordinate holds dates."""
    if str(name).casefold() in _TIME_NAMES:
        return True
    # xarray numbers dimensions without coordinates when it is asked for them.
    if name not in dataset.coords:
        return False
    coordinate = dataset.coords[name]
    attributes = coordinate.attrs
    is_named = attributes.get("standard_name") == "time" or attributes.get("axis") == "T"
    return is_named or coordinate.dtype.kind == "M"


def find_layout(dataset: "Dataset", name: str, chosen: Sequence[str] | None) -> Layout:
    """Finds the bands of a data set.

    Args:
        dataset: the data set.
        name: what messages call it.
        chosen: variables, or labels along the band dimension, in this order; `None` = all.

    Returns:
        Its layout.

    Raises:
        RasterError: it holds no raster, more dimensions than time, band, y and x, or nothing of
            that name.
    """
    dims = spatial_dims(dataset)
    if dims is None:
        raise RasterError(
            f"{name} has no dimensions x and y, only {abridged(dataset.sizes) or 'scalars'}. "
            "Rename them (dataset.rename) and pass the xarray object."
        )
    x, y = dims
    rasters = raster_variables(dataset)
    if not rasters:
        raise RasterError(
            f"{name} holds no variable over {y} and {x}. Its variables are "
            f"{abridged(dataset.data_vars) or 'none'}. Name another file, or rename their dimensions."
        )
    time = _time_dimension(dataset, rasters, dims)
    bands = _bands(dataset, name, rasters, (x, y, time), chosen)
    if chosen is not None:
        bands = _choose(name, bands, chosen)
    time = _shared_time(dataset, name, bands, time)
    num_dates = 1 if time is None else dataset.sizes[time]
    if not bands or 0 in (num_dates, dataset.sizes[x], dataset.sizes[y]):
        raise RasterError(f"{name} is empty: its dimensions are {dict(dataset.sizes)}.")
    return Layout(x, y, time, tuple(bands), num_dates)


def _time_dimension(
    dataset: "Dataset", rasters: Sequence[Hashable], spatial: tuple[Hashable, Hashable]
) -> Hashable | None:
    for variable in rasters:
        for dim in dataset[variable].dims:
            if dim not in spatial and is_time(dataset, dim):
                return dim
    return None


def _bands(
    dataset: "Dataset",
    name: str,
    rasters: Sequence[Hashable],
    known: tuple[Hashable | None, ...],
    chosen: Sequence[str] | None,
) -> list[CubeBand]:
    """The bands of all variables; `known` are the dimensions that hold no bands."""
    band_dims = {}
    others = []
    for variable in rasters:
        rest = [dim for dim in dataset[variable].dims if dim not in known]
        if len(rest) <= 1:
            band_dims[variable] = rest[0] if rest else None
        elif chosen is None or str(variable) in chosen:
            others.append(f"{variable} ({', '.join(map(str, rest))})")
    if others:
        raise RasterError(
            f"{name} has more dimensions than time, band, y and x: {abridged(sorted(others))}. "
            "Select along them (dataset.isel) and pass the xarray object."
        )
    single = [str(variable) for variable, dim in band_dims.items() if dim is None]
    bands: list[CubeBand] = []
    for variable, dim in band_dims.items():
        if dim is None:
            bands.append(_single_band(dataset, variable, count_up(single)))
        else:
            bands += _bands_along(dataset, variable, dim)
    return bands


def _single_band(dataset: "Dataset", variable: Hashable, counts: bool) -> CubeBand:
    """The band of a variable without a band dimension."""
    counts = counts or _PLACEHOLDER.fullmatch(str(variable)) is not None
    coordinate = dataset.coords.get("band")
    if coordinate is None or coordinate.ndim:
        return CubeBand(variable, None, 0, 1, None, None, variable_counts=counts)
    label = coordinate.values.item()
    number = _integer(label)
    return CubeBand(variable, None, 0, 1, str(label), number, number is not None, counts)


def _bands_along(dataset: "Dataset", variable: Hashable, dim: Hashable) -> Iterator[CubeBand]:
    """The bands along the band dimension of a variable."""
    count = dataset.sizes[dim]
    if dim not in dataset.coords:
        for position in range(count):
            label = f"{dim} {position + 1}"
            yield CubeBand(variable, dim, position, count, label, None, label_counts=True)
        return
    labels = dataset.coords[dim].values
    counts = count_up([str(label) for label in labels])
    for position, label in enumerate(labels):
        number = _integer(label)
        is_count = counts or number is not None
        yield CubeBand(variable, dim, position, count, str(label), number, label_counts=is_count)


def _integer(label: Any) -> int | None:
    is_integer = isinstance(label, (int, np.integer)) and not isinstance(label, bool)
    return int(label) if is_integer else None


def _names(band: CubeBand) -> tuple[str, ...]:
    """What a band can be chosen by."""
    return (str(band.variable),) if band.label is None else (str(band.variable), band.label)


def _choose(name: str, bands: Sequence[CubeBand], chosen: Sequence[str]) -> list[CubeBand]:
    """The bands of these names, in their order."""
    variables = dict.fromkeys(str(band.variable) for band in bands)
    labels = dict.fromkeys(band.label for band in bands if band.label is not None)
    known = {**variables, **labels}
    for one in chosen:
        if one not in known:
            raise RasterError(f"{name} has no part {one!r}. It has {abridged(known)}.")
    return [band for one in chosen for band in bands if one in _names(band)]


def _shared_time(
    dataset: "Dataset",
    name: str,
    bands: Sequence[CubeBand],
    time: Hashable | None,
) -> Hashable | None:
    """The time dimension, if the bands have it; all must, or none."""
    variables = dict.fromkeys(band.variable for band in bands)
    without = [variable for variable in variables if time not in dataset[variable].dims]
    if without and len(without) < len(variables):
        raise RasterError(
            f"{name} has variables with and without time ({abridged(without)} have none). Name "
            "those to read with parts=[...] (--parts)."
        )
    return None if without else time
