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
"""The published layout of PASTIS."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...rasters.sensors import sensor_bands
from .common import ConversionError, Target, need

PASTIS_CLASSES = (
    *("background", "meadow", "soft_winter_wheat", "corn", "winter_barley", "winter_rapeseed", "spring_barley"),
    *("sunflower", "grapevine", "beet", "winter_triticale", "winter_durum_wheat", "fruits_vegetables_flowers"),
    *("potatoes", "leguminous_fodder", "soybeans", "orchard", "mixed_cereal", "sorghum"),
)
PASTIS_VOID = 19
PASTIS_FOLDS = {"train": (1, 2, 3), "val": (4,), "test": (5,)}


def convert_pastis(source: Path, target: Target) -> dict[str, Any]:
    """PASTIS: crops of France in 2 433 Sentinel-2 series of 38 to 61 dates, 128 x 128 pixels of 10 m.

    `metadata.geojson` with ID_PATCH, Fold and dates-S2 ({position: yyyymmdd}) of each patch;
    `DATA_S2/S2_<id>.npy` (dates, 10, 128, 128): bands 2 to 8, 8A, 11 and 12, reflectance x 10000;
    `ANNOTATIONS/TARGET_<id>.npy` (3, 128, 128), whose first layer holds classes 0 to 18 and 19 = void. The arrays are
    written anew as one GeoTIFF a date. Folds 1 to 3 train, 4 validates, 5 tests, the first of the five rotations of the
    benchmark. The radar series of PASTIS-R are not taken along.

    Source: Garnot and Landrieu, Panoptic segmentation of satellite image time series with convolutional temporal
    attention networks, 2021, arXiv:2107.07933; https://github.com/VSainteuf/pastis-benchmark; TorchGeo's PASTIS class.
    """
    try:
        features = json.loads(need(source, "metadata.geojson").read_text())["features"]
        patches = [feature["properties"] for feature in features]
        patches = [(str(patch["ID_PATCH"]), int(patch["Fold"]), patch["dates-S2"]) for patch in patches]
    except (KeyError, TypeError, ValueError) as error:
        raise ConversionError(
            f"{source / 'metadata.geojson'} cannot be used: {error!r}. Features with ID_PATCH, Fold and dates-S2 are "
            "expected."
        ) from error
    images, targets = need(source, "DATA_S2"), need(source, "ANNOTATIONS")
    bands = [band.to_dict() for band in sensor_bands("sentinel-2") if band.name not in ("B01", "B09", "B10")]
    folds = {fold: split for split, members in PASTIS_FOLDS.items() for fold in members}
    for patch, fold, dates in target.bar(patches):
        if isinstance(dates, str):
            dates = json.loads(dates)
        days = [str(dates[key]) for key in sorted(dates, key=int)] if isinstance(dates, dict) else list(map(str, dates))
        series = _array(images / f"S2_{patch}.npy", (len(days), len(bands), None, None))
        size = series.shape[2:]
        annotation = _array(targets / f"TARGET_{patch}.npy", (None, *size))[0]
        if strange := sorted(set(np.unique(annotation).tolist()) - set(range(PASTIS_VOID + 1))):
            raise ConversionError(f"TARGET_{patch}.npy holds {strange[:10]}; 0 to {PASTIS_VOID} are expected.")
        if fold not in folds:
            raise ConversionError(f"Patch {patch} is in fold {fold}; folds 1 to 5 are expected.")
        paths = []
        for index, (day, array) in enumerate(zip(days, series, strict=True)):
            paths.append(f"images/{patch}/{index:02d}_{day}.tif")
            with target.create(paths[-1], len(bands), str(series.dtype), size) as raster:
                raster.write(array)
        label = f"labels/{patch}.tif"
        with target.create(label, 1, "uint8", size) as raster:
            raster.write(annotation.astype(np.uint8), 1)
        dated = [
            {"path": path, "timestamp": f"{day[:4]}-{day[4:6]}-{day[6:]}"}
            for path, day in zip(paths, days, strict=True)
        ]
        target.add(folds[fold], patch, dated, {"semantic": label})
    return {
        "tasks": ["semantic_segmentation"],
        "bands": bands,
        "value_scale": 1e-4,
        "gsd_m": 10,
        "classes": [{"id": index, "name": name} for index, name in enumerate(PASTIS_CLASSES)],
        "ignore_index": PASTIS_VOID,
    }


def _array(path: Path, shape: Sequence[int | None]) -> np.ndarray:
    """An array of a file; `None` in the shape = any length."""
    try:
        array = np.load(path)
    except (OSError, ValueError) as error:
        raise ConversionError(f"{path} cannot be read: {error}. Fetch it again.") from error
    if array.ndim != len(shape) or any(want not in (None, got) for want, got in zip(shape, array.shape, strict=True)):
        expected = tuple("any" if want is None else want for want in shape)
        raise ConversionError(f"{path} has shape {array.shape}; {expected} is expected.")
    return array
