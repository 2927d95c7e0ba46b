"""Arrows between modules point one way: examples -> processing -> modeling_stsun, and inside processing down the wings.

All imports count: those inside functions, and those that only a type checker sees.
"""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOMES = {"examples": "examples", "modeling_stsun": "modeling_stsun", "processing": "stsun_processing"}
FACES = {"", "_files", "_lazy", "_moved", "cli", "demo"}
# What a checkpoint carries, or a tool of its own: modules that know no wing.
FLAT = {path.stem for path in (ROOT / "processing").glob("*.py")} - {*FACES, "__init__"}
PROCESSOR = {name for name in FLAT if name.endswith("_stsun")} - {"pipeline_stsun"}
# What the modules of each wing may import of the package, beside their own wing.
ALLOWED = {
    "_files": {"errors"},
    "rasters": {"errors", "metadata"},
    "scenes": {"_files", "errors", "rasters", "metadata", *PROCESSOR},
    "data": {"errors", "rasters", "metadata", *PROCESSOR},
    "synthetic": {"_lazy", "errors", "data", "scenes", "rasters", "metadata"},
    "training": {"_files", "_lazy", "synthetic", "data", "scenes", "rasters", *FLAT},
    **dict.fromkeys(FLAT, FLAT),
}


def modules():
    """{dotted name: path} of the modules of both packages and of the examples."""
    found = {}
    for folder, package in HOMES.items():
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join([package, *parts]).removesuffix(".__init__")] = path
    return found


MODULES = modules()


def imports(module):
    """Dotted names of all modules that a module imports, its own package's resolved."""
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            names = [f"{base}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else base for name in names)


GRAPH = {module: set(imports(module)) for module in MODULES}


def wing(module):
    """`rasters` for stsun_processing.rasters.series; empty for the package itself."""
    return [*module.split("."), ""][1]


@pytest.mark.parametrize("module", sorted(name for name in MODULES if name.startswith("stsun_processing")))
def test_arrows_inside_processing_point_down(module):
    imported = {name for name in GRAPH[module] if name.startswith("stsun_processing")}
    others = {wing(name) for name in imported} - {wing(module)}
    assert wing(module) in FACES or others <= ALLOWED[wing(module)]
    assert not any(name.startswith("examples") for name in GRAPH[module])


def test_no_circle():
    list(TopologicalSorter(GRAPH).static_order())


def test_the_model_knows_no_files():
    importing = {
        module
        for module, imported in GRAPH.items()
        if module.startswith("modeling_stsun") and any(name.startswith("stsun_processing") for name in imported)
    }
    assert importing <= {"modeling_stsun"}


def test_tables_of_sensors_need_no_rasterio():
    sensors = {name for name in MODULES if name.startswith("stsun_processing.rasters.sensors")}
    for name in sensors:
        own = {imported for imported in GRAPH[name] if imported.startswith("stsun_processing")}
        assert own <= {"stsun_processing.metadata", *sensors}
        assert not any(imported.split(".")[0] == "rasterio" for imported in GRAPH[name])
