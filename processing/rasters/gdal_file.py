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
"""GDAL files as sources: their pixels, masks and georeference. What they state is read in `file_statements`."""

import os
import re
import warnings
from collections.abc import Sequence
from enum import Enum
from functools import cache

import numpy as np
import rasterio
from rasterio import CRS, Affine
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError, RasterioIOError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from .file_statements import names_data, statements_of
from .records import RasterError, RasterSource, Scaling, Statements, abridged

# Names that GDAL takes and that are no paths of this machine: /vsizip/..., https://..., netcdf:...
_NOT_LOCAL = re.compile(r"/vsi|[A-Za-z][A-Za-z0-9+_]+:")
_OPAQUE_OR_CLEAR = (0, 255)
_NETWORK_DRIVERS = {
    "DAAS",
    "EEDA",
    "EEDAI",
    "HTTP",
    "NGW",
    "OAPIF",
    "OGCAPI",
    "PLMOSAIC",
    "STACIT",
    "STACTA",
    "WCS",
    "WMS",
    "WMTS",
}


class _Mask(Enum):
    """What marks missing pixels of a band beside its numbers and an alpha band."""

    NONE = 0
    SHARED = 1
    OWN = 2

    @classmethod
    def of(cls, flags: Sequence[MaskFlags]) -> "_Mask":
        """What GDAL's flags of a band say; it sets none where the band has a mask of its own (in a VRT)."""
        if not flags:
            return cls.OWN
        return cls.SHARED if MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags else cls.NONE


