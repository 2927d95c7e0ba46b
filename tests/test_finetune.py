"""examples/finetune.py and examples/finetune_trainer.py on small folders that the tests make."""

import contextlib
import io
import json
import math
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
import torch
import yaml
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from modeling_stsun import STSUNForDensePrediction, STSUNImageProcessor
from stsun_processing import Band, SyntheticDataset
from stsun_processing.scenes.raster_output import write_series

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPT, TRAINER = EXAMPLES / "finetune.py", EXAMPLES / "finetune_trainer.py"
QUICK = ("--batch_size", 2, "--crop_size", 24, "--num_workers", 0)
LABELS = {
    "semantic_segmentation": "semantic",
    "binary_change_detection": "change",
    "semantic_change_detection": "semantic_per_time",
}


def make_folder(root, name, task, bands, num_dates):
    """A folder data set of three synthetic scenes, one a split."""
    dates = (num_dates, num_dates)
    data = SyntheticDataset(
        3, sensors=[bands], tasks=[task], sizes=(40, 48), num_dates=dates, gsd_m=(10.0, 10.0), seed=1
    )
    samples = []
    (root / "images").mkdir(parents=True)
    for index, sample in enumerate(data):
        images = write_series(sample.series, root / "images" / str(index))
        (root / "labels").mkdir(parents=True, exist_ok=True)
        paths = []
        for position, label in enumerate(sample.labels):
            paths.append(root / "labels" / f"{index}_{position}.tif")
            with rasterio.open(images[0]) as image:
                profile = image.profile | {"count": 1, "dtype": "uint8", "nodata": 255}
            with rasterio.open(paths[-1], "w", **profile) as file:
                file.write(label[None])
        relative = [str(path.relative_to(root)) for path in paths]
        kind = LABELS[task]
        per_time = [{"path": path, "image_indices": list(o)} for path, o in zip(relative, sample.outputs, strict=True)]
        height, width = sample.series.size
        samples.append(
            {
                "id": str(index),
                "height": height,
                "width": width,
                "images": [
                    {"path": str(path.relative_to(root)), "timestamp": a.datetime.isoformat()}
                    for path, a in zip(images, sample.series.acquisitions, strict=True)
                ],
                "labels": {kind: per_time if kind == "semantic_per_time" else relative[0]},
            }
        )
    document = {
        "name": name,
        "tasks": [task],
        "bands": [band.to_dict() for band in bands],
        "gsd_m": 10,
        "samples": samples,
        "splits": {"train": ["0"], "val": ["1"], "test": ["2"]},
    }
    classes = [{"id": index, "name": f"{name}_{name_}"} for index, name_ in enumerate(data.classes)]
    document["change_classes" if kind == "change" else "classes"] = (
        [{"id": 0, "name": "no_change"}, {"id": 1, "name": "change"}] if kind == "change" else classes
    )
    (root / "dataset.json").write_text(json.dumps(document))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    rgb = tuple(Band(name, nm, 60) for name, nm in (("R", 660), ("G", 560), ("B", 480)))
    many = tuple(Band(f"X{nm}", nm, 20) for nm in range(450, 950, 25))
    make_folder(root / "seg", "seg", "semantic_segmentation", many, 1)
    make_folder(root / "scd", "scd", "semantic_change_detection", rgb, 3)
    make_folder(root / "cd", "cd", "binary_change_detection", rgb, 2)
    return [str(root / name) for name in ("seg", "scd", "cd")]


