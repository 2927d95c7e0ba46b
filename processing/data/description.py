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
"""What a dataset.json says: the folder format of labelled series, read and checked.

A folder holds `dataset.json`, images (one raster a date and sensor) and label maps (rasters of one integer band), all
rasters of a sample on one grid. These are the keys of `dataset.json`; `?` marks those that may be left out, and other
keys are notes that nothing reads:

    name                text; also names the band statistics
    tasks               list out of semantic_segmentation, binary_change_detection, semantic_change_detection
    bands ?             list of {name, kind ?, center_nm ?, fwhm_nm ?, polarisation ?, unit ?}, one for each channel, as
                        in `Band`; without kind, a name such as VV or NDVI or the wavelength says it; null = unknown.
                        Each may have scale, offset and nodata of its own, in place of those below
    band_sets ?         {set: list as in bands} where the images of a sample differ; an image without a set has `bands`
    value_scale ?       physical value = stored value x value_scale + value_offset. One number holds for reflective
                        bands, others hold physical values; a list holds for the bands one by one, an object
                        {band name: number} for those that it names. Where neither is given, scale and offset of the
                        raster count
    value_offset ?      see value_scale; a number, a list or an object in the same way
    nodata ?            stored value of missing pixels; rasters whose nodata value is NaN keep that instead
    gsd_m ?             metres a pixel, for rasters whose georeference states none; null = unknown
    classes ?           list of {id, name} of the semantic labels, ids 0 to 255; needed by the semantic tasks
    change_classes ?    list of {id, name}: id 0 must mean unchanged and id 1 (or 255) changed, there are no others
    ignore_index ?      value of label pixels that nobody labelled, the id of no class; 255 unless given
    samples             list of
        id, height, width
        images          list of {path, timestamp ?, band_set ?}, in any order: a `Sample` has them oldest first, unknown
                        dates in their place. timestamp in ISO 8601; without it (or null) the date that the raster
                        states counts
        labels          {semantic ?, change ?, change_per_pair ?, semantic_per_time ?}
                            semantic: path of one map that describes all images together
                            change: path of the change between the first and the last image listed, 0 and 1
                            change_per_pair: list of {path, image_indices}, in place of change: one map like it for each
                                of several pairs of images
                            semantic_per_time: list of {path, image_indices}, one map for a date or a group of dates
        task ?          what the sample is for; without it, all of `tasks` that its labels serve
        gsd_m ?         in place of that of the data set
    splits              {split: list of sample ids}; a sample is in one split at most

Paths are relative to the folder. All this is stated beside what the rasters state themselves: where both speak they
must agree (bands by kind, polarisation and wavelength; scale, offset, nodata and date; gsd_m within a quarter), and the
raster's value is used. Pixels of a label map are not labelled where they hold ignore_index, where the map's own mask or
alpha band leaves them out, and where they hold the map's own nodata value, unless that is the id of a class.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..metadata import CHANGE_CLASSES, IGNORE_INDEX, TASKS
from .band_lists import read_band_lists
from .fields import DatasetError, value_of
from .samples import SampleRecord, read_sample

__all__ = ["DatasetDescription", "DatasetError", "SampleRecord"]

_MAX_ID = 255
_CHANGE_IDS = ([0, 1], [0, 255])


@dataclass(frozen=True)
class DatasetDescription:
    """A dataset.json whose keys and values are all as they must be; the files that it names are not looked at."""

    path: Path
    name: str
    tasks: tuple[str, ...]
    class_ids: tuple[int, ...]
    class_names: tuple[str, ...]
    change_ids: tuple[int, ...]
    ignore_index: int
    records: dict[str, dict[str, SampleRecord]]  # sample id -> task -> record, for all tasks that the labels serve
    own_tasks: dict[str, str | None]
    splits: dict[str, tuple[str, ...]]

    @classmethod
    def read(cls, path: Path) -> "DatasetDescription":
        """Reads and checks a dataset.json.

        Args:
            path: the file.

        Raises:
            DatasetError: there is no such file, or a key or value is wrong.
        """
        document = _document(path)
        where = str(path)
        tasks = _tasks(document, where)
        ignore_index = value_of(document, "ignore_index", int, where, "an integer 0 to 255", IGNORE_INDEX)
        if not 0 <= ignore_index <= _MAX_ID:
            raise DatasetError(f"{where}: ignore_index is {ignore_index}; it must be an integer 0 to 255.")
        classes = _semantic_classes(document, where, ignore_index, tasks)
        change_ids = _change_ids(document, where, ignore_index, tasks)
        band_lists = read_band_lists(document, where)
        records: dict[str, dict[str, SampleRecord]] = {}
        own_tasks: dict[str, str | None] = {}
        for index, sample in enumerate(value_of(document, "samples", list, where, "a list of samples")):
            name = value_of(sample, "id", str, f"{where}: samples[{index}]", "a text")
            place = f"{where}: sample {name!r}"
            if name in records:
                raise DatasetError(f"{place} occurs twice. Give each sample an id of its own.")
            records[name] = read_sample(sample, place, path.parent, document.get("gsd_m"), band_lists)
            own_tasks[name] = _own_task(sample, place, tasks, records[name])
        return cls(
            path=path,
            name=value_of(document, "name", str, where, "a text"),
            tasks=tasks,
            class_ids=tuple(classes),
            class_names=tuple(classes.values()),
            change_ids=change_ids,
            ignore_index=ignore_index,
            records=records,
            own_tasks=own_tasks,
            splits=_splits(document, where, records),
        )

    def class_ids_of(self, task: str) -> tuple[int, ...]:
        """Ids of the classes of a task, as label maps hold them."""
        return self.change_ids if task == "binary_change_detection" else self.class_ids

    def class_names_of(self, task: str) -> tuple[str, ...]:
        """Names of the classes of a task, in the same order."""
        return CHANGE_CLASSES if task == "binary_change_detection" else self.class_names

    def positions(self, task: str) -> dict[int, int]:
        """Position of each value that label maps of the task may hold."""
        positions = {value: position for position, value in enumerate(self.class_ids_of(task))}
        return {**positions, self.ignore_index: IGNORE_INDEX}

    def select(self, split: str, tasks: Sequence[str] | None) -> list[SampleRecord]:
        """The records of a split, sample by sample.

        Args:
            split: name of the split.
            tasks: the tasks wanted; `None` = each sample's own task, or else all that its labels serve.

        Raises:
            DatasetError: no such split or task, or nothing is left.
        """
        known = "; ".join(f"{name} ({len(ids)} samples)" for name, ids in self.splits.items()) or "none"
        if not self.splits.get(split):
            state = "is empty" if split in self.splits else "does not exist"
            raise DatasetError(f"{self.path}: split {split!r} {state}. Splits are: {known}.")
        if isinstance(tasks, str) or (tasks is not None and not tasks):
            raise DatasetError(f"tasks is {tasks!r}; give a list of at least one name, or None for all that fit.")
        for task in tasks or ():
            if task not in self.tasks:
                raise DatasetError(f"Task {task!r} was asked for; tasks of {self.path} are {', '.join(self.tasks)}.")
        selected: list[SampleRecord] = []
        for name in self.splits[split]:
            own = self.own_tasks[name]
            wanted = dict.fromkeys(tasks or (self.tasks if own is None else (own,)))
            selected += [self.records[name][task] for task in wanted if task in self.records[name]]
        if not selected:
            raise DatasetError(f"{self.path}: no sample of split {split!r} has labels for {' or '.join(tasks or ())}.")
        return selected


def _document(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DatasetError(f"{path} does not exist. Name the folder that holds a dataset.json.") from error
    except RecursionError as error:
        raise DatasetError(f"{path} cannot be read as JSON: it is nested too deep.") from error
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read as JSON: {error}.") from error


def _tasks(document: Any, where: str) -> tuple[str, ...]:
    tasks = tuple(value_of(document, "tasks", list, where, f"a list out of {', '.join(TASKS)}"))
    if not tasks or not all(task in TASKS for task in tasks):
        raise DatasetError(f"{where}: tasks is {list(tasks)}; give at least one out of {', '.join(TASKS)}.")
    return tasks


def _classes(document: dict[str, Any], key: str, where: str, ignore_index: int) -> dict[int, str]:
    """Names by id, in the order of the list."""
    classes: dict[int, str] = {}
    for index, record in enumerate(value_of(document, key, list, where, "a list of {id, name}", [])):
        place = f"{where}: {key}[{index}]"
        number = value_of(record, "id", int, place, "an integer 0 to 255")
        name = value_of(record, "name", str, place, "a text")
        if number == ignore_index:
            raise DatasetError(
                f"{place}: id is {number}, which is ignore_index: pixels of this class would count as not labelled. "
                f"Set ignore_index to a value that the label maps do not hold (such as {254 if number == 255 else 255})"
                ", or renumber the class here and in the label maps."
            )
        if not 0 <= number <= _MAX_ID:
            raise DatasetError(
                f"{place}: id is {number}; it must be an integer 0 to 255 other than ignore_index ({ignore_index}). "
                "Renumber the classes here and in the label maps."
            )
        if number in classes or name in classes.values():
            raise DatasetError(
                f"{place}: id {number} or name {name!r} belongs to a class before it. Both must be unique."
            )
        classes[number] = name
    return classes


def _semantic_classes(document: dict[str, Any], where: str, ignore_index: int, tasks: Sequence[str]) -> dict[int, str]:
    classes = _classes(document, "classes", where, ignore_index)
    if set(tasks) == {"binary_change_detection"}:
        return classes
    if not classes:
        raise DatasetError(
            f"{where}: classes is missing or empty. Add the list of {{id, name}} of the semantic labels."
        )
    if len(classes) == 1:
        raise DatasetError(
            f"{where}: classes holds {', '.join(classes.values())} alone, and nothing to tell it from. Add a class for "
            "the rest (such as background), with an id of its own in the label maps."
        )
    return classes


def _change_ids(document: dict[str, Any], where: str, ignore_index: int, tasks: Sequence[str]) -> tuple[int, ...]:
    """Ids of unchanged and changed."""
    changes = sorted(_classes(document, "change_classes", where, ignore_index))
    if changes and changes not in _CHANGE_IDS:
        raise DatasetError(
            f"{where}: change_classes has the ids {', '.join(map(str, changes))}; they must be 0 (unchanged) and 1 or "
            "255 (changed). Rewrite the change maps with these values."
        )
    changes = changes or _CHANGE_IDS[0]
    if "binary_change_detection" in tasks and ignore_index in changes:
        raise DatasetError(f"{where}: ignore_index is {ignore_index}, a value that change maps need. Take another.")
    return tuple(changes)


def _own_task(
    sample: dict[str, Any], place: str, tasks: Sequence[str], records: Mapping[str, SampleRecord]
) -> str | None:
    """The task that a sample names; it must be among those that its labels serve."""
    own: str | None = value_of(sample, "task", str, place, f"one of {', '.join(tasks)}", None)
    if own is not None and own not in tasks:
        raise DatasetError(f"{place}: task is {own!r}; tasks of this data set are {', '.join(tasks)}.")
    wanted = tasks if own is None else (own,)
    if not any(task in records for task in wanted):
        raise DatasetError(
            f"{place}: its labels ({', '.join(sample['labels']) or 'none'}) do not serve {' or '.join(wanted)}. "
            "semantic_segmentation needs semantic or semantic_per_time; binary_change_detection needs change, or "
            "change_per_pair, and two images; semantic_change_detection needs semantic_per_time with two maps."
        )
    return own


def _splits(document: dict[str, Any], where: str, samples: Iterable[str]) -> dict[str, tuple[str, ...]]:
    known = set(samples)
    homes: dict[str, str] = {}
    splits = value_of(document, "splits", dict, where, "an object of lists of sample ids")
    for split in splits:
        for name in value_of(splits, split, list, f"{where}: splits", "a list of sample ids"):
            if not isinstance(name, str) or name not in known:
                raise DatasetError(
                    f"{where}: split {split!r} names {name!r}, the id of no sample. Correct or remove it."
                )
            if name in homes:
                raise DatasetError(
                    f"{where}: sample {name!r} is in split {homes[name]!r} and again in {split!r}. Keep one of the two."
                )
            homes[name] = split
    return {split: tuple(names) for split, names in splits.items()}
