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

import sys
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path

import yaml
from accelerate.tracking import get_available_trackers
from transformers import HfArgumentParser

from modeling_stsun.configuration_stsun import PRESETS


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
