# Copyright 2026 The STSUN Authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""What the ground of the synthetic world is made of: land covers, materials and their spectra.

Every surface is a linear mixture of endmember spectra, smooth functions of wavelength that have the absorption features
of real materials and invented numbers. Vegetation follows a calendar of the northern mid-latitudes. There is no
atmosphere, and no seasonal snow: `snow` is the permanent kind, in mountains.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import STSUNError

CLASSES = ("water", "wetland", "forest", "grassland", "cropland", "bare_soil", "urban", "snow")
WATER, WETLAND, FOREST, GRASSLAND, CROPLAND, BARE_SOIL, URBAN, SNOW = range(len(CLASSES))

MIN_WAVELENGTH_NM, MAX_WAVELENGTH_NM = 350.0, 2600.0
FWHM_PER_SIGMA = math.sqrt(8.0 * math.log(2.0))

FloatArray = NDArray[np.floating]


class SyntheticError(STSUNError, ValueError):
    """An argument that no synthetic scene or data set can be made with."""


def _bump(nm: FloatArray, center: float, width: float) -> FloatArray:
    return np.exp(-0.5 * ((nm - center) / width) ** 2)


def logistic(nm: FloatArray, center: float | FloatArray, width: float) -> FloatArray:
    """Rises from 0 to 1 around `center`."""
    return 1.0 / (1.0 + np.exp(-np.clip((nm - center) / width, -60.0, 60.0)))


def _leaf_water(nm: FloatArray) -> FloatArray:
    """Optical depth of the water in leaves: bands near 970, 1190, 1450, 1940 and 2500 nm."""
    narrow = 0.07 * _bump(nm, 970, 22) + 0.18 * _bump(nm, 1190, 40) + 1.25 * _bump(nm, 1450, 60)
    return (
        narrow
        + 1.9 * _bump(nm, 1940, 80)
        + 1.2 * _bump(nm, 2500, 180)
        + 0.55 * (logistic(nm, 1350, 40) + logistic(nm, 1880, 30))
    )


def _ice(nm: FloatArray) -> FloatArray:
    """Optical depth of a snow pack: weak bands near 1030 and 1260 nm, opaque near 1500 and 2000 nm."""
    weak = (
        0.06 * logistic(nm, 800, 60)
        + 0.17 * _bump(nm, 1030, 35)
        + 0.25 * logistic(nm, 1180, 25)
        + 0.25 * _bump(nm, 1260, 45)
    )
    return weak + 1.5 * logistic(nm, 1420, 15) + 1.4 * _bump(nm, 1510, 60) + 1.7 * _bump(nm, 2010, 70)


def _rise(nm: FloatArray, scale: float) -> FloatArray:
    return 1.0 - np.exp(-(nm - 330.0) / scale)


def _clay_and_water(nm: FloatArray) -> FloatArray:
    """Optical depth of moist mineral soil: water near 1410 and 1920 nm, clay near 2205 nm, iron near 870 nm."""
    return (
        0.05 * _bump(nm, 870, 70) + 0.1 * _bump(nm, 1410, 35) + 0.28 * _bump(nm, 1920, 50) + 0.12 * _bump(nm, 2205, 25)
    )


