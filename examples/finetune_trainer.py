"""Fine-tunes STSUN with the Trainer of transformers, on the data and with the settings of finetune.py.

    python examples/finetune_trainer.py --data path/to/folder another/folder --output_dir runs/first
    python examples/finetune_trainer.py --config examples/finetune.yaml --steps 500
    torchrun --nproc-per-node 2 examples/finetune_trainer.py --config examples/finetune.yaml

Batches, loss and schedule are those of finetune.py, which also keeps moving averages (`--ema_decay`). While training,
validation runs on disjoint tiles, one forward pass each, and keeps confusion matrices, never logits; the scores in the
model card are those of whole samples, predicted as `stsun predict` does.
"""

import math
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Subset
from transformers import EarlyStoppingCallback, Trainer, TrainingArguments, get_cosine_schedule_with_warmup, set_seed

from stsun_processing import DatasetError, STSUNCollator
from stsun_processing.data.datasets import FolderDataset, Tiles
from stsun_processing.errors import STSUNError
from stsun_processing.training import (
    BatchScores,
    FinetuneArguments,
    MuonAdamW,
    Scores,
    Sources,
    TrainingError,
    add_lora,
    build_mixture,
    build_model,
    build_sampler,
    check_same_run,
    evaluate_sources,
    make_output_dir,
    open_sources,
    parse_arguments,
    plain_model,
    predict_command,
    run_lock,
    save_run,
    summary,
)

EVALUATION_TILE = 256


class SourcesTrainer(Trainer):
    """A Trainer whose batches are draws from several sources, and whose predictions are class maps.

    Args:
        settings: of the run.
        **kwargs: as for `Trainer`.
    """

    def __init__(self, settings: FinetuneArguments, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.settings = settings

    def get_train_dataloader(self) -> DataLoader:
        """The same batches as in finetune.py; each process takes its share, so Accelerate must not cut them again."""
        return DataLoader(
            self.train_dataset,
            batch_sampler=build_sampler(
                self.settings, self.train_dataset, 0, self.args.process_index, self.args.world_size
            ),
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
        )

    def prediction_step(self, *args: Any, **kwargs: Any) -> tuple:
        """Loss, class maps and labels, a row a sample: batches of several processes differ in height and width."""
        loss, outputs, labels = super().prediction_step(*args, **kwargs)
        logits = outputs[0] if isinstance(outputs, tuple) else outputs
        maps = (logits[:, :, 0] > 0).long() if logits.shape[2] == 1 else logits.argmax(2)
        return loss, maps.flatten(1), labels.flatten(1)

    def evaluate(self, eval_dataset: Any = None, *args: Any, **kwargs: Any) -> dict[str, float]:
        """As in the base class; all sets together get `eval_mean_iou` too, the mean of theirs, which picks the best."""
        metrics = super().evaluate(eval_dataset, *args, **kwargs)
        if not isinstance(self.eval_dataset if eval_dataset is None else eval_dataset, dict):
            return metrics  # One of the sets, for which the base class calls this method again.
        values = [value for name, value in metrics.items() if name.endswith("_mean_iou") and not math.isnan(value)]
        metrics["eval_mean_iou"] = sum(values) / len(values) if values else math.nan
        self.log({"eval_mean_iou": metrics["eval_mean_iou"]})
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


class Patience(EarlyStoppingCallback):
    """Early stopping by the mean of all sets; the Trainer reports each set by itself too."""

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **kwargs: Any) -> None:
        """As in the base class, once for all sets."""
        if "eval_mean_iou" in metrics:
            super().on_evaluate(args, state, control, metrics, **kwargs)


def validation_set(source: Dataset, task: str) -> Dataset:
    """The samples of one task of a source, as disjoint tiles where they are scenes."""
    if isinstance(source, FolderDataset):
        return Tiles(source, task, EVALUATION_TILE)
    return Subset(source, [index for index in range(len(source)) if source[index].task == task])


