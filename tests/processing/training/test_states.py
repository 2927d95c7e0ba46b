"""Saved states: they bring a run back to the last bit, execute nothing, and say so when they are damaged."""

import errno
import json
import multiprocessing
import os
import pickle
import random
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import get_cosine_schedule_with_warmup

from stsun_processing.data.sampling import LossShares, MixtureBatchSampler, MixtureDataset
from stsun_processing.errors import WriteError
from stsun_processing.training import states as states_module
from stsun_processing.training.arguments import TrainingError
from stsun_processing.training.optimization import MuonAdamW
from stsun_processing.training.states import (
    Progress,
    RunState,
    load_best,
    newest_state,
    save_best,
    saved_states,
    step_of,
)


class Net(torch.nn.Module):
    """A matrix for Muon, a table and vectors for AdamW, and dropout, which draws random numbers."""

    def __init__(self):
        super().__init__()
        self.embedding, self.linear, self.norm = torch.nn.Embedding(5, 6), torch.nn.Linear(6, 4), torch.nn.LayerNorm(4)

    def forward(self, ids):
        return torch.nn.functional.dropout(self.norm(self.linear(self.embedding(ids))), 0.5, self.training).square()


@pytest.fixture(autouse=True)
def accelerator():
    AcceleratorState._reset_state(reset_partial_state=True)
    yield Accelerator(cpu=True)
    AcceleratorState._reset_state(reset_partial_state=True)


def make_run(seed=0, averaged=True):
    set_seed(seed)
    model = Net()
    optimizer = MuonAdamW(model, 1e-2, 0.05)
    scheduler = get_cosine_schedule_with_warmup(optimizer, 2, 20)
    shares = LossShares(MixtureBatchSampler(MixtureDataset([[0], [1]]), 1, 20))
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5)) if averaged else None
    return RunState(model, optimizer, scheduler, Progress(), shares, average)


def train(run, steps):
    for _ in range(steps):
        loss = run.model(torch.arange(5)).sum() * (1 + random.random() + np.random.random())  # noqa: NPY002
        loss.backward()
        run.optimizer.step()
        run.optimizer.zero_grad()
        run.scheduler.step()
        if run.average is not None:
            run.average.update_parameters(run.model)
        run.progress.step += 1
        run.shares.note(run.progress.step % 2, loss.item())
        run.shares.renew()
    return run


def tensors(run):
    return [*run.model.state_dict().values(), *(run.average.state_dict().values() if run.average else ())]


@pytest.mark.parametrize("averaged", [True, False])
def test_a_run_goes_on_from_a_state_to_the_last_bit(accelerator, tmp_path, averaged):
    whole = train(make_run(averaged=averaged), 3)
    assert whole.progress.note_score(0.5)
    whole.save(accelerator, tmp_path)
    train(whole, 4)
    resumed = make_run(seed=9, averaged=averaged)
    resumed.load(accelerator, newest_state(tmp_path))
    assert resumed.progress == Progress(3, 0.5, 3, 0)
    train(resumed, 4)
    for mine, theirs in zip(tensors(resumed), tensors(whole), strict=True):
        assert torch.equal(mine, theirs)
    assert resumed.scheduler.get_last_lr() == whole.scheduler.get_last_lr()
    assert resumed.shares.state_dict() == whole.shares.state_dict()


def test_the_score_of_a_run_is_the_best_so_far():
    progress = Progress(step=4)
    assert progress.note_score(0.3)
    progress.step = 5
    assert not progress.note_score(0.3)
    assert not progress.note_score(float("nan"))
    assert progress == Progress(5, 0.3, 4, 2)
    assert progress.note_score(0.4)
    assert progress == Progress(5, 0.4, 5, 0)


@pytest.fixture
def folder(accelerator, tmp_path):
    """Two states, after one that was removed."""
    run = make_run()
    for _ in range(3):
        train(run, 2).save(accelerator, tmp_path / "checkpoints")
    return tmp_path / "checkpoints"


def test_the_oldest_states_are_removed_and_what_is_no_state_is_passed_over(folder):
    (folder / "step_99").write_text("a file")
    (folder / "step_old").mkdir()
    assert [path.name for path in saved_states(folder)] == ["step_4", "step_6"]
    assert step_of(newest_state(folder)) == 6
    assert newest_state(folder / "absent") is None


def test_nothing_that_is_kept_is_a_pickle(folder):
    names = {path.name for path in (folder / "step_6").iterdir()}
    assert {path.suffix for path in (folder / "step_6").iterdir()} == {".json", ".safetensors"}
    assert {"model.safetensors", "optimizer.safetensors", "average.safetensors", "random_0.json"} <= names


class Marker:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


OLD_NAMES = ("custom_checkpoint_0.pkl", "random_states_0.pkl", "optimizer.bin", "scheduler.bin", "pytorch_model.bin")


