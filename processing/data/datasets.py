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
"""Labelled series: the [`Sample`] that every source yields, and those that a folder holds as files.

The format of such a folder is described at the top of `description`.
"""

import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ..metadata import IGNORE_INDEX, TASKS, ImageSeries, window_transform
from .checks import check_split
from .description import DatasetDescription
from .fields import DatasetError
from .label_summary import LabelSummary
from .reader import SampleReader
from .samples import SampleRecord, Window, num_channels

# Pixels of a sample that is read whole and kept.
_SMALL_BYTES = 2**25


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


class FolderDataset(torch.utils.data.Dataset[Sample]):
    """Samples of one split of a folder (the format is described at the top of `description`).

    Everything is checked when the data set is made: `dataset.json` as a whole, and all rasters of the split, the labels
    pixel by pixel. An item reads its window, and no more, from the rasters; only small samples (32 MiB of pixels) are
    read whole and kept, as far as `cache_bytes` allows. Files stay open between items. Items may be read by several
    worker processes, each of which keeps its own.

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
        labelled_only: leaves out samples in which nothing is labelled; `unlabelled` names them.
        load_pixels: False leaves the series of each sample without pixels, for work on labels or metadata alone.
        cache_bytes: memory for the pixels of small samples in each process; 0 = none are kept.

    Raises:
        DatasetError: an argument, `dataset.json` or a file that it names is wrong.
    """

    # What reads the files; subclasses may name another.
    reader_class: type[SampleReader] = SampleReader

    def __init__(
        self,
        root: str | Path,
        split: str,
        *,
        tasks: Sequence[str] | None = None,
        crop_size: int | tuple[int, int] | None = None,
        crops_per_image: int = 1,
        seed: int = 0,
        labelled_only: bool = False,
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
        # Whole samples by name: their tasks share the images.
        self._cache: dict[str, ImageSeries] = {}
        self._cache_size = 0
        # In shared memory, so that set_epoch reaches workers that live longer than an epoch.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._description = DatasetDescription.read(self.root / "dataset.json")
        self.reader = self.reader_class(self._description)
        self.name = self._description.name

        checked = check_split(self.reader, split, tasks)
        pairs = list(zip(checked.samples, checked.labels, strict=True))
        self.unlabelled: tuple[str, ...] = tuple(record.name for record, _ in pairs if not record.num_labelled)
        if labelled_only:
            pairs = [(record, labels) for record, labels in pairs if record.num_labelled]
        self.samples: tuple[SampleRecord, ...] = tuple(record for record, _ in pairs)
        self._labels: tuple[LabelSummary, ...] = tuple(labels for _, labels in pairs)
        self.tasks: tuple[str, ...] = tuple(task for task in TASKS if any(r.task == task for r in self.samples))

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
        return self.read(position // self.crops_per_image, self._window(position))

    def read(self, number: int, window: Window) -> Sample:
        """Reads a window (first row, first column, height, width) of the sample of that number."""
        record = self.samples[number]
        if self.load_pixels:
            series = self._cached(record, window) or self.reader.read_images(record, window)
        else:
            series = replace(record.series, transform=window_transform(record.series.transform, *window[:2]))
        return Sample(
            series=series,
            task=record.task,
            classes=self.class_names(record.task),
            outputs=record.outputs,
            labels=self.reader.read_labels(record, window),
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
        return self._description.class_names_of(task)

    def count_classes(self, task: str) -> np.ndarray:
        """(classes,) labelled pixels of each class of a task, in all maps of the split."""
        pairs = zip(self.samples, self._labels, strict=True)
        counts: np.ndarray = np.sum([labels.counts[:-1] for record, labels in pairs if record.task == task], axis=0)
        return counts

    def _window(self, position: int) -> Window:
        which = position // self.crops_per_image
        record = self.samples[which]
        size = (record.height, record.width)
        if self.crop_size is None:
            return 0, 0, *size
        rng = np.random.default_rng((self.seed, int(self._epoch), position))
        pixel = self._labels[which].draw(rng, partial(self.reader.read_labels, record))
        return crop_window(rng, size, self.crop_size, pixel)

    def _cached(self, record: SampleRecord, window: Window) -> ImageSeries | None:
        """A window of a sample that is kept; `None` if it is too large, or the cache is full."""
        if record.name not in self._cache:
            num_bytes = 4 * record.height * record.width * num_channels(record)
            if num_bytes > min(_SMALL_BYTES, self.cache_bytes - self._cache_size):
                return None
            self._cache[record.name] = self.reader.read_images(record, (0, 0, record.height, record.width))
            self._cache_size += num_bytes
        series = self._cache[record.name]
        row, column, height, width = window
        rows, columns = slice(row, row + height), slice(column, column + width)
        # What becomes of the sample must not change what is kept.
        return replace(
            series,
            transform=window_transform(series.transform, row, column),
            pixels=tuple(array[:, rows, columns].copy() for array in series.pixels),
            valid=tuple(mask[rows, columns].copy() for mask in series.valid),
        )


class Tiles(torch.utils.data.Dataset[Sample]):
    """All samples of one task of a split, cut into windows that cover each pixel once, for evaluation in batches.

    What is labelled where no date holds data cannot be predicted: it becomes unlabelled.

    Args:
        dataset: a split; its crops are ignored.
        task: one of its tasks.
        size: height and width of a window in pixels; those at the edges are smaller.
    """

    def __init__(self, dataset: FolderDataset, task: str, size: int) -> None:
        if size < 1:
            raise DatasetError(f"size must be 1 pixel or more, got {size}.")
        self.dataset = dataset
        self.windows = [
            (number, (top, left, min(size, record.height - top), min(size, record.width - left)))
            for number, record in enumerate(dataset.samples)
            if record.task == task
            for top in range(0, record.height, size)
            for left in range(0, record.width, size)
        ]

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.windows)

    def __getitem__(self, index: int) -> Sample:
        """Reads one window."""
        sample = self.dataset.read(*self.windows[index])
        return replace(sample, labels=np.where(np.any(sample.series.valid, axis=0), sample.labels, IGNORE_INDEX))


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
    return starts[0], starts[1], lengths[0], lengths[1]


def _crop_size(crop_size: int | Sequence[int] | None) -> tuple[int, int] | None:
    if crop_size is None:
        return None
    sizes = (crop_size, crop_size) if isinstance(crop_size, int) else tuple(crop_size)
    if len(sizes) != 2 or not all(isinstance(size, int) and size > 0 for size in sizes):
        raise DatasetError(f"crop_size is {crop_size!r}; give a number of pixels, or (height, width), or None.")
    return sizes
