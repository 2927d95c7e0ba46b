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
"""The published layout of LEVIR-CD."""

from pathlib import Path
from typing import Any

from .change_pairs import convert_pairs
from .common import CHANGE, RGB, Target


def convert_levir_cd(source: Path, target: Target) -> dict[str, Any]:
    """LEVIR-CD: buildings in Texas, 637 pairs of 1024 x 1024 pixels of 0.5 m.

    `{train,val,test}/{A,B,label}/<name>.png`; the labels are 0 and 255. Also flat, as it goes round cut into 256 x 256:
    `{A,B,label}/<name>.png` with `list/{train,val,test}.txt`, or with names that start with the split.

    Source: Chen and Shi, A spatial-temporal attention-based method and a new dataset for remote sensing image change
    detection, 2020, doi:10.3390/rs12101662; https://github.com/justchenhao/STANet; the flat layouts:
    https://github.com/justchenhao/BIT_CD and the LEVIRCD class of TorchGeo.
    """
    convert_pairs(source, target, (None, None))
    return {
        "tasks": ["binary_change_detection"],
        "bands": RGB,
        "gsd_m": 0.5,
        "change_classes": CHANGE,
    }
