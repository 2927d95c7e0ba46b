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
"""When the dates of an xarray data set were taken."""

import datetime as dt
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..metadata import MetadataError, parse_datetime
from .cube_layout import Layout, is_time
from .dates import between, parse_period
from .records import Period, RasterError, Stated

if TYPE_CHECKING:
    try:  # noqa: SIM105 (hides it from the check of what a checkpoint's code needs)
        from xarray import Dataset
    except ImportError:
        pass

# STAC items without an instant state these.
_START, _END = "start_datetime", "end_datetime"
Dates = tuple[Stated[Period], ...]


def dates_of_cube(
    dataset: "Dataset",
    layout: Layout,
    name: str,
) -> tuple[list[Dates], list[Stated[str]]]:
    """When each date was taken, as coordinates state it.

    Bounds (CF 7.1) stand for their middle, as periods of STAC do; the coordinate, which may lie
    anywhere in them, is then stated only if it lies outside, so that the contradiction shows.

    Args:
        dataset: the data set.
        layout: what its dimensions mean.
        name: what messages call it.

    Returns:
        For each date what is stated about it, and the dates that no satellite can have seen.

    Raises:
        RasterError: a coordinate holds no dates, or those of a calendar without our days.
    """
    coordinate = _coordinate(dataset, layout)
    if coordinate is None:
        return [_stac_period(dataset, layout, position) for position in range(layout.num_dates)], []
    where = f"coordinate {coordinate}"
    bounds = _bounds(dataset, coordinate, layout)
    dates, unread = [], []
    for position, value in enumerate(np.atleast_1d(dataset.coords[coordinate].values)):
        instant = _instant(value, name, coordinate)
        period = None if instant is None else _period(instant)
        if instant is not None and period is None:
            unread.append(Stated(instant.isoformat(), where))
        stated: Dates = () if period is None else (Stated(period, where),)
        if bounds is not None:
            pair = dataset.variables[bounds].values.reshape(-1, 2)[position]
            ends = [_instant(end, name, bounds) for end in pair]
            stated = _within(ends, stated, f"coordinate {bounds}")
        dates.append(stated or _stac_period(dataset, layout, position))
    return dates, unread


def _coordinate(dataset: "Dataset", layout: Layout) -> Hashable | None:
    """The time coordinate; along the time dimension, or the one date that a selection left."""
    if layout.time is not None:
        return layout.time if layout.time in dataset.coords else None
    for key, coordinate in dataset.coords.items():
        if coordinate.ndim == 0 and is_time(dataset, key):
            return key
    return None


def _bounds(dataset: "Dataset", coordinate: Hashable, layout: Layout) -> Hashable | None:
    """The variable of the bounds of a coordinate, if it fits."""
    attributes = {**dataset.coords[coordinate].encoding, **dataset.coords[coordinate].attrs}
    bounds: Hashable | None = attributes.get("bounds")
    if bounds not in dataset.variables or dataset.variables[bounds].size != 2 * layout.num_dates:
        return None
    return bounds


def _within(ends: list[dt.datetime | None], stated: Dates, source: str) -> Dates:
    """The period between bounds, and what else is stated if it lies outside."""
    start, end = ends
    if start is None or end is None or start > end:
        return stated
    period = Period(start + (end - start) / 2, start, end)
    outside = [one for one in stated if not start <= one.value.value <= end]
    return (Stated(period, source), *outside)


def _stac_period(dataset: "Dataset", layout: Layout, position: int) -> Dates:
    """The period that coordinates named as in STAC state."""
    texts = []
    for key in (_START, _END):
        coordinate = dataset.coords.get(key)
        if coordinate is None or coordinate.dims not in ((), (layout.time,)):
            return ()
        texts.append(str(np.broadcast_to(coordinate.values, layout.num_dates)[position]))
    period = between(*texts)
    return () if period is None else (Stated(period, f"coordinates {_START} and {_END}"),)


def _period(instant: dt.datetime) -> Period | None:
    """A date without a time of day leaves its day open; `None` for years that stand for no date."""
    is_day = instant.time() == dt.time()
    return parse_period(instant.date().isoformat() if is_day else instant.isoformat())


def _instant(value: Any, name: str, coordinate: Hashable) -> dt.datetime | None:
    """A date of a coordinate in our calendar; `None` if it is missing."""
    if hasattr(value, "change_calendar"):
        try:
            text = value.change_calendar("proleptic_gregorian").isoformat()
            value = dt.datetime.fromisoformat(text)
        except ValueError as error:
            raise RasterError(
                f"{name} has dates of the calendar {value.calendar!r} as coordinate "
                f"{coordinate!r}, which has other days than ours. Convert them "
                "(dataset.convert_calendar('standard')) and pass the xarray object."
            ) from error
    try:
        if isinstance(value, (np.number, int, float)):
            raise MetadataError("A number of unknown unit.")
        # pandas' NaT is a datetime that differs from itself.
        return parse_datetime(value) if value == value else None
    except MetadataError as error:
        raise RasterError(
            f"{name} has {value!r} as coordinate {coordinate!r}, which is not a date. Decode it "
            "(xarray.decode_cf) and pass the xarray object."
        ) from error
