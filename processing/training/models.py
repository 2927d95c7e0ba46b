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
"""The model of a run and its processor, new or from a checkpoint, with the classes of the sources."""

import copy
from collections.abc import Sequence

import numpy as np
import torch

from modeling_stsun import STSUNConfig, STSUNForDensePrediction, STSUNModel
from modeling_stsun.configuration_stsun import PRESETS

from ..data.datasets import FolderDataset
from ..image_processing_stsun import STSUNImageProcessor
from ..scenes.checkpoints import load_checkpoint
from .arguments import FinetuneArguments, TrainingError
from .sources import Sources

# Draws of the synthetic world that stand for its class frequencies.
_NUM_COUNTED = 64
# A class weight beyond this factor would let a handful of pixels rule the loss.
MAX_CLASS_WEIGHT = 10.0
# Layers that LoRA adapts: attention and MLP of the encoder and the decoder.
LORA_TARGETS = r".*(encoder_layers|decoder_layers)\..*\.(q_proj|k_proj|v_proj|o_proj|fc1|fc2)"


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
        processor = STSUNImageProcessor.from_config(
            config, band_statistics=sources.statistics, readings=sources.readings
        )
    else:
        try:
            model, processor = load_checkpoint(arguments.model, revision=arguments.revision)
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
        processor.readings = processor.readings | sources.readings
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
