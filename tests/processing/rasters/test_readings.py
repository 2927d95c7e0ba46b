"""What a checkpoint knows of the files that it was tuned on."""

import numpy as np
import pytest
import rasterio

from stsun_processing.metadata import Band
from stsun_processing.rasters.records import RasterError
from stsun_processing.rasters.series import open_series
from tests.processing.rasters.raster_files import fact, ramp, write

BANDS = (Band("green", 560, 36), Band("nir", 833, 106))
READING = {
    "bands": [band.to_dict() for band in BANDS],
    "dtype": "uint16",
    "scale": [1e-4, 1e-4],
    "offset": [-0.1, -0.1],
    "nodata": [0, 0],
    "gsd_m": 3.0,
}
NO_GRID = {"crs": None, "transform": None}


def test_a_file_that_says_nothing_is_read_as_in_training(tmp_path):
    array = ramp(2)
    array[0, 0, 0] = 0
    path = write(tmp_path / "a.tif", array, **NO_GRID)
    with open_series(path, readings={"ponds": [READING]}) as opened:
        acquisition = opened.series.acquisitions[0]
        assert [(band.name, band.center_nm, band.unit) for band in acquisition.bands] == [
            ("green", 560, "reflectance"),
            ("nir", 833, "reflectance"),
        ]
        assert acquisition.gsd_m == 3
        pixels = opened.read().pixels[0]
        sources = {fact(opened, name, 1).source for name in ("name", "center_nm", "scale", "nodata")}
        assert sources == {"checkpoint, as data set 'ponds' was read"}
        assert fact(opened, "gsd_m").source == "checkpoint, as data set 'ponds' was read"
    np.testing.assert_allclose(pixels, np.where(array == 0, np.nan, array * 1e-4 - 0.1), atol=1e-6)


def test_what_a_file_states_itself_holds(tmp_path):
    tags = [{"wavelength_nm": "560"}, {"wavelength_nm": "833"}]
    path = write(tmp_path / "a.tif", ramp(2), band_tags=tags, nodata=7)
    with open_series(path, readings={"ponds": [READING]}) as opened:
        assert fact(opened, "center_nm", 1).source == "tag wavelength_nm"
        assert (fact(opened, "nodata", 1).value, fact(opened, "scale", 1).value) == (7, 1e-4)
        assert opened.series.gsd_m == 10
    with open_series(path, scale=2, readings={"ponds": [READING]}) as opened:
        assert (fact(opened, "scale", 1).value, fact(opened, "scale", 1).source) == (2, "argument scale")


@pytest.mark.parametrize(
    ("array", "tags"),
    [
        (ramp(3), ()),
        (ramp(2, dtype="float32"), ()),
        (ramp(2), [{"wavelength_nm": "560"}, {"wavelength_nm": "1610"}]),
        (ramp(2), [{"kind": "elevation"}, {"kind": "elevation"}]),
    ],
)
def test_other_files_are_not_read_so(tmp_path, array, tags):
    path = write(tmp_path / "a.tif", array, band_tags=tags)
    if not tags:
        with pytest.raises(RasterError, match="nothing says"):
            open_series(path, readings={"ponds": [READING]})
        return
    with open_series(path, readings={"ponds": [READING]}) as opened:
        assert fact(opened, "scale", 1).value is None
        assert not any("checkpoint" in item.source for item in opened.facts)


def test_several_readings_must_mean_the_same(tmp_path):
    path = write(tmp_path / "a.tif", ramp(2), **NO_GRID)
    other = {**READING, "scale": [1e-3, 1e-3]}
    with open_series(path, readings={"ponds": [READING], "lakes": [READING]}) as opened:
        assert "'ponds'" in fact(opened, "scale", 1).source
    with pytest.raises(RasterError, match=r"what the bands are.*ponds, lakes.*--statistics"):
        open_series(path, readings={"ponds": [READING], "lakes": [other]})
    tags = [{"wavelength_nm": "560"}, {"wavelength_nm": "833"}]
    tagged = write(tmp_path / "b.tif", ramp(2), band_tags=tags)
    with pytest.raises(RasterError, match=r"how its numbers are scaled.*ponds, lakes"):
        open_series(tagged, readings={"ponds": [READING], "lakes": [other]})


