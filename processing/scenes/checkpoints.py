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

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from transformers.utils import cached_file

from modeling_stsun import STSUNConfig, STSUNForDensePrediction

from .._files import read_json
from ..errors import STSUNError
from ..image_processing_stsun import STSUNImageProcessor

_CONFIG, _PROCESSOR = "config.json", "preprocessor_config.json"
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_DTYPES = ("F64", "F32", "F16", "BF16")
# Settings that lead transformers to other code or other weights than those of the checkpoint.
_REFUSED_SETTINGS = (
    *("attn_implementation", "_attn_implementation", "experts_implementation", "_experts_implementation"),
    *("quantization_config", "per_layer_config"),
)
# What transformers raises on settings that mean nothing to it, depending on what is wrong with them.
_SETTINGS_ERRORS = (StrictDataclassError, AttributeError, LookupError, TypeError, ValueError, ArithmeticError)
_MODEL_DTYPES = (None, "float32", "bfloat16", "float16", "float64")
_MAX_LISTED = 6


class CheckpointError(STSUNError, ValueError):
    """A checkpoint that is incomplete, damaged or contradicts itself. The message says what is wrong."""


def default_checkpoint() -> Path:
    """Folder of the checkpoint that comes with the package, trained on the synthetic world alone."""
    here = Path(__file__).parents[1]
    installed, checkout = here / "stsun_tiny", here.parent / "hub_cards" / "stsun-tiny"
    return installed if installed.is_dir() else checkout


def load_checkpoint(
    name: str | Path, dtype: torch.dtype | str = "auto", revision: str | None = None
) -> tuple[STSUNForDensePrediction, STSUNImageProcessor]:
    """Loads model and processor of a checkpoint, strictly: every weight must be there, finite, and no other.

    Nothing is allocated before the shapes of the weights are known to be those that the configuration asks for, and
    nothing that the checkpoint holds is executed.

    Args:
        name: a folder, or an id on the Hub.
        dtype: that of the weights in memory; `"auto"` = as they were saved.
        revision: of a checkpoint on the Hub, the branch, tag or commit; `None` = the newest.

    Raises:
        CheckpointError: the configuration, the weights or the processor are missing, damaged or mean nothing; weights
            are left over, of another shape or not finite; or model and processor do not belong together.
        OSError: nothing by that id on the Hub or in its cache.
    """
    if Path(name).exists():
        if revision is not None:
            raise CheckpointError(
                f"revision (--revision) names a version on the Hub, but {name} is a local folder. Leave it out."
            )
        _check_parts(Path(name))
    if _find(name, "adapter_config.json", revision) is not None:
        raise CheckpointError(
            f"Checkpoint {name} is a model with an adapter beside it. Merge them (merge_and_unload), and save the "
            "result."
        )
    config = _read_config(name, revision)
    files = _weight_files(name, revision)
    _check_shapes(name, config, files)
    # By their names alone the model would be free to look for weights elsewhere.
    model = STSUNForDensePrediction.from_pretrained(
        None, config=config, state_dict=dict(_tensors(name, files)), dtype=dtype
    )
    model.config.name_or_path = str(name)
    if model.dtype == torch.bfloat16:
        # Faster on CPUs with instructions for it; elsewhere the same as sdpa.
        model.set_attn_implementation("cpu_matmul")
    processor = _read_processor(name, revision)
    processor.check_config(model.config)
    # As activations are laid out: the weights of convolutions are then not rearranged at every pass.
    return model.eval().to(memory_format=torch.channels_last), processor


def _check_parts(folder: Path) -> None:
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    wanted = (("configuration", {_CONFIG}), ("weights", {_WEIGHTS, _INDEX}), ("image processor", {_PROCESSOR}))
    for what, files in wanted:
        if not found & files:
            raise CheckpointError(
                f"Checkpoint {folder} has no {what}: {' or '.join(sorted(files))} is not in it (found: "
                f"{', '.join(sorted(found)) or 'nothing'}). Save it with model.save_pretrained(...) and "
                "processor.save_pretrained(...)."
            )


def _find(name: str | Path, file: str, revision: str | None) -> Path | None:
    """A file of a checkpoint; `None` if it has none of that name, or none is known of while the Hub is out of reach."""
    if Path(name).exists():
        return Path(name, file) if Path(name, file).is_file() else None
    found = cached_file(
        name,
        file,
        revision=revision,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return None if found is None else Path(found)


def _need(name: str | Path, file: str, revision: str | None) -> Path:
    if not Path(name).exists():
        return Path(cached_file(name, file, revision=revision))
    if not Path(name, file).is_file():
        raise CheckpointError(f"Checkpoint {name} has no file {file}. Copy or save it anew.")
    return Path(name, file)


def _settings(name: str | Path, file: str, revision: str | None) -> dict[str, Any]:
    path = _need(name, file, revision)
    try:
        return read_json(path)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} of {name} cannot be read: {_one_line(error)}. Copy or save it anew.") from error


