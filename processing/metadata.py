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
"""The three nouns that carry metadata everywhere: [`Band`], [`Acquisition`] and [`ImageSeries`].

A band says what one channel measured, an acquisition what one date holds, a series how the dates belong together.
All three are frozen, validated when made, and survive a JSON round trip. `None` means unknown: nothing is guessed.
"""

import datetime as dt
import json
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np

from .errors import STSUNError

BAND_KINDS = ("reflective", "thermal", "sar", "elevation", "index", "other")
TASKS = ("semantic_segmentation", "binary_change_detection", "semantic_change_detection")
CHANGE_CLASSES = ("unchanged", "changed")
# Label of pixels that nobody labelled, and value of map pixels without data.
IGNORE_INDEX = 255

# Physical values are in the unit of their kind; those of kind `other` are in whatever unit they come in.
KIND_UNITS = {
    "reflective": "reflectance",
    "thermal": "K",
    "sar": "dB",
    "elevation": "m",
    "index": "1",
}

# The sensor whose bands the colours of a picture are taken for.
RGB_SENSOR = "aerial-rgb"

POLARISATIONS = ("VV", "VH", "HH", "HV")
# Derived quantities that the model tells apart by name, as they have no wavelength; others are just an index.
INDICES = ("ndvi", "evi", "savi", "ndwi", "mndwi", "ndmi", "nbr", "ndsi", "ndbi", "bsi", "cloud_probability")
KIND_ALIASES = {"optical": "reflective", "hyperspectral": "reflective", "radar": "sar", "dem": "elevation"}

# Near infrared ends at 3 um (ISO 20473:2007, Optics and photonics: spectral bands): what is measured beyond is emitted.
THERMAL_FROM_NM = 3000.0
# Shorter than any optical band, longer than any wavelength in micrometres that people use (thermal ends at 15 um).
MIN_WAVELENGTH_NM = 30.0
# Thermal infrared ends near 15 um; 1 mm is where radar begins, and radar bands carry a polarisation instead.
MAX_WAVELENGTH_NM = 1.0e6

# Names that leave no doubt about the kind of a band whose kind is not given.
POLARISATION_NAME = re.compile(
    r"(?:(?:sigma|gamma|beta)(?:0|_?nought)?_?)?(vv|vh|hh|hv)(?:_?(?:db|lin|linear|amplitude|intensity))?", re.I
)
_ELEVATION_NAMES = ("dem", "dsm", "dtm", "elevation", "height")
# Common names of the STAC EO extension (stac-extensions/eo, README).
_COLOUR_NAMES = (
    *("pan", "coastal", "blue", "green", "green05", "yellow", "red", "rededge", "rededge071", "rededge075"),
    *("rededge078", "nir", "nir08", "nir09", "cirrus", "swir16", "swir22"),
)
_THERMAL_NAMES = ("lwir", "lwir11", "lwir12")

EPOCH = dt.datetime(2000, 1, 1)
_PARTIAL_DATE = re.compile(r"^(\d{4})(?:-(\d{2}))?$")
_SECONDS_PER_DAY = 86400.0


class MetadataError(STSUNError, ValueError):
    """Metadata that cannot be true, or that contradicts itself. The message says what is allowed and what to do."""


def default_outputs(task: str, num_dates: int) -> tuple[tuple[int, ...], ...]:
    """What the maps of a task describe unless something else is asked for, as positions of dates.

    Returns:
        One map of all dates for semantic segmentation, one a date for semantic change detection, one for each pair of
        neighbouring dates (before, after) for binary change detection.
    """
    if task == "binary_change_detection":
        return tuple((index, index + 1) for index in range(num_dates - 1))
    if task == "semantic_change_detection":
        return tuple((index,) for index in range(num_dates))
    return (tuple(range(num_dates)),)


