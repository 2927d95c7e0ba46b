"""What a run leaves behind."""

import json
import math
import shlex
from dataclasses import replace

import pytest
import rasterio

from stsun_processing.cli import build_parser
from stsun_processing.training.arguments import TrainingError
from stsun_processing.training.models import build_model
from stsun_processing.training.run import JsonLinesTracker, check_same_run, predict_command, save_run
from stsun_processing.training.sources import open_sources
from tests.processing.data.test_datasets import Folder, write
from tests.processing.training.settings import arguments


def test_a_resumed_run_must_be_the_same_run(folder, tmp_path):
    path = tmp_path / "run.json"
    check_same_run(arguments(folder, steps=7), path, 1)
    check_same_run(arguments(folder, steps=7, resume=True, num_workers=4, save_every=9), path, 1)
    with pytest.raises(TrainingError, match="steps: 7 -> 8; num_processes: 1 -> 2"):
        check_same_run(arguments(folder, steps=8, resume=True), path, 2)


def test_the_log_goes_back_to_the_state_that_a_run_resumes_from(tmp_path):
    path = tmp_path / "log.jsonl"
    first = JsonLinesTracker(path)
    first.store_init_configuration({})
    for step in range(1, 6):
        first.log({"loss": math.nan if step == 2 else step / 10}, step=step)
    path.write_text(path.read_text() + '{"step": 6, "lo')
    again = JsonLinesTracker(path, step=3)
    again.store_init_configuration({})
    again.log({"loss": 9.0}, step=4)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == [{"step": s, "loss": loss} for s, loss in ((1, 0.1), (2, None), (3, 0.3), (4, 9.0))]
    JsonLinesTracker(path).store_init_configuration({})
    assert path.read_text() == "", "a new run starts a new log"


def test_a_saved_run_is_complete_and_leaves_nothing_aside(folder, tmp_path):
    settings = arguments(folder)
    sources = open_sources(settings)
    model, processor = build_model(settings, sources)
    scores = {"val": {}, "test": {"made": {"semantic_segmentation": {"mean_iou": 0.25, "iou_water": math.nan}}}}
    for _ in range(2):  # also over an earlier one
        save_run(model, processor, settings, scores, sources.notes)
    out = tmp_path / "run"
    names = {path.name for path in out.iterdir()}
    assert {"model.safetensors", "config.json", "preprocessor_config.json", "README.md", "metrics.json"} <= names
    assert ".saving" not in names
    assert json.loads((out / "metrics.json").read_text())["test"]["made"]["semantic_segmentation"]["iou_water"] is None


# The command that predicts as the run did


def command(folder, *more):
    """What the command asks for, as the command line understands it."""
    folder.open()
    settings = replace(arguments(folder), data=[str(folder.root), *map(str, more)])
    sources = open_sources(settings)
    _, processor = build_model(settings, sources)
    words = shlex.split(predict_command("run", processor, sources))
    assert words[:2] == ["stsun", "predict"]
    return words, build_parser().parse_args(words[1:])


def test_files_that_say_nothing_need_no_argument(folder):
    words, asked = command(folder)
    assert asked.rasters == [str(folder.root / "images/t0.tif")]
    assert asked.checkpoint == "run"
    options = [word for word in words if word.startswith("-")]
    assert options == ["--checkpoint", "--task", "-o"]


def test_dates_that_only_the_data_set_states_are_named(folder):
    folder.json["samples"] = [
        folder.sample("a", ["t0", "t1"], {"semantic": "labels/semantic.tif"}, ["2021-07-23T10:00:00", None])
    ]
    _, asked = command(folder)
    assert asked.dates == ["2021-07-23T10:00:00", None]


def test_dates_that_the_files_state_need_no_argument(folder):
    with rasterio.open(folder.root / "images/t0.tif", "r+") as raster:
        raster.update_tags(TIMESTAMP="2020-01-01")
    folder.json["samples"] = [folder.sample("a", ["t0"], {"semantic": "labels/semantic.tif"}, ["2020-01-01"])]
    _, asked = command(folder)
    assert asked.dates is None


def test_a_resolution_of_its_own_is_named(folder):
    for path in (folder.root / "images/t0.tif", folder.root / "labels/semantic.tif"):
        with rasterio.open(path) as raster:
            array = raster.read()
        write(path, array, transform=None, crs=None)
    folder.json["samples"].append(folder.sample("b", ["t0"], {"semantic": "labels/semantic.tif"}, gsd_m=0.5))
    folder.json["splits"] = {"train": ["a"], "test": ["b"]}
    _, asked = command(folder)
    assert asked.gsd == 0.5


def test_maps_of_other_dates_than_usual_are_named(folder):
    folder.json |= {
        "tasks": ["binary_change_detection"],
        "samples": [folder.sample("a", ["t0", "t1", "t2"], {"change": "labels/change.tif"})],
    }
    words, asked = command(folder)
    assert asked.maps == [(0, 2)]
    assert "--classes" not in words


def test_the_test_split_comes_first(folder):
    folder.json["samples"].append(folder.sample("b", ["t1"], {"semantic": "labels/map0.tif"}))
    folder.json["splits"] = {"train": ["a"], "test": ["b"]}
    _, asked = command(folder)
    assert asked.rasters == [str(folder.root / "images/t1.tif")]


def test_what_two_sources_leave_open_is_named(folder, tmp_path):
    other = Folder(tmp_path / "other")
    other.json |= {"name": "other", "classes": [{"id": 40, "name": "tree"}, *other.json["classes"][1:]]}
    other.json["splits"] = {"train": ["a"]}
    other.open()
    _, asked = command(folder, other.root)
    assert asked.statistics == "made"
    assert asked.classes == ["forest", "water", "urban"]


def test_the_data_set_of_files_that_say_nothing_is_named_where_two_read_them_in_their_own_way(folder, tmp_path):
    other = Folder(tmp_path / "other")
    other.json |= {"name": "other", "value_scale": 0.001, "splits": {"train": ["a"]}}
    other.open()
    _, asked = command(folder, other.root)
    assert asked.statistics == "made"


def test_a_run_without_files_has_no_command(folder):
    settings = replace(arguments(folder), data=["synthetic"])
    _, processor = build_model(arguments(folder), open_sources(arguments(folder)))
    assert predict_command("run", processor, open_sources(settings)) is None


def test_files_that_cannot_be_read_by_themselves_are_named(folder):
    sources = open_sources(arguments(folder))
    _, processor = build_model(arguments(folder), sources)
    processor.readings = {}
    assert "cannot read the files of sample 'a' by themselves" in predict_command("run", processor, sources)
