"""What the tests of rasters share: small files to read, and what is known of them."""

import os
import warnings

import numpy as np
import pytest
import rasterio
from rasterio import Affine
from rasterio.errors import NotGeoreferencedWarning

from stsun_processing.metadata import Band
from stsun_processing.rasters.series import open_series

CORPUS = os.environ.get("STSUN_CORPUS")
needs_corpus = pytest.mark.skipif(not CORPUS, reason="set STSUN_CORPUS to the folder of the sample corpus")
UTM = {"crs": "EPSG:32633", "transform": Affine(10, 0, 500000, 0, -10, 5000000)}
RED = Band("red", center_nm=660, fwhm_nm=30)


def write(path, array, *, tags=None, band_tags=(), imagery=(), descriptions=None, colours=None, mask=None, **profile):
    """A raster of `array` (bands, height, width); UTM at 10 m unless said otherwise."""
    array = np.asarray(array)
    profile = {"driver": "GTiff", **UTM, **profile}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", count=len(array), height=array.shape[1], width=array.shape[2], dtype=array.dtype, **profile
        ) as dataset:
            if colours:
                dataset.colorinterp = colours
            dataset.write(array)
            if tags:
                dataset.update_tags(**tags)
            for index, values in enumerate(band_tags, start=1):
                dataset.update_tags(index, **values)
            for index, values in enumerate(imagery, start=1):
                dataset.update_tags(index, ns="IMAGERY", **values)
            if descriptions:
                dataset.descriptions = descriptions
            if mask is not None:
                dataset.write_mask(mask)
    return path


def ramp(count=1, height=4, width=5, dtype="uint16"):
    return (1 + np.arange(count * height * width)).reshape(count, height, width).astype(dtype)


def bands_of(path, **options):
    with open_series(path, **options) as opened:
        return opened.series.acquisitions[0].bands


def fact(opened, name, band=None):
    (found,) = [fact for fact in opened.facts if fact.name == name and fact.band == band]
    return found
