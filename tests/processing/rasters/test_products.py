import datetime as dt
import math
from dataclasses import replace

import numpy as np
import pytest

from stsun_processing import read_series
from stsun_processing.rasters.products import PRODUCTS, product_named, recognise_product
from stsun_processing.rasters.records import BandStatements, RasterError, Scaling, Stated, Statements
from tests.processing.rasters.raster_files import write
from tests.processing.rasters.source_stub import SourceStub, values

LANDSAT = "LC08_L2SP_192027_20210715_20210721_02_T1"
SAFE = "S2B_MSIL2A_20230601T101031_N0509_R022_T32UMD_20230601T140000.SAFE"
BAND_FILE = "GRANULE/L2A_T32UMD_A032567_20230601T101234/IMG_DATA/R10m/T32UMD_20230601T101031_B04_10m.jp2"
NOTHING = Statements()


def physical(band, stored):
    """A stored number in the unit that the product states; NaN = missing."""
    (scaling,) = values(band.scaling)
    return math.nan if stored in values(band.nodata) else stored * scaling.scale + scaling.offset


def read(path, names=((),), **fields):
    """What the product that a path names states about a raster of that path."""
    return recognise_product(path, NOTHING).states(SourceStub(path, names, **fields))


@pytest.mark.parametrize(
    ("path", "name", "dtype", "stored", "value", "unit", "product"),
    [
        # Worked examples of the USGS page on scale factors: 18 639 is 0.313, and 44 947 is 302.6 K.
        (f"{LANDSAT}_SR_B4.TIF", "SR_B4", "uint16", 18639, 0.3125725, "reflectance", "landsat-c2-l2"),
        (f"{LANDSAT}_ST_B10.TIF", "ST_B10", "uint16", 44947, 302.629745, "K", "landsat-c2-l2"),
        (f"scenes/{LANDSAT}/B4.tif", "B4", "uint16", 18639, 0.3125725, "reflectance", "landsat-c2-l2"),
        (
            "LE07_L2SP_021030_20100109_20200911_02_T1_ST_B6.TIF",
            "ST_B6",
            "uint16",
            44947,
            302.629745,
            "K",
            "landsat-c2-l2",
        ),
        ("LC08_CU_003009_20210715_20210727_02_SR_B4.TIF", "SR_B4", "uint16", 18639, 0.3125725, "reflectance", None),
        # ESA: (DN + BOA_ADD_OFFSET) / QUANTIFICATION_VALUE, -1000 from baseline 04.00 on.
        (f"{SAFE}/{BAND_FILE}", "B04_10m", "uint16", 3000, 0.2, "reflectance", "sentinel-2-l2a"),
        (f"/vsizip/{{a.zip}}/{SAFE}/{BAND_FILE}", "B04_10m", "uint16", 3000, 0.2, "reflectance", "sentinel-2-l2a"),
        (SAFE.replace("N0509", "N0301") + "/B04.tif", "B04", "uint16", 3000, 0.3, "reflectance", "sentinel-2-l2a"),
        (SAFE.replace("N0509", "N0400") + "/B04.tif", "B04", "uint16", 3000, 0.2, "reflectance", "sentinel-2-l2a"),
        # Reprocessed archives: the baseline counts, not the date.
        (
            "S2A_MSIL1C_20160601T101031_N0500_R022_T32UMD_20230601T140000_B03.tif",
            "B03",
            "uint16",
            3000,
            0.2,
            "reflectance",
            None,
        ),
        ("HLS.S30.T32UMD.2021204T102031.v2.0.B8A.tif", "B8A", "int16", 2345, 0.2345, "reflectance", "hls-s30"),
        ("HLS.L30.T32UMD.2021204T102031.v2.0.B10.tif", "B10", "int16", 2345, 23.45, "degC", "hls-l30"),
        (
            "MOD09GA.A2021204.h18v04.061.2021206.sur_refl_b01_1.tif",
            "1",
            "int16",
            2345,
            0.2345,
            "reflectance",
            "modis-sr",
        ),
        ("MYD09A1.061_sur_refl_b07_doy2021201_aid0001.tif", "aid0001", "int16", 100, 0.01, "reflectance", "modis-sr"),
        (
            "MCD43A4.061_Nadir_Reflectance_Band2_doy2021201_aid0001.tif",
            "aid0001",
            "int16",
            100,
            0.01,
            "reflectance",
            None,
        ),
    ],
)
def test_stored_numbers_of_recognised_products(path, name, dtype, stored, value, unit, product):
    states = read(path, ((name,),), dtype=dtype)
    (band,) = states.bands
    assert physical(band, stored) == pytest.approx(value, abs=1e-6)
    assert values(band.unit) == [unit]
    if product:
        assert values(states.product) == [product]


