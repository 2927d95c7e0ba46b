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
"""What a dataset.json states about its rasters, as a source beside what they state themselves."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import cast

import numpy as np

from ..metadata import parse_datetime
from ..rasters.dates import parse_period
from ..rasters.opening import Layer
from ..rasters.records import (
    BandStatements,
    Period,
    Quantity,
    RasterError,
    RasterSource,
    Scaling,
    Stated,
    Statements,
)
from .band_lists import BandList, DescribedBand
from .samples import ImageRecord


@dataclass(frozen=True)
class DatasetStatements:
    """What dataset.json states about one image: a `Beside` of [`open_series`].

    An image may be a folder or a product of several rasters. They are asked one after another, in the order in which
    their bands follow each other.

    Args:
        image: the image's record.
        check: whether to compare the order of the bands with the names that the rasters give them.
    """

    image: ImageRecord
    check: bool = True
    # By raster that was asked for and number of the band: its entry; `None` = marked as bad, and not listed.
    _entries: dict[str, dict[int, DescribedBand | None]] = field(default_factory=dict, compare=False, repr=False)
    _dtypes: dict[str, dict[int, str]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def num_bands(self) -> int:
        """Bands that dataset.json lists for the image."""
        return len(self.image.bands)

    def read_bands(self, layers: Sequence[Layer]) -> BandList:
        """The entries of the bands that are read.

        Args:
            layers: what is read of the rasters that were asked for.

        Raises:
            RasterError: these rasters hold fewer bands than dataset.json lists.
        """
        held = sum(map(len, self._entries.values()))
        if held < self.num_bands:
            raise RasterError(self._wrong_number(f"{self.image.path} holds {held}"))
        entries = [self._entries[layer.path][index] for layer in layers for index in layer.indexes]
        return tuple(entry for entry in entries if entry is not None)

    def dtypes(self, layers: Sequence[Layer]) -> tuple[str, ...]:
        """Types of the stored numbers of the bands that are read."""
        return tuple(self._dtypes[layer.path][index] for layer in layers for index in layer.indexes)

    def states(self, source: RasterSource) -> Statements:
        """What it states about an open raster.

        Raises:
            RasterError: the raster holds another number of bands than dataset.json lists, or names them in another
                order.
        """
        self._dtypes[source.path] = dict(zip(source.indexes, source.dtypes, strict=True))
        described = self._bands_of(source)
        if self.check:
            self._check_order(source, described)
        nan_marked = self._nan_marks_missing(source, described)
        bands = [
            BandStatements() if band is None else _band_statements(band, keeps_nan)
            for band, keeps_nan in zip(described, nan_marked, strict=True)
        ]
        timestamp, gsd_m = self.image.timestamp, self.image.gsd_m
        return Statements(
            bands=tuple(bands),
            date=() if timestamp is None else (Stated(_period(timestamp), "dataset.json timestamp"),),
            gsd_m=() if gsd_m is None else (Stated(gsd_m, "dataset.json gsd_m"),),
        )

    def _bands_of(self, source: RasterSource) -> list[DescribedBand | None]:
        """The bands of a raster as they are listed; `None` for those that the raster marks as bad and no one lists."""
        if source.path not in self._entries:
            is_whole = source.path == str(self.image.path)
            described = self._all_bands(source) if is_whole else self._next_bands(source)
            self._entries[source.path] = dict(zip(source.indexes, described, strict=True))
        return [*self._entries[source.path].values()]

    def _all_bands(self, source: RasterSource) -> list[DescribedBand | None]:
        """The bands of the one raster that the image is."""
        number = len(source.indexes)
        if number == self.num_bands:
            return [*self.image.bands]
        good = [not any(mark.value for mark in band.bad) for band in source.states().bands]
        if sum(good) == self.num_bands:
            remaining = iter(self.image.bands)
            return [next(remaining) if keep else None for keep in good]
        more = f" (beside {source.mask_source})" if source.count > number and source.mask_source else ""
        raise RasterError(self._wrong_number(f"{source.path} holds {number}{more}"))

    def _next_bands(self, source: RasterSource) -> list[DescribedBand | None]:
        """The bands of one raster out of several, which follow those of the rasters before it."""
        start = sum(map(len, self._entries.values()))
        stop = start + len(source.indexes)
        if stop > self.num_bands:
            raise RasterError(self._wrong_number(f"{self.image.path} holds more (up to {source.path})"))
        return [*self.image.bands[start:stop]]

    def _check_order(self, source: RasterSource, described: Sequence[DescribedBand | None]) -> None:
        """Refuses a list that holds the name of a band at the place of another one."""
        places = {entry.band.name.casefold(): entry for entry in self.image.bands}
        for index, entry, own in zip(source.indexes, described, source.states().bands, strict=True):
            names = [name for name in own.names if not name.weak]
            if entry is None or any(name.value.casefold() == entry.band.name.casefold() for name in names):
                continue
            for name in names:
                if other := places.get(name.value.casefold()):
                    raise RasterError(
                        f"Band {index} of {source.path} is called {name.value!r} ({name.source}), which is the name of "
                        f"{other.source}, but {entry.source} with the name {entry.band.name!r} stands for it. List the "
                        "bands in the order of the raster."
                    )

    def _wrong_number(self, held: str) -> str:
        names = ", ".join(described.band.name for described in self.image.bands)
        return (
            f"dataset.json lists {self.num_bands} bands ({names}), but {held}. List one band per channel, in "
            "the order of the raster."
        )

    @staticmethod
    def _nan_marks_missing(source: RasterSource, described: Sequence[DescribedBand | None]) -> list[bool]:
        """For each band, whether the raster says that NaN means missing where dataset.json has a number for all."""
        asked = [
            band is not None and band.nodata_is_default and np.dtype(dtype).kind == "f"
            for band, dtype in zip(described, source.dtypes, strict=True)
        ]
        if not any(asked):
            return asked
        return [
            ask and any(math.isnan(nodata.value) for nodata in own.nodata)
            for ask, own in zip(asked, source.states().bands, strict=True)
        ]


def _band_statements(described: DescribedBand, keeps_nan: bool) -> BandStatements:
    band, source = described.band, described.source
    unit = band.unit
    scaling = None
    if described.scaling_source:
        scale = 1.0 if described.scale is None else described.scale
        scaling = Scaling(scale, described.offset or 0.0)
    nodata = None if keeps_nan else described.nodata
    nodata_source = "dataset.json nodata" if described.nodata_is_default else f"{source} nodata"
    return BandStatements(
        names=(Stated(band.name, source),),
        kind=(Stated(band.kind, source),),
        polarisation=() if band.polarisation is None else (Stated(band.polarisation, source),),
        center_nm=() if band.center_nm is None else (Stated(_quantity(band.center_nm), source, nominal=True),),
        fwhm_nm=() if band.fwhm_nm is None else (Stated(_quantity(band.fwhm_nm), source, nominal=True),),
        unit=() if unit is None else (Stated(unit, source),),
        scaling=() if scaling is None else (Stated(scaling, described.scaling_source),),
        nodata=() if nodata is None else (Stated(nodata, nodata_source),),
    )


def _quantity(value: float) -> Quantity:
    """A length with one unit of its last digit: 665 nm are 665 +- 1."""
    digit = Decimal(1).scaleb(int(Decimal(f"{value:.12g}").as_tuple().exponent))
    return Quantity(value, float(digit))


def _period(timestamp: str) -> Period:
    if period := parse_period(timestamp):
        return period
    # Years that mean "no date" in the header of a file were written here on purpose.
    value = cast(datetime, parse_datetime(timestamp))
    return Period(value, value, value)
