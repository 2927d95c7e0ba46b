"""The module of 🤗 Evaluate, loaded from its file as a user does."""

import math
from pathlib import Path

import evaluate
import numpy as np
import pytest
import torch
from sklearn import metrics as reference

import stsun_processing.evaluate_maps

PATH = str(Path(stsun_processing.evaluate_maps.__file__))


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", str(tmp_path_factory.mktemp("metrics")))


def drawn(classes, seed=0, shape=(6, 20, 15)):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, shape)
    prediction = np.where(rng.random(shape) < 0.6, truth, rng.integers(0, classes, shape))
    truth[rng.random(shape) < 0.1] = 255
    return prediction, truth


def test_segmentation_agrees_with_scikit_learn_batch_by_batch():
    metric = evaluate.load(PATH, "segmentation", num_classes=4, class_names=["a", "b", "c", "d"])
    prediction, truth = drawn(4)
    for start in range(0, 6, 2):
        metric.add_batch(
            predictions=torch.from_numpy(prediction[start : start + 2]), references=truth[start : start + 2].tolist()
        )
    scores = metric.compute()
    known = truth != 255
    truth, prediction = truth[known], prediction[known]
    assert scores["mean_iou"] == pytest.approx(reference.jaccard_score(truth, prediction, average="macro"))
    assert scores["mean_f1"] == pytest.approx(reference.f1_score(truth, prediction, average="macro"))
    assert scores["overall_accuracy"] == pytest.approx(reference.accuracy_score(truth, prediction))
    assert scores["kappa"] == pytest.approx(reference.cohen_kappa_score(truth, prediction))
    assert scores["iou_c"] == pytest.approx(reference.jaccard_score(truth, prediction, average=None)[2])
    assert math.isnan(metric.compute()["mean_iou"]), "compute() starts anew"


def test_change_agrees_with_scikit_learn_example_by_example():
    metric = evaluate.load(PATH, "change")
    prediction, truth = drawn(2)
    for example in zip(prediction, truth, strict=True):
        metric.add(prediction=example[0], reference=example[1])
    known = truth != 255
    truth, prediction = truth[known], prediction[known]
    assert metric.compute() == pytest.approx(
        {
            "precision": reference.precision_score(truth, prediction),
            "recall": reference.recall_score(truth, prediction),
            "f1": reference.f1_score(truth, prediction),
            "iou": reference.jaccard_score(truth, prediction),
        }
    )


def test_both_readings_of_semantic_change_give_the_same_scores():
    prediction, truth = drawn(3, shape=(5, 2, 20, 15))
    full = evaluate.load(PATH, "semantic_change", num_classes=3)
    whole = full.compute(predictions=prediction, references=truth)
    # The same maps in the encoding of SECOND: 0 where the dates agree, else class + 1.
    known = (truth != 255).all(1, keepdims=True)
    prediction, truth = (
        np.where((maps[:, :1] != maps[:, 1:]), maps + 1, 0) * known + 255 * ~known for maps in (prediction, truth)
    )
    second = evaluate.load(PATH, "semantic_change", num_classes=4, no_change=0)
    assert second.compute(predictions=prediction, references=truth) == pytest.approx(whole)
    assert 0 < whole["fscd"] < 1


def test_processes_merge_what_they_counted():
    prediction, truth = drawn(3)
    load = lambda: evaluate.load(PATH, "segmentation", num_classes=3)  # noqa: E731
    one, other, whole = load(), load(), load()
    one.add_batch(predictions=prediction[:1], references=truth[:1])
    other.add_batch(predictions=prediction[1:], references=truth[1:])
    assert one.merge(other).sum_over_processes().compute() == whole.compute(predictions=prediction, references=truth)


def test_memory_does_not_grow_with_the_number_of_maps(tmp_path):
    metric = evaluate.load(PATH, "segmentation", num_classes=3, cache_dir=str(tmp_path))
    for seed in range(3):
        prediction, truth = drawn(3, seed)
        metric.add_batch(predictions=prediction, references=truth)
    assert metric.writer is None
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert metric.confusion_matrix.matrix.shape == (3, 3)


@pytest.mark.parametrize(
    ("arguments", "settings", "named"),
    [
        ((), {}, "'default' is unknown.*segmentation, change, semantic_change"),
        (("panoptic",), {}, "'panoptic' is unknown"),
        (("segmentation",), {}, "num_classes is None"),
        (("change",), {"num_classes": 3}, "num_classes is 3"),
        (("segmentation",), {"num_classes": 3, "no_change": 0}, "no_change"),
        (("segmentation",), {"num_classes": 3, "class_names": ["a"]}, "class_names"),
        (("segmentation",), {"num_classes": 3, "num_process": 2}, "num_process is 2.*sum_over_processes"),
    ],
)
def test_wrong_settings_are_refused(arguments, settings, named):
    with pytest.raises(ValueError, match=named):
        evaluate.load(PATH, *arguments, **settings)
