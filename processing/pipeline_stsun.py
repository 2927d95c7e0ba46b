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
"""The pipeline `dense-prediction`: rasters, arrays or image series in, maps out."""

import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
import torch
from transformers import Pipeline

from .image_processing_stsun import STSUNImageProcessor
from .metadata import IGNORE_INDEX, ImageSeries

# Arguments of a request, of arrays and of rasters; see the docstring of the pipeline's call.
_REQUEST = ("task", "classes", "outputs", "statistics", "cell_size")
_ARRAYS = ("bands", "timestamps", "gsd_m")
_RASTERS = ("bands", "sensor", "dates", "gsd_m", "scale")
PathLike = str | os.PathLike[str]


class DensePredictionPipeline(Pipeline):
    """Maps of image series in one forward pass; for scenes beyond that see `stsun_processing.predict_raster`.

    Example:

    ```python
    >>> from transformers import pipeline
    >>> import modeling_stsun

    >>> pipe = pipeline("dense-prediction", model="org/stsun")
    >>> result = pipe(("before.tif", "after.tif"), task="binary_change_detection")
    >>> result["maps"].shape
    (1, 512, 512)
    ```
    """

    _load_processor = False
    _load_image_processor = True
    _load_feature_extractor = False
    _load_tokenizer = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.image_processor.check_config(self.model.config)
        self.check_batch_size(self._batch_size)

    @staticmethod
    def check_batch_size(batch_size: int | None) -> None:
        """Raises ValueError for batches: series differ in size and bands."""
        if batch_size not in (None, 1):
            raise ValueError(
                f"batch_size={batch_size}: series differ in size and bands, so this pipeline takes one at a time. "
                "Batch with the image processor and the model instead."
            )

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Predicts maps.

        Args:
            inputs: one series, or a list of series. A series is an [`ImageSeries`] with pixels; the path of a raster,
                or a tuple of paths, one a date, oldest first; or an array (dates, bands, height, width), which needs
                `bands`.
            task: name of the task (default: semantic_segmentation).
            classes: names of the classes asked for, in the order of the map's values.
            outputs: positions of the dates that each map describes.
            statistics: see the image processor, as for `classes` and `outputs`.
            cell_size: see the image processor.
            bands: what the bands are; for arrays records, or dictionaries with their fields, for rasters also names.
            timestamps: for arrays: the dates.
            gsd_m: ground sampling distance in metres a pixel.
            sensor: for rasters: name of the sensor.
            dates: for rasters: the dates.
            scale: for rasters: factor to physical units.
            probabilities: whether the result holds those of each class.

        Returns:
            A dictionary a series: `maps` (maps, height, width) uint8, positions in `classes` (for one class alone 1 =
            present), 255 = no data; `classes`, their names; `change` (dates - 1, height, width) bool for semantic
            change detection; `probabilities` (maps, classes, height, width) float32 if asked for; `crs` and `transform`
            of the input.

        Raises:
            ValueError: as of the image processor and the readers of rasters; a `batch_size` above 1.
            ImportError: rasters without rasterio.
        """
        self.check_batch_size(kwargs.get("batch_size"))
        return super().__call__(inputs, *args, **kwargs)

    def _sanitize_parameters(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        kwargs.pop("batch_size", None)
        probabilities = kwargs.pop("probabilities", False)
        if unknown := sorted(set(kwargs) - {*_REQUEST, *_ARRAYS, *_RASTERS}):
            raise ValueError(
                f"{', '.join(unknown)} mean nothing to the dense-prediction pipeline; it takes "
                f"{', '.join(sorted({*_REQUEST, *_ARRAYS, *_RASTERS, 'probabilities'}))}."
            )
        return kwargs, {}, {"probabilities": probabilities}

    @staticmethod
    def read_rasters(paths: PathLike | Sequence[PathLike], options: Mapping[str, Any]) -> ImageSeries:
        """A series from raster files."""
        try:
            read_series = import_module("stsun_processing").read_series
        except ImportError as error:
            raise ImportError(
                "Paths of rasters are read by the package (pip install stsun); arrays and ImageSeries need no more "
                f"than this checkpoint. {error}"
            ) from error
        if unused := sorted(set(options) - {*_REQUEST, *_RASTERS}):
            raise ValueError(f"{', '.join(unused)} describe arrays; rasters take {', '.join(_RASTERS)}.")
        return read_series(paths, **{name: options[name] for name in _RASTERS if name in options})

    def preprocess(self, inputs: Any, **options: Any) -> dict[str, Any]:
        """Makes the model's inputs from one series."""
        processor: STSUNImageProcessor = self.image_processor
        if isinstance(inputs, (str, os.PathLike)) or (
            isinstance(inputs, tuple) and inputs and all(isinstance(path, (str, os.PathLike)) for path in inputs)
        ):
            series = self.read_rasters(inputs, options)
        else:
            if unused := sorted(set(options) - {*_REQUEST, *_ARRAYS}):
                raise ValueError(f"{', '.join(unused)} describe rasters; give them paths.")
            if isinstance(inputs, np.ndarray) and inputs.ndim == 3:
                raise ValueError(
                    f"A series has four axes (dates, bands, height, width), got an array of shape {inputs.shape}. A "
                    "list is several series; put the dates of one into one array."
                )
            series = processor.to_series(inputs, *(options.get(name) for name in _ARRAYS))[0]
        request = {name: options[name] for name in _REQUEST if name in options}
        task = request.get("task", "semantic_segmentation")
        return {
            "batch": processor(series, **request),
            "classes": processor.resolve_classes(task, request.get("classes")),
            "task": task,
            "valid": np.any(series.valid, axis=0),
            "crs": series.crs,
            "transform": series.transform,
        }

    def _forward(self, model_inputs: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {**model_inputs, "outputs": self.model(**model_inputs.pop("batch"))}

    def postprocess(self, model_outputs: dict[str, Any], probabilities: bool = False) -> dict[str, Any]:
        """Makes the result of one series."""
        processor: STSUNImageProcessor = self.image_processor
        outputs, valid = model_outputs["outputs"], model_outputs["valid"]
        maps = processor.post_process_dense_prediction(outputs, [valid.shape])[0].to(torch.uint8).numpy()
        result = {
            "maps": np.where(valid, maps, IGNORE_INDEX).astype(np.uint8),
            "classes": model_outputs["classes"],
            "crs": model_outputs["crs"],
            "transform": model_outputs["transform"],
        }
        if model_outputs["task"] == "semantic_change_detection":
            result["change"] = (maps[1:] != maps[:-1]) & valid
        if probabilities:
            result["probabilities"] = processor.post_process_probabilities(outputs, [valid.shape])[0].numpy()
        return result


__all__ = ["DensePredictionPipeline"]
