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
"""The published layout of WHU-CD."""

from pathlib import Path
from typing import Any

from .change_pairs import convert_pairs
from .common import CHANGE, RGB, ConversionError, Target, binary_ids, check_sizes, child, need


def convert_whu_cd(source: Path, target: Target) -> dict[str, Any]:
    """WHU-CD: buildings in Christchurch in 2012 and 2016, one scene of 0.2 m.

    As published, `Building change detection dataset_add/1. The two-period image data/`, with
    `{2012,2016}/whole_image/{train,test}/image/<year>_<split>.tif` and `change_label/{train,test}/change_label.tif`
    (0 and 1): two large scenes, no validation split. Or cut into tiles as it goes round, in the layouts of LEVIR-CD.
    The first edition (`before/before.tif`, `after/after.tif`) has no split and is refused.

    Source: Ji, Wei and Lu, Fully convolutional networks for multisource building extraction from an open aerial and
    satellite imagery data set, 2019, doi:10.1109/TGRS.2018.2858817;
    https://study.rsgis.whu.edu.cn/pages/download/building_dataset.html; the tiles:
    https://github.com/justchenhao/BIT_CD.
    """
    document = {"tasks": ["binary_change_detection"], "bands": RGB, "change_classes": CHANGE}
    inner = child(source, "Building change detection dataset_add") or source
    inner = child(inner, "1. The two-period image data") or inner
    if child(inner, "before") is not None:
        raise ConversionError(
            f"{inner} is the first edition of WHU-CD, one scene without a split. Take the later one (dataset_add: "
            "2012, 2016 and change_label, each with train and test), or tiles with lists of a split."
        )
    labels = child(inner, "change_label")
    if labels is None:
        convert_pairs(source, target, ("2012", "2016"))
        return document | {"gsd_m": 0.2}
    for split in target.bar(["train", "test"]):
        images = [
            need(need(need(need(need(inner, year), "whole_image"), split), "image"), f"{year}_{split}.tif")
            for year in ("2012", "2016")
        ]
        check_sizes(*images)
        label = target.recode(split, need(need(labels, split), "change_label.tif"), binary_ids, images[0])
        dated = zip(images, ("2012", "2016"), strict=True)
        target.add(split, split, [{"path": path, "timestamp": year} for path, year in dated], {"change": label})
    return document
