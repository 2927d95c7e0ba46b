"""Items of STAC in `open_series`: what they state together with the files that they lead to."""

import copy
import json
from datetime import datetime

import numpy as np
import pytest
import rasterio
from rasterio import Affine

from stsun_processing import RasterError, open_series, read_series
from stsun_processing.metadata import Band
from tests.processing.rasters import stac_items
from tests.processing.rasters.raster_files import RED, fact, ramp, write

# As Earth Search v1 describes Sentinel-2 L2A, cut down to what matters here (STAC 1.0, EO and raster extensions).
ITEM = {
    "type": "Feature",
    "stac_version": "1.0.0",
    "id": "S2B_33TXL_20220403_0_L2A",
    "properties": {
        **{"datetime": "2022-04-03T09:50:47.361000Z", "platform": "sentinel-2b", "instruments": ["msi"], "gsd": 10},
    },
    "links": [],
    "assets": {
        "red": {
            **{"href": "./data/B04.tif", "type": "image/tiff; application=geotiff", "roles": ["data", "reflectance"]},
            "eo:bands": [
                {"name": "red", "common_name": "red", "center_wavelength": 0.665, "full_width_half_max": 0.038}
            ],
            "raster:bands": [{"nodata": 0, "data_type": "uint16", "scale": 0.0001, "offset": -0.1}],
        },
        "nir": {
            **{"href": "./data/B08.tif", "type": "image/tiff; application=geotiff", "roles": ["data", "reflectance"]},
            "eo:bands": [
                {"name": "nir", "common_name": "nir", "center_wavelength": 0.842, "full_width_half_max": 0.145}
            ],
            "raster:bands": [{"nodata": 0, "data_type": "uint16", "scale": 0.0001, "offset": -0.1}],
        },
        "scl": {"href": "./data/SCL.tif", "type": "image/tiff; application=geotiff", "roles": ["classification"]},
        "visual": {"href": "./data/TCI.tif", "type": "image/tiff; application=geotiff", "roles": ["visual"]},
        "thumbnail": {"href": "https://example.com/preview.jpg", "type": "image/jpeg", "roles": ["thumbnail"]},
    },
}


@pytest.fixture
def item():
    return copy.deepcopy(ITEM)


@pytest.fixture
def save(tmp_path):
    (tmp_path / "data").mkdir()
    stored = np.array([[[0, 1000, 6000]]], "uint16")
    for name, shift in (("B04", 0), ("B08", 500)):
        write(tmp_path / "data" / f"{name}.tif", np.where(stored == 0, 0, stored + shift).astype("uint16"))

    def to_file(item):
        (tmp_path / "item.json").write_text(json.dumps(item))
        return tmp_path / "item.json"

    return to_file


def test_item_gives_files_bands_date_sensor_and_units(item, save):
    with open_series(save(item)) as opened:
        (acquisition,) = opened.series.acquisitions
        series = opened.read()
        sources = {f.name: f.source for f in opened.facts if f.band == 1 or f.band is None}
        assert fact(opened, "gsd_m").value == 10
    # The item's wavelengths beat the table of Sentinel-2B, whose names these are.
    assert acquisition.bands == (
        Band("B04", 665, 38, unit="reflectance"),
        Band("B08", 842, 145, unit="reflectance"),
    )
    assert acquisition.sensor == "sentinel-2b"
    assert acquisition.datetime == datetime(2022, 4, 3, 9, 50, 47, 361000)
    np.testing.assert_allclose(series.pixels[0][:, 0], [[np.nan, 0, 0.5], [np.nan, 0.05, 0.55]], atol=1e-7)
    for name in ("center_nm", "fwhm_nm", "datetime", "sensor", "scale", "nodata"):
        assert sources[name].startswith("STAC"), (name, sources[name])


def test_stac_1_1_bands_inherit_from_their_asset(item, save, tmp_path):
    write(tmp_path / "data" / "both.tif", ramp(2))
    item["stac_version"] = "1.1.0"
    item["assets"] = {
        "data": {
            **{"href": "data/both.tif", "type": "image/tiff", "nodata": 1, "raster:scale": 0.5},
            "bands": [
                {"name": "B04", "eo:common_name": "red", "eo:center_wavelength": 0.6649, "nodata": 3},
                {"name": "heat", "eo:center_wavelength": 10.895, "eo:full_width_half_max": 0.59},
            ],
        }
    }
    with open_series(save(item)) as opened:
        assert opened.series.acquisitions[0].bands == (
            Band("B04", 664.9, 31, unit="reflectance"),
            Band("heat", 10895, 590, "thermal", unit="K"),
        )
        pixels = opened.read().pixels[0]
    assert np.isnan(pixels).sum() == 1  # 3 in the first band; 1 does not occur in the second
    assert np.isnan(pixels[0, 0, 2])
    assert pixels[1, 0, 0] == 10.5


def test_item_as_a_dictionary_and_one_entry_a_date(item, save, tmp_path):
    path = save(item)
    later = copy.deepcopy(item)
    later["properties"]["datetime"] = "2023-04-03T09:50:47Z"
    later["assets"]["nir"]["href"] = "data/later.tif"
    write(tmp_path / "data" / "later.tif", ramp(1, 1, 3))
    later["links"] = [{"rel": "self", "href": str(tmp_path / "elsewhere.json")}]
    series = read_series([path, later], parts=["nir"])
    assert [[band.name for band in a.bands] for a in series.acquisitions] == [["B08"], ["B08"]]
    assert [a.datetime.year for a in series.acquisitions] == [2022, 2023]


