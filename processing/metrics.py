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
"""Scores of dense maps, computed from one confusion matrix that stays on the device of the maps."""

import math
from typing import Any

import numpy as np
import torch

from .metadata import IGNORE_INDEX


class MetricError(ValueError):
    """Maps that cannot be scored. The message says what is allowed and what to do."""


class ConfusionMatrix:
    """Counts of pixels by reference class (rows) and predicted class (columns), and the scores that follow from them.

    Counts add up exactly, so maps may come in any number of pieces: one matrix for a whole data set, one a process
    and then merged, one a tile. Pixels whose reference is `ignore_index` are left out. A score whose denominator is
    zero is NaN, never 0 or 1.

    Args:
        num_classes: number of classes, 1 or more.
        ignore_index: value of the reference where nothing is known; not a class.

    Raises:
        MetricError: no classes, or an `ignore_index` that is one of them.
    """

    def __init__(self, num_classes: int, ignore_index: int = IGNORE_INDEX) -> None:
        if num_classes < 1:
            raise MetricError(f"num_classes must be 1 or more, got {num_classes}.")
        if 0 <= ignore_index < num_classes:
            raise MetricError(
                f"ignore_index {ignore_index} is also one of the classes 0..{num_classes - 1}. Take one outside them."
            )
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.matrix = torch.zeros((num_classes, num_classes), dtype=torch.int64)

    def update(self, prediction: torch.Tensor | np.ndarray, reference: torch.Tensor | np.ndarray) -> "ConfusionMatrix":
        """Counts the pixels of one more piece; the matrix moves to the device that the prediction is on.

        Args:
            prediction: class positions, integers of any shape.
            reference: class positions or `ignore_index`, integers of the same shape.

        Returns:
            This matrix.

        Raises:
            MetricError: shapes differ, values are not integers, or a class is out of range where the reference is
                known. Nothing is counted then.
        """
        prediction, reference = torch.as_tensor(prediction), torch.as_tensor(reference)
        if prediction.shape != reference.shape:
            raise MetricError(
                f"prediction has shape {tuple(prediction.shape)}, reference {tuple(reference.shape)}; they must be "
                "equal. Take the argmax over the classes first, and crop padding off."
            )
        for name, values in (("prediction", prediction), ("reference", reference)):
            if values.is_floating_point() or values.is_complex():
                raise MetricError(f"{name} holds {values.dtype}; class positions are integers. Take the argmax first.")
        reference = reference.to(prediction.device, torch.int64)
        known = reference != self.ignore_index
        prediction, reference = prediction.to(torch.int64)[known], reference[known]
        for name, values in (("prediction", prediction), ("reference", reference)):
            outside = values[(values < 0) | (values >= self.num_classes)]
            if outside.numel():
                raise MetricError(
                    f"{name} holds class {int(outside[0])} in {outside.numel()} pixels; classes are "
                    f"0..{self.num_classes - 1}, and only a reference of {self.ignore_index} is left out. Check "
                    "num_classes, or set the reference to ignore_index where there is nothing to score."
                )
        counts = torch.bincount(reference * self.num_classes + prediction, minlength=self.num_classes**2)
        self.matrix = self.matrix.to(counts.device) + counts.view_as(self.matrix)
        return self

    def merge(self, other: "ConfusionMatrix") -> "ConfusionMatrix":
        """Adds the counts of `other` to this matrix, and returns it.

        Raises:
            MetricError: the two differ in their number of classes or in `ignore_index`.
        """
        mine, its = (self.num_classes, self.ignore_index), (other.num_classes, other.ignore_index)
        if mine != its:
            raise MetricError(f"Matrices with (num_classes, ignore_index) {mine} and {its} cannot be added.")
        self.matrix = self.matrix + other.matrix.to(self.matrix.device)
        return self

    def __add__(self, other: "ConfusionMatrix") -> "ConfusionMatrix":
        """A new matrix with the counts of both."""
        return ConfusionMatrix(self.num_classes, self.ignore_index).merge(self).merge(other)

    def _sums(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        # Ratios are taken on the CPU: some accelerators have no float64.
        counts = self.matrix.cpu().double()
        return counts.diagonal(), counts.sum(0), counts.sum(1)

    @property
    def num_pixels(self) -> int:
        """Pixels counted."""
        return int(self.matrix.sum())

    @property
    def precision(self) -> torch.Tensor:
        """(num_classes,) float64: right pixels of a class among those predicted as it."""
        hits, predicted, _ = self._sums()
        return hits / predicted

    @property
    def recall(self) -> torch.Tensor:
        """(num_classes,) float64: right pixels of a class among those that are it."""
        hits, _, actual = self._sums()
        return hits / actual

    @property
    def f1(self) -> torch.Tensor:
        """(num_classes,) float64: harmonic mean of precision and recall, which is the Dice coefficient."""
        hits, predicted, actual = self._sums()
        return 2 * hits / (predicted + actual)

    @property
    def iou(self) -> torch.Tensor:
        """(num_classes,) float64: intersection over union, the Jaccard index; NaN for a class found in neither map."""
        hits, predicted, actual = self._sums()
        return hits / (predicted + actual - hits)

    @property
    def mean_iou(self) -> float:
        """Mean of `iou` over the classes that appear in the reference or in the prediction.

        A class that is only predicted counts as 0; a class that appears in neither is left out of the mean.
        """
        return float(self.iou.nanmean())

    @property
    def mean_f1(self) -> float:
        """Mean of `f1` over the same classes as `mean_iou`."""
        return float(self.f1.nanmean())

    @property
    def overall_accuracy(self) -> float:
        """Share of pixels that are right."""
        hits, predicted, _ = self._sums()
        return float(hits.sum() / predicted.sum())

    @property
    def kappa(self) -> float:
        """Cohen's kappa, agreement beyond chance: (p_o - p_e) / (1 - p_e).

        Source: Cohen, A coefficient of agreement for nominal scales, 1960, doi:10.1177/001316446002000104. NaN where
        both maps hold one and the same class, since chance agreement is then complete.
        """
        hits, predicted, actual = self._sums()
        total = predicted.sum()
        by_chance = (predicted * actual).sum() / total**2
        return float((hits.sum() / total - by_chance) / (1 - by_chance))


def json_ready(scores: Any) -> Any:
    """Scores in nested dicts with `None` in place of NaN, which JSON does not have."""
    if isinstance(scores, dict):
        return {key: json_ready(value) for key, value in scores.items()}
    return None if isinstance(scores, float) and math.isnan(scores) else scores


def change_scores(matrix: ConfusionMatrix) -> dict[str, float]:
    """Scores of the class `changed` (position 1) in binary change detection.

    Args:
        matrix: confusion matrix of two classes, unchanged (0) and changed (1).

    Returns:
        `precision`, `recall`, `f1` and `iou`; NaN where undefined.

    Raises:
        MetricError: the matrix does not have two classes.
    """
    if matrix.num_classes != 2:
        raise MetricError(
            f"Change is scored on two classes, unchanged and changed; this matrix has {matrix.num_classes}. For "
            "semantic maps compare the dates first: change is where they differ."
        )
    return {name: float(getattr(matrix, name)[1]) for name in ("precision", "recall", "f1", "iou")}
