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
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from ..metadata import KIND_UNITS, RGB_SENSOR, Acquisition, Band
from .arguments import Given, bands_given, numbers_per_band
from .dates import contradict
from .entries import Slot
from .georeference import ground_sampling_distance
from .grids import Grid
from .identify import (
    Identity,
    counted_as_named,
    find_date,
    find_sensor_of,
    identify,
    loosened,
    merely_counts,
    no_date_text,
)
from .opening import Handles, Layer
from .products import NamedProduct, Preset, recognise_product
from .readings import Reading, choose
from .records import BandStatements, Beside, Fact, Period, RasterError, RasterSource, Stated, Statements, abridged
from .scaling import GivenNumbers, Measured, measure
from .sensors import Sensor, find_sensor

_PICTURE_COLOURS = ("red", "green", "blue")
# What a georeference and a statement about it may differ by: instruments are named by round numbers.
_GSD_TOLERANCE = 0.25


@dataclass(frozen=True)
class ResolvedDate:
    """One date: its metadata, how its pixels are read, and the report about it."""

    acquisition: Acquisition
    layers: tuple[Layer, ...]
    facts: tuple[Fact, ...]


@dataclass
class _File:
    """What is known of one raster of a date; each list has one entry per good band.

    Args:
        path: the raster.
        indexes: numbers of its good bands.
        own: what the raster states about each.
        beside: what is stated about each from outside.
        statements: of the raster as a whole, from all sources.
        sensor: whose table holds the names of its bands.
        sensor_source: where that comes from, or what was looked at.
        product: the product that it is of, as the caller or its name says; knows the scaling of a kind of bands.
        bad: bands left out, and what marks them.
    """

    path: str
    indexes: tuple[int, ...]
    own: list[BandStatements]
    beside: list[BandStatements]
    statements: Statements
    sensor: Sensor | None
    sensor_source: str
    product: Preset | None
    bad: dict[int, str] = field(default_factory=dict)


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
    files = [_look_at(path, indexes, handles, given.sensor, beside) for path, indexes in slot]
    good = [index not in file.bad for file, (_, indexes) in zip(files, slot, strict=True) for index in indexes]
    where = files[0].path + (f" and {len(files) - 1} more" if len(files) > 1 else "")
    if not any(good):
        raise RasterError(f"All bands of {where} are marked as bad. Correct the list (bbl).")
    ignored = "alpha not counted" + (f" and {good.count(False)} bad bands left out" if not all(good) else "")
    named = bands_given(given, good, where, ignored)
    numbers = numbers_per_band(given, good, where, ignored)

    identities = _identities(files, handles, named)
    known = [identity.band for identity in identities]
    dtypes = _dtypes(files, handles)
    reading = choose(readings, files[0].path, known, dtypes) if readings else None
    identities, is_picture = _completed(files, identities, reading, dtypes)
    measured = _measured(files, identities, numbers, reading, handles, is_picture)

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


def _look_at(
    path: str, indexes: Sequence[int], handles: Handles, sensor: Sensor | None, beside: Sequence[Beside]
) -> _File:
    """What a raster and those beside it state."""
    source = handles.source(path)
    own = handles.statements(path)
    outside, product = _outside(source, own, [*handles.parts[path].beside, *beside])
    positions = [source.indexes.index(index) for index in indexes]
    own_bands = [own.bands[position] for position in positions]
    empty = BandStatements()
    outside_bands = [outside.bands[position] if outside.bands else empty for position in positions]
    bad = {}
    for index, one, two in zip(indexes, own_bands, outside_bands, strict=True):
        marks = [mark.source for mark in (*one.bad, *two.bad) if mark.value]
        if marks:
            bad[index] = marks[0]
    joined = own.joined(outside)
    if sensor is None:
        found, reason = find_sensor_of(path, joined)
        sensor = found.value if found else None
        if sensor is None:
            reason += ", and no argument sensor"
    else:
        reason = "argument sensor"
    # Numbers are names where the file says whose, or holds all bands of the sensor.
    if sensor is not None and (reason != "argument sensor" or len(sensor.bands) == len(source.indexes)):
        own_bands = [counted_as_named(band) for band in own_bands]
    keep = [position for position, index in enumerate(indexes) if index not in bad]
    return _File(
        path,
        tuple(indexes[position] for position in keep),
        [own_bands[position] for position in keep],
        [outside_bands[position] for position in keep],
        joined,
        sensor,
        reason,
        product,
        bad,
    )


