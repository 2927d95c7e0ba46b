"""The promises that every version of the model keeps (numbers as in the design), on drawn shapes and metadata."""

import copy
import math
import warnings

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from modeling_stsun import (
    STSUNConfig,
    STSUNForDensePrediction,
    STSUNForSemanticSegmentation,
    STSUNModel,
    kernels_stsun,
)
from modeling_stsun.configuration_stsun import PRESETS
from modeling_stsun.modeling_stsun import STSUNGlobalAttention, group_tokens
from tests.conftest import small_config

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
few = settings(max_examples=30)


def make_sample(seed, num_dates=2, num_bands=3, height=13, width=9, num_outputs=2, num_classes=4, cell_size=1):
    """Inputs of one sample (batch of 1), with holes in the pixels and some metadata unknown."""
    g = torch.Generator().manual_seed(seed)

    def rand(*shape):
        return torch.rand(*shape, generator=g)

    timestamps = (9000 + 400 * rand(1, num_dates)).sort().values
    start = 9000 + 400 * rand(1, num_outputs, 1)
    wavelengths = 400 + 2000 * rand(1, num_dates, num_bands)
    wavelengths[:, :, -1] = math.nan
    return {
        "pixel_values": torch.randn(1, num_dates, num_bands, height, width, generator=g),
        "wavelengths": wavelengths,
        "bandwidths": 10 + 100 * rand(1, num_dates, num_bands),
        "band_types": torch.randint(10, (1, num_dates, num_bands), generator=g),
        "timestamps": timestamps,
        "gsd": 1 + 29 * rand(1),
        "band_mask": torch.ones(1, num_dates, num_bands, dtype=torch.bool),
        "date_mask": torch.ones(1, num_dates, dtype=torch.bool),
        "pixel_mask": rand(1, num_dates, height, width) > 0.1,
        "cell_sizes": torch.tensor([cell_size]),
        "task_ids": torch.randint(3, (1,), generator=g),
        "category_ids": torch.randperm(6, generator=g)[None, :num_classes],
        "category_mask": torch.ones(1, num_classes, dtype=torch.bool),
        "output_timestamps": torch.cat([start, start + 50], dim=-1),
        "output_date_roles": torch.randint(4, (1, num_outputs, num_dates), generator=g),
        "output_mask": torch.ones(1, num_outputs, dtype=torch.bool),
    }


# The axes of each input that padding lengthens, and what it is filled with.
PADDED = {
    "pixel_values": ("BTCHW", 7.0),
    "wavelengths": ("BTC", 555.0),
    "bandwidths": ("BTC", 55.0),
    "band_types": ("BTC", 1),
    "timestamps": ("BT", 9111.0),
    "gsd": ("B", 0.0),
    "band_mask": ("BTC", False),
    "date_mask": ("BT", False),
    "pixel_mask": ("BTHW", False),
    "cell_sizes": ("B", 0),
    "task_ids": ("B", 0),
    "category_ids": ("BK", 1),
    "category_mask": ("BK", False),
    "output_timestamps": ("BSE", 9111.0),
    "output_date_roles": ("BST", 1),
    "output_mask": ("BS", False),
}


def pad_sample(sample, **sizes):
    """Lengthens the axes T, C, H, W, K, S to `sizes`, with values that would show if a mask were ignored."""
    padded = {}
    for name, (axes, fill) in PADDED.items():
        tensor = sample[name]
        for axis, letter in enumerate(axes):
            if letter in sizes and sizes[letter] > tensor.shape[axis]:
                shape = list(tensor.shape)
                shape[axis] = sizes[letter] - shape[axis]
                tensor = torch.cat([tensor, torch.full(shape, fill, dtype=tensor.dtype)], dim=axis)
        padded[name] = tensor
    return padded


def real_part(logits, sample):
    outputs, classes = sample["output_mask"].shape[1], sample["category_mask"].shape[1]
    height, width = sample["pixel_values"].shape[-2:]
    return logits[:, :outputs, :classes, :height, :width]


shapes = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 10_000),
        "num_dates": st.integers(1, 4),
        "num_bands": st.integers(1, 6),
        "height": st.integers(1, 30),
        "width": st.integers(1, 30),
        "num_outputs": st.integers(1, 3),
        "num_classes": st.integers(1, 5),
        "cell_size": st.integers(1, 4),
    }
)


@pytest.fixture(scope="session")
def exact_model(model):
    """The model in float64: on rare draws rounding of float32 grows to 4e-5 of the logits."""
    return copy.deepcopy(model).double()


@torch.no_grad()
@few
@given(shape=shapes)
def test_property_1_band_order_does_not_matter(exact_model, shape):
    sample = make_sample(**shape)
    order = torch.randperm(shape["num_bands"], generator=torch.Generator().manual_seed(shape["seed"]))
    permuted = dict(sample)
    for name in ("pixel_values", "wavelengths", "bandwidths", "band_types", "band_mask"):
        permuted[name] = sample[name][:, :, order]
    assert_close(exact_model(**permuted).logits, exact_model(**sample).logits, **CLOSE)


@torch.no_grad()
@few
@given(shape=shapes)
def test_property_2_permuted_dates_and_outputs_permute_the_result(exact_model, shape):
    sample = make_sample(**shape)
    generator = torch.Generator().manual_seed(shape["seed"])
    dates = torch.randperm(shape["num_dates"], generator=generator)
    outputs = torch.randperm(shape["num_outputs"], generator=generator)
    permuted = dict(sample)
    for name in ("pixel_values", "wavelengths", "bandwidths", "band_types", "timestamps", "band_mask", "pixel_mask"):
        permuted[name] = sample[name][:, dates]
    permuted["output_date_roles"] = sample["output_date_roles"][:, outputs][:, :, dates]
    permuted["output_timestamps"] = sample["output_timestamps"][:, outputs]
    assert_close(exact_model(**permuted).logits, exact_model(**sample).logits[:, outputs], **CLOSE)


