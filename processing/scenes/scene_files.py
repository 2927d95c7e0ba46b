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
"""Maps of whole scenes, in memory or in georeferenced files."""

import hashlib
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import rasterio
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from torch.distributed.distributed_c10d import _set_pg_timeout
from tqdm.auto import tqdm

from modeling_stsun import STSUNForDensePrediction

from ..errors import InputsChangedError, WriteError
from ..image_processing_stsun import Outputs, STSUNImageProcessor
from ..metadata import CHANGE_CLASSES, IGNORE_INDEX, ImageSeries
from ..rasters.entries import PathLike
from ..rasters.records import RasterError
from .file_states import changed_files, file_states
from .journal import Journal
from .predictor import PROBABILITY_SCALE, Scene, ScenePredictor, SceneSource, SeriesInMemory, open_scene
from .raster_output import (
    PICTURE_SUFFIXES,
    WIDE_NODATA,
    MapWriter,
    RasterWriter,
    check_writable,
    write_quick_look,
)
from .vector_output import check_geojson, check_polygons, write_polygons
from .visualization import Colour, default_colours

# GDAL would take 5 % of the memory of the machine. This holds a row of tiles of common scenes, in strips or in blocks.
_GDAL_CACHE_BYTES = 2**26
# Processes wait for the slowest one, however long it takes.
_TIMEOUT = timedelta(days=365)
# Until they have met: as long as slow ones take to import and to load.
_MEETING_TIMEOUT = timedelta(minutes=5)
# Raised when the blocks of earlier versions can no longer be used.
_JOURNAL_VERSION = 3
# Of all rasters that are written: how the input was normalised.
NORMALISATION_TAG = "STSUN_NORMALISATION"


def describe_outputs(series: ImageSeries, task: str, outputs: Outputs) -> list[str]:
    """One line a map: the task and the dates that it describes."""

    def name(index: int) -> str:
        date = series.acquisitions[index].datetime
        return f"date {index + 1}" if date is None else date.date().isoformat()

    return [f"{task} {' / '.join(dict.fromkeys(name(index) for index in (o[0], o[-1])))}" for o in outputs]


def legend(classes: Sequence[str]) -> list[str]:
    """Names of the values of a map: a class asked for alone is told from its absence, so 0 = not it, 1 = it."""
    return [f"not {classes[0]}", classes[0]] if len(classes) == 1 else list(classes)


def join_processes(device: torch.device | str) -> PartialState:
    """The processes that Accelerate or torchrun started for this work: one, if they started none.

    Raises:
        ValueError: the environment names others, as in a job of several processes, but they do not come.
    """
    cpu = torch.device(device).type == "cpu"
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1 or torch.distributed.is_initialized():
        return PartialState(cpu=cpu, timeout=_TIMEOUT)
    print(f"Waiting for {count} processes, as RANK and WORLD_SIZE say ...", file=sys.stderr)
    try:
        state = PartialState(cpu=cpu, timeout=_MEETING_TIMEOUT)
    except torch.distributed.DistError as error:
        raise ValueError(
            f"RANK and WORLD_SIZE in the environment say that {count} processes share this work, but they did not meet "
            f"within {_MEETING_TIMEOUT.total_seconds():g} s. Start all of them (accelerate launch, torchrun), or unset "
            "RANK and WORLD_SIZE to work in one."
        ) from error
    # There is no public way to change it once they have met.
    _set_pg_timeout(_TIMEOUT)
    return state


def predict_scene(
    model: STSUNForDensePrediction,
    processor: STSUNImageProcessor,
    source: SceneSource,
    task: str,
    classes: Sequence[str] | None = None,
    outputs: Outputs | None = None,
    **options: Any,
) -> np.ndarray:
    """Maps of a whole scene in memory, (maps, height, width) uint8; arguments and errors as [`ScenePredictor`]."""
    with ScenePredictor(model, processor, source, task, classes, outputs, **options) as predictor:
        maps = np.empty((len(predictor.outputs), predictor.height, predictor.width), dtype=np.uint8)
        for part in predictor.predict():
            block = part.block
            rows = slice(block.row, block.row + block.height)
            columns = slice(block.column, block.column + block.width)
            maps[:, rows, columns] = part.maps
        return maps


