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
"""One date of a series: what all sources state about its rasters, joined into bands, layers and facts."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from ..metadata import KIND_UNITS, Acquisition
from .arguments import Given, bands_given, numbers_per_band
from .date_bands import completed_identities, identities_of, measured_bands, names_of, stated_for_all
from .date_files import DateFile, dtypes_of, look_at
from .dates import contradict
from .entries import Slot
from .georeference import ground_sampling_distance
from .grids import Grid
from .identify import Identity, find_date, no_date_text
from .opening import Handles, Layer
from .readings import Reading, choose
from .records import Beside, Fact, Period, RasterError, Stated, abridged
from .scaling import Measured

# What a georeference and a statement about it may differ by: instruments are named by round numbers.
_GSD_TOLERANCE = 0.25


@dataclass(frozen=True)
class ResolvedDate:
    """One date: its metadata, how its pixels are read, and the report about it."""

    acquisition: Acquisition
    layers: tuple[Layer, ...]
    facts: tuple[Fact, ...]


def resolve_date(
    slot: Slot,
    handles: Handles,
    given: Given,
    beside: Sequence[Beside],
    readings: Sequence[Reading],
    *,
    grid: Grid,
    warped: frozenset[str],
) -> ResolvedDate:
    """Joins all that is stated about one date.

    Args:
        slot: its rasters, and their bands.
        handles: the open rasters.
        given: what the caller says about it.
        beside: what speaks about its rasters from outside, beside what their entries hold.
        readings: what a checkpoint knows of such files.
        grid: that of the series.
        warped: rasters that are warped to it.

    Raises:
        RasterError: statements contradict each other, or nothing says what a band measured.
    """
    files = [look_at(path, indexes, handles, given.sensor, beside) for path, indexes in slot]
    good = [index not in file.bad for file, (_, indexes) in zip(files, slot, strict=True) for index in indexes]
    where = files[0].path + (f" and {len(files) - 1} more" if len(files) > 1 else "")
    if not any(good):
        raise RasterError(f"All bands of {where} are marked as bad. Correct the list (bbl).")
    ignored = "alpha not counted" + (f" and {good.count(False)} bad bands left out" if not all(good) else "")
    named = bands_given(given, good, where, ignored)
    numbers = numbers_per_band(given, good, where, ignored)

    identities = identities_of(files, handles, named)
    known = [identity.band for identity in identities]
    dtypes = dtypes_of(files, handles)
    reading = None
    if readings:
        stated = stated_for_all(files, numbers)
        reading = choose(readings, files[0].path, known, dtypes, names_of(files), stated)
    identities, is_picture = completed_identities(files, identities, reading, dtypes)
    measured = measured_bands(files, identities, numbers, reading, handles, is_picture)

    several_dates = any(len(indexes) < len(handles.source(path).indexes) for path, indexes in slot)
    date_fact = _date_fact(files, given.date, several_dates)
    gsd_fact = _gsd_fact(files, grid, reading, given.gsd_m)
    layers, band_facts = _layers(files, identities, measured, warped)
    sensors = [file.sensor.name for file in files if file.sensor]
    acquisition = Acquisition(
        tuple(one.band for one in measured),
        datetime=date_fact.value,
        gsd_m=gsd_fact.value,
        sensor=sensors[0] if sensors else None,
    )
    return ResolvedDate(acquisition, layers, (gsd_fact, date_fact, *band_facts))


def _layers(
    files: Sequence[DateFile], identities: Sequence[Identity], measured: Sequence[Measured], warped: frozenset[str]
) -> tuple[tuple[Layer, ...], list[Fact]]:
    """One layer per raster, and the facts about its sensor and bands."""
    layers, facts = [], []
    at = 0
    for file in files:
        if file.bad:
            label = next(iter(file.bad.values()))
            facts.append(Fact(file.path, None, "bad_bands", f"band {abridged(file.bad)} left out", label))
        if not file.indexes:
            continue
        name = file.sensor.name if file.sensor else None
        facts.append(Fact(file.path, None, "sensor", name, file.sensor_source))
        own = measured[at : at + len(file.indexes)]
        for identity, one in zip(identities[at : at + len(file.indexes)], own, strict=True):
            facts += _band_facts(file.path, one, identity)
        layers.append(Layer(file.path, tuple(one.channel for one in own), file.path in warped))
        at += len(file.indexes)
    return tuple(layers), facts


def _band_facts(path: str, measured: Measured, identity: Identity) -> list[Fact]:
    """The facts about a band, without those that its kind cannot have."""
    band, index = measured.band, measured.channel.index
    names = ["name", "kind"]
    if band.kind == "sar":
        names.append("polarisation")
    if band.kind not in KIND_UNITS or band.kind in ("reflective", "thermal"):
        names += ["center_nm", "fwhm_nm"]
    facts = [Fact(path, index, name, getattr(band, name), identity.sources[name]) for name in names]
    return [*facts, *measured.facts]


# Date and ground sampling distance


def _date_fact(files: Sequence[DateFile], given_date: Stated[datetime | None] | None, several_dates: bool) -> Fact:
    first = files[0]
    if given_date is not None:
        return Fact(first.path, None, "datetime", given_date.value, given_date.source)
    found: list[tuple[str, Stated[Period]]] = []
    for file in files:
        bands = [one.joined(two) for one, two in zip(file.own, file.beside, strict=True)]
        if date := find_date(file.path, file.statements, bands, several_dates):
            found.append((file.path, date))
    for (one_path, one), (two_path, two) in pairwise(found):
        if contradict(one.value, two.value):
            raise RasterError(
                f"Files of one date were taken at different times: {one_path} at {one.value.value.isoformat()} "
                f"({one.source}), {two_path} at {two.value.value.isoformat()} ({two.source}). Give each date an entry "
                "of its own in paths, or say what holds with dates=[...] (--dates)."
            )
    if found:
        _, date = found[0]
        return Fact(first.path, None, "datetime", date.value.value, date.source)
    reason = no_date_text(first.path, first.statements, several_dates)
    return Fact(first.path, None, "datetime", None, reason)


def _gsd_fact(files: Sequence[DateFile], grid: Grid, reading: Reading | None, given_gsd_m: float | None) -> Fact:
    """A grid says it best; what is stated beside it must agree with it, but a STAC item's is that of the instrument."""
    path = files[0].path
    if given_gsd_m is not None:
        return Fact(path, None, "gsd_m", given_gsd_m, "argument gsd_m")
    found = ground_sampling_distance(grid.crs, grid.transform, grid.shape)
    stated = [one for one in files[0].statements.gsd_m if one.value > 0]
    strong = [one for one in stated if not one.weak]
    if found.value is not None:
        strong = [Stated(found.value, found.source), *strong]
    for other in strong[1:]:
        if abs(other.value / strong[0].value - 1) > _GSD_TOLERANCE:
            raise RasterError(
                f"{path} states two ground sampling distances: {strong[0].value:g} m ({strong[0].source}) and "
                f"{other.value:g} m ({other.source}). Correct one, or say which holds with gsd_m=... (--gsd)."
            )
    if chosen := next(iter(strong or stated), None):
        return Fact(path, None, "gsd_m", chosen.value, chosen.source)
    if reading is not None and reading.gsd_m is not None:
        return Fact(path, None, "gsd_m", reading.gsd_m, reading.source)
    return Fact(path, None, "gsd_m", None, f"{found.source}, and no argument gsd_m")
