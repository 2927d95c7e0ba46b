"""What holds of every conversion: what is refused, and what is left behind."""

import pytest

from stsun_processing import FolderDataset
from stsun_processing.data.converters import CONVERTERS, ConversionError, convert
from tests.processing.data.converters.layouts import ids, pairs, rgb, write


@pytest.fixture
def levir(tmp_path):
    pairs(tmp_path / "source", "train", ["train_1", "train_2"])
    return tmp_path / "source"


@pytest.mark.parametrize("name", sorted(CONVERTERS))
def test_a_folder_of_something_else_is_refused(name, tmp_path):
    (tmp_path / "source" / "stuff").mkdir(parents=True)
    with pytest.raises(ConversionError, match="stuff"):
        convert(name, tmp_path / "source", tmp_path / "target", progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_what_does_not_belong_together_is_refused(levir, tmp_path):
    target = tmp_path / "target"
    (levir / "train" / "B" / "train_2.png").unlink()
    with pytest.raises(ConversionError, match=r"train/B lacks 1 files .*: train_2"):
        convert("levir-cd", levir, target, progress=False)
    write(levir / "train" / "B" / "train_2.png", rgb(0)[:, :-1])
    with pytest.raises(ConversionError, match=r"train_2.png 12 x 17.*train_2.png 11 x 17"):
        convert("levir-cd", levir, target, progress=False)
    write(levir / "train" / "B" / "train_2.png", rgb(0))
    write(levir / "train" / "label" / "train_2.png", ids(0)[:-1])
    with pytest.raises(ConversionError, match=r"label/train_2\.png measures 11 x 17"):
        convert("levir-cd", levir, target, progress=False)
    (levir / "train" / "label" / "train_2.png").write_bytes(b"nothing")
    with pytest.raises(ConversionError, match=r"label/train_2\.png cannot be read"):
        convert("levir-cd", levir, target, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_unknown_names_missing_sources_and_occupied_targets(levir, tmp_path):
    with pytest.raises(ConversionError, match="'imagenet' is unknown; known are levir-cd"):
        convert("imagenet", levir, tmp_path / "target")
    with pytest.raises(ConversionError, match="none is not a folder"):
        convert("levir-cd", tmp_path / "none", tmp_path / "target")
    (tmp_path / "target").mkdir()
    convert("levir-cd", levir, tmp_path / "target", progress=False)
    with pytest.raises(ConversionError, match="target exists already"):
        convert("levir-cd", levir, tmp_path / "target")


def test_source_and_target_may_move_together(levir, tmp_path):
    convert("levir-cd", levir, tmp_path / "made" / "levir", progress=False)
    tmp_path.rename(tmp_path.with_name("moved"))
    try:
        assert len(FolderDataset(tmp_path.with_name("moved") / "made" / "levir", "train")) == 2
    finally:
        tmp_path.with_name("moved").rename(tmp_path)
