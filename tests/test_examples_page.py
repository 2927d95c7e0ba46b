"""The pages do what they say: their Python is run, their commands are parsed, their links lead somewhere."""

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stsun_processing.cli import build_parser
from stsun_processing.data.description import DatasetDescription
from stsun_processing.training import parse_arguments
from tests.fake_hub import fake_hub

ROOT = Path(__file__).parents[1]
GUIDES = ROOT / "examples" / "guides"
PAGES = [ROOT / "examples" / "README.md", *sorted(GUIDES.glob("*.md"))]
ALL_PAGES = [*sorted(ROOT.glob("*.md")), *PAGES]
# Before a block that takes minutes, or a file that the page does not make.
CHECK_ONLY = "<!-- check only -->\n"
# One process runs all pages, each in a folder of its own with no names of the others: importing torch takes seconds.
RUNNER = """
import os, sys
for page in sys.argv[1:]:
    print(page, flush=True)
    os.chdir(page)
    exec(compile(open("blocks.py").read(), page, "exec"), {"__name__": "page"})
"""


def blocks(page, language, skip_unchecked=False):
    """The code of a page's blocks in a language."""
    text = page.read_text(encoding="utf-8")
    if skip_unchecked:
        text = re.sub(re.escape(CHECK_ONLY) + r"```.*?```", "", text, flags=re.DOTALL)
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def commands(page):
    """The commands of a page's shell blocks, as lists of words without comments."""
    for block in blocks(page, "bash"):
        lines = block.replace("\\\n", " ").splitlines()
        for line in lines:
            for command in re.split(r"\s&&\s", line):
                if words := shlex.split(command, comments=True):
                    yield words


def names(page):
    return str(page.relative_to(ROOT))


def test_the_python_blocks_run(checkpoint, tmp_path):
    for package in ("peft", "onnxscript"):
        pytest.importorskip(package, reason="a page shows it; pip install 'stsun[test]'")
    folders = []
    for page in PAGES:
        code = "\n".join(blocks(page, "python", skip_unchecked=True))
        if code:
            folder = tmp_path / page.stem
            shutil.copytree(checkpoint, folder / "org" / "stsun")
            (folder / "blocks.py").write_text(code)
            folders.append(str(folder))
    with fake_hub() as hub:
        environment = os.environ | {"OMP_NUM_THREADS": "1"} | hub.environment(tmp_path / "home")
        run = subprocess.run([sys.executable, "-c", RUNNER, *folders], env=environment, capture_output=True, text=True)
        assert run.returncode == 0, run.stdout[-1000:] + run.stderr[-4000:]
        assert "modeling_stsun.py" in hub.commits[hub.refs["org/stsun-mine"]["main"]]


@pytest.mark.parametrize("page", ALL_PAGES, ids=names)
def test_all_python_blocks_parse(page):
    for code in blocks(page, "python"):
        ast.parse(code)


@pytest.mark.parametrize("page", ALL_PAGES, ids=names)
def test_the_commands_are_known(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    for block in blocks(page, "bash"):
        checked = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr
    for words in commands(page):
        if words[0] == "stsun":
            build_parser().parse_args(words[1:])
        elif "stsun_processing.cli" in words:
            build_parser().parse_args(words[words.index("stsun_processing.cli") + 1 :])
        elif words[0] == "python" and words[1].startswith("examples/finetune"):
            assert Path(words[1]).exists()
            monkeypatch.setattr(sys, "argv", words[1:])
            parse_arguments("a run")
        elif words[0] == "python" and words[1] != "-m":
            assert Path(words[1]).exists()
        else:
            known = ("accelerate", "export", "git", "cd", "mkdocs", "pip", "pytest", "python", "ruff", "source")
            assert words[0] in known, words


@pytest.mark.parametrize("page", ALL_PAGES, ids=names)
def test_the_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(((?!\w+:)[^)#\s]+)", text):
        assert (page.parent / target).exists(), target


def test_the_smallest_data_set_is_one(tmp_path):
    (document,) = blocks(GUIDES / "datasets.md", "json")
    (tmp_path / "dataset.json").write_text(document)
    description = DatasetDescription.read(tmp_path / "dataset.json")
    assert description.name == json.loads(document)["name"]


def test_the_tables_of_benchmarks_are_those_of_the_results(monkeypatch):
    monkeypatch.syspath_prepend(GUIDES)
    import make_benchmarks

    assert make_benchmarks.filled(make_benchmarks.PAGE.read_text()) == make_benchmarks.PAGE.read_text()


def test_every_guide_is_on_the_site():
    site = (ROOT / "mkdocs.yml").read_text()
    for page in GUIDES.glob("*.md"):
        assert page.name in site, page.name


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 100


def test_the_paths_that_the_architecture_names_exist():
    page = (ROOT / "ARCHITECTURE.md").read_text()
    for name in re.findall(r"`([a-z_0-9]+\.(?:py|toml))`", page):
        found = [*(ROOT / "processing").rglob(name), *(ROOT / "modeling_stsun").rglob(name)]
        assert found, name
