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
"""Dates as files and their names write them."""

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

from ..metadata import MetadataError, parse_datetime
from .records import Period, RasterError, Stated

# Parts of one acquisition (granules, start and middle of a strip) differ by less.
DATE_TOLERANCE = dt.timedelta(hours=12)
# Keys, in lower case, that state when something was taken, the strongest first.
DATE_KEYS = (
    "timestamp",
    "acquisition_date",
    "acquisition_datetime",
    "acquisition_time",
    "acquisitiondatetime",
    "date_acquired",
    "sensing_time",
    "datetime",
    "time",
)
# Pairs of keys that state when a period begins and ends.
PERIOD_KEYS = (
    ("product_start_time", "product_stop_time"),
    ("start_time", "stop_time"),
    ("start_datetime", "end_datetime"),
    ("time_coverage_start", "time_coverage_end"),
    ("rangebeginningdate", "rangeendingdate"),
)
# Years that stand for "no date" in headers: 0001-01-01 (.NET), 1900-01-01 (dBase), 9999-12-31.
_FIRST_YEAR, _LAST_YEAR = 1950, 2100

_DAY = dt.timedelta(days=1)
_TIME_OF_DAY = re.compile(r"T?\d{1,2}:?\d{2}(:?\d{2}(\.\d+)?)?Z?")
_ORDINAL = re.compile(r"(\d{4})-?(\d{3})(?=[T ]|$)")
_BASIC = re.compile(r"(\d{4})(\d{2})(\d{2})(?:[T ]?(\d{2})(\d{2})(\d{2})?)?(?=\D|$)")
_NAME_DATE = re.compile(
    r"(?<!\d)(?:(\d{4})-(\d{2})-(\d{2})|(\d{4})(\d{2})(\d{2}))(?:[Tt_ ](\d{2})[:-]?(\d{2})[:-]?(\d{2})(?!\d))?(?!\d)"
    # A zone; one behind a minus sign could be anything else.
    r"(?:\+(?P<zone_hours>\d{2}):?(?P<zone_minutes>\d{2})(?!\d))?"
)
_NAME_YEAR = re.compile(r"(?<![0-9A-Za-z])((?:19|20)\d{2})(?![0-9A-Za-z])")
# Landsat's product identifier: LXSS_LLLL_PPPRRR_YYYYMMDD_yyyymmdd_CC_TX, acquired and processed (USGS LSDS-1619).
_LANDSAT_ID = re.compile(r"L[COTEM]0\d_L\w{3}_\d{6}_(\d{8})_\d{8}_\d{2}_\w{2}", re.IGNORECASE)


def parse_period(text: str) -> Period | None:
    """The date that a text states, in the spellings of ISO 8601 and of headers; `None` if it states none.

    Read are `2021`, `2021-07`, `2021-07-23`, `20210723`, `2021:07:23 13:22:41` (TIFF and EXIF), `2021/07/23`, ordinal
    dates (`2021-204`), times of day with zones, leap seconds and 24:00, and periods `start/end`. A time of day alone
    is no date.
    """
    text = text.strip()
    ends = [end.strip() for end in text.split("/")]
    if len(ends) == 2:
        return between(*ends)
    text = re.sub(r"^(\d{4})[:/](\d{2})[:/](\d{2})", r"\1-\2-\3", text)
    text = re.sub(r"\s*(UTC|GMT)$", "Z", text)
    if _TIME_OF_DAY.fullmatch(text) and not re.fullmatch(r"(19|20)\d{2}", text):
        return None
    text, later = _whole_seconds(_extended(text))
    try:
        value = parse_datetime(text)
    except MetadataError:
        return None
    if value is None or not _FIRST_YEAR <= value.year < _LAST_YEAR:
        return None
    if re.fullmatch(r"\d{4}(-\d{2})?", text):
        # A year or a month stands for its middle.
        first = dt.datetime(value.year, value.month if len(text) == 7 else 1, 1)
        return Period(value, first, value + (value - first))
    is_day = re.fullmatch(r"\d{4}-\d{2}-\d{2}", text) is not None
    value += later
    return Period(value, value, value + _DAY if is_day else value)


def between(start: str, end: str) -> Period | None:
    """The period between two dates, which its middle stands for; `None` if they are none, or in the wrong order."""
    first, last = parse_period(start), parse_period(end)
    if first is None or last is None or first.start > last.end:
        return None
    return Period(first.start + (last.end - first.start) / 2, first.start, last.end)


