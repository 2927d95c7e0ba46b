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
"""What numbers of an xarray variable mean: scale and offset, missing values and valid ranges."""

import math
import re
from collections.abc import Mapping
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
# What netCDF writes where no data are yet, if no attribute states another number (NC_FILL_* of
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
        is_wrapped: whether `_Unsigned` gives numbers of attributes another sign.
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

    xarray moves the attributes that it applies into `encoding`. Attributes that are left are still
    to be applied (CF 8.1).

    Args:
        variable: the variable that holds the band.
        band: the band.
        name: what messages call the cube.
        is_file: whether the variable was opened with its numbers as they are stored.

    Raises:
        RasterError: a scale is no number; or nothing tells whether it is applied already.
    """
    applied = _scalings(variable.encoding, band, name, "encoding")
    pending = _scalings(variable.attrs, band, name, "attribute")
    pending += _scaling_of_envi(variable.attrs, name)
    if not applied and not pending:
        pending = _scaling_of_stac(variable, band, name)
    stored = variable.dtype
    if not is_file:
        stored = np.dtype(variable.encoding.get("dtype", stored))
        # Arithmetic drops the encoding: where it is left, the numbers are as they were read.
        has_encoding = not {"dtype", "rasterio_dtype"}.isdisjoint(variable.encoding)
        is_as_read = has_encoding or variable.dtype.kind != "f"
        if pending and (applied or not is_as_read):
            raise _unknown_scaling(name, pending[0], variable)
    is_wrapped = stored.kind in "iu" and bool(_integer_kind(variable))
    return Packing(
        stored=unsigned(stored, variable),
        scaling=tuple(pending or applied),
        applied=applied[0].value if applied else None,
        is_wrapped=is_wrapped,
    )


def _unknown_scaling(name: str, stated: Stated[Scaling], variable: "DataArray") -> RasterError:
    return RasterError(
        f"{name} has scale {stated.value.scale:g} and offset {stated.value.offset:g} ({stated.source}) "
        f"with numbers of {variable.dtype}, which may have been through them already: arithmetic of "
        "xarray keeps attributes. Delete the attributes if the numbers are physical "
        "(del array.attrs['scale_factor'], array.attrs['add_offset']); if they are not, delete them "
        "and give scale=... and offset=... (--scale, --offset)."
    )


def _scalings(
    mapping: Mapping[Any, Any],
    band: CubeBand,
    name: str,
    word: str,
) -> list[Stated[Scaling]]:
    """Scale and offset of attributes or encoding; none for 1 and 0, which GDAL writes always."""
    # rioxarray writes the plurals where bands differ.
    scale_key = next((key for key in ("scale_factor", "scales") if key in mapping), None)
    offset_key = next((key for key in ("add_offset", "offsets") if key in mapping), None)
    scale, offset = 1.0, 0.0
    if scale_key is not None:
        scale = _number(mapping[scale_key], band, f"{name} has {word} {scale_key}")
    if offset_key is not None:
        offset = _number(mapping[offset_key], band, f"{name} has {word} {offset_key}")
    source = f"{word} {' and '.join(key for key in (scale_key, offset_key) if key is not None)}"
    if scale == 0 or not (math.isfinite(scale) and math.isfinite(offset)):
        raise RasterError(
            f"{name} has scale {scale:g} and offset {offset:g} ({source}), which make no physical "
            "unit. Correct them in the xarray object."
        )
    return [] if (scale, offset) == (1, 0) else [Stated(Scaling(scale, offset), source)]


def _scaling_of_envi(attributes: Mapping[Any, Any], name: str) -> list[Stated[Scaling]]:
    """ENVI defines its factor as the number to divide by to get reflectance from 0 to 1."""
    key = "reflectance_scale_factor"
    if key not in attributes:
        return []
    divisor = finite(str(attributes[key]))
    if divisor is None or divisor <= 0:
        raise RasterError(
            f"{name} has attribute {key} {attributes[key]!r}; a number above 0 is expected. Correct it "
            "in the xarray object."
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

    stackstac applies them unless it is told not to, which its integers show. Where the flag of
    Earth Search says that pixels hold the offset already, it is not theirs
    (Element84/earth-search#9).
    """
    fields = _raster_band(variable, band)
    what = f"{name} has coordinate raster:bands"
    scale = _number(fields.get("scale", 1.0), band, f"{what} with scale")
    offset = _number(fields.get("offset", 0.0), band, f"{what} with offset")
    flags = [variable.coords[key].values for key in _OFFSET_FLAGS if key in variable.coords]
    is_in_pixels = any("True" in np.ravel(values).astype(str) for values in flags)
    if variable.dtype.kind not in "iu":
        if offset and is_in_pixels:
            raise RasterError(
                f"{name} states the offset {offset:g} (coordinate raster:bands), and that its pixels "
                "hold it already (coordinate boa_offset_applied): stackstac has applied it again. "
                "Stack with rescale=False, and give scale=... (--scale)."
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
            # The fill value of an encoding is Zarr's: what chunks hold that were never written.
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
    """What `rio.set_nodata` has stated of an array beside its attributes; `None` if nothing."""
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
    variable: "DataArray",
    band: CubeBand,
    packing: Packing,
    name: str,
) -> tuple[Stated[tuple[float, float]], ...]:
    """The smallest and largest stored numbers that are measurements (CF 2.5.1).

    Args:
        variable: the variable that holds the band.
        band: the band.
        packing: how its numbers are stored.
        name: what messages call the cube.

    Returns:
        The ranges that are stated; infinite where one end is open.

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
                f"{name} has attribute valid_range {value!r}; two numbers are expected. Correct it "
                "in the xarray object."
            )
        found.append((items[0], items[1], "attribute valid_range"))
    keys = [key for key in ("valid_min", "valid_max") if key in attributes]
    if keys:
        lowest = attributes.get("valid_min", -math.inf)
        highest = attributes.get("valid_max", math.inf)
        found.append((lowest, highest, f"attribute {' and '.join(keys)}"))
    ranges = []
    for lowest, highest, source in found:
        what = f"{name} has {source}"
        ends = _number(lowest, band, what), _number(highest, band, what)
        # GDAL, behind rioxarray, makes floats of all.
        are_floats = "rasterio_dtype" not in variable.encoding and _has_float(lowest, highest)
        ranges.append(Stated(_stored_range(ends, packing, are_floats, what), source))
    return tuple(ranges)


def _has_float(*ends: Any) -> bool:
    return any(isinstance(end, (float, np.floating)) and np.isfinite(end) for end in ends)


def _stored_range(
    ends: tuple[float, float],
    packing: Packing,
    are_floats: bool,
    what: str,
) -> tuple[float, float]:
    """Both ends in stored numbers.

    Floats for integers, which are of the type of their scale, are ends of the physical values
    (NetCDF User's Guide, attribute `valid_range`).
    """
    is_integer = packing.stored.kind in "iu"
    if packing.scaling and is_integer and are_floats:
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
