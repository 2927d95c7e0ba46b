"""The face of the package: its version, its public names, and what type checkers see of them."""

import ast
import configparser
import importlib.metadata
import importlib.resources
from pathlib import Path

import pytest

import modeling_stsun
import stsun_processing
from stsun_processing import cli

ROOT = Path(__file__).parents[2]


def typed_names():
    """{public name: module} of the block that only type checkers read."""
    tree = ast.parse((ROOT / "processing" / "__init__.py").read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    return {alias.name: node.module for node in block.body for alias in node.names}


def test_type_checkers_see_every_public_name_where_it_is_found():
    assert typed_names() == stsun_processing._HOMES
    assert set(stsun_processing.__all__) == {*stsun_processing._HOMES, "__version__"}


@pytest.mark.parametrize("name", stsun_processing.__all__)
def test_every_public_name_is_there(name):
    assert getattr(stsun_processing, name) is not None


def test_both_packages_say_that_they_are_typed():
    for package in (modeling_stsun, stsun_processing):
        assert (importlib.resources.files(package) / "py.typed").is_file()
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    for package in ("modeling_stsun", "stsun_processing"):
        assert "py.typed" in setup["options.package_data"][package]


def test_one_version_everywhere(capsys):
    assert modeling_stsun.__version__ == stsun_processing.__version__
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"stsun {stsun_processing.__version__}\n"
    try:
        installed = importlib.metadata.version("stsun")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the package is not installed")
    assert installed == stsun_processing.__version__
