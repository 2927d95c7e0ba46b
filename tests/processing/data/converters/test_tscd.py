import numpy as np
import pytest

from stsun_processing.data.converters import ConversionError, convert
from tests.processing.data.converters.layouts import converted, write


def test_tscd_joins_pairs_of_years_into_series(tmp_path):
    source = tmp_path / "source"
    years = ["2016", "2018", "2020", "2022"]
    smooth = np.kron(np.random.default_rng(0).integers(0, 2, (4, 3, 4)), np.ones((8, 8))).astype(np.uint8)
    for index in range(3):
        for split in ("train", "test"):
            root = source / f"{years[index]}_{years[index + 1]}" / split
            label = root / ("OUT" if index == 2 or (index == 1 and split == "train") else "label")
            write(label / "0.jpg", smooth[index] * 255)
            for key, image in {"A": index, "B": index + 1}.items():
                write(root / key / "0.jpg", np.stack([smooth[image] * 200 + 20] * 3))
    report, _, load = converted("tscd", source, tmp_path)
    assert report.split_sizes == {"train": 1, "test": 1}
    sample = load("train")["train_0"]
    assert [acquisition.datetime.year for acquisition in sample.series.acquisitions] == [2016, 2018, 2020, 2022]
    assert sample.outputs == ((0, 1), (1, 2), (2, 3))
    np.testing.assert_array_equal(sample.labels, smooth[:3])
    for date, pixels in enumerate(sample.series.pixels):
        np.testing.assert_array_equal(pixels[0] > 120, smooth[date] == 1)
    (source / "2018_2020" / "test" / "A" / "0.jpg").unlink()
    with pytest.raises(ConversionError, match="2018_2020/test/A"):
        convert("tscd", source, tmp_path / "again", progress=False)
    (source / "2018_2020").rename(source / "2017_2020")
    with pytest.raises(ConversionError, match="2016_2018, 2017_2020"):
        convert("tscd", source, tmp_path / "again", progress=False)
