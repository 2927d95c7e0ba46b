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
    bands ?             list of {name, kind ?, center_nm ?, fwhm_nm ?, polarisation ?}, one for each channel, as in
                        `Band`; kind "optical" = reflective; null = unknown. The polarisation of a radar band may stand
                        in its name (VV)
    band_sets ?         {set: list as in bands} where the images of a sample differ; an image without a set has `bands`
    value_scale ?       physical value = stored value x value_scale in reflective bands, others hold physical values;
                        without it, a scale and offset in the raster count
    nodata ?            stored value of missing pixels, for rasters that declare none
    gsd_m ?             metres a pixel; null = what the georeference of the raster tells
    classes ?           list of {id, name} of the semantic labels, ids 0 to 254; needed by the semantic tasks
    change_classes ?    list of {id, name}: id 0 must mean unchanged and id 1 changed, there are no others
    ignore_index ?      value of label pixels that nobody labelled; 255 unless given
    samples             list of
        id, height, width
        images          list of {path, timestamp ?, band_set ?}, in any order: a `Sample` has them oldest first, unknown
                        dates in their place. timestamp in ISO 8601; null = unknown, whatever the raster says
        labels          {semantic ?, change ?, change_per_pair ?, semantic_per_time ?}
                            semantic: path of one map that describes all images together
                            change: path of the change between the first and the last image listed, values 0 and 1
                            change_per_pair: list of {path, image_indices}, in place of change: one map like it for each
                                of several pairs of images
                            semantic_per_time: list of {path, image_indices}, one map for a date or a group of dates
        task ?          what the sample is for; without it, all of `tasks` that its labels serve
        gsd_m ?         in place of that of the data set
    splits              {split: list of sample ids}; a sample is in one split at most

Paths are relative to the folder.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..metadata import IGNORE_INDEX, POLARISATIONS, TASKS, Acquisition, Band, ImageSeries, MetadataError, parse_datetime

# Radar bands are commonly named after their polarisation: VV, sigma0_VH.
_POLARISATION = re.compile(rf"(?<![A-Z])(?:{'|'.join(POLARISATIONS)})(?![A-Z])")
_REQUIRED = object()


class DatasetError(ValueError):
    """A dataset.json, or a file that it names, cannot be used. The message says where, what is allowed, what to do."""


@dataclass(frozen=True)
class SampleRecord:
    """What is known about one sample of a folder without reading pixels.

    Args:
        name: id of the sample.
        task: what is asked for.
        series: the images' metadata, without pixels.
        height: rows.
        width: columns.
        image_paths: rasters, in the order of the acquisitions.
        outputs: as in [`Sample`].
        label_paths: rasters of the labels, one an output.
        num_labelled: pixels that have a label in one of the maps, or in several.
    """

    name: str
    task: str
    series: ImageSeries
    height: int
    width: int
    image_paths: tuple[Path, ...]
    outputs: tuple[tuple[int, ...], ...]
    label_paths: tuple[Path, ...]
    num_labelled: int


