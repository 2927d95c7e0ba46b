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
"""Numbers and lengths as files write them."""

import math
import unicodedata
from decimal import Decimal, InvalidOperation

from ..metadata import MIN_WAVELENGTH_NM
from .records import Quantity, RasterError

# Nanometres in one unit of length. Frequencies and wavenumbers are converted in `length_nm`.
_NANOMETRES = {
    **dict.fromkeys(("nm", "nanometer", "nanometre"), 1.0),
    **dict.fromkeys(("um", "μm", "mum", "micron", "micrometer", "micrometre", "10^-6 m", "1e-6 m"), 1e3),
    **dict.fromkeys(("å", "a", "angstrom", "ångström", "0.1 nm"), 0.1),
    **dict.fromkeys(("mm", "millimeter", "millimetre"), 1e6),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), 1e7),
    **dict.fromkeys(("m", "meter", "metre"), 1e9),
}
# Hertz in one unit of frequency.
_HERTZ = {"hz": 1.0, "thz": 1e12}
_WAVENUMBERS = ("cm-1", "cm^-1", "1/cm", "/cm", "wavenumber")
_SPEED_OF_LIGHT_NM = 299_792_458.0 * 1e9
_NO_UNIT = ("", "unknown", "none", "-")
# Narrower bands exist only in nanometres' fractions; 0.02 without a unit is one of 20 nm written in micrometres.
_MIN_UNITLESS_WIDTH_NM = 1.0


def finite(text: str) -> float | None:
    """The number that a text states; `None` if it states none."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def unit_key(text: str) -> str:
    """A unit as it is looked up: the two signs for micro are one, case and plural do not matter."""
    # NFKC turns the micro sign U+00B5 into the letter mu.
    text = unicodedata.normalize("NFKC", text).strip().casefold()
    return text[:-1] if len(text) > 3 and text.endswith("s") else text


def length_nm(where: str, what: str, text: str, unit: str, source: str) -> Quantity | None:
    """A wavelength or width in nanometres.

    Args:
        where: the band, for messages.
        what: `center_nm` or `fwhm_nm`.
        text: the number.
        unit: its unit, as it is written; empty = nanometres, if the number can be that.
        source: where it stands, for messages.

    Returns:
        The length; `None` if the text is not a number.

    Raises:
        RasterError: the unit is unknown, or there is none and the number looks like micrometres.
    """
    try:
        number = Decimal(text.strip())
    except InvalidOperation:
        return None
    if not number.is_finite():
        return None
    key = unit_key(unit)
    if key == "index":
        return None
    try:
        # One unit of the last digit that is written.
        digit = float(Decimal(1).scaleb(int(number.as_tuple().exponent)))
        value = float(number)
    except ArithmeticError:
        return None
    if not (math.isfinite(value) and math.isfinite(digit)):
        return None
    if key in _NO_UNIT:
        factor = 1.0
    elif key in _NANOMETRES:
        factor = _NANOMETRES[key]
    elif what == "center_nm" and value > 0 and (key in _HERTZ or key in _WAVENUMBERS):
        return _from_inverse(value, digit, key)
    else:
        raise RasterError(
            f"{where} gives {what} in {unit!r} ({source}). Known units are {', '.join(_NANOMETRES)}, "
            f"{', '.join(_HERTZ)} and cm-1. Give the bands yourself: bands=[...] (--bands NAME:CENTER_NM:FWHM_NM)."
        )
    smallest = MIN_WAVELENGTH_NM if what == "center_nm" else 0.0
    if what == "fwhm_nm" and key in _NO_UNIT:
        smallest = _MIN_UNITLESS_WIDTH_NM
    # In decimals: 0.6649 micrometres are 664.9 nm, not 664.9000000000001.
    length = float(number * Decimal(str(factor)))
    if length < smallest or length <= 0:
        raise RasterError(
            f"{where} has {what} = {length:g} ({source}), which looks like micrometres: nanometres of {smallest:g} or "
            "more are expected. State the unit in the file (wavelength_units=Micrometers), or give the bands yourself: "
            "bands=[...] (--bands NAME:CENTER_NM:FWHM_NM)."
        )
    return Quantity(length, digit * factor)


def _from_inverse(value: float, digit: float, key: str) -> Quantity:
    """A wavelength from a frequency, or from a wavenumber in 1/cm."""
    length = 1e7 / value if key in _WAVENUMBERS else _SPEED_OF_LIGHT_NM / (value * _HERTZ[key])
    return Quantity(length, length * digit / value)
