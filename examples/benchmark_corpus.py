"""Compares one STSUN for all sources with models of their own for each source, on any folder of labelled sources.

    python examples/benchmark_corpus.py path/to/corpus --output_dir runs/corpus                  # the benchmark
    python examples/benchmark_corpus.py path/to/corpus --methods unified no_dates --split val    # parts, while tuning

Every folder below the given one that holds a dataset.json is a source. The approaches:

    unified    one STSUN, trained on all sources at once
    single     the same model, trained from scratch on each source alone
    unet       a U-Net (MONAI) for each source, dates and bands stacked as its channels
    segformer  a SegFormer-b0 (transformers) for each source, stacked likewise
    forest     a random forest for each source, on the stacked values of each pixel alone
    zero_shot  a checkpoint as it is, asked for the classes that it knows by name
    warm_start what `single` reaches when it starts from that checkpoint, with a new output module

and ablations of `unified`: no_wavelengths, no_dates, no_task, no_categories hide that metadata in training and tests
(no_categories numbers the classes of each source from 0 on), random_bands trains on a subset of the bands half the
time, content_time weighs dates by what they show as well as by their metadata, equal_shares takes as many windows of
one source as of another, one_source takes all windows of a step from one source, mixed_batches draws a source for each
of them, with equal shares, and pads them to one batch. `--label_share 0.1` keeps a tenth of the labels in training.
Unless `--methods` names others, the first five are run.

All approaches but the forest learn from as many windows of a source, drawn the same way (STSUN's are smaller on long
series): `--steps` times `--batch_size`. `unified` takes as many as all the others together, in one run; a step has one
window for every source on average, fewer of sources that are learned already and more of the others (by the square root
of the running mean of the training loss). Nothing looks at the test splits before its training has ended. A result is
kept in a file of its own, so that an interrupted benchmark goes on where it was. The tables go to corpus_test.md and
corpus_test.csv, with a picture. Needs `pip install 'stsun[benchmark]'`.
"""

import argparse
import csv
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from benchmark_speed import describe_machine
from PIL import Image, ImageDraw
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode
from tqdm.auto import tqdm

from modeling_stsun import STSUNConfig, STSUNForDensePrediction, STSUNImageProcessor, kernels_stsun
from modeling_stsun.configuration_stsun import PRESETS
from modeling_stsun.loss_stsun import dense_prediction_loss
from modeling_stsun.modeling_stsun import STSUNTemporalModule, STSUNTemporalSums
from stsun_processing import STSUNCollator
from stsun_processing.data.augmentation import Augmentation
from stsun_processing.data.datasets import FolderDataset, Sample
from stsun_processing.data.description import DatasetDescription, SampleRecord
from stsun_processing.data.reader import SampleReader
from stsun_processing.data.samples import Window
from stsun_processing.data.sampling import LossShares, MixtureBatchSampler, MixtureDataset
from stsun_processing.data.statistics import band_statistics
from stsun_processing.metadata import CHANGE_CLASSES, IGNORE_INDEX
from stsun_processing.metrics import json_ready
from stsun_processing.scenes.checkpoints import default_checkpoint, load_checkpoint
from stsun_processing.scenes.scene_files import predict_scene
from stsun_processing.scenes.visualization import default_colours
from stsun_processing.training import (
    WINDOWS,
    MuonAdamW,
    TaskScores,
    evaluate_sources,
    fit,
    with_new_output_module,
    write_whole,
)

APPROACHES = ("unified", "single", "unet", "segformer", "forest")
ABLATIONS = {
    "no_wavelengths": ("wavelengths", "bandwidths"),
    "no_dates": ("timestamps", "output_timestamps"),
    "no_task": ("task_ids",),
    "no_categories": (),
    "random_bands": (),
    "content_time": (),
    "equal_shares": (),
    "one_source": (),
    "mixed_batches": (),
}
# What one model serves all sources.
ONE_STSUN = ("unified", *ABLATIONS)
METHODS = (*APPROACHES, "zero_shot", "warm_start", *ABLATIONS)
STSUNS = ("single", "warm_start", *ONE_STSUN)
# Highest rate of a cosine schedule, chosen on validation splits (one seed). The U-Net has no linear layers, hence no
# Muon: at 60 steps 4e-3 beat 2e-3. SegFormer at 150 steps: 0.603 mean score, by AdamW alone (1e-3) 0.588.
LEARNING_RATES = {"stsun": 1e-2, "unified": 7e-3, "unet": 4e-3, "segformer": 5e-3}
FOREST_PIXELS = 20000
# Other names of classes of the synthetic world.
SYNONYMS = {
    **{"trees": "forest", "crops": "cropland", "agriculture": "cropland", "built_area": "urban", "building": "urban"},
    **{"bare_ground": "bare_soil", "barren": "bare_soil", "rangeland": "grassland", "snow_ice": "snow"},
    **{"flooded_vegetation": "wetland", "cultivated_land": "cropland", "wetlands": "wetland", "snow_and_ice": "snow"},
    **{"artificial_surface": "urban", "bareland": "bare_soil"},
}
# Side in pixels of what `--label_share` keeps or leaves out: people outline areas. Squares of 8 pixels, strewn over all
# images, say nearly all that all labels say.
LABEL_SQUARE = 32
STRIDE = 32  # Both networks halve the image so often; images are filled up to a multiple.


