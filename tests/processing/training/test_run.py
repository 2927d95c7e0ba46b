"""What a run leaves behind."""

import json
import math

import pytest

from stsun_processing.training.arguments import TrainingError
from stsun_processing.training.model_card import model_card
from stsun_processing.training.models import build_model
from stsun_processing.training.run import JsonLinesTracker, check_same_run, save_run
from stsun_processing.training.sources import open_sources
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
    card = model_card(model, processor, settings, scores, ["remark"])
    assert "mean_iou 0.250" in card
    assert "- remark" in card
    assert str(tmp_path) not in card
    assert "trained from `tiny` on made" in card
