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
"""What training scripts share: settings, sources, models, evaluation, and a folder that is complete for the Hub.

`examples/finetune.py` (Accelerate) and `examples/finetune_trainer.py` (the Trainer of transformers) are thin around it.
"""

import copy
import json
import math
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from accelerate.tracking import GeneralTracker, get_available_trackers, on_main_process
from torch.utils.data import Dataset
from transformers import EvalPrediction, HfArgumentParser

from modeling_stsun import STSUNConfig, STSUNForDensePrediction, STSUNModel
from modeling_stsun.configuration_stsun import PRESETS

from ..data.augmentation import Augmentation
from ..data.datasets import FolderDataset, band_statistics
from ..data.description import DatasetDescription
from ..data.sampling import MixtureBatchSampler, MixtureDataset
from ..image_processing_stsun import BY_KIND, STSUNImageProcessor
from ..metadata import CHANGE_CLASSES, IGNORE_INDEX
from ..metrics import (
    ConfusionMatrix,
    change_scores,
    changes_only,
    json_ready,
    segmentation_scores,
    semantic_change_scores,
)
from ..scenes.predictor import load_checkpoint, predict_scene
from ..synthetic.scene import SyntheticDataset

# Windows that one sample can be cut into; the draws pick among them.
WINDOWS = 2**20
# Draws of the synthetic world that stand for its class frequencies.
_NUM_COUNTED = 64
# A class weight beyond this factor would let a handful of pixels rule the loss.
MAX_CLASS_WEIGHT = 10.0
# Layers that LoRA adapts: attention and MLP of the encoder and the decoder.
LORA_TARGETS = r".*(encoder_layers|decoder_layers)\..*\.(q_proj|k_proj|v_proj|o_proj|fc1|fc2)"

Scores = dict[str, dict[str, dict[str, float]]]  # source -> task -> name of the score -> value


class TrainingError(ValueError):
    """Settings or data that a run cannot start with. The message says what is allowed and what to do."""


