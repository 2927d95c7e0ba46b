"""Lengths in the units that files write."""

import math

import pytest

from stsun_processing.rasters.quantities import finite, length_nm, unit_key
from stsun_processing.rasters.records import Quantity, RasterError


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("560", "nm"),
        ("560", ""),
        ("560", "Nanometers"),
        ("0.56", "um"),
        ("0.56", "µm"),  # the micro sign
        ("0.56", "\u03bcm"),  # the Greek letter
        ("0.56", "Micrometers"),
        ("0.56", "microns"),
        ("5600", "angstrom"),
        ("5600", "\u00c5"),
        ("5600", "\u212b"),
        ("5.6e-7", "m"),
        ("0.56", "10^-6 m"),
        # c / 535.3436750 THz and 1 / 17857.142857 cm-1.
        ("535.3436750", "THz"),
        ("17857.142857", "cm-1"),
    ],
)
def test_a_wavelength_of_560_nm(text, unit):
    length = length_nm("band 1", "center_nm", text, unit, "tag w")
    assert length.value == pytest.approx(560, rel=1e-8)


def test_the_last_digit_is_kept():
    assert length_nm("b", "center_nm", "0.560", "um", "w") == Quantity(560.0, 1.0)
    assert length_nm("b", "center_nm", "664.6", "", "w") == Quantity(664.6, 0.1)


@pytest.mark.parametrize("text", ["", "red", "nan", "inf", "1e999999999"])
def test_what_is_no_number(text):
    assert length_nm("b", "center_nm", text, "nm", "w") is None


def test_an_index_has_no_wavelength():
    assert length_nm("b", "center_nm", "3", "Index", "w") is None


@pytest.mark.parametrize(
    ("what", "text", "unit", "words"),
    [
        ("center_nm", "0.56", "", "looks like micrometres"),
        ("center_nm", "-1", "nm", "looks like micrometres"),
        ("fwhm_nm", "0.02", "", "looks like micrometres"),
        ("center_nm", "5.4", "GHz", "'GHz'"),
        ("fwhm_nm", "5", "THz", "'THz'"),
        ("center_nm", "5", "furlong", "'furlong'"),
    ],
)
def test_refusals_name_the_band_the_source_and_the_remedy(what, text, unit, words):
    with pytest.raises(RasterError) as error:
        length_nm("Band 7 of x.tif", what, text, unit, "tag w")
    assert all(word in str(error.value) for word in (words, "Band 7 of x.tif", "tag w", "--bands"))


def test_narrow_widths_pass_where_their_unit_is_known():
    assert length_nm("b", "fwhm_nm", "0.3", "nm", "w").value == pytest.approx(0.3)


@pytest.mark.parametrize(("text", "expected"), [("1.5", 1.5), ("-2", -2.0), ("inf", None), ("x", None)])
def test_finite(text, expected):
    assert finite(text) == expected


def test_units_are_looked_up_without_case_and_plural():
    assert unit_key(" Meters ") == unit_key("meter") == "meter"
    assert unit_key("\u00b5m") == "\u03bcm"
    assert math.isclose(len(unit_key("s")), 1)
