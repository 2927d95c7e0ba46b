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
"""The sensor table: what the bands of common sensors measure, and how people name them.

Centre wavelengths and widths in nanometres, ground sampling distances in metres, each from the sources named beside it.
What no source states is unknown (`None`): nothing is copied from a sister instrument.
"""

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from ..metadata import Band, MetadataError

# Keys of tags, attributes and headers that name an instrument or its platform.
INSTRUMENT_KEYS = ("sensor", "sensor_id", "sensor_name", "sensor_type", "instrument", "instruments")
PLATFORM_KEYS = (
    "platform",
    "satellite",
    "satellite_id",
    "satelliteid",
    "mission",
    "spacecraft",
    "spacecraft_id",
    "spacecraft_name",
    "constellation",
)
# The STAC EO extension's common names nest by wavelength range (stac-extensions/eo README): a sensor without the broad
# name answers to it with its narrower ones.
_NARROWER = {
    "rededge": ("rededge071", "rededge075", "rededge078"),
    "nir": ("nir08", "nir09"),
    "green": ("green05",),
    "lwir": ("lwir11", "lwir12"),
}
# Longer lists of names are abridged in messages.
_MAX_LISTED = 30
_PREFIX = r"(?:sr|st|toa|boa|surrefl)?"
# "B4_10m", "B04 (red)", "SR_B4_reflectance": a numbered band, and a remark that must not name another one.
_NUMBERED = re.compile(r"(?:(?:sr|st|toa|boa|sur_refl)[\s_-]*)?(?:band|b)[\s_-]*0*(\d+a?)[\s_(:-]+(.+)", re.IGNORECASE)
_REMARK = re.compile(r"\d+m|sr|st|toa|boa|refl|reflectance|rad|radiance")
_LENGTH_UNIT = r"nm|nanomet\w*|[uµμ]m|micromet\w*|microns?"
# GDAL writes "B4, central wavelength 665 nm" (Sentinel-2), "B4 (665 Nanometers)" (ENVI) and "Band 01: 444 Nanometers".
_WAVELENGTH_REMARK = re.compile(rf"[\s,:(]+(?:central\s+wavelength\s+)?[\d.]+\s*(?:{_LENGTH_UNIT})\)?$", re.IGNORECASE)
_WAVELENGTH = re.compile(rf"(?<![0-9A-Za-z.+-])(\d+(?:\.\d*)?)\s*({_LENGTH_UNIT})(?![0-9A-Za-z])", re.IGNORECASE)
# What drivers and writers that know no names call the bands. B01 is no such name: it is how Sentinel-2 spells its own.
_COUNTING = re.compile(r"(?:band|layer|channel)[\s_-]*0*([1-9]\d*)|b?([1-9]\d*)", re.IGNORECASE)


def _key(text: str) -> str:
    """A name without case and separators; numbered bands without prefix and leading zeros."""
    text = re.sub(r"[^a-z0-9]", "", text.casefold())
    numbered = re.fullmatch(rf"{_PREFIX}(?:band|b)0*(\d+a?)", text)
    return f"b{numbered[1]}" if numbered else text


def plain_band_name(text: str) -> str:
    """A band's description without the wavelength that GDAL's drivers append (`B4, central wavelength 665 nm`)."""
    return _WAVELENGTH_REMARK.sub("", text.strip()) or text


def wavelength_in_name(text: str) -> tuple[str, str] | None:
    """The wavelength that a band's description states with its unit.

    Args:
        text: for instance `444.000000 Nanometers`, `Band 01: 444 Nanometers` or `B4, central wavelength 665 nm`.

    Returns:
        Number and unit as they are written (`("665", "nm")`); `None` unless the text holds exactly one.
    """
    found = _WAVELENGTH.findall(text)
    return found[0] if len(found) == 1 else None


