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
"""A raster series of any size through the model, tile by tile."""

import math
import queue
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from time import perf_counter
from types import TracebackType
from typing import Any, Self, TypeAlias, TypeVar

import numpy as np
import torch
from tqdm.auto import tqdm

from modeling_stsun import STSUNForDensePrediction

from ..arrays_stsun import Readings, select_readings
from ..errors import STSUNError
from ..image_processing_stsun import BY_KIND, Outputs, STSUNImageProcessor
from ..metadata import IGNORE_INDEX, ImageSeries
from ..rasters.entries import PathLike
from ..rasters.raster_series import RasterSeries
from ..rasters.series import open_series
from .tiling import OVERLAP, TILE_SIZE, Block, plan_axis, plan_blocks

# A date that holds no data in so many tiles is not looked at for its unit.
MAX_CHECKED_TILES = 64
# Probabilities and margins are stored as bytes: value = byte * PROBABILITY_SCALE, 255 = nodata.
PROBABILITY_SCALE = 0.004
# Of a block, which is finished and kept together: rows and columns of tiles. Blocks are wide, for the tiles at the left
# edge of a strip are computed for its neighbour too.
_BLOCK_TILES = (4, 32)
# What the logits of a row of tiles of a block, and a finished block, may take of memory in bytes, if it takes more than
# a single tile.
_LOGIT_BYTES = 2**27
_BLOCK_BYTES = 2**26
# Batches that are read ahead of the model.
_PREFETCHED_BATCHES = 2

T = TypeVar("T")


class PredictionError(STSUNError, ValueError):
    """A model whose output means nothing."""


class SeriesInMemory:
    """A series with pixels, which is read window by window as rasters are.

    Args:
        series: the series.

    Attributes:
        series: the series.
        height: its rows.
        width: its columns.
        files: none.
        facts: none.
    """

    files: tuple[str, ...] = ()
    facts: tuple[Any, ...] = ()

    def __init__(self, series: ImageSeries) -> None:
        self.series = series
        self.height, self.width = series.size

    def read(self, row: int, column: int, height: int, width: int) -> ImageSeries:
        """A window of the series, as [`RasterSeries.read`] gives it."""
        return self.series.crop(row, column, height, width)


Scene: TypeAlias = RasterSeries | SeriesInMemory
# A scene, or what `open_series` takes in its place.
SceneSource: TypeAlias = Scene | ImageSeries | PathLike | Mapping[str, Any] | Sequence[Any]


def readings_for(processor: STSUNImageProcessor, statistics: str | None) -> Readings:
    """What a checkpoint knows about files: of the data set whose statistics are asked for alone, if one is."""
    return select_readings(processor.readings, statistics)


@contextmanager
def open_scene(source: SceneSource, processor: STSUNImageProcessor, statistics: str | None = None) -> Iterator[Scene]:
    """A scene that is read window by window; rasters that were named by their paths are closed again.

    Args:
        source: an open series of rasters; a series with pixels; or whatever [`open_series`] takes, which is opened with
            what the checkpoint knows about files like those that it was trained on.
        processor: that of the checkpoint.
        statistics: the data set whose statistics will normalise the scene, if one was named.

    Raises:
        RasterError: the rasters cannot be opened; see [`open_series`].
    """
    if isinstance(source, (RasterSeries, SeriesInMemory)):
        yield source
    elif isinstance(source, ImageSeries):
        yield SeriesInMemory(source)
    else:
        with open_series(source, readings=readings_for(processor, statistics)) as opened:
            yield opened


@dataclass(frozen=True)
class LogitStrip:
    """Blended logits of some finished rows of a block.

    Args:
        row: first row.
        column: first column.
        logits: (maps, classes, rows, columns) float32, on the device of the model.
        seen: (maps, rows, columns) bool: whether there are data to tell from; see [`ScenePredictor`].
        described: (maps, rows, columns) bool: whether a date that the map describes holds data.
    """

    row: int
    column: int
    logits: torch.Tensor
    seen: np.ndarray
    described: np.ndarray


