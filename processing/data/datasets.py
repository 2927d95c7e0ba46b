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

The format of such a folder is described at the top of `dataset_description`.
"""

import math
import operator
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..metadata import CHANGE_CLASSES, IGNORE_INDEX, TASKS, Band, ImageSeries, MetadataError, window_transform
from .description import DatasetDescription, DatasetError, SampleRecord

if TYPE_CHECKING:
    from ..rasters.series import RasterSeries

# Labelled pixels are counted in blocks of this side, so that one can be drawn without reading a whole label map.
_BLOCK = 256
# Label maps come out of many tools, whose transforms differ by rounding.
_MAX_SHIFT_PIXELS = 0.01
# Values of an image that statistics hold at once (float32, 64 MiB).
_MAX_VALUES = 2**24
# Pixels of a sample that is read whole and kept.
_SMALL_BYTES = 2**25

Window = tuple[int, int, int, int]


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


class SampleReader:
    """Reads and checks the files that a dataset.json names, window by window.

    Args:
        description: the dataset.json.
    """

    def __init__(self, description: DatasetDescription) -> None:
        self.description = description

    def check_images(self, record: SampleRecord) -> ImageSeries:
        """The series, with what its rasters tell."""
        with self._open(record) as raster:
            if (raster.height, raster.width) != (record.height, record.width):
                raise DatasetError(
                    f"{self.description.path}: images of sample {record.name!r} ({record.image_paths[0]}) measure "
                    f"{raster.height} x {raster.width} pixels, but height and width say "
                    f"{record.height} x {record.width}. Set them right."
                )
            return raster.series

    @contextmanager
    def _open(self, record: SampleRecord, stored: bool = False) -> Iterator["RasterSeries"]:
        """Opens the images of a sample, in physical units or as stored."""
        # Not at the top: samples of other sources are made where no rasterio is.
        from ..rasters.records import RasterError
        from ..rasters.series import open_series

        acquisitions, value_scale = record.series.acquisitions, self.description.value_scale
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
            raise DatasetError(f"{self.description.path}: images of sample {record.name!r}: {error}") from error

    def read_images(self, record: SampleRecord, window: Window) -> ImageSeries:
        """A window of the images, with pixels."""
        nodata = self.description.nodata
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

    def count_labels(self, record: SampleRecord) -> np.ndarray:
        """Labelled pixels of each block, (rows of blocks, columns of blocks); checks all labels on the way."""
        counts = []
        for top in range(0, record.height, _BLOCK):
            strip = self.read_labels(record, (top, 0, min(_BLOCK, record.height - top), record.width))
            labelled = (strip != IGNORE_INDEX).any(0).sum(0)
            counts.append(np.add.reduceat(labelled, np.arange(0, record.width, _BLOCK)))
        return np.stack(counts)

    def count_classes(self, record: SampleRecord) -> np.ndarray:
        """Pixels of each class, and last those without a label, over all maps; checks all labels on the way."""
        counts = np.zeros(IGNORE_INDEX + 1, dtype=np.int64)
        for top in range(0, record.height, _BLOCK):
            window = (top, 0, min(_BLOCK, record.height - top), record.width)
            counts += np.bincount(self.read_labels(record, window).ravel(), minlength=len(counts))
        num_classes = len(self.description.positions(record.task)) - 1
        return np.append(counts[:num_classes], counts[IGNORE_INDEX])

    def read_labels(self, record: SampleRecord, window: Window) -> np.ndarray:
        """(maps, height, width) uint8 positions in the classes."""
        positions = self.description.positions(record.task)
        maps = []
        for path in record.label_paths:
            values = _read_label(path, record, window)
            outside = np.setdiff1d(values, np.fromiter(positions, dtype=np.int64))
            if outside.size:
                raise DatasetError(
                    f"Label map {path} of sample {record.name!r} holds {', '.join(map(str, outside[:10]))}; "
                    f"{', '.join(map(str, sorted(positions)))} are allowed (the ids of the classes, and ignore_index "
                    f"{self.description.ignore_index}). Correct the map, or add the class to dataset.json."
                )
            lookup = np.full(IGNORE_INDEX + 1, IGNORE_INDEX, dtype=np.uint8)
            lookup[list(positions)] = list(positions.values())
            maps.append(lookup[values])
        return np.stack(maps)


class FolderDataset(torch.utils.data.Dataset):
    """Samples of one split of a folder (the format is described at the top of `dataset_description`).

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
        self._cache: dict[tuple[tuple[Path, ...], ImageSeries], ImageSeries] = {}
        self._cache_size = 0
        # In shared memory, so that set_epoch reaches workers that live longer than an epoch.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._description = DatasetDescription.read(self.root / "dataset.json")
        self._reader = self.reader_class(self._description)
        self.name = self._description.name

        records, self._labelled_blocks = [], []
        for described in self._description.select(split, tasks):
            record = replace(described, series=self._reader.check_images(described))
            blocks = self._reader.count_labels(record)
            records.append(replace(record, num_labelled=int(blocks.sum())))
            self._labelled_blocks.append(blocks)
        if not any(record.num_labelled for record in records):
            raise DatasetError(
                f"{self._description.path}: no pixel of split {split!r} has a label; all are "
                f"{self._description.ignore_index}, the ignore_index. Give it samples with labels, or set ignore_index "
                "right."
            )
        self.unlabelled: tuple[str, ...] = tuple(record.name for record in records if not record.num_labelled)
        if labelled_only:
            pairs = zip(records, self._labelled_blocks, strict=True)
            records, self._labelled_blocks = zip(*(pair for pair in pairs if pair[0].num_labelled), strict=True)
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
        return self.read(position // self.crops_per_image, self._window(position))

    def read(self, number: int, window: Window) -> Sample:
        """Reads a window (first row, first column, height, width) of the sample of that number."""
        record = self.samples[number]
        if self.load_pixels:
            series = self._cached(record, window) or self._reader.read_images(record, window)
        else:
            series = replace(record.series, transform=window_transform(record.series.transform, *window[:2]))
        return Sample(
            series=series,
            task=record.task,
            classes=self.class_names(record.task),
            outputs=record.outputs,
            labels=self._reader.read_labels(record, window),
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

    def count_classes(self, task: str) -> np.ndarray:
        """(classes,) labelled pixels of each class of a task, in all maps of the split."""
        records = (record for record in self.samples if record.task == task)
        return sum(self._reader.count_classes(record)[:-1] for record in records)

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
            row, column = labelled_pixel(rng, self._reader.read_labels(self.samples[which], part))
            pixel = top + row, left + column
        return crop_window(rng, size, self.crop_size, pixel)

    def _cached(self, record: SampleRecord, window: Window) -> ImageSeries | None:
        """A window of a sample that is kept; `None` if it is too large, or the cache is full."""
        key = record.image_paths, record.series
        if key not in self._cache:
            num_bytes = 4 * record.height * record.width * _num_channels(record)
            if num_bytes > min(_SMALL_BYTES, self.cache_bytes - self._cache_size):
                return None
            self._cache[key] = self._reader.read_images(record, (0, 0, record.height, record.width))
            self._cache_size += num_bytes
        series = self._cache[key].crop(*window)
        # What becomes of the sample must not change what is kept.
        return replace(series, pixels=tuple(map(np.copy, series.pixels)), valid=tuple(map(np.copy, series.valid)))


class Tiles(torch.utils.data.Dataset):
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
            part = dataset._reader.read_images(record, (top, 0, min(rows, record.height - top), record.width))
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


def _crop_size(crop_size: int | Sequence[int] | None) -> tuple[int, int] | None:
    if crop_size is None:
        return None
    sizes = (crop_size, crop_size) if isinstance(crop_size, int) else tuple(crop_size)
    if len(sizes) != 2 or not all(isinstance(size, int) and size > 0 for size in sizes):
        raise DatasetError(f"crop_size is {crop_size!r}; give a number of pixels, or (height, width), or None.")
    return sizes


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
