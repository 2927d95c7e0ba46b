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
"""The saved states of a run: numbers in JSON, tensors in safetensors. Reading one executes nothing that it holds."""

import hashlib
import json
import random
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from .._files import put_in_place, read_json, write_whole
from ..data.sampling import LossShares
from ..errors import WriteError
from .arguments import TrainingError

# The newest one may be damaged, by a disk or by hand.
KEPT_STATES = 2
_MANIFEST = "manifest.json"
_NAME = re.compile(r"step_(\d+)")


@dataclass
class Progress:
    """Where a run stands.

    Args:
        step: optimiser steps done.
        best_score: the best mean score so far on the validation splits; `None` = not scored yet.
        best_step: when it was reached; 0 = never.
        evaluations_since: evaluations since then.
    """

    step: int = 0
    best_score: float | None = None
    best_step: int = 0
    evaluations_since: int = 0

    def note_score(self, score: float) -> bool:
        """Takes the score of an evaluation; returns whether it is the best so far."""
        self.evaluations_since += 1
        if self.best_score is not None and not score > self.best_score:
            return False
        self.best_score, self.best_step, self.evaluations_since = score, self.step, 0
        return True


@dataclass
class RunState:
    """All of a run that a state keeps, as Accelerate prepared it for data parallelism.

    Args:
        model: the bare model.
        optimizer: its optimiser.
        scheduler: of the learning rate.
        progress: where the run stands.
        shares: of the sources.
        average: the moving average of the weights, if there is one.
    """

    model: torch.nn.Module
    optimizer: AcceleratedOptimizer | torch.optim.Optimizer
    scheduler: LRScheduler
    progress: Progress
    shares: LossShares
    average: AveragedModel | None = None

    def save(self, accelerator: Accelerator, folder: Path) -> None:
        """Saves a state as `folder/step_N`, which appears when it is complete, and removes the oldest; every process
        calls it.

        Raises:
            WriteError: the disk is full or fails; earlier states stay.
        """
        partial, state = folder / ".partial", folder / f"step_{self.progress.step}"
        try:
            if accelerator.is_main_process:
                _remove(partial)
                partial.mkdir(parents=True)
            accelerator.wait_for_everyone()
            write_whole(partial / _random_name(accelerator), json.dumps(_random_states()))
            if accelerator.is_main_process:
                self._write(partial, accelerator)
            accelerator.wait_for_everyone()
            if accelerator.is_main_process:
                write_whole(partial / _MANIFEST, json.dumps(_checksums(partial), indent=1))
                put_in_place(partial, state)
                for old in saved_states(folder)[:-KEPT_STATES]:
                    shutil.rmtree(old)
        except (OSError, SafetensorError) as error:
            raise WriteError(f"{state} cannot be written: {error}. Earlier states stay.") from error
        accelerator.wait_for_everyone()

    def load(self, accelerator: Accelerator, state: Path) -> None:
        """Goes on from a state that [`newest_state`] found whole.

        Raises:
            TrainingError: it does not fit this run.
        """
        try:
            self.model.load_state_dict(load_file(state / "model.safetensors"))
            self.optimizer.load_state_dict(_read_optimizer(state, self.optimizer))
            if self.average is not None:
                self.average.load_state_dict(load_file(state / "average.safetensors"))
            numbers = read_json(state / "numbers.json")
            self.scheduler.load_state_dict(numbers["scheduler"])
            self.shares.load_state_dict(numbers["shares"])
            self.progress.__dict__.update(asdict(Progress(**numbers["progress"])))
            if accelerator.scaler is not None:
                accelerator.scaler.load_state_dict(numbers["scaler"])
            _set_random_states(read_json(state / _random_name(accelerator)))
        except (OSError, SafetensorError, KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
            raise TrainingError(
                f"{state} does not fit this run ({' '.join(str(error).split())}). Remove it, or start a new run in "
                "another output_dir (--output_dir)."
            ) from error

    def _write(self, folder: Path, accelerator: Accelerator) -> None:
        _save_tensors(self.model.state_dict(), folder / "model.safetensors")
        _write_optimizer(folder, self.optimizer)
        if self.average is not None:
            _save_tensors(self.average.state_dict(), folder / "average.safetensors")
        numbers = {
            "progress": asdict(self.progress),
            "scheduler": self.scheduler.state_dict(),
            "shares": self.shares.state_dict(),
            "scaler": None if accelerator.scaler is None else accelerator.scaler.state_dict(),
        }
        write_whole(folder / "numbers.json", json.dumps(numbers, indent=1))


def saved_states(folder: Path) -> list[Path]:
    """Folders of states, the oldest first; anything else is passed over."""
    states = [path for path in folder.glob("step_*") if _NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(states, key=step_of)


def step_of(state: Path) -> int:
    """The optimiser step of a state."""
    return int(state.name.removeprefix("step_"))


def newest_state(folder: Path) -> Path | None:
    """The state that a run is resumed from; `None` if there is none.

    Raises:
        TrainingError: it is damaged; the message says whether the one before it is whole.
    """
    states = saved_states(folder)
    if not states or (fault := _fault(states[-1])) is None:
        return states[-1] if states else None
    whole = [state for state in states[:-1] if _fault(state) is None]
    if whole:
        remedy = f"Remove it ({states[-1]}) to go on from {whole[-1].name}, which is whole"
    else:
        remedy = "No state before it is whole: start a new run in another output_dir (--output_dir)"
    raise TrainingError(f"The newest state, {states[-1].name}, is damaged: {fault}. {remedy}.")


def save_best(model: torch.nn.Module, path: Path) -> None:
    """Keeps weights in a file that appears at once.

    Raises:
        WriteError: the disk is full or fails.
    """
    partial = path.with_name(f".{path.name}")
    try:
        path.parent.mkdir(exist_ok=True)
        partial.unlink(missing_ok=True)
        _save_tensors(model.state_dict(), partial)
        put_in_place(partial, path)
    except (OSError, SafetensorError) as error:
        raise WriteError(f"{path} cannot be written: {error}") from error


def load_best(model: torch.nn.Module, path: Path) -> None:
    """Takes the weights that were kept.

    Raises:
        TrainingError: the file is gone or damaged.
    """
    try:
        model.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise TrainingError(
            f"{path}, the best weights, cannot be read: {error}. Resume the run (--resume True) to make them anew."
        ) from error


def _save_tensors(tensors: dict[str, torch.Tensor], path: Path) -> None:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)


def _write_optimizer(folder: Path, optimizer: torch.optim.Optimizer) -> None:
    state = optimizer.state_dict()
    tensors, numbers = {}, {}
    for index, entries in state["state"].items():
        for name, value in entries.items():
            (tensors if isinstance(value, torch.Tensor) else numbers)[f"{index}.{name}"] = value
    _save_tensors(tensors, folder / "optimizer.safetensors")
    write_whole(folder / "optimizer.json", json.dumps({"groups": state["param_groups"], "numbers": numbers}, indent=1))


def _read_optimizer(folder: Path, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The argument of `load_state_dict`."""
    document = read_json(folder / "optimizer.json")
    state: dict[int, dict[str, Any]] = {}
    for key, value in (load_file(folder / "optimizer.safetensors") | document["numbers"]).items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    for group, present in zip(document["groups"], optimizer.param_groups, strict=True):
        # JSON has no tuples.
        group.update({name: tuple(group[name]) for name, value in present.items() if isinstance(value, tuple)})
    return {"state": state, "param_groups": document["groups"]}


def _random_name(accelerator: Accelerator) -> str:
    return f"random_{accelerator.process_index}.json"


def _random_states() -> dict[str, Any]:
    """The states of the generators of Python, NumPy and torch."""
    numpy_state = np.random.get_state(legacy=False)  # noqa: NPY002
    return {
        "python": random.getstate(),
        "numpy": numpy_state | {"state": numpy_state["state"] | {"key": numpy_state["state"]["key"].tolist()}},
        "torch": torch.get_rng_state().tolist(),
        "cuda": [state.tolist() for state in torch.cuda.get_rng_state_all()] if torch.cuda.is_available() else [],
    }


def _set_random_states(states: dict[str, Any]) -> None:
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    key = np.array(states["numpy"]["state"]["key"], dtype=np.uint32)
    np.random.set_state(states["numpy"] | {"state": states["numpy"]["state"] | {"key": key}})  # noqa: NPY002
    torch.set_rng_state(torch.tensor(states["torch"], dtype=torch.uint8))
    if states["cuda"]:
        torch.cuda.set_rng_state_all([torch.tensor(state, dtype=torch.uint8) for state in states["cuda"]])


def _checksums(folder: Path) -> dict[str, str]:
    """Checksums of the files of a state, by name."""
    found = {}
    for path in sorted(folder.iterdir()):
        if path.name != _MANIFEST:
            with path.open("rb") as file:
                found[path.name] = hashlib.file_digest(file, _new_digest).hexdigest()
    return found


def _new_digest() -> Any:
    return hashlib.blake2b(digest_size=16)


def _fault(state: Path) -> str | None:
    """What is wrong with a saved state; `None` = nothing."""
    try:
        wanted = read_json(state / _MANIFEST)
        found = _checksums(state)
        step = read_json(state / "numbers.json")["progress"]["step"]
    except FileNotFoundError as error:
        return f"it has no {Path(error.filename).name}, or was saved by an earlier version"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"it cannot be read ({error})"
    if differing := sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)):
        return f"{', '.join(differing)} is not what was saved"
    return None if step == step_of(state) else f"it holds the state of step {step}"


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)
