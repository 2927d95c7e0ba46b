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
"""What `paths` means: the entries of a series, the rasters that each leads to, and the bands of each date."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..metadata import Band
from .arguments import Given
from .cubes import cube_name, is_cube, is_xarray
from .gdal_file import GdalFile
from .georeference import check_coordinates
from .opening import Handles
from .products import find_product, folder_entry, product_named
from .readings import Reading
from .records import Beside, Entry, Part, RasterError, RasterSource, abridged
from .stac import ITEM_SUFFIXES, read_item

if TYPE_CHECKING:
    from xarray import DataArray, Dataset

PathLike = str | os.PathLike[str]
SeriesEntry: TypeAlias = "PathLike | Mapping[str, Any] | Dataset | DataArray"
# A date each day for half a century.
_MAX_DATES = 20_000
_MAX_BLOCK_BYTES = 2**29
# The bands of each raster that belong to one date.
Slot: TypeAlias = list[tuple[str, tuple[int, ...]]]


def entries_of(paths: Any, parts: Sequence[str] | None, product: str | None, offset_given: bool) -> list[Entry]:
    """The entries of a series.

    Args:
        paths: as for `open_series`.
        parts: assets, variables, or files of a folder or product; `None` = all that hold data.
        product: name of a product whose scaling the files do not state; `None` = as they are recognised.
        offset_given: whether the caller gives the offset, so that the product's need not be known.

    Raises:
        RasterError: an entry is empty or leads to no raster; `parts` has nothing to choose from.
    """
    single = _is_single(paths)
    entries = []
    for number, entry in enumerate([paths] if single else list(paths)):
        if _is_single(entry):
            entries.append(_entry(entry, parts, f"{number}"))
            continue
        members = [_entry(member, parts, f"{number}.{i}") for i, member in enumerate(entry)]
        if not members:
            raise RasterError(f"Entry {number} of paths holds no file. Give one entry per date, with its files.")
        entries.append(_together(members))
    if not entries:
        raise RasterError("paths holds no entry. Give at least one raster.")
    if parts is not None and not any(_chooses(entry) for entry in ([paths] if single else _flat(paths))):
        raise RasterError(
            "parts (--parts) names assets, variables or files, but paths holds no STAC item, cube, folder or product."
        )
    if product is not None:
        preset = product_named(product, offset_given=offset_given)
        entries = [
            replace(entry, parts=tuple(replace(part, beside=(*part.beside, preset)) for part in entry.parts))
            for entry in entries
        ]
    return entries


def _is_single(entry: Any) -> bool:
    return isinstance(entry, (str, os.PathLike, Mapping)) or is_xarray(entry)


def _flat(paths: Iterable[Any]) -> Iterable[Any]:
    for entry in paths:
        yield from [entry] if _is_single(entry) else entry


def _chooses(entry: Any) -> bool:
    """Whether an entry holds several things among which `parts` chooses."""
    if not isinstance(entry, (str, os.PathLike)):
        return True
    path = os.fspath(entry)
    is_container = os.path.isdir(path) or path.lower().endswith((".safe", ".zip", ".tar", ".xml"))
    return is_container or is_cube(path) or path.lower().endswith(ITEM_SUFFIXES)


def _together(members: Sequence[Entry]) -> Entry:
    """Several rasters, folders or items as one date."""
    parts = tuple(part for member in members for part in member.parts)
    notes = tuple(note for member in members for note in member.notes)
    return Entry(parts, notes, finest=any(member.finest for member in members))


def _entry(entry: Any, parts: Sequence[str] | None, number: str) -> Entry:
    """What one item of `paths` stands for."""
    chosen = None if parts is None else tuple(parts)
    if is_xarray(entry):
        name = f"xarray object {number} ({entry.encoding.get('source', 'in memory')})"
        return Entry((Part(name, cube=entry, variables=chosen),))
    if isinstance(entry, Mapping):
        return read_item(entry, chosen)
    path = os.fspath(entry)
    if path.lower().endswith(ITEM_SUFFIXES):
        return read_item(path, chosen)
    if product := find_product(path, chosen):
        return product
    if is_cube(path):
        file, variables = cube_name(path)
        return Entry((Part(file, variables=chosen or variables),))
    if os.path.isdir(path):
        return folder_entry(path, chosen)
    return Entry((Part(path),))


# Dates


def open_all(entries: Sequence[Entry], handles: Handles) -> None:
    """Opens each raster once, and refuses those that cannot be used.

    Raises:
        RasterError: a raster cannot be opened, lies on no map, holds complex numbers or huge blocks, or is named twice
            with different metadata.
    """
    for entry in entries:
        for part in entry.parts:
            handles.add(part)
            source = handles.source(part.path)
            check_coordinates(source)
            _check_numbers(source)
            _check_block_size(source)


def _check_block_size(source: RasterSource) -> None:
    """Refuses rasters that cannot be read in parts: every window would take a whole block of memory."""
    rows, columns = source.block_shape
    block_bytes = rows * columns * max(np.dtype(dtype).itemsize for dtype in source.dtypes)
    if block_bytes > _MAX_BLOCK_BYTES:
        raise RasterError(
            f"{source.path} is stored in blocks of {rows} x {columns} pixels, {block_bytes / 2**30:.3g} GiB per band, "
            "which are read whole for any window. Write it with smaller ones, for instance with gdal_translate -co "
            "TILED=YES."
        )


def _check_numbers(source: RasterSource) -> None:
    for index, dtype in zip(source.indexes, source.dtypes, strict=True):
        if "complex" in dtype:
            raise RasterError(
                f"Band {index} of {source.path} is of type {dtype}. Complex numbers are not read: convert them first, "
                "for instance to intensity in decibel."
            )


def slots_of(
    entries: Sequence[Entry],
    handles: Handles,
    stacked: str | None,
    num_dates: int | None,
    dates: Sequence[Any] | None,
    bands: Any,
) -> list[Slot]:
    """The dates of all entries: for each the bands of its rasters.

    Raises:
        RasterError: rasters of one entry hold different numbers of dates, or bands do not divide into dates.
    """
    slots: list[Slot] = []
    for entry in entries:
        paths = [part.path for part in entry.parts]
        channels = [(path, handles.source(path).indexes) for path in paths]
        cubes = {path: count for path in paths if (count := handles.source(path).num_dates) is not None}
        if cubes:
            slots += _divided(channels, _cube_dates(paths, cubes), by_date=True)
        elif stacked is None:
            slots.append(channels)
        else:
            count = num_dates or _count_dates(channels, dates, bands, len(entries))
            slots += _divided(channels, count, by_date=stacked == "dates")
    if len(slots) > _MAX_DATES:
        raise RasterError(
            f"{entries[0].parts[0].path} and what belongs to it hold {len(slots)} dates; at most {_MAX_DATES} are "
            "read. Choose some of them (dataset.isel of xarray), or give fewer files."
        )
    return slots


def _divided(channels: Slot, count: int, by_date: bool) -> list[Slot]:
    """The bands of some rasters as dates, which follow each other as blocks (`by_date`) or band by band."""
    slots: list[Slot] = [[] for _ in range(count)]
    for path, own in channels:
        if len(own) % count:
            raise RasterError(
                f"{path} holds {len(own)} bands, which do not divide into {count} dates. Correct num_dates or dates, "
                "or leave stacked=... out."
            )
        each = len(own) // count
        for date, slot in enumerate(slots):
            slot.append((path, own[date * each : (date + 1) * each] if by_date else own[date::count]))
    return slots


def _cube_dates(paths: Sequence[str], cubes: Mapping[str, int]) -> int:
    counts = set(cubes.values())
    if len(counts) > 1 or (len(cubes) < len(set(paths)) and counts != {1}):
        listed = abridged(f"{path}: {number}" for path, number in cubes.items())
        raise RasterError(
            f"The files of one entry hold different numbers of dates ({listed}). Give each an entry of its own in "
            "paths."
        )
    return counts.pop()


def _count_dates(channels: Slot, dates: Sequence[Any] | None, bands: Any, num_entries: int) -> int:
    """Dates in a stacked entry where `num_dates` does not say."""
    if dates is not None and num_entries == 1:
        return len(dates) or 1
    path, total = channels[0][0], sum(len(own) for _, own in channels)
    flat = list(bands) if isinstance(bands, Iterable) and not isinstance(bands, str) else []
    if flat and all(isinstance(band, (Band, str)) for band in flat):
        if total % len(flat):
            raise RasterError(f"{path} holds {total} bands, which is no multiple of the {len(flat)} given in bands.")
        return total // len(flat)
    raise RasterError(
        f"How many dates {path} holds is not said. Give num_dates=... (--num-dates), or dates=[...] (--dates) for one "
        "entry."
    )


def with_alpha_decided(
    slots: Sequence[Slot],
    handles: Handles,
    given: Sequence[Given],
    beside: Sequence[Sequence[Beside]],
    readings: Sequence[Reading],
    check: bool,
) -> list[Slot]:
    """The dates, with bands that are coloured alpha among the data where the caller or a source names all bands.

    GDAL colours the fourth band of 8-bit files alpha, whatever it is.

    Args:
        slots: the dates.
        handles: the open rasters.
        given: what the caller says about each date.
        beside: what else speaks about each date, beside what its entries hold.
        readings: what a checkpoint knows of such files.
        check: whether values of alpha bands are looked at.

    Raises:
        RasterError: a band coloured alpha holds more than opaque and clear, and nothing says what it is.
    """
    decided = []
    for slot, one, speakers in zip(slots, given, beside, strict=True):
        coloured = [path for path, _ in slot if _alpha_of(handles, path) is not None]
        if coloured:
            _decide_alpha(slot, coloured, handles, one, speakers, readings, check)
        decided.append([(path, handles.source(path).indexes if path in coloured else own) for path, own in slot])
    return decided


def _alpha_of(handles: Handles, path: str) -> int | None:
    source = handles.source(path)
    return source.alpha if isinstance(source, GdalFile) else None


def _decide_alpha(
    slot: Slot,
    coloured: Sequence[str],
    handles: Handles,
    given: Given,
    beside: Sequence[Beside],
    readings: Sequence[Reading],
    check: bool,
) -> None:
    data = sum(len(own) for _, own in slot)
    everything = data + len(coloured)
    outside = [*handles.parts[slot[0][0]].beside, *beside]
    listed = [speaker.num_bands for speaker in outside if speaker.num_bands is not None]
    if given.bands is not None:
        listed = [len(given.bands)]
    elif given.sensor is not None and not listed:
        listed = [len(given.sensor.bands)]
    elif not listed:
        listed = [len(reading.bands) for reading in readings if _may_hold_alpha(reading, slot, coloured, handles)]
    names_all = everything in listed and data not in listed
    names_rest = given.bands is not None or data in listed
    for path in coloured:
        source = handles.source(path)
        if names_all:
            handles.take_alpha_as_data(path)
        elif check and not names_rest and isinstance(source, GdalFile) and (values := source.alpha_values()):
            raise RasterError(
                f"Band {source.alpha} of {path} is coloured alpha, but holds {abridged(values)} beside 0 and 255, "
                f"which mean clear and opaque. If it is a band such as near infrared, name all {everything} bands with "
                f"bands=[...] (--bands); if it says how opaque pixels are, name the other {data}."
            )


def _may_hold_alpha(reading: Reading, slot: Slot, coloured: Sequence[str], handles: Handles) -> bool:
    """Whether bands coloured alpha may be data: the types of a reading, and values beside opaque and clear."""
    dtypes = {dtype for path, _ in slot for dtype in handles.source(path).dtypes}
    if not dtypes.issubset(reading.dtypes):
        return False
    sources = [handles.source(path) for path in coloured]
    return all(isinstance(source, GdalFile) and source.alpha_values() for source in sources)