class GdalFile(RasterSource):
    """An open GDAL file.

    Args:
        path: what GDAL takes as a name.
        alpha_is_data: whether a band that is coloured alpha holds data, because the caller names all bands.

    Raises:
        RasterError: the file is missing, empty, no raster, has no band, or several pages.
    """

    def __init__(self, path: str, alpha_is_data: bool = False) -> None:
        self._path = path
        self._dataset = open_dataset(path)
        self._alpha = None if alpha_is_data else self._find_alpha()
        self._indexes = tuple(index for index in self._dataset.indexes if index != self._alpha)
        # Properties of a dataset cost a call of GDAL each.
        flags = self._dataset.mask_flag_enums
        self._masked = {index: _Mask.of(flags[index - 1]) for index in self._indexes}
        self._masked_by = self._find_mask()
        self._check()

    def _find_alpha(self) -> int | None:
        """The band that says where data are missing: coloured alpha, and nothing says that it measured something."""
        index: int
        for index, colour in zip(self._dataset.indexes, self._dataset.colorinterp, strict=True):
            if colour == ColorInterp.alpha and not names_data(self._dataset, index):
                return index
        return None

    def _find_mask(self) -> str | None:
        is_masked = any(mask is not _Mask.NONE for mask in self._masked.values())
        if self._alpha is not None:
            return f"alpha band {self._alpha}" + (" with a mask beside it" if is_masked else "")
        return "its mask" if is_masked else None

    def _check(self) -> None:
        dataset, path = self._dataset, self._path
        if dataset.count == 0:
            parts = dataset.subdatasets
            hint = f" It is a container; name one of its parts, for instance {parts[0]!r}." if parts else ""
            self._refuse(f"{path} holds no band.{hint}")
        if dataset.subdatasets and dataset.driver == "GTiff" and not path.startswith("GTIFF_DIR:"):
            self._refuse(
                f"{path} is a TIFF of several pages, of which GDAL shows the first alone: the others are "
                f"{abridged(dataset.subdatasets[1:] or dataset.subdatasets)}. Name the pages as files of one date "
                "(GTIFF_DIR:1:FILE, GTIFF_DIR:2:FILE...), or write them as bands of one file."
            )
        if not self._indexes:
            self._refuse(f"{path} holds an alpha band and no other. Give a raster with at least one band of data.")

    def _refuse(self, message: str) -> None:
        self.close()
        raise RasterError(message)

    @property
    def alpha(self) -> int | None:
        """Number of the alpha band; `None` if there is none."""
        return self._alpha

    def alpha_values(self) -> list[int]:
        """Values of the alpha band in a few of its blocks that are neither opaque nor clear."""
        height, width = self.shape
        rows, columns = self.block_shape
        places = ((0, 0), (height // 2, width // 2), (height - 1, width - 1))
        found: set[int] = set()
        for row, column in places:
            top, left = row // rows * rows, column // columns * columns
            window = Window(left, top, min(columns, width - left), min(rows, height - top))
            found.update(np.unique(self._dataset.read(self._alpha, window=window)).tolist())
        return sorted(found.difference(_OPAQUE_OR_CLEAR))

    @property
    def path(self) -> str:
        """What GDAL takes as a name."""
        return self._path

    @property
    def files(self) -> tuple[str, ...]:
        """The local files behind it, those of a VRT too."""
        listed = [self._path, *self._dataset.files]
        return tuple(dict.fromkeys(name for name in listed if os.path.exists(name)))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, columns = self._dataset.shape
        return rows, columns

    @property
    def indexes(self) -> tuple[int, ...]:
        """Numbers of the bands that hold data."""
        return self._indexes

    @property
    def count(self) -> int:
        """Number of bands, alpha included."""
        count: int = self._dataset.count
        return count

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Types of the stored numbers."""
        return tuple(self._dataset.dtypes[index - 1] for index in self._indexes)

    @property
    def num_dates(self) -> None:
        """A file does not say how many dates it holds."""
        return None

    @property
    def crs(self) -> CRS | None:
        """Coordinate reference system."""
        return self._dataset.crs

    @property
    def transform(self) -> Affine | None:
        """From pixels to coordinates; GDAL reports the identity for files without one."""
        transform = self._dataset.transform
        return None if transform == Affine.identity() else transform

    @property
    def gcps(self) -> tuple[Sequence[GroundControlPoint], CRS | None]:
        """Ground control points, and their CRS."""
        points, crs = self._dataset.gcps
        return points, crs

    @property
    def mask_source(self) -> str | None:
        """The alpha band, or a mask inside or beside the file."""
        return self._masked_by

    @property
    def block_shape(self) -> tuple[int, int]:
        """Rows and columns of a block."""
        rows, columns = self._dataset.block_shapes[self._indexes[0] - 1]
        return rows, columns

    def states(self) -> Statements:
        """What tags, descriptions, headers and the file's name say."""
        return statements_of(self._dataset, self._path, self._indexes)

    def applied(self, index: int) -> Scaling | None:
        """Numbers are read as they are stored."""
        return None

    def read(self, indexes: Sequence[int], window: Window) -> np.ndarray:
        """Stored numbers (bands, height, width) of a window."""
        try:
            numbers: np.ndarray = self._dataset.read(list(indexes), window=window)
        except RasterioIOError as error:
            raise self._unreadable(window, error) from error
        return numbers

    def masked(self, indexes: Sequence[int], window: Window) -> np.ndarray | None:
        """Where alpha is 0 or a mask says that data are missing; of all bands at once where they share one mask."""
        if self._masked_by is None:
            return None
        shared = next((index for index in indexes if self._masked[index] is _Mask.SHARED), None)
        own = [index for index in indexes if self._masked[index] is _Mask.OWN]
        try:
            missing = np.zeros((len(indexes) if own else 1, window.height, window.width), bool)
            if self._alpha is not None:
                missing |= self._dataset.read(self._alpha, window=window) == 0
            if shared is not None:
                missing |= self._dataset.read_masks(shared, window=window) == 0
            for index in own:
                missing[indexes.index(index)] |= self._dataset.read_masks(index, window=window) == 0
        except RasterioIOError as error:
            raise self._unreadable(window, error) from error
        return missing if own else missing[0]

    def _unreadable(self, window: Window, error: RasterioIOError) -> RasterError:
        reason = str(error.__cause__ or error)
        missing = [name for name in self._dataset.files if not _NOT_LOCAL.match(name) and not os.path.exists(name)]
        if self._dataset.driver == "VRT":
            hint = "A file that the VRT refers to is missing or damaged."
        elif missing:
            hint = f"{missing[0]} is missing."
        else:
            hint = "The file is probably truncated; fetch or write it again."
        return RasterError(
            f"{self._path} cannot be read at row {window.row_off}, column {window.col_off}, {window.height} x "
            f"{window.width} pixels: {reason} {hint}"
        )

    def close(self) -> None:
        """Closes the file."""
        self._dataset.close()


@cache
def _local_drivers() -> list[str]:
    """GDAL's drivers but those that send requests: a file named .tif may describe a web service."""
    with rasterio.Env() as environment:
        known: dict[str, str] = environment.drivers()
    return sorted(set(known).difference(_NETWORK_DRIVERS))


def open_dataset(path: str) -> DatasetReader:
    """Opens a raster with GDAL.

    Raises:
        RasterError: it is missing, empty, or no raster.
    """
    local = not _NOT_LOCAL.match(path)
    if local and not os.path.exists(path):
        raise RasterError(f"{path} does not exist.")
    if local and os.path.isfile(path) and os.path.getsize(path) == 0:
        raise RasterError(f"{path} is empty (0 bytes). Fetch or write it again.")
    try:
        with warnings.catch_warnings():
            # No geotransform is no fault: georeference and GSD are then unknown, and the report says so.
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            if not local:
                return rasterio.open(path)
            with rasterio.Env():
                return DatasetReader(path, driver=_local_drivers(), sharing=False)
    except RasterioError as error:
        raise RasterError(f"{path} cannot be opened as a raster: {error}") from error
