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
"""The settings of a run, from the command line and YAML files."""

import reprlib
import sys
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import yaml
from accelerate.tracking import get_available_trackers
from transformers import HfArgumentParser

from modeling_stsun.configuration_stsun import PRESETS

from ..errors import STSUNError

_ANY = sys.float_info.max
# Least and largest value of each number.
_RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("steps", "batch_size", "gradient_accumulation_steps", "crop_size", "eval_every"), (1, _ANY)),
    **dict.fromkeys(("save_every", "max_dates", "min_bands"), (1, _ANY)),
    **dict.fromkeys(("lora_rank", "patience", "num_workers", "renew_shares", "warmup_steps"), (0, _ANY)),
    **dict.fromkeys(("learning_rate", "weight_decay", "max_grad_norm"), (0, _ANY)),
    **dict.fromkeys(("date_sampling", "reversal", "band_sampling", "band_jitter", "gain", "metadata_dropout"), (0, 1)),
    # What NumPy takes.
    "seed": (0, 2**32 - 1),
}


class TrainingError(STSUNError, ValueError):
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
    revision: str | None = field(
        default=None, metadata={"help": "Branch, tag or commit of a checkpoint on the Hub (default: the newest)."}
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
        if self.mixed_precision is False:
            self.mixed_precision = "no"  # What YAML makes of a bare `no`.
        kinds = get_type_hints(FinetuneArguments)
        for setting in fields(self):
            value, kind = getattr(self, setting.name), kinds[setting.name]
            if not _fits(value, kind):
                name = kind.__name__ if isinstance(kind, type) else str(kind)
                raise TrainingError(f"{setting.name} must be of type {name}, got {reprlib.repr(value)}.")
        if not self.data:
            raise TrainingError(
                "No data: name at least one source with --data (a folder with a dataset.json, or `synthetic`)."
            )
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            # NaN is in no range.
            if value is not None and not least <= value <= most:
                allowed = f"between {least} and {most}" if most < _ANY else f"{least} or more"
                allowed = allowed if -_ANY <= value <= _ANY else f"finite, {allowed}"
                raise TrainingError(f"{name} must be {allowed}, got {reprlib.repr(value)}.")
        if self.max_grad_norm == 0:
            raise TrainingError("max_grad_norm must be above 0, got 0: every gradient would be cut to nothing.")
        if Path(self.output_dir).exists() and not Path(self.output_dir).is_dir():
            raise TrainingError(f"output_dir is {self.output_dir}, which is no folder. Name another.")
        if self.renew_shares and self.mixed_batches:
            raise TrainingError(
                "renew_shares needs to know the loss of each source, which mixed_batches mixes. Leave one of them out."
            )
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
        if self.weights is not None and not (all(0 <= w <= _ANY for w in self.weights) and sum(self.weights) > 0):
            raise TrainingError(f"weights must be finite numbers of 0 or more, not all 0, got {self.weights}.")


def parse_arguments(description: str) -> FinetuneArguments:
    """Command line over YAML file (`--config`) over defaults; ends the program where they cannot be meant."""
    parser = HfArgumentParser(FinetuneArguments, description=description)
    parser.add_argument("--config", help="YAML file with any of these settings.")
    config = parser.parse_known_args()[0].config
    known = [setting.name for setting in fields(FinetuneArguments)]
    if config is not None:
        values = _read_config(config)
        if unknown := sorted(set(map(str, values)) - set(known)):
            sys.exit(f"{config}: unknown settings {', '.join(unknown)}; known ones are {', '.join(known)}.")
        parser.set_defaults(**values)
    namespace = vars(parser.parse_args())
    namespace.pop("config")
    try:
        return FinetuneArguments(**namespace)
    except TrainingError as error:
        sys.exit(str(error))


def _read_config(path: str) -> dict[Any, Any]:
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        sys.exit(f"--config {path} cannot be read: {' '.join(str(error).split())}")
    if values is None:
        return {}
    if not isinstance(values, dict):
        sys.exit(f"--config {path} holds no settings (`name: value` on each line) but {reprlib.repr(values)}.")
    return values


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value is of the type that a setting is declared with."""
    if isinstance(kind, UnionType):
        return any(_fits(value, choice) for choice in get_args(kind))
    if get_origin(kind) is list:
        return isinstance(value, list) and all(_fits(item, get_args(kind)[0]) for item in value)
    return type(value) in ((int, float) if kind is float else (kind,))