@torch.no_grad()
@few
@given(shape=shapes, extra=st.fixed_dictionaries({axis: st.integers(0, 9) for axis in "TCHWKS"}))
def test_property_3_more_padding_changes_nothing(exact_model, shape, extra):
    sample = make_sample(**shape)
    sizes = dict(zip("TCHW", sample["pixel_values"].shape[1:], strict=True))
    sizes |= {"K": shape["num_classes"], "S": shape["num_outputs"]}
    padded = pad_sample(sample, **{axis: size + extra[axis] for axis, size in sizes.items()})
    assert_close(real_part(exact_model(**padded).logits, sample), exact_model(**sample).logits, **CLOSE)


@torch.no_grad()
@few
@given(shapes=st.lists(shapes, min_size=2, max_size=3))
def test_property_4_a_sample_in_a_mixed_batch_is_the_sample_alone(exact_model, shapes):
    samples = [make_sample(**shape) for shape in shapes]
    sizes = {
        axis: max(sample["pixel_values"].shape[position] for sample in samples)
        for position, axis in enumerate("TCHW", start=1)
    }
    sizes |= {"K": max(s["num_classes"] for s in shapes), "S": max(s["num_outputs"] for s in shapes)}
    padded = [pad_sample(sample, **sizes) for sample in samples]
    batch = {name: torch.cat([sample[name] for sample in padded]) for name in PADDED}
    logits = exact_model(**batch).logits
    for index, sample in enumerate(samples):
        assert_close(real_part(logits[index : index + 1], sample), exact_model(**sample).logits, **CLOSE)


@torch.no_grad()
def test_property_4_holds_where_the_last_rows_hold_no_data(model):
    large, small = make_sample(1, height=9, width=7, cell_size=2), make_sample(2, height=25, width=3)
    small["pixel_mask"][:, :, 24:] = False
    padded = [pad_sample(sample, H=25, W=7) for sample in (large, small)]
    logits = model(**{name: torch.cat([sample[name] for sample in padded]) for name in PADDED}).logits
    for index, sample in enumerate((large, small)):
        assert_close(real_part(logits[index : index + 1], sample), model(**sample).logits, **CLOSE)


@torch.no_grad()
def test_property_3_and_4_hold_without_explicit_cell_sizes(model):
    large, small = make_sample(1, height=40, width=60), make_sample(2, height=20, width=11)
    large.pop("cell_sizes"), small.pop("cell_sizes")
    padded = pad_sample(small | {"cell_sizes": torch.ones(1)}, H=40, W=60)
    batch = {name: torch.cat([large[name], padded[name]]) for name in large}
    logits = model(**batch).logits
    assert_close(logits[:1], model(**large).logits, **CLOSE)
    assert_close(real_part(logits[1:], small), model(**small).logits, **CLOSE)


@torch.no_grad()
@few
@given(shape=shapes, data=st.data())
def test_property_5_logits_follow_the_class_order_and_a_subset_is_exact(exact_model, shape, data):
    sample = make_sample(**shape)
    order = data.draw(st.permutations(range(shape["num_classes"])))
    subset = list(order)[: data.draw(st.integers(1, shape["num_classes"]))]
    asked = sample | {name: sample[name][:, subset] for name in ("category_ids", "category_mask")}
    assert_close(exact_model(**asked).logits, exact_model(**sample).logits[:, :, subset], **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("wavelengths", lambda x: x + 1.0),
        ("wavelengths", lambda x: torch.full_like(x, math.nan)),
        ("bandwidths", lambda x: 1.1 * x),
        ("band_types", lambda x: (x + 1) % 10),
        ("timestamps", lambda x: x + torch.tensor([0.0, 1.0])),
        ("timestamps", lambda x: x + torch.tensor([0.0, math.nan])),
        ("gsd", lambda x: 1.1 * x),
        ("task_ids", lambda x: (x + 1) % 3),
        ("category_ids", lambda x: (x + 1) % 6),
        ("output_timestamps", lambda x: x + 1.0),
        ("output_date_roles", lambda x: (x + 1) % 4),
        ("cell_sizes", lambda x: x + 1),
    ],
)
def test_property_6_metadata_matters(model, name, change):
    sample = make_sample(3)
    difference = (model(**sample | {name: change(sample[name])}).logits - model(**sample).logits).abs().max()
    assert difference > 1e-4


def with_attention(model, implementation):
    """The same weights behind another attention implementation."""
    twin = STSUNForDensePrediction(small_config()).eval()
    twin.load_state_dict(model.state_dict())
    twin.to(model.dtype)
    # Set here, not by name at loading, which asks for the packages of flash attention.
    twin.config._attn_implementation = implementation
    return twin


@torch.no_grad()
@few
@given(shape=shapes)
def test_property_7_eager_equals_sdpa(exact_model, shape):
    assert exact_model.config._attn_implementation == "sdpa"
    sample = make_sample(**shape)
    assert_close(with_attention(exact_model, "eager")(**sample).logits, exact_model(**sample).logits, **CLOSE)


