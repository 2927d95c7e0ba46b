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
from .identify import Identity, identify, merely_counts
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
            if named is not None:
                band, source = named[len(identities)]
                identities.append(Identity(band, dict.fromkeys(_FIELDS, source)))
                continue
            joined = file.own[position].joined(file.beside[position])
            single = len(handles.source(file.path).indexes) == 1
            label = Path(file.path).stem if single else f"band_{index}"
            where = f"Band {index} of {file.path}"
            identities.append(identify(where, label, joined, file.sensor))
    return identities


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
    if not open_positions:
        is_rgb = all(file.sensor is not None and file.sensor.name == RGB_SENSOR for file in files)
        return list(identities), is_bytes and is_rgb and reading is None
    if reading is not None:
        completed = list(identities)
        for position in open_positions:
            band = replace(reading.bands[position], unit=None)
            completed[position] = Identity(band, dict.fromkeys(_FIELDS, reading.source))
        return completed, False
    if is_bytes and len(open_positions) == len(identities) and (picture := _picture(files)):
        return picture, True
    raise _unknown_bands(files, identities)


def _last_one(files: Sequence[DateFile], identities: Sequence[Identity]) -> list[Identity]:
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
