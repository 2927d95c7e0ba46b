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
_ENDMEMBER_INDEX = {name: index for index, name in enumerate(ENDMEMBERS)}


class Material(NamedTuple):
    """A kind of ground: what it mixes at the peak of its season and at rest, and when the season is.

    `season` holds the days of the year of half green-up and half senescence; `None` = the same all year. `share` is the
    part of its class that is made of it.
    """

    land_cover: int
    share: float
    peak: dict[str, float]
    rest: dict[str, float]
    season: tuple[float, float] | None = None


_RESIDENTIAL = {"asphalt": 0.32, "concrete": 0.14, "tile": 0.22, "metal": 0.05}
_MEADOW_PEAK = {"leaf": 0.66, "straw": 0.18, "loam": 0.10, "shade": 0.06}
_MEADOW_REST = {"leaf": 0.28, "straw": 0.42, "loam": 0.30}
MATERIALS = {
    "lake": Material(WATER, 1.0, {"clear_water": 1.0}, {"clear_water": 1.0}),
    "marsh": Material(
        WETLAND, 0.6, {"leaf": 0.46, "turbid_water": 0.4, "straw": 0.14}, {"straw": 0.4, "turbid_water": 0.5, "loam": 0.1}, (128, 282)
    ),
    "bog": Material(
        WETLAND, 0.4, {"leaf": 0.34, "needle": 0.2, "clear_water": 0.26, "straw": 0.2}, {"straw": 0.36, "clear_water": 0.34, "needle": 0.3}, (140, 270)
    ),
    "broadleaf": Material(FOREST, 0.55, {"leaf": 0.82, "shade": 0.18}, {"straw": 0.28, "loam": 0.36, "shade": 0.36}, (116, 294)),
    "conifer": Material(FOREST, 0.45, {"needle": 0.95, "shade": 0.05}, {"needle": 0.85, "shade": 0.15}, (110, 300)),
    "meadow": Material(GRASSLAND, 0.6, _MEADOW_PEAK, _MEADOW_REST, (82, 308)),
    "pasture": Material(
        GRASSLAND, 0.4, {"leaf": 0.45, "straw": 0.37, "loam": 0.18}, {"leaf": 0.14, "straw": 0.58, "loam": 0.28}, (88, 205)
    ),
    "cereal": Material(CROPLAND, 0.5, {"leaf": 0.9, "loam": 0.1}, {"straw": 0.34, "loam": 0.66}, (72, 192)),
    "maize": Material(CROPLAND, 0.5, {"leaf": 0.94, "loam": 0.06}, {"loam": 0.88, "straw": 0.12}, (158, 266)),
    "sand": Material(BARE_SOIL, 0.35, {"sand": 0.9, "straw": 0.1}, {"sand": 0.9, "straw": 0.1}),
    "gravel": Material(BARE_SOIL, 0.35, {"rock": 0.8, "sand": 0.2}, {"rock": 0.8, "sand": 0.2}),
    "ploughed": Material(BARE_SOIL, 0.3, {"loam": 0.6, "sand": 0.4}, {"loam": 0.6, "sand": 0.4}),
    "built_up": Material(URBAN, 0.7, _RESIDENTIAL | {"leaf": 0.27}, _RESIDENTIAL | {"straw": 0.14, "loam": 0.13}, (95, 300)),
    "industry": Material(URBAN, 0.3, {"asphalt": 0.4, "concrete": 0.35, "metal": 0.25}, {"asphalt": 0.4, "concrete": 0.35, "metal": 0.25}),
    "glacier": Material(SNOW, 1.0, {"snow_pack": 1.0}, {"snow_pack": 1.0}),
    # What towns are made of where pixels are small; no share, for the pattern of streets decides where they lie.
    "street": Material(URBAN, 0.0, {"asphalt": 1.0}, {"asphalt": 1.0}),
    "tile_roof": Material(URBAN, 0.0, {"tile": 1.0}, {"tile": 1.0}),
    "metal_roof": Material(URBAN, 0.0, {"metal": 0.8, "concrete": 0.2}, {"metal": 0.8, "concrete": 0.2}),
    "yard": Material(URBAN, 0.0, {"concrete": 0.7, "asphalt": 0.3}, {"concrete": 0.7, "asphalt": 0.3}),
    "garden": Material(URBAN, 0.0, _MEADOW_PEAK, _MEADOW_REST, (82, 308)),
}
_MATERIAL_INDEX = {name: index for index, name in enumerate(MATERIALS)}
BUILT_UP, STREET, TILE_ROOF, METAL_ROOF, YARD, GARDEN, INDUSTRY, MEADOW, BROADLEAF = (
    _MATERIAL_INDEX[name]
    for name in ("built_up", "street", "tile_roof", "metal_roof", "yard", "garden", "industry", "meadow", "broadleaf")
)