@dataclass
class FinetuneArguments:
    """Everything that a run can be told; a YAML file given with --config holds the same names."""

    output_dir: str = field(
        default="runs/finetune", metadata={"help": "Folder of the checkpoint and of the run's state."}
    )
    data: list[str] = field(default_factory=list, metadata={"help": "Folders with a dataset.json, or `synthetic`."})
    weights: list[float] | None = field(default=None, metadata={"help": "Share of the steps of each source."})
    renew_shares: int = field(
        default=0,
        metadata={
            "help": "Every so many steps sources get windows as the square root of their losses so far asks for, so "
            "that one that is learned needs fewer; 0 = never. All are heard as their weights say."
        },
    )
    mixed_batches: bool = field(
        default=False, metadata={"help": "Draw a source for each sample of a batch rather than one for all of them."}
    )
    model: str = field(
        default="tiny", metadata={"help": f"Preset ({', '.join(PRESETS)}), or folder or Hub id of a checkpoint."}
    )
    # On a tenth of the labels, with classes of other names than the checkpoint's: mIoU 0.51 instead of 0.41 (tiny).
    new_output_module: bool = field(
        default=False,
        metadata={
            "help": "Take all of the checkpoint but its output module and its classes: better where it hardly knows "
            "the classes of the sources."
        },
    )
    lora_rank: int = field(
        default=0, metadata={"help": "Rank of LoRA on attention and MLPs (needs peft); 0 = train all weights."}
    )
    steps: int = field(default=2000, metadata={"help": "Optimiser steps."})
    batch_size: int = field(default=4, metadata={"help": "Samples a process and step."})
    gradient_accumulation_steps: int = field(default=1, metadata={"help": "Batches an optimiser step."})
    # For the tiny preset: on the real corpus 5e-3 to 1e-2 were best, from fresh weights and from a checkpoint.
    learning_rate: float = field(
        default=5e-3,
        metadata={
            "help": "Highest learning rate (Muon for matrices, AdamW for the rest; cosine); large presets need less."
        },
    )
    weight_decay: float = field(default=0.05, metadata={"help": "Weight decay of matrices and convolutions."})
    warmup_steps: int = field(default=100, metadata={"help": "Steps until the highest learning rate."})
    max_grad_norm: float = field(default=1.0, metadata={"help": "Gradients are clipped to this norm."})
    ema_decay: float = field(
        default=0.0,
        metadata={"help": "Decay of the moving average of the weights that is evaluated and saved; 0 = none."},
    )
    class_weights: str = field(
        default="none", metadata={"help": "none (those of the checkpoint), or balanced: rare classes count more."}
    )
    mixed_precision: str | None = field(
        default=None, metadata={"help": "no, bf16 or fp16 (default: as accelerate is configured)."}
    )
    crop_size: int = field(default=64, metadata={"help": "Side of the training windows in pixels."})
    max_dates: int | None = field(default=None, metadata={"help": "Most dates a training sample keeps."})
    date_sampling: float = field(default=0.5, metadata={"help": "Probability of training on a subset of the dates."})
    reversal: float = field(default=0.0, metadata={"help": "Probability of drawing the direction of binary change."})
    # At 0.5 mIoU of 200-band Indian Pines fell from 0.60 to 0.47 (tiny, 150 steps, validation split).
    band_sampling: float = field(
        default=0.0,
        metadata={
            "help": "Probability of training on a subset of the bands, for images that lack some; what all bands show "
            "together is learned more slowly."
        },
    )
    min_bands: int = field(default=3, metadata={"help": "Fewest bands that a subset keeps."})
    band_jitter: float = field(default=0.0, metadata={"help": "Probability of shifted wavelengths and widths."})
    gain: float = field(default=0.0, metadata={"help": "Probability of a brightness of its own for each date."})
    metadata_dropout: float = field(default=0.05, metadata={"help": "Probability that a piece of metadata is hidden."})
    eval_every: int = field(default=500, metadata={"help": "Steps between evaluations on the validation splits."})
    patience: int = field(
        default=0, metadata={"help": "Stop after so many evaluations without a better score; 0 = never."}
    )
    save_every: int = field(default=500, metadata={"help": "Steps between saved states of the run."})
    report_to: list[str] = field(
        default_factory=list, metadata={"help": "Trackers beside log.jsonl, such as tensorboard or wandb."}
    )
    num_workers: int = field(default=1, metadata={"help": "Processes that read data."})
    seed: int = field(default=0, metadata={"help": "Fixes initialisation, data order and augmentation."})
    resume: bool = field(default=False, metadata={"help": "Continue the run in output_dir from its last saved state."})

    def __post_init__(self) -> None:
        for setting in fields(self):
            value = getattr(self, setting.name)
            default = setting.default if setting.default_factory is MISSING else setting.default_factory()
            if isinstance(default, (bool, int, list)) and type(value) is not type(default):
                raise TrainingError(f"{setting.name} must be of type {type(default).__name__}, got {value!r}.")
        if not self.data:
            raise TrainingError(
                "No data: name at least one source with --data (a folder with a dataset.json, or `synthetic`)."
            )
        least = {"steps": 1, "batch_size": 1, "gradient_accumulation_steps": 1, "crop_size": 1, "eval_every": 1}
        for name, minimum in (
            least | {"save_every": 1, "lora_rank": 0, "patience": 0, "num_workers": 0, "renew_shares": 0}
        ).items():
            if getattr(self, name) < minimum:
                raise TrainingError(f"{name} must be {minimum} or more, got {getattr(self, name)}.")
        if self.renew_shares and self.mixed_batches:
            raise TrainingError(
                "renew_shares needs to know the loss of each source, which mixed_batches mixes. Leave one of them out."
            )
        if self.mixed_precision is False:
            self.mixed_precision = "no"  # What YAML makes of a bare `no`.
        if self.mixed_precision not in (None, "no", "bf16", "fp16"):
            raise TrainingError(f"mixed_precision is {self.mixed_precision!r}; it must be no, bf16 or fp16.")
        if not 0 <= self.ema_decay < 1:
            raise TrainingError(f"ema_decay must be at least 0 and less than 1, got {self.ema_decay}.")
        if self.class_weights not in ("none", "balanced"):
            raise TrainingError(f"class_weights is {self.class_weights!r}; it must be none or balanced.")
        if self.new_output_module and self.model in PRESETS:
            raise TrainingError(
                f"new_output_module needs a checkpoint in model, got the preset {self.model!r}, all of which is new."
            )
        available = sorted(tracker.value for tracker in get_available_trackers())
        if missing := sorted(set(self.report_to) - set(available)):
            raise TrainingError(
                f"report_to names {', '.join(missing)}, which Accelerate does not know or cannot import; what it can: "
                f"{', '.join(available) or 'none'}. Install the package; log.jsonl is written in any case."
            )
        if self.weights is not None and len(self.weights) != len(self.data):
            raise TrainingError(f"weights holds {len(self.weights)} numbers for {len(self.data)} sources in data.")