def _positive(value: float | int | None, what: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise MetadataError(f"{what} must be a number or None (unknown), got {value!r}.")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if math.isnan(number):
        return None
    if not math.isfinite(number) or number <= 0:
        raise MetadataError(f"{what} must be finite and above 0, or None (unknown), got {number!r}.")
    return number


def _members(values: Any, what: str) -> tuple[Any, ...]:
    if not isinstance(values, Iterable) or isinstance(values, (str, Mapping)):
        raise MetadataError(f"{what} must be a sequence of records, got {values!r}.")
    return tuple(values)


def _coefficients(transform: Any) -> tuple[float, ...]:
    """The six of an affine map; `affine.Affine` adds a constant row, which is dropped."""
    values = list(transform)[:6] if isinstance(transform, Iterable) and not isinstance(transform, str) else []
    numbers = [float(value) for value in values if _is_number(value)]
    if len(numbers) != 6 or not all(map(math.isfinite, numbers)):
        raise MetadataError(f"transform must be six finite numbers (a, b, c, d, e, f), got {transform!r}.")
    return tuple(numbers)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        return False
    # Integers have no largest value, floats do.
    return not isinstance(value, int) or value.bit_length() < sys.float_info.max_exp


def parse_datetime(value: str | dt.date | dt.datetime | np.datetime64 | None) -> dt.datetime | None:
    """Reads a date.

    Args:
        value: ISO 8601 text (`2021`, `2021-07`, `2021-07-23`, `2021-07-23T13:22:41Z`), a `date`, `datetime` or
            `numpy.datetime64`, or `None` (also NaT) for unknown. A year or a month stands for the middle of that
            period, a date for its first instant.

    Returns:
        A naive datetime in UTC, or `None`.

    Raises:
        MetadataError: `value` is not a date.
    """
    if value is None or (isinstance(value, np.datetime64) and np.isnat(value)):
        return None
    if isinstance(value, dt.datetime) and value != value:
        return None  # pandas' NaT is a datetime, the only one that differs from itself
    if isinstance(value, np.datetime64):
        # Years and months are periods, whose text is read as such below.
        value = str(value if np.datetime_data(value)[0] in ("Y", "M") else value.astype("datetime64[us]"))
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC).replace(tzinfo=None) if value.tzinfo else value
    if isinstance(value, dt.date):
        return dt.datetime(value.year, value.month, value.day)
    if isinstance(value, str):
        text = value.strip()
        try:
            if match := _PARTIAL_DATE.match(text):
                year, month = int(match[1]), match[2] and int(match[2])
                first = dt.datetime(year, month or 1, 1)
                months = year * 12 + (month or 12)
                after = dt.datetime(months // 12, months % 12 + 1, 1)
                return first + (after - first) / 2
            return parse_datetime(dt.datetime.fromisoformat(text))
        except (ValueError, OverflowError):
            pass
    raise MetadataError(
        f"{value!r} is not a date. Write ISO 8601 (2021, 2021-07, 2021-07-23 or 2021-07-23T13:22:41), or None if it is "
        "unknown."
    )


def window_transform(transform: Sequence[float] | None, row: int, column: int) -> tuple[float, ...] | None:
    """The transform (see [`ImageSeries`]) of a window whose first pixel is (`row`, `column`); `None` stays unknown."""
    if transform is None:
        return None
    a, b, c, d, e, f = transform
    return a, b, c + a * column + b * row, d, e, f + d * column + e * row


def days_since_2000(value: dt.datetime | None) -> float:
    """Days from 2000-01-01T00:00 (UTC) to `value`; NaN if unknown."""
    return math.nan if value is None else (value - EPOCH) / dt.timedelta(days=1)


def kind_of(name: str, center_nm: float | None = None) -> tuple[str, str | None] | None:
    """Kind and polarisation of a band of which nobody says the kind.

    Args:
        name: name of the band. Names of polarisations (`VV`, `sigma0_VH`), of known indices (`NDVI`), of elevation
            models (`DEM`) and of colours (`red`, `nir`) decide.
        center_nm: centre wavelength in nanometres; `None` = none or unknown. It decides where the name does not, for
            below 3000 nm light is reflected, beyond it is emitted.

    Returns:
        Kind and polarisation as in [`Band`]; `None` where name and wavelength leave them open.
    """
    if match := POLARISATION_NAME.fullmatch(name.strip()):
        return "sar", match[1].upper()
    plain_name = name.strip().lower()
    if plain_name in INDICES:
        return "index", None
    if plain_name in _ELEVATION_NAMES:
        return "elevation", None
    if center_nm is not None:
        return ("reflective" if center_nm < THERMAL_FROM_NM else "thermal"), None
    if plain_name in _COLOUR_NAMES:
        return "reflective", None
    if plain_name in _THERMAL_NAMES:
        return "thermal", None
    return None


@dataclass(frozen=True)
class Band:
    """What one channel measured.

    Args:
        name: name of the band, for instance `B04`.
        center_nm: centre wavelength in nanometres; `None` if the band has none (elevation, index, radar) or it is
            unknown.
        fwhm_nm: full width at half maximum in nanometres; `None` if unknown.
        kind: one of `reflective`, `thermal`, `sar`, `elevation`, `index` (a derived quantity such as NDVI), `other`.
            `optical` and `hyperspectral` are read as `reflective`. `None` = by name and wavelength (see [`kind_of`]).
        polarisation: `VV`, `VH`, `HH` or `HV`; radar bands only.
        unit: unit of the band's values; `None` if unknown. The model does not see it, but statistics of different units
            are kept apart. Kinds have one unit each: `reflectance` (0-1), `K`, `dB`, `m`, and `1` for an index; that of
            `other` is any text.

    Raises:
        MetadataError: a value is out of range, among others a wavelength below 30, which is one in micrometres; the
            kind is missing where name and wavelength leave it open; or the unit is not that of the kind.
    """

    name: str
    center_nm: float | None = None
    fwhm_nm: float | None = None
    # Always a text once the band is made.
    kind: str = None  # type: ignore[assignment]
    polarisation: str | None = None
    unit: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise MetadataError(f"A band needs a name that is not empty, got {self.name!r}.")
        center_nm = _positive(self.center_nm, f"center_nm of band {self.name!r}")
        fwhm_nm = _positive(self.fwhm_nm, f"fwhm_nm of band {self.name!r}")
        if center_nm is not None and center_nm < MIN_WAVELENGTH_NM:
            raise MetadataError(
                f"center_nm of band {self.name!r} is {center_nm:g}, which looks like micrometres; wavelengths are in "
                f"nanometres, {MIN_WAVELENGTH_NM:g} or more. Multiply by 1000."
            )
        if center_nm is not None and center_nm > MAX_WAVELENGTH_NM:
            raise MetadataError(
                f"center_nm of band {self.name!r} is {center_nm:g}; wavelengths are in nanometres, at most "
                f"{MAX_WAVELENGTH_NM:g}. Radar bands take kind='sar' and a polarisation instead."
            )
        kind, polarisation = self._resolve_kind(center_nm)
        if center_nm is not None and kind not in ("reflective", "thermal", "other"):
            raise MetadataError(
                f"Band {self.name!r} is of kind {kind!r} and has no wavelength, but center_nm={center_nm:g} was given. "
                "Leave center_nm out."
            )
        if polarisation is not None and (kind != "sar" or polarisation not in POLARISATIONS):
            raise MetadataError(
                f"Band {self.name!r} of kind {kind!r} has polarisation {self.polarisation!r}; only bands of kind 'sar' "
                f"take one, out of {', '.join(POLARISATIONS)}."
            )
        self._check_unit(kind)
        for name, value in (("kind", kind), ("center_nm", center_nm), ("fwhm_nm", fwhm_nm)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "polarisation", polarisation)

    def _resolve_kind(self, center_nm: float | None) -> tuple[str, str | None]:
        """Kind and polarisation, as given or by name and wavelength."""
        polarisation = self.polarisation.upper() if isinstance(self.polarisation, str) else self.polarisation
        if self.kind is not None:
            kind = KIND_ALIASES.get(self.kind, self.kind) if isinstance(self.kind, str) else self.kind
            if kind not in BAND_KINDS:
                raise MetadataError(
                    f"Band {self.name!r} has kind {self.kind!r}; known kinds are {', '.join(BAND_KINDS)}. Use 'other' "
                    "for anything else."
                )
            return kind, polarisation
        by_name = kind_of(self.name, center_nm)
        if by_name is None and polarisation is not None:
            raise MetadataError(
                f"Band {self.name!r} has polarisation {self.polarisation!r} but no kind; only bands of kind 'sar' take "
                "one. Give kind='sar'."
            )
        if by_name is None:
            raise MetadataError(
                f"Band {self.name!r} has neither a kind nor a wavelength, and its name does not say what it measures. "
                f"Give its kind, one of {', '.join(BAND_KINDS)}, or its wavelength (center_nm)."
            )
        kind, named = by_name
        return kind, named if polarisation is None else polarisation

    def _check_unit(self, kind: str) -> None:
        if self.unit is None:
            return
        if not isinstance(self.unit, str) or not self.unit.strip():
            raise MetadataError(f"unit of band {self.name!r} must be a text or None (unknown), got {self.unit!r}.")
        expected = KIND_UNITS.get(kind, self.unit)
        if self.unit != expected:
            raise MetadataError(
                f"Band {self.name!r} of kind {kind!r} has unit {self.unit!r}; values of that kind are in "
                f"{expected!r}. Convert them, or leave unit out if it is unknown."
            )

    @property
    def type(self) -> str:
        """The band type that the model embeds: the kind, and the polarisation of radar or the name of a known index."""
        if self.kind == "index" and self.name.lower() in INDICES:
            return f"index_{self.name.lower()}"
        return f"sar_{self.polarisation.lower()}" if self.polarisation else self.kind

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready fields; unknown ones are left out."""
        fields = {
            "name": self.name,
            "center_nm": self.center_nm,
            "fwhm_nm": self.fwhm_nm,
            "kind": self.kind,
            "polarisation": self.polarisation,
            "unit": self.unit,
        }
        return {key: value for key, value in fields.items() if value is not None}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Band":
        """Inverse of [`Band.to_dict`]; other keys are ignored (a dataset.json may hold notes beside a band)."""
        if not isinstance(fields, Mapping) or "name" not in fields:
            raise MetadataError(f"A band record is an object with at least a 'name', got {fields!r}.")
        known = ("name", "center_nm", "fwhm_nm", "kind", "polarisation", "unit")
        return cls(**{key: fields[key] for key in known if key in fields})


# Red, green and blue of a picture of which nothing else is known; those of the sensor `aerial-rgb`.
RGB_BANDS = (
    Band("R", 635.0, kind="reflective"),
    Band("G", 555.0, kind="reflective"),
    Band("B", 465.0, kind="reflective"),
)


def filled_pixels(array: Any) -> np.ndarray:
    """Pixels as float32; NaN where a masked array masks them.

    Raises:
        MetadataError: they are complex numbers.
    """
    if np.iscomplexobj(array):
        raise MetadataError("Pixels are complex numbers. Give what they measure, such as backscatter in decibel.")
    if isinstance(array, np.ma.MaskedArray):
        # The mask of one without any masked pixel may be a single False.
        missing = np.ma.getmaskarray(array)
        return np.where(missing, np.float32(np.nan), np.ma.getdata(array).astype(np.float32))
    return np.asarray(array, dtype=np.float32)


@dataclass(frozen=True)
class Acquisition:
    """What one date of a series holds.

    Args:
        bands: the bands, in the order of the channels.
        datetime: when it was taken (see [`parse_datetime`]); `None` if unknown.
        gsd_m: ground sampling distance in metres a pixel; `None` if unknown.
        sensor: name of the sensor, for people; the model reads the bands.

    Raises:
        MetadataError: no band, a band that is not a [`Band`], or a value out of range.
    """

    bands: tuple[Band, ...]
    datetime: dt.datetime | None = None
    gsd_m: float | None = None
    sensor: str | None = None

    def __post_init__(self) -> None:
        bands = _members(self.bands, "bands")
        if not bands:
            raise MetadataError("An acquisition needs at least one band, got none.")
        for band in bands:
            if not isinstance(band, Band):
                raise MetadataError(
                    f"bands must be Band records, got {band!r}. Look names up with "
                    "stsun_processing.sensor_bands(sensor, names)."
                )
        object.__setattr__(self, "bands", bands)
        object.__setattr__(self, "datetime", parse_datetime(self.datetime))
        object.__setattr__(self, "gsd_m", _positive(self.gsd_m, "gsd_m"))
        if self.sensor is not None and not isinstance(self.sensor, str):
            raise MetadataError(f"sensor must be the name of a sensor or None (unknown), got {self.sensor!r}.")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready fields; unknown ones are left out."""
        fields = {
            "bands": [band.to_dict() for band in self.bands],
            "datetime": self.datetime and self.datetime.isoformat(),
            "gsd_m": self.gsd_m,
            "sensor": self.sensor,
        }
        return {key: value for key, value in fields.items() if value is not None}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Acquisition":
        """Inverse of [`Acquisition.to_dict`]."""
        if not isinstance(fields, Mapping) or not isinstance(fields.get("bands"), Sequence):
            raise MetadataError(f"An acquisition record is an object with a list 'bands', got {fields!r}.")
        return cls(
            bands=tuple(Band.from_dict(band) for band in fields["bands"]),
            datetime=fields.get("datetime"),
            gsd_m=fields.get("gsd_m"),
            sensor=fields.get("sensor"),
        )


@dataclass(frozen=True)
class ImageSeries:
    """Acquisitions of one place on one grid, oldest first, and, if they were read, their pixels.

    Args:
        acquisitions: the dates. Each has bands of its own, so radar may precede an optical image.
        crs: coordinate reference system as WKT or `EPSG:code`; `None` if unknown.
        transform: the six coefficients (a, b, c, d, e, f) of the affine map from pixel to map coordinates, as in
            `affine.Affine`; `None` if unknown.
        pixels: one float array (bands, height, width) an acquisition, in physical units where they are known
            (reflectance 0-1, kelvin, decibel, metres); NaN = missing, as is what a masked array masks. Not part of the
            JSON form nor of equality.
        valid: one boolean array (height, width) an acquisition: False where the pixel holds no data. `None` = where
            all bands are finite.

    Raises:
        MetadataError: no acquisition, dates out of order, or pixels that do not fit the bands or each other.
    """

    acquisitions: tuple[Acquisition, ...]
    crs: str | None = None
    transform: tuple[float, ...] | None = None
    pixels: tuple[np.ndarray, ...] | None = field(default=None, compare=False, repr=False)
    valid: tuple[np.ndarray, ...] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        acquisitions = _members(self.acquisitions, "acquisitions")
        if not acquisitions:
            raise MetadataError("A series needs at least one acquisition, got none.")
        for acquisition in acquisitions:
            if not isinstance(acquisition, Acquisition):
                raise MetadataError(f"acquisitions must be Acquisition records, got {acquisition!r}.")
        known = [(index, a.datetime) for index, a in enumerate(acquisitions) if a.datetime is not None]
        for (i, earlier), (j, later) in pairwise(known):
            if later < earlier:
                raise MetadataError(
                    f"Dates are out of order: acquisition {j} ({later.isoformat()}) lies before acquisition {i} "
                    f"({earlier.isoformat()}). Give the acquisitions oldest first."
                )
        object.__setattr__(self, "acquisitions", acquisitions)
        if self.crs is not None and not isinstance(self.crs, str):
            raise MetadataError(f"crs must be text (WKT or 'EPSG:code') or None, got {self.crs!r}.")
        if self.transform is not None:
            object.__setattr__(self, "transform", _coefficients(self.transform))
        if self.pixels is not None:
            object.__setattr__(self, "pixels", tuple(filled_pixels(array) for array in self.pixels))
            self._check_pixels()

    def _check_pixels(self) -> None:
        if len(self.pixels) != len(self.acquisitions):
            raise MetadataError(
                f"{len(self.pixels)} arrays of pixels were given for {len(self.acquisitions)} acquisitions."
            )
        for index, (array, acquisition) in enumerate(zip(self.pixels, self.acquisitions, strict=True)):
            if array.ndim != 3 or 0 in array.shape:
                raise MetadataError(
                    f"Pixels of acquisition {index} have shape {array.shape}; (bands, height, width) is expected, none "
                    "of them 0."
                )
            if array.shape[0] != len(acquisition.bands):
                raise MetadataError(
                    f"Acquisition {index} has {len(acquisition.bands)} band records "
                    f"({', '.join(band.name for band in acquisition.bands)}) but {array.shape[0]} channels of pixels. "
                    "Give one record a channel."
                )
            if array.shape[1:] != self.pixels[0].shape[1:]:
                raise MetadataError(
                    f"Pixels of acquisition {index} measure {array.shape[1:]}, those of acquisition 0 "
                    f"{self.pixels[0].shape[1:]}. Bring them to one grid first."
                )
        finite = tuple(np.isfinite(array).all(0) for array in self.pixels)
        masks = finite
        if self.valid is not None:
            if [np.shape(mask) for mask in self.valid] != [array.shape[1:] for array in self.pixels]:
                raise MetadataError(
                    f"valid must hold one (height, width) mask an acquisition, got shapes "
                    f"{[np.shape(mask) for mask in self.valid]}."
                )
            known = tuple(np.ma.filled(mask, False).astype(bool) for mask in self.valid)
            masks = tuple(mask & own for mask, own in zip(known, finite, strict=True))
        object.__setattr__(self, "valid", masks)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels; needs pixels."""
        if self.pixels is None:
            raise MetadataError("This series holds no pixels: read them with stsun_processing.read_series(...).")
        return self.pixels[0].shape[1:]

    @property
    def gsd_m(self) -> float | None:
        """Ground sampling distance of the grid in metres a pixel: that of the finest acquisition that knows it."""
        return min((a.gsd_m for a in self.acquisitions if a.gsd_m is not None), default=None)

    @property
    def days(self) -> list[float]:
        """Dates as days since 2000-01-01; NaN = unknown."""
        return [days_since_2000(acquisition.datetime) for acquisition in self.acquisitions]

    def crop(self, top: int, left: int, height: int, width: int) -> "ImageSeries":
        """The window of `height` x `width` pixels whose first pixel is (`top`, `left`); the transform moves with it."""
        full_height, full_width = self.size
        if top < 0 or left < 0 or height < 1 or width < 1 or top + height > full_height or left + width > full_width:
            raise MetadataError(
                f"Window top={top}, left={left}, height={height}, width={width} does not lie inside {full_height} x "
                f"{full_width} pixels."
            )
        rows, columns = slice(top, top + height), slice(left, left + width)
        return replace(
            self,
            transform=window_transform(self.transform, top, left),
            pixels=tuple(array[:, rows, columns] for array in self.pixels),
            valid=tuple(mask[rows, columns] for mask in self.valid),
        )

    def select(self, dates: Iterable[int], bands: Mapping[int, Sequence[int]] | None = None) -> "ImageSeries":
        """A series of some of the dates, and of some of their bands.

        Args:
            dates: positions of the dates to keep, ascending.
            bands: positions of the bands to keep, for each date that is not kept whole.
        """
        dates, bands = list(dates), bands or {}
        acquisitions, pixels = [], []
        for index in dates:
            acquisition = self.acquisitions[index]
            keep = list(bands.get(index, range(len(acquisition.bands))))
            acquisitions.append(replace(acquisition, bands=tuple(acquisition.bands[i] for i in keep)))
            if self.pixels is not None:
                pixels.append(self.pixels[index][keep])
        return replace(
            self,
            acquisitions=tuple(acquisitions),
            pixels=tuple(pixels) if self.pixels is not None else None,
            valid=tuple(self.valid[index] for index in dates) if self.valid is not None else None,
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready metadata, without pixels; unknown fields are left out."""
        fields = {
            "acquisitions": [acquisition.to_dict() for acquisition in self.acquisitions],
            "crs": self.crs,
            "transform": self.transform and list(self.transform),
        }
        return {key: value for key, value in fields.items() if value is not None}

    def to_json(self, **kwargs: Any) -> str:
        """The metadata as JSON; `kwargs` go to `json.dumps`."""
        return json.dumps(self.to_dict(), **kwargs)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "ImageSeries":
        """Inverse of [`ImageSeries.to_dict`]."""
        if not isinstance(fields, Mapping) or not isinstance(fields.get("acquisitions"), Sequence):
            raise MetadataError(f"A series record is an object with a list 'acquisitions', got {fields!r}.")
        return cls(
            acquisitions=tuple(Acquisition.from_dict(acquisition) for acquisition in fields["acquisitions"]),
            crs=fields.get("crs"),
            transform=fields.get("transform"),
        )

    @classmethod
    def from_json(cls, text: str) -> "ImageSeries":
        """Inverse of [`ImageSeries.to_json`].

        Raises:
            MetadataError: the text is not JSON, or not a series.
        """
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise MetadataError(f"Not a JSON text: {error}.") from error
        return cls.from_dict(fields)