@torch.no_grad()
def test_property_7_flex_attention_equals_sdpa(model):
    sample = make_sample(4, height=20, width=26)
    # Its kernels are compiled for a device; what they compute is defined by the version written out.
    with torch.compiler.set_stance("force_eager"):
        assert_close(with_attention(model, "flex_attention")(**sample).logits, model(**sample).logits, **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize("num_keys", [7, 3])
@pytest.mark.parametrize(("heads_at_once", "num_heads"), [(1, 2), (5, 4), (64, 4)])
def test_property_7_attention_by_matrix_products_is_attention(monkeypatch, heads_at_once, num_heads, num_keys):
    monkeypatch.setattr(kernels_stsun, "SCORE_VALUES", heads_at_once * 7 * num_keys)
    states = torch.randn(3, 3, num_heads, 7, 32, generator=torch.Generator().manual_seed(0)).bfloat16()
    query, key, value = states[0], states[1, :, :, :num_keys], states[2, :, :, :num_keys]
    output = kernels_stsun.attention_by_products(query, key, value, scaling=0.3)
    scores = torch.einsum("lhnd,lhmd->lhnm", query.double(), key.double()) * 0.3
    weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
    expected = torch.einsum("lhnm,lhmd->lnhd", weights, value.double())
    assert output.shape == expected.shape
    assert (output - expected).norm() < 0.01 * expected.norm()


@torch.no_grad()
def test_attention_by_matrix_products_is_chosen_where_it_was_measured_to_be_faster(monkeypatch):
    monkeypatch.setattr(kernels_stsun, "CPU_HAS_BFLOAT16", True)
    query = torch.zeros(2, 4, 9, 32, dtype=torch.bfloat16)
    chosen = kernels_stsun.prefers_matmul
    assert chosen(query, 9, 0.0)
    assert not chosen(query.float(), 9, 0.0)
    assert not chosen(query[..., :16], 9, 0.0)
    assert not chosen(query, 9, 0.1)
    long = query.new_zeros(1, 1, 1, 32).expand(1, 1, 2000, 32)
    assert chosen(long, 9, 0.0)
    assert not chosen(long, 2000, 0.0)
    with torch.enable_grad():
        assert not chosen(query, 9, 0.0)
    monkeypatch.setattr(kernels_stsun, "CPU_HAS_BFLOAT16", False)
    assert not chosen(query, 9, 0.0)


@torch.no_grad()
def test_property_7_blocks_attend_alike_whatever_attention_is_chosen(monkeypatch):
    torch.manual_seed(0)
    half = STSUNForDensePrediction(small_config(hidden_size=128, window_sizes=[[3, 2]])).eval().to(torch.bfloat16)
    half.set_attn_implementation("cpu_matmul")
    pixels, logits, calls = torch.randn(1, 2, 3, 48, 48), {}, []
    attention = kernels_stsun.attention_by_products

    def counted_attention(*args, **kwargs):
        calls.append(args)
        return attention(*args, **kwargs)

    monkeypatch.setattr(kernels_stsun, "attention_by_products", counted_attention)
    for known in (True, False):
        monkeypatch.setattr(kernels_stsun, "CPU_HAS_BFLOAT16", known)
        logits[known] = half(pixels, cell_sizes=2).logits.float()
        # That of the blocks; heads of the hypernetworks are narrow.
        assert len(calls) == half.config.num_hidden_layers
    assert (logits[True] - logits[False]).norm() < 3e-2 * logits[False].norm()


@torch.no_grad()
def test_property_7_flash_attention_gets_the_mask_that_it_asks_for(model, monkeypatch):
    masked = []

    def packed_attention(module, query, key, value, attention_mask, scaling, **kwargs):
        """What flash attention does: sequences without their masked tokens, (L, n) True = real."""
        output = torch.zeros_like(query)
        for index in range(len(query)):
            kept = slice(None) if attention_mask is None else attention_mask[index]
            q, k, v = (states[index][:, kept] for states in (query, key, value))
            output[index][:, kept] = torch.softmax(q @ k.transpose(1, 2) * scaling, dim=-1) @ v
        masked.append(attention_mask is not None)
        return output.transpose(1, 2), None

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, "flash_attention_2", packed_attention)
    sample = make_sample(4, height=20, width=26)
    assert_close(with_attention(model, "flash_attention_2")(**sample).logits, model(**sample).logits, **CLOSE)
    assert any(masked)
    # Where nothing is padded nothing is masked: that is what makes attention fast.
    masked.clear()
    with_attention(model, "flash_attention_2")(torch.randn(1, 2, 3, 48, 48), cell_sizes=1)
    assert len(masked) == 2 * 2 + 4  # the layers of two hypernetworks, and the blocks
    assert not any(masked[4:])


