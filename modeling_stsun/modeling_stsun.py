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
"""PyTorch STSUN model.

The file follows the data: metadata codes -> input unified module -> stem -> encoder blocks on each date -> temporal
unified module -> decoder blocks on each output -> upsampling -> output unified module.

Shapes: B samples, T dates, C bands, S outputs, K classes, H x W pixels; a cell is p x p pixels, the unified grid has
Gh x Gw cells of E channels; a token is `patch_size` x `patch_size` cells, the token grid has h x w = N tokens of D
channels.
"""

import math
import operator
import os
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import ModelOutput
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, PreTrainedModel
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, auto_docstring
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .configuration_stsun import STSUNConfig
from .kernels_stsun import convolve_grouped, convolve_in_strips, mask_if_needed, max_dates_at_once, silu
from .loss_stsun import dense_prediction_loss

# Fourier codes: shortest and longest period of the geometric series, and how many periods.
# nm. From 200 nm on, neighbouring bands of 10 nm width would begin with like weights.
WAVELENGTH_PERIODS = (20.0, 30000.0, 24)
LOG_WIDTH_PERIODS = (2.0, 32.0, 4)  # octaves of the bandwidth in nm
LOG_SIZE_PERIODS = (2.0, 64.0, 5)  # octaves of the ground sampling distance in m, and of the cell size in pixels
DAY_PERIODS = (30.0, 36525.0, 8)  # days: from a month to a century
LOG_DAY_PERIODS = (1.0, 16.0, 5)  # octaves of (1 + days) between a date and the ends of the output's interval
YEAR_DAYS = 365.2425  # mean Gregorian year
YEAR_HARMONICS = 4

# Scale of the differences between dates beside that of the dates themselves, which are much alike. On the synthetic
# world (tiny, 600 steps, one seed) change F1 was 0.86, on unseen sensors 0.83; without scale and signs 0.71 and 0.69.
DIFFERENCE_GAIN = 4.0

# Axes of the inputs; E = the ends of an interval or the sides of an image, V = the values of a vector.
AXES = {
    "pixel_values": "BTCHW",
    "wavelengths": "BTC",
    "bandwidths": "BTC",
    "band_types": "BTC",
    "timestamps": "BT",
    "gsd": "B",
    "band_mask": "BTC",
    "date_mask": "BT",
    "pixel_mask": "BTHW",
    "task_ids": "B",
    "category_ids": "BK",
    "category_mask": "BK",
    "category_embeds": "BKV",
    "output_timestamps": "BSE",
    "output_date_roles": "BST",
    "output_mask": "BS",
    "image_sizes": "BE",
    "labels": "BSHW",
}
AXIS_NAMES = {
    "B": "batch_size",
    "T": "num_dates",
    "C": "num_bands",
    "H": "height",
    "W": "width",
    "S": "num_outputs",
    "K": "num_classes",
    "E": "2",
    "V": "category_embeds_dim",
}

# Where the Auto classes find the code in a checkpoint's folder (`trust_remote_code=True`).
AUTO_MAP = {
    "AutoConfig": "configuration_stsun.STSUNConfig",
    "AutoModel": "modeling_stsun.STSUNModel",
    "AutoModelForUniversalSegmentation": "modeling_stsun.STSUNForDensePrediction",
    "AutoModelForSemanticSegmentation": "modeling_stsun.STSUNForSemanticSegmentation",
    "AutoImageProcessor": "image_processing_stsun.STSUNImageProcessor",
}

# Outputs of layers that a call may ask for.
RECORDED = ("hidden_states", "attentions")

# What a date is to an output; the values of `output_date_roles`.
DATE_ROLES = ("context", "described", "before", "after")


@auto_docstring(custom_intro="Output of [`STSUNModel`].")
@dataclass
class STSUNModelOutput(ModelOutput):
    r"""
    last_hidden_state (`torch.FloatTensor` of shape `(batch_size, num_outputs, num_tokens, hidden_size)`):
        Tokens after the last decoder block and its normalisation.
    feature_maps (`torch.FloatTensor` of shape `(batch_size, num_outputs, grid_height, grid_width, unified_channels)`):
        Features of each output on the unified grid.
    cell_sizes (`list[int]`):
        Side of a cell in pixels, for each sample.
    """

    last_hidden_state: torch.FloatTensor | None = None
    feature_maps: torch.FloatTensor | None = None
    cell_sizes: list[int] | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None


@auto_docstring(custom_intro="Output of [`STSUNForDensePrediction`].")
@dataclass
class STSUNDensePredictionOutput(ModelOutput):
    r"""
    loss (`torch.FloatTensor` of shape `(1,)`, *optional*, returned when `labels` is provided):
        Cross-entropy plus Dice loss.
    logits (`torch.FloatTensor` of shape `(batch_size, num_outputs, num_classes, height, width)`):
        Scores of each class, in the order of `category_ids`. One class alone is a sigmoid, several are a softmax. Those
        of classes that `category_mask` leaves out are the lowest finite number; 0 where no date holds data.
    output_mask (`torch.BoolTensor` of shape `(batch_size, num_outputs)`, *optional*):
        The `output_mask` of the call: False = padding.
    category_mask (`torch.BoolTensor` of shape `(batch_size, num_classes)`, *optional*):
        The `category_mask` of the call: False = padding.
    image_sizes (`torch.LongTensor` of shape `(batch_size, 2)`, *optional*):
        The `image_sizes` of the call: what lies beyond is padding.
    pixel_mask (`torch.BoolTensor` of shape `(batch_size, num_dates, height, width)`, *optional*):
        The `pixel_mask` of the call, False also on dates that `date_mask` leaves out.
    output_date_roles (`torch.LongTensor` of shape `(batch_size, num_outputs, num_dates)`, *optional*):
        The `output_date_roles` of the call: which dates each output describes.
    """

    loss: torch.FloatTensor | None = None
    logits: torch.FloatTensor | None = None
    output_mask: torch.BoolTensor | None = None
    category_mask: torch.BoolTensor | None = None
    image_sizes: torch.LongTensor | None = None
    pixel_mask: torch.BoolTensor | None = None
    output_date_roles: torch.LongTensor | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None


@auto_docstring(custom_intro="Output of [`STSUNForSemanticSegmentation`].")
@dataclass
class STSUNSemanticSegmenterOutput(ModelOutput):
    r"""
    loss (`torch.FloatTensor` of shape `(1,)`, *optional*, returned when `labels` is provided):
        Cross-entropy plus Dice loss.
    logits (`torch.FloatTensor` of shape `(batch_size, num_classes, height, width)`):
        Scores of each class, in the order of `category_ids`.
    category_mask (`torch.BoolTensor` of shape `(batch_size, num_classes)`, *optional*):
        The `category_mask` of the call: False = padding.
    image_sizes (`torch.LongTensor` of shape `(batch_size, 2)`, *optional*):
        The `image_sizes` of the call: what lies beyond is padding.
    """

    loss: torch.FloatTensor | None = None
    logits: torch.FloatTensor | None = None
    category_mask: torch.BoolTensor | None = None
    image_sizes: torch.LongTensor | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None


@dataclass
class STSUNGeneratedWeights:
    """What the hypernetworks write: all that metadata alone decides, for each of B samples.

    A B of 1 serves any number of samples that share their metadata; see [`STSUNForDensePrediction.fold_metadata`].

    Args:
        input_weight: (B, T, C, E, rank).
        input_bias: (B, T, E).
        task: (B, 3 * D), what is added before the encoder, the temporal module and the output module.
        scale: (B, D), the code of the cell size.
        encoder_condition: (B, T, width), what steers the blocks of the encoder, for each date.
        decoder_condition: (B, 1, width), what steers those of the decoder.
        token_weight: (B, Tu + 1, S, T), means over dates of the tokens.
        token_gain: (B, Tu, S, T).
        cell_weight: (B, Tu + 1, S, T), means over dates of the cells.
        cell_gain: (B, Tu, S, T).
    """

    input_weight: torch.Tensor
    input_bias: torch.Tensor
    task: torch.Tensor
    scale: torch.Tensor
    encoder_condition: torch.Tensor
    decoder_condition: torch.Tensor
    token_weight: torch.Tensor
    token_gain: torch.Tensor
    cell_weight: torch.Tensor
    cell_gain: torch.Tensor

    def select_dates(self, dates: slice) -> "STSUNGeneratedWeights":
        """What concerns some of the dates, beside what concerns all."""
        return replace(
            self,
            input_weight=self.input_weight[:, dates],
            input_bias=self.input_bias[:, dates],
            encoder_condition=self.encoder_condition[:, dates],
            token_weight=self.token_weight[..., dates],
            token_gain=self.token_gain[..., dates],
            cell_weight=self.cell_weight[..., dates],
            cell_gain=self.cell_gain[..., dates],
        )


@dataclass
class STSUNTemporalSums:
    """Sums over the dates that a temporal module has seen so far.

    Args:
        unified: (B, S, N, channels), of the unified times.
        residual: (B, S, N, channels), of the states themselves.
        present: (B, Tu + 1, S, N), of the weights where dates hold data; `None` = all do.
    """

    unified: torch.Tensor
    residual: torch.Tensor
    present: torch.Tensor | None


def check_shapes(sizes: dict[str, int] | None = None, **inputs: torch.Tensor | None) -> None:
    """Raises ValueError for an input whose shape is not that of `AXES`; looks at shapes only, and never at values."""
    sizes = {"E": 2} | (sizes or {})
    for name, tensor in inputs.items():
        if tensor is None:
            continue
        axes, shape = AXES[name], tuple(tensor.shape)
        if len(shape) != len(axes) or any(
            sizes.setdefault(axis, size) != size for axis, size in zip(axes, shape, strict=True)
        ):
            expected = ", ".join(AXIS_NAMES[axis] for axis in axes)
            known = ", ".join(str(sizes.get(axis, "any")) for axis in axes)
            raise ValueError(f"{name} has shape {shape}, but ({expected}) = ({known}) is expected.")


# Metadata codes


def fourier_features(values: torch.Tensor, periods: tuple[float, float, int]) -> torch.Tensor:
    """Sines and cosines of `values` (...) at a geometric series of periods, in float32: (..., 2 * periods)."""
    shortest, longest, count = periods
    exponents = torch.arange(count, device=values.device, dtype=torch.float32) / (count - 1)
    angles = 2 * math.pi * values.float().unsqueeze(-1) / (shortest * (longest / shortest) ** exponents)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def season_features(days: torch.Tensor) -> torch.Tensor:
    """Harmonics of the time of year of `days` (...) since 2000-01-01: (..., 2 * YEAR_HARMONICS)."""
    harmonics = torch.arange(1, YEAR_HARMONICS + 1, device=days.device, dtype=torch.float32)
    angles = 2 * math.pi * (days.float() / YEAR_DAYS).frac().unsqueeze(-1) * harmonics
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def scale_code(sizes: torch.Tensor) -> torch.Tensor:
    """Code of `sizes` (..., 2), those of a cell in metres and in pixels: (..., features)."""
    return fourier_features(sizes.log2(), LOG_SIZE_PERIODS).flatten(-2)


def compute_dtype(layer: nn.Module) -> torch.dtype:
    """Type of the numbers that a layer computes with: weights that are quantised are integers, and take float32."""
    floats = (parameter.dtype for parameter in layer.parameters() if parameter.is_floating_point())
    return next(floats, torch.float32)


