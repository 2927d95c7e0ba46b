"""Ground sampling distances against geodesic areas of PROJ."""

import numpy as np
import pytest
from rasterio import CRS, Affine

from stsun_processing.rasters.georeference import ground_sampling_distance

pyproj = pytest.importorskip("pyproj")

GEOSTATIONARY = "+proj=geos +h=35785831 +lon_0=0 +sweep=y +datum=WGS84 +units=m"


def geodesic_size_m(crs, transform, shape):
    """Side of a square of the area of the pixel in the middle, on the ellipsoid."""
    back = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    row, column = shape[0] / 2, shape[1] / 2
    corners = [(column, row), (column + 1, row), (column + 1, row + 1), (column, row + 1)]
    longitudes, latitudes = back.transform(*zip(*(transform @ corner for corner in corners), strict=True))
    area, _ = pyproj.Geod(ellps="WGS84").polygon_area_perimeter(longitudes, latitudes)
    return abs(area) ** 0.5


@pytest.mark.parametrize(
    ("crs", "longitude", "latitude", "pixel"),
    [
        ("EPSG:32632", 9, 50, 10),
        ("EPSG:4087", 9, 60, 10),
        ("EPSG:32662", 9, 50, 30),
        ("EPSG:3857", 9, 60, 10),
        ("ESRI:54003", 9, 70, 100),
        ("EPSG:3995", 20, 45, 100),
        ("EPSG:3031", 20, -70, 100),
        ("EPSG:6933", 9, 60, 1000),
        ("EPSG:3035", 30, 65, 100),
        (GEOSTATIONARY, 20, 50, 3000),
        ("EPSG:4326", 9, 50, 1e-4),
        ("EPSG:4326", 179.9999, -60, 1e-3),
    ],
)
def test_size_of_a_pixel_on_the_ground(crs, longitude, latitude, pixel):
    forward = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    x, y = forward.transform(longitude, latitude)
    transform = Affine(pixel, 0, x, 0, -pixel, y)
    found = ground_sampling_distance(CRS.from_user_input(crs), transform, (4, 6))
    # Projections that stretch by less than 2 % are taken at their word.
    assert found.value == pytest.approx(geodesic_size_m(crs, transform, (4, 6)), rel=0.02)


def test_turned_pixels_have_the_size_of_their_area():
    transform = Affine(8, 6, 500000, 6, -8, 5000000)
    assert ground_sampling_distance(CRS.from_epsg(32633), transform, (4, 4)).value == pytest.approx(10)


@pytest.mark.parametrize(
    ("crs", "transform", "reason"),
    [
        (CRS.from_epsg(32633), None, "no geotransform"),
        (None, Affine(10, 0, 0, 0, -10, 0), "no geographic or projected CRS"),
    ],
)
def test_unknown_distances_say_why(crs, transform, reason):
    found = ground_sampling_distance(crs, transform, (4, 4))
    assert found.value is None
    assert reason in found.source


def test_what_lies_off_the_map_of_a_projection_is_taken_at_its_word():
    transform = Affine(10, 0, 9e7, 0, -10, 9e7)
    found = ground_sampling_distance(CRS.from_epsg(3857), transform, (4, 4))
    assert found.value is None or np.isfinite(found.value)
