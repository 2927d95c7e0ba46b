import json

import numpy as np

from tests.processing.data.converters.layouts import SIZE, converted, ids, write

BANDS = [f"B{n:02d}" for n in range(1, 9)] + ["B8A", "B09", "B10", "B11", "B12"]


def test_sen1floods11_joins_radar_and_optical(tmp_path):
    source = tmp_path / "source"
    hand = source / "v1.1" / "data" / "flood_events" / "HandLabeled"
    splits = source / "v1.1" / "splits" / "flood_handlabeled"
    splits.mkdir(parents=True)
    rng = np.random.default_rng(0)
    chips = {"train": "Sri-Lanka_101", "valid": "Ghana_7", "test": "USA_3", "bolivia": "Bolivia_4"}
    for file, chip in chips.items():
        write(hand / "S1Hand" / f"{chip}_S1Hand.tif", rng.uniform(-30, 0, (2, *SIZE)).astype(np.float32))
        write(
            hand / "S2Hand" / f"{chip}_S2Hand.tif",
            np.full((13, *SIZE), 1500, np.int16) + np.arange(13)[:, None, None].astype(np.int16),
        )
        write(hand / "LabelHand" / f"{chip}_LabelHand.tif", ids(0, 3).astype(np.int16) - 1)
        (splits / f"flood_{file}_data.csv").write_text(f"{chip}_S1Hand.tif,{chip}_LabelHand.tif\n")
    events = [{"properties": {"location": "Sri Lanka", "s1_date": "2017/5/30", "s2_date": "2017/05/28"}}]
    (source / "v1.1" / "Sen1Floods11_Metadata.geojson").write_text(json.dumps({"features": events}))
    report, _, load = converted("sen1floods11", source, tmp_path)
    assert report.split_sizes == {"train": 1, "val": 1, "test": 1, "bolivia": 1}
    sample = load("train")["Sri-Lanka_101"]
    optical, radar = sample.series.acquisitions  # in the order of their dates
    assert [str(a.datetime.date()) for a in (optical, radar)] == ["2017-05-28", "2017-05-30"]
    assert [band.type for band in radar.bands] == ["sar_vv", "sar_vh"]
    assert [band.name for band in optical.bands] == BANDS
    np.testing.assert_allclose(sample.series.pixels[0][:, 0, 0], (1500 + np.arange(13)) / 10000, rtol=1e-6)
    assert (sample.series.pixels[1] < 0).all()
    assert sample.classes == ("land", "water")
    stored = ids(0, 3).astype(int) - 1
    np.testing.assert_array_equal(sample.labels[0], np.where(stored < 0, 255, stored))
    assert all(a.datetime is None for a in load("val")["Ghana_7"].series.acquisitions)
