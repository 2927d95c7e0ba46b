import math
from dataclasses import replace

import numpy as np
import pytest

from stsun_processing import Band
from stsun_processing.metadata import BAND_KINDS
from stsun_processing.statistics_stsun import (
    KIND_STATISTICS,
    BandStatistics,
    check_band_statistics,
    check_decibels,
    check_kind_statistics,
    check_physical_units,
    check_units,
    describe_statistics,
    match_bands,
    resolve_statistics,
    statistics_of,
)

BLUE, RED = Band("B02", 492, 66), Band("B04", 665, 31)
VV, VH = Band("VV", kind="sar", polarisation="VV"), Band("VH", kind="sar", polarisation="VH")
NDVI = Band("NDVI", kind="index")


def statistics(*bands, first=0.0):
    """Statistics of bands, told apart by their mean."""
    return tuple(BandStatistics.of(band, first + index, 1.0) for index, band in enumerate(bands))


def found(band, records):
    (record,), faults = match_bands((band,), tuple(records))
    assert (record is None) == bool(faults)
    return None if record is None else record.mean


@pytest.mark.parametrize(
    ("band", "record", "fits"),
    [
        (Band("band_1", 560), Band("green", 560), True),
        (Band("band_1", 564.9), Band("green", 560), True),
        (Band("band_1", 565.1), Band("green", 560), False),
        (Band("green", 570), Band("green", 560), False),  # one name is not one band
        (Band("green", kind="reflective"), Band("green", 560), False),
        (Band("green", 560), Band("green", kind="reflective"), False),
        (Band("T", 665, kind="thermal"), Band("T", 665, kind="reflective"), False),
        (replace(VV, name="sigma0_VV"), VV, True),
        (VH, VV, False),
        (Band("VV", kind="sar"), VV, False),
        (Band("ndvi", kind="index"), NDVI, True),
        (Band("EVI", kind="index"), NDVI, False),
        (Band("wetness", kind="index"), Band("greenness", kind="index"), False),
        (Band("slope", kind="other"), Band("aspect", kind="other"), False),
        (Band("Slope", kind="other"), Band("slope", kind="other"), True),
        (Band("nir", kind="reflective"), Band("red", kind="reflective"), False),
        (Band("height", kind="elevation"), Band("DEM", kind="elevation"), True),
    ],
)
def test_a_band_is_found_by_what_it_measured(band, record, fits):
    assert (found(band, statistics(record)) is not None) == fits


@pytest.mark.parametrize(
    ("unit", "record_unit", "fits"),
    [
        (None, None, True),
        ("reflectance", "reflectance", True),
        (None, "reflectance", True),
        ("reflectance", None, False),  # measured on numbers of unknown unit
    ],
)
def test_statistics_of_other_units_do_not_fit(unit, record_unit, fits):
    records = statistics(replace(RED, unit=record_unit))
    assert (found(replace(RED, unit=unit), records) is not None) == fits
    if not fits:
        assert "B04 (reflective, 665 nm, in reflectance), whose numbers there are in an unknown unit" in str(
            match_bands((replace(RED, unit=unit),), records)[1]
        )


def test_units_of_other_kinds_are_kept_apart():
    rain, snow = (Band("depth", kind="other", unit=unit) for unit in ("mm", "m"))
    assert found(rain, statistics(snow)) is None
    assert found(rain, statistics(snow, rain)) == 1


def test_of_several_bands_the_nearest_is_taken_and_names_break_ties():
    spectrometer = statistics(*(Band(f"X{nm}", nm) for nm in (500, 503, 506)))
    assert found(Band("X500", 504), spectrometer) == 1
    alike = statistics(Band("left", 500), Band("right", 500))
    assert found(Band("right", 500), alike) == 1
    assert found(Band("middle", 500), alike) is None
    assert "which left and right fit equally well" in str(match_bands((Band("middle", 500),), alike)[1])
    # Equally far on both sides.
    assert found(Band("right", 502), statistics(Band("left", 500), Band("right", 504))) == 1
    # One name, two sensors.
    assert found(Band("B02", 482.2), statistics(Band("B02", 492.4), Band("B02", 482))) == 1


def test_records_survive_a_round_trip():
    for band in (BLUE, replace(BLUE, unit="reflectance"), VV, NDVI, Band("rain", kind="other", unit="mm/h")):
        record = BandStatistics.of(band, 1.5, 0.5)
        checked = check_band_statistics({"mine": [record.to_dict()]})
        assert check_band_statistics(checked) == checked
        assert BandStatistics(**checked["mine"][0]) == record


