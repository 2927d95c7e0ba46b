import numpy as np
import pytest

from tests.processing.data.converters.layouts import converted, ids, rgb, write


@pytest.mark.parametrize(("names", "label"), [(("image", "label"), 255), (("Image", "Mask"), 1)])
def test_whu_building(tmp_path, names, label):
    source = tmp_path / "source"
    for number, split in enumerate(("train", "val", "test")):
        write(source / split / names[0] / "7.tif", rgb(number))
        write(source / split / names[1] / "7.tif", ids(number) * label)
    report, _, load = converted("whu-building", source, tmp_path)
    sample = load("val")["val_7"]
    assert sample.classes == ("background", "building")
    np.testing.assert_array_equal(sample.labels[0], ids(1))
    np.testing.assert_array_equal(sample.series.pixels[0], rgb(1))
    assert report.series[0].gsd_m == 0.3