def test_a_picture_is_read_as_in_training_not_by_its_colours(tmp_path):
    bands = [Band("red", 650).to_dict(), Band("green", 550).to_dict(), Band("blue", 450).to_dict()]
    reading = {"bands": bands, "dtype": "uint8", "scale": None, "offset": None, "nodata": None, "gsd_m": None}
    array = ramp(3, dtype="uint8")
    path = write(tmp_path / "a.tif", array, photometric="RGB", **NO_GRID)
    with open_series(path, readings={"roofs": [reading]}) as opened:
        assert [band.center_nm for band in opened.series.acquisitions[0].bands] == [650, 550, 450]
        np.testing.assert_array_equal(opened.read().pixels[0], array)


def test_lists_of_another_length_are_refused(tmp_path):
    path = write(tmp_path / "a.tif", ramp(2))
    with pytest.raises(RasterError, match="1 values of scale for 2 bands"):
        open_series(path, readings={"ponds": [{**READING, "scale": [1.0]}]})


def _stated(path, **attributes):
    """The file, with units, scales or offsets."""
    with rasterio.open(path, "r+") as dataset:
        for name, values in attributes.items():
            setattr(dataset, name, values)
    return path


def _names_of(opened):
    return [band.name for band in opened.series.acquisitions[0].bands]


def test_files_in_another_order_are_not_read_so(tmp_path):
    path = write(tmp_path / "a.tif", ramp(2), descriptions=["nir", "green"])
    with pytest.raises(RasterError, match="nothing says what was measured"):
        open_series(path, readings={"ponds": [READING]})
    path = write(tmp_path / "b.tif", ramp(2), descriptions=["green", "nir"])
    with open_series(path, readings={"ponds": [READING]}) as opened:
        assert _names_of(opened) == ["green", "nir"]


def test_bands_that_only_names_tell_apart_are_not_swapped(tmp_path):
    bands = [Band("slope", kind="other"), Band("aspect", kind="other")]
    reading = {**READING, "bands": [band.to_dict() for band in bands], "scale": [0.1, 1.0]}
    tags = [{"kind": "other"}] * 2
    for names, scale in ((["slope", "aspect"], 0.1), (["aspect", "slope"], None)):
        path = write(tmp_path / "a.tif", ramp(2), descriptions=names, band_tags=tags)
        with open_series(path, readings={"ponds": [reading]}) as opened:
            assert fact(opened, "scale", 1).value == scale


def test_a_width_that_only_the_checkpoint_knows_is_the_same_as_in_training(tmp_path):
    tags = [{"wavelength_nm": "560"}, {"wavelength_nm": "833"}]
    path = write(tmp_path / "a.tif", ramp(2), band_tags=tags)
    with open_series(path, readings={"ponds": [READING]}) as opened:
        assert [band.fwhm_nm for band in opened.series.acquisitions[0].bands] == [36, 106]
        assert fact(opened, "fwhm_nm", 1).source == "checkpoint, as data set 'ponds' was read"


def test_numbers_that_have_a_unit_are_not_scaled_as_in_training(tmp_path):
    reading = {**READING, "dtype": "float32"}
    tags = [{"wavelength_nm": "560"}, {"wavelength_nm": "833"}]
    path = _stated(write(tmp_path / "a.tif", ramp(2, dtype="float32"), band_tags=tags), units=["reflectance"] * 2)
    with pytest.raises(RasterError, match=r"float32 in 'reflectance' .* 0\.0001 .*data set 'ponds'.*--scale"):
        open_series(path, readings={"ponds": [reading]})
    with open_series(path, readings={"ponds": [reading]}, scale=1) as opened:
        assert fact(opened, "scale", 1).value == 1


def test_each_band_has_its_own_type(tmp_path):
    reading = {**READING, "dtype": ["uint8", "uint16"]}
    paths = [write(tmp_path / f"{kind}.tif", ramp(1, dtype=kind)) for kind in ("uint8", "uint16")]
    with open_series([paths], readings={"ponds": [reading]}) as opened:
        assert _names_of(opened) == ["green", "nir"]
    with pytest.raises(RasterError, match="nothing says what was measured"):
        open_series([paths[::-1]], readings={"ponds": [reading]})


