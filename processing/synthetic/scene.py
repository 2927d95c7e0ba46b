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
"""A synthetic world: land-cover maps with exact labels, seen by any sensor on any dates.

[`make_scene`] draws a place, [`SyntheticScene.observe`] takes images of it, [`SyntheticScene.labels`] says what is
there, and [`SyntheticDataset`] draws such samples without end. The world is a function of a seed and of coordinates in
metres: a larger scene of the same seed continues a smaller one, and up to `MAPPING_GSD_M` a finer one shows the same
place in more detail.

Every surface is a linear mixture of endmember spectra, smooth functions of wavelength that have the absorption features
of real materials and invented numbers. Vegetation follows a calendar of the northern mid-latitudes. There is no
atmosphere, and no seasonal snow: `snow` is the permanent kind, in mountains.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import Dataset

from ..data.datasets import Sample
from ..metadata import (
    CHANGE_CLASSES,
    IGNORE_INDEX,
    TASKS,
    Acquisition,
    Band,
    ImageSeries,
    MetadataError,
    default_outputs,
    parse_datetime,
)
from ..rasters.sensors import find_sensor, sensor_bands

CLASSES = ("water", "wetland", "forest", "grassland", "cropland", "bare_soil", "urban", "snow")
WATER, WETLAND, FOREST, GRASSLAND, CROPLAND, BARE_SOIL, URBAN, SNOW = range(len(CLASSES))

MIN_WAVELENGTH_NM, MAX_WAVELENGTH_NM = 350.0, 2600.0
# Share of the centre wavelength that stands for an unknown width: what multispectral bands typically have.
TYPICAL_RELATIVE_FWHM = 0.05
FWHM_PER_SIGMA = math.sqrt(8.0 * math.log(2.0))

# Above this pixel size shapes grow with the pixel, as maps of a coarse scale generalise what is too small to draw.
MAPPING_GSD_M = 30.0
# Gardens, field margins and trees between houses get labels of their own up to this pixel size.
DETAIL_GSD_M = 4.0
# Up to this one images of towns show streets, roofs and gardens; beyond, a mixture of all of them.
TOWN_GSD_M = 12.0
ROAD_WIDTH_M = 11.0
STREET_WIDTH_M = 7.0
FIELD_MARGIN_M = 2.5

# Weights of a pixel and its two neighbours along each axis: the sensor's point spread.
POINT_SPREAD = (0.2, 0.6, 0.2)
# What one unit of `noise` (given in reflectance) means for bands of another kind: kelvin, decibel, metres.
NOISE_UNIT = {"reflective": 1.0, "thermal": 100.0, "sar": 200.0, "elevation": 200.0}

FloatArray = NDArray[np.floating]


class SyntheticError(ValueError):
    """An argument that no synthetic scene or data set can be made with."""


# --- Spectra ----------------------------------------------------------------------------------------------------------


def _bump(nm: FloatArray, center: float, width: float) -> FloatArray:
    return np.exp(-0.5 * ((nm - center) / width) ** 2)


def _step(nm: FloatArray, center: float, width: float) -> FloatArray:
    return 1.0 / (1.0 + np.exp(-np.clip((nm - center) / width, -60.0, 60.0)))


def _leaf_water(nm: FloatArray) -> FloatArray:
    """Optical depth of the water in leaves: bands near 970, 1190, 1450, 1940 and 2500 nm."""
    narrow = 0.07 * _bump(nm, 970, 22) + 0.18 * _bump(nm, 1190, 40) + 1.25 * _bump(nm, 1450, 60)
    return (
        narrow
        + 1.9 * _bump(nm, 1940, 80)
        + 1.2 * _bump(nm, 2500, 180)
        + 0.55 * (_step(nm, 1350, 40) + _step(nm, 1880, 30))
    )


def _ice(nm: FloatArray) -> FloatArray:
    """Optical depth of a snow pack: weak bands near 1030 and 1260 nm, opaque near 1500 and 2000 nm."""
    weak = (
        0.06 * _step(nm, 800, 60) + 0.17 * _bump(nm, 1030, 35) + 0.25 * _step(nm, 1180, 25) + 0.25 * _bump(nm, 1260, 45)
    )
    return weak + 1.5 * _step(nm, 1420, 15) + 1.4 * _bump(nm, 1510, 60) + 1.7 * _bump(nm, 2010, 70)


def _rise(nm: FloatArray, scale: float) -> FloatArray:
    return 1.0 - np.exp(-(nm - 330.0) / scale)


def _clay_and_water(nm: FloatArray) -> FloatArray:
    """Optical depth of moist mineral soil: water near 1410 and 1920 nm, clay near 2205 nm, iron near 870 nm."""
    return (
        0.05 * _bump(nm, 870, 70) + 0.1 * _bump(nm, 1410, 35) + 0.28 * _bump(nm, 1920, 50) + 0.12 * _bump(nm, 2205, 25)
    )


# Reflectance of pure materials against wavelength in nanometres; see `reflectance` for where the shapes come from.
ENDMEMBERS = {
    "leaf": lambda nm: 0.028 + 0.055 * _bump(nm, 550, 32) + 0.43 * _step(nm, 715, 12) * np.exp(-_leaf_water(nm)),
    "needle": lambda nm: (
        0.018 + 0.024 * _bump(nm, 552, 36) + 0.25 * _step(nm, 719, 14) * np.exp(-1.35 * _leaf_water(nm))
    ),
    "straw": lambda nm: (
        0.05
        + 0.36
        * _step(nm, 630, 95)
        * np.exp(
            -0.15 * _bump(nm, 1450, 50)
            - 0.35 * _bump(nm, 1940, 60)
            - 0.25 * _bump(nm, 2100, 45)
            - 0.2 * _step(nm, 1900, 90)
        )
    ),
    "loam": lambda nm: 0.015 + 0.30 * _rise(nm, 900) * np.exp(-_clay_and_water(nm)),
    "sand": lambda nm: 0.06 + 0.40 * _rise(nm, 420) * np.exp(-_clay_and_water(nm)),
    "rock": lambda nm: 0.10 + 0.17 * _rise(nm, 600) * np.exp(-0.15 * _bump(nm, 2330, 40) - 0.1 * _bump(nm, 1000, 150)),
    "clear_water": lambda nm: 0.003 + 0.05 * np.exp(-((nm - 420) / 130)) * _step(nm, 370, 15),
    "turbid_water": lambda nm: 0.004 + 0.095 * _bump(nm, 575, 85) + 0.022 * _bump(nm, 810, 40),
    "asphalt": lambda nm: 0.06 + 0.085 * _rise(nm, 900),
    "concrete": lambda nm: (
        0.14 + 0.21 * _rise(nm, 350) * np.exp(-0.1 * _bump(nm, 1930, 60) - 0.15 * _bump(nm, 2340, 40))
    ),
    "tile": lambda nm: (
        0.05 + 0.27 * _step(nm, 590, 28) * np.exp(-0.12 * _bump(nm, 870, 80)) + 0.05 * _step(nm, 1200, 200)
    ),
    "metal": lambda nm: 0.33 + 0.10 * _rise(nm, 300) - 0.05 * _step(nm, 1700, 200),
    "snow_pack": lambda nm: 0.94 * np.exp(-_ice(nm)),
    "firn": lambda nm: 0.62 * np.exp(-1.6 * _ice(nm)),
    "shade": lambda nm: 0.008 + 0.0 * nm,
    "cloud": lambda nm: (
        0.74 * np.exp(-0.25 * _step(nm, 1400, 25) - 0.3 * _step(nm, 1900, 30) - 0.4 * _bump(nm, 1480, 50))
    ),
}
_ENDMEMBER = {name: index for index, name in enumerate(ENDMEMBERS)}


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
_COHORT_DAYS = np.array([-14.0, -7.0, 0.0, 7.0, 14.0])
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
            table[row, [_ENDMEMBER[name] for name in mixture]] = list(mixture.values())
    seasons = np.array([material.season or (0.0, 0.0) for material in MATERIALS.values()])
    return peak, rest, seasons[:, 0], seasons[:, 1]


def _abundances(day_of_year: ArrayLike) -> FloatArray:
    """Share of each endmember in each material, shape (materials, ..., endmembers), on days of shape (...)."""
    days = np.asarray(day_of_year, dtype=float)
    peak, rest, green_up, senescence = _calendar()
    green = _step(days, green_up[:, None], _TURNOVER_DAYS) - _step(days, senescence[:, None], _TURNOVER_DAYS)
    table = rest[:, None] + green[..., None] * (peak - rest)[:, None]
    return table.reshape(len(MATERIALS), *days.shape, len(ENDMEMBERS))


def _over_response(center_nm: FloatArray, fwhm_nm: FloatArray) -> FloatArray:
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
        spectra = _over_response(nm.ravel(), fwhm.ravel()).reshape(*nm.shape, -1)
    shares = np.array([m.share * (m.land_cover == CLASSES.index(class_name)) for m in MATERIALS.values()])
    return spectra @ (shares @ _abundances(day_of_year))


# --- Noise ------------------------------------------------------------------------------------------------------------


def _hash(key: NDArray[np.uint64], *numbers: ArrayLike) -> NDArray[np.uint64]:
    """Random 64-bit numbers that depend on `key` and the integers `numbers` only (the finaliser of SplitMix64)."""
    for number in numbers:
        key = key ^ np.asarray(number, dtype=np.int64).view(np.uint64)
        key += np.uint64(0x9E3779B97F4A7C15)
        key ^= key >> np.uint64(30)
        key *= np.uint64(0xBF58476D1CE4E5B9)
        key ^= key >> np.uint64(27)
        key *= np.uint64(0x94D049BB133111EB)
        key ^= key >> np.uint64(31)
    return key


def _uniform(key: NDArray[np.uint64], *numbers: ArrayLike) -> NDArray[np.float32]:
    """Random numbers in [0, 1) that depend on `key` and the integers `numbers` only."""
    return (_hash(key, *numbers) >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)


def _number(key: NDArray[np.uint64], *numbers: int) -> float:
    """One random number in [0, 1) out of a key of shape (1,)."""
    return float(_uniform(key, *numbers)[0])


def _spline(position: FloatArray) -> tuple[FloatArray, NDArray[np.int64]]:
    """Cubic B-spline weights, shape (knots, positions), of the knots (whole numbers) around sorted positions."""
    knots = np.arange(math.floor(position[0]) - 1, math.floor(position[-1]) + 3)
    distance = np.abs(position - knots[:, None])
    outer, inner = np.maximum(2.0 - distance, 0.0), np.maximum(1.0 - distance, 0.0)
    return (outer * outer * outer - 4.0 * inner * inner * inner) / 6.0, knots


class _Field(NamedTuple):
    """Smooth random functions of the place, sampled at pixel centres `x` (east) and `y` (south), in metres."""

    key: NDArray[np.uint64]
    x: FloatArray
    y: FloatArray

    def __call__(self, salt: int, *wavelengths_m: float, east: float = 0.0, south: float = 0.0) -> FloatArray:
        """A sum of waves, each as strong as it is long, of mean 0 and variance 1, shape (height, width)."""
        total = np.zeros((len(self.y), len(self.x)))
        pixel = self.x[1] - self.x[0]
        for number, wavelength in enumerate(wavelengths_m):
            spacing = max(0.5 * wavelength, pixel)
            rows, knots_y = _spline((self.y + south) / spacing)
            columns, knots_x = _spline((self.x + east) / spacing)
            lattice = _uniform(_hash(self.key, salt, number), knots_y[:, None], knots_x) - 0.5
            total += wavelength / wavelengths_m[0] * (rows.T @ lattice @ columns)
        # A uniform number has variance 1/12; splines over two axes keep the share (151/315)^2 of it on average.
        return total * (math.sqrt(12.0) * 315.0 / 151.0 / math.hypot(*(w / wavelengths_m[0] for w in wavelengths_m)))


# --- Shapes -----------------------------------------------------------------------------------------------------------

DISTRICT_M = 520.0
# Rows of the tables below; the first four are drawn for a district, mountains override them.
_FARMLAND, _WOODLAND, _TOWNLAND, _HEATH, _MOUNTAIN = range(5)
_DISTRICT_SHARES = np.cumsum([0.36, 0.17, 0.24])
_PARCEL_LENGTH_M = np.array([190.0, 150.0, 140.0, 120.0, 140.0])
_PARCEL_WIDTH_M = np.array([80.0, 110.0, 105.0, 90.0, 110.0])
# How far parcel borders bend: surveyed ones hardly, natural ones much.
_PARCEL_BEND_M = np.array([4.0, 30.0, 3.0, 38.0, 36.0])
_PARCEL_COVER = np.cumsum(
    #  water wetland forest grassland cropland bare urban snow
    [
        [0.0, 0.02, 0.06, 0.20, 0.63, 0.05, 0.04, 0.0],
        [0.0, 0.05, 0.58, 0.22, 0.05, 0.10, 0.00, 0.0],
        [0.0, 0.00, 0.05, 0.11, 0.04, 0.09, 0.71, 0.0],
        [0.0, 0.34, 0.08, 0.32, 0.00, 0.26, 0.00, 0.0],
        [0.0, 0.03, 0.20, 0.42, 0.00, 0.35, 0.00, 0.0],
    ],
    axis=1,
)
# Forest stands where a smooth field exceeds this.
_FOREST_LEVEL = np.array([1.15, 0.1, 1.6, 1.1, 0.9])
_LAKE_LEVEL, _WET_BAND, _ROCK_LINE, _SNOW_LINE, _MOUNTAIN_LEVEL = -1.25, 0.28, 0.45, 1.15, 0.5
# What a parcel of each class can become; lakes and snow change with their level instead.
_BECOMES = np.array(
    [
        [WATER, WATER, WATER],
        [CROPLAND, GRASSLAND, FOREST],
        [BARE_SOIL, GRASSLAND, BARE_SOIL],
        [CROPLAND, FOREST, URBAN],
        [URBAN, GRASSLAND, BARE_SOIL],
        [URBAN, GRASSLAND, FOREST],
        [BARE_SOIL, GRASSLAND, BARE_SOIL],
        [SNOW, SNOW, SNOW],
    ]
)
# Nobody farms or builds in the mountains.
_MOUNTAIN_COVER = np.array([WATER, WETLAND, FOREST, GRASSLAND, GRASSLAND, BARE_SOIL, BARE_SOIL, SNOW])


def _districts(
    key: NDArray[np.uint64], x: FloatArray, y: FloatArray
) -> tuple[NDArray[np.uint64], FloatArray, FloatArray, FloatArray]:
    """Voronoi cells of jittered sites: their keys, the offset from their sites and the distance to their borders."""
    column, row = (np.floor(axis / DISTRICT_M).astype(np.int64) for axis in (x, y))
    columns, rows = (np.arange(cells.min() - 1, cells.max() + 2) for cells in (column, row))
    keys = _hash(key, rows[:, None], columns)
    site_x = (DISTRICT_M * (columns + 0.1 + 0.8 * _uniform(keys, 1))).ravel()
    site_y = (DISTRICT_M * (rows[:, None] + 0.1 + 0.8 * _uniform(keys, 2))).ravel()
    home = (row - rows[0]) * len(columns) + column - columns[0]
    nearest, second = np.full(x.shape, np.inf), np.full(x.shape, np.inf)
    site, neighbour = home, home
    for step in (down * len(columns) + right for down in (-1, 0, 1) for right in (-1, 0, 1)):
        other = home + step
        squared = (x - site_x[other]) ** 2 + (y - site_y[other]) ** 2
        wins, places = squared < nearest, squared < second
        neighbour = np.where(wins, site, np.where(places, other, neighbour))
        second = np.where(wins, nearest, np.where(places, squared, second))
        site, nearest = np.where(wins, other, site), np.where(wins, squared, nearest)
    apart = np.hypot(site_x[site] - site_x[neighbour], site_y[site] - site_y[neighbour])
    return keys.ravel()[site], x - site_x[site], y - site_y[site], (second - nearest) / (2.0 * apart)


def _intervals(key: NDArray[np.uint64], position: FloatArray) -> tuple[NDArray[np.int64], FloatArray, FloatArray]:
    """Cells of a jittered row: their numbers, and the distances to their lower and upper ends in mean cells."""
    number = np.floor(position).astype(np.int64)
    number -= position < number + 0.45 * _uniform(key, number)
    lower, upper = number + 0.45 * _uniform(key, number), number + 1 + 0.45 * _uniform(key, number + 1)
    return number, position - lower, upper - position


class _Parcels(NamedTuple):
    """Fields, blocks and stands: their keys, and the metres from their two first ends and from any border."""

    key: NDArray[np.uint64]
    along: FloatArray
    across: FloatArray
    border: FloatArray


def _parcels(district: NDArray[np.uint64], zone: NDArray[np.int64], dx: FloatArray, dy: FloatArray) -> _Parcels:
    angle = 2.0 * np.pi * _uniform(district, 3)
    size = 0.75 + 0.6 * _uniform(district, 4)
    length, width = _PARCEL_LENGTH_M[zone] * size, _PARCEL_WIDTH_M[zone] * size
    cosine, sine = np.cos(angle), np.sin(angle)
    strip, low, high = _intervals(_hash(district, 5), (dy * cosine - dx * sine) / width)
    across, border = low * width, np.minimum(low, high) * width
    strip_key = _hash(district, strip)
    place, low, high = _intervals(strip_key, (dx * cosine + dy * sine) / length + 8.0 * _uniform(strip_key))
    border = np.minimum(border, np.minimum(low, high) * length)
    return _Parcels(_hash(strip_key, place), low * length, across, border)


def _town(parcels: _Parcels, industrial: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Materials of a built-up parcel: two rows of plots between streets, on each plot a house in a garden or yard."""
    length, depth = np.where(industrial, 50.0, 19.0), np.where(industrial, 42.0, 28.0)
    block, inside = np.divmod(parcels.across, 2.0 * depth + STREET_WIDTH_M)
    row, y = np.divmod(inside - STREET_WIDTH_M, depth)
    plot, x = np.divmod(parcels.along, length)
    key = _hash(parcels.key, (2 * block + row).astype(np.int64), plot.astype(np.int64))
    size, kind = 0.26 + 0.16 * _uniform(key, 1), _uniform(key, 2)
    house = (
        (np.abs(x - 0.5 * length) < size * length) & (np.abs(y - 0.5 * depth) < (size - 0.04) * depth) & (kind < 0.94)
    )
    roof = np.where(industrial | (kind < 0.3), METAL_ROOF, TILE_ROOF)
    ground = np.where(industrial | (kind < 0.12), YARD, GARDEN)
    street = (row < 0) | (parcels.along < STREET_WIDTH_M)
    return np.where(street, STREET, np.where(house, roof, ground)).astype(np.uint8)


