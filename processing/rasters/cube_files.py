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
"""Names of netCDF files and Zarr stores, and how they are opened, with the groups inside them."""

import json
import os
import posixpath
import re
import warnings
from collections.abc import Hashable, Iterator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .cube_layout import grid_mappings, raster_variables
from .records import RasterError, abridged

if TYPE_CHECKING:
    from xarray import Dataset

# Read through xarray, not by GDAL, which shows the dates of a variable as its bands.
CUBE_SUFFIXES = (".nc", ".nc4", ".cdf", ".zarr")

_ZARR_METADATA = ("zarr.json", ".zgroup", ".zarray")
# GDAL's names of a part: netcdf:FILE:VARIABLE, NETCDF:"FILE":/group/variable, ZARR:"STORE":/array.
_GDAL_NAME = re.compile(r"(?:netcdf|zarr):(.+)", re.IGNORECASE)
_QUOTED = re.compile(r'"([^"]+)"(?::(.*))?')
# What the libraries below xarray raise for damaged files.
XARRAY_ERRORS = (OSError, ValueError, KeyError, TypeError, RuntimeError, MemoryError)


def cube_name(path: str) -> tuple[str, tuple[str, ...] | None]:
    """The file or store that a path means, and the variable that GDAL's name of a part gives.

    Args:
        path: a path, or a name as GDAL writes it (`netcdf:FILE:VARIABLE`, `ZARR:"STORE":/array`).

    Returns:
        The path of the file or store, and the variables to read; `None` = all.
    """
    match = _GDAL_NAME.fullmatch(path)
    if match is None:
        return path, None
    rest = match[1]
    if quoted := _QUOTED.fullmatch(rest):
        return quoted[1], (quoted[2],) if quoted[2] else None
    file, _, variable = rest.rpartition(":")
    # A colon belongs to the file's own name after a drive's letter and in a URL.
    if len(file) < 2 or variable.startswith("//") or os.path.exists(rest):
        return rest, None
    return file, (variable,)


def is_cube(path: str) -> bool:
    """Whether a path is read through xarray.

    These are netCDF files, Zarr stores and their nodes, and GDAL's names of parts of them. GDAL
    alone reads its virtual file systems (`/vsizip/...`).
    """
    file, _ = cube_name(path)
    if file.startswith("/vsi"):
        return False
    named = _GDAL_NAME.fullmatch(path) is not None
    return named or file.rstrip("/\\").lower().endswith(CUBE_SUFFIXES) or is_zarr_node(file)


def is_zarr_node(path: str) -> bool:
    """Whether a path is a folder with the metadata of a Zarr group or array."""
    return any(os.path.isfile(os.path.join(path, name)) for name in _ZARR_METADATA)


def is_xarray(value: Any) -> bool:
    """Whether a value is an xarray `Dataset`, `DataArray` or `DataTree`; does not import xarray."""
    kinds = [f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(value).__mro__]
    return not {"xarray.Dataset", "xarray.DataArray", "xarray.DataTree"}.isdisjoint(kinds)


def import_xarray(name: str) -> Any:
    """The module `xarray`, with rioxarray's accessor.

    Args:
        name: what is to be read, for the message.

    Raises:
        RasterError: one of them is not installed.
    """
    try:
        import_module("rioxarray")
        return import_module("xarray")
    except ImportError as error:
        raise RasterError(
            f"{name} is read through xarray, but {error.name} is not installed. Install the extra "
            "with pip install 'stsun[xarray]'."
        ) from error


def open_cube(
    path: str,
    name: str,
    chosen: Sequence[str] | None,
) -> tuple["Dataset", Sequence[str] | None]:
    """Opens a file, a store, or what lies in it.

    Args:
        path: a netCDF file, a Zarr store, a group or an array of one, or GDAL's name of a part.
        name: what messages call it.
        chosen: variables or labels to read; `group/variable` for those of a group, `group/` for all
            of its variables. `None` = all.

    Returns:
        Its numbers as they are stored, with the coordinates of the groups around it, and variables
        of Zarr stores in natural order of their names; then `chosen` without the group.

    Raises:
        RasterError: it cannot be opened, or only groups inside of it hold rasters.
    """
    file, part = cube_name(path)
    if part is None and _is_zarr_array(file):
        file, array = os.path.split(file.rstrip("/\\"))
        part = (array,)
    group, own = _split_group(name, chosen if part is None else part)
    opened = _open(file, group, name)
    try:
        dataset = _with_ancestors(opened, file, group, name)
        rasters = raster_variables(dataset)
        if not rasters and (groups := _groups_with_rasters(file, group)):
            raise RasterError(
                f"{name} holds no raster itself, but its groups do: {abridged(groups)}. Name the "
                f"variables of one with parts=['{groups[0]}/...'] (--parts), or '{groups[0]}/' for "
                "all of them; in a Zarr store, the path of a group will do."
            )
        if _is_zarr(file):
            dataset = dataset[sorted(dataset.data_vars, key=_natural)]
        if part is not None and own is not None:
            dataset = _only(dataset, name, own[0])
    except RasterError:
        opened.close()
        raise
    if dataset is not opened:
        # What is derived from a data set does not close it.
        dataset.set_close(opened.close)
    return dataset, own if part is None else chosen


