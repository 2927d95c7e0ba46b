"""Checkpoints that are incomplete, damaged or hostile are refused by name, before anything is allocated or run."""

import json
import math
import resource
import shutil
import time

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from modeling_stsun import STSUNForDensePrediction, STSUNImageProcessor
from stsun_processing import load_checkpoint
from stsun_processing.scenes.checkpoints import CheckpointError


@pytest.fixture
def folder(checkpoint, tmp_path):
    """A copy to be spoilt."""
    return shutil.copytree(checkpoint, tmp_path / "checkpoint")


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("missing", "what"),
    [
        ("model.safetensors", "weights"),
        ("config.json", "configuration"),
        ("preprocessor_config.json", "image processor"),
    ],
)
def test_a_checkpoint_without_one_of_its_parts_is_refused_by_name(folder, missing, what):
    (folder / missing).unlink()
    with pytest.raises(CheckpointError, match=rf"no {what}.*{missing}"):
        load_checkpoint(folder)


def test_missing_and_left_over_weights_are_named(folder):
    weights = load_file(folder / "model.safetensors")
    weights["left.over"] = weights.pop("stsun.norm.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"missing: stsun\.norm\.weight; left over: left\.over"):
        load_checkpoint(folder)


def test_model_and_processor_of_different_vocabularies_are_refused(checkpoint, folder):
    processor = STSUNImageProcessor.from_pretrained(checkpoint)
    processor.add_categories(["glacier"])
    processor.save_pretrained(folder)
    with pytest.raises(ValueError, match="glacier"):
        load_checkpoint(folder)


@pytest.mark.parametrize("dtype", ["auto", "bfloat16", torch.float32])
def test_weights_are_those_that_were_saved_and_lie_where_kernels_expect_them(model, checkpoint, dtype):
    loaded, _ = load_checkpoint(checkpoint, dtype)
    expected = model.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, expected[name].to(tensor.dtype)), name
        assert tensor.data_ptr() % 64 == 0
    assert loaded.dtype == (torch.bfloat16 if dtype == "bfloat16" else torch.float32)
    assert not loaded.training


# Weights


def test_shards_load_like_one_file_and_stay_inside_the_folder(model, folder, tmp_path):
    model.save_pretrained(folder, max_shard_size="100KB")
    (folder / "model.safetensors").unlink(missing_ok=True)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 1
    loaded, _ = load_checkpoint(folder)
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])
    shard = index["weight_map"]["stsun.norm.weight"]
    shutil.copy(folder / shard, tmp_path / "outside.safetensors")
    for place in ("../outside.safetensors", str(tmp_path / "outside.safetensors"), "a.bin", "..", ""):
        changed = {key: place if value == shard else value for key, value in index["weight_map"].items()}
        edit(folder / "model.safetensors.index.json", weight_map=changed)
        with pytest.raises(CheckpointError, match=r"weights are \.safetensors files beside it"):
            load_checkpoint(folder)
    for broken in (None, [], {"a": 1}):
        edit(folder / "model.safetensors.index.json", weight_map=broken)
        with pytest.raises(CheckpointError, match="does not say which file"):
            load_checkpoint(folder)
    edit(folder / "model.safetensors.index.json", weight_map=index["weight_map"])
    (folder / shard).unlink()
    with pytest.raises(CheckpointError, match=f"has no file {shard}"):
        load_checkpoint(folder)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_that_are_not_finite_are_refused(folder, value):
    weights = load_file(folder / "model.safetensors")
    weights["stsun.norm.weight"][3] = value
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"stsun\.norm\.weight .* not finite"):
        load_checkpoint(folder)


def test_weights_of_another_type_or_shape_are_refused(folder):
    original = load_file(folder / "model.safetensors")
    name = "stsun.norm.weight"
    for tensor, message in (
        (original[name].int(), f"{name} .* is of type I32, no float"),
        (original[name][1:], rf"of another shape: {name} \(31,\) instead of \(32,\)"),
    ):
        save_file(original | {name: tensor}, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(folder)


@pytest.mark.parametrize("spoil", [lambda data: b"", lambda data: data[:1000], lambda data: b"\xff" * 8 + data[8:]])
def test_damaged_weights_are_refused(folder, spoil):
    path = folder / "model.safetensors"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(folder)


def test_an_adapter_does_not_swap_the_weights(folder):
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "else/where"}))
    with pytest.raises(CheckpointError, match="adapter beside it"):
        load_checkpoint(folder)


# Settings


