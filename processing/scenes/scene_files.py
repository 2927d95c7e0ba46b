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
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
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
from rasterio.errors import RasterioError
from tqdm.auto import tqdm

from modeling_stsun import STSUNForDensePrediction

from ..image_processing_stsun import Outputs, STSUNImageProcessor
from ..metadata import CHANGE_CLASSES, IGNORE_INDEX, ImageSeries
from ..rasters.series import PathLike, RasterSeries
from ..rasters.statements import RasterError
from .journal import Journal
from .predictor import PROBABILITY_SCALE, ScenePredictor
from .raster_output import (
    WIDE_NODATA,
    MapWriter,
    RasterWriter,
    check_writable,
    open_quietly,
    write_quick_look,
)
from .visualization import Colour, default_colours

# GDAL would take 5 % of the memory of the machine. This holds a row of tiles of common scenes, in strips or in blocks.
_GDAL_CACHE_BYTES = 2**26
# Processes wait for the slowest one, however long it takes.
_TIMEOUT = timedelta(days=365)
# Raised when the blocks of earlier versions can no longer be used.
_JOURNAL_VERSION = 1


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
    """The processes that Accelerate or torchrun started for this work: one, if they started none."""
    return PartialState(cpu=torch.device(device).type == "cpu", timeout=_TIMEOUT)


def predict_scene(*args: Any, **kwargs: Any) -> np.ndarray:
    """Maps of a whole scene in memory, (maps, height, width) uint8; arguments and errors as [`ScenePredictor`]."""
    predictor = ScenePredictor(*args, **kwargs)
    maps = np.empty((len(predictor.outputs), predictor.height, predictor.width), dtype=np.uint8)
    for part in predictor.predict():
        block = part.block
        maps[:, block.row : block.row + block.height, block.column : block.column + block.width] = part.maps
    return maps


