import math

import numpy as np
import pytest
import torch
from sklearn import metrics as reference

from stsun_processing.metrics import (
    ConfusionMatrix,
    MetricError,
    change_scores,
    changes_only,
    segmentation_scores,
    semantic_change_scores,
)

CLASSES = 5


@pytest.fixture
def maps():
    """Prediction and reference that agree in part; class 3 is never true, class 4 neither true nor predicted."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, (4, 31, 17))
    prediction = np.where(rng.random(truth.shape) < 0.6, truth, rng.integers(0, 4, truth.shape))
    truth[rng.random(truth.shape) < 0.2] = 255
    return prediction, truth


def labelled(prediction, truth):
    known = truth != 255
    return truth[known], prediction[known]


def test_agrees_with_scikit_learn(maps):
    matrix = ConfusionMatrix(CLASSES).update(*maps)
    truth, prediction = labelled(*maps)
    labels = list(range(CLASSES))
    np.testing.assert_array_equal(matrix.matrix, reference.confusion_matrix(truth, prediction, labels=labels))
    seen = [0, 1, 2, 3]
    iou = reference.jaccard_score(truth, prediction, labels=seen, average=None)
    np.testing.assert_allclose(matrix.iou[seen], iou)
    assert matrix.mean_iou == pytest.approx(iou.mean())
    scores = {"labels": labels, "average": None, "zero_division": np.nan}
    np.testing.assert_allclose(matrix.f1, reference.f1_score(truth, prediction, **scores))
    np.testing.assert_allclose(matrix.precision, reference.precision_score(truth, prediction, **scores))
    np.testing.assert_allclose(matrix.recall, reference.recall_score(truth, prediction, **scores))
    assert matrix.mean_f1 == pytest.approx(reference.f1_score(truth, prediction, labels=seen, average="macro"))
    assert matrix.overall_accuracy == pytest.approx(reference.accuracy_score(truth, prediction))
    assert matrix.kappa == pytest.approx(reference.cohen_kappa_score(truth, prediction))
    assert matrix.num_pixels == len(truth)


def test_classes_in_neither_map_are_nan_and_do_not_enter_the_mean(maps):
    matrix = ConfusionMatrix(CLASSES).update(*maps)
    assert math.isnan(matrix.iou[4])
    assert matrix.iou[3] == 0
    assert math.isnan(matrix.recall[3])
    assert matrix.precision[3] == 0
    assert matrix.mean_iou == pytest.approx(float(matrix.iou[:4].mean()))


def test_pieces_add_up_to_the_whole(maps):
    prediction, truth = maps
    whole = ConfusionMatrix(CLASSES).update(prediction, truth)
    one = ConfusionMatrix(CLASSES).update(prediction[:1], truth[:1])
    other = ConfusionMatrix(CLASSES).update(torch.from_numpy(prediction[1:]), torch.from_numpy(truth[1:]))
    total = one + other
    assert torch.equal(total.matrix, whole.matrix)
    assert one.num_pixels + other.num_pixels == whole.num_pixels
    assert torch.equal(one.merge(other).matrix, whole.matrix)


def test_counts_stay_exact_beyond_32_bits():
    matrix = ConfusionMatrix(2)
    matrix.matrix[0, 0] = 2**53
    matrix.update(torch.tensor([0]), torch.tensor([0]))
    assert matrix.matrix[0, 0].item() == 2**53 + 1


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
def test_any_integer_type(maps, dtype):
    prediction, truth = maps
    expected = ConfusionMatrix(CLASSES).update(prediction, truth).matrix
    assert torch.equal(ConfusionMatrix(CLASSES).update(prediction.astype(dtype), truth.astype(dtype)).matrix, expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_matrix_lives_where_the_maps_do(maps):
    prediction, truth = (torch.from_numpy(array) for array in maps)
    matrix = ConfusionMatrix(CLASSES).update(prediction.cuda(), truth)
    assert matrix.matrix.is_cuda
    expected = ConfusionMatrix(CLASSES).update(prediction, truth)
    assert torch.equal(matrix.matrix.cpu(), expected.matrix)
    assert matrix.mean_iou == expected.mean_iou
    assert (matrix + expected).num_pixels == (expected + matrix).num_pixels == 2 * expected.num_pixels


def test_change_scores_are_those_of_class_1(maps):
    prediction, truth = maps
    prediction, truth = prediction % 2, np.where(truth == 255, 255, truth % 2)
    scores = change_scores(ConfusionMatrix(2).update(prediction, truth))
    truth, prediction = labelled(prediction, truth)
    assert scores == pytest.approx(
        {
            "precision": reference.precision_score(truth, prediction),
            "recall": reference.recall_score(truth, prediction),
            "f1": reference.f1_score(truth, prediction),
            "iou": reference.jaccard_score(truth, prediction),
        }
    )
    with pytest.raises(MetricError, match="3"):
        change_scores(ConfusionMatrix(3))


def test_undefined_scores_are_nan_rather_than_perfect():
    empty = ConfusionMatrix(2).update(np.array([0, 1]), np.array([255, 255]))
    assert empty.num_pixels == 0
    assert all(math.isnan(value) for value in (empty.mean_iou, empty.overall_accuracy, empty.kappa))
    unchanged = ConfusionMatrix(2).update(np.zeros(4, int), np.zeros(4, int))
    assert all(math.isnan(value) for value in change_scores(unchanged).values())
    assert math.isnan(unchanged.kappa)
    assert unchanged.overall_accuracy == 1


@pytest.mark.parametrize(
    ("prediction", "truth", "named"),
    [
        ([0, 5], [0, 1], "prediction holds class 5"),
        ([0, -1], [0, 1], "prediction holds class -1"),
        ([0, 255], [0, 1], "prediction holds class 255"),
        ([0, 1], [0, 7], "reference holds class 7"),
        ([0, 1, 1], [0, 1], "shape"),
        ([0.0, 1.0], [0, 1], "integers"),
    ],
)
def test_maps_that_cannot_be_scored_are_refused_and_leave_no_trace(prediction, truth, named):
    matrix = ConfusionMatrix(CLASSES).update(np.array([1]), np.array([1]))
    with pytest.raises(MetricError, match=named):
        matrix.update(np.array(prediction), np.array(truth))
    assert matrix.num_pixels == 1


def test_nodata_predicted_where_the_reference_is_ignored_is_no_error():
    assert ConfusionMatrix(2).update(np.array([255, 1]), np.array([255, 1])).num_pixels == 1


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(MetricError, match="ignore_index 1"):
        ConfusionMatrix(2, ignore_index=1)
    with pytest.raises(MetricError, match="num_classes"):
        ConfusionMatrix(0)
    with pytest.raises(MetricError, match="cannot be added"):
        ConfusionMatrix(2) + ConfusionMatrix(3)
    ignoring = ConfusionMatrix(2, ignore_index=-100).update(np.array([0, 1]), np.array([-100, 1]))
    assert ignoring.num_pixels == 1


# Semantic change: 3 classes, 0 = no change, rows the reference. Worked by hand:
# IoU of no change 50 / 60, of change 40 / 50; kappa without [0, 0] (34/50 - 1060/2500) / (1 - 1060/2500) = 4/9;
# 34 pixels right in class and change, of 45 that changed and 45 predicted as changed.
WORKED = torch.tensor([[50, 2, 3], [4, 20, 1], [1, 5, 14]])


@pytest.mark.parametrize("no_change", [0, 1, 2])
def test_semantic_change_scores_of_a_case_worked_by_hand(no_change):
    matrix = ConfusionMatrix(3)
    order = [1, 2]
    order.insert(no_change, 0)
    matrix.matrix = WORKED[order][:, order]
    scores = semantic_change_scores(matrix, no_change)
    assert scores["mean_iou"] == pytest.approx((5 / 6 + 4 / 5) / 2)
    assert scores["sek"] == pytest.approx(math.exp(-0.2) * 4 / 9)
    assert scores["fscd"] == pytest.approx(34 / 45)
    assert scores["overall_accuracy"] == pytest.approx(0.84)
    assert scores["score"] == pytest.approx(0.3 * scores["mean_iou"] + 0.7 * scores["sek"])


def test_semantic_change_scores_agree_with_scikit_learn_in_drawn_cases():
    for seed in range(10):
        rng = np.random.default_rng(seed)
        truth = rng.choice(4, (2, 30, 20), p=[0.7, 0.1, 0.1, 0.1])
        prediction = np.where(rng.random(truth.shape) < 0.7, truth, rng.integers(0, 4, truth.shape))
        scores = semantic_change_scores(ConfusionMatrix(4).update(prediction, truth))
        truth, prediction = truth.ravel(), prediction.ravel()
        iou = reference.jaccard_score(truth > 0, prediction > 0)
        both_unchanged = (truth == 0) & (prediction == 0)
        kappa = reference.cohen_kappa_score(truth[~both_unchanged], prediction[~both_unchanged])
        assert scores["sek"] == pytest.approx(math.exp(iou) / math.e * kappa)
        assert scores["mean_iou"] == pytest.approx((iou + reference.jaccard_score(truth == 0, prediction == 0)) / 2)
        changes = reference.f1_score(truth, prediction, labels=[1, 2, 3], average="micro")
        assert scores["fscd"] == pytest.approx(changes)


def test_a_perfect_map_scores_one_and_nothing_to_score_is_nan():
    matrix = ConfusionMatrix(3).update(np.array([0, 1, 2, 2]), np.array([0, 1, 2, 2]))
    assert set(semantic_change_scores(matrix).values()) == {1.0}
    scores = semantic_change_scores(ConfusionMatrix(3).update(np.zeros(4, int), np.zeros(4, int)))
    assert all(math.isnan(scores[name]) for name in ("sek", "fscd", "mean_iou", "score"))
    assert scores["overall_accuracy"] == 1
    for no_change, classes in ((3, 3), (-1, 3), (0, 1)):
        with pytest.raises(MetricError, match=f"no_change is {no_change}"):
            semantic_change_scores(ConfusionMatrix(classes), no_change)


def test_full_maps_become_maps_of_change():
    rng = np.random.default_rng(0)
    maps = rng.integers(0, 3, (2, 4, 5, 6))
    maps[rng.random(maps.shape) < 0.2] = 255
    changed = changes_only(maps).numpy()
    assert changed.shape == (2, 3, 2, 5, 6)
    for sample, date, row, column in np.ndindex(2, 3, 5, 6):
        before, after = (int(maps[sample, date + step, row, column]) for step in (0, 1))
        expected = [before + 1, after + 1] if before != after else [0, 0]
        if 255 in (before, after):
            expected = [255, 255]
        assert changed[sample, date, :, row, column].tolist() == expected


def test_pixels_of_the_prediction_count_where_the_reference_does():
    truth, prediction = np.array([[[0, 1]], [[1, 255]]]), np.array([[[0, 1]], [[0, 2]]])
    changed = changes_only(prediction, truth != 255)
    assert changed.tolist() == [[[[0, 255]], [[0, 255]]]]
    with pytest.raises(MetricError, match=r"\(1, 2, 2\).*two dates"):
        changes_only(np.zeros((1, 2, 2), int))
    with pytest.raises(MetricError, match="Class 254"):
        changes_only(np.array([[[254]], [[0]]]))


def _count_in_one_of_two_processes(rank, folder, queue):
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    mine = ConfusionMatrix(2).update(np.array([0, 1, rank]), np.array([0, 1, 1]))
    queue.put((rank, mine.sum_over_processes().matrix.tolist()))
    torch.distributed.destroy_process_group()


def test_processes_add_up(tmp_path):
    context = torch.multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=_count_in_one_of_two_processes, args=(r, tmp_path, queue)) for r in range(2)]
    for process in processes:
        process.start()
    sums = dict(queue.get(timeout=60) for _ in processes)
    for process in processes:
        process.join()
    assert sums == {0: [[2, 0], [1, 3]], 1: [[2, 0], [1, 3]]}
    alone = ConfusionMatrix(2).update(np.array([1]), np.array([0]))
    assert alone.sum_over_processes().matrix.tolist() == [[0, 1], [0, 0]]


def test_segmentation_scores_name_the_classes(maps):
    matrix = ConfusionMatrix(CLASSES).update(*maps)
    scores = segmentation_scores(matrix, "abcde")
    truth, prediction = labelled(*maps)
    assert scores["kappa"] == pytest.approx(reference.cohen_kappa_score(truth, prediction))
    assert scores["iou_b"] == pytest.approx(reference.jaccard_score(truth, prediction, labels=[1], average=None)[0])
    assert math.isnan(scores["iou_e"])
    assert set(segmentation_scores(matrix)) == {"mean_iou", "mean_f1", "overall_accuracy", "kappa"}
