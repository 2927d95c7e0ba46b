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
"""The optimiser, and a plain training run; no geo stack needed."""

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from accelerate.utils import send_to_device
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import get_cosine_schedule_with_warmup


def parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Groups of an optimiser: matrices and convolutions decay, vectors (biases, norms) do not."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


class MuonAdamW(torch.optim.Optimizer):
    """Muon (`torch.optim.Muon`) for the matrices of linear layers, AdamW for all else, as one optimiser.

    Steps of matrices are orthogonal, so that directions with small gradients learn as fast as those with large ones,
    and have the root mean square of AdamW's (Liu et al. 2025, arXiv 2502.16982): one learning rate serves both.

    Args:
        model: whose parameters that require gradients are trained.
        lr: learning rate.
        weight_decay: of all but vectors, as in [`parameter_groups`].
        betas: of AdamW.
    """

    def __init__(
        self, model: torch.nn.Module, lr: float, weight_decay: float = 0.0, betas: tuple[float, float] = (0.9, 0.98)
    ) -> None:
        matrices = {
            id(layer.weight)
            for layer in model.modules()
            if isinstance(layer, torch.nn.Linear) and layer.weight.requires_grad
        }
        groups = parameter_groups(model, weight_decay)
        muon = [parameter for group in groups for parameter in group["params"] if id(parameter) in matrices]
        for group in groups:
            group["params"] = [parameter for parameter in group["params"] if id(parameter) not in matrices]
        self.parts: list[torch.optim.Optimizer] = []
        if muon:
            self.parts.append(torch.optim.Muon(muon, lr, weight_decay, adjust_lr_fn="match_rms_adamw"))
        if any(group["params"] for group in groups):
            self.parts.append(torch.optim.AdamW([g for g in groups if g["params"]], lr, betas, fused=True))
        super().__init__([group for part in self.parts for group in part.param_groups], {})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Both steps; the parts share this optimiser's groups and state, which are saved and loaded as any other's."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        first = 0
        for part in self.parts:
            last = first + len(part.param_groups)
            part.param_groups, part.state = self.param_groups[first:last], self.state
            part.step()
            first = last
        return loss


def fit(
    model: torch.nn.Module,
    loader: DataLoader,
    optimizer: torch.optim.Optimizer,
    loss_of: Callable[[Any], torch.Tensor] | None = None,
    accumulation: int = 1,
    bfloat16: bool | None = None,
) -> float:
    """A plain training run: one pass over the loader, learning rates warmed up over its first 20th, then a cosine.

    Args:
        model: on the device it is trained on; is left in evaluation mode.
        loader: batches.
        optimizer: of the model.
        loss_of: loss of a batch; `None` = that of the model, called with the batch as keyword arguments.
        accumulation: batches a step; their gradients are averaged.
        bfloat16: whether to train under bfloat16 autocast; `None` = on CUDA alone.

    Returns:
        Seconds it took.

    Raises:
        FloatingPointError: the loss is infinite or NaN.
    """
    num_steps = len(loader) // accumulation
    scheduler = get_cosine_schedule_with_warmup(optimizer, num_steps // 20, num_steps)
    device = next(model.parameters()).device
    bfloat16 = device.type == "cuda" if bfloat16 is None else bfloat16
    started, mean_loss = time.perf_counter(), math.nan
    batches = iter(loader)
    model.train()
    with tqdm(range(num_steps), desc="training", unit="step") as bar:
        for step in bar:
            optimizer.zero_grad()
            for _ in range(accumulation):
                batch = send_to_device(next(batches), device)
                with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                    loss = model(**batch).loss if loss_of is None else loss_of(batch)
                (loss / accumulation).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            value = loss.item()
            if not math.isfinite(value):
                raise FloatingPointError(f"The loss is {value} in step {step + 1}. Lower the learning rate.")
            mean_loss = value if math.isnan(mean_loss) else 0.98 * mean_loss + 0.02 * value
            if step % 20 == 0:
                bar.set_postfix(loss=f"{mean_loss:.3f}")
    model.eval()
    return time.perf_counter() - started
