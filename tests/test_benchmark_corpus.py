"""examples/benchmark_corpus.py on small folders that the tests make."""

import argparse
import csv
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from stsun_processing.rasters.sensors import sensor_bands

from .test_finetune import make_folder

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def benchmark():
    """The script as a module; its sibling is found beside it, as when it is run."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        import benchmark_corpus
    finally:
        sys.path.remove(str(EXAMPLES))
    return benchmark_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Two sources of different sensors, tasks and numbers of dates."""
    root = tmp_path_factory.mktemp("corpus")
    make_folder(root / "first", "first", "semantic_change_detection", sensor_bands("spot-6-7"), 3)
    make_folder(root / "second", "second", "binary_change_detection", sensor_bands("landsat-5-tm"), 2)
    return root


def settings(benchmark, corpus, output, **changes):
    values = {
        "corpus": corpus,
        "output_dir": output,
        "split": "test",
        "sources": None,
        "steps": 2,
        "batch_size": 2,
        "crop_size": 16,
        "pixels": 512,
        "preset": "tiny",
        "config": "{}",
        "learning_rate": None,
        "label_share": 1.0,
        "checkpoint": None,
        "band_sampling": 0.5,
        "reversal": 0.0,
        "gain": 0.0,
        "band_jitter": 0.0,
        "methods": [*benchmark.APPROACHES, *benchmark.ABLATIONS],
    }
    return argparse.Namespace(**values | changes)


def test_every_method_is_scored_on_every_source(benchmark, corpus, tmp_path):
    pytest.importorskip("monai", reason="the U-Net comes from monai: pip install 'stsun[benchmark]'")
    arguments = settings(benchmark, corpus, tmp_path)
    for method in arguments.methods:
        benchmark.run_method(arguments, method, 0)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    assert len(kept) == 2 * len(arguments.methods)
    lost = tmp_path / "test" / "unet" / "second.0.json"
    lost.unlink()
    for method in ("unified", "unet"):
        benchmark.run_method(arguments, method, 0)
    # What an interrupted run has finished is not done again.
    assert [path for path, time in kept.items() if path.stat().st_mtime_ns != time] == [lost]

    text = benchmark.report(arguments)
    with (tmp_path / "corpus_test.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["method"], row["source"], row["task"]) for row in rows} == {
        (method, *source)
        for method in arguments.methods
        for source in (("first", "semantic_change_detection"), ("second", "binary_change_detection"))
    }
    for row in rows:
        assert 0 <= float(row["mean_iou"]) <= 1
        assert row["method"] == "forest" or (float(row["parameters"]) > 0 and float(row["window_gflop"]) > 0)
    assert all(f"| {method} |" in text for method in arguments.methods)
    assert (tmp_path / "corpus_test.png").exists()


def test_a_warm_start_begins_with_the_weights_of_the_checkpoint(benchmark, corpus, tmp_path):
    arguments = settings(benchmark, corpus, tmp_path, checkpoint=str(tmp_path / "checkpoint"))
    sources = [benchmark.open_source(folder, "warm_start", arguments, 0) for folder in sorted(corpus.iterdir())]
    model = benchmark.build_stsun(sources[:1], "single", arguments)
    model.save_pretrained(arguments.checkpoint)
    benchmark.STSUNImageProcessor.from_config(model.config).save_pretrained(arguments.checkpoint)
    warm = benchmark.build_stsun(sources, "warm_start", arguments)
    assert set(warm.config.label2id) == {n for s in sources for t in s.train.tasks for n in s.train.class_names(t)}
    for (name, old), new in zip(model.stsun.named_parameters(), warm.stsun.parameters(), strict=True):
        assert torch.equal(old, new), name
    result = benchmark.run_stsun(sources[1:], "warm_start", arguments, 0)
    assert 0 <= benchmark.main_score(result["second"]) <= 1


def test_results_of_other_settings_are_not_mixed(benchmark, corpus, tmp_path):
    arguments = settings(benchmark, corpus, tmp_path)
    benchmark.check_settings(arguments)
    benchmark.check_settings(arguments)
    arguments.methods, arguments.seeds = ["forest"], [5]
    benchmark.check_settings(arguments)
    arguments.steps += 1
    with pytest.raises(SystemExit, match=rf"other settings \(steps: {arguments.steps - 1} -> {arguments.steps}\)"):
        benchmark.check_settings(arguments)


