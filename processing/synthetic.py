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

from .datasets import IGNORE_INDEX, Sample
from .metadata import Acquisition, Band, ImageSeries, MetadataError, parse_datetime

CLASSES = ("water", "wetland", "forest", "grassland", "cropland", "bare_soil", "urban", "snow")
CHANGE_CLASSES = ("unchanged", "changed")
TASKS = ("semantic_segmentation", "binary_change_detection", "semantic_change_detection")
WATER, WETLAND, FOREST, GRASSLAND, CROPLAND, BARE_SOIL, URBAN, SNOW = range(len(CLASSES))

MIN_WAVELENGTH_NM, MAX_WAVELENGTH_NM = 350.0, 2600.0
# Share of the centre wavelength that stands for an unknown width: what multispectral bands typically have.
TYPICAL_RELATIVE_FWHM = 0.05
FWHM_PER_SIGMA = math.sqrt(8.0 * math.log(2.0))

# Above this pixel size shapes grow with the pixel, as maps of a coarse scale generalise what is too small to draw.
MAPPING_GSD_M = 30.0
# Gardens, field margins and trees between houses get labels of their own up to this pixel size.
DETAIL_GSD_M = 4.0
ROAD_WIDTH_M = 11.0
STREET_WIDTH_M = 7.0

# Weights of a pixel and its two neighbours along each axis: the sensor's point spread.
POINT_SPREAD = (0.2, 0.6, 0.2)
# What one unit of `noise` (given in reflectance) means for bands of another kind: kelvin, decibel, metres.
NOISE_UNIT = {"reflective": 1.0, "thermal": 50.0, "sar": 100.0, "elevation": 100.0}

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
    return narrow + 1.9 * _bump(nm, 1940, 80) + 1.2 * _bump(nm, 2500, 180) + 0.55 * (_step(nm, 1350, 40) + _step(nm, 1880, 30))


def _ice(nm: FloatArray) -> FloatArray:
    """Optical depth of a snow pack: weak bands near 1030 and 1260 nm, opaque near 1500 and 2000 nm."""
    weak = 0.06 * _step(nm, 800, 60) + 0.17 * _bump(nm, 1030, 35) + 0.25 * _step(nm, 1180, 25) + 0.25 * _bump(nm, 1260, 45)
    return weak + 1.5 * _step(nm, 1420, 15) + 1.4 * _bump(nm, 1510, 60) + 1.7 * _bump(nm, 2010, 70)


def _rise(nm: FloatArray, scale: float) -> FloatArray:
    return 1.0 - np.exp(-(nm - 330.0) / scale)


def _clay_and_water(nm: FloatArray) -> FloatArray:
    """Optical depth of moist mineral soil: water near 1410 and 1920 nm, clay near 2205 nm, iron near 870 nm."""
    return 0.05 * _bump(nm, 870, 70) + 0.1 * _bump(nm, 1410, 35) + 0.28 * _bump(nm, 1920, 50) + 0.12 * _bump(nm, 2205, 25)


