"""Sources of a run: what takes part, what is refused, and how batches are drawn."""

from dataclasses import replace

import numpy as np
import pytest

from stsun_processing import FolderDataset
from stsun_processing.data.statistics import readings
from stsun_processing.training.arguments import TrainingError
from stsun_processing.training.sources import Sources, build_mixture, build_sampler, open_sources
from tests.processing.data.test_datasets import HEIGHT, WIDTH, write
from tests.processing.training.settings import arguments


def test_a_test_split_may_not_ask_for_classes_that_training_never_shows(folder):
    folder.json["tasks"] = ["semantic_segmentation", "binary_change_detection"]
    folder.json["samples"] += [
        folder.sample("b", ["t1"], {"semantic": "labels/semantic.tif"}),
        folder.sample("c", ["t0", "t1"], {"change": "labels/change.tif"}),
    ]
    for test, fault in (["b"], None), (["c"], "made: split 'test' asks for unchanged, changed"):
        folder.json["splits"] = {"train": ["a"], "test": test}
        folder.open()
        if fault is None:
            assert len(open_sources(arguments(folder)).test) == 1
        else:
            with pytest.raises(TrainingError, match=fault):
                open_sources(arguments(folder))


def test_sources_tell_what_takes_no_part(folder):
    write(folder.root / "labels/none.tif", np.full((HEIGHT, WIDTH), 255, np.uint8))
    folder.json["samples"].append(folder.sample("b", ["t1"], {"semantic": "labels/none.tif"}))
    folder.json["splits"] = {"train": ["a", "b"], "val": []}
    folder.open()
    sources = open_sources(arguments(folder))
    assert [record.name for record in sources.train[0].samples] == ["a"]
    notes = "\n".join(sources.notes)
    for note in ("nothing is labelled in b", "split 'val' is empty", "split 'test' does not exist"):
        assert note in notes
    assert sources.val == sources.test == []
    assert sources.class_names() == ["forest", "water", "urban"]
    assert sources.readings == {"made": readings(sources.train[0])}
    assert [band["name"] for band in sources.readings["made"][0]["bands"]] == ["B04", "B08", "DEM"]
    with pytest.raises(TrainingError, match="named made, made"):
        open_sources(replace(arguments(folder), data=[str(folder.root)] * 2))


def test_the_settings_reach_batches_and_augmentation(folder):
    sources = open_sources(arguments(folder))
    settings = arguments(
        folder, crop_size=8, batch_size=3, steps=5, gradient_accumulation_steps=2, band_sampling=0, metadata_dropout=1
    )
    mixture = build_mixture(settings, Sources([FolderDataset(folder.root, "train", crop_size=8)], [], [], {}, []))
    batches = list(build_sampler(settings, mixture))
    assert len(batches) == 10
    assert all(len(batch) == 3 for batch in batches)
    assert list(build_sampler(settings, mixture, start=3)) == batches[6:]
    sample = mixture[batches[0][0]]
    assert sample.series.size == (8, 8)
    assert all(band.center_nm is None for band in sample.series.acquisitions[0].bands)
    assert len(sources.train) == 1
