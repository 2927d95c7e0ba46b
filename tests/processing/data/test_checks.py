import copy
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from stsun_processing.data.datasets import FolderDataset
from stsun_processing.data.description import DatasetDescription, DatasetError
from stsun_processing.data.inspection import inspect_dataset
from stsun_processing.data.statistics import band_statistics
from stsun_processing.rasters.series import open_series
from tests.processing.data.test_datasets import HEIGHT, SHIFTED, WIDTH, Folder, image, write

LABEL = "labels/train.tif"
IDS = np.random.default_rng(8).choice([0, 1], (HEIGHT, WIDTH)).astype(np.uint8)


def refusal(root):
    """The error with which training refuses a folder, as `open_sources` opens it; `None` if it does not."""
    try:
        train = FolderDataset(root, "train", crop_size=8, crops_per_image=4, labelled_only=True)
        band_statistics(train)
        splits = DatasetDescription.read(Path(root) / "dataset.json").splits
        for split in ("val", "test"):
            if splits.get(split):
                FolderDataset(root, split)
    except DatasetError as error:
        return str(error)
    return None


def faults(root):
    """What `stsun inspect` ends with status 2 for."""
    try:
        return inspect_dataset(root, progress=False).faults
    except DatasetError as error:
        return [str(error)]


@pytest.fixture
def folder(tmp_path):
    """Two classes, three splits of one sample of two dates each, all well."""
    made = Folder(tmp_path / "made")
    samples = []
    for split in ("train", "val", "test"):
        write(made.root / f"labels/{split}.tif", IDS)
        for number in range(2):
            write(made.root / f"images/{split}{number}.tif", image(number))
        samples.append(made.sample(split, [f"{split}0", f"{split}1"], {"semantic": f"labels/{split}.tif"}))
    made.json |= {
        "classes": [{"id": 0, "name": "land"}, {"id": 1, "name": "water"}],
        "samples": samples,
        "splits": {"train": ["train"], "val": ["val"], "test": ["test"]},
    }
    save(made)
    return made


def save(folder):
    (folder.root / "dataset.json").write_text(json.dumps(folder.json))


def files(*paths):
    """A change that removes files."""

    def change(folder):
        for path in paths:
            (folder.root / path).unlink()

    return change


def raster(path, array, **profile):
    """A change that writes a raster anew."""
    return lambda folder: write(folder.root / path, array, **profile)


def states(path, tags=None, band_tags=None, scales=None, nodata=None):
    """A change of what a raster states."""

    def change(folder):
        with rasterio.open(folder.root / path, "r+") as opened:
            opened.update_tags(**(tags or {}))
            opened.update_tags(1, **(band_tags or {}))
            if scales:
                opened.scales = scales
            if nodata is not None:
                opened.nodata = nodata

    return change


def names(path, *descriptions):
    """A change of what a raster calls its bands."""

    def change(folder):
        with rasterio.open(folder.root / path, "r+") as opened:
            opened.descriptions = descriptions

    return change


def document(*path_and_value):
    """A change of dataset.json."""
    *path, last, value = path_and_value

    def change(folder):
        place = folder.json
        for key in path:
            place = place[key]
        if value is KeyError:
            del place[last]
        else:
            place[last] = value

    return change


def both(*changes):
    def change(folder):
        for one in changes:
            one(folder)

    return change


def cut(path, share):
    """A change that leaves only the first part of a file."""

    def change(folder):
        whole = (folder.root / path).read_bytes()
        (folder.root / path).write_bytes(whole[: int(len(whole) * share)])

    return change


def damaged(folder):
    """One deflated block in the middle of an image is no longer what it was."""
    path = folder.root / "images/train0.tif"
    write(path, image(0, shape=(HEIGHT, WIDTH)), compress="deflate", blockysize=1)
    whole = bytearray(path.read_bytes())
    middle = len(whole) // 2
    whole[middle : middle + 400] = bytes(400)
    path.write_bytes(whole)


