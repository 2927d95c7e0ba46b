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
"""What a raster is: sensor, date, ground sampling distance and bands, joined from the statements of all sources.

Statements about one thing must agree, whoever makes them; hints count only where nobody else speaks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..metadata import THERMAL_FROM_NM, Band, MetadataError
from .dates import agreed
from .records import BandStatements, Period, Quantity, RasterError, Stated, Statements
from .sensors import Sensor, SensorBand, find_sensor, is_counting_name

# Two sources mean one band if their centres are no further apart: tables, standards and products round differently.
CENTER_TOLERANCE_NM = 5.0
# A band as wide as most of the camera bands whose width nobody published.
_USUAL_WIDTH_NM = 50.0
_BANDS_REMEDY = "give the bands yourself: bands=[...] (--bands)"


def loosened(statements: Statements) -> Statements:
    """Statements from outside of a file, whose wavelengths may be those of another table than the file's."""
    bands = []
    for band in statements.bands:
        widths = [width.value.value for width in band.fwhm_nm]
        tolerance = min([CENTER_TOLERANCE_NM, *(width / 2 for width in widths)])
        centers = [_at_least(center, tolerance) for center in band.center_nm]
        # Widths are defined in several ways, and differ by half between tables.
        fwhm = [_at_least(width, width.value.value / 2) for width in band.fwhm_nm]
        bands.append(replace(band, center_nm=tuple(centers), fwhm_nm=tuple(fwhm)))
    return replace(statements, bands=tuple(bands))


def _at_least(stated: Stated[Quantity], tolerance: float) -> Stated[Quantity]:
    return replace(stated, value=replace(stated.value, tolerance=max(stated.value.tolerance, tolerance)))


def find_sensor_of(path: str, statements: Statements) -> tuple[Stated[Sensor] | None, str]:
    """The sensor that statements name.

    Args:
        path: the raster, for messages.
        statements: of the raster.

    Returns:
        The sensor, or `None` and what was looked at.

    Raises:
        RasterError: two sensors are named.
    """
    found = list(statements.sensor)
    looked_up: set[Stated[str]] = set()
    # Instruments of one name fly on several platforms (OLI), so both are looked up together first. A platform may carry
    # several instruments: its name alone counts only where no instrument is named.
    for platform in statements.platform:
        for instrument in statements.instrument:
            label = f"{platform.source} and {instrument.source.split()[-1]}"
            text = f"{platform.value} {instrument.value}"
            if (sensor := _known_sensor(text)) and instrument not in looked_up:
                found.append(Stated(sensor, f"{label} {text!r}"))
                looked_up.add(instrument)
    for name in statements.instrument or statements.platform:
        if name not in looked_up and (sensor := _known_sensor(name.value)):
            found.append(Stated(sensor, f"{name.source} {name.value!r}"))
    if not found:
        named = [f"{name.source} {name.value!r}" for name in (*statements.platform, *statements.instrument)]
        return None, f"names that the table does not know ({', '.join(named)})" if named else "nothing names one"
    # "sentinel-2" and "sentinel-2a" agree, and the longer name says more.
    alike = [one for one in found if one.value.name.startswith(found[0].value.name)]
    best = max(alike, key=lambda one: len(one.value.name))
    for other in found:
        if not best.value.name.startswith(other.value.name):
            raise RasterError(
                f"{path} names two sensors: {best.value.name} ({best.source}) and {other.value.name} "
                f"({other.source}). Say which holds with sensor=... (--sensor)."
            )
    return best, best.source


def _known_sensor(text: str) -> Sensor | None:
    try:
        return find_sensor(text)
    except MetadataError:
        return None


def find_date(
    path: str, statements: Statements, bands: Sequence[BandStatements], several_dates: bool
) -> Stated[Period] | None:
    """When a raster was taken, as far as it says so.

    Args:
        path: the raster, for messages.
        statements: of the whole raster.
        bands: of its bands that belong to the date in question.
        several_dates: whether the raster holds other dates as well, so that only bands can say.

    Raises:
        RasterError: two statements contradict each other.
    """
    of_bands = [date for band in bands for date in band.date]
    dates = of_bands if several_dates else [*statements.date, *of_bands]
    strong = [date for date in dates if not date.weak]
    remedy = "If it holds several dates, say how with stacked=... and num_dates=... (--stacked, --num-dates). "
    return agreed(path, strong or dates, remedy if of_bands else "")


