"""The page of examples does what it says: all its blocks, in order, in one fresh process."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fake_hub import fake_hub

PAGE = Path(__file__).parents[1] / "examples" / "README.md"


def test_the_blocks_of_the_page_run(checkpoint, tmp_path):
    for package in ("peft", "onnxscript"):
        pytest.importorskip(package, reason="the page shows it; pip install 'stsun[test]'")
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert len(blocks) == PAGE.read_text().count("\n## ") - 1  # all sections but the last show code
    shutil.copytree(checkpoint, tmp_path / "org" / "stsun")
    with fake_hub() as hub:
        environment = os.environ | {"OMP_NUM_THREADS": "1"} | hub.environment(tmp_path / "home")
        run = subprocess.run(
            [sys.executable, "-c", "\n".join(blocks)], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr[-4000:]
        assert "modeling_stsun.py" in hub.commits[hub.refs["org/stsun-mine"]["main"]]
