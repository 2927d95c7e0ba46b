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
"""The published layout of Sen1Floods11."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from ...metadata import IGNORE_INDEX
from ...rasters.sensors import sensor_bands
from .common import ConversionError, Target, check_sizes, child, grey_band, listing, need


def convert_sen1floods11(source: Path, target: Target) -> dict[str, Any]:
    """Sen1Floods11, the hand-labelled part: water in 446 chips of 512 x 512 pixels of 10 m, Sentinel-1 and Sentinel-2.

    `v1.1/data/flood_events/HandLabeled/{S1Hand,S2Hand,LabelHand}/<event>_<number>_{S1Hand,S2Hand,LabelHand}.tif`:
    VV and VH in decibels; 13 bands of level 1C, reflectance x 10000; 1 = water, 0 = not, -1 = not known.
    `v1.1/splits/flood_handlabeled/flood_{train,valid,test,bolivia}_data.csv` (lines `<S1Hand>,<LabelHand>`), where
    Bolivia is an event held out, here the split `bolivia`. `Sen1Floods11_Metadata.geojson` gives the dates of each
    event; without it, or for an event that it does not name, they are unknown. The two sensors of a chip are two images
    of one sample.

    Source: Bonafilia et al., Sen1Floods11: a georeferenced dataset to train and test deep learning flood algorithms for
    Sentinel-1, 2020, doi:10.1109/CVPRW50498.2020.00113; https://github.com/cloudtostreet/Sen1Floods11.
    """
    root = child(source, "v1.1") or source
    hand = need(need(need(root, "data"), "flood_events"), "HandLabeled")
    splits = need(need(root, "splits"), "flood_handlabeled")
    dates = _flood_dates(root, target)
    chips = []
    for split, file in {"train": "train", "val": "valid", "test": "test", "bolivia": "bolivia"}.items():
        listed = child(splits, f"flood_{file}_data.csv")
        if listed is None and split != "bolivia":
            raise ConversionError(f"{splits} holds no flood_{file}_data.csv; it holds {listing(splits)}.")
        for line in listed.read_text().split() if listed is not None else ():
            if not line.split(",")[0].endswith("_S1Hand.tif"):
                raise ConversionError(
                    f"{listed} holds the line {line!r}; <chip>_S1Hand.tif,<chip>_LabelHand.tif is meant."
                )
            chips.append((split, line.split(",")[0].removesuffix("_S1Hand.tif")))
    for split, chip in target.bar(chips):
        paths = {kind: need(hand / kind, f"{chip}_{kind}.tif") for kind in ("S1Hand", "S2Hand", "LabelHand")}
        check_sizes(paths["S1Hand"], paths["S2Hand"])
        s1_date, s2_date = dates.get(_letters(chip.rsplit("_", 1)[0]), (None, None))
        label = target.recode(chip, paths["LabelHand"], _flood_ids, paths["S1Hand"])
        images = [
            {"path": paths["S1Hand"], "timestamp": s1_date, "band_set": "sentinel_1"},
            {"path": paths["S2Hand"], "timestamp": s2_date, "band_set": "sentinel_2"},
        ]
        target.add(split, chip, images, {"semantic": label})
    return {
        "tasks": ["semantic_segmentation"],
        "band_sets": {
            "sentinel_1": [{"name": name, "kind": "sar", "polarisation": name} for name in ("VV", "VH")],
            "sentinel_2": [band.to_dict() for band in sensor_bands("sentinel-2")],
        },
        "value_scale": 1e-4,
        "gsd_m": 10,
        "classes": [{"id": 0, "name": "land"}, {"id": 1, "name": "water"}],
    }


def _flood_ids(values: np.ndarray, path: str) -> np.ndarray:
    grey = grey_band(values, path)
    others = np.setdiff1d(grey, (-1, 0, 1))
    if others.size:
        raise ConversionError(f"Label map {path} holds {', '.join(map(str, others[:10]))}; -1, 0 and 1 are expected.")
    return np.where(grey < 0, IGNORE_INDEX, grey).astype(np.uint8)


def _flood_dates(root: Path, target: Target) -> dict[str, tuple[str | None, str | None]]:
    """Dates of Sentinel-1 and Sentinel-2 by event."""
    path = child(root, "Sen1Floods11_Metadata.geojson")
    if path is None:
        target.notes.append("Sen1Floods11_Metadata.geojson is not there: all dates are unknown.")
        return {}
    dates = {}
    for feature in json.loads(path.read_text())["features"]:
        properties = {key.casefold(): value for key, value in feature["properties"].items()}
        found = [re.match(r"(\d{4})\D(\d{1,2})\D(\d{1,2})", str(properties.get(f"s{n}_date", ""))) for n in (1, 2)]
        dates[_letters(str(properties.get("location", "")))] = tuple(
            None if match is None else f"{match[1]}-{match[2]:0>2}-{match[3]:0>2}" for match in found
        )
    return dates


def _letters(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.casefold())