@torch.no_grad()
@settings(max_examples=10)
@given(seed=st.integers(0, 1000))
def test_property_7_bfloat16_is_close_and_still_tells_days_and_nanometres_apart(model, seed):
    sample = make_sample(seed, height=20, width=26, num_bands=4)
    sample["wavelengths"] = torch.tensor([740.0, 741.0, 1610.0, 1611.0]).expand(1, 2, 4)
    sample["timestamps"] = torch.tensor([[9600.0, 9700.0]])  # of the year 2026
    reference = model(**sample).logits
    half = STSUNForDensePrediction(small_config()).eval()
    half.load_state_dict(model.state_dict())
    half.to(torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = model(**sample).logits
    for logits in (half(**sample).logits, mixed):
        assert (logits.float() - reference).norm() < 3e-2 * reference.norm()
    day_later = sample | {"timestamps": sample["timestamps"] + torch.tensor([0.0, 1.0])}
    assert not torch.equal(half(**day_later).logits, half(**sample).logits)
    shifted = sample | {"wavelengths": sample["wavelengths"] + torch.tensor([1.0, 0.0, 0.0, 0.0])}
    assert not torch.equal(half(**shifted).logits, half(**sample).logits)


@torch.no_grad()
def test_property_7_compiles_without_a_graph_break(model):
    sample = make_sample(4, height=20, width=26) | {"cell_sizes": [2]}
    torch.compiler.reset()
    # Traces the whole graph as inductor would have it; how a backend compiles it is not ours to test.
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert_close(compiled(**sample).logits, model(**sample).logits, **CLOSE)


@torch.no_grad()
def test_a_folded_model_compiles_once_for_all_tiles_of_a_scene(model):
    sample = make_sample(4, height=20, width=26) | {"cell_sizes": [2]}
    folded = model.fold_metadata(**sample)
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    compiled = torch.compile(folded, fullgraph=True, backend=backend)
    for _ in range(3):
        tiles, masks = torch.randn(3, 2, 3, 20, 26), torch.rand(3, 2, 20, 26) > 0.1
        assert_close(compiled(tiles, masks), folded(tiles, masks), **CLOSE)
    assert len(graphs) == 1


@torch.no_grad()
def test_a_folded_model_is_exported(model):
    sample = make_sample(4, height=20, width=26)
    inputs = sample["pixel_values"], sample["pixel_mask"]
    folded = model.fold_metadata(**sample)
    program = torch.export.export(folded, inputs)
    assert_close(program.module()(*inputs), model(**sample).logits, **CLOSE)


@torch.no_grad()
def test_a_folded_model_runs_in_onnx(model, tmp_path):
    pytest.importorskip("onnxscript", reason="pip install 'stsun[onnx]'")
    onnxruntime = pytest.importorskip("onnxruntime", reason="pip install 'stsun[onnx]'")
    sample = make_sample(4, height=20, width=26)
    pixels = sample["pixel_values"]
    torch.onnx.export(model.fold_metadata(**sample), (pixels,), tmp_path / "model.onnx", dynamo=True)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (logits,) = session.run(None, {session.get_inputs()[0].name: pixels.numpy()})
    sample.pop("pixel_mask")
    assert_close(torch.from_numpy(logits), model(**sample).logits, **CLOSE)


@pytest.mark.parametrize(("extent", "length"), [(1, 1), (3, 9), (4, 4), (9, 9), (13, 20), (64, 64), (65, 65)])
def test_groups_divide_the_real_tokens_into_neighbours_of_like_number(extent, length):
    groups = group_tokens(torch.tensor([extent]), length, 4)[0, :, :extent].long()
    assert groups.shape[0] == min(4, length)
    assert (groups.sum(0) == 1).all()
    sizes = groups.sum(1)
    assert (sizes > 0).sum() == min(4, extent)
    assert sizes[sizes > 0].max() - sizes[sizes > 0].min() <= 1
    first_tokens = groups[sizes > 0].argmax(1)
    assert first_tokens.tolist() == [0, *sizes[sizes > 0].cumsum(0)[:-1].tolist()]


@torch.no_grad()
def test_pooled_keys_are_means_of_the_real_tokens_and_of_their_positions():
    module = STSUNGlobalAttention(small_config()).double()
    states = torch.randn(2, 8, 12, 32, generator=torch.Generator().manual_seed(0)).double()
    pooled, mask, _ = module.pool(states, None, 4)
    means = torch.nn.functional.avg_pool2d(states.permute(0, 3, 1, 2), (2, 3)).permute(0, 2, 3, 1)
    assert mask is None
    assert_close(pooled, means.flatten(1, 2))

    real = torch.ones(2, 8, 12, dtype=torch.bool)
    real[0, :2, :2] = real[1, :, 8:] = False
    pooled, mask, (cos, _) = module.pool(states, real, 4)
    assert_close(pooled[0, 0], states[0, :2, 2].mean(0))
    assert mask.all()
    # Eight columns are left of the second sample: groups of two, in the middle of which their position lies.
    assert_close(pooled[1, 3], states[1, :2, 6:8].mean((0, 1)))
    expected, _ = module.position_embeddings(torch.tensor([0.5]), torch.tensor([6.5]), torch.float64)
    assert_close(cos[1, 0, 3], expected[0])


@torch.no_grad()
def test_as_many_keys_as_tokens_are_attention_token_by_token():
    config = small_config(global_pool_size=None, attn_implementation="eager")
    exact, pooled = STSUNGlobalAttention(config), STSUNGlobalAttention(config)
    pooled.load_state_dict(exact.state_dict())
    states = torch.randn(2, 9, 7, 32, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(2, 9, 7, dtype=torch.bool)
    mask[0, 5:] = mask[1, :, 4:] = mask[1, 0, 0] = False
    keys, key_mask, codes = pooled.pool(states, mask, 9)
    attended, _ = super(STSUNGlobalAttention, pooled).forward(
        states.flatten(1, 2), key_mask, pooled.grid_embeddings((9, 7), states), keys, codes
    )
    expected, _ = exact(states, mask)
    assert_close(attended[mask.flatten(1)], expected[mask], **CLOSE)


@pytest.mark.parametrize("preset", ["tiny", "large"])
def test_operations_grow_linearly_with_pixels(preset):
    operations = []
    for size in (256, 1024):
        with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
            model = STSUNForDensePrediction(STSUNConfig(**PRESETS[preset], attn_implementation="eager"))
            model(torch.zeros(1, 1, 3, size, size), cell_sizes=1)
        operations.append(counter.get_total_flops())
    assert operations[1] / operations[0] == pytest.approx(16, rel=0.02)


def test_gradient_checkpointing_changes_no_gradient():
    torch.manual_seed(0)
    model = STSUNForDensePrediction(small_config()).train()
    sample = make_sample(4, height=20, width=26) | {"labels": torch.randint(4, (1, 2, 20, 26))}
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            model.gradient_checkpointing_enable()
        model.zero_grad()
        model(**sample).loss.backward()
        gradients.append([None if p.grad is None else p.grad.clone() for p in model.parameters()])
    for without, with_checkpointing in zip(*gradients, strict=True):
        assert_close(with_checkpointing, without, **CLOSE)


@few
@given(shape=shapes)
def test_property_8_any_size_gives_finite_values_and_gradients(shape):
    torch.manual_seed(0)
    model = STSUNForDensePrediction(small_config())
    sample = make_sample(**shape)
    size = (1, shape["num_outputs"], shape["height"], shape["width"])
    labels = torch.randint(max(shape["num_classes"], 2), size, generator=torch.Generator().manual_seed(0))
    output = model(**sample, labels=labels)
    assert output.logits.shape == (1, shape["num_outputs"], shape["num_classes"], shape["height"], shape["width"])
    assert output.logits.isfinite().all()
    output.loss.backward()
    assert output.loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@torch.no_grad()
@pytest.mark.parametrize("num_bands", [1, 12, 400])
def test_generated_weights_keep_unit_scale_for_any_number_of_bands(num_bands):
    torch.manual_seed(1)
    module = STSUNModel(small_config(unified_channels=64)).input_module
    wavelengths = torch.linspace(400, 2400, num_bands).expand(1, 1, -1)
    weight, bias, _ = module.generate_weights(
        wavelengths, wavelengths / 50, torch.ones(1, 1, num_bands).long(), torch.ones(1, 1, num_bands).bool()
    )
    cells, _ = module(torch.randn(1, 1, num_bands, 48, 48), None, weight, torch.zeros_like(bias), cell_size=3)
    assert 0.5 < cells.std() < 2


@torch.no_grad()
def test_cells_with_few_valid_pixels_speak_as_loudly_as_full_ones():
    torch.manual_seed(1)
    module = STSUNModel(small_config(unified_channels=64)).input_module
    wavelengths = torch.tensor([[[490.0, 665.0, 842.0]]])
    weight, bias, _ = module.generate_weights(
        wavelengths, wavelengths / 20, torch.ones(1, 1, 3).long(), torch.ones(1, 1, 3).bool()
    )
    pixels, bias = torch.rand(1, 1, 3, 1, 1).expand(-1, -1, -1, 64, 64), torch.zeros_like(bias)
    full, _ = module(pixels, None, weight, bias, cell_size=4)
    half, mask = module(pixels, torch.rand(1, 1, 64, 64) > 0.5, weight, bias, cell_size=4)
    # A surface that is the same everywhere is seen the same through half of its pixels, but for the noise of the draw.
    slope = (half[mask] * full[mask]).sum() / full[mask].square().sum()
    assert 0.9 < slope < 1.1


@torch.no_grad()
@pytest.mark.parametrize("strip_values", [1, 13 * 2 * 3, 700])
@pytest.mark.parametrize("few_bands", [0, 16])
@pytest.mark.parametrize("num_sets", [1, 4])
def test_blocks_meet_their_weights_on_every_device(monkeypatch, strip_values, few_bands, num_sets):
    monkeypatch.setattr(kernels_stsun, "STRIP_VALUES", strip_values)
    monkeypatch.setattr(kernels_stsun, "FEW_BANDS", few_bands)
    g = torch.Generator().manual_seed(0)
    images, kernels = torch.randn(4, 2, 3, 12, 10, generator=g), torch.randn(num_sets, 2, 5, 3, 2, 2, generator=g)
    blocks = images.unflatten(4, (5, 2)).unflatten(3, (6, 2))
    expected = torch.einsum("btcyixj,btecij->btyxe", blocks, kernels.expand(4, -1, -1, -1, -1, -1))
    strips = kernels_stsun.convolve_in_strips(images, kernels)
    assert_close(strips, expected, **CLOSE)
    assert strips.is_contiguous()
    assert_close(kernels_stsun.convolve_grouped(images, kernels), expected, **CLOSE)


@torch.no_grad()
def test_every_pixel_of_a_cell_has_weights_of_its_own(model):
    sample = make_sample(5, height=16, width=16, num_classes=1) | {"cell_sizes": [4]}
    sample.pop("pixel_mask")
    logits = model(**sample).logits
    cells = logits.unflatten(-1, (4, 4)).unflatten(-3, (4, 4)).transpose(-3, -2).flatten(-2)
    # Of one class alone too: otherwise maps would be coarse ones, enlarged.
    assert cells.std(-1).mean() > 0.05 * logits.std()
    # On the input side: what lies where in a cell matters.
    pixels = sample["pixel_values"]
    flipped = pixels.unflatten(-1, (4, 4)).flip(-1).flatten(-2)
    features, other = (model.stsun(values, cell_sizes=4).feature_maps for values in (pixels, flipped))
    assert (features - other).abs().mean() > 0.02 * features.std()


@torch.no_grad()
def test_two_different_inputs_stay_different_at_initialisation(model):
    first, second = make_sample(5), make_sample(6)
    second = first | {"pixel_values": second["pixel_values"]}
    difference = (model(**first).logits - model(**second).logits).std()
    assert difference > 0.1 * model(**first).logits.std()


@torch.no_grad()
@pytest.mark.parametrize("preset", ["tiny", "small"])
def test_the_image_is_heard_at_every_depth_from_the_start(preset):
    """What metadata add to the tokens is alike for all images; where it dominates, the network learns slowly."""
    torch.manual_seed(0)
    model = STSUNForDensePrediction(STSUNConfig(**PRESETS[preset])).eval()
    layers = [*model.stsun.encoder_layers, *model.stsun.decoder_layers, model.stsun.upsampler]
    outputs: dict[int, list[torch.Tensor]] = {index: [] for index in range(len(layers))}
    for index, layer in enumerate(layers):
        layer.register_forward_hook(lambda module, args, output, index=index: outputs[index].append(output))
    metadata = {
        "wavelengths": torch.tensor([490.0, 560.0, 660.0, 840.0]).expand(1, 2, 4),
        "bandwidths": torch.full((1, 2, 4), 40.0),
        "band_types": torch.ones(1, 2, 4, dtype=torch.long),
        "timestamps": torch.tensor([[8000.0, 8400.0]]),
        "gsd": torch.tensor([10.0]),
    }
    for seed in range(2):
        # Smooth images whose bands are alike, as those of the Earth are.
        coarse = torch.randn(2, 5, 6, 6, generator=torch.Generator().manual_seed(seed))
        image = torch.nn.functional.interpolate(coarse[:, 1:] * 0.5 + coarse[:, :1], (48, 48), mode="bicubic")
        with torch.no_grad():
            model(pixel_values=image[None], **metadata)
    for one, other in outputs.values():
        share = (one - other).square().mean() / 2 / one.square().mean()
        assert share > 0.05


@torch.no_grad()
def test_blocks_follow_the_condition_of_each_date(model):
    torch.manual_seed(0)
    layer, config = model.stsun.encoder_layers[0], model.config
    states = torch.randn(2, 3, 20, config.hidden_size)
    condition = torch.randn(2, 3, config.hypernetwork_hidden_size)
    whole = layer(states, condition, (4, 5))
    assert (whole - layer(states, condition.flip(1), (4, 5))).std() > 0.01 * whole.std()
    for sample in range(2):
        for date in range(3):
            # One condition for all goes into the norm's own gain and shift.
            one = slice(sample, sample + 1), slice(date, date + 1)
            assert_close(layer(states[one], condition[one], (4, 5)), whole[one], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["task_ids", "gsd", "wavelengths"])
@torch.no_grad()
def test_task_cell_size_and_bands_steer_the_blocks(model, name):
    sample = make_sample(5)
    names = ("wavelengths", "bandwidths", "band_types", "timestamps", "gsd", "task_ids", "output_timestamps")
    metadata = {key: sample[key] for key in names if sample.get(key) is not None}
    shape = tuple(sample["pixel_values"].shape[:3])
    changed = {
        "task_ids": (sample["task_ids"] + 1) % len(model.config.tasks),
        "gsd": torch.tensor([0.3]),
        "wavelengths": torch.full(shape, 2190.0),
    }
    other = metadata | {name: changed[name]}
    one, two = (model.stsun.generate_weights(shape, [1], torch.device("cpu"), **m) for m in (metadata, other))
    for field in ("encoder_condition", "decoder_condition"):
        assert (getattr(one, field) - getattr(two, field)).std() > 0.05


def test_bands_of_one_date_are_told_apart_from_the_start():
    """Neighbouring bands get weights of their own, or only their sum would be seen."""
    torch.manual_seed(0)
    module = STSUNForDensePrediction(STSUNConfig(**PRESETS["tiny"])).stsun.input_module
    wavelengths = torch.tensor([[[443.0, 490.0, 560.0, 665.0, 705.0, 740.0, 783.0, 842.0, 945.0, 1610.0, 2190.0]]])
    others = torch.full_like(wavelengths, 30.0), torch.ones_like(wavelengths).long(), wavelengths > 0
    with torch.no_grad():
        weight = module.generate_weights(wavelengths, *others)[0][0, 0].flatten(1)  # (bands, E * rank)
    alike = torch.nn.functional.cosine_similarity(weight[1:], weight[:-1])
    assert alike.max() < 0.9
    assert alike.mean() < 0.6


def test_nodata_pixels_do_not_matter_whatever_they_hold(model):
    sample = make_sample(7)
    holes = ~sample["pixel_mask"].unsqueeze(2)
    spoilt = sample | {"pixel_values": sample["pixel_values"].masked_fill(holes, math.nan)}
    assert_close(model(**spoilt).logits, model(**sample).logits, rtol=0, atol=0)


@torch.no_grad()
def test_the_temporal_module_leaves_out_dates_where_they_hold_no_data():
    torch.manual_seed(0)
    module = STSUNModel(small_config()).temporal_module
    states, date_states = torch.randn(2, 5, 7, 32), torch.randn(2, 3, 5, 16)
    date_mask = torch.ones(2, 5, dtype=torch.bool)
    mask = torch.rand(2, 5, 7) > 0.4
    mask[:, 0] = True
    weights = module.generate_weights(date_states, date_mask)
    spoilt = torch.where(mask.unsqueeze(-1), states, 1e3)

    def over_time(states, mask):
        return module(module.add_dates(None, states, mask, *weights), states.dtype)

    assert_close(over_time(spoilt, mask), over_time(states, mask), **CLOSE)
    # The residual is a mean: where all dates that hold data agree, it is what they say, however many they are.
    module.out_proj.weight.zero_()
    module.out_proj.bias.zero_()
    same = states[:, :1].expand(-1, 5, -1, -1)
    expected = states[:, :1].expand(-1, 3, -1, -1)
    assert_close(over_time(same, mask), expected, **CLOSE)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("dates_at_once", [1, 2, 5])
def test_dates_may_be_added_in_any_portions(dates_at_once, masked):
    torch.manual_seed(0)
    module = STSUNModel(small_config()).temporal_module
    states, date_states = torch.randn(2, 5, 7, 32), torch.randn(2, 3, 5, 16)
    mask = torch.rand(2, 5, 7) > 0.4 if masked else None
    weights, gains = module.generate_weights(date_states, torch.ones(2, 5, dtype=torch.bool))
    expected = module(module.add_dates(None, states, mask, weights, gains), torch.float32).detach()
    sums = None
    with torch.no_grad():
        for first in range(0, 5, dates_at_once):
            dates = slice(first, first + dates_at_once)
            part = None if mask is None else mask[:, dates]
            sums = module.add_dates(sums, states[:, dates], part, weights[..., dates], gains[..., dates])
        assert_close(module(sums, torch.float32), expected, **CLOSE)


@torch.no_grad()
@few
@given(shape=shapes, cells=st.sampled_from([1, 500, 10_000]))
def test_a_series_gives_the_same_whatever_is_held_of_it_at_once(exact_model, shape, cells):
    sample = make_sample(**shape)
    with pytest.MonkeyPatch.context() as patch:
        expected = exact_model(**sample, output_hidden_states=True)
        assert expected.hidden_states[0].shape[1] == shape["num_dates"]
        patch.setitem(kernels_stsun.CELLS_AT_ONCE, "cpu", cells)
        assert_close(exact_model(**sample).logits, expected.logits, **CLOSE)
        folded = exact_model.fold_metadata(**sample)
        assert_close(folded(sample["pixel_values"], sample["pixel_mask"]), expected.logits, **CLOSE)


@torch.no_grad()
def test_a_mask_that_masks_nothing_is_no_mask(model):
    sample = make_sample(5)
    full = sample | {"pixel_mask": torch.ones_like(sample["pixel_mask"])}
    assert_close(model(**full).logits, model(**sample | {"pixel_mask": None}).logits, rtol=0, atol=0)


def test_every_parameter_of_the_temporal_module_takes_part_in_training_on_one_date():
    torch.manual_seed(0)
    model = STSUNForDensePrediction(small_config()).train()
    sample = make_sample(6, num_dates=1, num_outputs=1)
    model(**sample, labels=torch.randint(4, (1, 1, 13, 9))).loss.backward()
    for module in (model.stsun.temporal_module, model.stsun.cell_temporal_module):
        assert all(parameter.grad is not None for parameter in module.parameters())
        assert module.attention_weight.weight.grad.abs().max() == 0


def test_every_parameter_gets_a_gradient():
    torch.manual_seed(0)
    model = STSUNForDensePrediction(small_config())
    known, unknown = make_sample(8), make_sample(9)
    unknown |= {name: torch.full_like(unknown[name], math.nan) for name in ("timestamps", "gsd", "bandwidths")}
    unknown["output_timestamps"] = torch.full_like(unknown["output_timestamps"], math.nan)
    batch = {name: torch.cat([known[name], unknown[name]]) for name in known}
    model(**batch, labels=torch.randint(4, (2, 2, 13, 9))).loss.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@torch.no_grad()
def test_semantic_segmentation_head_gives_one_map_a_sample(model):
    head = STSUNForSemanticSegmentation.from_pretrained(None, config=small_config(), state_dict=model.state_dict())
    pixels = torch.randn(2, 3, 4, 10, 12)
    output = head.eval()(pixels, labels=torch.randint(6, (2, 10, 12)))
    assert output.logits.shape == (2, 6, 10, 12)
    assert_close(output.logits, model(pixels).logits[:, 0], rtol=0, atol=0)
    with pytest.raises(ValueError, match="one map a sample"):
        head(pixels, output_timestamps=torch.zeros(2, 3, 2))


@torch.no_grad()
def test_add_categories_leaves_old_classes_untouched():
    torch.manual_seed(0)
    model = STSUNForDensePrediction(small_config(class_weights=[1.0] * 6)).eval()
    sample = make_sample(10)
    before = model(**sample).logits
    assert model.add_categories(["glacier", "mangrove"]) == [6, 7]
    assert model.config.num_labels == 8
    assert model.config.id2label[7] == "mangrove"
    assert len(model.config.class_weights) == 8
    assert_close(model(**sample).logits, before, rtol=0, atol=0)
    sample["category_ids"] = torch.tensor([[7, 0, 6, 1]])
    assert model(**sample).logits.isfinite().all()
    with pytest.raises(ValueError, match="'water' is known already"):
        model.add_categories(["water"])


def test_added_categories_keep_the_ids_of_an_unordered_vocabulary():
    model = STSUNForDensePrediction(small_config(id2label={1: "b", 0: "a"}, label2id={"b": 1, "a": 0}))
    model.add_categories(["c"])
    assert model.config.id2label == {0: "a", 1: "b", 2: "c"}


@torch.no_grad()
def test_tuples_are_the_outputs_in_order(model):
    sample = make_sample(13)
    assert_close(model(**sample, return_dict=False)[0], model(**sample).logits, rtol=0, atol=0)


@torch.no_grad()
def test_save_and_load_gives_the_same_result(model, tmp_path):
    from transformers import AutoModel, AutoModelForUniversalSegmentation

    model.save_pretrained(tmp_path)
    sample = make_sample(11)
    loaded = AutoModelForUniversalSegmentation.from_pretrained(tmp_path).eval()
    assert_close(loaded(**sample).logits, model(**sample).logits, rtol=0, atol=0)
    base = AutoModel.from_pretrained(tmp_path).eval()
    inputs = {k: v for k, v in sample.items() if k not in ("category_ids", "category_mask", "output_mask")}
    assert_close(base(**inputs).feature_maps, model.stsun(**inputs).feature_maps, rtol=0, atol=0)


def test_category_embeds_take_the_place_of_ids():
    torch.manual_seed(0)
    model = STSUNForDensePrediction(small_config(category_embeds_dim=5)).eval()
    sample = make_sample(12)
    ids = sample.pop("category_ids")
    assert model(**sample, category_embeds=torch.randn(1, 4, 5)).logits.shape[2] == 4
    with pytest.raises(ValueError, match="not both"):
        model(**sample, category_ids=ids, category_embeds=torch.randn(1, 4, 5))
    with pytest.raises(ValueError, match="category_embeds_dim"):
        STSUNForDensePrediction(small_config())(**sample, category_embeds=torch.randn(1, 4, 5))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"hidden_size": 36}, "multiple of 4"),
        ({"num_hidden_layers": 3}, "even"),
        ({"unified_time_size": 3}, "unified_time_size"),
        ({"window_sizes": [[4, 0]]}, "window_sizes"),
        ({"tasks": ["a", "a"]}, "tasks"),
        ({"id2label": {0: "water", 1: "water"}}, "distinct"),
        ({"class_weights": [1.0]}, "class_weights"),
        ({"global_pool_size": 0}, "global_pool_size must be from 1 to 65536, got 0"),
        ({"unified_size": 0}, "unified_size must be from 1 to 65536, got 0"),
        ({"patch_size": -1}, "patch_size must be from 1 to 1024"),
    ],
)
def test_config_refuses_sizes_that_do_not_fit(kwargs, message):
    with pytest.raises(StrictDataclassClassValidationError, match=message):
        small_config(**kwargs)


