"""What the tests of cubes share: small data sets, and the physical values that their statements mean."""

import numpy as np
import pytest
from rasterio.windows import Window

from stsun_processing.rasters.cubes import Cube
from stsun_processing.rasters.records import Scaling

xr = pytest.importorskip("xarray", reason="needs pip install 'stsun[xarray]'")
pytest.importorskip("rioxarray", reason="needs pip install 'stsun[xarray]'")

HEIGHT, WIDTH = 4, 5
TRANSFORM = (10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0)


def axes(height=HEIGHT, width=WIDTH):
    """Coordinates of pixel centres, 10 m apart, from the upper left corner 500000, 5000000."""
    return {"y": 4999995 - 10.0 * np.arange(height), "x": 500005 + 10.0 * np.arange(width)}


def ramp(*shape, dtype="uint16"):
    return (1 + np.arange(np.prod(shape))).reshape(shape).astype(dtype)


def stack(values=None, bands=("B04", "B08"), attrs=None, **coordinates):
    """An array (band, y, x) in EPSG:32633."""
    values = ramp(len(bands), HEIGHT, WIDTH) if values is None else values
    coords = {"band": list(bands), **axes(*values.shape[1:]), **coordinates}
    return xr.DataArray(values, coords, ("band", "y", "x"), "reflectance", attrs).rio.write_crs("EPSG:32633")


def layer(values=None, attrs=None, name="b", **coordinates):
    """A data set with one variable (y, x) in EPSG:32633."""
    values = ramp(HEIGHT, WIDTH) if values is None else values
    array = xr.DataArray(values, {**axes(*values.shape), **coordinates}, ("y", "x"), name, attrs)
    return array.to_dataset().rio.write_crs("EPSG:32633")


def opened(source, variables=None):
    return Cube(str(source) if hasattr(source, "__fspath__") else source, "cube", variables)


def bands_of(source, variables=None):
    return opened(source, variables).states().bands


def numbers(cube):
    """All numbers of a cube, as (bands, height, width)."""
    height, width = cube.shape
    return cube.read(cube.indexes, Window(0, 0, width, height))


def physical(source, variables=None):
    """Physical values (bands, height, width), NaN = missing, by the definitions of `records`."""
    cube = opened(source, variables)
    arrays = []
    for index, band, array in zip(cube.indexes, cube.states().bands, numbers(cube), strict=True):
        applied = cube.applied(index) or Scaling(1.0)
        stored = (array.astype("float64") - applied.offset) / applied.scale
        missing = np.isnan(stored)
        for nodata in band.nodata:
            missing |= stored == nodata.value
        for lowest, highest in (stated.value for stated in band.valid_range):
            missing |= (stored < lowest) | (stored > highest)
        scaling = band.scaling[0].value if band.scaling else Scaling(1.0)
        arrays.append(np.where(missing, np.nan, stored * scaling.scale + scaling.offset))
    return np.stack(arrays)


def values(statements):
    """What is stated, without where."""
    return [statement.value for statement in statements]


def strong(statements):
    return [statement.value for statement in statements if not statement.weak]