@dataclass(frozen=True)
class OutputFiles:
    """The files that a scene is predicted into, checked before any work is done for them.

    Like all files that STSUN writes they appear when they are complete.

    Args:
        maps: class maps, one band per map (.tif, with `<path>.aux.xml` for names and colours).
        probabilities: probability of each class, maps by classes bands of uint8 with scale 0.004 and nodata 255 (.tif).
        margin: probability of the best class less that of the second, likewise (.tif).
        change: for semantic change detection, where a map differs from the next: 0 = unchanged, 1 = changed (.tif).
        from_to: for semantic change detection, from which class to which: the position of the first times the number of
            classes plus that of the second (.tif); uint16 for more than 15 classes.
        polygons: outlines of the areas of one class (.gpkg or .geojson; see [`write_polygons`], needs the extra
            `vector`).
        quick_look: a picture of the maps with their legend (.png).

    Raises:
        RasterError: a file cannot be written; see [`check_writable`].
        ValueError: a file was named for two outputs.
    """

    maps: PathLike
    probabilities: PathLike | None = None
    margin: PathLike | None = None
    change: PathLike | None = None
    from_to: PathLike | None = None
    polygons: PathLike | None = None
    quick_look: PathLike | None = None

    def __post_init__(self) -> None:
        for path in (self.maps, self.probabilities, self.margin, self.change, self.from_to):
            if path is not None:
                check_writable(path)
        if self.polygons is not None:
            check_polygons(self.polygons)
        if self.quick_look is not None:
            check_writable(self.quick_look, PICTURE_SUFFIXES)
        resolved = [Path(path).resolve() for path in self.paths]
        if twice := [path for path in resolved if resolved.count(path) > 1]:
            raise ValueError(f"{twice[0]} was named for two outputs. Name a file for each.")

    @property
    def paths(self) -> list[PathLike]:
        """All files that are asked for."""
        paths = [getattr(self, field.name) for field in fields(self)]
        return [path for path in paths if path is not None]

    @property
    def compares(self) -> bool:
        """Whether a file compares maps of two dates."""
        return self.change is not None or self.from_to is not None

    def check_scene(self, scene: Scene, task: str) -> None:
        """Refuses files that would replace an input, or that do not fit the scene and the task.

        Raises:
            ValueError: an output is an input, or compares the maps of a task that gives none to compare.
            RasterError: polygons cannot be written; see [`check_geojson`].
        """
        inputs = {Path(name).resolve(): name for name in scene.files}
        for path in self.paths:
            for file in (Path(path).resolve(), Path(f"{path}.aux.xml").resolve()):
                if file in inputs:
                    raise ValueError(
                        f"The output {path} would replace {inputs[file]}, which is one of the inputs. Name another "
                        "file."
                    )
        if self.compares and task != "semantic_change_detection":
            raise ValueError(
                f"A change map and a from-to map compare the maps of semantic_change_detection, but the task is {task}."
                " Leave them out (the map of binary_change_detection is a change map already)."
            )
        if self.polygons is not None:
            check_geojson(self.polygons, scene.series.crs)


