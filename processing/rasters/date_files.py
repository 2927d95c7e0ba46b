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
"""One raster of a date: what it states itself, and what is stated about it from outside."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from .identify import counted_as_named, find_sensor_of, loosened
from .opening import Handles
from .product_presets import Preset
from .products import NamedProduct, recognise_product
from .records import BandStatements, Beside, RasterError, RasterSource, Statements
from .sensors import Sensor


@dataclass
class DateFile:
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


def look_at(
    path: str, indexes: Sequence[int], handles: Handles, sensor: Sensor | None, beside: Sequence[Beside]
) -> DateFile:
    """What a raster and those beside it state.

    Args:
        path: the raster.
        indexes: numbers of its bands that belong to the date.
        handles: the open rasters.
        sensor: as the caller says; `None` = as the sources say.
        beside: what speaks about it from outside, beside what its entry holds.

    Raises:
        RasterError: two sensors are named, or a speaker refuses the raster.
    """
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
    is_given = sensor is not None
    if sensor is None:
        found, reason = find_sensor_of(path, joined)
        sensor = found.value if found else None
        if sensor is None:
            reason += ", and no argument sensor"
    else:
        reason = "argument sensor" + _overruled_sensor(path, joined, sensor)
    # Numbers are names where the file says whose, or holds all bands of the sensor.
    if sensor is not None and (not is_given or len(sensor.bands) == len(source.indexes)):
        own_bands = [counted_as_named(band) for band in own_bands]
    keep = [position for position, index in enumerate(indexes) if index not in bad]
    return DateFile(
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


def _overruled_sensor(path: str, statements: Statements, given: Sensor) -> str:
    """What the caller's sensor overrules, for the report."""
    try:
        found, reason = find_sensor_of(path, statements)
    except RasterError:
        return "; the sources name several, not applied"
    if found is None or given.name.startswith(found.value.name) or found.value.name.startswith(given.name):
        return ""
    return f"; {found.value.name} of {reason} not applied"


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


def dtypes_of(files: Sequence[DateFile], handles: Handles) -> list[str]:
    """Types of the stored numbers of all good bands."""
    dtypes = []
    for file in files:
        source = handles.source(file.path)
        by_index = dict(zip(source.indexes, source.dtypes, strict=True))
        dtypes += [by_index[index] for index in file.indexes]
    return dtypes
