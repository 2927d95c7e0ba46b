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
"""What is about one kind of processor: the same results on every device, by the way that is fastest there."""

from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

# Values of an image that a CPU convolves at once on the input side: 4 MiB.
STRIP_VALUES = 2**20
# An older torch does not tell; attention is then left to its fused kernel.
CPU_HAS_BFLOAT16 = getattr(torch.cpu, "get_capabilities", dict)().get("avx512_bf16", False)
# Scores of attention that a CPU works on at once in bfloat16: 4 MiB.
SCORE_VALUES = 2**21
# Bands up to which a CPU convolves faster channels last: 3 of 1024 x 1024 pixels in 3 ms and not 6, but 200 in 0.69 s
# and not 0.30.
FEW_BANDS = 16

# Cells of a series that are encoded at once where no gradient is asked for: on a CPU one date of 128
# x 128 cells, whose tensors stay in the cache (12 dates of 256 x 256: 0.42 s and 72 MB instead of
# 0.77 s and 362 MB), on others 256 such dates.
CELLS_AT_ONCE = {"cpu": 2**14, "other": 2**22}


def prefers_matmul(query: torch.Tensor, num_keys: int, dropout: float) -> bool:
    """Whether two matrix products are faster than torch's fused attention for `query` (L, heads, n, head_dim).

    It is so in bfloat16 on a CPU with instructions for it, of which the fused kernel makes little; on others it is up
    to 40 times slower. Heads must be wide, for their products to be what takes time, and their scores few enough to
    stay in the cache. Gradients are left to the fused kernel, which keeps no scores for them.
    """
    if query.device.type != "cpu" or query.dtype != torch.bfloat16 or not CPU_HAS_BFLOAT16:
        return False
    length, num_heads, num_tokens, head_dim = query.shape
    scores_per_head = num_tokens * num_keys
    if scores_per_head > SCORE_VALUES or head_dim < 32 or dropout or torch.is_grad_enabled():
        return False
    # A compiled graph holds each turn of the loop.
    return not torch.compiler.is_compiling() or length * num_heads * scores_per_head <= 8 * SCORE_VALUES


def attention_by_products(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float) -> torch.Tensor:
    """Attention without mask and dropout as two matrix products, over so many heads at once that
    their scores stay in the cache: 10 ms instead of 16 ms for 8 heads of 1024 tokens in bfloat16 on
    two cores. (L, heads, n, head_dim) -> (L, n, heads, head_dim)."""
    shape = query.shape
    query, key, value = (states.flatten(0, 1) for states in (query, key, value))
    heads = SCORE_VALUES // (shape[2] * key.shape[1])
    attn_output = torch.empty_like(query)
    nothing = query.new_zeros(1, 1, 1)
    for part in range(0, len(query), heads):
        part = slice(part, part + heads)
        scores = torch.baddbmm(nothing, query[part], key[part].transpose(1, 2), beta=0, alpha=scaling)
        torch.bmm(scores.softmax(-1), value[part], out=attn_output[part])
    return attn_output.view(shape).transpose(1, 2)


def matmul_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """SDPA, but in two matrix products where a CPU is faster so; see [`prefers_matmul`]."""
    if attention_mask is None and prefers_matmul(query, key.shape[2], dropout):
        return attention_by_products(query, key, value, scaling), None
    return sdpa_attention_forward(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs)


# `model.set_attn_implementation("cpu_matmul")` chooses it.
AttentionInterface.register("cpu_matmul", matmul_attention_forward)


def convolve_grouped(images: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
    """Cells (b, T, Gh, Gw, E) of `images` (b, T, C, H, W), whose blocks of p x p pixels meet `kernels`, those of all
    samples or of each, (1 or b, T, E, C, p, p).

    One group a date and set of weights: the image is read in place, no block is copied.
    """
    num_sets, num_dates, *_, cell_size = kernels.shape
    images = images.reshape(len(images) // num_sets, -1, *images.shape[3:])
    cells = F.conv2d(images, kernels.flatten(0, 2), stride=cell_size, groups=num_sets * num_dates)
    return rearrange(cells, "n (s t e) h w -> (s n) t h w e", s=num_sets, t=num_dates)


def convolve_in_strips(images: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
    """What `convolve_grouped` gives, for CPUs, whose kernels rearrange what they are given.

    In strips that stay in the cache 200 bands of 1024 x 1024 pixels take 0.30 s instead of 0.83 s. The cells come out
    contiguous: all that follows reads them position by position.
    """
    num_dates, _, num_bands, cell_size, _ = kernels.shape[1:]
    rows = max(STRIP_VALUES // (images[0, 0, :, 0].numel() * cell_size), 1) * cell_size
    memory_format = torch.channels_last if num_bands <= FEW_BANDS else torch.contiguous_format
    samples = []
    for group, dates in zip(images.chunk(len(kernels)), kernels, strict=True):
        strips = []
        for index, kernel in enumerate(dates):
            kernel = kernel.contiguous(memory_format=memory_format)
            for strip in group[:, index].split(rows, dim=2):
                strips.append(F.conv2d(strip, kernel, stride=cell_size).permute(0, 2, 3, 1).contiguous())
        samples.append(concatenate(strips, dim=1).unflatten(1, (num_dates, -1)))
    return concatenate(samples, dim=0)


def concatenate(parts: list[torch.Tensor], dim: int) -> torch.Tensor:
    """`torch.cat` that does not copy a part that is all there is."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=dim)


def silu(states: torch.Tensor) -> torch.Tensor:
    """SiLU of a fresh tensor, in place where no gradient needs it: its size is that of the largest there are."""
    return F.silu(states, inplace=not torch.is_grad_enabled())


def mask_if_needed(mask: torch.Tensor | None) -> torch.Tensor | None:
    """A mask of pixels, or None where it masks none: what only has to be skipped over costs a third
    of a training step.

    Only a CPU looks: an accelerator would have to be waited for, and a compiled graph would break.
    """
    if mask is None or mask.device.type != "cpu" or torch.compiler.is_compiling():
        return mask
    return None if mask.all() else mask


def max_dates_at_once(pixel_values: torch.Tensor, cell_size: int) -> int | None:
    """How many dates of `pixel_values` (B, T, C, H, W) to encode together, or None for all.

    A gradient needs what all dates leave behind anyway, and a compiled graph holds each turn of a
    loop.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return None
    batch_size, _, _, height, width = pixel_values.shape
    num_cells = batch_size * -(-height // cell_size) * -(-width // cell_size)
    device = pixel_values.device.type
    return max(CELLS_AT_ONCE.get(device, CELLS_AT_ONCE["other"]) // num_cells, 1)
