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
"""The model card of a run."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from modeling_stsun import STSUNForDensePrediction

from ..data.description import DatasetDescription
from ..image_processing_stsun import STSUNImageProcessor
from .arguments import FinetuneArguments
from .evaluation import Scores


def model_card(
    model: STSUNForDensePrediction,
    processor: STSUNImageProcessor,
    arguments: FinetuneArguments,
    metrics: dict[str, Scores],
    notes: Sequence[str] = (),
) -> str:
    """A model card with what was measured, in the text and as the Hub's `model-index`."""
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    name = Path(arguments.output_dir).resolve().name
    results, rows = [], []
    for split, by_source in metrics.items():
        for source, tasks in by_source.items():
            for task, scores in tasks.items():
                shown = {key: value for key, value in scores.items() if not key.startswith("iou_") and value == value}
                rows.append(
                    f"| {split} | {source} | {task} | " + ", ".join(f"{k} {v:.3f}" for k, v in shown.items()) + " |"
                )
                results += [
                    EvalResult(
                        task_type="image-segmentation",
                        dataset_type=source,
                        dataset_name=source,
                        dataset_split=split,
                        task_name=task,
                        metric_type=key,
                        metric_value=round(value, 4),
                    )
                    for key, value in shown.items()
                ]
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="image-segmentation",
        tags=["remote-sensing", "earth-observation", "stsun", *processor.tasks],
        model_name=name if results else None,
        eval_results=results or None,
    )
    parameters = sum(parameter.numel() for parameter in model.parameters())
    scored = "\n".join(rows) or "| - | - | - | nothing was scored |"
    # Paths of this machine mean nothing to a reader: sources go by their names.
    trained_on = [name if name == "synthetic" else DatasetDescription.read(Path(name) / "dataset.json").name
                  for name in arguments.data]  # fmt: skip
    local = ("output_dir", "num_workers", "report_to", "resume")
    shown = {key: value for key, value in asdict(arguments).items() if key not in local} | {"data": trained_on}
    settings = "\n".join(f"{key}: {json.dumps(value)}" for key, value in shown.items())
    remarks = "".join(f"\n- {note}" for note in notes)
    return str(
        ModelCard(
            f"""---
{data.to_yaml()}
---

# {name}

STSUN ([arXiv 2505.12280](https://arxiv.org/abs/2505.12280)): dense maps from image series of any size, dates and bands.
{parameters / 1e6:.2f} million parameters, trained from `{arguments.model}` on {", ".join(trained_on)}.

```python
from modeling_stsun import STSUNForDensePrediction, STSUNImageProcessor

model = STSUNForDensePrediction.from_pretrained("{name}")
processor = STSUNImageProcessor.from_pretrained("{name}")
```

Classes: {", ".join(processor.categories)}.
Band statistics of: {", ".join(processor.band_statistics) or "no data set (normalised by kind of band)"}.
{_known_files(processor.readings)}
## Measured

On whole samples, predicted in overlapping tiles. `mean_iou` leaves out classes that appear in neither map.

| split | source | task | scores |
|---|---|---|---|
{scored}
{remarks}

## Settings

```yaml
{settings}
```
"""
        )
    )


def _known_files(readings: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """A table of the files that `stsun predict` reads without further arguments."""
    if not readings:
        return ""
    rows = [
        f"| {name} | {', '.join(map(_band, reading['bands']))} | {reading['dtype']} | {_numbers(reading['scale'])} | "
        f"{_numbers(reading['offset'])} | {_numbers(reading['nodata'])} |"
        for name, band_sets in readings.items()
        for reading in band_sets
    ]
    listed = "\n".join(rows)
    return f"""
Files with the bands of these data sets need no description: what they do not state themselves is taken from here.

| data set | bands | stored as | scale | offset | nodata |
|---|---|---|---|---|---|
{listed}
"""


def _band(record: Mapping[str, Any]) -> str:
    center = record.get("center_nm")
    return f"{record['name']} ({record['kind']}{'' if center is None else f', {center:g} nm'})"


def _numbers(values: Sequence[float | None] | None) -> str:
    """The numbers of all bands, once if they are equal; a dash where nothing is stated."""
    if values is None:
        return "-"
    shown = ["-" if value is None else f"{value:g}" for value in values]
    return shown[0] if len(set(shown)) == 1 else ", ".join(shown)