def predict_raster(
    model: STSUNForDensePrediction,
    processor: STSUNImageProcessor,
    source: RasterSeries,
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
    **kwargs: Any,
) -> dict[str, float]:
    """Predicts maps of a whole scene into Cloud Optimized GeoTIFFs with the grid of the input.

    Finished blocks are kept in the folder `<path>.work` until all files are written. After a failure or a kill the same
    call goes on from there and ends with the same files; another request is refused unless `restart` is given. Under
    Accelerate every process makes the same call: the processes share the blocks, and the main one writes the files.

    Args:
        model: see [`ScenePredictor`].
        processor: see there.
        source: see there.
        path: class maps, one band a map (.tif, with `<path>.aux.xml` for names and colours). Like all files it appears
            when it is complete.
        task: see there.
        classes: see there.
        outputs: see there.
        probabilities: probability of each class, maps by classes bands of uint8 with scale 0.004 and nodata 255 (.tif).
        margin: probability of the best class less that of the second, likewise (.tif).
        change: for semantic change detection, where a map differs from the next: 0 = unchanged, 1 = changed (.tif).
        from_to: for semantic change detection, from which class to which: the position of the first times the number of
            classes plus that of the second (.tif); uint16 for more than 15 classes.
        polygons: outlines of the areas of one class (.gpkg or .geojson; see [`write_polygons`], needs the extra
            `vector`).
        quick_look: a picture of the maps with their legend (.png).
        restart: whether an unfinished earlier call is discarded.
        accept_inputs: whether to go on although the input files have changed since: a damaged one was fetched again.
        **kwargs: see [`ScenePredictor`].

    Returns:
        Seconds that this process spent: `timings` of the predictor, `write` (blocks and files) and `total`.

    Raises:
        ValueError: see [`ScenePredictor`]; also a path that cannot be written, or a request that does not fit the task.
        RasterError: a tile cannot be read, a file cannot be written, or unfinished blocks belong to another request.
    """
    started = perf_counter()
    path = Path(path)
    rasters = {"maps": path, "probabilities": probabilities, "margin": margin, "change": change, "from_to": from_to}
    _check_outputs(rasters, polygons, quick_look, source)
    if task != "semantic_change_detection" and (change is not None or from_to is not None):
        raise ValueError(
            f"A change map and a from-to map compare the maps of semantic_change_detection, but the task is {task}. "
            "Leave them out (the map of binary_change_detection is a change map already)."
        )
    with ExitStack() as stack:
        stack.enter_context(rasterio.Env(GDAL_CACHEMAX=_GDAL_CACHE_BYTES))
        state = join_processes(model.device)
        predictor = ScenePredictor(
            *(model, processor, source, task, classes, outputs),
            **{
                **kwargs,
                "probabilities": probabilities is not None,
                "margins": margin is not None,
                "progress": kwargs.get("progress", True) and state.is_main_process,
            },
        )
        if len(predictor.outputs) < 2 and (change is not None or from_to is not None):
            raise ValueError("A change map compares two maps, but only one was asked for. Ask for maps of two dates.")
        journal = Journal(path.with_name(path.name + ".work"), _request(predictor, source))
        if not restart:
            journal.check(accepted=("input files",) if accept_inputs else ())
        state.wait_for_everyone()
        if state.is_main_process:
            journal.open(restart)
        # What is left to do is seen by one process, for another may have finished a block before the next one looks.
        left = [[block.index for block in predictor.blocks if state.is_main_process and block.index not in journal]]
        broadcast_object_list(left)
        timings = {"write": 0.0}
        try:
            with state.split_between_processes(left[0]) as share:
                for part in predictor.predict([predictor.blocks[index] for index in share]):
                    written = perf_counter()
                    arrays = {"maps": part.maps, "described": part.described}
                    arrays |= {"probabilities": part.probabilities, "margins": part.margins}
                    journal.save(part.block.index, {k: v for k, v in arrays.items() if v is not None})
                    timings["write"] += perf_counter() - written
            state.wait_for_everyone()
            if state.is_main_process:
                written = perf_counter()
                _write_rasters(predictor, source.series, journal, rasters)
                if polygons is not None:
                    from .vector_output import write_polygons

                    write_polygons(path, polygons, progress=predictor.progress)
                if quick_look is not None:
                    write_quick_look(path, quick_look)
                journal.remove()
                timings["write"] += perf_counter() - written
        except (RasterError, OSError) as error:
            done = sum(block.index in journal for block in predictor.blocks)
            raise RasterError(
                f"{str(error).rstrip('.')}. What was finished, {done} of {len(predictor.blocks)} blocks, is kept in "
                f"{journal.folder}: mend the fault and run the same again to go on from there."
            ) from error
        state.wait_for_everyone()
    return {**predictor.timings, **timings, "total": perf_counter() - started}


def _check_outputs(
    rasters: Mapping[str, PathLike | None], polygons: PathLike | None, quick_look: PathLike | None, source: RasterSeries
) -> None:
    """Refuses files that cannot be written, or that are read, before any work is done for them."""
    inputs = {Path(name).resolve(): name for name in [*_file_states(source), *source.grid_files]}
    for path in (*rasters.values(), polygons, quick_look):
        if path is None:
            continue
        for file in (Path(path).resolve(), Path(f"{path}.aux.xml").resolve()):
            if file in inputs:
                raise ValueError(
                    f"The output {path} would replace {inputs[file]}, which is one of the inputs. Name another file."
                )
    paths = [path for path in rasters.values() if path is not None]
    for path in paths:
        check_writable(path)
    if polygons is not None:
        from .vector_output import check_polygons

        check_polygons(polygons, source.series.crs)
    if quick_look is not None:
        check_writable(quick_look, (".png",))
    names = [Path(path).resolve() for path in paths]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{twice[0]} was named for two outputs. Name a file for each.")