def test_zero_shot_asks_for_what_the_checkpoint_knows(benchmark, corpus, tmp_path, monkeypatch):
    arguments = settings(benchmark, corpus, tmp_path, checkpoint=str(tmp_path / "checkpoint"))
    source = benchmark.open_source(corpus / "first", "zero_shot", arguments, 0)
    known, other = source.train.class_names("semantic_change_detection")[:2]
    names = dict(enumerate([known, "river", "unchanged", "changed"]))
    labels2ids = {name: index for index, name in names.items()}
    config = benchmark.STSUNConfig(**benchmark.PRESETS["tiny"], id2label=names, label2id=labels2ids)
    benchmark.STSUNForDensePrediction(config).save_pretrained(arguments.checkpoint)
    benchmark.STSUNImageProcessor.from_config(config).save_pretrained(arguments.checkpoint)

    def predict_scene(model, processor, series, task, classes, outputs, **kwargs):
        assert list(classes) == [known, "river"]
        return np.full((len(outputs), *series.size), 1, dtype=np.uint8)

    monkeypatch.setattr(benchmark, "predict_scene", predict_scene)
    scores = benchmark.run_zero_shot(source, arguments)["scores"]["semantic_change_detection"]
    position = source.train.class_names("semantic_change_detection").index(other)
    labels = np.concatenate([source.scored[index].labels.ravel() for index in range(len(source.scored))])
    assert scores["overall_accuracy"] == pytest.approx((labels[labels != 255] == position).mean())


def test_few_labels_are_a_share_of_the_training_labels_alone(benchmark, corpus, tmp_path):
    def labels(share):
        source = benchmark.open_source(
            corpus / "first", "single", settings(benchmark, corpus, tmp_path, label_share=share), 0
        )
        record = source.train.samples[0]
        return source.train.read(0, (0, 0, record.height, record.width)).labels, source

    every, _ = labels(1.0)
    few, source = labels(0.3)
    known = few != 255
    assert (few[known] == every[known]).all()
    assert 0 < known.sum() < 0.7 * (every != 255).sum()
    # The same pixels, whatever the window.
    part = source.train.read(0, (3, 5, 9, 10)).labels
    np.testing.assert_array_equal(part, few[:, 3:12, 5:15])
    assert type(source.scored) is not type(source.train)


@pytest.mark.parametrize(("follow", "share"), [(True, 2 / 3), (False, 1 / 2)])
def test_windows_follow_the_losses(benchmark, corpus, tmp_path, follow, share):
    """A source with four times the loss of another gets twice its windows."""
    sources = [
        benchmark.open_source(folder, "unified", settings(benchmark, corpus, tmp_path), 0)
        for folder in benchmark.source_folders(settings(benchmark, corpus, tmp_path))
    ]
    data = benchmark.MixtureDataset([source.train for source in sources])
    network, drawn = torch.nn.Linear(1, 1), []

    def loss_of(name):
        drawn.append(name)
        return network(torch.zeros(1, 1)).sum() * 0 + (4.0 if name == sources[0].name else 1.0)

    benchmark.optimise(
        *(network, loss_of, data, lambda samples: samples[0].source, 300, 1, 1e-3, 0), follow_losses=follow
    )
    assert drawn.count(sources[0].name) / len(drawn) == pytest.approx(share, abs=0.03)


def test_the_truth_scores_one(benchmark, corpus, tmp_path):
    arguments = settings(benchmark, corpus, tmp_path)
    for folder in benchmark.source_folders(arguments):
        source = benchmark.open_source(folder, "unified", arguments, 0)
        scores = benchmark.score(source, lambda sample: sample.labels.copy())
        assert all(task["mean_iou"] == 1 for task in scores.values())
        wrong = benchmark.score(source, lambda sample: np.zeros_like(sample.labels))
        assert all(task["mean_iou"] < 1 for task in wrong.values())