@pytest.mark.parametrize(
    ("path", "name", "dtype", "missing"),
    [
        (f"{LANDSAT}_SR_B4.TIF", "SR_B4", "uint16", [0]),
        (f"{SAFE}/{BAND_FILE}", "B04_10m", "uint16", [0]),
        ("HLS.S30.T32UMD.2021204T102031.v2.0.B8A.tif", "B8A", "int16", [-9999]),
        ("MOD09GA.A2021204.h18v04.061.2021206.sur_refl_b01_1.tif", "1", "int16", [-28672]),
        ("MCD43A4.061_Nadir_Reflectance_Band2_doy2021201_aid0001.tif", "aid0001", "int16", [32767]),
        ("20210723_100515_12_2421_3B_AnalyticMS_SR.tif", "", "uint16", [0]),
    ],
)
def test_fill_values_of_recognised_products(path, name, dtype, missing):
    names = ((name,),) if name else ((),) * 4
    assert values(read(path, names, dtype=dtype).bands[0].nodata) == missing


@pytest.mark.parametrize(
    ("path", "sensor", "start"),
    [
        (f"{LANDSAT}_SR_B4.TIF", "landsat-8-oli-tirs", dt.datetime(2021, 7, 15)),
        ("LT05_L2SP_010020_19860219_20200918_02_T1_SR_B4.TIF", "landsat-5-tm", dt.datetime(1986, 2, 19)),
        ("LM01_L1GS_001010_19720908_20200909_02_T2_B5.TIF", "landsat-1-3-mss", dt.datetime(1972, 9, 8)),
        (f"{SAFE}/{BAND_FILE}", "sentinel-2b", dt.datetime(2023, 6, 1, 10, 10, 31)),
        ("HLS.L30.T32UMD.2021204T102031.v2.0.B04.tif", "hls-l30", dt.datetime(2021, 7, 23, 10, 20, 31)),
        ("MOD09GA.A2021204.h18v04.061.2021206.sur_refl_b01_1.tif", "modis", dt.datetime(2021, 7, 23)),
        (
            "20210723_100515_12_2421_3B_AnalyticMS_SR_8b.tif",
            "planetscope-superdove",
            dt.datetime(2021, 7, 23, 10, 5, 15),
        ),
    ],
)
def test_sensor_and_date_of_an_identifier(path, sensor, start):
    states = read(path)
    assert [one.name for one in values(states.sensor)] == [sensor]
    assert values(states.date)[0].start == start


def test_a_composite_stands_for_its_eight_days():
    (period,) = values(read("MOD09A1.A2021001.h18v04.061.2021012.hdf").date)
    assert (period.start, period.end) == (dt.datetime(2021, 1, 1), dt.datetime(2021, 1, 9))
    assert period.value == dt.datetime(2021, 1, 5)
    (last,) = values(read("MYD09Q1.A2021361.h18v04.061.2022012.hdf").date)
    assert last.end == dt.datetime(2022, 1, 1)


@pytest.mark.parametrize(
    "path",
    [
        "scene_B04.tif",
        # Planetary Computer leaves the baseline out of its identifiers, and users' products have none.
        "S2B_MSIL2A_20230601T101031_R022_T32UMD_20230601T140000/B04.tif",
        SAFE.replace("N0509", "N9999") + "/B04.tif",
        # Collection 1 has another scale.
        "LC08_L1TP_192027_20170715_20170721_01_T1_sr_band4.tif",
        "LC08_L2SP_192027_20210715_20210721_03_T1_SR_B4.TIF",
        "20210723_100515_12_2421_3B_AnalyticMS.tif",
        "QATAR_2021.tif",
    ],
)
def test_what_no_identifier_names_is_not_recognised(path):
    assert recognise_product(path, NOTHING) is None


@pytest.mark.parametrize("path", ["T32UMD_20230601T101031_B04_10m.jp2", f"downloads/{BAND_FILE}"])
def test_an_image_outside_of_its_product_has_a_fill_value_and_no_known_offset(path):
    (band,) = read(path, (("B04_10m",),)).bands
    assert band.scaling == ()
    assert values(band.nodata) == [0]


def test_identifiers_in_tags_count():
    stated = Statements(product=(Stated(SAFE, "tag PRODUCT_URI"),))
    assert recognise_product("B04.tif", stated).product.name == "sentinel-2-l2a"


