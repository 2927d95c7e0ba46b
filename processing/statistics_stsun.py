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
"""Statistics that normalise pixels, found by what a band measured: two band sets that share a name are ordinary."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from .metadata import BAND_KINDS, KIND_UNITS, Band, MetadataError

# Mean and spread of values in physical units, by kind of band: what normalises a band that no statistics are known for.
# Land reflectance in 0-1, brightness temperature in kelvin, backscatter in decibel, elevation in metres, normalised
# difference indices; round numbers of the right magnitude, not measurements.
KIND_STATISTICS = {
    "reflective": {"mean": 0.2, "std": 0.15},
    "thermal": {"mean": 290.0, "std": 15.0},
    "sar": {"mean": -12.0, "std": 6.0},
    "elevation": {"mean": 500.0, "std": 500.0},
    "index": {"mean": 0.0, "std": 0.5},
    "other": {"mean": 0.0, "std": 1.0},
}
# In place of the name of a data set: normalise by kind of band, whatever statistics are known.
BY_KIND = "by_kind"
# Tables, standards and products of one sensor differ by less; neighbouring bands of multispectral
# sensors lie further apart, and of several bands of an imaging spectrometer the nearest is taken.
CENTER_TOLERANCE_NM = 5.0
# Distances from a centre that differ by less are equal.
_EQUAL_NM = 1e-6
# A median this many times as large as usual values (mean + 3 std) is one in another unit: snow, summits and sun glint
# lie far within, reflectance stored x 10000 or as bytes far beyond.
IMPLAUSIBLE_FACTOR = 10.0
# A date whose 98th percentile of reflectance is smaller was scaled twice, or by the wrong factor.
# The darkest surface of nature is the clear ocean, which reflects 0.02 at 490 nm and 0.005 at 550 nm
# (Gordon and Clark, Clear water radiances for atmospheric correction of coastal zone color scanner
# imagery, 1981). Each bound holds for dates with a band up to that wavelength; nothing bounds redder ones.
DARKEST_REFLECTANCE = ((500.0, 0.01), (600.0, 0.004))
_BRIGHTEST_PERCENTILE = 98
# Nothing on Earth is seen colder: the record is a cloud top at 162 K (Proud and Bachmeier, Record-low
# cloud temperatures associated with a tropical deep convective event, 2021). Degrees Celsius are less.
COLDEST_K = 130.0
# Pixels are normalised in float32.
_LARGEST = float(np.finfo(np.float32).max)
# Longer lists of bands are abridged in messages.
_MAX_LISTED = 12
_MAX_LISTED_SETS = 3


@dataclass(frozen=True)
class BandStatistics:
    """Mean and spread of one band over a data set.

    Args:
        name: name of the band in the data set.
        mean: mean of its values.
        std: their standard deviation, 0 or more.
        kind: as in [`Band`]; `None` in checkpoints of version 0.1, which did not keep it.
        polarisation: as in [`Band`].
        center_nm: as in [`Band`].
        unit: as in [`Band`].
    """

    name: str
    mean: float
    std: float
    kind: str | None = None
    polarisation: str | None = None
    center_nm: float | None = None
    unit: str | None = None

    @classmethod
    def of(cls, band: Band, mean: float, std: float) -> "BandStatistics":
        """Statistics of what `band` describes."""
        return cls(band.name, mean, std, band.kind, band.polarisation, band.center_nm, band.unit)

    @classmethod
    def from_dict(cls, where: str, record: Any) -> "BandStatistics":
        """Reads and checks a record of `band_statistics`; `where` names it in messages.

        Raises:
            ValueError: it is no record, mean or std is not a finite number, std is below 0, or no band is like that.
        """
        if not isinstance(record, Mapping) or not isinstance(record.get("name"), str):
            raise ValueError(f"{where} is {record!r}; a record with name, mean and std is expected.")
        where = f"{where}, band {record['name']!r}"
        _check_mean_and_std(where, record)
        known = ("name", "mean", "std", "kind", "polarisation", "center_nm", "unit")
        fields = {key: record[key] for key in known if record.get(key) is not None}
        mean, std = float(record["mean"]), float(record["std"])
        try:
            if "kind" in fields:
                return cls.of(Band.from_dict(fields), mean, std)
            checked = Band(record["name"], fields.get("center_nm"), kind="other")
        except MetadataError as error:
            raise ValueError(f"{where}: {error}") from error
        return cls(checked.name, mean, std, center_nm=checked.center_nm)

    def to_dict(self) -> dict[str, Any]:
        """A record of `band_statistics`, JSON-ready; unknown fields are left out."""
        fields = {
            "name": self.name,
            "kind": self.kind,
            "polarisation": self.polarisation,
            "center_nm": self.center_nm,
            "unit": self.unit,
            "mean": self.mean,
            "std": self.std,
        }
        return {key: value for key, value in fields.items() if value is not None}

    @cached_property
    def type(self) -> str | None:
        """As of [`Band`]; `None` where the kind is unknown."""
        return self.kind and Band(self.name, kind=self.kind, polarisation=self.polarisation).type

    def fits(self, band: Band) -> bool:
        """Whether these are statistics of what `band` measured, in the same unit."""
        if self.type is None:
            # All that version 0.1 kept is name and centre.
            return _same_center(self.center_nm, band.center_nm) and (
                band.center_nm is not None or self.name == band.name
            )
        if self.type != band.type or not _same_center(self.center_nm, band.center_nm):
            return False
        # What was measured on numbers of unknown unit says nothing about those of a known one.
        if band.unit is not None and band.unit != self.unit:
            return False
        return not _is_known_by_name(band) or self.name.casefold() == band.name.casefold()


def _is_known_by_name(band: Band) -> bool:
    """Whether only its name says what a band measured: `slope` and `aspect`, or `red` and `nir` without wavelengths."""
    return band.center_nm is None and band.type in ("reflective", "index", "other")


def _same_center(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) <= CENTER_TOLERANCE_NM


def _check_mean_and_std(where: str, entry: Mapping[str, Any]) -> None:
    for name, least, allowed in (("mean", -_LARGEST, "a finite number"), ("std", 0.0, "a finite number of 0 or more")):
        value: Any = entry.get(name)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not least <= value <= _LARGEST:  # NaN fails every comparison
            raise ValueError(f"{where}: {name} is {value!r}; it must be {allowed}.")


# Settings of the processor


def check_band_statistics(value: Any) -> dict[str, list[dict[str, Any]]]:
    """The setting `band_statistics` as it is kept: a list of records for each data set.

    Args:
        value: `{data set: [record, ...]}`, or as in version 0.1 `{data set: {band name: {mean, std, center_nm}}}`.

    Raises:
        ValueError: it has neither form, or a record is wrong; the message names data set and band.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"band_statistics is {value!r}; a list of records for each data set is expected.")
    checked = {}
    for name, records in value.items():
        where = f"band_statistics of {name!r}"
        if name == BY_KIND:
            raise ValueError(f"{where}: that name asks for statistics by kind. Give the data set another name.")
        if isinstance(records, Mapping):
            records = [_named(where, band_name, entry) for band_name, entry in records.items()]
        if not isinstance(records, Sequence) or isinstance(records, str) or not records:
            raise ValueError(f"{where} is {records!r}; a list of at least one record (name, mean, std) is expected.")
        checked[name] = [BandStatistics.from_dict(where, record).to_dict() for record in records]
    return checked