def _outside(source: RasterSource, own: Statements, beside: Sequence[Beside]) -> tuple[Statements, Preset | None]:
    """What is stated about a raster from outside: by those who were named, and by the product that it belongs to."""
    product = recognise_product(source.path, own)
    speakers = [*beside, product] if product else list(beside)
    outside = Statements()
    for speaker in speakers:
        outside = outside.joined(loosened(speaker.states(source)))
    presets = [speaker.preset(source) for speaker in beside if isinstance(speaker, NamedProduct)]
    presets += [speaker for speaker in speakers if isinstance(speaker, Preset)]
    return outside, presets[0] if presets else None


def _dtypes(files: Sequence[_File], handles: Handles) -> list[str]:
    dtypes = []
    for file in files:
        source = handles.source(file.path)
        by_index = dict(zip(source.indexes, source.dtypes, strict=True))
        dtypes += [by_index[index] for index in file.indexes]
    return dtypes


# Bands


def _identities(files: Sequence[_File], handles: Handles, named: Sequence[tuple[Band, str]] | None) -> list[Identity]:
    """What each good band measured, as the caller or the sources say; without a band where nobody does."""
    identities = []
    for file in files:
        for position, index in enumerate(file.indexes):
            if named is not None:
                band, source = named[len(identities)]
                fields = ("name", "kind", "polarisation", "center_nm", "fwhm_nm")
                identities.append(Identity(band, dict.fromkeys(fields, source)))
                continue
            joined = file.own[position].joined(file.beside[position])
            single = len(handles.source(file.path).indexes) == 1
            label = Path(file.path).stem if single else f"band_{index}"
            where = f"Band {index} of {file.path}"
            identities.append(identify(where, label, joined, file.sensor))
    return identities


def _completed(
    files: Sequence[_File], identities: Sequence[Identity], reading: Reading | None, dtypes: Sequence[str]
) -> tuple[list[Identity], bool]:
    """Bands that nobody names, from a reading or the colours of a picture; whether they are such colours.

    Raises:
        RasterError: nothing says what a band measured.
    """
    identities = _last_one(files, identities)
    open_positions = [position for position, identity in enumerate(identities) if identity.band is None]
    is_bytes = set(dtypes) == {"uint8"}
    if not open_positions:
        is_rgb = all(file.sensor is not None and file.sensor.name == RGB_SENSOR for file in files)
        return list(identities), is_bytes and is_rgb and reading is None
    if reading is not None:
        completed = list(identities)
        for position in open_positions:
            fields = ("name", "kind", "polarisation", "center_nm", "fwhm_nm")
            band = replace(reading.bands[position], unit=None)
            completed[position] = Identity(band, dict.fromkeys(fields, reading.source))
        return completed, False
    if is_bytes and len(open_positions) == len(identities) and (picture := _picture(files)):
        return picture, True
    raise _unknown_bands(files, identities)


def _last_one(files: Sequence[_File], identities: Sequence[Identity]) -> list[Identity]:
    """The bands of a raster that holds all bands of its sensor: the only one that has no name is the one left.

    Four-band orthophotos colour three of their bands, and have no colour for near infrared.
    """
    completed = list(identities)
    unknown = [position for position, identity in enumerate(identities) if identity.band is None]
    sensor = files[0].sensor
    if len(files) != 1 or len(unknown) != 1 or sensor is None or len(sensor.bands) != len(identities):
        return completed
    known = {identity.band.name for identity in identities if identity.band is not None}
    left = [record.band for record in sensor.bands if record.band.name not in known]
    if len(left) == 1:
        source = f"the only band of {sensor.name} that no other band of the file is"
        fields = ("name", "kind", "polarisation", "center_nm", "fwhm_nm")
        completed[unknown[0]] = Identity(left[0], dict.fromkeys(fields, source))
    return completed


def _picture(files: Sequence[_File]) -> list[Identity] | None:
    """The bands of a picture, whose colours alone say what they are; `None` if it is none."""
    if len(files) != 1 or files[0].sensor is not None:
        return None
    colours = [[name.value for name in band.names if name.source == "colour interpretation"] for band in files[0].own]
    found = [names[0] for names in colours if names]
    if sorted(found) != sorted(_PICTURE_COLOURS) or len(found) != len(files[0].own):
        return None
    sensor = find_sensor(RGB_SENSOR)
    files[0].sensor = sensor
    files[0].sensor_source = "colours red, green and blue of the file, nominal"
    where = f"Picture {files[0].path}"
    return [
        identify(where, name, BandStatements(names=(Stated(name, "colour interpretation", weak=True),)), sensor)
        for name in found
    ]


