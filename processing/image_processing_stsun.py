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
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from huggingface_hub.dataclasses import validate_typed_dict
from transformers.image_processing_utils import BaseImageProcessor, BatchFeature
from transformers.processing_utils import ImagesKwargs, Unpack

from .metadata import CHANGE_CLASSES, IGNORE_INDEX, INDICES, TASKS, Acquisition, Band, ImageSeries, default_outputs

BAND_TYPES = (
    *("other", "reflective", "thermal", "elevation", "index"),
    *("sar", "sar_vv", "sar_vh", "sar_hh", "sar_hv"),
    *(f"index_{name}" for name in INDICES),
)
# Mean and spread of values in physical units, by kind of band: what normalises a band that no statistics are known for.
# Land reflectance in 0-1, brightness temperature in kelvin, backscatter in decibel, elevation in metres, normalised
# difference indices; round numbers of the right magnitude, not measurements.
KIND_STATISTICS = {
    "reflective": {"mean": 0.2, "std": 0.15},
    "thermal": {"mean": 290.0, "std": 15.0},
    "sar": {"mean": -12.0, "std": 6.0},
    "elevation": {"mean": 500.0, "std": 500.0},
    "index": {"mean": 0.0, "std": 0.5},
    "other": {"mean": 0.0, "std": 1.0},
}
# In place of the name of a data set: normalise by kind of band, whatever statistics are known.
BY_KIND = "by_kind"
ROLE_CONTEXT, ROLE_DESCRIBED, ROLE_BEFORE, ROLE_AFTER = range(4)
# A median this many times as large as usual values (mean + 3 std) is one in another unit: snow, summits and sun glint
# lie far within, reflectance stored x 10000 or as bytes far beyond.
IMPLAUSIBLE_FACTOR = 10.0

