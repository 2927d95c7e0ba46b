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
"""The samples of a dataset.json: their images, and the maps that label them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from ..metadata import Acquisition, ImageSeries, MetadataError, parse_datetime
from .band_lists import BandList
from .fields import DatasetError, path_of, value_of

# (positions of the images that a map describes, its path).
LabelMaps = list[tuple[tuple[int, ...], str]]
# First row, first column, height, width.
Window = tuple[int, int, int, int]


@dataclass(frozen=True)
class ImageRecord:
    """An image of a sample: what dataset.json states about one raster, or one folder of rasters.

    Args:
        path: the raster.
        bands: its bands, in the order of the channels; once it was opened, without those that it marks as bad.
        timestamp: when it was taken, as it is written; `None` = not stated.
        gsd_m: ground sampling distance in metres; `None` = not stated.
        dtypes: type of the stored numbers of each band; empty until it was opened.
    """

    path: Path
    bands: BandList
    timestamp: str | None = None
    gsd_m: float | None = None
    dtypes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SampleRecord:
    """What is known about one sample of a folder without reading pixels.

    Args:
        name: id of the sample.
        task: what is asked for.
        images: its images, in the order of the acquisitions.
        series: the images' metadata, without pixels: as dataset.json states them, or, once the rasters were opened,
            as all sources together do.
        height: rows.
        width: columns.
        outputs: as in [`Sample`].
        label_paths: rasters of the labels, one per output.
        num_labelled: pixels that have a label in one of the maps, or in several.
    """

    name: str
    task: str
    images: tuple[ImageRecord, ...]
    series: ImageSeries
    height: int
    width: int
    outputs: tuple[tuple[int, ...], ...]
    label_paths: tuple[Path, ...]
    num_labelled: int = 0

    @property
    def image_paths(self) -> tuple[Path, ...]:
        """Rasters, in the order of the acquisitions."""
        return tuple(image.path for image in self.images)

    def resolved(self, order: Sequence[int], images: Sequence[ImageRecord], series: ImageSeries) -> "SampleRecord":
        """The record with what the rasters state.

        Args:
            order: positions of the images, in the order of the acquisitions.
            images: as they were opened, in that order.
            series: the metadata in that order.
        """
        maps = _sorted_maps(zip(self.outputs, self.label_paths, strict=True), order)
        return replace(
            self,
            images=tuple(images),
            series=series,
            outputs=tuple(output for output, _ in maps),
            label_paths=tuple(path for _, path in maps),
        )


def date_order(dates: Sequence[datetime | None]) -> list[int]:
    """Positions of dates, oldest first: known ones are sorted among the places that they hold, unknown ones stay."""
    known = [(date, place) for place, date in enumerate(dates) if date is not None]
    order = list(range(len(dates)))
    for (_, place), (_, source) in zip(known, sorted(known), strict=True):
        order[place] = source
    return order


def read_sample(
    sample: Mapping[str, Any],
    where: str,
    root: Path,
    gsd_m: float | None,
    band_lists: Mapping[str | None, BandList],
) -> dict[str, SampleRecord]:
    """One record for each task that the labels of a sample serve, stated dates in order.

    Args:
        sample: the entry of `samples`; its id is known to be a text.
        where: what it is, for messages.
        root: the folder that paths are relative to.
        gsd_m: that of the data set, for a sample that states none.
        band_lists: see [`read_band_lists`].

    Raises:
        DatasetError: a key is missing, or a value wrong.
    """
    height, width = (_side(sample, key, where) for key in ("height", "width"))
    gsd_m = sample.get("gsd_m", gsd_m)
    images, acquisitions = [], []
    for index, entry in enumerate(value_of(sample, "images", list, where, "a list of {path, timestamp, band_set}")):
        image, acquisition = _image(entry, f"{where}: images[{index}]", root, gsd_m, band_lists)
        images.append(image)
        acquisitions.append(acquisition)
    if not images:
        raise DatasetError(f"{where}: images is empty; list at least one.")
    order = date_order([acquisition.datetime for acquisition in acquisitions])
    series = ImageSeries(tuple(acquisitions[index] for index in order))
    records = {}
    for task, listed in _label_maps(sample, where, len(images)).items():
        maps = _sorted_maps([(output, root / path) for output, path in listed], order)
        records[task] = SampleRecord(
            name=sample["id"],
            task=task,
            images=tuple(images[index] for index in order),
            series=series,
            height=height,
            width=width,
            outputs=tuple(output for output, _ in maps),
            label_paths=tuple(path for _, path in maps),
        )
    return records


def _side(sample: Mapping[str, Any], key: str, where: str) -> int:
    side: int = value_of(sample, key, int, where, "a number of pixels")
    if side < 1:
        raise DatasetError(f"{where}: {key} is {side}; it must be 1 pixel or more.")
    return side


def _image(
    entry: Any, where: str, root: Path, gsd_m: Any, band_lists: Mapping[str | None, BandList]
) -> tuple[ImageRecord, Acquisition]:
    path = root / path_of(entry, "path", where, "the path of a raster")
    timestamp = value_of(entry, "timestamp", str, where, "an ISO 8601 date or null", None)
    band_set = value_of(entry, "band_set", str, where, "the name of a band set", None)
    if band_set not in band_lists:
        known = ", ".join(name for name in band_lists if name is not None) or "none"
        raise DatasetError(
            f"{where}: band_set is {band_set!r}; band_sets are: {known}. Describe the bands there, or in bands for "
            "images without a band_set."
        )
    bands = band_lists[band_set]
    try:
        acquisition = Acquisition(tuple(described.band for described in bands), parse_datetime(timestamp), gsd_m)
    except MetadataError as error:
        raise DatasetError(f"{where}: {error}") from error
    return ImageRecord(path, bands, timestamp, acquisition.gsd_m), acquisition


def _label_maps(sample: Mapping[str, Any], where: str, num_images: int) -> dict[str, LabelMaps]:
    """The maps for each task that the labels serve, with images as they are listed."""
    keys = "{semantic, change, change_per_pair, semantic_per_time}"
    labels = value_of(sample, "labels", dict, where, f"an object {keys}")
    where = f"{where}: labels"
    per_time = _maps_of_images(labels, "semantic_per_time", where, num_images)
    per_pair = _maps_of_images(labels, "change_per_pair", where, num_images)
    for output, path in per_pair:
        if len(output) != 2:
            raise DatasetError(f"{where}: change_per_pair names {len(output)} images for {path}; two are compared.")
    semantic = path_of(labels, "semantic", where, "the path of a label map", None)
    change = path_of(labels, "change", where, "the path of a label map", None)
    if change is not None and per_pair:
        raise DatasetError(f"{where}: change and change_per_pair are both there. Keep the one that is meant.")
    if change is not None and num_images > 1:
        per_pair = [((0, num_images - 1), change)]
    maps: dict[str, LabelMaps] = {}
    if semantic is not None:
        maps["semantic_segmentation"] = [(tuple(range(num_images)), semantic)]
    elif per_time:
        maps["semantic_segmentation"] = per_time
    if per_pair:
        maps["binary_change_detection"] = per_pair
    if len(per_time) > 1:
        maps["semantic_change_detection"] = per_time
    return maps


def _maps_of_images(labels: Mapping[str, Any], key: str, where: str, num_images: int) -> LabelMaps:
    """(images described, path) of each entry of a list of maps."""
    maps = []
    for index, entry in enumerate(value_of(labels, key, list, where, "a list", [])):
        place = f"{where}: {key}[{index}]"
        path = path_of(entry, "path", place, "the path of a label map")
        indices = value_of(entry, "image_indices", list, place, "a list of positions in images")
        valid = all(type(index) is int and 0 <= index < num_images for index in indices)
        if not indices or not valid or len(set(indices)) < len(indices):
            raise DatasetError(
                f"{place}: image_indices is {indices}; it must hold some of 0 to {num_images - 1}, each once."
            )
        maps.append((tuple(indices), path))
    return maps


def _sorted_maps(
    maps: Iterable[tuple[tuple[int, ...], Path]], order: Sequence[int]
) -> list[tuple[tuple[int, ...], Path]]:
    """Maps of images that are put into another order, sorted by the images that they describe."""
    position = {index: place for place, index in enumerate(order)}
    return sorted((tuple(sorted(position[index] for index in output)), path) for output, path in maps)


def num_channels(record: SampleRecord) -> int:
    """Bands of all dates together."""
    return sum(len(acquisition.bands) for acquisition in record.series.acquisitions)
