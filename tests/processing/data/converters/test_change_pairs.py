"""Change masks of two dates, in each layout that goes round."""

import numpy as np
import pytest

from tests.processing.data.converters.layouts import converted, pairs


@pytest.mark.parametrize("layout", ["folders", "lists", "prefixes"])
@pytest.mark.parametrize("name", ["levir-cd", "WHU CD"])
def test_bitemporal_change_in_each_layout_that_goes_round(name, layout, tmp_path):
    source = tmp_path / "source"
    made = {}
    for split in ("train", "val", "test"):
        names = [f"{split}_{number}" if layout != "lists" else f"{split[-1]}{number}" for number in (2, 10)]
        made[split] = pairs(source, split, names, None if layout == "folders" else source)
        if layout == "lists":
            (source / "list").mkdir(exist_ok=True)
            (source / "list" / f"{split}.txt").write_text("".join(f"{name}.png\n" for name in names))
    report, _, load = converted(name, source, tmp_path)
    assert report.split_sizes == {"train": 2, "val": 2, "test": 2}
    for split, expected in made.items():
        samples = load(split)
        assert len(samples) == 2
        for stem, (before, after, change) in expected.items():
            sample = samples[stem]
            np.testing.assert_array_equal(sample.series.pixels[0], before)
            np.testing.assert_array_equal(sample.series.pixels[1], after)
            np.testing.assert_array_equal(sample.labels[0], change)
            assert [band.center_nm for band in sample.series.acquisitions[0].bands] == [650, 550, 450]
            years = [None if date is None else date.year for date in (a.datetime for a in sample.series.acquisitions)]
            assert years == ([None, None] if name == "levir-cd" else [2012, 2016])
