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
"""Loss of dense prediction with a class set of its own for every sample."""

import torch
import torch.nn.functional as F


def dense_prediction_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    category_mask: torch.Tensor | None = None,
    class_weights: torch.Tensor | None = None,
    dice_weight: float = 0.5,
    ignore_index: int = 255,
) -> torch.Tensor:
    """Cross-entropy plus Dice, in float32, averaged over the samples that have a label.

    A sample with K > 1 classes takes the softmax cross-entropy; one with a single class the binary cross-entropy of its
    sigmoid, written as a softmax over (0, logit). Every labelled sample counts the same, however many of its pixels are
    labelled, so that a sparsely labelled source is heard beside a densely labelled one.

    Args:
        logits: (B, S, K, H, W).
        labels: (B, S, H, W), positions in the sample's class set; with one class 1 = present, 0 = absent.
        category_mask: (B, K), True = real class, real ones first; `None` = all are.
        class_weights: (B, K) weights of the classes in the cross-entropy; `None` = all 1.
        dice_weight: weight of the Dice loss (Milletari et al. 2016, arXiv:1606.04797, with plain sums in the
            denominator), which is averaged over the classes that occur in the labels of the sample.
        ignore_index: label of pixels that do not count.

    Returns:
        A scalar; 0 (with a gradient of 0) where nothing is labelled.
    """
    logits = logits.float().transpose(1, 2).flatten(2)  # (B, K, S*H*W)
    batch_size, num_classes, _ = logits.shape
    if category_mask is None:
        category_mask = logits.new_ones(batch_size, num_classes, dtype=torch.bool)
    if class_weights is None:
        class_weights = torch.ones_like(category_mask, dtype=logits.dtype)

    # One more, empty class in front: with a single real class the softmax over (0, logit) is its sigmoid.
    single = category_mask.sum(1, keepdim=True) == 1  # (B, 1)
    absent = torch.where(single, 0.0, torch.finfo(logits.dtype).min)
    logits = torch.cat([absent.unsqueeze(-1).expand(-1, -1, logits.shape[-1]), logits], dim=1)
    class_weights = torch.cat([torch.ones_like(class_weights[:, :1]), class_weights], dim=1)
    labels = labels.flatten(1).long()
    valid = labels != ignore_index
    target = torch.where(valid, labels + (~single).long(), 0)

    log_probs = logits.log_softmax(1)
    weights = class_weights.gather(1, target) * valid
    nll = -log_probs.gather(1, target.unsqueeze(1)).squeeze(1)
    cross_entropy = (nll * weights).sum(1) / weights.sum(1).clamp(min=torch.finfo(logits.dtype).tiny)

    one_hot = F.one_hot(target, num_classes + 1).transpose(1, 2) * valid.unsqueeze(1)
    probs = log_probs.exp() * valid.unsqueeze(1)
    intersection, total = (probs * one_hot).sum(2), probs.sum(2) + one_hot.sum(2)
    occurs = one_hot.any(2)
    dice = ((1 - 2 * intersection / total.clamp(min=1)) * occurs).sum(1) / occurs.sum(1).clamp(min=1)

    labelled = valid.any(1)
    return ((cross_entropy + dice_weight * dice) * labelled).sum() / labelled.sum().clamp(min=1)
