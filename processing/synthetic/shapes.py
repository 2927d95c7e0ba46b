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
"""Where things lie: districts, parcels, towns, woods, rivers, roads and mountains; and their look on a date."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .materials import (
    BARE_SOIL,
    BROADLEAF,
    COHORT_DAYS,
    CROPLAND,
    ENDMEMBER_INDEX,
    FOREST,
    GARDEN,
    GRASSLAND,
    INDUSTRY,
    MATERIAL_DRAWS,
    MEADOW,
    METAL_ROOF,
    SNOW,
    STREET,
    TILE_ROOF,
    URBAN,
    WATER,
    WETLAND,
    YARD,
    FloatArray,
    logistic,
)
from .noise import NoiseField, random_bits, uniform

# Gardens, field margins and trees between houses get labels of their own up to this pixel size.
DETAIL_GSD_M = 4.0
# Up to this one images of towns show streets, roofs and gardens; beyond, a mixture of all of them.
TOWN_GSD_M = 12.0
ROAD_WIDTH_M = 11.0
STREET_WIDTH_M = 7.0
FIELD_MARGIN_M = 2.5

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
SUCCESSORS = np.array(
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
    keys = random_bits(key, rows[:, None], columns)
    site_x = (DISTRICT_M * (columns + 0.1 + 0.8 * uniform(keys, 1))).ravel()
    site_y = (DISTRICT_M * (rows[:, None] + 0.1 + 0.8 * uniform(keys, 2))).ravel()
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
    number -= position < number + 0.45 * uniform(key, number)
    lower, upper = number + 0.45 * uniform(key, number), number + 1 + 0.45 * uniform(key, number + 1)
    return number, position - lower, upper - position


class _Parcels(NamedTuple):
    """Fields, blocks and stands: their keys, and the metres from their two first ends and from any border."""

    key: NDArray[np.uint64]
    along: FloatArray
    across: FloatArray
    border: FloatArray


def _parcels(district: NDArray[np.uint64], zone: NDArray[np.int64], dx: FloatArray, dy: FloatArray) -> _Parcels:
    angle = 2.0 * np.pi * uniform(district, 3)
    size = 0.75 + 0.6 * uniform(district, 4)
    length, width = _PARCEL_LENGTH_M[zone] * size, _PARCEL_WIDTH_M[zone] * size
    cosine, sine = np.cos(angle), np.sin(angle)
    strip, low, high = _intervals(random_bits(district, 5), (dy * cosine - dx * sine) / width)
    across, border = low * width, np.minimum(low, high) * width
    strip_key = random_bits(district, strip)
    place, low, high = _intervals(strip_key, (dx * cosine + dy * sine) / length + 8.0 * uniform(strip_key))
    border = np.minimum(border, np.minimum(low, high) * length)
    return _Parcels(random_bits(strip_key, place), low * length, across, border)


def _town(parcels: _Parcels, industrial: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Materials of a built-up parcel: two rows of plots between streets, on each plot a house in a garden or yard."""
    length, depth = np.where(industrial, 50.0, 19.0), np.where(industrial, 42.0, 28.0)
    block, inside = np.divmod(parcels.across, 2.0 * depth + STREET_WIDTH_M)
    row, y = np.divmod(inside - STREET_WIDTH_M, depth)
    plot, x = np.divmod(parcels.along, length)
    key = random_bits(parcels.key, (2 * block + row).astype(np.int64), plot.astype(np.int64))
    size, kind = 0.26 + 0.16 * uniform(key, 1), uniform(key, 2)
    house = (
        (np.abs(x - 0.5 * length) < size * length) & (np.abs(y - 0.5 * depth) < (size - 0.04) * depth) & (kind < 0.94)
    )
    roof = np.where(industrial | (kind < 0.3), METAL_ROOF, TILE_ROOF)
    ground = np.where(industrial | (kind < 0.12), YARD, GARDEN)
    street = (row < 0) | (parcels.along < STREET_WIDTH_M)
    return np.where(street, STREET, np.where(house, roof, ground)).astype(np.uint8)


