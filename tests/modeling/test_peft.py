"""Low-rank adapters from PEFT: trained, saved, loaded and merged."""

import pytest
import torch
from torch.testing import assert_close

from modeling_stsun import STSUNForDensePrediction
from tests.conftest import small_config
from tests.modeling.test_modeling_stsun import CLOSE, make_sample

peft = pytest.importorskip("peft", reason="pip install 'stsun[peft]'")


@pytest.mark.parametrize(
    "pattern",
    [
        r".*_layers\.\d+\.(attention\.[qkvo]_proj|mlp\.fc[12])",  # the blocks
        r".*(weight|bias|_proj|fc1|fc2|convolution)",  # everything linear, hypernetworks and convolutions too
    ],
)
def test_lora_is_trained_saved_loaded_and_merged(tmp_path, pattern):
    torch.manual_seed(0)
    model = STSUNForDensePrediction(small_config()).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    sample = make_sample(4, height=20, width=26)
    labels = torch.randint(4, (1, 2, 20, 26))
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=pattern))
    names = [name for name, parameter in adapted.named_parameters() if parameter.requires_grad]
    assert names
    assert all("lora_" in name for name in names)

    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(8):
        loss = adapted(**sample, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]

    adapted.eval()
    with torch.no_grad():
        trained = adapted(**sample).logits
    adapted.save_pretrained(tmp_path)
    base = STSUNForDensePrediction(small_config()).eval()
    base.load_state_dict(before)
    loaded = peft.PeftModel.from_pretrained(base, tmp_path).eval()
    with torch.no_grad():
        assert_close(loaded(**sample).logits, trained, **CLOSE)
        merged = loaded.merge_and_unload()
        assert isinstance(merged, STSUNForDensePrediction)
        assert_close(merged(**sample).logits, trained, rtol=1e-4, atol=1e-4)
        merged.save_pretrained(tmp_path / "merged")
        again = STSUNForDensePrediction.from_pretrained(tmp_path / "merged").eval()
        assert_close(again(**sample).logits, trained, rtol=1e-4, atol=1e-4)


def test_classes_are_added_before_adapters():
    model = STSUNForDensePrediction(small_config())
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["output_module"])
    adapted = peft.get_peft_model(model, config)
    with pytest.raises(ValueError, match="before get_peft_model"):
        adapted.add_categories(["glacier"])
