import itertools
import subprocess
import sys

import pytest

from stsun_processing.metadata import Band, MetadataError
from stsun_processing.rasters.sensors import (
    SENSORS,
    band_gsd_m,
    find_sensor,
    is_counting_name,
    plain_band_name,
    sensor_bands,
    wavelength_in_name,
)

# Ranges of the common names in micrometres: README of the STAC EO extension, version 2.
STAC_RANGES_UM = {
    **{"pan": (0.40, 1.00), "coastal": (0.40, 0.45), "blue": (0.45, 0.53), "green": (0.51, 0.60)},
    **{"green05": (0.51, 0.55), "yellow": (0.58, 0.62), "red": (0.62, 0.69), "rededge": (0.69, 0.79)},
    **{"rededge071": (0.69, 0.73), "rededge075": (0.73, 0.76), "rededge078": (0.76, 0.79), "nir": (0.76, 1.00)},
    **{"nir08": (0.80, 0.90), "nir09": (0.90, 1.00), "cirrus": (1.35, 1.40), "swir16": (1.55, 1.75)},
    **{"swir22": (2.08, 2.35), "lwir": (10.40, 12.50), "lwir11": (10.50, 11.50), "lwir12": (11.50, 12.50)},
}
# Band edges in micrometres: USGS, "What are the band designations for the Landsat satellites?".
LANDSAT_8_EDGES_UM = {
    **{"B1": (0.43, 0.45), "B2": (0.45, 0.51), "B3": (0.53, 0.59), "B4": (0.64, 0.67), "B5": (0.85, 0.88)},
    **{"B6": (1.57, 1.65), "B7": (2.11, 2.29), "B8": (0.50, 0.68), "B9": (1.36, 1.38)},
    **{"B10": (10.60, 11.19), "B11": (11.50, 12.51)},
}
LANDSAT_7_EDGES_UM = {
    **{"B1": (0.45, 0.52), "B2": (0.52, 0.60), "B3": (0.63, 0.69), "B4": (0.77, 0.90), "B5": (1.55, 1.75)},
    **{"B6": (10.40, 12.50), "B7": (2.09, 2.35), "B8": (0.52, 0.90)},
}
# NASA, MODIS specifications (modis.gsfc.nasa.gov/about/specifications.php).
MODIS_EDGES_UM = {
    **{"B1": (0.620, 0.670), "B2": (0.841, 0.876), "B3": (0.459, 0.479), "B4": (0.545, 0.565)},
    **{"B5": (1.230, 1.250), "B6": (1.628, 1.652), "B7": (2.105, 2.155)},
}
# USGS, as above: Multispectral Scanner.
MSS_EDGES_UM = ((0.5, 0.6), (0.6, 0.7), (0.7, 0.8), (0.8, 1.1))
# LP DAAC, product page of AST_L1B.
ASTER_EDGES_UM = {
    **{"B1": (0.52, 0.60), "B2": (0.63, 0.69), "B3N": (0.78, 0.86), "B4": (1.600, 1.700), "B5": (2.145, 2.185)},
    **{"B6": (2.185, 2.225), "B7": (2.235, 2.285), "B8": (2.295, 2.365), "B9": (2.360, 2.430)},
    **{"B10": (8.125, 8.475), "B11": (8.475, 8.825), "B12": (8.925, 9.275), "B13": (10.25, 10.95)},
    "B14": (10.95, 11.65),
}
# International Charter, WorldView-3.
WORLDVIEW_SWIR_EDGES_UM = (
    *((1.195, 1.225), (1.550, 1.590), (1.640, 1.680), (1.710, 1.750)),
    *((2.145, 2.185), (2.185, 2.225), (2.235, 2.285), (2.295, 2.365)),
)
# Planet, specifications of PlanetScope (PS2, PS2.SD), SkySat and RapidEye.
PLANET_EDGES_UM = {
    "planetscope-dove": ((0.455, 0.515), (0.500, 0.590), (0.590, 0.670), (0.780, 0.860)),
    "planetscope-dove-r": ((0.464, 0.517), (0.547, 0.585), (0.650, 0.682), (0.846, 0.888)),
    "rapideye": ((0.440, 0.510), (0.520, 0.590), (0.630, 0.685), (0.690, 0.730), (0.760, 0.850)),
}
# DJI, specifications of the P4 Multispectral and the Mavic 3M: centre and half of the width in nanometres.
DJI_NM = {
    "drone-p4m": {"B": (450, 16), "G": (560, 16), "R": (650, 16), "RE": (730, 16), "NIR": (840, 26)},
    "drone-mavic-3m": {"G": (560, 16), "R": (650, 16), "RE": (730, 16), "NIR": (860, 26)},
}
WITH_BANDS = [name for name, sensor in SENSORS.items() if sensor.bands]


