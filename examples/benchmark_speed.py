"""Measures how fast the presets are, and how much of the machine they use.

    python examples/benchmark_speed.py --output_dir runs/speed                     # every preset and setting
    python examples/benchmark_speed.py --presets tiny large --settings 1,3,512     # some of them
    python examples/benchmark_speed.py --presets large --scaling                   # how time grows with each axis
    python examples/benchmark_speed.py --device cuda --dtype bfloat16 --compile    # on a GPU
    python examples/benchmark_speed.py --peers                                     # beside networks of libraries
    python examples/benchmark_speed.py --front runs/*/metrics.json                 # accuracy against operations

For each preset and each setting (dates, bands, height = width) one fresh process measures a forward pass and a
training step (forward, backward, AdamW): time, images and megapixels a second, operations, peak memory, and
efficiency: its operations a second divided by those of a large matrix product, run by the same process at the same
dtype before and after. With --dtype bfloat16 the forward is that of a model loaded in it, and the step that of one in
float32 under autocast, as is usual for either. Times are medians; neighbours on a machine move them, so compare figures
of one run. Memory is what a pass needs above weights, gradients, optimizer state and inputs. The table goes to speed.md
and speed.csv.

With --scaling the forward of a model folded for its metadata is timed against the number of dates, pixels, classes and
bands, one axis at a time, with the straight line that fits best, and a whole scene (GeoTIFF to GeoTIFF) against its
tiles; these tables go to scaling.md and scaling.csv.

With --peers presets are timed beside networks of libraries (pip install 'stsun[benchmark]') that see all dates and
bands of a request as channels: all in one process and in turns, so that ratios hold on a machine whose speed varies.
Times are CPU seconds of the process, beside those of a clock on the wall; cells are single pixels. The table goes to
peers.md and peers.csv.

With --front nothing is timed: scores that pretrain_synthetic.py wrote, of several presets and seeds, are set beside the
operations that the presets take for (1, 3, 512), in front.md and front.csv.
"""

import argparse
import csv
import ctypes
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode
from tqdm.auto import tqdm

from modeling_stsun import STSUNConfig, STSUNForDensePrediction
from modeling_stsun.configuration_stsun import PRESETS
from stsun_processing._runtime import keep_heap

