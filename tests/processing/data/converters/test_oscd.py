import numpy as np
import pytest

from tests.processing.data.converters.layouts import SIZE, converted, ids, write

BANDS = [f"B{n:02d}" for n in range(1, 9)] + ["B8A", "B09", "B10", "B11", "B12"]


@pytest.mark.parametrize("numbers", [True, False])
def test_oscd(tmp_path, numbers):
    source = tmp_path / "source"
    prefix = "Onera Satellite Change Detection dataset - "
    for index, (city, split) in enumerate({"paris": "Train", "rio": "Test", "nowhere": None}.items()):
        root = source / f"{prefix}Images" / city
        for date in (1, 2):
            for number, band in enumerate(BANDS):
                write(root / f"imgs_{date}_rect" / f"{band}.tif", np.full(SIZE, 1000 * date + number, np.uint16))
        (root / "dates.txt").write_text("date_1: 20160308\ndate_2: 20180306\n")
        if split:
            folder = source / f"{prefix}{split} Labels" / city / "cm"
            write(folder / "cm.png", ids(index) * 255)
            if numbers:
                write(folder / f"{city}-cm.tif", ids(index) + 1)
    report, notes, load = converted("oscd", source, tmp_path)
    assert notes == ["nowhere: no label, left out."]
    assert report.split_sizes == {"train": 1, "test": 1}
    sample = load("test")["rio"]
    np.testing.assert_array_equal(sample.labels[0], ids(1))
    for date, (acquisition, pixels) in enumerate(zip(sample.series.acquisitions, sample.series.pixels, strict=True)):
        assert [band.name for band in acquisition.bands] == BANDS
        np.testing.assert_allclose(pixels[:, 0, 0], [(1000 * (date + 1) + n) / 10000 for n in range(13)], rtol=1e-6)
    assert [str(a.datetime.date()) for a in sample.series.acquisitions] == ["2016-03-08", "2018-03-06"]