@pytest.mark.parametrize(
    ("sensor", "edges_um"),
    [
        ("landsat-8-oli-tirs", LANDSAT_8_EDGES_UM),
        ("landsat-9-oli2-tirs2", LANDSAT_8_EDGES_UM),
        ("landsat-7-etm", LANDSAT_7_EDGES_UM),
        ("modis", MODIS_EDGES_UM),
        ("landsat-1-3-mss", {f"B{number}": edges for number, edges in enumerate(MSS_EDGES_UM, start=4)}),
        ("landsat-4-5-mss", {f"B{number}": edges for number, edges in enumerate(MSS_EDGES_UM, start=1)}),
        ("aster", ASTER_EDGES_UM),
        ("worldview-3-swir", {f"SWIR{number}": edges for number, edges in enumerate(WORLDVIEW_SWIR_EDGES_UM, start=1)}),
        *(
            (name, {f"B{number}": edges for number, edges in enumerate(listed, start=1)})
            for name, listed in PLANET_EDGES_UM.items()
        ),
        *(
            (name, {band: ((center - half) / 1000, (center + half) / 1000) for band, (center, half) in listed.items()})
            for name, listed in DJI_NM.items()
        ),
    ],
)
def test_sensors_have_the_published_edges(sensor, edges_um):
    bands = sensor_bands(sensor)
    assert {band.name for band in bands} == set(edges_um)
    for band in bands:
        low, high = (1000 * edge for edge in edges_um[band.name])
        assert band.center_nm == pytest.approx((low + high) / 2)
        assert band.fwhm_nm == pytest.approx(high - low)


@pytest.mark.parametrize(
    ("name", "center_nm", "fwhm_nm", "gsd_m"),
    # ESA, Sentinel-2 Spectral Response Functions, COPE-GSEG-EOPG-TN-15-0007 v3.0, Sentinel-2A.
    [("B02", 492.4, 66, 10), ("B04", 664.6, 31, 10), ("B8A", 864.7, 21, 20), ("B12", 2202.4, 175, 20)],
)
def test_sentinel_2a_has_the_published_response(name, center_nm, fwhm_nm, gsd_m):
    (band,) = sensor_bands("sentinel-2a", [name])
    assert (band.center_nm, band.fwhm_nm, band_gsd_m("sentinel-2a", name)) == (center_nm, fwhm_nm, gsd_m)