def run(*arguments, check=True, script=SCRIPT):
    """Runs a script in this process, as `python script ...` would: importing torch anew takes longer than training."""
    out, err, returncode, argv = io.StringIO(), io.StringIO(), 0, sys.argv
    AcceleratorState._reset_state(reset_partial_state=True)
    sys.argv = [str(script), *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            runpy.run_path(str(script), run_name="__main__")
    except SystemExit as exit_:
        returncode = 0 if exit_.code in (0, None) else 1
        err.write(str(exit_.code))
    finally:
        sys.argv = argv
        AcceleratorState._reset_state(reset_partial_state=True)
    result = SimpleNamespace(returncode=returncode, stdout=out.getvalue(), stderr=err.getvalue())
    if check:
        assert result.returncode == 0, result.stdout + result.stderr
    return result


def log(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def losses(folder):
    """{step: loss} of a run, which logged each step once."""
    found = [(line["step"], line["loss"]) for line in log(folder) if "loss" in line]
    assert len(dict(found)) == len(found)
    return dict(found)


def trainer_losses(folder):
    last = max((folder / "trainer").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    history = json.loads((last / "trainer_state.json").read_text())["log_history"]
    return {line["step"]: line["loss"] for line in history if "loss" in line}


def assert_same_weights(one, other, **tolerance):
    one, other = (load_file(folder / "model.safetensors") for folder in (one, other))
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], msg=lambda text, name=name: f"{name}: {text}", **tolerance)


@pytest.fixture(scope="module")
def finished(folders, tmp_path_factory):
    """A run of six steps on three sources with three tasks, never interrupted."""
    out = tmp_path_factory.mktemp("runs") / "first"
    settings = {"data": folders, "batch_size": 2, "crop_size": 24, "steps": 4, "save_every": 2, "num_workers": 0}
    # At the default rate Adam makes 1e-3 of float noise in a gradient that is almost 0.
    settings |= {"learning_rate": 1e-3}
    config = out.parent / "settings.yaml"
    config.write_text(
        yaml.safe_dump(
            settings | {"gradient_accumulation_steps": 2, "warmup_steps": 1, "eval_every": 3, "ema_decay": 0.5}
        )
    )
    run("--config", config, "--steps", 6, "--output_dir", out)
    return out, config


def test_one_run_learns_three_sources_with_three_tasks(finished):
    out, _ = finished
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["arguments"]["steps"] == 6  # the command line wins over the file
    assert metrics["arguments"]["batch_size"] == 2
    assert {source: list(tasks) for source, tasks in metrics["test"].items()} == {
        "seg": ["semantic_segmentation"],
        "scd": ["semantic_change_detection"],
        "cd": ["binary_change_detection"],
    }
    assert {"sek", "fscd", "change_mean_iou"} <= set(metrics["test"]["scd"]["semantic_change_detection"])
    assert {"precision", "recall", "f1", "iou"} <= set(metrics["test"]["cd"]["binary_change_detection"])
    processor = STSUNImageProcessor.from_pretrained(out)
    assert set(processor.band_statistics) == {"seg", "scd", "cd"}
    model = STSUNForDensePrediction.from_pretrained(out)
    processor.check_config(model.config)
    assert {"unchanged", "changed", "seg_water", "scd_water"} <= set(processor.categories)


def test_the_log_holds_each_step_and_the_card_what_was_measured(finished):
    from huggingface_hub import ModelCard

    out, _ = finished
    assert list(losses(out)) == list(range(1, 7))
    assert all(math.isfinite(loss) for loss in losses(out).values())
    assert [line["step"] for line in log(out) if "val/mean" in line] == [3, 6]
    card = ModelCard.load(out / "README.md")
    metrics = json.loads((out / "metrics.json").read_text())
    noted = {(r.dataset_split, r.dataset_name, r.metric_type): r.metric_value for r in card.data.eval_results}
    for split in ("val", "test"):
        for source, tasks in metrics[split].items():
            for scores in tasks.values():
                assert noted[split, source, "mean_iou"] == pytest.approx(scores["mean_iou"], abs=1e-4)
                assert f"mean_iou {scores['mean_iou']:.3f}" in card.text
    assert "/" not in card.text.split("trained from")[1].split("\n")[0], "paths of this machine stay out of the card"


def test_the_weights_kept_are_the_best_on_the_validation_splits(finished):
    out, _ = finished
    scored = {line["step"]: line["val/mean"] for line in log(out) if "val/mean" in line}
    metrics = json.loads((out / "metrics.json").read_text())["val"]
    values = [scores["mean_iou"] for tasks in metrics.values() for scores in tasks.values()]
    assert np.mean(values) == pytest.approx(max(scored.values()), rel=1e-6)


def test_a_run_that_was_killed_ends_where_the_whole_run_ended(finished, tmp_path):
    out, config = finished
    again = tmp_path / "again"
    command = [sys.executable, str(SCRIPT), "--config", str(config), "--steps", "6", "--output_dir", str(again)]
    # With as many threads as the tests have: sums in another order would not be the same run.
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    deadline = time.monotonic() + 300
    try:
        # After step 3 the last state is that of step 2.
        while (process.poll() is None and not (again / "log.jsonl").exists()) or len(losses(again)) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL, "the run ended before it was killed"
    assert not (again / "model.safetensors").exists()
    reached = max(losses(again))
    # As if the kill had come in the middle of writing a state, and of a line of the log.
    (again / "checkpoints" / ".partial").mkdir(exist_ok=True)
    with (again / "log.jsonl").open("a") as file:
        file.write('{"step": 99, "lo')
    run("--config", config, "--steps", 6, "--output_dir", again, "--resume", True)
    assert reached >= 3
    assert losses(again) == pytest.approx(losses(out), rel=1e-4)
    assert_same_weights(out, again, rtol=1e-4, atol=1e-5)


def test_shares_that_follow_the_losses_are_part_of_the_run(finished, tmp_path):
    _, config = finished
    settings = ("--config", config, "--steps", 6, "--save_every", 3, "--warmup_steps", 0)
    out, again, fixed, two = (tmp_path / name for name in ("out", "again", "fixed", "two"))
    run(*settings, "--output_dir", fixed)
    settings += ("--renew_shares", 2)
    run(*settings, "--output_dir", out)
    # Until the shares are renewed it is the same run.
    assert [losses(out)[step] for step in (1, 2)] == pytest.approx([losses(fixed)[step] for step in (1, 2)], rel=1e-4)
    assert losses(out) != pytest.approx(losses(fixed), rel=1e-3)
    shutil.copytree(out, again)
    run(*settings, "--output_dir", again, "--resume", True)
    assert losses(again) == pytest.approx(losses(out), rel=1e-4)
    assert_same_weights(out, again, rtol=1e-4, atol=1e-5)
    run_two_processes(*settings, "--batch_size", 1, "--output_dir", two)
    assert losses(two) == pytest.approx(losses(out), rel=1e-3)


def test_resuming_as_another_run_is_refused(finished, tmp_path):
    out, config = finished
    again = shutil.copytree(out, tmp_path / "again")
    settings = ("--config", config, "--steps", 6, "--output_dir", again, "--resume", True)
    refused = run(*settings, "--learning_rate", 0.5, "--seed", 3, check=False)
    assert refused.returncode
    assert "learning_rate: 0.001 -> 0.5; seed: 0 -> 3" in refused.stderr


def run_two_processes(*settings):
    environment = os.environ | {"ACCELERATE_USE_CPU": "true"}
    with subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(SCRIPT),
         *map(str, settings)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment,
    ) as process:  # fmt: skip
        try:
            output, _ = process.communicate(timeout=300)
        except subprocess.TimeoutExpired:
            # Its two processes end with it, and what they said so far is read.
            process.terminate()
            output, _ = process.communicate()
    assert process.returncode == 0, output


