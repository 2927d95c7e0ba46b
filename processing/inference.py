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
"""Scene inference: a raster series of any size through the model, tile by tile, into one georeferenced map."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from tqdm.auto import tqdm

from modeling_stsun import STSUNForDensePrediction

from .image_processing_stsun import BY_KIND, Outputs, STSUNImageProcessor
from .metadata import IGNORE_INDEX, ImageSeries
from .raster import RasterSeries
from .raster_output import MapWriter, check_writable

# A date that holds no data in so many tiles is not looked at for its unit.
MAX_CHECKED_TILES = 64


def load_checkpoint(name: str | Path) -> tuple[STSUNForDensePrediction, STSUNImageProcessor]:
    """Loads model and processor of a checkpoint, strictly: every weight must be there, and no other.

    Args:
        name: a folder, or an id on the Hub.

    Raises:
        ValueError: a local folder lacks the configuration, the weights or the processor; weights are missing, left over
            or of another shape; or model and processor do not belong together.
        OSError: nothing by that id on the Hub or in its cache.
    """
    folder = Path(name)
    if folder.exists():
        found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        wanted = (
            ("configuration", {"config.json"}),
            ("weights", {"model.safetensors", "model.safetensors.index.json"}),
            ("image processor", {"preprocessor_config.json"}),
        )
        for what, files in wanted:
            if not found & files:
                raise ValueError(
                    f"Checkpoint {name} has no {what}: {' or '.join(sorted(files))} is not in it (found: "
                    f"{', '.join(sorted(found)) or 'nothing'}). Save it with model.save_pretrained(...) and "
                    "processor.save_pretrained(...)."
                )
    try:
        model, info = STSUNForDensePrediction.from_pretrained(name, output_loading_info=True)
    except SafetensorError as error:
        raise ValueError(
            f"The weights of {name} cannot be read ({error}): the file is damaged. Copy it anew."
        ) from error
    faults = {key: sorted(map(str, value)) for key, value in info.items() if value and key != "error_msgs"}
    if faults:
        raise ValueError(f"The weights of {name} do not fit their configuration: {faults}.")
    processor = STSUNImageProcessor.from_pretrained(name)
    processor.check_config(model.config)
    return model.eval(), processor


@dataclass(frozen=True)
class Strip:
    """Finished rows of the maps of a scene.

    Args:
        row: first row.
        maps: (maps, rows, width) uint8, positions in the class names; 255 where no date holds data.
    """

    row: int
    maps: np.ndarray


def tile_starts(length: int, tile: int, overlap: int) -> list[int]:
    """First pixels of the tiles along one axis: `tile - overlap` apart, the last one ending with the scene."""
    if length <= tile:
        return [0]
    count = math.ceil((length - overlap) / (tile - overlap))
    return [min(index * (tile - overlap), length - tile) for index in range(count)]


def blend_weights(height: int, width: int, overlap: int) -> torch.Tensor:
    """(height, width) weights of a tile's logits: 1 inside, falling linearly to its edges over `overlap` pixels."""

    def ramp(length: int) -> torch.Tensor:
        pixel = torch.arange(length, dtype=torch.float32) + 0.5
        return (torch.minimum(pixel, length - pixel) / max(overlap, 1)).clamp(max=1)

    return ramp(height)[:, None] * ramp(width)


def describe_outputs(series: ImageSeries, task: str, outputs: Outputs) -> list[str]:
    """One line a map: the task and the dates that it describes."""

    def name(index: int) -> str:
        date = series.acquisitions[index].datetime
        return f"date {index + 1}" if date is None else date.date().isoformat()

    return [f"{task} {' / '.join(dict.fromkeys(name(index) for index in (o[0], o[-1])))}" for o in outputs]


def legend(classes: Sequence[str]) -> list[str]:
    """Names of the values of a map: a class asked for alone is told from its absence, so 0 = not it, 1 = it."""
    return [f"not {classes[0]}", classes[0]] if len(classes) == 1 else list(classes)


