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
"""What a STAC item states about one of its assets, in the words of STAC 1.0, 1.1 and their extensions."""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..metadata import POLARISATIONS
from .dates import between, parse_period
from .quantities import finite, length_nm
from .records import (
    BandStatements,
    Period,
    Quantity,
    RasterError,
    RasterSource,
    Scaling,
    Stated,
    Statements,
    abridged,
)
from .sensors import is_counting_name

# Fields of the EO, raster and SAR extensions, and of STAC 1.1's common metadata, by what this module calls them.
_BAND_FIELDS = {
    **{"name": "name", "common_name": "common_name", "eo:common_name": "common_name"},
    **{"center_wavelength": "center_um", "eo:center_wavelength": "center_um"},
    **{"full_width_half_max": "fwhm_um", "eo:full_width_half_max": "fwhm_um"},
    **{"scale": "scale", "raster:scale": "scale", "offset": "offset", "raster:offset": "offset"},
    **{"nodata": "nodata", "unit": "unit", "sar:polarizations": "polarisation"},
}
# Those that may stand beside an asset's list of bands and hold for all of them.
_SHARED_FIELDS = ("nodata", "unit", *(field for field in _BAND_FIELDS if field.startswith(("eo:", "raster:"))))
# STAC states micrometres; no band of an instrument reaches these, while numbers in nanometres do.
_TOO_LONG_UM = {"center_nm": 100.0, "fwhm_nm": 15.0}

# For each field where it stands, and its value.
_Fields = dict[str, tuple[str, Any]]


@dataclass(frozen=True)
class Asset:
    """One file of an item; a `Beside`.

    Args:
        path: where it is, as GDAL takes it.
        key: its key in the item.
        whole: what the item states about the whole file.
        shared: what it states about all bands alike, where it lists none.
        bands: what it states about each band; empty if it lists none.
        polarisation: that of its band, if it has one band that states none itself.
        states_offset: whether it states an offset of stored numbers, be it 0.
    """

    path: str
    key: str
    whole: Statements
    shared: BandStatements
    bands: tuple[BandStatements, ...]
    polarisation: tuple[Stated[str], ...] = ()
    states_offset: bool = False

    def states(self, source: RasterSource) -> Statements:
        """What the item states about the open file.

        Raises:
            RasterError: it lists another number of bands than the file holds.
        """
        return replace(self.whole, bands=self._bands_of(source))

    @property
    def described(self) -> tuple[BandStatements, ...]:
        """What is stated about each band it lists, or about the one that it is taken to have if it lists none."""
        bands = self.bands or (self.shared,)
        return (_with_polarisation(bands[0], self.polarisation),) if len(bands) == 1 else bands

    def _bands_of(self, source: RasterSource) -> tuple[BandStatements, ...]:
        held, listed = len(source.indexes), len(self.bands)
        if not listed and held != 1:
            return (self.shared,) * held
        if held == 1 and listed <= 1:
            name = () if listed else (Stated(self.key, "STAC asset"),)
            (band,) = self.described
            return (replace(band, names=(*band.names, *name)),)
        # Items may leave the alpha band out.
        if listed == held:
            return self.bands
        if listed == source.count:
            return tuple(self.bands[index - 1] for index in source.indexes)
        if source.num_dates is not None and listed * source.num_dates == held:
            return self.bands * source.num_dates
        raise RasterError(
            f"Asset {self.key!r} of the STAC item lists {listed} bands, but {self.path} holds {source.count}. Correct "
            "the item, or name the file itself in its place."
        )


def asset_of(where: str, key: str, path: str, fields: Mapping[str, Any], properties: Mapping[str, Any]) -> Asset:
    """What an item states about an asset.

    Args:
        where: the item, for messages.
        key: key of the asset.
        path: where its file is.
        fields: those of the asset.
        properties: those of the item.

    Raises:
        RasterError: a list of bands is none, lists differ in length, or a value is not what its field says.
    """
    # An asset's field overrides that of the item (STAC common metadata).
    common = {**properties, **fields}
    applied = offset_applied(fields, properties)
    listed = _listed_bands(where, key, fields)
    shared = {_BAND_FIELDS[field]: (f"STAC {field}", fields[field]) for field in _SHARED_FIELDS if field in fields}
    where = f"Asset {key!r} of {where}"
    counting = _names_count(listed)
    bands = []
    for records in listed:
        own = {field for record in records for field in record}
        # A band's own field overrides that of its asset (STAC 1.1).
        inherited = {field: value for field, value in shared.items() if field not in own}
        band = _band(where, {**inherited, **records[0]}, applied, counting)
        for record in records[1:]:
            band = band.joined(_band(where, record, applied, counting))
        bands.append(band)
    return Asset(
        path,
        key,
        _whole(common),
        _band(where, shared, applied),
        tuple(bands),
        polarisation=_polarisation_by_name(where, key, path, fields, common) if len(listed) <= 1 else (),
        states_offset="offset" in shared or any("offset" in record for records in listed for record in records),
    )


