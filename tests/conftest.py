"""What several test files need: a small model and a way to make inputs for it."""

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from modeling_stsun import STSUNConfig, STSUNForDensePrediction, STSUNImageProcessor

# Machines that share their cores stall now and then: how long an example takes says nothing about the code.
settings.register_profile("stsun", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# With --hypothesis-profile deep.
settings.register_profile("deep", settings.get_profile("stsun"), max_examples=2000)
settings.load_profile("stsun")

# Small models gain nothing from threads, and lose much where other work waits for the same cores.
torch.set_num_threads(1)

CLASSES = ("water", "forest", "cropland", "urban", "unchanged", "changed")


def small_config(**kwargs) -> STSUNConfig:
    settings = {
        "unified_size": 24,
        "unified_channels": 8,
        "stem_channels": 12,
        "patch_size": 4,
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "window_sizes": [[4, 2], [3, 3], [2, 4]],
        # Fewer than the tokens of most test images, or none of them would be pooled.
        "global_pool_size": 3,
        "unified_time_size": 4,
        "hypernetwork_hidden_size": 16,
        "hypernetwork_num_heads": 2,
        "id2label": dict(enumerate(CLASSES)),
        "label2id": {name: index for index, name in enumerate(CLASSES)},
    }
    return STSUNConfig(**(settings | kwargs))


@pytest.fixture(scope="session")
def model() -> STSUNForDensePrediction:
    torch.manual_seed(0)
    return STSUNForDensePrediction(small_config()).eval()


@pytest.fixture(scope="session")
def checkpoint(model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    model.save_pretrained(folder)
    STSUNImageProcessor.from_config(model.config).save_pretrained(folder)
    return folder
