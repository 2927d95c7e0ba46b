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
"""The published layout of LoveDA."""

from pathlib import Path
from typing import Any

from .common import RGB, ConversionError, Target, check_sizes, child, listing, matching_files, need


def convert_loveda(source: Path, target: Target) -> dict[str, Any]:
    """LoveDA: land cover around Nanjing, Changzhou and Wuhan, 5 987 images of 1024 x 1024 pixels of 0.3 m.

    `{Train,Val,Test}/{Rural,Urban}/images_png/<number>.png` and `masks_png/<number>.png`: 1 background, 2 building,
    3 road, 4 water, 5 barren, 6 forest, 7 agriculture, 0 no data. The masks of Test were never published: it is left
    out.

    Source: Wang et al., LoveDA: a remote sensing land-cover dataset for domain adaptive semantic segmentation, 2021,
    arXiv:2110.08733; https://github.com/Junjue-Wang/LoveDA.
    """
    names = ("background", "building", "road", "water", "barren", "forest", "agriculture")
    for split in ("train", "val", "test"):
        folder = child(source, split)
        if folder is None and split != "test":
            raise ConversionError(f"{source} holds no {split.capitalize()}; it holds {listing(source)}.")
        scenes = [scene for scene in ("Rural", "Urban") if folder is not None and child(folder, scene) is not None]
        if folder is not None and not scenes:
            raise ConversionError(f"{folder} holds neither Rural nor Urban; it holds {listing(folder)}.")
        for scene in scenes:
            images, masks = need(need(folder, scene), "images_png"), child(need(folder, scene), "masks_png")
            if masks is None:
                if split != "test":
                    raise ConversionError(f"{folder / scene} holds no masks_png; only Test is published without.")
                target.notes.append(f"{folder / scene}: no masks_png, left out.")
                continue
            for stem, files in target.bar(list(matching_files({"image": images, "mask": masks}).items())):
                check_sizes(files["image"], files["mask"])
                name = f"{split}_{scene.lower()}_{stem}"
                image = {"path": files["image"], "timestamp": None}
                target.add(split, name, [image], {"semantic": target.refer(files["mask"])})
    return {
        "tasks": ["semantic_segmentation"],
        "bands": RGB,
        "gsd_m": 0.3,
        "classes": [{"id": index, "name": name} for index, name in enumerate(names, start=1)],
        "ignore_index": 0,
    }