def offset_applied(fields: Mapping[str, Any], properties: Mapping[str, Any]) -> str:
    """What says that the stored numbers of an asset hold their offset already; empty if nothing does.

    Earth Search adds that of Sentinel-2 when it makes GeoTIFFs of the JPEG 2000 files, to which its items lead as well
    (Element84/earth-search issues 9, 21 and 23); its flag is right where `raster:bands` is not.
    """
    if is_jpeg_2000(fields):
        return ""
    for field, value in {**properties, **fields}.items():
        if field.endswith(":boa_offset_applied") and str(value).lower() == "true":
            return f"{field} is true"
    collection = str(properties.get("collection") or "")
    return f"collection {collection!r} is harmonized" if re.search(r"harmoni[sz]ed", collection, re.IGNORECASE) else ""


def is_jpeg_2000(fields: Mapping[str, Any]) -> bool:
    """Whether an asset is a JPEG 2000 file."""
    return str(fields.get("type", "")).startswith("image/jp2") or str(fields.get("href", "")).lower().endswith(".jp2")


def _whole(common: Mapping[str, Any]) -> Statements:
    texts = {field: str(common[field]) for field in ("platform", "gsd", "datetime") if _is_plain(common.get(field))}
    known, unread = _dates(common, texts)
    listed = common.get("instruments")
    instruments = " ".join(map(str, listed)) if isinstance(listed, list) else None
    gsd_m = finite(texts.get("gsd", ""))
    return Statements(
        platform=_stated(texts.get("platform"), "STAC platform"),
        instrument=_stated(instruments, "STAC instruments"),
        date=known,
        unread_date=unread,
        # That of the instrument, from which a grid may differ.
        gsd_m=(Stated(gsd_m, "STAC gsd", weak=True),) if gsd_m is not None and gsd_m > 0 else (),
    )


def _stated(text: str | None, source: str) -> tuple[Stated[str], ...]:
    return (Stated(text, source),) if text else ()


def _dates(
    common: Mapping[str, Any], texts: Mapping[str, str]
) -> tuple[tuple[Stated[Period], ...], tuple[Stated[str], ...]]:
    """The date, and the text of one that cannot be read. A period counts where no instant is stated."""
    if "datetime" in texts:
        text, source, period = texts["datetime"], "STAC datetime", parse_period(texts["datetime"])
    elif _is_plain(common.get("start_datetime")):
        start, end = str(common["start_datetime"]), str(common.get("end_datetime"))
        text, source, period = f"{start}/{end}", "STAC start_datetime and end_datetime", between(start, end)
    else:
        return (), ()
    return ((Stated(period, source),), ()) if period else ((), (Stated(text, source),))


def _is_plain(value: Any) -> bool:
    return isinstance(value, (str, int, float)) and not isinstance(value, bool)


def _listed_bands(where: str, key: str, asset: Mapping[str, Any]) -> list[list[_Fields]]:
    """What each list of an asset states about each band; empty if it has no list."""
    lists = {name: asset[name] for name in ("bands", "eo:bands", "raster:bands") if asset.get(name)}
    for name, listed in lists.items():
        if not isinstance(listed, list) or not all(isinstance(band, Mapping) for band in listed):
            raise RasterError(f"Asset {key!r} of {where} has {name!r} that is no list of objects. Correct the item.")
    polarisations = asset.get("sar:polarizations")
    if isinstance(polarisations, list) and polarisations:
        lists["sar:polarizations"] = [{"sar:polarizations": value} for value in polarisations]
    if len({len(listed) for listed in lists.values()}) > 1:
        counts = " and ".join(f"{len(listed)} {name}" for name, listed in lists.items())
        raise RasterError(
            f"Asset {key!r} of {where} lists {counts}: these lists must have the same length. Correct the item."
        )
    bands = []
    for records in zip(*lists.values(), strict=True):
        fields = []
        for name, record in zip(lists, records, strict=True):
            prefix = "" if name == "sar:polarizations" else f"{name} "
            fields.append(
                {
                    _BAND_FIELDS[field]: (f"STAC {prefix}{field}", value)
                    for field, value in record.items()
                    if field in _BAND_FIELDS
                }
            )
        bands.append(fields)
    return bands


def _names_count(bands: list[list[_Fields]]) -> bool:
    """Whether the names of the bands merely number them, as writers do that know no names (rio-stac: `b1`)."""
    names = [_text(record, "name") for records in bands for record in records if "name" in record]
    return [is_counting_name(name or "") for name in names] == list(range(1, len(bands) + 1))


