"""Tiles cover a scene, their shares add up, and blocks part it."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stsun_processing.scenes.tiling import plan_axis, plan_blocks


@st.composite
def axes(draw):
    step = draw(st.integers(1, 8))
    tile = draw(st.integers(step, 60))
    overlap = draw(st.integers(0, max(0, tile - step)))
    length = draw(st.integers(1, 300))
    # A scene of a single tile needs no step; a longer one was given room for one.
    return plan_axis(length, tile, overlap, step), min(tile, length), overlap, step


@given(axes())
def test_shares_of_all_tiles_add_up_to_one_at_every_pixel(drawn):
    axis, largest, overlap, step = drawn
    tile = axis.tile
    assert tile <= largest
    total, count = np.zeros(axis.length), np.zeros(axis.length, dtype=int)
    for start, weights in zip(axis.starts, axis.weights, strict=True):
        assert start % step == 0
        assert len(weights) == min(tile, axis.length - start)
        assert len(weights) > tile - step
        assert (weights >= 0).all()
        total[start : start + len(weights)] += weights
        count[start : start + tile] += 1
    assert np.abs(total - 1).max() < 1e-6
    assert count.min() >= 1
    assert all(0 < second - first <= tile - overlap for first, second in itertools.pairwise(axis.starts))


@given(axes())
def test_tiles_are_as_few_as_can_be_and_no_larger_than_they_have_to_be(drawn):
    axis, largest, overlap, step = drawn
    count = len(axis.starts)
    stride = (largest - overlap) // step * step
    assert count == 1 or (count - 2) * stride + largest < axis.length
    # Tiles a step smaller, at the least overlap, would end before the scene.
    smaller = axis.tile - step
    assert count == 1 or (count - 1) * ((smaller - overlap) // step * step) + smaller < axis.length


def computed_share(length, tile, overlap, step):
    """Pixels computed, of a square scene, for each of its pixels."""
    axis = plan_axis(length, tile, overlap, step)
    return (len(axis.starts) * axis.tile / length) ** 2


def test_little_of_a_scene_is_computed_twice():
    assert max(computed_share(length, 256, 32, 4) for length in range(300, 3001)) < 1.4
    assert computed_share(1000, 512, 64, 8) < 1.3


@given(axes(), st.data())
def test_the_tiles_that_reach_a_range_are_those_with_a_share_in_it(drawn, data):
    axis = drawn[0]
    start = data.draw(st.integers(0, axis.length - 1))
    stop = data.draw(st.integers(start + 1, axis.length))
    shares = np.zeros((len(axis.starts), axis.length))
    for index, (first, weights) in enumerate(zip(axis.starts, axis.weights, strict=True)):
        shares[index, first : first + len(weights)] = weights
    assert set(np.flatnonzero(shares[:, start:stop].any(1))) == set(axis.reaching(start, stop))


def test_shares_are_one_inside_rise_smoothly_and_leave_the_outer_quarter_out():
    axis = plan_axis(208, 64, 16, 4)
    first, second = axis.weights[0], axis.weights[1]
    # At the edge of the scene nothing is left out, inside it the outer quarter of the overlap is.
    assert (first[:48] == 1).all()
    assert (second[:4] == 0).all()
    assert (second[12:52] == 1).all()
    assert (np.diff(second[:16]) >= 0).all()
    assert np.diff(second[:16]).max() < 0.2


@given(axes(), axes(), st.integers(1, 5), st.integers(1, 5))
def test_blocks_part_the_scene(rows, columns, max_rows, max_columns):
    rows, columns = rows[0], columns[0]
    blocks = plan_blocks(rows, columns, max_rows, max_columns)
    count = np.zeros((rows.length, columns.length), dtype=int)
    for index, block in enumerate(blocks):
        assert block.index == index
        count[block.row : block.row + block.height, block.column : block.column + block.width] += 1
    assert (count == 1).all()
    for first, second in itertools.pairwise(blocks):
        assert second.follows(first) == (second.strip == first.strip)


@pytest.mark.parametrize(("tile", "overlap", "step"), [(64, 60, 8), (8, 0, 16), (20, 20, 1)])
def test_tiles_that_would_not_advance_are_refused(tile, overlap, step):
    with pytest.raises(ValueError, match=rf"multiples of {step} pixels"):
        plan_axis(1000, tile, overlap, step)
