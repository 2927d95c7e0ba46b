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
"""What a folder data set holds, and all that is wrong with it, found before training does."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from ..metadata import ImageSeries
from .checks import TRAINING_SPLIT, check_split
from .description import DatasetDescription
from .fields import DatasetError
from .reader import SampleReader
from .statistics import statistics_of


@dataclass
class DatasetReport:
    """What [`inspect_dataset`] found; `str()` of it is a page of text.

    Args:
        description: the dataset.json.
        split_sizes: number of samples by split.
        pixels: {task: {split: pixels of each class, then pixels without a label}}.
        series: metadata of the images of each sample that can be read.
        sizes: number of samples by (height, width).
        faults: why training would refuse it, each naming its sample, file or split.
        notes: what may be meant.
    """

    description: DatasetDescription
    split_sizes: dict[str, int]
    pixels: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    series: list[ImageSeries] = field(default_factory=list)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def class_names(self, task: str) -> tuple[str, ...]:
        """Names of the classes of a task."""
        return self.description.class_names_of(task)

    def __str__(self) -> str:
        sizes = (f"{height} x {width}" for (height, width) in self.sizes.elements())
        lines = [
            f"{self.description.name}: {len(self.description.records)} samples, "
            + ", ".join(f"{split} {count}" for split, count in self.split_sizes.items()),
            f"tasks   {', '.join(self.description.tasks)}",
            f"sizes   {_most_common(sizes)} (rows x columns)",
            f"dates   {self._dates()}",
            f"gsd     {_most_common('unknown' if s.gsd_m is None else f'{s.gsd_m:g} m' for s in self.series)}",
        ]
        for bands in dict.fromkeys(acquisition.bands for series in self.series for acquisition in series.acquisitions):
            shown = ", ".join(
                f"{band.name} ({band.type}{'' if band.center_nm is None else f' {band.center_nm:g} nm'})"
                for band in bands
            )
            lines.append(f"bands   {len(bands)}: {shown}")
        for task, by_split in self.pixels.items():
            names = [*self.class_names(task), "(not labelled)"]
            width = max(map(len, names))
            lines += ["", f"{task}, pixels", "  " + " " * width + "".join(f"{split:>21s}" for split in by_split)]
            totals = {split: max(int(counts.sum()), 1) for split, counts in by_split.items()}
            for position, name in enumerate(names):
                cells = "".join(
                    f"{counts[position]:>13d} {counts[position] / totals[split]:>6.1%}"
                    for split, counts in by_split.items()
                )
                lines.append(f"  {name:{width}s}{cells}")
        for title, entries in (("notes", self.notes), ("faults", self.faults)):
            lines += ["", f"{title}: {len(entries) or 'none'}", *(f"  {entry}" for entry in entries)]
        return "\n".join(lines)

    def _dates(self) -> str:
        counts = _most_common(len(series.acquisitions) for series in self.series)
        known = [a.datetime for series in self.series for a in series.acquisitions if a.datetime is not None]
        total = sum(len(series.acquisitions) for series in self.series)
        if not known:
            return f"{counts} a sample, all unknown"
        unknown = f", {total - len(known)} of {total} unknown" if len(known) < total else ""
        return f"{counts} a sample, {min(known).date()} to {max(known).date()}{unknown}"


def _most_common(values: Iterable[object]) -> str:
    """The values met, the most frequent first."""
    counts = Counter(values).most_common()
    shown = ", ".join(f"{value}" if len(counts) == 1 else f"{value} ({count} times)" for value, count in counts[:5])
    return shown + (f" and {len(counts) - 5} more" if len(counts) > 5 else "") if counts else "-"


def inspect_dataset(root: str | Path, progress: bool = True) -> DatasetReport:
    """Reads all metadata and labels of a folder data set and the pixels that it trains on, and notes every fault.

    Args:
        root: the folder that holds `dataset.json`.
        progress: whether a progress bar is shown.

    Returns:
        The report. Its `faults` are what [`FolderDataset`] would refuse of one of its splits, and [`band_statistics`]
        of the split 'train', which there must be. Other splits may be empty or missing.

    Raises:
        DatasetError: `dataset.json` itself is missing or wrong: then there is nothing to go by.
    """
    description = DatasetDescription.read(Path(root) / "dataset.json")
    reader = SampleReader(description)
    report = DatasetReport(description, {split: len(names) for split, names in description.splits.items()})
    report.sizes.update(_sizes(description))
    homeless = sorted(set(description.records).difference(*description.splits.values()))
    if homeless:
        report.notes.append(f"{len(homeless)} samples are in no split: {', '.join(homeless[:5])} ...")
    splits = dict.fromkeys([*description.splits, TRAINING_SPLIT])
    total = sum(len(description.select(split, None)) for split in splits if description.splits.get(split))
    with tqdm(total=total, desc="samples", disable=not progress) as bar:
        for split in splits:
            if split != TRAINING_SPLIT and not description.splits[split]:
                report.notes.append(f"Split {split!r} is empty.")
            else:
                _inspect_split(reader, split, report, bar.update)
    _note_classes_not_met(report)
    return report


def _sizes(description: DatasetDescription) -> Counter[tuple[int, int]]:
    """Number of samples that are in a split by (height, width)."""
    sizes: Counter[tuple[int, int]] = Counter()
    for name in (name for names in description.splits.values() for name in names):
        record = next(iter(description.records[name].values()))
        sizes[record.height, record.width] += 1
    return sizes


def _inspect_split(reader: SampleReader, split: str, report: DatasetReport, on_sample: Callable[[], object]) -> None:
    try:
        checked = check_split(reader, split, collect=True, on_sample=on_sample)
    except DatasetError as error:
        report.faults.append(str(error))
        return
    report.faults += checked.faults
    report.notes += checked.notes
    report.series += checked.series.values()
    for task in checked.tasks:
        report.pixels.setdefault(task, {})[split] = checked.class_counts(task)
    if split == TRAINING_SPLIT and not checked.faults:
        try:
            statistics_of([record for record in checked.samples if record.num_labelled], reader, split)
        except DatasetError as error:
            report.faults.append(str(error))


def _note_classes_not_met(report: DatasetReport) -> None:
    """Notes classes that training never meets, but for tasks of two classes, where that is a fault."""
    for task, by_split in report.pixels.items():
        names = report.class_names(task)
        unlabelled = sum(int(counts[-1]) for counts in by_split.values())
        for position, name in enumerate(names if len(names) > 2 else ()):
            met = [split for split, counts in by_split.items() if counts[position]]
            if not met:
                ignored = report.description.ignore_index
                hint = f"; {unlabelled} pixels are not labelled: does {ignored} stand for it?" if unlabelled else "."
                report.notes.append(f"Class {name!r} of {task} is met in no split{hint}")
            elif TRAINING_SPLIT in by_split and TRAINING_SPLIT not in met:
                report.notes.append(f"Class {name!r} of {task} is met in {', '.join(met)}, but not in 'train'.")
