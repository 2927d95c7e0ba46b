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
"""The published layout of the WHU building data set."""

from pathlib import Path
from typing import Any

from .common import RGB, ConversionError, Target, binary_ids, child, listing, matching_files, need


def convert_whu_building(source: Path, target: Target) -> dict[str, Any]:
    """WHU building data set, aerial imagery of Christchurch: 8 188 tiles of 512 x 512 pixels of 0.3 m.

    `{train,val,test}/{image,label}/<name>.tif`; the labels are 0 and 255, or 0 and 1 in copies. The folders are also
    called Image, and Mask or Label.

    Source: Ji, Wei and Lu, 2019, doi:10.1109/TGRS.2018.2858817 (`3. The cropped image tiles and raster labels`);
    https://huggingface.co/datasets/giswqs/WHU-Building-Dataset for the other names.
    """
    splits = {split: child(source, split) for split in ("train", "val", "test")}
    if not any(splits.values()):
        raise ConversionError(
            f"{source} holds none of the folders train, val, test; it holds {listing(source)}. Name the folder of the "
            "cropped tiles."
        )
    tiles = [
        (split, stem, files)
        for split, folder in splits.items()
        if folder is not None
        for stem, files in matching_files(
            {"image": need(folder, "image", "images"), "label": need(folder, "label", "labels", "mask", "masks")}
        ).items()
    ]
    for split, stem, files in target.bar(tiles):
        name = f"{split}_{stem}"
        label = target.recode(name, files["label"], binary_ids, files["image"])
        target.add(split, name, [{"path": files["image"], "timestamp": None}], {"semantic": label})
    return {
        "tasks": ["semantic_segmentation"],
        "bands": RGB,
        "gsd_m": 0.3,
        "classes": [{"id": 0, "name": "background"}, {"id": 1, "name": "building"}],
    }