# Reflectance of pure materials against wavelength in nanometres; see `reflectance` for where the shapes come from.
ENDMEMBERS = {
    "leaf": lambda nm: 0.028 + 0.055 * _bump(nm, 550, 32) + 0.43 * _step(nm, 715, 12) * np.exp(-_leaf_water(nm)),
    "needle": lambda nm: 0.018 + 0.024 * _bump(nm, 552, 36) + 0.25 * _step(nm, 719, 14) * np.exp(-1.35 * _leaf_water(nm)),
    "straw": lambda nm: 0.05 + 0.36 * _step(nm, 630, 95) * np.exp(
        -0.15 * _bump(nm, 1450, 50) - 0.35 * _bump(nm, 1940, 60) - 0.25 * _bump(nm, 2100, 45) - 0.2 * _step(nm, 1900, 90)
    ),
    "loam": lambda nm: 0.015 + 0.30 * _rise(nm, 900) * np.exp(-_clay_and_water(nm)),
    "sand": lambda nm: 0.06 + 0.40 * _rise(nm, 420) * np.exp(-_clay_and_water(nm)),
    "rock": lambda nm: 0.10 + 0.17 * _rise(nm, 600) * np.exp(-0.15 * _bump(nm, 2330, 40) - 0.1 * _bump(nm, 1000, 150)),
    "clear_water": lambda nm: 0.003 + 0.05 * np.exp(-((nm - 420) / 130)) * _step(nm, 370, 15),
    "turbid_water": lambda nm: 0.004 + 0.095 * _bump(nm, 575, 85) + 0.022 * _bump(nm, 810, 40),
    "asphalt": lambda nm: 0.06 + 0.085 * _rise(nm, 900),
    "concrete": lambda nm: 0.14 + 0.21 * _rise(nm, 350) * np.exp(-0.1 * _bump(nm, 1930, 60) - 0.15 * _bump(nm, 2340, 40)),
    "tile": lambda nm: 0.05 + 0.27 * _step(nm, 590, 28) * np.exp(-0.12 * _bump(nm, 870, 80)) + 0.05 * _step(nm, 1200, 200),
    "metal": lambda nm: 0.33 + 0.10 * _rise(nm, 300) - 0.05 * _step(nm, 1700, 200),
    "snow_pack": lambda nm: 0.94 * np.exp(-_ice(nm)),
    "firn": lambda nm: 0.62 * np.exp(-1.6 * _ice(nm)),
    "shade": lambda nm: 0.008 + 0.0 * nm,
    "cloud": lambda nm: 0.74 * np.exp(-0.25 * _step(nm, 1400, 25) - 0.3 * _step(nm, 1900, 30) - 0.4 * _bump(nm, 1480, 50)),
}
_ENDMEMBER = {name: index for index, name in enumerate(ENDMEMBERS)}


class Material(NamedTuple):
    """A kind of ground.

    `share` is the part of its class that is made of it; `peak` and `rest` are the endmembers that it mixes in and out of
    season; `season` holds the days of the year of half green-up and half senescence (`None` = the same all year).
    """

    land_cover: int
    share: float
    peak: dict[str, float]
    rest: dict[str, float] | None = None
    season: tuple[float, float] | None = None


_MEADOW = {"leaf": 0.66, "straw": 0.18, "loam": 0.10, "shade": 0.06}, {"leaf": 0.28, "straw": 0.42, "loam": 0.30}, (82, 308)
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
    "conifer": Material(
        FOREST, 0.45, {"needle": 0.95, "shade": 0.05}, {"needle": 0.85, "shade": 0.15}, (110, 300)
    ),
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
    "built_up": Material(URBAN, 0.7, _TOWN | {"leaf": 0.27}, _TOWN | {"straw": 0.14, "loam": 0.13}, (95, 300)),
    "industry": Material(URBAN, 0.3, {"asphalt": 0.40, "concrete": 0.35, "metal": 0.25}),
    "glacier": Material(SNOW, 1.0, {"snow_pack": 1.0}),
    # What towns are made of where pixels are small; no share, for the pattern of streets decides where they lie.
    "street": Material(URBAN, 0.0, {"asphalt": 1.0}),
    "tile_roof": Material(URBAN, 0.0, {"tile": 1.0}),
    "metal_roof": Material(URBAN, 0.0, {"metal": 0.8, "concrete": 0.2}),
    "yard": Material(URBAN, 0.0, {"concrete": 0.7, "asphalt": 0.3}),
    "garden": Material(URBAN, 0.0, *_MEADOW),
}
_MATERIAL = {name: index for index, name in enumerate(MATERIALS)}

# Days by which neighbours run ahead of the calendar or behind it.
_COHORT_DAYS = np.array([-14.0, -7.0, 0.0, 7.0, 14.0])
# Time that green-up and senescence take; the exponent's scale.
_TURNOVER_DAYS = 9.0


