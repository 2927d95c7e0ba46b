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
"""Reads and checks the rasters that a dataset.json names, window by window, and keeps them open."""

import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..metadata import ImageSeries, MetadataError
from .description import DatasetDescription
from .fields import DatasetError
from .label_summary import LabelSummary, summarise_labels
from .open_files import OPEN_FILES
from .samples import ImageRecord, SampleRecord, Window, date_order

if TYPE_CHECKING:
    from ..rasters.raster_series import RasterSeries
    from .label_maps import LabelMap


class SampleReader:
    """Reads and checks the files that a dataset.json names.

    Files stay open for the next window, as many as a process may keep; copies of a reader, and those in other
    processes, open files of their own.

    Args:
        description: the dataset.json.
    """

    def __init__(self, description: DatasetDescription) -> None:
        self.description = description
        self._tables: dict[str, np.ndarray] = {}
        # By name of the sample, whose tasks share images: order of the dates, images and metadata in that order.
        self._resolved: dict[str, tuple[list[int], list[ImageRecord], ImageSeries]] = {}
        # By name of the sample: how many files its images are.
        self._num_files: dict[str, int] = {}
        self._take_ownership()

    def _take_ownership(self) -> None:
        # An object of this reader alone, by which its files are found, and closed when the reader is gone.
        self._owner = object()
        weakref.finalize(self, OPEN_FILES.close_all, self._owner)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_owner"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._take_ownership()

    def resolve_images(self, record: SampleRecord) -> SampleRecord:
        """The record with what its rasters state, dates in order.

        Raises:
            DatasetError: a raster cannot be used, or contradicts dataset.json.
        """
        if record.name not in self._resolved:
            self._resolved[record.name] = self._open(record)
        return record.resolved(*self._resolved[record.name])

    def _open(self, record: SampleRecord) -> tuple[list[int], list[ImageRecord], ImageSeries]:
        with self._errors_of(record):
            order, opened, images = _open_in_order(record.images)
        # One image may be a folder of files; what lies in an archive is listed nowhere.
        self._num_files[record.name] = max(len(opened.files), len(record.images))
        OPEN_FILES.put(self._owner, record.name, opened, self._num_files[record.name])
        if (opened.height, opened.width) != (record.height, record.width):
            raise DatasetError(
                f"{self.description.path}: images of sample {record.name!r} ({record.images[0].path}) measure "
                f"{opened.height} x {opened.width} pixels, but height and width say {record.height} x {record.width}. "
                "Correct height and width in dataset.json."
            )
        return order, images, opened.series

    def read_images(self, record: SampleRecord, window: Window) -> ImageSeries:
        """A window of the images, with pixels in physical units.

        Args:
            record: as [`SampleReader.resolve_images`] returns it.
            window: first row, first column, height, width.

        Raises:
            DatasetError: a raster cannot be read.
        """
        with self._errors_of(record):
            reopen = partial(_reopen, record.images)
            num_files = self._num_files.get(record.name, len(record.images))
            return OPEN_FILES.get(self._owner, record.name, reopen, num_files).read(*window)

    def read_labels(self, record: SampleRecord, window: Window) -> np.ndarray:
        """(maps, height, width) uint8 positions in the classes, 255 = not labelled.

        Args:
            record: as [`SampleReader.resolve_images`] returns it.
            window: first row, first column, height, width.

        Raises:
            DatasetError: a label map cannot be read, or holds what it may not.
        """
        table = self._table(record.task)
        maps = [self._label_map(record, number).read(window, table) for number in range(len(record.label_paths))]
        return np.stack(maps)

    def summarise_labels(self, record: SampleRecord, mask_bytes: int = 0) -> LabelSummary:
        """Reads and checks all labels of a sample.

        Args:
            record: as [`SampleReader.resolve_images`] returns it.
            mask_bytes: memory for [`LabelSummary.masks`].

        Raises:
            DatasetError: a label map cannot be read, or holds what it may not.
        """
        num_classes = len(self.description.class_ids_of(record.task))
        read_labels = partial(self.read_labels, record)
        return summarise_labels((record.height, record.width), num_classes, read_labels, mask_bytes)

    def nodata_ids(self, record: SampleRecord) -> dict[Path, int]:
        """Label maps that call the id of a class nodata, and that id: their pixels count as labelled all the same."""
        ids = self.description.class_ids_of(record.task)
        stated = {path: self._label_map(record, number).nodata for number, path in enumerate(record.label_paths)}
        return {path: int(nodata) for path, nodata in stated.items() if nodata in ids}

    @contextmanager
    def _errors_of(self, record: SampleRecord) -> Iterator[None]:
        # Not at the top: samples of other sources are made where no rasterio is.
        from ..rasters.records import RasterError

        try:
            yield
        except (RasterError, MetadataError) as error:
            raise DatasetError(f"{self.description.path}: images of sample {record.name!r}: {error}") from error

    def _table(self, task: str) -> np.ndarray:
        from .label_maps import position_table

        if task not in self._tables:
            self._tables[task] = position_table(self.description.positions(task))
        return self._tables[task]

    def _label_map(self, record: SampleRecord, number: int) -> "LabelMap":
        from .label_maps import LabelMap

        path = record.label_paths[number]
        return OPEN_FILES.get(self._owner, (record.name, path), partial(LabelMap, path, record))


def _open_images(images: Sequence[ImageRecord], check: bool) -> tuple["RasterSeries", list[ImageRecord]]:
    """Opens images as a series, which dataset.json describes beside them.

    Args:
        images: one entry per date, oldest first.
        check: whether to look for what truncated and empty files lack.

    Returns:
        The open series, and the images with the bands that are read and the type of their stored numbers.
    """
    from ..rasters.series import open_series
    from .statements import DatasetStatements

    statements = [DatasetStatements(image, check) for image in images]
    opened = open_series([str(image.path) for image in images], beside=[[one] for one in statements], check=check)
    with ExitStack() as stack:
        stack.callback(opened.close)
        found = []
        for image, stated, layers in zip(images, statements, opened.layers, strict=True):
            found.append(replace(image, bands=stated.read_bands(layers), dtypes=stated.dtypes(layers)))
        stack.pop_all()
    return opened, found


def _reopen(images: Sequence[ImageRecord]) -> "RasterSeries":
    return _open_images(images, check=False)[0]


def _open_in_order(images: Sequence[ImageRecord]) -> tuple[list[int], "RasterSeries", list[ImageRecord]]:
    """Opens images oldest first, by the dates that dataset.json and the rasters state together.

    Returns:
        Positions in `images` in that order, the open series, and the images in that order, as they were opened.
    """
    order = list(range(len(images)))
    try:
        opened, found = _open_images(images, check=True)
    except MetadataError:
        order = date_order([_date_of(image) for image in images])
        opened, found = _open_images([images[index] for index in order], check=True)
    return order, opened, found


def _date_of(image: ImageRecord) -> datetime | None:
    opened, _ = _open_images([image], check=False)
    with opened:
        return opened.series.acquisitions[0].datetime
