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
"""Ground sampling distance and georeference of a raster."""

import math

import numpy as np
from rasterio import CRS, Affine
from rasterio.warp import transform as transform_points

from .records import GDAL_ERRORS, RasterError, RasterSource, Stated

# WGS 84 ellipsoid: semi-major axis in metres and first eccentricity squared (NIMA TR8350.2, table 3.1 and 3.3).
WGS84_A, WGS84_E2 = 6378137.0, 6.69437999014e-3
# A projection that stretches less is taken at its word: UTM stretches by up to 0.1 %, and its pixels are "of 10 m".
_MAX_STRETCH = 0.02
# No map of the Earth, 4e7 m around, is larger; PROJ takes for ever over coordinates of 1e37.
_MAX_DEGREES, _MAX_COORDINATE = 1080.0, 1e9


def coefficients(transform: Affine) -> tuple[float, ...]:
    """The six that an `ImageSeries` holds; `Affine` adds a constant row."""
    return tuple(transform)[:6]


def crs_text(crs: CRS | None) -> str | None:
    """A CRS as `EPSG:code` or WKT."""
    if not crs:
        return None
    epsg: str = crs.to_string()
    wkt: str = crs.to_wkt()
    return epsg if epsg.startswith("EPSG:") else wkt


def apply(transform: Affine, columns: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Map coordinates of pixel coordinates."""
    a, b, c, d, e, f = coefficients(transform)
    # Points that a projection cannot show are infinite.
    with np.errstate(invalid="ignore", over="ignore"):
        return a * columns + b * rows + c, d * columns + e * rows + f


def check_coordinates(source: RasterSource) -> None:
    """Refuses a georeference that lies on no map.

    Raises:
        RasterError: corners or control points have coordinates that no place on Earth has.
    """
    points, points_crs = source.gcps
    crs = source.crs or points_crs
    if not crs:
        return
    if points:
        places = np.array([(point.x, point.y) for point in points])
    else:
        height, width = source.shape
        transform = source.transform or Affine.identity()
        places = np.stack(apply(transform, np.array([0, 0, width, width]), np.array([0, height, 0, height])))
    limit = _MAX_DEGREES if crs.is_geographic else _MAX_COORDINATE
    if not (np.abs(places) <= limit).all():
        raise RasterError(
            f"{source.path} has a georeference that lies on no map: its corners or control points have coordinates of "
            f"{np.abs(places).max():.3g}, at most {limit:g} are possible. Correct it, for instance with gdal_edit "
            "-a_ullr."
        )


def ground_sampling_distance(crs: CRS | None, transform: Affine | None, shape: tuple[int, int]) -> Stated[float | None]:
    """Side in metres of a square of the same area as the pixel in the middle; `None` and the reason if unknown."""
    if transform is None:
        return Stated(None, "no geotransform in the file")
    if not crs or not (crs.is_geographic or crs.is_projected):
        return Stated(None, "the file has no geographic or projected CRS")
    row, column = shape[0] / 2, shape[1] / 2
    xs, ys = apply(transform, np.array([column, column + 1, column]), np.array([row, row, row + 1]))
    if crs.is_geographic:
        radians = crs.units_factor[1]
        return Stated(
            _ground_size_m(xs * radians, ys * radians),
            "geotransform in degrees, at the latitude of the raster's centre",
        )
    a, b, _, d, e, _ = coefficients(transform)
    unit, metres = crs.linear_units_factor
    nominal = math.sqrt(abs(a * e - b * d)) * metres
    on_ground = _projected_size_m(crs, xs, ys)
    if on_ground is None or abs(on_ground / nominal - 1) <= _MAX_STRETCH:
        return Stated(nominal, f"geotransform in units of {unit}")
    return Stated(on_ground, "geotransform, the projection's stretch undone at the raster's centre")


def _projected_size_m(crs: CRS, xs: np.ndarray, ys: np.ndarray) -> float | None:
    """`None` where the projection cannot be undone."""
    try:
        longitudes, latitudes = transform_points(crs, "EPSG:4326", xs, ys)
    except GDAL_ERRORS:
        return None
    size = _ground_size_m(np.radians(longitudes), np.radians(latitudes))
    return size if math.isfinite(size) and size > 0 else None


def _ground_size_m(longitudes: np.ndarray, latitudes: np.ndarray) -> float:
    """Side in metres of a square as large as a pixel on WGS 84, from its corner and two neighbours in radians."""
    sine = math.sin(latitudes[0]) if math.isfinite(latitudes[0]) else math.nan
    prime_vertical = WGS84_A / math.sqrt(1 - WGS84_E2 * sine**2)
    meridional = prime_vertical * (1 - WGS84_E2) / (1 - WGS84_E2 * sine**2)
    # The shorter way round, for pixels at the date line.
    turns = np.remainder(longitudes - longitudes[0] + math.pi, 2 * math.pi) - math.pi
    east = turns * prime_vertical * math.cos(latitudes[0])
    north = (latitudes - latitudes[0]) * meridional
    return math.sqrt(abs(east[1] * north[2] - east[2] * north[1]))
