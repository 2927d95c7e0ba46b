"""Names of version 0.1 keep working, with a warning."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("old", "name", "new"),
    [
        ("datasets", "FolderDataset", "data.datasets"),
        ("dataset_inspection", "inspect_dataset", "data.inspection"),
        ("inference", "load_checkpoint", "scenes.checkpoints"),
        ("inference", "ScenePredictor", "scenes.predictor"),
        ("inference", "predict_scene", "scenes.scene_files"),
        ("raster", "open_series", "rasters.series"),
        ("raster_metadata", "RasterError", "rasters.records"),
        ("sensors", "SENSORS", "rasters.sensors"),
    ],
)
def test_old_modules_hand_on_the_new_names(old, name, new):
    code = f"""
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from stsun_processing.{old} import {name} as old
from stsun_processing.{new} import {name} as new
assert old is new
assert [warning.category for warning in caught if "stsun_processing.{old}" in str(warning.message)] == [FutureWarning]
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_name_that_never_was_is_refused():
    with pytest.warns(FutureWarning, match="stsun_processing.data.sampling"):
        import stsun_processing.sampling as old
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = old.no_such_name


@pytest.mark.parametrize("package", ["training", "synthetic"])
def test_packages_hand_on_the_names_of_their_modules(package):
    page = import_module(f"stsun_processing.{package}")
    assert all(hasattr(page, name) for name in dir(page))
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = page.no_such_name
    # What a type checker sees is what there is.
    (checked,) = (node for node in ast.parse(Path(page.__file__).read_text()).body if isinstance(node, ast.If))
    assert {alias.name for line in checked.body for alias in line.names} == set(page.__all__)