def _unknown_bands(files: Sequence[_File], identities: Sequence[Identity]) -> RasterError:
    """The error for bands of which nothing says what they measured."""
    offset = 0
    for file in files:
        own = identities[offset : offset + len(file.indexes)]
        offset += len(file.indexes)
        unknown = [position for position, identity in enumerate(own) if identity.band is None]
        if unknown:
            break
    numbers = [file.indexes[position] for position in unknown]
    names = {
        name.value: merely_counts(name)
        for position in unknown
        for name in (*file.own[position].names, *file.beside[position].names)
    }
    table = "a sensor's table (neither the file nor sensor=... (--sensor) names one)"
    if file.sensor:
        table = f"the table of {file.sensor.name}"
    counted = " Names that only count are no names of a sensor's bands." if any(names.values()) else ""
    return RasterError(
        f"{'Bands' if len(numbers) > 1 else 'Band'} {abridged(numbers)} of {file.path}: nothing says what was "
        "measured. Looked for CENTRAL_WAVELENGTH_UM in the IMAGERY domain, tags such as wavelength_nm, kind or "
        "polarisation, an ENVI header, a STAC item, and for the names that the file gives "
        f"({abridged(map(repr, names)) or 'none'}) in {table}.{counted} Name the bands: bands=[...] with Band records, "
        "names of a sensor, or NAME:CENTER_NM[:FWHM_NM] (--bands green:560:36 ...), or the sensor whose band names the "
        "file uses: sensor=... (--sensor)."
    )


def _measured(
    files: Sequence[_File],
    identities: Sequence[Identity],
    numbers: Sequence[GivenNumbers],
    reading: Reading | None,
    handles: Handles,
    is_picture: bool,
) -> list[Measured]:
    """How the numbers of each good band become physical."""
    measured = []
    for file in files:
        source = handles.source(file.path)
        for position, index in enumerate(file.indexes):
            at = len(measured)
            band = identities[at].band
            if band is None:
                raise _unknown_bands(files, identities)
            beside = file.beside[position]
            if file.product is not None and not beside.scaling:
                dtype = source.dtypes[source.indexes.index(index)]
                beside = beside.joined(file.product.of_kind(f"Band {index} of {file.path}", band.kind, dtype))
            measured.append(
                measure(
                    file.path,
                    index,
                    band,
                    file.own[position],
                    beside,
                    numbers[at],
                    learned=reading.statements(at) if reading else BandStatements(),
                    applied=source.applied(index),
                    mask_source=source.mask_source,
                    is_picture=is_picture,
                )
            )
    return measured


def _layers(
    files: Sequence[_File], identities: Sequence[Identity], measured: Sequence[Measured], warped: frozenset[str]
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


def _date_fact(files: Sequence[_File], given_date: Stated[datetime | None] | None, several_dates: bool) -> Fact:
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


def _gsd_fact(files: Sequence[_File], grid: Grid, reading: Reading | None, given_gsd_m: float | None) -> Fact:
    """A grid says it best; what is stated beside it must agree with it, but a STAC item's is that of the instrument."""
    path = files[0].path
    if given_gsd_m is not None:
        return Fact(path, None, "gsd_m", given_gsd_m, "argument gsd_m")
    found = ground_sampling_distance(grid.crs, grid.transform, grid.shape)
    stated = [one for one in files[0].statements.gsd_m if one.value > 0]
    if found.value is not None:
        for one in stated:
            if not one.weak and abs(one.value / found.value - 1) > _GSD_TOLERANCE:
                raise RasterError(
                    f"{path} states two ground sampling distances: {found.value:g} m ({found.source}) and "
                    f"{one.value:g} m ({one.source}). Correct one, or say which holds with gsd_m=... (--gsd)."
                )
        return Fact(path, None, "gsd_m", found.value, found.source)
    if stated:
        return Fact(path, None, "gsd_m", stated[0].value, stated[0].source)
    if reading is not None and reading.gsd_m is not None:
        return Fact(path, None, "gsd_m", reading.gsd_m, reading.source)
    return Fact(path, None, "gsd_m", None, f"{found.source}, and no argument gsd_m")
