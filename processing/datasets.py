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
    bands ?             list of {name, kind ?, center_nm ?, fwhm_nm ?, polarisation ?}, one for each channel, as in `Band`;
                        "optical" = reflective. A radar band's polarisation may stand in its name (VV). null = unknown
    band_sets ?         {set: list as in bands} where the images of a sample differ; `bands` serves images without a set
    value_scale ?       physical value = stored value x value_scale in reflective bands, the others hold physical values;
                        without it, a scale and offset in the raster count
    nodata ?            stored value of missing pixels, for rasters that declare none
    gsd_m ?             metres a pixel; null = what the georeference of the raster tells
    classes ?           list of {id, name} of the semantic labels, ids 0 to 254; needed by the semantic tasks
    change_classes ?    list of {id, name}; id 0 must mean unchanged and id 1 changed, there are no others
    ignore_index ?      value of label pixels that nobody labelled; 255 unless given
    samples             list of
        id, height, width
        images          list of {path, timestamp ?, band_set ?}; timestamp in ISO 8601, null = unknown (date tags of the
                        raster do not count). Listed in any order; a `Sample` has them oldest first, unknown dates in place
        labels          {semantic ?, change ?, semantic_per_time ?}
                            semantic: path of one map that describes all images together
                            change: path of the change between the first and the last image listed: 0, 1
                            semantic_per_time: list of {path, image_indices}, one map for a date or a group of dates
        task ?          what the sample is for; without it, all of `tasks` that its labels serve
        gsd_m ?         in place of that of the data set
    splits              {split: list of sample ids}; a sample is in one split at most

