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
"""What a GDAL file states: its tags, descriptions, colours, ENVI header and name, as typed records."""

import math
import re
from collections.abc import Sequence
from pathlib import Path

from rasterio.enums import ColorInterp
from rasterio.io import DatasetReader

from ..metadata import KIND_ALIASES, POLARISATION_NAME, POLARISATIONS
from .dates import date_in_name, dates_of, parse_period, without_date
from .envi import EnviHeader, header_key, header_of
from .folders import RASTER_SUFFIXES
from .quantities import finite, length_nm
from .records import BandStatements, Period, Quantity, RasterError, Scaling, Stated, Statements
from .sensors import INSTRUMENT_KEYS, PLATFORM_KEYS, is_counting_name, plain_band_name, wavelength_in_name

_CENTER_KEY = re.compile(r"(?:(?:cent(?:er|re|ral)_?)?wavelength|cent(?:er|re)(?=_nm|_um))(?:_(nm|um))?")
_FWHM_KEY = re.compile(r"fwhm(?:_(nm|um))?")
_NO_COLOUR = (ColorInterp.undefined, ColorInterp.gray, ColorInterp.palette, ColorInterp.alpha)

Fields = dict[str, tuple[str, str]]


def statements_of(dataset: DatasetReader, path: str, indexes: Sequence[int]) -> Statements:
    """What an open file states.

    Args:
        dataset: the file.
        path: its name, for messages.
        indexes: numbers of the bands that hold data.

    Raises:
        RasterError: a unit is unknown, a list of the header has a wrong length, or a kind is unknown.
    """
    header = header_of(path, dataset.tags(ns="ENVI"))
    of_file = _fields(dataset, 0, ("", "ENVI", "IMAGERY"))
    counting = _names_count(dataset, indexes)
    bands = []
    for index in indexes:
        names = _names(dataset, path, index, indexes, header, counting)
        bands.append(_band(dataset, path, index, names, header, of_file))
    known, unread = dates_of(of_file)
    return Statements(
        bands=tuple(bands),
        platform=_texts(of_file, PLATFORM_KEYS),
        instrument=_texts(of_file, INSTRUMENT_KEYS),
        date=(*known, *_weak_dates(of_file, path)),
        unread_date=tuple(unread),
    )


def names_data(dataset: DatasetReader, index: int) -> bool:
    """Whether a description or a tag says that a band measured something."""
    description = (dataset.descriptions[index - 1] or "").strip()
    fields = _fields(dataset, index, ("", "IMAGERY"))
    measures = any(
        key in ("kind", "polarisation", "polarization", "central_wavelength_um") or _CENTER_KEY.fullmatch(key)
        for key in fields
    )
    measures |= wavelength_in_name(description) is not None
    is_named = description != "" and "alpha" not in description.casefold() and "mask" not in description.casefold()
    return measures or (is_named and is_counting_name(description) != index)


def _fields(dataset: DatasetReader, index: int, domains: Sequence[str]) -> Fields:
    """Tags of the file (`index` 0) or a band by key in lower case: where each stands, and its text."""
    fields: Fields = {}
    for domain in domains:
        tags = dataset.tags(index, ns=domain) if domain else dataset.tags(index)
        for key, text in tags.items():
            word = "IMAGERY" if domain == "IMAGERY" else "tag"
            fields.setdefault(header_key(key), (f"{word} {key.strip()}", str(text).strip()))
    return fields


def _texts(fields: Fields, keys: Sequence[str]) -> tuple[Stated[str], ...]:
    return tuple(Stated(text, label) for key, (label, text) in fields.items() if key in keys)


def _weak_dates(fields: Fields, path: str) -> list[Stated[Period]]:
    """The date in the file's name, and that of the TIFF tag, which is when the file was made.

    TIFF 6.0 defines DateTime as the time of the image's creation. Processing may have set it, so the name must agree.
    """
    found = []
    if "tifftag_datetime" in fields:
        label, text = fields["tifftag_datetime"]
        if period := parse_period(text):
            found.append(Stated(period, label, weak=True))
    if period := date_in_name(Path(path).name):
        found.append(Stated(period, "file name", weak=True))
    return found


# Bands


