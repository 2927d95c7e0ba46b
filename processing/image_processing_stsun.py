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
"""Image processor class for STSUN: image series with band and date metadata in, padded and masked tensors out."""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from huggingface_hub.dataclasses import validate_typed_dict
from PIL import Image
from transformers.image_processing_utils import BaseImageProcessor, BatchFeature
from transformers.processing_utils import ImagesKwargs, Unpack

from .arrays_stsun import RGB, Described, as_batch, check_readings, filled_labels, select_readings, to_series
from .metadata import CHANGE_CLASSES, IGNORE_INDEX, INDICES, TASKS, Band, ImageSeries, default_outputs
from .statistics_stsun import (
    BY_KIND,
    KIND_STATISTICS,
    check_band_statistics,
    check_decibels,
    check_kind_statistics,
    check_physical_units,
    check_units,
    describe_statistics,
    resolve_statistics,
    statistics_of,
)

BAND_TYPES = (
    *("other", "reflective", "thermal", "elevation", "index"),
    *("sar", "sar_vv", "sar_vh", "sar_hh", "sar_hv"),
    *(f"index_{name}" for name in INDICES),
)
# A value so many standard deviations from the mean of its band is no measurement, but a fill value that nobody declared
# (-3.4e38, 9.97e36) or a fault: one such pixel would drown the rest of its tile.
MAX_NORMALISED = 1e4
ROLE_CONTEXT, ROLE_DESCRIBED, ROLE_BEFORE, ROLE_AFTER = range(4)
# Settings that are checked whenever they are set.
_CHECKS = {
    "kind_statistics": check_kind_statistics,
    "band_statistics": check_band_statistics,
    "readings": check_readings,
}
Outputs = Sequence[Sequence[int]]
BandInput = Band | Mapping[str, Any]
ImageSeriesInput = ImageSeries | np.ndarray | torch.Tensor | Image.Image | Sequence[Any]


class STSUNBatchFeature(BatchFeature):
    """Model inputs. `to(dtype)` casts the pixels only: metadata stays float32, or days and nanometres would blur."""

    def to(self, *args: Any, **kwargs: Any) -> "STSUNBatchFeature":
        """Moves everything to a device, and casts `pixel_values` to a dtype, as `torch.Tensor.to` does."""
        if not isinstance(self.data["pixel_values"], torch.Tensor):
            raise ValueError("Only tensors move: make the batch with return_tensors='pt'.")
        metadata = {key: value for key, value in self.data.items() if key != "pixel_values"}
        pixels = self.data["pixel_values"].to(*args, **kwargs)
        non_blocking = kwargs.get("non_blocking", False)
        self.data = {"pixel_values": pixels} | {
            key: value.to(pixels.device, non_blocking=non_blocking) if isinstance(value, torch.Tensor) else value
            for key, value in metadata.items()
        }
        return self


class STSUNImageProcessorKwargs(ImagesKwargs, total=False):
    r"""
    tasks (`list[str]`): Names of the tasks; must equal the model's `config.tasks`.
    categories (`list[str]`): Names of all classes that the model knows; must equal the values of its `config.id2label`.
    band_types (`list[str]`): Names of the band types; must equal the model's `config.band_types`.
    unified_size (`int`): Longest side of the unified grid in cells; must equal the model's `config.unified_size`.
    kind_statistics (`dict`): For each kind of band the `mean` and `std` that normalise it, in physical units.
    band_statistics (`dict`): For each data set a list of records of its bands with `mean` and `std` of their values.
    readings (`dict`): For each data set how files like its own are read.
    """

    tasks: list[str] | None
    categories: list[str] | None
    band_types: list[str] | None
    unified_size: int | None
    kind_statistics: dict | None
    band_statistics: dict | None
    readings: dict | None


