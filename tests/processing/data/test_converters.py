"""Converters, on tiny look-alikes of the published layouts that are made here."""

import hashlib
import json
import warnings

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning

from stsun_processing import FolderDataset
from stsun_processing.data.converters import (
    CONVERTERS,
    PASTIS_CLASSES,
    ConversionError,
    binary_ids,
    colour_ids,
    convert,
)
from stsun_processing.data.inspection import inspect_dataset

SIZE = (12, 17)
DRIVERS = {".png": "PNG", ".tif": "GTiff", ".jpg": "JPEG"}


def write(path, array, **profile):
    array = np.asarray(array)
    array = array[None] if array.ndim == 2 else array
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", driver=DRIVERS[path.suffix], count=len(array), dtype=array.dtype, height=array.shape[1],
            width=array.shape[2], **profile,
        ) as raster:  # fmt: skip
            raster.write(array)
    return array


def rgb(seed):
    return np.random.default_rng(seed).integers(0, 256, (3, *SIZE)).astype(np.uint8)


def ids(seed, classes=2):
    return np.random.default_rng(100 + seed).integers(0, classes, SIZE).astype(np.uint8)


def state(folder):
    return {
        path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def converted(name, source, tmp_path, faults=0):
    """Converts, and checks what holds of all: the source is as it was, nothing else appears, nothing is at fault."""
    before = state(source)
    notes = convert(name, source, tmp_path / "target", progress=False)
    assert state(source) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted({source.name, "target"})
    report = inspect_dataset(tmp_path / "target", progress=False)
    assert len(report.faults) == faults, report.faults
    return report, notes, lambda split: {s.name: s for s in FolderDataset(tmp_path / "target", split)}


def pairs(source, split, names, folder=None, suffix=".png", label=255):
    """Writes A, B and label of each name; returns the arrays."""
    made = {}
    for index, name in enumerate(names):
        seed = 10 * index + sum(map(ord, split))
        arrays = rgb(seed), rgb(seed + 1), ids(seed)
        for key, array in zip(("A", "B", "label"), arrays, strict=True):
            write((folder or source / split) / key / f"{name}{suffix}", array * (label if key == "label" else 1))
        made[name] = arrays
    return made


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


def test_loveda_is_referred_to_as_it_is(tmp_path):
    source = tmp_path / "source"
    for split in ("Train", "Val", "Test"):
        for scene in ("Rural", "Urban"):
            write(source / split / scene / "images_png" / "5.png", rgb(len(split + scene)))
            if split != "Test":
                write(source / split / scene / "masks_png" / "5.png", ids(len(scene), 8))
    report, notes, load = converted("loveda", source, tmp_path)
    assert report.split_sizes == {"train": 2, "val": 2}
    assert [("Test" in note, "left out" in note) for note in notes] == [(True, True)] * 2
    assert [path.name for path in (tmp_path / "target").iterdir()] == ["dataset.json"]
    sample = load("train")["train_urban_5"]
    assert sample.classes[:2] == ("background", "building")
    assert sample.classes[6] == "agriculture"
    stored = ids(5, 8)
    np.testing.assert_array_equal(sample.labels[0], np.where(stored == 0, 255, stored - 1))


COLOURS = [(255, 255, 255), (0, 0, 255), (128, 128, 128), (0, 128, 0), (0, 255, 0), (128, 0, 0), (255, 0, 0)]


def second_maps(seed):
    rng = np.random.default_rng(seed)
    changed = rng.random(SIZE) < 0.4
    before = rng.integers(1, 7, SIZE)
    after = (before - 1 + rng.integers(1, 6, SIZE)) % 6 + 1
    return [np.where(changed, array, 0).astype(np.uint8) for array in (before, after)]


@pytest.mark.parametrize("coding", ["colours", "positions", "rgb_folders"])
def test_second_in_colours_and_in_positions(tmp_path, coding):
    source = tmp_path / "source"
    for split in ("train", "test"):
        for date, array in enumerate(second_maps(len(split)), start=1):
            write(source / split / f"im{date}" / "00013.png", rgb(date))
            folder = f"label{date}" + ("_rgb" if coding == "rgb_folders" else "")
            coloured = np.moveaxis(np.array(COLOURS, np.uint8)[array], -1, 0)
            write(source / split / folder / "00013.png", array if coding == "positions" else coloured)
    report, notes, _ = converted("second", source, tmp_path)
    assert not notes
    assert report.split_sizes == {"train": 1, "test": 1}
    dataset = FolderDataset(tmp_path / "target", "train")
    assert dataset.tasks == ("binary_change_detection", "semantic_change_detection")
    change, semantic = sorted(dataset, key=lambda sample: sample.task)
    assert semantic.classes == ("unchanged", "water", "ground", "low_vegetation", "tree", "building", "sports_field")
    np.testing.assert_array_equal(semantic.labels, second_maps(5))
    np.testing.assert_array_equal(change.labels[0], second_maps(5)[0] != 0)
    assert semantic.outputs == ((0,), (1,))


def test_unknown_colours_are_named_with_their_number(tmp_path):
    source = tmp_path / "source"
    maps = np.moveaxis(np.array(COLOURS, np.uint8)[second_maps(0)[0]], -1, 0).copy()
    maps[:, 0, :3] = np.array([1, 2, 3], np.uint8)[:, None]
    for folder, array in {"im1": rgb(0), "im2": rgb(1), "label1": maps, "label2": maps}.items():
        write(source / "train" / folder / "1.png", array)
    with pytest.raises(ConversionError, match=r"label1/1.png holds 1 colours.*\(1, 2, 3\) in 3 pixels.*\(255, 0, 0\)"):
        convert("second", source, tmp_path / "target", progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["source"], "nothing is left of a conversion that failed"
    with pytest.raises(ConversionError, match="2 bands"):
        colour_ids(maps[:2], "x.png", {})
    assert (
        colour_ids(maps[:, 1:], "x.png", {c: i for i, c in enumerate(COLOURS)}).tolist()
        == second_maps(0)[0][1:].tolist()
    )


def test_palettes_are_read_as_colours(tmp_path):
    source = tmp_path / "source"
    maps = second_maps(0)
    for date in (1, 2):
        write(source / "train" / f"im{date}" / "1.png", rgb(date))
        path = source / "train" / f"label{date}" / "1.png"
        table = {index: (*colour, 255) for index, colour in enumerate(reversed(COLOURS))}
        path.parent.mkdir(parents=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(
                path, "w", driver="PNG", count=1, dtype="uint8", height=SIZE[0], width=SIZE[1]
            ) as raster:
                raster.write(6 - maps[date - 1], 1)
                raster.write_colormap(1, table)
    converted("second", source, tmp_path)
    (sample,) = FolderDataset(tmp_path / "target", "train", tasks=["semantic_change_detection"])
    np.testing.assert_array_equal(sample.labels, maps)


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


def test_masks_of_other_values_are_refused():
    mask = np.array([[0, 255], [1, 0]], np.uint8)
    assert binary_ids(mask[None], "a.png").tolist() == [[0, 1], [1, 0]]
    assert binary_ids(np.stack([mask] * 3), "a.png").tolist() == [[0, 1], [1, 0]]
    with pytest.raises(ConversionError, match=r"a\.png holds 7; 0 and 255"):
        binary_ids(mask[None] // 36, "a.png")
    with pytest.raises(ConversionError, match="3 bands that differ"):
        binary_ids(np.stack([mask, mask, mask * 0]), "a.png")
    assert binary_ids(np.array([[[3, 250], [130, 120]]], np.uint8), "a.JPG").tolist() == [[0, 1], [1, 0]]


@pytest.fixture
def levir(tmp_path):
    pairs(tmp_path / "source", "train", ["train_1", "train_2"])
    return tmp_path / "source"


@pytest.mark.parametrize("name", sorted(CONVERTERS))
def test_a_folder_of_something_else_is_refused(name, tmp_path):
    (tmp_path / "source" / "stuff").mkdir(parents=True)
    with pytest.raises(ConversionError, match="stuff"):
        convert(name, tmp_path / "source", tmp_path / "target", progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_what_does_not_belong_together_is_refused(levir, tmp_path):
    target = tmp_path / "target"
    (levir / "train" / "B" / "train_2.png").unlink()
    with pytest.raises(ConversionError, match=r"train/B lacks 1 files .*: train_2"):
        convert("levir-cd", levir, target, progress=False)
    write(levir / "train" / "B" / "train_2.png", rgb(0)[:, :-1])
    with pytest.raises(ConversionError, match=r"train_2.png 12 x 17.*train_2.png 11 x 17"):
        convert("levir-cd", levir, target, progress=False)
    write(levir / "train" / "B" / "train_2.png", rgb(0))
    write(levir / "train" / "label" / "train_2.png", ids(0)[:-1])
    with pytest.raises(ConversionError, match=r"label/train_2\.png measures 11 x 17"):
        convert("levir-cd", levir, target, progress=False)
    (levir / "train" / "label" / "train_2.png").write_bytes(b"nothing")
    with pytest.raises(ConversionError, match=r"label/train_2\.png cannot be read"):
        convert("levir-cd", levir, target, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_unknown_names_missing_sources_and_occupied_targets(levir, tmp_path):
    with pytest.raises(ConversionError, match="'imagenet' is unknown; known are levir-cd"):
        convert("imagenet", levir, tmp_path / "target")
    with pytest.raises(ConversionError, match="none is not a folder"):
        convert("levir-cd", tmp_path / "none", tmp_path / "target")
    (tmp_path / "target").mkdir()
    convert("levir-cd", levir, tmp_path / "target", progress=False)
    with pytest.raises(ConversionError, match="target exists already"):
        convert("levir-cd", levir, tmp_path / "target")


def test_source_and_target_may_move_together(levir, tmp_path):
    convert("levir-cd", levir, tmp_path / "made" / "levir", progress=False)
    tmp_path.rename(tmp_path.with_name("moved"))
    try:
        assert len(FolderDataset(tmp_path.with_name("moved") / "made" / "levir", "train")) == 2
    finally:
        tmp_path.with_name("moved").rename(tmp_path)
