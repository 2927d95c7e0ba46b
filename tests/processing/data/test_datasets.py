import copy
import json
import math
import os
import pickle
import tracemalloc
import warnings
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine

from stsun_processing.data import statistics as statistics_module
from stsun_processing.data.datasets import FolderDataset, Tiles
from stsun_processing.data.description import DatasetError
from stsun_processing.data.statistics import band_statistics
from stsun_processing.metadata import TASKS

HEIGHT, WIDTH = 23, 31
GRID = Affine(10, 0, 500_000, 0, -10, 5_000_000)
OPTICAL = [
    {"name": "B04", "center_nm": 665, "fwhm_nm": 30, "kind": "optical", "nominal": True},
    {"name": "B08", "center_nm": 833, "kind": "optical"},
    {"name": "DEM", "center_nm": None, "kind": "elevation"},
]
RADAR = [{"name": "VV", "center_nm": None, "kind": "sar", "freq_ghz": 5.405}, {"name": "sigma0_vh", "kind": "sar"}]


def write(path, array, transform=GRID, crs="EPSG:32633", **profile):
    array = array[None] if array.ndim == 2 else array
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {
        "driver": "GTiff",
        "count": len(array),
        "dtype": array.dtype,
        "transform": transform,
        "crs": crs,
    } | profile
    with rasterio.open(path, "w", height=array.shape[1], width=array.shape[2], **profile) as raster:
        raster.write(array)


def image(seed, bands=3, dtype=np.int16, shape=(HEIGHT, WIDTH)):
    return np.random.default_rng(seed).integers(100, 9000, (bands, *shape)).astype(dtype)


class Folder:
    """A data set of one sample or several in a temporary folder, to be changed and then saved."""

    def __init__(self, root):
        self.root = root
        self.images = {f"t{index}": image(index) for index in range(3)} | {"radar": image(9, 2, np.float32) / 1000 - 12}
        for name, array in self.images.items():
            write(root / f"images/{name}.tif", array)
        rng = np.random.default_rng(5)
        self.labels = {
            "semantic": rng.choice([3, 40, 7, 255], (HEIGHT, WIDTH)).astype(np.uint8),
            "change": rng.choice([0, 1, 255], (HEIGHT, WIDTH)).astype(np.uint8),
        } | {f"map{index}": rng.choice([3, 40, 7], (HEIGHT, WIDTH)).astype(np.uint8) for index in range(3)}
        for name, array in self.labels.items():
            write(root / f"labels/{name}.tif", array)
        self.json = {
            "name": "made",
            "tasks": ["semantic_segmentation"],
            "bands": OPTICAL,
            "band_sets": {"s1": RADAR},
            "value_scale": 0.0001,
            "gsd_m": 10.0,
            "classes": [{"id": 40, "name": "forest"}, {"id": 3, "name": "water"}, {"id": 7, "name": "urban"}],
            "change_classes": [{"id": 0, "name": "no_change"}, {"id": 1, "name": "built"}],
            "ignore_index": 255,
            "samples": [self.sample("a", ["t0"], {"semantic": "labels/semantic.tif"})],
            "splits": {"train": ["a"], "val": []},
        }

    def sample(self, name, images, labels, dates=None, **more):
        dates = dates or [None] * len(images)
        return {
            "id": name,
            "height": HEIGHT,
            "width": WIDTH,
            "images": [
                {"path": f"images/{i}.tif", "timestamp": d} | ({"band_set": "s1"} if i == "radar" else {})
                for i, d in zip(images, dates, strict=True)
            ],
            "labels": labels,
            **more,
        }

    def per_time(self, *groups):
        return [{"path": f"labels/map{n}.tif", "image_indices": list(group)} for n, group in enumerate(groups)]

    def open(self, split="train", **kwargs):
        self.root.mkdir(exist_ok=True)
        (self.root / "dataset.json").write_text(json.dumps(self.json))
        return FolderDataset(self.root, split, **kwargs)


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "made")