def parse_arguments(description: str) -> FinetuneArguments:
    """Command line over YAML file (`--config`) over defaults; ends the program where they cannot be meant."""
    parser = HfArgumentParser(FinetuneArguments, description=description)
    parser.add_argument("--config", help="YAML file with any of these settings.")
    config = parser.parse_known_args()[0].config
    known = [setting.name for setting in fields(FinetuneArguments)]
    if config is not None:
        values = yaml.safe_load(Path(config).read_text()) or {}
        if unknown := sorted(set(values) - set(known)):
            sys.exit(f"{config}: unknown settings {', '.join(unknown)}; known ones are {', '.join(known)}.")
        parser.set_defaults(**values)
    namespace = vars(parser.parse_args())
    namespace.pop("config")
    try:
        return FinetuneArguments(**namespace)
    except TrainingError as error:
        sys.exit(str(error))


# Data


@dataclass
class Sources:
    """The data of a run, split by split, in the order of the settings.

    Args:
        train: random windows of each source.
        val: whole samples of each source that has a validation split.
        test: the same of the test split.
        statistics: band statistics of the training split of each folder, by name.
        notes: what takes no part, and why.
    """

    train: list[Dataset]
    val: list[Dataset]
    test: list[Dataset]
    statistics: dict[str, dict]
    notes: list[str]

    def class_names(self) -> list[str]:
        """Names of the classes of all sources and tasks, each once."""
        names = (name for source in self.train for task in source.tasks for name in source.class_names(task))
        return list(dict.fromkeys(names))


def open_sources(arguments: FinetuneArguments) -> Sources:
    """Opens and checks all splits of all sources before anything is trained.

    Raises:
        DatasetError: a source is wrong, or has nothing to train on; the message names source, split, sample or file.
        TrainingError: two sources of one name, or settings that need a validation split where there is none.
    """
    sources = Sources([], [], [], {}, [])
    for name in arguments.data:
        if name == "synthetic":
            for split, datasets in (("train", sources.train), ("val", sources.val), ("test", sources.test)):
                datasets.append(_synthetic(split, arguments))
            continue
        windows = {"crop_size": arguments.crop_size, "crops_per_image": WINDOWS, "labelled_only": True}
        train = FolderDataset(name, "train", **windows, seed=arguments.seed)
        sources.train.append(train)
        sources.statistics[train.name] = band_statistics(train)
        if train.unlabelled:
            listed = ", ".join(dict.fromkeys(train.unlabelled))
            sources.notes.append(f"{train.name}: nothing is labelled in {listed}; they take no part in training.")
        splits = DatasetDescription.read(Path(name) / "dataset.json").splits
        for split, datasets in (("val", sources.val), ("test", sources.test)):
            if splits.get(split):
                datasets.append(FolderDataset(name, split))
            else:
                state = "is empty" if split in splits else "does not exist"
                sources.notes.append(f"{train.name}: split {split!r} {state}; the source takes no part in that score.")
    names = [source.name for source in sources.train]
    if len(set(names)) != len(names):
        raise TrainingError(f"The sources are named {', '.join(names)}; give each a name of its own in dataset.json.")
    known = sources.class_names()
    for split, datasets in (("val", sources.val), ("test", sources.test)):
        for dataset in datasets:
            for task in dataset.tasks:
                if new := [name for name in dataset.class_names(task) if name not in known]:
                    raise TrainingError(
                        f"{dataset.name}: split {split!r} asks for {', '.join(new)} ({task}), which no training sample "
                        "is labelled with. Add such samples to the split 'train', or take them out of this one."
                    )
    if arguments.patience and not sources.val:
        raise TrainingError("patience needs a validation split, and no source has one. Add one, or set patience to 0.")
    return sources


