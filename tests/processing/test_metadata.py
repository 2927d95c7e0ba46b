import contextlib
import datetime as dt
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stsun_processing import Acquisition, Band, ImageSeries, MetadataError, sensor_bands
from stsun_processing.metadata import (
    BAND_KINDS,
    INDICES,
    KIND_UNITS,
    RGB_BANDS,
    days_since_2000,
    filled_pixels,
    kind_of,
    parse_datetime,
)

BANDS = (Band("B02", 492, 66), Band("B08", 833, 106))

names = st.text(min_size=1, max_size=8).filter(str.strip)
bands = st.one_of(
    st.builds(
        Band,
        names,
        center_nm=st.none() | st.floats(30, 1e6),
        fwhm_nm=st.none() | st.floats(0.1, 1e4),
        kind=st.sampled_from(["reflective", "thermal", "other"]),
    ),
    st.builds(Band, names, kind=st.just("other"), unit=st.none() | names),
    st.sampled_from([Band("x", kind=kind, unit=unit) for kind, unit in KIND_UNITS.items()]),
    st.builds(Band, names, kind=st.just("sar"), polarisation=st.sampled_from([None, "VV", "VH", "HH", "HV"])),
    st.builds(Band, names, kind=st.sampled_from(["elevation", "index"])),
)
acquisitions = st.builds(
    Acquisition,
    st.lists(bands, min_size=1, max_size=4).map(tuple),
    st.none() | st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2100, 1, 1)),
    st.none() | st.floats(0.01, 1e4),
    st.none() | names,
)


def oldest_first(series):
    dates = iter(sorted(a.datetime for a in series if a.datetime is not None))
    return tuple(a if a.datetime is None else Acquisition(a.bands, next(dates), a.gsd_m, a.sensor) for a in series)


@given(
    st.lists(acquisitions, min_size=1, max_size=4).map(oldest_first),
    st.none() | st.just("EPSG:32633"),
    st.none() | st.tuples(*[st.floats(-1e6, 1e6)] * 6),
)
def test_series_survive_a_json_round_trip(acquisitions, crs, transform):
    series = ImageSeries(acquisitions, crs, transform)
    assert ImageSeries.from_json(series.to_json()) == series


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda x: (
            st.lists(x)
            | st.dictionaries(
                st.sampled_from(["acquisitions", "bands", "name", "center_nm", "datetime", "transform", "crs", "kind"]),
                x,
            )
        ),
        max_leaves=12,
    )
)
def test_any_other_document_is_refused_with_our_own_error(document):
    with contextlib.suppress(MetadataError):
        ImageSeries.from_dict(document)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "3", '{"acquisitions": 3}', '{"acquisitions": [{"bands": [{}]}]}']
)
def test_text_that_is_no_series_is_refused(text):
    with pytest.raises(MetadataError):
        ImageSeries.from_json(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2000-01-01", 0.0),
        ("2000-03-01", 60.0),  # a leap year
        ("2026-01-01T12:00:00Z", 9497.5),
        ("2026-01-01T12:00:00+12:00", 9497.0),
        ("1999-12-31", -1.0),
        ("2001", 366 + 365 / 2),
        ("2000-02", 31 + 29 / 2),
    ],
)
def test_days_since_2000(text, expected):
    assert days_since_2000(parse_datetime(text)) == expected


def test_unknown_dates_stay_unknown():
    assert parse_datetime(None) is None
    assert parse_datetime(np.datetime64("NaT")) is None
    assert parse_datetime(pd.NaT) is None
    assert parse_datetime(pd.Timestamp("2021-07-23T13:22:41+02:00")) == dt.datetime(2021, 7, 23, 11, 22, 41)
    assert math.isnan(days_since_2000(None))
    assert parse_datetime(np.datetime64("2021-07-23T13:22:41")) == dt.datetime(2021, 7, 23, 13, 22, 41)