def test_a_sample_holds_physical_values_metadata_and_positions_of_classes(folder):
    folder.json["samples"][0]["images"][0]["timestamp"] = "2021-07-23T10:00:00"
    dataset = folder.open()
    assert len(dataset) == 1
    assert (dataset.name, dataset.tasks) == ("made", ("semantic_segmentation",))
    sample = dataset[0]
    assert (sample.name, sample.source, sample.task) == ("a", "made", "semantic_segmentation")
    assert sample.classes == dataset.class_names("semantic_segmentation") == ("forest", "water", "urban")
    assert sample.outputs == ((0,),)
    (acquisition,) = sample.series.acquisitions
    assert acquisition.datetime == datetime(2021, 7, 23, 10)
    assert acquisition.gsd_m == 10
    assert [(b.name, b.center_nm, b.fwhm_nm, b.kind) for b in acquisition.bands] == [
        ("B04", 665, 30, "reflective"),
        ("B08", 833, None, "reflective"),
        ("DEM", None, None, "elevation"),
    ]
    stored = folder.images["t0"]
    np.testing.assert_allclose(sample.series.pixels[0][:2], stored[:2] / 10000, rtol=1e-6)
    np.testing.assert_array_equal(sample.series.pixels[0][2], stored[2])
    assert sample.series.transform == tuple(GRID)[:6]
    assert rasterio.CRS.from_user_input(sample.series.crs) == rasterio.CRS.from_epsg(32633)
    expected = np.full((HEIGHT, WIDTH), 255)
    for position, number in enumerate((40, 3, 7)):
        expected[folder.labels["semantic"] == number] = position
    assert sample.labels.dtype == np.uint8
    np.testing.assert_array_equal(sample.labels, expected[None])


def test_values_are_as_stored_without_a_scale_and_unknowns_stay_unknown(folder):
    del folder.json["value_scale"], folder.json["gsd_m"]
    write(folder.root / "images/t0.tif", folder.images["t0"], transform=None, crs=None)
    sample = folder.open()[0]
    np.testing.assert_array_equal(sample.series.pixels[0], folder.images["t0"])
    assert sample.series.gsd_m is None
    assert sample.series.transform is None
    assert np.isnan(sample.series.days).all()