def test_stacked_dates_and_maps_have_channels_of_their_own(benchmark, corpus, tmp_path):
    source = benchmark.open_source(corpus / "first", "unet", settings(benchmark, corpus, tmp_path), 0)
    stack = benchmark.Stack(source)
    sample = source.train.read(0, (0, 0, 20, 24))
    image = stack.image(sample)
    num_bands = len(sensor_bands("spot-6-7"))
    assert image.shape == (3 * num_bands, 20, 24)
    assert stack.num_maps == 3
    band = sample.series.acquisitions[2].bands[1].name
    (entry,) = [entry for entry in source.statistics if entry["name"] == band]
    expected = (sample.series.pixels[2][1] - entry["mean"]) / entry["std"]
    np.testing.assert_allclose(image[2 * num_bands + 1], expected, rtol=1e-5, atol=1e-5)
    batch = stack.collate([sample, source.train.read(0, (0, 0, 16, 16))])
    assert batch["images"].shape == (2, 3 * num_bands, 20, 24)
    np.testing.assert_array_equal(batch["labels"][0], sample.labels)
    assert (batch["labels"][1, :, 16:] == 255).all()


@pytest.mark.parametrize(
    ("variant", "name"),
    [
        ("no_wavelengths", "wavelengths"),
        ("no_dates", "timestamps"),
        ("no_task", "task_ids"),
        ("no_categories", "category_ids"),
    ],
)
def test_what_is_taken_away_changes_nothing(benchmark, corpus, tmp_path, variant, name):
    arguments = settings(benchmark, corpus, tmp_path)
    source = benchmark.open_source(corpus / "first", "unified", arguments, 0)
    processor = benchmark.STSUNImageProcessor.from_config(
        benchmark.build_stsun([source], "unified", arguments).config, band_statistics={source.name: source.statistics}
    )
    batch = benchmark.STSUNCollator(processor)([source.train.read(0, (0, 0, 16, 16))])
    change = {
        "wavelengths": lambda nm: nm * 1.3,
        "timestamps": lambda days: days * 1.1,
        "task_ids": lambda ids: ids - 2,
    }
    other = dict(batch) | {name: change.get(name, lambda ids: ids.flip(-1))(batch[name])}
    differences = {}
    for which in ("unified", variant):
        torch.manual_seed(0)
        model = benchmark.build_stsun([source], which, arguments).eval()
        with torch.no_grad():
            differences[which] = (model(**batch).logits - model(**other).logits).abs().max().item()
    assert differences[variant] == 0
    assert differences["unified"] > 1e-3


@pytest.mark.parametrize("masked", [False, True])
def test_content_time_starts_as_the_mean_of_the_metadata(benchmark, masked):
    from modeling_stsun import STSUNConfig
    from modeling_stsun.modeling_stsun import STSUNTemporalModule

    torch.manual_seed(0)
    config = STSUNConfig(unified_time_size=4)
    plain = STSUNTemporalModule(config, 16)
    content = benchmark.ContentTemporalModule(config, 16)
    content.load_state_dict(plain.state_dict(), strict=False)
    states = torch.randn(2, 5, 7, 16)
    mask = torch.rand(2, 5, 7) < 0.6
    mask[:, 0] = True
    weights, gains = torch.randn(2, 5, 3, 5).softmax(-1), torch.randn(2, 4, 3, 5)
    mask = mask if masked else None

    def over_time(module):
        return module(module.add_dates(None, states, mask, weights, gains), states.dtype)

    torch.testing.assert_close(over_time(content), over_time(plain), rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        content.content.weight.normal_()
    assert not torch.allclose(over_time(content), over_time(plain), atol=1e-2)
    with pytest.raises(ValueError, match="all dates at once"):
        content.add_dates(content.add_dates(None, states, mask, weights, gains), states, mask, weights, gains)


def test_ranks_share_ties_and_scores_of_tasks_are_averaged(benchmark):
    assert benchmark.ranks({"a": 0.5, "b": 0.9, "c": 0.5}) == {"a": 2.5, "b": 1.0, "c": 2.5}
    scores = {"x": {"mean_iou": 0.2}, "y": {"mean_iou": 0.6}, "z": {"mean_iou": None}}
    assert benchmark.main_score({"scores": scores}) == pytest.approx(0.4)
    assert math.isnan(benchmark.main_score({"scores": {}}))


def test_unknown_sources_are_refused(benchmark, corpus, tmp_path):
    with pytest.raises(SystemExit, match="first, second"):
        benchmark.source_folders(settings(benchmark, corpus, tmp_path, sources=["first", "third"]))
