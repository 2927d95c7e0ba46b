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
"""The arguments of `open_series` that hold for all dates, or have an entry per date."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from numbers import Real
from typing import Any

from ..metadata import Band, MetadataError, parse_datetime
from .records import RasterError, Stated, abridged
from .scaling import GivenNumbers
from .sensors import Sensor, find_sensor, sensor_bands

STACKED = ("dates", "bands")
RESAMPLING = ("nearest", "bilinear", "cubic", "cubic_spline", "lanczos", "average", "mode", "max", "min", "med")


@dataclass(frozen=True)
class Given:
    """What the caller says about one date; `None` = nothing.

    Args:
        bands: records, names of the sensor, or texts `NAME:CENTER_NM[:FWHM_NM]`.
        sensor: whose table holds the names.
        scale: one number for all bands, or one per band.
        offset: likewise.
        nodata: likewise.
        date: when it was taken.
        gsd_m: ground sampling distance in metres.
    """

    bands: list[Band | str] | None
    sensor: Sensor | None
    scale: Any
    offset: Any
    nodata: Any
    date: Stated[datetime | None] | None
    gsd_m: float | None


def check_layout(stacked: str | None, num_dates: int | None, resampling: str, grid: Any, parts: Any) -> None:
    """Refuses arguments that no input could fit.

    Raises:
        RasterError: the message names the argument and what is allowed.
    """
    if stacked is not None and stacked not in STACKED:
        raise RasterError(f"stacked must be one of {', '.join(STACKED)} or None, got {stacked!r}.")
    if num_dates is not None and (stacked is None or not _is_count(num_dates)):
        raise RasterError(f"num_dates must be 1 or more, together with stacked=..., got {num_dates!r}.")
    if resampling not in RESAMPLING:
        raise RasterError(f"resampling must be one of {', '.join(RESAMPLING)}, got {resampling!r}.")
    if grid is not None and not isinstance(grid, (str, os.PathLike)):
        raise RasterError(f"grid must be 'first', 'finest' or the path of a raster, got {grid!r}.")
    if isinstance(parts, str):
        raise RasterError(f"parts must be a sequence of names, got the text {parts!r}. Write [{parts!r}].")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def listed_dates(dates: Any) -> list[Any] | None:
    """The dates as a list.

    Raises:
        RasterError: they are a single text, or no sequence.
    """
    if dates is None:
        return None
    if isinstance(dates, str) or not isinstance(dates, Iterable):
        raise RasterError(f"dates must hold one date for each date of the series, got {dates!r}.")
    return list(dates)


def _parse_dates(dates: Sequence[Any] | None, count: int) -> list[Stated[datetime | None] | None]:
    """One date per date of the series, as `parse_datetime` reads them."""
    if dates is None:
        return [None] * count
    if len(dates) != count:
        raise RasterError(f"dates must hold one date for each of the {count} dates of the series, got {list(dates)!r}.")
    return [Stated(parse_datetime(date), "argument dates") for date in dates]


def given_per_date(
    count: int,
    *,
    bands: Any,
    sensor: Any,
    scale: Any,
    offset: Any,
    nodata: Any,
    dates: Sequence[Any] | None,
    gsd_m: float | None,
) -> list[Given]:
    """What the caller says about each date.

    Args:
        count: number of dates.
        bands: for all dates, or one sequence per date.
        sensor: for all dates, or one per date.
        scale: one number, one per band, or an entry per date.
        offset: likewise.
        nodata: likewise.
        dates: one per date.
        gsd_m: for all dates.

    Raises:
        RasterError: an argument has entries for another number of dates, or of another type.
        MetadataError: a sensor is unknown, or a date is none.
    """
    date_bands = _per_date(bands, count, "bands", (Band, str))
    for one in date_bands:
        if one is not None and not (isinstance(one, list) and all(isinstance(band, (Band, str)) for band in one)):
            raise RasterError(f"bands must hold Band records or names, got {one!r}.")
    sensors = [sensor] * count if isinstance(sensor, (str, Sensor)) else _per_date(sensor, count, "sensor", ())
    records = [one if one is None or isinstance(one, Sensor) else find_sensor(one) for one in sensors]
    numbers = {}
    for what, value in (("scale", scale), ("offset", offset), ("nodata", nodata)):
        alike = value is not None and isinstance(value, Real)
        numbers[what] = [value] * count if alike else _per_date(value, count, what, (Real,))
    stated_dates = _parse_dates(dates, count)
    return [
        Given(
            bands=date_bands[number],
            sensor=records[number],
            scale=numbers["scale"][number],
            offset=numbers["offset"][number],
            nodata=numbers["nodata"][number],
            date=stated_dates[number],
            gsd_m=gsd_m,
        )
        for number in range(count)
    ]


def _per_date(value: Any, count: int, what: str, leaf: tuple[type, ...]) -> list[Any]:
    """One value per date, from one that is for all dates, a sequence of `leaf`, or has an entry per date."""
    if value is None:
        return [None] * count
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise RasterError(f"{what} must be a sequence or None, got {value!r}.")
    values = list(value)
    if leaf and values and all(isinstance(item, leaf) for item in values):
        return [values] * count
    if len(values) != count:
        raise RasterError(f"{what} holds {len(values)} entries for {count} dates. Give one entry per date.")
    return [list(item) if isinstance(item, Iterable) and not isinstance(item, str) else item for item in values]


def numbers_per_band(given: Given, good: Sequence[bool], where: str, ignored: str) -> list[GivenNumbers]:
    """Scale, offset and nodata that the caller gives for each good band of a date.

    Args:
        given: what the caller says.
        good: for each band of the files whether it is read; bad bands may have a number or not.
        where: the files, for messages.
        ignored: what is not counted, for messages.

    Raises:
        RasterError: their number is neither 1 nor that of the bands.
    """
    columns = [
        _spread(values, good, what, where, ignored)
        for what, values in (("scale", given.scale), ("offset", given.offset), ("nodata", given.nodata))
    ]
    return [GivenNumbers(scale, offset, nodata) for scale, offset, nodata in zip(*columns, strict=True)]


def _spread(values: Any, good: Sequence[bool], what: str, where: str, ignored: str) -> list[Any]:
    count = sum(good)
    listed = values if isinstance(values, list) else [values]
    if len(listed) == 1:
        return listed * count
    if len(listed) == len(good):
        return [value for value, keep in zip(listed, good, strict=True) if keep]
    if len(listed) != count:
        raise RasterError(
            f"{len(listed)} values of {what} were given, but {where} holds {count} bands, {ignored}. Give one number, "
            "or one per band."
        )
    return listed


def bands_given(given: Given, good: Sequence[bool], where: str, ignored: str) -> list[tuple[Band, str]] | None:
    """The good bands of a date as the caller names them, and where each comes from; `None` if the caller does not.

    Raises:
        RasterError: their number is not that of the bands, or a name means nothing.
        MetadataError: the sensor has no such band.
    """
    if given.bands is None:
        return None
    if len(given.bands) not in (len(good), sum(good)):
        listed = abridged(band.name if isinstance(band, Band) else band for band in given.bands)
        raise RasterError(
            f"{len(given.bands)} bands were given ({listed}), but {where} holds {sum(good)}, {ignored}. Give one band "
            "per channel, in the order of the file."
        )
    bands = [_band(text, given.sensor) for text in given.bands]
    if len(bands) == len(good):
        return [band for band, keep in zip(bands, good, strict=True) if keep]
    return bands


def _band(text: Band | str, sensor: Sensor | None) -> tuple[Band, str]:
    if isinstance(text, Band):
        return text, "argument bands"
    name, colon, lengths = text.partition(":")
    if colon:
        return _parse_band(text, name, lengths), "argument bands"
    if sensor is None:
        raise RasterError(
            f"bands names {text!r}, but no sensor says what that is. Give sensor=... (--sensor), Band records, or "
            f"{text}:CENTER_NM[:FWHM_NM]."
        )
    return sensor_bands(sensor, [text])[0], f"argument bands, table of {sensor.name}"


def _parse_band(text: str, name: str, lengths: str) -> Band:
    """A band from `NAME:CENTER_NM[:FWHM_NM]`."""
    try:
        numbers = [float(number) for number in lengths.split(":")]
    except ValueError:
        numbers = []
    if not name or not 1 <= len(numbers) <= 2:
        raise RasterError(
            f"bands names {text!r}; NAME:CENTER_NM or NAME:CENTER_NM:FWHM_NM is expected, such as green:560:36."
        )
    try:
        return Band(name, center_nm=numbers[0], fwhm_nm=numbers[1] if len(numbers) == 2 else None)
    except MetadataError as error:
        raise RasterError(f"bands names {text!r}: {error}") from error