class STSUNImageProcessor(BaseImageProcessor):
    r"""
    Turns image series of any sensors, dates and sizes into one padded and masked batch for STSUN.

    Pixels are normalised per band: with the statistics of a data set of such bands or, where this processor holds none
    or `by_kind` is asked for, by the kind of the band, which takes physical units (reflectance 0-1, kelvin, decibel,
    metres).

    Args:
        tasks (`list[str]`, *optional*): names of the tasks, in the order of the model's config.
        categories (`list[str]`, *optional*): names of all classes, in the order of the model's `id2label`.
        band_types (`list[str]`, *optional*): names of the band types, in the order of the model's config.
        unified_size (`int`, *optional*, defaults to 256): longest side of the unified grid in cells.
        kind_statistics (`dict`, *optional*): `{kind: {"mean": ..., "std": ...}}`.
        band_statistics (`dict`, *optional*): `{data set: [{"name": ..., "kind": ..., "polarisation": ..., "center_nm":
            ..., "unit": ..., "mean": ..., "std": ...}, ...]}`; what is unknown may be left out. A band is normalised
            with the record of what it measured, whatever its name (see `resolve_statistics`). The form of version 0.1,
            `{data set: {band name: {"mean": ..., "std": ..., "center_nm": ...}}}`, is taken too.
        readings (`dict`, *optional*): `{data set: [{"bands": [...], "dtype": ..., "scale": [...], "offset": [...],
            "nodata": [...], "gsd_m": ...}, ...]}`: what the files of a data set that this processor was tuned on do not
            say themselves. Pictures and files that say nothing are read so where the number of bands and the type fit.

    Raises:
        ValueError: statistics that are no finite numbers, a `std` below 0, or a setting of another form.
    """

    valid_kwargs = STSUNImageProcessorKwargs
    model_input_names = ["pixel_values"]
    tasks = list(TASKS)
    categories = list(CHANGE_CLASSES)
    band_types = list(BAND_TYPES)
    unified_size = 256
    kind_statistics = KIND_STATISTICS
    band_statistics = {}
    readings = {}
    # Of the base class; nothing is rescaled or resized here.
    rescale_factor = None
    default_to_square = None

    def __init__(self, **kwargs: Unpack[STSUNImageProcessorKwargs]) -> None:
        super().__init__(**kwargs)
        self._set_attributes(**kwargs)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, _CHECKS[name](value) if name in _CHECKS else value)

    @classmethod
    def from_config(cls, config: Any, **kwargs: Any) -> "STSUNImageProcessor":
        """A processor whose vocabularies are those of a model's config; `kwargs` are further settings."""
        return cls(
            tasks=list(config.tasks),
            categories=[config.id2label[index] for index in range(config.num_labels)],
            band_types=list(config.band_types),
            unified_size=config.unified_size,
            **kwargs,
        )

    def check_config(self, config: Any) -> None:
        """Raises ValueError if a model's config and this processor do not mean the same by their ids."""
        expected = self.from_config(config)
        for name in ("tasks", "categories", "band_types", "unified_size"):
            if getattr(self, name) != getattr(expected, name):
                raise ValueError(
                    f"The processor's {name} are {getattr(self, name)}, the model's {getattr(expected, name)}. Load "
                    "both from the same checkpoint, or make the processor with "
                    "STSUNImageProcessor.from_config(model.config)."
                )

    def add_categories(self, names: Sequence[str]) -> None:
        """Adds class names, as `model.add_categories` does; call both."""
        if isinstance(names, str):
            raise ValueError(f"names is the text {names!r}; give a list of names: add_categories([{names!r}]).")
        for index, name in enumerate(names):
            if name in self.categories or name in names[:index]:
                raise ValueError(f"Class {name!r} is known already; known classes are {', '.join(self.categories)}.")
        self.categories = [*self.categories, *names]

    def __call__(self, images: ImageSeriesInput, *args: Any, **kwargs: Any) -> BatchFeature:
        """See [`STSUNImageProcessor.preprocess`]."""
        return self.preprocess(images, *args, **kwargs)

    def preprocess(
        self,
        images: ImageSeriesInput,
        task: str | Sequence[str] = "semantic_segmentation",
        classes: Sequence[str] | Sequence[Sequence[str]] | None = None,
        *,
        outputs: Outputs | Sequence[Outputs] | None = None,
        labels: Any = None,
        segmentation_maps: Any = None,
        bands: Sequence[BandInput] | Sequence[Sequence[BandInput]] | None = None,
        sensor: str | None = None,
        timestamps: Sequence[Any] | None = None,
        gsd_m: float | None = None,
        statistics: str | Sequence[str | None] | None = None,
        cell_size: int | None = None,
        check_range: bool = True,
        return_tensors: str = "pt",
        **kwargs: Unpack[STSUNImageProcessorKwargs],
    ) -> BatchFeature:
        """Makes the model's inputs.

        Args:
            images: an [`ImageSeries`] with pixels, or a list of them. Or one series as an array (dates, bands, height,
                width), or as a list of one array (bands, height, width) per date, in physical units with NaN or a mask
                (`numpy.ma`) for nodata; a list of such series is several. Or a picture, which is a PIL image or an
                8-bit array (height, width, channels), or a list of one picture per date; 255 is then a reflectance of
                1, an alpha of 0 nodata, and without `bands` and `sensor` a warning says what is taken for granted.
            task: name of the task, or one name a series.
            classes: names of the classes asked for, in the order that the logits shall have, or one such list a series.
                `None` = unchanged and changed for binary change detection, else all classes that are known but these
                two.
            outputs: what each map shall describe, or one such list a series. For semantic tasks the positions of its
                dates, for binary change detection the positions (before, after). `None` = one map of all dates for
                semantic segmentation, one a date for semantic change detection, one for each two neighbouring dates for
                binary change detection.
            labels: (maps, height, width) positions in `classes`, 255 = not labelled, as is what a masked array masks;
                one array a series.
            segmentation_maps: in place of `labels`: one (height, width) map (array or PIL image) a series, as other
                image processors take it. With a list of maps, a list of as many pictures or arrays is so many series
                of one date each. The `labels` of the result are then (series, height, width).
            bands: for arrays and pictures: what the channels are, as [`Band`] records or dictionaries with their
                fields, such as `{"name": "B04", "kind": "reflective", "center_nm": 665.0, "fwhm_nm": 30.0}`; or one
                list of them per date.
            sensor: for arrays and pictures: `rgb` = red, green and blue with nominal wavelengths. Look other sensors up
                with `bands=stsun_processing.sensor_bands(sensor, names)`.
            timestamps: for arrays and pictures: the dates (ISO 8601 text, `datetime`, `numpy.datetime64`; `None` =
                unknown), oldest first; or one list of them a series.
            gsd_m: for arrays and pictures: ground sampling distance in metres a pixel.
            statistics: name of the data set in `band_statistics` to normalise with, or `by_kind` for the statistics of
                the kind of each band; or one a series. `None` = the only data set that fits all bands (see
                `resolve_statistics`), or by kind where the processor holds no statistics of data sets.
            cell_size: side of a cell of the unified grid in pixels; `None` = so that the longer side of the series
                takes at most `unified_size` cells.
            check_range: whether values that cannot be in the units that the statistics expect are refused.
            return_tensors: `pt` or `np`.
            **kwargs: the settings of this processor, for this call.

        Returns:
            A [`BatchFeature`] with the model's inputs, padded to common sizes, and `labels` where they were given.

        Raises:
            ValueError: an unknown task, class or data set, no class, bands or dates that do not fit, statistics of data
                sets that fit none of the bands, labels of another size, values in another unit, or no valid pixel in a
                series. ([`MetadataError`] is a ValueError.)
        """
        validate_typed_dict(self.valid_kwargs, kwargs)
        if unused := sorted(set(kwargs) - set(self.to_settings())):
            raise ValueError(
                f"{', '.join(unused)} mean nothing to this processor; its settings are {', '.join(self.to_settings())}."
            )
        if kwargs:
            return type(self)(**{**self.to_settings(), **kwargs}).preprocess(
                images,
                task,
                classes,
                outputs=outputs,
                labels=labels,
                segmentation_maps=segmentation_maps,
                bands=bands,
                sensor=sensor,
                timestamps=timestamps,
                gsd_m=gsd_m,
                statistics=statistics,
                cell_size=cell_size,
                check_range=check_range,
                return_tensors=return_tensors,
            )
        if segmentation_maps is not None:
            if labels is not None:
                raise ValueError("labels and segmentation_maps are two names of the same: give one of them.")
            labels = _as_labels(segmentation_maps)
            images = as_batch(images, len(labels))
        named = statistics if isinstance(statistics, str) else None
        batch = self.to_series(images, bands, timestamps, gsd_m, sensor=sensor, statistics=named)
        requests = self._requests(len(batch), task, classes, outputs, labels, statistics)
        samples = [
            self.encode(series, *request, cell_size=cell_size, check_range=check_range)
            for series, request in zip(batch, requests, strict=True)
        ]
        padded = self.pad(samples, return_tensors=return_tensors)
        if segmentation_maps is not None:
            padded["labels"] = padded["labels"][:, 0]
        return padded

    def _requests(
        self, count: int, task: Any, classes: Any, outputs: Any, labels: Any, statistics: Any
    ) -> list[tuple[Any, ...]]:
        """Task, classes, outputs, labels and statistics of each of `count` series; see `preprocess`."""
        tasks = [task] * count if isinstance(task, str) else task
        if not all(isinstance(name, str) for name in tasks):
            raise ValueError(
                f"task is a {type(task).__name__} of other things than names. Give label maps by name: "
                "segmentation_maps=... or labels=..."
            )
        if classes is None or isinstance(classes, str) or all(isinstance(name, str) for name in classes):
            classes = [classes] * count
        if outputs is None or not _is_nested(outputs):
            outputs = [outputs] * count
        if statistics is None or isinstance(statistics, str):
            statistics = [statistics] * count
        if labels is None:
            labels = [None] * count
        elif count == 1 and _is_one_series(labels):
            labels = [labels]
        if any(label is None for label in labels) and any(label is not None for label in labels):
            raise ValueError("labels hold None for some series: give labels for all of them or for none.")
        columns = {"task": tasks, "classes": classes, "outputs": outputs, "labels": labels, "statistics": statistics}
        return list(zip(*(self.one_each(name, values, count) for name, values in columns.items()), strict=True))

    @staticmethod
    def one_each(name: str, values: Sequence[Any], count: int) -> Sequence[Any]:
        """`values`, if there are `count` of them."""
        if len(values) != count:
            raise ValueError(f"{name} holds {len(values)} entries for {count} series; give one, or one a series.")
        return values

    def to_settings(self) -> dict[str, Any]:
        """The settings that make an equal processor."""
        names = ("tasks", "categories", "band_types", "unified_size", *_CHECKS)
        return {name: getattr(self, name) for name in names}

    def to_series(
        self,
        images: ImageSeriesInput,
        bands: Any = None,
        timestamps: Sequence[Any] | None = None,
        gsd_m: float | None = None,
        *,
        sensor: str | None = None,
        statistics: str | None = None,
    ) -> list[ImageSeries]:
        """Series with pixels from everything that `preprocess` takes; arguments and errors as there.

        `statistics` names the data set whose readings alone count for pictures; without a name all count.
        """
        if _is_series(images):
            images = [images]
        if not isinstance(images, (np.ndarray, torch.Tensor, Image.Image, list, tuple)):
            raise ValueError(
                f"Images of type {type(images).__name__} were given; give an ImageSeries, an array (dates, bands, "
                "height, width), a list of one array (bands, height, width) per date, pictures, or a list of "
                "ImageSeries."
            )
        if not isinstance(images, Image.Image) and len(images) == 0:
            raise ValueError("No image was given.")
        if isinstance(images, (list, tuple)) and _is_series(images[0]):
            if any(value is not None for value in (bands, sensor, timestamps, gsd_m)):
                raise ValueError(
                    "bands, sensor, timestamps and gsd_m describe arrays; an ImageSeries carries its own. Leave them "
                    "out."
                )
            return _with_pixels(images)
        if sensor is not None and sensor != RGB:
            raise ValueError(
                f"sensor={sensor!r}: of arrays only {RGB!r} is known here. Look the bands up in the table of sensors: "
                f"bands=stsun_processing.sensor_bands({sensor!r}, [...])."
            )
        if sensor is not None and bands is not None:
            raise ValueError("sensor and bands both say what the channels are: give one of them.")
        readings = select_readings(self.readings, statistics)
        return to_series(images, timestamps, Described(bands, sensor == RGB, gsd_m, readings))

    def resolve_classes(self, task: str, classes: Sequence[str] | None) -> list[str]:
        """The class names of a request, checked against the vocabulary."""
        if classes is None:
            is_change = task == "binary_change_detection"
            classes = CHANGE_CLASSES if is_change else [c for c in self.categories if c not in CHANGE_CLASSES]
        if isinstance(classes, str):
            raise ValueError(f"classes is the text {classes!r}; give a list of names: [{classes!r}].")
        classes = list(classes)
        if len(classes) > IGNORE_INDEX:
            raise ValueError(
                f"{len(classes)} classes are more than a map tells apart. Name at most {IGNORE_INDEX} of them "
                "(classes=[...], --classes)."
            )
        if not classes:
            raise ValueError(f"No class was asked for; known classes are {', '.join(self.categories)}.")
        for name in classes:
            if name not in self.categories:
                raise ValueError(
                    f"Unknown class {name!r}; known classes are {', '.join(self.categories)}. Add new ones to model "
                    "and processor with add_categories([...]) and train them."
                )
        if len(set(classes)) != len(classes):
            raise ValueError(f"A class was asked for twice: {', '.join(classes)}.")
        return classes

    def resolve_outputs(self, task: str, outputs: Outputs | None, num_dates: int) -> list[tuple[int, ...]]:
        """What each map describes, checked against the number of dates."""
        if task not in self.tasks:
            raise ValueError(f"Unknown task {task!r}; known tasks are {', '.join(self.tasks)}.")
        is_change = task == "binary_change_detection"
        if is_change and num_dates < 2:
            raise ValueError("binary_change_detection compares dates and needs at least two, got 1.")
        if outputs is None:
            return list(default_outputs(task, num_dates))
        outputs = [tuple(int(index) for index in output) for output in outputs]
        for output in outputs:
            if not output or len(set(output)) != len(output) or (is_change and len(output) != 2):
                allowed = "two different positions (before, after)" if is_change else "distinct positions of its dates"
                raise ValueError(f"An output of {task} is described by {allowed}, got {output}.")
            if min(output) < 0 or max(output) >= num_dates:
                raise ValueError(f"Output {output} names a date outside 0..{num_dates - 1}.")
        if not outputs:
            raise ValueError("No output was asked for: outputs is empty.")
        return outputs

    def resolve_statistics(self, series: ImageSeries, statistics: str | None) -> str | None:
        """Name of the data set whose statistics normalise a series; `None` = by kind of band.

        A data set fits a series if it holds statistics of all of its bands: of the same kind, polarisation and unit,
        with the centre within 5 nm or unknown on both sides. Of several the nearest counts, names break ties.

        Args:
            series: any, also without pixels.
            statistics: name of a data set, `by_kind`, or `None` = the only data set that fits.

        Raises:
            ValueError: the data set is unknown or does not fit; or none was named, and several fit, or none does
                although this processor holds statistics.
        """
        return resolve_statistics(self.band_statistics, _bands_of(series), statistics)

    def describe_statistics(self, series: ImageSeries, statistics: str | None) -> str:
        """One line for people on how a series is normalised; arguments and errors as of `resolve_statistics`."""
        name = self.resolve_statistics(series, statistics)
        return describe_statistics(self.kind_statistics, self.band_statistics, _bands_of(series), name)

    def check_units(self, series: ImageSeries, statistics: str | None) -> None:
        """Refuses values that cannot be in the units that the statistics expect.

        Args:
            series: with pixels; dates without any valid one are passed over.
            statistics: see `resolve_statistics`.

        Raises:
            ValueError: values are far too large or far too small, or backscatter is linear where decibel are expected;
                the message says what may be wrong.
        """
        name = self.resolve_statistics(series, statistics)
        for acquisition, pixels, valid in zip(series.acquisitions, series.pixels, series.valid, strict=True):
            if valid.any():
                means, stds = statistics_of(self.kind_statistics, self.band_statistics, acquisition.bands, name)
                values = pixels[:, valid]
                check_units(acquisition.bands, values, means, stds)
                check_decibels(acquisition.bands, values, means, stds)
                if name is None:
                    check_physical_units(acquisition.bands, values)

    def normalize_series(self, series: ImageSeries, statistics: str | None) -> list[np.ndarray]:
        """Pixels of each date, (bands, height, width) float32, normalised; 0 where there is no data."""
        name = self.resolve_statistics(series, statistics)
        arrays = []
        for acquisition, pixels, valid in zip(series.acquisitions, series.pixels, series.valid, strict=True):
            means, stds = statistics_of(self.kind_statistics, self.band_statistics, acquisition.bands, name)
            # A band that is the same everywhere has no spread to divide by.
            with np.errstate(over="ignore"):
                array = (pixels - means[:, None, None]) / np.where(stds > 0, stds, 1)[:, None, None]
            arrays.append(np.where(valid, array, 0.0).astype(np.float32))
        return arrays

    def encode_pixels(
        self, series: ImageSeries, statistics: str | None = None, check_range: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """The inputs of one series that are pixels, without the batch axis.

        Args:
            series: with pixels.
            statistics: see `resolve_statistics`.
            check_range: whether values that cannot be in the units that the statistics expect are refused.

        Returns:
            `pixel_values` (dates, bands, height, width) float32, normalised, 0 where there is no data and in bands that
            a date lacks; and `pixel_mask` (dates, height, width) bool, True = data. A pixel with a value beyond all
            that its band can measure (see `MAX_NORMALISED`) counts as missing, and a warning names the value.

        Raises:
            ValueError: the statistics do not fit, or values are in another unit.
        """
        if check_range:
            self.check_units(series, statistics)
        arrays = self.normalize_series(series, statistics)
        num_bands = max(len(array) for array in arrays)
        pixel_values = np.zeros((len(arrays), num_bands, *series.size), dtype=np.float32)
        pixel_mask = np.stack(series.valid)
        for index, (array, acquisition) in enumerate(zip(arrays, series.acquisitions, strict=True)):
            pixel_values[index, : len(array)] = array
            # Both without an array of their own: this is done for every tile of a scene.
            if max(array.max(), -array.min()) > MAX_NORMALISED:
                absurd = np.abs(array) > MAX_NORMALISED
                _warn_of_absurd(absurd, series.pixels[index], acquisition.bands)
                pixel_mask[index] &= ~absurd.any(axis=0)
                pixel_values[index][:, ~pixel_mask[index]] = 0
        return pixel_values, pixel_mask

    def encode_metadata(
        self,
        series: ImageSeries,
        task: str,
        classes: Sequence[str] | None = None,
        outputs: Outputs | None = None,
        *,
        cell_size: int | None = None,
        size: tuple[int, int],
    ) -> dict[str, np.ndarray]:
        """All inputs of one series but its pixels, without the batch axis.

        Args:
            series: any, also without pixels.
            task: see `preprocess`, as for `classes` and `outputs`.
            classes: names of the classes asked for.
            outputs: what each map describes.
            cell_size: side of a cell in pixels; `None` = so that the longer side of `size` takes at most `unified_size`
                cells.
            size: height and width in pixels of what the model sees at once.

        Raises:
            ValueError: a request that cannot be met.
        """
        num_dates, (height, width) = len(series.acquisitions), size
        outputs = self.resolve_outputs(task, outputs, num_dates)
        classes = self.resolve_classes(task, classes)
        if cell_size is not None and (cell_size != int(cell_size) or cell_size < 1):
            raise ValueError(f"cell_size must be a whole number of at least 1 pixel, got {cell_size}.")
        days = np.array(series.days, dtype=np.float32)
        is_change = task == "binary_change_detection"
        roles = np.full((len(outputs), num_dates), ROLE_CONTEXT, dtype=np.int64)
        for row, output in zip(roles, outputs, strict=True):
            row[list(output)] = (ROLE_BEFORE, ROLE_AFTER) if is_change else ROLE_DESCRIBED
        intervals = [(days[list(o)][0], days[list(o)][-1]) if is_change else _span(days[list(o)]) for o in outputs]
        return self._encode_bands(series) | {
            "timestamps": days,
            "gsd": np.float32(math.nan if series.gsd_m is None else series.gsd_m),
            "date_mask": np.ones(num_dates, dtype=bool),
            "image_sizes": np.array([height, width], dtype=np.int64),
            "cell_sizes": np.int64(cell_size or -(-max(height, width) // self.unified_size)),
            "task_ids": np.int64(self.tasks.index(task)),
            "category_ids": np.array([self.categories.index(name) for name in classes], dtype=np.int64),
            "category_mask": np.ones(len(classes), dtype=bool),
            "output_timestamps": np.array(intervals, dtype=np.float32),
            "output_date_roles": roles,
            "output_mask": np.ones(len(outputs), dtype=bool),
        }

    def _encode_bands(self, series: ImageSeries) -> dict[str, np.ndarray]:
        """What the bands of each date are, padded to the largest number of bands."""
        shape = (len(series.acquisitions), max(len(acquisition.bands) for acquisition in series.acquisitions))
        wavelengths, bandwidths = np.full((2, *shape), np.nan, dtype=np.float32)
        band_types = np.zeros(shape, dtype=np.int64)
        band_mask = np.zeros(shape, dtype=bool)
        for date, acquisition in enumerate(series.acquisitions):
            for position, band in enumerate(acquisition.bands):
                wavelengths[date, position] = math.nan if band.center_nm is None else band.center_nm
                bandwidths[date, position] = math.nan if band.fwhm_nm is None else band.fwhm_nm
                band_types[date, position] = self.band_types.index(band.type)
                band_mask[date, position] = True
        return {
            "wavelengths": wavelengths,
            "bandwidths": bandwidths,
            "band_types": band_types,
            "band_mask": band_mask,
        }

    def encode(
        self,
        series: ImageSeries,
        task: str,
        classes: Sequence[str] | None,
        outputs: Outputs | None,
        labels: np.ndarray | None,
        statistics: str | None,
        cell_size: int | None = None,
        check_range: bool = True,
        allow_empty: bool = False,
    ) -> dict[str, np.ndarray]:
        """Inputs of one series, without the batch axis and without padding but in the number of bands.

        `allow_empty` lets a series without any valid pixel pass, as a training window of a larger one may be.
        """
        sample = self.encode_metadata(series, task, classes, outputs, cell_size=cell_size, size=series.size)
        pixel_values, pixel_mask = self.encode_pixels(series, statistics, check_range)
        if not pixel_mask.any() and not allow_empty:
            raise ValueError("The series holds no valid pixel: every one is nodata.")
        sample = {"pixel_values": pixel_values, "pixel_mask": pixel_mask, **sample}
        if labels is not None:
            sample["labels"] = self.encode_labels(labels, sample)
        return sample

    @staticmethod
    def encode_labels(labels: Any, sample: Mapping[str, np.ndarray]) -> np.ndarray:
        """Labels of one series, checked.

        Args:
            labels: (maps, height, width) positions in the classes asked for, 255 = not labelled.
            sample: the inputs that `encode_metadata` made.

        Returns:
            (maps, height, width) int64; 255 where a masked array masks them.

        Raises:
            ValueError: labels of another shape, or that are no position.
        """
        labels = filled_labels(labels)
        shape = (len(sample["output_mask"]), *sample["image_sizes"].tolist())
        if labels.shape != shape:
            raise ValueError(f"labels have shape {labels.shape}; (maps, height, width) = {shape} is expected.")
        # One class alone is labelled 0 = absent, 1 = present.
        allowed = max(len(sample["category_ids"]), 2)
        wrong = sorted(set(np.unique(labels).tolist()) - {*range(allowed), IGNORE_INDEX})
        if wrong:
            raise ValueError(f"labels hold {wrong}; allowed are 0..{allowed - 1} and {IGNORE_INDEX} (not labelled).")
        return labels.astype(np.int64)

    @staticmethod
    def pad(samples: Sequence[Mapping[str, np.ndarray]], return_tensors: str = "pt") -> BatchFeature:
        """Batches samples of [`STSUNImageProcessor.encode`]; what is added is masked, and 255 in the labels."""
        fills = {"labels": IGNORE_INDEX, "wavelengths": np.nan, "bandwidths": np.nan}
        fills |= {"timestamps": np.nan, "output_timestamps": np.nan}
        data = {}
        for name in samples[0]:
            if name == "cell_sizes":
                # One number for all if it can be: shapes depend on it, and reading it off a device would wait for it.
                sizes = [int(sample[name]) for sample in samples]
                alike = len(set(sizes)) == 1
                data[name] = sizes[0] if alike else torch.tensor(sizes) if return_tensors == "pt" else np.array(sizes)
                continue
            arrays = [np.asarray(sample[name]) for sample in samples]
            shape = np.max([array.shape for array in arrays], axis=0).astype(int)
            batch = np.full((len(arrays), *shape), fills.get(name, 0), dtype=arrays[0].dtype)
            for index, array in enumerate(arrays):
                batch[(index, *(slice(0, size) for size in array.shape))] = array
            data[name] = batch
        return STSUNBatchFeature(data=data, tensor_type=return_tensors, skip_tensor_conversion=["cell_sizes"])

    # Post-processing

    @staticmethod
    def class_maps(logits: torch.Tensor) -> torch.Tensor:
        """(..., K, H, W) -> (..., H, W): the best class, or for a single class 1 where its sigmoid exceeds one half."""
        return (logits[..., 0, :, :] > 0).long() if logits.shape[-3] == 1 else logits.argmax(-3)

    @staticmethod
    def valid_maps(pixel_mask: torch.Tensor, output_date_roles: torch.Tensor) -> torch.Tensor:
        """Where the dates that outputs describe hold data: one of them, or for change both.

        Args:
            pixel_mask: (dates, height, width) bool.
            output_date_roles: (outputs, dates), as the model takes them.

        Returns:
            (outputs, height, width) bool.
        """
        maps = []
        for roles in output_date_roles:
            compared = pixel_mask[roles >= ROLE_BEFORE]
            maps.append(compared.all(0) if len(compared) else pixel_mask[roles == ROLE_DESCRIBED].any(0))
        return torch.stack(maps)

    @staticmethod
    def _fit(
        maps: torch.Tensor, size: Sequence[int] | None, target: Sequence[int] | None, mode: str = "bilinear"
    ) -> torch.Tensor:
        """(S, K, H, W) without the padding of a sample whose own `size` is known, at a target size."""
        if size is not None:
            maps = maps[..., : size[0], : size[1]]
        if target is None:
            return maps
        height, width = (int(side) for side in target)
        if size is None and height <= maps.shape[-2] and width <= maps.shape[-1]:
            # Nothing says what is padding; images are padded, never resized.
            return maps[..., :height, :width]
        if (height, width) == maps.shape[-2:]:
            return maps
        corners = None if mode == "nearest" else False
        return torch.nn.functional.interpolate(maps, size=(height, width), mode=mode, align_corners=corners)

    def _fitted(self, outputs: Any, target_sizes: Any) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
        """Of each sample, without padding: the logits (maps, classes, height, width), and where the dates that each map
        describes hold data, (maps, height, width) bool; `None` if the outputs do not say."""
        logits = outputs.logits
        if logits.ndim == 4:
            logits = logits.unsqueeze(1)
        count = len(logits)
        if target_sizes is None:
            target_sizes = [None] * count
        if len(target_sizes) != count:
            raise ValueError(
                f"target_sizes holds {len(target_sizes)} sizes for a batch of {count}: give one (height, width) a "
                "sample."
            )
        masks = {name: getattr(outputs, name, None) for name in ("output_mask", "category_mask", "pixel_mask")}
        roles, sizes = getattr(outputs, "output_date_roles", None), getattr(outputs, "image_sizes", None)
        sizes = [None] * count if sizes is None else sizes.tolist()
        fitted = []
        for index, (sample, size, target) in enumerate(zip(logits, sizes, target_sizes, strict=True)):
            # What the masks leave out is padding of the batch.
            real = slice(None) if masks["output_mask"] is None else masks["output_mask"][index]
            classes = slice(None) if masks["category_mask"] is None else masks["category_mask"][index]
            valid = None
            if masks["pixel_mask"] is not None and roles is not None:
                valid = self.valid_maps(masks["pixel_mask"][index], roles[index][real])
                valid = self._fit(valid[:, None].float(), size, target, "nearest")[:, 0] > 0
            fitted.append((self._fit(sample[real][:, classes], size, target), valid))
        return fitted

    def post_process_semantic_segmentation(
        self, outputs: Any, target_sizes: Any = None, return_segmentation_scores: bool = False
    ) -> list[Any]:
        """Class maps of one output a sample.

        Args:
            outputs: of `STSUNForSemanticSegmentation`, or of `STSUNForDensePrediction` with one output.
            target_sizes: (height, width) of each sample that its maps shall have; `None` = the size of its images.
                Padding of the batch is cut off first. Other sizes are reached by bilinear interpolation of the logits.
                (Outputs without `image_sizes` do not say what is padding: of these a target size up to that of the
                logits cuts, and `None` cuts nothing.)
            return_segmentation_scores: whether each entry is a record with the fields `segmentation` (height, width)
                and `segmentation_scores` (classes, height, width).

        Returns:
            One (height, width) map of positions in `classes` a sample (for a single class 1 = present), or such
            records.

        Raises:
            ValueError: the number of sizes is not that of the samples, or a sample has several outputs.
        """
        fitted = [logits for logits, _ in self._fitted(outputs, target_sizes)]
        if any(len(logits) != 1 for logits in fitted):
            raise ValueError(
                f"These outputs hold {max(map(len, fitted))} maps a sample; use post_process_dense_prediction for all."
            )
        maps = [self.class_maps(logits)[0] for logits in fitted]
        if not return_segmentation_scores:
            return maps
        from transformers.image_processing_outputs import SemanticSegmentationPostProcessorOutput

        return [
            SemanticSegmentationPostProcessorOutput({"segmentation": m, "segmentation_scores": logits[0]})
            for m, logits in zip(maps, fitted, strict=True)
        ]

    def post_process_dense_prediction(self, outputs: Any, target_sizes: Any = None) -> list[torch.Tensor]:
        """Class maps of every output: one (maps, height, width) tensor of positions in `classes` a sample.

        Arguments and errors are those of [`STSUNImageProcessor.post_process_semantic_segmentation`].
        """
        return [self.class_maps(logits) for logits, _ in self._fitted(outputs, target_sizes)]

    def post_process_probabilities(self, outputs: Any, target_sizes: Any = None) -> list[torch.Tensor]:
        """Probabilities of the classes: one (maps, classes, height, width) float32 tensor a sample.

        Those of one class alone are of its presence. Arguments and errors are those of
        [`STSUNImageProcessor.post_process_semantic_segmentation`].
        """
        fitted = (logits.float() for logits, _ in self._fitted(outputs, target_sizes))
        return [logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1) for logits in fitted]

    def post_process_change_detection(
        self,
        outputs: Any,
        target_sizes: Any = None,
        threshold: float = 0.5,
        return_validity: bool = False,
    ) -> list[Any]:
        """Change masks of binary change detection: one (maps, height, width) boolean tensor a sample.

        Args:
            outputs: of a request whose classes are (unchanged, changed) in this order, or changed alone.
            target_sizes: see [`STSUNImageProcessor.post_process_semantic_segmentation`].
            threshold: probability of change from which a pixel counts as changed.
            return_validity: whether each entry is a dictionary with `change` and `valid` (maps, height, width), True
                where both dates hold data. `change` is False elsewhere in any case, as nothing is known there.
        """
        results = []
        for logits, valid in self._fitted(outputs, target_sizes):
            if logits.shape[1] > 2:
                raise ValueError(f"Binary change has one or two classes, these outputs have {logits.shape[1]}.")
            odds = logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]
            change = odds.sigmoid() >= threshold
            valid = torch.ones_like(change) if valid is None else valid
            change = change & valid
            results.append({"change": change, "valid": valid} if return_validity else change)
        return results

    def post_process_semantic_change_detection(
        self, outputs: Any, target_sizes: Any = None
    ) -> list[dict[str, torch.Tensor]]:
        """Maps of semantic change detection and where they differ.

        Arguments and errors are those of [`STSUNImageProcessor.post_process_semantic_segmentation`].

        Returns:
            For each sample `segmentation` (dates, height, width); `change` (dates - 1, height, width), True where the
            class differs from that of the date before; and `valid`, likewise, True where both dates hold data:
            elsewhere nothing is known, and `change` is False.
        """
        results = []
        for logits, valid in self._fitted(outputs, target_sizes):
            maps = self.class_maps(logits)
            change = maps[1:] != maps[:-1]
            both = torch.ones_like(change) if valid is None else valid[1:] & valid[:-1]
            results.append({"segmentation": maps, "change": change & both, "valid": both})
        return results


def _warn_of_absurd(absurd: np.ndarray, pixels: np.ndarray, bands: Sequence[Band]) -> None:
    """Names one value of those that are taken as missing."""
    band, row, column = np.argwhere(absurd)[0]
    warnings.warn(
        f"Band {bands[band].name!r} holds values such as {pixels[band, row, column]:g}, beyond all that it can "
        "measure: such pixels are taken as missing. If that is the value of missing pixels, say so (nodata=..., "
        "--nodata).",
        stacklevel=3,
    )


def _is_nested(outputs: Sequence[Any]) -> bool:
    """Whether `outputs` holds one list of outputs a series (or None for some), rather than one output an entry."""
    for entry in outputs:
        if entry is not None:
            return len(entry) > 0 and not isinstance(entry[0], (int, np.integer))
    return True


def _is_one_series(labels: Any) -> bool:
    """Whether these are the label maps of one series, rather than a list of those of several."""
    if isinstance(labels, (list, tuple)):
        return len(labels) > 0 and all(np.ndim(label) == 2 for label in labels)
    return np.ndim(labels) <= 3


def _as_labels(segmentation_maps: Any) -> list[np.ndarray]:
    """Labels (1, height, width) of each series."""
    if not isinstance(segmentation_maps, (list, tuple)) and np.ndim(segmentation_maps) == 2:
        segmentation_maps = [segmentation_maps]
    maps = [filled_labels(one) for one in segmentation_maps]
    for one in maps:
        if one.ndim != 2:
            raise ValueError(
                f"A map of segmentation_maps has shape {one.shape}; (height, width) is expected. Several maps a series "
                "go in as labels=..."
            )
    return [one[None] for one in maps]


def _bands_of(series: ImageSeries) -> tuple[Band, ...]:
    """All bands of a series, each once."""
    return tuple(dict.fromkeys(band for acquisition in series.acquisitions for band in acquisition.bands))


def _with_pixels(images: Sequence[Any]) -> list[ImageSeries]:
    for series in images:
        if not _is_series(series):
            raise ValueError(f"Give a list of ImageSeries only, got one of {type(series).__name__}.")
        if series.pixels is None:
            raise ValueError("This series holds no pixels: read them with stsun_processing.read_series(...).")
    return list(images)


def _is_series(images: Any) -> bool:
    """Whether this is an [`ImageSeries`]; one by name too, since the code in a checkpoint's folder defines it anew."""
    return isinstance(images, ImageSeries) or type(images).__name__ == ImageSeries.__name__


def _span(days: np.ndarray) -> tuple[float, float]:
    """First and last of some days; NaN (unknown) if any of them is."""
    return float(days.min()), float(days.max())


__all__ = ["BY_KIND", "STSUNBatchFeature", "STSUNImageProcessor", "STSUNImageProcessorKwargs"]
