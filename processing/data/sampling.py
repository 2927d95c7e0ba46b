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
"""Mixing of sources of any kind and size into one stream of training batches that a seed and a step number fix."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from torch.utils.data import Dataset, Sampler

from .datasets import Sample

Draw = tuple[int, int, int]


class MixtureDataset(Dataset):
    """Samples of several data sets, addressed by draws (source, item, seed).

    Args:
        sources: data sets of [`Sample`]s.
        augmentations: what happens to the samples of each source, given a sample and a random generator; `None` =
            nothing.
    """

    def __init__(
        self,
        sources: Sequence[Dataset],
        augmentations: Sequence[Callable[[Sample, np.random.Generator], Sample] | None] | None = None,
    ):
        self.sources = list(sources)
        self.augmentations = [None] * len(self.sources) if augmentations is None else list(augmentations)
        if not self.sources or len(self.augmentations) != len(self.sources):
            raise ValueError(
                f"{len(self.sources)} sources and {len(self.augmentations)} augmentations were given; at least one "
                "source and as many augmentations are needed."
            )

    def __getitem__(self, draw: Draw) -> Sample:
        """Reads a sample and changes it as its source's augmentation does with the draw's seed."""
        source, item, seed = draw
        sample, augmentation = self.sources[source][item], self.augmentations[source]
        return sample if augmentation is None else augmentation(sample, np.random.default_rng(seed))


class MixtureBatchSampler(Sampler[list[Draw]]):
    """Batches of draws from sources that are drawn by weight: one source a batch, or one a sample.

    A batch of one source wastes no padding on others with more dates or bands; a mixed one hears several at every step.
    Draws are stratified: sources of equal weights come once each, in another order every time, before any comes again.
    Step `n` is the same batch in every run of the same seed, wherever the run started; several processes share
    each global batch between them.

    Args:
        dataset: the mixture.
        batch_size: samples a process takes at each step.
        num_steps: number of the last step + 1.
        weights: share of the steps of each source; `None` = equal shares, however large the sources are.
        seed: fixes all draws.
        start: number of the first step, for a run that is resumed.
        rank: number of this process.
        num_processes: how many share a batch.
        grouped: whether all samples of a batch come from one source.
    """

    def __init__(
        self,
        dataset: MixtureDataset,
        batch_size: int,
        num_steps: int,
        weights: Sequence[float] | None = None,
        seed: int = 0,
        start: int = 0,
        rank: int = 0,
        num_processes: int = 1,
        grouped: bool = True,
    ):
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
        self.dataset, self.batch_size, self.num_steps, self.start = dataset, batch_size, num_steps, start
        self.seed, self.rank, self.num_processes, self.grouped = seed, rank, num_processes, grouped
        self.set_weights(np.ones(len(dataset.sources)) if weights is None else weights)

    def set_weights(self, weights: Sequence[float]) -> None:
        """Changes the sources' shares of all draws from here on; every process must do so at the same step."""
        weights, count = np.asarray(weights, dtype=float), len(self.dataset.sources)
        if len(weights) != count or not (weights >= 0).all() or weights.sum() <= 0:
            raise ValueError(
                f"weights must be {count} numbers of 0 or more, not all 0 (one a source), got {weights.tolist()}."
            )
        self.weights = weights / weights.sum()

    def __len__(self) -> int:
        """Steps that are left."""
        return max(self.num_steps - self.start, 0)

    def __iter__(self) -> Iterator[list[Draw]]:
        """Yields this process's share of the batch of each step."""
        for step in range(self.start, self.num_steps):
            rng = np.random.default_rng((self.seed, step))
            size = self.batch_size * self.num_processes
            if self.grouped:
                sources = [self.draw_source(step)] * size
            else:
                sources = [self.draw_source(step * size + sample) for sample in range(size)]
            items = rng.integers([len(self.dataset.sources[source]) for source in sources])
            seeds = rng.integers(2**62, size=size)
            batch = [tuple(map(int, draw)) for draw in zip(sources, items, seeds, strict=True)]
            yield batch[self.rank :: self.num_processes]

    def draw_source(self, number: int) -> int:
        """The source that is drawn at a place in the sequence of all draws."""
        strata = np.count_nonzero(self.weights)
        turn, place = divmod(number, strata)
        rng = np.random.default_rng((self.seed, turn, 1))
        uniform = min((rng.permutation(strata)[place] + rng.random(strata)[place]) / strata, np.nextafter(1, 0))
        shares = np.cumsum(self.weights)
        return int(np.searchsorted(shares, uniform * shares[-1], side="right"))


class LossShares:
    """Lets the sources' shares of the draws follow their losses: what has been learned needs fewer windows.

    A share is proportional to the source's weight and to a power of the running mean of its training loss. Losses
    times `factor` hear every source as its weight says, however many windows it has: without it those that were learned
    fell behind (radar change, mean IoU 0.75 instead of 0.90, one seed).

    Args:
        sampler: whose weights are changed; those that it has are the sources' weights.
        power: of the loss; 0 = the weights alone. With 0.5 one model for 17 real sources reached a mean IoU of 0.640
            instead of 0.636 (tiny, test splits, three seeds).
        momentum: share of a new loss in the running mean.
    """

    # Of a loss: a source that is learned to the last pixel is still looked at now and then.
    LEAST = 1e-3

    def __init__(self, sampler: MixtureBatchSampler, power: float = 0.5, momentum: float = 0.05):
        self.sampler, self.power, self.momentum = sampler, power, momentum
        self.weights = sampler.weights
        self.losses: list[float | None] = [None] * len(self.weights)

    def factor(self, source: int) -> float:
        """What the loss of a window is to be multiplied by, under the shares that it was drawn with."""
        return float(self.weights[source] / self.sampler.weights[source])

    def note(self, source: int, loss: float) -> None:
        """Takes the loss of a window of a source into its running mean."""
        before = self.losses[source]
        self.losses[source] = loss if before is None else before + self.momentum * (loss - before)

    def renew(self) -> None:
        """Changes the sampler's weights, once a loss is known of every source that has a weight; a loss that is not
        finite changes nothing, and is for the training to refuse."""
        drawn = [loss for loss, weight in zip(self.losses, self.weights, strict=True) if weight > 0]
        if None not in drawn and np.isfinite(drawn).all():
            powers = [max(loss or 0.0, self.LEAST) ** self.power for loss in self.losses]
            self.sampler.set_weights(self.weights * powers)

    def state_dict(self) -> dict[str, list]:
        """Losses, and the shares in force."""
        return {"losses": list(self.losses), "shares": self.sampler.weights.tolist()}

    def load_state_dict(self, state: dict[str, list]) -> None:
        """Goes on from a saved state."""
        self.losses = list(state["losses"])
        self.sampler.weights = np.array(state["shares"])
