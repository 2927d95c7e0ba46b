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

"""Scores of dense maps as a module of 🤗 Evaluate, loaded from this file.

    path = importlib.resources.files("stsun_processing") / "evaluate_maps.py"
    metric = evaluate.load(str(path), "segmentation", num_classes=5)
    metric.add_batch(predictions=maps, references=labels)
    metric.compute()

Configurations: `segmentation`, `change` and `semantic_change`; the definitions are those of `metrics`. What is added is
counted at once: memory does not grow with the number of maps, unlike in the modules that keep all predictions.
"""

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np
import torch

from stsun_processing.metadata import IGNORE_INDEX
from stsun_processing.metrics import (
    ConfusionMatrix,
    MetricError,
    change_scores,
    changes_only,
    segmentation_scores,
    semantic_change_scores,
)

_RESULTS = {
    "segmentation": "mean_iou, mean_f1, overall_accuracy, kappa and, where class_names are given, iou_<name>",
    "change": "precision, recall, f1 and iou of the class changed, which is 1",
    "semantic_change": "sek, fscd, mean_iou (of no change and change), overall_accuracy and score",
}
_INPUTS = """
Args:
    predictions: class positions, integers of any shape. For `semantic_change` without `no_change`: full maps of each
        date, (..., dates, height, width).
    references: the same, or ignore_index where nothing is known.
"""


class DenseMapMetric(evaluate.Metric):
    """A metric that counts each batch into one confusion matrix.

    Args:
        *args: as `evaluate.load` passes them.
        num_classes: number of classes; 2 for `change`, needed for the others.
        no_change: for `semantic_change`: the class that says that nothing changed (SECOND: 0). `None` = there is none:
            each map describes its date as a whole, and change is where the maps of neighbouring dates differ.
        class_names: for `segmentation`: names for the scores of each class.
        ignore_index: references that do not count.
        **kwargs: as `evaluate.load` passes them.

    Raises:
        MetricError: an unknown configuration, or settings that it does not have.
    """

    def __init__(
        self,
        *args: Any,
        num_classes: int | None = None,
        no_change: int | None = None,
        class_names: Sequence[str] | None = None,
        ignore_index: int = IGNORE_INDEX,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if self.num_process > 1:
            raise MetricError(
                f"num_process is {self.num_process}: this metric keeps no files to meet in. Let each process load it "
                "with num_process=1 and call sum_over_processes(), or merge(...) the metrics."
            )
        if self.config_name == "change":
            num_classes = 2 if num_classes is None else num_classes
        if num_classes is None or (self.config_name == "change" and num_classes != 2):
            raise MetricError(
                f"num_classes is {num_classes}. Give it to evaluate.load(...): the number of classes, 2 for change."
            )
        if no_change is not None and self.config_name != "semantic_change":
            raise MetricError(f"no_change is a setting of semantic_change, not of {self.config_name}. Leave it out.")
        if class_names is not None and (self.config_name != "segmentation" or len(class_names) != num_classes):
            raise MetricError(f"class_names are for segmentation, one for each of the {num_classes} classes.")
        self.no_change, self.class_names = no_change, class_names
        self.pairs = self.config_name == "semantic_change" and no_change is None
        self.confusion_matrix = ConfusionMatrix(num_classes + self.pairs, ignore_index)

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in _RESULTS:
            raise MetricError(
                f"Configuration {self.config_name!r} is unknown. Name one of {', '.join(_RESULTS)} as the second "
                "argument of evaluate.load(...)."
            )
        values = datasets.Sequence(datasets.Value("int64"))
        return evaluate.MetricInfo(
            description=f"Scores of dense maps, {self.config_name}: {_RESULTS[self.config_name]}.",
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": values, "references": values}),
        )

    def add_batch(self, *, predictions: Any = None, references: Any = None, **kwargs: Any) -> None:
        """Counts the pixels of one more batch."""
        if kwargs:
            raise MetricError(f"Inputs are predictions and references; got {', '.join(kwargs)} too.")
        predictions, references = (
            values if isinstance(values, torch.Tensor) else torch.as_tensor(np.asarray(values))
            for values in (predictions, references)
        )
        if self.pairs:
            if predictions.shape != references.shape:
                raise MetricError(f"Shapes {tuple(predictions.shape)} and {tuple(references.shape)} must be equal.")
            ignore_index = self.confusion_matrix.ignore_index
            valid = references.to(predictions.device) != ignore_index
            predictions, references = (changes_only(maps, valid, ignore_index) for maps in (predictions, references))
        self.confusion_matrix.update(predictions, references)

    def add(self, *, prediction: Any = None, reference: Any = None, **kwargs: Any) -> None:
        """Counts the pixels of one more example."""
        self.add_batch(predictions=prediction, references=reference, **kwargs)

    def merge(self, other: "DenseMapMetric") -> "DenseMapMetric":
        """Adds what `other` has counted, in another process for instance, and returns this metric."""
        self.confusion_matrix.merge(other.confusion_matrix)
        return self

    def sum_over_processes(self, device: Any = None) -> "DenseMapMetric":
        """See [`ConfusionMatrix.sum_over_processes`]; returns this metric."""
        self.confusion_matrix.sum_over_processes(device)
        return self

    def compute(self, *, predictions: Any = None, references: Any = None, **kwargs: Any) -> dict[str, float]:
        """Scores of all that was added since the last call (and of what is given here)."""
        if predictions is not None or references is not None or kwargs:
            self.add_batch(predictions=predictions, references=references, **kwargs)
        matrix = self.confusion_matrix
        self.confusion_matrix = ConfusionMatrix(matrix.num_classes, matrix.ignore_index)
        return self._compute(matrix)

    def _compute(self, matrix: ConfusionMatrix) -> dict[str, float]:
        if self.config_name == "segmentation":
            return segmentation_scores(matrix, self.class_names)
        if self.config_name == "change":
            return change_scores(matrix)
        return semantic_change_scores(matrix, self.no_change or 0)