@dataclass(frozen=True)
class DatasetDescription:
    """A dataset.json whose keys and values are all as they must be; the files that it names are not looked at."""

    path: Path
    name: str
    tasks: tuple[str, ...]
    value_scale: float | None
    nodata: float | None
    class_ids: tuple[int, ...]
    class_names: tuple[str, ...]
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
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise DatasetError(f"{path} does not exist. Name the folder that holds a dataset.json.") from error
        except (OSError, ValueError) as error:
            raise DatasetError(f"{path} cannot be read as JSON: {error}.") from error
        where = str(path)
        tasks = tuple(_get(document, "tasks", list, where, f"a list out of {', '.join(TASKS)}"))
        if not tasks or not all(task in TASKS for task in tasks):
            raise DatasetError(f"{where}: tasks is {list(tasks)}; give at least one out of {', '.join(TASKS)}.")
        ignore_index = _get(document, "ignore_index", int, where, "an integer 0 to 255", IGNORE_INDEX)
        if not 0 <= ignore_index <= 255:
            raise DatasetError(f"{where}: ignore_index is {ignore_index}; it must be an integer 0 to 255.")
        classes = _classes(document, "classes", where, ignore_index)
        changes = _classes(document, "change_classes", where, ignore_index)
        if not classes and set(tasks) != {"binary_change_detection"}:
            raise DatasetError(
                f"{where}: classes is missing or empty. Add the list of {{id, name}} of the semantic labels."
            )
        if len(classes) == 1 and set(tasks) != {"binary_change_detection"}:
            raise DatasetError(
                f"{where}: classes holds {', '.join(classes.values())} alone, and nothing to tell it from. Add a class "
                "for the rest (such as background), with an id of its own in the label maps."
            )
        if changes and sorted(changes) != [0, 1]:
            raise DatasetError(
                f"{where}: change_classes has the ids {', '.join(map(str, changes))}; they must be 0 (unchanged) and 1 "
                "(changed). Rewrite the change maps with these values."
            )
        if "binary_change_detection" in tasks and ignore_index in (0, 1):
            raise DatasetError(f"{where}: ignore_index is {ignore_index}, a value that change maps need. Take another.")
        value_scale = _get(document, "value_scale", (int, float), where, "a number above 0", None)
        if value_scale is not None and not 0 < value_scale < math.inf:
            raise DatasetError(f"{where}: value_scale is {value_scale}; it must be a number above 0.")
        sets: dict[str | None, tuple[Band, ...]] = {
            name: _bands(records, f"{where}: band_sets[{name!r}]")
            for name, records in _get(document, "band_sets", dict, where, "an object of band lists", {}).items()
        }
        if "bands" in document:
            sets[None] = _bands(document["bands"], f"{where}: bands")

        records, own_tasks = {}, {}
        for index, sample in enumerate(_get(document, "samples", list, where, "a list of samples")):
            name = _get(sample, "id", str, f"{where}: samples[{index}]", "a text")
            place = f"{where}: sample {name!r}"
            if name in records:
                raise DatasetError(f"{place} occurs twice. Give each sample an id of its own.")
            records[name] = _records(sample, place, path.parent, document.get("gsd_m"), sets)
            own = _get(sample, "task", str, place, f"one of {', '.join(tasks)}", None)
            if own is not None and own not in tasks:
                raise DatasetError(f"{place}: task is {own!r}; tasks of this data set are {', '.join(tasks)}.")
            own_tasks[name] = own
            wanted = tasks if own is None else (own,)
            if not any(task in records[name] for task in wanted):
                raise DatasetError(
                    f"{place}: its labels ({', '.join(sample['labels']) or 'none'}) do not serve "
                    f"{' or '.join(wanted)}. semantic_segmentation needs semantic or semantic_per_time; "
                    "binary_change_detection needs change, or change_per_pair, and two images; "
                    "semantic_change_detection needs semantic_per_time with two maps."
                )
        return cls(
            path=path,
            name=_get(document, "name", str, where, "a text"),
            tasks=tasks,
            value_scale=value_scale,
            nodata=_get(document, "nodata", (int, float), where, "a number", None),
            class_ids=tuple(classes),
            class_names=tuple(classes.values()),
            ignore_index=ignore_index,
            records=records,
            own_tasks=own_tasks,
            splits=_splits(document, where, records),
        )

    def positions(self, task: str) -> dict[int, int]:
        """Position of each value that label maps of the task may hold."""
        ids = (0, 1) if task == "binary_change_detection" else self.class_ids
        return {**{value: position for position, value in enumerate(ids)}, self.ignore_index: IGNORE_INDEX}

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
        selected = []
        for name in self.splits[split]:
            own = self.own_tasks[name]
            wanted = dict.fromkeys(tasks or (self.tasks if own is None else (own,)))
            selected += [self.records[name][task] for task in wanted if task in self.records[name]]
        if not selected:
            raise DatasetError(f"{self.path}: no sample of split {split!r} has labels for {' or '.join(tasks)}.")
        return selected


def _get(
    record: Any, key: str, kinds: type | tuple[type, ...], where: str, expected: str, default: Any = _REQUIRED
) -> Any:
    """The value of a key, checked; `default`, if there is one, stands for a key that is absent or null."""
    if not isinstance(record, dict):
        raise DatasetError(f"{where} is {record!r}; an object with the documented keys is expected.")
    value = record.get(key)
    if value is None and default is not _REQUIRED:
        return default
    if key not in record:
        raise DatasetError(f"{where}: {key} is missing. Add it: {expected}.")
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise DatasetError(f"{where}: {key} is {value!r}; {expected} is expected.")
    return value


def _bands(records: Any, where: str) -> tuple[Band, ...]:
    if not isinstance(records, list) or not records:
        raise DatasetError(f"{where} is {records!r}; a list of at least one band record is expected.")
    bands: dict[str, Band] = {}
    for index, record in enumerate(records):
        try:
            band = Band.from_dict(record)
        except MetadataError as error:
            raise DatasetError(f"{where}[{index}]: {error}") from error
        named = set(_POLARISATION.findall(band.name.upper()))
        if band.kind == "sar" and band.polarisation is None and len(named) == 1:
            band = replace(band, polarisation=named.pop())
        if band.name in bands:
            raise DatasetError(f"{where}[{index}]: a band before it is called {band.name!r} too. Give it another name.")
        bands[band.name] = band
    return tuple(bands.values())


def _classes(document: dict, key: str, where: str, ignore_index: int) -> dict[int, str]:
    """Names by id, in the order of the list."""
    classes: dict[int, str] = {}
    for index, record in enumerate(_get(document, key, list, where, "a list of {id, name}", [])):
        place = f"{where}: {key}[{index}]"
        number = _get(record, "id", int, place, "an integer 0 to 254")
        name = _get(record, "name", str, place, "a text")
        if not 0 <= number < IGNORE_INDEX or number == ignore_index:
            raise DatasetError(
                f"{place}: id is {number}; it must be an integer 0 to 254 other than ignore_index ({ignore_index}). "
                "Renumber the classes here and in the label maps."
            )
        if number in classes or name in classes.values():
            raise DatasetError(
                f"{place}: id {number} or name {name!r} belongs to a class before it. Both must be unique."
            )
        classes[number] = name
    return classes


