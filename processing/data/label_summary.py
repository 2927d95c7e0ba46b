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
"""Where a sample is labelled, kept small, so that a labelled pixel is drawn without reading a label map."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..metadata import IGNORE_INDEX
from .samples import Window

# Side of the blocks in pixels.
BLOCK = 256

ReadLabels = Callable[[Window], np.ndarray]


@dataclass(frozen=True)
class BlockMask:
    """Which pixels of a block are labelled.

    Args:
        bits: (height, bytes) uint8, each row packed by itself.
        totals: (height,) labelled pixels of the rows down to each one, this one included.
    """

    bits: np.ndarray
    totals: np.ndarray

    @classmethod
    def of(cls, labelled: np.ndarray) -> "BlockMask":
        """The mask of a (height, width) bool array."""
        return cls(np.packbits(labelled, axis=1), labelled.sum(1).cumsum())

    @property
    def num_bytes(self) -> int:
        """Memory that it takes."""
        return self.bits.nbytes + self.totals.nbytes

    def place(self, number: int) -> tuple[int, int]:
        """Row and column of the labelled pixel of that number, counted row by row."""
        row = int(self.totals.searchsorted(number, side="right"))
        before = int(self.totals[row - 1]) if row else 0
        return row, int(np.unpackbits(self.bits[row]).nonzero()[0][number - before])


@dataclass(frozen=True)
class LabelSummary:
    """What the maps of a sample label.

    Args:
        size: height and width in pixels.
        counts: (classes + 1,) pixels of each class over all maps, then those without a label.
        blocks: (rows, columns) int64, pixels of each block of 256 x 256 that have a label in some map.
        masks: of blocks that are partly labelled, by number of the block, row by row. Those that are missing are read
            again.
    """

    size: tuple[int, int]
    counts: np.ndarray
    blocks: np.ndarray
    masks: dict[int, BlockMask]

    @cached_property
    def num_labelled(self) -> int:
        """Pixels that have a label in some map."""
        return int(self.blocks.sum())

    @cached_property
    def _shares(self) -> np.ndarray:
        """Cumulative shares of the labelled pixels, block by block."""
        shares = (self.blocks.ravel() / self.num_labelled).cumsum()
        return np.asarray(shares / shares[-1])

    @property
    def num_bytes(self) -> int:
        """Memory that the masks take."""
        return sum(mask.num_bytes for mask in self.masks.values())

    def draw(self, rng: np.random.Generator, read_labels: ReadLabels) -> tuple[int, int] | None:
        """Draws a labelled pixel, each equally likely.

        Args:
            rng: source of randomness.
            read_labels: (maps, height, width) labels of a window, for blocks whose mask is missing.

        Returns:
            Row and column, or `None` if nothing is labelled.
        """
        if not self.num_labelled:
            return None
        block = int(self._shares.searchsorted(rng.random(), side="right"))
        top, left, height, width = self._window(block)
        number = int(rng.integers(0, self.blocks.flat[block]))
        if self.blocks.flat[block] == height * width:
            row, column = divmod(number, width)
        elif block in self.masks:
            row, column = self.masks[block].place(number)
        else:
            labelled = (read_labels((top, left, height, width)) != IGNORE_INDEX).any(0)
            row, column = BlockMask.of(labelled).place(number)
        return top + row, left + column

    def _window(self, block: int) -> Window:
        row, column = divmod(block, self.blocks.shape[1])
        top, left = row * BLOCK, column * BLOCK
        return top, left, min(BLOCK, self.size[0] - top), min(BLOCK, self.size[1] - left)


def summarise_labels(size: tuple[int, int], num_classes: int, read_labels: ReadLabels, mask_bytes: int) -> LabelSummary:
    """Reads all labels of a sample once, strip by strip.

    Args:
        size: height and width in pixels.
        num_classes: number of classes.
        read_labels: (maps, height, width) uint8 positions in a window, 255 = not labelled.
        mask_bytes: memory that masks may take.
    """
    counts = np.zeros(IGNORE_INDEX + 1, dtype=np.int64)
    blocks: list[np.ndarray] = []
    masks: dict[int, BlockMask] = {}
    for top in range(0, size[0], BLOCK):
        labels = read_labels((top, 0, min(BLOCK, size[0] - top), size[1]))
        counts += np.bincount(labels.ravel(), minlength=len(counts))
        labelled = (labels != IGNORE_INDEX).any(0)
        numbers = np.add.reduceat(labelled.sum(0), np.arange(0, size[1], BLOCK))
        for column, number in enumerate(numbers):
            part = labelled[:, column * BLOCK : (column + 1) * BLOCK]
            if 0 < number < part.size and (mask := BlockMask.of(part)).num_bytes <= mask_bytes:
                masks[len(blocks) * len(numbers) + column] = mask
                mask_bytes -= mask.num_bytes
        blocks.append(numbers)
    return LabelSummary(size, np.append(counts[:num_classes], counts[IGNORE_INDEX]), np.stack(blocks), masks)