def _named(where: str, band_name: str, entry: Any) -> dict[str, Any]:
    """A record out of the form of version 0.1."""
    if not isinstance(entry, Mapping):
        raise ValueError(f"{where}: band {band_name!r} is {entry!r}; mean and std are expected.")
    return {**entry, "name": band_name}


def check_kind_statistics(value: Any) -> dict[str, dict[str, Any]]:
    """The setting `kind_statistics`.

    Raises:
        ValueError: it is no dictionary of kinds, or mean or std is wrong; the message names the kind.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"kind_statistics is {value!r}; mean and std for each of {', '.join(BAND_KINDS)} is expected.")
    for kind, entry in value.items():
        if kind not in BAND_KINDS:
            raise ValueError(f"kind_statistics hold {kind!r}; known kinds are {', '.join(BAND_KINDS)}.")
        if not isinstance(entry, Mapping):
            raise ValueError(f"kind_statistics of {kind!r} is {entry!r}; mean and std are expected.")
        _check_mean_and_std(f"kind_statistics of {kind!r}", entry)
    return dict(value)


# Finding statistics


def records_of(band_statistics: Mapping[str, Sequence[Mapping[str, Any]]], name: str) -> tuple[BandStatistics, ...]:
    """The statistics that the checked setting holds of a data set."""
    return tuple(BandStatistics(**record) for record in band_statistics[name])


@lru_cache(maxsize=64)
def match_bands(
    bands: tuple[Band, ...], records: tuple[BandStatistics, ...]
) -> tuple[tuple[BandStatistics | None, ...], tuple[str, ...]]:
    """The statistics of each band out of those of a data set.

    A record fits a band of the same kind, polarisation and unit if both centres lie within `CENTER_TOLERANCE_NM`, or
    neither is known. The nearest record counts, and of equally near ones that of the band's name.

    Returns:
        One record per band, `None` where none fits or several fit equally well, and a text for each band without one.
    """
    found: list[BandStatistics | None] = []
    faults = []
    for band in bands:
        nearest = _nearest(band, [record for record in records if record.fits(band)])
        same_name = [record for record in nearest if record.name == band.name]
        chosen = nearest if len(nearest) == 1 else same_name
        if len(chosen) == 1:
            found.append(chosen[0])
        else:
            found.append(None)
            faults.append(describe_band(band) + _reason(band, records, nearest))
    return tuple(found), tuple(faults)


def _reason(band: Band, records: Sequence[BandStatistics], nearest: Sequence[BandStatistics]) -> str:
    """Why no record was chosen for a band, where it is not that none is alike."""
    if nearest:
        names = [record.name for record in nearest]
        joined = listed(names) if len(names) > _MAX_LISTED else f"{', '.join(names[:-1])} and {names[-1]}"
        return f", which {joined} fit equally well"
    other_unit = [record for record in records if record.fits(replace(band, unit=None))]
    if other_unit:
        return f", whose numbers there are in {other_unit[0].unit or 'an unknown unit'}"
    return ""


def _nearest(band: Band, fitting: Sequence[BandStatistics]) -> list[BandStatistics]:
    distances = [
        0.0 if band.center_nm is None or record.center_nm is None else abs(record.center_nm - band.center_nm)
        for record in fitting
    ]
    least = min(distances, default=0.0)
    return [record for record, distance in zip(fitting, distances, strict=True) if distance - least <= _EQUAL_NM]


def resolve_statistics(
    band_statistics: Mapping[str, Sequence[Mapping[str, Any]]], bands: tuple[Band, ...], statistics: str | None
) -> str | None:
    """Which statistics normalise some bands.

    Args:
        band_statistics: the checked setting.
        bands: the bands of a series, each once.
        statistics: name of a data set, `by_kind`, or `None` = the only data set that fits all bands.

    Returns:
        Name of the data set; `None` = the statistics of the kind of each band.

    Raises:
        ValueError: the data set is unknown or does not fit; or none was named, and several fit, or none does although
            some are held.
    """
    if statistics == BY_KIND or (statistics is None and not band_statistics):
        return None
    by_kind = f"statistics={BY_KIND!r} (--statistics {BY_KIND})"
    if statistics is not None and statistics not in band_statistics:
        raise ValueError(
            f"Unknown statistics {statistics!r}; this processor holds those of "
            f"{', '.join(band_statistics) or 'no data set'}. {BY_KIND!r} normalises by kind of band."
        )
    names = list(band_statistics) if statistics is None else [statistics]
    faults = {name: match_bands(bands, records_of(band_statistics, name))[1] for name in names}
    fitting = [name for name in names if not faults[name]]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise ValueError(
            f"The bands fit the statistics of several data sets: {', '.join(fitting)}. Name one with statistics=... "
            f"(--statistics), or normalise by kind of band with {by_kind}."
        )
    nearest = sorted(names, key=lambda name: len(faults[name]))
    held = [_lack(band_statistics, name, faults[name]) for name in nearest[:_MAX_LISTED_SETS]]
    if len(names) > len(held):
        held.append(f"{len(names) - len(held)} more data sets fit no better.")
    opening = "" if statistics is not None else "The input fits no data set that this checkpoint was tuned on. "
    raise ValueError(
        f"{opening}{' '.join(held)} Describe the bands as they are there (bands=..., --bands), or normalise by kind of "
        f"band, in physical units, with {by_kind}."
    )


def _lack(band_statistics: Mapping[str, Sequence[Mapping[str, Any]]], name: str, faults: Sequence[str]) -> str:
    held = [describe_record(record) for record in records_of(band_statistics, name)]
    return f"Statistics {name!r} lack the bands {listed(faults)}; they hold {listed(held)}."


def statistics_of(
    kind_statistics: Mapping[str, Mapping[str, float]],
    band_statistics: Mapping[str, Sequence[Mapping[str, Any]]],
    bands: tuple[Band, ...],
    name: str | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard deviations (bands,) float32, of a data set that fits the bands or, for `None`, by kind.

    Raises:
        ValueError: the statistics of a kind are missing.
    """
    if name is not None:
        found = [record for record in match_bands(bands, records_of(band_statistics, name))[0] if record is not None]
        entries = [(record.mean, record.std) for record in found]
    else:
        entries = [_of_kind(kind_statistics, band.kind) for band in bands]
    means, stds = np.array(entries, dtype=np.float32).T
    return means, stds


