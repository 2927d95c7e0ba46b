"""examples/finetune.py on small folders that the tests make."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
import yaml
from safetensors.torch import load_file

from modeling_stsun import STSUNForDensePrediction, STSUNImageProcessor
from stsun_processing import Band, SyntheticDataset
from stsun_processing.raster_output import write_series

SCRIPT = Path(__file__).parents[1] / "examples" / "finetune.py"
LABELS = {
    "semantic_segmentation": "semantic",
    "binary_change_detection": "change",
    "semantic_change_detection": "semantic_per_time",
}


def make_folder(root, name, task, bands, num_dates):
    """A folder data set of three synthetic scenes, one a split."""
    data = SyntheticDataset(3, sensors=[bands], tasks=[task], sizes=(40, 48), num_dates=(num_dates, num_dates), seed=1)
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


def run(*arguments, check=True):
    result = subprocess.run([sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True)
    if check:
        assert result.returncode == 0, result.stdout + result.stderr
    return result


@pytest.fixture(scope="module")
def finished(folders, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "first"
    settings = {"data": folders, "batch_size": 2, "crop_size": 24, "steps": 4, "save_every": 2, "num_workers": 0}
    config = out.parent / "settings.yaml"
    config.write_text(yaml.safe_dump(settings))
    run("--config", config, "--steps", 6, "--gradient_accumulation_steps", 2, "--output_dir", out, "--eval_every", 5)
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
    processor = STSUNImageProcessor.from_pretrained(out)
    assert set(processor.band_statistics) == {"seg", "scd", "cd"}
    model = STSUNForDensePrediction.from_pretrained(out)
    processor.check_config(model.config)
    assert {"unchanged", "changed", "seg_water", "scd_water"} <= set(processor.categories)


def test_a_resumed_run_ends_where_the_whole_run_ended(finished, tmp_path):
    out, config = finished
    again = tmp_path / "again"
    shutil.copytree(out, again)
    (again / "model.safetensors").unlink()
    shutil.rmtree(again / "checkpoints" / "checkpoint_1")  # what is left was saved after step 2 of 6
    run("--config", config, "--steps", 6, "--gradient_accumulation_steps", 2, "--output_dir", again, "--resume", True)
    whole, resumed = (load_file(folder / "model.safetensors") for folder in (out, again))
    assert whole.keys() == resumed.keys()
    for name in whole:
        torch.testing.assert_close(resumed[name], whole[name], rtol=1e-4, atol=1e-5, msg=name)


def test_the_states_of_an_earlier_run_are_never_mixed_with_a_new_one(finished):
    out, config = finished
    assert "earlier run" in run("--config", config, "--output_dir", out, check=False).stderr


def test_a_checkpoint_learns_the_classes_of_another_source(finished, folders, tmp_path):
    out, _ = finished
    run("--model", out, "--data", folders[2], "synthetic", "--steps", 2, "--batch_size", 2, "--crop_size", 24,
        "--num_workers", 0, "--output_dir", tmp_path)  # fmt: skip
    old, new = (STSUNForDensePrediction.from_pretrained(folder).config.id2label for folder in (out, tmp_path))
    assert list(new.values())[: len(old)] == list(old.values())
    assert "urban" in new.values()


def test_labels_without_data_do_not_stop_an_evaluation(folders, tmp_path):
    shutil.copytree(folders[2], tmp_path / "cd")
    for path in (tmp_path / "cd" / "images").glob("1/*.tif"):
        with rasterio.open(path, "r+") as file:
            pixels = file.read()
            pixels[:, :10, :10] = np.nan
            file.write(pixels)
    out = tmp_path / "out"
    run("--data", tmp_path / "cd", "--steps", 1, "--batch_size", 1, "--crop_size", 24, "--num_workers", 0,
        "--output_dir", out)  # fmt: skip
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
    wrong = run("--data", tmp_path, "--output_dir", tmp_path, check=False)
    assert wrong.returncode != 0
    assert "dataset.json" in wrong.stderr


def test_labels_reach_the_model_as_positions_in_the_classes(folders):
    from stsun_processing import FolderDataset

    sample = FolderDataset(folders[0], "train")[0]
    original = SyntheticDataset(
        3, sensors=[sample.series.acquisitions[0].bands], tasks=["semantic_segmentation"], sizes=(40, 48),
        num_dates=(1, 1), seed=1,
    )[0]  # fmt: skip
    assert np.array_equal(sample.labels, original.labels)
    assert np.allclose(sample.series.pixels[0], original.series.pixels[0])