# Reflectance of pure materials against wavelength in nanometres; see `reflectance` for where the shapes come from.
ENDMEMBERS = {
    "leaf": lambda nm: 0.028 + 0.055 * _bump(nm, 550, 32) + 0.43 * logistic(nm, 715, 12) * np.exp(-_leaf_water(nm)),
    "needle": lambda nm: (
        0.018 + 0.024 * _bump(nm, 552, 36) + 0.25 * logistic(nm, 719, 14) * np.exp(-1.35 * _leaf_water(nm))
    ),
    "straw": lambda nm: (
        0.05
        + 0.36
        * logistic(nm, 630, 95)
        * np.exp(
            -0.15 * _bump(nm, 1450, 50)
            - 0.35 * _bump(nm, 1940, 60)
            - 0.25 * _bump(nm, 2100, 45)
            - 0.2 * logistic(nm, 1900, 90)
        )
    ),
    "loam": lambda nm: 0.015 + 0.30 * _rise(nm, 900) * np.exp(-_clay_and_water(nm)),
    "sand": lambda nm: 0.06 + 0.40 * _rise(nm, 420) * np.exp(-_clay_and_water(nm)),
    "rock": lambda nm: 0.10 + 0.17 * _rise(nm, 600) * np.exp(-0.15 * _bump(nm, 2330, 40) - 0.1 * _bump(nm, 1000, 150)),
    "clear_water": lambda nm: 0.003 + 0.05 * np.exp(-((nm - 420) / 130)) * logistic(nm, 370, 15),
    "turbid_water": lambda nm: 0.004 + 0.095 * _bump(nm, 575, 85) + 0.022 * _bump(nm, 810, 40),
    "asphalt": lambda nm: 0.06 + 0.085 * _rise(nm, 900),
    "concrete": lambda nm: (
        0.14 + 0.21 * _rise(nm, 350) * np.exp(-0.1 * _bump(nm, 1930, 60) - 0.15 * _bump(nm, 2340, 40))
    ),
    "tile": lambda nm: (
        0.05 + 0.27 * logistic(nm, 590, 28) * np.exp(-0.12 * _bump(nm, 870, 80)) + 0.05 * logistic(nm, 1200, 200)
    ),
    "metal": lambda nm: 0.33 + 0.10 * _rise(nm, 300) - 0.05 * logistic(nm, 1700, 200),
    "snow_pack": lambda nm: 0.94 * np.exp(-_ice(nm)),
    "firn": lambda nm: 0.62 * np.exp(-1.6 * _ice(nm)),
    "shade": lambda nm: 0.008 + 0.0 * nm,
    "cloud": lambda nm: (
        0.74 * np.exp(-0.25 * logistic(nm, 1400, 25) - 0.3 * logistic(nm, 1900, 30) - 0.4 * _bump(nm, 1480, 50))
    ),
}
ENDMEMBER_INDEX = {name: index for index, name in enumerate(ENDMEMBERS)}


class Material(NamedTuple):
    """A kind of ground.

    `share` is the part of its class that is made of it; `peak` and `rest` are what it mixes of endmembers in and out of
    season; `season` holds the days of the year of half green-up and half senescence (`None` = the same all year).
    """

    land_cover: int
    share: float
    peak: dict[str, float]
    rest: dict[str, float] | None = None
    season: tuple[float, float] | None = None


