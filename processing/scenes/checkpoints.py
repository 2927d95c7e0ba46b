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
"""Model and processor of a checkpoint, from a folder or the Hub."""

from pathlib import Path

import torch
from safetensors import SafetensorError

from modeling_stsun import STSUNForDensePrediction

from ..image_processing_stsun import STSUNImageProcessor


def default_checkpoint() -> Path:
    """Folder of the checkpoint that comes with the package, trained on the synthetic world alone."""
    here = Path(__file__).parents[1]
    installed, checkout = here / "stsun_tiny", here.parent / "hub_cards" / "stsun-tiny"
    return installed if installed.is_dir() else checkout


def load_checkpoint(
    name: str | Path, dtype: torch.dtype | str = "auto"
) -> tuple[STSUNForDensePrediction, STSUNImageProcessor]:
    """Loads model and processor of a checkpoint, strictly: every weight must be there, and no other.

    Args:
        name: a folder, or an id on the Hub.
        dtype: that of the weights in memory; `"auto"` = as they were saved.

    Raises:
        ValueError: a local folder lacks the configuration, the weights or the processor; weights are missing, left over
            or of another shape; or model and processor do not belong together.
        OSError: nothing by that id on the Hub or in its cache.
    """
    folder = Path(name)
    if folder.exists():
        found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        wanted = (
            ("configuration", {"config.json"}),
            ("weights", {"model.safetensors", "model.safetensors.index.json"}),
            ("image processor", {"preprocessor_config.json"}),
        )
        for what, files in wanted:
            if not found & files:
                raise ValueError(
                    f"Checkpoint {name} has no {what}: {' or '.join(sorted(files))} is not in it (found: "
                    f"{', '.join(sorted(found)) or 'nothing'}). Save it with model.save_pretrained(...) and "
                    "processor.save_pretrained(...)."
                )
    try:
        model, info = STSUNForDensePrediction.from_pretrained(
            name, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True
        )
    except SafetensorError as error:
        raise ValueError(
            f"The weights of {name} cannot be read ({error}): the file is damaged. Copy it anew."
        ) from error
    faults = {key: sorted(map(str, value)) for key, value in info.items() if value and key != "error_msgs"}
    if faults:
        raise ValueError(f"The weights of {name} do not fit their configuration: {faults}.")
    processor = STSUNImageProcessor.from_pretrained(name)
    processor.check_config(model.config)
    # As activations are laid out: the weights of convolutions are then not rearranged at every pass.
    return model.eval().to(memory_format=torch.channels_last), processor