def test_parts_name_assets_in_order(item, save, tmp_path):
    names = [band.name for band in read_series(save(item), parts=["nir", "red"]).acquisitions[0].bands]
    assert names == ["B08", "B04"]
    # What nothing describes is not guessed.
    write(tmp_path / "data" / "SCL.tif", ramp(1, 1, 3))
    with pytest.raises(RasterError, match=r"SCL\.tif: nothing says what was measured.*'scl'"):
        open_series(save(item), parts=["scl"])
    with pytest.raises(RasterError, match="names assets, variables or files"):
        open_series(tmp_path / "data" / "B04.tif", bands=[RED], parts=["red"])


def test_polarisations(item, save, tmp_path):
    write(tmp_path / "data" / "s1.tif", ramp(2))
    item["properties"] |= {"platform": "sentinel-1a", "instruments": ["c-sar"]}
    item["assets"] = {"data": {"href": "data/s1.tif", "type": "image/tiff", "sar:polarizations": ["VH", "VV"]}}
    bands = read_series(save(item)).acquisitions[0].bands
    assert [band.type for band in bands] == ["sar_vh", "sar_vv"]


def test_a_period_stands_for_its_middle(item, save):
    item["properties"] |= {
        **{"datetime": None, "start_datetime": "2022-04-01T00:00:00Z", "end_datetime": "2022-05-01T00:00:00Z"}
    }
    assert read_series(save(item)).acquisitions[0].datetime == datetime(2022, 4, 16)


def test_gsd_of_the_item_counts_only_without_a_grid(item, save, tmp_path):
    item["assets"]["red"]["gsd"] = 20
    assert read_series(save(item), parts=["red"]).gsd_m == 10  # of the file's grid
    write(tmp_path / "data" / "B04.tif", ramp(1, 1, 3), crs=None, transform=None)
    with open_series(save(item), parts=["red"]) as opened:
        assert opened.series.gsd_m == 20
        assert fact(opened, "gsd_m").source == "STAC gsd"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda path: path.update_tags(1, wavelength_nm="842"), ["two values of center_nm", "665", "842", "STAC"]),
        (lambda path: path.update_tags(TIMESTAMP="2021-04-03"), ["two dates", "2021-04-03", "STAC datetime"]),
        (lambda path: path.update_tags(SENSOR="landsat-8"), ["two sensors", "landsat-8", "sentinel-2b"]),
        (lambda path: path._set_all_scales([0.1]), ["two scales", "0.1", "0.0001", "scale=..."]),
        (lambda path: setattr(path, "nodata", 9), ["two values of nodata", "9", "STAC"]),
        (lambda path: path.set_band_description(1, "B08"), ["'B08' (description)", "'red'", "bands B08 and B04"]),
    ],
    ids=["wavelength", "date", "sensor", "scale", "nodata", "name"],
)
def test_item_and_file_must_not_contradict_each_other(item, save, tmp_path, change, words):
    with rasterio.open(tmp_path / "data" / "B04.tif", "r+") as dataset:
        change(dataset)
    with pytest.raises(RasterError) as error:
        open_series(save(item), parts=["red"])
    assert all(word in str(error.value) for word in [*words, "B04.tif"]), str(error.value)


def test_an_item_that_lists_more_bands_than_its_file_holds(item, save):
    item["assets"]["red"] |= {"eo:bands": [{}] * 2, "raster:bands": [{}] * 2}
    with pytest.raises(RasterError, match=r"lists 2 bands, but .*B04\.tif holds 1"):
        open_series(save(item), parts=["red"])


def test_a_file_that_is_missing(item, save):
    item["assets"]["red"]["href"] = "./data/B99.tif"
    with pytest.raises(RasterError, match=r"B99\.tif does not exist"):
        open_series(save(item), parts=["red"])


def test_nodata_of_the_item_is_met_in_the_file_s_own_precision(item, save, tmp_path):
    stored = np.array([[[-9999.9, 0.25, 0.5]]], "float32")  # not the double of that name
    write(tmp_path / "data" / "B04.tif", stored)
    item["assets"]["red"]["raster:bands"] = [{"nodata": -9999.9}]
    series = read_series(save(item), parts=["red"])
    assert series.valid[0].tolist() == [[False, True, True]]
    # Warped, what is missing stays so.
    target = write(tmp_path / "grid.tif", np.ones((1, 2, 6), "uint8"), transform=Affine(5, 0, 500000, 0, -5, 5000000))
    warped = read_series(save(item), parts=["red"], grid=target, resampling="nearest")
    assert warped.valid[0].tolist() == [[False, False, True, True, True, True]] * 2


@pytest.mark.parametrize(
    ("item", "bands", "values"),
    [
        (stac_items.earth_search(), 12, {"reflectance": 0.3}),
        (stac_items.planetary_computer_sentinel_2(), 12, {"reflectance": 0.2}),
        (stac_items.copernicus(), 12, {"reflectance": 0.2}),
        # USGS: 3000 x 0.0000275 - 0.2, and 3000 x 0.00341802 + 149 K.
        (stac_items.landsat(), 4, {"reflectance": -0.1175, "K": 159.25406}),
        (stac_items.sentinel_1(), 2, {None: 3000}),
    ],
    ids=["Earth Search", "Planetary Computer", "Copernicus", "Landsat", "Sentinel-1"],
)
def test_items_of_catalogues_give_physical_values(tmp_path, item, bands, values):
    for key, asset in item["assets"].items():
        asset["href"] = str(tmp_path / f"{key}.tif")
        write(asset["href"], np.full((1, 3, 3), 3000, "uint16"))
    series = read_series(item)
    read = series.acquisitions[0].bands
    assert len(read) == bands
    assert {band.unit for band in read} == set(values)
    for band, pixels in zip(read, series.pixels[0], strict=True):
        np.testing.assert_allclose(pixels, values[band.unit], rtol=1e-5)
