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
"""What the numbers of an xarray variable mean: scale and offset, missing values and valid ranges."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .cube_layout import CubeBand, listed, value_of_band, value_of_variable
from .quantities import finite
from .records import RasterError, Scaling, Stated

if TYPE_CHECKING:
    try:  # noqa: SIM105 (hides it from the check of what a checkpoint's code needs)
        from xarray import DataArray
    except ImportError:
        pass

# What `rio.set_nodata` states is in no attribute; it gets this one.
ACCESSOR_NODATA = "rio.nodata"
# In the order of rioxarray's `nodata`; the first two are those of CF 2.5.1.
_NODATA_ATTRIBUTES = ("_FillValue", "missing_value", "fill_value", "nodata", ACCESSOR_NODATA)
_OFFSET_FLAGS = ("earthsearch:boa_offset_applied", "sentinel:boa_offset_applied")
# The numbers that netCDF writes before any data are, where no attribute states another (NC_FILL_* of
# netcdf.h). Bytes have none: all of their values may be data.
_NETCDF_FILL = {
    "int16": -32767.0,
    "uint16": 65535.0,
    "int32": -2147483647.0,
    "uint32": 4294967295.0,
    "float32": 9.969209968386869e36,
    "float64": 9.969209968386869e36,
}


@dataclass(frozen=True)
class Packing:
    """How the numbers of a band are stored.

    Args:
        stored: their type in the file, after CF's attribute `_Unsigned`.
        scaling: scales and offsets, as far as something states them.
        applied: the one that the numbers in memory have been through.
        is_wrapped: whether attributes may hold numbers of the other sign, as `_Unsigned` reinterprets them.
    """

    stored: np.dtype[Any]
    scaling: tuple[Stated[Scaling], ...]
    applied: Scaling | None
    is_wrapped: bool = False


def unsigned(dtype: np.dtype[Any], variable: "DataArray") -> np.dtype[Any]:
    """The type that CF's attribute `_Unsigned` gives to integers of a netCDF file."""
    kind = _integer_kind(variable)
    return np.dtype(f"{kind}{dtype.itemsize}") if kind and dtype.kind in "iu" else dtype


def _integer_kind(variable: "DataArray") -> str:
    flag = str({**variable.encoding, **variable.attrs}.get("_Unsigned", "")).casefold()
    return {"true": "u", "false": "i"}.get(flag, "")


def packing_of(variable: "DataArray", band: CubeBand, name: str, is_file: bool) -> Packing:
    """How the numbers of a band are stored, and what has been done to them.

    xarray moves the attributes that it applies into `encoding`. Attributes that are left are still to be
    applied (CF 8.1).

    Args:
        variable: the variable that holds the band.
        band: the band.
        name: what messages call the cube.
        is_file: whether the variable was opened with its numbers as they are stored.

    Raises:
        RasterError: a scale is no number; or nothing tells whether it is applied already.
    """
    pending = [*_scalings(variable.attrs, band, name, "attribute"), *_scaling_of_envi(variable.attrs, name)]
    applied = _scalings(variable.encoding, band, name, "encoding")
    pending = pending or ([] if applied else _scaling_of_stac(variable, band, name))
    stored = variable.dtype
    if not is_file:
        stored = np.dtype(variable.encoding.get("dtype", stored))
        is_unknown = variable.dtype.kind == "f" and not {"dtype", "rasterio_dtype"} & set(variable.encoding)
        if pending and (applied or is_unknown):
            raise RasterError(
                f"{name} has scale {pending[0].value.scale:g} and offset {pending[0].value.offset:g} "
                f"({pending[0].source}) with numbers of {variable.dtype}, which may have been through them "
                "already: arithmetic of xarray keeps attributes. Delete the attributes if the numbers are "
                "physical (del array.attrs['scale_factor'], array.attrs['add_offset']); if they are not, "
                "delete them and give scale=... and offset=... (--scale, --offset)."
            )
    is_wrapped = stored.kind in "iu" and bool(_integer_kind(variable))
    scaling = tuple(pending or applied)
    return Packing(unsigned(stored, variable), scaling, applied[0].value if applied else None, is_wrapped)


