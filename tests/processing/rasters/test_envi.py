"""ENVI headers, of ENVI files and beside others."""

import time

import pytest
import rasterio.shutil

from stsun_processing.rasters.envi import header_of
from stsun_processing.rasters.records import RasterError
from stsun_processing.rasters.series import open_series, read_series
from tests.processing.rasters.raster_files import fact, ramp, write


def header(path, text):
    path.write_text(f"ENVI\n{text}")
    return path


def test_fields_over_several_lines(tmp_path):
    header(tmp_path / "a.hdr", "Wavelength Units = Nanometers\nwavelength = {\n 400,\n 500 }\nno field\nbbl = {1,\n")
    found = header_of(str(tmp_path / "a.tif"), {})
    assert found.fields == {"wavelength_units": "Nanometers", "wavelength": "{ 400, 500 }", "bbl": "{1,"}
    assert (found.item("wavelength", 2, 2), found.item("fwhm", 1, 2)) == ("500", None)
    assert found.is_own is False


def test_a_header_of_another_kind_is_none(tmp_path):
    (tmp_path / "a.hdr").write_text("BYTEORDER I\n")
    assert header_of(str(tmp_path / "a.tif"), {}) is None


def test_a_header_belongs_to_the_envi_file_beside_it(tmp_path):
    tiff = write(tmp_path / "scene.tif", ramp(2))
    rasterio.shutil.copy(tiff, tmp_path / "scene.img", driver="ENVI")
    with (tmp_path / "scene.hdr").open("a") as file:
        file.write("wavelength units = Nanometers\nwavelength = {560, 665}\nreflectance scale factor = 10000\n")
    assert header_of(str(tiff), {}) is None
    with pytest.raises(RasterError, match="nothing says"):
        open_series(tiff)
    assert [band.center_nm for band in read_series(tmp_path / "scene.img").acquisitions[0].bands] == [560, 665]


def test_a_header_beside_another_format_says_what_bands_are_but_not_how_numbers_are_stored(tmp_path):
    tiff = write(tmp_path / "scene.tif", ramp(2))
    text = "wavelength units = Nanometers\nwavelength = {560, 665}\nreflectance scale factor = 10000\n"
    header(tmp_path / "scene.hdr", text)
    with open_series(tiff) as opened:
        assert [band.center_nm for band in opened.series.acquisitions[0].bands] == [560, 665]
        assert fact(opened, "scale", 1).value is None


def test_lists_of_another_length_are_refused(tmp_path):
    tiff = write(tmp_path / "scene.tif", ramp(2))
    header(tmp_path / "scene.hdr", "wavelength = {560}\n")
    with pytest.raises(RasterError, match="1 values of 'wavelength' for 2 bands"):
        open_series(tiff)


def test_a_hostile_header_takes_no_time(tmp_path):
    # Regular expressions took a time that was cubic in the number of spaces.
    header(tmp_path / "a.hdr", " " * 200_000 + "\n" + "x = {" + "\n" * 200_000)
    started = time.perf_counter()
    assert header_of(str(tmp_path / "a.tif"), {}) is not None
    assert time.perf_counter() - started < 2