def test_images_and_labels_without_georeference_are_read_without_a_warning(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        write(folder.root / "images/t0.tif", folder.images["t0"], transform=None, crs=None)
        write(folder.root / "labels/semantic.tif", folder.labels["semantic"], transform=None, crs=None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sample = folder.open(crop_size=8, cache_bytes=0)[0]
    assert sample.series.transform is None
    assert sample.labels.shape == (1, 8, 8)


def test_dates_come_in_order_with_their_pixels_bands_and_maps(folder):
    names, dates = ["t0", "radar", "t1", "t2"], ["2021-07-23", "2021-07-10", None, "2021-07"]
    labels = {"semantic_per_time": folder.per_time([0], [1], [2, 3]), "change": "labels/change.tif"}
    folder.json |= {
        "tasks": ["semantic_change_detection", "binary_change_detection"],
        "samples": [folder.sample("a", names, labels, dates, gsd_m=9)],
    }
    dataset = folder.open()
    assert dataset.tasks == ("binary_change_detection", "semantic_change_detection")
    semantic, binary = dataset[0], dataset[1]
    # July as a whole stands for its middle. The image without a date stays third.
    order = ["radar", "t2", "t1", "t0"]
    days = semantic.series.days
    assert days[0] < days[1] < days[3]
    assert np.isnan(days[2])
    for name, acquisition, pixels in zip(order, semantic.series.acquisitions, semantic.series.pixels, strict=True):
        assert acquisition.gsd_m == 10, "of the georeference"
        assert len(acquisition.bands) == (2 if name == "radar" else 3)
        np.testing.assert_allclose(pixels[1], folder.images[name][1] * (1 if name == "radar" else 1e-4), rtol=1e-6)
    assert [band.type for band in semantic.series.acquisitions[0].bands] == ["sar_vv", "sar_vh"]
    assert semantic.outputs == ((0,), (1, 2), (3,))
    for labels, name in zip(semantic.labels, ("map1", "map2", "map0"), strict=True):
        np.testing.assert_array_equal(np.array([40, 3, 7])[labels], folder.labels[name])
    assert binary.classes == ("unchanged", "changed")
    assert binary.outputs == ((1, 3),), "the change is between t0 and t2, first and last of the list"
    np.testing.assert_array_equal(binary.labels[0], folder.labels["change"])


def test_the_task_of_a_sample_wins_unless_tasks_are_named(folder):
    labels = {"semantic_per_time": folder.per_time([0], [1]), "change": "labels/change.tif"}
    folder.json |= {
        "tasks": list(TASKS),
        "samples": [
            folder.sample("own", ["t0", "t1"], labels, task="semantic_change_detection"),
            folder.sample("any", ["t0", "t1"], labels | {"semantic": "labels/semantic.tif"}),
            folder.sample("single", ["t0"], {"semantic": "labels/semantic.tif"}),
        ],
        "splits": {"train": ["own", "any", "single"]},
    }
    items = [(record.name, record.task, record.outputs) for record in folder.open().samples]
    both, pair = ((0,), (1,)), ((0, 1),)
    assert items == [
        ("own", "semantic_change_detection", both),
        ("any", "semantic_segmentation", pair),
        ("any", "binary_change_detection", pair),
        ("any", "semantic_change_detection", both),
        ("single", "semantic_segmentation", ((0,),)),
    ]
    binary = folder.open(tasks=["binary_change_detection"])
    assert [record.name for record in binary.samples] == ["own", "any"]
    assert binary.tasks == ("binary_change_detection",)
    with pytest.raises(DatasetError, match="semantic_segmentation"):
        binary.class_names("semantic_segmentation")
    segmentation = folder.open(tasks=["semantic_segmentation"])
    assert [record.outputs for record in segmentation.samples] == [both, pair, ((0,),)]


def test_missing_pixels(folder):
    folder.json["nodata"] = -32768
    stored = folder.images["t0"].copy()
    stored[1, 4, 6], stored[2, 8, 1], stored[0, 0, 0] = -32768, -32768, -1
    write(folder.root / "images/t0.tif", stored)
    (pixels,), (valid,) = folder.open()[0].series.pixels, folder.open()[0].series.valid
    assert np.argwhere(np.isnan(pixels)).tolist() == [[1, 4, 6], [2, 8, 1]]
    assert np.argwhere(~valid).tolist() == [[4, 6], [8, 1]]
    write(folder.root / "images/t0.tif", stored, nodata=-32768)
    (pixels,) = folder.open()[0].series.pixels
    assert np.argwhere(np.isnan(pixels)).tolist() == [[1, 4, 6], [2, 8, 1]]
    write(folder.root / "images/t0.tif", stored, nodata=-1)
    with pytest.raises(DatasetError, match=r"'a'.*-1.*-32768.*dataset.json nodata"):
        folder.open()


def big_folder(folder, labels, shape=(300, 600)):
    """One float band whose value is the pixel's number; `labels` are its (row, column, id)s."""
    numbers = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    write(folder.root / "images/big.tif", numbers, tiled=True, blockxsize=64, blockysize=64)
    label = np.full(shape, 255, np.uint8)
    for row, column, value in labels:
        label[row, column] = value
    write(folder.root / "labels/big.tif", label)
    sample = folder.sample("big", ["big"], {"semantic": "labels/big.tif"}) | {"height": shape[0], "width": shape[1]}
    folder.json |= {"bands": [{"name": "n", "kind": "index"}], "samples": [sample], "splits": {"train": ["big"]}}
    return numbers, label


def test_tiles_cover_each_pixel_once_and_forget_labels_without_data(folder):
    numbers, label = big_folder(folder, [(row, column, 3) for row in range(0, 300, 9) for column in range(0, 600, 7)])
    numbers[:40, :50] = np.nan
    write(folder.root / "images/big.tif", numbers)
    dataset = folder.open()
    tiles = Tiles(dataset, "semantic_segmentation", 128)
    assert len(tiles) == 3 * 5
    seen = np.zeros(numbers.shape, int)
    expected = np.where((label == 3) & ~np.isnan(numbers), 1, 255)
    for (_, (top, left, height, width)), tile in zip(tiles.windows, tiles, strict=True):
        place = slice(top, top + height), slice(left, left + width)
        seen[place] += 1
        assert tile.series.size == (height, width)
        np.testing.assert_array_equal(tile.series.pixels[0][0], numbers[place])
        np.testing.assert_array_equal(tile.labels[0], expected[place])
    assert (seen == 1).all()
    with pytest.raises(ValueError, match="size must be 1"):
        Tiles(dataset, "semantic_segmentation", 0)


@pytest.mark.parametrize("cache_bytes", [0, 2**28])
def test_crops_are_windows_around_labelled_pixels(folder, cache_bytes):
    numbers, label = big_folder(folder, [(299, 599, 40), (10, 300, 3), (140, 20, 7), (141, 21, 7)])
    dataset = folder.open(crop_size=(40, 64), crops_per_image=200, cache_bytes=cache_bytes)
    assert len(dataset) == 200
    seen, places = [], set()
    for sample in dataset:
        assert sample.series.size == (40, 64)
        row, column = divmod(int(sample.series.pixels[0][0, 0, 0]), 600)
        window = slice(row, row + 40), slice(column, column + 64)
        np.testing.assert_array_equal(sample.series.pixels[0][0], numbers[window])
        ids = np.array([40, 3, 7])[sample.labels[0][sample.labels[0] != 255]]
        np.testing.assert_array_equal(ids, label[window][label[window] != 255])
        assert sample.series.transform == (10, 0, 500_000 + 10 * column, 0, -10, 5_000_000 - 10 * row)
        places.add((row, column))
        seen.extend(set(ids.tolist()))
    assert len(places) > 100
    # Pixels are equally likely, so the two next to each other are met twice as often.
    assert seen.count(7) == pytest.approx(100, abs=30)
    assert seen.count(40) == pytest.approx(50, abs=25)


def test_crops_follow_seed_epoch_and_index(folder):
    big_folder(folder, [(r, c, 3) for r in range(0, 300, 7) for c in range(0, 600, 7)])

    def corners(dataset):
        return [int(sample.series.pixels[0][0, 0, 0]) for sample in dataset]

    dataset = folder.open(crop_size=32, crops_per_image=5)
    first = corners(dataset)
    assert len(set(first)) == 5
    assert corners(dataset) == first == corners(folder.open(crop_size=32, crops_per_image=5))
    assert corners(copy.deepcopy(dataset)) == first == corners(pickle.loads(pickle.dumps(dataset)))
    dataset.set_epoch(1)
    assert not set(corners(dataset)) & set(first)
    dataset.set_epoch(0)
    assert corners(dataset) == first
    assert corners(folder.open(crop_size=32, crops_per_image=5, seed=1)) != first


def test_the_epoch_reaches_workers_that_outlive_it(folder):
    big_folder(folder, [(r, c, 3) for r in range(0, 300, 7) for c in range(0, 600, 7)])
    dataset = folder.open(crop_size=32, crops_per_image=3)
    loader = torch.utils.data.DataLoader(
        dataset,
        batch_size=None,
        num_workers=1,
        persistent_workers=True,
        collate_fn=lambda sample: int(sample.series.pixels[0][0, 0, 0]),
    )
    epochs = []
    for epoch in range(2):
        dataset.set_epoch(epoch)
        epochs.append(list(loader))
    assert not set(epochs[0]) & set(epochs[1])


def test_crops_read_no_more_than_their_window(folder, monkeypatch):
    from stsun_processing.rasters.raster_series import RasterSeries

    big_folder(folder, [(200, 500, 3)])
    dataset = folder.open(crop_size=32, cache_bytes=0)
    read, windows = RasterSeries.read, []

    def spy(self, *args):
        windows.append(args)
        return read(self, *args)

    monkeypatch.setattr(RasterSeries, "read", spy)
    assert dataset[0].series.size == (32, 32)
    assert [window[2:] for window in windows] == [(32, 32)]


def test_small_samples_are_read_once_and_stay_as_they_were(folder):
    dataset = folder.open()
    first = dataset[0]
    (folder.root / "images/t0.tif").unlink()
    first.series.pixels[0][:] = -1
    first.series.valid[0][:] = False
    second = dataset[0]
    np.testing.assert_allclose(second.series.pixels[0][0], folder.images["t0"][0] / 10000, rtol=1e-6)
    assert second.series.valid[0].all()
    numbers, _ = big_folder(folder, [(200, 500, 3)])
    tight = folder.open(cache_bytes=numbers.nbytes - 1)
    assert tight[0].series.size == numbers.shape
    elsewhere = pickle.dumps(tight)
    (folder.root / "images/big.tif").unlink()
    with pytest.raises(DatasetError, match=r"big.tif does not exist"):
        pickle.loads(elsewhere)[0]


def test_small_images_are_returned_whole_and_unlabelled_ones_anywhere(folder):
    write(folder.root / "labels/none.tif", np.full((HEIGHT, WIDTH), 255, np.uint8))
    folder.json["samples"].append(folder.sample("b", ["t1"], {"semantic": "labels/none.tif"}))
    folder.json["splits"]["train"].append("b")
    dataset = folder.open(crop_size=(100, 10), crops_per_image=20)
    assert [record.num_labelled > 0 for record in dataset.samples] == [True, False]
    assert {dataset[index].series.size for index in range(40)} == {(HEIGHT, 10)}
    assert len({dataset[index].series.transform for index in range(20, 40)}) > 8


def test_samples_without_labels_are_left_out_of_training_and_named(folder):
    write(folder.root / "labels/none.tif", np.full((HEIGHT, WIDTH), 255, np.uint8))
    for name in ("b", "c"):
        folder.json["samples"].append(folder.sample(name, ["t1"], {"semantic": "labels/none.tif"}))
    folder.json["splits"]["train"] = ["b", "a", "c"]
    dataset = folder.open(crop_size=8, crops_per_image=30, labelled_only=True)
    assert [record.name for record in dataset.samples] == ["a"]
    assert dataset.unlabelled == folder.open().unlabelled == ("b", "c")
    assert all((sample.labels != 255).any() for sample in dataset)


def test_a_large_scene_is_never_in_memory_as_a_whole(folder):
    side = 3000
    folder.root.mkdir(exist_ok=True)
    numbers = np.random.default_rng(0).integers(0, 200, (3, side, side)).astype(np.uint8)
    write(folder.root / "images/scene.tif", numbers, tiled=True, blockxsize=256, blockysize=256)
    write(folder.root / "labels/scene.tif", numbers[0] // 100 * 40, tiled=True, blockxsize=256, blockysize=256)
    sample = folder.sample("scene", ["scene"], {"semantic": "labels/scene.tif"}) | {"height": side, "width": side}
    folder.json |= {"samples": [sample], "splits": {"train": ["scene"]}, "classes": [{"id": 0, "name": "a"}]}
    folder.json["classes"].append({"id": 40, "name": "b"})
    del folder.json["value_scale"]
    folder.open(crop_size=8)[0]  # what is imported or cached at the first use does not count
    tracemalloc.start()
    try:
        dataset = folder.open(crop_size=128, crops_per_image=5)
        assert dataset.samples[0].num_labelled == side * side
        checked = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        for window in dataset:
            row, column = (round((window.series.transform[5] - 5_000_000) / -10),
                           round((window.series.transform[2] - 500_000) / 10))  # fmt: skip
            place = slice(row, row + 128), slice(column, column + 128)
            np.testing.assert_array_equal(window.series.pixels[0], numbers[:, *place])
        read = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        statistics = band_statistics(dataset)
        summed = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert statistics[1]["name"] == "B08"
    assert statistics[1]["mean"] == pytest.approx(numbers[1].mean(), rel=1e-6)
    whole = 4 * numbers.size  # as float32, which is what a sample holds
    assert checked < whole / 4
    assert read < whole / 20
    assert summed < 6 * 4 * statistics_module._MAX_VALUES  # _MAX_VALUES at once, and copies of them


def test_changes_between_several_pairs_of_images(folder):
    folder.json |= {"tasks": ["binary_change_detection"]}
    maps = [np.random.default_rng(seed).integers(0, 2, (HEIGHT, WIDTH)).astype(np.uint8) for seed in range(2)]
    for index, array in enumerate(maps):
        write(folder.root / f"labels/pair{index}.tif", array)
    pairs = [
        {"path": "labels/pair1.tif", "image_indices": [0, 2]},
        {"path": "labels/pair0.tif", "image_indices": [1, 0]},
    ]
    names, dates = ["t2", "t0", "t1"], ["2020-01-01", "2019-01-01", None]
    folder.json["samples"] = [folder.sample("a", names, {"change_per_pair": pairs}, dates)]
    sample = folder.open()[0]
    # Dates in order put t0 first and t2 second.
    assert sample.outputs == ((0, 1), (1, 2))
    np.testing.assert_array_equal(sample.labels, maps)
    pairs[0]["image_indices"] = [0, 1, 2]
    with pytest.raises(DatasetError, match=r"'a'.*change_per_pair names 3 images for labels/pair1.tif; two"):
        folder.open()
    folder.json["samples"][0]["labels"] = {"change_per_pair": pairs[1:], "change": "labels/pair0.tif"}
    with pytest.raises(DatasetError, match="change and change_per_pair"):
        folder.open()


def test_without_pixels_everything_else_is_the_same(folder):
    big_folder(folder, [(200, 500, 3)])
    full, bare = (folder.open(crop_size=32, load_pixels=load)[0] for load in (True, False))
    assert bare.series.pixels is None
    assert bare.series == full.series
    np.testing.assert_array_equal(bare.labels, full.labels)


def test_indices(folder):
    dataset = folder.open(crop_size=8, crops_per_image=3)
    assert dataset[-1].series.transform == dataset[2].series.transform
    for index in (3, -4):
        with pytest.raises(IndexError, match=str(index)):
            dataset[index]


# What is wrong, how the data set gets there, and what the message must name.
def _set(*path_and_value):
    *path, last, value = path_and_value

    def change(document):
        for key in path:
            document = document[key]
        if value is KeyError:
            del document[last]
        else:
            document[last] = value

    return change


IMAGE, LABELS = ("samples", 0, "images", 0), ("samples", 0, "labels")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_set("name", KeyError), "name is missing"),
        (_set("name", 3), "name is 3"),
        (_set("tasks", KeyError), "tasks is missing"),
        (_set("tasks", ["panoptic"]), "panoptic.*semantic_segmentation"),
        (_set("tasks", []), "at least one"),
        (_set("samples", KeyError), "samples is missing"),
        (_set("samples", 0, "id", KeyError), r"samples\[0\]: id is missing"),
        (_set("samples", 0, "height", KeyError), "'a': height is missing"),
        (_set("samples", 0, "height", 23.5), "height is 23.5"),
        (_set("samples", 0, "width", 0), "width is 0"),
        (_set("samples", 0, "images", []), "images is empty"),
        (_set("samples", 0, "task", "binary_change_detection"), "task is 'binary_change_detection'"),
        (_set(*IMAGE, "path", KeyError), r"images\[0\]: path is missing"),
        (_set(*IMAGE, "path", " "), r"images\[0\]: path is ' '"),
        (_set(*LABELS, "semantic", "labels/semantic.tif\0.tif"), "labels: semantic is .*x00.tif'"),
        (_set(*IMAGE, "timestamp", "23.07.2021"), "'23.07.2021' is not a date"),
        (_set(*IMAGE, "timestamp", 2021), "timestamp is 2021"),
        (_set(*IMAGE, "band_set", "s9"), "'s9'; band_sets are: s1"),
        (_set("bands", KeyError), "band_set is None"),
        (_set("bands", []), "bands is"),
        (_set("bands", 0, {"name": "B04", "kind": "infrared"}), r"bands\[0\].*'infrared'.*reflective"),
        (_set("bands", 0, {"name": "B04", "center_nm": 0.665}), r"bands\[0\].*micrometres"),
        (_set("bands", 0, {"kind": "optical"}), r"bands\[0\].*name"),
        (_set("bands", 1, OPTICAL[0]), r"bands\[1\].*'B04' too"),
        (_set("gsd_m", -1), "gsd_m.*-1"),
        (_set("value_scale", 0), "value_scale is 0"),
        (_set("nodata", "none"), "nodata is 'none'"),
        (_set("nodata", 10**400), "nodata is a number of 401 digits"),
        (_set("nodata", math.inf), "nodata is inf; it must be a finite number"),
        (_set("value_scale", "1e-4"), "value_scale is '1e-4'"),
        (_set("value_scale", -1), "value_scale is -1"),
        (_set("value_offset", True), "value_offset is True"),
        (_set("ignore_index", 256), "ignore_index is 256"),
        (_set("ignore_index", 3), "id is 3.*ignore_index"),
        (_set("classes", KeyError), "classes is missing"),
        (_set("classes", 0, "id", 255), "id is 255, which is ignore_index.*such as 254"),
        (_set("classes", 0, "id", 300), "id is 300; it must be an integer 0 to 255 other than ignore_index .255."),
        (_set("classes", [{"id": 3, "name": "water"}]), "classes holds water alone.*Add a class for the rest"),
        (_set("classes", 0, "id", 3), r"classes\[1\]: id 3"),
        (_set("classes", 0, "name", "water"), "'water' belongs to a class before it"),
        (_set("change_classes", 1, "id", 2), "ids 0, 2"),
        (_set(*LABELS, {}), r"labels \(none\) do not serve semantic_segmentation"),
        (_set(*LABELS, {"change": "labels/change.tif"}), r"labels \(change\) do not serve"),
        (_set("tasks", ["semantic_change_detection"]), r"labels \(semantic\) do not serve semantic_change_detection"),
        (_set(*LABELS, "semantic_per_time", [{"path": "x.tif", "image_indices": [1]}]), r"image_indices is \[1\]"),
        (_set(*LABELS, "semantic_per_time", [{"path": "x.tif", "image_indices": [0, 0]}]), "each once"),
        (_set(*LABELS, "semantic_per_time", [{"path": "x.tif", "image_indices": []}]), "image_indices"),
        (_set("splits", "train", ["a", "b"]), "'train' names 'b'"),
        (_set("splits", "val", ["a"]), "'a' is in split 'train' and again in 'val'"),
        (_set("splits", "train", []), r"split 'train' is empty. Splits are: train \(0 samples\); val"),
        (_set("splits", {"test": ["a"]}), r"split 'train' does not exist. Splits are: test \(1 samples\)"),
    ],
)
def test_errors_in_the_description_name_key_and_value(folder, change, named):
    folder.json = copy.deepcopy(folder.json)
    change(folder.json)
    with pytest.raises(DatasetError, match=f"(?s)dataset.json.*{named}"):
        folder.open()


