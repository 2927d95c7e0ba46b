"""Checkpoints that are incomplete or do not fit together are refused by name."""

import pytest

from modeling_stsun import STSUNImageProcessor
from stsun_processing import load_checkpoint


@pytest.mark.parametrize(
    ("missing", "what"),
    [
        ("model.safetensors", "weights"),
        ("config.json", "configuration"),
        ("preprocessor_config.json", "image processor"),
    ],
)
def test_a_checkpoint_without_one_of_its_parts_is_refused_by_name(checkpoint, tmp_path, missing, what):
    for path in checkpoint.iterdir():
        if path.name != missing:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ValueError, match=rf"no {what}.*{missing}"):
        load_checkpoint(tmp_path)


def test_missing_and_left_over_weights_are_named(checkpoint, tmp_path):
    from safetensors.torch import load_file, save_file

    for path in checkpoint.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = load_file(checkpoint / "model.safetensors")
    weights["left.over"] = weights.pop("stsun.norm.weight")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"stsun\.norm\.weight") as error:
        load_checkpoint(tmp_path)
    assert "left.over" in str(error.value)


def test_model_and_processor_of_different_vocabularies_are_refused(checkpoint, tmp_path):
    for path in checkpoint.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    processor = STSUNImageProcessor.from_pretrained(checkpoint)
    processor.add_categories(["glacier"])
    processor.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="glacier"):
        load_checkpoint(tmp_path)
