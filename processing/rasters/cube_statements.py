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
"""What an xarray data set states: attributes and coordinates as typed statements."""

import re
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..metadata import KIND_ALIASES, MIN_WAVELENGTH_NM, POLARISATIONS
from .cube_dates import dates_of_cube
from .cube_layout import (
    UNNAMED,
    CubeBand,
    Layout,
    count_up,
    listed,
    raster_attributes,
    value_of_band,
    value_of_variable,
)
from .cube_numbers import nodata_of, packing_of, valid_range_of
from .dates import DATE_KEYS, PERIOD_KEYS, date_in_name, dates_of, parse_period
from .quantities import finite, length_nm
from .records import BandStatements, Period, Quantity, RasterError, Stated, Statements
from .sensors import INSTRUMENT_KEYS, PLATFORM_KEYS, is_counting_name, plain_band_name, wavelength_in_name

if TYPE_CHECKING:
    from xarray import Dataset

# CF's standard names for what a wavelength coordinate holds.
_WAVELENGTH_STANDARD_NAMES = (
    "radiation_wavelength",
    "radiation_frequency",
    "sensor_band_central_radiation_wavelength",
    "sensor_band_central_radiation_wavenumber",
)
_CENTER = re.compile(r"(?:(?:cent(?:er|re|ral)_?)?wavelengths?|cent(?:er|re)(?=_nm|_um))(?:_(nm|um))?")
_FWHM = re.compile(r"(?:fwhm|full_width_half_max)(?:_(nm|um))?")
# Fields of STAC's EO extension, which gives them in micrometres; stackstac makes them coordinates.
_STAC_CENTER = "center_wavelength"
_STAC_LENGTHS = (_STAC_CENTER, "full_width_half_max")
_BAD_KEYS = ("bbl", "bad_band_multiplier", "good_wavelengths")
_NAME_KEYS = ("name", "band_name", "band_names", "common_name")
# Texts for people, which name a band where nothing else does.
_LISTED_KEYS = ("long_name", "descriptions")
_DESCRIPTION_KEYS = (*_LISTED_KEYS, "description", "title")
# Lists of ENVI headers, which rioxarray keeps as texts.
_ENVI_LISTS = ("wavelength", "fwhm", "bbl", "band_names")
# What GDAL's netCDF writer says of bands without a description.
_PLACEHOLDER = re.compile(r"GDAL Band Number \d+")
_POLARISATION_KEYS = ("polarisation", "polarisations", "polarization", "polarizations")
# When the image was made (TIFF 6.0), which GDAL's tags keep.
_TIFF_DATE = "tifftag_datetime"
# Keys that never speak of a single band.
_RASTER_DATE_KEYS = {_TIFF_DATE, *(key for pair in PERIOD_KEYS for key in pair)}
_NO_TEXT = ("", "None", "nan")


@dataclass(frozen=True)
class _Field:
    """One attribute or coordinate that speaks about a band.

    `all_values` are those of all bands, if it has one for each.
    """

    key: str
    source: str
    value: Any
    unit: str = ""
    all_values: tuple[str, ...] = ()


def states_of(
    dataset: "Dataset",
    layout: Layout,
    name: str,
    is_file: bool,
    path: str,
) -> Statements:
    """All that a data set states.

    Args:
        dataset: the data set.
        layout: what its dimensions mean.
        name: what messages call it.
        is_file: whether it was opened with its numbers as they are stored.
        path: where it came from, whose name may state a date; empty if unknown.

    Returns:
        Statements with one entry per band, date by date.

    Raises:
        RasterError: a statement cannot be understood; the message says which.
    """
    own = [_band(dataset, layout, number, name, is_file) for number in range(len(layout.bands))]
    dates, unread = dates_of_cube(dataset, layout, name)
    of_raster, unread_of_raster = _raster_dates(dataset, layout, path)
    bands: list[BandStatements] = []
    if layout.num_dates > 1:
        # What attributes say holds for none of several dates.
        bands = [replace(band, date=date) for date in dates for band in own]
        of_raster, unread_of_raster = (), ()
    elif dates[0]:
        # What is said of the whole holds for its only date, and must not contradict the coordinate.
        bands = [replace(band, date=(*dates[0], *of_raster, *band.date)) for band in own]
        of_raster, unread_of_raster = (), ()
    return Statements(
        bands=tuple(bands or own),
        platform=_words(dataset, layout, PLATFORM_KEYS),
        instrument=_words(dataset, layout, INSTRUMENT_KEYS),
        date=of_raster,
        unread_date=(*unread, *unread_of_raster),
        gsd_m=_ground_sampling_distance(dataset, layout),
    )


