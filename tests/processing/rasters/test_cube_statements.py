"""What attributes and coordinates of cubes say of bands, platform and instrument."""

import numpy as np
import pytest

from stsun_processing.rasters.records import RasterError
from tests.processing.rasters.cube_objects import bands_of, layer, opened, ramp, stack, strong, values, xr
from tests.processing.rasters.raster_files import write

rioxarray = pytest.importorskip("rioxarray")


def centres(source):
    return [[length.value for length in values(band.center_nm)] for band in bands_of(source)]


def widths(source):
    return [[length.value for length in values(band.fwhm_nm)] for band in bands_of(source)]


@pytest.mark.parametrize(
    ("unit", "numbers"),
    [
        ("nm", [560, 665]),
        ("nanometers", [560, 665]),
        ("um", [0.56, 0.665]),
        ("\u00b5m", [0.56, 0.665]),
        ("\u03bcm", [0.56, 0.665]),
        ("microns", [0.56, 0.665]),
        ("Micrometers", [0.56, 0.665]),
        ("angstrom", [5600, 6650]),
        ("m", [5.6e-7, 6.65e-7]),
        ("10^-6 m", [0.56, 0.665]),
        ("cm-1", [1e7 / 560, 1e7 / 665]),
        ("THz", [299792.458 / 560, 299792.458 / 665]),
        ("", [560, 665]),
    ],
)
def test_units_of_wavelength_coordinates(unit, numbers):
    source = stack(wavelength=("band", numbers, {"units": unit} if unit else {}))
    assert centres(source) == [[pytest.approx(560)], [pytest.approx(665)]]
    assert bands_of(source)[0].center_nm[0].source == "coordinate wavelength"


@pytest.mark.parametrize(
    ("coordinate", "problem"),
    [
        (("band", [0.56, 0.665]), r"Band 1 of cube has center_nm = 0\.56 \(coordinate wavelength\).*micrometres"),
        (("band", [1.0, 2.0], {"units": "furlong"}), r"center_nm in 'furlong' \(coordinate wavelength\)"),
    ],
)
def test_wavelengths_that_make_no_sense_are_refused(coordinate, problem):
    with pytest.raises(RasterError, match=problem):
        bands_of(stack(wavelength=coordinate))


def test_spellings_of_wavelengths_and_widths():
    names = {"wavelength_um": ("band", [0.56, 0.665]), "fwhm_nm": ("band", [30.0, 31.0])}
    assert (centres(stack(**names)), widths(stack(**names))) == ([[560], [665]], [[30], [31]])
    standard = {"lambda": ("band", [5.6e-7, 6.65e-7], {"units": "m", "standard_name": "radiation_wavelength"})}
    assert centres(stack(**standard)) == [[pytest.approx(560)], [pytest.approx(665)]]
    wavenumber = {"units": "cm-1", "standard_name": "sensor_band_central_radiation_wavenumber"}
    assert centres(stack(k=("band", [1e7 / 560] * 2, wavenumber))) == [[pytest.approx(560)]] * 2
    # The bands may lie along the wavelengths themselves, and variables beside them need not be coordinates.
    cube = (
        stack().rename(band="wavelengths").assign_coords(wavelengths=("wavelengths", [560.0, 665.0], {"units": "nm"}))
    )
    dataset = cube.to_dataset().assign(fwhm=("wavelengths", [9.0, 10.0], {"units": "nm"}))
    assert (centres(dataset), widths(dataset)) == ([[560], [665]], [[9], [10]])
    # A name and a unit that differ are two statements, which cannot both be true.
    assert centres(stack(wavelength_um=("band", [560.0] * 2, {"units": "nm"})))[0] == [560000, 560]
    unknown = stack(wavelength=("band", [560.0, np.nan], {"units": "nm"}))
    assert centres(unknown) == [[560], []]
    assert centres(layer(attrs={"wavelength": 0.56, "wavelength_units": "Micrometers"})) == [[560]]


def test_fields_of_stac_are_in_micrometres_where_they_can_be():
    stac = {"center_wavelength": ("band", [0.56, 0.665]), "full_width_half_max": ("band", [0.045, 0.038])}
    assert centres(stack(**stac)) == [[560], [665]]
    assert widths(stack(**stac)) == [[45], [38]]
    extended = {f"eo:{name}": coordinate for name, coordinate in stac.items()}
    assert widths(stack().assign_coords(extended)) == [[45], [38]]
    stated = {"center_wavelength": ("band", [560.0, 665.0]), "full_width_half_max": ("band", [45.0, 38.0])}
    assert (centres(stack(**stated)), widths(stack(**stated))) == ([[560], [665]], [[45], [38]])
    assert centres(stack(center_wavelength=("band", [0.56, 0.665], {"units": "um"}))) == [[560], [665]]


