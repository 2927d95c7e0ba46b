"""What the model card of a run says."""

import pytest

from stsun_processing.training.model_card import model_card
from stsun_processing.training.models import build_model
from stsun_processing.training.sources import open_sources
from tests.processing.training.settings import arguments


@pytest.fixture
def run(folder):
    settings = arguments(folder)
    sources = open_sources(settings)
    return *build_model(settings, sources), settings


def test_the_card_holds_what_was_measured_and_no_path_of_this_machine(run, tmp_path):
    scores = {"val": {}, "test": {"made": {"semantic_segmentation": {"mean_iou": 0.25}}}}
    card = model_card(*run, scores, ["remark"])
    assert "mean_iou 0.250" in card
    assert "- remark" in card
    assert str(tmp_path) not in card
    assert "trained from `tiny` on made" in card


def test_the_card_names_the_files_that_the_checkpoint_knows(run):
    model, processor, settings = run
    bands = [
        {"name": "green", "kind": "reflective", "center_nm": 560.0},
        {"name": "dem", "kind": "elevation", "center_nm": None},
    ]
    reading = {"bands": bands, "dtype": "uint16", "offset": None, "nodata": [0, None], "gsd_m": 10.0}
    processor.readings = {"made": [reading | {"scale": [0.0001, 1.0]}, reading | {"scale": [0.5, 0.5]}]}
    card = model_card(model, processor, settings, {})
    assert "| made | green (reflective, 560 nm), dem (elevation) | uint16 | 0.0001, 1 | - | 0, - |" in card
    assert "| uint16 | 0.5 | - |" in card
    processor.readings = {}
    assert "need no description" not in model_card(model, processor, settings, {})