@pytest.mark.parametrize("value", ["yesterday", "2021-13-01", "23.07.2021", "", 20210723, 3.5])
def test_what_is_no_date_is_refused(value):
    with pytest.raises(MetadataError, match=r"is not a date.*ISO 8601"):
        parse_datetime(value)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"center_nm": 0.492}, "looks like micrometres.*Multiply by 1000"),
        ({"center_nm": 5.5e7}, "Radar"),
        ({"center_nm": -1}, "above 0"),
        ({"center_nm": math.inf}, "finite"),
        ({"center_nm": "red"}, "must be a number"),
        ({"kind": "radio"}, "'radio'; known kinds are " + ", ".join(BAND_KINDS)),
        ({"kind": "elevation", "center_nm": 500}, "has no wavelength"),
        ({"polarisation": "VV"}, "only bands of kind 'sar'"),
        ({"kind": "sar", "polarisation": "RL"}, "VV, VH, HH, HV"),
        ({"name": " "}, "needs a name"),
        ({}, "'B1' has neither a kind nor a wavelength.*Give its kind, one of reflective"),
        ({"name": "slope", "kind": None}, "'slope' has neither a kind"),
        ({"kind": "thermal", "unit": "degC"}, "'thermal' has unit 'degC'; values of that kind are in 'K'"),
        ({"center_nm": 560, "unit": "K"}, "'reflective' has unit 'K'"),
        ({"kind": "other", "unit": " "}, "unit of band 'B1' must be a text"),
        ({"kind": "other", "unit": 3}, "unit of band 'B1' must be a text"),
        ({"name": "NDVI", "center_nm": 665}, "'index' and has no wavelength"),
    ],
)
def test_bands_that_cannot_be_are_refused(kwargs, message):
    with pytest.raises(MetadataError, match=message):
        Band(**({"name": "B1"} | kwargs))


@pytest.mark.parametrize(
    ("name", "center_nm", "kind"),
    [
        *((name, None, f"sar_{name[-2:].lower()}") for name in ("VV", "vh", "sigma0_HH", "Gamma0_HV")),
        ("VV_dB", None, "sar_vv"),
        *((name.upper(), None, f"index_{name}") for name in INDICES),
        *((name, None, "elevation") for name in ("DEM", "dsm", "DTM", "Elevation", "height")),
        *((name, None, "reflective") for name in ("red", "Green", "blue", "nir", "rededge071", "swir22")),
        ("lwir11", None, "thermal"),
        ("B10", 10895, "thermal"),
        ("MIR", 3000, "thermal"),
        ("SWIR", 2999.9, "reflective"),
        ("B04", 665, "reflective"),
    ],
)
def test_a_missing_kind_is_what_name_and_wavelength_leave_no_doubt_about(name, center_nm, kind):
    for band in (Band(name, center_nm), Band.from_dict({"name": name, "center_nm": center_nm, "kind": None})):
        assert band.type == kind
    assert Band(name, center_nm, kind="other").type == "other"


@pytest.mark.parametrize("name", ["band_1", "VVH", "ratio VV/VH", "coherence_VV", "ndvi_std", "B04"])
def test_a_kind_is_not_guessed(name):
    assert kind_of(name) is None
    with pytest.raises(MetadataError, match="kind"):
        Band(name)


def test_the_unit_of_a_kind_is_kept_apart_from_what_the_model_sees():
    for kind, unit in KIND_UNITS.items():
        assert Band("x", kind=kind, unit=unit).to_dict()["unit"] == unit
    assert "unit" not in Band("x", 665).to_dict()
    assert Band("x", 665, unit="reflectance").type == Band("x", 665).type
    assert Band("x", 665, unit="reflectance") != Band("x", 665)
    assert Band("rain", kind="other", unit="mm/h").unit == "mm/h"


def test_nominal_colours_are_those_of_the_sensor_table():
    assert sensor_bands("aerial-rgb") == RGB_BANDS


