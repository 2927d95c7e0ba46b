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
"""The published layout of OSCD."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from ...rasters.sensors import sensor_bands
from .common import (
    CHANGE,
    ConversionError,
    Target,
    binary_ids,
    check_sizes,
    child,
    grey_band,
    listing,
    need,
    rasters_in,
)


def convert_oscd(source: Path, target: Target) -> dict[str, Any]:
    """OSCD: change in 24 cities between two Sentinel-2 images (level 1C), 13 bands on a grid of 10 m.

    `Onera Satellite Change Detection dataset - Images/<city>/{imgs_1_rect,imgs_2_rect}/B01.tif ... B12.tif` and
    `<city>/dates.txt` (lines `date_1: 20160308`); `... - Train Labels` and `... - Test Labels` with
    `<city>/cm/<city>-cm.tif` (1 = no change, 2 = change) and `cm.png` (0 and 255), of which the first is taken where it
    is there. Names of the outer folders may lack `Onera Satellite Change Detection dataset - `. There is no validation
    split. Cities without a label are left out.

    Source: Daudt et al., Urban change detection for multispectral Earth observation using convolutional neural
    networks, 2018, doi:10.1109/IGARSS.2018.8518015; https://rcdaudt.github.io/oscd/; TorchGeo's OSCD class.
    """
    prefix = "Onera Satellite Change Detection dataset - "
    images = need(source, f"{prefix}Images", "Images")
    labels = {
        split: child(source, f"{prefix}{split.capitalize()} Labels", f"{split.capitalize()} Labels", f"{split}_labels")
        for split in ("train", "test")
    }
    if not any(labels.values()):
        raise ConversionError(f"{source} holds no Train Labels and no Test Labels; it holds {listing(source)}.")
    bands = [band.to_dict() for band in sensor_bands("sentinel-2")]
    names = [band["name"] for band in bands]
    cities = [path for path in sorted(images.iterdir()) if path.is_dir()]
    for city in target.bar(cities):
        homes = [(split, child(folder, city.name)) for split, folder in labels.items() if folder is not None]
        homes = [(split, folder) for split, folder in homes if folder is not None]
        if not homes:
            target.notes.append(f"{city.name}: no label, left out.")
            continue
        split, folder = homes[0]
        dates = re.findall(r"(\d{4})(\d{2})(\d{2})", need(city, "dates.txt").read_text())
        if len(dates) != 2:
            raise ConversionError(f"{city / 'dates.txt'} does not hold two dates as yyyymmdd.")
        dated = []
        for index, date in enumerate(dates, start=1):
            folder_of_bands = need(city, f"imgs_{index}_rect")
            found = sorted(path.stem for path in rasters_in(folder_of_bands))
            if found != sorted(names):
                raise ConversionError(f"{folder_of_bands} holds {', '.join(found)}; {', '.join(names)} are expected.")
            dated.append({"path": folder_of_bands, "timestamp": "-".join(date)})
        check_sizes(*(path for image in dated for path in rasters_in(image["path"])))
        maps = need(folder, "cm")
        numbers = child(maps, f"{city.name}-cm.tif")
        label = target.recode(
            city.name,
            numbers or need(maps, "cm.png"),
            _oscd_ids if numbers is not None else binary_ids,
            rasters_in(dated[0]["path"])[0],
        )
        target.add(split, city.name, dated, {"change": label})
    return {
        "tasks": ["binary_change_detection"],
        "bands": bands,
        "value_scale": 1e-4,
        "gsd_m": 10,
        "change_classes": CHANGE,
    }


def _oscd_ids(values: np.ndarray, path: str) -> np.ndarray:
    grey = grey_band(values, path)
    others = np.setdiff1d(grey, (1, 2))
    if others.size:
        raise ConversionError(f"Label map {path} holds {', '.join(map(str, others[:10]))}; 1 and 2 are expected.")
    return (grey == 2).astype(np.uint8)