def no_date_text(path: str, statements: Statements, several_dates: bool) -> str:
    """What was looked at where no date was found."""
    if statements.unread_date:
        listed = ", ".join(f"{text.source} {text.value!r}" for text in statements.unread_date)
        return f"{listed} cannot be read as a date, and no argument dates"
    if several_dates:
        return "the raster holds several dates, and nothing says which these bands are of, and no argument dates"
    return (
        "no tag such as TIMESTAMP or TIFFTAG_DATETIME, not exactly one date in the name "
        f"{Path(path).name}, and no argument dates"
    )


@dataclass(frozen=True)
class Identity:
    """A band, and where each of its fields comes from; `band` is `None` if nothing says what it measured."""

    band: Band | None
    sources: dict[str, str]


def identify(where: str, label: str, statements: BandStatements, sensor: Sensor | None) -> Identity:
    """What a band measured.

    Args:
        where: the band, for messages.
        label: what to call it if nothing names it.
        statements: about it.
        sensor: the sensor whose table holds the names.

    Raises:
        RasterError: statements contradict each other, or the sensor's table.
    """
    kind = _one(where, "kind", statements.kind)
    polarisation = _one(where, "polarisation", statements.polarisation)
    center = _one_length(where, "center_nm", statements.center_nm)
    width = _one_length(where, "fwhm_nm", statements.fwhm_nm)
    record, by_name = _look_up(where, sensor, statements.names)
    table = ""
    if record is not None and sensor is not None:
        table = f"band {record.band.name} of {sensor.name}, by {by_name}"
        if not (kind and kind.weak):
            _check_record(where, record, table, kind, center)
        if kind is None or kind.weak:
            kind = Stated(record.band.kind, table)
        if record.band.polarisation and (polarisation is None or polarisation.weak):
            polarisation = Stated(record.band.polarisation, table)
    if kind is None and center is not None:
        kind = _kind_by_wavelength(center.value.value)
    if kind is None:
        return Identity(None, {})
    missing = "no IMAGERY domain, tag, ENVI header, item or sensor table states it"
    name = Stated(record.band.name, table) if record else _name(statements.names, label)
    sources = {"name": name.source, "kind": kind.source}
    sources["polarisation"] = polarisation.source if polarisation else missing
    lengths: dict[str, float | None] = {}
    for field, stated in (("center_nm", center), ("fwhm_nm", width)):
        from_table = getattr(record.band, field) if record else None
        if stated and not ((stated.weak or stated.nominal) and from_table is not None):
            lengths[field], sources[field] = stated.value.value, stated.source
        else:
            lengths[field], sources[field] = from_table, missing if from_table is None else table
    try:
        band = Band(
            name.value,
            center_nm=lengths["center_nm"],
            fwhm_nm=lengths["fwhm_nm"],
            kind=kind.value,
            polarisation=polarisation.value if polarisation and kind.value == "sar" else None,
        )
    except MetadataError as error:
        raise RasterError(f"{where}: {error} Or {_BANDS_REMEDY}.") from error
    return Identity(band, sources)


def _kind_by_wavelength(center_nm: float) -> Stated[str]:
    is_reflective = center_nm < THERMAL_FROM_NM
    relation = "below" if is_reflective else "not below"
    return Stated("reflective" if is_reflective else "thermal", f"wavelength {relation} {THERMAL_FROM_NM:g} nm")


