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
"""STSUN model configuration"""

import math
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers.activations import ACT2FN
from transformers.configuration_utils import PreTrainedConfig
from transformers.utils import auto_docstring

# Least and largest value of each size. A file can ask for any, and what it asks for is allocated: the largest ones are
# far beyond models that exist, and far below what would fill a machine by itself.
_MAX_WIDTH, _MAX_COUNT = 2**16, 2**10
_SIZES = {
    **dict.fromkeys(("unified_size", "unified_channels", "stem_channels", "hidden_size"), (1, _MAX_WIDTH)),
    **dict.fromkeys(("intermediate_size", "hypernetwork_hidden_size", "category_embeds_dim"), (1, _MAX_WIDTH)),
    **dict.fromkeys(("cell_rank", "patch_size", "num_attention_heads", "unified_time_size"), (1, _MAX_COUNT)),
    **dict.fromkeys(("hypernetwork_num_layers", "hypernetwork_num_heads"), (1, _MAX_COUNT)),
    "num_hidden_layers": (2, _MAX_COUNT),
}
# Least and largest value of other numbers; NaN is in no range.
_NUMBERS = {
    "attention_dropout": (0.0, 1.0),
    "rope_theta": (1.0, 1e12),
    "layer_norm_eps": (1e-12, 1.0),
    "dice_loss_weight": (0.0, 1e6),
}
_MAX_NAMES = 2**16


