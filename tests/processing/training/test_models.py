"""Models of a run: what they take over, and what their classes weigh."""

import numpy as np
import pytest
import torch

from stsun_processing import SyntheticDataset
from stsun_processing.training.arguments import TrainingError
from stsun_processing.training.models import MAX_CLASS_WEIGHT, balanced_class_weights, build_model
from stsun_processing.training.sources import Sources, open_sources
from tests.processing.data.test_datasets import HEIGHT, WIDTH, write
from tests.processing.training.settings import arguments


def test_balanced_weights_are_the_median_frequency_over_that_of_the_class(folder):
    label = np.full((HEIGHT, WIDTH), 40, np.uint8)
    label[:2, :] = 3  # 62 of 713 pixels
    label[2, :3] = 7  # 3 of 713 pixels
    write(folder.root / "labels/semantic.tif", label)
    total = HEIGHT * WIDTH
    share = {"forest": (total - 65) / total, "water": 62 / total, "urban": 3 / total}
    weights = balanced_class_weights(open_sources(arguments(folder)))
    assert weights["water"] == pytest.approx(1)
    assert weights["forest"] == pytest.approx(max(share["water"] / share["forest"], 1 / MAX_CLASS_WEIGHT))
    assert weights["urban"] == MAX_CLASS_WEIGHT < share["water"] / share["urban"]
    model, processor = build_model(arguments(folder, class_weights="balanced"), open_sources(arguments(folder)))
    assert dict(zip(processor.categories, model.config.class_weights, strict=True)) == pytest.approx(weights)


def test_a_new_output_module_keeps_the_weights_before_it_and_none_of_the_classes(folder, tmp_path):
    settings = arguments(folder)
    sources = open_sources(settings)
    model, processor = build_model(arguments(folder, class_weights="balanced"), sources)
    model.add_categories(["glacier"])
    processor.add_categories(["glacier"])
    model.save_pretrained(tmp_path / "old")
    processor.save_pretrained(tmp_path / "old")
    again = {}
    for new in (True, False):
        given = arguments(folder, model=str(tmp_path / "old"), new_output_module=new)
        again[new], of_it = build_model(given, sources)
        of_it.check_config(again[new].config)
        assert ("glacier" in of_it.categories) != new
        for name, weight in model.stsun.state_dict().items():
            assert torch.equal(weight, again[new].stsun.state_dict()[name]), name
    assert again[True].config.class_weights is None
    assert torch.equal(again[False].output_module.weight.weight, model.output_module.weight.weight)
    assert not torch.allclose(again[True].output_module.weight.weight, model.output_module.weight.weight, atol=1e-2)
    with pytest.raises(TrainingError, match="needs a checkpoint in model, got the preset 'tiny'"):
        arguments(folder, new_output_module=True)


def test_the_synthetic_world_has_class_weights_too():
    data = SyntheticDataset(200, sizes=(16, 24), seed=0)
    weights = balanced_class_weights(Sources([data], [], [], {}, []))
    assert set(weights) >= {"water", "unchanged", "changed"}
    assert weights["changed"] > weights["unchanged"]


def test_a_checkpoint_keeps_what_it_knows_of_files_and_learns_those_of_new_sources(folder, tmp_path):
    sources = open_sources(arguments(folder))
    model, processor = build_model(arguments(folder), sources)
    assert processor.readings == sources.readings
    older = {"older": sources.readings["made"]}
    processor.readings = processor.readings | older
    model.save_pretrained(tmp_path / "old")
    processor.save_pretrained(tmp_path / "old")
    sources.readings["made"] = sources.readings["made"] * 2
    _, again = build_model(arguments(folder, model=str(tmp_path / "old")), sources)
    assert again.readings == older | {"made": sources.readings["made"]}
