"""examples/benchmark_speed.py: what it measures, counts and sets side by side."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from modeling_stsun import STSUNConfig
from modeling_stsun.configuration_stsun import PRESETS

SCRIPT = Path(__file__).parents[1] / "examples" / "benchmark_speed.py"


def run(*arguments):
    return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True)


def test_a_setting_is_measured(tmp_path):
    options = ("--seconds", 0.01, "--dtype", "bfloat16", "--output_dir", tmp_path)
    result = run("--presets", "tiny", "--settings", "1,3,32", *options)
    assert result.returncode == 0, result.stderr
    assert "| tiny |" in (tmp_path / "speed.md").read_text()
    (row,) = csv.DictReader((tmp_path / "speed.csv").open())
    assert "bfloat16" in row["machine"]
    assert float(row["forward_s"]) > 0 < float(row["training_s"])
    # Its linear layers alone take that much, and backwards twice as much again.
    tokens, config = (32 // PRESETS["tiny"]["patch_size"]) ** 2, STSUNConfig(**PRESETS["tiny"])
    block = 2 * tokens * config.hidden_size * (4 * config.hidden_size + 2 * config.intermediate_size)
    assert float(row["forward_gflop"]) > config.num_hidden_layers * block / 1e9
    assert 2.5 < float(row["training_gflop"]) / float(row["forward_gflop"]) < 3.5


def test_a_preset_is_timed_beside_networks_of_libraries(tmp_path):
    pytest.importorskip("monai", reason="pip install 'stsun[benchmark]'")
    result = run("--peers", "--settings", "2,3,64", "--seconds", 0.01, "--output_dir", tmp_path)
    assert result.returncode == 0, result.stderr
    rows = list(csv.DictReader((tmp_path / "peers.csv").open()))
    assert [row["network"].split()[0] for row in rows] == ["tiny", "SegFormer-b0", "U-Net-resnet34", "U-Net"]
    # Published sizes: SegFormer-b0 has 3.7 million parameters, a ResNet-34 21.3 million and its decoder some more.
    assert float(rows[1]["parameters_m"]) == pytest.approx(3.7, abs=0.1)
    assert 21 < float(rows[2]["parameters_m"]) < 26
    assert float(rows[0]["forward_relative"]) == float(rows[0]["step_relative"]) == 1
    assert float(rows[2]["forward_relative"]) == pytest.approx(
        float(rows[2]["forward_cpu_s"]) / float(rows[0]["forward_cpu_s"])
    )
    report = (tmp_path / "peers.md").read_text()
    assert "monai" in report
    assert len({line.count("|") for line in report.splitlines() if line.startswith("|")}) == 1


def test_peers_are_measured_on_a_cpu_in_float32(tmp_path):
    result = run("--peers", "--dtype", "bfloat16", "--output_dir", tmp_path)
    assert result.returncode == 2
    assert "--peers measures CPU time in float32" in result.stderr


def write_scores(folder, preset, seed, score, bfloat16=False):
    folder.mkdir(parents=True)
    training = {"preset": preset, "config": "{}", "steps": 10, "batch_size": 8, "seed": seed}
    training |= {"optimizer": "adamw", "learning_rate": 1e-3, "bfloat16": bfloat16}
    scores = {
        "semantic_segmentation": {"mean_iou": score},
        "semantic_change_detection": {"mean_iou": score},
        "binary_change_detection": {"f1": score},
    }
    metrics = {"unseen_sensors": {"all": scores}, "training": training | {"seconds": 60}}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder / "metrics.json"


def test_scores_of_presets_are_set_beside_their_operations(tmp_path):
    runs = (("small", 0, 0.4), ("tiny", 0, 0.3), ("tiny", 1, 0.5))
    paths = [write_scores(tmp_path / f"{preset}_{seed}", preset, seed, score) for preset, seed, score in runs]
    result = run("--front", *paths, "--output_dir", tmp_path)
    assert result.returncode == 0, result.stderr
    tiny, small = csv.DictReader((tmp_path / "front.csv").open())
    assert (tiny["preset"], tiny["seeds"], small["preset"], small["seeds"]) == ("tiny", "2", "small", "1")
    assert 3 < float(small["forward_gflop"]) / float(tiny["forward_gflop"]) < 10
    assert float(tiny["semantic_segmentation_mean_iou"]) == pytest.approx(0.4)
    assert float(tiny["semantic_segmentation_mean_iou_std"]) == pytest.approx(0.1 * 2**0.5)
    report = (tmp_path / "front.md").read_text()
    assert "0.400 ± 0.141" in report
    # As many headings as cells.
    assert len({line.count("|") for line in report.splitlines() if line.startswith("|")}) == 1

    # Another recipe is another row, with the same seed, too.
    other = write_scores(tmp_path / "other", "small", 0, 0.4, bfloat16=True)
    assert run("--front", *paths, other, "--output_dir", tmp_path).returncode == 0
    assert len(list(csv.DictReader((tmp_path / "front.csv").open()))) == 3

    twice = run("--front", *paths, paths[-1], "--output_dir", tmp_path)
    assert twice.returncode != 0
    assert "same seed" in twice.stderr
