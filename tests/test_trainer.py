"""The plain Trainer of transformers on mixed batches: several sensors, tasks, sizes and numbers of dates."""

import pytest
import torch
from torch.testing import assert_close
from torch.utils.data import Subset
from transformers import Trainer, TrainingArguments

from modeling_stsun import STSUNConfig, STSUNForDensePrediction, STSUNImageProcessor
from stsun_processing import STSUNCollator
from stsun_processing.metadata import CHANGE_CLASSES
from stsun_processing.synthetic import CLASSES, SyntheticDataset
from stsun_processing.training import BatchScores
from tests.conftest import small_config

STEPS = 6


def config() -> STSUNConfig:
    names = (*CLASSES, *CHANGE_CLASSES)
    return small_config(id2label=dict(enumerate(names)), label2id={name: index for index, name in enumerate(names)})


def class_maps(logits, labels):
    """Maps in place of logits, which would pile up."""
    return (logits[0] if isinstance(logits, tuple) else logits).argmax(2)


@pytest.fixture(scope="module")
def data() -> SyntheticDataset:
    return SyntheticDataset(8, sensors=("sentinel-2", "spot-5", "modis"), sizes=(12, 20), mixed_sensors=0.3, seed=3)


def make_trainer(data, folder, steps=STEPS, **kwargs) -> Trainer:
    torch.manual_seed(0)
    model = STSUNForDensePrediction(config())
    arguments = {
        "output_dir": str(folder),
        "max_steps": steps,
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 3,
        "learning_rate": 3e-3,
        "save_steps": STEPS // 2,
        "logging_steps": 1,
        "batch_eval_metrics": True,
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "seed": 0,
    }
    return Trainer(
        model=model,
        args=TrainingArguments(**arguments | kwargs),
        train_dataset=data,
        eval_dataset=data,
        data_collator=STSUNCollator(STSUNImageProcessor.from_config(model.config)),
        compute_metrics=BatchScores(len(CLASSES)),
        preprocess_logits_for_metrics=class_maps,
    )


def losses(trainer):
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def test_fits_evaluates_predicts_and_resumes(data, tmp_path):
    assert len({data[index].task for index in range(len(data))}) == 3
    trainer = make_trainer(data, tmp_path)
    trainer.train()
    assert len(losses(trainer)) == STEPS

    metrics = trainer.evaluate()
    assert 0 <= metrics["eval_mean_iou"] <= 1
    # The matrix counts every labelled pixel once, whatever the batches.
    alone = make_trainer(data, tmp_path / "alone", per_device_eval_batch_size=1)
    alone.model.load_state_dict(trainer.model.state_dict())
    assert alone.evaluate()["eval_mean_iou"] == pytest.approx(metrics["eval_mean_iou"], abs=1e-6)

    resumed = make_trainer(data, tmp_path)
    resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{STEPS // 2}"))
    assert losses(resumed) == losses(trainer)
    for name, tensor in trainer.model.state_dict().items():
        assert_close(resumed.model.state_dict()[name], tensor, rtol=0, atol=0)

    trainer.save_model(str(tmp_path / "final"))
    loaded = STSUNForDensePrediction.from_pretrained(tmp_path / "final")
    assert_close(loaded.state_dict(), trainer.model.state_dict(), rtol=0, atol=0)


def test_predicts_maps(data, tmp_path):
    one_task = Subset(data, [index for index in range(len(data)) if data[index].task == "binary_change_detection"][:1])
    trainer = make_trainer(data, tmp_path, batch_eval_metrics=False)
    trainer.compute_metrics = None
    prediction = trainer.predict(one_task)
    assert prediction.predictions.shape == prediction.label_ids.shape
    assert set(prediction.predictions.ravel().tolist()) <= {0, 1}


def test_gradient_checkpointing_and_bfloat16_train(data, tmp_path):
    plain = make_trainer(data, tmp_path / "plain", steps=3)
    plain.train()
    checkpointed = make_trainer(data, tmp_path / "checkpointed", steps=3, gradient_checkpointing=True)
    checkpointed.train()
    assert losses(checkpointed) == pytest.approx(losses(plain), abs=1e-4)
    half = make_trainer(data, tmp_path / "half", steps=3, bf16=True)
    half.train()
    assert losses(half) == pytest.approx(losses(plain), rel=2e-2)


def test_accumulated_batches_are_averaged(data, tmp_path):
    large = make_trainer(data, tmp_path / "large", steps=2, max_grad_norm=0.0, optim="sgd")
    large.train()
    settings = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    small = make_trainer(data, tmp_path / "small", steps=2, max_grad_norm=0.0, optim="sgd", **settings)
    small.train()
    # Samples with several classes weigh alike in both, so that the same four samples make the same step.
    assert losses(small) == pytest.approx(losses(large), rel=1e-3)