def _only(dataset: "Dataset", name: str, part: str) -> "Dataset":
    """The data set without all other rasters than the one that a path names."""
    rasters = raster_variables(dataset)
    if part not in map(str, rasters):
        raise RasterError(f"{name} has no raster {part!r}. It has {abridged(rasters) or 'none'}.")
    return dataset.drop_vars([variable for variable in rasters if str(variable) != part])


def _natural(name: Hashable) -> list[tuple[int, str]]:
    """Sort key that puts B2 before B10: Zarr stores keep no order of their arrays."""
    parts = re.split(r"(\d+)", str(name))
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts if part]


def _is_zarr_array(path: str) -> bool:
    if os.path.isfile(os.path.join(path, ".zarray")):
        return True
    metadata = os.path.join(path, "zarr.json")
    if not os.path.isfile(metadata):
        return False
    try:
        with open(metadata, encoding="utf-8") as file:
            fields = json.load(file)
    except ValueError:
        # xarray says what is wrong with it.
        return False
    return isinstance(fields, dict) and fields.get("node_type") == "array"


def _split_group(name: str, chosen: Sequence[str] | None) -> tuple[str, Sequence[str] | None]:
    """The one group that names like `group/variable` share, and the names without it."""
    if chosen is None or not any("/" in one for one in chosen):
        return "", chosen
    pairs = [posixpath.split(one.lstrip("/")) for one in chosen]
    groups = list(dict.fromkeys(group for group, _ in pairs))
    if len(groups) > 1:
        raise RasterError(
            f"Variables of several groups of {name} were named ({abridged(map(repr, groups))}), "
            "which may lie on different grids. Give each group an entry of its own in paths."
        )
    variables = [variable for _, variable in pairs]
    return groups[0], None if variables == [""] else variables


def _with_ancestors(dataset: "Dataset", path: str, group: str, name: str) -> "Dataset":
    """A group with the coordinates and attributes that it shares with the groups around it."""
    for outer_path, outer_group in _ancestors(path, group):
        with _open(outer_path, outer_group, name) as outer:
            wanted = {*outer.coords, *grid_mappings(dataset, dataset.data_vars)}
            inherited = {
                key: outer.variables[key].load()
                for key in wanted
                if key in outer.variables
                and key not in dataset.variables
                and all(dataset.sizes.get(dim) == size for dim, size in outer[key].sizes.items())
            }
            # Attributes with a namespace (`proj:`, `spatial:`) hold for their own group alone.
            shared = {key: value for key, value in outer.attrs.items() if ":" not in str(key)}
        dataset = dataset.assign_coords(inherited).assign_attrs({**shared, **dataset.attrs})
    return dataset


def _ancestors(path: str, group: str) -> Iterator[tuple[str, str]]:
    """The groups around a group, from the inside out: paths and groups to open."""
    while group:
        group = posixpath.dirname(group)
        yield path, group
    path = os.path.dirname(os.path.abspath(path))
    while is_zarr_node(path):
        yield path, ""
        path = os.path.dirname(path)


def _is_zarr(path: str) -> bool:
    return path.rstrip("/\\").lower().endswith(".zarr") or is_zarr_node(path)


def _options(path: str) -> dict[str, Any]:
    """How xarray opens a path: numbers as they are stored, coordinates wherever they are named."""
    return {
        "engine": "zarr" if _is_zarr(path) else None,
        "mask_and_scale": False,
        "decode_timedelta": False,
        "decode_coords": "all",
    }


def _open(path: str, group: str, name: str) -> "Dataset":
    xarray = import_xarray(name)
    if "://" not in path and not os.path.exists(path):
        raise RasterError(f"{name} does not exist.")
    try:
        with warnings.catch_warnings():
            # A store without consolidated metadata is as good as one with it.
            warnings.filterwarnings("ignore", "Failed to open Zarr store with consolidated")
            dataset: Dataset = xarray.open_dataset(path, group=group or None, **_options(path))
            return dataset
    except ImportError as error:
        raise RasterError(
            f"{name} cannot be opened, as {error.name or error} is missing or too old. Install the "
            "extra with pip install -U 'stsun[xarray]'."
        ) from error
    except XARRAY_ERRORS as error:
        where = f"Group {group!r} of {name}" if group else name
        raise RasterError(f"{where} cannot be opened through xarray: {error}") from error


def _groups_with_rasters(path: str, group: str) -> list[str]:
    """The groups below a group that hold rasters."""
    xarray = import_module("xarray")
    try:
        groups = xarray.open_groups(path, group=group or None, **_options(path))
    except XARRAY_ERRORS:
        return []
    found = [key.strip("/") for key, dataset in groups.items() if raster_variables(dataset)]
    for dataset in groups.values():
        dataset.close()
    return [posixpath.join(group, key) for key in found]