def _endmembers(nm: FloatArray) -> FloatArray:
    """Reflectance of all endmembers, shape (..., endmembers), at wavelengths `nm` of shape (...)."""
    return np.stack([spectrum(nm) for spectrum in ENDMEMBERS.values()], axis=-1)


def _greenness(day_of_year: ArrayLike, season: tuple[float, float]) -> FloatArray:
    day, (green_up, senescence) = np.asarray(day_of_year, dtype=float), season
    return _step(day, green_up, _TURNOVER_DAYS) - _step(day, senescence, _TURNOVER_DAYS)


def _abundances(day_of_year: ArrayLike) -> FloatArray:
    """Share of each endmember in each material, shape (materials, ..., endmembers), on days of shape (...)."""
    days = np.asarray(day_of_year, dtype=float)
    table = np.zeros((len(MATERIALS), *days.shape, len(ENDMEMBERS)))
    for row, material in zip(table, MATERIALS.values(), strict=True):
        green = 1.0 if material.season is None else _greenness(days, material.season)
        for part, weight in ((material.peak, green), (material.rest or {}, 1.0 - np.asarray(green))):
            for name, share in part.items():
                row[..., _ENDMEMBER[name]] += share * weight
    return table


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
        key = (key ^ np.asarray(number, dtype=np.int64).view(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
        key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        key ^= key >> np.uint64(31)
    return key


def _uniform(key: NDArray[np.uint64], *numbers: ArrayLike) -> NDArray[np.float32]:
    """Random numbers in [0, 1) that depend on `key` and the integers `numbers` only."""
    return (_hash(key, *numbers) >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)


def _spline(position: FloatArray) -> tuple[FloatArray, NDArray[np.int64]]:
    """Cubic B-spline weights, shape (knots, positions), of the knots (whole numbers) around sorted positions."""
    knots = np.arange(math.floor(position[0]) - 1, math.floor(position[-1]) + 3)
    distance = np.abs(position - knots[:, None])
    inner = 2.0 / 3.0 - distance**2 * (1.0 - 0.5 * distance)
    return np.where(distance < 1.0, inner, np.maximum(2.0 - distance, 0.0) ** 3 / 6.0), knots


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
_PARCEL_BEND_M = np.array([4.0, 30.0, 3.0, 38.0, 45.0])
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
_WATER_LEVEL, _WETLAND_BAND, _TARN_LEVEL, _ROCK_LINE, _SNOW_LINE, _MOUNTAIN_LEVEL = -1.25, 0.28, -1.7, -0.1, 0.25, 0.55
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
    """Fields, blocks and stands: their keys, and for each pixel metres from their west and north ends and any border."""

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
    house = (np.abs(x - 0.5 * length) < size * length) & (np.abs(y - 0.5 * depth) < (size - 0.04) * depth) & (kind < 0.94)
    roof = np.where(industrial | (kind < 0.3), METAL_ROOF, TILE_ROOF)
    ground = np.where(industrial | (kind < 0.12), YARD, GARDEN)
    street = (row < 0) | (parcels.along < STREET_WIDTH_M)
    return np.where(street, STREET, np.where(house, roof, ground)).astype(np.uint8)


# --- Scenes -----------------------------------------------------------------------------------------------------------

# Per class, in the order of CLASSES: spread of brightness from patch to patch and within one, and how much of another
# endmember mixes in.
_PATCH_SPREAD = np.array([0.20, 0.20, 0.18, 0.16, 0.16, 0.22, 0.20, 0.06])
_TEXTURE = np.array([0.04, 0.08, 0.13, 0.06, 0.05, 0.07, 0.12, 0.03])
_ADMIXTURE = np.array([0.5, 0.45, 0.35, 0.45, 0.45, 0.4, 0.35, 0.25])
_ADMIXED = tuple(ENDMEMBER_NAMES) = ()
