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
"""Scores of a model on its sources."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from transformers import EvalPrediction

from modeling_stsun import STSUNForDensePrediction

from ..image_processing_stsun import BY_KIND, STSUNImageProcessor
from ..metadata import CHANGE_CLASSES, IGNORE_INDEX
from ..metrics import (
    ConfusionMatrix,
    change_scores,
    changes_only,
    segmentation_scores,
    semantic_change_scores,
)
from ..scenes.scene_files import predict_scene
from .sources import LabelledSource

Scores = dict[str, dict[str, dict[str, float]]]  # source -> task -> name of the score -> value


class TaskScores:
    """Counts the maps of one task of one source, and scores them.

    Args:
        task: name of the task.
        classes: names of the classes.
    """

    def __init__(self, task: str, classes: Sequence[str]) -> None:
        self.task, self.classes = task, tuple(classes)
        self.maps = ConfusionMatrix(len(classes))
        # In the encoding of semantic change sets; a set that has a class for no change is in it already.
        self.no_change = self.classes.index(CHANGE_CLASSES[0]) if CHANGE_CLASSES[0] in self.classes else None
        self.pairs = ConfusionMatrix(len(classes) + 1)

    def update(self, maps: np.ndarray, labels: np.ndarray) -> None:
        """Counts (maps, height, width) predicted positions, 255 = no data, and labels, 255 = not labelled."""
        # What was labelled where no date holds data cannot be predicted, and does not count.
        labels = np.where(maps == IGNORE_INDEX, IGNORE_INDEX, labels)
        self.maps.update(maps, labels)
        if self.task == "semantic_change_detection" and self.no_change is None and len(maps) > 1:
            valid = labels != IGNORE_INDEX
            self.pairs.update(changes_only(maps, valid), changes_only(labels, valid))

    def sum_over_processes(self, device: torch.device | None = None) -> "TaskScores":
        """Adds up what all processes counted; all must call it."""
        self.maps.sum_over_processes(device)
        self.pairs.sum_over_processes(device)
        return self

    def compute(self) -> dict[str, float]:
        """Scores of the classes, and of the change that the task is about."""
        scores = segmentation_scores(self.maps, self.classes)
        if self.task == "binary_change_detection":
            scores |= change_scores(self.maps)
        elif self.task == "semantic_change_detection":
            matrix, no_change = (self.pairs, 0) if self.no_change is None else (self.maps, self.no_change)
            change = semantic_change_scores(matrix, no_change)
            scores |= {"sek": change["sek"], "fscd": change["fscd"], "change_mean_iou": change["mean_iou"]}
        return scores


@torch.no_grad()
def evaluate_sources(
    model: STSUNForDensePrediction,
    processor: STSUNImageProcessor,
    sources: Sequence[LabelledSource],
    process_index: int = 0,
    num_processes: int = 1,
    device: torch.device | None = None,
) -> Scores:
    """Scores by source and task, on whole samples, predicted as `stsun predict` does.

    Args:
        model: on its device.
        processor: of the same checkpoint.
        sources: data sets of [`Sample`]s with labels.
        process_index: which process this is; processes share the samples, and all get the scores of all.
        num_processes: how many there are.
        device: where processes exchange counts.
    """
    scores: Scores = {}
    for source in sources:
        counted = {task: TaskScores(task, source.class_names(task)) for task in source.tasks}
        for index in range(process_index, len(source), num_processes):
            sample = source[index]
            statistics = sample.source if sample.source in processor.band_statistics else BY_KIND
            maps = predict_scene(
                model,
                processor,
                sample.series,
                sample.task,
                sample.classes,
                sample.outputs,
                statistics=statistics,
                # Values of a source are in the unit of its own statistics, however far from those of training.
                check_range=statistics == BY_KIND,
                progress=False,
            )
            counted[sample.task].update(maps, sample.labels)
        scores[source.name] = {
            task: task_scores.sum_over_processes(device).compute() for task, task_scores in counted.items()
        }
    return scores


class BatchScores:
    """Scores of class maps that come batch by batch: `compute_metrics` of a `Trainer` with `batch_eval_metrics`.

    Only a confusion matrix is kept. Classes are counted by position, for whichever set is being evaluated; means leave
    out those that appear in neither map.

    Args:
        num_classes: most classes that a source has.
    """

    def __init__(self, num_classes: int) -> None:
        self.matrix = ConfusionMatrix(num_classes)

    def __call__(self, batch: EvalPrediction, compute_result: bool) -> dict[str, float]:
        """Counts a batch of maps and labels (negative or 255 = not labelled); scores all since the last result."""
        labels = batch.label_ids
        self.matrix.update(batch.predictions, torch.where(labels < 0, IGNORE_INDEX, labels))
        if not compute_result:
            return {}
        scores, self.matrix = segmentation_scores(self.matrix), ConfusionMatrix(self.matrix.num_classes)
        return scores


def mean_score(scores: Scores) -> float:
    """Mean IoU averaged over sources and tasks, those that could not be scored left out; NaN if none could."""
    values = [task["mean_iou"] for source in scores.values() for task in source.values()]
    values = [value for value in values if not math.isnan(value)]
    return sum(values) / len(values) if values else math.nan


def summary(scores: Scores) -> str:
    """One line of mean IoU by source and task."""
    return ", ".join(
        f"{source} {task} mIoU {values['mean_iou']:.3f}"
        for source, tasks in scores.items()
        for task, values in tasks.items()
    )