def _band(where: str, fields: _Fields, applied: str, counting: bool = False) -> BandStatements:
    """What one list of an asset states about a band.

    Args:
        where: the asset, for messages.
        fields: what is stated.
        applied: what says that the offset is in the stored numbers already; empty if nothing does.
        counting: whether `name` is no more than the number of the band.
    """
    names = []
    for field in ("name", "common_name"):
        if text := _text(fields, field):
            names.append(Stated(text, fields[field][0], weak=counting and field == "name"))
    polarisation = _polarisation(fields)
    return BandStatements(
        names=tuple(names),
        kind=tuple(Stated("sar", f"polarisation in {one.source}") for one in polarisation),
        polarisation=polarisation,
        center_nm=_length(where, "center_nm", fields.get("center_um")),
        fwhm_nm=_length(where, "fwhm_nm", fields.get("fwhm_um")),
        unit=_stated(_text(fields, "unit"), fields.get("unit", ("", None))[0]),
        scaling=_scaling(where, fields, applied),
        nodata=_nodata(where, fields),
    )


def _text(fields: _Fields, field: str) -> str | None:
    value = fields[field][1] if field in fields else None
    return str(value).strip() if _is_plain(value) else None


def _length(where: str, what: str, field: tuple[str, Any] | None) -> tuple[Stated[Quantity], ...]:
    if field is None or not _is_plain(field[1]):
        return ()
    source, value = field
    number = finite(str(value))
    if number is not None and number >= _TOO_LONG_UM[what]:
        raise RasterError(
            f"{where} states {value} ({source}), which looks like nanometres; STAC states micrometres. Correct the "
            "item."
        )
    length = length_nm(where, what, str(value), "um", source)
    return (Stated(length, source),) if length else ()


def _scaling(where: str, fields: _Fields, applied: str) -> tuple[Stated[Scaling], ...]:
    """Scale and offset; 1 and 0, which writers put where they know none, are no statement."""
    scale, offset = _number(where, fields, "scale"), _number(where, fields, "offset")
    stated = Scaling(1.0 if scale is None else scale, 0.0 if offset is None else offset)
    if stated == Scaling(1.0):
        return ()
    source = (fields.get("scale") or fields["offset"])[0]
    if applied and stated.offset != 0.0:
        source += f"; its offset {stated.offset:g} is not applied again, as {applied}"
        stated = Scaling(stated.scale)
    return (Stated(stated, source),)


def _nodata(where: str, fields: _Fields) -> tuple[Stated[float], ...]:
    # The raster extension writes nan and inf as texts; such pixels are missing in any case.
    if str(fields.get("nodata", ("", None))[1]).lower() in ("nan", "inf", "-inf"):
        return ()
    number = _number(where, fields, "nodata")
    return () if number is None else (Stated(number, fields["nodata"][0]),)


def _number(where: str, fields: _Fields, field: str) -> float | None:
    """A number that a field states; `None` if it is absent or null.

    Raises:
        RasterError: it is something else.
    """
    source, value = fields.get(field, ("", None))
    if value is None:
        return None
    number = finite(str(value)) if _is_plain(value) else None
    if number is None:
        raise RasterError(f"{where} states {field} {value!r} ({source}), which is no number. Correct the item.")
    return number


# Radar


def _polarisation(fields: _Fields) -> tuple[Stated[str], ...]:
    """Polarisations that a band's own field or its name states."""
    found = []
    for field in ("polarisation", "name"):
        source, value = fields.get(field, ("", None))
        value = value[0] if isinstance(value, list) and len(value) == 1 else value
        if isinstance(value, str) and value.upper() in POLARISATIONS:
            found.append(Stated(value.upper(), source))
    return tuple(found)


def _polarisation_by_name(
    where: str, key: str, path: str, asset: Mapping[str, Any], common: Mapping[str, Any]
) -> tuple[Stated[str], ...]:
    """The polarisation of a single band that an asset's key, title or file name states, in items of radar.

    `sar:polarizations` of an item lists those of all its assets, and says of none which it has.

    Raises:
        RasterError: the asset has a polarisation that the item does not list.
    """
    if not any(field.startswith("sar:") for field in common):
        return ()
    texts = {"STAC asset key": key, "STAC title": str(asset.get("title", "")), "file name": os.path.basename(path)}
    found = []
    for source, text in texts.items():
        words = {word.upper() for word in re.split(r"[^0-9A-Za-z]+", text)}.intersection(POLARISATIONS)
        if len(words) == 1:
            found.append(Stated(words.pop(), f"{source} {text!r}", weak=source == "file name"))
    listed = common.get("sar:polarizations")
    for one in found:
        if isinstance(listed, list) and listed and one.value not in {str(value).upper() for value in listed}:
            raise RasterError(
                f"{where} has polarisation {one.value} ({one.source}), but sar:polarizations of the item lists "
                f"{abridged(listed)}. Correct the item."
            )
    return tuple(found)


def _with_polarisation(band: BandStatements, hints: Iterable[Stated[str]]) -> BandStatements:
    if band.polarisation:
        return band
    kinds = tuple(Stated("sar", f"polarisation in {hint.source}", hint.weak) for hint in hints)
    return replace(band, polarisation=tuple(hints), kind=(*band.kind, *kinds))
