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
"""The report: what is known of a series and where it came from, as text for people. Nothing reads it back."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from .raster_series import RasterSeries
from .records import Fact

# The name of facts that say what was not read.
NOTE = "left_out"
_MAX_TEXT = 60
_COLUMNS = (
    "name",
    "kind",
    "center_nm",
    "fwhm_nm",
    "polarisation",
    "scale",
    "offset",
    "unit",
    "nodata",
    "valid_range",
)
# Columns that are left out where no band has anything to show.
_OPTIONAL = ("unit", "valid_range")


def describe(opened: RasterSeries) -> str:
    """What is known of a series and where it came from, as text for people.

    Args:
        opened: the series.

    Returns:
        A block of lines per date: file, size, CRS, GSD, date and sensor, then a table with one line per band.
    """
    blocks = []
    count = len(opened.series.acquisitions)
    for number, facts in enumerate(opened.date_facts, start=1):
        files = list(dict.fromkeys(layer.path for layer in opened.layers[number - 1]))
        lines = [f"date {number} of {count}: {files[0]}"]
        indent = " " * (len(lines[0]) - len(files[0]))
        lines += [indent + path for path in files[1:]]
        lines += _general(facts)
        lines += _bands(facts, [(layer.path, index) for layer in opened.layers[number - 1] for index in layer.indexes])
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _general(facts: Sequence[Fact]) -> list[str]:
    """A table of the facts about whole rasters; equal ones of several files are written once."""
    general = {(fact.name, fact.value, fact.source): None for fact in facts if fact.band is None}
    rows = [["  " + name, _text(value)[:_MAX_TEXT], f"({source})"] for name, value, source in general if name != NOTE]
    # What was left out may be a long list, and stands in lines of its own.
    return _table(rows) + [f"  {name}  {value}" for name, value, _ in general if name == NOTE]


def _bands(facts: Sequence[Fact], bands: Sequence[tuple[str, int]]) -> list[str]:
    """A table with one line per band. A source that holds for a fact of every band is written once, below it."""
    known = [{fact.name: fact for fact in facts if (fact.path, fact.band) == band} for band in bands]
    columns = [name for name in _COLUMNS if name not in _OPTIONAL or any(name in own for own in known)]
    sources = [[(name, fact.source) for name, fact in own.items()] for own in known]
    common = [source for source in sources[0] if all(source in others for others in sources)]
    if len(known) == 1:
        common = []
    rows = [["  band", *columns, "sources"]]
    for (_, index), own, named in zip(bands, known, sources, strict=True):
        cells = [_text(own[name].value) if name in own else "-" for name in columns]
        rows.append([f"  {index}", *cells, _sources(source for source in named if source not in common)])
    lines = _table(rows)
    if common:
        lines.append(f"  all bands: {_sources(common)}")
    return lines


def _sources(pairs: Iterable[tuple[str, str]]) -> str:
    by_source: dict[str, list[str]] = {}
    for name, source in pairs:
        by_source.setdefault(source, []).append(name)
    return "; ".join(f"{', '.join(names)}: {source}" for source, names in by_source.items())


def _text(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, tuple):
        return ", ".join(map(_text, value))
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return []
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return lines
