"""Hooks of mkdocs: pages at the top of the repository join the guides; links to files that are no pages become text."""

import posixpath
import re
import tempfile
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
GUIDES = "examples/guides"
# Where pages from outside of the guides lie on the site.
PAGES = {
    "README.md": "index.md",
    "examples/README.md": "in_transformers.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
}
PICTURES = {
    "hub_cards/stsun-tiny/demo.png": "demo.png",
    "examples/results/corpus/corpus_test.png": "corpus_test.png",
}
# Names under which the folders of the packages are imported.
PACKAGES = {"stsun_processing": "processing", "modeling_stsun": "modeling_stsun"}
_packages = tempfile.TemporaryDirectory()
_SOURCES = {site: source for source, site in PAGES.items()}


@event_priority(100)
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Lets mkdocstrings find the packages, which need not be installed; before mkdocstrings reads its settings."""
    for name, folder in PACKAGES.items():
        link = Path(_packages.name, name)
        if not link.exists():
            link.symlink_to(ROOT / folder, target_is_directory=True)
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [_packages.name]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages and pictures from outside of the guides."""
    for source, site in PAGES.items():
        files.append(File.generated(config, site, content=(ROOT / source).read_text(encoding="utf-8")))
    for source, site in PICTURES.items():
        files.append(File.generated(config, site, content=(ROOT / source).read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Makes links between files of the repository links between pages of the site."""
    site = page.file.src_uri
    home = posixpath.dirname(_SOURCES.get(site, f"{GUIDES}/{site}"))

    def relink(match: re.Match[str]) -> str:
        text, target, anchor = match.group("text"), match.group("target"), match.group("anchor") or ""
        path = posixpath.normpath(posixpath.join(home, target))
        if not (ROOT / path).exists():
            raise FileNotFoundError(f"{site} links to {target}, which is not in the repository.")
        if path in PAGES or path in PICTURES:
            return f"[{text}]({(PAGES | PICTURES)[path]}{anchor})"
        if path.startswith(f"{GUIDES}/") and not path.endswith(".py"):
            return f"[{text}]({path.removeprefix(f'{GUIDES}/')}{anchor})"
        return f"`{path}`" if text.strip("`") in path else f"{text} (`{path}`)"

    return re.sub(r"\[(?P<text>[^\]\[]*)\]\((?P<target>(?!\w+:)[^)#\s]+)(?P<anchor>#[^)]*)?\)", relink, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Names in brackets, as docstrings of transformers have them, become names."""
    return re.sub(r"\[(<code>[^<]*</code>)\]", r"\1", html)
