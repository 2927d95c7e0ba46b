import copy
import gc
import json
import os
import pickle
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import torch

from stsun_processing.data.datasets import FolderDataset
from stsun_processing.data.description import DatasetDescription, DatasetError
from stsun_processing.data.reader import SampleReader
from tests.processing.data.test_datasets import Folder, write

LABELS = {"semantic": "labels/semantic.tif"}


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "made")


def resolve(folder, task="semantic_segmentation"):
    """The record of the sample 'a', with what its rasters state, and its reader."""
    (folder.root / "dataset.json").write_text(json.dumps(folder.json))
    reader = SampleReader(DatasetDescription.read(folder.root / "dataset.json"))
    return reader.resolve_images(reader.description.records["a"][task]), reader


def stated(folder, name, tags=None, band_tags=(), **profile):
    """Writes an image anew whose file states more."""
    import rasterio

    path = folder.root / f"images/{name}.tif"
    scales, offsets = profile.pop("scales", None), profile.pop("offsets", None)
    write(path, folder.images[name], **profile)
    with rasterio.open(path, "r+") as raster:
        raster.update_tags(**(tags or {}))
        for index, entry in enumerate(band_tags, 1):
            raster.update_tags(index, **entry)
        if scales:
            raster.scales, raster.offsets = scales, offsets


def test_dates_that_only_the_rasters_state_give_the_order(folder):
    for name, date in (("t0", "2021-05-01"), ("t1", "2019-05-01")):
        stated(folder, name, {"TIMESTAMP": date})
    maps = folder.per_time([0], [1], [2])
    folder.json |= {"tasks": ["semantic_change_detection"]}
    folder.json["samples"] = [
        folder.sample("a", ["t0", "t1", "t2"], {"semantic_per_time": maps}, [None, None, "2020-05-01"])
    ]
    record, reader = resolve(folder, "semantic_change_detection")
    assert [path.stem for path in record.image_paths] == ["t1", "t2", "t0"]
    assert [path.stem for path in record.label_paths] == ["map1", "map2", "map0"]
    assert [a.datetime for a in record.series.acquisitions] == [datetime(year, 5, 1) for year in (2019, 2020, 2021)]
    pixels = reader.read_images(record, (0, 0, 2, 2)).pixels
    for array, name in zip(pixels, ("t1", "t2", "t0"), strict=True):
        np.testing.assert_allclose(array[0], folder.images[name][0, :2, :2] / 1e4, rtol=1e-6)


def test_an_image_whose_date_nothing_states_keeps_its_place(folder):
    for name, date in (("t0", "2021-05-01"), ("t2", "2019-05-01")):
        stated(folder, name, {"TIMESTAMP": date})
    folder.json["samples"] = [folder.sample("a", ["t0", "t1", "t2"], LABELS)]
    record, _ = resolve(folder)
    assert [path.stem for path in record.image_paths] == ["t2", "t1", "t0"]
    assert record.series.acquisitions[1].datetime is None


@pytest.mark.parametrize(
    ("file", "key", "value", "named"),
    [
        ({"tags": {"TIMESTAMP": "2021-05-01"}}, "timestamp", "2020-05-01", ("2021-05-01", "2020-05-01", "timestamp")),
        ({"nodata": 7}, "nodata", -1, ("7", "-1", "dataset.json nodata")),
        ({"scales": (0.01,) * 3, "offsets": (0.0,) * 3}, "value_scale", 0.02, ("0.01", "0.02", "dataset.json value_")),
        ({"scales": (0.02,) * 3, "offsets": (-0.1,) * 3}, "value_scale", 0.02, ("-0.1", "dataset.json value_scale")),
        ({"band_tags": [{"wavelength_nm": "833"}]}, None, None, ("833", "665", "dataset.json bands[0]")),
        ({"band_tags": [{"kind": "thermal"}]}, None, None, ("thermal", "reflective", "dataset.json bands[0]")),
    ],
)
def test_what_the_raster_contradicts_is_an_error_that_names_both(folder, file, key, value, named):
    stated(folder, "t0", **file)
    (folder.json["samples"][0]["images"][0] if key == "timestamp" else folder.json)[key or "note"] = value
    with pytest.raises(DatasetError, match=r"dataset.json: images of sample 'a': .*t0.tif") as error:
        resolve(folder)
    for text in named:
        assert text in str(error.value)


