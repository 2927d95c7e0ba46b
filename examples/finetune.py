"""Fine-tunes STSUN, or trains it from scratch, on one or many sources at once, with Accelerate.

    python examples/finetune.py --data path/to/folder another/folder --output_dir runs/first
    python examples/finetune.py --config examples/finetune.yaml --steps 500      # a file, and what differs from it
    accelerate launch examples/finetune.py --config examples/finetune.yaml       # several processes

A source is a folder with a dataset.json (see stsun_processing.data.description) or the word `synthetic`; `--help`
lists all settings. The output folder receives what the Hub needs (weights, config, processor, a card with the measured
scores), log.jsonl and, for `--resume True`, the states of the run. Where there are validation splits, the weights that
scored best on them are those that are kept.
"""

import math
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import set_seed
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm
from transformers import BatchFeature, get_cosine_schedule_with_warmup

from modeling_stsun import STSUNForDensePrediction
from stsun_processing import DatasetError, STSUNCollator
from stsun_processing.data.sampling import LossShares
from stsun_processing.errors import STSUNError
from stsun_processing.training import (
    FinetuneArguments,
    JsonLinesTracker,
    MuonAdamW,
    Progress,
    RunState,
    Scores,
    TrainingError,
    add_lora,
    build_mixture,
    build_model,
    build_sampler,
    check_same_run,
    evaluate_sources,
    load_best,
    make_output_dir,
    mean_score,
    newest_state,
    open_sources,
    parse_arguments,
    plain_model,
    predict_command,
    run_lock,
    save_best,
    save_run,
    saved_states,
    step_of,
    summary,
)