def test_masked_arrays_keep_their_mask():
    stored = np.array([[[1, 2], [-9999, 4]], [[5, 6], [7, 8]]], dtype=np.int16)
    masked = np.ma.masked_equal(stored, -9999)
    expected = np.where(stored == -9999, np.nan, stored)
    np.testing.assert_array_equal(filled_pixels(masked), expected)
    assert filled_pixels(masked).dtype == np.float32
    np.testing.assert_array_equal(filled_pixels(np.ma.masked_array(stored)), stored)  # its mask is a single False
    series = ImageSeries((Acquisition(BANDS),), pixels=(masked,))
    assert series.valid[0].tolist() == [[True, True], [False, True]]
    stack = ImageSeries((Acquisition(BANDS),), pixels=masked[None])
    assert np.array_equal(stack.pixels[0], series.pixels[0], equal_nan=True)
    hidden = np.ma.masked_array(np.ones((2, 2), dtype=bool), [[False, False], [False, True]])
    assert ImageSeries((Acquisition(BANDS),), pixels=(stored,), valid=(hidden,)).valid[0].sum() == 3


def test_complex_numbers_are_no_pixels():
    with pytest.raises(MetadataError, match="complex"):
        ImageSeries((Acquisition(BANDS),), pixels=(np.ones((2, 3, 3), dtype=np.complex64),))


def test_a_series_without_pixels_says_how_to_read_them():
    series = ImageSeries((Acquisition(BANDS),))
    for ask in (lambda: series.size, lambda: series.crop(0, 0, 1, 1)):
        with pytest.raises(MetadataError, match=r"holds no pixels: read them with stsun_processing\.read_series"):
            ask()
    assert series.select([0]).pixels is None


def test_dates_must_be_in_order_where_they_are_known():
    early, unknown, late = Acquisition(BANDS, "2020"), Acquisition(BANDS), Acquisition(BANDS, "2021")
    ImageSeries((early, unknown, late))
    ImageSeries((early, early))
    with pytest.raises(MetadataError, match=r"acquisition 2 \(2020.*before acquisition 0 \(2021.*oldest first"):
        ImageSeries((late, unknown, early))


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        ([np.zeros((2, 3, 3))], "1 arrays of pixels were given for 2 acquisitions"),
        ([np.zeros((2, 3, 3)), np.zeros((3, 3, 3))], "2 band records .B02, B08. but 3 channels"),
        ([np.zeros((2, 3, 3)), np.zeros((2, 3, 4))], "one grid"),
        ([np.zeros((2, 3)), np.zeros((2, 3))], "bands, height, width"),
        ([np.zeros((2, 0, 3)), np.zeros((2, 0, 3))], "none of them 0"),
    ],
)
def test_pixels_must_fit_the_bands_and_each_other(pixels, message):
    with pytest.raises(MetadataError, match=message):
        ImageSeries((Acquisition(BANDS), Acquisition(BANDS)), pixels=pixels)


def test_crop_moves_the_georeference_with_the_pixels():
    pixels = np.arange(2 * 5 * 6, dtype=float).reshape(2, 5, 6)
    series = ImageSeries((Acquisition(BANDS),), transform=(10, 0, 500, 0, -10, 900), pixels=(pixels,))
    window = series.crop(1, 2, 3, 4)
    assert window.transform == (10, 0, 520, 0, -10, 890)
    assert np.array_equal(window.pixels[0], pixels[:, 1:4, 2:6])
    for box in [(-1, 0, 2, 2), (0, 0, 6, 1), (4, 0, 2, 2), (0, 0, 0, 1)]:
        with pytest.raises(MetadataError, match="does not lie inside 5 x 6"):
            series.crop(*box)


def test_select_keeps_bands_and_channels_together():
    pixels = tuple(np.full((2, 3, 3), index) for index in range(3))
    series = ImageSeries(tuple(Acquisition(BANDS, f"202{i}") for i in range(3)), pixels=pixels)
    part = series.select([0, 2], {2: [1]})
    assert [[band.name for band in a.bands] for a in part.acquisitions] == [["B02", "B08"], ["B08"]]
    assert [array.shape for array in part.pixels] == [(2, 3, 3), (1, 3, 3)]
    assert part.pixels[1].max() == 2


def test_missing_values_are_not_valid():
    pixels = np.zeros((2, 2, 2))
    pixels[1, 0, 1] = np.nan
    for valid in (None, (np.ones((2, 2), dtype=bool),)):
        series = ImageSeries((Acquisition(BANDS),), pixels=(pixels,), valid=valid)
        assert series.valid[0].tolist() == [[True, False], [True, True]]
