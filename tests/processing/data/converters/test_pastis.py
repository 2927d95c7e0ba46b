import json

import numpy as np
import pytest

from stsun_processing.data.converters import PASTIS_CLASSES, ConversionError, convert
from tests.processing.data.converters.layouts import converted


def test_pastis_becomes_one_raster_a_date(tmp_path):
    source = tmp_path / "source"
    for folder in ("DATA_S2", "ANNOTATIONS"):
        (source / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    features, series, maps = [], {}, {}
    for fold in range(1, 6):
        patch = 10000 + fold
        series[fold] = rng.integers(-50, 9000, (3, 10, 16, 16)).astype(np.int16)
        maps[fold] = rng.integers(0, 20, (3, 16, 16)).astype(np.uint8)
        np.save(source / "DATA_S2" / f"S2_{patch}.npy", series[fold])
        np.save(source / "ANNOTATIONS" / f"TARGET_{patch}.npy", maps[fold])
        dates = {"10": 20190701, "2": 20181020, "0": 20180924}
        features.append({"properties": {"ID_PATCH": patch, "Fold": fold, "dates-S2": dates}, "geometry": None})
    (source / "metadata.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    report, _, load = converted("pastis", source, tmp_path)
    assert report.split_sizes == {"train": 3, "val": 1, "test": 1}
    sample = load("val")["10004"]
    assert [str(a.datetime.date()) for a in sample.series.acquisitions] == ["2018-09-24", "2018-10-20", "2019-07-01"]
    assert [band.name for band in sample.series.acquisitions[0].bands] == (
        ["B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"]
    )
    for pixels, array in zip(sample.series.pixels, series[4], strict=True):
        np.testing.assert_allclose(pixels, array / 10000, rtol=1e-5, atol=1e-7)
    assert sample.classes == PASTIS_CLASSES
    assert (sample.classes[2], sample.classes[18]) == ("soft_winter_wheat", "sorghum")
    np.testing.assert_array_equal(sample.labels[0], np.where(maps[4][0] == 19, 255, maps[4][0]))
    np.save(source / "DATA_S2" / "S2_10001.npy", series[1][:2])
    with pytest.raises(ConversionError, match=r"S2_10001.npy has shape \(2, 10, 16, 16\); \(3, 10, 'any', 'any'\)"):
        convert("pastis", source, tmp_path / "again", progress=False)
