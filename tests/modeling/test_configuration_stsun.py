import json
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoConfig

from modeling_stsun import STSUNConfig, STSUNForDensePrediction, STSUNImageProcessor
from modeling_stsun.configuration_stsun import PRESETS
from stsun_processing.image_processing_stsun import BAND_TYPES
from stsun_processing.metadata import BAND_KINDS, CHANGE_CLASSES, INDICES, POLARISATIONS, TASKS

HUB_CARDS = Path(__file__).parents[2] / "hub_cards"


@pytest.mark.parametrize("name", PRESETS)
def test_hub_card_holds_the_preset_and_a_matching_processor(name):
    folder = HUB_CARDS / f"stsun-{name}"
    config = AutoConfig.from_pretrained(folder)
    for key, value in PRESETS[name].items():
        assert getattr(config, key) == value
    STSUNImageProcessor.from_pretrained(folder).check_config(config)
    assert {*CHANGE_CLASSES} <= set(config.id2label.values())
    card = ModelCard.load(folder / "README.md")
    assert card.data.library_name == "transformers"
    with torch.device("meta"):
        model = STSUNForDensePrediction(config)
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    assert f"{millions:.2f} million parameters" in card.text


def test_large_has_the_shape_of_the_paper():
    config = STSUNConfig(**PRESETS["large"])
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (1024, 8, 16)
    assert (config.unified_channels, config.unified_size) == (32, 256)
    assert config.window_sizes == [[32, 8], [16, 16], [8, 32]]


def test_a_checkpoint_that_says_nothing_of_pooling_attends_token_by_token_up_to_the_grid_of_the_paper(tmp_path):
    config = STSUNConfig(**PRESETS["large"])
    config.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    del saved["global_pool_size"]
    (tmp_path / "config.json").write_text(json.dumps(saved))
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert loaded.global_pool_size * loaded.patch_size == loaded.unified_size


def test_vocabularies_of_model_and_processor_start_equal():
    config = STSUNConfig()
    assert config.tasks == list(TASKS)
    assert config.band_types == list(BAND_TYPES)
    types = {f"sar_{polarisation.lower()}" for polarisation in POLARISATIONS} | {f"index_{name}" for name in INDICES}
    assert set(BAND_TYPES) == {*BAND_KINDS} | types


def test_configuration_survives_a_round_trip(tmp_path):
    config = STSUNConfig(**PRESETS["tiny"], num_labels=3, class_weights=[1, 2.0, 3.0])
    config.save_pretrained(tmp_path)
    volatile = {"_name_or_path": None, "transformers_version": None}
    assert AutoConfig.from_pretrained(tmp_path).to_dict() | volatile == config.to_dict() | volatile
