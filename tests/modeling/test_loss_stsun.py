import math

import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import log_loss

from modeling_stsun.loss_stsun import dense_prediction_loss


def test_cross_entropy_is_that_of_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 2, 4, 5, 6, generator=generator)
    labels = torch.randint(4, (1, 2, 5, 6), generator=generator)
    labels[0, 0, :2] = 255
    seen = labels[0] != 255
    probabilities = logits[0].double().softmax(1).movedim(1, -1)[seen]
    expected = log_loss(labels[0][seen], probabilities, labels=[0, 1, 2, 3])
    assert dense_prediction_loss(logits, labels, dice_weight=0).item() == pytest.approx(expected, rel=1e-5)


def test_a_single_class_is_the_binary_cross_entropy_of_its_sigmoid():
    logits, labels = torch.randn(1, 1, 1, 8, 8), torch.randint(2, (1, 1, 8, 8))
    expected = F.binary_cross_entropy_with_logits(logits[0, 0, 0], labels[0, 0].float())
    assert dense_prediction_loss(logits, labels, dice_weight=0).item() == pytest.approx(expected.item(), rel=1e-5)


def test_dice_is_zero_for_a_perfect_map_and_one_for_a_disjoint_one():
    labels = torch.tensor([[[[0, 0, 1, 1]]]])
    perfect = 50.0 * F.one_hot(labels, 2).movedim(-1, 2)
    assert dense_prediction_loss(perfect, labels).item() == pytest.approx(0, abs=1e-6)
    dice = dense_prediction_loss(-perfect, labels, dice_weight=1) - dense_prediction_loss(
        -perfect, labels, dice_weight=0
    )
    assert dice.item() == pytest.approx(1, abs=1e-6)


def test_dice_of_a_known_overlap():
    # Two of three changed pixels are found, one unchanged pixel is taken for changed: Dice = 2 * 2 / (3 + 3).
    labels = torch.tensor([[[[1, 1, 1, 0, 0, 0]]]])
    found = torch.tensor([[[[1, 1, 0, 1, 0, 0]]]])
    logits = 50.0 * F.one_hot(found, 2).movedim(-1, 2)
    both = dense_prediction_loss(logits, labels, dice_weight=1) - dense_prediction_loss(logits, labels, dice_weight=0)
    assert both.item() == pytest.approx(1 - 2 / 3, abs=1e-5)  # the same for either class


def test_every_labelled_sample_counts_the_same_and_the_mix_is_their_mean():
    logits, labels = torch.randn(3, 1, 3, 8, 8), torch.randint(3, (3, 1, 8, 8))
    labels[1, :, :, 1:] = 255
    labels[2] = 255
    alone = [dense_prediction_loss(logits[i : i + 1], labels[i : i + 1]) for i in range(3)]
    assert alone[2] == 0
    assert dense_prediction_loss(logits, labels).item() == pytest.approx(((alone[0] + alone[1]) / 2).item(), rel=1e-5)


def test_masked_classes_take_no_part():
    logits, labels = torch.randn(2, 1, 3, 4, 4), torch.randint(2, (2, 1, 4, 4))
    mask = torch.tensor([[True, True, False], [True, False, False]])
    masked = logits.masked_fill(~mask[:, None, :, None, None], torch.finfo(torch.float32).min)
    two, one = (
        dense_prediction_loss(logits[:1, :, :2], labels[:1]),
        dense_prediction_loss(logits[1:, :, :1], labels[1:]),
    )
    assert dense_prediction_loss(masked, labels, mask).item() == pytest.approx(((two + one) / 2).item(), rel=1e-5)


def test_class_weights_are_those_of_torch():
    logits, labels, weights = torch.randn(1, 1, 3, 8, 8), torch.randint(3, (1, 1, 8, 8)), torch.tensor([1.0, 5.0, 0.5])
    expected = F.cross_entropy(logits[:, 0], labels[:, 0], weight=weights)
    actual = dense_prediction_loss(logits, labels, class_weights=weights[None], dice_weight=0)
    assert actual.item() == pytest.approx(expected.item(), rel=1e-5)


def test_nothing_labelled_gives_zero_and_a_gradient_of_zero():
    logits = torch.randn(2, 1, 3, 4, 4, requires_grad=True)
    loss = dense_prediction_loss(logits, torch.full((2, 1, 4, 4), 255))
    loss.backward()
    assert loss.item() == 0
    assert not math.isnan(loss.item())
    assert not logits.grad.any()