def test_what_the_caller_leaves_open_stays_as_in_training(tmp_path):
    path = write(tmp_path / "a.tif", ramp(2))
    for given, expected in (({"offset": 0.5}, (1e-4, 0.5)), ({"scale": 1e-4}, (1e-4, -0.1)), ({"scale": 2}, (2, 0))):
        with open_series(path, readings={"ponds": [READING]}, **given) as opened:
            scaling = opened.layers[0][0].channels[0].scaling
            assert (scaling.scale, scaling.offset) == expected


def test_files_that_say_all_need_no_choice_among_readings(tmp_path):
    tags = [{"wavelength_nm": "560"}, {"wavelength_nm": "833"}]
    path = _stated(write(tmp_path / "a.tif", ramp(2), band_tags=tags, nodata=0), scales=[1e-4] * 2, offsets=[-0.1] * 2)
    other = {**READING, "scale": [1, 1]}
    with open_series(path, readings={"ponds": [READING], "lakes": [other]}) as opened:
        assert fact(opened, "scale", 1).value == 1e-4
    path = write(tmp_path / "b.tif", ramp(2), band_tags=tags)
    with pytest.raises(RasterError, match=r"several kinds of files .* ponds, lakes"):
        open_series(path, readings={"ponds": [READING], "lakes": [other]})


def test_a_quality_mask_is_not_the_band_that_is_left(tmp_path):
    names = ["B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12"]
    path = write(tmp_path / "a.tif", ramp(13), descriptions=[*names, "QA60"])
    with pytest.raises(RasterError, match=r"Band 13 of .*QA60"):
        open_series(path, sensor="sentinel-2")


@pytest.mark.parametrize("names", [("nir", "red", "green"), ("NDVI", "NDWI", "NDBI"), ("SWIR1", "NIR", "Red")])
def test_what_bands_are_called_goes_before_the_colours_they_are_shown_in(tmp_path, names):
    array = ramp(3, dtype="uint8")
    with pytest.raises(RasterError, match="nothing says what was measured"):
        open_series(write(tmp_path / "a.tif", array, descriptions=names, photometric="RGB"))
    with open_series(write(tmp_path / "b.tif", array, descriptions=("red", "Green", "B"), photometric="RGB")) as opened:
        assert [band.center_nm for band in opened.series.acquisitions[0].bands] == [635, 555, 465]


def test_attributes_that_rioxarray_writes_as_tags_count(tmp_path):
    array = np.full((1, 8, 8), 0.1, "float32")
    array[0, 0, 0] = 9
    tags = {"units": "linear power", "valid_range": "[0. 1.]"}
    with open_series(write(tmp_path / "a.tif", array, descriptions=["VV"], tags=tags), sensor="sentinel-1") as opened:
        pixels = opened.read().pixels[0][0]
    assert np.isnan(pixels[0, 0])
    np.testing.assert_allclose(pixels[1:], -10, rtol=1e-6)
    with pytest.raises(RasterError, match="valid_range is 'high'"):
        open_series(write(tmp_path / "b.tif", array, tags={"valid_range": "high"}), bands=["red:665"])


def test_an_offset_of_the_caller_leads_to_the_unit_of_the_kind(tmp_path):
    array = np.full((1, 8, 8), 2000, "int16")
    path = write(tmp_path / "a.tif", array, band_tags=[{"wavelength_nm": "10900"}])
    _stated(path, units=["Celsius"], scales=[0.01])
    for given, kelvin in (({}, 293.15), ({"offset": 273.15}, 293.15), ({"scale": 0.01, "offset": 273.15}, 293.15)):
        with open_series(path, **given) as opened:
            np.testing.assert_allclose(opened.read().pixels[0], kelvin, rtol=1e-6)


def test_the_report_says_which_sensor_and_centre_an_argument_overrules(tmp_path):
    path = write(tmp_path / "a.tif", ramp(1), tags={"platform": "Sentinel-2A"}, band_tags=[{"wavelength_nm": "842"}])
    with open_series(path, bands=["red:665"], sensor="landsat-8") as opened:
        assert "sentinel-2a of " in fact(opened, "sensor").source
        assert "842 nm of tag wavelength_nm not applied" in fact(opened, "center_nm", 1).source
