"""Rasters are probed within bounds of time and memory."""

import resource
import subprocess
import sys
import time

import numpy as np
import pytest
import rasterio

from stsun_processing.rasters.records import RasterError
from stsun_processing.rasters.series import open_series
from tests.processing.rasters.raster_files import RED, write


def sparse(path, size, **profile):
    """A GeoTIFF of which nothing is stored."""
    options = {"driver": "GTiff", "count": 1, "height": size, "width": size, "dtype": "uint8", "SPARSE_OK": True}
    with rasterio.open(path, "w", tiled=True, crs="EPSG:32633", **(options | profile)):
        pass
    return path


def test_huge_blocks_are_refused_at_once(tmp_path):
    path = sparse(tmp_path / "a.tif", 1_000_000, blockxsize=65536, blockysize=65536)
    code = f"""
import resource
from stsun_processing import Band, RasterError, open_series
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    open_series({str(path)!r}, bands=[Band("r", 660)])
except RasterError as error:
    assert "blocks of 65536 x 65536" in str(error) and "gdal_translate" in str(error)
else:
    raise AssertionError
assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18, "256 MiB"
"""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    assert time.perf_counter() - started < 60


def test_a_large_empty_raster_is_not_read_whole(tmp_path):
    path = sparse(tmp_path / "a.tif", 60_000, blockxsize=512, blockysize=512, nodata=0)
    started = time.process_time()
    with pytest.warns(UserWarning, match=r"no pixel with data in 1024 places.*a\.tif|a\.tif.*1024 places"):
        opened = open_series(path, bands=[RED])
    assert time.process_time() - started < 20
    opened.close()


def test_thousands_of_bands_are_probed_in_small_places(tmp_path):
    path = sparse(tmp_path / "a.tif", 512, count=2000, interleave="pixel", blockxsize=256, blockysize=256)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with open_series(path, bands=[RED] * 2000) as opened:
        assert len(opened.series.acquisitions[0].bands) == 2000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 700 * 2**10, "700 MiB"


def test_a_small_empty_raster_is_refused(tmp_path):
    path = write(tmp_path / "a.tif", np.zeros((1, 300, 300), "uint8"), nodata=0)
    with pytest.raises(RasterError, match="holds no data"):
        open_series(path, bands=[RED])
