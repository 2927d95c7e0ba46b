"""`stsun demo` in miniature: everything it promises but the quality, which takes minutes."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import rasterio
from PIL import Image

from stsun_processing import demo
from stsun_processing.metadata import TASKS

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work") / "stsun-demo"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "NUM_TEST_SCENES", 1)
        patch.setattr(demo, "TEST_SIZES", (20, 30))
        demo.run_demo(folder, num_steps=4)
    return folder


def test_demo_leaves_what_it_promises(folder):
    metrics = json.loads((folder / "metrics.json").read_text())
    assert set(metrics["seen_sensors"]) == {*demo.SEEN_SENSORS, "all"}
    assert set(metrics["unseen_sensors"]) == {*demo.UNSEEN_SENSORS, "all"}
    for scores in [*metrics["seen_sensors"].values(), *metrics["unseen_sensors"].values()]:
        assert 0 <= scores[TASKS[0]]["mean_iou"] <= 1
        assert set(scores) == set(TASKS)
    report = demo.report(metrics)
    for sensor in (*demo.SEEN_SENSORS, *demo.UNSEEN_SENSORS):
        group = "seen_sensors" if sensor in demo.SEEN_SENSORS else "unseen_sensors"
        (line,) = (line for line in report.splitlines() if line.split()[0] == sensor)
        assert f"{metrics[group][sensor][TASKS[0]]['mean_iou']:.3f}" in line
    paths = sorted((folder / "series").glob("*.tif"))
    with rasterio.open(folder / "prediction.tif") as prediction, rasterio.open(paths[0]) as scene:
        assert (prediction.crs, prediction.transform, prediction.shape) == (scene.crs, scene.transform, scene.shape)
        assert prediction.count == len(paths) == 3
    assert len(Image.open(folder / "picture.png").getcolors(2**24)) > 100


def test_no_sensor_is_both_seen_and_unseen():
    assert not set(demo.SEEN_SENSORS) & set(demo.UNSEEN_SENSORS)


def test_the_python_example_of_the_readme_runs(folder):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 14
    result = subprocess.run([sys.executable, "-c", code], cwd=folder.parent, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "torch.Size([3, 200, 200])" in result.stdout
