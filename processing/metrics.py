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
"""Scores of dense maps, all computed from confusion matrices that stay on the device of the maps."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from .errors import STSUNError
from .metadata import IGNORE_INDEX


class MetricError(STSUNError, ValueError):
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

    def sum_over_processes(self, device: torch.device | str | None = None) -> "ConfusionMatrix":
        """Gives this matrix the counts of all processes of the running `torch.distributed` group, and returns it.

        All of them must call it; in a single process nothing changes. Afterwards the counts lie on the CPU.

        Args:
            device: where the group's backend exchanges tensors (NCCL: the process's GPU); `None` = where the matrix is.
        """
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            counts = self.matrix.to(device) if device is not None else self.matrix.clone()
            torch.distributed.all_reduce(counts)
            self.matrix = counts.cpu()
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


def segmentation_scores(matrix: ConfusionMatrix, names: Sequence[str] | None = None) -> dict[str, float]:
    """Scores of semantic segmentation.

    Args:
        matrix: confusion matrix of the classes.
        names: names of the classes, for scores of each; `None` = means only.

    Returns:
        `mean_iou`, `mean_f1`, `overall_accuracy`, `kappa` and, for each name, `iou_<name>`; NaN where undefined.
    """
    scores = {key: getattr(matrix, key) for key in ("mean_iou", "mean_f1", "overall_accuracy", "kappa")}
    if names is not None:
        scores |= {f"iou_{name}": value for name, value in zip(names, matrix.iou.tolist(), strict=True)}
    return scores


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


def changes_only(
    maps: torch.Tensor | np.ndarray, valid: torch.Tensor | np.ndarray | None = None, ignore_index: int = IGNORE_INDEX
) -> torch.Tensor:
    """Full land-cover maps in the encoding of semantic change sets: 0 = no change, class + 1 where there is one.

    Sets such as SECOND label only what changed. A series of maps that describe each date as a whole says the same: each
    two neighbouring dates become a pair of maps that name the class before and after where they differ, else 0.

    Args:
        maps: (..., dates, height, width) class positions.
        valid: True where a pixel counts, of the same shape; a pair counts where both dates do. `None` = where `maps` is
            not `ignore_index`.
        ignore_index: what stands where a pair does not count.

    Returns:
        (..., dates - 1, 2, height, width) int64: 0, class + 1, or `ignore_index`.

    Raises:
        MetricError: a single date, or a class so high that class + 1 is taken for `ignore_index`.
    """
    maps = torch.as_tensor(maps).to(torch.int64)
    if maps.ndim < 3 or maps.shape[-3] < 2:
        raise MetricError(
            f"Maps have shape {tuple(maps.shape)}; (..., dates, height, width) with two dates or more is needed: "
            "change is where neighbouring dates differ."
        )
    valid = maps != ignore_index if valid is None else torch.as_tensor(valid).to(maps.device)
    pairs = torch.stack([maps[..., :-1, :, :], maps[..., 1:, :, :]], dim=-3)
    both = (valid[..., :-1, :, :] & valid[..., 1:, :, :]).unsqueeze(-3).expand_as(pairs)
    if ignore_index > 0 and bool((pairs[both] == ignore_index - 1).any()):
        raise MetricError(f"Class {ignore_index - 1} is met; class + 1 would be ignore_index. Take another one.")
    differ = (pairs[..., :1, :, :] != pairs[..., 1:, :, :]).expand_as(pairs)
    return torch.where(both, torch.where(differ, pairs + 1, 0), ignore_index)


def semantic_change_scores(matrix: ConfusionMatrix, no_change: int = 0) -> dict[str, float]:
    """Scores of semantic change detection, from maps in which one class says that nothing changed.

    With q the counts over the maps of all dates, classes 1..C of change and class 0 for no change:

        mean_iou   mean of the IoU of no change and that of change, whatever its class
        sek        exp(IoU of change - 1) x Cohen's kappa of q with q[0, 0] = 0: the separated kappa, to which the many
                   pixels that rightly did not change contribute nothing
        fscd       F1 of the pixels that are right in class and in change: precision = sum of q[c, c], c >= 1, over the
                   pixels predicted as changed, recall = the same over those that changed
        score      0.3 mean_iou + 0.7 sek

    Sources: Yang et al., Asymmetric siamese networks for semantic change detection in aerial images, 2021,
    arXiv:2010.05687 (mIoU, SeK, score); Ding et al., Bi-temporal semantic reasoning for the semantic change detection
    of HR remote sensing images, 2022, arXiv:2108.06103, and Joint spatio-temporal modeling for semantic change
    detection, 2024, arXiv:2212.05245 (Fscd).

    Two readings of a semantic change set are in use. Where the maps themselves have a class for no change (SECOND:
    class 0), count them as they are. Where each map describes its date as a whole, as the outputs of STSUN do, bring
    predictions and references into that form first, with [`changes_only`]; the matrix then has one class more.

    Args:
        matrix: confusion matrix of all maps of all dates together.
        no_change: position of the class that says that nothing changed.

    Returns:
        `sek`, `fscd`, `mean_iou`, `overall_accuracy` and `score`; NaN where undefined.

    Raises:
        MetricError: `no_change` is no class, or the only one.
    """
    if not 0 <= no_change < matrix.num_classes or matrix.num_classes < 2:
        raise MetricError(
            f"no_change is {no_change} in a matrix of {matrix.num_classes} classes; it must be the position of one of "
            "two classes or more."
        )
    counts = matrix.matrix.cpu().double()
    total, unchanged = counts.sum(), counts[no_change, no_change]
    changed, predicted = total - counts[no_change].sum(), total - counts[:, no_change].sum()
    either = total - unchanged
    detected = changed + predicted - either
    iou_unchanged = unchanged / (total - detected)
    iou_changed = detected / either
    right = counts.diagonal().sum() - unchanged

    separated = ConfusionMatrix(matrix.num_classes, matrix.ignore_index)
    separated.matrix = matrix.matrix.cpu().clone()
    separated.matrix[no_change, no_change] = 0
    sek = math.exp(iou_changed - 1) * separated.kappa
    mean_iou = float((iou_unchanged + iou_changed) / 2)
    return {
        "sek": sek,
        "fscd": float(2 * right / (changed + predicted)),
        "mean_iou": mean_iou,
        "overall_accuracy": matrix.overall_accuracy,
        "score": 0.3 * mean_iou + 0.7 * sek,
    }


def json_ready(scores: Any) -> Any:
    """Scores in nested dicts with `None` in place of NaN, which JSON does not have."""
    if isinstance(scores, dict):
        return {key: json_ready(value) for key, value in scores.items()}
    return None if isinstance(scores, float) and math.isnan(scores) else scores