def _one(where: str, what: str, stated: Sequence[Stated[str]]) -> Stated[str] | None:
    """The word that all statements agree on; hints count only where there is nothing else."""
    strong = [one for one in stated if not one.weak]
    words = strong or list(stated)
    for other in words[1:]:
        if other.value != words[0].value:
            if not strong:
                return None
            raise RasterError(
                f"{where} states two values of {what}: {words[0].value!r} ({words[0].source}) and {other.value!r} "
                f"({other.source}). Correct one, or {_BANDS_REMEDY}."
            )
    return words[0] if words else None


def _one_length(where: str, what: str, stated: Sequence[Stated[Quantity]]) -> Stated[Quantity] | None:
    """The most precise of lengths that agree within their last digits."""
    strong = [one for one in stated if not one.weak]
    stated = strong or list(stated)
    for position, one in enumerate(stated):
        for two in stated[position + 1 :]:
            if abs(one.value.value - two.value.value) > one.value.tolerance + two.value.tolerance:
                raise RasterError(
                    f"{where} states two values of {what}: {one.value.value:g} ({one.source}) and "
                    f"{two.value.value:g} ({two.source}). Correct one, or {_BANDS_REMEDY}."
                )
    # GDAL's IMAGERY domain is rounded to 1 nm: of values that agree, the one with most digits is the best.
    return min(stated, key=lambda one: (one.nominal, one.value.tolerance), default=None)


def merely_counts(name: Stated[str]) -> bool:
    """Whether a name is the position of a band in its file (`Band 1`), as drivers write that know no names."""
    return name.weak and name.source != "file name" and is_counting_name(name.value) is not None


def counted_as_named(band: BandStatements) -> BandStatements:
    """The statements, with a name that merely counts as that of the sensor's band of this number."""
    names = [replace(name, weak=False) if merely_counts(name) else name for name in band.names]
    return replace(band, names=tuple(names))


def _look_up(where: str, sensor: Sensor | None, names: Sequence[Stated[str]]) -> tuple[SensorBand | None, str]:
    """The entry of the table that the first known name leads to; other stated names must not lead to another."""
    found: list[tuple[SensorBand, Stated[str]]] = []
    telling = [name for name in names if not merely_counts(name)]
    # What a file is called, and the colour that a band is shown in, are hints: they do not say what a band is that has
    # a name, even if the table does not know it.
    for name in [name for name in telling if not name.weak] or telling:
        records = sensor.match(name.value) if sensor else ()
        if len(records) == 1:
            found.append((records[0], name))
    if not found or sensor is None:
        return None, ""
    record, name = found[0]
    for other, other_name in found[1:]:
        if other != record and not other_name.weak:
            raise RasterError(
                f"{where} is called {name.value!r} ({name.source}) and {other_name.value!r} ({other_name.source}), "
                f"which are bands {record.band.name} and {other.band.name} of {sensor.name}. Correct one, or "
                f"{_BANDS_REMEDY}."
            )
    return record, f"{name.source} {name.value!r}"


def _check_record(
    where: str,
    record: SensorBand,
    table: str,
    kind: Stated[str] | None,
    center: Stated[Quantity] | None,
) -> None:
    """The file must not contradict the entry of the table that its band name leads to."""
    remedy = (
        "Leave sensor=... (--sensor) out if the file is right, name the right one, or give the bands yourself: "
        "bands=[...] (--bands)."
    )
    if kind and kind.value != record.band.kind:
        raise RasterError(
            f"{where} is of kind {kind.value!r} ({kind.source}), but {record.band.kind!r} as {table}. {remedy}"
        )
    known = record.band.center_nm
    if center is None or known is None:
        return
    if abs(center.value.value - known) > (record.band.fwhm_nm or _USUAL_WIDTH_NM):
        raise RasterError(
            f"{where} has its centre at {center.value.value:g} nm ({center.source}), but at {known:g} nm as {table}: "
            f"further off than that band is wide. {remedy}"
        )


def _name(names: Sequence[Stated[str]], label: str) -> Stated[str]:
    """What a band is called that no table knows."""
    named = [name for name in names if name.source != "file name"]
    # Colours and numbers are names only where nobody gives one.
    for name in sorted(named, key=lambda name: name.weak):
        return name
    return Stated(label, "its number or its file; nothing names it")
