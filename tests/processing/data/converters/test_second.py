import warnings

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning

from stsun_processing import FolderDataset
from stsun_processing.data.converters import ConversionError, convert
from stsun_processing.data.converters.common import colour_ids
from tests.processing.data.converters.layouts import SIZE, converted, rgb, write

COLOURS = [(255, 255, 255), (0, 0, 255), (128, 128, 128), (0, 128, 0), (0, 255, 0), (128, 0, 0), (255, 0, 0)]


def second_maps(seed):
    rng = np.random.default_rng(seed)
    changed = rng.random(SIZE) < 0.4
    before = rng.integers(1, 7, SIZE)
    after = (before - 1 + rng.integers(1, 6, SIZE)) % 6 + 1
    return [np.where(changed, array, 0).astype(np.uint8) for array in (before, after)]


@pytest.mark.parametrize("coding", ["colours", "positions", "rgb_folders"])
def test_second_in_colours_and_in_positions(tmp_path, coding):
    source = tmp_path / "source"
    for split in ("train", "test"):
        for date, array in enumerate(second_maps(len(split)), start=1):
            write(source / split / f"im{date}" / "00013.png", rgb(date))
            folder = f"label{date}" + ("_rgb" if coding == "rgb_folders" else "")
            coloured = np.moveaxis(np.array(COLOURS, np.uint8)[array], -1, 0)
            write(source / split / folder / "00013.png", array if coding == "positions" else coloured)
    report, notes, _ = converted("second", source, tmp_path)
    assert not notes
    assert report.split_sizes == {"train": 1, "test": 1}
    dataset = FolderDataset(tmp_path / "target", "train")
    assert dataset.tasks == ("binary_change_detection", "semantic_change_detection")
    change, semantic = sorted(dataset, key=lambda sample: sample.task)
    assert semantic.classes == ("unchanged", "water", "ground", "low_vegetation", "tree", "building", "sports_field")
    np.testing.assert_array_equal(semantic.labels, second_maps(5))
    np.testing.assert_array_equal(change.labels[0], second_maps(5)[0] != 0)
    assert semantic.outputs == ((0,), (1,))


def test_unknown_colours_are_named_with_their_number(tmp_path):
    source = tmp_path / "source"
    maps = np.moveaxis(np.array(COLOURS, np.uint8)[second_maps(0)[0]], -1, 0).copy()
    maps[:, 0, :3] = np.array([1, 2, 3], np.uint8)[:, None]
    for folder, array in {"im1": rgb(0), "im2": rgb(1), "label1": maps, "label2": maps}.items():
        write(source / "train" / folder / "1.png", array)
    with pytest.raises(ConversionError, match=r"label1/1.png holds 1 colours.*\(1, 2, 3\) in 3 pixels.*\(255, 0, 0\)"):
        convert("second", source, tmp_path / "target", progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["source"], "nothing is left of a conversion that failed"
    with pytest.raises(ConversionError, match="2 bands"):
        colour_ids(maps[:2], "x.png", {})
    assert (
        colour_ids(maps[:, 1:], "x.png", {c: i for i, c in enumerate(COLOURS)}).tolist()
        == second_maps(0)[0][1:].tolist()
    )


def test_palettes_are_read_as_colours(tmp_path):
    source = tmp_path / "source"
    maps = second_maps(0)
    for date in (1, 2):
        write(source / "train" / f"im{date}" / "1.png", rgb(date))
        path = source / "train" / f"label{date}" / "1.png"
        table = {index: (*colour, 255) for index, colour in enumerate(reversed(COLOURS))}
        path.parent.mkdir(parents=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(
                path, "w", driver="PNG", count=1, dtype="uint8", height=SIZE[0], width=SIZE[1]
            ) as raster:
                raster.write(6 - maps[date - 1], 1)
                raster.write_colormap(1, table)
    converted("second", source, tmp_path)
    (sample,) = FolderDataset(tmp_path / "target", "train", tasks=["semantic_change_detection"])
    np.testing.assert_array_equal(sample.labels, maps)