def test_duplicate_ids_and_change_maps_need_the_right_numbers(folder):
    folder.json["samples"] *= 2
    with pytest.raises(DatasetError, match="'a' occurs twice"):
        folder.open()
    folder.json |= {"tasks": ["binary_change_detection"], "ignore_index": 1}
    with pytest.raises(DatasetError, match=r"change_classes\[1\]: id is 1, which is ignore_index.*such as 255"):
        folder.open()
    del folder.json["change_classes"]
    with pytest.raises(DatasetError, match="ignore_index is 1"):
        folder.open()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"split": "test"}, "'test' does not exist"),
        ({"split": "val"}, "'val' is empty"),
        ({"tasks": ["binary_change_detection"]}, "'binary_change_detection' was asked for"),
        ({"tasks": "semantic_segmentation"}, "tasks is 'semantic_segmentation'; give a list"),
        ({"tasks": []}, r"tasks is \[\]"),
        ({"crop_size": 0}, "crop_size is 0"),
        ({"crop_size": (8, 8, 8)}, "crop_size"),
        ({"crops_per_image": 2}, "crop_size"),
        ({"crop_size": 8, "crops_per_image": 0}, "crops_per_image is 0"),
        ({"seed": -1}, "seed"),
    ],
)
def test_errors_in_the_arguments(folder, arguments, named):
    with pytest.raises(DatasetError, match=named):
        folder.open(**arguments)