def predict_raster(
    model: STSUNForDensePrediction,
    processor: STSUNImageProcessor,
    source: SceneSource,
    path: PathLike,
    task: str,
    classes: Sequence[str] | None = None,
    outputs: Outputs | None = None,
    *,
    probabilities: PathLike | None = None,
    margin: PathLike | None = None,
    change: PathLike | None = None,
    from_to: PathLike | None = None,
    polygons: PathLike | None = None,
    quick_look: PathLike | None = None,
    restart: bool = False,
    accept_inputs: bool = False,
    **options: Any,
) -> dict[str, float]:
    """Predicts maps of a whole scene into Cloud Optimized GeoTIFFs with the grid of the input.

    Finished blocks are kept in the folder `<path>.work` until all files are written. After a failure or a kill the same
    call goes on from there and ends with the same files; another request is refused unless `restart` is given. Under
    Accelerate every process makes the same call: the processes share the blocks, and the main one writes the files.

    Args:
        model: see [`ScenePredictor`].
        processor: see there.
        source: see there.
        path: class maps; see [`OutputFiles`].
        task: see [`ScenePredictor`].
        classes: see there.
        outputs: see there.
        probabilities: see [`OutputFiles`].
        margin: see there.
        change: see there.
        from_to: see there.
        polygons: see there.
        quick_look: see there.
        restart: whether an unfinished earlier call is discarded.
        accept_inputs: whether to go on although the input files have changed since: a damaged one was fetched again.
        **options: see [`ScenePredictor`].

    Returns:
        Seconds that this process spent: `timings` of the predictor, `write` (blocks and files) and `total`.

    Raises:
        ValueError: see [`ScenePredictor`]; also a path that cannot be written, or a request that does not fit the task.
        RasterError: a tile cannot be read, a file cannot be written, or unfinished blocks belong to another request.
        InputsChangedError: an input file changed meanwhile.
        OutputInUseError: another process is writing the same output.
        WriteError: the disk is full or fails.
    """
    files = OutputFiles(path, probabilities, margin, change, from_to, polygons, quick_look)
    request = (task, classes, outputs)
    return predict_files(
        model, processor, source, files, *request, restart=restart, accept_inputs=accept_inputs, **options
    )


def predict_files(
    model: STSUNForDensePrediction,
    processor: STSUNImageProcessor,
    source: SceneSource,
    files: OutputFiles,
    task: str,
    classes: Sequence[str] | None = None,
    outputs: Outputs | None = None,
    *,
    restart: bool = False,
    accept_inputs: bool = False,
    processes: PartialState | None = None,
    statistics: str | None = None,
    progress: bool = True,
    **options: Any,
) -> dict[str, float]:
    """As [`predict_raster`], into files that have been checked already.

    Args:
        model: see [`predict_raster`].
        processor: see there.
        source: see there.
        files: the files.
        task: see [`predict_raster`].
        classes: see there.
        outputs: see there.
        restart: see there.
        accept_inputs: see there.
        processes: those that share the work; `None` = those that Accelerate or torchrun started.
        statistics: see [`predict_raster`].
        progress: whether progress bars are shown.
        **options: see [`predict_raster`].

    Returns:
        As [`predict_raster`].

    Raises:
        ValueError: as [`predict_raster`].
        STSUNError: as [`predict_raster`].
    """
    started = perf_counter()
    state = join_processes(model.device) if processes is None else processes
    with ExitStack() as stack:
        stack.enter_context(rasterio.Env(GDAL_CACHEMAX=_GDAL_CACHE_BYTES))
        scene = stack.enter_context(open_scene(source, processor, statistics))
        files.check_scene(scene, task)
        predictor = ScenePredictor(
            model,
            processor,
            scene,
            task,
            classes,
            outputs,
            probabilities=files.probabilities is not None,
            margins=files.margin is not None,
            statistics=statistics,
            progress=progress and state.is_main_process,
            **options,
        )
        if files.compares and len(predictor.outputs) < 2:
            raise ValueError("A change map compares two maps, but only one was asked for. Ask for maps of two dates.")
        maps = Path(files.maps)
        journal = stack.enter_context(Journal(maps.with_name(f"{maps.name}.work"), _request(predictor)))
        if state.is_main_process:
            journal.open(restart, accepted=("input files",) if accept_inputs else ())
        timings = {"write": 0.0}
        try:
            timings["write"] += _predict_blocks(predictor, journal, state)
            if state.is_main_process:
                timings["write"] += _write_files(predictor, journal, files)
        except (RasterError, OSError) as error:
            done = sum(block.index in journal for block in predictor.blocks)
            kind = WriteError if isinstance(error, OSError) else RasterError
            raise kind(
                f"{str(error).rstrip('.')}. What was finished, {done} of {len(predictor.blocks)} blocks, is kept in "
                f"{journal.folder}: mend the fault and run the same again to go on from there."
            ) from error
        state.wait_for_everyone()
    return {**predictor.timings, **timings, "total": perf_counter() - started}


