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
"""Labelled series: the [`Sample`] that every source yields, and the folder format described by a dataset.json.

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
        labels          {semantic ?, change ?, semantic_per_time ?}
                            semantic: path of one map that describes all images together
                            change: path of the change between the first and the last image listed, values 0 and 1
                            semantic_per_time: list of {path, image_indices}, one map for a date or a group of dates
        task ?          what the sample is for; without it, all of `tasks` that its labels serve
        gsd_m ?         in place of that of the data set
    splits              {split: list of sample ids}; a sample is in one split at most

Paths are relative to the folder.
"""

import json
import math
import operator
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .metadata import (
    CHANGE_CLASSES,
    IGNORE_INDEX,
    POLARISATIONS,
    TASKS,
    Acquisition,
    Band,
    ImageSeries,
    MetadataError,
    parse_datetime,
)

if TYPE_CHECKING:
    from .raster import RasterSeries


# Labelled pixels are counted in blocks of this side, so that one can be drawn without reading a whole label map.
_BLOCK = 256
# Label maps come out of many tools, whose transforms differ by rounding.
_MAX_SHIFT_PIXELS = 0.01
# Values of an image that statistics hold at once (float32, 64 MiB).
_MAX_VALUES = 2**24
# Pixels of a sample that is read whole and kept.
_SMALL_BYTES = 2**25
# Radar bands are commonly named after their polarisation: VV, sigma0_VH.
_POLARISATION = re.compile(rf"(?<![A-Z])(?:{'|'.join(POLARISATIONS)})(?![A-Z])")
_REQUIRED = object()

Window = tuple[int, int, int, int]


class DatasetError(ValueError):
    """A dataset.json, or a file that it names, cannot be used. The message says where, what is allowed, what to do."""


@dataclass(frozen=True)
class Sample:
    """One labelled image series and what is asked of it.

    Args:
        series: the images, with pixels.
        task: `semantic_segmentation`, `binary_change_detection` or `semantic_change_detection`.
        classes: names of the classes asked for; labels are positions in this tuple.
        outputs: one entry a map. Semantic tasks: positions of the dates that the map describes. Binary change
            detection: (before, after), the two dates between which change is asked for.
        labels: (maps, height, width) uint8, positions in `classes`, 255 = not labelled; `None` where there are none.
        source: name of the data set, which also names its band statistics.
        name: name of the sample.
    """

    series: ImageSeries
    task: str
    classes: tuple[str, ...]
    outputs: tuple[tuple[int, ...], ...]
    labels: np.ndarray | None = None
    source: str | None = None
    name: str = ""


