"""Stored numbers become physical in one place."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stsun_processing.rasters.physical import Channel, Conversion, conversion_of, to_physical
from stsun_processing.rasters.records import RasterError, Scaling

PIXELS = (2, 3)


def test_every_reason_to_be_missing_counts():
    stored = np.array([[[0, 5, 6], [7, 200, 9]]], dtype="uint8")
    masked = np.array([[False, True, False], [False, False, False]])
    channel = Channel(1, nodata=(0.0, 7.0), valid_ranges=((0, 100),))
    values = to_physical(stored, masked, [channel])
    assert values.dtype == np.float32
    assert np.isnan(values[0]).tolist() == [[True, True, False], [True, True, False]]
    assert values[0, 0, 2] == 6


@given(
    scale=st.floats(-10, 10).filter(lambda x: abs(x) > 1e-6),
    offset=st.floats(-100, 100),
    stored=st.lists(st.integers(0, 65535), min_size=6, max_size=6),
)
def test_scale_and_offset(scale, offset, stored):
    numbers = np.array(stored, dtype="uint16").reshape(1, *PIXELS)
    values = to_physical(numbers, None, [Channel(1, Scaling(scale, offset))])
    expected = numbers.astype("float64") * scale + offset
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-4)


def test_channels_with_different_scalings_and_nodata():
    numbers = np.full((2, *PIXELS), 10, dtype="int16")
    channels = [Channel(1, Scaling(2.0, 1.0), nodata=(10.0,)), Channel(2, Scaling(0.5), nodata=(11.0,))]
    values = to_physical(numbers, None, channels)
    assert np.isnan(values[0]).all()
    assert (values[1] == 5).all()


@pytest.mark.parametrize("nodata", [0.5, 70000.0, -1.0, float("inf")])
def test_nodata_that_the_type_cannot_hold_is_met_nowhere(nodata):
    numbers = np.arange(6, dtype="uint16").reshape(1, *PIXELS)
    assert np.isfinite(to_physical(numbers, None, [Channel(1, nodata=(nodata,))])).all()


def test_nodata_of_floats_is_compared_in_their_precision():
    fill = -3.4028234663852886e38  # the text of the smallest float32
    numbers = np.full((1, *PIXELS), np.float32(fill))
    assert np.isnan(to_physical(numbers, None, [Channel(1, nodata=(-3.4028235e38,))])).all()


def test_what_was_applied_is_undone_before_stored_numbers_are_compared():
    stored = np.array([[[1, 2, 3], [4, 5, 6]]], dtype="float64")
    applied = Scaling(1e-4, -0.1)
    decoded = (stored * applied.scale + applied.offset).astype("float32")
    kept = to_physical(decoded, None, [Channel(1, applied, nodata=(5.0,), applied=applied)])
    expected = np.where(stored == 5, np.nan, decoded)
    np.testing.assert_allclose(kept, expected, atol=1e-7)
    other = to_physical(decoded, None, [Channel(1, Scaling(2.0, 3.0), applied=applied)])
    np.testing.assert_allclose(other, stored * 2 + 3, rtol=1e-3)


@pytest.mark.parametrize(
    ("kind", "unit", "value", "expected"),
    [
        # 212 F and 100 C are where water boils; 14.7 m is a foot 48.2 times; published definitions.
        ("thermal", "degF", 212.0, 373.15),
        ("thermal", "degrees Celsius", 100.0, 373.15),
        ("thermal", "K", 300.0, 300.0),
        ("elevation", "ft", 1000.0, 304.8),
        ("elevation", "US survey foot", 3937.0, 1200.0),
        ("elevation", "cm", 250.0, 2.5),
        ("reflective", "%", 25.0, 0.25),
        ("sar", "dB", -12.0, -12.0),
        ("sar", "linear power", 0.01, -20.0),
        ("sar", "amplitude", 0.1, -20.0),
        ("index", "percent", 50.0, 0.5),
        ("other", "furlong", 3.0, 3.0),
    ],
)
def test_units(kind, unit, value, expected):
    conversion = conversion_of("b", kind, unit, "unit type")
    values = to_physical(np.full((1, 1, 1), value), None, [Channel(1, conversion=conversion)])
    assert values[0, 0, 0] == pytest.approx(expected, rel=1e-6)


def test_power_of_zero_has_no_decibel():
    channel = Channel(1, conversion=Conversion(decibels=10.0))
    values = to_physical(np.array([[[0.0, -1.0, 1.0]]]), None, [channel])
    assert np.isnan(values[0, 0]).tolist() == [True, True, False]


@pytest.mark.parametrize("unit", ["DN", "", "counts", "none"])
def test_words_for_stored_numbers_state_no_unit(unit):
    assert conversion_of("b", "reflective", unit, "s") is None


def test_one_says_nothing_of_radar():
    assert conversion_of("b", "sar", "1", "s") is None


@pytest.mark.parametrize(("kind", "unit"), [("reflective", "W m-2 sr-1 um-1"), ("thermal", "m"), ("elevation", "K")])
def test_unknown_units_are_refused(kind, unit):
    with pytest.raises(RasterError) as error:
        conversion_of("Band 2 of x.tif", kind, unit, "unit type of the file")
    assert all(word in str(error.value) for word in ("Band 2 of x.tif", repr(unit), "unit type", "--scale", kind))