# --- Scenes -----------------------------------------------------------------------------------------------------------

# Per class, in the order of CLASSES: spread of brightness from patch to patch and within one, and the largest share of
# another endmember that a patch mixes in, which is one of four.
_PATCH_SPREAD = np.array([0.20, 0.15, 0.13, 0.13, 0.13, 0.18, 0.15, 0.06], dtype=np.float32)
_TEXTURE = np.array([0.04, 0.07, 0.16, 0.05, 0.04, 0.06, 0.10, 0.03], dtype=np.float32)
_ADMIXTURE = np.array([0.50, 0.22, 0.18, 0.22, 0.20, 0.25, 0.25, 0.25], dtype=np.float32)
_ADMIXED = np.vectorize(_ENDMEMBER.__getitem__)(
    [
        ["turbid_water", "turbid_water", "turbid_water", "shade"],
        ["loam", "clear_water", "leaf", "straw"],
        ["shade", "loam", "leaf", "straw"],
        ["straw", "loam", "leaf", "shade"],
        ["loam", "straw", "leaf", "shade"],
        ["straw", "loam", "rock", "leaf"],
        ["leaf", "concrete", "loam", "asphalt"],
        ["firn", "firn", "rock", "shade"],
    ]
)
# Sixteen draws of a material for each class, in proportion to the shares.
_MATERIAL_OF = np.array(
    [
        np.searchsorted(
            np.cumsum([m.share * (m.land_cover == c) for m in MATERIALS.values()]), (np.arange(16) + 0.5) / 16
        )
        for c in range(len(CLASSES))
    ],
    dtype=np.uint8,
)