def _request(predictor: ScenePredictor, source: RasterSeries) -> dict[str, Any]:
    """All that decides about the values of the maps."""
    weights = hashlib.blake2b(digest_size=16)
    for name, tensor in predictor.model.state_dict().items():
        weights.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        weights.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    settings = f"{predictor.model.config.to_json_string(use_diff=False)} {predictor.processor.to_settings()}"
    facts = f"{source.series.to_json()} {source.facts}"
    return {
        "version": _JOURNAL_VERSION,
        "weights": weights.hexdigest(),
        "checkpoint settings": hashlib.blake2b(settings.encode(), digest_size=16).hexdigest(),
        "input files": _file_states(source),
        "input metadata": hashlib.blake2b(facts.encode(), digest_size=16).hexdigest(),
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
        "blocks": [len(predictor.blocks), *predictor._block_tiles()],
    }


def _file_states(source: RasterSeries) -> dict[str, list[int] | None]:
    """Size and time of change of the files of a series, those behind a VRT too; `None` for what is no local file."""
    states: dict[str, list[int] | None] = {}
    for name in dict.fromkeys(fact.path for fact in source.facts):
        try:
            with open_quietly(name) as dataset:
                files = [name, *dataset.files]
        except RasterioError:
            # Not read through rasterio, or not by this name.
            files = [name]
        for file in files:
            known = os.path.exists(file)
            states[file] = [os.stat(file).st_size, os.stat(file).st_mtime_ns] if known else None
    return states


def _write_rasters(
    predictor: ScenePredictor, series: ImageSeries, journal: Journal, paths: Mapping[str, PathLike | None]
) -> None:
    """Puts the finished blocks together."""
    descriptions = describe_outputs(series, predictor.task, predictor.outputs)
    values = legend(predictor.classes)
    pairs = [f"{before} -> {after}" for before, after in pairwise(descriptions)]
    grid = {"crs": series.crs, "transform": series.transform}
    size = (predictor.height, predictor.width)
    share = {"dtype": "uint8", "nodata": IGNORE_INDEX, "scale": PROBABILITY_SCALE, **grid}
    wide = len(values) ** 2 > IGNORE_INDEX

    writers: dict[str, RasterWriter] = {
        "maps": MapWriter(paths["maps"], *size, len(descriptions), values, descriptions=descriptions, **grid)
    }
    if paths["probabilities"] is not None:
        names = [f"{text}: {name}" for text in descriptions for name in predictor.classes]
        writers["probabilities"] = RasterWriter(
            paths["probabilities"], *size, len(names), descriptions=names, tags={"VALUES": "probability"}, **share
        )
    if paths["margin"] is not None:
        writers["margin"] = RasterWriter(
            *(paths["margin"], *size, len(descriptions)),
            descriptions=descriptions,
            tags={"VALUES": "probability of the best class less that of the second"},
            **share,
        )
    if paths["change"] is not None:
        writers["change"] = MapWriter(paths["change"], *size, len(pairs), CHANGE_CLASSES, descriptions=pairs, **grid)
    if paths["from_to"] is not None:
        writers["from_to"] = MapWriter(
            *(paths["from_to"], *size, len(pairs), [f"{before} -> {after}" for before in values for after in values]),
            colours=_pair_colours(values),
            nodata=WIDE_NODATA if wide else IGNORE_INDEX,
            descriptions=pairs,
            **grid,
        )
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
                codes = maps[:-1].astype(np.uint16) * len(values) + maps[1:]
                nodata = writers["from_to"].nodata
                layers["from_to"] = np.where(known, codes, nodata).astype(writers["from_to"].dtype)
            for name, array in layers.items():
                writers[name].write(array, block.row, block.column)


def _pair_colours(values: Sequence[str]) -> list[Colour]:
    """Colours of transitions: pale where nothing changed, else a mixture that shows mostly what came."""
    table = np.array(default_colours(values), dtype=float)
    colours = []
    for before, first in enumerate(table):
        for after, second in enumerate(table):
            mixed = 0.25 * second + 0.75 * 255 if before == after else 0.3 * first + 0.7 * second
            colours.append(tuple(int(part) for part in mixed.round()))
    return colours