@pytest.mark.parametrize(
    ("path", "name", "dtype"),
    [
        # Quality flags, and bands of other units.
        (f"{LANDSAT}_QA_PIXEL.TIF", "QA_PIXEL", "uint16"),
        (f"{LANDSAT}_SR_QA_AEROSOL.TIF", "QA_AEROSOL", "uint8"),
        (f"{LANDSAT}_ST_TRAD.TIF", "ST_TRAD", "int16"),
        ("LC08_CU_003009_20210715_20210727_02_TOA_B4.TIF", "TOA_B4", "uint16"),
        (f"{SAFE}/SCL_20m.jp2", "SCL_20m", "uint16"),
        (f"{SAFE}/AOT_20m.jp2", "AOT", "uint16"),
        ("HLS.S30.T32UMD.2021204T102031.v2.0.SAA.tif", "SAA", "int16"),
        ("MOD09GA.A2021204.h18v04.061.sur_refl_qc_500m.tif", "500m", "int16"),
        # Files that somebody processed further.
        (f"{LANDSAT}_SR_B4.TIF", "SR_B4", "float32"),
        (f"{SAFE}/ndvi.tif", "ndvi", "uint16"),
        (f"{SAFE}/MSK_B04.tif", "B04", "uint8"),
        # Each scene of Level-1 has its own factors.
        ("LC08_L1TP_192027_20210715_20210721_02_T1_B4.TIF", "B4", "uint16"),
    ],
)
def test_no_scale_where_the_product_documents_none(path, name, dtype):
    (band,) = read(path, ((name, name.split("_")[-1]),), dtype=dtype).bands
    assert band.scaling == band.nodata == band.unit == ()


def test_bands_of_one_file_have_the_scaling_of_their_kind():
    bands = read(f"{LANDSAT}.tif", (("SR_B4",), ("ST_B10",), ("QA_PIXEL",), ("B5",), ())).bands
    assert [values(band.scaling) for band in bands] == [
        *([Scaling(0.0000275, -0.2)], [Scaling(0.00341802, 149.0)], [], [Scaling(0.0000275, -0.2)], []),
    ]


def test_harmonized_bands_have_the_wavelengths_of_landsat_whatever_satellite_the_file_names():
    path = "HLS.S30.T32UMD.2021204T102031.v2.0.B04.tif"
    states = read(path, (("B04",),), dtype="int16", platform=("Sentinel-2A",))
    assert states.sensor == ()
    assert values(states.bands[0].center_nm)[0].value == 655


def test_files_of_planet_are_in_the_order_of_its_documentation():
    eight = read("20210723_100515_12_2421_3B_AnalyticMS_SR_8b.tif", ((),) * 8)
    assert [values(band.names) for band in eight.bands] == [[f"B{number}"] for number in range(1, 9)]
    four = read("20210723_100515_1025_3B_AnalyticMS_SR_harmonized_clip.tif", ((),) * 4)
    assert [values(band.names) for band in four.bands] == [["blue"], ["green"], ["red"], ["nir"]]
    assert values(four.bands[3].scaling) == [Scaling(0.0001)]
    assert four.sensor == ()


# Products that the caller names


@pytest.mark.parametrize("name", ["hls-s30", "modis-sr", "modis-nbar", "planetscope-sr"])
def test_a_named_product_scales_bands_without_names(name):
    product = PRODUCTS[name]
    states = product_named(name).states(SourceStub("stack.tif", ((),) * 3, dtype=product.dtype))
    assert [values(band.scaling) for band in states.bands] == [[Scaling(0.0001)]] * 3


def test_the_kind_chooses_among_the_scalings_of_a_named_product():
    named = product_named("Landsat-C2-L2")
    source = SourceStub("stack.tif", (("SR_B4",), ("ST_B10",), ("B5",), ("qa_pixel",)))
    by_name = [values(band.scaling) for band in named.states(source).bands]
    assert by_name == [[Scaling(0.0000275, -0.2)], [Scaling(0.00341802, 149.0)], [], []]
    preset = named.preset(source)
    by_kind = [values(preset.of_kind("Band 1", kind, "uint16").unit) for kind in ("reflective", "thermal", "other")]
    assert by_kind == [["reflectance"], ["K"], []]


def test_a_product_scales_bands_that_the_caller_names(tmp_path):
    stored = np.full((2, 3, 3), 18639, "uint16")
    for name, options in (("stack.tif", {"product": "landsat-c2-l2"}), (f"{LANDSAT}_stack.tif", {})):
        path = write(tmp_path / name, stored)
        series = read_series(path, sensor="landsat-8", bands=["B4", "B10"], **options)
        np.testing.assert_allclose(series.pixels[0][:, 0, 0], [0.3125725, 18639 * 0.00341802 + 149], rtol=1e-6)
        assert [band.unit for band in series.acquisitions[0].bands] == ["reflectance", "K"]
    path = write(tmp_path / "c.tif", stored.astype("int16"))
    with pytest.raises(RasterError, match=r"Band 2 of .*c\.tif is of kind 'thermal'.*product hls-s30"):
        read_series(path, sensor="landsat-8", bands=["B4", "B10"], product="hls-s30")