def _of_kind(kind_statistics: Mapping[str, Mapping[str, float]], kind: str) -> tuple[float, float]:
    if kind not in kind_statistics:
        raise ValueError(
            f"kind_statistics hold no statistics of {kind!r}, only of {', '.join(kind_statistics) or 'nothing'}: add "
            "its mean and std."
        )
    return kind_statistics[kind]["mean"], kind_statistics[kind]["std"]


# Units


def check_units(bands: Sequence[Band], values: np.ndarray, means: np.ndarray, stds: np.ndarray) -> None:
    """Refuses values that are far too large for the unit that statistics expect.

    Args:
        bands: the bands of a date.
        values: (bands, pixels) values of the date where it holds data, at least one.
        means: (bands,) expected mean.
        stds: (bands,) expected standard deviation.

    Raises:
        ValueError: values are in another unit; the message says what may be wrong.
    """
    medians = np.median(values, axis=1)
    excess = np.abs(medians) / np.maximum(np.abs(means) + 3 * stds, 1e-6)
    worst = int(excess.argmax())
    if excess[worst] > IMPLAUSIBLE_FACTOR:
        raise ValueError(
            f"Band {bands[worst].name!r} ({bands[worst].kind}) has a median of {medians[worst]:g}, where about "
            f"{means[worst]:g} +- {stds[worst]:g} is expected: it is in another unit. "
            f"{_remedy(bands[worst], values[worst])}, or name the statistics of its data set (statistics=..., "
            "--statistics)."
        )


