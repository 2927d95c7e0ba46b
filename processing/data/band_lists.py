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
"""What a dataset.json states about bands: their records, and how stored numbers become physical ones."""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..metadata import POLARISATIONS, Band, MetadataError
from .fields import DatasetError, finite_number_of, positive_number_of, value_of

# Radar bands are commonly named after their polarisation: VV, sigma0_VH.
_POLARISATION = re.compile(rf"(?<![A-Z])(?:{'|'.join(POLARISATIONS)})(?![A-Z])")


@dataclass(frozen=True)
class DescribedBand:
    """A band of a dataset.json.

    Args:
        band: what it measured.
        source: where it stands, such as `dataset.json bands[1]`.
        scale: physical value = stored value x scale + offset; `None` = not stated.
        offset: see `scale`; `None` = not stated.
        scaling_source: where scale and offset stand; empty where neither is stated.
        nodata: stored value of missing pixels; `None` = not stated.
        nodata_is_default: whether `nodata` is that of the data set, which rasters with NaN as
            their nodata need not share.
    """

    band: Band
    source: str
    scale: float | None = None
    offset: float | None = None
    scaling_source: str = ""
    nodata: float | None = None
    nodata_is_default: bool = False


BandList = tuple[DescribedBand, ...]
_ReadNumber = Callable[[Any, str], float]
_PerBand = float | list[float | None] | dict[str, float | None] | None


@dataclass(frozen=True)
class _SharedNumber:
    """A number of the data set that may hold for all its reflective bands, or be stated band by band.

    Args:
        key: its key in dataset.json.
        own_key: the key of a band record that stands in its place.
        read: checks a number, given the value and what it is.
        value: the number for reflective bands, a list with one entry per band, an object by name
            of band, or `None`.
    """

    key: str
    own_key: str
    read: _ReadNumber
    value: _PerBand

    def of(self, index: int, band: Band) -> float | None:
        """The number of a band; `None` = not stated."""
        if isinstance(self.value, list):
            return self.value[index]
        if isinstance(self.value, dict):
            return self.value.get(band.name)
        return self.value if band.kind == "reflective" else None

    def or_own(
        self, record: Mapping[str, Any], index: int, band: Band, where: str, source: str
    ) -> tuple[float | None, str]:
        """The number of a band and where it stands: in its own record, or else here."""
        shared, own = self.of(index, band), record.get(self.own_key)
        if own is None:
            return shared, "" if shared is None else self.key
        if shared is not None and isinstance(self.value, (list, dict)):
            raise DatasetError(
                f"{where}: {source} has {self.own_key} {own!r}, and {self.key} states {shared:g} for band "
                f"{band.name!r}. Keep one of the two."
            )
        return self.read(own, f"{where}: {source}: {self.own_key}"), f"{source} {self.own_key}"


def read_band_lists(document: Mapping[str, Any], where: str) -> dict[str | None, BandList]:
    """The band lists of a dataset.json: its `band_sets` by name, and its `bands` under `None`.

    Args:
        document: the dataset.json.
        where: its path, for messages.

    Raises:
        DatasetError: a record is no band, two bands of a list share a name, or a scale, an offset
            or a nodata value is wrong, or stated twice for a band.
    """
    records = dict(value_of(document, "band_sets", dict, where, "an object of band lists", {}))
    places: dict[str | None, str] = {name: f"band_sets[{name!r}]" for name in records}
    if "bands" in document:
        records[None], places[None] = document["bands"], "bands"
    lists = {name: _bands(records[name], where, place) for name, place in places.items()}
    sizes = {places[name]: len(bands) for name, bands in lists.items()}
    names = {band.name for bands in lists.values() for band in bands}
    scale_value = _per_band(document, "value_scale", where, positive_number_of, sizes, names)
    offset_value = _per_band(document, "value_offset", where, finite_number_of, sizes, names)
    scale = _SharedNumber("value_scale", "scale", positive_number_of, scale_value)
    offset = _SharedNumber("value_offset", "offset", finite_number_of, offset_value)
    nodata = _nodata(document, f"{where}: nodata")
    described: dict[str | None, BandList] = {}
    for name, bands in lists.items():
        described[name] = tuple(
            _described(records[name][index], index, band, where, places[name], scale, offset, nodata)
            for index, band in enumerate(bands)
        )
    return described


def _bands(records: Any, where: str, place: str) -> tuple[Band, ...]:
    if not isinstance(records, list) or not records:
        raise DatasetError(f"{where}: {place} is {records!r}; a list of at least one band record is expected.")
    bands: dict[str, Band] = {}
    for index, record in enumerate(records):
        try:
            band = Band.from_dict(record)
        except MetadataError as error:
            raise DatasetError(f"{where}: {place}[{index}]: {error}") from error
        named = set(_POLARISATION.findall(band.name.upper()))
        if band.kind == "sar" and band.polarisation is None and len(named) == 1:
            band = replace(band, polarisation=named.pop())
        if band.name in bands:
            raise DatasetError(
                f"{where}: {place}[{index}]: a band before it is called {band.name!r} too. Give it another name."
            )
        bands[band.name] = band
    return tuple(bands.values())


def _per_band(
    document: Mapping[str, Any],
    key: str,
    where: str,
    read: _ReadNumber,
    sizes: Mapping[str, int],
    names: Collection[str],
) -> _PerBand:
    """The value of a key that is a number, or a list or an object of numbers that fits the band lists."""
    value = document.get(key)
    what = f"{where}: {key}"
    if value is None:
        return None
    if isinstance(value, list):
        for place, size in sizes.items():
            if size != len(value):
                raise DatasetError(
                    f"{what} lists {len(value)} numbers, {place} {size} bands. Give one number per band, or an object "
                    "{band name: number} where band lists differ in length."
                )
        return [None if item is None else read(item, f"{what}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, dict):
        for name in value:
            if name not in names:
                raise DatasetError(f"{what} names {name!r}; the bands are {', '.join(sorted(names)) or 'none'}.")
        return {name: None if item is None else read(item, f"{what}[{name!r}]") for name, item in value.items()}
    return read(value, what)


def _nodata(record: Mapping[str, Any], what: str) -> float | None:
    value = record.get("nodata")
    return None if value is None else finite_number_of(value, what)


def _described(
    record: Mapping[str, Any],
    index: int,
    band: Band,
    where: str,
    place: str,
    shared_scale: _SharedNumber,
    shared_offset: _SharedNumber,
    shared_nodata: float | None,
) -> DescribedBand:
    """A band with the numbers that hold for it."""
    source = f"{place}[{index}]"
    scale, scale_source = shared_scale.or_own(record, index, band, where, source)
    offset, offset_source = shared_offset.or_own(record, index, band, where, source)
    nodata = _nodata(record, f"{where}: {source}: nodata")
    sources = [text for text in (scale_source, offset_source) if text]
    return DescribedBand(
        band=band,
        source=f"dataset.json {source}",
        scale=scale,
        offset=offset,
        scaling_source=f"dataset.json {' and '.join(sources)}" if sources else "",
        nodata=shared_nodata if nodata is None else nodata,
        nodata_is_default=nodata is None and shared_nodata is not None,
    )
