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
"""Collation of labelled samples of any sensors, sizes, tasks and class sets into one batch."""

from collections.abc import Sequence
from typing import Any

from transformers.image_processing_utils import BatchFeature

from ..image_processing_stsun import STSUNImageProcessor
from ..statistics_stsun import BY_KIND
from .augmentation import measured_series
from .datasets import Sample


class STSUNCollator:
    """Batches [`Sample`]s with a processor: a `collate_fn` for a `DataLoader`, a `data_collator` for the `Trainer`.

    Args:
        processor: makes the tensors. Samples whose source it holds band statistics for are normalised with those,
            others by kind of band.
        check_range: whether values in an implausible unit are refused.
    """

    def __init__(self, processor: STSUNImageProcessor, check_range: bool = True):
        self.processor = processor
        self.check_range = check_range

    def __call__(self, samples: Sequence[Sample]) -> BatchFeature:
        """Inputs of the model, with `labels`.

        Raises:
            ValueError: a sample has no labels, or does not fit the processor; the message names the sample.
        """
        encoded = []
        for sample in samples:
            if sample.labels is None:
                raise ValueError(f"Sample {sample.name!r} of {sample.source!r} has no labels; training needs them.")
            try:
                encoded.append(self._encode(sample))
            except ValueError as error:
                raise ValueError(f"Sample {sample.name!r} of {sample.source!r}: {error}") from error
        return self.processor.pad(encoded)

    def _encode(self, sample: Sample) -> dict[str, Any]:
        is_known = sample.source in self.processor.band_statistics
        request = self.processor.encode_metadata(
            sample.series, sample.task, sample.classes, sample.outputs, size=sample.series.size
        )
        # The model is told what augmentation made of the bands; pixels are normalised as what they were measured as.
        pixel_values, pixel_mask = self.processor.encode_pixels(
            measured_series(sample.series),
            sample.source if is_known else BY_KIND,
            # Statistics measured on this very source are in its unit.
            check_range=self.check_range and not is_known,
        )
        labels = self.processor.encode_labels(sample.labels, request)
        return {**request, "pixel_values": pixel_values, "pixel_mask": pixel_mask, "labels": labels}