def test_statistics_of_version_0_1_are_found_by_name_and_centre():
    old = {"B02": {"mean": 1.0, "std": 2.0, "center_nm": 492}, "VV": {"mean": 3.0, "std": 4.0, "center_nm": None}}
    checked = check_band_statistics({"mine": old})
    assert checked["mine"][0] == {"name": "B02", "mean": 1.0, "std": 2.0, "center_nm": 492.0}
    records = tuple(BandStatistics(**record) for record in checked["mine"])
    assert found(BLUE, records) == 1
    assert found(replace(BLUE, name="band_1", unit="reflectance"), records) == 1
    assert found(VV, records) == 3
    assert found(VH, records) is None
    assert found(RED, records) is None


NOT_FINITE = "must be a finite number"
RECORD = {"name": "B02", "kind": "reflective", "center_nm": 492, "mean": 1.0, "std": 1.0}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "band_statistics is None"),
        ([RECORD], "a list of records for each data set"),
        ({"mine": "B02"}, "of 'mine' is 'B02'"),
        ({"mine": []}, "at least one record"),
        ({"mine": {}}, "at least one record"),
        ({"mine": [3]}, "of 'mine' is 3; a record"),
        ({"mine": [{"mean": 1.0, "std": 1.0}]}, "a record with name, mean and std"),
        ({"mine": {"B02": 3}}, "of 'mine': band 'B02' is 3"),
        ({"by_kind": [RECORD]}, "Give the data set another name"),
        *(
            ({"mine": [RECORD | {"mean": mean}]}, f"'mine', band 'B02': mean is .*{NOT_FINITE}")
            for mean in (math.nan, math.inf, None, "1", True, 10**400, 1e39)
        ),
        *(
            ({"mine": [RECORD | {"std": std}]}, f"'mine', band 'B02': std is .*{NOT_FINITE} of 0 or more")
            for std in (math.nan, math.inf, None, -1e-6)
        ),
        ({"mine": [RECORD | {"kind": "optics"}]}, "'mine', band 'B02': Band 'B02' has kind 'optics'"),
        ({"mine": [RECORD | {"unit": "DN"}]}, "'mine', band 'B02'.*has unit 'DN'"),
        ({"mine": {"B02": {"mean": 1.0, "std": 1.0, "center_nm": 0.49}}}, "looks like micrometres"),
    ],
)
def test_statistics_that_cannot_be_are_refused(value, message):
    with pytest.raises(ValueError, match=message):
        check_band_statistics(value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "kind_statistics is None"),
        ({"optics": {"mean": 0.0, "std": 1.0}}, "known kinds are reflective"),
        ({"sar": 3}, "of 'sar' is 3"),
        ({"sar": {"mean": math.nan, "std": 1.0}}, f"of 'sar': mean is nan; it {NOT_FINITE}"),
        ({"sar": {"mean": 0.0}}, "of 'sar': std is None"),
    ],
)
def test_kind_statistics_that_cannot_be_are_refused(value, message):
    with pytest.raises(ValueError, match=message):
        check_kind_statistics(value)


def test_every_kind_has_statistics():
    assert set(check_kind_statistics(KIND_STATISTICS)) == set(BAND_KINDS)
    with pytest.raises(ValueError, match="hold no statistics of 'sar', only of thermal"):
        statistics_of({"thermal": {"mean": 290.0, "std": 15.0}}, {}, (VV,), None)


def setting(**data_sets):
    return {name: [BandStatistics.of(band, 0.5, 0.25).to_dict() for band in bands] for name, bands in data_sets.items()}


def test_the_only_data_set_that_fits_is_taken():
    held = setting(optical=(BLUE, RED), radar=(VV, VH))
    assert resolve_statistics(held, (RED,), None) == "optical"
    assert resolve_statistics(held, (VH, VV), None) == "radar"
    assert resolve_statistics(held, (RED,), "optical") == "optical"
    assert resolve_statistics(held, (RED,), "by_kind") is None
    assert resolve_statistics({}, (RED,), None) is None


@pytest.mark.parametrize(
    ("bands", "name", "message"),
    [
        ((RED,), "both", r"Unknown statistics 'both'; this processor holds those of optical, more, radar"),
        ((RED,), None, r"several data sets: optical, more.*statistics=.*--statistics"),
        (
            (RED, VV),
            None,
            r"fits no data set.*'optical' lack the bands VV \(sar vv\); they hold B02 492 nm, B04 665 nm\..*"
            r"statistics='by_kind' \(--statistics by_kind\)",
        ),
        ((RED, VV), "radar", r"^Statistics 'radar' lack the bands B04 \(reflective, 665 nm\); they hold VV, VH\."),
    ],
)
def test_statistics_that_do_not_fit_are_refused_and_named(bands, name, message):
    with pytest.raises(ValueError, match=message):
        resolve_statistics(setting(optical=(BLUE, RED), more=(RED,), radar=(VV, VH)), bands, name)


def test_long_lists_are_abridged():
    many = tuple(Band(f"X{nm}", nm) for nm in range(400, 2400, 10))
    held = setting(**{f"set_{number}": (BLUE,) for number in range(9)})
    with pytest.raises(ValueError, match=r"X520 \(reflective, 520 nm\) and 187 more.*6 more data sets") as raised:
        resolve_statistics(held, many, None)
    assert len(str(raised.value)) < 2500


