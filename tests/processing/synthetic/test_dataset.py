"""Samples of the synthetic world: the ranges and tasks that are asked for."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

from stsun_processing.metadata import Band, MetadataError
from stsun_processing.synthetic import SyntheticDataset, SyntheticError

GREEN, RED, NIR, SWIR = Band("green", 560, 36), Band("red", 665, 31), Band("nir", 833, 106), Band("swir", 1610, 91)
OPTICAL = (Band("blue", 492, 66), GREEN, RED, NIR, SWIR)
CHANGE, SEMANTIC_CHANGE = "binary_change_detection", "semantic_change_detection"


def test_a_sample_is_fixed_by_seed_and_index():
    data = SyntheticDataset(6, random_bands=0.5, clouds=0.3, seed=7)
    copy = pickle.loads(pickle.dumps(data))
    for position in (5, 0, 3):
        a, b = data[position], copy[position]
        assert a.series == b.series
        np.testing.assert_array_equal(a.labels, b.labels)
        for x, y in zip(a.series.pixels, b.series.pixels, strict=True):
            np.testing.assert_array_equal(x, y)
    assert data[0].series != data[1].series
    assert data[0].series != SyntheticDataset(6, random_bands=0.5, clouds=0.3, seed=8)[0].series
    assert len(list(data)) == len(data) == 6
    with pytest.raises(IndexError, match="6"):
        data[6]


def test_samples_obey_the_ranges_and_the_tasks():
    data = SyntheticDataset(60, sizes=(5, 9), num_dates=(1, 4), gsd_m=(2.0, 50.0), seed=1)
    seen = set()
    for sample in data:
        series, num_dates = sample.series, len(sample.series.acquisitions)
        seen.add((sample.task, num_dates))
        assert sample.source == "synthetic"
        assert sample.labels.dtype == np.uint8
        assert sample.labels.shape == (len(sample.outputs), *series.size)
        assert sample.labels.max() < len(sample.classes)
        assert all(5 <= size <= 9 for size in series.size)
        assert 2.0 <= series.gsd_m <= 50.0
        assert sorted(series.days) == series.days
        if sample.task == "semantic_segmentation":
            assert sample.outputs == (tuple(range(num_dates)),)
            assert max(series.days) - min(series.days) < 366
        elif sample.task == CHANGE:
            assert sample.classes == ("unchanged", "changed")
            assert sample.outputs == tuple((i, i + 1) for i in range(num_dates - 1))
        else:
            assert sample.outputs == tuple((i,) for i in range(num_dates))
    assert {task for task, _ in seen} == set(data.tasks)
    assert {count for task, count in seen if task == "semantic_segmentation"} == {1, 2, 3, 4}
    assert {count for task, count in seen if task == CHANGE} == {2, 3, 4}
    heights, widths = zip(*(data[i].series.size for i in range(20)), strict=True)
    assert heights != widths


def test_the_land_cover_stays_for_segmentation_and_changes_for_change_tasks():
    # Radar backscatter has no season here, so that without noise only change parts two dates.
    data = SyntheticDataset(
        40, sensors=[(Band("VV", kind="sar"),)], num_dates=(2, 3), noise=0.0, change_fraction=(0.6, 0.9)
    )
    stays = {True: [], False: []}
    for sample in data:
        first, last = sample.series.pixels[0], sample.series.pixels[-1]
        stays[sample.task == "semantic_segmentation"].append(np.array_equal(first, last))
    assert len(stays[True]) > 5
    assert all(stays[True])
    # A scene of nothing but snow or water may stay as well.
    assert np.mean(stays[False]) < 0.3


def test_sensors_are_names_or_bands_and_may_differ_by_date():
    data = SyntheticDataset(30, sensors=["sentinel-2", OPTICAL, "sentinel-1"], num_dates=(3, 3), sizes=(4, 4))
    names = [[acquisition.sensor for acquisition in sample.series.acquisitions] for sample in data]
    assert {name for row in names for name in row} == {"sentinel-2", None, "sentinel-1"}
    assert all(len(set(row)) == 1 for row in names)
    mixed = SyntheticDataset(30, sensors=["sentinel-2", OPTICAL], num_dates=(3, 3), sizes=(4, 4), mixed_sensors=1.0)
    assert any(len({len(a.bands) for a in sample.series.acquisitions}) > 1 for sample in mixed)


def test_random_bands_are_subsets_or_new_sensors():
    known = set(OPTICAL)
    data = SyntheticDataset(80, sensors=[OPTICAL], sizes=(2, 2), random_bands=1.0)
    rows = [sample.series.acquisitions[0].bands for sample in data]
    new = [bands for bands in rows if not known & set(bands)]
    subsets = [bands for bands in rows if set(bands) <= known]
    assert len(new) + len(subsets) == 80
    assert min(len(new), len(subsets)) > 20
    assert {len(bands) for bands in subsets} == {1, 2, 3, 4, 5}
    assert all(2 <= len(bands) <= 12 for bands in new)
    assert all(420 <= band.center_nm <= 2300 and 8 <= band.fwhm_nm <= 350 for bands in new for band in bands)
    plain = SyntheticDataset(10, sensors=[OPTICAL], sizes=(2, 2))
    assert all(sample.series.acquisitions[0].bands == OPTICAL for sample in plain)


def test_the_gsd_may_be_that_of_the_sensor():
    data = SyntheticDataset(4, sensors=["sentinel-2"], gsd_m=None, sizes=(4, 4))
    assert {sample.series.gsd_m for sample in data} == {10.0}
    with pytest.raises(SyntheticError, match="gsd_m"):
        SyntheticDataset(4, sensors=[OPTICAL], gsd_m=None)


def test_a_subset_of_the_classes_is_asked_for():
    data = SyntheticDataset(20, classes=("urban", "water"), sizes=(40, 40))
    values = set()
    for sample in data:
        assert sample.classes == data.class_names(sample.task)
        if sample.task != CHANGE:
            assert sample.classes == ("urban", "water")
            values |= set(np.unique(sample.labels))
    assert values == {0, 1, 255}


@pytest.mark.parametrize(
    ("error", "arguments"),
    [
        (SyntheticError, {"length": 0}),
        (SyntheticError, {"tasks": ("detection",)}),
        (SyntheticError, {"tasks": ()}),
        (SyntheticError, {"classes": ("water", "water")}),
        (SyntheticError, {"sizes": (64, 32)}),
        (SyntheticError, {"sizes": (0, 32)}),
        (SyntheticError, {"sizes": (8.5, 32)}),
        (SyntheticError, {"num_dates": (1,)}),
        (SyntheticError, {"gsd_m": (0.0, 10.0)}),
        (SyntheticError, {"gsd_m": (10.0, float("inf"))}),
        (SyntheticError, {"random_bands": 2}),
        (SyntheticError, {"clouds": -0.1}),
        (SyntheticError, {"noise": float("nan")}),
        (SyntheticError, {"sensors": ()}),
        (SyntheticError, {"sensors": "sentinel-2"}),
        (MetadataError, {"sensors": ("sentinel-99",)}),
        (MetadataError, {"sensors": [(Band("x", kind="index"),)]}),
        (MetadataError, {"sensors": [()]}),
    ],
)
def test_impossible_data_sets_are_refused(error, arguments):
    with pytest.raises(error):
        SyntheticDataset(**({"length": 1} | arguments))


def test_the_module_needs_no_geo_stack():
    code = "import sys, stsun_processing.synthetic.dataset; sys.exit(not {'rasterio', 'scipy'}.isdisjoint(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