def _synthetic(split: str, arguments: FinetuneArguments) -> SyntheticDataset:
    training = split == "train"
    return SyntheticDataset(
        length=WINDOWS if training else 24,
        sizes=(max(arguments.crop_size // 2, 1), arguments.crop_size) if training else (96, 128),
        random_bands=0.5 if training else 0.0,
        seed=arguments.seed + (0 if training else {"val": 1_000_001, "test": 1_000_002}[split]),
    )


def build_mixture(arguments: FinetuneArguments, sources: Sources) -> MixtureDataset:
    """The training data with their augmentation, addressed by draws."""
    augmentation = Augmentation(
        dates=arguments.date_sampling,
        max_dates=arguments.max_dates,
        reversal=arguments.reversal,
        bands=arguments.band_sampling,
        min_bands=arguments.min_bands,
        gain=arguments.gain,
        jitter=arguments.band_jitter,
        metadata=arguments.metadata_dropout,
    )
    return MixtureDataset(sources.train, [augmentation] * len(sources.train))


def build_sampler(
    arguments: FinetuneArguments, mixture: MixtureDataset, start: int = 0, rank: int = 0, num_processes: int = 1
) -> MixtureBatchSampler:
    """The batches of a run, from optimiser step `start` on."""
    accumulation = arguments.gradient_accumulation_steps
    return MixtureBatchSampler(
        mixture,
        arguments.batch_size,
        arguments.steps * accumulation,
        arguments.weights,
        arguments.seed,
        start=start * accumulation,
        rank=rank,
        num_processes=num_processes,
        grouped=not arguments.mixed_batches,
    )


# Model


def build_model(arguments: FinetuneArguments, sources: Sources) -> tuple[STSUNForDensePrediction, STSUNImageProcessor]:
    """A preset with the classes of the sources, or a checkpoint that learns those of them that it does not know, or a
    checkpoint's weights with a new output module for them."""
    classes = sources.class_names()
    if arguments.model in PRESETS:
        id2label = dict(enumerate(classes))
        config = STSUNConfig(
            **PRESETS[arguments.model], id2label=id2label, label2id={name: i for i, name in id2label.items()}
        )
        model = STSUNForDensePrediction(config)
        processor = STSUNImageProcessor.from_config(config, band_statistics=sources.statistics)
    else:
        try:
            model, processor = load_checkpoint(arguments.model)
        except (OSError, ValueError) as error:
            raise TrainingError(f"model: {error}") from error
        model = model.float()
        if arguments.new_output_module:
            model = with_new_output_module(model.stsun, classes)
            processor.categories = classes
        else:
            new = [name for name in classes if name not in processor.categories]
            model.add_categories(new)
            processor.add_categories(new)
        processor.band_statistics = processor.band_statistics | sources.statistics
    if arguments.class_weights == "balanced":
        weights = balanced_class_weights(sources)
        model.config.class_weights = [weights.get(name, 1.0) for name in processor.categories]
    return model, processor


def with_new_output_module(base: STSUNModel, classes: Sequence[str]) -> STSUNForDensePrediction:
    """A model with the weights of another up to its feature maps, and an output module of its own for some classes."""
    config = copy.deepcopy(base.config)
    config.class_weights = None
    config.id2label = dict(enumerate(classes))
    config.label2id = {name: index for index, name in config.id2label.items()}
    model = STSUNForDensePrediction(config)
    model.stsun.load_state_dict(base.state_dict())
    return model


def balanced_class_weights(sources: Sources) -> dict[str, float]:
    """Weights by class name that make up for rare classes: median frequency balancing.

    The frequency of a class is its share of the labelled pixels of a source and task, averaged over those that have it;
    its weight is the median of all frequencies over its own, kept within a factor of `MAX_CLASS_WEIGHT` of 1.

    Source: Eigen and Fergus, Predicting depth, surface normals and semantic labels, 2015, arXiv:1411.4734.
    """
    shares: dict[str, list[float]] = {}
    for source in sources.train:
        for task in source.tasks:
            if isinstance(source, FolderDataset):
                counts = source.count_classes(task)
            else:
                drawn = [source[index] for index in range(_NUM_COUNTED)]
                counts = sum(np.bincount(s.labels.ravel(), minlength=256) for s in drawn if s.task == task)
                counts = counts[: len(source.class_names(task))] if np.ndim(counts) else np.zeros(0)
            for name, count in zip(source.class_names(task), counts, strict=False):
                if count:
                    shares.setdefault(name, []).append(count / counts.sum())
    frequencies = {name: float(np.mean(values)) for name, values in shares.items()}
    median = float(np.median(list(frequencies.values())))
    return {
        name: float(np.clip(median / frequency, 1 / MAX_CLASS_WEIGHT, MAX_CLASS_WEIGHT))
        for name, frequency in frequencies.items()
    }


def add_lora(model: STSUNForDensePrediction, rank: int) -> torch.nn.Module:
    """Freezes a model but for low-rank updates of attention and MLPs, and the output module, where classes live.

    Source: Hu et al., LoRA: low-rank adaptation of large language models, 2021, arXiv:2106.09685.

    Raises:
        TrainingError: peft is not installed.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise TrainingError("lora_rank needs peft: pip install 'stsun[peft]', or set lora_rank to 0.") from error
    # New classes start from random embeddings: the module that makes maps of them must be able to move as a whole.
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=LORA_TARGETS, modules_to_save=["output_module"])
    return get_peft_model(model, config)


def plain_model(model: torch.nn.Module) -> STSUNForDensePrediction:
    """The model alone: as it is, or a copy into which its LoRA updates are merged."""
    return copy.deepcopy(model).merge_and_unload() if hasattr(model, "merge_and_unload") else model


# Evaluation


class TaskScores:
    """Counts the maps of one task of one source, and scores them.

    Args:
        task: name of the task.
        classes: names of the classes.
    """

    def __init__(self, task: str, classes: Sequence[str]) -> None:
        self.task, self.classes = task, tuple(classes)
        self.maps = ConfusionMatrix(len(classes))
        # In the encoding of semantic change sets; a set that has a class for no change is in it already.
        self.no_change = self.classes.index(CHANGE_CLASSES[0]) if CHANGE_CLASSES[0] in self.classes else None
        self.pairs = ConfusionMatrix(len(classes) + 1)

    def update(self, maps: np.ndarray, labels: np.ndarray) -> None:
        """Counts (maps, height, width) predicted positions, 255 = no data, and labels, 255 = not labelled."""
        # What was labelled where no date holds data cannot be predicted, and does not count.
        labels = np.where(maps == IGNORE_INDEX, IGNORE_INDEX, labels)
        self.maps.update(maps, labels)
        if self.task == "semantic_change_detection" and self.no_change is None and len(maps) > 1:
            valid = labels != IGNORE_INDEX
            self.pairs.update(changes_only(maps, valid), changes_only(labels, valid))

    def sum_over_processes(self, device: torch.device | None = None) -> "TaskScores":
        """Adds up what all processes counted; all must call it."""
        self.maps.sum_over_processes(device)
        self.pairs.sum_over_processes(device)
        return self

    def compute(self) -> dict[str, float]:
        """Scores of the classes, and of the change that the task is about."""
        scores = segmentation_scores(self.maps, self.classes)
        if self.task == "binary_change_detection":
            scores |= change_scores(self.maps)
        elif self.task == "semantic_change_detection":
            matrix, no_change = (self.pairs, 0) if self.no_change is None else (self.maps, self.no_change)
            change = semantic_change_scores(matrix, no_change)
            scores |= {"sek": change["sek"], "fscd": change["fscd"], "change_mean_iou": change["mean_iou"]}
        return scores


@torch.no_grad()
def evaluate_sources(
    model: STSUNForDensePrediction,
    processor: STSUNImageProcessor,
    sources: Sequence[Dataset],
    process_index: int = 0,
    num_processes: int = 1,
    device: torch.device | None = None,
) -> Scores:
    """Scores by source and task, on whole samples, predicted as `stsun predict` does.

    Args:
        model: on its device.
        processor: of the same checkpoint.
        sources: data sets of [`Sample`]s with labels.
        process_index: which process this is; processes share the samples, and all get the scores of all.
        num_processes: how many there are.
        device: where processes exchange counts.
    """
    scores: Scores = {}
    for source in sources:
        counted = {task: TaskScores(task, source.class_names(task)) for task in source.tasks}
        for index in range(process_index, len(source), num_processes):
            sample = source[index]
            statistics = sample.source if sample.source in processor.band_statistics else BY_KIND
            request = (sample.task, sample.classes, sample.outputs)
            maps = predict_scene(
                *(model, processor, sample.series, *request),
                statistics=statistics,
                # Values of a source are in the unit of its own statistics, however far from those of training.
                check_range=statistics == BY_KIND,
                progress=False,
            )
            counted[sample.task].update(np.asarray(maps), sample.labels)
        scores[source.name] = {
            task: task_scores.sum_over_processes(device).compute() for task, task_scores in counted.items()
        }
    return scores


class BatchScores:
    """Scores of class maps that come batch by batch: `compute_metrics` of a `Trainer` with `batch_eval_metrics`.

    Only a confusion matrix is kept. Classes are counted by position, for whichever set is being evaluated; means leave
    out those that appear in neither map.

    Args:
        num_classes: most classes that a source has.
    """

    def __init__(self, num_classes: int) -> None:
        self.matrix = ConfusionMatrix(num_classes)

    def __call__(self, batch: EvalPrediction, compute_result: bool) -> dict[str, float]:
        """Counts a batch of maps and labels (negative or 255 = not labelled); scores all since the last result."""
        labels = batch.label_ids
        self.matrix.update(batch.predictions, torch.where(labels < 0, IGNORE_INDEX, labels))
        if not compute_result:
            return {}
        scores, self.matrix = segmentation_scores(self.matrix), ConfusionMatrix(self.matrix.num_classes)
        return scores


def mean_score(scores: Scores) -> float:
    """Mean IoU averaged over sources and tasks, those that could not be scored left out; NaN if none could."""
    values = [task["mean_iou"] for source in scores.values() for task in source.values()]
    values = [value for value in values if not math.isnan(value)]
    return sum(values) / len(values) if values else math.nan


def summary(scores: Scores) -> str:
    """One line of mean IoU by source and task."""
    return ", ".join(
        f"{source} {task} mIoU {values['mean_iou']:.3f}"
        for source, tasks in scores.items()
        for task, values in tasks.items()
    )


# What a run leaves behind


class JsonLinesTracker(GeneralTracker):
    """A tracker of Accelerate that appends one line of JSON a call to a file.

    Args:
        path: the file.
        step: of the state that a run is resumed from; what was logged after it will be logged again, and is removed.
    """

    name = "jsonl"
    requires_logging_directory = False
    main_process_only = True

    def __init__(self, path: str | Path, step: int = 0) -> None:
        super().__init__()
        self.path, self.step = Path(path), step

    @property
    def tracker(self) -> Path:
        """The file."""
        return self.path

    @on_main_process
    def store_init_configuration(self, values: dict[str, Any]) -> None:
        """Starts the file, or takes it back to the state that the run is resumed from; settings are kept elsewhere."""
        kept = [line for line in log_lines(self.path) if line["step"] <= self.step] if self.step else []
        write_whole(self.path, "".join(json.dumps(line) + "\n" for line in kept))

    @on_main_process
    def log(self, values: dict[str, Any], step: int | None = None, **kwargs: Any) -> None:
        """Appends a line."""
        with self.path.open("a") as file:
            file.write(json.dumps(json_ready({"step": step, **values})) + "\n")


def log_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The entries of a log.jsonl; a last line that was cut short is left out."""
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            return


def write_whole(path: Path, text: str) -> None:
    """Writes a text file that appears at once or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def check_same_run(arguments: FinetuneArguments, path: Path, num_processes: int) -> None:
    """Notes the settings of a run beside its states, or for `resume` compares them with those noted.

    Raises:
        TrainingError: resuming with settings under which it would not be the same run; the message names them.
    """
    free = {"output_dir", "save_every", "num_workers", "report_to", "resume"}
    settings = {name: value for name, value in asdict(arguments).items() if name not in free}
    settings["num_processes"] = num_processes
    if not arguments.resume or not path.exists():
        write_whole(path, json.dumps(settings, indent=2))
        return
    before = json.loads(path.read_text())
    changed = [f"{n}: {before.get(n)!r} -> {v!r}" for n, v in settings.items() if before.get(n) != v]
    if changed:
        raise TrainingError(
            f"resume continues the same run, but settings differ from those it started with: {'; '.join(changed)}. "
            "Give those again, or start a new run in another output_dir."
        )


def save_run(
    model: STSUNForDensePrediction,
    processor: STSUNImageProcessor,
    arguments: FinetuneArguments,
    metrics: dict[str, Scores],
    notes: Sequence[str] = (),
) -> None:
    """Writes all that the Hub needs into `output_dir`: weights, config, processor, metrics.json and a model card.

    Files are written aside and moved into place, so none is ever half there.
    """
    folder = Path(arguments.output_dir)
    partial = folder / ".saving"
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(partial)
    processor.save_pretrained(partial)
    document = json_ready({"arguments": asdict(arguments), **metrics})
    (partial / "metrics.json").write_text(json.dumps(document, indent=2, allow_nan=False))
    (partial / "README.md").write_text(model_card(model, processor, arguments, metrics, notes), encoding="utf-8")
    for path in partial.iterdir():
        if (folder / path.name).is_dir():
            shutil.rmtree(folder / path.name)
        os.replace(path, folder / path.name)
    partial.rmdir()


def model_card(
    model: STSUNForDensePrediction,
    processor: STSUNImageProcessor,
    arguments: FinetuneArguments,
    metrics: dict[str, Scores],
    notes: Sequence[str] = (),
) -> str:
    """A model card with what was measured, in the text and as the Hub's `model-index`."""
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    name = Path(arguments.output_dir).resolve().name
    results, rows = [], []
    for split, by_source in metrics.items():
        for source, tasks in by_source.items():
            for task, scores in tasks.items():
                shown = {key: value for key, value in scores.items() if not key.startswith("iou_") and value == value}
                rows.append(
                    f"| {split} | {source} | {task} | " + ", ".join(f"{k} {v:.3f}" for k, v in shown.items()) + " |"
                )
                results += [
                    EvalResult(
                        task_type="image-segmentation",
                        dataset_type=source,
                        dataset_name=source,
                        dataset_split=split,
                        task_name=task,
                        metric_type=key,
                        metric_value=round(value, 4),
                    )
                    for key, value in shown.items()
                ]
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="image-segmentation",
        tags=["remote-sensing", "earth-observation", "stsun", *processor.tasks],
        model_name=name if results else None,
        eval_results=results or None,
    )
    parameters = sum(parameter.numel() for parameter in model.parameters())
    scored = "\n".join(rows) or "| - | - | - | nothing was scored |"
    # Paths of this machine mean nothing to a reader: sources go by their names.
    trained_on = [name if name == "synthetic" else DatasetDescription.read(Path(name) / "dataset.json").name
                  for name in arguments.data]  # fmt: skip
    local = ("output_dir", "num_workers", "report_to", "resume")
    shown = {key: value for key, value in asdict(arguments).items() if key not in local} | {"data": trained_on}
    settings = "\n".join(f"{key}: {json.dumps(value)}" for key, value in shown.items())
    remarks = "".join(f"\n- {note}" for note in notes)
    return str(
        ModelCard(
            f"""---
{data.to_yaml()}
---

# {name}

STSUN ([arXiv 2505.12280](https://arxiv.org/abs/2505.12280)): dense maps from image series of any size, dates and bands.
{parameters / 1e6:.2f} million parameters, trained from `{arguments.model}` on {", ".join(trained_on)}.

```python
from modeling_stsun import STSUNForDensePrediction, STSUNImageProcessor

model = STSUNForDensePrediction.from_pretrained("{name}")
processor = STSUNImageProcessor.from_pretrained("{name}")
```

Classes: {", ".join(processor.categories)}.
Band statistics of: {", ".join(processor.band_statistics) or "no data set (normalised by kind of band)"}.

## Measured

On whole samples, predicted in overlapping tiles. `mean_iou` leaves out classes that appear in neither map.

| split | source | task | scores |
|---|---|---|---|
{scored}
{remarks}

## Settings

```yaml
{settings}
```
"""
        )
    )
