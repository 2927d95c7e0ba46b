"""What a checkpoint knows of the files that it was tuned on."""

import numpy as np
import pytest

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