@dataclass(frozen=True)
class BlockMaps:
    """A finished block.

    Args:
        block: where it lies.
        maps: (maps, rows, columns) uint8, positions in the class names; 255 = nodata.
        described: (maps, rows, columns) bool: whether a date that the map describes holds data.
        probabilities: (maps, classes, rows, columns) uint8, in units of `PROBABILITY_SCALE`; 255 = nodata. `None` if
            not asked for.
        margins: (maps, rows, columns) uint8: probability of the best class less that of the second, likewise.
    """

    block: Block
    maps: np.ndarray
    described: np.ndarray
    probabilities: np.ndarray | None = None
    margins: np.ndarray | None = None


@dataclass(frozen=True)
class _Batch:
    """Tiles for one pass of the model, by row and column of tiles; without pixels where no map can tell anything."""

    tiles: list[tuple[int, int]]
    seen: list[np.ndarray]
    described: list[np.ndarray]
    full: list[int]
    pixel_values: torch.Tensor | None
    pixel_mask: torch.Tensor | None


def prefetched(items: Iterator[T], count: int) -> Generator[T, None, None]:
    """Draws `items` in a thread, up to `count` ahead; what they raise is raised when its turn comes."""
    results: queue.Queue[tuple[T | None, BaseException | None, bool]] = queue.Queue(count)
    stopped = threading.Event()

    def put(*result: Any) -> None:
        while not stopped.is_set():
            try:
                return results.put(result, timeout=0.1)
            except queue.Full:
                continue

    def draw() -> None:
        try:
            for item in items:
                put(item, None, False)
                if stopped.is_set():
                    return
            put(None, None, True)
        except BaseException as error:
            put(None, error, True)

    thread = threading.Thread(target=draw, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item, error, last = results.get()
            if error is not None:
                raise error
            if last:
                return
            yield item
    finally:
        stopped.set()
        thread.join()


def bind_metadata(
    model: STSUNForDensePrediction, metadata: Mapping[str, torch.Tensor], shape: tuple[int, ...], cell_size: int
) -> Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]:
    """The model as a function of pixels (B, T, C, H, W) and their mask (`None` = all valid) alone, to logits.

    Args:
        model: the model.
        metadata: its other inputs for one sample; weights are generated from them once.
        shape: (T, C, H, W) of the pixels.
        cell_size: side of a cell in pixels.
    """
    # Every date, class and output of the only sample is real.
    skipped = ("date_mask", "category_mask", "output_mask")
    metadata = {key: value.to(model.device) for key, value in metadata.items() if key not in skipped}
    pixels = torch.zeros(1, *shape, device=model.device)
    return model.fold_metadata(pixel_values=pixels, cell_sizes=cell_size, **metadata)


