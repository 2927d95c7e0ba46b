import copy
import datetime as dt
import json
import os

import pytest

from stsun_processing.rasters.records import RasterError, Scaling
from stsun_processing.rasters.stac import read_item
from tests.processing.rasters import stac_items
from tests.processing.rasters.source_stub import SourceStub, values


def keys(entry):
    return [part.beside[0].key for part in entry.parts]


def stated(part, **fields):
    """What an item, and the product that it names, state about an asset of one band."""
    source = SourceStub(part.path, **fields)
    first, *others = [beside.states(source) for beside in part.beside]
    for other in others:
        first = first.joined(other)
    return first


def reflectance(part, number):
    """All statements must lead to one physical number."""
    (band,) = stated(part).bands
    assert values(band.nodata)[0] == 0
    found = {round(number * scaling.scale + scaling.offset, 9) for scaling in values(band.scaling)}
    assert len(found) == 1, band.scaling
    return found.pop()


# Items of catalogues


def test_earth_search_gives_geotiffs_of_bands():
    entry = read_item(stac_items.earth_search(), None)
    assert keys(entry) == list(stac_items.SENTINEL_2)
    by_role, undescribed, repeated = entry.notes
    assert all(name in by_role for name in ("thumbnail", "visual", "by their roles", "--parts"))
    assert all(name in undescribed for name in ("aot", "scl", "wvp", "scl-jp2"))
    assert all(name in repeated for name in ("red-jp2", "nir09-jp2"))
    red = stated(entry.parts[3])
    assert values(red.platform) == ["sentinel-2a"]
    assert values(red.instrument) == ["msi"]
    assert values(red.gsd_m) == [10]
    assert values(red.date)[0].value == dt.datetime(2023, 6, 28, 7, 24, 38, 255000)
    (band,) = red.bands
    assert values(band.names) == ["red", "red"]
    assert [quantity.value for quantity in values(band.center_nm) + values(band.fwhm_nm)] == [665, 38]


@pytest.mark.parametrize(
    ("item", "key", "value"),
    [
        # The maintainers: the flag is the truth, raster:bands lists -0.1 all the same.
        (stac_items.earth_search(applied=True), "red", 0.3),
        (stac_items.earth_search(applied=False), "red", 0.2),
        (stac_items.earth_search(applied=True, offset=0), "red", 0.3),
        # JPEG 2000 files are those of ESA, of which the GeoTIFFs are made.
        (stac_items.earth_search(applied=True), "red-jp2", 0.2),
        (stac_items.earth_search(applied=False, baseline="03.01", offset=0), "red", 0.3),
        (stac_items.planetary_computer_sentinel_2("05.10"), "B04", 0.2),
        (stac_items.planetary_computer_sentinel_2("04.00"), "B8A", 0.2),
        (stac_items.planetary_computer_sentinel_2("03.01"), "B04", 0.3),
        (stac_items.copernicus(), "B04_10m", 0.2),
    ],
)
def test_reflectance_of_sentinel_2(item, key, value):
    (part,) = read_item(item, [key]).parts
    assert reflectance(part, 3000) == pytest.approx(value)


@pytest.mark.parametrize("flag", ["earthsearch:boa_offset_applied", "sentinel:boa_offset_applied"])
def test_an_offset_that_is_applied_already_is_not_applied_again_and_the_report_says_so(flag):
    item = stac_items.earth_search(applied=False, **{"earthsearch:boa_offset_applied": False, flag: True})
    (part,) = read_item(item, ["red"]).parts
    (scaling,) = stated(part).bands[0].scaling
    assert scaling.value == Scaling(0.0001)
    assert scaling.source == f"STAC raster:bands scale; its offset -0.1 is not applied again, as {flag} is true"


def test_offsets_of_stac_1_1_are_not_applied_again_either():
    item = stac_items.copernicus()
    item["properties"]["earthsearch:boa_offset_applied"] = True
    asset = item["assets"]["B04_10m"]
    asset |= {"href": "B04.tif", "type": stac_items.GEOTIFF}
    (part,) = read_item(item, ["B04_10m"]).parts
    assert reflectance(part, 3000) == pytest.approx(0.3)
    asset["bands"][0] |= {"raster:scale": 0.0001, "raster:offset": -0.1}
    del asset["raster:scale"], asset["raster:offset"]
    assert reflectance(read_item(item, ["B04_10m"]).parts[0], 3000) == pytest.approx(0.3)