# Bands


def _band(
    dataset: "Dataset",
    layout: Layout,
    number: int,
    name: str,
    is_file: bool,
) -> BandStatements:
    """What is stated about one band, without the dates of the cube."""
    band = layout.bands[number]
    variable = dataset[band.variable]
    where = f"Band {number + 1} of {name}"
    fields = list(_fields(dataset, band))
    texts = _texts(dataset, band, fields)
    packing = packing_of(variable, band, name, is_file)
    unit = value_of_variable(variable.attrs.get("units"), band)
    units = (Stated(str(unit), "attribute units"),) if _is_said(unit) else ()
    # Scalar coordinates are those of the cube's dates.
    own = [field for field in fields if field.all_values or field.source.startswith("attribute")]
    dates, _ = dates_of({field.key: (field.source, str(field.value)) for field in own})
    return BandStatements(
        names=tuple(replace(text, value=plain_band_name(text.value)) for text in texts),
        kind=tuple(_kinds(fields)),
        polarisation=tuple(_polarisations(fields)),
        center_nm=(*_lengths(where, "center_nm", fields), *_lengths_in_names(where, texts)),
        fwhm_nm=tuple(_lengths(where, "fwhm_nm", fields)),
        unit=units,
        scaling=packing.scaling,
        nodata=nodata_of(variable, band, packing),
        valid_range=valid_range_of(variable, band, packing, name),
        date=tuple(dates),
        bad=tuple(_bad(where, fields)),
    )


def _key(name: Hashable) -> str:
    """The name of an attribute or coordinate: lower case, words joined by `_`, no STAC prefix."""
    words = re.sub(r"[\s-]+", "_", str(name).strip().casefold())
    return re.sub(r"^(?:eo|sar):", "", words)


def _fields(dataset: "Dataset", band: CubeBand) -> Iterator[_Field]:
    """What attributes of the variable and coordinates along its band dimension say of one band."""
    attributes = dataset[band.variable].attrs
    unit = str(attributes.get("wavelength_units", attributes.get("wavelength_unit", "")))
    for name, value in attributes.items():
        key = _key(name)
        if key in _ENVI_LISTS and isinstance(value, str) and "," in value:
            value = [item.strip() for item in value.strip("{}").split(",")]
        own = value_of_band(value, band)
        if _is_said(own):
            all_values = tuple(str(item) for item in listed(value) or ())
            yield _Field(key, f"attribute {name}", own, unit, all_values)
    for name, variable in dataset.variables.items():
        is_wavelength = variable.attrs.get("standard_name") in _WAVELENGTH_STANDARD_NAMES
        key = "wavelength" if is_wavelength else _key(name)
        source = f"coordinate {name}"
        own_unit = str(variable.attrs.get("units", "" if key in _STAC_LENGTHS else unit))
        if band.dim is not None and variable.dims == (band.dim,):
            all_values = tuple(str(item) for item in variable.values)
            if _is_said(variable.values[band.position]):
                yield _Field(key, source, variable.values[band.position], own_unit, all_values)
        elif not variable.dims and name in dataset.coords and _is_said(variable.values.item()):
            yield _Field(key, source, variable.values.item(), own_unit)


def _is_said(value: Any) -> bool:
    return value is not None and str(value).strip() not in _NO_TEXT


