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
"""What a source states about a raster, as typed records with provenance: the ground floor of this wing.

A source (a GDAL file, a netCDF or Zarr cube, a STAC item, a product folder, a dataset.json, an argument) fills
[`Statements`]; `identify` and `scaling` join those of several sources about one raster. Nothing is decided here.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from rasterio import CRS, Affine
from rasterio._err import CPLE_BaseError
from rasterio.control import GroundControlPoint
from rasterio.errors import RasterioError
from rasterio.windows import Window

from ..errors import STSUNError
from .sensors import Sensor

T = TypeVar("T")

# What rasterio raises: its own errors, and GDAL's and PROJ's where it does not translate them, for which it has no
# public name.
GDAL_ERRORS = (RasterioError, CPLE_BaseError)

_MAX_LISTED = 12


class RasterError(STSUNError, ValueError):
    """A raster that cannot be used, or an output that cannot be written. The message says which and what to do."""


@dataclass(frozen=True)
class Stated(Generic[T]):
    """One statement.

    Args:
        value: what is stated.
        source: where it stands, as people would say it: `tag wavelength_nm`, `STAC eo:bands center_wavelength`.
        weak: whether it is a hint (a file's name, the colour a band is shown in) that any other statement overrules.
        nominal: whether it speaks of all files of a data set alike, so that what a file says, or the table of its
            sensor, is used where both agree.
    """

    value: T
    source: str
    weak: bool = False
    nominal: bool = False


@dataclass(frozen=True)
class Quantity:
    """A number as it was written, with one unit of its last digit: 0.56 micrometres are 560 +- 10 nm."""

    value: float
    tolerance: float = 0.0


@dataclass(frozen=True)
class Scaling:
    """From stored numbers to physical ones: stored x scale + offset."""

    scale: float
    offset: float = 0.0


@dataclass(frozen=True)
class Period:
    """A date that leaves the time from `start` to `end` open; `value` is the instant that stands for it."""

    value: datetime
    start: datetime
    end: datetime


@dataclass(frozen=True)
class BandStatements:
    """What is stated about one band; each field holds all statements, those of the first source first.

    Args:
        names: names, the strongest first.
        kind: kinds as in `Band`.
        polarisation: polarisations as in `Band`.
        center_nm: centre wavelengths in nanometres.
        fwhm_nm: full widths at half maximum in nanometres.
        unit: units of the physical values (after scale and offset), as they are written.
        scaling: scale and offset.
        nodata: stored numbers that mean missing.
        valid_range: smallest and largest stored number that is a measurement; infinite where one end is open.
        date: when the band was taken, in files that hold several dates.
        bad: True where a list of bad bands or a tag marks it.
    """

    names: tuple[Stated[str], ...] = ()
    kind: tuple[Stated[str], ...] = ()
    polarisation: tuple[Stated[str], ...] = ()
    center_nm: tuple[Stated[Quantity], ...] = ()
    fwhm_nm: tuple[Stated[Quantity], ...] = ()
    unit: tuple[Stated[str], ...] = ()
    scaling: tuple[Stated[Scaling], ...] = ()
    nodata: tuple[Stated[float], ...] = ()
    valid_range: tuple[Stated[tuple[float, float]], ...] = ()
    date: tuple[Stated[Period], ...] = ()
    bad: tuple[Stated[bool], ...] = ()

    def joined(self, other: "BandStatements") -> "BandStatements":
        """Both sources' statements, these first."""
        joined: BandStatements = _joined(self, other)
        return joined


@dataclass(frozen=True)
class Statements:
    """What a source states about a raster as a whole, and about its bands.

    Args:
        bands: one entry a band of the raster, in its order; a source that says nothing of bands has none.
        sensor: sensors of the table.
        platform: names of platforms (`Sentinel-2A`), which the table may know.
        instrument: names of instruments (`MSI`).
        date: when it was taken.
        unread_date: texts of tags that should state a date but cannot be read.
        gsd_m: ground sampling distance of the instrument in metres.
        product: products whose scaling is documented outside of the files (see `products`).
    """

    bands: tuple[BandStatements, ...] = ()
    sensor: tuple[Stated[Sensor], ...] = ()
    platform: tuple[Stated[str], ...] = ()
    instrument: tuple[Stated[str], ...] = ()
    date: tuple[Stated[Period], ...] = ()
    unread_date: tuple[Stated[str], ...] = ()
    gsd_m: tuple[Stated[float], ...] = ()
    product: tuple[Stated[str], ...] = ()

    def joined(self, other: "Statements") -> "Statements":
        """Both sources' statements, these first.

        Raises:
            ValueError: both speak of bands, but not of as many.
        """
        if self.bands and other.bands:
            bands = tuple(one.joined(two) for one, two in zip(self.bands, other.bands, strict=True))
        else:
            bands = self.bands or other.bands
        joined = _joined(self, other)
        return Statements(bands, **{field.name: getattr(joined, field.name) for field in fields(joined)[1:]})


def _joined(one: Any, other: Any) -> Any:
    return type(one)(**{field.name: getattr(one, field.name) + getattr(other, field.name) for field in fields(one)})


class RasterSource(Protocol):
    """What pixels are read from, and what it states: a GDAL file or a cube, on its own grid.

    Bands are numbered from 1; a cube numbers them date by date, each date with all its bands.
    """

    @property
    def path(self) -> str:
        """Its name, for messages and reports."""

    @property
    def files(self) -> tuple[str, ...]:
        """The local files behind it; empty for what is in memory or remote."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""

    @property
    def indexes(self) -> tuple[int, ...]:
        """Numbers of the bands that hold data (no alpha)."""

    @property
    def count(self) -> int:
        """Number of bands, alpha included."""

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Types of the stored numbers, one for each of `indexes`."""

    @property
    def num_dates(self) -> int | None:
        """Dates of a cube; `None` for a file, whose bands belong to one date unless the caller says otherwise."""

    @property
    def crs(self) -> CRS | None:
        """Coordinate reference system; `None` if unknown."""

    @property
    def transform(self) -> Affine | None:
        """From pixels to coordinates of the CRS; `None` if unknown."""

    @property
    def gcps(self) -> tuple[Sequence[GroundControlPoint], CRS | None]:
        """Ground control points, and their CRS."""

    @property
    def mask_source(self) -> str | None:
        """What marks missing pixels beside stored numbers ("alpha band 4", "its mask"); `None` if nothing does."""

    @property
    def block_shape(self) -> tuple[int, int]:
        """Rows and columns that are stored together."""

    def states(self) -> Statements:
        """What it states; `bands` has one entry for each of `indexes`."""

    def applied(self, index: int) -> Scaling | None:
        """The scaling that the numbers of `read` have been through already (an object that xarray decoded)."""

    def read(self, indexes: Sequence[int], window: Window) -> np.ndarray:
        """Stored numbers (bands, height, width) of a window."""

    def masked(self, indexes: Sequence[int], window: Window) -> np.ndarray | None:
        """Where its masks or alpha band say that data of these bands are missing; `None` if it has neither.

        (height, width) bool of all bands, or (bands, height, width) where they have masks of their own.
        """

    def close(self) -> None:
        """Closes files, but no object of the caller's."""


class Beside(Protocol):
    """What speaks about a raster from outside: an item, a product, a dataset.json, the caller."""

    @property
    def num_bands(self) -> int | None:
        """How many bands it lists; `None` if it lists none."""

    def states(self, source: RasterSource) -> Statements:
        """What it states about an open raster; `bands` is empty, or has one entry for each of `source.indexes`."""


@dataclass(frozen=True)
class Part:
    """One raster that an entry of a series leads to.

    Args:
        path: a name that GDAL or xarray opens, and that messages use.
        beside: what speaks about it from outside, the strongest first.
        cube: an xarray object in place of a file.
        variables: of a cube, the variables or labels to read, in this order; `None` = all.
    """

    path: str
    beside: tuple[Beside, ...] = ()
    cube: Any = None
    variables: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Entry:
    """The rasters that one date (or, for cubes and stacks, several dates) of a series consists of.

    Args:
        parts: at least one.
        notes: what was left out, and why; lines of the report.
        finest: whether its rasters lie on several grids by design (Sentinel-2: 10, 20 and 60 m), of which the finest
            is meant unless the caller says otherwise.
    """

    parts: tuple[Part, ...]
    notes: tuple[str, ...] = ()
    finest: bool = False


@dataclass(frozen=True)
class Fact:
    """One line of the report: a thing known, or found to be unknown, about a raster.

    Args:
        path: the file.
        band: number of the band in the file, from 1; `None` for facts of the whole file.
        name: what it is, with its unit (`center_nm`, `gsd_m`, `datetime`...).
        value: its value; `None` = unknown.
        source: where it came from, or what was looked for.
    """

    path: str
    band: int | None
    name: str
    value: Any
    source: str


def abridged(items: Iterable[Any]) -> str:
    """A list for a message, abridged if it is long."""
    texts = [str(item) for item in items]
    more = f" and {len(texts) - _MAX_LISTED} more" if len(texts) > _MAX_LISTED else ""
    return ", ".join(texts[:_MAX_LISTED]) + more
