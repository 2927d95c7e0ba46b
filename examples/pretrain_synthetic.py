"""Trains a preset on the synthetic world alone: how the checkpoint hub_cards/stsun-tiny was made.

    python examples/pretrain_synthetic.py --output_dir runs/stsun-tiny
    python examples/pretrain_synthetic.py --preset small --device cuda --num_workers 8 --output_dir runs/stsun-small

Scenes are drawn endlessly, each seen by one of many sensors, or by bands that no sensor has, at pixel sizes from 2 to
60 m, with clouds and noise; brightness, tint, wavelengths and missing metadata vary, so that real images are less
strange. The folder then holds weights, config and processor; scores on scenes and sensors that were never trained on go
to metrics.json.
"""

import argparse
import json
from pathlib import Path

import torch
from benchmark_speed import describe_machine

from modeling_stsun import STSUNConfig, STSUNForDensePrediction, STSUNImageProcessor
from modeling_stsun.configuration_stsun import PRESETS
from stsun_processing.data.augmentation import Augmentation
from stsun_processing.data.sampling import MixtureDataset
from stsun_processing.demo import BATCH_SIZE, UNSEEN_SENSORS, evaluate, train
from stsun_processing.metadata import CHANGE_CLASSES, TASKS
from stsun_processing.metrics import json_ready
from stsun_processing.synthetic import CLASSES, SyntheticDataset
from stsun_processing.training import MuonAdamW, parameter_groups, write_whole

# Those of the demo's table of unseen sensors are left out, so that its scores stay honest.
SENSORS = (
    *("sentinel-2", "landsat-8-oli-tirs", "landsat-7-etm", "planetscope-superdove", "spot-6-7", "modis", "sentinel-1"),
    *("naip", "pleiades-1", "gaofen-2-pms", "aerial-rgb"),
)
# Least and greatest number of dates and of pixels a side, noise, and the share of the steps. The stronger noise is that
# of single-look radar (5 dB).
GROUPS = (
    ((1, 1), (24, 32), 0.01, 0.15),
    ((1, 1), (48, 64), 0.025, 0.2),
    ((2, 2), (32, 48), 0.01, 0.2),
    ((2, 2), (32, 48), 0.025, 0.15),
    ((3, 6), (20, 32), 0.01, 0.3),
)
# With 0.02 weights grew 5 to 12 times as large as fresh ones, and fine-tuning moved them slowly.
WEIGHT_DECAY = 0.1
AUGMENTATION = Augmentation(gain=0.7, gain_sigma=0.15, gain_band_sigma=0.15, jitter=0.3, metadata=0.1, reversal=0.5)


def training_data(seed: int) -> tuple[MixtureDataset, list[float]]:
    """Endless synthetic scenes in groups of like length and size, with the groups' shares."""
    groups = [
        SyntheticDataset(
            length=2**20,
            sensors=SENSORS,
            tasks=TASKS[:1] if num_dates == (1, 1) else TASKS,
            sizes=sizes,
            num_dates=num_dates,
            gsd_m=(2.0, 60.0),
            noise=noise,
            clouds=0.15,
            random_bands=0.6,
            mixed_sensors=0.1,
            seed=seed + index,
        )
        for index, (num_dates, sizes, noise, _) in enumerate(GROUPS)
    ]
    return MixtureDataset(groups, [AUGMENTATION] * len(groups)), [share for *_, share in GROUPS]


def main() -> None:
    """Trains, evaluates, saves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("runs/pretrained"))
    parser.add_argument("--preset", default="tiny", choices=list(PRESETS))
    parser.add_argument("--config", default="{}", help="JSON of what differs from the preset")
    parser.add_argument("--steps", type=int, default=4000, help="optimiser steps (default: %(default)s)")
    parser.add_argument(
        "--learning_rate", type=float, default=1e-2, help="highest; larger presets need less (default: %(default)s)"
    )
    parser.add_argument("--batch_size", type=int, default=BATCH_SIZE, help="scenes a step (default: %(default)s)")
    parser.add_argument(
        "--optimizer",
        default="muon",
        choices=("muon", "adamw"),
        help="adamw is less work a step for wide presets, whose matrices muon multiplies (default: %(default)s)",
    )
    parser.add_argument("--bfloat16", action="store_true", help="train under bfloat16 autocast on a CPU, too")
    parser.add_argument("--num_workers", type=int, default=0, help="processes that draw scenes (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="cuda implies --bfloat16 (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    torch.manual_seed(arguments.seed)
    names = dict(enumerate([*CLASSES, *CHANGE_CLASSES]))
    config = STSUNConfig(
        **PRESETS[arguments.preset] | json.loads(arguments.config),
        id2label=names,
        label2id={name: index for index, name in names.items()},
    )
    model = STSUNForDensePrediction(config).to(arguments.device)
    processor = STSUNImageProcessor.from_config(config)
    data, shares = training_data(arguments.seed)
    if arguments.optimizer == "muon":
        optimizer = MuonAdamW(model, arguments.learning_rate, WEIGHT_DECAY)
    else:
        optimizer = torch.optim.AdamW(parameter_groups(model, WEIGHT_DECAY), arguments.learning_rate, (0.9, 0.98))
    seconds = train(
        *(model, processor, data, shares, arguments.steps, arguments.seed, arguments.num_workers),
        *(optimizer, arguments.batch_size, arguments.bfloat16 or None),
    )
    model.save_pretrained(arguments.output_dir)
    processor.save_pretrained(arguments.output_dir)
    metrics = {
        "unseen_sensors": evaluate(model, processor, UNSEEN_SENSORS, arguments.seed),
        "run": describe_machine(arguments.device),
        "training": vars(arguments) | {"output_dir": None, "seconds": round(seconds)},
    }
    write_whole(arguments.output_dir / "metrics.json", json.dumps(json_ready(metrics), indent=2))
    print(json.dumps(json_ready(metrics["unseen_sensors"]["all"]), indent=2))


if __name__ == "__main__":
    main()