# Per class, in the order of CLASSES: spread of brightness from patch to patch and within one, and the largest share of
# another endmember that a patch mixes in, which is one of four.
_PATCH_SPREAD = np.array([0.20, 0.15, 0.13, 0.13, 0.13, 0.18, 0.15, 0.06], dtype=np.float32)
_TEXTURE = np.array([0.04, 0.07, 0.16, 0.05, 0.04, 0.06, 0.10, 0.03], dtype=np.float32)
_ADMIXTURE = np.array([0.50, 0.22, 0.18, 0.22, 0.20, 0.25, 0.25, 0.25], dtype=np.float32)
_ADMIXED = np.vectorize(ENDMEMBER_INDEX.__getitem__)(
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


class Ground(NamedTuple):
    """What one date's images are made of, one value a pixel, with a margin of one pixel around the scene."""

    land_cover: NDArray[np.uint8]
    material: NDArray[np.uint8]
    cohort: NDArray[np.uint8]
    admixed: NDArray[np.int64]
    admixture: NDArray[np.float32]
    brightness: NDArray[np.float32]
    patch: NDArray[np.float32]


class Place(NamedTuple):
    """What stays at a place, one value a pixel, with the margin of [`Ground`]; `cover` is that of the first date."""

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


def lay_out(waves: NoiseField) -> Place:
    """Lays out districts, parcels, woods, rivers, roads and mountains."""
    key, pixel = waves.key, float(waves.x[1] - waves.x[0])
    mountains = waves(10, 6000.0, 2000.0, 500.0) - _MOUNTAIN_LEVEL
    in_mountains, relief = mountains > 0.0, logistic(mountains, 0.0, 0.15)
    bend_x, bend_y = waves(11, 200.0), waves(12, 200.0)
    east, south = np.broadcast_arrays(waves.x, waves.y[:, None])
    district, dx, dy, to_district = _districts(random_bits(key, 20), east + 30.0 * bend_x, south + 30.0 * bend_y)
    zone = np.where(in_mountains, _MOUNTAIN, np.searchsorted(_DISTRICT_SHARES, uniform(district, 21), side="right"))
    # The offsets from the district's site have bends of 30 m in them already.
    bend_m = _PARCEL_BEND_M[zone] - 30.0
    parcels = _parcels(district, zone, dx + bend_m * bend_x, dy + bend_m * bend_y)
    industrial = MATERIAL_DRAWS[URBAN, random_bits(parcels.key, URBAN) & np.uint64(15)] == INDUSTRY

    ridge = waves(13, 1300.0, 620.0, 260.0, 110.0)
    elevation_m = 180.0 + (14.0 + 90.0 * relief) * ridge + 900.0 * relief
    slope_y, slope_x = np.gradient(elevation_m, pixel)

    stream = waves(14, 2600.0, 600.0)
    stream_y, stream_x = np.gradient(stream, pixel)
    to_river = np.abs(stream) / np.maximum(np.hypot(stream_x, stream_y), 1e-4)
    river_width_m = (22.0 + 26.0 * uniform(key, 22)) * (1.0 - relief)
    road = ~in_mountains & (zone != _HEATH) & (2.0 * to_district < ROAD_WIDTH_M) & (pixel <= ROAD_WIDTH_M)

    cover = (uniform(parcels.key, 23)[..., None] > _PARCEL_COVER[zone, :-1]).sum(-1)
    wooded = (waves(15, 420.0, 170.0, 70.0) > _FOREST_LEVEL[zone]) & (cover != URBAN)
    return Place(
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


def ground_on_date(
    key: NDArray[np.uint64],
    place: Place,
    cover: NDArray[np.int64],
    lake_rise: float,
    snow_rise: float,
    gain: float,
) -> Ground:
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
    patch = random_bits(np.where((land == WATER) | (land == SNOW), key, parcels.key), land)
    material = MATERIAL_DRAWS[land, patch & np.uint64(15)]
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
    return Ground(
        land_cover=land.astype(np.uint8),
        material=material.astype(np.uint8),
        cohort=((patch >> np.uint64(4)) % np.uint64(len(COHORT_DAYS))).astype(np.uint8),
        admixed=_ADMIXED[land, patch >> np.uint64(8) & np.uint64(3)],
        admixture=(_ADMIXTURE[land] * mixing).astype(np.float32),
        brightness=brightness.astype(np.float32),
        patch=amount,
    )