def fully_masked(folder):
    with rasterio.open(folder.root / LABEL, "r+") as opened:
        opened.write_mask(np.zeros((HEIGHT, WIDTH), bool))


def pages(folder):
    first, second = Image.fromarray(IDS), Image.fromarray(IDS)
    first.save(folder.root / LABEL, save_all=True, append_images=[second])


def palette(folder):
    indexed = Image.fromarray(IDS * 255, "P")
    indexed.putpalette([0, 0, 0] * 255 + [255, 255, 255])
    indexed.save(folder.root / "labels/train.png")
    folder.json["samples"][0]["labels"]["semantic"] = "labels/train.png"


def bands_without_data(folder):
    write(folder.root / "images/radar.tif", image(9, 2, np.float32) * np.nan)
    folder.json["samples"][0]["images"].append({"path": "images/radar.tif", "band_set": "s1"})


TRAIN, TRAIN_IMAGE = ("samples", 0), ("samples", 0, "images", 0)


def of_a_later_baseline(folder):
    path = "images/S2A_MSIL2A_20230101T101010_N0509_R022_T33UUP_20230101T121212/train0.tif"
    (folder.root / path).parent.mkdir()
    write(folder.root / path, image(0).astype("uint16"))
    folder.json["samples"][0]["images"][0]["path"] = path