def test_a_split_without_labels_for_a_task_names_both(folder):
    folder.json["tasks"] = ["semantic_segmentation", "semantic_change_detection"]
    with pytest.raises(DatasetError, match="no sample of split 'train' has labels for semantic_change_detection"):
        folder.open(tasks=["semantic_change_detection"])


def test_classes_are_counted_over_all_maps_of_a_task(folder):
    folder.json |= {"tasks": ["semantic_segmentation"]}
    labels = {"semantic_per_time": folder.per_time([0], [1])}
    folder.json["samples"] = [folder.sample("a", ["t0", "t1"], labels)]
    maps = np.stack([folder.labels["map0"], folder.labels["map1"]])
    expected = [int((maps == number).sum()) for number in (40, 3, 7)]
    assert folder.open(crop_size=4).count_classes("semantic_segmentation").tolist() == expected


def test_tiles_cover_each_pixel_once(folder):
    stored = folder.images["t0"].copy()
    stored[:, :3] = -1
    write(folder.root / "images/t0.tif", stored, nodata=-1)
    dataset = folder.open()
    tiles = Tiles(dataset, "semantic_segmentation", 10)
    whole = dataset[0]
    labels = np.full(whole.labels.shape, 99, np.uint8)
    for number in range(len(tiles)):
        _, (row, column, height, width) = tiles.windows[number]
        assert tiles[number].series.size == (height, width)
        labels[:, row : row + height, column : column + width] = tiles[number].labels
    assert (labels[:, :3] == 255).all(), "what no date shows cannot be predicted"
    np.testing.assert_array_equal(labels[:, 3:], whole.labels[:, 3:])
    with pytest.raises(DatasetError, match="size must be 1 pixel or more, got 0"):
        Tiles(dataset, "semantic_segmentation", 0)
    with pytest.raises(DatasetError, match="epoch must be 0 or more, got -1"):
        dataset.set_epoch(-1)


