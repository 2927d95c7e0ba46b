import datetime as dt

import pytest

from stsun_processing.rasters.records import RasterError, Scaling
from stsun_processing.rasters.stac_assets import asset_of
from tests.processing.rasters.source_stub import SourceStub, values


def states(fields, properties=None, names=((),), **source):
    asset = asset_of("item i", "key", "a.tif", {"href": "a.tif", **fields}, properties or {})
    return asset.states(SourceStub("a.tif", names, **source))


def band(fields, properties=None):
    (only,) = states(fields, properties).bands
    return only


def test_fields_of_stac_1_0():
    only = band(
        {
            "eo:bands": [
                {"name": "B4", "common_name": "red", "center_wavelength": 0.6649, "full_width_half_max": 0.031}
            ],
            "raster:bands": [{"unit": "%", "scale": 0.01, "offset": 1, "nodata": -1}],
        }
    )
    assert values(only.names) == ["B4", "red"]
    assert [quantity.value for quantity in values(only.center_nm)] == [pytest.approx(664.9)]
    assert [quantity.tolerance for quantity in values(only.center_nm)] == [pytest.approx(0.1)]
    assert [quantity.value for quantity in values(only.fwhm_nm)] == [31]
    assert values(only.scaling) == [Scaling(0.01, 1)]
    assert (values(only.unit), values(only.nodata)) == (["%"], [-1])
    assert only.center_nm[0].source == "STAC eo:bands center_wavelength"
    assert only.unit[0].source == "STAC raster:bands unit"


def test_bands_of_stac_1_1_inherit_from_their_asset_and_override_it():
    fields = {
        **{"nodata": 1, "unit": "reflectance", "raster:scale": 0.5, "raster:offset": 2},
        "bands": [
            {"name": "B04", "eo:common_name": "red", "eo:center_wavelength": 0.665, "nodata": 3},
            {"name": "heat", "eo:center_wavelength": 10.895, "unit": "K", "raster:scale": 0.1},
        ],
    }
    red, heat = states(fields, names=((), ())).bands
    assert (values(red.nodata), values(heat.nodata)) == ([3], [1])
    assert (values(red.unit), values(heat.unit)) == (["reflectance"], ["K"])
    assert (values(red.scaling), values(heat.scaling)) == ([Scaling(0.5, 2)], [Scaling(0.1, 2)])
    assert values(heat.center_nm)[0].value == 10895


def test_an_asset_without_a_list_states_the_same_of_all_bands():
    both = states({"raster:scale": 0.5, "nodata": 0}, names=((), ())).bands
    assert [values(one.scaling) for one in both] == [[Scaling(0.5)]] * 2
    # Its key names a single band.
    assert [values(one.names) for one in both] == [[], []]
    assert values(band({}).names) == ["key"]


def test_what_several_lists_state_is_all_kept():
    only = band({"bands": [{"eo:center_wavelength": 0.66}], "eo:bands": [{"center_wavelength": 0.7}]})
    assert [quantity.value for quantity in values(only.center_nm)] == [660, 700]


def test_items_may_list_the_alpha_band_or_leave_it_out():
    listed = [{"name": name} for name in ("red", "green", "alpha")]
    with_alpha = states({"bands": listed}, names=((), ()), total=3).bands
    without = states({"bands": listed[:2]}, names=((), ()), total=3).bands
    assert with_alpha == without
    assert [values(one.names) for one in without] == [["red"], ["green"]]


def test_bands_of_a_cube_are_listed_once_for_all_dates():
    listed = [{"name": "red"}, {"name": "nir"}]
    bands = states({"bands": listed}, names=((),) * 6, num_dates=3).bands
    assert [values(one.names) for one in bands] == [["red"], ["nir"]] * 3


def test_another_number_of_bands_is_an_error():
    with pytest.raises(RasterError, match=r"Asset 'key' of the STAC item lists 2 bands, but a\.tif holds 3"):
        states({"bands": [{}, {}]}, names=((),) * 3)


@pytest.mark.parametrize("record", [{"scale": 1, "offset": 0}, {"scale": 1.0}, {"scale": None, "offset": None}, {}])
def test_scale_1_and_offset_0_are_no_statement(record):
    assert band({"raster:bands": [record]}).scaling == ()


def test_an_offset_alone_is_a_statement():
    assert values(band({"raster:bands": [{"offset": -0.1}]}).scaling) == [Scaling(1, -0.1)]


@pytest.mark.parametrize(("nodata", "stated"), [("nan", []), ("-inf", []), (None, []), (0, [0]), ("-9999", [-9999])])
def test_nodata(nodata, stated):
    assert values(band({"raster:bands": [{"nodata": nodata}]}).nodata) == stated


@pytest.mark.parametrize(
    "record", [{"scale": "x"}, {"offset": [1]}, {"nodata": {}}, {"scale": True}, {"scale": float("inf")}]
)
def test_what_should_be_a_number_and_is_none(record):
    (field,) = record
    with pytest.raises(
        RasterError, match=rf"Asset 'key' of item i states {field} .*STAC raster:bands {field}.*no number"
    ):
        band({"raster:bands": [record]})


