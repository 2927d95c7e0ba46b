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
"""The published layout of TSCD."""

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

from .common import CHANGE, RGB, ConversionError, Target, binary_ids, check_sizes, child, listing, matching_files, need


def convert_tscd(source: Path, target: Target) -> dict[str, Any]:
    """TSCD: change between neighbouring dates of a series of high-resolution RGB images, here 2016, 2018, 2020, 2022.

    `<year>_<year>/{train,val,test}/{A,B,label}/<name>.jpg`, one folder a pair of neighbouring dates; the labels are 0
    and 255, blurred by JPEG, and lie in `OUT` instead of `label` in some of the folders. The same name is the same
    place in all pairs, and B of a pair shows what A of the next one does.

    Source: no description by its authors was found; the layout is that of public scripts which read it (a shell script
    that merges the three pairs of a folder `TSCD` into series of four dates, and its loader). The set is used in
    arXiv:2505.12280.
    """
    pairs = {}
    for folder in sorted(source.iterdir()):
        if (years := re.fullmatch(r"(\d{4})_(\d{4})", folder.name)) and folder.is_dir():
            pairs[years[1], years[2]] = folder
    chain = sorted(pairs)
    if not chain or any(before[1] != after[0] for before, after in pairwise(chain)):
        raise ConversionError(
            f"{source} holds {listing(source)}; folders <year>_<year> that follow each other are expected, such as "
            "2016_2018, 2018_2020, 2020_2022."
        )
    years = [chain[0][0], *(after for _, after in chain)]
    for split in ("train", "val", "test"):
        folders = {}
        for pair in chain:
            if (folder := child(pairs[pair], split)) is not None:
                for key, names in {"A": ("A",), "B": ("B",), "label": ("label", "OUT")}.items():
                    folders[*pair, key] = need(folder, *names)
        if not folders:
            continue
        if len(folders) != 3 * len(chain):
            raise ConversionError(
                f"Split {split!r} is not in all of {', '.join(path.name for path in pairs.values())}."
            )
        for stem, files in target.bar(list(matching_files(folders).items())):
            name = f"{split}_{stem}"
            images = [files[*chain[0], "A"], *(files[*pair, "B"] for pair in chain)]
            check_sizes(*images)
            maps = [
                {
                    "path": target.recode(f"{name}_{'_'.join(pair)}", files[*pair, "label"], binary_ids, images[0]),
                    "image_indices": [index, index + 1],
                }
                for index, pair in enumerate(chain)
            ]
            dated = zip(images, years, strict=True)
            target.add(
                split, name, [{"path": path, "timestamp": year} for path, year in dated], {"change_per_pair": maps}
            )
    return {"tasks": ["binary_change_detection"], "bands": RGB, "change_classes": CHANGE}
