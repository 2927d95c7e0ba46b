import numpy as np
import pytest

from stsun_processing.data.label_summary import BLOCK, summarise_labels


def reader(labels):
    """Reads windows of labels in memory, and notes which."""
    windows = []

    def read(window):
        windows.append(window)
        row, column, height, width = window
        return labels[:, row : row + height, column : column + width]

    return read, windows


def test_counts_are_those_of_all_maps():
    labels = np.random.default_rng(0).choice([0, 1, 2, 255], (3, 300, 530)).astype(np.uint8)
    labels[:, :40] = 255
    summary = summarise_labels((300, 530), 4, reader(labels)[0], 0)
    assert summary.counts.tolist() == [int((labels == value).sum()) for value in (0, 1, 2, 3, 255)]
    labelled = (labels != 255).any(0)
    assert summary.num_labelled == labelled.sum()
    expected = [
        [labelled[:BLOCK, left : left + BLOCK].sum() for left in (0, 256, 512)],
        [labelled[BLOCK:, left : left + BLOCK].sum() for left in (0, 256, 512)],
    ]
    assert summary.blocks.tolist() == expected


@pytest.mark.parametrize("mask_bytes", [0, 9000, 2**20])
def test_each_labelled_pixel_is_drawn_as_often_as_any_other(mask_bytes):
    labels = np.full((2, 300, 530), 255, np.uint8)
    labels[0, 3, 7] = labels[1, 290, 500] = labels[0, 255, 256] = labels[1, 299, 529] = 0
    labels[:, :256, 256:512] = np.where(labels[:, :256, 256:512] == 0, 0, 255)
    # One block is labelled as a whole: four pixels at the lower right.
    labels[0, 256:, 512:] = 1
    read, windows = reader(labels)
    summary = summarise_labels((300, 530), 2, read, mask_bytes)
    assert summary.num_bytes <= mask_bytes
    windows.clear()
    rng = np.random.default_rng(1)
    draws = [summary.draw(rng, read) for _ in range(4000)]
    places = {tuple(place) for place in np.argwhere((labels != 255).any(0)).tolist()}
    assert set(draws) <= places
    whole = sum(row >= 256 and column >= 512 for row, column in draws)
    share = 44 * 18 / len(places)
    # Four standard deviations of a binomial distribution.
    assert whole / 4000 == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 4000))
    assert {place for place in places if place[0] < 256 or place[1] < 512} <= set(draws)
    assert bool(windows) == (mask_bytes < 2**20), "blocks without a mask are read again"


def test_a_draw_is_fixed_by_the_random_generator_and_not_by_what_is_kept():
    labels = np.random.default_rng(4).choice([0, 255], (1, 270, 260)).astype(np.uint8)
    draws = []
    for mask_bytes in (0, 2**20):
        read, _ = reader(labels)
        summary = summarise_labels((270, 260), 1, read, mask_bytes)
        draws.append([summary.draw(np.random.default_rng(seed), read) for seed in range(50)])
    assert draws[0] == draws[1]


def test_nothing_is_drawn_where_nothing_is_labelled():
    read, _ = reader(np.full((1, 20, 30), 255, np.uint8))
    assert summarise_labels((20, 30), 3, read, 100).draw(np.random.default_rng(0), read) is None
