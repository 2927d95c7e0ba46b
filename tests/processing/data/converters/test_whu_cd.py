import numpy as np
import pytest
import rasterio

from stsun_processing.data.converters import ConversionError, convert
from tests.processing.data.converters.layouts import converted, ids, rgb, write


def test_whu_cd_as_published_is_two_scenes(tmp_path):
    source = tmp_path / "source"
    root = source / "Building change detection dataset_add" / "1. The two-period image data"
    place = {"crs": "EPSG:2193", "transform": rasterio.Affine(0.2, 0, 1e6, 0, -0.2, 5e6)}
    for split in ("train", "test"):
        for year in (2012, 2016):
            write(root / f"{year}/whole_image/{split}/image/{year}_{split}.tif", rgb(year), **place)
        write(root / f"change_label/{split}/change_label.tif", ids(len(split)), **place)
    report, _, load = converted("whu-cd", source, tmp_path)
    assert report.split_sizes == {"train": 1, "test": 1}
    sample = load("test")["test"]
    np.testing.assert_array_equal(sample.series.pixels[1], rgb(2016))
    np.testing.assert_array_equal(sample.labels[0], ids(4))
    assert sample.series.gsd_m == pytest.approx(0.2, rel=0.01)
    with rasterio.open(next((tmp_path / "target").rglob("test.tif"))) as label:
        assert label.transform == place["transform"]


def test_whu_cd_of_the_first_edition_is_refused(tmp_path):
    write(tmp_path / "source" / "before" / "before.tif", rgb(0))
    with pytest.raises(ConversionError, match="first edition"):
        convert("whu-cd", tmp_path / "source", tmp_path / "target")