@pytest.mark.parametrize(
    ("sensor", "name", "center_nm", "fwhm_nm", "gsd_m"),
    [
        # ESA, user guides of Sentinel-3 OLCI and SLSTR.
        *(("olci", "Oa01", 400, 15, 300), ("olci", "Oa08", 665, 10, 300), ("olci", "Oa14", 764.375, 3.75, 300)),
        *(("olci", "Oa21", 1020, 40, 300), ("slstr", "S1", 554.27, 19.26, 500), ("slstr", "S8", 10854, 776, 1000)),
        # JPSS VIIRS specification.
        *(("viirs", "I1", 640, 80, 375), ("viirs", "M3", 488, 20, 750), ("viirs", "M16", 12013, 950, 750)),
        # MicaSense, "What is the center wavelength and bandwidth of each filter?"
        *(("rededge-mx", "Blue", 475, 32, None), ("rededge-mx", "Red edge", 717, 12, None)),
        *(("rededge-mx-dual", "Green-531", 531, 14, None), ("rededge-mx-dual", "Red edge-740", 740, 18, None)),
        *(("altum", "NIR", 842, 57, None), ("altum", "LWIR", 11000, 6000, None)),
    ],
)
def test_bands_have_the_published_centres_and_widths(sensor, name, center_nm, fwhm_nm, gsd_m):
    (band,) = sensor_bands(sensor, [name])
    assert (band.center_nm, band.fwhm_nm, band_gsd_m(sensor, name)) == (center_nm, fwhm_nm, gsd_m)


@pytest.mark.parametrize("name", WITH_BANDS)
def test_centres_lie_where_their_common_names_say(name):
    for record in SENSORS[name].bands:
        if record.common_name and record.band.center_nm is not None:
            low, high = STAC_RANGES_UM[record.common_name]
            assert 1000 * low <= record.band.center_nm <= 1000 * high, record
        thermal = (record.band.center_nm or 0) > 3000
        assert (record.band.kind == "thermal") == thermal, record


def test_radar_and_elevation_have_no_wavelength():
    for name in ("sentinel-1", "alos-palsar", "dem"):
        assert all(band.center_nm is None and band.fwhm_nm is None for band in sensor_bands(name))
    assert [band.polarisation for band in sensor_bands("sentinel-1")] == ["VV", "VH", "HH", "HV"]
    assert {band.type for band in sensor_bands("alos-palsar")} == {"sar_hh", "sar_hv", "sar_vv", "sar_vh"}


def test_what_is_not_published_stays_unknown():
    known = {band.name for band in sensor_bands("sentinel-2c") if band.center_nm is not None}
    assert known == {"B01"}
    assert all(band.fwhm_nm is None for band in sensor_bands("naip"))
    assert SENSORS["aerial-rgb"].gsd_m is None
    assert band_gsd_m("aerial-rgb", "R") is None


def test_every_sensor_names_its_sources():
    for name, sensor in SENSORS.items():
        assert sensor.name == name
        assert sensor.description
        assert all(sensor.sources), name
        names = [record.band.name for record in sensor.bands]
        assert len(names) == len(set(names)), name


def test_imaging_spectrometers_number_their_bands():
    bands = sensor_bands("enmap")
    assert [bands[0].name, bands[-1].name, len(bands)] == ["B001", "B224", 224]
    assert all(earlier.center_nm < later.center_nm for earlier, later in itertools.pairwise(bands))
    assert all(5 < band.fwhm_nm < 12 for band in bands)
    assert {band.fwhm_nm for band in sensor_bands("hyperion")} == {None}
    assert find_sensor("enmap").gsd_m == 30


@pytest.mark.parametrize("name", ["prisma", "aviris-classic", "neon-aop", "emit"])
def test_bands_that_differ_between_products_must_come_from_the_product(name):
    assert SENSORS[name].bands == ()
    for ask in (sensor_bands, lambda sensor: sensor_bands(sensor, ["B1"]), lambda sensor: band_gsd_m(sensor, "B1")):
        with pytest.raises(MetadataError, match=rf"(?s){name}.*product"):
            ask(name)


