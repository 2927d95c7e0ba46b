import numpy as np
import pytest

from stsun_processing.data.sampling import LossShares, MixtureBatchSampler, MixtureDataset


def mixture(*sizes):
    return MixtureDataset([[f"{source}-{item}" for item in range(size)] for source, size in enumerate(sizes)])


def batches(*sizes, **kwargs):
    return list(MixtureBatchSampler(mixture(*sizes), 4, **({"num_steps": 200} | kwargs)))


def test_a_batch_comes_from_one_source_and_its_draws_are_valid():
    data = mixture(3, 50)
    for batch in MixtureBatchSampler(data, 4, 100):
        assert len(batch) == 4
        assert len({source for source, _, _ in batch}) == 1
        for draw in batch:
            assert data[draw] == f"{draw[0]}-{draw[1]}"


def test_a_mixed_batch_draws_a_source_for_each_sample():
    data = mixture(3, 50)
    mixed = list(MixtureBatchSampler(data, 4, 100, grouped=False))
    for batch in mixed:
        for draw in batch:
            assert data[draw] == f"{draw[0]}-{draw[1]}"
    # Two sources in turns: each gives half of a batch of four, in either order.
    assert {tuple(sorted(source for source, _, _ in batch)) for batch in mixed} == {(0, 0, 1, 1)}
    assert len({tuple(source for source, _, _ in batch) for batch in mixed}) == 4


def test_no_source_comes_again_before_all_have_come():
    drawn = [batch[0][0] for batch in batches(*[3] * 7, num_steps=70)]
    turns = [tuple(drawn[start : start + 7]) for start in range(0, 70, 7)]
    assert all(sorted(turn) == list(range(7)) for turn in turns)
    assert len(set(turns)) == 10
    assert {batch[0][0] for batch in batches(3, 3, 3, weights=[1, 0, 1])} == {0, 2}


@pytest.mark.parametrize("grouped", [True, False])
def test_sources_take_turns_by_weight_not_by_size(grouped):
    drawn = [batch[0][0] for batch in batches(2, 10_000, num_steps=2000, weights=[3, 1], grouped=grouped)]
    # Three standard deviations of 2000 draws with probability 3/4.
    assert abs(np.mean(np.equal(drawn, 0)) - 0.75) < 3 * np.sqrt(0.75 * 0.25 / 2000)


def test_weights_may_change_on_the_way():
    sampler = MixtureBatchSampler(mixture(5, 7), 1, 3000)
    drawn = []
    for (draw,) in sampler:
        drawn.append(draw[0])
        if len(drawn) == 1000:
            sampler.set_weights([1, 3])
    assert np.mean(drawn[:1000]) == pytest.approx(0.5, abs=0.01)
    assert np.mean(drawn[1000:]) == pytest.approx(0.75, abs=0.03)
    with pytest.raises(ValueError, match="one a source"):
        sampler.set_weights([1])


def test_shares_follow_losses_and_every_source_is_heard_as_its_weight_says():
    sampler = MixtureBatchSampler(mixture(5, 5, 5), 1, 3000, weights=[1, 1, 2])
    shares = LossShares(sampler)
    heard = np.zeros(3)
    for ((source, *_),) in sampler:
        heard[source] += shares.factor(source)
        shares.note(source, [4.0, 1.0, 0.0][source])
        shares.renew()
    np.testing.assert_allclose(heard / heard.sum(), [0.25, 0.25, 0.5], atol=0.05)
    expected = np.array([2, 1, 2 * LossShares.LEAST**0.5])
    np.testing.assert_allclose(sampler.weights, expected / expected.sum())
    other = LossShares(MixtureBatchSampler(mixture(5, 5, 5), 1, 3000, weights=[1, 1, 2]))
    other.load_state_dict(shares.state_dict())
    np.testing.assert_array_equal(other.sampler.weights, sampler.weights)
    other.note(1, 1.0)
    other.renew()
    np.testing.assert_allclose(other.sampler.weights, sampler.weights)
    other.note(0, float("nan"))
    other.renew()
    np.testing.assert_allclose(other.sampler.weights, sampler.weights)
    # Nothing changes before a loss is known of each source.
    fresh = LossShares(MixtureBatchSampler(mixture(5, 5), 1, 10))
    fresh.note(0, 3.0)
    fresh.renew()
    assert fresh.sampler.weights.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("grouped", [True, False])
def test_items_of_a_source_are_equally_likely(grouped):
    items = [draw[1] for batch in batches(2, 10, num_steps=3000, grouped=grouped) for draw in batch if draw[0] == 1]
    counts = np.bincount(items, minlength=10)
    np.testing.assert_allclose(counts / counts.sum(), 0.1, atol=0.02)


@pytest.mark.parametrize("grouped", [True, False])
def test_a_resumed_run_sees_the_batches_that_it_would_have_seen(grouped):
    assert batches(5, 7, start=120, grouped=grouped) == batches(5, 7, grouped=grouped)[120:]
    assert batches(5, 7, seed=1) != batches(5, 7)


@pytest.mark.parametrize("grouped", [True, False])
def test_processes_share_the_batch_of_one_process(grouped):
    shares = [
        list(MixtureBatchSampler(mixture(5, 7), 2, 50, rank=rank, num_processes=2, grouped=grouped))
        for rank in range(2)
    ]
    together = [sorted(first + second) for first, second in zip(*shares, strict=True)]
    assert together == [sorted(batch) for batch in batches(5, 7, num_steps=50, grouped=grouped)]


def test_augmentations_get_the_seed_of_the_draw():
    data = MixtureDataset([["a"], ["b"]], [None, lambda sample, rng: (sample, rng.integers(1000))])
    assert data[0, 0, 1] == "a"
    assert data[1, 0, 1] == data[1, 0, 1] != data[1, 0, 2]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [({"weights": [1]}, "one a source"), ({"weights": [0, 0]}, "not all 0"), ({"weights": [-1, 2]}, "0 or more")],
)
def test_weights_that_do_not_fit_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        batches(5, 7, **kwargs)