def _band(
    dataset: DatasetReader,
    path: str,
    index: int,
    names: list[Stated[str]],
    header: EnviHeader | None,
    of_file: Fields,
) -> BandStatements:
    where = f"Band {index} of {path}"
    fields = _fields(dataset, index, ("",))
    imagery = _fields(dataset, index, ("IMAGERY",))
    polarisation = _polarisations(fields, names)
    centers = _lengths(where, dataset, index, "center_nm", fields, imagery, header)
    if not centers and (named := _named_length(where, dataset, index)):
        centers.append(named)
    dates, _ = dates_of(fields)
    if not dates and (period := date_in_name(dataset.descriptions[index - 1] or "")):
        dates = [Stated(period, "description")]
    # Where a colour as a whole means missing, GDAL's mask says so; each of its numbers alone does not.
    nodata = None if "nodata_values" in of_file else dataset.nodatavals[index - 1]
    # Attributes of CF, which rioxarray writes as tags of the file.
    attributes = {**of_file, **fields}
    return BandStatements(
        names=tuple(names),
        kind=_kinds(fields, polarisation),
        polarisation=polarisation,
        center_nm=tuple(centers),
        fwhm_nm=tuple(_lengths(where, dataset, index, "fwhm_nm", fields, imagery, header)),
        unit=_units(dataset, index, attributes),
        scaling=_scalings(dataset, index, header),
        nodata=() if nodata is None else (Stated(float(nodata), "nodata value of the file"),),
        valid_range=_valid_ranges(where, attributes),
        date=tuple(dates),
        bad=_bad_marks(where, dataset, index, fields, header),
    )


def _names_count(dataset: DatasetReader, indexes: Sequence[int]) -> bool:
    """Whether the names of the bands merely number them, as drivers do that know no names (ENVI: `Band 1`)."""
    described = [dataset.descriptions[index - 1] or "" for index in indexes]
    numbers = [is_counting_name(text) for text in described]
    return numbers == list(range(1, len(indexes) + 1))


def _names(
    dataset: DatasetReader,
    path: str,
    index: int,
    indexes: Sequence[int],
    header: EnviHeader | None,
    counting: bool,
) -> list[Stated[str]]:
    """Names that a file gives to a band, the first one to be believed."""
    names = []
    description = (dataset.descriptions[index - 1] or "").strip()
    listed = header.item("band_names", index, dataset.count) if header else None
    if description:
        names.append(Stated(plain_band_name(description), "description", weak=counting))
        undated = without_date(description)
        if undated:
            names.append(Stated(plain_band_name(undated), "description", weak=counting))
    elif header and listed:
        names.append(Stated(plain_band_name(listed), header.source))
    for key, (label, text) in _fields(dataset, index, ("",)).items():
        if key in ("name", "common_name") and text:
            names.append(Stated(text, label))
    if len(indexes) == 1:
        names += [Stated(name, "file name", weak=True) for name in _file_name_parts(path)]
    colour = dataset.colorinterp[index - 1]
    if colour not in _NO_COLOUR:
        names.append(Stated(colour.name, "colour interpretation", weak=True))
    return names


def _file_name_parts(path: str) -> list[str]:
    """What may name the band of a file that holds one: ..._B02, ..._B02_10m, ..._SR_B2, or a polarisation."""
    base = Path(path).name
    stem = base[: -len(Path(base).suffix)] if base.lower().endswith(RASTER_SUFFIXES) else base
    parts = [part for part in re.split(r"[^0-9A-Za-z]+", stem) if part]
    names = ["_".join(parts[-length:]) for length in (1, 2, 3) if length <= len(parts)]
    radar = {part.upper() for part in parts}.intersection(POLARISATIONS)
    return names + list(radar) if len(radar) == 1 else names


def _kinds(fields: Fields, polarisation: Sequence[Stated[str]]) -> tuple[Stated[str], ...]:
    kinds = []
    if "kind" in fields:
        label, text = fields["kind"]
        kind = text.casefold()
        kinds.append(Stated(KIND_ALIASES.get(kind, kind), label))
    if polarisation:
        first = polarisation[0]
        kinds.append(Stated("sar", f"polarisation in {first.source}", first.weak))
    return tuple(kinds)


def _polarisations(fields: Fields, names: Sequence[Stated[str]]) -> tuple[Stated[str], ...]:
    found = []
    for key in ("polarisation", "polarization"):
        if key in fields and fields[key][1].upper() in POLARISATIONS:
            found.append(Stated(fields[key][1].upper(), fields[key][0]))
    for name in names:
        if match := POLARISATION_NAME.fullmatch(name.value):
            found.append(Stated(match[1].upper(), f"{name.source} {name.value!r}", name.weak))
    return tuple(found)


def _units(dataset: DatasetReader, index: int, attributes: Fields) -> tuple[Stated[str], ...]:
    """The unit type of a band, or the attribute `units`."""
    if unit := (dataset.units[index - 1] or "").strip():
        return (Stated(unit, "unit type of the file"),)
    if "units" not in attributes:
        return ()
    label, text = attributes["units"]
    return (Stated(text, label),) if text else ()