Outputs = Sequence[Sequence[int]]
BandInput = Band | Mapping[str, Any]
ImageSeriesInput = ImageSeries | np.ndarray | torch.Tensor | Sequence[Any]


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
    band_statistics (`dict`): For each data set, by band name, the `mean` and `std` (and `center_nm`) of its values.
    """

    tasks: list[str] | None
    categories: list[str] | None
    band_types: list[str] | None
    unified_size: int | None
    kind_statistics: dict | None
    band_statistics: dict | None


class STSUNImageProcessor(BaseImageProcessor):
    r"""
    Turns image series of any sensors, dates and sizes into one padded and masked batch for STSUN.

    Pixels are normalised per band: with the statistics of the data set that they come from, where this processor holds
    them, else by the kind of the band, which takes physical units (reflectance 0-1, kelvin, decibel, metres).

    Args:
        tasks (`list[str]`, *optional*): names of the tasks, in the order of the model's config.
        categories (`list[str]`, *optional*): names of all classes, in the order of the model's `id2label`.
        band_types (`list[str]`, *optional*): names of the band types, in the order of the model's config.
        unified_size (`int`, *optional*, defaults to 256): longest side of the unified grid in cells.
        kind_statistics (`dict`, *optional*): `{kind: {"mean": ..., "std": ...}}`.
        band_statistics (`dict`, *optional*): `{data set: {band name: {"mean": ..., "std": ..., "center_nm": ...}}}`.
    """

    valid_kwargs = STSUNImageProcessorKwargs
    model_input_names = ["pixel_values"]
    tasks = list(TASKS)
    categories = list(CHANGE_CLASSES)
    band_types = list(BAND_TYPES)
    unified_size = 256
    kind_statistics = KIND_STATISTICS
    band_statistics = {}
    # Of the base class; nothing is rescaled or resized here.
    rescale_factor = None
    default_to_square = None

    def __init__(self, **kwargs: Unpack[STSUNImageProcessorKwargs]) -> None:
        super().__init__(**kwargs)
        self._set_attributes(**kwargs)

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
        bands: Sequence[BandInput] | Sequence[Sequence[BandInput]] | None = None,
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
            images: an [`ImageSeries`] with pixels, or a list of them; or one series as an array (dates, bands, height,
                width), or a list of one array (bands, height, width) a date, in physical units with NaN for nodata.
            task: name of the task, or one name a series.
            classes: names of the classes asked for, in the order that the logits shall have, or one such list a series.
                `None` = unchanged and changed for binary change detection, else all classes that are known but these
                two.
            outputs: what each map shall describe, or one such list a series. For semantic tasks the positions of its
                dates, for binary change detection the positions (before, after). `None` = one map of all dates for
                semantic segmentation, one a date for semantic change detection, one for each two neighbouring dates for
                binary change detection.
            labels: (maps, height, width) positions in `classes`, 255 = not labelled; one array a series.
            bands: for arrays: what the channels are, as [`Band`] records or dictionaries with their fields, such as
                `{"name": "B04", "kind": "reflective", "center_nm": 665.0, "fwhm_nm": 30.0}`; or one list of them a
                date.
            timestamps: for arrays: the dates (ISO 8601 text, `datetime`, `numpy.datetime64`; `None` = unknown), oldest
                first.
            gsd_m: for arrays: ground sampling distance in metres a pixel.
            statistics: key of `band_statistics` to normalise with, or `by_kind` for the statistics of the kind of each
                band; or one a series. `None` = the only data set whose bands have the series' names and wavelengths, if
                there is one, else by kind of band.
            cell_size: side of a cell of the unified grid in pixels; `None` = so that the longer side of the series
                takes at most `unified_size` cells.
            check_range: whether values that cannot be in the units that the statistics expect are refused.
            return_tensors: `pt` or `np`.
            **kwargs: the settings of this processor, for this call.

        Returns:
            A [`BatchFeature`] with the model's inputs, padded to common sizes, and `labels` where they were given.

        Raises:
            ValueError: an unknown task, class or data set, no class, bands or dates that do not fit, labels of another
                size, values in another unit, or no valid pixel in a series. ([`MetadataError`] is a ValueError.)
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
                bands=bands,
                timestamps=timestamps,
                gsd_m=gsd_m,
                statistics=statistics,
                cell_size=cell_size,
                check_range=check_range,
                return_tensors=return_tensors,
            )
        batch = self.to_series(images, bands, timestamps, gsd_m)
        count = len(batch)
        tasks = [task] * count if isinstance(task, str) else self.one_each("task", task, count)
        if classes is None or isinstance(classes, str) or all(isinstance(name, str) for name in classes):
            classes = [classes] * count
        if outputs is None or not _is_nested(outputs):
            outputs = [outputs] * count
        if statistics is None or isinstance(statistics, str):
            statistics = [statistics] * count
        if labels is not None and not isinstance(images, (list, tuple)):
            labels = [labels]
        labels = [None] * count if labels is None else self.one_each("labels", labels, count)
        if any(label is None for label in labels) and any(label is not None for label in labels):
            raise ValueError("labels hold None for some series: give labels for all of them or for none.")
        samples = [
            self.encode(series, *request, cell_size=cell_size, check_range=check_range)
            for series, *request in zip(
                batch,
                tasks,
                self.one_each("classes", classes, count),
                self.one_each("outputs", outputs, count),
                labels,
                self.one_each("statistics", statistics, count),
                strict=True,
            )
        ]
        return self.pad(samples, return_tensors=return_tensors)

    @staticmethod
    def one_each(name: str, values: Sequence[Any], count: int) -> Sequence[Any]:
        """`values`, if there are `count` of them."""
        if len(values) != count:
            raise ValueError(f"{name} holds {len(values)} entries for {count} series; give one, or one a series.")
        return values

    def to_settings(self) -> dict[str, Any]:
        """The settings that make an equal processor."""
        names = ("tasks", "categories", "band_types", "unified_size", "kind_statistics", "band_statistics")
        return {name: getattr(self, name) for name in names}

    @staticmethod
    def to_series(
        images: ImageSeriesInput, bands: Any, timestamps: Sequence[Any] | None, gsd_m: float | None
    ) -> list[ImageSeries]:
        """Series with pixels from everything that `preprocess` takes."""
        if _is_series(images):
            images = [images]
        if not isinstance(images, (np.ndarray, torch.Tensor, list, tuple)):
            raise ValueError(
                f"Images of type {type(images).__name__} were given; give an ImageSeries, an array (dates, bands, "
                "height, width), a list of one array (bands, height, width) a date, or a list of ImageSeries."
            )
        if len(images) == 0:
            raise ValueError("No image was given.")
        if not isinstance(images, (np.ndarray, torch.Tensor)) and _is_series(images[0]):
            if bands is not None or timestamps is not None or gsd_m is not None:
                raise ValueError(
                    "bands, timestamps and gsd_m describe arrays; an ImageSeries carries its own. Leave them out."
                )
            for series in images:
                if not _is_series(series):
                    raise ValueError(f"Give a list of ImageSeries only, got one of {type(series).__name__}.")
                if series.pixels is None:
                    raise ValueError("This series holds no pixels: read them with stsun_processing.read_series(...).")
            return list(images)
        arrays = [np.asarray(array, dtype=np.float32) for array in images]
        if any(array.ndim != 3 for array in arrays):
            raise ValueError(
                f"An array must be (dates, bands, height, width), or a list of (bands, height, width) a date; got "
                f"shapes {[array.shape for array in arrays]} a date. Several series go in as ImageSeries."
            )
        if bands is None or len(bands) == 0:
            raise ValueError(
                "Arrays need bands=[Band(...), ...], one record a channel (see stsun_processing.sensor_bands): without "
                "them nothing says what the channels are."
            )
        per_date = [bands] * len(arrays) if isinstance(bands[0], (Band, Mapping)) else list(bands)
        per_date = [[b if isinstance(b, Band) else Band.from_dict(b) for b in date] for date in per_date]
        dates = [None] * len(arrays) if timestamps is None else list(timestamps)
        for name, values in (("bands", per_date), ("timestamps", dates)):
            if len(values) != len(arrays):
                raise ValueError(f"{name} holds {len(values)} entries for {len(arrays)} dates; give one a date.")
        acquisitions = [Acquisition(tuple(b), date, gsd_m) for b, date in zip(per_date, dates, strict=True)]
        return [ImageSeries(tuple(acquisitions), pixels=tuple(arrays))]

    def resolve_classes(self, task: str, classes: Sequence[str] | None) -> list[str]:
        """The class names of a request, checked against the vocabulary."""
        if classes is None:
            is_change = task == "binary_change_detection"
            classes = CHANGE_CLASSES if is_change else [c for c in self.categories if c not in CHANGE_CLASSES]
        if isinstance(classes, str):
            raise ValueError(f"classes is the text {classes!r}; give a list of names: [{classes!r}].")
        classes = list(classes)
        if len(classes) > IGNORE_INDEX:
            raise ValueError(f"{len(classes)} classes were asked for; labels tell at most {IGNORE_INDEX} apart.")
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
        """Key of the band statistics that normalise a series; `None` = by kind of band."""

        def fits(entries: Mapping[str, Any], band: Band) -> bool:
            center = entries.get(band.name, {}).get("center_nm")
            return band.name in entries and (
                center == band.center_nm or (None not in (center, band.center_nm) and abs(center - band.center_nm) <= 1)
            )

        bands = {band for acquisition in series.acquisitions for band in acquisition.bands}
        if statistics is None:
            fitting = [key for key, entries in self.band_statistics.items() if all(fits(entries, b) for b in bands)]
            if len(fitting) > 1:
                raise ValueError(
                    f"The bands fit the statistics of several data sets: {', '.join(fitting)}. Name one with "
                    "statistics=."
                )
            return fitting[0] if fitting else None
        if statistics == BY_KIND:
            return None
        if statistics not in self.band_statistics:
            raise ValueError(
                f"Unknown statistics {statistics!r}; this processor holds those of "
                f"{', '.join(self.band_statistics) or 'no data set'}. {BY_KIND!r} normalises by kind of band."
            )
        missing = sorted(band.name for band in bands if band.name not in self.band_statistics[statistics])
        if missing:
            raise ValueError(
                f"Statistics {statistics!r} lack the bands {', '.join(missing)}; they hold "
                f"{', '.join(self.band_statistics[statistics])}."
            )
        return statistics

    def normalize_series(self, series: ImageSeries, statistics: str | None, check_range: bool) -> list[np.ndarray]:
        """Pixels of each date, (bands, height, width), normalised; 0 where there is no data."""
        key = self.resolve_statistics(series, statistics)
        arrays = []
        for acquisition, pixels, valid in zip(series.acquisitions, series.pixels, series.valid, strict=True):
            entries = [
                self.kind_statistics[band.kind] if key is None else self.band_statistics[key][band.name]
                for band in acquisition.bands
            ]
            mean, std = (
                np.array([entry[name] for entry in entries], dtype=np.float32)[:, None, None]
                for name in ("mean", "std")
            )
            # A band that is the same everywhere has no spread to divide by.
            array = (pixels - mean) / np.where(std > 0, std, 1)
            if check_range and valid.any():
                medians = np.median(pixels[:, valid], axis=1)
                excess = np.abs(medians) / np.maximum(np.abs(mean) + 3 * std, 1e-6)[:, 0, 0]
                worst = int(excess.argmax())
                if excess[worst] > IMPLAUSIBLE_FACTOR:
                    band, value = acquisition.bands[worst], medians[worst]
                    raise ValueError(
                        f"Band {band.name!r} ({band.kind}) has a median of {value:g}, where about "
                        f"{entries[worst]['mean']:g} +- {entries[worst]['std']:g} is expected: it is in another unit. "
                        "Give the scale to physical units when reading (scale=0.0001 for reflectance stored x 10000), "
                        "or name the statistics of its data set (statistics=...)."
                    )
            arrays.append(np.where(valid, array, 0.0).astype(np.float32))
        return arrays

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
        num_dates, (height, width) = len(series.acquisitions), series.size
        outputs = self.resolve_outputs(task, outputs, num_dates)
        classes = self.resolve_classes(task, classes)
        valid = np.stack(series.valid)
        if not valid.any() and not allow_empty:
            raise ValueError("The series holds no valid pixel: every one is nodata.")
        if cell_size is not None and (cell_size != int(cell_size) or cell_size < 1):
            raise ValueError(f"cell_size must be a whole number of at least 1 pixel, got {cell_size}.")

        arrays = self.normalize_series(series, statistics, check_range)
        num_bands = max(len(array) for array in arrays)
        pixels = np.zeros((num_dates, num_bands, height, width), dtype=np.float32)
        metadata = np.full((2, num_dates, num_bands), np.nan, dtype=np.float32)
        band_types = np.zeros((num_dates, num_bands), dtype=np.int64)
        band_mask = np.zeros((num_dates, num_bands), dtype=bool)
        for index, (array, acquisition) in enumerate(zip(arrays, series.acquisitions, strict=True)):
            count = len(acquisition.bands)
            pixels[index, :count] = array
            for position, band in enumerate(acquisition.bands):
                metadata[:, index, position] = [
                    math.nan if value is None else value for value in (band.center_nm, band.fwhm_nm)
                ]
                band_types[index, position] = self.band_types.index(band.type)
            band_mask[index, :count] = True

        days = np.array(series.days, dtype=np.float32)
        is_change = task == "binary_change_detection"
        roles = np.full((len(outputs), num_dates), ROLE_CONTEXT, dtype=np.int64)
        for row, output in zip(roles, outputs, strict=True):
            row[list(output)] = (ROLE_BEFORE, ROLE_AFTER) if is_change else ROLE_DESCRIBED
        intervals = [(days[list(o)][0], days[list(o)][-1]) if is_change else _span(days[list(o)]) for o in outputs]
        sample = {
            "pixel_values": pixels,
            "wavelengths": metadata[0],
            "bandwidths": metadata[1],
            "band_types": band_types,
            "timestamps": days,
            "gsd": np.float32(math.nan if series.gsd_m is None else series.gsd_m),
            "band_mask": band_mask,
            "date_mask": np.ones(num_dates, dtype=bool),
            "pixel_mask": valid,
            "cell_sizes": np.int64(cell_size or -(-max(height, width) // self.unified_size)),
            "task_ids": np.int64(self.tasks.index(task)),
            "category_ids": np.array([self.categories.index(name) for name in classes], dtype=np.int64),
            "category_mask": np.ones(len(classes), dtype=bool),
            "output_timestamps": np.array(intervals, dtype=np.float32),
            "output_date_roles": roles,
            "output_mask": np.ones(len(outputs), dtype=bool),
        }
        if labels is not None:
            labels = np.asarray(labels)
            if labels.shape != (len(outputs), height, width):
                raise ValueError(
                    f"labels have shape {labels.shape}; (maps, height, width) = {(len(outputs), height, width)} is "
                    "expected."
                )
            allowed = max(len(classes), 2)  # one class alone is labelled 0 = absent, 1 = present
            wrong = sorted(set(np.unique(labels).tolist()) - {*range(allowed), IGNORE_INDEX})
            if wrong:
                raise ValueError(
                    f"labels hold {wrong}; allowed are 0..{allowed - 1} and {IGNORE_INDEX} (not labelled)."
                )
            sample["labels"] = labels.astype(np.int64)
        return sample

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
    def _class_maps(logits: torch.Tensor) -> torch.Tensor:
        """(..., K, H, W) -> (..., H, W): the best class, or for a single class 1 where its sigmoid exceeds one half."""
        return (logits[..., 0, :, :] > 0).long() if logits.shape[-3] == 1 else logits.argmax(-3)

    @staticmethod
    def _fit(logits: torch.Tensor, size: Sequence[int] | None) -> torch.Tensor:
        """Cuts padding off (S, K, H, W) logits, or resizes them to a larger size."""
        if size is None:
            return logits
        height, width = (int(side) for side in size)
        if height <= logits.shape[-2] and width <= logits.shape[-1]:
            return logits[..., :height, :width]
        return torch.nn.functional.interpolate(logits, size=(height, width), mode="bilinear", align_corners=False)

    def _fitted(self, outputs: Any, target_sizes: Any) -> list[torch.Tensor]:
        """The logits (maps, classes, height, width) of each sample, without padding."""
        logits = outputs.logits
        if logits.ndim == 4:
            logits = logits.unsqueeze(1)
        output_mask = getattr(outputs, "output_mask", None)
        category_mask = getattr(outputs, "category_mask", None)
        # What the masks leave out is padding of the batch.
        logits = [
            (sample if output_mask is None else sample[output_mask[index]])[
                :, slice(None) if category_mask is None else category_mask[index]
            ]
            for index, sample in enumerate(logits)
        ]
        if target_sizes is None:
            target_sizes = [None] * len(logits)
        if len(target_sizes) != len(logits):
            raise ValueError(
                f"target_sizes holds {len(target_sizes)} sizes for a batch of {len(logits)}: give one (height, width) "
                "a sample."
            )
        return [self._fit(sample, size) for sample, size in zip(logits, target_sizes, strict=True)]

    def post_process_semantic_segmentation(
        self, outputs: Any, target_sizes: Any = None, return_segmentation_scores: bool = False
    ) -> list[Any]:
        """Class maps of one output a sample.

        Args:
            outputs: of `STSUNForSemanticSegmentation`, or of `STSUNForDensePrediction` with one output.
            target_sizes: (height, width) of each sample. The batch is padded, never resized, so a size up to that of
                the logits cuts the padding off; a larger one is reached by bilinear interpolation of the logits.
            return_segmentation_scores: whether each entry is a record with the fields `segmentation` (height, width)
                and `segmentation_scores` (classes, height, width).

        Returns:
            One (height, width) map of positions in `classes` a sample (for a single class 1 = present), or such
            records.

        Raises:
            ValueError: the number of sizes is not that of the samples, or a sample has several outputs.
        """
        fitted = self._fitted(outputs, target_sizes)
        if any(len(logits) != 1 for logits in fitted):
            raise ValueError(
                f"These outputs hold {max(map(len, fitted))} maps a sample; use post_process_dense_prediction for all."
            )
        maps = [self._class_maps(logits)[0] for logits in fitted]
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
        return [self._class_maps(logits) for logits in self._fitted(outputs, target_sizes)]

    def post_process_probabilities(self, outputs: Any, target_sizes: Any = None) -> list[torch.Tensor]:
        """Probabilities of the classes: one (maps, classes, height, width) float32 tensor a sample.

        Those of one class alone are of its presence. Arguments and errors are those of
        [`STSUNImageProcessor.post_process_semantic_segmentation`].
        """
        fitted = (logits.float() for logits in self._fitted(outputs, target_sizes))
        return [logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1) for logits in fitted]

    def post_process_change_detection(
        self, outputs: Any, target_sizes: Any = None, threshold: float = 0.5
    ) -> list[torch.Tensor]:
        """Change masks of binary change detection: one (maps, height, width) boolean tensor a sample.

        Args:
            outputs: of a request whose classes are (unchanged, changed) in this order, or changed alone.
            target_sizes: see [`STSUNImageProcessor.post_process_semantic_segmentation`].
            threshold: probability of change from which a pixel counts as changed.
        """
        masks = []
        for logits in self._fitted(outputs, target_sizes):
            if logits.shape[1] > 2:
                raise ValueError(f"Binary change has one or two classes, these outputs have {logits.shape[1]}.")
            odds = logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]
            masks.append(odds.sigmoid() >= threshold)
        return masks

    def post_process_semantic_change_detection(
        self, outputs: Any, target_sizes: Any = None
    ) -> list[dict[str, torch.Tensor]]:
        """For each sample `segmentation` (dates, height, width) and `change` (dates - 1, height, width), True where the
        class differs from that of the date before.

        Arguments and errors are those of [`STSUNImageProcessor.post_process_semantic_segmentation`].
        """
        maps = self.post_process_dense_prediction(outputs, target_sizes)
        return [{"segmentation": m, "change": m[1:] != m[:-1]} for m in maps]


def _is_nested(outputs: Sequence[Any]) -> bool:
    """Whether `outputs` holds one list of outputs a series (or None for some), rather than one output an entry."""
    for entry in outputs:
        if entry is not None:
            return len(entry) > 0 and not isinstance(entry[0], (int, np.integer))
    return True


def _is_series(images: Any) -> bool:
    """Whether this is an [`ImageSeries`]; one by name too, since the code in a checkpoint's folder defines it anew."""
    return isinstance(images, ImageSeries) or type(images).__name__ == ImageSeries.__name__


def _span(days: np.ndarray) -> tuple[float, float]:
    """First and last of some days; NaN (unknown) if any of them is."""
    return float(days.min()), float(days.max())


__all__ = ["STSUNBatchFeature", "STSUNImageProcessor", "STSUNImageProcessorKwargs"]