_MEADOW = (
    {"leaf": 0.66, "straw": 0.18, "loam": 0.10, "shade": 0.06},
    {"leaf": 0.28, "straw": 0.42, "loam": 0.30},
    (82, 308),
)
_TOWN = {"asphalt": 0.32, "concrete": 0.14, "tile": 0.22, "metal": 0.05}
MATERIALS = {
    "lake": Material(WATER, 1.0, {"clear_water": 1.0}),
    "marsh": Material(
        WETLAND,
        0.6,
        {"leaf": 0.46, "turbid_water": 0.40, "straw": 0.14},
        {"straw": 0.40, "turbid_water": 0.50, "loam": 0.10},
        (128, 282),
    ),
    "bog": Material(
        WETLAND,
        0.4,
        {"leaf": 0.34, "needle": 0.20, "clear_water": 0.26, "straw": 0.20},
        {"straw": 0.36, "clear_water": 0.34, "needle": 0.30},
        (140, 270),
    ),
    "broadleaf": Material(
        FOREST, 0.55, {"leaf": 0.82, "shade": 0.18}, {"straw": 0.28, "loam": 0.36, "shade": 0.36}, (116, 294)
    ),
    "conifer": Material(FOREST, 0.45, {"needle": 0.95, "shade": 0.05}, {"needle": 0.85, "shade": 0.15}, (110, 300)),
    "meadow": Material(GRASSLAND, 0.6, *_MEADOW),
    "pasture": Material(
        GRASSLAND,
        0.4,
        {"leaf": 0.45, "straw": 0.37, "loam": 0.18},
        {"leaf": 0.14, "straw": 0.58, "loam": 0.28},
        (88, 205),
    ),
    "cereal": Material(CROPLAND, 0.5, {"leaf": 0.90, "loam": 0.10}, {"straw": 0.34, "loam": 0.66}, (72, 192)),
    "maize": Material(CROPLAND, 0.5, {"leaf": 0.94, "loam": 0.06}, {"loam": 0.88, "straw": 0.12}, (158, 266)),
    "sand": Material(BARE_SOIL, 0.35, {"sand": 0.9, "straw": 0.1}),
    "gravel": Material(BARE_SOIL, 0.35, {"rock": 0.8, "sand": 0.2}),
    "ploughed": Material(BARE_SOIL, 0.3, {"loam": 0.6, "sand": 0.4}),
    "built_up": Material(URBAN, 0.8, _TOWN | {"leaf": 0.27}, _TOWN | {"straw": 0.14, "loam": 0.13}, (95, 300)),
    "industry": Material(URBAN, 0.2, {"asphalt": 0.40, "concrete": 0.35, "metal": 0.25}),
    "glacier": Material(SNOW, 1.0, {"snow_pack": 1.0}),
    # What towns are made of where pixels are small; no share, for the pattern of streets decides where they lie.
    "street": Material(URBAN, 0.0, {"asphalt": 1.0}),
    "tile_roof": Material(URBAN, 0.0, {"tile": 1.0}),
    "metal_roof": Material(URBAN, 0.0, {"metal": 0.8, "concrete": 0.2}),
    "yard": Material(URBAN, 0.0, {"concrete": 0.7, "asphalt": 0.3}),
    "garden": Material(URBAN, 0.0, *_MEADOW),
}
_MATERIAL = {name: index for index, name in enumerate(MATERIALS)}

STREET, TILE_ROOF, METAL_ROOF, YARD, GARDEN, INDUSTRY, MEADOW, BROADLEAF = (
    _MATERIAL[name]
    for name in ("street", "tile_roof", "metal_roof", "yard", "garden", "industry", "meadow", "broadleaf")
)
# Days by which neighbours run ahead of the calendar or behind it.
COHORT_DAYS = np.array([-14.0, -7.0, 0.0, 7.0, 14.0])
# Time that green-up and senescence take; the exponent's scale.
_TURNOVER_DAYS = 9.0


def _endmembers(nm: FloatArray) -> FloatArray:
    """Reflectance of all endmembers, shape (..., endmembers), at wavelengths `nm` of shape (...)."""
    return np.stack([spectrum(nm) for spectrum in ENDMEMBERS.values()], axis=-1)