@torch.no_grad()
@few
@given(shape=shapes)
def test_folded_metadata_give_the_logits_of_the_model(exact_model, shape):
    sample = make_sample(**shape)
    folded = exact_model.fold_metadata(**sample)
    first = exact_model(**sample).logits
    other = sample | {"pixel_values": sample["pixel_values"].flip(-1), "pixel_mask": sample["pixel_mask"].flip(-1)}
    batch = [torch.cat([sample[name], other[name]]) for name in ("pixel_values", "pixel_mask")]
    assert_close(folded(*batch), torch.cat([first, exact_model(**other).logits]), **CLOSE)


def test_folding_refuses_batches_and_padding(model):
    sample = make_sample(14)
    with pytest.raises(ValueError, match="one sample, got a batch of 2"):
        model.fold_metadata(**{name: torch.cat([tensor, tensor]) for name, tensor in sample.items()})
    with pytest.raises(ValueError, match="date_mask holds False"):
        model.fold_metadata(**pad_sample(sample, T=5))


@torch.no_grad()
def test_folding_takes_dates_with_fewer_bands_than_others(model):
    sample = make_sample(14, num_dates=2, num_bands=3)
    padded = sample | {"band_mask": torch.tensor([[[True, False, False], [True, True, True]]])}
    logits = model.fold_metadata(**padded)(sample["pixel_values"], sample["pixel_mask"])
    assert_close(logits, model(**padded).logits, **CLOSE)
    assert not torch.allclose(logits, model(**sample).logits, **CLOSE)