Paths are relative to the folder.
"""

import json
import operator
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .metadata import POLARISATIONS, Acquisition, Band, ImageSeries, MetadataError, parse_datetime

if TYPE_CHECKING:
    from .raster import RasterSeries

TASKS = ("semantic_segmentation", "binary_change_detection", "semantic_change_detection")
CHANGE_CLASSES = ("unchanged", "changed")
IGNORE_INDEX = 255

# Labelled pixels are counted in blocks of this side, so that one can be drawn without reading a whole label map.
_BLOCK = 256
# Values of an image that statistics hold at once (float32, 64 MiB).
_MAX_VALUES = 2**24
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
    pixel by pixel. Nothing is cached: an item reads its window, and no more, from the rasters. Items may be read by
    several worker processes.

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
        # In shared memory, so that set_epoch reaches workers that live longer than an epoch.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._description = _Description.read(self.root / "dataset.json")
        self.name = self._description.name

        records, self._labelled_blocks = [], []
        images = {}
        for described, task, outputs, label_paths in self._description.select(split, tasks):
            series = self._check_images(described, images)
            record = SampleRecord(
                name=described.name,
                task=task,
                series=series,
                height=described.height,
                width=described.width,
                image_paths=tuple(path for path, _ in described.images),
                outputs=outputs,
                label_paths=label_paths,
                num_labelled=0,
            )
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
        series = replace(record.series, transform=_window_transform(record.series.transform, window))
        if self.load_pixels:
            parts = [
                self._read_image(path, acquisition, window)
                for path, acquisition in zip(record.image_paths, record.series.acquisitions, strict=True)
            ]
            series = replace(
                series,
                pixels=tuple(part.pixels[0] for part in parts),
                valid=tuple(part.valid[0] for part in parts),
            )
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

    def _check_images(self, described: "_Described", images: dict[tuple, tuple]) -> ImageSeries:
        """The series of a sample; `images` remembers the grids of rasters that samples share."""
        acquisitions, first = [], None
        for path, acquisition in described.images:
            key = (path, acquisition)
            if key not in images:
                with self._open(path, acquisition) as raster:
                    series = raster.series
                    images[key] = (raster.height, raster.width, series.crs, series.transform, series.gsd_m)
            height, width, crs, transform, gsd_m = images[key]
            first = first or (path, crs, transform)
            size = (described.height, described.width)
            if (height, width) != size:
                raise DatasetError(
                    f"{described.where}: image {path} measures {height} x {width} pixels, but height and width say "
                    f"{size[0]} x {size[1]}. Set them right, or warp all images of the sample to one grid."
                )
            if crs != first[1] or not _same_transform(transform, first[2], size):
                raise DatasetError(
                    f"{described.where}: images {first[0]} and {path} lie on different grids: {first[1]}, {first[2]} and "
                    f"{crs}, {transform}. Warp them to one grid, for instance with gdalwarp."
                )
            acquisitions.append(replace(acquisition, gsd_m=gsd_m))
        return ImageSeries(acquisitions=tuple(acquisitions), crs=first[1], transform=first[2])

    def _open(self, path: Path, acquisition: Acquisition) -> "RasterSeries":
        # Not at the top: samples of other sources are made where no rasterio is.
        from .raster import RasterError, open_series

        value_scale = self._description.value_scale
        scale = None
        if value_scale is not None:
            scale = [value_scale if band.kind == "reflective" else 1.0 for band in acquisition.bands]
        try:
            return open_series(
                [path],
                bands=acquisition.bands,
                dates=[acquisition.datetime],
                gsd_m=acquisition.gsd_m,
                scale=scale,
            )
        except (RasterError, MetadataError) as error:
            raise DatasetError(f"{self._description.path}: {error}") from error

    def _read_image(self, path: Path, acquisition: Acquisition, window: Window) -> ImageSeries:
        with self._open(path, acquisition) as raster:
            return raster.read(*window)

    def _count_labels(self, record: SampleRecord) -> np.ndarray:
        """Labelled pixels in each block of the grid, (rows of blocks, columns of blocks); checks all labels on the way."""
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

    Each raster counts once, however many samples share it, and is read strip by strip; labels play no role. Sums are
    float64, combined by the method of Chan, Golub and LeVeque (Updating formulae and a pairwise algorithm for computing
    sample variances, 1979), which loses no digits on large offsets.

    Args:
        dataset: a split; its crops are ignored.

    Returns:
        For each band name `mean` and `std` (of the population), in the units of the samples, and `center_nm` in
        nanometres (`None` = none or unknown).

    Raises:
        DatasetError: bands of one name differ in wavelength or kind, or a band has no valid pixel.
    """
    bands: dict[str, Band] = {}
    rasters = {}
    for record in dataset.samples:
        for path, acquisition in zip(record.image_paths, record.series.acquisitions, strict=True):
            rasters.setdefault((path, acquisition.bands), (acquisition, record))
            for band in acquisition.bands:
                known = bands.setdefault(band.name, band)
                if (known.center_nm, known.type) != (band.center_nm, band.type):
                    raise DatasetError(
                        f"Data set {dataset.name!r} has two bands {band.name!r}: {known.type} at {known.center_nm} nm and "
                        f"{band.type} at {band.center_nm} nm. Statistics are kept by name: give them different names."
                    )
    count = dict.fromkeys(bands, 0)
    mean, squares = dict.fromkeys(bands, 0.0), dict.fromkeys(bands, 0.0)
    for (path, _), (acquisition, record) in rasters.items():
        rows = max(1, _MAX_VALUES // (record.width * len(acquisition.bands)))
        for top in range(0, record.height, rows):
            part = dataset._read_image(path, acquisition, (top, 0, min(rows, record.height - top), record.width))
            for band, array in zip(acquisition.bands, part.pixels[0], strict=True):
                values = array[part.valid[0] & np.isfinite(array)].astype(np.float64)
                if values.size:
                    name, before = band.name, count[band.name]
                    count[name] = before + values.size
                    shift = values.mean() - mean[name]
                    mean[name] += shift * values.size / count[name]
                    squares[name] += values.var() * values.size + shift**2 * before * values.size / count[name]
    if empty := [name for name, number in count.items() if not number]:
        raise DatasetError(
            f"Bands {', '.join(empty)} of data set {dataset.name!r}, split {dataset.split!r}, hold no valid pixel. Take "
            "them out of dataset.json and the rasters, or correct nodata."
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
class _Described:
    """A sample as dataset.json has it, dates in order."""

    where: str
    name: str
    height: int
    width: int
    images: tuple[tuple[Path, Acquisition], ...]
    targets: dict[str, tuple[tuple[tuple[int, ...], Path], ...]]  # task -> (output, label map) for each map
    task: str | None


@dataclass(frozen=True)
class _Description:
    """A dataset.json whose keys and values are all as they must be; files that it names are not looked at."""

    path: Path
    name: str
    tasks: tuple[str, ...]
    value_scale: float | None
    nodata: float | None
    class_ids: tuple[int, ...]
    class_names: tuple[str, ...]
    ignore_index: int
    samples: dict[str, _Described]
    splits: dict[str, tuple[str, ...]]

    @classmethod
    def read(cls, path: Path) -> "_Description":
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise DatasetError(f"{path} does not exist. Name the folder that holds a dataset.json.") from error
        except (OSError, ValueError) as error:
            raise DatasetError(f"{path} cannot be read as JSON: {error}.") from error
        if not isinstance(document, dict):
            raise DatasetError(
                f"{path} holds a {type(document).__name__}; an object with the documented keys is needed."
            )
        where = str(path)
        tasks = tuple(_get(document, "tasks", list, where, f"a list out of {', '.join(TASKS)}"))
        for task in tasks:
            if task not in TASKS:
                raise DatasetError(f"{where}: tasks names {task!r}; known tasks are {', '.join(TASKS)}.")
        if not tasks:
            raise DatasetError(f"{where}: tasks is empty; name at least one out of {', '.join(TASKS)}.")
        ignore_index = _get(document, "ignore_index", int, where, "an integer 0 to 255", default=IGNORE_INDEX)
        if not 0 <= ignore_index <= 255:
            raise DatasetError(f"{where}: ignore_index is {ignore_index}; an integer 0 to 255 is needed.")
        classes = _classes(document, "classes", where, ignore_index)
        changes = _classes(document, "change_classes", where, ignore_index)
        if not classes and set(tasks) != {"binary_change_detection"}:
            raise DatasetError(f"{where}: classes is missing; semantic tasks need a list of {{id, name}}. Add it.")
        if changes and sorted(changes) != [0, 1]:
            raise DatasetError(
                f"{where}: change_classes has the ids {', '.join(map(str, changes))}; they must be 0 (unchanged) and 1 "
                "(changed). Rewrite the change maps with these values."
            )
        if "binary_change_detection" in tasks and ignore_index in (0, 1):
            raise DatasetError(
                f"{where}: ignore_index is {ignore_index}, which in change maps means unchanged or changed."
            )
        sets = {
            name: _bands(records, f"{where}: band_sets[{name!r}]")
            for name, records in _get(document, "band_sets", dict, where, "an object of band lists", default={}).items()
        }
        if document.get("bands") is not None:
            sets[None] = _bands(document["bands"], f"{where}: bands")
        samples: dict[str, _Described] = {}
        for index, record in enumerate(_get(document, "samples", list, where, "a list of samples")):
            sample = _described(record, f"{path}: samples[{index}]", path.parent, document, tasks, sets)
            if sample.name in samples:
                raise DatasetError(f"{sample.where}: another sample has this id too. Ids must be unique.")
            samples[sample.name] = sample
        return cls(
            path=path,
            name=_get(document, "name", str, where, "a text"),
            tasks=tasks,
            value_scale=_get(document, "value_scale", (int, float), where, "a number", default=None),
            nodata=_get(document, "nodata", (int, float), where, "a number", default=None),
            class_ids=tuple(classes),
            class_names=tuple(classes.values()),
            ignore_index=ignore_index,
            samples=samples,
            splits=_splits(document, where, samples),
        )

    def positions(self, task: str) -> dict[int, int]:
        """Position of each value that label maps of the task may hold."""
        ids = (0, 1) if task == "binary_change_detection" else self.class_ids
        return {**{value: position for position, value in enumerate(ids)}, self.ignore_index: IGNORE_INDEX}

    def select(self, split: str, tasks: Sequence[str] | None) -> list[tuple[_Described, str]]:
        """Samples of a split, each with a task."""
        known = "; ".join(f"{name!r} ({len(ids)} samples)" for name, ids in self.splits.items()) or "none"
        if not self.splits.get(split):
            state = "is empty" if split in self.splits else "does not exist"
            raise DatasetError(f"{self.path}: split {split!r} {state}; there are {known}. Name one that has samples.")
        if isinstance(tasks, str):
            raise DatasetError(f"tasks is the text {tasks!r}; give a sequence of names, such as ({tasks!r},).")
        for task in tasks or ():
            if task not in self.tasks:
                raise DatasetError(f"Task {task!r} was asked for; {self.path} lists {', '.join(self.tasks)}.")
        selected = []
        for name in self.splits[split]:
            sample = self.samples[name]
            wanted = self.tasks if sample.task is None else (sample.task,)
            selected += [(sample, task) for task in tasks or wanted if task in sample.targets]
        if not selected:
            raise DatasetError(
                f"{self.path}: no sample of split {split!r} has labels for {', '.join(tasks or self.tasks)}. Splits are "
                f"{known}."
            )
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


def _items(record: Any, key: str, where: str, expected: str) -> list:
    values = _get(record, key, list, where, expected)
    if not values:
        raise DatasetError(f"{where}: {key} is empty; {expected} is expected.")
    return values


def _bands(records: Any, where: str) -> tuple[Band, ...]:
    if not isinstance(records, list) or not records:
        raise DatasetError(f"{where} is {records!r}; a list of at least one band record is expected.")
    bands = {}
    for index, record in enumerate(records):
        try:
            band = Band.from_dict(record)
        except MetadataError as error:
            raise DatasetError(f"{where}[{index}]: {error}") from error
        named = set(_POLARISATION.findall(band.name.upper()))
        if band.kind == "sar" and band.polarisation is None and len(named) == 1:
            band = replace(band, polarisation=named.pop())
        if bands.setdefault(band.name, band) is not band:
            raise DatasetError(
                f"{where}[{index}]: there is another band {band.name!r}. Names must be unique in a list."
            )
    return tuple(bands.values())


def _classes(document: dict, key: str, where: str, ignore_index: int) -> dict[int, str]:
    """Names by id, in the order of the list."""
    classes = {}
    for index, record in enumerate(_get(document, key, list, where, "a list of {id, name}", default=[])):
        place = f"{where}: {key}[{index}]"
        number = _get(record, "id", int, place, "an integer 0 to 254")
        name = _get(record, "name", str, place, "a text")
        if not 0 <= number < IGNORE_INDEX or number == ignore_index:
            raise DatasetError(
                f"{place}: id is {number}; an integer 0 to {IGNORE_INDEX - 1} other than ignore_index ({ignore_index}) is "
                "needed. Renumber the label maps."
            )
        if number in classes or name in classes.values():
            raise DatasetError(f"{place}: id {number} or name {name!r} is taken by another class. Both must be unique.")
        classes[number] = name
    return classes


def _splits(document: dict, where: str, samples: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    splits, homes = {}, {}
    for split in _get(document, "splits", dict, where, "an object of lists of sample ids"):
        names = _get(document["splits"], split, list, f"{where}: splits", "a list of sample ids")
        for name in names:
            if not isinstance(name, str) or name not in samples:
                raise DatasetError(
                    f"{where}: split {split!r} names {name!r}, which is the id of no sample. Correct it."
                )
            if name in homes:
                raise DatasetError(
                    f"{where}: sample {name!r} stands in split {homes[name]!r} and again in {split!r}. Keep one of the two."
                )
            homes[name] = split
        splits[split] = tuple(names)
    return splits


def _described(
    record: Any,
    where: str,
    root: Path,
    document: dict,
    tasks: Sequence[str],
    sets: Mapping[str | None, tuple[Band, ...]],
) -> _Described:
    name = _get(record, "id", str, where, "a text")
    where = f"{where} ({name!r})"
    gsd_m = record.get("gsd_m", document.get("gsd_m"))
    images = []
    for index, image in enumerate(_items(record, "images", where, "a list of {path, timestamp, band_set}")):
        place = f"{where}: images[{index}]"
        band_set = _get(image, "band_set", str, place, "the name of a band set", default=None)
        if band_set not in sets:
            known = ", ".join(repr(name) for name in sets if name is not None) or "none"
            missing = (
                "names no band_set, and there are no bands" if band_set is None else f"names band_set {band_set!r}"
            )
            raise DatasetError(f"{place} {missing}; band_sets has {known}. Describe its bands in dataset.json.")
        try:
            timestamp = _get(image, "timestamp", str, place, "an ISO 8601 date", default=None)
            acquisition = Acquisition(bands=sets[band_set], datetime=parse_datetime(timestamp), gsd_m=gsd_m)
        except MetadataError as error:
            raise DatasetError(f"{place}: {error}") from error
        images.append((root / _get(image, "path", str, place, "the path of a raster"), acquisition))

    # Known dates are sorted among the places that they hold; unknown ones keep theirs.
    dated = [index for index, (_, acquisition) in enumerate(images) if acquisition.datetime is not None]
    order = list(range(len(images)))
    for place, index in zip(dated, sorted(dated, key=lambda index: images[index][1].datetime), strict=True):
        order[place] = index
    targets = _targets(record, where, root, [order.index(index) for index in range(len(images))])

    task = _get(record, "task", str, where, "a task", default=None)
    if task is not None and task not in tasks:
        raise DatasetError(f"{where}: task is {task!r}; tasks of this data set are {', '.join(tasks)}.")
    if not any(wanted in targets for wanted in ((task,) if task else tasks)):
        raise DatasetError(
            f"{where}: its labels ({', '.join(record['labels']) or 'none'}) do not serve {task or ', '.join(tasks)}. "
            "semantic_segmentation needs semantic or semantic_per_time, binary_change_detection needs change and two "
            "images, semantic_change_detection needs two maps in semantic_per_time."
        )
    return _Described(
        where=where,
        name=name,
        height=_size(record, "height", where),
        width=_size(record, "width", where),
        images=tuple(images[index] for index in order),
        targets=targets,
        task=task,
    )


def _size(record: dict, key: str, where: str) -> int:
    value = _get(record, key, int, where, "a number of pixels, 1 or more")
    if value < 1:
        raise DatasetError(f"{where}: {key} is {value}; a number of pixels, 1 or more, is expected.")
    return value


def _targets(
    record: dict, where: str, root: Path, position: Sequence[int]
) -> dict[str, tuple[tuple[tuple[int, ...], Path], ...]]:
    """For each task that the labels serve, (output, label map) pairs; `position` is where each image listed has gone."""
    labels = _get(record, "labels", dict, where, "an object {semantic, change, semantic_per_time}")
    where = f"{where}: labels"
    targets = {}
    per_time = []
    for index, entry in enumerate(_get(labels, "semantic_per_time", list, where, "a list", default=[])):
        place = f"{where}: semantic_per_time[{index}]"
        path = root / _get(entry, "path", str, place, "the path of a label map")
        described = _items(entry, "image_indices", place, "a list of positions in images")
        if len(set(described)) < len(described) or not all(
            type(i) is int and 0 <= i < len(position) for i in described
        ):
            raise DatasetError(
                f"{place}: image_indices is {described}; positions 0 to {len(position) - 1}, each once, are allowed."
            )
        per_time.append((tuple(sorted(position[i] for i in described)), path))
    if per_time:
        per_time.sort()
        targets["semantic_segmentation"] = tuple(per_time)
    if len(per_time) > 1:
        targets["semantic_change_detection"] = tuple(per_time)
    if path := _get(labels, "semantic", str, where, "the path of a label map", default=None):
        targets["semantic_segmentation"] = ((tuple(range(len(position))), root / path),)
    path = _get(labels, "change", str, where, "the path of a label map", default=None)
    if path and len(position) > 1:
        targets["binary_change_detection"] = ((tuple(sorted((position[0], position[-1]))), root / path),)
    return targets


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


def _same_transform(one: tuple[float, ...] | None, other: tuple[float, ...] | None, size: tuple[int, int]) -> bool:
    """Whether the corners of the two grids agree to a thousandth of a pixel."""
    if one is None or other is None:
        return one is other
    height, width = size
    a, b, c, d, e, f = (x - y for x, y in zip(one, other, strict=True))
    pixel = max(abs(one[0]), abs(one[1]), abs(one[3]), abs(one[4]))
    corners = [(0, 0), (width, 0), (0, height), (width, height)]
    return all(max(abs(a * x + b * y + c), abs(d * x + e * y + f)) <= 1e-3 * pixel for x, y in corners)


def _read_label(path: Path, record: SampleRecord, window: Window) -> np.ndarray:
    """Stored values of a label map, (height, width) integers."""
    import rasterio

    row, column, height, width = window
    try:
        with rasterio.open(path) as raster:
            if (raster.height, raster.width) != (record.height, record.width):
                raise DatasetError(
                    f"Label map {path} measures {raster.height} x {raster.width} pixels, sample {record.name!r} "
                    f"{record.height} x {record.width}. Bring the label map to the grid of the images."
                )
            if raster.count != 1 or np.dtype(raster.dtypes[0]).kind not in "iu":
                raise DatasetError(
                    f"Label map {path} has {raster.count} bands of {raster.dtypes[0]}; one band of integers is needed, "
                    "whose values are ids of classes."
                )
            return raster.read(1, window=rasterio.windows.Window(column, row, width, height))
    except rasterio.errors.RasterioError as error:
        raise DatasetError(f"Label map {path} of sample {record.name!r} cannot be read: {error}.") from error
