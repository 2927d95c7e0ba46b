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
"""The published layout of SECOND."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .common import (
    CHANGE,
    RGB,
    ConversionError,
    Target,
    check_sizes,
    child,
    colour_ids,
    listing,
    matching_files,
    need,
    open_raster,
)

SECOND_COLOURS = {
    (255, 255, 255): 0,
    (0, 0, 255): 1,
    (128, 128, 128): 2,
    (0, 128, 0): 3,
    (0, 255, 0): 4,
    (128, 0, 0): 5,
    (255, 0, 0): 6,
}


def _second_ids(values: np.ndarray, path: str) -> np.ndarray:
    if len(values) > 1:
        return colour_ids(values, path, SECOND_COLOURS)
    others = np.setdiff1d(values, range(len(SECOND_COLOURS)))
    if others.size:
        raise ConversionError(f"Label map {path} holds {', '.join(map(str, others[:10]))}; 0 to 6 are expected.")
    return values[0].astype(np.uint8)


def convert_second(source: Path, target: Target) -> dict[str, Any]:
    """SECOND: semantic change in Chinese cities, 4 662 pairs of 512 x 512 pixels of 0.5 to 3 m.

    `{train,test}/{im1,im2,label1,label2}/<name>.png`, optionally with val; the labels are colours (white = unchanged,
    else the class of the date), or the positions 0 to 6 into which Bi-SRNet and its followers recode them (they keep
    the colours in label1_rgb and label2_rgb, which are then not needed).

    The maps of the result have the class `unchanged` (0), as the set defines it: land cover is known only where it
    changed. A change map is written too: what is not unchanged on one of the dates. Score it with `no_change=0`.

    Source: Yang et al., Asymmetric siamese networks for semantic change detection in aerial images, 2021,
    arXiv:2010.05687; colours and classes as in https://github.com/ggsDing/Bi-SRNet (datasets/RS_ST.py) and Open-CD.
    """
    splits = {split: child(source, split) for split in ("train", "val", "test")}
    if splits["train"] is None and splits["test"] is None:
        raise ConversionError(f"{source} holds neither train nor test; it holds {listing(source)}.")
    for split, folder in splits.items():
        if folder is None:
            continue
        folders = {name: need(folder, name, f"{name}_rgb") for name in ("im1", "im2", "label1", "label2")}
        for stem, files in target.bar(list(matching_files(folders).items())):
            check_sizes(files["im1"], files["im2"])
            name = f"{split}_{stem}"
            labels = [
                target.recode(f"{name}_{date}", files[f"label{date}"], _second_ids, files["im1"]) for date in (1, 2)
            ]
            change, one_sided = _changed(target, f"{name}_change", labels)
            if one_sided:
                target.notes.append(f"{name}: {one_sided} pixels are unchanged in one of the two maps only.")
            target.add(
                split,
                name,
                [{"path": files[f"im{date}"], "timestamp": None} for date in (1, 2)],
                {
                    "semantic_per_time": [
                        {"path": path, "image_indices": [index]} for index, path in enumerate(labels)
                    ],
                    "change": change,
                },
            )
    names = ("unchanged", "water", "ground", "low_vegetation", "tree", "building", "sports_field")
    return {
        "tasks": ["semantic_change_detection", "binary_change_detection"],
        "bands": RGB,
        "classes": [{"id": index, "name": name} for index, name in enumerate(names)],
        "change_classes": CHANGE,
    }


def _changed(target: Target, name: str, labels: Sequence[str]) -> tuple[str, int]:
    """Writes where one of two recoded maps is not 0; also tells how many pixels are 0 in the other one."""
    maps = []
    for path in labels:
        with open_raster(target.partial / path) as raster:
            maps.append(raster.read(1) != 0)
    relative = f"labels/{name}.tif"
    with target.create(relative, 1, "uint8", maps[0].shape) as raster:
        raster.write((maps[0] | maps[1]).astype(np.uint8), 1)
    return relative, int((maps[0] != maps[1]).sum())