def test_labels_where_no_date_holds_data_do_not_count(model):
    sample = make_sample(9, num_dates=2, height=16, width=16)
    sample["pixel_mask"] = torch.ones_like(sample["pixel_mask"])
    sample["pixel_mask"][:, :, :, :7] = False
    shape = model(**sample).logits.shape
    labels = torch.randint(0, shape[2], (*shape[:2], *shape[3:]))
    blank = labels.clone()
    blank[..., :7] = 255
    seen = model(**sample, labels=blank).loss
    assert_close(model(**sample, labels=labels).loss, seen, rtol=0, atol=0)
    sample["pixel_mask"][:, 0] = True
    assert (model(**sample, labels=labels).loss - seen).abs() > 1e-4


@torch.no_grad()
def test_large_cells_of_a_small_sample_make_no_more_logits_than_its_images_have_pixels(model, monkeypatch):
    small, large = make_sample(3, num_dates=1, height=8, width=24), make_sample(4, num_dates=1, height=24, width=8)
    names = [name for name in small if small[name] is not None and name != "cell_sizes"]
    batch = {name: torch.cat([pad_sample(s, H=24, W=24)[name] for s in (small, large)]) for name in names}
    made = []
    forward = type(model.output_module).forward

    def spy(self, *args):
        made.append(forward(self, *args))
        return made[-1]

    monkeypatch.setattr(type(model.output_module), "forward", spy)
    assert model(**batch, cell_sizes=[6, 1]).logits.shape[-2:] == (24, 24)
    assert max(logits.shape[-1] for logits in made) == max(logits.shape[-2] for logits in made) == 24


