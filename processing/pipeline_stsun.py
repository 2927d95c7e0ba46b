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
"""The pipeline `dense-prediction`: rasters, pictures, arrays or image series in, maps out."""

import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
import torch
from transformers import Pipeline

from .arrays_stsun import select_readings
from .image_processing_stsun import STSUNImageProcessor
from .metadata import IGNORE_INDEX, ImageSeries

# Arguments of a request, of arrays and of rasters; see the docstring of the pipeline's call.
_REQUEST = ("task", "classes", "outputs", "statistics", "cell_size")
_ARRAYS = ("bands", "sensor", "dates", "gsd_m")
_RASTERS = (
    *("bands", "sensor", "product", "dates", "gsd_m"),
    *("scale", "offset", "nodata", "parts", "grid"),
)
_OPTIONS = sorted({*_REQUEST, *_ARRAYS, *_RASTERS})
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
    # Looked for unless told otherwise, and asked about: no class of the package, but the checkpoint's own code has one.
    _load_video_processor = False
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
                or a tuple of paths, one per date, oldest first; an array (dates, bands, height, width), which needs
                `bands` or `sensor`; or a picture (a PIL image or an 8-bit array (height, width, channels)), or a tuple
                of pictures, one per date.
            task: name of the task (default: semantic_segmentation).
            classes: names of the classes asked for, in the order of the map's values.
            outputs: positions of the dates that each map describes.
            statistics: see the image processor, as for `classes` and `outputs`.
            cell_size: see the image processor.
            bands: what the bands are; for arrays records, or dictionaries with their fields, for rasters also names.
            sensor: name of the sensor; for arrays and pictures `rgb` alone.
            dates: the dates, oldest first (`timestamps` is taken too).
            gsd_m: ground sampling distance in metres a pixel.
            product: for rasters: name of the product, see `stsun_processing.open_series`, as for all that follow.
            scale: for rasters: factor to physical units.
            offset: for rasters: what is added then.
            nodata: for rasters: stored number that means missing.
            parts: for rasters: which files of a folder.
            grid: for rasters: the grid to bring them to.
            probabilities: whether the result holds those of each class.

        Returns:
            A dictionary a series: `maps` (maps, height, width) uint8, positions in `classes` (for one class alone 1 =
            present), 255 = no data, which for binary change is so where either date has none; `classes`, their names;
            for semantic change detection `change` (dates - 1, height, width) bool, and `valid`, likewise, True where
            both dates hold data: elsewhere `change` is False; `probabilities` (maps, classes, height, width) float32 if
            asked for, NaN = no data; `crs` and `transform` of the input.

        Raises:
            ValueError: as of the image processor and the readers of rasters; a `batch_size` above 1.
            ImportError: rasters without rasterio.
        """
        self.check_batch_size(kwargs.get("batch_size"))
        return super().__call__(inputs, *args, **kwargs)

    def _sanitize_parameters(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        kwargs.pop("batch_size", None)
        probabilities = kwargs.pop("probabilities", False)
        if "timestamps" in kwargs:
            if "dates" in kwargs:
                raise ValueError("dates and timestamps are two names of the same: give dates alone.")
            kwargs["dates"] = kwargs.pop("timestamps")
        if unknown := sorted(set(kwargs) - set(_OPTIONS)):
            raise ValueError(
                f"{', '.join(unknown)} mean nothing to the dense-prediction pipeline; it takes "
                f"{', '.join([*_OPTIONS, 'probabilities'])}."
            )
        return kwargs, {}, {"probabilities": probabilities}

    def read_rasters(self, paths: PathLike | Sequence[PathLike], options: Mapping[str, Any]) -> ImageSeries:
        """A series from raster files."""
        try:
            read_series = import_module("stsun_processing").read_series
        except ImportError as error:
            raise ImportError(
                "Paths of rasters are read by the package (pip install stsun); arrays and ImageSeries need no more "
                f"than this checkpoint. {error}"
            ) from error
        given = {name: options[name] for name in _RASTERS if name in options}
        if readings := select_readings(self.image_processor.readings, options.get("statistics")):
            given["readings"] = readings
        return read_series(paths, **given)

    def preprocess(self, inputs: Any, **options: Any) -> dict[str, Any]:
        """Makes the model's inputs from one series."""
        processor: STSUNImageProcessor = self.image_processor
        members = inputs if isinstance(inputs, tuple) else (inputs,)
        if members and all(isinstance(member, (str, os.PathLike)) for member in members):
            series = self.read_rasters(inputs, options)
        else:
            if unused := sorted(set(options) - {*_REQUEST, *_ARRAYS}):
                raise ValueError(f"{', '.join(unused)} describe rasters; give them paths.")
            described = {name: options[name] for name in ("bands", "gsd_m", "sensor") if name in options}
            (series,) = processor.to_series(
                inputs, timestamps=options.get("dates"), statistics=options.get("statistics"), **described
            )
        request = {name: options[name] for name in _REQUEST if name in options}
        task = request.get("task", "semantic_segmentation")
        return {
            "batch": processor(series, **request),
            "classes": processor.resolve_classes(task, request.get("classes")),
            "task": task,
            "crs": series.crs,
            "transform": series.transform,
        }

    def _forward(self, model_inputs: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        batch = model_inputs.pop("batch")
        seen = self._seen(batch, model_inputs["task"])
        return {**model_inputs, "seen": seen, "outputs": self.model(**batch)}

    def _seen(self, batch: Mapping[str, torch.Tensor], task: str) -> torch.Tensor:
        """Where there are data to tell from, (maps, height, width) bool: on any date, for binary change on both."""
        pixel_mask, roles = batch["pixel_mask"][0], batch["output_date_roles"][0]
        if task == "binary_change_detection":
            return self.image_processor.valid_maps(pixel_mask, roles)
        return pixel_mask.any(0).expand(len(roles), -1, -1)

    def postprocess(self, model_outputs: dict[str, Any], probabilities: bool = False) -> dict[str, Any]:
        """Makes the result of one series."""
        processor: STSUNImageProcessor = self.image_processor
        outputs, seen = model_outputs["outputs"], model_outputs["seen"].numpy()
        (maps,) = processor.post_process_dense_prediction(outputs)
        result = {
            "maps": np.where(seen, maps.numpy(), IGNORE_INDEX).astype(np.uint8),
            "classes": model_outputs["classes"],
            "crs": model_outputs["crs"],
            "transform": model_outputs["transform"],
        }
        if model_outputs["task"] == "semantic_change_detection":
            (differences,) = processor.post_process_semantic_change_detection(outputs)
            result |= {name: differences[name].numpy() for name in ("change", "valid")}
        if probabilities:
            (shares,) = processor.post_process_probabilities(outputs)
            result["probabilities"] = np.where(seen[:, None], shares.numpy(), np.float32(np.nan))
        return result


__all__ = ["DensePredictionPipeline"]