SETTINGS = ((1, 3, 256), (1, 3, 512), (2, 3, 1024), (4, 3, 256), (12, 13, 256), (1, 200, 256), (2, 1, 512))
NUM_CLASSES = 6
MATRIX_SIZE = {"cpu": 3072, "cuda": 8192}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def make_inputs(
    dates: int, bands: int, size: int, batch: int, device: str, num_classes: int = NUM_CLASSES
) -> dict[str, Any]:
    """A request as the processor makes it: everything known, nothing padded."""
    from modeling_stsun.modeling_stsun import DATE_ROLES

    timestamps = torch.linspace(8000.0, 9000.0, dates, device=device).expand(batch, -1)
    return {
        "pixel_values": torch.randn(batch, dates, bands, size, size, device=device),
        "wavelengths": torch.linspace(450.0, 2300.0, bands, device=device).expand(batch, dates, -1),
        "bandwidths": torch.full((batch, dates, bands), 30.0, device=device),
        "band_types": torch.ones(batch, dates, bands, dtype=torch.long, device=device),
        "timestamps": timestamps,
        "gsd": torch.full((batch,), 10.0, device=device),
        "category_ids": torch.arange(num_classes, device=device).expand(batch, -1),
        "output_timestamps": timestamps[:, None, [0, -1]],
        "output_date_roles": torch.full((batch, 1, dates), DATE_ROLES.index("described"), device=device),
        "cell_sizes": -(-size // 256),
    }


def make_model(preset: str, num_classes: int = NUM_CLASSES, **options: Any) -> STSUNForDensePrediction:
    """A model with random weights; `options` is what differs from the preset."""
    names = {index: f"class_{index}" for index in range(num_classes)}
    shape = PRESETS[preset] | options
    return STSUNForDensePrediction(
        STSUNConfig(**shape, id2label=names, label2id={name: index for index, name in names.items()})
    )


def count_operations(preset: str, setting: tuple[int, int, int], batch: int, training: bool, **options: Any) -> int:
    """Floating point operations of the matrix products and convolutions, on a device without memory."""
    with torch.device("meta"):
        model = make_model(preset, **options)
        # Written out, its products are counted like any other.
        model.config._attn_implementation = "eager"
        inputs = make_inputs(*setting, batch, "meta")
        with FlopCounterMode(display=False) as counter, nullcontext() if training else torch.no_grad():
            logits = model(**inputs).logits
            if training:
                logits.sum().backward()
    return counter.get_total_flops()


def wait(device: str) -> None:
    """Until the device has done what it was asked for."""
    if device != "cpu":
        torch.accelerator.synchronize()


def median_seconds(run: Callable[[], Any], device: str, budget: float) -> float:
    """Median time of at least three runs, as many as fit in `budget` seconds."""
    run()
    times: list[float] = []
    while len(times) < 3 or (sum(times) < budget and len(times) < 100):
        wait(device)
        start = time.perf_counter()
        run()
        wait(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def matrix_speed(device: str, dtype: torch.dtype) -> float:
    """Operations a second of a large matrix product."""
    size = MATRIX_SIZE["cpu" if device == "cpu" else "cuda"]
    first, second = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return 2 * size**3 / median_seconds(lambda: first @ second, device, 1.0)


def peak_memory(run: Callable[[], Any], device: str) -> int | None:
    """Bytes that a run needs above what is held before it; `None` where the system does not tell."""
    if device != "cpu":
        wait(device)
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        run()
        wait(device)
        return torch.cuda.max_memory_allocated() - held
    if not Path("/proc/self/clear_refs").exists():
        return None

    def status(name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

    # What was freed but is still held would hide what a run needs.
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)
    # Writing 5 sets the peak of the resident memory back to what is resident now (proc(5)).
    Path("/proc/self/clear_refs").write_text("5")
    held = status("VmRSS")
    run()
    return status("VmHWM") - held


def measure(arguments: argparse.Namespace, preset: str, setting: tuple[int, int, int]) -> dict[str, Any]:
    """All figures of a preset and setting."""
    device, dtype, batch = arguments.device, DTYPES[arguments.dtype], arguments.batch_size
    torch.manual_seed(0)
    model = make_model(preset).to(device, dtype, memory_format=torch.channels_last).eval()
    if device == "cpu" and dtype == torch.bfloat16:
        model.set_attn_implementation("cpu_matmul")
    inputs = make_inputs(*setting, batch, device)
    mixed = nullcontext() if dtype == torch.float32 else torch.autocast(torch.device(device).type, dtype)
    call = torch.compile(model) if arguments.compile else model
    folded = torch.compile(model.fold_metadata(**inputs)) if arguments.compile else None
    dates, _, size = setting
    before = matrix_speed(device, dtype)

    def forward() -> None:
        # no_grad, as inductor does not pack the weights of inference tensors.
        with torch.no_grad():
            model(**inputs) if folded is None else folded(inputs["pixel_values"])

    figures: dict[str, Any] = {}

    def add(name: str, run: Callable[[], None], training: bool) -> None:
        # The first run loads kernels, and in training makes gradients and optimizer state, which are not counted.
        run()
        figures[f"{name}_peak_mb"] = None if (peak := peak_memory(run, device)) is None else peak / 1e6
        seconds = median_seconds(run, device, arguments.seconds)
        operations = count_operations(preset, setting, batch, training)
        figures.update(
            {
                f"{name}_s": seconds,
                f"{name}_images_per_s": batch * dates / seconds,
                f"{name}_mpx_per_s": batch * dates * size**2 / seconds / 1e6,
                f"{name}_gflop": operations / 1e9,
                f"{name}_gflops": operations / seconds / 1e9,
            }
        )

    add("forward", forward, training=False)
    if not arguments.forward_only:
        model.float().train()
        labels = torch.randint(NUM_CLASSES, (batch, 1, size, size), device=device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)

        def step() -> None:
            with mixed:
                loss = call(**inputs, labels=labels).loss
            loss.backward()
            optimizer.step()
            # Gradients stay: their memory is that of the weights, whatever the model does.
            optimizer.zero_grad(set_to_none=False)

        add("training", step, training=True)
    matrix = max(before, matrix_speed(device, dtype))
    for name in ("forward", "training"):
        if f"{name}_s" in figures:
            figures[f"{name}_efficiency"] = figures[f"{name}_gflops"] * 1e9 / matrix
    return {
        "preset": preset,
        "dates": dates,
        "bands": setting[1],
        "size": size,
        "parameters_m": sum(parameter.numel() for parameter in model.parameters()) / 1e6,
        "matrix_gflops": matrix / 1e9,
        **figures,
    }


# Axis -> requests (dates, bands, height = width, classes), in rising order; one axis changes at a time.
SCALING = {
    "dates": [(dates, 3, 256, 6) for dates in (1, 2, 4, 8)],
    "pixels, p = 1": [(1, 3, size, 6) for size in (64, 128, 256, 512, 1024)],
    "classes, p = 1": [(1, 3, 256, classes) for classes in (1, 8, 32, 64)],
    "bands, p = 1": [(1, bands, 256, 6) for bands in (3, 200)],
    "bands, p = 4": [(1, bands, 1024, 6) for bands in (3, 200)],
}


def measure_scaling(arguments: argparse.Namespace, preset: str) -> list[dict[str, Any]]:
    """Forward times along each axis, measured in turns, so that a slow moment of the machine meets all of an axis."""
    torch.manual_seed(0)
    model = make_model(preset, max(request[3] for requests in SCALING.values() for request in requests))
    model = model.to(arguments.device, memory_format=torch.channels_last).eval()
    # CPU seconds where one thread does the work: others on the machine count least in them.
    one_thread = arguments.device == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if one_thread else time.perf_counter
    rows = []
    for axis, requests in SCALING.items():
        calls = []
        for dates, bands, size, classes in requests:
            inputs = make_inputs(dates, bands, size, 1, arguments.device, classes)
            if axis.endswith("p = 1"):
                inputs["cell_sizes"] = 1
            calls.append((model.fold_metadata(**inputs), inputs["pixel_values"]))
        times: list[list[float]] = [[] for _ in calls]
        with torch.inference_mode():
            for turn in range(1 + max(3, round(arguments.seconds))):
                for (folded, pixels), kept in zip(calls, times, strict=True):
                    wait(arguments.device)
                    start = clock()
                    folded(pixels)
                    wait(arguments.device)
                    # The first turn loads kernels.
                    if turn:
                        kept.append(clock() - start)
        seconds = [min(kept) for kept in times]
        quantity = [{"d": r[0], "p": r[2] ** 2, "c": r[3], "b": r[1]}[axis[0]] for r in requests]
        # The line whose errors are least in proportion to the times: the largest request has no more say than others.
        slope, offset = np.polyfit(quantity, seconds, 1, w=1 / np.array(seconds)).tolist()
        worst = max(abs(s - offset - slope * q) / s for q, s in zip(quantity, seconds, strict=True))
        for (dates, bands, size, classes), duration in zip(requests, seconds, strict=True):
            rows.append(
                {
                    "preset": preset,
                    "axis": axis,
                    "request": f"{dates}, {bands}, {size}, {classes}",
                    "seconds": duration,
                    "relative": duration / seconds[0],
                    "off_the_line": worst if len(requests) > 2 else None,
                }
            )
    return rows


def measure_scene(arguments: argparse.Namespace, preset: str, size: int = 1500) -> dict[str, Any]:
    """Tiles a second of a scene, from file to file, against those of the model alone, before and after."""
    from stsun_processing import (
        Acquisition,
        ImageSeries,
        ScenePredictor,
        STSUNImageProcessor,
        open_series,
        predict_raster,
    )
    from stsun_processing.rasters.sensors import sensor_bands
    from stsun_processing.scenes.raster_output import write_series

    model = make_model(preset).to(arguments.device, memory_format=torch.channels_last).eval()
    processor = STSUNImageProcessor.from_config(model.config)
    bands = sensor_bands("sentinel-2", ["B02", "B03", "B04", "B08"])
    pixels = 0.2 + 0.05 * torch.randn(4, size, size, generator=torch.Generator().manual_seed(0)).numpy()
    acquisition = Acquisition(bands, "2024-06-01", 10.0, "sentinel-2")
    series = ImageSeries(
        (acquisition,), crs="EPSG:32633", transform=(10.0, 0.0, 5e5, 0.0, -10.0, 5e6), pixels=(pixels,)
    )
    predictor = ScenePredictor(model, processor, series, "semantic_segmentation", progress=False)
    tiles, side = len(predictor.rows.starts) * len(predictor.columns.starts), predictor.rows.tile
    inputs = make_inputs(1, 4, side, 1, arguments.device)
    folded = model.fold_metadata(**inputs)

    def tile_seconds() -> float:
        with torch.inference_mode():
            return median_seconds(lambda: folded(inputs["pixel_values"]), arguments.device, arguments.seconds)

    with tempfile.TemporaryDirectory() as folder:
        paths = write_series(series, Path(folder) / "series")
        before = tile_seconds()
        start = time.perf_counter()
        with open_series(paths) as source:
            request = ("semantic_segmentation", predictor.classes)
            predict_raster(model, processor, source, Path(folder) / "map.tif", *request, progress=False)
        seconds = time.perf_counter() - start
    tile = (before + tile_seconds()) / 2
    return {
        "preset": preset,
        "axis": "scene",
        "request": f"1, 4, {size}, {NUM_CLASSES}: {tiles} tiles of {side}",
        "seconds": seconds,
        "tile_throughput": tiles * tile / seconds,
    }


def scaling_table(rows: list[dict[str, Any]], machine: str) -> str:
    """The figures in Markdown."""
    lines = [
        f"# Scaling\n\n{machine}\n",
        "| preset | axis | T, C, H = W, K | forward s | relative | farthest off the line | share of tile throughput |",
        "|" + " --- |" * 7,
    ]
    for row in rows:
        figures = [row.get(name) for name in ("relative", "off_the_line", "tile_throughput")]
        cells = ["-" if value is None else f"{value:.3f}" for value in figures]
        lines.append(
            f"| {row['preset']} | {row['axis']} | {row['request']} | {row['seconds']:.4g} | {' | '.join(cells)} |"
        )
    return "\n".join(lines) + "\n"


PEER_SETTINGS = ((1, 3, 256), (2, 3, 256), (12, 10, 128), (12, 10, 256))


class Segformer(torch.nn.Module):
    """SegFormer-b0 (Xie et al. 2021, arXiv 2105.15203), whose logits are enlarged to the size of its images."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        from transformers import SegformerConfig, SegformerForSemanticSegmentation

        # The defaults are the shape of b0.
        config = SegformerConfig(num_channels=num_channels, num_labels=NUM_CLASSES)
        self.network = SegformerForSemanticSegmentation(config)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, channels, H, W) -> logits (B, K, H, W)."""
        logits = self.network(images).logits
        return torch.nn.functional.interpolate(logits, images.shape[-2:], mode="bilinear")


def make_peers(num_channels: int) -> dict[str, torch.nn.Module]:
    """Networks of libraries, with random weights, that map (B, num_channels, H, W) to logits (B, K, H, W)."""
    from monai.networks.nets import BasicUNet, FlexibleUNet

    resnet = {"backbone": "resnet34", "pretrained": False, "spatial_dims": 2}
    return {
        "SegFormer-b0 (transformers)": Segformer(num_channels),
        "U-Net-resnet34 (monai)": FlexibleUNet(num_channels, NUM_CLASSES, **resnet),
        "U-Net (monai BasicUNet)": BasicUNet(2, num_channels, NUM_CLASSES),
    }


class InTurns:
    """Times calls in turns: whatever slows a machine for a moment slows all of them.

    Args:
        calls: what to time, by name.
        turns: how often each is called, after once that loads kernels.
    """

    def __init__(self, calls: dict[str, Callable[[], Any]], turns: int) -> None:
        self.cpu: dict[str, list[float]] = {name: [] for name in calls}
        self.wall: dict[str, list[float]] = {name: [] for name in calls}
        for call in calls.values():
            call()
        for _ in range(turns):
            for name, call in calls.items():
                wall, cpu = time.perf_counter(), time.process_time()
                call()
                self.cpu[name].append(time.process_time() - cpu)
                self.wall[name].append(time.perf_counter() - wall)

    def figures(self, name: str, first: str, what: str) -> dict[str, float]:
        """Medians of a call, and its CPU time beside that of the call `first`."""
        cpu = statistics.median(self.cpu[name])
        return {
            f"{what}_cpu_s": cpu,
            f"{what}_wall_s": statistics.median(self.wall[name]),
            f"{what}_relative": cpu / statistics.median(self.cpu[first]),
        }


def measure_peers(arguments: argparse.Namespace, preset: str, setting: tuple[int, int, int]) -> list[dict[str, Any]]:
    """A preset and its peers at one setting: a row each, with times and memory of a forward and of a training step."""
    dates, bands, size = setting
    inputs = make_inputs(*setting, arguments.batch_size, "cpu") | {"cell_sizes": 1}
    images = inputs["pixel_values"].flatten(1, 2)
    labels = torch.randint(NUM_CLASSES, (arguments.batch_size, 1, size, size))
    torch.manual_seed(0)
    networks = {preset: make_model(preset)} | make_peers(dates * bands)
    networks = {name: network.to(memory_format=torch.channels_last) for name, network in networks.items()}

    def forward(name: str) -> None:
        with torch.no_grad():
            networks[name](**inputs) if name == preset else networks[name](images)

    optimizers = {name: torch.optim.AdamW(network.parameters(), lr=1e-6) for name, network in networks.items()}

    def step(name: str) -> None:
        if name == preset:
            loss = networks[name](**inputs, labels=labels).loss
        else:
            loss = torch.nn.functional.cross_entropy(networks[name](images), labels[:, 0])
        loss.backward()
        optimizers[name].step()
        optimizers[name].zero_grad(set_to_none=False)

    turns = max(3, round(arguments.seconds))
    rows: dict[str, dict[str, Any]] = {
        name: {
            "network": name,
            "setting": f"{dates}, {bands}, {size}",
            "parameters_m": sum(parameter.numel() for parameter in network.parameters()) / 1e6,
        }
        for name, network in networks.items()
    }
    parts = {"forward": forward} if arguments.forward_only else {"forward": forward, "step": step}
    for what, run in parts.items():
        for network in networks.values():
            network.train(what == "step")
        calls = {name: partial(run, name) for name in networks}
        timed = InTurns(calls, turns)
        for name, row in rows.items():
            row.update(timed.figures(name, preset, what))
            peak = peak_memory(calls[name], "cpu")
            row[f"{what}_peak_mb"] = None if peak is None else peak / 1e6
    return list(rows.values())


PEER_COLUMNS = {
    "network": "network",
    "setting": "T, C, H = W",
    "parameters_m": "M parameters",
    "forward_cpu_s": "forward CPU s",
    "forward_wall_s": "wall s",
    "forward_relative": "relative",
    "forward_peak_mb": "MB",
    "step_cpu_s": "step CPU s",
    "step_wall_s": "wall s",
    "step_relative": "relative",
    "step_peak_mb": "MB",
}


def peer_table(rows: list[dict[str, Any]], machine: str) -> str:
    """The figures in Markdown."""
    headings = list(PEER_COLUMNS.values())
    lines = [f"# Beside networks of libraries\n\n{machine}\n", "| " + " | ".join(headings) + " |"]
    lines.append("|" + " --- |" * len(headings))
    for row in rows:
        cells = [row.get(name) for name in PEER_COLUMNS]
        texts = ["-" if cell is None else f"{cell:.3g}" if isinstance(cell, float) else cell for cell in cells]
        lines.append("| " + " | ".join(texts) + " |")
    return "\n".join(lines) + "\n"


# Settings of metrics.json that runs of one row share.
RECIPE = ("preset", "config", "steps", "batch_size", "optimizer", "learning_rate", "bfloat16")
# Its scores: task, score, heading.
SCORES = (
    ("semantic_segmentation", "mean_iou", "segmentation mIoU"),
    ("semantic_change_detection", "mean_iou", "semantic change mIoU"),
    ("binary_change_detection", "f1", "binary change F1"),
)


def collect_front(paths: list[Path]) -> list[dict[str, Any]]:
    """Scores on unseen sensors of the runs of each preset and recipe, mean and standard deviation over seeds."""
    runs: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for path in paths:
        metrics = json.loads(path.read_text())
        training = metrics["training"]
        runs.setdefault(tuple(training[name] for name in RECIPE), []).append(metrics)
    rows = []
    for values, group in runs.items():
        recipe = dict(zip(RECIPE, values, strict=True))
        preset, config = recipe.pop("preset"), recipe.pop("config")
        seeds = [metrics["training"]["seed"] for metrics in group]
        if len(set(seeds)) < len(seeds):
            raise ValueError(
                f"Two runs of {preset} with {recipe} have the same seed: {sorted(seeds)}. Give one of them."
            )
        row: dict[str, Any] = {
            "preset": preset if config == "{}" else f"{preset} {config}",
            "forward_gflop": count_operations(preset, (1, 3, 512), 1, training=False, **json.loads(config)) / 1e9,
            **recipe,
            "seeds": len(seeds),
        }
        for task, score, _ in SCORES:
            values = [metrics["unseen_sensors"]["all"][task][score] for metrics in group]
            row[f"{task}_{score}"] = statistics.mean(values)
            row[f"{task}_{score}_std"] = statistics.stdev(values) if len(values) > 1 else None
        # Of the time alone: scores do not depend on the machine.
        row["run"] = " / ".join(sorted({metrics.get("run", "not recorded") for metrics in group}))
        row["training_s"] = statistics.mean(metrics["training"]["seconds"] for metrics in group)
        rows.append(row)
    return sorted(rows, key=lambda row: (row["forward_gflop"], row["steps"], row["learning_rate"]))


def front_table(rows: list[dict[str, Any]], machine: str) -> str:
    """The figures in Markdown."""
    headings = [
        "preset",
        "forward GFLOP",
        "steps x scenes",
        "optimizer",
        "seeds",
        *(heading for *_, heading in SCORES),
        "training s",
        "on",
    ]
    lines = [
        "# Accuracy against operations\n",
        f"Scenes of the synthetic world by sensors never trained on. Table: {machine}\n",
        "| " + " | ".join(headings) + " |",
        "|" + " --- |" * len(headings),
    ]
    for row in rows:
        scores = []
        for task, score, _ in SCORES:
            deviation = row[f"{task}_{score}_std"]
            scores.append(f"{row[f'{task}_{score}']:.3f}" + ("" if deviation is None else f" ± {deviation:.3f}"))
        cells = [row["preset"], f"{row['forward_gflop']:.3g}", f"{row['steps']} x {row['batch_size']}"]
        cells.append(f"{row['optimizer']} {row['learning_rate']:g}{', bfloat16' if row['bfloat16'] else ''}")
        cells += [str(row["seeds"]), *scores, f"{row['training_s']:.0f}", row["run"]]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def describe_machine(device: str, run: str = "") -> str:
    """Machine, what was `run` on it, versions and commit."""
    processor = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), processor)
    if device != "cpu":
        processor += f", {torch.cuda.get_device_name()}"
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:
        commit = ""
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, transformers {version('transformers')}"
    parts = [f"{processor}, {torch.get_num_threads()} threads", run, versions, f"commit {commit or 'unknown'}"]
    return "; ".join(part for part in parts if part)


