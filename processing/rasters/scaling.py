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
"""How the numbers of a band become physical: scale, offset, unit, nodata and valid range, joined from all sources."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from numbers import Real
from typing import Any

import numpy as np

from ..metadata import KIND_UNITS, Band
from .physical import Channel, Conversion, conversion_of, states_unit
from .records import BandStatements, Fact, RasterError, Scaling, Stated

# 0 and 255 of an 8-bit picture stand for black and white.
_PICTURE = Stated(Scaling(1 / 255), "nominal: an 8-bit picture, 255 stands for 1")


@dataclass(frozen=True)
class GivenNumbers:
    """What the caller says about the numbers of one band; `None` = nothing.

    Args:
        scale: factor from stored numbers to physical units.
        offset: what is added then.
        nodata: stored number that means missing; NaN = none.
    """

    scale: float | None = None
    offset: float | None = None
    nodata: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("scale", self.scale), ("offset", self.offset)):
            if value is None:
                continue
            if not _is_number(value) or not math.isfinite(value):
                raise RasterError(f"{name} must be a finite number, got {value!r}.")
        if self.scale == 0:
            raise RasterError(f"scale must be a finite number other than 0, got {self.scale!r}.")
        if self.nodata is not None and not _is_number(self.nodata):
            raise RasterError(f"nodata must be a number, or NaN for none, got {self.nodata!r}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


@dataclass(frozen=True)
class Measured:
    """A band whose unit is known as far as anything says so, how its numbers are read, and the facts about that."""

    band: Band
    channel: Channel
    facts: tuple[Fact, ...]


def measure(
    path: str,
    index: int,
    band: Band,
    dtype: str,
    own: BandStatements,
    beside: BandStatements,
    given: GivenNumbers,
    *,
    learned: BandStatements,
    applied: Scaling | None,
    mask_source: str | None,
    is_picture: bool,
) -> Measured:
    """Decides how the numbers of a band become physical.

    Args:
        path: the raster.
        index: number of the band in it, from 1.
        band: what it measured.
        dtype: type of its stored numbers.
        own: what the raster itself states.
        beside: what an item, a product or a dataset.json states about it.
        given: what the caller says, which overrules all of these.
        learned: what a checkpoint knows of such files; counts only where nothing else is stated.
        applied: the scaling that the numbers have been through when they are read.
        mask_source: what marks missing pixels beside stored numbers.
        is_picture: whether the band is a colour of an 8-bit picture.

    Raises:
        RasterError: statements contradict each other, or make no physical unit.
    """
    where = f"Band {index} of {path}"
    scaling, scale_facts = _scaling(where, path, index, dtype, own, beside, given, learned, is_picture)
    conversion, unit_facts = _conversion(where, path, index, band, own.joined(beside), given)
    nodata, nodata_fact = _nodata(where, path, index, own, beside, given, learned, mask_source)
    ranges = (*own.valid_range, *beside.valid_range)
    range_facts = [Fact(path, index, "valid_range", stated.value, stated.source) for stated in ranges]
    channel = Channel(
        index,
        scaling=None if scaling is None and applied is None else scaling or Scaling(1.0),
        conversion=conversion or Conversion(),
        nodata=nodata,
        valid_ranges=tuple(stated.value for stated in ranges),
        applied=applied,
    )
    if band.kind in KIND_UNITS and (scaling is not None or conversion is not None):
        band = replace(band, unit=KIND_UNITS[band.kind])
    return Measured(band, channel, (*scale_facts, *unit_facts, nodata_fact, *range_facts))


def _scaling(
    where: str,
    path: str,
    index: int,
    dtype: str,
    own: BandStatements,
    beside: BandStatements,
    given: GivenNumbers,
    learned: BandStatements,
    is_picture: bool,
) -> tuple[Scaling | None, list[Fact]]:
    stated = [*own.scaling, *beside.scaling]
    assumed = list(learned.scaling) or ([_PICTURE] if is_picture else [])
    if given.scale is not None or given.offset is not None:
        return _given_scaling(path, index, given, stated, assumed)
    for one, two in pairwise(stated):
        if not _same_scaling(one.value, two.value):
            raise RasterError(
                f"{where} states two scales: {_in_words(one)} and {_in_words(two)}. Say which holds with scale=... "
                "and offset=... (--scale, --offset)."
            )
    if not stated and learned.scaling:
        _check_learned(where, dtype, own.joined(beside).unit, learned.scaling[0])
    stated = stated or assumed
    if not stated:
        return None, [Fact(path, index, "scale", None, "none in the file, and no argument scale")]
    chosen = stated[0]
    scaling = chosen.value
    if not (math.isfinite(scaling.scale) and math.isfinite(scaling.offset)) or scaling.scale == 0:
        raise RasterError(
            f"{where} has scale {scaling.scale:g} and offset {scaling.offset:g} ({chosen.source}), which make no "
            "physical unit. Correct them, or say what holds with scale=... and offset=... (--scale, --offset)."
        )
    return scaling, _scale_facts(path, index, scaling, chosen.source)


def _check_learned(where: str, dtype: str, units: Sequence[Stated[str]], learned: Stated[Scaling]) -> None:
    """Numbers with decimals and a unit are physical as they are, whatever other files of the kind hold."""
    units = [unit for unit in units if states_unit(unit.value)]
    if units and np.dtype(dtype).kind == "f" and not _same_scaling(learned.value, Scaling(1.0)):
        raise RasterError(
            f"{where} holds {dtype} in {units[0].value!r} ({units[0].source}) and states no scale, but "
            f"{_in_words(learned)} is what files like it were read with. Say which holds with scale=... (--scale; 1 "
            "takes the numbers as they are)."
        )


def _given_scaling(
    path: str,
    index: int,
    given: GivenNumbers,
    stated: Sequence[Stated[Scaling]],
    assumed: Sequence[Stated[Scaling]],
) -> tuple[Scaling, list[Fact]]:
    """The caller's scale and offset. What the caller leaves open stays as it is stated, if the other one agrees.

    Where nothing is stated, it stays as it would be without the caller.
    """
    basis = stated or assumed
    kept = basis[0].value if basis else Scaling(1.0)
    scale = kept.scale if given.scale is None else float(given.scale)
    offset = 0.0 if given.offset is None else float(given.offset)
    reason = "arguments scale and offset"
    if given.scale is None:
        reason = f"argument offset, with the scale of {basis[0].source}" if basis else "argument offset"
    elif given.offset is None:
        reason = "argument scale"
        if basis and math.isclose(scale, kept.scale, rel_tol=1e-6):
            offset = kept.offset
            reason += f", with the offset of {basis[0].source}" if offset else ""
    scaling = Scaling(scale, offset)
    overruled = [one for one in stated if not _same_scaling(one.value, scaling)]
    if overruled:
        listed = " and ".join(
            f"scale {one.value.scale:g} and offset {one.value.offset:g} of {one.source}" for one in overruled
        )
        reason += f"; {listed} not applied"
    return scaling, _scale_facts(path, index, scaling, reason)


def _scale_facts(path: str, index: int, scaling: Scaling, source: str) -> list[Fact]:
    facts = [Fact(path, index, "scale", scaling.scale, source)]
    if scaling.offset:
        facts.append(Fact(path, index, "offset", scaling.offset, source))
    return facts


def _same_scaling(one: Scaling, two: Scaling) -> bool:
    same_scale = math.isclose(one.scale, two.scale, rel_tol=1e-6)
    return same_scale and math.isclose(one.offset, two.offset, rel_tol=1e-6, abs_tol=1e-12)


def _in_words(stated: Stated[Scaling]) -> str:
    return f"{stated.value.scale:g} with offset {stated.value.offset:g} ({stated.source})"


def _conversion(
    where: str, path: str, index: int, band: Band, statements: BandStatements, given: GivenNumbers
) -> tuple[Conversion | None, list[Fact]]:
    """How stated units become that of the kind; what the caller gives leads to the unit of the kind already."""
    found: list[tuple[Conversion, Stated[str]]] = []
    for unit in statements.unit:
        if given.scale is not None or given.offset is not None:
            argument = "scale" if given.scale is not None else "offset"
            return None, [Fact(path, index, "unit", unit.value, f"{unit.source}; overruled by argument {argument}")]
        if conversion := conversion_of(where, band.kind, unit.value, unit.source):
            found.append((conversion, unit))
    for (one, first), (two, second) in pairwise(found):
        if one != two:
            raise RasterError(
                f"{where} states two units: {first.value!r} ({first.source}) and {second.value!r} ({second.source}). "
                "Correct one, or say how stored numbers become physical with scale=... (--scale)."
            )
    if not found:
        return None, []
    conversion, unit = found[0]
    target = KIND_UNITS.get(band.kind)
    changed = "" if conversion == Conversion() or target is None else f", converted to {target}"
    return conversion, [Fact(path, index, "unit", unit.value, unit.source + changed)]


def _nodata(
    where: str,
    path: str,
    index: int,
    own: BandStatements,
    beside: BandStatements,
    given: GivenNumbers,
    learned: BandStatements,
    mask_source: str | None,
) -> tuple[tuple[float, ...], Fact]:
    """Stored numbers that mean missing; masks count in any case."""
    also = f"; {mask_source} counts, too" if mask_source else ""
    stated = (*own.nodata, *beside.nodata)
    if given.nodata is not None:
        number = float(given.nodata)
        overruled = [one for one in stated if not _same_number(one.value, number)]
        source = "argument nodata"
        if overruled:
            source += f"; {overruled[0].value:g} of {overruled[0].source} not applied"
        none = math.isnan(number)
        return () if none else (number,), Fact(path, index, "nodata", None if none else number, source + also)
    for other in beside.nodata:
        if own.nodata and not any(_same_number(other.value, one.value) for one in own.nodata):
            raise RasterError(
                f"{where} states two values of nodata: {own.nodata[0].value:g} ({own.nodata[0].source}) and "
                f"{other.value:g} ({other.source}). Correct one, or say which holds with nodata=... (--nodata)."
            )
    chosen = stated or learned.nodata
    if not chosen:
        source = "none in the file, nor a mask"
        if mask_source:
            source = f"no number is stated; {mask_source} says where data are missing"
        return (), Fact(path, index, "nodata", None, source)
    numbers = tuple(dict.fromkeys(one.value for one in chosen))
    # NaN is missing in any case.
    compared = tuple(number for number in numbers if not math.isnan(number))
    value = numbers[0] if len(numbers) == 1 else numbers
    return compared, Fact(path, index, "nodata", value, chosen[0].source + also)


def _same_number(one: float, two: float) -> bool:
    return (math.isnan(one) and math.isnan(two)) or math.isclose(one, two, rel_tol=1e-6)