class STSUNMetadataEmbedding(nn.Module):
    """Projects the code of a physical quantity; NaN, the unknown value, has an embedding that is learned."""

    def __init__(self, num_features: int, hidden_size: int, init_scale: float = 1.0):
        super().__init__()
        self.projection = nn.Linear(num_features, hidden_size)
        self.projection.init_scale = init_scale
        self.unknown = nn.Parameter(torch.zeros(hidden_size))

    def forward(self, values: torch.Tensor, code: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """`values` (..., V) of which one NaN makes the whole unknown; `code` maps (..., V) to (..., num_features)."""
        known = values.isfinite().all(-1, keepdim=True)
        features = code(torch.where(known, values, 1.0)).to(compute_dtype(self.projection))
        return torch.where(known, self.projection(features), self.unknown)


# Attention


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: Unpack[TransformersKwargs],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention written out; the reference that the fused implementations must equal."""
    attn_weights = torch.matmul(query, key.transpose(2, 3)) * scaling
    if attention_mask is not None:
        attn_weights = attn_weights + attention_mask
    attn_weights = nn.functional.softmax(attn_weights, dim=-1, dtype=torch.float32).to(query.dtype)
    attn_weights = nn.functional.dropout(attn_weights, p=dropout, training=module.training)
    attn_output = torch.matmul(attn_weights, value)
    return attn_output.transpose(1, 2).contiguous(), attn_weights


def attention_mask_for(
    mask: torch.Tensor | None, num_queries: int, dtype: torch.dtype, implementation: str
) -> torch.Tensor | None:
    """The mask that an attention implementation takes, from a boolean mask of m keys (L, m), True = real.

    Flash attention drops masked tokens and takes the mask as it is; the others add (L, 1, n, m) to the scores of n
    queries, in which rows without a key stay finite.
    """
    if mask is None or "flash" in implementation:
        return mask
    scores = torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, torch.finfo(dtype).min)
    return scores[:, None, None, :].expand(-1, -1, num_queries, -1)


def apply_rotary_pos_emb(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotates the pairs (i, i + half) of each head of `states` (L, heads, n, head_dim) by the angles of the token's
    position, whose `cos` and `sin` are (n, head_dim), or (L, 1, n, head_dim) where samples differ."""
    # In their dtype: autocast may have changed it, and a wider one would cost conversions.
    cos, sin = cos.to(states.dtype), sin.to(states.dtype)
    # The sign of the second half goes into the sines, which are small.
    sin = torch.cat([-sin[..., : sin.shape[-1] // 2], sin[..., sin.shape[-1] // 2 :]], dim=-1)
    first, second = states.chunk(2, dim=-1)
    return torch.addcmul(states * cos, torch.cat([second, first], dim=-1), sin)


class STSUNAttention(nn.Module):
    """Multi-head attention over (L, n, width) sequences through the library's attention interface."""

    def __init__(self, config: STSUNConfig, hidden_size: int, num_heads: int):
        super().__init__()
        self.config = config
        self.head_dim = hidden_size // num_heads
        self.scaling = self.head_dim**-0.5
        self.is_causal = False
        self.q_proj = nn.Linear(hidden_size, hidden_size)
        self.k_proj = nn.Linear(hidden_size, hidden_size)
        self.v_proj = nn.Linear(hidden_size, hidden_size)
        self.o_proj = nn.Linear(hidden_size, hidden_size)

    def forward(
        self,
        hidden_states: torch.Tensor,
        mask: torch.Tensor | None = None,
        position_embeddings: tuple[torch.Tensor, torch.Tensor] | None = None,
        key_value_states: torch.Tensor | None = None,
        key_position_embeddings: tuple[torch.Tensor, torch.Tensor] | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """`hidden_states` (L, n, width) attend to themselves, or to `key_value_states` (L, m, width) with position
        codes of their own; `mask` (L, m) True = real key, or None; codes as for [`apply_rotary_pos_emb`]."""
        if key_value_states is None:
            key_value_states, key_position_embeddings = hidden_states, position_embeddings
        query = self.q_proj(hidden_states).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        key = self.k_proj(key_value_states).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        value = self.v_proj(key_value_states).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        if position_embeddings is not None and key_position_embeddings is not None:
            query = apply_rotary_pos_emb(query, *position_embeddings)
            key = apply_rotary_pos_emb(key, *key_position_embeddings)
        implementation = self.config._attn_implementation
        if mask is not None and "flash" in implementation and key.shape[2] != query.shape[2]:
            # Flash attention takes one mask for queries and keys.
            implementation = "sdpa"
        attention_interface: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager_attention_forward)
        attn_output, attn_weights = attention_interface(
            self,
            query,
            key,
            value,
            # In the dtype of the scores: autocast may have changed it, and the lowest number of another overflows.
            attention_mask_for(mask, query.shape[2], query.dtype, implementation),
            dropout=self.config.attention_dropout if self.training else 0.0,
            scaling=self.scaling,
            **kwargs,
        )
        return self.o_proj(attn_output.reshape(*hidden_states.shape)), attn_weights


class STSUNMLP(nn.Module):
    def __init__(self, config: STSUNConfig, hidden_size: int, intermediate_size: int):
        super().__init__()
        self.fc1 = nn.Linear(hidden_size, intermediate_size)
        self.activation = ACT2FN[config.hidden_act]
        self.fc2 = nn.Linear(intermediate_size, hidden_size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.activation(self.fc1(hidden_states)))


# Hypernetworks: small networks that read metadata and write the weights of the unified modules


class STSUNHyperLayer(nn.Module):
    """Pre-norm transformer layer over metadata tokens; it knows no order, so neither do the weights that come of it."""

    def __init__(self, config: STSUNConfig):
        super().__init__()
        width = config.hypernetwork_hidden_size
        self.norm1 = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.attention = STSUNAttention(config, width, config.hypernetwork_num_heads)
        self.norm2 = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.mlp = STSUNMLP(config, width, 2 * width)

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        tokens = tokens + self.attention(self.norm1(tokens), mask)[0]
        return tokens + self.mlp(self.norm2(tokens))


class STSUNHyperEncoder(nn.Module):
    def __init__(self, config: STSUNConfig):
        super().__init__()
        self.layers = nn.ModuleList(STSUNHyperLayer(config) for _ in range(config.hypernetwork_num_layers))
        self.norm = nn.LayerNorm(config.hypernetwork_hidden_size, eps=config.layer_norm_eps)

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """`tokens` (L, n, width), `mask` (L, n) True = real -> (L, n, width) of unit scale."""
        for layer in self.layers:
            tokens = layer(tokens, mask)
        return self.norm(tokens)


class STSUNCellBasis(nn.Module):
    """Basis functions over the positions inside a cell of p x p pixels: (rank, p, p), of unit norm at each position.

    Generated weights are combinations of these functions, one set of coefficients a band or class: the cost grows with
    the number of bands and with p * p separately, and every pixel of a cell still has weights of its own.
    """

    def __init__(self, config: STSUNConfig):
        super().__init__()
        width = config.hypernetwork_hidden_size
        # Two harmonics of sine and cosine of each of two coordinates, and the code of the cell size.
        self.fc1 = nn.Linear(8 + 2 * LOG_SIZE_PERIODS[2], width)
        self.activation = ACT2FN[config.hidden_act]
        self.fc2 = nn.Linear(width, config.cell_rank)

    def forward(self, cell_size: int, device: torch.device) -> torch.Tensor:
        # On the device of the data: weights that are offloaded have none until they are used.
        centers = (torch.arange(cell_size, device=device, dtype=torch.float32) + 0.5) / cell_size - 0.5
        angles = math.pi * torch.stack(torch.meshgrid(centers, centers, indexing="ij"), dim=-1)
        angles = torch.cat([angles, 2 * angles], dim=-1)
        size = torch.full((cell_size, cell_size), math.log2(cell_size), device=device)
        features = torch.cat([angles.sin(), angles.cos(), fourier_features(size, LOG_SIZE_PERIODS)], dim=-1)
        basis = self.fc2(self.activation(self.fc1(features.to(compute_dtype(self.fc1)))))
        return F.normalize(basis, dim=-1).permute(2, 0, 1)


class STSUNBandHypernetwork(nn.Module):
    """Reads the bands of an acquisition and writes coefficients of the map from each band's pixels to E channels."""

    def __init__(self, config: STSUNConfig):
        super().__init__()
        self.config = config
        width = config.hypernetwork_hidden_size
        # Bands differ by wavelength more than by what they have in common, or all would begin with like weights.
        self.wavelength_embedding = STSUNMetadataEmbedding(2 * WAVELENGTH_PERIODS[2], width, init_scale=2.0)
        self.bandwidth_embedding = STSUNMetadataEmbedding(2 * LOG_WIDTH_PERIODS[2], width, init_scale=0.3)
        self.type_embedding = nn.Embedding(len(config.band_types), width)
        self.type_embedding.init_scale = 0.5
        self.encoder = STSUNHyperEncoder(config)
        self.weight = nn.Linear(width, config.unified_channels * config.cell_rank)
        self.bias = nn.Linear(width, config.unified_channels)

    def forward(
        self, wavelengths: torch.Tensor, bandwidths: torch.Tensor, band_types: torch.Tensor, band_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """All (R, C) -> coefficients (R, C, E, rank), 0 for masked bands, bias (R, E) and the code of all bands
        together (R, width)."""
        tokens = self.type_embedding(band_types)
        tokens = tokens + self.wavelength_embedding(
            wavelengths.unsqueeze(-1), lambda nm: fourier_features(nm[..., 0], WAVELENGTH_PERIODS)
        )
        tokens = tokens + self.bandwidth_embedding(
            bandwidths.unsqueeze(-1), lambda nm: fourier_features(nm[..., 0].log2(), LOG_WIDTH_PERIODS)
        )
        tokens = self.encoder(tokens, band_mask)
        mask = band_mask.unsqueeze(-1).to(tokens.dtype)
        count = mask.sum(1, keepdim=True).clamp(min=1)
        weight, code = self.weight(tokens) * mask, (tokens * mask / count).sum(1)
        # Bands are much alike, and what they share would drown what sets them apart: their mean and their deviations
        # from it have unit scale each, for one band or four hundred.
        mean = weight.sum(1, keepdim=True) / count
        weight = ((weight - mean) * count.rsqrt() + mean / count) * mask
        return rearrange(weight, "r c (e k) -> r c e k", e=self.config.unified_channels), self.bias(code), code


class STSUNInputModule(nn.Module):
    """ISSUM, the input spatial-spectral unified module: any bands and sizes to E channels on the unified grid."""

    def __init__(self, config: STSUNConfig):
        super().__init__()
        self.hypernetwork = STSUNBandHypernetwork(config)
        self.cell_basis = STSUNCellBasis(config)

    def generate_weights(
        self, wavelengths: torch.Tensor, bandwidths: torch.Tensor, band_types: torch.Tensor, band_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """All (B, T, C) -> coefficients (B, T, C, E, rank), bias (B, T, E) and code of the bands (B, T, width);
        distinct metadata is worked out once."""
        shape = wavelengths.shape[:2]
        rows = [values.flatten(0, 1) for values in (wavelengths, bandwidths, band_types, band_mask)]
        inverse = None
        # On an accelerator finding the distinct rows would wait for the device, which costs more than it saves.
        if rows[0].device.type == "cpu" and rows[0].shape[0] > 1 and not torch.compiler.is_compiling():
            # -1 marks the unknown, since NaN is never equal to NaN; no real metadata is negative.
            key = torch.cat([torch.nan_to_num(values.float(), nan=-1.0) for values in rows], dim=1)
            distinct, inverse = torch.unique(key, dim=0, return_inverse=True)
            first = torch.arange(len(inverse), device=inverse.device)
            first = first.new_full((len(distinct),), len(inverse)).scatter_reduce(0, inverse, first, "amin")
            rows = [values[first] for values in rows]
        weight, bias, code = (values if inverse is None else values[inverse] for values in self.hypernetwork(*rows))
        return weight.unflatten(0, shape), bias.unflatten(0, shape), code.unflatten(0, shape)

    def forward(
        self,
        pixel_values: torch.Tensor,
        pixel_mask: torch.Tensor | None,
        weight: torch.Tensor,
        bias: torch.Tensor,
        cell_size: int,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Applies generated weights to samples that share a cell size.

        `pixel_values` (b, T, C, H, W), `pixel_mask` (b, T, H, W) or None, `weight` (b or 1, T, C, E, rank), `bias`
        (b or 1, T, E) -> cells (b, T, Gh, Gw, E) and their mask (b, T, Gh, Gw).
        """
        num_samples, num_dates, _, height, width = pixel_values.shape
        grid = (-(-height // cell_size), -(-width // cell_size))
        padding = (0, grid[1] * cell_size - width, 0, grid[0] * cell_size - height)
        if pixel_mask is None and any(padding):
            pixel_mask = pixel_values.new_ones(num_samples, num_dates, height, width, dtype=torch.bool)
        if pixel_mask is not None:
            pixel_values = torch.where(pixel_mask.unsqueeze(2), pixel_values, 0)
            pixel_values, pixel_mask = F.pad(pixel_values, padding), F.pad(pixel_mask, padding)

        kernels = torch.einsum("btcek,kij->btecij", weight, self.cell_basis(cell_size, weight.device)) / cell_size
        if cell_size == 1:
            cells = torch.matmul(pixel_values.flatten(3).transpose(2, 3), kernels[..., 0, 0].transpose(2, 3))
            cells = cells.unflatten(2, grid)
        else:
            convolve = convolve_in_strips if pixel_values.device.type == "cpu" else convolve_grouped
            cells = convolve(pixel_values, kernels)
        if pixel_mask is None:
            return cells.add_(bias[:, :, None, None]), None
        share = F.avg_pool2d(pixel_mask.to(cells.dtype), cell_size).unsqueeze(-1)
        mask = share > 0
        # A cell with few valid pixels speaks as loudly as a full one.
        cells = torch.where(mask, cells / share.clamp(min=0.5 / cell_size**2) + bias[:, :, None, None], 0)
        return cells, mask.squeeze(-1)


# Encoder and decoder: local-global window attention


def conv_channels_last(convolution: nn.Conv2d, states: torch.Tensor) -> torch.Tensor:
    """Applies a convolution to (L, height, width, channels)."""
    return convolution(states.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def group_tokens(extents: torch.Tensor, length: int, num_groups: int) -> torch.Tensor:
    """Divides the first tokens of an axis among groups of neighbours, whose sizes differ by one at most.

    Args:
        extents: (L,) int64, how many tokens of the axis are real, for each sequence.
        length: tokens of the axis.
        num_groups: the most groups; fewer tokens than that have a group each.

    Returns:
        (L, groups, length), 1 = the token is in the group. Tokens beyond the extent may be in any group.
    """
    positions = torch.arange(length, device=extents.device)
    extents = extents.clamp(min=1).unsqueeze(1)
    group_of_token = positions * extents.clamp(max=num_groups) // extents
    groups = torch.arange(min(num_groups, length), device=extents.device)
    return group_of_token.unsqueeze(1) == groups.unsqueeze(1)


class STSUNGridAttention(STSUNAttention):
    """Attention among tokens of a grid, with axial rotary position codes."""

    def __init__(self, config: STSUNConfig):
        super().__init__(config, config.hidden_size, config.num_attention_heads)

    def position_embeddings(
        self, rows: torch.Tensor, columns: torch.Tensor, dtype: torch.dtype
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines (..., h * w, head_dim) of the positions `rows` (..., h) and `columns` (..., w), counted in
        tokens."""
        num_frequencies = self.head_dim // 4
        exponents = torch.arange(num_frequencies, device=rows.device, dtype=torch.float32) / num_frequencies
        frequencies = self.config.rope_theta**-exponents
        row_angles = (rows[..., :, None, None] * frequencies).expand(*rows.shape, columns.shape[-1], -1)
        column_angles = (columns[..., None, :, None] * frequencies).expand(*rows.shape, columns.shape[-1], -1)
        angles = torch.cat([row_angles, column_angles, row_angles, column_angles], dim=-1).flatten(-3, -2)
        return angles.cos().to(dtype), angles.sin().to(dtype)

    def grid_embeddings(self, grid: tuple[int, int], states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Position codes (h * w, head_dim) of all tokens of a grid."""
        rows, columns = (torch.arange(side, device=states.device, dtype=torch.float32) for side in grid)
        return self.position_embeddings(rows, columns, states.dtype)


class STSUNWindowAttention(STSUNGridAttention):
    """Attention inside windows of the token grid; tokens beyond the grid are masked as keys."""

    def __init__(self, config: STSUNConfig, window_size: tuple[int, int]):
        super().__init__(config)
        self.window_size = window_size

    def forward(
        self, hidden_states: torch.Tensor, token_mask: torch.Tensor | None, **kwargs: Unpack[TransformersKwargs]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """`hidden_states` (L, h, w, D), `token_mask` (L, h, w) or None."""
        length, height, width, _ = hidden_states.shape
        window = (min(self.window_size[0], height), min(self.window_size[1], width))
        padding = (-height % window[0], -width % window[1])
        if any(padding):
            if token_mask is None:
                token_mask = hidden_states.new_ones(length, height, width, dtype=torch.bool)
            hidden_states = F.pad(hidden_states, (0, 0, 0, padding[1], 0, padding[0]))
            token_mask = F.pad(token_mask, (0, padding[1], 0, padding[0]))
        rows, columns = (height + padding[0]) // window[0], (width + padding[1]) // window[1]
        sizes = {"r": rows, "c": columns, "i": window[0], "j": window[1]}

        windows = rearrange(hidden_states, "l (r i) (c j) d -> (l r c) (i j) d", **sizes)
        if token_mask is not None:
            token_mask = rearrange(token_mask, "l (r i) (c j) -> (l r c) (i j)", **sizes)
        windows, attn_weights = super().forward(windows, token_mask, self.grid_embeddings(window, windows), **kwargs)
        hidden_states = rearrange(windows, "(l r c) (i j) d -> l (r i) (c j) d", **sizes)
        return hidden_states[:, :height, :width], attn_weights


class STSUNGlobalAttention(STSUNGridAttention):
    """Attention of every token to the whole grid, whose keys and values are means over groups of neighbouring tokens.

    There are at most `global_pool_size` x `global_pool_size` of them, so that cost grows linearly with the tokens, as
    in PVT v2 (Wang et al. 2022, arXiv 2106.13797). Groups divide the real tokens of each sequence, never its padding,
    and their positions are means, too.
    """

    def forward(
        self, hidden_states: torch.Tensor, token_mask: torch.Tensor | None, **kwargs: Unpack[TransformersKwargs]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """`hidden_states` (L, h, w, D), `token_mask` (L, h, w) or None."""
        grid, size = tuple(hidden_states.shape[1:3]), self.config.global_pool_size
        tokens, position_embeddings = hidden_states.flatten(1, 2), self.grid_embeddings(grid, hidden_states)
        if size is None or max(grid) <= size:
            mask = None if token_mask is None else token_mask.flatten(1)
            attended, attn_weights = super().forward(tokens, mask, position_embeddings, **kwargs)
        else:
            pooled, mask, pooled_embeddings = self.pool(hidden_states, token_mask, size)
            attended, attn_weights = super().forward(
                tokens, mask, position_embeddings, pooled, pooled_embeddings, **kwargs
            )
        return attended.unflatten(1, grid), attn_weights

    def pool(
        self, states: torch.Tensor, mask: torch.Tensor | None, size: int
    ) -> tuple[torch.Tensor, torch.Tensor | None, tuple[torch.Tensor, torch.Tensor]]:
        """Means over groups of real tokens (L, m, D), which of them have any (L, m) or None for all, and their position
        codes; arguments as in the forward, and the most groups along an axis."""
        height, width = states.shape[1:3]
        if mask is None:
            present = torch.ones(1, height, width, dtype=torch.bool, device=states.device)
        else:
            present = mask
            states = torch.where(mask.unsqueeze(-1), states, 0)
        rows, columns = (
            group_tokens((lines * torch.arange(1, length + 1, device=lines.device)).amax(1), length, size)
            for lines, length in ((present.any(2), height), (present.any(1), width))
        )
        sums = torch.matmul(rows.to(states.dtype), states.flatten(2)).unflatten(2, (width, -1))
        sums = torch.matmul(columns.to(states.dtype).unsqueeze(1), sums)
        # Whole numbers, exact in any dtype that autocast may choose for products.
        counts = (rows.unsqueeze(3) & present.unsqueeze(1)).sum(2)
        counts = (counts.unsqueeze(2) * columns.unsqueeze(1)).sum(3)
        pooled = (sums / counts.clamp(min=1).unsqueeze(3)).to(states.dtype)
        centers = [
            (groups * torch.arange(groups.shape[2], device=groups.device)).sum(2) / groups.sum(2).clamp(min=1)
            for groups in (rows, columns)
        ]
        cos, sin = self.position_embeddings(*centers, states.dtype)
        pooled_mask = None if mask is None else counts.flatten(1) > 0
        return pooled.flatten(1, 2), pooled_mask, (cos.unsqueeze(1), sin.unsqueeze(1))


class STSUNConditionHypernetwork(nn.Module):
    """Reads the task, the cell size and the bands, and writes the condition that steers every block.

    One set of blocks serves all sensors and tasks, and what is added to the tokens once tells them little about which:
    with it the mean IoU of nine real sources, trained together, rose from 0.63 to 0.68, that of the seven whose scores
    swing less from 0.67 to 0.68 (tiny, validation, one seed).
    """

    def __init__(self, config: STSUNConfig):
        super().__init__()
        width = config.hypernetwork_hidden_size
        self.task_embedding = nn.Embedding(len(config.tasks), width)
        self.scale_embedding = STSUNMetadataEmbedding(4 * LOG_SIZE_PERIODS[2], width)
        self.band_projection = nn.Linear(width, width)
        self.mlp = STSUNMLP(config, width, 2 * width)
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)

    def forward(self, task_ids: torch.Tensor, sizes: torch.Tensor, bands: torch.Tensor) -> torch.Tensor:
        """`task_ids` (B,), `sizes` (B, 2) of a cell in metres and pixels, `bands` (B, n, width) -> (B, n, width)."""
        code = self.task_embedding(task_ids) + self.scale_embedding(sizes, scale_code)
        return self.norm(self.mlp(code.unsqueeze(1) + self.band_projection(bands)))


class STSUNAdaptiveLayerNorm(nn.LayerNorm):
    """Layer norm whose gain and shift follow a condition (Perez et al. 2018, arXiv 1709.07871)."""

    def __init__(self, config: STSUNConfig):
        super().__init__(config.hidden_size, eps=config.layer_norm_eps)
        self.modulation = nn.Linear(config.hypernetwork_hidden_size, 2 * config.hidden_size)
        self.modulation.init_scale = 0.1

    def forward(self, states: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """`states` (L, h, w, D), `condition` (L or 1, width)."""
        gain, shift = self.modulation(condition).chunk(2, dim=-1)
        gain = 1 + gain
        if condition.shape[0] == 1:
            # One condition for all costs nothing: the norm has a gain and a shift anyway.
            gain, shift = gain[0], shift[0]
            return F.layer_norm(states, self.normalized_shape, self.weight * gain, self.bias * gain + shift, self.eps)
        return torch.addcmul(shift[:, None, None], super().forward(states), gain[:, None, None])


class STSUNLayer(GradientCheckpointingLayer):
    """LGWA block: windowed or global attention, MLP, and a residual 3x3 convolution that joins the windows."""

    def __init__(self, config: STSUNConfig, layer_idx: int):
        super().__init__()
        # Windows in turn, then one block over the whole grid, and again.
        turn = layer_idx % (len(config.window_sizes) + 1)
        self.norm1 = STSUNAdaptiveLayerNorm(config)
        self.attention: STSUNGridAttention
        if turn < len(config.window_sizes):
            self.attention = STSUNWindowAttention(config, tuple(config.window_sizes[turn]))
        else:
            self.attention = STSUNGlobalAttention(config)
        self.norm2 = STSUNAdaptiveLayerNorm(config)
        self.mlp = STSUNMLP(config, config.hidden_size, config.intermediate_size)
        self.norm3 = STSUNAdaptiveLayerNorm(config)
        groups = config.hidden_size if config.depthwise_convolution else 1
        self.convolution = nn.Conv2d(config.hidden_size, config.hidden_size, 3, padding=1, groups=groups)
        # Branches start small beside what they are added to: at unit scale the image's share of the variance of the
        # tokens, the rest being alike for all images, fell to one hundredth at the last block.
        for branch in (self.attention.o_proj, self.mlp.fc2, self.convolution):
            branch.init_scale = (3 * config.num_hidden_layers) ** -0.5

    def forward(
        self,
        hidden_states: torch.Tensor,
        condition: torch.Tensor,
        grid: tuple[int, int],
        token_mask: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        """`hidden_states` (B, T or S, h*w, D), `condition` (B or 1, T or 1, width), `grid` (h, w), `token_mask` (B, T
        or S, h*w) or None."""
        batch = hidden_states.shape[:2]
        states = hidden_states.flatten(0, 1).unflatten(1, grid)
        if condition.shape[:2] != (1, 1):
            condition = condition.expand(*batch, -1)
        condition = condition.flatten(0, 1)
        if token_mask is not None:
            token_mask = token_mask.flatten(0, 1).unflatten(1, grid)
        states = states + self.attention(self.norm1(states, condition), token_mask, **kwargs)[0]
        states = states + self.mlp(self.norm2(states, condition))
        residual = silu(self.norm3(states, condition))
        if token_mask is not None:
            # What lies outside the data is zero, exactly as beyond the border of the grid.
            residual = torch.where(token_mask.unsqueeze(-1), residual, 0)
        states = states + conv_channels_last(self.convolution, residual)
        return states.flatten(1, 2).unflatten(0, batch)


class STSUNStem(nn.Module):
    """From the unified grid of E channels to tokens: a 3x3 convolution, then one token a patch of cells."""

    def __init__(self, config: STSUNConfig):
        super().__init__()
        self.patch_size = config.patch_size
        self.norm1 = nn.LayerNorm(config.unified_channels, eps=config.layer_norm_eps)
        self.convolution = nn.Conv2d(config.unified_channels, config.stem_channels, 3, padding=1)
        self.norm2 = nn.LayerNorm(config.stem_channels, eps=config.layer_norm_eps)
        self.projection = nn.Conv2d(
            config.stem_channels, config.hidden_size, config.patch_size, stride=config.patch_size
        )

    def forward(self, cells: torch.Tensor, mask: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """`cells` (L, Gh, Gw, E), `mask` (L, Gh, Gw) or None -> tokens (L, h, w, D) and their mask (L, h, w)."""
        padding = (-cells.shape[1] % self.patch_size, -cells.shape[2] % self.patch_size)
        if mask is None and any(padding):
            mask = cells.new_ones(cells.shape[:3], dtype=torch.bool)
        cells = self.norm1(cells)
        if mask is not None:
            cells = torch.where(mask.unsqueeze(-1), cells, 0)
        states = silu(self.norm2(conv_channels_last(self.convolution, cells)))
        if mask is not None:
            states = torch.where(mask.unsqueeze(-1), states, 0)
            states = F.pad(states, (0, 0, 0, padding[1], 0, padding[0]))
            mask = F.pad(mask, (0, padding[1], 0, padding[0]))
            mask = F.max_pool2d(mask.to(states.dtype).unsqueeze(1), self.patch_size).squeeze(1) > 0
        return conv_channels_last(self.projection, states), mask


# Time


class STSUNDateHypernetwork(nn.Module):
    """Reads, for each output, the dates, the interval it describes and each date's role; writes weights over dates."""

    def __init__(self, config: STSUNConfig):
        super().__init__()
        width = config.hypernetwork_hidden_size
        self.date_embedding = STSUNMetadataEmbedding(2 * (DAY_PERIODS[2] + YEAR_HARMONICS), width)
        self.interval_embedding = STSUNMetadataEmbedding(4 * (DAY_PERIODS[2] + YEAR_HARMONICS), width)
        self.lag_embedding = STSUNMetadataEmbedding(4 * LOG_DAY_PERIODS[2] + 2, width)
        self.role_embedding = nn.Embedding(len(DATE_ROLES), width)
        self.encoder = STSUNHyperEncoder(config)
        # What a date is to an output decides more than when it was; or changes would be hard to come by.
        self.role_embedding.init_scale = 2.0
        for embedding in (self.date_embedding, self.interval_embedding, self.lag_embedding):
            embedding.projection.init_scale = 0.5

    @staticmethod
    def date_code(days: torch.Tensor) -> torch.Tensor:
        """(..., V) days -> (..., V * features)."""
        return torch.cat([fourier_features(days, DAY_PERIODS), season_features(days)], dim=-1).flatten(-2)

    @staticmethod
    def lag_code(days: torch.Tensor) -> torch.Tensor:
        """(..., 2) days from both ends of the interval -> signed logarithm and its code."""
        octaves = days.sign() * (1 + days.abs()).log2()
        return torch.cat([octaves / 8, fourier_features(octaves, LOG_DAY_PERIODS).flatten(-2)], dim=-1)

    def forward(
        self,
        timestamps: torch.Tensor,
        date_mask: torch.Tensor,
        output_timestamps: torch.Tensor,
        output_date_roles: torch.Tensor,
    ) -> torch.Tensor:
        """(B, T), (B, T), (B, S, 2), (B, S, T) -> (B, S, T, width)."""
        lags = timestamps[:, None, :, None] - output_timestamps[:, :, None]  # (B, S, T, 2)
        tokens = self.date_embedding(timestamps.unsqueeze(-1), self.date_code)[:, None]
        tokens = tokens + self.interval_embedding(output_timestamps, self.date_code)[:, :, None]
        tokens = tokens + self.lag_embedding(lags, self.lag_code) + self.role_embedding(output_date_roles)
        mask = date_mask[:, None].expand(-1, tokens.shape[1], -1)
        return self.encoder(tokens.flatten(0, 1), mask.flatten(0, 1)).unflatten(0, tokens.shape[:2])


class STSUNTemporalModule(nn.Module):
    """TUM, the temporal unified module: T dates -> Tu unified times -> S outputs, at every position alike.

    Each unified time carries a share of the channels and is a weighted mean over the dates, with a gain that may be
    negative; the weights come from metadata alone. A mean, not a sum, keeps the scale for one date or two hundred, and
    lets a date drop out where it holds no data. The gains of the later half of the unified times have a mean of zero:
    these are differences between dates, and enter the activation with both signs, because a change is one whatever
    its sign.
    """

    def __init__(self, config: STSUNConfig, channels: int):
        super().__init__()
        self.unified_time_size = config.unified_time_size
        self.num_means = config.unified_time_size // 2
        width = config.hypernetwork_hidden_size
        self.mean_channels = channels // self.unified_time_size * self.num_means
        self.attention_weight = nn.Linear(width, config.unified_time_size + 1, bias=False)
        self.gain_weight = nn.Linear(width, config.unified_time_size)
        self.norm = nn.LayerNorm(channels, eps=config.layer_norm_eps)
        self.in_proj = nn.Linear(channels, channels)
        self.activation = ACT2FN[config.hidden_act]
        self.out_proj = nn.Linear(2 * channels - self.mean_channels, channels)

    def generate_weights(self, date_states: torch.Tensor, date_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """`date_states` (B, S, T, width), `date_mask` (B, T) -> means over dates (B, Tu + 1, S, T), the last that
        of the residual, and gains (B, Tu, S, T)."""
        scores = self.attention_weight(date_states).float().masked_fill(~date_mask[:, None, :, None], -math.inf)
        # A sample without any real date keeps finite weights; nothing of it is used.
        scores = torch.where(date_mask.any(1)[:, None, None, None], scores, 0.0)
        weights = rearrange(scores.softmax(2), "b s t u -> b u s t").to(date_states.dtype)
        gains = rearrange(self.gain_weight(date_states), "b s t u -> b u s t")
        # What dates share and what sets them apart have scales of their own, whatever the number of dates.
        shares = weights[:, :-1]
        means = (shares * gains).sum(-1, keepdim=True)
        differences = (gains - means) * shares.square().sum(-1, keepdim=True).clamp(min=1e-6).rsqrt()
        means = torch.cat([means[:, : self.num_means], torch.zeros_like(means[:, self.num_means :])], dim=1)
        return weights, means + DIFFERENCE_GAIN * differences

    def add_dates(
        self,
        sums: STSUNTemporalSums | None,
        states: torch.Tensor,
        mask: torch.Tensor | None,
        weights: torch.Tensor,
        gains: torch.Tensor,
    ) -> STSUNTemporalSums:
        """Adds dates to the sums over those before them, in place; `None` = there are none.

        `states` (B, T, N, channels), `mask` (B, T, N) or None, `weights` (B or 1, Tu + 1, S, T) and `gains` (B or 1,
        Tu, S, T), all of the same T dates.
        """
        values = self.in_proj(self.norm(states))
        if mask is not None:
            values = torch.where(mask.unsqueeze(-1), values, 0)
            states = torch.where(mask.unsqueeze(-1), states, 0)
        gains = weights[:, :-1] * gains
        one_by_one = not torch.is_grad_enabled() and not torch.compiler.is_compiling()
        if sums is None and states.shape[1] > 1 and not one_by_one:
            sums = self.sum_by_products(states, values, weights, gains)
        else:
            sums = self.sum_date_by_date(sums, states, values, weights, gains)
        if mask is not None:
            present = torch.matmul(weights.to(states.dtype), mask[:, None].to(states.dtype))
            sums.present = present if sums.present is None else sums.present + present
        return sums

    def sum_by_products(
        self, states: torch.Tensor, values: torch.Tensor, weights: torch.Tensor, gains: torch.Tensor
    ) -> STSUNTemporalSums:
        """Sums over dates in two matrix products: autograd, and a compiled graph, would keep a tensor for each date."""
        num_positions, channels = states.shape[2:]
        values = rearrange(values, "b t n (u c) -> b u t (n c)", u=self.unified_time_size)
        unified = torch.matmul(gains.to(states.dtype), values)  # (B, Tu, S, N * channels / Tu)
        unified = rearrange(unified, "b u s (n c) -> b s n (u c)", n=num_positions)
        residual = torch.matmul(weights[:, -1].to(states.dtype), states.flatten(2))
        return STSUNTemporalSums(unified, residual.unflatten(2, (num_positions, channels)), None)

    def sum_date_by_date(
        self,
        sums: STSUNTemporalSums | None,
        states: torch.Tensor,
        values: torch.Tensor,
        weights: torch.Tensor,
        gains: torch.Tensor,
    ) -> STSUNTemporalSums:
        """Sums over dates without rearranging what is as large as all of them, in float32 at least."""
        repeats = states.shape[-1] // self.unified_time_size
        dtype = torch.promote_types(states.dtype, torch.float32)
        gains = rearrange(gains.to(dtype), "b u s t -> b t s 1 u").repeat_interleave(repeats, dim=-1)
        shares = rearrange(weights[:, -1].to(dtype), "b s t -> b t s 1 1")
        for date in range(states.shape[1]):
            value, state = values[:, date, None], states[:, date, None]  # (B, 1, N, channels)
            if sums is None:
                sums = STSUNTemporalSums(value * gains[:, date], state * shares[:, date], None)
            else:
                sums.unified.addcmul_(value, gains[:, date])
                sums.residual.addcmul_(state, shares[:, date])
        return sums

    def forward(self, sums: STSUNTemporalSums, dtype: torch.dtype) -> torch.Tensor:
        """Sums over all dates -> (B, S, N, channels)."""
        unified, residual = sums.unified, sums.residual
        if sums.present is not None:
            # Weights of the dates that hold data at each position, so that the rest speaks for the missing ones.
            present = rearrange(sums.present.clamp(min=1e-6), "b u s n -> b s n u")
            repeats = residual.shape[-1] // self.unified_time_size
            unified = unified / present[..., :-1].repeat_interleave(repeats, dim=-1)
            residual = residual / present[..., -1:]
        return residual.to(dtype) + self.project(unified.to(dtype))

    def project(self, unified: torch.Tensor) -> torch.Tensor:
        """(..., channels) of the unified times -> (..., channels)."""
        return self.out_proj(self.activation(torch.cat([unified, -unified[..., self.mean_channels :]], dim=-1)))


def any_date(seen: torch.Tensor | None, mask: torch.Tensor | None) -> torch.Tensor | None:
    """Where a date holds data: (B, 1, N) of the dates before, or None, and the mask (B, T, N) of some more, or None."""
    if mask is None:
        return None
    mask = mask.any(1, keepdim=True)
    return mask if seen is None else seen | mask


# Output


class STSUNUpsampler(nn.Module):
    """From decoder tokens back to the unified grid, joined by the cells of the input side, mapped over time."""

    def __init__(self, config: STSUNConfig):
        super().__init__()
        self.patch_size, self.stem_channels = config.patch_size, config.stem_channels
        self.projection = nn.Linear(config.hidden_size, config.stem_channels * config.patch_size**2)
        self.skip = nn.Linear(config.unified_channels, config.stem_channels)
        self.norm1 = nn.LayerNorm(config.stem_channels, eps=config.layer_norm_eps)
        self.convolution = nn.Conv2d(config.stem_channels, config.unified_channels, 3, padding=1)
        self.norm2 = nn.LayerNorm(config.unified_channels, eps=config.layer_norm_eps)

    def forward(
        self, tokens: torch.Tensor, cells: torch.Tensor, cell_mask: torch.Tensor | None, grid: tuple[int, int]
    ) -> torch.Tensor:
        """`tokens` (L, h, w, D), `cells` (L, Gh*Gw, E), `cell_mask` (L, Gh*Gw) or None -> (L, Gh, Gw, E)."""
        states = rearrange(
            self.projection(tokens),
            "l h w (i j c) -> l (h i) (w j) c",
            i=self.patch_size,
            j=self.patch_size,
        )
        skipped = self.skip(cells).unflatten(1, grid)
        # In place: no other tensor is as large, and fresh memory costs more than the sum.
        states = skipped.add_(states[:, : grid[0], : grid[1]])
        states = silu(self.norm1(states))
        if cell_mask is not None:
            states = torch.where(cell_mask.unflatten(1, grid).unsqueeze(-1), states, 0)
        return self.norm2(conv_channels_last(self.convolution, states).add_(cells.unflatten(1, grid)))


class STSUNOutputModule(nn.Module):
    """OSSUM, the output spatial-spectral unified module: E channels of a cell to K classes at each of its p x p pixels.

    The weights of a class come from its embedding and the positions inside the cell, never from the other classes:
    logits of a subset of classes equal those of the full set.
    """

    def __init__(self, config: STSUNConfig):
        super().__init__()
        width = config.hypernetwork_hidden_size
        self.unified_channels = config.unified_channels
        self.category_embedding = nn.Embedding(config.num_labels, width)
        if config.category_embeds_dim is not None:
            self.category_projection = nn.Linear(config.category_embeds_dim, width)
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.mlp = STSUNMLP(config, width, 2 * width)
        self.weight = nn.Linear(width, config.unified_channels * config.cell_rank)
        self.bias = nn.Linear(width, 1, bias=False)
        self.bias.init_scale = 0.1
        self.cell_basis = STSUNCellBasis(config)

    def embed_categories(
        self,
        category_ids: torch.Tensor | None,
        category_embeds: torch.Tensor | None,
        batch_size: int,
        device: torch.device,
    ) -> torch.Tensor:
        """(B, K, width) from ids, from embeddings of another space, or of all classes in order if neither is given."""
        if category_embeds is not None:
            if category_ids is not None:
                raise ValueError("Give category_ids or category_embeds, not both.")
            if not hasattr(self, "category_projection"):
                raise ValueError(
                    "category_embeds were given, but this checkpoint has no projection for them: set "
                    "category_embeds_dim in the config (and train it)."
                )
            return self.category_projection(category_embeds.to(compute_dtype(self.category_projection)))
        if category_ids is None:
            # Looked up like any others, so that adapters and offloaded weights take part.
            ids = torch.arange(self.category_embedding.num_embeddings, device=device)
            return self.category_embedding(ids).expand(batch_size, -1, -1)
        return self.category_embedding(category_ids)

    def generate_weights(self, categories: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, K, width) -> coefficients (B, K, E, rank) and bias (B, K)."""
        states = self.norm(categories)
        states = states + self.mlp(states)
        weight = self.weight(states).unflatten(-1, (self.unified_channels, -1)) / math.sqrt(self.unified_channels)
        return weight, self.bias(states).squeeze(-1)

    def forward(
        self, feature_maps: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, cell_size: int
    ) -> torch.Tensor:
        """`feature_maps` (b, S, Gh, Gw, E), of samples that share a cell size -> logits (b, S, K, Gh*p, Gw*p)."""
        kernels = torch.einsum("bnek,kij->bnije", weight, self.cell_basis(cell_size, weight.device))
        grid = feature_maps.shape[2:4]
        cells = feature_maps.flatten(1, 3)  # (b, S*Gh*Gw, E)
        logits = torch.matmul(kernels.flatten(1, 3), cells.transpose(1, 2))  # (b, K*p*p, S*Gh*Gw)
        logits = rearrange(
            logits,
            "b (k i j) (s h w) -> b s k (h i) (w j)",
            i=cell_size,
            j=cell_size,
            h=grid[0],
            w=grid[1],
        )
        return logits + bias[:, None, :, None, None]


# Models


@auto_docstring
class STSUNPreTrainedModel(PreTrainedModel):
    config: STSUNConfig
    base_model_prefix = "stsun"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    supports_gradient_checkpointing = True
    _no_split_modules = ["STSUNLayer", "STSUNInputModule", "STSUNTemporalModule", "STSUNOutputModule"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _can_record_outputs = {"hidden_states": STSUNLayer, "attentions": STSUNGridAttention}
    # The loss is a mean over samples, so a Trainer averages it over accumulated batches.
    accepts_loss_kwargs = False

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """Saves weights, config and the code that loads them without this package; arguments as in the base class."""
        # Saving one class names that class alone, but every Auto class shall work on every folder.
        self.config.auto_map = dict(AUTO_MAP)
        super().save_pretrained(save_directory, **kwargs)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        scale = getattr(module, "init_scale", 1.0)
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            # Unit scale in, unit scale out (LeCun et al. 1998): generated weights have the right scale from step 0.
            init.trunc_normal_(module.weight, std=scale * module.weight[0].numel() ** -0.5)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, std=scale)
        elif isinstance(module, STSUNMetadataEmbedding):
            init.zeros_(module.unknown)


@auto_docstring(custom_intro="STSUN up to the features of each output on the unified grid.")
class STSUNModel(STSUNPreTrainedModel):
    def __init__(self, config: STSUNConfig):
        super().__init__(config)
        self.input_module = STSUNInputModule(config)
        self.stem = STSUNStem(config)
        self.task_embedding = nn.Embedding(len(config.tasks), 3 * config.hidden_size)
        # Added to the image, which they must not drown.
        self.task_embedding.init_scale = 0.3
        self.scale_embedding = STSUNMetadataEmbedding(4 * LOG_SIZE_PERIODS[2], config.hidden_size, init_scale=0.3)
        self.condition_hypernetwork = STSUNConditionHypernetwork(config)
        half = config.num_hidden_layers // 2
        self.encoder_layers = nn.ModuleList(STSUNLayer(config, index) for index in range(half))
        self.date_hypernetwork = STSUNDateHypernetwork(config)
        self.temporal_module = STSUNTemporalModule(config, config.hidden_size)
        self.cell_temporal_module = STSUNTemporalModule(config, config.unified_channels)
        self.decoder_layers = nn.ModuleList(STSUNLayer(config, half + index) for index in range(half))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.upsampler = STSUNUpsampler(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.stem.projection

    def resolve_cell_sizes(
        self,
        pixel_values: torch.Tensor,
        pixel_mask: torch.Tensor | None,
        cell_sizes: torch.Tensor | list[int] | int | None,
    ) -> tuple[list[int], list[tuple[int, int]]]:
        """Side of a cell in pixels, and the height and width in pixels that hold data, for each sample."""
        batch_size, size = pixel_values.shape[0], tuple(pixel_values.shape[-2:])
        if isinstance(cell_sizes, torch.Tensor) and cell_sizes.ndim == 1:
            cell_sizes = cell_sizes.tolist()
        if cell_sizes is not None:
            if not isinstance(cell_sizes, list):
                cell_sizes = [operator.index(cell_sizes)] * batch_size
            if len(cell_sizes) != batch_size:
                raise ValueError(f"cell_sizes holds {len(cell_sizes)} sizes for a batch of {batch_size} samples.")
        elif max(size) <= self.config.unified_size:
            cell_sizes = [1] * batch_size
        if cell_sizes is not None and min(cell_sizes) < 1:
            raise ValueError(f"cell_sizes must be 1 or more pixels, got {cell_sizes}.")
        sizes = [size] * batch_size
        if pixel_mask is not None and (cell_sizes is None or len(set(cell_sizes)) > 1):
            # The real size of each sample: padding must not decide about its cells.
            mask = pixel_mask.any(1)
            ends = [
                (lines * torch.arange(1, lines.shape[1] + 1, device=lines.device)).amax(1)
                for lines in (mask.any(2), mask.any(1))
            ]
            sizes = [(max(height, 1), max(width, 1)) for height, width in torch.stack(ends, 1).tolist()]
        if cell_sizes is None:
            cell_sizes = [-(-max(size) // self.config.unified_size) for size in sizes]
        return cell_sizes, sizes

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    @auto_docstring
    def forward(
        self,
        pixel_values: torch.Tensor,
        wavelengths: torch.Tensor | None = None,
        bandwidths: torch.Tensor | None = None,
        band_types: torch.Tensor | None = None,
        timestamps: torch.Tensor | None = None,
        gsd: torch.Tensor | None = None,
        band_mask: torch.Tensor | None = None,
        date_mask: torch.Tensor | None = None,
        pixel_mask: torch.Tensor | None = None,
        cell_sizes: torch.Tensor | list[int] | int | None = None,
        task_ids: torch.Tensor | None = None,
        output_timestamps: torch.Tensor | None = None,
        output_date_roles: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> STSUNModelOutput:
        r"""
        pixel_values (`torch.FloatTensor` of shape `(batch_size, num_dates, num_bands, height, width)`):
            Normalised pixels.
        wavelengths (`torch.FloatTensor` of shape `(batch_size, num_dates, num_bands)`, *optional*):
            Centre wavelengths in nanometres; NaN, and `None`, = unknown or none.
        bandwidths (`torch.FloatTensor` of shape `(batch_size, num_dates, num_bands)`, *optional*):
            Full widths at half maximum in nanometres; NaN, and `None`, = unknown or none.
        band_types (`torch.LongTensor` of shape `(batch_size, num_dates, num_bands)`, *optional*):
            Positions in `config.band_types`; `None` = the first of them for every band.
        timestamps (`torch.FloatTensor` of shape `(batch_size, num_dates)`, *optional*):
            Days since 2000-01-01; NaN, and `None`, = unknown.
        gsd (`torch.FloatTensor` of shape `(batch_size,)`, *optional*):
            Ground sampling distance in metres a pixel; NaN, and `None`, = unknown.
        band_mask (`torch.BoolTensor` of shape `(batch_size, num_dates, num_bands)`, *optional*):
            True = real band, False = padding.
        date_mask (`torch.BoolTensor` of shape `(batch_size, num_dates)`, *optional*):
            True = real date, False = padding.
        pixel_mask (`torch.BoolTensor` of shape `(batch_size, num_dates, height, width)`, *optional*):
            True = pixel with data, False = nodata or padding (which lies right of and below the real pixels).
        cell_sizes (`int`, `list[int]` or `torch.LongTensor` of shape `(batch_size,)`, *optional*):
            Side of a cell in pixels for each sample (a tensor is copied to the host); `None` = so that the longer side
            of the real pixels takes at most `config.unified_size` cells.
        task_ids (`torch.LongTensor` of shape `(batch_size,)`, *optional*):
            Positions in `config.tasks`; `None` = the first of them for every sample.
        output_timestamps (`torch.FloatTensor` of shape `(batch_size, num_outputs, 2)`, *optional*):
            Start and end, in days since 2000-01-01, of what each output describes; NaN, and `None`, = unknown.
        output_date_roles (`torch.LongTensor` of shape `(batch_size, num_outputs, num_dates)`, *optional*):
            What each date is to each output: 0 = context, 1 = described by it, 2 = before the change it describes, 3 =
            after it. `None` = every output describes every date.
        """
        check_shapes(
            pixel_values=pixel_values,
            wavelengths=wavelengths,
            bandwidths=bandwidths,
            band_types=band_types,
            timestamps=timestamps,
            gsd=gsd,
            band_mask=band_mask,
            date_mask=date_mask,
            pixel_mask=pixel_mask,
            task_ids=task_ids,
            output_timestamps=output_timestamps,
            output_date_roles=output_date_roles,
        )
        if date_mask is not None:
            dates = date_mask[:, :, None, None]
            pixel_mask = dates.expand(-1, -1, *pixel_values.shape[-2:]) if pixel_mask is None else pixel_mask & dates
        pixel_mask = mask_if_needed(pixel_mask)
        cell_sizes, sizes = self.resolve_cell_sizes(pixel_values, pixel_mask, cell_sizes)
        generated = self.generate_weights(
            pixel_values.shape[:3],
            cell_sizes,
            pixel_values.device,
            wavelengths=wavelengths,
            bandwidths=bandwidths,
            band_types=band_types,
            timestamps=timestamps,
            gsd=gsd,
            band_mask=band_mask,
            date_mask=date_mask,
            task_ids=task_ids,
            output_timestamps=output_timestamps,
            output_date_roles=output_date_roles,
        )
        dates_at_once = max_dates_at_once(pixel_values, min(cell_sizes))
        if any(kwargs.get(f"output_{name}", getattr(self.config, f"output_{name}", False)) for name in RECORDED):
            # What is recorded of a layer is what it gives for all dates.
            dates_at_once = None
        return self.apply_weights(pixel_values, pixel_mask, generated, cell_sizes, sizes, dates_at_once, **kwargs)

    def generate_weights(
        self,
        shape: tuple[int, int, int],
        cell_sizes: list[int],
        device: torch.device,
        *,
        wavelengths: torch.Tensor | None = None,
        bandwidths: torch.Tensor | None = None,
        band_types: torch.Tensor | None = None,
        timestamps: torch.Tensor | None = None,
        gsd: torch.Tensor | None = None,
        band_mask: torch.Tensor | None = None,
        date_mask: torch.Tensor | None = None,
        task_ids: torch.Tensor | None = None,
        output_timestamps: torch.Tensor | None = None,
        output_date_roles: torch.Tensor | None = None,
    ) -> STSUNGeneratedWeights:
        """Runs the hypernetworks on the metadata of `shape` = (samples, dates, bands); arguments as in the forward."""
        batch_size, num_dates, _ = shape
        unknown = torch.full(tuple(shape), math.nan, device=device)
        wavelengths = unknown if wavelengths is None else wavelengths
        bandwidths = unknown if bandwidths is None else bandwidths
        timestamps = unknown[:, :, 0] if timestamps is None else timestamps
        gsd = unknown[:, 0, 0] if gsd is None else gsd
        if band_types is None:
            band_types = torch.zeros(unknown.shape, dtype=torch.long, device=device)
        if band_mask is None:
            band_mask = torch.ones(unknown.shape, dtype=torch.bool, device=device)
        if date_mask is None:
            date_mask = torch.ones(batch_size, num_dates, dtype=torch.bool, device=device)
        if task_ids is None:
            task_ids = torch.zeros(batch_size, dtype=torch.long, device=device)
        if output_timestamps is None:
            num_outputs = 1 if output_date_roles is None else output_date_roles.shape[1]
            output_timestamps = torch.full((batch_size, num_outputs, 2), math.nan, device=device)
        if output_date_roles is None:
            roles = (batch_size, output_timestamps.shape[1], num_dates)
            output_date_roles = torch.full(roles, DATE_ROLES.index("described"), device=device)

        if len(set(cell_sizes)) == 1:
            # Filled on the device: a copy from the host would wait for it.
            pixels = torch.full((batch_size,), float(cell_sizes[0]), device=device)
        else:
            pixels = torch.tensor(cell_sizes, dtype=torch.float32, device=device)
        sizes = torch.stack([gsd.float() * pixels, pixels], dim=-1)
        *input_weights, bands = self.input_module.generate_weights(wavelengths, bandwidths, band_types, band_mask)
        dates = date_mask.unsqueeze(-1).to(bands.dtype)
        all_bands = (bands * dates).sum(1, keepdim=True) / dates.sum(1, keepdim=True).clamp(min=1)
        date_states = self.date_hypernetwork(timestamps, date_mask, output_timestamps, output_date_roles)
        return STSUNGeneratedWeights(
            *input_weights,
            self.task_embedding(task_ids),
            self.scale_embedding(sizes, scale_code),
            self.condition_hypernetwork(task_ids, sizes, bands),
            self.condition_hypernetwork(task_ids, sizes, all_bands),
            *self.temporal_module.generate_weights(date_states, date_mask),
            *self.cell_temporal_module.generate_weights(date_states, date_mask),
        )

    def apply_weights(
        self,
        pixel_values: torch.Tensor,
        pixel_mask: torch.Tensor | None,
        generated: STSUNGeneratedWeights,
        cell_sizes: list[int],
        sizes: list[tuple[int, int]],
        dates_at_once: int | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> STSUNModelOutput:
        """Everything that depends on pixels; `cell_sizes` and `sizes` as from `resolve_cell_sizes`.

        `dates_at_once` bounds memory: so many dates are held at a time, `None` = all.
        """
        pixel_values = pixel_values.to(self.stem.convolution.weight.dtype)
        num_dates = pixel_values.shape[1]
        temporal_task, output_task = generated.task[:, None, None].chunk(3, dim=-1)[1:]
        token_sums = cell_sums = token_mask = cell_mask = None
        step = dates_at_once or num_dates
        for first in range(0, num_dates, step):
            dates = slice(first, first + step)
            part = generated.select_dates(dates)
            mask = None if pixel_mask is None else pixel_mask[:, dates]
            tokens, tokens_with_data, cells, cells_with_data, token_grid, grid = self.encode(
                pixel_values[:, dates], mask, part, cell_sizes, sizes, **kwargs
            )
            token_sums = self.temporal_module.add_dates(
                token_sums, tokens + temporal_task, tokens_with_data, part.token_weight, part.token_gain
            )
            cell_sums = self.cell_temporal_module.add_dates(
                cell_sums, cells, cells_with_data, part.cell_weight, part.cell_gain
            )
            token_mask = any_date(token_mask, tokens_with_data)
            cell_mask = any_date(cell_mask, cells_with_data)

        tokens = self.temporal_module(token_sums, tokens.dtype)
        cells = self.cell_temporal_module(cell_sums, cells.dtype)
        num_outputs = tokens.shape[1]
        if token_mask is not None:
            token_mask = token_mask.expand(-1, num_outputs, -1)
        if cell_mask is not None:
            cell_mask = cell_mask.expand(-1, num_outputs, -1).flatten(0, 1)

        for layer in self.decoder_layers:
            tokens = layer(tokens, generated.decoder_condition, token_grid, token_mask, **kwargs)
        tokens = self.norm(tokens)

        feature_maps = self.upsampler(
            (tokens + output_task).flatten(0, 1).unflatten(1, token_grid), cells.flatten(0, 1), cell_mask, grid
        )
        return STSUNModelOutput(
            last_hidden_state=tokens,
            feature_maps=feature_maps.unflatten(0, (-1, num_outputs)),
            cell_sizes=cell_sizes,
        )

    def encode(
        self,
        pixel_values: torch.Tensor,
        pixel_mask: torch.Tensor | None,
        generated: STSUNGeneratedWeights,
        cell_sizes: list[int],
        sizes: list[tuple[int, int]],
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor, torch.Tensor | None, tuple[int, int], tuple[int, int]]:
        """Each date by itself: tokens (B, T, N, D) after the encoder and their mask, cells (B, T, Gh * Gw, E) and
        theirs, and the grids of both."""
        batch = pixel_values.shape[:2]
        cells, cell_mask = self.unify(pixel_values, pixel_mask, generated, cell_sizes, sizes)
        grid = tuple(cells.shape[2:4])
        tokens, token_mask = self.stem(cells.flatten(0, 1), None if cell_mask is None else cell_mask.flatten(0, 1))
        token_grid = tuple(tokens.shape[1:3])
        tokens = tokens.flatten(1, 2).unflatten(0, batch)
        if token_mask is not None:
            token_mask = token_mask.flatten(1).unflatten(0, batch)
        if cell_mask is not None:
            cell_mask = cell_mask.flatten(2)
        encoder_task = generated.task[:, None, None].chunk(3, dim=-1)[0]
        tokens = tokens + encoder_task + generated.scale[:, None, None]
        for layer in self.encoder_layers:
            tokens = layer(tokens, generated.encoder_condition, token_grid, token_mask, **kwargs)
        return tokens, token_mask, cells.flatten(2, 3), cell_mask, token_grid, grid

    def unify(
        self,
        pixel_values: torch.Tensor,
        pixel_mask: torch.Tensor | None,
        generated: STSUNGeneratedWeights,
        cell_sizes: list[int],
        sizes: list[tuple[int, int]],
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Cells (B, T, Gh, Gw, E) and their mask; samples of different cell sizes meet on one padded, masked grid."""
        weight, bias = generated.input_weight, generated.input_bias
        if len(set(cell_sizes)) == 1:
            return self.input_module(pixel_values, pixel_mask, weight, bias, cell_sizes[0])
        parts = []
        for index, (cell_size, (height, width)) in enumerate(zip(cell_sizes, sizes, strict=True)):
            one = slice(index, index + 1)
            mask = None if pixel_mask is None else pixel_mask[one, :, :height, :width]
            cells, mask = self.input_module(
                pixel_values[one, ..., :height, :width], mask, weight[one], bias[one], cell_size
            )
            if mask is None:
                mask = cells.new_ones(cells.shape[:4], dtype=torch.bool)
            parts.append((cells, mask))
        grid = [max(cells.shape[axis] for cells, _ in parts) for axis in (2, 3)]
        pads = [(0, grid[1] - cells.shape[3], 0, grid[0] - cells.shape[2]) for cells, _ in parts]
        cells = torch.cat([F.pad(cells, (0, 0, *pad)) for (cells, _), pad in zip(parts, pads, strict=True)])
        mask = torch.cat([F.pad(mask, pad) for (_, mask), pad in zip(parts, pads, strict=True)])
        return cells, mask


@auto_docstring(
    custom_intro="""
    STSUN with its output module: one map of classes for every output of every sample. The task, the classes and the
    outputs are arguments of the call; logits follow the order of `category_ids`.
    """
)
class STSUNForDensePrediction(STSUNPreTrainedModel):
    def __init__(self, config: STSUNConfig):
        super().__init__(config)
        self.stsun = STSUNModel(config)
        self.output_module = STSUNOutputModule(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.stsun.get_input_embeddings()

    def add_categories(self, names: list[str]) -> list[int]:
        """Adds classes to the vocabulary; the embeddings of the old ones stay as they are.

        Args:
            names: names of the new classes.

        Returns:
            Their ids.

        Raises:
            ValueError: a name is known already, or given twice; one text instead of a list; or the table is wrapped.
        """
        if isinstance(names, str):
            raise ValueError(f"names is the text {names!r}; give a list of names: add_categories([{names!r}]).")
        if type(self.output_module) is not STSUNOutputModule or (
            type(self.output_module.category_embedding) is not nn.Embedding
        ):
            raise ValueError(
                "The table of classes is wrapped by an adapter, which would not see new ones. Add classes before "
                "get_peft_model, or merge the adapter first (merge_and_unload)."
            )
        known = [self.config.id2label[index] for index in range(self.config.num_labels)]
        for index, name in enumerate(names):
            if name in known or name in names[:index]:
                raise ValueError(f"Class {name!r} is known already; known classes are {', '.join(known)}.")
        old = self.output_module.category_embedding
        table = nn.Embedding(old.num_embeddings + len(names), old.embedding_dim)
        table.to(device=old.weight.device, dtype=old.weight.dtype)
        with torch.no_grad():
            table.weight[: old.num_embeddings] = old.weight
        table.weight.requires_grad_(old.weight.requires_grad)
        self.output_module.category_embedding = table
        weights = self.config.class_weights
        # Both at once: the config checks that they fit together.
        if weights is not None:
            self.config.class_weights = None
        self.config.id2label = dict(enumerate(known + list(names)))
        self.config.label2id = {name: index for index, name in self.config.id2label.items()}
        if weights is not None:
            self.config.class_weights = [*weights, *[1.0] * len(names)]
        return list(range(len(known), len(known) + len(names)))

    @can_return_tuple
    @auto_docstring
    def forward(
        self,
        pixel_values: torch.Tensor,
        wavelengths: torch.Tensor | None = None,
        bandwidths: torch.Tensor | None = None,
        band_types: torch.Tensor | None = None,
        timestamps: torch.Tensor | None = None,
        gsd: torch.Tensor | None = None,
        band_mask: torch.Tensor | None = None,
        date_mask: torch.Tensor | None = None,
        pixel_mask: torch.Tensor | None = None,
        cell_sizes: torch.Tensor | list[int] | int | None = None,
        task_ids: torch.Tensor | None = None,
        category_ids: torch.Tensor | None = None,
        category_mask: torch.Tensor | None = None,
        category_embeds: torch.Tensor | None = None,
        output_timestamps: torch.Tensor | None = None,
        output_date_roles: torch.Tensor | None = None,
        output_mask: torch.Tensor | None = None,
        image_sizes: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> STSUNDensePredictionOutput:
        r"""
        pixel_values (`torch.FloatTensor` of shape `(batch_size, num_dates, num_bands, height, width)`):
            Normalised pixels.
        wavelengths (`torch.FloatTensor` of shape `(batch_size, num_dates, num_bands)`, *optional*):
            Centre wavelengths in nanometres; NaN, and `None`, = unknown or none.
        bandwidths (`torch.FloatTensor` of shape `(batch_size, num_dates, num_bands)`, *optional*):
            Full widths at half maximum in nanometres; NaN, and `None`, = unknown or none.
        band_types (`torch.LongTensor` of shape `(batch_size, num_dates, num_bands)`, *optional*):
            Positions in `config.band_types`; `None` = the first of them for every band.
        timestamps (`torch.FloatTensor` of shape `(batch_size, num_dates)`, *optional*):
            Days since 2000-01-01; NaN, and `None`, = unknown.
        gsd (`torch.FloatTensor` of shape `(batch_size,)`, *optional*):
            Ground sampling distance in metres a pixel; NaN, and `None`, = unknown.
        band_mask (`torch.BoolTensor` of shape `(batch_size, num_dates, num_bands)`, *optional*):
            True = real band, False = padding.
        date_mask (`torch.BoolTensor` of shape `(batch_size, num_dates)`, *optional*):
            True = real date, False = padding.
        pixel_mask (`torch.BoolTensor` of shape `(batch_size, num_dates, height, width)`, *optional*):
            True = pixel with data, False = nodata or padding (which lies right of and below the real pixels).
        cell_sizes (`int`, `list[int]` or `torch.LongTensor` of shape `(batch_size,)`, *optional*):
            Side of a cell in pixels for each sample (a tensor is copied to the host); `None` = so that the longer side
            of the real pixels takes at most `config.unified_size` cells.
        task_ids (`torch.LongTensor` of shape `(batch_size,)`, *optional*):
            Positions in `config.tasks`; `None` = the first of them for every sample.
        category_ids (`torch.LongTensor` of shape `(batch_size, num_classes)`, *optional*):
            Positions in `config.id2label` of the classes asked for, in any order; `None` = all, in order.
        category_mask (`torch.BoolTensor` of shape `(batch_size, num_classes)`, *optional*):
            True = real class, False = padding, which comes last. Logits of padding are the lowest finite number.
        category_embeds (`torch.FloatTensor` of shape `(batch_size, num_classes, category_embeds_dim)`, *optional*):
            Embeddings of classes, for instance of their names by a text encoder, in place of `category_ids`.
        output_timestamps (`torch.FloatTensor` of shape `(batch_size, num_outputs, 2)`, *optional*):
            Start and end, in days since 2000-01-01, of what each output describes; NaN, and `None`, = unknown.
        output_date_roles (`torch.LongTensor` of shape `(batch_size, num_outputs, num_dates)`, *optional*):
            What each date is to each output: 0 = context, 1 = described by it, 2 = before the change it describes, 3 =
            after it. `None` = every output describes every date.
        output_mask (`torch.BoolTensor` of shape `(batch_size, num_outputs)`, *optional*):
            True = real output, False = padding, which takes no part in the loss.
        image_sizes (`torch.LongTensor` of shape `(batch_size, 2)`, *optional*):
            Height and width of the images of each sample, beyond which lies padding; for post-processing.
        labels (`torch.LongTensor` of shape `(batch_size, num_outputs, height, width)`, *optional*):
            Positions in the sample's `category_ids`; 255 = not labelled. For a sample that asks for a single class, 1 =
            present and 0 = absent. For one output its axis may be left out.
        """
        if labels is not None and labels.ndim == 3:
            labels = labels.unsqueeze(1)
        check_shapes(
            {} if category_embeds is None else {"V": self.config.category_embeds_dim or category_embeds.shape[-1]},
            pixel_values=pixel_values,
            category_ids=category_ids,
            category_embeds=category_embeds,
            category_mask=category_mask,
            output_timestamps=output_timestamps,
            output_date_roles=output_date_roles,
            output_mask=output_mask,
            image_sizes=image_sizes,
            labels=labels,
        )
        outputs: STSUNModelOutput = self.stsun(
            pixel_values,
            wavelengths=wavelengths,
            bandwidths=bandwidths,
            band_types=band_types,
            timestamps=timestamps,
            gsd=gsd,
            band_mask=band_mask,
            date_mask=date_mask,
            pixel_mask=pixel_mask,
            cell_sizes=cell_sizes,
            task_ids=task_ids,
            output_timestamps=output_timestamps,
            output_date_roles=output_date_roles,
            return_dict=True,
            **kwargs,
        )
        categories = self.output_module.embed_categories(
            category_ids, category_embeds, pixel_values.shape[0], pixel_values.device
        )
        weight, bias = self.output_module.generate_weights(categories)
        if pixel_mask is not None and date_mask is not None:
            pixel_mask = pixel_mask & date_mask[:, :, None, None]
        pixel_mask = mask_if_needed(pixel_mask)
        logits = self.map_classes(outputs, weight, bias, pixel_values.shape[-2:], pixel_mask)
        if category_mask is not None:
            logits = logits.masked_fill(~category_mask[:, None, :, None, None], torch.finfo(logits.dtype).min)

        loss = None
        if labels is not None:
            if output_mask is not None:
                labels = torch.where(output_mask[:, :, None, None], labels, 255)
            if pixel_mask is not None:
                # There is nothing to learn where no date holds data.
                labels = torch.where(pixel_mask.any(1)[:, None], labels, 255)
            loss = self.dense_loss(logits, labels, category_ids, category_mask, category_embeds)
        return STSUNDensePredictionOutput(
            loss=loss,
            logits=logits,
            output_mask=output_mask,
            category_mask=category_mask,
            image_sizes=image_sizes,
            pixel_mask=pixel_mask,
            output_date_roles=output_date_roles,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def map_classes(
        self,
        outputs: STSUNModelOutput,
        weight: torch.Tensor,
        bias: torch.Tensor,
        size: tuple[int, int],
        pixel_mask: torch.Tensor | None,
    ) -> torch.Tensor:
        """Applies the generated weights of the classes: logits (B, S, K, height, width)."""
        height, width = size
        if len(set(outputs.cell_sizes)) == 1:
            logits = self.output_module(outputs.feature_maps, weight, bias, outputs.cell_sizes[0])
            logits = logits[..., :height, :width]
        else:
            parts = []
            for index, cell_size in enumerate(outputs.cell_sizes):
                one = slice(index, index + 1)
                # Large cells of a small sample would fill more than the images it is padded to.
                features = outputs.feature_maps[one, :, : -(-height // cell_size), : -(-width // cell_size)]
                part = self.output_module(features, weight[one], bias[one], cell_size)
                part = part[..., :height, :width]
                parts.append(F.pad(part, (0, width - part.shape[-1], 0, height - part.shape[-2])))
            logits = torch.cat(parts)
        if pixel_mask is not None:
            # No data in, nothing out: what a cell says about pixels that no date shows would depend on the padding.
            logits = torch.where(pixel_mask.any(1)[:, None, None], logits, 0)
        return logits

    @torch.no_grad()
    def fold_metadata(self, **inputs: Any) -> "STSUNFoldedModel":
        """Works out once all that the metadata of a request decides, for many images of the same kind.

        Args:
            **inputs: inputs of the forward, as the processor makes them, for one sample (batch size 1) without padding
                but in the bands of dates that have fewer than others. Of the pixels only the shape is used, from
                which `cell_sizes` is taken where it is not given.

        Returns:
            A module with the metadata, the task and the classes folded into its weights. It shares its parameters with
            this model, takes pixels alone, and is what to compile, to export or to slide over a scene.

        Raises:
            ValueError: more than one sample, or padding in dates, classes or outputs.
        """
        return STSUNFoldedModel(self, **inputs)

    def dense_loss(
        self,
        logits: torch.Tensor,
        labels: torch.Tensor,
        category_ids: torch.Tensor | None,
        category_mask: torch.Tensor | None,
        category_embeds: torch.Tensor | None,
    ) -> torch.Tensor:
        """The loss with the config's weights; see [`~loss_stsun.dense_prediction_loss`]."""
        class_weights = None
        # Classes given as embeddings have no place in the vocabulary, hence no weight of their own.
        if self.config.class_weights is not None and category_embeds is None:
            table = torch.tensor(self.config.class_weights, dtype=torch.float32, device=logits.device)
            class_weights = table.expand(logits.shape[0], -1) if category_ids is None else table[category_ids]
        return dense_prediction_loss(logits, labels, category_mask, class_weights, self.config.dice_loss_weight)


class STSUNFoldedModel(nn.Module):
    """A dense prediction model for one sensor, set of dates, task and class set; see
    [`STSUNForDensePrediction.fold_metadata`]."""

    def __init__(self, model: STSUNForDensePrediction, pixel_values: torch.Tensor, **inputs: Any):
        super().__init__()
        for name in ("date_mask", "category_mask", "output_mask"):
            mask = inputs.pop(name, None)
            if mask is not None and not mask.all():
                raise ValueError(f"{name} holds False: metadata are folded for one sample without padding.")
        if pixel_values.shape[0] != 1:
            raise ValueError(
                f"Metadata are folded for one sample, got a batch of {pixel_values.shape[0]}: samples of one folded "
                "model share their metadata."
            )
        for name in ("pixel_mask", "image_sizes", "labels"):
            inputs.pop(name, None)
        category_ids, category_embeds = inputs.pop("category_ids", None), inputs.pop("category_embeds", None)
        cell_sizes, _ = model.stsun.resolve_cell_sizes(pixel_values, None, inputs.pop("cell_sizes", None))
        self.model = model
        self.cell_size = cell_sizes[0]
        self.one_map = isinstance(model, STSUNForSemanticSegmentation)
        training = model.training
        # Whatever is dropped in training must not be missing from the folded weights.
        model.eval()
        generated = model.stsun.generate_weights(pixel_values.shape[:3], cell_sizes, pixel_values.device, **inputs)
        self.names = [entry.name for entry in fields(generated)]
        for name in self.names:
            self.register_buffer(name, getattr(generated, name), persistent=False)
        categories = model.output_module.embed_categories(category_ids, category_embeds, 1, pixel_values.device)
        weight, bias = model.output_module.generate_weights(categories)
        self.register_buffer("category_weight", weight, persistent=False)
        self.register_buffer("category_bias", bias, persistent=False)
        self.train(training)
        if self.one_map and self.token_weight.shape[2] != 1:
            raise ValueError(
                f"STSUNForSemanticSegmentation gives one map a sample, but {self.token_weight.shape[2]} outputs were "
                "asked for. Use STSUNForDensePrediction."
            )

    def forward(self, pixel_values: torch.Tensor, pixel_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Logits (B, S, K, H, W), of a model for semantic segmentation (B, K, H, W), of images of any number and size.

        Args:
            pixel_values: (B, T, C, H, W), normalised, with the dates and bands whose metadata were folded.
            pixel_mask: (B, T, H, W), True = pixel with data; `None` = all are.
        """
        num_dates, num_bands = self.input_weight.shape[1:3]
        check_shapes({"T": num_dates, "C": num_bands}, pixel_values=pixel_values, pixel_mask=pixel_mask)
        batch_size, (height, width) = pixel_values.shape[0], pixel_values.shape[-2:]
        pixel_mask = mask_if_needed(pixel_mask)
        generated = STSUNGeneratedWeights(**{name: getattr(self, name) for name in self.names})
        outputs = self.model.stsun.apply_weights(
            pixel_values,
            pixel_mask,
            generated,
            [self.cell_size] * batch_size,
            [(height, width)] * batch_size,
            dates_at_once=max_dates_at_once(pixel_values, self.cell_size),
        )
        weights = self.category_weight, self.category_bias
        logits = self.model.map_classes(outputs, *weights, (height, width), pixel_mask)
        return logits.squeeze(1) if self.one_map else logits


@auto_docstring(
    custom_intro="""
    STSUN for plain semantic segmentation: one map a sample, whatever the number of dates, over all classes of the
    config or a subset of them.
    """
)
class STSUNForSemanticSegmentation(STSUNForDensePrediction):
    @can_return_tuple
    @auto_docstring
    def forward(
        self,
        pixel_values: torch.Tensor,
        wavelengths: torch.Tensor | None = None,
        bandwidths: torch.Tensor | None = None,
        band_types: torch.Tensor | None = None,
        timestamps: torch.Tensor | None = None,
        gsd: torch.Tensor | None = None,
        band_mask: torch.Tensor | None = None,
        date_mask: torch.Tensor | None = None,
        pixel_mask: torch.Tensor | None = None,
        cell_sizes: torch.Tensor | list[int] | int | None = None,
        task_ids: torch.Tensor | None = None,
        category_ids: torch.Tensor | None = None,
        category_mask: torch.Tensor | None = None,
        category_embeds: torch.Tensor | None = None,
        output_timestamps: torch.Tensor | None = None,
        output_date_roles: torch.Tensor | None = None,
        output_mask: torch.Tensor | None = None,
        image_sizes: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> STSUNSemanticSegmenterOutput:
        r"""
        pixel_values (`torch.FloatTensor` of shape `(batch_size, num_dates, num_bands, height, width)`):
            Normalised pixels.
        wavelengths (`torch.FloatTensor` of shape `(batch_size, num_dates, num_bands)`, *optional*):
            Centre wavelengths in nanometres; NaN, and `None`, = unknown or none.
        bandwidths (`torch.FloatTensor` of shape `(batch_size, num_dates, num_bands)`, *optional*):
            Full widths at half maximum in nanometres; NaN, and `None`, = unknown or none.
        band_types (`torch.LongTensor` of shape `(batch_size, num_dates, num_bands)`, *optional*):
            Positions in `config.band_types`; `None` = the first of them for every band.
        timestamps (`torch.FloatTensor` of shape `(batch_size, num_dates)`, *optional*):
            Days since 2000-01-01; NaN, and `None`, = unknown.
        gsd (`torch.FloatTensor` of shape `(batch_size,)`, *optional*):
            Ground sampling distance in metres a pixel; NaN, and `None`, = unknown.
        band_mask (`torch.BoolTensor` of shape `(batch_size, num_dates, num_bands)`, *optional*):
            True = real band, False = padding.
        date_mask (`torch.BoolTensor` of shape `(batch_size, num_dates)`, *optional*):
            True = real date, False = padding.
        pixel_mask (`torch.BoolTensor` of shape `(batch_size, num_dates, height, width)`, *optional*):
            True = pixel with data, False = nodata or padding (which lies right of and below the real pixels).
        cell_sizes (`int`, `list[int]` or `torch.LongTensor` of shape `(batch_size,)`, *optional*):
            Side of a cell in pixels for each sample (a tensor is copied to the host); `None` = so that the longer side
            of the real pixels takes at most `config.unified_size` cells.
        task_ids (`torch.LongTensor` of shape `(batch_size,)`, *optional*):
            Positions in `config.tasks`; `None` = the first of them for every sample.
        category_ids (`torch.LongTensor` of shape `(batch_size, num_classes)`, *optional*):
            Positions in `config.id2label` of the classes asked for, in any order; `None` = all, in order.
        category_mask (`torch.BoolTensor` of shape `(batch_size, num_classes)`, *optional*):
            True = real class, False = padding, which comes last. Logits of padding are the lowest finite number.
        category_embeds (`torch.FloatTensor` of shape `(batch_size, num_classes, category_embeds_dim)`, *optional*):
            Embeddings of classes, for instance of their names by a text encoder, in place of `category_ids`.
        output_timestamps (`torch.FloatTensor` of shape `(batch_size, num_outputs, 2)`, *optional*):
            Start and end, in days since 2000-01-01, of what each output describes; NaN, and `None`, = unknown.
        output_date_roles (`torch.LongTensor` of shape `(batch_size, num_outputs, num_dates)`, *optional*):
            What each date is to each output: 0 = context, 1 = described by it, 2 = before the change it describes, 3 =
            after it. `None` = every output describes every date.
        output_mask (`torch.BoolTensor` of shape `(batch_size, num_outputs)`, *optional*):
            True = real output, False = padding, which takes no part in the loss.
        image_sizes (`torch.LongTensor` of shape `(batch_size, 2)`, *optional*):
            Height and width of the images of each sample, beyond which lies padding; for post-processing.
        labels (`torch.LongTensor` of shape `(batch_size, height, width)`, *optional*):
            Positions in the sample's `category_ids`; 255 = not labelled. For a sample that asks for a single class, 1 =
            present and 0 = absent.
        """
        for maps in (output_timestamps, output_date_roles):
            if maps is not None and maps.shape[1] != 1:
                raise ValueError(
                    f"STSUNForSemanticSegmentation gives one map a sample, but {maps.shape[1]} outputs were asked for. "
                    "Use STSUNForDensePrediction."
                )
        if labels is not None and labels.ndim != 3:
            raise ValueError(f"labels has shape {tuple(labels.shape)}, but (batch_size, height, width) is expected.")
        outputs = super().forward(
            pixel_values,
            wavelengths=wavelengths,
            bandwidths=bandwidths,
            band_types=band_types,
            timestamps=timestamps,
            gsd=gsd,
            band_mask=band_mask,
            date_mask=date_mask,
            pixel_mask=pixel_mask,
            cell_sizes=cell_sizes,
            task_ids=task_ids,
            category_ids=category_ids,
            category_mask=category_mask,
            category_embeds=category_embeds,
            output_timestamps=output_timestamps,
            output_date_roles=output_date_roles,
            output_mask=output_mask,
            labels=None if labels is None else labels.unsqueeze(1),
            return_dict=True,
            **kwargs,
        )
        return STSUNSemanticSegmenterOutput(
            loss=outputs.loss,
            logits=outputs.logits.squeeze(1),
            category_mask=category_mask,
            image_sizes=image_sizes,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


__all__ = ["STSUNForDensePrediction", "STSUNForSemanticSegmentation", "STSUNModel", "STSUNPreTrainedModel"]