def _valid_ranges(where: str, attributes: Fields) -> tuple[Stated[tuple[float, float]], ...]:
    """The attributes `valid_range`, `valid_min` and `valid_max` of CF, in stored numbers."""
    if "valid_range" in attributes:
        label, text = attributes["valid_range"]
        numbers = _numbers_in(text)
        if len(numbers) != 2:
            raise RasterError(f"{where}: {label} is {text!r}; two numbers, smallest and largest, are expected.")
        return (Stated((numbers[0], numbers[1]), label),)
    limits = {"valid_min": -math.inf, "valid_max": math.inf}
    labels = []
    for key in limits:
        if key in attributes:
            label, text = attributes[key]
            numbers = _numbers_in(text)
            if len(numbers) != 1:
                raise RasterError(f"{where}: {label} is {text!r}; a number is expected.")
            limits[key] = numbers[0]
            labels.append(label)
    return (Stated((limits["valid_min"], limits["valid_max"]), " and ".join(labels)),) if labels else ()


def _numbers_in(text: str) -> list[float]:
    """Numbers of a list as CF attributes become text: `0, 16000`, `{0,16000}`, `[0 16000]`."""
    try:
        return [float(word) for word in text.strip("[]{}()").replace(",", " ").split()]
    except ValueError:
        return []


def _lengths(
    where: str,
    dataset: DatasetReader,
    index: int,
    what: str,
    fields: Fields,
    imagery: Fields,
    header: EnviHeader | None,
) -> list[Stated[Quantity]]:
    """Centres or widths from the IMAGERY domain, tags and an ENVI header."""
    is_center = what == "center_nm"
    found: list[tuple[str, str, str]] = []
    if (key := "central_wavelength_um" if is_center else "fwhm_um") in imagery:
        label, text = imagery[key]
        found.append((label, text, "um"))
    units = next((fields[key][1] for key in ("wavelength_units", "wavelength_unit") if key in fields), "")
    pattern = _CENTER_KEY if is_center else _FWHM_KEY
    for key, (label, text) in fields.items():
        if match := pattern.fullmatch(key):
            found.append((label, text, match[1] or units))
    key = "wavelength" if is_center else "fwhm"
    if header and (listed := header.item(key, index, dataset.count)):
        found.append((f"{header.source} {key}", listed, header.fields.get("wavelength_units", "")))
    stated = []
    for label, text, unit in found:
        if quantity := length_nm(where, what, text, unit, label):
            stated.append(Stated(quantity, label))
    return stated


def _named_length(where: str, dataset: DatasetReader, index: int) -> Stated[Quantity] | None:
    """The wavelength that a description states with its unit: `444.000000 Nanometers`."""
    found = wavelength_in_name(dataset.descriptions[index - 1] or "")
    if found is None:
        return None
    number, unit = found
    quantity = length_nm(where, "center_nm", number, unit, "description")
    return Stated(quantity, "description", weak=True) if quantity else None


def _scalings(dataset: DatasetReader, index: int, header: EnviHeader | None) -> tuple[Stated[Scaling], ...]:
    """Scale and offset that GDAL reports, and the factor of an ENVI header.

    A file that GDAL reports without scale and offset has scale 1 and offset 0, which is no statement.
    """
    stated = []
    own = Scaling(dataset.scales[index - 1], dataset.offsets[index - 1])
    if own != Scaling(1.0):
        stated.append(Stated(own, "the file"))
    if header and header.scale is not None and not math.isclose(header.scale, 1.0):
        stated.append(Stated(Scaling(header.scale), f"{header.source} reflectance scale factor"))
    return tuple(stated)


def _bad_marks(
    where: str, dataset: DatasetReader, index: int, fields: Fields, header: EnviHeader | None
) -> tuple[Stated[bool], ...]:
    """Whether lists or tags mark a band as bad: ENVI's `bbl` holds multipliers, 0 for bad bands and 1 for good ones."""
    marks = [fields[key] for key in ("bbl", "bad_band_multiplier") if key in fields]
    if header and (listed := header.item("bbl", index, dataset.count)):
        marks.append((f"{header.source} bbl", listed))
    stated = []
    for label, text in marks:
        number = finite(text)
        if number is None:
            raise RasterError(
                f"{where} has the bad-band mark {text!r} ({label}); 0 for bad and 1 for good bands are expected. "
                "Correct it."
            )
        stated.append(Stated(number == 0, label))
    return tuple(stated)