def test_no_alias_means_two_sensors():
    keys = {}
    for sensor in SENSORS.values():
        for alias in (sensor.name, *sensor.aliases):
            assert find_sensor(alias) is sensor
            key = "".join(character for character in alias.lower() if character.isalnum())
            assert keys.setdefault(key, sensor.name) == sensor.name, alias


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        *(("s2", "sentinel-2"), ("Sentinel2", "sentinel-2"), ("S2A", "sentinel-2a"), ("SENTINEL-2B", "sentinel-2b")),
        *(("landsat8", "landsat-8-oli-tirs"), ("LANDSAT_8", "landsat-8-oli-tirs"), ("L8", "landsat-8-oli-tirs")),
        *(("LC08", "landsat-8-oli-tirs"), ("oli", "landsat-8-oli-tirs"), ("Landsat 8 OLI/TIRS", "landsat-8-oli-tirs")),
        *(("Landsat 7 ETM+", "landsat-7-etm"), ("etm", "landsat-7-etm"), ("tm5", "landsat-5-tm")),
        *(("superdove", "planetscope-superdove"), ("wv3", "worldview-3"), ("gf2", "gaofen-2-pms")),
        *(("Sentinel-1A", "sentinel-1"), ("C-SAR", "sentinel-1"), ("LANDSAT_5 MSS", "landsat-4-5-mss")),
        *(("LANDSAT_5 TM", "landsat-5-tm"), ("Sentinel-3A OLCI", "sentinel-3-olci"), ("PS2.SD", "planetscope-dove-r")),
        *(("Altum-PT", "micasense-altum-pt"), ("M3M", "drone-mavic-3m"), ("WV3 SWIR", "worldview-3-swir")),
        *(("s1", "sentinel-1"), ("rgb", "aerial-rgb"), ("Aerial RGB", "aerial-rgb")),
    ],
)
def test_names_that_people_use(alias, name):
    assert find_sensor(alias).name == name


@pytest.mark.parametrize("name", ["gf1", "planetscope", "pleiades", "landsat", "sentinel", "sentinel-3", "micasense"])
def test_names_of_several_sensors_are_not_resolved(name):
    with pytest.raises(MetadataError, match=f"'{name}'"):
        find_sensor(name)


def test_unknown_sensor_names_close_and_known_ones():
    with pytest.raises(MetadataError) as error:
        find_sensor("sentinel-2d")
    message = str(error.value)
    assert "'sentinel-2d'" in message
    assert "Did you mean sentinel-2" in message
    assert all(name in message for name in SENSORS)
    with pytest.raises(MetadataError, match="Sensor 7 is not known"):
        find_sensor(7)


@pytest.mark.parametrize(
    ("sensor", "spellings", "name"),
    [
        ("s2", ["B04", "B4", "b4", "b04", "SR_B4", "SR_B04", "Band 4", "band_04", "B4_10m", "B04_red", "red"], "B04"),
        ("s2", ["B4, central wavelength 665 nm", "B04 (Red)", "B04 (665 Nanometers)", "TOA_B4", "RED"], "B04"),
        ("s2", ["B8A", "b8a", "B8A_20m", "nir08", "SR_B8A"], "B8A"),
        ("s2", ["nir", "B8", "B08"], "B08"),
        ("s2", ["B05", "B5_rededge"], "B05"),
        ("l8", ["B2", "SR_B2", "blue"], "B2"),
        ("l8", ["ST_B10", "lwir11"], "B10"),
        ("l8", ["nir", "nir08"], "B5"),
        ("modis", ["sur_refl_b01", "B01", "red"], "B1"),
        ("superdove", ["rededge"], "B7"),
        ("superdove", ["green"], "B4"),
        ("pneo", ["B", "b", "blue"], "B"),
        ("enmap", ["B010", "B10", "Band 10"], "B010"),
        ("s1", ["VV", "vv"], "VV"),
    ],
)
def test_spellings_meet(sensor, spellings, name):
    for spelling in spellings:
        assert [band.name for band in sensor_bands(sensor, [spelling])] == [name], spelling


@pytest.mark.parametrize("name", WITH_BANDS)
def test_canonical_and_common_names_lead_to_one_band(name):
    for record in SENSORS[name].bands:
        assert sensor_bands(name, [record.band.name]) == (record.band,)
        if record.common_name:
            assert sensor_bands(name, [record.common_name]) == (record.band,)


