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
"""Whether a split can be trained or scored on: one function that training and inspection both ask."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..metadata import TASKS, ImageSeries
from .description import DatasetDescription
from .fields import DatasetError
from .label_summary import LabelSummary
from .reader import SampleReader
from .samples import SampleRecord

# The split that training reads; the others are scored.
TRAINING_SPLIT = "train"
# Memory for where the samples of a split are labelled (64 MiB).
_MASK_BYTES = 2**26


@dataclass
class CheckedSplit:
    """A split whose rasters were opened and whose labels were read.

    Args:
        split: its name.
        samples: records with what their rasters state, one for each sample and task whose labels can be read.
        labels: what each of them labels.
        series: metadata of the images that can be read, by name of the sample.
        faults: why the split cannot be used, each naming a sample, a file or the split.
        notes: what may be meant.
    """

    split: str
    samples: list[SampleRecord] = field(default_factory=list)
    labels: list[LabelSummary] = field(default_factory=list)
    series: dict[str, ImageSeries] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks of the samples."""
        return tuple(task for task in TASKS if any(record.task == task for record in self.samples))

    def class_counts(self, task: str) -> np.ndarray:
        """(classes + 1,) int64: pixels of each class of a task, then those without a label."""
        pairs = zip(self.samples, self.labels, strict=True)
        counts: np.ndarray = np.sum([labels.counts for record, labels in pairs if record.task == task], axis=0)
        return counts


def check_split(
    reader: SampleReader,
    split: str,
    tasks: Sequence[str] | None = None,
    *,
    collect: bool = False,
    on_sample: Callable[[], object] = lambda: None,
) -> CheckedSplit:
    """Opens all rasters of a split, reads all its labels, and looks for what makes it useless.

    Args:
        reader: reads the files.
        split: name of the split.
        tasks: the tasks wanted; `None` = as `dataset.json` says.
        collect: whether all faults are collected, rather than the first one raised.
        on_sample: called after each sample, for a progress bar.

    Raises:
        DatasetError: there is no such split or task, or, unless they are collected, the first fault.
    """
    checked = CheckedSplit(split)
    free_bytes = _MASK_BYTES
    noted: set[str] = set()
    for described in reader.description.select(split, tasks):
        record = described
        try:
            record = reader.resolve_images(described)
            checked.series[record.name] = record.series
        except DatasetError as error:
            _note_fault(checked, error, collect)
        try:
            labels = reader.summarise_labels(record, free_bytes)
            free_bytes -= labels.num_bytes
            checked.samples.append(replace(record, num_labelled=labels.num_labelled))
            checked.labels.append(labels)
            _note_nodata_ids(checked, reader, record, noted)
        except DatasetError as error:
            _note_fault(checked, error, collect)
        on_sample()
    if not checked.faults:
        _check_labels(checked, reader.description, collect)
    return checked


def _note_fault(checked: CheckedSplit, error: DatasetError, collect: bool) -> None:
    if not collect:
        raise error
    # Images that several tasks share have the same fault for each.
    if str(error) not in checked.faults:
        checked.faults.append(str(error))


def _check_labels(checked: CheckedSplit, description: DatasetDescription, collect: bool) -> None:
    """Looks for labels that teach or score nothing."""
    if not any(record.num_labelled for record in checked.samples):
        error = DatasetError(
            f"{description.path}: no pixel of split {checked.split!r} has a label; all are {description.ignore_index}, "
            "the ignore_index, or left out by a mask. Give it samples with labels, or set ignore_index right."
        )
        _note_fault(checked, error, collect)
        return
    for record in checked.samples:
        if not record.num_labelled:
            checked.notes.append(
                f"Sample {record.name!r} of split {checked.split!r} has no labelled pixel for {record.task} "
                f"({', '.join(map(str, record.label_paths))})."
            )
    for task in checked.tasks:
        _check_both_classes(checked, description, task, collect)


def _note_nodata_ids(checked: CheckedSplit, reader: SampleReader, record: SampleRecord, noted: set[str]) -> None:
    """Notes that label maps call a class nodata, once for each class."""
    ids, names = reader.description.class_ids_of(record.task), reader.description.class_names_of(record.task)
    for path, number in reader.nodata_ids(record).items():
        name = names[ids.index(number)]
        if name not in noted:
            noted.add(name)
            checked.notes.append(
                f"Label map {path} of split {checked.split!r} calls {number} nodata, which is the id of {name!r}: its "
                "pixels count as labelled."
            )


def _check_both_classes(checked: CheckedSplit, description: DatasetDescription, task: str, collect: bool) -> None:
    """Refuses labels of one class out of two: nothing is learned from it, and the other one may be written as 255."""
    names, ids = description.class_names_of(task), description.class_ids_of(task)
    *counts, unlabelled = map(int, checked.class_counts(task))
    if len(names) != 2 or all(counts) or not any(counts):
        return
    missing = counts.index(0)
    problem = (
        f"{description.path}: split {checked.split!r}: no pixel is labelled {names[missing]!r} for {task}, all are "
        f"{names[1 - missing]!r}"
    )
    if unlabelled:
        ignored = description.ignore_index
        message = (
            f"{problem} or not labelled ({unlabelled} pixels). If {ignored}, the ignore_index, stands for "
            f"{names[missing]!r} in the label maps, rewrite it as {ids[missing]}, or set ignore_index to a value that "
            f"they do not hold and give {names[missing]!r} the id {ignored}. Else add a sample that shows it."
        )
        _note_fault(checked, DatasetError(message), collect)
    elif checked.split == TRAINING_SPLIT:
        _note_fault(checked, DatasetError(f"{problem}. Add a sample that shows {names[missing]!r}."), collect)
    else:
        checked.notes.append(f"{problem}.")