@pytest.mark.parametrize("record", [{"center_wavelength": 665}, {"full_width_half_max": 31}])
def test_wavelengths_in_nanometres_are_refused(record):
    with pytest.raises(RasterError, match="looks like nanometres; STAC states micrometres"):
        band({"eo:bands": [record]})


def test_names_that_only_count_are_hints():
    counted = states({"eo:bands": [{"name": f"b{number}"} for number in (1, 2)]}, names=((), ())).bands
    assert [name.weak for one in counted for name in one.names] == [True, True]
    named = states({"eo:bands": [{"name": "B2"}, {"name": "B3"}]}, names=((), ())).bands
    assert not any(name.weak for one in named for name in one.names)


# Dates and instruments


@pytest.mark.parametrize(
    ("properties", "date"),
    [
        ({"datetime": "2022-04-03T09:50:47Z"}, dt.datetime(2022, 4, 3, 9, 50, 47)),
        (
            {"datetime": None, "start_datetime": "2022-04-01", "end_datetime": "2022-05-01T00:00:00Z"},
            dt.datetime(2022, 4, 16),
        ),
        (
            {"datetime": None, "start_datetime": "2019-01-01T00:00:00Z", "end_datetime": "2019-12-31T23:59:59Z"},
            dt.datetime(2019, 7, 2, 11, 59, 59, 500000),
        ),
        # The instant that the item chose goes before the period.
        (
            {"datetime": "2022-04-03", "start_datetime": "2022-01-01", "end_datetime": "2022-12-31"},
            dt.datetime(2022, 4, 3),
        ),
    ],
)
def test_dates(properties, date):
    assert values(states({}, properties).date)[0].value == date


@pytest.mark.parametrize(
    "properties",
    [
        {"datetime": "yesterday"},
        {"start_datetime": "2022-01-01"},
        {"start_datetime": "2022-02-01", "end_datetime": "2022-01-01"},
    ],
)
def test_dates_that_cannot_be_read_are_quoted(properties):
    found = states({}, properties)
    assert found.date == ()
    assert str(next(iter(properties.values()))) in found.unread_date[0].value


def test_fields_of_an_asset_override_those_of_the_item():
    found = states(
        {"gsd": 20, "platform": "sentinel-2b"}, {"gsd": 10, "platform": "sentinel-2a", "instruments": ["oli", "tirs"]}
    )
    assert (values(found.gsd_m), values(found.platform), values(found.instrument)) == (
        [20],
        ["sentinel-2b"],
        ["oli tirs"],
    )
    assert states({}, {"gsd": -1, "instruments": "msi"}).gsd_m == ()


# Radar


@pytest.mark.parametrize(
    ("fields", "polarisations"),
    [
        ({"sar:polarizations": ["VH", "VV"]}, [["VH"], ["VV"]]),
        ({"bands": [{"sar:polarizations": ["VH"]}, {"sar:polarizations": ["VV"]}]}, [["VH"], ["VV"]]),
        ({"eo:bands": [{"name": "VH"}, {"name": "vv"}]}, [["VH"], ["VV"]]),
        # What holds for the item is not a list of its assets' bands.
        ({}, [[], []]),
    ],
)
def test_polarisations_of_bands(fields, polarisations):
    bands = states(fields, {"sar:polarizations": ["VV", "VH"]}, names=((), ())).bands
    assert [values(one.polarisation) for one in bands] == polarisations
    assert [values(one.kind) for one in bands] == [["sar"] if one else [] for one in polarisations]


@pytest.mark.parametrize(
    ("key", "title", "path", "stated"),
    [
        ("vh", None, "a.tif", ["VH"]),
        ("data", "VH: vertical transmit, horizontal receive", "a.tif", ["VH"]),
        ("data", None, "iw-vh.tiff", ["VH"]),
        ("vh", "VH", "s1a-iw-grd-vh-20230628t210705.tiff", ["VH", "VH", "VH"]),
        ("data", "VV and VH", "scene.tif", []),
    ],
)
def test_key_title_or_file_name_state_the_polarisation_of_one_band(key, title, path, stated):
    fields = {"href": path} | ({"title": title} if title else {})
    asset = asset_of("item i", key, path, fields, {"sar:polarizations": ["VV", "VH"]})
    (only,) = asset.states(SourceStub(path)).bands
    assert values(only.polarisation) == stated
    (two,) = {tuple(values(one.polarisation)) for one in asset.states(SourceStub(path, ((), ()))).bands}
    assert two == ()


def test_only_items_of_radar_have_polarisations_in_names():
    assert asset_of("item i", "vv", "vv.tif", {"href": "vv.tif"}, {}).polarisation == ()


def test_a_polarisation_that_the_item_does_not_list_is_an_error():
    with pytest.raises(RasterError, match=r"has polarisation HH \(STAC asset key 'hh'\).*lists VV, VH"):
        asset_of("item i", "hh", "a.tif", {"href": "a.tif"}, {"sar:polarizations": ["VV", "VH"]})
