"""Fine-tunes STSUN, or trains it from scratch, on one or many sources at once, with Accelerate.

    python examples/finetune.py --data path/to/folder another/folder --output_dir runs/first
    python examples/finetune.py --config examples/finetune.yaml --steps 500      # a file, and what differs from it
    accelerate launch examples/finetune.py --config examples/finetune.yaml       # several processes

A source is a folder with a dataset.json (see stsun_processing.dataset_description) or the word `synthetic`. Every
batch comes from one source; the sources take turns at random, by `--weights`. The output folder receives the
checkpoint (model and processor), metrics.json and, for `--resume`, the state of the run.
"""

import json
import math
import os
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
import yaml
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration, set_seed
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import AutoConfig, HfArgumentParser, get_cosine_schedule_with_warmup

from modeling_stsun import STSUNConfig, STSUNForDensePrediction, STSUNImageProcessor
from modeling_stsun.configuration_stsun import PRESETS
from stsun_processing import (
    Augmentation,
    ConfusionMatrix,
    FolderDataset,
    STSUNCollator,
    SyntheticDataset,
    band_statistics,
    predict_scene,
)
from stsun_processing.image_processing_stsun import BY_KIND
from stsun_processing.metadata import IGNORE_INDEX
from stsun_processing.metrics import json_ready
from stsun_processing.sampling import MixtureBatchSampler, MixtureDataset

# Windows that one sample can be cut into; the draws pick among them.
WINDOWS = 2**20


@dataclass
class FinetuneArguments:
    """Everything that a run can be told; a YAML file given with --config holds the same names."""

    output_dir: str = field(
        default="runs/finetune", metadata={"help": "Folder of the checkpoint and of the run's state."}
    )
    data: list[str] = field(default_factory=list, metadata={"help": "Folders with a dataset.json, or `synthetic`."})
    weights: list[float] | None = field(default=None, metadata={"help": "Share of the steps of each source."})
    model: str = field(
        default="tiny", metadata={"help": f"Preset ({', '.join(PRESETS)}), or folder or Hub id of a checkpoint."}
    )
    steps: int = field(default=2000, metadata={"help": "Optimiser steps."})
    batch_size: int = field(default=4, metadata={"help": "Samples a process and step."})
    gradient_accumulation_steps: int = field(default=1, metadata={"help": "Batches an optimiser step."})
    learning_rate: float = field(default=1e-3, metadata={"help": "Highest learning rate (AdamW, cosine)."})
    weight_decay: float = field(default=0.05, metadata={"help": "Weight decay of matrices and convolutions."})
    warmup_steps: int = field(default=100, metadata={"help": "Steps until the highest learning rate."})
    max_grad_norm: float = field(default=1.0, metadata={"help": "Gradients are clipped to this norm."})
    mixed_precision: str | None = field(
        default=None, metadata={"help": "no, bf16 or fp16 (default: as accelerate is configured)."}
    )
    crop_size: int = field(default=64, metadata={"help": "Side of the training windows in pixels."})
    max_dates: int | None = field(default=None, metadata={"help": "Most dates a training sample keeps."})
    date_sampling: float = field(default=0.5, metadata={"help": "Probability of training on a subset of the dates."})
    band_sampling: float = field(default=0.5, metadata={"help": "Probability of training on a subset of the bands."})
    min_bands: int = field(default=3, metadata={"help": "Fewest bands that a subset keeps."})
    metadata_dropout: float = field(default=0.05, metadata={"help": "Probability that a piece of metadata is hidden."})
    eval_every: int = field(default=500, metadata={"help": "Steps between evaluations on the validation splits."})
    save_every: int = field(default=500, metadata={"help": "Steps between saved states of the run."})
    num_workers: int = field(default=1, metadata={"help": "Processes that read data."})
    seed: int = field(default=0, metadata={"help": "Fixes initialisation, data order and augmentation."})
    resume: bool = field(default=False, metadata={"help": "Continue the run in output_dir from its last saved state."})


def parse_arguments() -> FinetuneArguments:
    """Command line over YAML file over defaults."""
    parser = HfArgumentParser(FinetuneArguments, description=__doc__.split("\n")[0])
    parser.add_argument("--config", help="YAML file with any of these settings.")
    config = parser.parse_known_args()[0].config
    if config is not None:
        values = yaml.safe_load(Path(config).read_text()) or {}
        known = asdict(FinetuneArguments())
        if unknown := sorted(set(values) - set(known)):
            sys.exit(f"{config}: unknown settings {', '.join(unknown)}; known ones are {', '.join(known)}.")
        parser.set_defaults(**values)
    namespace = vars(parser.parse_args())
    namespace.pop("config")
    arguments = FinetuneArguments(**namespace)
    for name, default in asdict(FinetuneArguments()).items():
        value = getattr(arguments, name)
        if isinstance(default, (bool, int, list)) and type(value) is not type(default):
            sys.exit(f"{name} must be of type {type(default).__name__}, got {value!r}.")
    if not arguments.data:
        sys.exit("No data: name at least one source with --data (a folder with a dataset.json, or `synthetic`).")
    return arguments