def test_two_processes_train_as_one(finished, tmp_path):
    out, config = finished
    run_two_processes("--config", config, "--steps", 6, "--batch_size", 1, "--output_dir", tmp_path)
    assert json.loads((tmp_path / "run.json").read_text())["num_processes"] == 2
    assert losses(tmp_path) == pytest.approx(losses(out), rel=1e-3)
    one, two = (json.loads((folder / "metrics.json").read_text()) for folder in (out, tmp_path))
    for split in ("val", "test"):
        for source, tasks in one[split].items():
            for task, scores in tasks.items():
                assert two[split][source][task]["mean_iou"] == pytest.approx(scores["mean_iou"], abs=0.01)
    assert_same_weights(out, tmp_path, rtol=1e-2, atol=1e-3)


def test_a_second_run_in_one_folder_is_refused_and_changes_nothing(folders, tmp_path):
    from stsun_processing.training import run_lock

    (tmp_path / "run.json").write_text("{}")
    with run_lock(tmp_path):
        for script in (SCRIPT, TRAINER):
            settings = ("--data", folders[2], *QUICK, "--steps", 1, "--output_dir", tmp_path)
            refused = run(*settings, check=False, script=script)
            assert refused.returncode
            assert f"{tmp_path} is being written by process {os.getpid()}" in refused.stderr
            assert "another output_dir (--output_dir)" in refused.stderr
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["run.json"]
    assert not list(tmp_path.glob("trainer/*"))
    assert (tmp_path / "run.json").read_text() == "{}"


def test_what_is_left_of_a_run_is_checked_before_it_goes_on(finished, tmp_path):
    out, config = finished
    for name, content, message in (
        ("run.json", "[]", "holds no object but list"),
        ("run.json", '{"steps": ', "cannot be read"),
        ("log.jsonl", '{"a": 1}\n{"step": 2, "loss": 1}\n', "Line 1 of .*log.jsonl is no entry of a run"),
        ("checkpoints/step_4/model.safetensors", "", "step_4, is damaged: model.safetensors .*to go on from step_2"),
        ("checkpoints/step_4/random_0.json", "{}", "step_4, is damaged: random_0.json .*to go on from step_2"),
        ("checkpoints/step_4/manifest.json", "null", "step_4, is damaged"),
    ):
        again = shutil.copytree(out, tmp_path / "again")
        (again / name).write_text(content)
        refused = run("--config", config, "--steps", 6, "--output_dir", again, "--resume", True, check=False)
        assert refused.returncode
        assert re.search(message, refused.stderr), refused.stderr
        assert "Traceback" not in refused.stderr
        shutil.rmtree(again)