def _texts(dataset: "Dataset", band: CubeBand, fields: Sequence[_Field]) -> list[Stated[str]]:
    """What a band is called, the strongest first; names that only count are weak."""
    texts = []
    if band.label is not None:
        source = f"coordinate {'band' if band.dim is None else band.dim}"
        texts.append(Stated(band.label, source, band.label_counts))
    if band.dim is None and band.variable != UNNAMED:
        described = str(dataset[band.variable].attrs.get("long_name", ""))
        is_weak = band.variable_counts or _PLACEHOLDER.fullmatch(described) is not None
        texts.append(Stated(str(band.variable), "name of the variable", is_weak))
    is_unnamed = all(text.weak for text in texts)
    for field in fields:
        text = str(field.value).strip()
        if field.key not in (*_NAME_KEYS, *_DESCRIPTION_KEYS) or _PLACEHOLDER.fullmatch(text):
            continue
        # A description names a band that nothing else names, or one of a list of bands.
        names_the_band = field.key in _LISTED_KEYS and (is_unnamed or len(field.all_values) > 0)
        is_name = field.key in _NAME_KEYS or names_the_band
        texts.append(Stated(text, field.source, weak=not is_name or _counts(field, band)))
    return sorted(texts, key=lambda text: text.weak)


def _counts(field: _Field, band: CubeBand) -> bool:
    """Whether a name says no more than which band of a file it is."""
    if len(field.all_values) > 1:
        return count_up([plain_band_name(text) for text in field.all_values])
    number = is_counting_name(str(field.value))
    return number is not None and number in (band.number, is_counting_name(str(band.variable)))


def _kinds(fields: Iterable[_Field]) -> Iterator[Stated[str]]:
    for field in fields:
        if field.key == "kind":
            kind = str(field.value).strip().casefold()
            yield Stated(KIND_ALIASES.get(kind, kind), field.source)


def _polarisations(fields: Iterable[_Field]) -> Iterator[Stated[str]]:
    for field in fields:
        text = str(field.value).strip().upper()
        if field.key in _POLARISATION_KEYS and text in POLARISATIONS:
            yield Stated(text, field.source)


def _lengths(where: str, what: str, fields: Sequence[_Field]) -> Iterator[Stated[Quantity]]:
    """Centres or widths in nanometres."""
    pattern = _CENTER if what == "center_nm" else _FWHM
    for field in fields:
        match = pattern.fullmatch(field.key)
        if match is None:
            continue
        # A name and a unit that differ are two statements.
        units = [unit for unit in (match[1], field.unit) if unit] or [_unit_of_stac(field, fields)]
        for unit in dict.fromkeys(units):
            length = length_nm(where, what, str(field.value), unit, field.source)
            if length is not None:
                yield Stated(length, field.source)


def _unit_of_stac(field: _Field, fields: Sequence[_Field]) -> str:
    """Micrometres for STAC's fields without a unit, unless the centre can only be in nanometres."""
    if field.key not in _STAC_LENGTHS:
        return ""
    centres = [finite(str(one.value)) for one in fields if one.key == _STAC_CENTER]
    is_nm = any(centre is not None and centre >= MIN_WAVELENGTH_NM for centre in centres)
    return "" if is_nm else "um"


def _lengths_in_names(where: str, texts: Iterable[Stated[str]]) -> Iterator[Stated[Quantity]]:
    """Centres that descriptions state, as GDAL's drivers write them."""
    for text in texts:
        if found := wavelength_in_name(text.value):
            length = length_nm(where, "center_nm", found[0], found[1], text.source)
            if length is not None:
                yield Stated(length, text.source)


