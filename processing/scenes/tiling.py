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
"""Where the tiles of a scene lie, how their logits are weighted, and which pixels are finished together."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

# Side of a tile, and what neighbours share at least, unless another size is asked for: in pixels.
TILE_SIZE = 256
OVERLAP = 64


@dataclass(frozen=True)
class Axis:
    """Tiles along the rows or the columns of a scene.

    Args:
        length: pixels of the scene.
        tile: pixels of a tile.
        starts: first pixel of each tile.
        weights: for each tile, the share (pixels that lie in the scene) float32 that it has in each of its pixels.
            At every pixel the shares of all tiles add up to 1.
    """

    length: int
    tile: int
    starts: tuple[int, ...]
    weights: tuple[np.ndarray, ...]

    def reaching(self, start: int, stop: int) -> range:
        """The tiles that have a share in the pixels from `start` up to `stop`."""
        own = [
            index
            for index, (first, weights) in enumerate(zip(self.starts, self.weights, strict=True))
            if weights[max(start - first, 0) : max(stop - first, 0)].any()
        ]
        return range(own[0], own[-1] + 1)

    def edge(self, index: int) -> int:
        """First pixel of a tile, or the end of the scene for the tile that would follow the last one."""
        return self.starts[index] if index < len(self.starts) else self.length


def round_up(pixels: float, step: int) -> int:
    """The least multiple of `step` that is not less than `pixels`."""
    return math.ceil(pixels / step) * step


def rising_share(tile: int, overlap: int) -> np.ndarray:
    """Share of each pixel (tile,) of a tile whose first pixels overlap its neighbour: 0 in the
    outer quarter of the overlap, then smoothly up (3t^2 - 2t^3) over the half between, then 1."""
    margin = overlap // 4
    position = np.clip((np.arange(tile) + 0.5 - margin) / max(overlap - 2 * margin, 1), 0, 1)
    return position * position * (3 - 2 * position)


def plan_axis(length: int, tile: int, overlap: int, step: int) -> Axis:
    """Lays tiles of equal size along an axis and weights them.

    There are as few tiles as `tile` and `overlap` allow, of the least size that covers the scene: a
    last tile pushed back to the edge would compute up to a whole tile twice.

    Tiles begin at multiples of `step`, the side of a token: the grid of tokens of every tile is
    then part of one grid over the scene. The last tile may end beyond the scene, by less than
    `step`.

    What a model says about the pixels at the edge of a tile it says without their surroundings.
    Shares of neighbours therefore follow [`rising_share`] over what they share. At the edge of the
    scene nothing is left out.

    Args:
        length: pixels of the scene.
        tile: most pixels of a tile; a shorter scene has one tile of its own length.
        overlap: pixels that neighbours share at least.
        step: what the positions of tiles are multiples of.

    Raises:
        ValueError: the overlap leaves no room for a step.
    """
    tile = min(tile, length)
    if length == tile:
        return Axis(length, tile, (0,), (np.ones(length, dtype=np.float32),))
    stride = (tile - overlap) // step * step
    if stride < 1:
        raise ValueError(
            f"Tiles of {tile} pixels with an overlap of {overlap} do not advance: they are laid at multiples of {step} "
            f"pixels, the side of a token. Give an overlap of at most {max(tile - step, 0)}, or larger tiles."
        )
    count = 1 + math.ceil((length - tile) / stride)
    shared = (count - 1) * round_up(overlap, step)
    tile = min(tile, round_up((length + shared) / count, step))
    last_step = round_up(length - tile, step) // step
    starts = [last_step * index // (count - 1) * step for index in range(count)]

    raw = [np.ones(tile) for _ in starts]
    for index, (start, following) in enumerate(pairwise(starts)):
        share = rising_share(tile, start + tile - following)
        raw[index] = raw[index] * share[::-1]
        raw[index + 1] = raw[index + 1] * share
    raw = [weights[: length - start] for start, weights in zip(starts, raw, strict=True)]
    total = np.zeros(length)
    for start, weights in zip(starts, raw, strict=True):
        total[start : start + len(weights)] += weights
    shares = [
        (weights / total[start : start + len(weights)]).astype(np.float32)
        for start, weights in zip(starts, raw, strict=True)
    ]
    return Axis(length, tile, tuple(starts), tuple(shares))


@dataclass(frozen=True)
class Block:
    """Pixels of a scene that are finished together: some rows of tiles of a strip, which is some columns of tiles.

    Args:
        index: position among the blocks of the scene.
        strip: position of the strip, from the left.
        row: first row.
        column: first column.
        height: rows.
        width: columns.
    """

    index: int
    strip: int
    row: int
    column: int
    height: int
    width: int

    def follows(self, other: "Block") -> bool:
        """Whether this block continues another one downwards."""
        return self.strip == other.strip and self.row == other.row + other.height


def plan_blocks(rows: Axis, columns: Axis, max_rows: int, max_columns: int) -> list[Block]:
    """Cuts a scene into blocks of at most so many rows and columns of tiles, strip by strip, from top to bottom.

    Blocks share no pixel, and together cover the scene.
    """

    def cuts(axis: Axis, most: int) -> list[int]:
        count = len(axis.starts)
        parts = -(-count // most)
        return [axis.edge(part * count // parts) for part in range(parts + 1)]

    lines = list(pairwise(cuts(rows, max_rows)))
    return [
        Block(strip * len(lines) + position, strip, top, left, bottom - top, right - left)
        for strip, (left, right) in enumerate(pairwise(cuts(columns, max_columns)))
        for position, (top, bottom) in enumerate(lines)
    ]
