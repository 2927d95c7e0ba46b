import copy
import json
import re

import numpy as np
import pytest

from stsun_processing.cli import main
from stsun_processing.data.inspection import inspect_dataset
from tests.processing.data.test_datasets import HEIGHT, SHIFTED, WIDTH, Folder, image, write

LABELS = {"semantic": "labels/semantic.tif"}


@pytest.fixture
def folder(tmp_path):
    """Three samples of one image each in three splits, all well."""
    made = Folder(tmp_path / "made")
    write(made.root / "labels/small.tif", np.full((HEIGHT, WIDTH), 40, np.uint8))
    made.json["samples"] = [
        made.sample("a", ["t0"], LABELS, ["2020-05-01"]),
        made.sample("b", ["t1"], LABELS),
        made.sample("c", ["t2"], {"semantic": "labels/small.tif"}, ["2021-06-01"]),
    ]
    made.json["splits"] = {"train": ["a"], "val": ["b"], "test": ["c"]}
    return made


def inspect(folder):
    folder.json = copy.deepcopy(folder.json)
    (folder.root / "dataset.json").write_text(json.dumps(folder.json))
    return inspect_dataset(folder.root, progress=False)


def test_a_sound_folder_is_described(folder):
    report = inspect(folder)
    assert report.faults == []
    stored = folder.labels["semantic"]
    expected = [int((stored == number).sum()) for number in (40, 3, 7, 255)]
    by_split = report.pixels["semantic_segmentation"]
    assert by_split["train"].tolist() == by_split["val"].tolist() == expected
    assert by_split["test"].tolist() == [HEIGHT * WIDTH, 0, 0, 0]
    text = str(report)
    facts = ["made: 3 samples, train 1, val 1, test 1", "23 x 31", "2020-05-01 to 2021-06-01, 1 of 3 unknown", "10 m"]
    for fact in (*facts, "B04 (reflective 665 nm)", "DEM (elevation)", "forest", str(expected[1]), "faults: none"):
        assert fact in text, text


def test_every_fault_is_named_not_only_the_first(folder):
    (folder.root / "images/t1.tif").unlink()
    write(folder.root / "labels/small.tif", np.full((HEIGHT, WIDTH), 255, np.uint8))
    write(folder.root / "labels/semantic.tif", np.full((HEIGHT, WIDTH), 9, np.uint8))
    faults = "\n".join(inspect(folder).faults)
    named = ("t1.tif does not exist", "'test' has a label", "'a' holds 9; 3, 7, 40, 255 are allowed", "'b' holds 9")
    for fault in named:
        assert fault in faults, faults


@pytest.mark.parametrize(
    ("file", "array", "profile", "named"),
    [
        ("images/t2.tif", image(0, shape=(HEIGHT, WIDTH + 1)), {}, "sample 'c'.*23 x 32"),
        ("images/t2.tif", image(0, bands=4), {}, "'c'.*t2.tif holds 4"),
        (
            "labels/small.tif",
            np.zeros((HEIGHT, WIDTH), np.uint8),
            {"transform": SHIFTED},
            "small.tif does not lie where",
        ),
        ("labels/small.tif", np.zeros((HEIGHT - 1, WIDTH), np.uint8), {}, "small.tif measures 22 x 31.*'c'"),
        ("labels/small.tif", np.full((HEIGHT, WIDTH), 41, np.uint8), {}, "small.tif of sample 'c' holds 41"),
        ("labels/small.tif", np.zeros((HEIGHT, WIDTH), np.float32), {}, "small.tif.*float32"),
    ],
)
def test_each_fault_of_a_file_is_found_once_and_alone(folder, file, array, profile, named):
    write(folder.root / file, array, **profile)
    (fault,) = inspect(folder).faults
    assert re.search(named, fault), fault


def test_classes_that_training_never_sees_are_noted(folder):
    folder.json["splits"] = {"train": ["c"], "test": ["a", "b"]}
    folder.json["classes"].append({"id": 99, "name": "ice"})
    notes = "\n".join(inspect(folder).notes)
    assert "'water' of semantic_segmentation is met in test, but not in 'train'" in notes
    assert "'ice' of semantic_segmentation is met in no split" in notes
    folder.json["splits"]["test"] = ["a"]
    assert any("1 samples are in no split: b" in note for note in inspect(folder).notes)


def test_the_command_line_tells_by_its_status(folder, capsys):
    inspect(folder)
    assert main(["inspect", str(folder.root)]) == 0
    assert "faults: none" in capsys.readouterr().out
    write(folder.root / "labels/small.tif", np.full((HEIGHT, WIDTH), 41, np.uint8))
    assert main(["inspect", str(folder.root)]) == 2
    shown = capsys.readouterr()
    assert "holds 41" in shown.out
    assert "1 fault" in shown.err
    (folder.root / "dataset.json").write_text("[")
    assert main(["inspect", str(folder.root)]) == 2
    assert "cannot be read as JSON" in capsys.readouterr().err


def test_the_command_line_converts(tmp_path, capsys):
    from tests.processing.data.converters.layouts import pairs

    pairs(tmp_path / "source", "train", ["train_1"])
    target = tmp_path / "target"
    assert main(["convert", "levir-cd", str(tmp_path / "source"), str(target)]) == 0
    assert str(target) in capsys.readouterr().out
    assert main(["convert", "levir-cd", str(tmp_path / "source"), str(target)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["inspect", str(target)]) == 0