def _read_config(name: str | Path, revision: str | None) -> STSUNConfig:
    document = _settings(name, _CONFIG, revision)
    if document.get("model_type") != STSUNConfig.model_type:
        raise CheckpointError(
            f"{name} is a checkpoint of the model type {document.get('model_type')!r}; {STSUNConfig.model_type!r} is "
            "expected."
        )
    if refused := [key for key in _REFUSED_SETTINGS if document.get(key) is not None]:
        raise CheckpointError(f"{_CONFIG} of {name} sets {', '.join(refused)}, which STSUN has not. Remove it.")
    dtype = document.get("dtype", document.get("torch_dtype"))
    if dtype not in _MODEL_DTYPES:
        raise CheckpointError(f"{_CONFIG} of {name} gives the dtype {dtype!r}; float32 or bfloat16 is expected.")
    try:
        return STSUNConfig.from_dict(document)
    except _SETTINGS_ERRORS as error:
        raise CheckpointError(f"{_CONFIG} of {name} asks for no model: {_one_line(error)}") from error


def _read_processor(name: str | Path, revision: str | None) -> STSUNImageProcessor:
    document = _settings(name, _PROCESSOR, revision)
    try:
        return STSUNImageProcessor.from_dict(document)
    except _SETTINGS_ERRORS as error:
        raise CheckpointError(f"{_PROCESSOR} of {name} makes no processor: {_one_line(error)}") from error


def _weight_files(name: str | Path, revision: str | None) -> list[Path]:
    """The files that hold the weights."""
    if (single := _find(name, _WEIGHTS, revision)) is not None:
        return [single]
    places = _settings(name, _INDEX, revision).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(file, str) for file in places.values()):
        raise CheckpointError(f"{_INDEX} of {name} does not say which file holds which weight. Copy or save it anew.")
    shards = sorted(set(places.values()))
    if outside := [file for file in shards if Path(file).name != file or not file.endswith(".safetensors")]:
        raise CheckpointError(
            f"{_INDEX} of {name} names {', '.join(outside[:_MAX_LISTED])}; weights are .safetensors files beside it."
        )
    return [_need(name, file, revision) for file in shards]


def _check_shapes(name: str | Path, config: STSUNConfig, files: list[Path]) -> None:
    """Compares what the files say about their tensors with what the configuration asks for."""
    with torch.device("meta"):
        wanted = {key: tuple(tensor.shape) for key, tensor in STSUNForDensePrediction(config).state_dict().items()}
    found: dict[str, tuple[int, ...]] = {}
    try:
        for file in files:
            with safe_open(file, "pt") as tensors:
                for key in tensors.keys():  # noqa: SIM118
                    part = tensors.get_slice(key)
                    if part.get_dtype() not in _DTYPES:
                        raise CheckpointError(f"Weight {key} of {name} is of type {part.get_dtype()}, no float.")
                    found[key] = tuple(part.get_shape())
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"The weights of {name} cannot be read ({error}): the file is damaged. Copy it anew."
        ) from error
    _refuse_differences(name, wanted, found)


def _refuse_differences(
    name: str | Path, wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]
) -> None:
    faults = {
        "missing": sorted(wanted.keys() - found.keys()),
        "left over": sorted(found.keys() - wanted.keys()),
        "of another shape": [
            f"{key} {found[key]} instead of {wanted[key]}"
            for key in sorted(wanted.keys() & found.keys())
            if found[key] != wanted[key]
        ],
    }
    listed = [f"{what}: {_abridged(keys)}" for what, keys in faults.items() if keys]
    if listed:
        raise CheckpointError(f"The weights of {name} do not fit their configuration; {'; '.join(listed)}.")


def _tensors(name: str | Path, files: list[Path]) -> Iterator[tuple[str, torch.Tensor]]:
    for file in files:
        with safe_open(file, "pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118
                tensor = tensors.get_tensor(key)
                if not tensor.isfinite().all():
                    raise CheckpointError(
                        f"Weight {key} of {name} holds values that are not finite: the training diverged, or the file "
                        "is damaged. Take an earlier state, or copy it anew."
                    )
                # In memory of its own, which is aligned: kernels round otherwise where it is not.
                yield key, tensor.clone()


def _abridged(keys: list[str]) -> str:
    more = f" and {len(keys) - _MAX_LISTED} more" if len(keys) > _MAX_LISTED else ""
    return ", ".join(keys[:_MAX_LISTED]) + more


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