@torch.no_grad()
def test_folding_leaves_out_what_training_drops_at_random():
    torch.manual_seed(0)
    model = STSUNForDensePrediction(small_config(attention_dropout=0.5)).train()
    sample = make_sample(14)
    folded = model.fold_metadata(**sample)
    assert folded.training
    assert model.training
    folded.eval()
    assert_close(folded(sample["pixel_values"], sample["pixel_mask"]), model.eval()(**sample).logits, **CLOSE)


@torch.no_grad()
def test_folding_a_head_gives_what_the_head_gives(model):
    head = STSUNForSemanticSegmentation(small_config()).eval()
    pixels = torch.randn(1, 3, 4, 10, 12)
    assert_close(head.fold_metadata(pixel_values=pixels)(pixels), head(pixels).logits, **CLOSE)
    with pytest.raises(ValueError, match="one map a sample"):
        head.fold_metadata(pixel_values=pixels, output_timestamps=torch.zeros(1, 2, 2))
    with pytest.raises(ValueError, match=r"pixel_values has shape \(1, 3, 5, 10, 12\)"):
        head.fold_metadata(pixel_values=pixels)(torch.randn(1, 3, 5, 10, 12))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            {"pixel_values": torch.zeros(1, 3, 8, 8)},
            r"pixel_values has shape \(1, 3, 8, 8\), but \(batch_size, num_dates",
        ),
        ({"wavelengths": torch.zeros(2, 3)}, r"wavelengths has shape \(2, 3\), .* = \(1, 2, 3\) is expected"),
        ({"labels": torch.zeros(2, 2, 13, 9).long()}, "labels has shape"),
        ({"labels": torch.zeros(1, 2, 9, 13).long()}, "labels has shape"),
        ({"output_date_roles": torch.ones(1, 2, 3).long()}, "output_date_roles has shape"),
        ({"category_ids": torch.zeros(4).long()}, "category_ids has shape"),
        ({"cell_sizes": [1, 1]}, "cell_sizes holds 2 sizes for a batch of 1"),
        ({"cell_sizes": 0}, "cell_sizes must be 1 or more"),
    ],
)
def test_shapes_that_do_not_fit_are_refused_by_name(model, inputs, message):
    with pytest.raises(ValueError, match=message):
        model(**make_sample(15) | inputs)