class ScenePredictor:
    """Predicts maps of a whole raster series.

    Tiles overlap, and their logits are blended with weights that fall towards the tile's edges, so that no seam shows.
    Rows leave as soon as no later tile reaches them: memory grows with the width of the scene, not with its height.

    Args:
        model: a `STSUNForDensePrediction`, on the device to be used.
        processor: the processor of the same checkpoint.
        source: rasters, from [`open_series`], or a series with pixels.
        task: name of the task.
        classes: names of the classes, in the order of the map's values; `None` as in the processor.
        outputs: what each map describes; `None` as in the processor.
        tile_size: side of a tile in pixels.
        overlap: pixels that neighbouring tiles share.
        batch_size: tiles a forward pass.
        statistics: see the processor.
        cell_size: see the processor.
        progress: whether a progress bar is shown.

    Raises:
        ValueError: a request that the processor refuses, tile sizes that do not fit, model and processor of different
            checkpoints, or values in another unit; all before the first tile is predicted.
    """

    def __init__(
        self,
        model: Any,
        processor: STSUNImageProcessor,
        source: RasterSeries | ImageSeries,
        task: str,
        classes: Sequence[str] | None = None,
        outputs: Outputs | None = None,
        *,
        tile_size: int = 256,
        overlap: int = 64,
        batch_size: int = 4,
        statistics: str | None = None,
        cell_size: int | None = None,
        progress: bool = True,
    ):
        if tile_size < 1 or not 0 <= overlap < tile_size or batch_size < 1:
            raise ValueError(
                f"tile_size={tile_size}, overlap={overlap}, batch_size={batch_size}: sizes must be at least 1, and the "
                "overlap smaller than the tile."
            )
        processor.check_config(model.config)
        self.model, self.processor, self.task = model.eval(), processor, task
        if isinstance(source, ImageSeries):
            self.read, series, (height, width) = source.crop, source, source.size
        else:
            self.read, series, height, width = source.read, source.series, source.height, source.width
        self.num_dates = len(series.acquisitions)
        self.outputs = processor.resolve_outputs(task, outputs, self.num_dates)
        self.classes = processor.resolve_classes(task, classes)
        if len(self.classes) > IGNORE_INDEX:
            raise ValueError(f"{len(self.classes)} classes were asked for; a map tells at most {IGNORE_INDEX} apart.")
        self.statistics = processor.resolve_statistics(series, statistics) or BY_KIND
        self.overlap, self.batch_size, self.cell_size, self.progress = overlap, batch_size, cell_size, progress
        self.scene_width, self.height, self.width = width, min(tile_size, height), min(tile_size, width)
        self.rows = tile_starts(height, self.height, overlap)
        self.columns = tile_starts(width, self.width, overlap)
        self.check_values()

    def check_values(self) -> None:
        """Refuses values in another unit: looks at tiles from the middle of the scene until each date showed data."""
        middle = (len(self.rows) - 1) / 2, (len(self.columns) - 1) / 2
        tiles = [(i, j) for i in range(len(self.rows)) for j in range(len(self.columns))]
        unseen = set(range(self.num_dates))
        for i, j in sorted(tiles, key=lambda tile: math.dist(tile, middle))[:MAX_CHECKED_TILES]:
            series = self.read(self.rows[i], self.columns[j], self.height, self.width)
            self.processor.normalize_series(series, self.statistics, check_range=True)
            unseen -= {date for date, valid in enumerate(series.valid) if valid.any()}
            if not unseen:
                return

    @torch.inference_mode()
    def logits(self, tiles: Sequence[ImageSeries]) -> torch.Tensor:
        """(tiles, maps, classes, height, width) float32 on the CPU."""
        samples = [
            self.processor.encode(
                series,
                self.task,
                self.classes,
                self.outputs,
                None,
                self.statistics,
                cell_size=self.cell_size,
                check_range=False,
            )
            for series in tiles
        ]
        batch = self.processor.pad(samples).to(self.model.device)
        return self.model(**batch).logits.float().cpu()

    def __iter__(self) -> Iterator[Strip]:
        """Yields finished rows from top to bottom."""
        num_maps, num_classes = len(self.outputs), len(self.classes)
        weight = blend_weights(self.height, self.width, self.overlap)
        total = torch.zeros(num_maps, num_classes, self.height, self.scene_width)
        weights = torch.zeros(self.height, self.scene_width)
        valid = torch.zeros(self.height, self.scene_width, dtype=torch.bool)
        bar = tqdm(total=len(self.rows) * len(self.columns), desc="tiles", unit="tile", disable=not self.progress)
        with bar:
            for index, row in enumerate(self.rows):
                for first in range(0, len(self.columns), self.batch_size):
                    columns = self.columns[first : first + self.batch_size]
                    tiles = [self.read(row, column, self.height, self.width) for column in columns]
                    seen = [np.any(tile.valid, axis=0) for tile in tiles]
                    full = [position for position, mask in enumerate(seen) if mask.any()]
                    logits = self.logits([tiles[position] for position in full]) if full else []
                    for position, tile_logits in zip(full, logits, strict=True):
                        window = slice(columns[position], columns[position] + self.width)
                        total[..., window] += tile_logits * weight
                        weights[:, window] += weight
                        valid[:, window] |= torch.from_numpy(seen[position])
                    bar.update(len(columns))
                following = self.rows[index + 1] if index + 1 < len(self.rows) else row + self.height
                finished = following - row
                blended = total[:, :, :finished] / weights[:finished].clamp(min=torch.finfo(torch.float32).tiny)
                maps = self.processor._class_maps(blended).to(torch.uint8)
                maps[:, ~valid[:finished]] = IGNORE_INDEX
                yield Strip(row, maps.numpy())
                # The rows that the next tiles reach move to the top.
                for buffer in (total, weights, valid):
                    kept = buffer[..., finished:, :].clone()
                    buffer.zero_()
                    buffer[..., : kept.shape[-2], :] = kept


def predict_scene(*args: Any, **kwargs: Any) -> np.ndarray:
    """Maps of a whole scene in memory, (maps, height, width) uint8; arguments and errors as [`ScenePredictor`]."""
    return np.concatenate([strip.maps for strip in ScenePredictor(*args, **kwargs)], axis=1)


def predict_raster(
    model: Any,
    processor: STSUNImageProcessor,
    source: RasterSeries,
    path: str | Path,
    task: str,
    classes: Sequence[str] | None = None,
    outputs: Outputs | None = None,
    **kwargs: Any,
) -> None:
    """Predicts maps of a whole scene into a tiled GeoTIFF, one band a map, with the grid of the input.

    Args:
        model: see [`ScenePredictor`], as all but `path`.
        processor: see there.
        source: see there.
        path: the file to write; it appears when it is complete.
        task: see there.
        classes: see there.
        outputs: see there.
        **kwargs: see there.

    Raises:
        ValueError: see there; also a path that cannot be written.
    """
    check_writable(path)
    predictor = ScenePredictor(model, processor, source, task, classes, outputs, **kwargs)
    with MapWriter(
        path,
        source.height,
        source.width,
        len(predictor.outputs),
        legend(predictor.classes),
        crs=source.series.crs,
        transform=source.series.transform,
        descriptions=describe_outputs(source.series, task, predictor.outputs),
    ) as writer:
        for strip in predictor:
            writer.write(strip.maps, row=strip.row)