def test_where_both_agree_or_one_speaks_the_values_are_the_files_meaning(folder):
    tags = [{"wavelength_nm": "664.6"}, {"wavelength_nm": "833"}, {"kind": "elevation"}]
    stated(folder, "t0", {"TIMESTAMP": "2021-05-01T10:30:00"}, tags, scales=(1e-4, 1e-4, 2.0), offsets=(0.0, 0.0, 5.0))
    folder.json["samples"][0]["images"][0]["timestamp"] = "2021-05"
    record, reader = resolve(folder)
    (acquisition,) = record.series.acquisitions
    assert acquisition.bands[0].center_nm == pytest.approx(664.6)
    assert acquisition.bands[0].fwhm_nm == 30
    assert acquisition.datetime == datetime(2021, 5, 1, 10, 30)
    (pixels,) = reader.read_images(record, (0, 0, 23, 31)).pixels
    np.testing.assert_allclose(pixels[0], folder.images["t0"][0] / 1e4, rtol=1e-6)
    np.testing.assert_allclose(pixels[2], folder.images["t0"][2] * 2.0 + 5.0, rtol=1e-6)


def test_scale_and_offset_of_dataset_json_make_physical_values(folder):
    # Landsat Collection 2, level 2 (USGS): reflectance and surface temperature.
    folder.json["bands"] = [
        {"name": "B4", "center_nm": 655},
        {"name": "ST", "center_nm": 10895, "kind": "thermal", "scale": 0.00341802, "offset": 149.0},
        {"name": "DEM", "kind": "elevation"},
    ]
    folder.json |= {"value_scale": 2.75e-5, "value_offset": -0.2}
    record, reader = resolve(folder)
    (pixels,) = reader.read_images(record, (0, 0, 23, 31)).pixels
    stored = folder.images["t0"].astype(float)
    np.testing.assert_allclose(pixels[0], stored[0] * 2.75e-5 - 0.2, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(pixels[1], stored[1] * 0.00341802 + 149, rtol=1e-6)
    np.testing.assert_array_equal(pixels[2], stored[2])


@pytest.mark.parametrize(("gsd_m", "good"), [(10.0, True), (12.4, True), (7.6, True), (12.6, False), (7.4, False)])
def test_the_distance_of_the_georeference_wins_unless_the_other_is_far_off(folder, gsd_m, good):
    folder.json["gsd_m"] = gsd_m
    if good:
        assert resolve(folder)[0].series.gsd_m == 10
        return
    with pytest.raises(DatasetError, match=rf"'a': .*t0.tif .* 10 m .*{gsd_m} m \(dataset.json gsd_m\)"):
        resolve(folder)


def test_an_image_may_be_a_folder_with_a_raster_for_each_band(folder):
    for index, band in enumerate(folder.images["t0"]):
        write(folder.root / f"images/t0/B{index}.tif", band)
    folder.json["samples"][0]["images"][0]["path"] = "images/t0"
    record, reader = resolve(folder)
    (pixels,) = reader.read_images(record, (0, 0, 23, 31)).pixels
    np.testing.assert_allclose(pixels[1], folder.images["t0"][1] / 1e4, rtol=1e-6)
    (folder.root / "images/t0/B2.tif").unlink()
    with pytest.raises(DatasetError, match=r"lists 3 bands .*images/t0 holds 2"):
        resolve(folder)


def test_windows_are_read_from_files_that_stay_open(folder):
    dataset = folder.open(crop_size=8, crops_per_image=4, cache_bytes=0)
    expected = dataset[2]
    elsewhere = [pickle.dumps(dataset), copy.deepcopy(dataset)]
    for path in (*dataset.samples[0].image_paths, *dataset.samples[0].label_paths):
        path.rename(path.with_suffix(".moved"))
    again = dataset[2]
    np.testing.assert_array_equal(again.series.pixels[0], expected.series.pixels[0])
    np.testing.assert_array_equal(again.labels, expected.labels)
    for other in (pickle.loads(elsewhere[0]), elsewhere[1]):
        with pytest.raises(DatasetError, match=r"t0.tif does not exist"):
            other[2]


def test_a_forked_worker_opens_files_of_its_own(folder):
    dataset = folder.open(crop_size=8, crops_per_image=4, cache_bytes=0)
    expected = [sample.series.pixels[0] for sample in dataset]
    loader = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context="fork")
    found = [sample.series.pixels[0] for sample in loader]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_files_are_closed_with_their_data_set_and_never_too_many(folder, monkeypatch):
    from stsun_processing.data import open_files

    def number_open():
        links = (Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd"))
        return sum(str(folder.root) in os.path.realpath(link) for link in links)

    monkeypatch.setattr(open_files.OPEN_FILES, "_limit", 5)
    folder.json["samples"] = [folder.sample(f"s{index}", ["t0", "t1"], LABELS) for index in range(6)]
    folder.json["splits"] = {"train": [f"s{index}" for index in range(6)]}
    dataset = folder.open(crop_size=8, cache_bytes=0)
    assert 0 < number_open() <= 5
    assert len([dataset[index] for index in range(6)]) == 6
    assert 0 < number_open() <= 5
    del dataset
    gc.collect()
    assert number_open() == 0


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_the_files_of_a_folder_count_each(folder, monkeypatch):
    from stsun_processing.data import open_files

    def number_open():
        links = (Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd"))
        return sum(str(folder.root) in os.path.realpath(link) for link in links)

    for name in ("t0", "t1", "t2"):
        for index, band in enumerate(folder.images[name]):
            write(folder.root / f"images/{name}/B{index}.tif", band)
    monkeypatch.setattr(open_files.OPEN_FILES, "_limit", 2 * len(folder.images["t0"]))
    names = [f"s{index}" for index in range(4)]
    folder.json["samples"] = [folder.sample(name, ["t0"], LABELS) for name in names]
    for index, sample in enumerate(folder.json["samples"]):
        sample["images"][0]["path"] = f"images/t{index % 3}"
    folder.json["splits"] = {"train": names}
    dataset = folder.open(crop_size=8, cache_bytes=0)
    assert 0 < number_open() <= 2 * len(folder.images["t0"])
    for index in range(4):
        dataset[index]
        assert 0 < number_open() <= 2 * len(folder.images["t0"])


def test_a_raster_of_another_size_than_stated_is_named(folder):
    folder.json["samples"][0]["height"] = 24
    with pytest.raises(DatasetError, match=r"'a' .*t0.tif\) measure 23 x 31 pixels, but .* 24 x 31. Correct height"):
        resolve(folder)


def test_the_same_sample_is_opened_once_for_all_its_tasks(folder, monkeypatch):
    from stsun_processing.rasters import series

    opened, open_series = [], series.open_series
    monkeypatch.setattr(
        series, "open_series", lambda *args, **kwargs: opened.append(args) or open_series(*args, **kwargs)
    )
    labels = {**LABELS, "change": "labels/change.tif"}
    folder.json |= {"tasks": ["semantic_segmentation", "binary_change_detection"]}
    folder.json["samples"] = [folder.sample("a", ["t0", "t1"], labels)]
    (folder.root / "dataset.json").write_text(json.dumps(folder.json))
    dataset = FolderDataset(folder.root, "train", crop_size=8, cache_bytes=0)
    assert len([dataset[index] for index in range(len(dataset))]) == 2
    assert len(opened) == 1