def _extended(text: str) -> str:
    """Basic and ordinal forms of ISO 8601 in the extended form."""
    if match := _ORDINAL.match(text):
        year, day_of_year = int(match[1]), int(match[2])
        if 1 <= day_of_year <= 366 and dt.MINYEAR <= year < dt.MAXYEAR:
            ordinal = dt.date(year, 1, 1) + dt.timedelta(days=day_of_year - 1)
            return f"{ordinal.isoformat()}{text[match.end() :]}" if ordinal.year == year else text
    match = _BASIC.match(text)
    if match is None:
        return text
    year_text, month, day, hour, minute, second = match.groups()
    date = f"{year_text}-{month}-{day}"
    return date if hour is None else f"{date}T{hour}:{minute}:{second or '00'}{text[match.end() :]}"


def _whole_seconds(text: str) -> tuple[str, dt.timedelta]:
    """Without a leap second or 24:00, and what is to be added for it: both are the first instant that follows."""
    if match := re.search(r"(?<=[T ])24:00(:00(\.0+)?)?", text):
        return f"{text[: match.start()]}00:00:00{text[match.end() :]}", _DAY
    if match := re.search(r"(?<=:\d\d):60(\.\d+)?", text):
        return f"{text[: match.start()]}:59{text[match.end() :]}", dt.timedelta(seconds=1)
    return text, dt.timedelta()


def dates_of(fields: Mapping[str, tuple[str, str]]) -> tuple[list[Stated[Period]], list[Stated[str]]]:
    """The dates that header fields state, and the texts of those that should but cannot be read.

    Args:
        fields: by key in lower case, where the field stands and its text.
    """
    known, unread = [], []
    for begin, end in PERIOD_KEYS:
        if begin not in fields:
            continue
        label, text = fields[begin]
        period = parse_period(text)
        if end in fields and (whole := between(text, fields[end][1])):
            period, label = whole, f"{label} and {fields[end][0]}"
        if period:
            known.append(Stated(period, label))
        else:
            unread.append(Stated(text, label))
    for key in DATE_KEYS:
        if key not in fields:
            continue
        label, text = fields[key]
        if key.endswith("time") and not key.endswith("datetime") and _TIME_OF_DAY.fullmatch(text.strip()):
            # TIME=1030 is half past ten, and says nothing of the day.
            continue
        if period := parse_period(text):
            known.append(Stated(period, label))
        else:
            unread.append(Stated(text, label))
    return known, unread


def date_in_name(name: str) -> Period | None:
    """The date in the name of a file or band, if it is exactly one: a day, or else a year between separators.

    Landsat's identifiers hold the days of acquisition and of processing; the first counts.
    """
    if match := _LANDSAT_ID.search(name):
        name = match[1]
    found: dict[dt.datetime, dt.datetime] = {}
    for match in _NAME_DATE.finditer(name):
        year, month, day_of_month, *time = [int(part) for part in match.groups()[:9] if part is not None]
        hour, minute, second = time or (0, 0, 0)
        zone = dt.timedelta(hours=int(match["zone_hours"] or 0), minutes=int(match["zone_minutes"] or 0))
        try:
            value = dt.datetime(year, month, day_of_month, hour, minute, second) - zone
        except (ValueError, OverflowError):
            continue
        day = dt.datetime(value.year, value.month, value.day)
        if _FIRST_YEAR <= value.year < _LAST_YEAR:
            # The first time of day counts: that of processing follows it in product names.
            found[day] = value if found.get(day, day) == day else found[day]
    if len(found) == 1:
        (day, value), *_ = found.items()
        return Period(value, value, value if value != day else day + _DAY)
    years = set(_NAME_YEAR.findall(name))
    return parse_period(years.pop()) if not found and len(years) == 1 else None


def contradict(one: Period, other: Period) -> bool:
    """Whether two dates cannot be those of one acquisition."""
    earlier, later = sorted((one, other), key=lambda period: (period.start, period.end))
    if max(one.end - one.start, other.end - other.start) > _DAY:
        # A period ends where the next one begins.
        return later.start >= earlier.end > earlier.start or later.start > earlier.end
    return later.start - earlier.end > DATE_TOLERANCE


def agreed(where: str, dates: Sequence[Stated[Period]], remedy: str = "") -> Stated[Period] | None:
    """The first of several statements about one date, all of which must agree; `None` if there are none.

    Args:
        where: what they are about, for messages.
        dates: the statements.
        remedy: what else may be done about two that do not, a sentence.

    Raises:
        RasterError: two of them contradict each other.
    """
    for one, two in pairwise(dates):
        if contradict(one.value, two.value):
            raise RasterError(
                f"{where} states two dates: {one.source} says {one.value.value.isoformat()}, {two.source} "
                f"{two.value.value.isoformat()}. {remedy}Say which holds with dates=[...] (--dates)."
            )
    return dates[0] if dates else None


def without_date(name: str) -> str | None:
    """A band's name without the one date in it; `None` if it holds none, or nothing else."""
    rest = _NAME_DATE.sub("", name).strip(" _-.:,")
    return rest if rest and rest != name else None