@auto_docstring(checkpoint="stsun/stsun-base")
@strict
class STSUNConfig(PreTrainedConfig):
    r"""
    tasks (`list[str]`, *optional*, defaults to the three tasks of the paper):
        Names of the tasks; `task_ids` are positions in this list.
    band_types (`list[str]`, *optional*):
        Names of the kinds of band that have an embedding of their own: the kind, with the polarisation of radar or the
        name of an index; `band_types` of the model's inputs are positions in this list.
    unified_size (`int`, *optional*, defaults to 256):
        Longest side of the unified grid in cells. An image of `H x W` pixels is cut into cells of `p x p` pixels with
        `p = ceil(max(H, W) / unified_size)`, unless `cell_sizes` asks for another `p`.
    unified_channels (`int`, *optional*, defaults to 32):
        Channels of the unified grid (E in the paper).
    cell_rank (`int`, *optional*, defaults to 4):
        Number of basis functions over the positions inside a cell that generated weights are combined from.
    patch_size (`int`, *optional*, defaults to 8):
        Cells along one side of a token.
    stem_channels (`int`, *optional*, defaults to 64):
        Channels of the convolutions between the unified grid and the tokens.
    window_sizes (`list[list[int]]`, *optional*, defaults to `[[32, 8], [16, 16], [8, 32]]`):
        Attention windows (height, width) in tokens that successive blocks use, followed by one block over the whole
        grid, and again from the start.
    depthwise_convolution (`bool`, *optional*, defaults to `False`):
        Whether the 3x3 convolution that ends a block keeps its channels apart; `False` = dense, as in the paper.
    unified_time_size (`int`, *optional*, defaults to 8):
        Number of unified times that the temporal module maps the dates to; each carries a share of the channels.
    hypernetwork_hidden_size (`int`, *optional*, defaults to 64):
        Width of the hypernetworks.
    hypernetwork_num_layers (`int`, *optional*, defaults to 2):
        Layers of the hypernetworks over bands and over dates.
    hypernetwork_num_heads (`int`, *optional*, defaults to 4):
        Attention heads of the hypernetworks.
    category_embeds_dim (`int`, *optional*):
        Size of the embeddings that may be given as `category_embeds` in place of `category_ids`, for instance the width
        of a text encoder. `None` = none are accepted.
    rope_theta (`float`, *optional*, defaults to 100.0):
        Base of the rotary position codes; positions are counted in tokens.
    dice_loss_weight (`float`, *optional*, defaults to 0.5):
        Weight of the Dice loss beside the cross-entropy.
    class_weights (`list[float]`, *optional*):
        Weight of each class of `id2label` in the cross-entropy; `None` = all 1.

    Example:

    ```python
    >>> from modeling_stsun import STSUNConfig, STSUNModel

    >>> configuration = STSUNConfig()
    >>> model = STSUNModel(configuration)
    >>> configuration = model.config
    ```"""

    model_type = "stsun"
    # What outputs hand on of the inputs, for post-processing; a Trainer need not gather it.
    keys_to_ignore_at_inference = ["image_sizes", "pixel_mask", "output_date_roles"]

    tasks: list[str] | None = None
    band_types: list[str] | None = None
    unified_size: int = 256
    unified_channels: int = 32
    cell_rank: int = 4
    patch_size: int = 8
    stem_channels: int = 64
    hidden_size: int = 512
    num_hidden_layers: int = 8
    num_attention_heads: int = 8
    intermediate_size: int = 2048
    hidden_act: str = "gelu"
    attention_dropout: float | int = 0.0
    window_sizes: list[list[int]] | None = None
    depthwise_convolution: bool = False
    unified_time_size: int = 8
    hypernetwork_hidden_size: int = 64
    hypernetwork_num_layers: int = 2
    hypernetwork_num_heads: int = 4
    category_embeds_dim: int | None = None
    rope_theta: float | int = 100.0
    layer_norm_eps: float = 1e-6
    dice_loss_weight: float | int = 0.5
    class_weights: list[float | int] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        if self.tasks is None:
            self.tasks = ["semantic_segmentation", "binary_change_detection", "semantic_change_detection"]
        if self.band_types is None:
            self.band_types = [
                *("other", "reflective", "thermal", "elevation", "index"),
                *("sar", "sar_vv", "sar_vh", "sar_hh", "sar_hv"),
                *("index_ndvi", "index_evi", "index_savi", "index_ndwi", "index_mndwi", "index_ndmi", "index_nbr"),
                *("index_ndsi", "index_ndbi", "index_bsi", "index_cloud_probability"),
            ]
        if self.window_sizes is None:
            self.window_sizes = [[32, 8], [16, 16], [8, 32]]
        num_labels = kwargs.get("num_labels")
        # The base class makes a name for each.
        if num_labels is not None and not (isinstance(num_labels, int) and 1 <= num_labels <= _MAX_NAMES):
            raise ValueError(f"num_labels must be a whole number from 1 to {_MAX_NAMES}, got {num_labels!r}.")
        super().__post_init__(**kwargs)

    def validate_architecture(self) -> None:
        """Part of `@strict` validation: sizes that do not fit together are refused here, not deep in a forward pass."""
        for name, (least, most) in (_SIZES | _NUMBERS).items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise ValueError(f"{name} must be from {least} to {most}, got {value}.")
        if self.hidden_act not in ACT2FN:
            raise ValueError(f"hidden_act is {self.hidden_act!r}; it must be one of {', '.join(ACT2FN)}.")
        if self.hidden_size % self.num_attention_heads or (self.hidden_size // self.num_attention_heads) % 4:
            raise ValueError(
                f"hidden_size ({self.hidden_size}) must be a multiple of 4 * num_attention_heads "
                f"({self.num_attention_heads}): each head rotates two axes of pairs."
            )
        if self.hypernetwork_hidden_size % self.hypernetwork_num_heads:
            raise ValueError(
                f"hypernetwork_hidden_size ({self.hypernetwork_hidden_size}) must be a multiple of "
                f"hypernetwork_num_heads ({self.hypernetwork_num_heads})."
            )
        if self.num_hidden_layers % 2:
            raise ValueError(
                f"num_hidden_layers ({self.num_hidden_layers}) must be even: half of the blocks come "
                "before the temporal module, half after."
            )
        for name in ("hidden_size", "unified_channels"):
            if getattr(self, name) % self.unified_time_size:
                raise ValueError(
                    f"{name} ({getattr(self, name)}) must be a multiple of unified_time_size "
                    f"({self.unified_time_size})."
                )
        for size in self.window_sizes:
            if len(size) != 2 or min(size) < 1 or max(size) > _MAX_WIDTH:
                raise ValueError(f"window_sizes must hold pairs (height, width) from 1 to {_MAX_WIDTH}, got {size}.")
        for name in ("tasks", "band_types"):
            names = getattr(self, name)
            if not names or len(set(names)) != len(names) or len(names) > _MAX_NAMES:
                raise ValueError(f"{name} must hold at least one name, each once, got {names}.")
        if len(set(self.id2label.values())) != len(self.id2label) or sorted(self.id2label) != list(
            range(self.num_labels)
        ):
            raise ValueError(
                f"id2label must map 0..{self.num_labels - 1} to distinct class names, got {self.id2label}."
            )
        if self.class_weights is not None and len(self.class_weights) != self.num_labels:
            raise ValueError(
                f"class_weights holds {len(self.class_weights)} values for {self.num_labels} classes in id2label."
            )
        if self.class_weights is not None and not all(0 <= weight < math.inf for weight in self.class_weights):
            raise ValueError(f"class_weights must be finite numbers of 0 or more, got {self.class_weights}.")


# Shapes of the checkpoints under hub_cards/. `large` is that of the paper, `tiny` trains on two CPU cores in minutes.
PRESETS = {
    "tiny": {
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "unified_channels": 24,
        "stem_channels": 32,
        "patch_size": 4,
        "window_sizes": [[16, 4], [8, 8], [4, 16]],
        "depthwise_convolution": True,
        "hypernetwork_hidden_size": 48,
    },
    "small": {"hidden_size": 256, "num_attention_heads": 8, "intermediate_size": 1024},
    "base": {"hidden_size": 512, "num_attention_heads": 8, "intermediate_size": 2048},
    "large": {"hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096},
}

__all__ = ["PRESETS", "STSUNConfig"]