@dataclass
class Source:
    """One source: windows to train on, whole samples to be scored on.

    Args:
        train: random windows.
        scored: the split that is scored, or `None` if the source has none.
        statistics: of the bands of the training split.
    """

    train: FolderDataset
    scored: FolderDataset | None
    statistics: list[dict[str, Any]]

    @property
    def name(self) -> str:
        """As its dataset.json says."""
        return self.train.name

    @property
    def splits(self) -> list[FolderDataset]:
        """Those that there are."""
        return [split for split in (self.train, self.scored) if split is not None]


def few_labels(share: float, seed: int) -> type[FolderDataset]:
    """Data sets in which only that share of the labels is known, in squares drawn at random."""

    class Reader(SampleReader):
        def read_labels(self, record: SampleRecord, window: Window) -> np.ndarray:
            labels = super().read_labels(record, window)
            rng = np.random.default_rng((seed, *record.name.encode()))
            shape = [-(-side // LABEL_SQUARE) for side in (record.height, record.width)]
            number = math.prod(shape)
            known = (rng.permutation(number) < math.ceil(share * number)).reshape(shape)
            known = known.repeat(LABEL_SQUARE, 0).repeat(LABEL_SQUARE, 1)
            row, column, height, width = window
            return np.where(known[row : row + height, column : column + width], labels, np.uint8(IGNORE_INDEX))

    return type("FewLabels", (FolderDataset,), {"reader_class": Reader})


def open_source(folder: Path, method: str, arguments: argparse.Namespace, seed: int) -> Source:
    """Opens a source. STSUN pays for each date, so its windows of long series are smaller; stacked ones cost alike."""
    description = DatasetDescription.read(folder / "dataset.json")
    side = arguments.crop_size
    if method in STSUNS:
        num_dates = max(len(record.image_paths) for record in description.select("train", None))
        side = int(min(side, max(math.sqrt(arguments.pixels / num_dates), side / 4)))
    kind = FolderDataset if arguments.label_share == 1 else few_labels(arguments.label_share, seed)
    train = kind(
        folder, "train", crop_size=side, crops_per_image=WINDOWS, labelled_only=True, seed=seed, cache_bytes=2**29
    )
    scored = FolderDataset(folder, arguments.split) if description.splits.get(arguments.split) else None
    return Source(train, scored, band_statistics(train))


def optimise(
    network: nn.Module,
    loss_of: Callable[[Any], torch.Tensor],
    data: MixtureDataset,
    collate: Callable[[Sequence[Sample]], Any],
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    accumulation: int = 1,
    grouped: bool = True,
    follow_losses: bool = False,
) -> float:
    """The training that all networks share; returns its seconds. Sources have equal shares of the windows, or such as
    follow their losses."""
    sampler = MixtureBatchSampler(data, batch_size, steps * accumulation, seed=seed, grouped=grouped)
    shares = LossShares(sampler)
    names = [source.name for source in data.sources]

    def named(samples: Sequence[Sample]) -> tuple[str, Any]:
        return samples[0].source, collate(samples)

    def noted_loss(batch: tuple[str, Any]) -> torch.Tensor:
        name, inputs = batch
        loss = loss_of(inputs)
        source = names.index(name)
        factor = shares.factor(source)
        shares.note(source, loss.item())
        if follow_losses:
            shares.renew()
        return loss * factor

    # Batches are drawn in this process, one at a time: each by the shares that the losses so far give.
    loader = DataLoader(data, batch_sampler=sampler, collate_fn=named)
    optimizer = MuonAdamW(network, learning_rate, weight_decay=0.05)
    return fit(network, loader, optimizer, noted_loss, accumulation)


# STSUN


class ContentTemporalModule(STSUNTemporalModule):
    """TUM whose means over dates also follow what each date shows: attention over dates at every position.

    The metadata's weights are multiplied by the exponential of scores of the states, and normalised over dates again.
    """

    def __init__(self, config: STSUNConfig, channels: int):
        super().__init__(config, channels)
        self.content = nn.Linear(channels, config.unified_time_size + 1)
        nn.init.zeros_(self.content.weight)
        nn.init.zeros_(self.content.bias)

    def add_dates(
        self,
        sums: STSUNTemporalSums | None,
        states: torch.Tensor,
        mask: torch.Tensor | None,
        weights: torch.Tensor,
        gains: torch.Tensor,
    ) -> STSUNTemporalSums:
        """As the base class, but for all dates at once: attention compares them."""
        if sums is not None:
            raise ValueError("content_time needs all dates at once: set kernels_stsun.CELLS_AT_ONCE high enough.")
        normed = self.norm(states)
        values = self.in_proj(normed).unflatten(-1, (self.unified_time_size, -1))  # (B, T, N, Tu, c)
        scores = self.content(normed).permute(0, 3, 1, 2)[:, :, None]  # (B, Tu + 1, 1, T, N)
        scores = scores + weights.clamp(min=1e-9).log().unsqueeze(-1)
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, None], -1e9)
            values, states = (
                torch.where(m, s, 0) for m, s in ((mask[..., None, None], values), (mask[..., None], states))
            )
        shares = scores.softmax(3)  # (B, Tu + 1, S, T, N)
        unified = torch.einsum("bustn,btnuc->bsnuc", shares[:, :-1] * gains.unsqueeze(-1), values).flatten(-2)
        residual = torch.einsum("bstn,btnc->bsnc", shares[:, -1], states)
        return STSUNTemporalSums(unified, residual, None)