def _predict_blocks(predictor: ScenePredictor, journal: Journal, state: PartialState) -> float:
    """Predicts this process's share of the blocks that are left; returns the seconds it took to keep them."""
    # What is left to do is seen by one process, for another may have finished a block before the next one looks.
    left = [[block.index for block in predictor.blocks if state.is_main_process and block.index not in journal]]
    broadcast_object_list(left)
    seconds = 0.0
    with state.split_between_processes(left[0]) as share:
        for part in predictor.predict([predictor.blocks[index] for index in share]):
            finished = perf_counter()
            arrays = {"maps": part.maps, "described": part.described}
            if part.probabilities is not None:
                arrays["probabilities"] = part.probabilities
            if part.margins is not None:
                arrays["margins"] = part.margins
            journal.save(part.block.index, arrays)
            seconds += perf_counter() - finished
    state.wait_for_everyone()
    return seconds


def _write_files(predictor: ScenePredictor, journal: Journal, files: OutputFiles) -> float:
    """Writes all files from the finished blocks, and forgets these; returns the seconds it took."""
    started = perf_counter()
    _check_inputs(journal)
    _write_rasters(predictor, journal, files)
    if files.polygons is not None:
        write_polygons(files.maps, files.polygons, progress=predictor.progress)
    if files.quick_look is not None:
        write_quick_look(files.maps, files.quick_look)
    journal.remove()
    return perf_counter() - started


def _request(predictor: ScenePredictor) -> dict[str, Any]:
    """All that decides about the values of the maps."""
    weights = hashlib.blake2b(digest_size=16)
    for name, tensor in predictor.model.state_dict().items():
        weights.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        weights.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    settings = f"{predictor.model.config.to_json_string(use_diff=False)} {predictor.processor.to_settings()}"
    scene = predictor.scene
    return {
        "version": _JOURNAL_VERSION,
        "weights": weights.hexdigest(),
        "checkpoint settings": _digest(settings.encode()),
        "input files": file_states(scene.files),
        "input pixels": _digest(*scene.series.pixels or ()) if isinstance(scene, SeriesInMemory) else None,
        "input metadata": _digest(f"{scene.series.to_json()} {scene.facts}".encode()),
        "task": predictor.task,
        "classes": predictor.classes,
        "maps": predictor.outputs,
        "statistics": predictor.statistics,
        "tile size": [predictor.rows.tile, predictor.columns.tile],
        "tile starts": [predictor.rows.starts, predictor.columns.starts],
        "cell size": predictor.cell_size,
        "batch size": predictor.batch_size,
        "probabilities": predictor.probabilities,
        "margin": predictor.margins,
        "blocks": [len(predictor.blocks), *predictor.block_tiles],
    }


def _digest(*parts: bytes | np.ndarray) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part if isinstance(part, bytes) else np.ascontiguousarray(part).view(np.uint8).ravel())
    return digest.hexdigest()


def _check_inputs(journal: Journal) -> None:
    """Refuses to write maps if an input has changed since it was first read."""
    if changed := changed_files(journal.request["input files"]):
        raise InputsChangedError(
            f"{', '.join(changed)} changed while the scene was predicted: some blocks show the old pixels, some the "
            "new. Predict it anew (restart=True, --restart)."
        )