class ScenePredictor:
    """Predicts maps of a whole raster series, block by block.

    Tiles overlap, and their logits are blended with shares that fall smoothly towards the tile's edges, so that no seam
    shows (see [`~tiling.plan_axis`]). A block depends on nothing but its own pixels and those around them: blocks may
    be predicted in any order, in several processes, or some today and some tomorrow. The tiles that cover a pixel are
    always summed from the top left to the bottom right one, and always computed in the same batches, so that the result
    is the same to the last bit on one machine with one number of threads. Another batch size, device or number of
    threads may take other kernels, which round logits differently (float32: by about 1e-5 of their size).

    Memory depends on tiles, batches, classes and bands, not on the size of the scene.

    A map is nodata where no date holds data; a map of binary change is so wherever one of its two dates holds none.

    Args:
        model: a `STSUNForDensePrediction`, on the device to be used.
        processor: the processor of the same checkpoint.
        source: rasters, from [`open_series`]; a series with pixels; or a path, or whatever else [`open_series`] takes:
            it is opened with what the checkpoint knows about such files, and closed by `close`, or at the end of a
            `with` statement.
        task: name of the task.
        classes: names of the classes, in the order of the map's values; `None` as in the processor.
        outputs: what each map describes; `None` as in the processor.
        tile_size: side of a tile in pixels.
        overlap: pixels that neighbouring tiles share at least; more where tokens ask for it.
        batch_size: tiles a forward pass; `None` = 4, but 1 on a CPU, where more take memory and no less time.
        statistics: see the processor.
        cell_size: see the processor; `None` = so that a tile takes at most `unified_size` cells.
        probabilities: whether blocks hold the probability of each class.
        margins: whether blocks hold the margin between the two best classes.
        check_range: whether values that cannot be in the units that the statistics expect are refused.
        progress: whether a progress bar is shown.

    Attributes:
        scene: the scene, open for reading.
        blocks: the blocks of the scene (see [`~tiling.Block`]).
        normalisation: how the pixels are normalised, in a sentence.
        timings: seconds spent so far: `read` (in the reading thread, beside the rest), `wait` (for it), `model` (on a
            CPU; other devices compute on while the rest goes on), `blend`.

    Raises:
        ValueError: a request that the processor refuses, tile sizes that do not fit, model and processor of different
            checkpoints, or values in another unit; all before the first tile is predicted.
        RasterError: rasters that were named by their paths cannot be opened, or tiles cannot be read.
    """

    def __init__(
        self,
        model: STSUNForDensePrediction,
        processor: STSUNImageProcessor,
        source: SceneSource,
        task: str,
        classes: Sequence[str] | None = None,
        outputs: Outputs | None = None,
        *,
        tile_size: int = TILE_SIZE,
        overlap: int = OVERLAP,
        batch_size: int | None = None,
        statistics: str | None = None,
        cell_size: int | None = None,
        probabilities: bool = False,
        margins: bool = False,
        check_range: bool = True,
        progress: bool = True,
    ):
        if batch_size is None:
            batch_size = 1 if model.device.type == "cpu" else 4
        if tile_size < 1 or not 0 <= overlap < tile_size or batch_size < 1:
            raise ValueError(
                f"tile_size={tile_size}, overlap={overlap}, batch_size={batch_size}: sizes must be at least 1, and the "
                "overlap smaller than the tile."
            )
        processor.check_config(model.config)
        if model.device.type == "meta":
            raise ValueError("The model is on the device 'meta', which holds no values. Name another (--device).")
        self.model, self.processor, self.task = model.eval(), processor, task
        self.batch_size, self.progress = batch_size, progress
        self.probabilities, self.margins = probabilities, margins
        self.timings = dict.fromkeys(("read", "wait", "model", "blend"), 0.0)
        with ExitStack() as stack:
            self.scene = stack.enter_context(open_scene(source, processor, statistics))
            self._resolve(classes, outputs, statistics)
            self._lay_tiles(tile_size, overlap, cell_size)
            if check_range:
                self.check_values()
            self.apply = self._bind()
            # What was opened here stays open until `close`.
            self._opened = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes rasters that were named by their paths; others stay open."""
        self._opened.close()

    def _resolve(self, classes: Sequence[str] | None, outputs: Outputs | None, statistics: str | None) -> None:
        """What is asked of the scene, checked."""
        series = self.scene.series
        self.num_dates = len(series.acquisitions)
        self.num_bands = max(len(acquisition.bands) for acquisition in series.acquisitions)
        self.outputs = self.processor.resolve_outputs(self.task, outputs, self.num_dates)
        self.classes = self.processor.resolve_classes(self.task, classes)
        self.statistics = self.processor.resolve_statistics(series, statistics) or BY_KIND
        self.normalisation = self.processor.describe_statistics(series, self.statistics)

    def _lay_tiles(self, tile_size: int, overlap: int, cell_size: int | None) -> None:
        """Where tiles and blocks lie."""
        self.height, self.width = self.scene.height, self.scene.width
        longest = min(tile_size, max(self.height, self.width))
        self.cell_size = -(-longest // self.processor.unified_size) if cell_size is None else cell_size
        if not 1 <= self.cell_size <= longest:
            raise ValueError(
                f"cell_size (--cell-size) must be from 1 to the {longest} pixels of a tile, got {self.cell_size}."
            )
        token = self.cell_size * self.model.config.patch_size
        self.rows = plan_axis(self.height, tile_size, overlap, token)
        self.columns = plan_axis(self.width, tile_size, overlap, token)
        self.block_tiles = self._block_tiles()
        self.blocks = plan_blocks(self.rows, self.columns, *self.block_tiles)

    def _bind(self) -> Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]:
        """The model as a function of the pixels of tiles."""
        size = (self.rows.tile, self.columns.tile)
        sample = self.processor.encode_metadata(
            self.scene.series, self.task, self.classes, self.outputs, cell_size=self.cell_size, size=size
        )
        metadata = self.processor.pad([sample])
        tensors = {name: value for name, value in metadata.items() if name != "cell_sizes"}
        return bind_metadata(self.model, tensors, (self.num_dates, self.num_bands, *size), self.cell_size)

    def _block_tiles(self) -> tuple[int, int]:
        """Rows and columns of tiles of a block at most: memory is bounded for any number of maps and classes."""
        num_maps, num_classes = len(self.outputs), len(self.classes)
        stride = self.columns.edge(1) - self.columns.starts[0]
        # The sums, the rows that leave them and their probabilities.
        column_bytes = 3 * 4 * num_maps * num_classes * self.rows.tile
        columns = max(1, min(_BLOCK_TILES[1], _LOGIT_BYTES // (column_bytes * stride)))
        layers = num_maps * (2 + self.margins + num_classes * self.probabilities)
        row_bytes = layers * columns * stride * (self.rows.edge(1) - self.rows.starts[0])
        return max(1, min(_BLOCK_TILES[0], _BLOCK_BYTES // row_bytes)), columns

    def check_values(self) -> None:
        """Refuses values in another unit: looks at tiles from the middle of the scene until each date showed data."""
        rows, columns = self.rows.starts, self.columns.starts
        middle = (len(rows) - 1) // 2, (len(columns) - 1) // 2
        # As many tiles around the middle as are looked at, whatever the size of the scene.
        reach = range(-MAX_CHECKED_TILES, MAX_CHECKED_TILES + 1)
        near = [
            (middle[0] + i, middle[1] + j)
            for i in reach
            for j in reach
            if 0 <= middle[0] + i < len(rows) and 0 <= middle[1] + j < len(columns)
        ]
        unseen = set(range(self.num_dates))
        for i, j in sorted(near, key=lambda tile: math.dist(tile, middle))[:MAX_CHECKED_TILES]:
            series = self._read(i, j)
            self.processor.check_units(series, self.statistics)
            unseen -= {date for date, valid in enumerate(series.valid) if valid.any()}
            if not unseen:
                return

    def _read(self, i: int, j: int) -> ImageSeries:
        row, column = self.rows.starts[i], self.columns.starts[j]
        height, width = (len(axis.weights[index]) for axis, index in ((self.rows, i), (self.columns, j)))
        return self.scene.read(row, column, height, width)

    def _load(self, tiles: list[tuple[int, int]]) -> _Batch:
        """Reads and normalises tiles; what ends beyond the scene is filled up with masked pixels."""
        started = perf_counter()
        shape = (self.rows.tile, self.columns.tile)
        all_seen, all_described, full, pixels, masks = [], [], [], [], []
        complete = True
        for position, tile in enumerate(tiles):
            series = self._read(*tile)
            valid = np.stack(series.valid)
            if valid.any():
                pixel_values, valid = self.processor.encode_pixels(series, self.statistics, check_range=False)
            described = np.stack([valid[list(output)].any(0) for output in self.outputs])
            if self.task == "binary_change_detection":
                seen = np.stack([valid[list(output)].all(0) for output in self.outputs])
            else:
                seen = np.broadcast_to(valid.any(0), described.shape)
            all_seen.append(seen)
            all_described.append(described)
            if not seen.any():
                continue
            full.append(position)
            rows, columns = shape[0] - valid.shape[1], shape[1] - valid.shape[2]
            pixels.append(np.pad(pixel_values, ((0, 0), (0, 0), (0, rows), (0, columns))))
            masks.append(np.pad(valid, ((0, 0), (0, rows), (0, columns))))
            complete &= bool(masks[-1].all())
        values = torch.from_numpy(np.stack(pixels)) if full else None
        # Without a mask the model is much faster.
        mask = torch.from_numpy(np.stack(masks)) if full and not complete else None
        self.timings["read"] += perf_counter() - started
        return _Batch(tiles, all_seen, all_described, full, values, mask)

    @torch.inference_mode()
    def logits(self, blocks: Sequence[Block] | None = None) -> Iterator[LogitStrip]:
        """Blended logits of some blocks, a few rows at a time.

        Args:
            blocks: which; `None` = all. Where a block continues the one before it downwards, nothing is computed twice.

        Raises:
            RasterError: a tile cannot be read.
            PredictionError: the model gives values that are not finite.
        """
        runs: list[list[Block]] = []
        for block in self.blocks if blocks is None else blocks:
            if runs and block.follows(runs[-1][-1]):
                runs[-1].append(block)
            else:
                runs.append([block])
        plans = [self._plan(run) for run in runs]
        count = sum(len(batch) for batches, *_ in plans for batch in batches)
        bar = tqdm(total=count, desc="tiles", unit="tile", disable=not self.progress)
        loaded = prefetched((self._load(batch) for batches, *_ in plans for batch in batches), _PREFETCHED_BATCHES)
        try:
            for run, (batches, rows, columns) in zip(runs, plans, strict=True):
                yield from self._blend(run, rows, columns, loaded, len(batches), bar)
        finally:
            loaded.close()
            bar.close()

    def _plan(self, run: list[Block]) -> tuple[list[list[tuple[int, int]]], range, range]:
        """Batches of tiles for a run of blocks, and the rows and columns of tiles that have a share in it.

        The tiles of a strip are numbered, and a batch holds those from a multiple of the batch size to the next: which
        tiles are computed together does not depend on where a run begins. Some may then be computed for nothing.
        """
        first, last = run[0], run[-1]
        rows = self.rows.reaching(first.row, last.row + last.height)
        columns = self.columns.reaching(first.column, first.column + first.width)
        tiles = [(i, j) for i in range(len(self.rows.starts)) for j in columns]
        size = self.batch_size
        begin = rows.start * len(columns) // size * size
        batches = [tiles[at : at + size] for at in range(begin, rows.stop * len(columns), size)]
        return batches, rows, columns

    def _blend(
        self, run: list[Block], rows: range, columns: range, loaded: Iterator[_Batch], num_batches: int, bar: tqdm
    ) -> Iterator[LogitStrip]:
        """Sums the logits of the next batches into the rows that they cover; rows leave when no later tile has a share.

        Rows of tiles above the run are computed only for the share that they have in it.
        """
        left, width, device = run[0].column, run[0].width, self.model.device
        shape = (len(self.outputs), len(self.classes), self.rows.tile, width)
        total = torch.zeros(shape, device=device)
        seen, described = np.zeros((2, shape[0], *shape[2:]), dtype=bool)
        for _ in range(num_batches):
            started = perf_counter()
            batch = next(loaded)
            received = perf_counter()
            logits = iter(())
            if batch.pixel_values is not None:
                mask = None if batch.pixel_mask is None else batch.pixel_mask.to(device)
                logits = iter(self.apply(batch.pixel_values.to(device), mask).float())
            computed = perf_counter()
            self.timings["wait"] += received - started
            self.timings["model"] += computed - received
            for position, (i, j) in enumerate(batch.tiles):
                tile = next(logits) if position in batch.full else None
                if i not in rows:
                    continue
                top, start = self.rows.starts[i], self.columns.starts[j]
                down, right = self.rows.weights[i], self.columns.weights[j]
                first, stop = max(start, left), min(start + len(right), left + width)
                source = slice(first - start, stop - start)
                target = (..., slice(0, len(down)), slice(first - left, stop - left))
                if tile is not None:
                    share = torch.from_numpy(down[:, None] * right[source]).to(device)
                    total[target] += tile[..., : len(down), source] * share
                seen[target] |= batch.seen[position][..., source]
                described[target] |= batch.described[position][..., source]
                if j != columns[-1]:
                    continue
                bottom = self.rows.edge(i + 1)
                done, begin = bottom - top, max(run[0].row - top, 0)
                if begin < done and top < run[-1].row + run[-1].height:
                    finished = (..., slice(begin, done), slice(None))
                    if not total[finished].isfinite().all():
                        raise PredictionError(
                            f"The model gives values that are not finite in rows {top + begin} to {top + done - 1} of "
                            f"the scene, columns {left} to {left + width - 1}: its weights are damaged, or too large "
                            f"for {self.model.dtype}. Take another checkpoint, or load it as float32 (dtype="
                            '"float32", --dtype float32).'
                        )
                    self.timings["blend"] += perf_counter() - computed
                    yield LogitStrip(
                        row=top + begin,
                        column=left,
                        logits=total[finished].clone(),
                        seen=seen[finished].copy(),
                        described=described[finished].copy(),
                    )
                    computed = perf_counter()
                # The rows that the next tiles reach move to the top.
                kept = total[..., done:, :].clone()
                total.zero_()
                total[..., : kept.shape[-2], :] = kept
                for array in (seen, described):
                    array[:, : array.shape[1] - done] = array[:, done:].copy()
                    array[:, array.shape[1] - done :] = False
            self.timings["blend"] += perf_counter() - computed
            bar.update(len(batch.tiles))

    def predict(self, blocks: Sequence[Block] | None = None) -> Iterator[BlockMaps]:
        """Finished blocks, in the order asked for; arguments and errors as [`ScenePredictor.logits`]."""
        remaining = iter(self.blocks if blocks is None else blocks)
        parts: list[tuple[np.ndarray, ...]] = []
        block = None
        for strip in self.logits(blocks):
            block = next(remaining) if block is None else block
            started = perf_counter()
            parts.append(self._decide(strip))
            finished = strip.row + strip.logits.shape[-2] == block.row + block.height
            if finished:
                maps, described, probabilities, margins = (
                    None if layers[0] is None else np.concatenate(layers, axis=-2)
                    for layers in zip(*parts, strict=True)
                )
            self.timings["blend"] += perf_counter() - started
            if finished:
                yield BlockMaps(block, maps, described, probabilities, margins)
                parts, block = [], None

    def _decide(self, strip: LogitStrip) -> tuple[np.ndarray | None, ...]:
        """Maps, described, probabilities and margins of a strip (see [`BlockMaps`])."""
        maps = self.processor.class_maps(strip.logits).to(torch.uint8).cpu().numpy()
        maps[~strip.seen] = IGNORE_INDEX
        probabilities = margins = None
        if self.probabilities or self.margins:
            single = len(self.classes) == 1
            shares = strip.logits.sigmoid() if single else strip.logits.softmax(-3)
            if self.margins:
                best = (
                    (2 * shares[..., 0, :, :] - 1).abs()
                    if single
                    else -shares.topk(2, dim=-3).values.diff(dim=-3)[:, 0]
                )
                margins = _as_bytes(best)
                margins[~strip.seen] = IGNORE_INDEX
            if self.probabilities:
                probabilities = _as_bytes(shares)
                probabilities[np.broadcast_to(~strip.seen[:, None], probabilities.shape)] = IGNORE_INDEX
        return maps, strip.described, probabilities, margins


def _as_bytes(shares: torch.Tensor) -> np.ndarray:
    return (shares / PROBABILITY_SCALE).round().to(torch.uint8).cpu().numpy()