def build_stsun(sources: Sequence[Source], variant: str, arguments: argparse.Namespace) -> STSUNForDensePrediction:
    """A model for the classes of all sources, blind for what the variant takes away."""
    names = dict.fromkeys(
        name for source in sources for task in source.train.tasks for name in source.train.class_names(task)
    )
    if variant == "warm_start":
        checkpoint, _ = load_checkpoint(arguments.checkpoint or default_checkpoint())
        model = with_new_output_module(checkpoint.stsun, list(names))
        config = model.config
    else:
        config = STSUNConfig(
            **PRESETS[arguments.preset] | json.loads(arguments.config),
            id2label=dict(enumerate(names)),
            label2id={name: index for index, name in enumerate(names)},
        )
        model = STSUNForDensePrediction(config)
    if variant == "content_time":
        kernels_stsun.CELLS_AT_ONCE["cpu"] = 2**32
        for name in ("temporal_module", "cell_temporal_module"):
            old = getattr(model.stsun, name)
            new = ContentTemporalModule(config, old.in_proj.in_features)
            new.load_state_dict(old.state_dict(), strict=False)
            setattr(model.stsun, name, new)
    hidden = ABLATIONS.get(variant, ())
    if hidden:
        generate = model.stsun.generate_weights
        model.stsun.generate_weights = lambda *args, **kwargs: generate(
            *args, **{name: None if name in hidden else value for name, value in kwargs.items()}
        )
    if variant == "no_categories":
        embed = model.output_module.embed_categories
        model.output_module.embed_categories = lambda ids, *rest: embed(
            torch.arange(ids.shape[1], device=ids.device).expand(ids.shape), *rest
        )
    return model