BROKEN = {
    "an image is missing": (files("images/train1.tif"), r"train1.tif does not exist"),
    "a label map is missing": (files(LABEL), r"labels.train.tif of sample 'train' cannot be read"),
    "an image is cut off": (cut("images/val0.tif", 0.6), r"val0.tif"),
    "an image is empty": (cut("images/test0.tif", 0), r"test0.tif is empty"),
    "an image is damaged in the middle": (damaged, r"train0.tif"),
    "a label map is cut off": (cut(LABEL, 0.6), r"labels.train.tif of sample 'train' cannot be read"),
    "images of two sizes": (raster("images/train1.tif", image(1)[:, 1:]), r"train1.tif.*22 x 31"),
    "size of the sample": (document(*TRAIN, "height", 24), r"measure 23 x 31 pixels, but height and width say 24 x 31"),
    "images on two grids": (raster("images/train1.tif", image(1), transform=SHIFTED), r"train1.tif.*one grid"),
    "images in two CRS": (raster("images/train1.tif", image(1), crs="EPSG:32634"), r"train1.tif.*EPSG:32634"),
    "another number of bands": (raster("images/train1.tif", image(1, 4)), r"train1.tif.*4"),
    "bands without data": (bands_without_data, r"Bands VV, sigma0_vh .*split 'train'"),
    "an unknown id": (raster("labels/test.tif", IDS * 2), r"test.tif of sample 'test' holds 2"),
    "labels are no integers": (raster(LABEL, IDS.astype(np.float32)), r"train.tif has 1 bands of float32"),
    "labels in colours": (raster(LABEL, np.stack([IDS] * 3)), r"train.tif has 3 bands"),
    "labels of several pages": (pages, r"train.tif has 2 pages"),
    "labels of another size": (raster(LABEL, IDS[1:]), r"train.tif measures 22 x 31"),
    "labels half a pixel off": (raster(LABEL, IDS, transform=SHIFTED), r"train.tif does not lie"),
    "labels elsewhere": (raster(LABEL, IDS, crs="EPSG:32634"), r"train.tif does not lie"),
    "labels that are masked": (fully_masked, r"no pixel of split 'train' has a label"),
    "nothing is labelled": (raster("labels/val.tif", IDS * 0 + 255), r"no pixel of split 'val' has a label"),
    "one class alone": (raster(LABEL, IDS * 0), r"split 'train': no pixel is labelled 'water'.*Add a sample"),
    "0 and 255": (raster(LABEL, IDS * 255), r"'train'.*'water'.*If 255, .* rewrite it as 1, or set ignore_index"),
    "1 and 255": (raster(LABEL, IDS * 254 + 1), r"'train'.*'land'.*If 255, .* rewrite it as 0, or set ignore_index"),
    "0 and 255 in a palette": (palette, r"'train'.*'water'.*If 255"),
    "0 and 255 to score on": (raster("labels/test.tif", IDS * 255), r"'test'.*'water'.*If 255"),
    "no training split": (document("splits", "train", KeyError), r"split 'train' does not exist"),
    "an empty training split": (document("splits", "train", []), r"split 'train' is empty"),
    "a split names no sample": (document("splits", "test", ["x"]), r"'test' names 'x'"),
    "a sample in two splits": (document("splits", "test", ["train"]), r"'train' is in split 'train' and again"),
    "one id twice": (document("samples", 1, "id", "train"), r"'train' occurs twice"),
    "one band twice": (document("bands", 1, {"name": "B04"}), r"bands\[1\].*'B04'"),
    "a scale of 0": (document("value_scale", 0), r"value_scale is 0"),
    "a scale for no band": (document("value_scale", {"B99": 1}), r"value_scale names 'B99'"),
    "an offset that is no number": (document("value_offset", "-0.1"), r"value_offset is '-0.1'"),
    "a negative distance": (document("gsd_m", -10), r"gsd_m.*-10"),
    "a date that is none": (document(*TRAIN_IMAGE, "timestamp", "1 May"), r"'1 May' is not a date"),
    "the ignored value is a class": (document("ignore_index", 1), r"id is 1, which is ignore_index"),
    "no JSON": (lambda folder: (folder.root / "dataset.json").write_text("{"), r"cannot be read as JSON"),
    "a contradicting distance": (document("gsd_m", 30), r"10 m .*30 m \(dataset.json gsd_m\)"),
    "a contradicting date": (
        both(document(*TRAIN_IMAGE, "timestamp", "2020-05"), states("images/train0.tif", {"TIMESTAMP": "2021-05-01"})),
        r"train0.tif.*2021-05-01",
    ),
    "contradicting dates out of order": (
        both(document(*TRAIN_IMAGE, "timestamp", "2022-05-01"), states("images/train1.tif", {"TIMESTAMP": "nonsense"}),
             states("images/train0.tif", {"TIMESTAMP": "2021-05-01"})),
        r"train0.tif.*2021-05-01",
    ),
    "bands in another order": (names("images/train0.tif", "B08", "B04", "DEM"), r"train0.tif is called 'B08'.*'B04'"),
    "a contradicting scale": (states("images/train0.tif", scales=(0.01,) * 3), r"train0.tif.*0\.01"),
    "a contradicting nodata": (
        both(document("nodata", -1), states("images/val1.tif", nodata=0)),
        r"val1.tif.*nodata",
    ),
    "a contradicting wavelength": (states("images/val1.tif", band_tags={"wavelength_nm": "833"}), r"val1.tif.*833"),
    "a contradicting product": (of_a_later_baseline, r"train0.tif states two scales: .*dataset.json.* -0.1 .*S2A_"),
    "a contradicting kind": (states("images/val1.tif", band_tags={"kind": "thermal"}), r"val1.tif.*thermal"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_inspection_and_training_refuse_the_same_broken_folder(folder, name):
    change, named = BROKEN[name]
    folder.json = copy.deepcopy(folder.json)
    change(folder)
    if name != "no JSON":
        save(folder)
    refused, found = refusal(folder.root), faults(folder.root)
    assert refused is not None
    assert re.search(f"(?s){named}", refused), refused
    assert refused in found, found


def unlabelled_sample(folder):
    write(folder.root / "labels/none.tif", IDS * 0 + 255)
    folder.json["samples"].append(folder.sample("none", ["train0"], {"semantic": "labels/none.tif"}))
    folder.json["splits"]["train"].append("none")


def one_name_for_two_bands(folder):
    folder.json["band_sets"]["s1"] = [{"name": "B04", "kind": "sar"}, {"name": "B08", "center_nm": 842}]
    folder.json["samples"][0]["images"].append({"path": "images/radar.tif", "band_set": "s1"})


def written_as_255(folder):
    for split in ("train", "val", "test"):
        write(folder.root / f"labels/{split}.tif", IDS * 255)
    folder.json |= {"ignore_index": 254, "classes": [{"id": 0, "name": "land"}, {"id": 255, "name": "water"}]}


def change_written_as_255(folder):
    written_as_255(folder)
    del folder.json["classes"]
    folder.json |= {
        "tasks": ["binary_change_detection"],
        "change_classes": [{"id": 0, "name": "same"}, {"id": 255, "name": "built"}],
    }
    for sample in folder.json["samples"]:
        sample["labels"] = {"change": sample["labels"]["semantic"]}


ACCEPTED = {
    "as it is": (lambda folder: None, None),
    "an empty split to score on": (document("splits", "val", []), "Split 'val' is empty"),
    "no split to score on": (document("splits", {"train": ["train"]}), "2 samples are in no split"),
    "a sample without labels": (unlabelled_sample, "'none' of split 'train' has no labelled pixel"),
    "one name for two bands": (one_name_for_two_bands, None),
    "one class to score on": (raster("labels/val.tif", IDS * 0), "split 'val': no pixel is labelled 'water'"),
    "an id that is nodata": (raster(LABEL, IDS, nodata=0), "calls 0 nodata, which is the id of 'land'"),
    "labels without a place": (raster(LABEL, IDS, transform=None, crs=None), None),
    "images in any order": (
        both(document(*TRAIN_IMAGE, "timestamp", "2021-05"), states("images/train1.tif", {"TIMESTAMP": "2020-05-01"})),
        None,
    ),
    "a class that is written as 255": (written_as_255, None),
    "a change that is written as 255": (change_written_as_255, None),
}  # fmt: skip


@pytest.mark.parametrize("name", ACCEPTED)
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_inspection_and_training_accept_the_same_folder(folder, name):
    change, note = ACCEPTED[name]
    folder.json = copy.deepcopy(folder.json)
    change(folder)
    save(folder)
    report = inspect_dataset(folder.root, progress=False)
    assert report.faults == []
    assert refusal(folder.root) is None
    assert note is None or any(note in line for line in report.notes), report.notes


@pytest.mark.parametrize("change", [written_as_255, change_written_as_255])
def test_masks_of_0_and_255_are_read_where_255_is_a_class(folder, change):
    folder.json = copy.deepcopy(folder.json)
    change(folder)
    save(folder)
    np.testing.assert_array_equal(FolderDataset(folder.root, "train")[0].labels[0], IDS)


CORPUS = os.environ.get("STSUN_CORPUS")


def test_a_file_that_names_its_sensor_has_the_bands_of_its_table_in_training_as_in_prediction(folder):
    """Prediction knows nothing of dataset.json, which says 665 nm."""
    path = folder.root / "images/train0.tif"
    states("images/train0.tif", {"platform": "Sentinel-2A"})(folder)
    names("images/train0.tif", "B04", "B08", "DEM")(folder)
    with rasterio.open(path, "r+") as opened:
        opened.update_tags(3, kind="elevation")
    first, second = FolderDataset(folder.root, "train")[0].series.acquisitions
    with open_series(path) as opened:
        predicted = opened.series.acquisitions[0]
    assert [first.bands[0].center_nm, second.bands[0].center_nm] == [664.6, 665]
    pairs = list(zip(first.bands[:2], predicted.bands, strict=False))
    assert [(one.center_nm, one.fwhm_nm) for one, _ in pairs] == [(two.center_nm, two.fwhm_nm) for _, two in pairs]


@pytest.mark.skipif(not CORPUS, reason="STSUN_CORPUS does not name a folder of data sets with dataset.json files")
def test_inspection_and_training_agree_on_the_corpus():
    descriptions = sorted(Path(CORPUS or "").glob("*/dataset.json"))
    assert descriptions
    for path in descriptions:
        refused, found = refusal(path.parent), faults(path.parent)
        assert found == ([] if refused is None else [refused])