def _scalings(mapping: Mapping[Any, Any], band: CubeBand, name: str, word: str) -> list[Stated[Scaling]]:
    """Scale and offset of attributes or encoding; none where they are 1 and 0, which GDAL writes for nothing."""
    numbers = []
    keys = []
    for key, plural, default in (("scale_factor", "scales", 1.0), ("add_offset", "offsets", 0.0)):
        found = next((one for one in (key, plural) if one in mapping), None)
        numbers.append(default if found is None else _number(mapping[found], band, f"{name} has {word} {found}"))
        keys += [] if found is None else [found]
    scaling = Scaling(*numbers)
    source = f"{word} {' and '.join(keys)}"
    if scaling.scale == 0 or not (math.isfinite(scaling.scale) and math.isfinite(scaling.offset)):
        raise RasterError(
            f"{name} has scale {scaling.scale:g} and offset {scaling.offset:g} ({source}), which make no "
            "physical unit. Correct them in the xarray object."
        )
    return [] if scaling == Scaling(1.0) else [Stated(scaling, source)]


def _scaling_of_envi(attributes: Mapping[Any, Any], name: str) -> list[Stated[Scaling]]:
    """ENVI defines its factor as the number to divide by to get reflectance from 0 to 1; rioxarray keeps it."""
    key = "reflectance_scale_factor"
    if key not in attributes:
        return []
    divisor = finite(str(attributes[key]))
    if divisor is None or divisor <= 0:
        raise RasterError(
            f"{name} has attribute {key} {attributes[key]!r}; a number above 0 is expected. Correct it in the xarray "
            "object."
        )
    return [] if divisor == 1 else [Stated(Scaling(1 / divisor), f"attribute {key}")]


def _raster_band(variable: "DataArray", band: CubeBand) -> Mapping[str, Any]:
    """What STAC's raster extension says of a band, which stackstac makes a coordinate."""
    coordinate = variable.coords.get("raster:bands")
    if coordinate is None or coordinate.dims not in ((), (band.dim,)):
        return {}
    value = coordinate.values[band.position] if coordinate.ndim else coordinate.values.item()
    return value if isinstance(value, Mapping) else {}


def _scaling_of_stac(variable: "DataArray", band: CubeBand, name: str) -> list[Stated[Scaling]]:
    """Scale and offset of STAC's raster extension, if they are still to be applied.

    stackstac applies them unless it is told not to, which its integers show. Where the flag of Earth Search says that
    the pixels hold the offset already, it is not theirs (Element84/earth-search#9).
    """
    fields = _raster_band(variable, band)
    what = f"{name} has coordinate raster:bands"
    scale = _number(fields.get("scale", 1.0), band, f"{what} with scale")
    offset = _number(fields.get("offset", 0.0), band, f"{what} with offset")
    flags = [variable.coords[key] for key in _OFFSET_FLAGS if key in variable.coords]
    is_in_pixels = any(str(flag) == "True" for coordinate in flags for flag in coordinate.values.flat)
    if variable.dtype.kind not in "iu":
        if offset and is_in_pixels:
            raise RasterError(
                f"{name} states the offset {offset:g} (coordinate raster:bands), and that its pixels hold "
                "it already (coordinate boa_offset_applied): stackstac has applied it again. Stack with "
                "rescale=False, and give scale=... (--scale)."
            )
        return []
    scaling = Scaling(scale, 0.0 if is_in_pixels else offset)
    return [] if scaling == Scaling(1.0) else [Stated(scaling, "coordinate raster:bands")]


def _number(value: Any, band: CubeBand, what: str) -> float:
    """What must be a number, or a list of one per band."""
    try:
        return float(value_of_variable(value, band))
    except (TypeError, ValueError):
        raise RasterError(
            f"{what} {value!r}; a number is expected, or one per band. Correct it in the xarray object."
        ) from None


def nodata_of(variable: "DataArray", band: CubeBand, packing: Packing) -> tuple[Stated[float], ...]:
    """The stored numbers that mean missing, as attributes and encoding state them."""
    found: list[Stated[float]] = []
    for word, mapping in (("attribute", variable.attrs), ("encoding", variable.encoding)):
        for key in _NODATA_ATTRIBUTES:
            # The fill value in an array's encoding is Zarr's: the number of chunks that were never written.
            if key not in mapping or (key == "fill_value" and word == "encoding"):
                continue
            for value in _floats(mapping[key]):
                number = _wrapped(value, packing)
                if word == "attribute" and packing.applied:
                    number = _packed(number, packing)
                found.append(Stated(number, f"{word} {key}"))
    for value in _floats(value_of_band(variable.attrs.get("nodatavals"), band)):
        found.append(Stated(value, "attribute nodatavals"))
    if variable.dtype.kind in "iu":
        for value in _floats(_raster_band(variable, band).get("nodata")):
            found.append(Stated(value, "coordinate raster:bands"))
    # xarray's readers of netCDF leave this in the encoding.
    if not found and "original_shape" in variable.encoding and packing.stored.name in _NETCDF_FILL:
        found.append(Stated(_NETCDF_FILL[packing.stored.name], "netCDF's default fill value"))
    distinct = {repr(one.value): one for one in reversed(found)}
    return tuple(reversed(distinct.values()))