def is_counting_name(text: str) -> int | None:
    """The number of a band whose name does no more than count (`Band 1`, `band_1`, `b1`, `1`, `Layer_1`).

    Where the bands of a file are called so in order, the names state positions and no bands of a sensor.
    """
    match = _COUNTING.fullmatch(plain_band_name(text))
    return int(match[1] or match[2]) if match else None


@dataclass(frozen=True)
class SensorBand:
    """One band of a sensor.

    Args:
        band: what it measures.
        common_name: its name in the STAC EO extension; `None` if it has none.
        gsd_m: ground sampling distance of the instrument in metres; `None` if unknown or it depends on flight height.
        delivered_gsd_m: that of the products, where they are resampled.
    """

    band: Band
    common_name: str | None = None
    gsd_m: float | None = None
    delivered_gsd_m: float | None = None


@dataclass(frozen=True)
class Sensor:
    """A sensor and its bands.

    Args:
        name: canonical name.
        description: name in full.
        kind: kind of its bands (see [`Band`]); thermal bands of optical sensors say so themselves.
        bands: the bands in the order of the source; empty where they differ from product to product.
        gsd_m: ground sampling distance in metres, if all bands share one.
        width_kind: what `fwhm_nm` is: `fwhm`, or `range` = distance between the published band edges.
        aliases: other names that [`find_sensor`] takes.
        sources: where the numbers come from.
        note: what to mind.
    """

    name: str
    description: str
    kind: str
    bands: tuple[SensorBand, ...]
    gsd_m: float | None
    width_kind: str
    aliases: tuple[str, ...]
    sources: tuple[str, ...]
    note: str

    def match(self, name: str) -> tuple[SensorBand, ...]:
        """The bands that `name` may mean: none if it is unknown, several if it is ambiguous.

        Args:
            name: a canonical name (`B04`), another spelling of it (`B4`, `b4`, `SR_B4`, `Band 4`, `B4_10m`,
                `B04 (red)`), or a common name of the STAC EO extension (`red`, `nir`, `swir16`).
        """
        if exact := tuple(record for record in self.bands if record.band.name == name):
            return exact
        name = plain_band_name(name)
        key = _key(name)
        found = [record for record in self.bands if key in (_key(record.band.name), record.common_name)]
        if numbered := _NUMBERED.fullmatch(name):
            words = [
                _key(word)
                for word in re.split(r"[\W_]+", numbered[2])
                if word and not _REMARK.fullmatch(word.casefold())
            ]
            for record in self.bands:
                names = (_key(record.band.name), record.common_name, *_broader(record.common_name))
                if f"b{numbered[1].casefold()}" == names[0] and all(word in names for word in words):
                    found.append(record)
        if not found:
            found = [record for record in self.bands if record.common_name in _NARROWER.get(key, ())]
        return tuple(dict.fromkeys(found))


def _broader(common_name: str | None) -> Iterator[str]:
    return (broad for broad, narrow in _NARROWER.items() if common_name in narrow)


def _sensor(name: str, fields: Mapping[str, Any]) -> Sensor:
    """One entry of the table, whose file says what its fields mean."""
    kind, gsd_m = fields.get("kind", "reflective"), fields.get("gsd_m")
    records = [
        SensorBand(
            Band(
                name=band["name"],
                center_nm=band.get("center_nm"),
                fwhm_nm=band.get("fwhm_nm"),
                kind=band.get("kind", kind),
                polarisation=band.get("polarisation"),
            ),
            common_name=band.get("common_name"),
            gsd_m=band.get("gsd_m", gsd_m),
            delivered_gsd_m=band.get("delivered_gsd_m"),
        )
        for band in fields.get("bands", ())
    ]
    centers_nm = fields.get("centers_nm", ())
    widths_nm = fields.get("fwhm_nm", [None] * len(centers_nm))
    for number, (center_nm, fwhm_nm) in enumerate(zip(centers_nm, widths_nm, strict=True), start=1):
        records.append(SensorBand(Band(f"B{number:03d}", center_nm, fwhm_nm, kind), gsd_m=gsd_m))
    if len({record.gsd_m for record in records}) == 1:
        gsd_m = records[0].gsd_m
    return Sensor(
        name,
        fields["description"],
        kind,
        tuple(records),
        gsd_m=gsd_m,
        width_kind=fields.get("width_kind", "fwhm"),
        aliases=tuple(fields.get("aliases", ())),
        sources=tuple(fields["sources"]),
        note=fields.get("note", ""),
    )