@pytest.mark.parametrize(
    ("key", "value", "other", "field"),
    [
        ("wavelength_nm", 560, 665, "center_nm"),
        ("fwhm_nm", 30, 31, "fwhm_nm"),
        ("kind", "elevation", "sar", "kind"),
        ("polarisation", "VV", "VH", "polarisation"),
        ("polarization", "vv", "vh", "polarisation"),
        ("sar:polarizations", "VV", "VH", "polarisation"),
        ("name", "red", "green", "names"),
        ("DESCRIPTION", "red", "green", "names"),
        ("common_name", "red", "green", "names"),
        ("bbl", 0, 0, "bad"),
        ("timestamp", "2021-05-01", "2021-06-01", "date"),
    ],
)
def test_an_attribute_holds_for_a_band_only_where_that_is_certain(key, value, other, field):
    def spoken(source):
        return [
            [one for one in getattr(band, field) if one.source.startswith("attribute")] for band in bands_of(source)
        ]

    assert [len(found) for found in spoken(layer(attrs={key: value}))] == [1]
    assert [len(found) for found in spoken(stack(attrs={key: value}))] == [0, 0]
    for items in ([value, other], (value, other), np.array([value, other], object)):
        one, two = spoken(stack(attrs={key: items}))
        assert one[0].source == two[0].source == f"attribute {key}"
        assert (one[0].value == two[0].value) == (value == other)
    assert [len(found) for found in spoken(stack(attrs={key: [value] * 3}))] == [0, 0]


@pytest.mark.parametrize("key", ["long_name", "descriptions"])
def test_lists_of_descriptions_are_names(key):
    source = stack(attrs={key: ("B04, central wavelength 665 nm", "B8A (865 Nanometers)")}, bands=[1, 2])
    assert [strong(band.names) for band in bands_of(source)] == [["B04"], ["B8A"]]
    assert centres(source) == [[665], [865]]
    # A text for people names a band only where nothing else does.
    assert strong(bands_of(layer(attrs={key: "Surface reflectance"}, name="B04"))[0].names) == ["B04"]
    assert strong(bands_of(layer(attrs={key: "B04"}, name="band_1"))[0].names) == ["B04"]


@pytest.mark.parametrize(
    ("source", "named"),
    [
        (lambda: stack(attrs={"long_name": ("Band 1", "Band 2")}, bands=[1, 2]), False),
        (lambda: stack(attrs={"long_name": ("Band 4", "Band 8")}, bands=[1, 2]), True),
        (lambda: layer(attrs={"long_name": "GDAL Band Number 4"}, name="Band4"), False),
        (lambda: layer(attrs={"long_name": "Band 4"}, name="band_4"), False),
        (lambda: layer(attrs={"title": "B04 of somewhere"}, name="band_4"), False),
    ],
)
def test_descriptions_that_only_count_are_weak(source, named):
    assert all(bool(strong(band.names)) == named for band in bands_of(source()))


def test_headers_of_envi_as_rioxarray_keeps_them(tmp_path):
    path = write(tmp_path / "a.img", ramp(2, 4, 5, dtype="int16"), driver="ENVI")
    with (tmp_path / "a.hdr").open("a") as header:
        header.write("wavelength units = Micrometers\nwavelength = {0.56, 0.665}\nfwhm = {0.03, 0.03}\nbbl = {1, 0}\n")
    array = rioxarray.open_rasterio(path)
    assert centres(array) == [[560, 560], [665, 665]]
    assert widths(array) == [[30], [30]]
    for source in (array, array[[1]]):
        assert [values(band.bad) for band in bands_of(source)][-1] == [True]
        assert not any(strong(band.names) for band in bands_of(source))
    assert values(bands_of(array)[0].bad) == []
    with pytest.raises(RasterError, match=r"Band 1 of cube has the bad-band mark 'x' \(attribute bbl\)"):
        bands_of(array.assign_attrs(bbl="x, y"))


def test_units_hold_for_the_variable_or_in_a_list():
    assert [values(band.unit) for band in bands_of(stack(attrs={"units": "degC"}))] == [["degC"], ["degC"]]
    assert [values(band.unit) for band in bands_of(stack(attrs={"units": ("m", None)}))] == [["m"], []]
    assert bands_of(layer(attrs={"units": "1"}))[0].unit[0].source == "attribute units"
    assert bands_of(layer())[0].unit == ()


def test_platform_instrument_and_distance():
    series = xr.concat([stack(), stack()], xr.Variable("time", np.array(["2021-05-01", "2021-06-01"], "M8[ns]")))
    stackstac = series.assign_coords(
        platform=("time", ["sentinel-2a", "sentinel-2b"]), constellation="sentinel-2", instruments="msi", gsd=10
    )
    statements = opened(stackstac).states()
    assert values(statements.platform) == ["sentinel-2"]
    assert values(statements.instrument) == ["msi"]
    assert values(statements.gsd_m) == [10]
    attributes = {"Platform": "Landsat-8", "instrument": ["OLI", "TIRS"], "gsd": 30.0, "sensor": "None"}
    for source in (layer().assign_attrs(attributes), layer(attrs=attributes), stack(attrs=attributes)):
        statements = opened(source).states()
        assert values(statements.platform) == ["Landsat-8"]
        assert values(statements.instrument) == ["OLI TIRS"]
        assert values(statements.gsd_m) == [30]
    assert statements.platform[0].source == "attribute Platform"
    # Distances that differ are those of bands, and the grid says what the pixels have.
    assert opened(stack(gsd=("band", [10, 20]))).states().gsd_m == ()
    assert opened(layer().assign_attrs(gsd=-1)).states().gsd_m == ()