def nodata_of_accessor(array: "DataArray") -> float | None:
    """What `rio.set_nodata` has stated of an array; `None` if nothing, or what attributes state too."""
    try:
        nodata = array.rio.nodata
    except (OverflowError, TypeError, ValueError):
        # The attribute that it is made from is no number of this type, and is read on its own.
        return None
    keys = (*_NODATA_ATTRIBUTES, "nodatavals")
    stated = [number for key in keys for number in _floats(array.attrs.get(key))]
    return None if nodata is None or np.isnan(nodata) or nodata in stated else float(nodata)


def _floats(value: Any) -> list[float]:
    """The numbers of an attribute; texts and what is no number are left out."""
    numbers = []
    for item in listed(value) or [value]:
        try:
            numbers.append(float(item))
        except (TypeError, ValueError):
            continue
    return numbers


def _wrapped(value: float, packing: Packing) -> float:
    """A number of an attribute with the sign that `_Unsigned` gives to the data."""
    if not packing.is_wrapped or not value.is_integer():
        return value
    modulus = 2 ** (8 * packing.stored.itemsize)
    number = int(value) % modulus
    is_negative = packing.stored.kind == "i" and number >= modulus // 2
    return float(number - modulus if is_negative else number)


def _packed(value: float, packing: Packing) -> float:
    """The stored number of a physical one."""
    scaling = packing.scaling[0].value
    return (value - scaling.offset) / scaling.scale


def valid_range_of(
    variable: "DataArray", band: CubeBand, packing: Packing, name: str
) -> tuple[Stated[tuple[float, float]], ...]:
    """The smallest and largest stored numbers that are measurements (CF 2.5.1), infinite where one end is open.

    Args:
        variable: the variable that holds the band.
        band: the band.
        packing: how its numbers are stored.
        name: what messages call the cube.

    Raises:
        RasterError: a range is not made of numbers, or ends before it begins.
    """
    attributes = variable.attrs
    found = []
    value = attributes.get("valid_range")
    if isinstance(value, str):
        # A tag that GDAL read, such as {0,10000}: of one band, perhaps.
        value = re.findall(r"[^\s,{}\[\]()]+", value) if value_of_band(value, band) else None
    if value is not None:
        items = listed(value)
        if items is None or len(items) != 2:
            raise RasterError(
                f"{name} has attribute valid_range {value!r}; two numbers are expected. Correct it in "
                "the xarray object."
            )
        found.append((items[0], items[1], "attribute valid_range"))
    keys = [key for key in ("valid_min", "valid_max") if key in attributes]
    if keys:
        lowest, highest = attributes.get("valid_min", -math.inf), attributes.get("valid_max", math.inf)
        found.append((lowest, highest, f"attribute {' and '.join(keys)}"))
    ranges = []
    for lowest, highest, source in found:
        ends = [_number(end, band, f"{name} has {source}") for end in (lowest, highest)]
        # Ends of the type that scales have, on integers, are those of physical values (NetCDF User's Guide,
        # valid_range). GDAL, behind rioxarray, makes floats of all.
        are_floats = any(isinstance(end, (float, np.floating)) for end in (lowest, highest) if not _is_open(end))
        is_physical = are_floats and "rasterio_dtype" not in variable.encoding
        ranges.append(Stated(_stored_range(ends, packing, is_physical, f"{name} has {source}"), source))
    return tuple(ranges)


def _is_open(end: Any) -> bool:
    return isinstance(end, float) and math.isinf(end)


def _stored_range(ends: Sequence[float], packing: Packing, is_physical: bool, what: str) -> tuple[float, float]:
    """Both ends in stored numbers."""
    is_integer = packing.stored.kind in "iu"
    if packing.scaling and is_integer and is_physical:
        lowest, highest = sorted(_packed(end, packing) for end in ends)
    else:
        lowest, highest = (_wrapped(end, packing) for end in ends)
    if lowest > highest:
        raise RasterError(
            f"{what} from {lowest:g} to {highest:g}, which holds nothing. Correct it in the xarray object."
        )
    if packing.stored.kind == "f":
        return float(packing.stored.type(lowest)), float(packing.stored.type(highest))
    # Integers that are undone from scaled floats are so to within rounding.
    margin = 0.5 if is_integer and packing.applied else 0.0
    return lowest - margin, highest + margin
