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
"""Checks of rasters before they are worked with: that files are whole, and that there is anything in them."""

import math
import os
import warnings
from collections.abc import Sequence

import numpy as np
from rasterio.windows import Window

from .gdal_file import GdalFile
from .raster_series import RasterSeries
from .records import RasterError, RasterSource, abridged

# Of a place that is looked at: its side in pixels, and its values if there are many bands (64 MiB).
_PROBE_PIXELS = 256
_PROBE_VALUES = 2**24
# A thousand places are 67 million pixels.
_MAX_PROBES = 1024


def check_last_block(source: RasterSource, indexes: Sequence[int]) -> None:
    """Reads the last block of some bands: what a truncated file lacks.

    Raises:
        RasterError: it cannot be read.
    """
    rows, columns = source.block_shape
    height, width = source.shape
    row = (height - 1) // rows * rows
    column = (width - 1) // columns * columns
    # GDAL reads blocks whole: one pixel is enough, and takes no memory where there are thousands of bands.
    source.read(indexes, Window(column, row, 1, 1))


def check_complete(path: str | os.PathLike[str]) -> None:
    """Makes sure that a file holds all that its header promises: a full disk does not show when GDAL closes it.

    Args:
        path: the raster.

    Raises:
        RasterError: the file cannot be opened, or the last block of a band cannot be read.
    """
    source = GdalFile(os.fspath(path), alpha_is_data=True)
    try:
        check_last_block(source, source.indexes)
    finally:
        source.close()


def check_has_data(opened: RasterSeries) -> None:
    """Makes sure that a series holds a valid pixel.

    Looks into places spread over the raster, until one holds data. A large raster is not read whole: after
    `_MAX_PROBES` empty places it is taken at its word, with a warning.

    Args:
        opened: the series.

    Raises:
        RasterError: no date holds a pixel with data in all bands.
    """
    most_bands = max(len(acquisition.bands) for acquisition in opened.series.acquisitions)
    size = min(_PROBE_PIXELS, max(math.isqrt(_PROBE_VALUES // most_bands), 1))
    rows, columns = math.ceil(opened.height / size), math.ceil(opened.width / size)
    count = rows * columns
    # Steps of the golden section visit the whole raster evenly at any number of looks.
    step = max(1, round(count * 0.618))
    while math.gcd(step, count) != 1:
        step += 1
    seen = [np.zeros(len(acquisition.bands), dtype=bool) for acquisition in opened.series.acquisitions]
    for look in range(min(count, _MAX_PROBES)):
        down, right = divmod((count // 2 + look * step) % count, columns)
        row, column = down * size, right * size
        window = Window(column, row, min(size, opened.width - column), min(size, opened.height - row))
        for date, found in enumerate(seen):
            finite = np.isfinite(opened.read_date(date, window))
            if finite.all(axis=0).any():
                return
            found |= finite.any(axis=(1, 2))
    if count > _MAX_PROBES:
        warnings.warn(
            f"{opened.layers[0][0].path} and what belongs to it: no pixel with data in {_MAX_PROBES} places of {size} "
            f"x {size} pixels, spread over {opened.height} x {opened.width}. The rest was not looked at; check the "
            "nodata value and the masks (gdalinfo -stats).",
            stacklevel=2,
        )
        return
    raise _no_data(opened, seen)


def _no_data(opened: RasterSeries, seen: Sequence[np.ndarray]) -> RasterError:
    empty: dict[str, list[int]] = {}
    for layers, found in zip(opened.layers, seen, strict=True):
        bands = [(layer.path, index) for layer in layers for index in layer.indexes]
        for (path, index), has_data in zip(bands, found, strict=True):
            if not has_data:
                empty.setdefault(path, []).append(index)
    listed = "; ".join(f"{path}, bands {abridged(bands)}" for path, bands in list(empty.items())[:3])
    where = f"Bands without any data: {listed}." if listed else "No pixel has data in all bands of a date."
    return RasterError(
        f"The input holds no data: all pixels are nodata, masked or not finite. {where} Check the nodata value and the "
        "masks (gdalinfo -stats), or leave bands without data out."
    )