def test_harmonized_collections_hold_no_offset():
    item = stac_items.planetary_computer_sentinel_2()
    item["collection"] = "COPERNICUS/S2_SR_HARMONIZED"
    (part,) = read_item(item, ["B04"]).parts
    assert reflectance(part, 3000) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("baseline", "record"),
    [
        # An offset before the baseline that brought it, and none after it without a word why.
        ("03.01", {"scale": 0.0001, "offset": -0.1}),
        ("05.09", {"scale": 0.0001}),
    ],
)
def test_scalings_that_contradict_the_processing_baseline_are_both_stated(baseline, record):
    item = stac_items.earth_search(applied=False, baseline=baseline)
    item["assets"]["red"]["raster:bands"] = [record]
    (band,) = stated(read_item(item, ["red"]).parts[0]).bands
    assert {scaling.offset for scaling in values(band.scaling)} == {0.0, -0.1}
    assert [scaling.source for scaling in band.scaling] == [
        *("STAC raster:bands scale", f"STAC processing baseline {baseline}"),
    ]


def test_planetary_computer_leaves_layers_and_pictures_out():
    entry = read_item(stac_items.planetary_computer_sentinel_2(), None)
    assert keys(entry) == [band for band, *_ in stac_items.SENTINEL_2.values()]
    assert all(any(name in note for note in entry.notes) for name in ("AOT", "SCL", "WVP", "visual", "preview"))
    assert values(stated(entry.parts[3]).bands[0].unit) == ["reflectance"]


@pytest.mark.parametrize("roles", [["data"], []], ids=["Planetary Computer", "stactools"])
def test_landsat(roles):
    entry = read_item(stac_items.landsat(roles), None)
    assert keys(entry) == ["blue", "red", "nir08", "lwir11"]
    assert all(any(name in note for note in entry.notes) for name in ("qa_pixel", "trad", "emis"))
    red, heat = stated(entry.parts[1]), stated(entry.parts[3])
    assert values(red.instrument) == ["oli tirs"]
    assert reflectance(entry.parts[1], 18639) == pytest.approx(0.3125725)
    (band,) = heat.bands
    assert (values(band.scaling), values(band.unit)) == ([Scaling(0.00341802, 149)], ["kelvin"])
    assert values(band.center_nm)[0].value == 10900
    assert values(heat.gsd_m) == [100]


@pytest.mark.parametrize("collection", ["sentinel-1-grd", "sentinel-1-rtc"])
def test_polarisations_of_an_item_are_not_those_of_each_asset(collection):
    entry = read_item(stac_items.sentinel_1(collection), None)
    assert keys(entry) == ["vh", "vv"]
    for part, polarisation in zip(entry.parts, ("VH", "VV"), strict=True):
        (band,) = stated(part, dtype="float32").bands
        assert set(values(band.polarisation)) == {polarisation}
        assert set(values(band.kind)) == {"sar"}
        assert values(band.nodata) == ([-32768] if collection.endswith("rtc") else [])


def test_copernicus_gives_each_band_in_its_finest_resolution():
    entry = read_item(stac_items.copernicus(), None)
    assert keys(entry) == [f"{band}_{gsd}m" for band, _, _, _, gsd in stac_items.SENTINEL_2.values()]
    assert any("B04_20m" in note and "finer" in note for note in entry.notes)


def test_assets_of_the_same_bands_must_be_chosen():
    item = stac_items.landsat()
    item["assets"]["other"] = copy.deepcopy(item["assets"]["red"])
    with pytest.raises(RasterError, match=r"assets 'red' and 'other' of the same bands.*--parts"):
        read_item(item, None)


def test_without_descriptions_all_data_are_read():
    assets = {key: {"href": f"{key}.tif", "roles": ["data"]} for key in ("a", "b")}
    entry = read_item(stac_items.item({}, assets), None)
    assert keys(entry) == ["a", "b"]
    assert entry.notes == ()


# Where files are