@dataclass(frozen=True)
class SampleRecord:
    """What a [`FolderDataset`] knows about one of its samples without reading pixels.

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


class FolderDataset(torch.utils.data.Dataset):
    """Samples of one split of a folder (the format is described at the top of this module).

    Everything is checked when the data set is made: `dataset.json` as a whole, and all rasters of the split, the labels
    pixel by pixel. An item reads its window, and no more, from the rasters; only small samples (32 MiB of pixels) are
    read whole and kept, as far as `cache_bytes` allows. Items may be read by several worker processes, each of which
    keeps its own.

    Args:
        root: the folder that holds `dataset.json`.
        split: name of a split.
        tasks: the tasks wanted, out of the data set's; each sample then serves all of them that its labels allow,
            whatever its own `task`. `None` = as `dataset.json` says.
        crop_size: height and width in pixels of a random window, or one number for both; a sample with fewer rows or
            columns keeps them all. Windows hold at least one labelled pixel wherever the sample has one. `None` =
            whole samples.
        crops_per_image: windows of each sample in an epoch; items of one sample follow each other.
        seed: together with the epoch and the item's index it fixes the window.
        load_pixels: False leaves the series of each sample without pixels, for work on labels or metadata alone.
        cache_bytes: memory for the pixels of small samples in each process; 0 = none are kept.

    Raises:
        DatasetError: an argument, `dataset.json` or a file that it names is wrong.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        *,
        tasks: Sequence[str] | None = None,
        crop_size: int | tuple[int, int] | None = None,
        crops_per_image: int = 1,
        seed: int = 0,
        load_pixels: bool = True,
        cache_bytes: int = 2**28,
    ) -> None:
        self.root = Path(root)
        self.split = split
        self.crop_size = _crop_size(crop_size)
        if crops_per_image < 1 or (crops_per_image > 1 and self.crop_size is None):
            raise DatasetError(
                f"crops_per_image is {crops_per_image}; it must be 1 or more, and 1 unless crop_size is set."
            )
        if seed < 0:
            raise DatasetError(f"seed must be 0 or more, got {seed}.")
        self.crops_per_image = crops_per_image
        self.seed = seed
        self.load_pixels = load_pixels
        self.cache_bytes = cache_bytes
        self._cache: dict[tuple[tuple[Path, ...], ImageSeries], ImageSeries] = {}
        self._cache_size = 0
        # In shared memory, so that set_epoch reaches workers that live longer than an epoch.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._description = _Description.read(self.root / "dataset.json")
        self.name = self._description.name

        records, self._labelled_blocks = [], []
        for described in self._description.select(split, tasks):
            record = replace(described, series=self._check_images(described))
            blocks = self._count_labels(record)
            records.append(replace(record, num_labelled=int(blocks.sum())))
            self._labelled_blocks.append(blocks)
        if not any(record.num_labelled for record in records):
            raise DatasetError(
                f"{self._description.path}: no pixel of split {split!r} has a label; all are "
                f"{self._description.ignore_index}, the ignore_index. Give it samples with labels, or set ignore_index "
                "right."
            )
        self.samples: tuple[SampleRecord, ...] = tuple(records)
        self.tasks: tuple[str, ...] = tuple(task for task in TASKS if any(record.task == task for record in records))

    def __len__(self) -> int:
        """Items of an epoch."""
        return len(self.samples) * self.crops_per_image

    def __getitem__(self, index: int) -> Sample:
        """Reads one item.

        Args:
            index: position; negative ones count from the end.

        Raises:
            IndexError: there is no such item.
            DatasetError: a file has gone or changed since the data set was made.
        """
        position = operator.index(index)
        position += len(self) if position < 0 else 0
        if not 0 <= position < len(self):
            raise IndexError(f"Item {index} was asked for; there are {len(self)}.")
        record = self.samples[position // self.crops_per_image]
        window = self._window(position)
        if self.load_pixels:
            series = self._cached(record, window) or self._read_images(record, window)
        else:
            series = replace(record.series, transform=_window_transform(record.series.transform, window))
        return Sample(
            series=series,
            task=record.task,
            classes=self.class_names(record.task),
            outputs=record.outputs,
            labels=self._read_labels(record, window),
            source=self.name,
            name=record.name,
        )

    def set_epoch(self, epoch: int) -> None:
        """Draws other windows in epoch `epoch` (0 or more); also in workers that are running already."""
        if epoch < 0:
            raise DatasetError(f"epoch must be 0 or more, got {epoch}.")
        self._epoch.fill_(epoch)

    def class_names(self, task: str) -> tuple[str, ...]:
        """Names of the classes of a task; labels are positions in this tuple.

        Raises:
            DatasetError: no sample of this data set has the task.
        """
        if task not in self.tasks:
            raise DatasetError(f"Task {task!r} is not among those of {self.name!r}: {', '.join(self.tasks)}.")
        return CHANGE_CLASSES if task == "binary_change_detection" else self._description.class_names

    def _window(self, position: int) -> Window:
        which = position // self.crops_per_image
        size = (self.samples[which].height, self.samples[which].width)
        if self.crop_size is None:
            return 0, 0, *size
        rng = np.random.default_rng((self.seed, int(self._epoch), position))
        blocks = self._labelled_blocks[which]
        pixel = None
        if blocks.any():
            block = rng.choice(blocks.size, p=blocks.ravel() / blocks.sum())
            top, left = (int(index) * _BLOCK for index in np.unravel_index(block, blocks.shape))
            part = (top, left, min(_BLOCK, size[0] - top), min(_BLOCK, size[1] - left))
            row, column = labelled_pixel(rng, self._read_labels(self.samples[which], part))
            pixel = top + row, left + column
        return crop_window(rng, size, self.crop_size, pixel)

    def _cached(self, record: SampleRecord, window: Window) -> ImageSeries | None:
        """A window of a sample that is kept; `None` if it is too large, or the cache is full."""
        key = record.image_paths, record.series
        if key not in self._cache:
            num_bytes = 4 * record.height * record.width * _num_channels(record)
            if num_bytes > min(_SMALL_BYTES, self.cache_bytes - self._cache_size):
                return None
            self._cache[key] = self._read_images(record, (0, 0, record.height, record.width))
            self._cache_size += num_bytes
        series = self._cache[key].crop(*window)
        # What becomes of the sample must not change what is kept.
        return replace(series, pixels=tuple(map(np.copy, series.pixels)), valid=tuple(map(np.copy, series.valid)))

    def _check_images(self, record: SampleRecord) -> ImageSeries:
        """The series, with what its rasters tell."""
        with self._open(record) as raster:
            if (raster.height, raster.width) != (record.height, record.width):
                raise DatasetError(
                    f"{self._description.path}: images of sample {record.name!r} ({record.image_paths[0]}) measure "
                    f"{raster.height} x {raster.width} pixels, but height and width say "
                    f"{record.height} x {record.width}. Set them right."
                )
            return raster.series

    @contextmanager
    def _open(self, record: SampleRecord, stored: bool = False) -> Iterator["RasterSeries"]:
        """Opens the images of a sample, in physical units or as stored."""
        # Not at the top: samples of other sources are made where no rasterio is.
        from .raster import RasterError, open_series

        acquisitions, value_scale = record.series.acquisitions, self._description.value_scale
        scale = 1.0 if stored else None
        if value_scale is not None and not stored:
            scale = [[value_scale if band.kind == "reflective" else 1.0 for band in a.bands] for a in acquisitions]
        try:
            with open_series(
                record.image_paths,
                bands=[acquisition.bands for acquisition in acquisitions],
                dates=[acquisition.datetime for acquisition in acquisitions],
                gsd_m=record.series.gsd_m,
                scale=scale,
            ) as raster:
                yield raster
        except (RasterError, MetadataError) as error:
            raise DatasetError(f"{self._description.path}: images of sample {record.name!r}: {error}") from error

    def _read_images(self, record: SampleRecord, window: Window) -> ImageSeries:
        nodata = self._description.nodata
        with self._open(record) as raster:
            series = raster.read(*window)
            declared = {fact.path for fact in raster.facts if fact.name == "nodata" and fact.value is not None}
        undeclared = [date for date, path in enumerate(record.image_paths) if str(path) not in declared]
        if nodata is None or not undeclared:
            return series
        with self._open(record, stored=True) as raster:
            values = raster.read(*window).pixels
        pixels = list(series.pixels)
        for date in undeclared:
            pixels[date] = np.where(values[date] == np.float32(nodata), np.float32(np.nan), pixels[date])
        return replace(series, pixels=tuple(pixels), valid=None)

    def _count_labels(self, record: SampleRecord) -> np.ndarray:
        """Labelled pixels of each block, (rows of blocks, columns of blocks); checks all labels on the way."""
        counts = []
        for top in range(0, record.height, _BLOCK):
            strip = self._read_labels(record, (top, 0, min(_BLOCK, record.height - top), record.width))
            labelled = (strip != IGNORE_INDEX).any(0).sum(0)
            counts.append(np.add.reduceat(labelled, np.arange(0, record.width, _BLOCK)))
        return np.stack(counts)

    def _read_labels(self, record: SampleRecord, window: Window) -> np.ndarray:
        """(maps, height, width) uint8 positions in the classes."""
        positions = self._description.positions(record.task)
        maps = []
        for path in record.label_paths:
            values = _read_label(path, record, window)
            outside = np.setdiff1d(values, np.fromiter(positions, dtype=np.int64))
            if outside.size:
                raise DatasetError(
                    f"Label map {path} of sample {record.name!r} holds {', '.join(map(str, outside[:10]))}; "
                    f"{', '.join(map(str, sorted(positions)))} are allowed (the ids of the classes, and ignore_index "
                    f"{self._description.ignore_index}). Correct the map, or add the class to dataset.json."
                )
            lookup = np.full(IGNORE_INDEX + 1, IGNORE_INDEX, dtype=np.uint8)
            lookup[list(positions)] = list(positions.values())
            maps.append(lookup[values])
        return np.stack(maps)


def band_statistics(dataset: FolderDataset) -> dict[str, dict[str, float | None]]:
    """Mean and standard deviation of each band over the valid pixels of all images of a split.

    Each raster counts once, however many samples share it; samples are read strip by strip. Labels play no role. Sums
    are float64, combined by the method of Chan, Golub and LeVeque (Updating formulae and a pairwise algorithm for
    computing sample variances, 1979), which loses no digits on large offsets.

    Args:
        dataset: a split; its crops are ignored.

    Returns:
        For each band name `mean` and `std` (of the population), in the units of the samples, and `center_nm` in
        nanometres (`None` = none or unknown).

    Raises:
        DatasetError: bands of one name differ in wavelength or kind, or a band has no valid pixel.
    """
    bands: dict[str, Band] = {}
    for record in dataset.samples:
        for band in (band for acquisition in record.series.acquisitions for band in acquisition.bands):
            known = bands.setdefault(band.name, band)
            if (known.center_nm, known.type) != (band.center_nm, band.type):
                raise DatasetError(
                    f"Data set {dataset.name!r} has two bands {band.name!r}: {known.type} at {known.center_nm} nm "
                    f"and {band.type} at {band.center_nm} nm. Statistics go by name: rename one."
                )
    count = dict.fromkeys(bands, 0)
    mean, squares = dict.fromkeys(bands, 0.0), dict.fromkeys(bands, 0.0)
    seen: set[Path] = set()
    for record in dataset.samples:
        new = [date for date, path in enumerate(record.image_paths) if path not in seen]
        seen.update(record.image_paths)
        rows = max(1, _MAX_VALUES // (record.width * _num_channels(record)))
        for top in range(0, record.height if new else 0, rows):
            part = dataset._read_images(record, (top, 0, min(rows, record.height - top), record.width))
            for band, array, valid in (
                (band, array, part.valid[date])
                for date in new
                for band, array in zip(part.acquisitions[date].bands, part.pixels[date], strict=True)
            ):
                values = array[valid & np.isfinite(array)].astype(np.float64)
                if values.size:
                    name, before = band.name, count[band.name]
                    count[name] = before + values.size
                    shift = values.mean() - mean[name]
                    mean[name] += shift * values.size / count[name]
                    squares[name] += values.var() * values.size + shift**2 * before * values.size / count[name]
    if empty := [name for name, number in count.items() if not number]:
        raise DatasetError(
            f"Bands {', '.join(empty)} of data set {dataset.name!r}, split {dataset.split!r}, hold no valid pixel. "
            "Take them out of dataset.json and the rasters, or correct nodata."
        )
    return {
        name: {
            "mean": float(mean[name]),
            "std": float(np.sqrt(squares[name] / count[name])),
            "center_nm": band.center_nm,
        }
        for name, band in bands.items()
    }


def labelled_pixel(rng: np.random.Generator, labels: np.ndarray) -> tuple[int, int] | None:
    """Draws one of the pixels that some map labels, each equally likely.

    Args:
        rng: source of randomness.
        labels: (maps, height, width), 255 = not labelled.

    Returns:
        Row and column, or `None` if nothing is labelled.
    """
    labelled = np.flatnonzero((labels != IGNORE_INDEX).any(0))
    if not labelled.size:
        return None
    row, column = divmod(int(rng.choice(labelled)), labels.shape[-1])
    return row, column


def crop_window(
    rng: np.random.Generator, size: tuple[int, int], crop_size: tuple[int, int], pixel: tuple[int, int] | None = None
) -> Window:
    """Draws a window that lies inside an image, each place equally likely.

    Args:
        rng: source of randomness.
        size: height and width of the image.
        crop_size: height and width of the window; where the image is smaller, the window is too.
        pixel: row and column that must lie in the window; `None` = any place will do.

    Returns:
        First row, first column, height, width.
    """
    starts, lengths = [], []
    for axis, (full, length) in enumerate(zip(size, crop_size, strict=True)):
        length = min(full, length)
        first, last = 0, full - length
        if pixel is not None:
            first, last = max(first, pixel[axis] - length + 1), min(last, pixel[axis])
        starts.append(int(rng.integers(first, last + 1)))
        lengths.append(length)
    return *starts, *lengths


@dataclass(frozen=True)
class _Description:
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
    def read(cls, path: Path) -> "_Description":
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
                    "binary_change_detection needs change and two images; semantic_change_detection "
                    "needs semantic_per_time with two maps."
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
    labels = _get(sample, "labels", dict, where, "an object {semantic, change, semantic_per_time}")
    where = f"{where}: labels"
    per_time = []
    for index, entry in enumerate(_get(labels, "semantic_per_time", list, where, "a list", [])):
        place = f"{where}: semantic_per_time[{index}]"
        path = _get(entry, "path", str, place, "the path of a label map")
        indices = _get(entry, "image_indices", list, place, "a list of positions in images")
        valid = all(type(index) is int and 0 <= index < len(position) for index in indices)
        if not indices or not valid or len(set(indices)) < len(indices):
            raise DatasetError(
                f"{place}: image_indices is {indices}; it must hold some of 0 to {len(position) - 1}, each once."
            )
        per_time.append((tuple(sorted(position[index] for index in indices)), path))
    per_time.sort()
    semantic = _get(labels, "semantic", str, where, "the path of a label map", None)
    change = _get(labels, "change", str, where, "the path of a label map", None)
    maps = {}
    if semantic is not None:
        maps["semantic_segmentation"] = [(tuple(range(len(position))), semantic)]
    elif per_time:
        maps["semantic_segmentation"] = per_time
    if change is not None and len(position) > 1:
        maps["binary_change_detection"] = [(tuple(sorted((position[0], position[-1]))), change)]
    if len(per_time) > 1:
        maps["semantic_change_detection"] = per_time
    return maps


def _crop_size(crop_size: int | Sequence[int] | None) -> tuple[int, int] | None:
    if crop_size is None:
        return None
    sizes = (crop_size, crop_size) if isinstance(crop_size, int) else tuple(crop_size)
    if len(sizes) != 2 or not all(isinstance(size, int) and size > 0 for size in sizes):
        raise DatasetError(f"crop_size is {crop_size!r}; give a number of pixels, or (height, width), or None.")
    return sizes


def _window_transform(transform: tuple[float, ...] | None, window: Window) -> tuple[float, ...] | None:
    if transform is None:
        return None
    a, b, c, d, e, f = transform
    row, column = window[:2]
    return a, b, c + a * column + b * row, d, e, f + d * column + e * row


def _num_channels(record: SampleRecord) -> int:
    return sum(len(acquisition.bands) for acquisition in record.series.acquisitions)


def _corner_shift(one: Sequence[float], other: Sequence[float], record: SampleRecord) -> float:
    """How many pixels the corners of two grids are apart at most."""
    a, b, c, d, e, f = (x - y for x, y in zip(one, other, strict=True))
    pixel = math.sqrt(abs(other[0] * other[4] - other[1] * other[3]))
    corners = [(x, y) for x in (0, record.width) for y in (0, record.height)]
    return max(math.hypot(a * x + b * y + c, d * x + e * y + f) for x, y in corners) / pixel


def _read_label(path: Path, record: SampleRecord, window: Window) -> np.ndarray:
    """Stored values of a label map, (height, width) integers."""
    import rasterio

    row, column, height, width = window
    try:
        with warnings.catch_warnings():
            # A label map need not be georeferenced.
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            raster = rasterio.open(path)
        with raster:
            if (raster.height, raster.width) != (record.height, record.width):
                raise DatasetError(
                    f"Label map {path} measures {raster.height} x {raster.width} pixels, sample {record.name!r} "
                    f"{record.height} x {record.width}. Bring the label map to the grid of the images."
                )
            here, there = tuple(raster.transform)[:6], record.series.transform
            if there is not None and raster.crs and _corner_shift(here, there, record) > _MAX_SHIFT_PIXELS:
                raise DatasetError(
                    f"Label map {path} does not lie where the images of sample {record.name!r} do: its transform is "
                    f"{here}, theirs {there}. Warp it to their grid, with nearest neighbours."
                )
            if raster.count != 1 or np.dtype(raster.dtypes[0]).kind not in "iu":
                raise DatasetError(
                    f"Label map {path} has {raster.count} bands of {raster.dtypes[0]}; one band of integers is needed, "
                    "whose values are ids of classes."
                )
            return raster.read(1, window=rasterio.windows.Window(column, row, width, height))
    except rasterio.errors.RasterioError as error:
        raise DatasetError(f"Label map {path} of sample {record.name!r} cannot be read: {error}.") from error
