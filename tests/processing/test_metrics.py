import math

import numpy as np
import pytest
import torch
from sklearn import metrics as reference

from stsun_processing.metrics import ConfusionMatrix, MetricError, change_scores

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