def _remedy(band: Band, values: np.ndarray) -> str:
    is_byte = values.min() >= 0 and values.max() <= 255 and np.array_equal(values, np.round(values))
    if band.kind == "reflective" and is_byte:
        return "It looks like an 8-bit picture: give the scale 1/255 (scale=1/255, --scale 0.00392; divide an array)"
    if band.kind == "reflective":
        return (
            "Give the scale to physical units (scale=0.0001, --scale 0.0001, for reflectance stored x 10000; multiply "
            "an array by it)"
        )
    unit = KIND_UNITS.get(band.kind, "the unit of the statistics")
    return f"Give scale and offset to {unit} (scale=..., offset=..., --scale, --offset)"


def check_decibels(bands: Sequence[Band], values: np.ndarray, means: np.ndarray, stds: np.ndarray) -> None:
    """Refuses backscatter of unknown unit without any value below 0 where decibel are expected.

    Linear power lies a few standard deviations from the mean in decibel, far too near for [`check_units`], whose
    arguments these are.

    Raises:
        ValueError: a band is not in decibel; the message says how to state or make what it is.
    """
    for band, numbers, mean, std in zip(bands, values, means, stds, strict=True):
        # Numbers that are never below 0 have no such mean; land in decibel hardly has a date above 0.
        if band.kind == "sar" and band.unit is None and mean < -std and numbers.min() >= 0:
            raise ValueError(
                f"Band {band.name!r} (sar) states no unit and has no value below 0 (median {np.median(numbers):g}), "
                f"where decibel of about {mean:g} +- {std:g} are expected: it looks like linear power or amplitude. "
                "State which in the file, as the unit of the band (power or amplitude), and it is converted; or give "
                "decibel (10 log10 of power, 20 log10 of amplitude). If the numbers are decibel already, say so with "
                "scale=1 (--scale 1), of an array with Band(..., unit='dB'); if 0 means missing, give nodata=0 "
                "(--nodata 0). check_range=False leaves this check out."
            )


