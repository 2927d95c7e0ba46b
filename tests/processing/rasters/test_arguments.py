"""Arguments for all dates or per date, and bands given as text."""

import pytest

from stsun_processing.metadata import Band
from stsun_processing.rasters.arguments import Given, bands_given, given_per_date, numbers_per_band
from stsun_processing.rasters.records import RasterError
from stsun_processing.rasters.sensors import find_sensor

NOTHING = {"bands": None, "sensor": None, "scale": None, "offset": None, "nodata": None, "dates": None, "gsd_m": None}


def given(count=1, **arguments):
    return given_per_date(count, **(NOTHING | arguments))


def test_bands_as_text():
    (one,) = given(bands=["green:560:36", "heat:10895", Band("x", 700)])
    bands = bands_given(one, [True] * 3, "a.tif", "")
    assert [band for band, _ in bands] == [Band("green", 560, 36), Band("heat", 10895, kind="thermal"), Band("x", 700)]
    assert {source for _, source in bands} == {"argument bands"}


def test_names_of_a_sensor():
    (one,) = given(bands=["red", "nir"], sensor="s2a")
    bands = bands_given(one, [True, True], "a.tif", "")
    assert [band.name for band, _ in bands] == ["B04", "B08"]
    assert bands[0][1] == "argument bands, table of sentinel-2a"


@pytest.mark.parametrize("text", ["green:", ":560", "green:560:36:1", "green:wide", "green:0.56", "red"])
def test_texts_that_mean_nothing(text):
    (one,) = given(bands=[text])
    with pytest.raises(RasterError) as error:
        bands_given(one, [True], "a.tif", "")
    assert text in str(error.value)


@pytest.mark.parametrize("what", ["scale", "offset", "nodata"])
def test_numbers_for_all_for_each_band_and_for_each_date(what):
    def numbers(one, count):
        return [getattr(number, what) for number in numbers_per_band(one, [True] * count, "a.tif", "none")]

    (one,) = given(**{what: 3})
    assert numbers(one, 2) == [3, 3]
    (one,) = given(**{what: [3, 4]})
    assert numbers(one, 2) == [3, 4]
    one, two = given(2, **{what: [[3], [4, 5]]})
    assert (numbers(one, 1), numbers(two, 2)) == ([3], [4, 5])
    one, two = given(2, **{what: [None, 4]}) if what == "scale" else given(2, **{what: [[None], [4]]})
    assert numbers(one, 1) == [None]
    with pytest.raises(RasterError, match=f"3 values of {what} were given, but a.tif holds 2 bands"):
        numbers_per_band(given(**{what: [1, 2, 3]})[0], [True, True], "a.tif", "none")


def test_numbers_for_all_bands_of_a_file_whose_bad_ones_are_left_out():
    (one,) = given(scale=[1, 2, 3])
    numbers = numbers_per_band(one, [True, False, True], "a.tif", "none")
    assert [number.scale for number in numbers] == [1, 3]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"scale": 0}, "other than 0"),
        ({"scale": float("nan")}, "scale must be a finite number"),
        ({"offset": float("inf")}, "offset must be a finite number"),
        ({"nodata": True}, "nodata must be a number"),
        ({"scale": [True]}, "scale must be a finite number"),
    ],
)
def test_numbers_that_are_none(arguments, words):
    with pytest.raises(RasterError, match=words):
        numbers_per_band(given(**arguments)[0], [True], "a.tif", "none")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"bands": "red"}, "bands must be a sequence"),
        ({"bands": [[1]]}, "bands must hold Band records or names"),
        ({"scale": "2"}, "scale must be a sequence"),
        ({"offset": [[1], [2]]}, "offset holds 2 entries for 1 dates"),
        ({"dates": ["2020", "2021"]}, "one date for each of the 1 dates"),
        ({"sensor": 5}, "sensor must be a sequence"),
    ],
)
def test_arguments_of_another_form(arguments, words):
    with pytest.raises(RasterError, match=words):
        given(**arguments)


def test_sensors_per_date():
    one, two = given(2, sensor=[None, "s2"])
    assert one.sensor is None
    assert two.sensor is find_sensor("s2")
    assert isinstance(one, Given)
