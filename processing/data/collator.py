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

from transformers.image_processing_utils import BatchFeature

from ..image_processing_stsun import BY_KIND, STSUNImageProcessor
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
            known = sample.source in self.processor.band_statistics
            try:
                encoded.append(
                    self.processor.encode(
                        sample.series,
                        sample.task,
                        sample.classes,
                        sample.outputs,
                        sample.labels,
                        sample.source if known else BY_KIND,
                        # Statistics measured on this very source are in its unit.
                        check_range=self.check_range and not known,
                        allow_empty=True,
                    )
                )
            except ValueError as error:
                raise ValueError(f"Sample {sample.name!r} of {sample.source!r}: {error}") from error
        return self.processor.pad(encoded)