@pytest.mark.parametrize("sealed", [True, False])
def test_a_malicious_pickle_is_never_loaded(accelerator, folder, tmp_path, sealed):
    """In place of any file of a state, and beside them under the names that earlier versions used."""
    state, marker = folder / "step_6", tmp_path / "marker"
    payloads = [pickle.dumps(Marker(marker))]
    torch.save(Marker(marker), tmp_path / "torch.bin")
    payloads.append((tmp_path / "torch.bin").read_bytes())
    names = [path.name for path in state.iterdir() if path.name != "manifest.json"]
    for name in (*names, *OLD_NAMES):
        for payload in payloads:
            copy = shutil.copytree(state, tmp_path / "copy" / "step_6")
            (copy / name).write_bytes(payload)
            if sealed:
                (copy / "manifest.json").write_text(json.dumps(states_module._checksums(copy)))
            if sealed and name in OLD_NAMES:
                make_run().load(accelerator, newest_state(copy.parent))
            else:
                with pytest.raises(TrainingError):
                    make_run().load(accelerator, newest_state(copy.parent))
            shutil.rmtree(copy)
    assert not marker.exists()
    pickle.loads(payloads[0])
    assert marker.exists(), "the payload works"


DAMAGES = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "emptied": lambda path: path.write_bytes(b""),
    "flipped": lambda path: path.write_bytes(path.read_bytes()[:-30] + b"?" + path.read_bytes()[-29:]),
    "removed": lambda path: path.unlink(),
    "list": lambda path: path.write_text("[]"),
    "deep": lambda path: path.write_text("[" * 200_000),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_is_named_with_the_one_before_it(folder, tmp_path, damage):
    for path in sorted((folder / "step_6").iterdir()):
        copy = shutil.copytree(folder, tmp_path / "copy")
        DAMAGES[damage](copy / "step_6" / path.name)
        with pytest.raises(TrainingError, match=r"step_6, is damaged: .*Remove it .*to go on from step_4, which is"):
            newest_state(copy)
        DAMAGES[damage](copy / "step_4" / path.name)
        with pytest.raises(TrainingError, match=r"step_6, is damaged: .*No state before it is whole"):
            newest_state(copy)
        shutil.rmtree(copy)


def test_states_that_are_not_those_of_their_names_are_damaged(folder):
    shutil.rmtree(folder / "step_4")
    (folder / "step_6").rename(folder / "step_8")
    with pytest.raises(TrainingError, match="holds the state of step 6"):
        newest_state(folder)
    (folder / "step_9").mkdir()
    with pytest.raises(TrainingError, match=r"step_9, is damaged: it has no manifest\.json, or was saved by"):
        newest_state(folder)


def test_a_state_of_another_model_is_refused(accelerator, folder):
    run = make_run()
    run.model.linear = torch.nn.Linear(6, 5)
    with pytest.raises(TrainingError, match=r"step_6 does not fit this run .*size mismatch"):
        run.load(accelerator, newest_state(folder))


@pytest.mark.parametrize("call", range(1, 8, 2))
def test_a_full_disk_leaves_the_earlier_states(accelerator, folder, monkeypatch, call):
    run, calls, sync = make_run(), [], os.fsync
    run.load(accelerator, newest_state(folder))
    train(run, 1)

    def full(file):
        calls.append(file)
        if len(calls) == call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(WriteError, match=r"step_7 cannot be written: .*No space left.*Earlier states stay"):
            run.save(accelerator, folder)
    assert step_of(newest_state(folder)) == 6
    run.save(accelerator, folder)
    assert step_of(newest_state(folder)) == 7


def test_a_link_where_a_state_is_written_is_not_followed(accelerator, folder, tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "thesis.txt").write_text("x")
    (folder / ".partial").symlink_to(kept)
    run = make_run()
    train(run, 8).save(accelerator, folder)
    assert [path.name for path in kept.iterdir()] == ["thesis.txt"]
    assert step_of(newest_state(folder)) == 8


def test_best_weights_are_kept_and_named_when_damaged(tmp_path, monkeypatch):
    path, run, other = tmp_path / "new" / "best.safetensors", make_run(), make_run(seed=3)
    save_best(run.model, path)
    load_best(other.model, path)
    assert torch.equal(other.model.linear.weight, run.model.linear.weight)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(TrainingError, match=r"best\.safetensors, the best weights, cannot be read"):
        load_best(other.model, path)
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    with pytest.raises(WriteError, match="No space left"):
        save_best(run.model, path)


def keep_saving(folder):
    torch.set_num_threads(1)
    accelerator, run = Accelerator(cpu=True), make_run()
    state = newest_state(folder)
    if state is not None:
        run.load(accelerator, state)
    while True:
        train(run, 1).save(accelerator, folder)


def test_kills_while_states_are_saved_leave_whole_ones(tmp_path):
    context, draw, last = multiprocessing.get_context("forkserver"), random.Random(0), 0
    context.set_forkserver_preload(["accelerate", "transformers", "stsun_processing.training.states"])
    for _ in range(10):
        worker = context.Process(target=keep_saving, args=(tmp_path,))
        worker.start()
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and max(map(step_of, saved_states(tmp_path)), default=0) < last + 3:
            time.sleep(0.001)
        time.sleep(draw.random() * 0.05)
        worker.kill()
        worker.join()
        state = newest_state(tmp_path)
        assert step_of(state) >= last + 3
        last = step_of(state)
    run = make_run()
    run.load(Accelerator(cpu=True), state)
    for mine, theirs in zip(tensors(run), tensors(train(make_run(), last)), strict=True):
        assert torch.equal(mine, theirs)