def _splits(document: dict, where: str, samples: Iterable[str]) -> dict[str, tuple[str, ...]]:
    known, homes = set(samples), {}
    splits = _get(document, "splits", dict, where, "an object of lists of sample ids")
    for split in splits:
        for name in _get(splits, split, list, f"{where}: splits", "a list of sample ids"):
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


def _records(
    sample: dict, where: str, root: Path, gsd_m: float | None, sets: Mapping[str | None, tuple[Band, ...]]
) -> dict[str, SampleRecord]:
    """One record for each task that the labels of a sample serve, dates in order."""
    gsd_m = sample.get("gsd_m", gsd_m)
    size = {}
    for side in ("height", "width"):
        size[side] = _get(sample, side, int, where, "a number of pixels")
        if size[side] < 1:
            raise DatasetError(f"{where}: {side} is {size[side]}; it must be 1 pixel or more.")
    images = []
    for index, image in enumerate(_get(sample, "images", list, where, "a list of {path, timestamp, band_set}")):
        place = f"{where}: images[{index}]"
        path = root / _get(image, "path", str, place, "the path of a raster")
        timestamp = _get(image, "timestamp", str, place, "an ISO 8601 date or null", None)
        band_set = _get(image, "band_set", str, place, "the name of a band set", None)
        if band_set not in sets:
            known = ", ".join(name for name in sets if name is not None) or "none"
            raise DatasetError(
                f"{place}: band_set is {band_set!r}; band_sets are: {known}. Describe the bands there, or in bands for "
                "images without a band_set."
            )
        try:
            images.append((path, Acquisition(sets[band_set], parse_datetime(timestamp), gsd_m)))
        except MetadataError as error:
            raise DatasetError(f"{place}: {error}") from error
    if not images:
        raise DatasetError(f"{where}: images is empty; list at least one.")

    # Known dates are sorted among the places that they hold; unknown ones keep theirs.
    dated = [index for index, (_, acquisition) in enumerate(images) if acquisition.datetime is not None]
    order = list(range(len(images)))
    for place, index in zip(dated, sorted(dated, key=lambda index: images[index][1].datetime), strict=True):
        order[place] = index
    position = [order.index(index) for index in range(len(images))]
    return {
        task: SampleRecord(
            name=sample["id"],
            task=task,
            series=ImageSeries(tuple(images[index][1] for index in order)),
            **size,
            image_paths=tuple(images[index][0] for index in order),
            outputs=tuple(output for output, _ in maps),
            label_paths=tuple(root / path for _, path in maps),
            num_labelled=0,
        )
        for task, maps in _label_maps(sample, where, position).items()
    }


def _label_maps(sample: dict, where: str, position: Sequence[int]) -> dict[str, list[tuple[tuple[int, ...], str]]]:
    """For each task that the labels serve, (output, path) of its maps; images listed have gone to `position`."""
    keys = "{semantic, change, change_per_pair, semantic_per_time}"
    labels = _get(sample, "labels", dict, where, f"an object {keys}")
    where = f"{where}: labels"
    per_time = _maps_of_images(labels, "semantic_per_time", where, position)
    per_pair = _maps_of_images(labels, "change_per_pair", where, position)
    for output, path in per_pair:
        if len(output) != 2:
            raise DatasetError(f"{where}: change_per_pair names {len(output)} images for {path}; two are compared.")
    semantic = _get(labels, "semantic", str, where, "the path of a label map", None)
    change = _get(labels, "change", str, where, "the path of a label map", None)
    if change is not None and per_pair:
        raise DatasetError(f"{where}: change and change_per_pair are both there. Keep the one that is meant.")
    if change is not None and len(position) > 1:
        per_pair = [(tuple(sorted((position[0], position[-1]))), change)]
    maps = {}
    if semantic is not None:
        maps["semantic_segmentation"] = [(tuple(range(len(position))), semantic)]
    elif per_time:
        maps["semantic_segmentation"] = per_time
    if per_pair:
        maps["binary_change_detection"] = per_pair
    if len(per_time) > 1:
        maps["semantic_change_detection"] = per_time
    return maps


def _maps_of_images(labels: dict, key: str, where: str, position: Sequence[int]) -> list[tuple[tuple[int, ...], str]]:
    """(images described, path) of each entry of a list of maps, in the order of the images."""
    maps = []
    for index, entry in enumerate(_get(labels, key, list, where, "a list", [])):
        place = f"{where}: {key}[{index}]"
        path = _get(entry, "path", str, place, "the path of a label map")
        indices = _get(entry, "image_indices", list, place, "a list of positions in images")
        valid = all(type(index) is int and 0 <= index < len(position) for index in indices)
        if not indices or not valid or len(set(indices)) < len(indices):
            raise DatasetError(
                f"{place}: image_indices is {indices}; it must hold some of 0 to {len(position) - 1}, each once."
            )
        maps.append((tuple(sorted(position[index] for index in indices)), path))
    return sorted(maps)