def _write_rasters(predictor: ScenePredictor, journal: Journal, files: OutputFiles) -> None:
    """Puts the finished blocks together."""
    writers = _writers(predictor, files)
    for writer in writers.values():
        # Left behind by a process that was killed while it wrote.
        for stale in writer.path.parent.glob(f".{writer.path.name}.*.partial*"):
            stale.unlink(missing_ok=True)
    with ExitStack() as stack:
        for writer in writers.values():
            stack.enter_context(writer)
        for block in tqdm(predictor.blocks, desc="writing", unit="block", disable=not predictor.progress):
            arrays = journal.load(block.index)
            maps, described = arrays["maps"], arrays["described"]
            layers = {"maps": maps}
            if "probabilities" in writers:
                layers["probabilities"] = arrays["probabilities"].reshape(-1, *maps.shape[1:])
            if "margin" in writers:
                layers["margin"] = arrays["margins"]
            known = described[:-1] & described[1:]
            if "change" in writers:
                layers["change"] = np.where(known, maps[:-1] != maps[1:], IGNORE_INDEX).astype(np.uint8)
            if "from_to" in writers:
                codes = maps[:-1].astype(np.uint16) * len(legend(predictor.classes)) + maps[1:]
                nodata = writers["from_to"].nodata
                layers["from_to"] = np.where(known, codes, nodata).astype(writers["from_to"].dtype)
            for name, array in layers.items():
                writers[name].write(array, block.row, block.column)


def _writers(predictor: ScenePredictor, files: OutputFiles) -> dict[str, RasterWriter]:
    """The rasters that are asked for."""
    series = predictor.scene.series
    height, width = predictor.height, predictor.width
    descriptions = describe_outputs(series, predictor.task, predictor.outputs)
    pairs = [f"{before} -> {after}" for before, after in pairwise(descriptions)]
    values = legend(predictor.classes)
    tags = {NORMALISATION_TAG: predictor.normalisation}
    common: dict[str, Any] = {"crs": series.crs, "transform": series.transform}
    share = {"dtype": "uint8", "nodata": IGNORE_INDEX, "scale": PROBABILITY_SCALE, **common}

    writers: dict[str, RasterWriter] = {
        "maps": MapWriter(
            files.maps, height, width, len(descriptions), values, descriptions=descriptions, tags=tags, **common
        )
    }
    if files.probabilities is not None:
        names = [f"{text}: {name}" for text in descriptions for name in predictor.classes]
        meaning = {"VALUES": "probability"}
        writers["probabilities"] = RasterWriter(
            files.probabilities, height, width, len(names), descriptions=names, tags=tags | meaning, **share
        )
    if files.margin is not None:
        meaning = {"VALUES": "probability of the best class less that of the second"}
        writers["margin"] = RasterWriter(
            files.margin, height, width, len(descriptions), descriptions=descriptions, tags=tags | meaning, **share
        )
    if files.change is not None:
        writers["change"] = MapWriter(
            files.change, height, width, len(pairs), CHANGE_CLASSES, descriptions=pairs, tags=tags, **common
        )
    if files.from_to is not None:
        transitions = [f"{before} -> {after}" for before in values for after in values]
        writers["from_to"] = MapWriter(
            files.from_to,
            height,
            width,
            len(pairs),
            transitions,
            colours=_pair_colours(values),
            nodata=WIDE_NODATA if len(transitions) > IGNORE_INDEX else IGNORE_INDEX,
            descriptions=pairs,
            tags=tags,
            **common,
        )
    return writers


def _pair_colours(values: Sequence[str]) -> list[Colour]:
    """Colours of transitions: pale where nothing changed, else a mixture that shows mostly what came."""
    table = np.array(default_colours(values), dtype=float)
    colours = []
    for before, first in enumerate(table):
        for after, second in enumerate(table):
            mixed = 0.25 * second + 0.75 * 255 if before == after else 0.3 * first + 0.7 * second
            colours.append(tuple(int(part) for part in mixed.round()))
    return colours