def _read_table() -> dict[str, Sensor]:
    text = files(__package__).joinpath("sensors.toml").read_text(encoding="utf-8")
    return {name: _sensor(name, fields) for name, fields in tomllib.loads(text).items()}


SENSORS: dict[str, Sensor] = _read_table()


def _sensor_key(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())


_BY_KEY = {_sensor_key(name): sensor for sensor in SENSORS.values() for name in (sensor.name, *sensor.aliases)}


def find_sensor(name: str) -> Sensor:
    """Looks a sensor up.

    Args:
        name: canonical name or alias; case, spaces, `_`, `-` and `/` do not matter (`Sentinel-2A`, `s2a`, `LANDSAT_8`).

    Returns:
        The sensor's record.

    Raises:
        MetadataError: no sensor goes by that name.
    """
    key = _sensor_key(name) if isinstance(name, str) else ""
    if sensor := _BY_KEY.get(key):
        return sensor
    close = dict.fromkeys(_BY_KEY[match].name for match in difflib.get_close_matches(key, _BY_KEY, n=5))
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    raise MetadataError(
        f"Sensor {name!r} is not known.{hint} Known sensors: {', '.join(SENSORS)}. For any other, give Band records."
    )


def _records(sensor: str | Sensor, names: Sequence[str] | None) -> tuple[SensorBand, ...]:
    sensor = sensor if isinstance(sensor, Sensor) else find_sensor(sensor)
    if not sensor.bands:
        raise MetadataError(
            f"The table holds no band list of sensor {sensor.name!r}: its wavelengths differ from product to product. "
            f"Take them from the product's metadata and give Band records. {sensor.note}"
        )
    if names is None:
        return sensor.bands
    if isinstance(names, str):
        raise MetadataError(f"names must be a sequence of band names, got the text {names!r}. Write [{names!r}].")
    known = ", ".join(
        record.band.name + (f" ({record.common_name})" if record.common_name else "") for record in sensor.bands
    )
    if len(sensor.bands) > _MAX_LISTED:
        known = f"{sensor.bands[0].band.name} to {sensor.bands[-1].band.name}"
    records = []
    for name in names:
        found = sensor.match(name) if isinstance(name, str) else ()
        if len(found) != 1:
            bands = " and ".join(record.band.name for record in found)
            problem = f"may mean {bands} of" if found else "is not known for"
            raise MetadataError(f"Band {name!r} {problem} sensor {sensor.name!r}. Its bands are {known}.")
        records.append(found[0])
    return tuple(records)


def sensor_bands(sensor: str | Sensor, names: Sequence[str] | None = None) -> tuple[Band, ...]:
    """The bands of a sensor.

    Args:
        sensor: a name that [`find_sensor`] takes, or a record.
        names: the bands asked for, in that order, by any name that [`Sensor.match`] takes; `None` = all.

    Returns:
        One [`Band`] a name, with its canonical name.

    Raises:
        MetadataError: the sensor is unknown or has no band list, or a name is unknown or ambiguous.
    """
    return tuple(record.band for record in _records(sensor, names))


def band_gsd_m(sensor: str | Sensor, name: str) -> float | None:
    """Ground sampling distance in metres at which a sensor records a band; `None` if unknown.

    Raises:
        MetadataError: as [`sensor_bands`].
    """
    return _records(sensor, [name])[0].gsd_m
