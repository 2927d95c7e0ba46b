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
"""The layouts in which sets of two dates and a change mask go round."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from .common import ConversionError, Target, binary_ids, check_sizes, child, listing, matching_files, need


def _pairs(source: Path) -> Iterator[tuple[str, str, dict[str, Path]]]:
    """(split, id, files A, B and label) of the two layouts in which bi-temporal change sets go round."""

    def files(folder: Path) -> dict[str, dict[str, Path]]:
        return matching_files({"A": need(folder, "A"), "B": need(folder, "B"), "label": need(folder, "label", "OUT")})

    splits = {split: child(source, split) for split in ("train", "val", "test")}
    if any(splits.values()):
        for split, folder in splits.items():
            for stem, matching in (files(folder) if folder is not None else {}).items():
                # LEVIR-CD numbers its splits alike (train_1, val_1), WHU-CD does not.
                yield split, stem if stem.startswith(split) else f"{split}_{stem}", matching
        return
    if child(source, "A") is None:
        raise ConversionError(
            f"{source} holds neither folders train, val, test nor A, B, label; it holds {listing(source)}. Name the "
            "folder that holds them."
        )
    found, lists = files(source), child(source, "list")
    if lists is None:
        strange = [stem for stem in found if not stem.startswith(("train", "val", "test"))]
        if strange:
            raise ConversionError(
                f"{source} has no folder `list` with train.txt, val.txt and test.txt, and names such as {strange[0]} "
                "do not say their split (train_*, val_*, test_*). Add the lists of the split that you follow."
            )
        for stem, matching in found.items():
            yield re.match("train|val|test", stem)[0], stem, matching
        return
    for split in ("train", "val", "test"):
        listed = child(lists, f"{split}.txt")
        for entry in listed.read_text().split() if listed is not None else ():
            stem = Path(entry).stem
            if stem not in found:
                raise ConversionError(f"{listed} names {entry}, which is not in {source / 'A'}. Fetch it.")
            yield split, stem, found[stem]


def convert_pairs(source: Path, target: Target, dates: Sequence[str | None]) -> None:
    """Adds all pairs of a source, which were taken on `dates`."""
    for split, name, files in target.bar(list(_pairs(source))):
        images = [{"path": files[key], "timestamp": date} for key, date in zip("AB", dates, strict=True)]
        check_sizes(files["A"], files["B"])
        label = target.recode(name, files["label"], binary_ids, files["A"])
        target.add(split, name, images, {"change": label})