def open_source(name: str, split: str, arguments: FinetuneArguments) -> torch.utils.data.Dataset:
    """A source: windows of it for training, whole samples for evaluation."""
    training = split == "train"
    if name == "synthetic":
        seed = 0 if training else {"val": 1_000_001, "test": 1_000_002}[split]
        return SyntheticDataset(
            length=WINDOWS if training else 24,
            sizes=(arguments.crop_size // 2, arguments.crop_size) if training else (96, 128),
            random_bands=0.5 if training else 0.0,
            seed=arguments.seed + seed,
        )
    windows = {"crop_size": arguments.crop_size, "crops_per_image": WINDOWS} if training else {}
    return FolderDataset(name, split, **windows, seed=arguments.seed)


def build_model(
    arguments: FinetuneArguments, sources: list[torch.utils.data.Dataset], statistics: dict[str, dict]
) -> tuple[STSUNForDensePrediction, STSUNImageProcessor]:
    """A preset with the classes of the sources, or a checkpoint that learns those of them that it does not know."""
    classes = dict.fromkeys(name for source in sources for task in source.tasks for name in source.class_names(task))
    if arguments.model in PRESETS:
        id2label = dict(enumerate(classes))
        config = STSUNConfig(
            **PRESETS[arguments.model], id2label=id2label, label2id={name: i for i, name in id2label.items()}
        )
        return STSUNForDensePrediction(config), STSUNImageProcessor.from_config(config, band_statistics=statistics)
    config = AutoConfig.from_pretrained(arguments.model)
    model = STSUNForDensePrediction.from_pretrained(arguments.model, config=config, dtype=torch.float32)
    processor = STSUNImageProcessor.from_pretrained(arguments.model)
    processor.check_config(config)
    new = [name for name in classes if name not in processor.categories]
    model.add_categories(new)
    processor.add_categories(new)
    processor.band_statistics = processor.band_statistics | statistics
    return model, processor


def evaluate(
    model: STSUNForDensePrediction,
    processor: STSUNImageProcessor,
    sources: list[torch.utils.data.Dataset],
    accelerator: Accelerator,
) -> dict[str, dict[str, dict[str, float]]]:
    """Scores by source and task, on whole samples, predicted as `stsun predict` does; processes share the samples."""
    scores = {}
    for source in sources:
        matrices = {task: ConfusionMatrix(len(source.class_names(task))) for task in source.tasks}
        for index in range(accelerator.process_index, len(source), accelerator.num_processes):
            sample = source[index]
            statistics = sample.source if sample.source in processor.band_statistics else BY_KIND
            maps = predict_scene(
                *(model, processor, sample.series, sample.task, sample.classes, sample.outputs),
                statistics=statistics,
                progress=False,
            )
            # What was labelled where no date holds data cannot be predicted, and does not count.
            labels = np.where(maps == IGNORE_INDEX, IGNORE_INDEX, sample.labels)
            matrices[sample.task].update(torch.from_numpy(maps), torch.from_numpy(labels))
        for task, matrix in matrices.items():
            counts = accelerator.reduce(matrix.matrix.to(accelerator.device), reduction="sum")
            total = ConfusionMatrix(len(counts))
            total.matrix = counts.cpu()
            names = source.class_names(task)
            scores.setdefault(source.name, {})[task] = {
                "mean_iou": total.mean_iou,
                "overall_accuracy": total.overall_accuracy,
                **{f"iou_{name}": value for name, value in zip(names, total.iou.tolist(), strict=True)},
            }
    return scores


def main() -> None:
    """Trains, evaluates, saves."""
    arguments = parse_arguments()
    output_dir = Path(arguments.output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    if not os.access(output_dir, os.W_OK | os.X_OK):
        sys.exit(f"--output_dir {output_dir} is not writable.")
    accelerator = Accelerator(
        mixed_precision=arguments.mixed_precision,
        gradient_accumulation_steps=arguments.gradient_accumulation_steps,
        project_config=ProjectConfiguration(str(output_dir), automatic_checkpoint_naming=True, total_limit=2),
    )
    set_seed(arguments.seed)
    accelerator.print(f"Checking {len(arguments.data)} sources ...")
    train = [open_source(name, "train", arguments) for name in arguments.data]
    names = [source.name for source in train]
    if len(set(names)) != len(names):
        sys.exit(f"The sources are named {', '.join(names)}; give each a name of its own in its dataset.json.")
    splits = {split: [open_source(name, split, arguments) for name in arguments.data] for split in ("val", "test")}
    statistics = {s.name: band_statistics(s) for s in train if isinstance(s, FolderDataset)}
    model, processor = build_model(arguments, train, statistics)

    augmentation = Augmentation(
        dates=1.0 if arguments.max_dates else arguments.date_sampling,
        max_dates=arguments.max_dates,
        bands=arguments.band_sampling,
        min_bands=arguments.min_bands,
        metadata=arguments.metadata_dropout,
    )
    mixture = MixtureDataset(train, [augmentation] * len(train))

    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": arguments.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=arguments.learning_rate,
        betas=(0.9, 0.98),
    )
    # The scheduler moves once a process and optimiser step.
    scheduler = get_cosine_schedule_with_warmup(
        optimizer, arguments.warmup_steps * accelerator.num_processes, arguments.steps * accelerator.num_processes
    )
    model, optimizer, scheduler = accelerator.prepare(model, optimizer, scheduler)

    step = 0
    # step.json is written last: a state without it was cut short.
    states = [path.parent for path in output_dir.glob("checkpoints/checkpoint_*/step.json")]
    states.sort(key=lambda path: int(path.name.split("_")[1]))
    if arguments.resume:
        if not states:
            sys.exit(f"--resume: {output_dir} holds no saved state (checkpoints/checkpoint_N). Leave --resume out.")
        accelerator.load_state(str(states[-1]))
        step = json.loads((states[-1] / "step.json").read_text())["step"]
        accelerator.project_configuration.iteration = int(states[-1].name.split("_")[1]) + 1
    elif states:
        sys.exit(f"{output_dir} holds the states of an earlier run. Give --resume True, or another --output_dir.")

    accumulation = arguments.gradient_accumulation_steps
    sampler = MixtureBatchSampler(
        mixture,
        arguments.batch_size,
        arguments.steps * accumulation,
        arguments.weights,
        arguments.seed,
        start=step * accumulation,
        rank=accelerator.process_index,
        num_processes=accelerator.num_processes,
    )
    loader = DataLoader(
        mixture,
        batch_sampler=sampler,
        collate_fn=STSUNCollator(processor),
        num_workers=arguments.num_workers,
        pin_memory=accelerator.device.type == "cuda",
    )
    bar = tqdm(total=arguments.steps, initial=step, desc="train", disable=not accelerator.is_local_main_process)
    model.train()
    for batch in loader:
        with accelerator.accumulate(model):
            loss = model(**batch.to(accelerator.device)).loss
            if not math.isfinite(loss.item()):
                sys.exit(f"The loss is {loss.item()} in step {step + 1}. Lower --learning_rate, or look at the data.")
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), arguments.max_grad_norm)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
        if not accelerator.sync_gradients:
            continue
        step += 1
        bar.update()
        bar.set_postfix(loss=f"{loss.item():.3f}")
        if step % arguments.save_every == 0 and step < arguments.steps:
            folder = Path(accelerator.save_state())
            accelerator.wait_for_everyone()
            if accelerator.is_main_process:
                (folder / "step.json").write_text(json.dumps({"step": step}))
        if step % arguments.eval_every == 0 and step < arguments.steps:
            scores = evaluate(accelerator.unwrap_model(model), processor, splits["val"], accelerator)
            accelerator.print(f"step {step}: {summary(scores)}")
            model.train()
    bar.close()

    unwrapped = accelerator.unwrap_model(model)
    if accelerator.is_main_process:
        unwrapped.save_pretrained(output_dir)
        processor.save_pretrained(output_dir)
    metrics = {split: evaluate(unwrapped, processor, sources, accelerator) for split, sources in splits.items()}
    if accelerator.is_main_process:
        document = json_ready({"arguments": asdict(arguments), **metrics})
        (output_dir / "metrics.json").write_text(json.dumps(document, indent=2, allow_nan=False))
    for split, scores in metrics.items():
        accelerator.print(f"{split}: {summary(scores)}")
    accelerator.print(f"Checkpoint and metrics.json are in {output_dir}.")
    accelerator.end_training()


def summary(scores: dict[str, dict[str, dict[str, float]]]) -> str:
    """One line of mean IoU by source and task."""
    return ", ".join(
        f"{source} {task} mIoU {values['mean_iou']:.3f}"
        for source, tasks in scores.items()
        for task, values in tasks.items()
    )


if __name__ == "__main__":
    main()