def check_physical_units(bands: Sequence[Band], values: np.ndarray) -> None:
    """Refuses values that are far too small to be reflectance in 0-1 or kelvin; arguments as of [`check_units`].

    Raises:
        ValueError: values are in another unit; the message says what may be wrong.
    """
    medians = np.median(values, axis=1)
    for band, median in zip(bands, medians, strict=True):
        if band.kind == "thermal" and 0 < abs(median) < COLDEST_K:
            raise ValueError(
                f"Band {band.name!r} (thermal) has a median of {median:g} K, colder than anything on Earth: it looks "
                "like degrees Celsius. Give the offset to kelvin (offset=273.15, --offset 273.15)."
            )
    reflective = [index for index, band in enumerate(bands) if band.kind == "reflective"]
    centers = [center for index in reflective if (center := bands[index].center_nm) is not None]
    bounds = [darkest for longest, darkest in DARKEST_REFLECTANCE if centers and min(centers) <= longest]
    # Half of the bands bright in half of their pixels: the percentile cannot be dark.
    if not bounds or np.median(medians[reflective]) >= bounds[0]:
        return
    brightest = float(np.percentile(values[reflective], _BRIGHTEST_PERCENTILE))
    if 0 < brightest < bounds[0]:
        raise ValueError(
            f"Reflective bands {listed([bands[index].name for index in reflective])} hardly exceed a reflectance of "
            f"{brightest:g}: they are darker than the clear ocean, and probably scaled twice or by the wrong factor. "
            "Leave scale=... (--scale) out if the file states its own, give 1/255 (--scale 0.00392) for an 8-bit "
            "picture, or name the statistics of the data set (statistics=..., --statistics). check_range=False leaves "
            "this check out."
        )


# Words


def describe_statistics(
    kind_statistics: Mapping[str, Mapping[str, float]],
    band_statistics: Mapping[str, Sequence[Mapping[str, Any]]],
    bands: tuple[Band, ...],
    name: str | None,
) -> str:
    """One line on how bands are normalised; arguments as of [`statistics_of`]."""
    if name is not None:
        found = match_bands(bands, records_of(band_statistics, name))[0]
        names = dict.fromkeys(describe_record(record) for record in found if record is not None)
        return f"statistics of {name!r} ({listed(list(names))})"
    texts = []
    for kind in dict.fromkeys(band.kind for band in bands):
        mean, std = _of_kind(kind_statistics, kind)
        texts.append(f"{kind} {mean:g} +- {std:g} {KIND_UNITS.get(kind, '')}".rstrip())
    return f"by kind of band, in physical units ({', '.join(texts)})"


def describe_band(band: Band) -> str:
    """A band in words: name, type, centre and unit, as far as they are known."""
    details = [band.type.replace("_", " ")]
    if band.center_nm is not None:
        details.append(f"{band.center_nm:g} nm")
    if band.unit is not None:
        details.append(f"in {band.unit}")
    return f"{band.name} ({', '.join(details)})"


def describe_record(record: BandStatistics) -> str:
    """Statistics in words: name of the band, centre, and what else sets them apart."""
    words = [record.name]
    if record.center_nm is not None:
        words.append(f"{record.center_nm:g} nm")
    elif record.polarisation is not None and record.polarisation != record.name:
        words.append(record.polarisation)
    return " ".join(words)


def listed(texts: Sequence[str]) -> str:
    """A list for a message, abridged if it is long."""
    more = f" and {len(texts) - _MAX_LISTED} more" if len(texts) > _MAX_LISTED else ""
    return ", ".join(texts[:_MAX_LISTED]) + more
