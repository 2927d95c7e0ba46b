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
"""The data of a run: its sources, opened and checked, and the batches drawn from them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..data.augmentation import Augmentation
from ..data.datasets import FolderDataset, Sample
from ..data.description import DatasetDescription
from ..data.sampling import MixtureBatchSampler, MixtureDataset
from ..data.statistics import band_statistics, readings
from ..synthetic.dataset import SyntheticDataset
from .arguments import FinetuneArguments, TrainingError

# Windows that one sample can be cut into; the draws pick among them.
WINDOWS = 2**20


class LabelledSource(Protocol):
    """A data set that a run can train on, or be scored on: a folder, or the synthetic world."""

    name: str
    tasks: tuple[str, ...]

    def __len__(self) -> int:
        """Number of samples."""

    def __getitem__(self, index: int) -> Sample:
        """A labelled sample."""

    def class_names(self, task: str) -> tuple[str, ...]:
        """Names of the classes of a task."""


@dataclass
class Sources:
    """The data of a run, split by split, in the order of the settings.

    Args:
        train: random windows of each source.
        val: whole samples of each source that has a validation split.
        test: the same of the test split.
        statistics: band statistics of the training split of each folder, by name.
        notes: what takes no part, and why.
        readings: what is needed to read the files of each folder again, by name: of each band set the bands, and what
            `dataset.json` states that the files do not.
    """

    train: list[LabelledSource]
    val: list[LabelledSource]
    test: list[LabelledSource]
    statistics: dict[str, dict[str, Any]]
    notes: list[str]
    readings: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

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
        train = FolderDataset(
            name,
            "train",
            crop_size=arguments.crop_size,
            crops_per_image=WINDOWS,
            seed=arguments.seed,
            labelled_only=True,
        )
        sources.train.append(train)
        sources.statistics[train.name] = band_statistics(train)
        sources.readings[train.name] = readings(train)
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
