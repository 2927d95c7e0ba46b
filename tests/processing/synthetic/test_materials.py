"""Spectra of the synthetic world against what is known of real surfaces."""

import numpy as np
import pytest

from stsun_processing.metadata import Band
from stsun_processing.synthetic import CLASSES, SyntheticError, reflectance

GREEN, RED, NIR, SWIR = Band("green", 560, 36), Band("red", 665, 31), Band("nir", 833, 106), Band("swir", 1610, 91)
SUMMER, WINTER = 195, 20


def index(name, first, second, day):
    """Normalised difference of two bands of a class's mean spectrum."""
    a, b = (float(reflectance(name, band.center_nm, day, band.fwhm_nm)) for band in (first, second))
    return (a - b) / (a + b)


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("day", [1, 100, 195, 280, 366])
def test_reflectance_is_a_smooth_share_of_light(name, day):
    nm = np.arange(350, 2601)
    spectrum = reflectance(name, nm, day)
    assert spectrum.shape == nm.shape
    assert spectrum.min() >= 0.0
    assert spectrum.max() <= 1.0
    assert np.abs(np.diff(spectrum)).max() < 0.02


def test_vegetation_water_and_snow_indices_have_their_known_ranges():
    # NDVI (Rouse et al. 1974), NDWI (McFeeters 1996) and NDSI with its threshold of 0.4 (Hall et al. 1995).
    assert index("forest", NIR, RED, SUMMER) > 0.6
    assert index("cropland", NIR, RED, 170) > index("cropland", NIR, RED, WINTER) + 0.3
    assert index("grassland", NIR, RED, SUMMER) > index("grassland", NIR, RED, WINTER) + 0.1
    assert all(abs(index(name, NIR, RED, SUMMER)) < 0.4 for name in ("bare_soil", "urban", "snow"))
    assert index("snow", GREEN, SWIR, SUMMER) > 0.4
    for name in CLASSES:
        assert (index(name, GREEN, NIR, SUMMER) > 0) == (name in ("water", "snow"))
        assert (index(name, GREEN, SWIR, SUMMER) > 0.4) == (name in ("water", "snow"))


def test_leaves_have_a_green_peak_a_red_edge_and_water_bands():
    at = {nm: float(reflectance("forest", nm, SUMMER)) for nm in (450, 550, 670, 800, 1300, 1450, 1650, 1940, 2200)}
    assert at[550] > at[450]
    assert at[550] > at[670]
    assert at[800] > 6 * at[670]
    assert at[1450] < 0.5 * at[1300]
    assert at[1450] < at[1650]
    assert at[1940] < at[2200] < at[1650] < at[800]
    slope = np.gradient(reflectance("forest", np.arange(650, 800), SUMMER))
    assert 700 <= 650 + slope.argmax() <= 730


@pytest.mark.parametrize("fwhm_nm", [12.0, 60.0, 180.0])
@pytest.mark.parametrize("name", CLASSES)
def test_a_band_is_the_integral_over_its_gaussian_response(name, fwhm_nm):
    nm = np.arange(550, 1600, 0.25)
    centers = np.array([860.0, 900.0, 1250.0])
    spectrum = reflectance(name, nm, SUMMER)
    response = 0.5 ** ((2 * (nm - centers[:, None]) / fwhm_nm) ** 2)
    expected = (response * spectrum).sum(1) / response.sum(1)
    np.testing.assert_allclose(reflectance(name, centers, SUMMER, fwhm_nm), expected, atol=1.5e-3)


def test_a_narrow_band_is_the_spectrum_and_a_wide_one_is_not():
    nm = np.linspace(400, 2400, 101)
    spectrum = reflectance("forest", nm, SUMMER)
    np.testing.assert_allclose(reflectance("forest", nm, SUMMER, 0.5), spectrum, atol=1e-4)
    # The red edge lies within 60 nm of 690 nm, but not within 6.
    narrow, wide = reflectance("forest", 690.0, SUMMER, np.array([6.0, 120.0]))
    assert wide > 1.5 * narrow


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("lava", 500, 1), "lava.*water"), (("water", 0.5, 1), "nanometres"), (("water", 500, 1, 0.0), "fwhm_nm")],
)
def test_impossible_spectra_are_refused(arguments, words):
    with pytest.raises(SyntheticError, match=words):
        reflectance(*arguments)