def test_names_keep_their_order_and_drop_nothing():
    names = ["swir16", "B02", "red", "B02"]
    assert [band.name for band in sensor_bands("s2", names)] == ["B11", "B02", "B04", "B02"]
    assert sensor_bands("s2", []) == ()
    assert len(sensor_bands("s2")) == 13
    assert all(isinstance(band, Band) for band in sensor_bands(find_sensor("s2")))


@pytest.mark.parametrize("name", ["B99", "B2_B3", "B4_nir", "red_edge_mask", "B4_cloudmask", "4", "", "NDVI", 4])
def test_unknown_band_is_refused_by_name(name):
    with pytest.raises(MetadataError) as error:
        sensor_bands("s2", ["B02", name])
    message = str(error.value)
    assert repr(name) in message
    assert "sentinel-2" in message
    assert all(band.name in message for band in sensor_bands("s2"))


@pytest.mark.parametrize(
    ("sensor", "name", "bands"), [("s2", "rededge", ["B05", "B06", "B07"]), ("landsat9", "lwir", ["B10", "B11"])]
)
def test_ambiguous_common_name_names_all_its_bands(sensor, name, bands):
    with pytest.raises(MetadataError, match=f"{name!r} may mean {' and '.join(bands)} of"):
        sensor_bands(sensor, [name])


def test_one_text_is_not_a_sequence_of_names():
    with pytest.raises(MetadataError, match=r"\['B02'\]"):
        sensor_bands("s2", "B02")


def test_long_lists_of_names_are_abridged():
    with pytest.raises(MetadataError, match="B001 to B224") as error:
        sensor_bands("enmap", ["B999"])
    assert len(str(error.value)) < 200


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("B4, central wavelength 665 nm", "B4"),
        ("AVIRIS_001 (400.02 Nanometers)", "AVIRIS_001"),
        ("B4", "B4"),
        ("400.02 Nanometers", "400.02 Nanometers"),
        ("Band 01: 444.000000 Nanometers", "Band 01"),
    ],
)
def test_wavelength_in_a_description_is_no_part_of_the_name(text, name):
    assert plain_band_name(text) == name


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        ("444.000000 Nanometers", ("444.000000", "Nanometers")),
        ("Band 01: 444.000000 Nanometers", ("444.000000", "Nanometers")),
        ("B4 (665 Nanometers)", ("665", "Nanometers")),
        ("B4, central wavelength 665 nm", ("665", "nm")),
        ("band 1 (0.4184 Micrometers)", ("0.4184", "Micrometers")),
        ("red_665nm", ("665", "nm")),
        ("10.9 µm", ("10.9", "µm")),
        # No wavelength, or more than one number that may be it.
        *((text, None) for text in ("B4", "B4_10m", "665", "NDVI", "5 m", "v1.5nm", "665 nm, 30 nm wide", "")),
    ],
)
def test_wavelengths_that_descriptions_state(text, stated):
    assert wavelength_in_name(text) == stated


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(("Band 1", 1), ("band_2", 2), ("Band3", 3), ("b4", 4), ("B5", 5), ("6", 6), ("Layer_7", 7), ("layer 8", 8)),
        *(("Band 09", 9), ("Channel 10", 10), ("Band 1 (444 Nanometers)", 1)),
        # How sensors call their bands, and names that say something.
        *((name, None) for name in ("B01", "B8A", "SR_B4", "red", "Band 1 red", "0", "01", "Band", "b", "1.5", "")),
    ],
)
def test_names_that_only_count(text, number):
    assert is_counting_name(text) == number


def test_table_needs_no_geo_stack():
    code = (
        "import sys, stsun_processing.rasters.sensors\n"
        "assert not {'rasterio', 'yaml', 'torch', 'transformers'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