def test_the_states_of_an_earlier_run_are_never_mixed_with_a_new_one(finished):
    out, config = finished
    assert "earlier run" in run("--config", config, "--output_dir", out, check=False).stderr


def test_the_trainer_takes_the_same_batches_and_steps(finished, tmp_path):
    out, config = finished
    settings = ("--config", config, "--steps", 6, "--ema_decay", 0, "--save_every", 3, "--output_dir", tmp_path)
    run(*settings, script=TRAINER)
    assert trainer_losses(tmp_path) == pytest.approx(losses(out), rel=1e-4)
    history = json.loads((tmp_path / "trainer" / "checkpoint-6" / "trainer_state.json").read_text())["log_history"]
    for step in (3, 6):
        scores = {n: v for line in history if line["step"] == step for n, v in line.items() if n.endswith("_mean_iou")}
        mean = scores.pop("eval_mean_iou")
        assert len(scores) == 3
        assert mean == pytest.approx(sum(scores.values()) / 3)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert set(metrics["test"]) == {"seg", "scd", "cd"}
    assert (tmp_path / "README.md").exists()
    processor = STSUNImageProcessor.from_pretrained(tmp_path)
    processor.check_config(STSUNForDensePrediction.from_pretrained(tmp_path).config)
    # Resumed from the middle, it goes the same way.
    whole = trainer_losses(tmp_path)
    shutil.rmtree(tmp_path / "trainer" / "checkpoint-6")
    (tmp_path / "trainer" / "checkpoint-5").mkdir()  # a state that was cut short
    run(*settings, "--resume", True, script=TRAINER)
    assert trainer_losses(tmp_path) == pytest.approx(whole, rel=1e-4)
    assert "earlier run" in run(*settings, script=TRAINER, check=False).stderr


def test_the_trainer_refuses_what_it_does_not_do(folders, tmp_path):
    settings = ("--data", folders[2], "--output_dir", tmp_path)
    for setting in (("--ema_decay", 0.9), ("--renew_shares", 5)):
        assert "finetune.py" in run(*settings, *setting, script=TRAINER, check=False).stderr
    refused = run(*settings, "--eval_every", 4, "--save_every", 6, script=TRAINER, check=False)
    assert "save_every (6) must be a multiple of eval_every (4)" in refused.stderr


@pytest.mark.parametrize("script", [SCRIPT, TRAINER])
def test_lora_moves_few_weights_and_learns_new_classes_from_a_checkpoint(finished, folders, tmp_path, script):
    pytest.importorskip("peft")
    out, _ = finished
    other = shutil.copytree(folders[0], tmp_path / "other")
    (other / "dataset.json").write_text((other / "dataset.json").read_text().replace('"seg', '"other'))
    run("--model", out, "--data", folders[2], other, *QUICK, "--steps", 2, "--warmup_steps", 0, "--lora_rank", 2,
        "--eval_every", 2, "--save_every", 2, "--class_weights", "balanced", "--mixed_batches", True, "--reversal", 0.5,
        "--gain", 0.5, "--band_jitter", 0.5, "--output_dir", tmp_path / "out", script=script)  # fmt: skip
    before, after = (load_file(folder / "model.safetensors") for folder in (out, tmp_path / "out"))
    assert before.keys() == after.keys(), "the updates are merged: it loads without peft"
    moved = {name for name in before if before[name].shape != after[name].shape or not before[name].equal(after[name])}
    adapted = ("q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2")
    for name in moved:
        assert "output_module" in name or ("_layers." in name and any(layer in name for layer in adapted)), name
    assert any("q_proj" in name for name in moved)
    old, new = (STSUNForDensePrediction.from_pretrained(folder).config for folder in (out, tmp_path / "out"))
    assert list(new.id2label.values())[: old.num_labels] == list(old.id2label.values())
    assert "other_urban" in new.id2label.values()
    assert len(new.class_weights) == new.num_labels
    assert max(new.class_weights) > min(new.class_weights) > 0