# Backscatter in decibel, typical of C band, in the order of CLASSES. HH resembles VV but for stems above water.
_BACKSCATTER_DB = {
    "VV": np.array([-20.0, -9.5, -8.5, -12.5, -11.0, -14.5, -4.5, -15.5]),
    "VH": np.array([-28.0, -16.5, -13.5, -19.5, -17.0, -23.0, -12.0, -22.5]),
    "HH": np.array([-20.5, -7.5, -8.5, -12.5, -11.5, -14.0, -3.5, -15.0]),
}
_BACKSCATTER_DB["HV"] = _BACKSCATTER_DB["VH"]
# Kelvin above the air at noon in summer, in the order of CLASSES.
_WARMTH_K = np.array([-7.0, -3.0, -4.0, 0.0, 1.5, 8.0, 9.0, -8.0])
_CLOUD_TOP_K = 262.0


class _Ground(NamedTuple):
    """What one date's images are made of, one value a pixel, with a margin of one pixel around the scene."""

    land_cover: NDArray[np.uint8]
    material: NDArray[np.uint8]
    cohort: NDArray[np.uint8]
    admixed: NDArray[np.int64]
    admixture: NDArray[np.float32]
    brightness: NDArray[np.float32]
    patch: NDArray[np.float32]


def _check_band(band: Band) -> None:
    if band.kind not in NOISE_UNIT:
        raise MetadataError(
            f"Band {band.name!r} is of kind {band.kind!r}, which the synthetic world does not have. It has "
            f"{', '.join(NOISE_UNIT)}; leave the band out."
        )
    if band.kind == "reflective" and (
        band.center_nm is None or not MIN_WAVELENGTH_NM <= band.center_nm <= MAX_WAVELENGTH_NM
    ):
        raise MetadataError(
            f"Band {band.name!r} has center_nm={band.center_nm}; a reflective band of the synthetic world needs one of "
            f"{MIN_WAVELENGTH_NM:g} to {MAX_WAVELENGTH_NM:g} nanometres."
        )