def test_how_bands_are_normalised_is_said_in_one_line():
    held = setting(mine=(Band("blue", 482), replace(VV, name="sigma0")))
    assert describe_statistics(KIND_STATISTICS, held, (Band("band_1", 480), VV), "mine") == (
        "statistics of 'mine' (blue 482 nm, sigma0 VV)"
    )
    assert describe_statistics(KIND_STATISTICS, held, (BLUE, RED, VV), None) == (
        "by kind of band, in physical units (reflective 0.2 +- 0.15 reflectance, sar -12 +- 6 dB)"
    )


# Units

RGB = tuple(Band(name, nm) for name, nm in (("red", 635), ("green", 555), ("blue", 465)))
MEANS, STDS = np.full(3, 0.2), np.full(3, 0.15)


def scene(scale=1.0, seed=0):
    """Reflectance of land, (bands, pixels)."""
    return np.random.default_rng(seed).uniform(0.02, 0.4, (3, 500)) * scale


def test_values_far_too_large_are_refused_with_the_scale_that_fits():
    check_units(RGB, scene(), MEANS, STDS)
    with pytest.raises(ValueError, match=r"expected: it is in another unit.*scale=0.0001, --scale 0.0001"):
        check_units(RGB, scene(1e4), MEANS, STDS)
    with pytest.raises(ValueError, match=r"8-bit picture.*scale=1/255, --scale 0.00392"):
        check_units(RGB, np.round(scene(255)), MEANS, STDS)
    with pytest.raises(ValueError, match=r"scale and offset to dB"):
        check_units((VV,), np.full((1, 9), 900.0), np.array([-12.0]), np.array([6.0]))
    with pytest.raises(ValueError, match=r"scale and offset to the unit of the statistics"):
        check_units((Band("x", kind="other"),), np.full((1, 9), 900.0), np.zeros(1), np.ones(1))


@pytest.mark.parametrize("scale", [1e-4, 1 / 255, 2.75e-5])
def test_reflectance_that_was_scaled_twice_is_refused(scale):
    check_physical_units(RGB, scene())
    with pytest.raises(ValueError, match=r"red, green, blue hardly exceed.*scaled twice.*--scale 0.00392.*check_range"):
        check_physical_units(RGB, scene(scale))


def test_a_dark_picture_that_was_scaled_as_if_of_16_bits_is_refused():
    stored = np.random.default_rng(0).normal(50, 10, (3, 500)).clip(0, 255).round()
    with pytest.raises(ValueError, match="hardly exceed"):
        check_physical_units(RGB, stored * 1e-4)


# Of clear water, pi times the remote sensing reflectance: Gordon and Clark, 1981, and the bands beside theirs.
CLEAR_WATER = {443: 0.03, 490: 0.02, 520: 0.0085, 550: 0.005, 670: 0.0003, 865: 0.0001}


@pytest.mark.parametrize("centers", [(490, 550, 670), (550, 670, 865), (443, 490), (670, 865), (865,), (550,)])
def test_deep_water_is_not_refused(centers):
    bands = tuple(Band(f"X{nm}", nm) for nm in centers)
    noise = np.random.default_rng(0).normal(1, 0.1, (len(bands), 500))
    check_physical_units(bands, np.array([CLEAR_WATER[nm] for nm in centers])[:, None] * noise)


def test_a_night_with_lights_is_not_refused():
    stored = np.random.default_rng(0).integers(0, 3, (3, 500))
    stored[:, :20] = 200
    check_physical_units(RGB, stored / 255)


def test_degrees_celsius_are_no_kelvin():
    thermal = (Band("B10", 10895),)
    check_physical_units(thermal, np.full((1, 9), 165.0))
    for celsius in (-40.0, 25.0):
        with pytest.raises(ValueError, match=r"'B10' \(thermal\).*Celsius.*offset=273.15, --offset 273.15"):
            check_physical_units(thermal, np.full((1, 9), celsius))


@pytest.mark.parametrize("power", [0.0, 0.05, 0.9, 30.0])
def test_backscatter_of_unknown_unit_that_is_never_below_0_is_no_decibel(power):
    expected = np.array([-12.0]), np.array([3.0])
    values = np.full((1, 9), power)
    with pytest.raises(ValueError, match=r"'VV' \(sar\) states no unit.*power or amplitude.*--scale 1.*check_range"):
        check_decibels((VV,), values, *expected)
    # A known unit, decibel, statistics of linear numbers, and other kinds.
    check_decibels((replace(VV, unit="dB"),), values, *expected)
    check_decibels((VV,), np.append(values, [[-1.0]], axis=1), *expected)
    check_decibels((VV,), values, np.array([0.1]), np.array([0.05]))
    check_decibels((Band("DEM", kind="elevation"),), values, *expected)