def test_the_offset_of_sentinel_2_is_asked_for_where_the_baseline_is_unknown():
    source = SourceStub("T32UMD_20230601T101031_B04_10m.tif", (("B04_10m",),))
    with pytest.raises(RasterError, match=r"depends on the processing baseline.*offset=\.\.\. \(--offset\)"):
        product_named("sentinel-2-l2a").states(source)
    states = product_named("sentinel-2-l2a", offset_given=True).states(source)
    assert values(states.bands[0].scaling) == [Scaling(0.0001)]
    assert [one.name for one in values(states.sensor)] == ["sentinel-2"]
    known = SourceStub(f"{SAFE}/{BAND_FILE}", (("B04_10m",),))
    assert values(product_named("sentinel-2-l2a").states(known).bands[0].scaling) == [Scaling(0.0001, -0.1)]


@pytest.mark.parametrize(
    ("name", "source", "problem"),
    [
        ("sentinel-2-l2b", None, r"'sentinel-2-l2b' is not known\. Did you mean .*sentinel-2-l2a.*--scale"),
        (7, None, "Product 7 is not known"),
        (
            "landsat-c2-l2",
            SourceStub(f"{SAFE}/{BAND_FILE}"),
            "is of product sentinel-2-l2a.*but landsat-c2-l2 was named",
        ),
        (
            "landsat-c2-l1",
            SourceStub("LC08_L1TP_192027_20210715_20210721_02_T1_B4.TIF"),
            r"MTL\.txt.*--scale, --offset",
        ),
        (
            "hls-l30",
            SourceStub("B04.tif", (("B04",),), dtype="float32"),
            "holds float32, but product hls-l30 comes as int16",
        ),
    ],
)
def test_named_products_that_do_not_fit(name, source, problem):
    with pytest.raises(RasterError, match=problem):
        product_named(name).states(source)


def test_a_named_product_has_no_bands_of_other_kinds():
    with pytest.raises(RasterError, match="of kind 'sar', but product hls-s30 has reflective bands"):
        product_named("hls-s30").preset(SourceStub("VV.tif", dtype="int16")).of_kind("Band 1", "sar", "int16")


def test_every_product_names_its_sources():
    for name, product in PRODUCTS.items():
        assert product.name == name
        assert product.description
        assert all(product.sources)


def test_an_unknown_band_of_a_recognised_product_states_nothing():
    assert read(f"{LANDSAT}_stack.tif", ((),)).bands == (BandStatements(),)


@pytest.mark.parametrize("options", [{}, {"band_tags": [{"kind": "sar"}], "dtype": "int16"}])
def test_a_folder_says_nothing_of_files_that_cannot_be_of_its_product(tmp_path, options):
    folder = tmp_path / LANDSAT / "derived"
    folder.mkdir(parents=True)
    stored = np.full((1, 3, 3), -12, options.pop("dtype", "float32"))
    path = write(folder / "S1_VV.tif", stored, descriptions=("VV",), **options)
    (acquisition,) = read_series(path).acquisitions
    assert (acquisition.sensor, acquisition.datetime) == (None, None)
    assert acquisition.bands[0].kind == "sar"


def test_a_folder_of_another_product_does_not_contradict_the_caller():
    source = SourceStub(f"{LANDSAT}/derived/a.tif", dtype="float32")
    assert product_named("hls-s30").preset(source).product.name == "hls-s30"
    with pytest.raises(RasterError, match=r"is of product landsat-c2-l2 .*but hls-s30 was named"):
        product_named("hls-s30").preset(replace(source, dtype="int16"))


@pytest.mark.parametrize("name", ["SR_B4", "B4", "stack"])
def test_a_folder_speaks_of_files_that_fit_its_product(name):
    states = read(f"{LANDSAT}/derived/{name}.tif", ((name,),))
    assert [one.name for one in values(states.sensor)] == ["landsat-8-oli-tirs"]
    assert values(states.date)[0].start == dt.datetime(2021, 7, 15)


def test_tags_of_a_file_go_before_folders_above_it():
    stated = Statements(product=(Stated(SAFE, "tag PRODUCT_URI"),))
    assert recognise_product(f"{LANDSAT}/B04.tif", stated).product.name == "sentinel-2-l2a"


@pytest.mark.parametrize(("nodata", "missing"), [(None, 0), (0, 0), (65535, 65535)])
def test_the_fill_value_of_a_granule_image_yields_to_that_of_a_copy(tmp_path, nodata, missing):
    stored = np.full((1, 3, 3), 2000, "uint16")
    stored[0, 0, 0], stored[0, 1, 1] = 0, 65535
    path = write(tmp_path / "T33UUP_20230101T101010_B04_10m.tif", stored, nodata=nodata)
    (valid,) = read_series(path, sensor="sentinel-2", scale=1e-4, offset=-0.1).valid
    assert valid.tolist() == (stored[0] != missing).tolist()
