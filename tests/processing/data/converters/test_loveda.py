import numpy as np

from tests.processing.data.converters.layouts import converted, ids, rgb, write


def test_loveda_is_referred_to_as_it_is(tmp_path):
    source = tmp_path / "source"
    for split in ("Train", "Val", "Test"):
        for scene in ("Rural", "Urban"):
            write(source / split / scene / "images_png" / "5.png", rgb(len(split + scene)))
            if split != "Test":
                write(source / split / scene / "masks_png" / "5.png", ids(len(scene), 8))
    report, notes, load = converted("loveda", source, tmp_path)
    assert report.split_sizes == {"train": 2, "val": 2}
    assert [("Test" in note, "left out" in note) for note in notes] == [(True, True)] * 2
    assert [path.name for path in (tmp_path / "target").iterdir()] == ["dataset.json"]
    sample = load("train")["train_urban_5"]
    assert sample.classes[:2] == ("background", "building")
    assert sample.classes[6] == "agriculture"
    stored = ids(5, 8)
    np.testing.assert_array_equal(sample.labels[0], np.where(stored == 0, 255, stored - 1))