def test_a_folder_without_a_readable_description(tmp_path):
    with pytest.raises(DatasetError, match="does not exist"):
        FolderDataset(tmp_path, "train")
    (tmp_path / "dataset.json").write_text('{"name": ')
    with pytest.raises(DatasetError, match="cannot be read as JSON"):
        FolderDataset(tmp_path, "train")
    (tmp_path / "dataset.json").write_text("[" * 200_000)
    with pytest.raises(DatasetError, match="nested too deep"):
        FolderDataset(tmp_path, "train")
    (tmp_path / "dataset.json").write_text("[1]")
    with pytest.raises(DatasetError, match="an object"):
        FolderDataset(tmp_path, "train")


SHIFTED = Affine(10, 0, 500_005, 0, -10, 5_000_000)
EMPTY = np.full((HEIGHT, WIDTH), 255, np.uint8)


@pytest.mark.parametrize(
    ("file", "array", "profile", "named"),
    [
        ("images/t1.tif", None, {}, "t1.tif does not exist"),
        ("images/t1.tif", image(0, shape=(HEIGHT, WIDTH + 1)), {}, "t1.tif .*23 x 32"),
        ("images/t1.tif", image(0), {"transform": SHIFTED}, "t1.tif and .*t0.tif are not on one grid"),
        ("images/t1.tif", image(0), {"crs": "EPSG:32634"}, "t1.tif.*EPSG:32634"),
        ("images/t1.tif", image(0, bands=4), {}, "3 bands.*t1.tif holds 4"),
        ("labels/semantic.tif", None, {}, "semantic.tif of sample 'a' cannot be read"),
        ("labels/semantic.tif", EMPTY, {"transform": SHIFTED}, "semantic.tif does not lie where .* 'a' do"),
        ("labels/semantic.tif", EMPTY[1:], {}, "semantic.tif measures 22 x 31.*'a' 23 x 31"),
        ("labels/semantic.tif", EMPTY // 25, {}, "semantic.tif of sample 'a' holds 10; 3, 7, 40, 255 are allowed"),
        ("labels/semantic.tif", EMPTY.astype(np.int16) - 300, {}, "holds -45"),
        ("labels/semantic.tif", EMPTY.astype(np.float32), {}, "float32"),
        ("labels/semantic.tif", np.stack([EMPTY, EMPTY]), {}, "2 bands"),
        ("labels/semantic.tif", EMPTY, {}, "no pixel of split 'train' has a label"),
    ],
)
def test_errors_in_the_files_name_the_file(folder, file, array, profile, named):
    folder.json["samples"] = [folder.sample("a", ["t0", "t1"], {"semantic": "labels/semantic.tif"})]
    assert folder.open()[0].outputs == ((0, 1),)
    if array is None:
        (folder.root / file).unlink()
    else:
        write(folder.root / file, array, **profile)
    with pytest.raises(DatasetError, match=named):
        folder.open()


def test_labels_may_hold_zero_as_a_class_although_the_raster_calls_it_nodata(folder):
    write(folder.root / "labels/semantic.tif", EMPTY * 0, nodata=0)
    folder.json["classes"][0]["id"] = 0
    assert (folder.open()[0].labels == 0).all()


def test_a_date_without_data_is_kept_and_masked(folder):
    write(folder.root / "images/t1.tif", folder.images["t1"] * 0, nodata=0)
    folder.json["samples"] = [folder.sample("a", ["t0", "t1"], {"semantic": "labels/semantic.tif"})]
    sample = folder.open()[0]
    assert [valid.any() for valid in sample.series.valid] == [True, False]
    assert sample.outputs == ((0, 1),)


CORPUS = os.environ.get("STSUN_CORPUS")
corpus = pytest.mark.skipif(
    not CORPUS, reason="STSUN_CORPUS does not name a folder of data sets with dataset.json files"
)


@corpus
def test_every_split_of_the_corpus_loads():
    descriptions = sorted(Path(CORPUS).glob("*/dataset.json"))
    assert descriptions
    for path in descriptions:
        document = json.loads(path.read_text())
        for split, names in document["splits"].items():
            if not names:
                with pytest.raises(DatasetError, match=f"split '{split}' is empty"):
                    FolderDataset(path.parent, split)
                continue
            dataset = FolderDataset(path.parent, split, crop_size=(32, 48))
            assert set(dataset.tasks) <= set(document["tasks"])
            assert {record.name for record in dataset.samples} == set(names)
            for index in (0, len(dataset) - 1):
                sample = dataset[index]
                assert sample.labels.shape == (len(sample.outputs), *sample.series.size)
                assert any(valid.any() for valid in sample.series.valid)
                assert (sample.labels != 255).any()


@corpus
def test_labels_of_the_corpus_count_as_it_states():
    keys = {
        "semantic_segmentation": "semantic",
        "binary_change_detection": "change",
        "semantic_change_detection": "semantic_per_time",
    }
    compared = 0
    for path in sorted(Path(CORPUS).glob("*/dataset.json")):
        document = json.loads(path.read_text())
        for split in (split for split, names in document["splits"].items() if names):
            dataset = FolderDataset(path.parent, split, load_pixels=False)
            for task in dataset.tasks:
                stated = document.get("label_stats", {}).get(split, {}).get(keys[task])
                if stated is None:
                    continue
                names = dataset.class_names(task)
                classes = document["classes"] if task != "binary_change_detection" else [{"id": 0}, {"id": 1}]
                counts = sum(np.bincount(s.labels.ravel(), minlength=256) for s in dataset if s.task == task)
                expected = [stated.get(str(entry["id"]), 0) for entry in classes]
                assert counts[: len(names)].tolist() == expected, (path, split, task)
                assert counts[255] == stated.get("255", 0)
                compared += 1
    assert compared > 10