@pytest.mark.parametrize(
    "change",
    [
        {"num_labels": 10**9, "id2label": None, "label2id": None},
        *({name: 10**9} for name in ("num_hidden_layers", "hypernetwork_num_layers", "hidden_size", "patch_size")),
        *({name: 10**12} for name in ("intermediate_size", "cell_rank", "unified_channels", "category_embeds_dim")),
        {"hypernetwork_hidden_size": 10**9},
        {"window_sizes": [[10**9, 1]]},
        # Within all bounds, and yet 10^12 bytes.
        {"hidden_size": 65536, "intermediate_size": 65536, "num_hidden_layers": 64},
    ],
)
def test_sizes_that_would_fill_the_memory_are_refused_at_once(folder, change):
    edit(folder / "config.json", **change)
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(CheckpointError):
        load_checkpoint(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": -4}, "hidden_size must be from 1"),
        ({"hidden_size": "32"}, "hidden_size"),
        ({"tasks": []}, "tasks must hold at least one name"),
        ({"tasks": "semantic_segmentation"}, "tasks"),
        ({"window_sizes": [[0, 0]]}, "window_sizes"),
        ({"window_sizes": [[1]]}, "window_sizes must hold pairs"),
        ({"hidden_act": "unheard"}, "hidden_act is 'unheard'; it must be one of"),
        ({"layer_norm_eps": math.nan}, "layer_norm_eps must be from"),
        ({"layer_norm_eps": 0.0}, "layer_norm_eps must be from"),
        ({"rope_theta": 0}, "rope_theta must be from"),
        ({"rope_theta": math.inf}, "rope_theta must be from"),
        ({"attention_dropout": 2}, "attention_dropout must be from"),
        ({"dice_loss_weight": math.nan}, "dice_loss_weight must be from"),
        ({"class_weights": [math.nan] * 6}, "class_weights must be finite"),
        ({"num_labels": "six", "id2label": None}, "num_labels must be a whole number"),
        ({"id2label": {"a": "b"}}, "asks for no model"),
        ({"id2label": [1]}, "asks for no model"),
        ({"dtype": "object"}, "gives the dtype 'object'"),
        ({"dtype": "int8"}, "gives the dtype 'int8'"),
        ({"dtype": "nn"}, "gives the dtype"),
        ({"model_type": "bert"}, "model type 'bert'"),
        ({"attn_implementation": "org/kernel"}, "sets attn_implementation"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "sets quantization_config"),
    ],
)
def test_settings_that_make_no_model_are_refused_in_one_line(folder, change, message):
    edit(folder / "config.json", **change)
    with pytest.raises(CheckpointError, match=message) as error:
        load_checkpoint(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json"])
@pytest.mark.parametrize("content", ["", "[]", "null", "{", "[" * 200_000, '{"a": ' * 200_000, "\udcff"])
def test_files_that_hold_no_settings_are_refused(folder, file, content):
    (folder / file).write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(CheckpointError, match=rf"{file} of .* cannot be read"):
        load_checkpoint(folder)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=8),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=4), children, max_size=3),
    max_leaves=6,
)
CONFIG_KEYS = st.sampled_from(
    [
        *("tasks", "band_types", "unified_size", "unified_channels", "cell_rank", "patch_size", "stem_channels"),
        *("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act", "dtype"),
        *("attention_dropout", "window_sizes", "depthwise_convolution", "unified_time_size", "id2label", "label2id"),
        *("hypernetwork_hidden_size", "hypernetwork_num_layers", "hypernetwork_num_heads", "category_embeds_dim"),
        *("rope_theta", "layer_norm_eps", "dice_loss_weight", "class_weights", "num_labels", "architectures"),
        *("torch_dtype", "auto_map", "problem_type", "model_type", "transformers_version", "rope_scaling", "use_cache"),
    ]
)
PROCESSOR_KEYS = st.sampled_from(
    [
        *("tasks", "categories", "band_types", "unified_size", "kind_statistics", "band_statistics"),
        *("image_processor_type", "auto_map", "size", "resample", "do_resize", "processor_class", "unknown"),
    ]
)
SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@SHARED
@given(change=st.dictionaries(CONFIG_KEYS, VALUES, min_size=1, max_size=3))
def test_whatever_config_json_says_it_makes_the_model_or_a_checkpoint_error(checkpoint, tmp_path_factory, change):
    folder = shutil.copytree(checkpoint, tmp_path_factory.mktemp("any") / "checkpoint")
    edit(folder / "config.json", **change)
    try:
        loaded, _ = load_checkpoint(folder)
    except (CheckpointError, ValueError):
        return
    assert isinstance(loaded, STSUNForDensePrediction)
    assert all(parameter.isfinite().all() for parameter in loaded.parameters())


@SHARED
@given(change=st.dictionaries(PROCESSOR_KEYS, VALUES, min_size=1, max_size=3))
def test_whatever_the_processor_says_it_makes_one_or_a_value_error(checkpoint, tmp_path_factory, change):
    folder = shutil.copytree(checkpoint, tmp_path_factory.mktemp("any") / "checkpoint")
    edit(folder / "preprocessor_config.json", **change)
    try:
        _, processor = load_checkpoint(folder)
    except ValueError:
        return
    assert isinstance(processor, STSUNImageProcessor)


# The Hub


def test_a_revision_is_taken_where_one_is_named(checkpoint, monkeypatch):
    asked = []

    def cached_file(name, file, revision=None, **_):
        asked.append(revision)
        path = checkpoint / file
        return str(path) if path.exists() else None

    monkeypatch.setattr("stsun_processing.scenes.checkpoints.cached_file", cached_file)
    with pytest.raises(CheckpointError, match=r"revision \(--revision\) .* is a local folder"):
        load_checkpoint(checkpoint, revision="v1")
    load_checkpoint("someone/stsun", revision="v1")
    assert set(asked) == {"v1"}