def _bad(where: str, fields: Iterable[_Field]) -> Iterator[Stated[bool]]:
    """ENVI defines the marks as multipliers, 0 for bad bands and 1 for good ones."""
    for field in fields:
        if field.key not in _BAD_KEYS:
            continue
        number = finite(str(field.value))
        if number is None:
            raise RasterError(
                f"{where} has the bad-band mark {str(field.value)!r} ({field.source}); 0 for bad and "
                "1 for good bands are expected. Correct it."
            )
        if number == 0:
            yield Stated(True, field.source)


# The raster as a whole


def _attributes(dataset: "Dataset", layout: Layout) -> Iterator[tuple[Hashable, Any]]:
    """Attributes of the rasters, then of the data set."""
    for attributes in raster_attributes(dataset, layout):
        yield from attributes.items()


def _words(dataset: "Dataset", layout: Layout, keys: Sequence[str]) -> tuple[Stated[str], ...]:
    """Texts of attributes and coordinates that hold for the whole, each once."""
    found: dict[str, Stated[str]] = {}
    for name, value in _attributes(dataset, layout):
        text = " ".join(str(item) for item in listed(value) or [value]).strip()
        if _key(name) in keys and text not in _NO_TEXT:
            found.setdefault(text, Stated(text, f"attribute {name}"))
    for name, value in _constants(dataset, layout):
        text = str(value).strip()
        if _key(name) in keys and text not in _NO_TEXT:
            found.setdefault(text, Stated(text, f"coordinate {name}"))
    return tuple(found.values())


def _constants(dataset: "Dataset", layout: Layout) -> Iterator[tuple[Hashable, Any]]:
    """Coordinates with one value for all bands and dates."""
    for name, coordinate in dataset.coords.items():
        if {layout.x, layout.y} & set(coordinate.dims) or name in dataset.sizes:
            continue
        values = list(coordinate.values.flat)
        if values and all(str(value) == str(values[0]) for value in values):
            yield name, values[0]


def _ground_sampling_distance(dataset: "Dataset", layout: Layout) -> tuple[Stated[float], ...]:
    """The distance of the instrument in metres, if it is one for all bands."""
    stated = [(name, value, "attribute") for name, value in _attributes(dataset, layout)]
    stated += [(name, value, "coordinate") for name, value in _constants(dataset, layout)]
    found = {}
    for name, value, word in stated:
        number = finite(str(value)) if _key(name) == "gsd" else None
        if number is not None and number > 0:
            found[number] = Stated(number, f"{word} {name}")
    return tuple(found.values()) if len(found) == 1 else ()


def _raster_dates(
    dataset: "Dataset", layout: Layout, path: str
) -> tuple[tuple[Stated[Period], ...], tuple[Stated[str], ...]]:
    """The dates of the whole, and texts that should state one but cannot be taken for it."""
    fields = {}
    unread = []
    for name, value in dataset.attrs.items():
        fields[_key(name)] = (f"attribute {name}", str(value))
    band = layout.bands[0]
    variables = {one.variable for one in layout.bands}
    # An array has no other attributes than its own; those of several variables are their bands'.
    for name, value in dataset[band.variable].attrs.items() if len(variables) == 1 else ():
        key, source, text = _key(name), f"attribute {name}", str(value)
        if key in _RASTER_DATE_KEYS or value_of_band(value, band) is not None:
            fields.setdefault(key, (source, text))
        elif key in DATE_KEYS:
            unread.append(Stated(text, f"{source}, which may be that of one band"))
    known, unreadable = dates_of(fields)
    if not known and _TIFF_DATE in fields:
        source, text = fields[_TIFF_DATE]
        if period := parse_period(text):
            known = [Stated(period, source, weak=True)]
    if not known and (in_name := _date_in_path(path)):
        known = [Stated(in_name, "file name", weak=True)]
    return tuple(known), (*unreadable, *unread)


def _date_in_path(path: str) -> Period | None:
    """The date in the name of a file, or of the Zarr store that a group lies in."""
    parts = re.split(r"[/\\]+", path.rstrip("/\\"))
    stores = [part for part in parts if part.lower().endswith(".zarr")]
    return date_in_name(stores[-1] if stores else parts[-1])
