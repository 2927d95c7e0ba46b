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
"""The bands of one date: what each measured, and how its numbers become physical."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..metadata import RGB_SENSOR, Band
from .date_files import DateFile
from .identify import CENTER_TOLERANCE_NM, Identity, identify, merely_counts
from .opening import Handles
from .readings import Reading
from .records import BandStatements, RasterError, Stated, abridged
from .scaling import GivenNumbers, Measured, measure
from .sensors import find_sensor

_PICTURE_COLOURS = ("red", "green", "blue")
_FIELDS = ("name", "kind", "polarisation", "center_nm", "fwhm_nm")


def identities_of(
    files: Sequence[DateFile], handles: Handles, named: Sequence[tuple[Band, str]] | None
) -> list[Identity]:
    """What each good band measured, as the caller or the sources say; without a band where nobody does."""
    identities: list[Identity] = []
    for file in files:
        for position, index in enumerate(file.indexes):
            joined = file.own[position].joined(file.beside[position])
            if named is not None:
                band, source = named[len(identities)]
                sources = dict.fromkeys(_FIELDS, source)
                sources["center_nm"] += _overruled_center(band, joined)
                identities.append(Identity(band, sources))
                continue
            single = len(handles.source(file.path).indexes) == 1
            label = Path(file.path).stem if single else f"band_{index}"
            where = f"Band {index} of {file.path}"
            identities.append(identify(where, label, joined, file.sensor))
    return identities


def _overruled_center(band: Band, statements: BandStatements) -> str:
    """The centre that a band of the caller overrules, for the report."""
    for stated in statements.center_nm:
        if not stated.weak and not _agree(band.center_nm, stated.value.value):
            return f"; {stated.value.value:g} nm of {stated.source} not applied"
    return ""


def _agree(one: float | None, two: float) -> bool:
    return one is not None and abs(one - two) <= CENTER_TOLERANCE_NM


def completed_identities(
    files: Sequence[DateFile], identities: Sequence[Identity], reading: Reading | None, dtypes: Sequence[str]
) -> tuple[list[Identity], bool]:
    """Bands that nobody names, from a reading or the colours of a picture; whether they are such colours.

    Args:
        files: the rasters of the date.
        identities: what each good band measured, as far as the sources say.
        reading: what a checkpoint knows of such files.
        dtypes: types of the stored numbers.

    Raises:
        RasterError: nothing says what a band measured.
    """
    identities = _last_one(files, identities)
    open_positions = [position for position, identity in enumerate(identities) if identity.band is None]
    is_bytes = set(dtypes) == {"uint8"}
    if reading is not None:
        pairs = zip(identities, reading.bands, strict=True)
        return [_completed(identity, replace(band, unit=None), reading.source) for identity, band in pairs], False
    if not open_positions:
        is_rgb = all(file.sensor is not None and file.sensor.name == RGB_SENSOR for file in files)
        return list(identities), is_bytes and is_rgb
    if is_bytes and len(open_positions) == len(identities) and (picture := _picture(files)):
        return picture, True
    raise _unknown_bands(files, identities)


def _completed(identity: Identity, known: Band, source: str) -> Identity:
    """A band, with what a reading knows of it where the sources say nothing."""
    if identity.band is None:
        return Identity(known, dict.fromkeys(_FIELDS, source))
    if identity.band.fwhm_nm is not None or known.fwhm_nm is None:
        return identity
    return Identity(replace(identity.band, fwhm_nm=known.fwhm_nm), {**identity.sources, "fwhm_nm": source})


def names_of(files: Sequence[DateFile]) -> list[set[str]]:
    """What each good band is called, hints such as colours and the names of files aside."""
    own = [band.joined(beside) for file in files for band, beside in zip(file.own, file.beside, strict=True)]
    return [{name.value for name in band.names if not name.weak} for band in own]


def _last_one(files: Sequence[DateFile], identities: Sequence[Identity]) -> list[Identity]:
    """The bands of a raster that holds all bands of its sensor: the only one that has no name is the one left.

    Four-band orthophotos colour three of their bands, and have no colour for near infrared. A band with a name that the
    sensor's table does not know, such as a quality mask, is not of the sensor.
    """
    completed = list(identities)
    unknown = [position for position, identity in enumerate(identities) if identity.band is None]
    sensor = files[0].sensor
    if len(files) != 1 or len(unknown) != 1 or sensor is None or len(sensor.bands) != len(identities):
        return completed
    if names_of(files)[unknown[0]]:
        return completed
    known = {identity.band.name for identity in identities if identity.band is not None}
    left = [record.band for record in sensor.bands if record.band.name not in known]
    if len(left) == 1:
        source = f"the only band of {sensor.name} that no other band of the file is"
        completed[unknown[0]] = Identity(left[0], dict.fromkeys(_FIELDS, source))
    return completed


def _picture(files: Sequence[DateFile]) -> list[Identity] | None:
    """The bands of a picture, whose colours alone say what they are; `None` if it is none."""
    if len(files) != 1 or files[0].sensor is not None:
        return None
    colours = [[name.value for name in band.names if name.source == "colour interpretation"] for band in files[0].own]
    found = [names[0] for names in colours if names]
    if sorted(found) != sorted(_PICTURE_COLOURS) or len(found) != len(files[0].own):
        return None
    sensor = find_sensor(RGB_SENSOR)
    for colour, called in zip(found, names_of(files), strict=True):
        # A composite shows near infrared as red: what bands are called goes before what they are shown as.
        if any(sensor.match(name) != sensor.match(colour) for name in called):
            return None
    files[0].sensor = sensor
    files[0].sensor_source = "colours red, green and blue of the file, nominal"
    where = f"Picture {files[0].path}"
    return [
        identify(where, name, BandStatements(names=(Stated(name, "colour interpretation", weak=True),)), sensor)
        for name in found
    ]


def _unknown_bands(files: Sequence[DateFile], identities: Sequence[Identity]) -> RasterError:
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


def stated_for_all(files: Sequence[DateFile], numbers: Sequence[GivenNumbers]) -> set[str]:
    """What the caller or the sources state of the stored numbers of every band: `scaling`, `nodata`."""
    own = [band.joined(beside) for file in files for band, beside in zip(file.own, file.beside, strict=True)]
    pairs = list(zip(own, numbers, strict=True))
    stated = set()
    if all(band.scaling or given.scale is not None for band, given in pairs):
        stated.add("scaling")
    if all(band.nodata or given.nodata is not None for band, given in pairs):
        stated.add("nodata")
    return stated


def measured_bands(
    files: Sequence[DateFile],
    identities: Sequence[Identity],
    numbers: Sequence[GivenNumbers],
    reading: Reading | None,
    handles: Handles,
    is_picture: bool,
) -> list[Measured]:
    """How the numbers of each good band become physical."""
    measured: list[Measured] = []
    for file in files:
        source = handles.source(file.path)
        for position, index in enumerate(file.indexes):
            at = len(measured)
            band = identities[at].band
            if band is None:
                raise _unknown_bands(files, identities)
            beside = file.beside[position]
            dtype = source.dtypes[source.indexes.index(index)]
            if file.product is not None:
                # Where it knew the band by its name, it has said the same already.
                beside = beside.joined(file.product.of_kind(f"Band {index} of {file.path}", band.kind, dtype))
            measured.append(
                measure(
                    file.path,
                    index,
                    band,
                    dtype,
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