@pytest.mark.parametrize("script", [SCRIPT, TRAINER])
def test_a_run_stops_early_when_nothing_gets_better(folders, tmp_path, script):
    # With a learning rate of 0 no evaluation is better than the first.
    run("--data", folders[2], folders[0], *QUICK, "--steps", 9, "--eval_every", 1, "--save_every", 1, "--patience", 2,
        "--learning_rate", 0, "--output_dir", tmp_path, script=script)  # fmt: skip
    assert max((losses if script == SCRIPT else trainer_losses)(tmp_path)) == 1 + 2


def test_sources_without_a_validation_split_are_named_and_trained_on(folders, tmp_path):
    document = json.loads((Path(folders[2]) / "dataset.json").read_text())
    source = shutil.copytree(folders[2], tmp_path / "cd")
    (source / "dataset.json").write_text(json.dumps(document | {"splits": document["splits"] | {"val": []}}))
    shown = run("--data", source, *QUICK, "--steps", 1, "--output_dir", tmp_path / "out").stdout
    assert "cd: split 'val' is empty" in shown
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["val"] == {}
    assert list(metrics["test"]) == ["cd"]
    refused = run("--data", source, *QUICK, "--patience", 2, "--output_dir", tmp_path / "more", check=False)
    assert "patience needs a validation split" in refused.stderr


def test_faulty_sources_stop_a_run_before_it_trains(folders, tmp_path):
    source = shutil.copytree(folders[2], tmp_path / "cd")
    label = next((source / "labels").glob("0_*.tif"))
    with rasterio.open(label, "r+") as file:
        file.write(np.full(file.shape, 7, np.uint8), 1)
    for script in (SCRIPT, TRAINER):
        refused = run("--data", source, *QUICK, "--output_dir", tmp_path / "out", check=False, script=script)
        assert refused.returncode
        assert f"{label.name} of sample '0' holds 7" in refused.stderr
        assert not (tmp_path / "out" / "log.jsonl").exists()


def test_labels_without_data_do_not_stop_an_evaluation(folders, tmp_path):
    shutil.copytree(folders[2], tmp_path / "cd")
    for path in (tmp_path / "cd" / "images").glob("1/*.tif"):
        with rasterio.open(path, "r+") as file:
            pixels = file.read()
            pixels[:, :10, :10] = np.nan
            file.write(pixels)
    out = tmp_path / "out"
    run("--data", tmp_path / "cd", *QUICK, "--steps", 1, "--output_dir", out)
    assert json.loads((out / "metrics.json").read_text())["val"]["cd"]["binary_change_detection"]["mean_iou"] >= 0


def test_wrong_settings_end_before_work(folders, tmp_path):
    assert "No data" in run("--output_dir", tmp_path, check=False).stderr
    assert (
        "holds no saved state"
        in run("--data", folders[2], "--resume", True, "--output_dir", tmp_path, check=False).stderr
    )
    config = tmp_path / "settings.yaml"
    config.write_text("stepz: 3")
    assert "unknown settings stepz" in run("--config", config, check=False).stderr
    config.write_text("data: synthetic")
    assert "data must be of type list" in run("--config", config, check=False).stderr
    for *setting, message in (
        ("--steps", 0, "steps must be 1 or more, got 0"),
        ("--ema_decay", 1, "ema_decay must be"),
        ("--class_weights", "high", "'high'; it must be none or balanced"),
        ("--report_to", "notebook", "report_to names notebook"),
        ("--weights", 0.5, "weights holds 1 numbers for 2 sources"),
        ("--renew_shares", 5, "--mixed_batches", True, "which mixed_batches mixes"),
    ):
        refused = run("--data", *folders[:2], *setting, "--output_dir", tmp_path, check=False)
        assert message in refused.stderr, refused.stderr
    wrong = run("--data", tmp_path, "--output_dir", tmp_path, check=False)
    assert wrong.returncode != 0
    assert "dataset.json" in wrong.stderr


def test_labels_reach_the_model_as_positions_in_the_classes(folders):
    from stsun_processing import FolderDataset

    sample = FolderDataset(folders[0], "train")[0]
    original = SyntheticDataset(
        3, sensors=[sample.series.acquisitions[0].bands], tasks=["semantic_segmentation"], sizes=(40, 48),
        num_dates=(1, 1), gsd_m=(10.0, 10.0), seed=1,
    )[0]  # fmt: skip
    assert np.array_equal(sample.labels, original.labels)
    assert np.allclose(sample.series.pixels[0], original.series.pixels[0])
