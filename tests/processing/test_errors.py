"""All errors of the package have one root, and stay what they were to callers who catch built-in ones."""

import ast
from pathlib import Path

import pytest

from stsun_processing.errors import STSUNError

ROOT = Path(__file__).parents[2] / "processing"


def error_classes():
    """(module, class name, bases) of all classes that are named as errors."""
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and node.name.endswith("Error"):
                yield path.relative_to(ROOT), node.name, [ast.unparse(base) for base in node.bases]


def test_there_are_errors_in_every_wing():
    homes = {path.parts[0] for path, *_ in error_classes()}
    assert {"rasters", "data", "scenes", "synthetic", "training"} <= homes


@pytest.mark.parametrize(("path", "name", "bases"), error_classes(), ids=lambda value: str(value))
def test_every_error_has_the_root_and_a_built_in_one(path, name, bases):
    if name == "STSUNError":
        assert issubclass(STSUNError, Exception)
        return
    assert bases[0] == "STSUNError"
    assert set(bases[1:]) <= {"ValueError", "OSError"}
    assert len(bases) == 2