@pytest.mark.parametrize(
    "href",
    [
        *("./a%20b.tif", "./a b.tif", "a%20b.tif", "file://{folder}/a%20b.tif", "file://localhost{folder}/a%20b.tif"),
        *("file:{folder}/a%20b.tif", "file://{folder}/a b.tif", "FILE://{folder}/a%20b.tif", "{folder}/a%20b.tif"),
        *("{folder}/a b.tif", "sub/../a%20b.tif"),
    ],
)
def test_hrefs_are_uris(tmp_path, href):
    (tmp_path / "a b.tif").touch()
    assets = {"r": {"href": href.format(folder=tmp_path), "roles": ["data"]}}
    path = tmp_path / "item.json"
    path.write_text(json.dumps(stac_items.item({}, assets)))
    for item in (
        path,
        f"file://{path}",
        stac_items.item({}, assets, links=[{"rel": "self", "href": f"file://{path}"}]),
    ):
        assert read_item(item, None).parts[0].path == str(tmp_path / "a b.tif")


@pytest.mark.parametrize("href", ["100%.tif", "a%20b.tif", "a#b.tif", "a?b.tif"])
def test_names_that_look_like_uris_are_found_if_they_are_there(tmp_path, href):
    (tmp_path / href).touch()
    for spelling in (href, f"file://{tmp_path}/{href}"):
        item = stac_items.item({}, {"r": {"href": spelling}}, links=[{"rel": "self", "href": str(tmp_path / "i.json")}])
        assert read_item(item, None).parts[0].path == str(tmp_path / href)


@pytest.mark.parametrize(
    ("href", "path"),
    [
        ("s3://bucket/a%20b.tif", "s3://bucket/a%20b.tif"),
        ("/vsicurl/https://example.com/a%20b.tif", "/vsicurl/https://example.com/a%20b.tif"),
        ("../b/a.tif", "https://example.com/b/a.tif"),
    ],
)
def test_remote_files_keep_their_names(href, path):
    links = [{"rel": "root"}, {"rel": "self", "href": "https://example.com/items/i.json"}]
    assert (
        read_item(stac_items.item({}, {"r": {"href": href, "type": "image/tiff"}}, links=links), None).parts[0].path
        == path
    )


def test_files_of_other_hosts_are_refused():
    with pytest.raises(RasterError, match=r"file of host 'server'\. Name a local file"):
        read_item(stac_items.item({}, {"r": {"href": "file://server/a.tif"}}), None)


@pytest.mark.parametrize("url", ["https://example.com/item.json", "s3://bucket/item.json"])
def test_items_of_the_web_are_fetched_by_the_caller(url):
    with pytest.raises(RasterError, match=r"read from local files and from dictionaries.*to_dict\(\)"):
        read_item(url, None)


# What cannot be used


def test_unknown_parts():
    with pytest.raises(
        RasterError, match=r"has no asset 'swir' \(parts=\[\.\.\.\], --parts\)\. Its assets are blue, red"
    ):
        read_item(stac_items.landsat(), ["swir"])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda item: item.pop("assets"), "no STAC item"),
        (lambda item: item.update(assets={"a": 3}), "no STAC item"),
        (lambda item: [asset.update(roles=["metadata"]) for asset in item["assets"].values()], r"name those.*parts="),
        (lambda item: item["assets"]["red"].pop("href"), "'red' .* has no href"),
        (lambda item: item["assets"]["red"].update(href="a\0b"), "'red' .* has no href"),
        (
            lambda item: item["assets"]["red"].update({"eo:bands": [{}] * 2}),
            "2 eo:bands and 1 raster:bands.*same length",
        ),
        (lambda item: item["assets"]["red"].update({"eo:bands": "red"}), "'eo:bands' that is no list of objects"),
    ],
)
def test_items_that_cannot_be_used(change, problem):
    item = stac_items.landsat()
    change(item)
    with pytest.raises(RasterError, match=problem):
        read_item(item, None)


def test_json_that_is_no_item(tmp_path):
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "b.json").write_text("[" * 100_000)
    (tmp_path / "d.json").write_text("[]")
    problems = {"a.json": "no JSON", "b.json": "no JSON", "c.json": "does not exist", "d.json": "no STAC item"}
    for name, problem in problems.items():
        with pytest.raises(RasterError, match=rf"{name}.*{problem}"):
            read_item(tmp_path / name, None)


def test_links_of_items_may_be_odd():
    asset = {"r": {"href": "a.tif"}}
    for links in (None, 3, ["x"], [{"rel": "self"}], [{"rel": "self", "href": None}]):
        assert read_item(stac_items.item({}, asset, links=links), None).parts[0].path == os.path.normpath("a.tif")