def run(arguments: FinetuneArguments) -> None:
    """Finds the state to go on from, and trains while no other run does so in the same folder."""
    output_dir = make_output_dir(arguments)
    states = saved_states(output_dir / "checkpoints")
    if arguments.resume and not states:
        raise TrainingError(f"--resume: {output_dir} holds no saved state (checkpoints/step_N). Leave --resume out.")
    if states and not arguments.resume:
        raise TrainingError(
            f"{output_dir} holds the states of an earlier run. Give --resume True, or another --output_dir."
        )
    state = newest_state(output_dir / "checkpoints")
    accelerator = Accelerator(
        mixed_precision=arguments.mixed_precision,
        gradient_accumulation_steps=arguments.gradient_accumulation_steps,
        log_with=[JsonLinesTracker(output_dir / "log.jsonl", step_of(state) if state else 0), *arguments.report_to],
        project_dir=output_dir,
        # What a batch does not need (an embedding for unknown dates, say) gets no gradient in that step.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    with ExitStack() as stack:
        if accelerator.is_main_process:
            stack.enter_context(run_lock(output_dir))
            check_same_run(arguments, output_dir / "run.json", accelerator.num_processes)
        train(arguments, accelerator, output_dir, state)


def train(arguments: FinetuneArguments, accelerator: Accelerator, output_dir: Path, state: Path | None) -> None:
    """Trains, from a saved state on if one is given, evaluates, and saves."""
    folder, best = output_dir / "checkpoints", output_dir / "checkpoints" / "best.safetensors"
    set_seed(arguments.seed)
    accelerator.print(f"Checking {len(arguments.data)} sources ...")
    sources = open_sources(arguments)
    for note in sources.notes:
        accelerator.print(note)
    model, processor = build_model(arguments, sources)
    if arguments.lora_rank:
        model = add_lora(model, arguments.lora_rank)
    optimizer = MuonAdamW(model, arguments.learning_rate, arguments.weight_decay)
    # Not prepared: Accelerate would step it once for each process.
    scheduler = get_cosine_schedule_with_warmup(optimizer, arguments.warmup_steps, arguments.steps)
    model, optimizer = accelerator.prepare(model, optimizer)
    bare, progress, average = accelerator.unwrap_model(model), Progress(), None
    mixture = build_mixture(arguments, sources)
    sampler = build_sampler(arguments, mixture, 0, accelerator.process_index, accelerator.num_processes)
    shares = LossShares(sampler)
    if arguments.ema_decay:
        average = AveragedModel(bare, multi_avg_fn=get_ema_multi_avg_fn(arguments.ema_decay))
    run_state = RunState(bare, optimizer, scheduler, progress, shares, average)
    if state:
        run_state.load(accelerator, state)
    accelerator.init_trackers("stsun", {name: str(value) for name, value in asdict(arguments).items()})

    def network() -> STSUNForDensePrediction:
        return plain_model(bare if average is None else average.module)

    def evaluate(network: STSUNForDensePrediction, split: list[Dataset]) -> Scores:
        processes = accelerator.process_index, accelerator.num_processes
        return evaluate_sources(network, processor, split, *processes, accelerator.device)

    loader = DataLoader(
        mixture,
        batch_sampler=sampler,
        collate_fn=STSUNCollator(processor),
        num_workers=arguments.num_workers,
        pin_memory=accelerator.device.type == "cuda",
    )

    def batches() -> Iterator[tuple[int, BatchFeature]]:
        """What is left of the run: each batch with its number. Batches are drawn ahead, so that shares are renewed
        between two passes."""
        while progress.step < arguments.steps:
            sampler.start = progress.step * arguments.gradient_accumulation_steps
            for number, batch in enumerate(loader, sampler.start):
                yield number, batch
                ended = number + 1 == (progress.step * arguments.gradient_accumulation_steps)
                if ended and arguments.renew_shares and progress.step % arguments.renew_shares == 0:
                    shares.renew()
                    break

    bar = tqdm(
        total=arguments.steps, initial=progress.step, desc="train", disable=not accelerator.is_local_main_process
    )
    model.train()
    losses = torch.zeros((), device=accelerator.device)
    for number, batch in batches():
        with accelerator.accumulate(model):
            loss = model(**batch.to(accelerator.device)).loss
            losses += loss.detach() / arguments.gradient_accumulation_steps
            if arguments.renew_shares:
                source = sampler.draw_source(number)
                shares.note(source, accelerator.reduce(loss.detach(), reduction="mean").item())
                loss = loss * shares.factor(source)
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), arguments.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
        if not accelerator.sync_gradients:
            continue
        progress.step += 1
        scheduler.step()
        if average is not None:
            average.update_parameters(bare)
        mean_loss = accelerator.reduce(losses, reduction="mean").item()
        losses.zero_()
        if not math.isfinite(mean_loss):
            raise TrainingError(
                f"The loss is {mean_loss} in step {progress.step}. Lower --learning_rate, or look at the data."
            )
        accelerator.log({"loss": mean_loss, "learning_rate": scheduler.get_last_lr()[0]}, step=progress.step)
        bar.update()
        bar.set_postfix(loss=f"{mean_loss:.3f}")
        last = progress.step == arguments.steps
        if sources.val and (last or progress.step % arguments.eval_every == 0):
            evaluated = network()
            scores = evaluate(evaluated, sources.val)
            accelerator.print(f"step {progress.step}: {summary(scores)}")
            accelerator.log({"val/mean": mean_score(scores), **flat(scores)}, step=progress.step)
            model.train()
            if progress.note_score(mean_score(scores)) and accelerator.is_main_process:
                save_best(evaluated, best)
        if arguments.patience and progress.evaluations_since >= arguments.patience:
            accelerator.print(f"No better score in {arguments.patience} evaluations: stopped at step {progress.step}.")
            break
        if not last and progress.step % arguments.save_every == 0:
            run_state.save(accelerator, folder)
    bar.close()

    accelerator.wait_for_everyone()
    final = network()
    if progress.best_step:
        load_best(final, best)
        accelerator.print(
            f"The weights kept are those of step {progress.best_step}, the best on the validation splits."
        )
    metrics: dict[str, Scores] = {}
    for split in ("val", "test"):
        metrics[split] = evaluate(final, getattr(sources, split))
        accelerator.print(f"{split}: {summary(metrics[split]) or 'not scored'}")
        if accelerator.is_main_process:
            # Also before the test: whatever stops that, the trained weights stay.
            save_run(final, processor, arguments, metrics, sources.notes)
    accelerator.print(f"Checkpoint, model card, metrics.json and log.jsonl are in {output_dir}.")
    if accelerator.is_main_process and (command := predict_command(output_dir, processor, sources)):
        print(command)
    # The wrapper goes before its process group: whichever is last waits for the group's threads, and the wrapper would
    # keep the interpreter's lock, which these threads need to let go of their last tensors.
    del model, run_state
    accelerator.free_memory()
    accelerator.end_training()


def flat(scores: Scores) -> dict[str, float]:
    """Scores under one name each, for trackers."""
    return {
        f"val/{source}/{task}/{name}": value
        for source, tasks in scores.items()
        for task, values in tasks.items()
        for name, value in values.items()
        if not math.isnan(value)
    }


if __name__ == "__main__":
    try:
        run(parse_arguments(__doc__.split("\n")[0]))
    except (STSUNError, DatasetError) as error:
        sys.exit(str(error))
