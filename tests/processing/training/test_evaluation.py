"""Scores of a run, against scikit-learn."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn import metrics as reference

from stsun_processing.metrics import ConfusionMatrix, changes_only, semantic_change_scores
from stsun_processing.training.evaluation import BatchScores, TaskScores, mean_score


def drawn(classes, shape, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, shape).astype(np.uint8)
    maps = np.where(rng.random(shape) < 0.6, truth, rng.integers(0, classes, shape)).astype(np.uint8)
    truth[rng.random(shape) < 0.1] = 255
    return maps, truth


def test_segmentation_is_scored_where_labels_and_data_are():
    maps, labels = drawn(3, (1, 20, 30))
    maps[0, :5] = 255  # no date holds data there
    scores = TaskScores("semantic_segmentation", "abc")
    scores.update(maps, labels)
    known = (labels != 255) & (maps != 255)
    expected = reference.jaccard_score(labels[known], maps[known], average=None)
    found = scores.compute()
    assert found["mean_iou"] == pytest.approx(expected.mean())
    assert [found[f"iou_{name}"] for name in "abc"] == pytest.approx(expected)
    assert not {"sek", "precision"} & set(found)


def test_binary_change_is_scored_as_change():
    maps, labels = drawn(2, (3, 20, 30))
    scores = TaskScores("binary_change_detection", ("unchanged", "changed"))
    scores.update(maps, labels)
    known = labels != 255
    assert scores.compute()["f1"] == pytest.approx(reference.f1_score(labels[known], maps[known]))


def test_semantic_change_is_scored_between_neighbouring_dates_of_each_sample():
    scores, matrix = TaskScores("semantic_change_detection", "abc"), ConfusionMatrix(4)
    for seed, dates in enumerate((2, 4)):
        maps, labels = drawn(3, (dates, 20, 30), seed)
        maps[0, :2] = 255
        scores.update(maps, labels)
        valid = (labels != 255) & (maps != 255)
        matrix.update(changes_only(maps, valid), changes_only(labels, valid))
    expected = semantic_change_scores(matrix)
    found = scores.compute()
    assert found["sek"] == pytest.approx(expected["sek"])
    assert found["fscd"] == pytest.approx(expected["fscd"])
    assert found["change_mean_iou"] == pytest.approx(expected["mean_iou"])


def test_a_class_for_no_change_is_taken_for_what_it_says():
    """As in SECOND: then maps are in the encoding of change sets already, and `unchanged` may stand anywhere."""
    maps, labels = drawn(3, (2, 20, 30))
    scores = TaskScores("semantic_change_detection", ("water", "unchanged", "tree"))
    scores.update(maps, labels)
    expected = semantic_change_scores(ConfusionMatrix(3).update(maps, labels), no_change=1)
    assert scores.compute()["sek"] == pytest.approx(expected["sek"])


def test_batches_of_the_trainer_are_counted_and_the_count_starts_anew():
    maps, labels = drawn(3, (4, 50))
    scores = BatchScores(5)
    padded = np.concatenate([labels.astype(int), np.full((4, 9), -100)], axis=1)
    wide = np.concatenate([maps.astype(int), np.full((4, 9), -100)], axis=1)

    def batch(rows):
        return SimpleNamespace(predictions=torch.tensor(wide[rows]), label_ids=torch.tensor(padded[rows]))

    for _ in range(2):
        assert scores(batch(slice(0, 1)), compute_result=False) == {}
        result = scores(batch(slice(1, 4)), compute_result=True)
        known = labels != 255
        expected = reference.jaccard_score(labels[known], maps[known], average="macro")
        assert result["mean_iou"] == pytest.approx(expected)


def test_the_mean_leaves_out_what_could_not_be_scored():
    scores = {"a": {"x": {"mean_iou": 0.2}, "y": {"mean_iou": math.nan}}, "b": {"x": {"mean_iou": 0.6}}}
    assert mean_score(scores) == pytest.approx(0.4)
    assert math.isnan(mean_score({}))