COLUMNS = {
    "preset": "preset",
    "parameters_m": "M parameters",
    "setting": "T, C, H = W",
    "forward_gflop": "forward GFLOP",
    "forward_s": "forward s",
    "forward_mpx_per_s": "Mpx/s",
    "forward_peak_mb": "forward MB",
    "forward_efficiency": "efficiency",
    "training_s": "step s",
    "training_images_per_s": "step images/s",
    "training_peak_mb": "step MB",
    "training_efficiency": "step efficiency",
}


def table(rows: list[dict[str, Any]], machine: str) -> str:
    """The figures in Markdown."""

    def text(value: Any) -> str:
        return f"{value:.3g}" if isinstance(value, float) and value < 100 else (
            "-" if value is None else f"{value:.0f}" if isinstance(value, float) else str(value)
        )  # fmt: skip

    lines = [f"# Speed\n\n{machine}\n", "| " + " | ".join(COLUMNS.values()) + " |", "|" + " --- |" * len(COLUMNS)]
    for row in rows:
        row = row | {"setting": f"{row['dates']}, {row['bands']}, {row['size']}"}
        lines.append("| " + " | ".join(text(row.get(name)) for name in COLUMNS) + " |")
    return "\n".join(lines) + "\n"


def save(rows: list[dict[str, Any]], report: str, machine: str, path: Path) -> None:
    """Writes the report beside a file of all figures."""
    path.with_suffix(".md").write_text(report)
    with path.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["machine", *dict.fromkeys(key for row in rows for key in row)])
        writer.writeheader()
        writer.writerows({"machine": machine} | row for row in rows)