@torch.no_grad()
def test_offloaded_weights_give_the_same(model):
    accelerate = pytest.importorskip("accelerate")
    sample = make_sample(16)
    sample.pop("category_ids"), sample.pop("category_mask")
    expected = model(**sample).logits
    twin = with_attention(model, "sdpa")
    assert_close(accelerate.cpu_offload(twin, torch.device("cpu"))(**sample).logits, expected, **CLOSE)


def test_a_text_is_no_list_of_new_categories():
    with pytest.raises(ValueError, match="give a list"):
        STSUNForDensePrediction(small_config()).add_categories("mangrove")


def test_the_short_way_of_one_date_gives_what_the_long_way_gives(model):
    sample = make_sample(9, num_dates=1, height=20, width=18)
    with torch.no_grad():
        short = model(**sample).logits
    assert_close(short, model(**sample).logits.detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("num_bands", [2, 12, 200])
def test_what_bands_share_and_what_sets_them_apart_have_unit_scale_each(num_bands):
    torch.manual_seed(0)
    hypernetwork = STSUNForDensePrediction(STSUNConfig(**PRESETS["tiny"])).stsun.input_module.hypernetwork
    wavelengths = torch.linspace(400, 2400, num_bands)[None]
    types = torch.ones(1, num_bands, dtype=torch.long)
    with torch.no_grad():
        weight, _, _ = hypernetwork(wavelengths, torch.full_like(wavelengths, 10.0), types, types.bool())
    shared = weight.sum(1)  # What an image of ones gives.
    apart = weight - weight.mean(1, keepdim=True)
    assert 0.2 < shared.square().mean().sqrt() < 2
    assert 0.2 < apart.square().sum(1).mean().sqrt() < 2


def test_later_unified_times_are_differences_between_dates(model):
    module = model.stsun.temporal_module
    states = torch.randn(3, 2, 7, model.config.hypernetwork_hidden_size)
    mask = torch.ones(3, 7, dtype=torch.bool)
    mask[1, 4:] = False
    with torch.no_grad():
        weights, gains = module.generate_weights(states, mask)
    of_constants = (weights[:, :-1] * gains).sum(-1)
    assert of_constants[:, module.num_means :].abs().max() < 1e-4
    assert of_constants[:, : module.num_means].abs().max() > 1e-2


def test_linear_layers_quantised_to_8_bit_compute_nearly_the_same(model):
    sample = make_sample(0)
    whole = model(**sample).logits
    with warnings.catch_warnings():
        # torch announces its successor.
        warnings.simplefilter("ignore", DeprecationWarning)
        quantised = torch.ao.quantization.quantize_dynamic(copy.deepcopy(model), {torch.nn.Linear}, dtype=torch.qint8)
    logits = quantised(**sample).logits
    assert (logits - whole).abs().mean() < 0.1 * whole.abs().mean()
