"""Links between files of the repository become links between pages of the site."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("mkdocs", reason="pip install 'stsun[docs]'")

GUIDES = Path(__file__).parents[1] / "examples" / "guides"


@pytest.fixture
def hooks(monkeypatch):
    monkeypatch.syspath_prepend(GUIDES)
    import site_hooks

    return site_hooks


def page(name):
    return SimpleNamespace(file=SimpleNamespace(src_uri=name))


@pytest.mark.parametrize(
    ("site", "link", "expected"),
    [
        ("index.md", "[guide](examples/guides/predict.md)", "[guide](predict.md)"),
        ("index.md", "![picture](hub_cards/stsun-tiny/demo.png)", "![picture](demo.png)"),
        ("predict.md", "[inputs](inputs.md#normalisation)", "[inputs](inputs.md#normalisation)"),
        ("fine_tune.md", "[`STSUNCollator`](../README.md#trainer)", "[`STSUNCollator`](in_transformers.md#trainer)"),
        ("share.md", "[SECURITY.md](../../SECURITY.md)", "[SECURITY.md](security.md)"),
        ("architecture.md", "[processing/cli.py](processing/cli.py)", "`processing/cli.py`"),
        ("architecture.md", "[the command](processing/cli.py)", "the command (`processing/cli.py`)"),
        ("index.md", "[paper](https://arxiv.org/abs/2505.12280)", "[paper](https://arxiv.org/abs/2505.12280)"),
    ],
)
def test_links_lead_to_pages_or_become_text(hooks, site, link, expected):
    assert hooks.on_page_markdown(f"See {link}.", page(site)) == f"See {expected}."


def test_a_link_to_nothing_stops_the_build(hooks):
    with pytest.raises(FileNotFoundError, match=r"predict\.md links to gone\.md, which is not in the repository"):
        hooks.on_page_markdown("[gone](gone.md)", page("predict.md"))


def test_names_in_brackets_become_names(hooks):
    assert hooks.on_page_content("a [<code>Band</code>] of it") == "a <code>Band</code> of it"


def test_every_page_of_the_site_is_in_its_navigation(hooks):
    site = (GUIDES.parents[1] / "mkdocs.yml").read_text()
    for name in hooks.PAGES.values():
        assert re.search(rf"[ :]{re.escape(name)}$", site, flags=re.MULTILINE), name