@lru_cache(maxsize=64)
def _band_spectra(bands: tuple[Band, ...]) -> NDArray[np.float32]:
    """Endmembers as reflective bands see them, shape (bands, endmembers)."""
    center = np.array([band.center_nm for band in bands])
    fwhm = np.array([band.fwhm_nm or TYPICAL_RELATIVE_FWHM * band.center_nm for band in bands])
    return _over_response(center, fwhm).astype(np.float32)


def _spread(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Applies `POINT_SPREAD` to (bands, height + 2, width + 2); returns (bands, height, width)."""
    side, middle, _ = POINT_SPREAD
    image = middle * image[:, 1:-1] + side * (image[:, :-2] + image[:, 2:])
    return middle * image[..., 1:-1] + side * (image[..., :-2] + image[..., 2:])


def _coarsen(image: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Means over blocks of `factor` x `factor` pixels, on the fine grid."""
    height, width = image.shape[1:]
    blocks = np.pad(image, ((0, 0), (0, -height % factor), (0, -width % factor)), mode="edge")
    shape = (len(image), blocks.shape[1] // factor, factor, blocks.shape[2] // factor, factor)
    means = blocks.reshape(shape).mean((2, 4))
    return means.repeat(factor, 1).repeat(factor, 2)[:, :height, :width]


@dataclass(frozen=True, eq=False)
class SyntheticScene:
    """A place of the synthetic world on some dates; made by [`make_scene`].

    Args:
        seed: the world that it lies in.
        gsd_m: size of a pixel in metres.
        dates: the dates, oldest first.
        land_cover: (dates, height, width) uint8, positions in `CLASSES` at the centres of the pixels.
        crs: `EPSG:code` of a UTM zone.
        transform: affine map from pixel to map coordinates, as in [`ImageSeries`].
    """

    seed: int
    gsd_m: float
    dates: tuple[datetime, ...]
    land_cover: NDArray[np.uint8] = field(repr=False)
    crs: str
    transform: tuple[float, ...]
    _field: _Field = field(repr=False)
    _grounds: tuple[_Ground, ...] = field(repr=False)
    _elevation_m: NDArray[np.float32] = field(repr=False)
    _season_shift_days: float = field(repr=False)

    def labels(
        self,
        task: str,
        outputs: Sequence[Sequence[int]] | None = None,
        classes: Sequence[str] = CLASSES,
    ) -> NDArray[np.uint8]:
        """The exact maps that a task asks for; see [`Sample`].

        Args:
            task: one of `TASKS`.
            outputs: positions of the dates that each map describes. A semantic map shows the land cover on the last of
                its dates, a change map whether the land covers of its two dates differ. `None` = one map of all dates,
                each pair of neighbouring dates, or one map a date, by task.
            classes: names out of `CLASSES`, or out of the finer `MATERIALS`, that semantic maps tell apart; pixels of
                others are not labelled.

        Returns:
            (maps, height, width) uint8: positions in `classes`, or in `CHANGE_CLASSES` for change maps; 255 = not
            labelled.

        Raises:
            SyntheticError: an unknown task or class, a date that the scene does not have, or a change map without two
                dates.
        """
        _check_names("task", (task,), TASKS)
        known = _known_classes(classes)
        outputs = default_outputs(task, len(self.dates)) if outputs is None else tuple(map(tuple, outputs))
        for output in outputs:
            if not output or not all(0 <= position < len(self.dates) for position in output):
                raise SyntheticError(
                    f"outputs holds {output!r}; each entry names at least one of the {len(self.dates)} dates by its "
                    "position from 0."
                )
            if task == "binary_change_detection" and (len(output) != 2 or output[0] >= output[1]):
                raise SyntheticError(f"outputs holds {output!r}; a change map takes two dates, (before, after).")
        if not outputs:
            raise SyntheticError(
                f"{task} needs at least one output; a scene of one date has no pair of dates to compare."
            )
        if task == "binary_change_detection":
            maps = [self.land_cover[before] != self.land_cover[after] for before, after in outputs]
            return np.stack(maps).astype(np.uint8)
        position = np.full(len(known), IGNORE_INDEX, dtype=np.uint8)
        position[[known.index(name) for name in classes]] = np.arange(len(classes))
        if known == CLASSES:
            return position[np.stack([self.land_cover[max(output)] for output in outputs])]
        return position[np.stack([self._grounds[max(output)].material[1:-1, 1:-1] for output in outputs])]

    def observe(
        self,
        acquisitions: Sequence[Acquisition],
        *,
        noise: float = 0.005,
        clouds: float | Sequence[float] | FloatArray = 0.0,
        seed: int | None = None,
    ) -> ImageSeries:
        """Takes one image a date.

        A reflective band holds the surface's spectrum integrated over a Gaussian response of its centre and width (5 %
        of the centre where the width is unknown), thermal bands a temperature in kelvin, radar bands backscatter in
        decibel (VV where the polarisation is unknown), elevation bands metres. Where the metadata is unknown it stays
        unknown in the result. Images of a coarser GSD than the scene's are averaged and laid on its grid.

        Args:
            acquisitions: one a date of the scene, of any sensor. A `datetime` that is known must be the scene's.
            noise: standard deviation of white noise, in reflectance; 0.005 stands for 0.5 kelvin, 1 decibel (speckle
                after filtering) or 1 metre in bands of other kinds.
            clouds: share of the pixels under clouds of half opacity or more, 0 to 1, for all dates or one a date.
                Clouds cast shadows; radar and elevation do not see them.
            seed: for noise and clouds; `None` = that of the scene.

        Returns:
            The series with pixels, all of them valid, also under clouds.

        Raises:
            MetadataError: not one acquisition a date, another date than the scene's, a GSD finer than the scene's, or a
                band that the world does not have.
            SyntheticError: `noise`, `clouds` or `seed` is out of range.
        """
        acquisitions = tuple(acquisitions)
        if len(acquisitions) != len(self.dates):
            raise MetadataError(
                f"{len(acquisitions)} acquisitions were given for a scene of {len(self.dates)} dates. Give one a date."
            )
        for acquisition, when in zip(acquisitions, self.dates, strict=True):
            if acquisition.datetime not in (None, when):
                raise MetadataError(
                    f"An acquisition of {acquisition.datetime.isoformat()} was asked of a scene on {when.isoformat()}. "
                    "Make the scene with the dates of its acquisitions."
                )
            if acquisition.gsd_m is not None and acquisition.gsd_m < 0.999 * self.gsd_m:
                raise MetadataError(
                    f"An acquisition has gsd_m={acquisition.gsd_m:g}, but the scene's pixels measure {self.gsd_m:g} m. "
                    "Make the scene at the finest GSD."
                )
            for band in acquisition.bands:
                _check_band(band)
        shares = (clouds,) * len(acquisitions) if np.ndim(clouds) == 0 else tuple(clouds)
        if len(shares) != len(acquisitions) or not all(0.0 <= share <= 1.0 for share in shares):
            raise SyntheticError(f"clouds must be a share from 0 to 1, or one a date, got {clouds!r}.")
        _check_noise(noise)
        seed = self.seed if seed is None else _check_seed(seed)
        pixels = tuple(
            self._image(index, acquisition, noise, share, seed)
            for index, (acquisition, share) in enumerate(zip(acquisitions, shares, strict=True))
        )
        return ImageSeries(acquisitions, crs=self.crs, transform=self.transform, pixels=pixels)

    def _image(
        self, index: int, acquisition: Acquisition, noise: float, clouds: float, seed: int
    ) -> NDArray[np.float32]:
        kinds = [band.kind for band in acquisition.bands]
        image = np.empty((len(kinds), *self.land_cover.shape[1:]), dtype=np.float32)
        for kind, measure in (
            ("reflective", self._reflectance),
            ("thermal", self._temperature),
            ("sar", self._backscatter),
            ("elevation", self._elevation),
        ):
            channels = [channel for channel, other in enumerate(kinds) if other == kind]
            if channels:
                bands = tuple(acquisition.bands[channel] for channel in channels)
                image[channels] = _spread(measure(index, bands))
        if clouds > 0.0:
            self._add_clouds(image, index, acquisition.bands, clouds, seed)
        factor = round(acquisition.gsd_m / self.gsd_m) if acquisition.gsd_m else 1
        if factor > 1:
            image = _coarsen(image, factor)
        if noise > 0.0:
            deviation = np.array([noise * NOISE_UNIT[kind] for kind in kinds], dtype=np.float32)
            random = np.random.default_rng((seed, index)).standard_normal(image.shape, dtype=np.float32)
            image += random * deviation[:, None, None]
        return image

    def _day_of_year(self, index: int) -> float:
        when = self.dates[index]
        return (when - datetime(when.year, 1, 1)) / timedelta(days=1) + 1.0

    def _reflectance(self, index: int, bands: tuple[Band, ...]) -> NDArray[np.float32]:
        ground = self._grounds[index]
        days = self._day_of_year(index) - self._season_shift_days - _COHORT_DAYS
        table = _abundances(days).astype(np.float32)
        abundance = table.reshape(-1, len(ENDMEMBERS))[
            (ground.material.astype(np.intp) * len(days) + ground.cohort).ravel()
        ]
        abundance *= 1.0 - ground.admixture.reshape(-1, 1)
        abundance[np.arange(len(abundance)), ground.admixed.ravel()] += ground.admixture.ravel()
        values = (_band_spectra(bands) @ abundance.T).reshape(len(bands), *ground.land_cover.shape)
        return values * ground.brightness

    def _temperature(self, index: int, bands: tuple[Band, ...]) -> NDArray[np.float32]:
        summer = 0.5 - 0.5 * math.cos(2.0 * math.pi * (self._day_of_year(index) - 25.0) / 365.25)
        kelvin = 271.0 + 24.0 * summer + (0.3 + 0.7 * summer) * _WARMTH_K
        kelvin[SNOW] = min(kelvin[SNOW], 272.0)
        ground = self._grounds[index]
        values = (kelvin.astype(np.float32)[ground.land_cover] + 2.0 * (ground.patch - 0.5))[None]
        return values.repeat(len(bands), 0)

    def _backscatter(self, index: int, bands: tuple[Band, ...]) -> NDArray[np.float32]:
        table = np.stack([_BACKSCATTER_DB[band.polarisation or "VV"] for band in bands]).astype(np.float32)
        ground = self._grounds[index]
        return table[:, ground.land_cover] + 3.0 * (ground.patch - 0.5)

    def _elevation(self, index: int, bands: tuple[Band, ...]) -> NDArray[np.float32]:
        return self._elevation_m[None].repeat(len(bands), 0)

    def _add_clouds(
        self, image: NDArray[np.float32], index: int, bands: tuple[Band, ...], clouds: float, seed: int
    ) -> None:
        """Puts clouds and their shadows into an image, in place."""
        sky = self._field._replace(key=_hash(self._field.key, seed, index))
        wavelengths_m = (500.0, 210.0, 90.0, 40.0)
        density = sky(90, *wavelengths_m)[1:-1, 1:-1]
        # The sun stands in the south-east.
        shading = sky(90, *wavelengths_m, east=140.0, south=90.0)[1:-1, 1:-1]
        threshold = np.quantile(density, 1.0 - clouds)
        opacity, shadow = (
            np.clip(0.5 + 1.6 * (layer - threshold), 0.0, 1.0).astype(np.float32) for layer in (density, shading)
        )
        for channel, band in enumerate(bands):
            if band.kind == "reflective":
                image[channel] *= (1.0 - 0.55 * shadow) * (1.0 - opacity)
                image[channel] += _band_spectra((band,))[0, _ENDMEMBER["cloud"]] * opacity
            elif band.kind == "thermal":
                image[channel] += (_CLOUD_TOP_K - image[channel]) * opacity


class _Place(NamedTuple):
    """What stays at a place, one value a pixel, with the margin of [`_Ground`]; `cover` is that of the first date."""

    pixel: float
    in_mountains: NDArray[np.bool_]
    parcels: _Parcels
    cover: NDArray[np.int64]
    river: NDArray[np.bool_]
    road: NDArray[np.bool_]
    town: NDArray[np.uint8]
    relief: FloatArray
    ridge: FloatArray
    alpine: FloatArray
    bend: FloatArray
    elevation_m: FloatArray
    hillshade: FloatArray
    texture: NDArray[np.float32]
    mixing: FloatArray


def _place(waves: _Field) -> _Place:
    """Lays out districts, parcels, woods, rivers, roads and mountains."""
    key, pixel = waves.key, float(waves.x[1] - waves.x[0])
    mountains = waves(10, 6000.0, 2000.0, 500.0) - _MOUNTAIN_LEVEL
    in_mountains, relief = mountains > 0.0, _step(mountains, 0.0, 0.15)
    bend_x, bend_y = waves(11, 200.0), waves(12, 200.0)
    east, south = np.broadcast_arrays(waves.x, waves.y[:, None])
    district, dx, dy, to_district = _districts(_hash(key, 20), east + 30.0 * bend_x, south + 30.0 * bend_y)
    zone = np.where(in_mountains, _MOUNTAIN, np.searchsorted(_DISTRICT_SHARES, _uniform(district, 21), side="right"))
    # The offsets from the district's site have bends of 30 m in them already.
    bend_m = _PARCEL_BEND_M[zone] - 30.0
    parcels = _parcels(district, zone, dx + bend_m * bend_x, dy + bend_m * bend_y)
    industrial = _MATERIAL_OF[URBAN, _hash(parcels.key, URBAN) & np.uint64(15)] == INDUSTRY

    ridge = waves(13, 1300.0, 620.0, 260.0, 110.0)
    elevation_m = 180.0 + (14.0 + 90.0 * relief) * ridge + 900.0 * relief
    slope_y, slope_x = np.gradient(elevation_m, pixel)

    stream = waves(14, 2600.0, 600.0)
    stream_y, stream_x = np.gradient(stream, pixel)
    to_river = np.abs(stream) / np.maximum(np.hypot(stream_x, stream_y), 1e-4)
    river_width_m = (22.0 + 26.0 * _uniform(key, 22)) * (1.0 - relief)
    road = ~in_mountains & (zone != _HEATH) & (2.0 * to_district < ROAD_WIDTH_M) & (pixel <= ROAD_WIDTH_M)

    cover = (_uniform(parcels.key, 23)[..., None] > _PARCEL_COVER[zone, :-1]).sum(-1)
    wooded = (waves(15, 420.0, 170.0, 70.0) > _FOREST_LEVEL[zone]) & (cover != URBAN)
    return _Place(
        pixel=pixel,
        in_mountains=in_mountains,
        parcels=parcels,
        cover=np.where(wooded, FOREST, cover),
        river=(2.0 * to_river < river_width_m) & (river_width_m >= pixel),
        road=road,
        town=_town(parcels, industrial),
        relief=relief,
        ridge=ridge,
        alpine=ridge + 1.3 * mountains,
        bend=bend_x,
        elevation_m=elevation_m,
        hillshade=np.clip(1.0 - 0.7 * (slope_x + slope_y), 0.5, 1.4),
        texture=(0.7 * waves(16, 45.0) + 0.7 * waves(17, 8.0)).astype(np.float32),
        mixing=waves(18, 300.0, 90.0),
    )


def _ground(
    key: NDArray[np.uint64],
    place: _Place,
    cover: NDArray[np.int64],
    lake_rise: float,
    snow_rise: float,
    gain: float,
) -> _Ground:
    """What one date looks like: the land cover, and the material, mixture and brightness of each pixel."""
    parcels = place.parcels
    land = np.where(place.in_mountains, _MOUNTAIN_COVER[cover], cover)
    land[(place.alpine > _ROCK_LINE + 0.4 * place.bend) & place.in_mountains & (land != FOREST)] = BARE_SOIL
    land[(place.alpine > _SNOW_LINE + snow_rise) & place.in_mountains] = SNOW
    lake_level = _LAKE_LEVEL + lake_rise - 0.5 * place.relief
    wet_band = _WET_BAND * (1.0 + place.bend) * (1.0 - place.relief)
    land[(place.ridge < lake_level + wet_band) & (land != URBAN)] = WETLAND
    lake = place.ridge < lake_level
    land[lake | place.river] = WATER
    road = place.road & ~lake
    land[road] = URBAN

    # Lakes and glaciers do not end at parcel borders.
    patch = _hash(np.where((land == WATER) | (land == SNOW), key, parcels.key), land)
    material = _MATERIAL_OF[land, patch & np.uint64(15)]
    if place.pixel <= TOWN_GSD_M:
        material = np.where(land == URBAN, np.where(road, STREET, place.town), material)
    if place.pixel <= DETAIL_GSD_M:
        garden, tree = material == GARDEN, place.texture > 1.0
        margin = (land == CROPLAND) & (parcels.border < FIELD_MARGIN_M)
        land = np.where(garden & tree, FOREST, np.where(garden | margin, GRASSLAND, land))
        material = np.where(garden & tree, BROADLEAF, np.where(garden | margin, MEADOW, material))
    tone = (patch >> np.uint64(16) & np.uint64(0xFFFF)).astype(np.float32) / 32768.0 - 1.0
    amount = (patch >> np.uint64(32) & np.uint64(0xFFFF)).astype(np.float32) / 65536.0
    mixing = np.clip(0.75 * amount + 0.25 * place.mixing + 0.1 * place.texture, 0.0, 1.0)
    brightness = gain * place.hillshade * (1.0 + _PATCH_SPREAD[land] * tone) * (1.0 + _TEXTURE[land] * place.texture)
    return _Ground(
        land_cover=land.astype(np.uint8),
        material=material.astype(np.uint8),
        cohort=((patch >> np.uint64(4)) % np.uint64(len(_COHORT_DAYS))).astype(np.uint8),
        admixed=_ADMIXED[land, patch >> np.uint64(8) & np.uint64(3)],
        admixture=(_ADMIXTURE[land] * mixing).astype(np.float32),
        brightness=brightness.astype(np.float32),
        patch=amount,
    )


def _check_names(what: str, names: Sequence[str], known: Sequence[str]) -> None:
    unknown = [name for name in names if name not in known]
    if unknown or not names or len(set(names)) != len(names):
        problem = (
            f"unknown {what} {unknown[0]!r}" if unknown else f"needs at least one {what}, each once, got {names!r}"
        )
        raise SyntheticError(f"{problem[0].upper()}{problem[1:]}; known are {', '.join(known)}.")


def _known_classes(classes: Sequence[str]) -> tuple[str, ...]:
    """The vocabulary that classes are names of: land covers, or else materials."""
    known = tuple(MATERIALS) if any(name in MATERIALS for name in classes) else CLASSES
    _check_names("class", classes, known)
    return known


def _check_seed(seed: int) -> int:
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**63:
        raise SyntheticError(f"seed must be a whole number from 0 to 2^63 - 1, got {seed!r}.")
    return int(seed)


def _check_count(what: str, count: int) -> None:
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or count < 1:
        raise SyntheticError(f"{what} must be a whole number, 1 or more, got {count!r}.")


def _check_noise(noise: float) -> None:
    if not 0.0 <= noise < math.inf:
        raise SyntheticError(f"noise must be finite and 0 or more, got {noise!r}.")


def make_scene(
    seed: int,
    height: int,
    width: int,
    *,
    gsd_m: float = 10.0,
    dates: Sequence[str | date | datetime] = ("2021-07-01",),
    change_fraction: float = 0.2,
) -> SyntheticScene:
    """Draws a place of the synthetic world and its changes.

    Fields, woods, heaths and towns with streets and houses lie in districts about half a kilometre wide; lakes with
    wetlands around them, rivers, and mountains with snow lie across. Labels are exact: the land cover at the centre of
    each pixel, while images mix in the neighbours (`POINT_SPREAD`).

    Args:
        seed: the world, 0 or more.
        height: rows of pixels.
        width: columns of pixels.
        gsd_m: size of a pixel in metres. Up to `MAPPING_GSD_M` a scene starts at the same corner of the same place and
            shows it in more or less detail; beyond, shapes grow with the pixel. Up to `DETAIL_GSD_M` gardens, trees and
            field margins are labelled by themselves.
        dates: the dates, oldest first (see `parse_datetime`).
        change_fraction: probability, 0 to 1, that a parcel becomes another class between two dates that differ; lakes
            and snow lines move in proportion. 0 = the land cover stays, and only the season changes.

    Returns:
        The scene, the same for the same arguments.

    Raises:
        MetadataError: a date is unknown or out of order.
        SyntheticError: another argument is out of range.
    """
    seed = _check_seed(seed)
    _check_count("height", height)
    _check_count("width", width)
    if not 0.0 < gsd_m < math.inf:
        raise SyntheticError(f"gsd_m must be finite and above 0, got {gsd_m!r}.")
    if not 0.0 <= change_fraction <= 1.0:
        raise SyntheticError(f"change_fraction must lie between 0 and 1, got {change_fraction!r}.")
    days = tuple(parse_datetime(when) for when in dates)
    if not days or None in days or list(days) != sorted(days):
        raise MetadataError(f"A scene needs at least one date, all known, oldest first, got {list(dates)!r}.")

    key = _hash(np.zeros(1, dtype=np.uint64), seed)
    pixel = min(gsd_m, MAPPING_GSD_M)
    # One pixel more on each side, for the sensor's point spread.
    x, y = ((np.arange(-1, size + 1) + 0.5) * pixel for size in (width, height))
    waves = _Field(key, x, y)
    place = _place(waves)
    cover, lake_rise, snow_rise = place.cover, 0.0, 0.0
    grounds = []
    for index, when in enumerate(days):
        if index and when > days[index - 1]:
            changes = _uniform(place.parcels.key, 30 + cover, index) < change_fraction
            successor = (_BECOMES.shape[1] * _uniform(place.parcels.key, 40, index)).astype(np.intp)
            cover = np.where(changes, _BECOMES[cover, successor], cover)
            lake_rise += change_fraction * 3.4 * (_number(key, 50, index) - 0.5)
            snow_rise += change_fraction * 3.4 * (_number(key, 51, index) - 0.5)
        grounds.append(_ground(key, place, cover, lake_rise, snow_rise, 0.92 + 0.16 * _number(key, 60, index)))
    land_cover = np.stack([ground.land_cover[1:-1, 1:-1] for ground in grounds])
    land_cover.flags.writeable = False
    west, north = 300_000.0 + 1000.0 * int(400 * _number(key, 70)), 4_700_000.0 + 1000.0 * int(900 * _number(key, 71))
    return SyntheticScene(
        seed=seed,
        gsd_m=float(gsd_m),
        dates=days,
        land_cover=land_cover,
        crs=f"EPSG:{32630 + int(8 * _number(key, 72))}",
        transform=(float(gsd_m), 0.0, west, 0.0, -float(gsd_m), north),
        _field=waves,
        _grounds=tuple(grounds),
        _elevation_m=place.elevation_m.astype(np.float32),
        _season_shift_days=20.0 * _number(key, 61) - 10.0,
    )


# --- Data sets --------------------------------------------------------------------------------------------------------

DEFAULT_SENSORS = ("sentinel-2", "landsat-8-oli-tirs", "planetscope-superdove", "worldview-3")


class _SensorRecord(NamedTuple):
    name: str | None
    bands: tuple[Band, ...]
    gsd_m: float | None


class SyntheticDataset(Dataset):
    """Samples of the synthetic world, each fixed by the seed and its index.

    Semantic segmentation asks for one map of a series whose land cover stays while the seasons pass; change tasks ask
    for each pair of neighbouring dates, or each date, of a series over years.

    Args:
        length: number of samples.
        sensors: names of the sensor table (see `find_sensor`), or tuples of [`Band`]; one is drawn a sample.
        tasks: drawn from with equal chances.
        classes: what semantic maps tell apart, out of `CLASSES` or of the finer `MATERIALS`; pixels of others are not
            labelled.
        sizes: least and greatest height and width in pixels, drawn apart.
        num_dates: least and greatest number of dates; change tasks have two or more.
        gsd_m: least and greatest size of a pixel in metres, drawn evenly on a logarithmic scale; `None` = that of the
            finest band of the sensors drawn.
        noise: see [`SyntheticScene.observe`].
        clouds: greatest share of clouds; each date's is drawn between 0 and this.
        change_fraction: least and greatest `change_fraction` of [`make_scene`], for the change tasks.
        random_bands: probability of other bands than the sensor has: with equal chances some of its own, or 2 to 12
            anywhere from 420 to 2300 nm and 8 to 350 nm wide (evenly on a logarithmic scale). They teach a model to
            read wavelengths, and so to work on sensors that it never met.
        mixed_sensors: probability that each date has a sensor of its own.
        seed: 0 or more.

    Raises:
        MetadataError: an unknown sensor, or one with a band that the synthetic world does not have.
        SyntheticError: another argument is out of range.
    """

    name = "synthetic"

    def __init__(
        self,
        length: int,
        *,
        sensors: Sequence[str | Sequence[Band]] = DEFAULT_SENSORS,
        tasks: Sequence[str] = TASKS,
        classes: Sequence[str] = CLASSES,
        sizes: tuple[int, int] = (32, 64),
        num_dates: tuple[int, int] = (1, 3),
        gsd_m: tuple[float, float] | None = (5.0, 30.0),
        noise: float = 0.005,
        clouds: float = 0.0,
        change_fraction: tuple[float, float] = (0.1, 0.4),
        random_bands: float = 0.0,
        mixed_sensors: float = 0.0,
        seed: int = 0,
    ):
        _check_count("length", length)
        _check_names("task", tasks, TASKS)
        _known_classes(classes)
        for what, value in (("sizes", sizes), ("num_dates", num_dates)):
            _check_range(what, value, 1.0)
            for count in value:
                _check_count(what, count)
        if gsd_m is not None:
            _check_range("gsd_m", gsd_m, 0.001)
        _check_range("change_fraction", change_fraction, 0.0, 1.0)
        for what, value in (("clouds", clouds), ("random_bands", random_bands), ("mixed_sensors", mixed_sensors)):
            if not 0.0 <= value <= 1.0:
                raise SyntheticError(f"{what} must lie between 0 and 1, got {value!r}.")
        _check_noise(noise)
        if isinstance(sensors, str) or not sensors:
            raise SyntheticError(f"sensors must be a sequence of at least one sensor, got {sensors!r}.")
        self.length = length
        self.tasks = tuple(tasks)
        self.classes = tuple(classes)
        self.sizes, self.num_dates, self.gsd_m = tuple(sizes), tuple(num_dates), gsd_m
        self.noise, self.clouds, self.change_fraction = noise, clouds, tuple(change_fraction)
        self.random_bands, self.mixed_sensors = random_bands, mixed_sensors
        self.seed = _check_seed(seed)
        self._sensors = tuple(_look_up(sensor, gsd_m is None) for sensor in sensors)

    def __len__(self) -> int:
        return self.length

    def class_names(self, task: str) -> tuple[str, ...]:
        """The classes that samples of a task ask for."""
        return CHANGE_CLASSES if task == "binary_change_detection" else self.classes

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.length:
            raise IndexError(f"Sample {index} was asked for; this data set has samples 0 to {self.length - 1}.")
        rng = np.random.default_rng((self.seed, int(index)))
        task = self.tasks[rng.integers(len(self.tasks))]
        dates = self._draw_dates(rng, task)
        records = self._draw_records(rng, len(dates))
        if self.gsd_m is None:
            gsd_m = min(record.gsd_m for record in records)
        else:
            gsd_m = float(np.exp(rng.uniform(*np.log(self.gsd_m))))
        height, width = (int(size) for size in rng.integers(self.sizes[0], self.sizes[1] + 1, 2))
        scene = make_scene(
            int(rng.integers(2**62)),
            height,
            width,
            gsd_m=gsd_m,
            dates=dates,
            change_fraction=0.0 if task == "semantic_segmentation" else float(rng.uniform(*self.change_fraction)),
        )
        series = scene.observe(
            [Acquisition(record.bands, when, gsd_m, record.name) for record, when in zip(records, dates, strict=True)],
            noise=self.noise,
            clouds=rng.uniform(0.0, self.clouds, len(dates)),
        )
        outputs = default_outputs(task, len(dates))
        labels = scene.labels(task, outputs, self.classes)
        return Sample(series, task, self.class_names(task), outputs, labels, self.name, f"{self.seed}-{index}")

    def _draw_dates(self, rng: np.random.Generator, task: str) -> list[datetime]:
        """Days of one year where the land cover stays, months to years apart where it changes."""
        least, most = self.num_dates
        if task == "semantic_segmentation":
            days = np.sort(rng.integers(0, 365, rng.integers(least, most + 1)))
        else:
            num_dates = rng.integers(max(2, least), max(2, most) + 1)
            days = rng.integers(0, 365) + np.cumsum(rng.integers(120, 900, num_dates))
        start = datetime(int(rng.integers(2014, 2024)), 1, 1, 10, 30)
        return [start + timedelta(days=int(day)) for day in days]

    def _draw_records(self, rng: np.random.Generator, num_dates: int) -> list[_SensorRecord]:
        """The sensor of each date."""
        drawn = num_dates if rng.random() < self.mixed_sensors else 1
        records = []
        for _ in range(drawn):
            record = self._sensors[rng.integers(len(self._sensors))]
            if rng.random() < self.random_bands:
                record = _with_random_bands(rng, record)
            records.append(record)
        return records * (num_dates // drawn)


def _check_range(what: str, values: Sequence[float], least: float, most: float = math.inf) -> None:
    if len(values) != 2 or not least <= values[0] <= values[1] <= most or values[1] == math.inf:
        raise SyntheticError(
            f"{what} must be (least, greatest) with {least:g} <= least <= greatest <= {most:g}, got {values!r}."
        )


def _look_up(sensor: str | Sequence[Band], needs_gsd: bool) -> _SensorRecord:
    if isinstance(sensor, str):
        found = find_sensor(sensor)
        gsd_m = min((record.gsd_m for record in found.bands if record.gsd_m is not None), default=None)
        record = _SensorRecord(found.name, sensor_bands(found), gsd_m)
    else:
        record = _SensorRecord(None, Acquisition(tuple(sensor)).bands, None)
    for band in record.bands:
        _check_band(band)
    if needs_gsd and record.gsd_m is None:
        raise SyntheticError(f"The GSD of sensor {sensor!r} is unknown. Give a range, gsd_m=(least, greatest).")
    return record


def _with_random_bands(rng: np.random.Generator, record: _SensorRecord) -> _SensorRecord:
    """The sensor with some of its bands, or a nameless one with bands that none has."""
    if rng.random() < 0.5:
        count = len(record.bands)
        kept = np.sort(rng.choice(count, rng.integers(1, count + 1), replace=False))
        return record._replace(bands=tuple(record.bands[position] for position in kept))
    centers = np.sort(rng.uniform(420.0, 2300.0, rng.integers(2, 13))).round(1)
    widths = np.exp(rng.uniform(*np.log((8.0, 350.0)), len(centers))).round(1)
    pairs = enumerate(zip(centers, widths, strict=True), start=1)
    bands = tuple(Band(f"R{number:02d}", float(center), float(width)) for number, (center, width) in pairs)
    return record._replace(name=None, bands=bands)
