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

# Bits that are set in each byte.
_NUM_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(1, dtype=np.uint8)

ReadLabels = Callable[[Window], np.ndarray]


@dataclass(frozen=True)
class LabelSummary:
    """What the maps of a sample label.

    Args:
        size: height and width in pixels.
        counts: (classes + 1,) pixels of each class over all maps, then those without a label.
        blocks: (rows, columns) int64, pixels of each block of 256 x 256 that have a label in some map.
        masks: by number of the block, row by row: which pixels of a partly labelled block those are, as packed bits.
            Blocks that are missing are read again.
    """

    size: tuple[int, int]
    counts: np.ndarray
    blocks: np.ndarray
    masks: dict[int, np.ndarray]

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
        return sum(mask.nbytes for mask in self.masks.values())

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
        window = self._window(block)
        top, left, height, width = window
        number = int(rng.integers(0, self.blocks.flat[block]))
        if self.blocks.flat[block] < height * width:
            number = self._place(block, number, window, read_labels)
        row, column = divmod(number, width)
        return top + row, left + column

    def _place(self, block: int, number: int, window: Window, read_labels: ReadLabels) -> int:
        """Where in a block, row by row, the labelled pixel of that number lies."""
        if block not in self.masks:
            return int(np.flatnonzero((read_labels(window) != IGNORE_INDEX).any(0))[number])
        mask = self.masks[block]
        totals = _NUM_BITS[mask].cumsum(dtype=np.int64)
        byte = int(np.searchsorted(totals, number, side="right"))
        before = int(totals[byte - 1]) if byte else 0
        return 8 * byte + int(np.flatnonzero(np.unpackbits(mask[byte : byte + 1]))[number - before])

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
    masks: dict[int, np.ndarray] = {}
    for top in range(0, size[0], BLOCK):
        labels = read_labels((top, 0, min(BLOCK, size[0] - top), size[1]))
        counts += np.bincount(labels.ravel(), minlength=len(counts))
        labelled = (labels != IGNORE_INDEX).any(0)
        numbers = np.add.reduceat(labelled.sum(0), np.arange(0, size[1], BLOCK))
        for column, number in enumerate(numbers):
            part = labelled[:, column * BLOCK : (column + 1) * BLOCK]
            mask = np.packbits(part)
            if 0 < number < part.size and mask.nbytes <= mask_bytes:
                masks[len(blocks) * len(numbers) + column] = mask
                mask_bytes -= mask.nbytes
        blocks.append(numbers)
    return LabelSummary(size, np.append(counts[:num_classes], counts[IGNORE_INDEX]), np.stack(blocks), masks)
