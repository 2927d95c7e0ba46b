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
"""From stored numbers to physical ones: the one place where scale, offset, unit, nodata, masks and valid ranges act."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..metadata import KIND_UNITS
from .quantities import unit_key
from .records import RasterError, Scaling


def _table(*rows: tuple[Scaling, Sequence[str]]) -> dict[str, Scaling]:
    return {unit_key(name): scaling for scaling, names in rows for name in names}


# By kind: what a number in a unit is multiplied with, and what is added then, to be in the unit of the kind.
_UNITS: dict[str, dict[str, Scaling]] = {
    "reflective": _table(
        (Scaling(1.0), ("1", "reflectance", "unitless", "dimensionless", "ratio")),
        (Scaling(0.01), ("%", "percent")),
    ),
    "thermal": _table(
        (Scaling(1.0), ("K", "kelvin", "degK", "degrees kelvin")),
        (
            Scaling(1.0, 273.15),
            ("degC", "C", "°C", "deg C", "celsius", "degrees C", "degrees celsius", "degree_celsius"),
        ),
        # Fahrenheit: (F - 32) x 5/9 degrees Celsius.
        (
            Scaling(5 / 9, 273.15 - 160 / 9),
            ("degF", "F", "°F", "fahrenheit", "degrees fahrenheit", "degree_fahrenheit"),
        ),
    ),
    "sar": _table((Scaling(1.0), ("dB", "decibel"))),
    "elevation": _table(
        (Scaling(1.0), ("m", "meter", "metre")),
        (Scaling(0.01), ("cm", "centimeter", "centimetre")),
        (Scaling(0.1), ("dm", "decimeter", "decimetre")),
        (Scaling(0.001), ("mm", "millimeter", "millimetre")),
        (Scaling(1000.0), ("km", "kilometer", "kilometre")),
        (Scaling(0.3048), ("ft", "foot", "feet", "international foot", "international feet")),
        # The survey foot is 1200/3937 m (NIST Handbook 44, appendix C).
        (Scaling(1200 / 3937), ("us-ft", "ftUS", "US survey foot", "US survey feet", "foot_us", "us_survey_foot")),
    ),
    "index": _table(
        (Scaling(1.0), ("1", "unitless", "dimensionless", "index", "ratio")),
        (Scaling(0.01), ("%", "percent")),
    ),
}
# Decibel are ten times the decimal logarithm of power, and twenty times that of amplitude.
_LOGARITHMS = {
    **dict.fromkeys(("linear", "linear power", "power", "intensity", "linear intensity", "m2/m2"), 10.0),
    **dict.fromkeys(("amplitude", "linear amplitude"), 20.0),
}
# Words for "as they were stored", which say nothing of a unit.
_NO_UNIT = ("", "dn", "digital number", "digital_number", "count", "none", "unknown", "-", "n/a", "na")


@dataclass(frozen=True)
class Conversion:
    """How a unit becomes that of the kind: x `factor` + `offset`, or `decibels` x log10."""

    factor: float = 1.0
    offset: float = 0.0
    decibels: float | None = None


@dataclass(frozen=True)
class Channel:
    """How the numbers of one band become physical.

    Args:
        index: number of the band in its file, from 1.
        scaling: from stored numbers; `None` = they are taken as they are.
        conversion: of the unit that these are in.
        nodata: stored numbers that mean missing.
        valid_ranges: smallest and largest stored number that is a measurement.
        applied: the scaling that the numbers have been through when they are read.
    """

    index: int
    scaling: Scaling | None = None
    conversion: Conversion = Conversion()
    nodata: tuple[float, ...] = ()
    valid_ranges: tuple[tuple[float, float], ...] = ()
    applied: Scaling | None = None

    @property
    def linear(self) -> Scaling:
        """Factor and offset from numbers as they are read to the unit of the kind, or to that before a logarithm."""
        own = self.scaling or Scaling(1.0)
        if self.applied is not None:
            ratio = own.scale / self.applied.scale
            own = Scaling(ratio, own.offset - self.applied.offset * ratio)
        unit = self.conversion
        return Scaling(own.scale * unit.factor, own.offset * unit.factor + unit.offset)


def states_unit(text: str) -> bool:
    """Whether a text names a unit, and does not say that numbers are as they were stored."""
    return unit_key(text) not in _NO_UNIT


def conversion_of(where: str, kind: str, unit: str, source: str) -> Conversion | None:
    """How values in a stated unit become those of the unit of their kind.

    Args:
        where: the band, for messages.
        kind: kind of the band.
        unit: the unit, as it is written.
        source: where it stands, for messages.

    Returns:
        The conversion; `None` where the text states no unit.

    Raises:
        RasterError: the unit is unknown for that kind.
    """
    if not states_unit(unit):
        return None
    key = unit_key(unit)
    if kind == "other":
        return Conversion()
    if kind == "sar" and key in _LOGARITHMS:
        return Conversion(decibels=_LOGARITHMS[key])
    known = _UNITS[kind]
    if key in known:
        return Conversion(known[key].scale, known[key].offset)
    if key == "1":
        # CF's word for a number without unit, which radar in decibel, power and amplitude all are.
        return None
    listed = ", ".join([*known, *(_LOGARITHMS if kind == "sar" else ())])
    raise RasterError(
        f"{where} is of kind {kind!r} and in {unit!r} ({source}); values of that kind are in {KIND_UNITS[kind]}, and "
        f"what can be converted is {listed}. Convert it, or say how stored numbers become {KIND_UNITS[kind]} with "
        "scale=... and offset=... (--scale, --offset; scale=1 takes them as they are)."
    )


def to_physical(numbers: np.ndarray, masked: np.ndarray | None, channels: Sequence[Channel]) -> np.ndarray:
    """Physical values of some bands.

    A pixel of a band is missing if any statement says so: a nodata value, a valid range, a mask, alpha 0, or a number
    that is not finite.

    Args:
        numbers: (bands, height, width) as they were read.
        masked: True = missing; (height, width) of all bands or (bands, height, width); `None` = nothing is masked.
        channels: one entry per band.

    Returns:
        (bands, height, width) float32, NaN = missing.
    """
    missing = _missing(numbers, channels)
    if masked is not None:
        missing = np.broadcast_to(masked, numbers.shape) if missing is None else missing | masked
    # Fill values of double precision may overflow; they are missing anyway.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        values = numbers.astype(np.float32)
        _scale(values, channels)
        for band, channel in zip(values, channels, strict=True):
            if channel.conversion.decibels is not None:
                np.log10(band, out=band)
                band *= channel.conversion.decibels
    if missing is not None:
        values[missing] = np.nan
    if numbers.dtype.kind == "f" or any(channel.conversion.decibels is not None for channel in channels):
        values[~np.isfinite(values)] = np.nan
    return values


def _scale(values: np.ndarray, channels: Sequence[Channel]) -> None:
    """Scales bands in place, all at once where they are alike."""
    linear = [channel.linear for channel in channels]
    groups = [(values, linear[0])] if len(set(linear)) == 1 else list(zip(values, linear, strict=True))
    for part, scaling in groups:
        if scaling.scale != 1.0:
            part *= np.float32(scaling.scale)
        if scaling.offset != 0.0:
            part += np.float32(scaling.offset)


def _missing(numbers: np.ndarray, channels: Sequence[Channel]) -> np.ndarray | None:
    """Where stored numbers mean missing; `None` if no statement concerns them."""
    rules = [(channel.nodata, channel.valid_ranges, channel.applied) for channel in channels]
    if not any(nodata or ranges for nodata, ranges, _ in rules):
        return None
    if all(rule == rules[0] for rule in rules):
        return _missing_band(numbers, channels[0])
    return np.stack([_missing_band(band, channel) for band, channel in zip(numbers, channels, strict=True)])


def _missing_band(band: np.ndarray, channel: Channel) -> np.ndarray:
    stored = band
    if channel.applied is not None:
        stored = (band.astype(np.float64) - channel.applied.offset) / channel.applied.scale
    missing = np.zeros(band.shape, dtype=bool)
    for number in channel.nodata:
        missing |= _equals(stored, number, decoded=channel.applied is not None)
    for low, high in channel.valid_ranges:
        missing |= (stored < low) | (stored > high)
    return missing


def _equals(stored: np.ndarray, number: float, decoded: bool) -> np.ndarray:
    equal: np.ndarray
    if decoded:
        # Numbers that went through scale and offset come back rounded.
        equal = np.isclose(stored, number, rtol=1e-6, atol=1e-3)
    elif stored.dtype.kind == "f":
        # A fill value is stored in the precision of the file.
        with np.errstate(over="ignore"):
            equal = stored == stored.dtype.type(number)
    elif _holds(stored.dtype, number):
        equal = stored == stored.dtype.type(int(number))
    else:
        equal = np.zeros(stored.shape, dtype=bool)
    return equal


def _holds(dtype: np.dtype, number: float) -> bool:
    """Whether a type of integers can hold a number."""
    if not math.isfinite(number) or number != int(number):
        return False
    limits = np.iinfo(dtype) if dtype.kind in "iu" else None
    return limits is None or limits.min <= number <= limits.max