def run_stsun(sources: list[Source], variant: str, arguments: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Trains STSUN on some sources, and scores it on each of them: what each result holds, by source."""
    model = build_stsun(sources, variant, arguments)
    processor = STSUNImageProcessor.from_config(
        model.config, band_statistics={source.name: source.statistics for source in sources}
    )
    augmentations = [
        Augmentation(
            dates=0.5,
            bands=0.5 if variant == "random_bands" else arguments.band_sampling,
            min_bands=3,
            reversal=arguments.reversal,
            gain=arguments.gain,
            jitter=arguments.band_jitter,
            metadata=0.03,
        )
        for source in sources
    ]
    data = MixtureDataset([source.train for source in sources], augmentations)
    collate = STSUNCollator(processor)
    # Windows of every source in a step, each by itself: no padding, and less forgetting.
    windows = len(sources) * math.ceil(arguments.batch_size / len(sources))
    apart = len(sources) > 1 and variant not in ("one_source", "mixed_batches")
    size, accumulation = (1, windows) if apart else (windows, 1)
    seconds = optimise(
        model,
        lambda batch: model(**batch).loss,
        data,
        collate,
        arguments.steps * len(sources) * arguments.batch_size // windows,
        size,
        arguments.learning_rate or LEARNING_RATES["unified" if variant in ONE_STSUN else "stsun"],
        seed,
        accumulation,
        grouped=variant != "mixed_batches",
        follow_losses=len(sources) > 1 and variant not in ("equal_shares", "mixed_batches"),
    )
    results = {}
    for source in sources:
        started = time.perf_counter()
        scores = evaluate_sources(model, processor, [source.scored])[source.name] if source.scored else {}
        tested = time.perf_counter() - started
        batch = collate([source.train[0]])
        model.set_attn_implementation("eager")  # Written out, its products are counted.
        gflop = count_gflop(lambda batch=batch: model(**batch))
        model.set_attn_implementation("sdpa")
        results[source.name] = {
            "scores": scores,
            "parameters": count_parameters(model),
            "window_gflop": gflop,
            "training_seconds": seconds / len(sources),
            "test_seconds": tested,
        }
    return results


# Networks and forests for one source: dates and bands are channels


class Stack:
    """Makes images of the series of one source, all with the same channels and the same maps.

    Channels: the bands of the first date, of the second... as many dates and bands as any sample has; what a sample
    lacks is 0, the mean. Maps: those of each task in turn, as many as any sample asks for.

    Args:
        source: the source.
    """

    def __init__(self, source: Source):
        records = [record for split in source.splits for record in split.samples]
        config = STSUNConfig()
        self.processor = STSUNImageProcessor.from_config(config, band_statistics={source.name: source.statistics})
        num_bands = [[len(acquisition.bands) for acquisition in record.series.acquisitions] for record in records]
        num_dates = max(map(len, num_bands))
        widths = [max(bands[date] for bands in num_bands if len(bands) > date) for date in range(num_dates)]
        self.starts = [sum(widths[:date]) for date in range(num_dates)]
        self.num_channels = sum(widths)
        self.first_map: dict[str, int] = {}
        self.num_maps = 0
        self.num_classes = {task: len(source.train.class_names(task)) for task in source.train.tasks}
        for task in source.train.tasks:
            self.first_map[task] = self.num_maps
            self.num_maps += max(len(record.outputs) for record in records if record.task == task)

    def image(self, sample: Sample) -> np.ndarray:
        """(channels, height, width), normalised."""
        image = np.zeros((self.num_channels, *sample.series.size), dtype=np.float32)
        arrays = self.processor.normalize_series(sample.series, sample.source)
        for start, array in zip(self.starts, arrays, strict=False):
            image[start : start + len(array)] = array
        return image

    def maps(self, sample: Sample) -> slice:
        """Those of the network's maps that answer a sample."""
        first = self.first_map[sample.task]
        return slice(first, first + len(sample.outputs))

    def collate(self, samples: Sequence[Sample]) -> dict[str, torch.Tensor]:
        """A batch: images, labels of all maps (255 = not asked for), and which classes each sample's task has."""
        size = np.max([sample.series.size for sample in samples], axis=0)
        most = max(self.num_classes.values())
        images = torch.zeros(len(samples), self.num_channels, *size)
        labels = torch.full((len(samples), self.num_maps, *size), IGNORE_INDEX)
        mask = torch.zeros(len(samples), most, dtype=torch.bool)
        for index, sample in enumerate(samples):
            height, width = sample.series.size
            images[index, :, :height, :width] = torch.from_numpy(self.image(sample))
            labels[index, self.maps(sample), :height, :width] = torch.from_numpy(sample.labels.astype(np.int64))
            mask[index, : self.num_classes[sample.task]] = True
        return {"images": images, "labels": labels, "mask": mask}


class StackedNetwork(nn.Module):
    """A network for images, applied to stacked series: (B, channels, H, W) -> logits (B, maps, classes, H, W)."""

    def __init__(self, method: str, stack: Stack):
        super().__init__()
        self.num_maps = stack.num_maps
        num_outputs = stack.num_maps * max(stack.num_classes.values())
        if method == "unet":
            from monai.networks.nets import UNet

            self.network = UNet(
                spatial_dims=2,
                in_channels=stack.num_channels,
                out_channels=num_outputs,
                channels=(16, 32, 64, 128, 256),
                strides=(2, 2, 2, 2),
                num_res_units=2,
            )
        else:
            from transformers import SegformerConfig, SegformerForSemanticSegmentation

            # The defaults are those of b0.
            self.network = SegformerForSemanticSegmentation(
                SegformerConfig(num_channels=stack.num_channels, num_labels=num_outputs)
            )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Fills up to a multiple of the stride, and cuts back."""
        height, width = images.shape[-2:]
        outputs = self.network(F.pad(images, (0, -width % STRIDE, 0, -height % STRIDE)))
        if not isinstance(outputs, torch.Tensor):
            outputs = F.interpolate(outputs.logits, scale_factor=4, mode="bilinear")
        return outputs[..., :height, :width].unflatten(1, (self.num_maps, -1))


def run_network(source: Source, method: str, arguments: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Trains a network on one source, and scores it."""
    stack = Stack(source)
    network = StackedNetwork(method, stack)
    # What of the augmentation has a meaning for stacked channels.
    data = MixtureDataset([source.train], [Augmentation(gain=arguments.gain)])
    seconds = optimise(
        network,
        lambda batch: dense_prediction_loss(network(batch["images"]), batch["labels"], batch["mask"]),
        data,
        stack.collate,
        arguments.steps,
        arguments.batch_size,
        arguments.learning_rate or LEARNING_RATES[method],
        seed,
    )

    @torch.inference_mode()
    def predict(sample: Sample) -> np.ndarray:
        logits = network(torch.from_numpy(stack.image(sample))[None])[0, stack.maps(sample)]
        return logits[:, : stack.num_classes[sample.task]].argmax(1).numpy()

    images = stack.collate([source.train[0]])["images"]
    return {
        "scores": score(source, predict),
        "parameters": count_parameters(network),
        "window_gflop": count_gflop(lambda: network(images)),
        "training_seconds": seconds,
    }


def run_forest(source: Source, arguments: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Trains a random forest for each map of each task on labelled pixels, and scores them."""
    from sklearn.ensemble import RandomForestClassifier

    stack, rng = Stack(source), np.random.default_rng(seed)
    values: dict[int, list[np.ndarray]] = {}
    for number, record in enumerate(source.train.samples):
        sample = source.train.read(number, (0, 0, record.height, record.width))
        pixels = stack.image(sample).reshape(stack.num_channels, -1).T
        maps = stack.maps(sample)
        for position, labels in zip(range(maps.start, maps.stop), sample.labels, strict=True):
            labelled = np.flatnonzero(labels.ravel() != IGNORE_INDEX)
            labelled = rng.permutation(labelled)[:FOREST_PIXELS]
            values.setdefault(position, []).append(np.column_stack([pixels[labelled], labels.ravel()[labelled]]))
    forests = {}
    started = time.perf_counter()
    for position, parts in values.items():
        table = rng.permutation(np.concatenate(parts))[:FOREST_PIXELS]
        forests[position] = RandomForestClassifier(100, min_samples_leaf=2, random_state=seed).fit(
            table[:, :-1], table[:, -1].astype(int)
        )
    seconds = time.perf_counter() - started

    def predict(sample: Sample) -> np.ndarray:
        pixels = stack.image(sample).reshape(stack.num_channels, -1).T
        maps = stack.maps(sample)
        predicted = []
        for position in range(maps.start, maps.stop):
            # A series longer than any in training takes the forest of the last map that was trained.
            trained = max(other for other in forests if maps.start <= other <= position)
            predicted.append(forests[trained].predict(pixels).reshape(sample.series.size))
        return np.stack(predicted)

    return {"scores": score(source, predict), "training_seconds": seconds}


def run_zero_shot(source: Source, arguments: argparse.Namespace) -> dict[str, Any]:
    """Scores a checkpoint that has seen nothing of the source but mean and spread of its bands.

    Asked for are the classes of the source that the checkpoint knows and, if there are others, all that it knows
    besides, which then stand for the first of those others (such as `land`, where `water` is known).
    """
    model, processor = load_checkpoint(arguments.checkpoint or default_checkpoint())
    processor.band_statistics = {source.name: source.statistics}
    known = [name for name in model.config.id2label.values() if name not in CHANGE_CLASSES]

    def predict(sample: Sample) -> np.ndarray:
        asked, values = list(CHANGE_CLASSES), [0, 1]
        if sample.task != "binary_change_detection":
            names = [SYNONYMS.get(name, name) for name in sample.classes]
            others = [position for position, name in enumerate(names) if name not in known]
            asked = known if others else [name for name in known if name in names]
            values = [names.index(name) if name in names else others[0] for name in asked]
        # Bands of kinds that its training world hardly has would only disturb it.
        reflective = {
            date: [index for index, band in enumerate(acquisition.bands) if band.kind == "reflective"]
            for date, acquisition in enumerate(sample.series.acquisitions)
        }
        series = sample.series
        if all(reflective.values()):
            series = series.select(range(len(reflective)), reflective)
        request = series, sample.task, asked, sample.outputs
        maps = predict_scene(model, processor, *request, statistics=source.name, progress=False)
        return np.append(values, [IGNORE_INDEX] * (256 - len(values)))[maps]

    names = {SYNONYMS.get(name, name) for task in source.train.tasks for name in source.train.class_names(task)}
    scores = score(source, predict) if names & {*known, *CHANGE_CLASSES} else {}
    return {"scores": scores, "parameters": count_parameters(model), "training_seconds": 0.0}


def score(source: Source, predict: Callable[[Sample], np.ndarray]) -> dict[str, dict[str, float]]:
    """Scores of each task, counted as those of STSUN are."""
    if source.scored is None:
        return {}
    counted = {task: TaskScores(task, source.scored.class_names(task)) for task in source.scored.tasks}
    for sample in (source.scored[index] for index in range(len(source.scored))):
        maps = predict(sample).astype(np.uint8)
        # No data in, nothing out; changes need both dates.
        valid = np.stack(sample.series.valid)
        for map_, output in zip(maps, sample.outputs, strict=True):
            seen = valid[list(output)].all(0) if sample.task == "binary_change_detection" else valid.any(0)
            map_[~seen] = IGNORE_INDEX
        counted[sample.task].update(maps, sample.labels)
    return {task: scores.compute() for task, scores in counted.items()}


def count_parameters(network: nn.Module) -> int:
    """Trained numbers."""
    return sum(parameter.numel() for parameter in network.parameters())


@torch.no_grad()
def count_gflop(run: Callable[[], Any]) -> float:
    """1e9 floating point operations of the matrix products and convolutions of a run."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / 1e9


# The benchmark


def result_path(arguments: argparse.Namespace, method: str, source: str, seed: int) -> Path:
    """Where the result of a method, source and seed is kept."""
    return arguments.output_dir / arguments.split / method / f"{source}.{seed}.json"


def run_method(arguments: argparse.Namespace, method: str, seed: int) -> None:
    """All results of a method and seed that are not there yet."""

    def keep(source: str, result: dict[str, Any]) -> None:
        path = result_path(arguments, method, source, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(json_ready(result | {"run": machine})))

    machine = describe_machine("cpu", f"device cpu, float32, batch {arguments.batch_size}")

    folders = source_folders(arguments)
    names = {folder: DatasetDescription.read(folder / "dataset.json").name for folder in folders}
    missing = [folder for folder in folders if not result_path(arguments, method, names[folder], seed).exists()]
    if method in ONE_STSUN:
        if missing:
            torch.manual_seed(seed)
            sources = [open_source(folder, method, arguments, seed) for folder in folders]
            for name, result in run_stsun(sources, method, arguments, seed).items():
                keep(name, result)
        return
    for folder in missing:
        torch.manual_seed(seed)
        source = open_source(folder, method, arguments, seed)
        if method in STSUNS:
            keep(source.name, run_stsun([source], method, arguments, seed)[source.name])
        elif method == "zero_shot":
            keep(source.name, run_zero_shot(source, arguments))
        elif method == "forest":
            keep(source.name, run_forest(source, arguments, seed))
        else:
            keep(source.name, run_network(source, method, arguments, seed))


def check_settings(arguments: argparse.Namespace) -> None:
    """Ends the program where results of other settings are in the folder, which one table must not mix."""
    free = ("corpus", "output_dir", "methods", "seeds", "split", "jobs", "one")
    settings = {name: value for name, value in vars(arguments).items() if name not in free}
    path = arguments.output_dir / arguments.split / "settings.json"
    before = json.loads(path.read_text()) if path.exists() else settings
    changed = [
        f"{name}: {before.get(name)} -> {value}" for name, value in settings.items() if before.get(name) != value
    ]
    if changed:
        sys.exit(
            f"{path.parent} holds results of other settings ({'; '.join(changed)}). Give the same ones, or another "
            "--output_dir."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(settings, indent=2))


def source_folders(arguments: argparse.Namespace) -> list[Path]:
    """The sources asked for."""
    there = sorted(path.parent for path in arguments.corpus.glob("*/dataset.json"))
    folders = [folder for folder in there if not arguments.sources or folder.name in arguments.sources]
    if not folders or len(folders) < len(arguments.sources or ()):
        sys.exit(
            f"--sources {arguments.sources or 'all'}: {arguments.corpus} holds "
            f"{', '.join(folder.name for folder in there) or 'no folder with a dataset.json'}."
        )
    return folders


def main_score(result: dict[str, Any]) -> float:
    """Mean IoU, averaged over the tasks of the source."""
    values = [scores["mean_iou"] for scores in result["scores"].values() if scores["mean_iou"] is not None]
    return sum(values) / len(values) if values else math.nan


def mean_and_spread(values: Sequence[float]) -> str:
    """Mean +- standard deviation."""
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.3f}{spread}"


def ranks(scores: dict[str, float]) -> dict[str, float]:
    """1 for the highest score; those that tie share their ranks."""
    return {
        method: 1 + sum(other > value for other in scores.values()) + (list(scores.values()).count(value) - 1) / 2
        for method, value in scores.items()
    }


def report(arguments: argparse.Namespace) -> str:
    """Writes the tables of all results that are there, with the machines, versions and commits that they come from."""
    results: dict[str, dict[str, dict[int, dict[str, Any]]]] = {}
    for method in arguments.methods:
        for path in sorted((arguments.output_dir / arguments.split / method).glob("*.json")):
            source, seed, _ = path.name.rsplit(".", 2)
            results.setdefault(method, {}).setdefault(source, {})[int(seed)] = json.loads(path.read_text())
    sources = sorted({source for by_source in results.values() for source in by_source})
    rows = [
        {
            "method": method,
            "source": source,
            "seed": seed,
            "split": arguments.split,
            "task": task,
            **{name: value for name, value in result.items() if name != "scores"},
            **{name: value for name, value in scores.items() if not name.startswith("iou_")},
        }
        for method, by_source in results.items()
        for source, by_seed in by_source.items()
        for seed, result in sorted(by_seed.items())
        for task, scores in result["scores"].items()
    ]
    with (arguments.output_dir / f"corpus_{arguments.split}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)

    runs: dict[str, list[str]] = {}
    for row in rows:
        methods = runs.setdefault(row["run"], [])
        methods.extend([] if row["method"] in methods else [row["method"]])
    # Only what all methods have been scored on can be compared.
    shared = [s for s in sources if all(s in results[m] and not math.isnan(mean_of(results[m][s])) for m in results)]
    ranked = {s: ranks({m: mean_of(results[m][s]) for m in results if m in APPROACHES[:4]}) for s in shared}
    lines = [
        f"# Corpus: {arguments.split} split\n",
        *(f"{', '.join(methods)}: {run}\n" for run, methods in runs.items()),
        f"{arguments.steps} steps of {arguments.batch_size} windows a source, {arguments.preset} preset; mean IoU, "
        "averaged over the tasks of a source; mean ± standard deviation over seeds.\n",
        "| method | mean score | mean rank | models | M parameters in all | GFLOP a window | training s | seeds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for method, by_source in results.items():
        seeds = sorted(set.intersection(*(set(by_source[source]) for source in shared))) if shared else []
        means = [statistics.fmean(main_score(by_source[s][seed]) for s in shared) for seed in seeds]
        everything = [result for by_seed in by_source.values() for result in by_seed.values()]
        one_model = method in (*ONE_STSUN, "zero_shot")
        sizes = [result["parameters"] for result in everything if "parameters" in result]
        count = 1 if one_model else len(by_source)
        rank = [ranked[s][method] for s in shared] if method in APPROACHES[:4] else []
        flops = [result["window_gflop"] for result in everything if "window_gflop" in result]
        lines.append(
            f"| {method} | {mean_and_spread(means) if means else '-'} | "
            f"{f'{statistics.fmean(rank):.2f}' if rank else '-'} | {count} | "
            f"{f'{statistics.fmean(sizes) * count / 1e6:.2f}' if sizes else '-'} | "
            f"{f'{statistics.fmean(flops):.2f}' if flops else '-'} | "
            f"{sum(result['training_seconds'] for result in everything) / max(len(seeds), 1):.0f} | {len(seeds)} |"
        )
    lines += ["", "| source | " + " | ".join(results) + " |", "|---" * (len(results) + 1) + "|"]
    for source in sources:
        cells = []
        for method in results:
            scores = [main_score(result) for result in results[method].get(source, {}).values()]
            scores = [value for value in scores if not math.isnan(value)]
            cells.append(mean_and_spread(scores) if scores else "-")
        lines.append(f"| {source} | " + " | ".join(cells) + " |")
    text = "\n".join(lines) + "\n"
    write_whole(arguments.output_dir / f"corpus_{arguments.split}.md", text)
    draw({s: {m: mean_of(results[m][s]) for m in results if s in results[m]} for s in sources}).save(
        arguments.output_dir / f"corpus_{arguments.split}.png"
    )
    return text


def draw(scores: dict[str, dict[str, float]]) -> Image.Image:
    """A picture of the scores: a line a source, a mark a method."""
    methods = list(dict.fromkeys(method for by_method in scores.values() for method in by_method))
    colours = dict(zip(methods, default_colours(methods), strict=True))
    left, width, step, top = 220, 640, 26, 30 + 16 * len(methods)
    image = Image.new("RGB", (left + width + 40, top + step * (len(scores) + 1)), "white")
    pen = ImageDraw.Draw(image)
    pen.text((8, 8), "mean IoU, mean over seeds", fill="black")
    for index, method in enumerate(methods):
        pen.ellipse((8, 28 + 16 * index, 18, 38 + 16 * index), fill=colours[method])
        pen.text((26, 27 + 16 * index), method, fill="black")
    for tenth in range(0, 11, 2):
        x = left + width * tenth // 10
        pen.line((x, top, x, top + step * len(scores)), fill="lightgrey")
        pen.text((x - 8, top + step * len(scores) + 4), f"{tenth / 10:.1f}", fill="black")
    for row, (source, by_method) in enumerate(sorted(scores.items())):
        y = top + step * row + step // 2
        pen.text((8, y - 6), source, fill="black")
        pen.line((left, y, left + width, y), fill="lightgrey")
        # The first methods last, so that they lie on top.
        for method, value in reversed(by_method.items()):
            if not math.isnan(value):
                x = left + width * value
                pen.ellipse((x - 6, y - 6, x + 6, y + 6), fill=colours[method], outline="black")
    return image


def mean_of(by_seed: dict[int, dict[str, Any]]) -> float:
    """Main score, averaged over seeds."""
    return statistics.fmean(map(main_score, by_seed.values()))


def main() -> None:
    """Runs one process a method and seed, and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="folder of folders with a dataset.json")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/corpus"))
    parser.add_argument("--methods", nargs="+", default=list(APPROACHES), choices=METHODS)
    parser.add_argument("--sources", nargs="+", help="names of folders (default: all)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--split", default="test", help="split that is scored (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=200, help="optimiser steps for each source (default: %(default)s)")
    parser.add_argument("--batch_size", type=int, default=8, help="windows a step (default: %(default)s)")
    parser.add_argument("--crop_size", type=int, default=48, help="side of a window in pixels (default: %(default)s)")
    parser.add_argument(
        "--pixels", type=int, default=4608, help="pixels of a window in all dates (default: %(default)s)"
    )
    parser.add_argument("--preset", default="tiny", choices=list(PRESETS))
    parser.add_argument("--config", default="{}", help="JSON of what differs from the preset")
    parser.add_argument("--checkpoint", help="that of zero_shot and warm_start (default: the one of the package)")
    parser.add_argument(
        "--label_share", type=float, default=1.0, help="share of the training labels to keep (default: %(default)s)"
    )
    parser.add_argument("--learning_rate", type=float, help="in place of the one chosen for each method")
    parser.add_argument("--band_sampling", type=float, default=0.0, help="see finetune.py (default: %(default)s)")
    parser.add_argument("--reversal", type=float, default=0.0, help="see finetune.py (default: %(default)s)")
    parser.add_argument("--gain", type=float, default=0.0, help="see finetune.py (default: %(default)s)")
    parser.add_argument("--band_jitter", type=float, default=0.0, help="see finetune.py (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time; they share the cores")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        method, seed = arguments.one.split(",")
        run_method(arguments, method, int(seed))
        return
    source_folders(arguments)
    check_settings(arguments)
    threads = max(1, (os.cpu_count() or 1) // arguments.jobs)
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    jobs = [(method, seed) for seed in arguments.seeds for method in arguments.methods]

    def run(job: tuple[str, int]) -> int:
        command = [sys.executable, *sys.argv, "--one", f"{job[0]},{job[1]}"]
        return subprocess.run(command, env=environment).returncode

    with ThreadPoolExecutor(arguments.jobs) as pool:
        states = list(tqdm(pool.map(run, jobs), total=len(jobs), desc="methods and seeds", unit="run"))
    failed = [f"{method} (seed {seed})" for (method, seed), state in zip(jobs, states, strict=True) if state]
    print(report(arguments))
    if failed:
        sys.exit(f"Failed: {', '.join(failed)}; their messages are above. Run the same command again to go on.")


if __name__ == "__main__":
    main()