def run(settings: FinetuneArguments) -> None:
    """Finds the state to go on from, and trains while no other run does so in the same folder."""
    if settings.ema_decay:
        raise TrainingError("ema_decay: this script keeps no moving average. Set it to 0, or take finetune.py.")
    if settings.renew_shares:
        raise TrainingError("renew_shares: this script has fixed shares. Set it to 0, or take finetune.py.")
    folder = make_output_dir(settings) / "trainer"
    # trainer_state.json is written last: a state without it was cut short.
    states = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json")]
    states.sort(key=lambda path: int(path.name.split("-")[1]))
    if settings.resume and not states:
        raise TrainingError(f"--resume: {folder} holds no saved state (checkpoint-N). Leave --resume out.")
    if states and not settings.resume:
        raise TrainingError(
            f"{folder} holds the states of an earlier run. Give --resume True, or another --output_dir."
        )
    set_seed(settings.seed)
    sources = open_sources(settings)
    if sources.val and settings.save_every % settings.eval_every:
        raise TrainingError(
            f"save_every ({settings.save_every}) must be a multiple of eval_every ({settings.eval_every}): the Trainer "
            "keeps the best of the states that it saves."
        )
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=settings.steps,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        max_grad_norm=settings.max_grad_norm,
        bf16=settings.mixed_precision == "bf16",
        fp16=settings.mixed_precision == "fp16",
        eval_strategy="steps" if sources.val else "no",
        eval_steps=settings.eval_every,
        save_steps=settings.save_every,
        save_total_limit=2,
        load_best_model_at_end=bool(sources.val),
        metric_for_best_model="eval_mean_iou" if sources.val else None,
        batch_eval_metrics=True,
        logging_steps=1,
        report_to=settings.report_to or "none",
        dataloader_num_workers=settings.num_workers,
        dataloader_pin_memory=torch.cuda.is_available(),
        remove_unused_columns=False,
        label_names=["labels"],
        ddp_find_unused_parameters=True,
        seed=settings.seed,
    )
    with ExitStack() as stack:
        if arguments.process_index == 0:
            stack.enter_context(run_lock(folder.parent))
            folder.mkdir(exist_ok=True)
            check_same_run(settings, folder / "run.json", arguments.world_size)
            print("\n".join(sources.notes) or "All splits of all sources are there.")
        train(settings, arguments, sources, states[-1] if states else None)


def train(settings: FinetuneArguments, arguments: TrainingArguments, sources: Sources, state: Path | None) -> None:
    """Trains, from a saved state on if one is given, evaluates, and saves."""
    model, processor = build_model(settings, sources)
    trained = add_lora(model, settings.lora_rank) if settings.lora_rank else model
    optimizer = MuonAdamW(trained, settings.learning_rate, settings.weight_decay)
    trainer = SourcesTrainer(
        settings,
        model=trained,
        args=arguments,
        train_dataset=build_mixture(settings, sources),
        eval_dataset={
            f"{source.name}_{task}": validation_set(source, task) for source in sources.val for task in source.tasks
        }
        or None,
        data_collator=STSUNCollator(processor),
        compute_metrics=BatchScores(max(len(s.class_names(task)) for s in sources.train for task in s.tasks)),
        optimizers=(optimizer, get_cosine_schedule_with_warmup(optimizer, settings.warmup_steps, settings.steps)),
        callbacks=[Patience(settings.patience)] if settings.patience else None,
    )
    trainer.train(resume_from_checkpoint=None if state is None else str(state))

    network = plain_model(trainer.accelerator.unwrap_model(trainer.model))
    processes = arguments.process_index, arguments.world_size, arguments.device
    metrics: dict[str, Scores] = {}
    for split in ("val", "test"):
        metrics[split] = evaluate_sources(network, processor, getattr(sources, split), *processes)
        if arguments.process_index == 0:
            # Also before the test: whatever stops that, the trained weights stay.
            save_run(network, processor, settings, metrics, sources.notes)
            print(f"{split}: {summary(metrics[split]) or 'not scored'}")
    if arguments.process_index == 0:
        print(f"Checkpoint, model card and metrics.json are in {settings.output_dir}.")
        if command := predict_command(settings.output_dir, processor, sources):
            print(command)


if __name__ == "__main__":
    try:
        run(parse_arguments(__doc__.split("\n")[0]))
    except (STSUNError, DatasetError) as error:
        sys.exit(str(error))
