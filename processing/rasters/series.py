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
"""[`open_series`]: from paths, items, products, cubes and objects to one series of rasters."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from rasterio.enums import Resampling

from ..metadata import Band, ImageSeries
from .acquisition import ResolvedDate, resolve_date
from .arguments import Given, check_layout, given_per_date, listed_dates
from .checks import check_has_data, check_last_block
from .entries import SeriesEntry, Slot, entries_of, open_all, slots_of, with_alpha_decided
from .opening import Handles
from .placing import Placement, place
from .raster_series import RasterSeries
from .readings import Reading, Readings, parse_readings
from .records import Beside, Entry, Fact, RasterError
from .sensors import Sensor


def open_series(
    paths: "SeriesEntry | Sequence[SeriesEntry | Sequence[SeriesEntry]]",
    *,
    bands: Sequence[Band | str] | Sequence[Sequence[Band | str] | None] | None = None,
    sensor: str | Sensor | Sequence[str | Sensor | None] | None = None,
    product: str | None = None,
    dates: Sequence[Any] | None = None,
    gsd_m: float | None = None,
    scale: float | Sequence[float] | Sequence[float | Sequence[float] | None] | None = None,
    offset: float | Sequence[float] | Sequence[float | Sequence[float] | None] | None = None,
    nodata: float | Sequence[float] | Sequence[float | Sequence[float] | None] | None = None,
    parts: Sequence[str] | None = None,
    stacked: str | None = None,
    num_dates: int | None = None,
    grid: str | os.PathLike[str] | None = None,
    resampling: str = "bilinear",
    readings: Readings | None = None,
    beside: Sequence[Sequence[Beside]] | None = None,
    check: bool = True,
) -> RasterSeries:
    """Opens rasters as one image series; pixels are read later, window by window.

    Everything known about a raster is a statement: of its tags, descriptions, header or name, of the STAC item or
    product that leads to it, or of the caller. Equal statements agree, an argument overrules (and the report says what
    it overruled), and all others that exclude each other are an error that names both. What nobody states is unknown.
    A pixel is missing if any statement says so: a nodata value, a mask, alpha 0, a valid range, or NaN.

    Bands that an ENVI header lists as bad (`bbl`) are left out.

    Args:
        paths: one entry per date, oldest first. An entry is one of

            - a file: whatever GDAL takes as a name;
            - a folder: its rasters in natural order of their names, each with bands of that date;
            - a product as distributed: a Sentinel-2 .SAFE folder or its zip, a Landsat Collection 2 folder or tar;
            - a STAC item: a `.json` file or a dictionary;
            - a netCDF or Zarr cube (`.nc`, `.zarr`, or a group inside one) or an xarray object: all its dates
              (`pip install 'stsun[xarray]'`);
            - a sequence of these, whose bands are put one after another.

            A single one stands for a list of one.
        bands: the bands, for all dates or one sequence per date (`None` = from the file): [`Band`] records, names in
            the table of `sensor`, or texts `NAME:CENTER_NM[:FWHM_NM]`.
        sensor: sensor whose table holds the names of the bands, for all dates or one per date.
        product: product whose scaling and fill value are documented outside of its files, such as `landsat-c2-l2` or
            `sentinel-2-l2a`; `None` = as recognised by metadata and names.
        dates: when each date was taken, as [`parse_datetime`] takes it; `None` in the list = unknown.
        gsd_m: ground sampling distance in metres.
        scale: factor from stored numbers to physical units (reflectance, K, dB, m): one number, or one per band, or a
            sequence of these with one entry per date (`None` = from the file). An offset that the file states stays
            where its scale agrees, and does not apply otherwise.
        offset: what is added after the factor, in the same forms.
        nodata: stored number that means missing, in the same forms, in place of those that the files state; NaN = none.
            Masks, alpha and NaN count in any case.
        parts: which assets of STAC items, variables or bands of cubes, or files of folders and products are read, in
            this order. `None` = those that hold data.
        stacked: how files hold several dates: `dates` = date after date, each with all its bands; `bands` = band after
            band, each with all its dates. `None` = each file holds bands of one date. Cubes know their dates.
        num_dates: dates in each stacked entry; not needed if `dates` says so, or `bands` for all dates.
        grid: the grid to which rasters on other ones are warped: `first` (that of the first file), `finest` (that of
            the file with the smallest pixels), or a raster that has it. `None` = rasters on different grids are an
            error, but those of one product come on its finest grid.
        resampling: how they are warped: `nearest` for numbers that are no quantities, `bilinear`, `cubic`, `average`...
            (GDAL averages over the pixels that a coarser one covers).
        readings: what a checkpoint knows of files like those that it was tuned on: the setting `readings` of its image
            processor. Counts only where nothing else is stated, and the report says so.
        beside: per date, what else speaks about its rasters, such as a dataset.json.
        check: whether files are probed for truncation and for having data at all.

    Returns:
        The open series.

    Raises:
        RasterError: a file is missing, empty, truncated, not a raster or of complex numbers; grids differ; a band is
            unknown, or statements contradict each other; the number of records does not fit; nothing but nodata.
        MetadataError: a given value is not possible, or dates are out of order.
    """
    check_layout(stacked, num_dates, resampling, grid, parts)
    dates = listed_dates(dates)
    entries = entries_of(paths, parts, product, offset_given=offset is not None)
    with ExitStack() as stack:
        handles = Handles(resampling=Resampling[resampling])
        stack.callback(handles.close)
        open_all(entries, handles)
        slots = slots_of(entries, handles, stacked, num_dates, dates, bands)
        given = given_per_date(
            len(slots),
            bands=bands,
            sensor=sensor,
            scale=scale,
            offset=offset,
            nodata=nodata,
            dates=dates,
            gsd_m=gsd_m,
        )
        if stacked is None:
            slots = with_alpha_decided(slots, handles, given, check)
        placement = place(grid, entries, handles, resampling)
        handles.grid = placement.grid
        resolved = _resolve(slots, handles, given, beside, parse_readings(readings or {}), placement, entries)
        _check_stacks(slots, resolved, stacked)
        opened = RasterSeries(resolved, placement, handles)
        if check:
            _check_files(opened, handles)
            check_has_data(opened)
        stack.pop_all()
        return opened


def read_series(paths: "SeriesEntry | Sequence[SeriesEntry | Sequence[SeriesEntry]]", **options: Any) -> ImageSeries:
    """Reads rasters whole.

    Args:
        paths: as for [`open_series`].
        **options: as for [`open_series`].

    Returns:
        A series with pixels (see [`RasterSeries.read`]).

    Raises:
        RasterError: as [`open_series`] and [`RasterSeries.read`].
        MetadataError: as [`open_series`].
    """
    with open_series(paths, **options) as opened:
        return opened.read()


def _resolve(
    slots: Sequence[Slot],
    handles: Handles,
    given: Sequence[Given],
    beside: Sequence[Sequence[Beside]] | None,
    readings: Sequence[Reading],
    placement: Placement,
    entries: Sequence[Entry],
) -> list[ResolvedDate]:
    """All dates, each with its report."""
    speakers = [()] * len(slots) if beside is None else beside
    if len(speakers) != len(slots):
        raise RasterError(f"beside holds {len(speakers)} entries for {len(slots)} dates. Give one entry per date.")
    notes = {entry.parts[0].path: entry.notes for entry in entries}
    resolved = []
    for number, slot in enumerate(slots):
        date = resolve_date(
            slot,
            handles,
            given[number],
            speakers[number],
            readings,
            grid=placement.grid,
            warped=placement.warped,
        )
        path = slot[0][0]
        left_out = [Fact(path, None, "left_out", note, "entry") for note in notes.get(path, ())]
        resolved.append(replace(date, facts=(*placement.facts(slot), *left_out, *date.facts)))
    return resolved


def _check_stacks(slots: Sequence[Slot], dates: Sequence[ResolvedDate], stacked: str | None) -> None:
    """Refuses dates of one stacked file whose bands differ: the layout is another one."""
    if stacked is None:
        return
    first: dict[str, tuple[int, list[Any]]] = {}
    for number, (slot, date) in enumerate(zip(slots, dates, strict=True), start=1):
        known = [
            (band.center_nm, band.kind, band.polarisation)
            for band in date.acquisition.bands
            if band.center_nm is not None or band.polarisation is not None
        ]
        path = slot[0][0]
        if first.setdefault(path, (number, known))[1] != known:
            other = "bands" if stacked == "dates" else "dates"
            raise RasterError(
                f"{path} was read with stacked={stacked!r}, which gives dates {first[path][0]} and {number} different "
                f"bands. Try stacked={other!r} (--stacked {other})."
            )


def _check_files(opened: RasterSeries, handles: Handles) -> None:
    for layers in opened.layers:
        for layer in layers:
            check_last_block(handles.source(layer.path), layer.indexes)