@lru_cache(maxsize=1)
def _calendar() -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Endmembers of each material in and out of season, (materials, endmembers), and the days when it changes."""
    peak, rest = np.zeros((2, len(MATERIALS), len(ENDMEMBERS)))
    for row, material in enumerate(MATERIALS.values()):
        for table, mixture in ((peak, material.peak), (rest, material.rest or material.peak)):
            table[row, [ENDMEMBER_INDEX[name] for name in mixture]] = list(mixture.values())
    seasons = np.array([material.season or (0.0, 0.0) for material in MATERIALS.values()])
    return peak, rest, seasons[:, 0], seasons[:, 1]


def abundances(day_of_year: ArrayLike) -> FloatArray:
    """Share of each endmember in each material, shape (materials, ..., endmembers), on days of shape (...)."""
    days = np.asarray(day_of_year, dtype=float)
    peak, rest, green_up, senescence = _calendar()
    green = logistic(days, green_up[:, None], _TURNOVER_DAYS) - logistic(days, senescence[:, None], _TURNOVER_DAYS)
    table = rest[:, None] + green[..., None] * (peak - rest)[:, None]
    return table.reshape(len(MATERIALS), *days.shape, len(ENDMEMBERS))


def over_response(center_nm: FloatArray, fwhm_nm: FloatArray) -> FloatArray:
    """Endmembers integrated over Gaussian responses cut at three sigma, shape (bands, endmembers)."""
    nodes = np.linspace(-3.0, 3.0, 49)
    nm = center_nm[:, None] + nodes * fwhm_nm[:, None] / FWHM_PER_SIGMA
    weight = np.exp(-0.5 * nodes**2) * ((nm >= MIN_WAVELENGTH_NM) & (nm <= MAX_WAVELENGTH_NM))
    return np.einsum("bn,bne->be", weight / weight.sum(1, keepdims=True), _endmembers(nm))


def reflectance(
    class_name: str, wavelength_nm: ArrayLike, day_of_year: float, fwhm_nm: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Mean reflectance of a class on a day, at wavelengths or over bands.

    The shapes follow what spectral libraries (ECOSTRESS, Meerdink et al. 2019; USGS version 7, Kokaly et al. 2017) show
    for such surfaces; every number is this world's own. Leaves absorb blue and red, reflect some green, and rise at the
    red edge near 715 nm to a plateau that leaf water lowers near 970, 1190, 1450, 1940 and 2500 nm (the absorbers of
    PROSPECT, Jacquemoud and Baret 1990). Dry plants lose chlorophyll and show cellulose near 2100 nm. Soils rise with
    wavelength, with moisture near 1410 and 1920 and clay near 2205 nm. Water darkens with wavelength (Pope and Fry
    1997). Snow is bright up to 800 nm and dark in the short-wave infrared (Warren and Wiscombe 1980). Seasons are
    double logistic curves (Beck et al. 2006) of the northern mid-latitudes.

    Args:
        class_name: one of `CLASSES`.
        wavelength_nm: wavelengths or band centres in nanometres, 350 to 2600.
        day_of_year: day of the year, 1 to 366; fractions are allowed.
        fwhm_nm: full widths at half maximum, in nanometres, of Gaussian responses to integrate over; it broadcasts
            against `wavelength_nm`. `None` = the spectrum itself.

    Returns:
        Reflectance, 0 to 1, of the shape that `wavelength_nm` and `fwhm_nm` broadcast to.

    Raises:
        SyntheticError: an unknown class, a wavelength outside the range, or a width that is not above 0.
    """
    if class_name not in CLASSES:
        raise SyntheticError(f"Unknown class {class_name!r}; this world has {', '.join(CLASSES)}.")
    nm = np.asarray(wavelength_nm, dtype=float)
    if not ((nm >= MIN_WAVELENGTH_NM) & (nm <= MAX_WAVELENGTH_NM)).all():
        raise SyntheticError(
            f"Spectra run from {MIN_WAVELENGTH_NM:g} to {MAX_WAVELENGTH_NM:g} nanometres, got wavelength_nm="
            f"{wavelength_nm!r}."
        )
    if fwhm_nm is None:
        spectra = _endmembers(nm)
    else:
        nm, fwhm = np.broadcast_arrays(nm, np.asarray(fwhm_nm, dtype=float))
        if not (fwhm > 0).all():
            raise SyntheticError(f"fwhm_nm must be above 0, or None for the spectrum itself, got {fwhm_nm!r}.")
        spectra = over_response(nm.ravel(), fwhm.ravel()).reshape(*nm.shape, -1)
    shares = np.array([m.share * (m.land_cover == CLASSES.index(class_name)) for m in MATERIALS.values()])
    return spectra @ (shares @ abundances(day_of_year))


# Sixteen draws of a material for each class, in proportion to the shares.
MATERIAL_DRAWS = np.array(
    [
        np.searchsorted(
            np.cumsum([m.share * (m.land_cover == c) for m in MATERIALS.values()]), (np.arange(16) + 0.5) / 16
        )
        for c in range(len(CLASSES))
    ],
    dtype=np.uint8,
)
