"""Rasters on other grids, warped window by window."""

import numpy as np
import pytest
import rasterio
from rasterio import CRS, Affine
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from stsun_processing.rasters import grids
from stsun_processing.rasters.grids import Grid, corner_distance, warp
from stsun_processing.rasters.series import read_series
from tests.processing.rasters.raster_files import RED, write

UTM = CRS.from_epsg(32633)
FINE = Grid("fine", UTM, Affine(10, 0, 500000, 0, -10, 5000000), (200, 240))


def field(shape, seed=0):
    rng = np.random.default_rng(seed)
    smooth = np.add.outer(np.sin(np.arange(shape[0]) / 9), np.cos(np.arange(shape[1]) / 7))
    return (smooth + 0.1 * rng.standard_normal(shape)).astype("float32")[None]


def reader(array):
    def read(window):
        rows = slice(window.row_off, window.row_off + window.height)
        return array[:, rows, window.col_off : window.col_off + window.width]

    return read


TARGETS = {
    "the same grid moved by a third of a pixel": Grid("t", UTM, Affine(10, 0, 500003.3, 0, -10, 4999996.7), (190, 230)),
    "coarser": Grid("t", UTM, Affine(37, 0, 500005, 0, -37, 4999990), (50, 60)),
    "finer": Grid("t", UTM, Affine(3, 0, 500105, 0, -3, 4999890), (200, 210)),
    "turned": Grid("t", UTM, Affine(8, 6, 500300, 6, -8, 4999300), (80, 90)),
    "degrees": Grid("t", CRS.from_epsg(4326), Affine(1e-4, 0, 15.002, 0, -1e-4, 45.151), (160, 260)),
}


@pytest.mark.parametrize("resampling", [Resampling.nearest, Resampling.bilinear, Resampling.cubic, Resampling.average])
@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_a_window_is_part_of_the_whole(target, resampling):
    array = field(FINE.shape)
    array[0, 40:60, 50:90] = np.nan
    height, width = target.shape
    whole = warp(reader(array), 1, FINE, target, Window(0, 0, width, height), resampling)
    assert np.isfinite(whole).any()
    for row, column, rows, columns in ((0, 0, 20, 30), (11, 7, 25, 19), (height - 9, width - 13, 9, 13)):
        part = warp(reader(array), 1, FINE, target, Window(column, row, columns, rows), resampling)
        expected = whole[:, row : row + rows, column : column + columns]
        np.testing.assert_allclose(part, expected, atol=2e-5, equal_nan=True)


# GDAL widens its kernel for turned grids, as it does for coarser ones.
@pytest.mark.parametrize("target", ["the same grid moved by a third of a pixel", "finer"])
def test_values_are_those_of_gdal(tmp_path, target):
    grid = TARGETS[target]
    array = field(FINE.shape)
    path = write(tmp_path / "a.tif", array, crs=FINE.crs, transform=FINE.transform)
    with rasterio.open(path) as dataset, WarpedVRT(
        dataset,
        crs=grid.crs,
        transform=grid.transform,
        height=grid.shape[0],
        width=grid.shape[1],
        resampling=Resampling.bilinear,
        nodata=np.nan,
    ) as vrt:  # fmt: skip
        expected = vrt.read()
    values = warp(reader(array), 1, FINE, grid, Window(0, 0, grid.shape[1], grid.shape[0]), Resampling.bilinear)
    both = np.isfinite(expected) & np.isfinite(values)
    assert both.mean() > 0.8
    # GDAL's own warp of a file places pixels to an eighth of one.
    np.testing.assert_allclose(values[both], expected[both], atol=0.05)
    assert np.median(np.abs(values[both] - expected[both])) < 1e-3


def test_a_large_source_is_read_in_parts(monkeypatch):
    array, target = field(FINE.shape), TARGETS["coarser"]
    window = Window(0, 0, target.shape[1], target.shape[0])
    whole = warp(reader(array), 1, FINE, target, window, Resampling.average)
    monkeypatch.setattr(grids, "_MAX_SOURCE_PIXELS", 4000)
    sizes = []

    def read(needed):
        sizes.append(needed.height * needed.width)
        return reader(array)(needed)

    parts = warp(read, 1, FINE, target, window, Resampling.average)
    assert len(sizes) > 4
    assert max(sizes) <= 4000
    np.testing.assert_allclose(parts, whole, atol=2e-5, equal_nan=True)


def test_nothing_is_read_where_nothing_lies():
    far = Grid("t", UTM, Affine(10, 0, 600000, 0, -10, 5000000), (20, 20))

    def read(window):
        raise AssertionError(window)

    assert np.isnan(warp(read, 2, FINE, far, Window(0, 0, 20, 20), Resampling.bilinear)).all()


def test_missing_pixels_take_no_part(tmp_path):
    array = np.full((1, 40, 40), 100, "uint16")
    array[0, :, 20:] = 9999
    mask = np.full((40, 40), 255, "uint8")
    mask[:, 20:] = 0
    path = write(tmp_path / "a.tif", array, mask=mask)
    grid = write(tmp_path / "g.tif", array[:, :, :39], transform=Affine(10, 0, 500005, 0, -10, 5000000))
    values = read_series(path, bands=[RED], grid=grid).pixels[0][0]
    assert set(np.unique(values[np.isfinite(values)])) == {100.0}


def test_corners_are_compared_in_pixels():
    one = Affine(10, 0, 0, 0, -10, 0)
    assert corner_distance(one, one, (100, 100)) == 0
    assert corner_distance(one, Affine(10, 0, 3, 0, -10, 4), (100, 100)) == pytest.approx(0.5)
    # A pixel size that is off by a thousandth drifts over the width.
    assert corner_distance(one, Affine(10.01, 0, 0, 0, -10, 0), (100, 100)) == pytest.approx(0.1)
    assert corner_distance(Affine(0, 0, 0, 0, 0, 0), one, (5, 5)) == np.inf
