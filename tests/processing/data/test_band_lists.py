import pytest

from stsun_processing.data.band_lists import read_band_lists
from stsun_processing.data.fields import DatasetError

BANDS = [
    {"name": "red", "center_nm": 665},
    {"name": "ST", "center_nm": 10895, "kind": "thermal"},
    {"name": "VH", "kind": "sar"},
]


def numbers(document, band_set=None):
    """(scale, offset, nodata) of each band, `None` where nothing is stated."""
    lists = read_band_lists({"bands": BANDS} | document, "dataset.json")
    return [(band.scale, band.offset, band.nodata) for band in lists[band_set]]


def test_one_number_holds_for_reflective_bands_alone():
    stated = numbers({"value_scale": 2.75e-5, "value_offset": -0.2, "nodata": 0})
    assert stated == [(2.75e-5, -0.2, 0), (None, None, 0), (None, None, 0)]


@pytest.mark.parametrize("scale", [[2.75e-5, 0.00341802, None], {"red": 2.75e-5, "ST": 0.00341802}])
@pytest.mark.parametrize("offset", [[-0.2, 149, None], {"red": -0.2, "ST": 149}])
def test_a_list_or_an_object_holds_band_by_band(scale, offset):
    stated = numbers({"value_scale": scale, "value_offset": offset})
    assert stated == [(2.75e-5, -0.2, None), (0.00341802, 149, None), (None, None, None)]


def test_a_record_of_a_band_overrules_the_number_of_the_data_set():
    own = [BANDS[0] | {"scale": 0.01, "nodata": -1}, BANDS[1] | {"offset": 273.15}, BANDS[2]]
    document = {"bands": own, "value_scale": 1e-4, "value_offset": -0.1, "nodata": 0}
    assert numbers(document) == [(0.01, -0.1, -1), (None, 273.15, 0), (None, None, 0)]
    red, thermal, radar = read_band_lists(document, "dataset.json")[None]
    assert red.scaling_source == "dataset.json bands[0] scale and value_offset"
    assert thermal.scaling_source == "dataset.json bands[1] offset"
    assert radar.scaling_source == ""
    assert [band.nodata_is_default for band in (red, thermal, radar)] == [False, True, True]


def test_band_sets_share_names_and_each_has_its_own_numbers():
    document = {"band_sets": {"tm": [{"name": "red", "center_nm": 660, "scale": 0.1}]}, "value_scale": {"red": 0.5}}
    with pytest.raises(DatasetError, match=r"band_sets\['tm'\]\[0\] has scale 0.1, and value_scale states 0.5.*'red'"):
        numbers(document)
    del document["band_sets"]["tm"][0]["scale"]
    assert numbers(document, "tm") == numbers(document)[:1] == [(0.5, None, None)]


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ({"value_scale": 0}, "value_scale is 0; it must be a number above 0"),
        ({"value_scale": [1, 2]}, "value_scale lists 2 numbers, bands 3 bands.*one number per band"),
        ({"value_scale": [1, 2, 0]}, r"value_scale\[2\] is 0"),
        ({"value_scale": {"blue": 1}}, "value_scale names 'blue'; the bands are ST, VH, red"),
        ({"value_offset": {"red": "x"}}, r"value_offset\['red'\] is 'x'"),
        ({"value_offset": 10**400}, "value_offset is a number of 401 digits"),
        ({"bands": [BANDS[0] | {"scale": -1}]}, r"bands\[0\]: scale is -1"),
        ({"bands": [BANDS[0] | {"offset": float("inf")}]}, r"bands\[0\]: offset is inf; it must be a finite number"),
        ({"bands": [BANDS[0] | {"nodata": "-"}]}, r"bands\[0\]: nodata is '-'"),
        ({"bands": [BANDS[0], BANDS[0]]}, r"bands\[1\]: a band before it is called 'red' too"),
        ({"bands": {}}, "bands is {}; a list"),
    ],
)
def test_errors_name_the_key_and_what_is_allowed(document, named):
    with pytest.raises(DatasetError, match=f"dataset.json: {named}"):
        numbers(document)
