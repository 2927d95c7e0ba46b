import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn import metrics as reference

from stsun_processing import FolderDataset, SyntheticDataset
from stsun_processing.data.datasets import Tiles
from stsun_processing.metrics import ConfusionMatrix, changes_only, semantic_change_scores
from stsun_processing.training.run import (
    MAX_CLASS_WEIGHT,
    BatchScores,
    FinetuneArguments,
    JsonLinesTracker,
    Sources,
    TaskScores,
    TrainingError,
    balanced_class_weights,
    build_mixture,
    build_model,
    build_sampler,
    check_same_run,
    mean_score,
    model_card,
    open_sources,
    save_run,
)
from tests.processing.data.test_datasets import HEIGHT, WIDTH, Folder, big_folder, write


@pytest.fixture
def folder(tmp_path):
    made = Folder(tmp_path / "made")
    made.json["splits"] = {"train": ["a"]}
    made.open()
    return made


def arguments(folder, **settings):
    return FinetuneArguments(data=[str(folder.root)], output_dir=str(folder.root.parent / "run"), **settings)


def drawn(classes, shape, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, shape).astype(np.uint8)
    maps = np.where(rng.random(shape) < 0.6, truth, rng.integers(0, classes, shape)).astype(np.uint8)
    truth[rng.random(shape) < 0.1] = 255
    return maps, truth


def test_segmentation_is_scored_where_labels_and_data_are():
    maps, labels = drawn(3, (1, 20, 30))
    maps[0, :5] = 255  # no date holds data there
    scores = TaskScores("semantic_segmentation", "abc")
    scores.update(maps, labels)
    known = (labels != 255) & (maps != 255)
    expected = reference.jaccard_score(labels[known], maps[known], average=None)
    found = scores.compute()
    assert found["mean_iou"] == pytest.approx(expected.mean())
    assert [found[f"iou_{name}"] for name in "abc"] == pytest.approx(expected)
    assert not {"sek", "precision"} & set(found)


def test_binary_change_is_scored_as_change():
    maps, labels = drawn(2, (3, 20, 30))
    scores = TaskScores("binary_change_detection", ("unchanged", "changed"))
    scores.update(maps, labels)
    known = labels != 255
    assert scores.compute()["f1"] == pytest.approx(reference.f1_score(labels[known], maps[known]))


def test_semantic_change_is_scored_between_neighbouring_dates_of_each_sample():
    scores, matrix = TaskScores("semantic_change_detection", "abc"), ConfusionMatrix(4)
    for seed, dates in enumerate((2, 4)):
        maps, labels = drawn(3, (dates, 20, 30), seed)
        maps[0, :2] = 255
        scores.update(maps, labels)
        valid = (labels != 255) & (maps != 255)
        matrix.update(changes_only(maps, valid), changes_only(labels, valid))
    expected = semantic_change_scores(matrix)
    found = scores.compute()
    assert found["sek"] == pytest.approx(expected["sek"])
    assert found["fscd"] == pytest.approx(expected["fscd"])
    assert found["change_mean_iou"] == pytest.approx(expected["mean_iou"])


def test_a_class_for_no_change_is_taken_for_what_it_says():
    """As in SECOND: then maps are in the encoding of change sets already, and `unchanged` may stand anywhere."""
    maps, labels = drawn(3, (2, 20, 30))
    scores = TaskScores("semantic_change_detection", ("water", "unchanged", "tree"))
    scores.update(maps, labels)
    expected = semantic_change_scores(ConfusionMatrix(3).update(maps, labels), no_change=1)
    assert scores.compute()["sek"] == pytest.approx(expected["sek"])


def test_batches_of_the_trainer_are_counted_and_the_count_starts_anew():
    maps, labels = drawn(3, (4, 50))
    scores = BatchScores(5)
    padded = np.concatenate([labels.astype(int), np.full((4, 9), -100)], axis=1)
    wide = np.concatenate([maps.astype(int), np.full((4, 9), -100)], axis=1)

    def batch(rows):
        return SimpleNamespace(predictions=torch.tensor(wide[rows]), label_ids=torch.tensor(padded[rows]))

    for _ in range(2):
        assert scores(batch(slice(0, 1)), compute_result=False) == {}
        result = scores(batch(slice(1, 4)), compute_result=True)
        known = labels != 255
        expected = reference.jaccard_score(labels[known], maps[known], average="macro")
        assert result["mean_iou"] == pytest.approx(expected)


def test_the_mean_leaves_out_what_could_not_be_scored():
    scores = {"a": {"x": {"mean_iou": 0.2}, "y": {"mean_iou": math.nan}}, "b": {"x": {"mean_iou": 0.6}}}
    assert mean_score(scores) == pytest.approx(0.4)
    assert math.isnan(mean_score({}))


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


def test_no_mixed_precision_may_be_written_as_yaml_reads_it(folder):
    assert arguments(folder, mixed_precision=False).mixed_precision == "no"
    with pytest.raises(TrainingError, match="mixed_precision is 'fp8'; it must be no, bf16 or fp16"):
        arguments(folder, mixed_precision="fp8")


def test_the_synthetic_world_has_class_weights_too():
    data = SyntheticDataset(200, sizes=(16, 24), seed=0)
    weights = balanced_class_weights(Sources([data], [], [], {}, []))
    assert set(weights) >= {"water", "unchanged", "changed"}
    assert weights["changed"] > weights["unchanged"]


def test_tiles_cover_each_pixel_once_and_forget_labels_without_data(folder):
    numbers, label = big_folder(folder, [(row, column, 3) for row in range(0, 300, 9) for column in range(0, 600, 7)])
    numbers[:40, :50] = np.nan
    write(folder.root / "images/big.tif", numbers)
    dataset = folder.open()
    tiles = Tiles(dataset, "semantic_segmentation", 128)
    assert len(tiles) == 3 * 5
    seen = np.zeros(numbers.shape, int)
    expected = np.where((label == 3) & ~np.isnan(numbers), 1, 255)
    for (_, (top, left, height, width)), tile in zip(tiles.windows, tiles, strict=True):
        place = slice(top, top + height), slice(left, left + width)
        seen[place] += 1
        assert tile.series.size == (height, width)
        np.testing.assert_array_equal(tile.series.pixels[0][0], numbers[place])
        np.testing.assert_array_equal(tile.labels[0], expected[place])
    assert (seen == 1).all()
    with pytest.raises(ValueError, match="size must be 1"):
        Tiles(dataset, "semantic_segmentation", 0)


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