def main() -> None:
    """Runs one process a preset and setting, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", choices=list(PRESETS), help="default: all; with --peers tiny")
    parser.add_argument(
        "--settings",
        nargs="+",
        type=lambda text: tuple(int(part) for part in text.split(",")),
        metavar="T,C,H",
        help="dates, bands, and height = width (default: those of the table in the README; with --peers four others)",
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=list(DTYPES), help="default: %(default)s")
    parser.add_argument("--batch_size", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="compile: folded for its metadata in the forward")
    parser.add_argument("--forward_only", action="store_true", help="leave the training step out")
    parser.add_argument("--scaling", action="store_true", help="time against each axis, and a scene against its tiles")
    parser.add_argument("--peers", action="store_true", help="CPU time and memory beside networks of libraries")
    parser.add_argument("--front", nargs="+", type=Path, metavar="JSON", help="set scores of runs beside operations")
    parser.add_argument("--seconds", type=float, default=3.0, help="time for each figure (default: %(default)s)")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/speed"))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.presets = arguments.presets or (["tiny"] if arguments.peers else list(PRESETS))
    arguments.settings = arguments.settings or (PEER_SETTINGS if arguments.peers else SETTINGS)
    if arguments.peers and (arguments.device != "cpu" or arguments.dtype != "float32" or arguments.compile):
        parser.error("--peers measures CPU time in float32: leave --device, --dtype and --compile out.")
    if arguments.one:
        # As the command does, in whose processes all this runs.
        keep_heap()
        preset, *setting = arguments.one.split(",")
        if not setting:
            print(json.dumps([*measure_scaling(arguments, preset), measure_scene(arguments, preset)]))
            return
        of_setting = measure_peers if arguments.peers else measure
        print(json.dumps(of_setting(arguments, preset, tuple(map(int, setting)))))
        return
    rows: list[dict[str, Any]] = []
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    if arguments.front:
        machine = describe_machine(arguments.device)
        rows = collect_front(arguments.front)
        report = front_table(rows, machine)
        save(rows, report, machine, arguments.output_dir / "front")
        print(report)
        return
    timed = f"device {arguments.device}, {arguments.dtype}{', compiled' if arguments.compile else ''}"
    machine = describe_machine(arguments.device, f"{timed}, batch {arguments.batch_size}")
    if arguments.scaling:
        jobs: list[tuple[Any, ...]] = [(preset,) for preset in arguments.presets]
    else:
        jobs = [(preset, *setting) for preset in arguments.presets for setting in arguments.settings]
    name, write = ("scaling", scaling_table) if arguments.scaling else ("speed", table)
    if arguments.peers:
        name, write = "peers", peer_table
        machine = f"{machine}; monai {version('monai')}"
    for job in tqdm(jobs, desc="measuring", unit="setting"):
        one = ",".join(map(str, job))
        run = subprocess.run(
            [sys.executable, *sys.argv, "--one", one],
            stdout=subprocess.PIPE,
            text=True,
            # Compiled forwards on CPUs then pack their weights once.
            env={"TORCHINDUCTOR_FREEZING": "1"} | os.environ,
        )
        if run.returncode:
            # Too little memory, most likely: the other settings may still fit.
            tqdm.write(f"{one} failed with status {run.returncode}; it is left out of the table.")
            continue
        result = json.loads(run.stdout.splitlines()[-1])
        rows += result if isinstance(result, list) else [result]
        report = write(rows, machine)
        save(rows, report, machine, arguments.output_dir / name)
    if not rows:
        sys.exit("No setting could be measured.")
    print(report)


if __name__ == "__main__":
    main()
