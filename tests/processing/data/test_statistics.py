import json

import numpy as np
import pytest

from stsun_processing.data import statistics as statistics_module
from stsun_processing.data.datasets import FolderDataset
from stsun_processing.data.description import DatasetError
from stsun_processing.data.statistics import band_statistics, readings
from tests.processing.data.test_datasets import HEIGHT, RADAR, WIDTH, Folder, image, write

LABELS = {"semantic": "labels/semantic.tif"}


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "made")


def test_statistics_are_those_of_all_valid_pixels_read_once(folder, monkeypatch):
    folder.json |= {"value_scale": 0.0001, "nodata": -1}
    stored = {name: folder.images[name].astype(np.int32) + 1_000_000 for name in ("t0", "t1")}
    stored["t0"][0, :5] = -1
    for name, array in stored.items():
        write(folder.root / f"images/{name}.tif", array)
    folder.json["samples"] = [
        folder.sample("a", ["t0", "radar"], LABELS),
        folder.sample("b", ["t1", "t0"], LABELS),
        folder.sample("c", ["t2"], LABELS),
    ]
    folder.json["splits"] = {"train": ["a", "b"], "val": ["c"]}
    dataset = folder.open(crop_size=4)
    statistics = band_statistics(dataset)
    values = np.concatenate([stored["t0"][:, 5:].reshape(3, -1), stored["t1"].reshape(3, -1)], axis=1).astype(float)
    assert [{key: entry[key] for key in entry if key not in ("mean", "std", "unit")} for entry in statistics] == [
        {"name": "B04", "kind": "reflective", "center_nm": 665},
        {"name": "B08", "kind": "reflective", "center_nm": 833},
        {"name": "DEM", "kind": "elevation"},
        {"name": "VV", "kind": "sar", "polarisation": "VV"},
        {"name": "sigma0_vh", "kind": "sar", "polarisation": "VH"},
    ]
    for row, entry, scale in zip(values, statistics[:3], (1e-4, 1e-4, 1), strict=True):
        assert entry["mean"] == pytest.approx(row.mean() * scale, rel=1e-6)
        assert entry["std"] == pytest.approx(row.std() * scale, rel=1e-4)
    assert statistics[4]["std"] == pytest.approx(folder.images["radar"][1].std(dtype=float), rel=1e-5)
    monkeypatch.setattr(statistics_module, "_MAX_VALUES", 3 * WIDTH * 2)
    for entry, in_strips in zip(statistics, band_statistics(dataset), strict=True):
        for key in ("mean", "std"):
            assert in_strips[key] == pytest.approx(entry[key], rel=1e-9)


def two_images(folder, bands, other_bands):
    """A split of two images with bands of their own, as many as these; returns their values."""
    arrays = [image(20, len(bands), np.float32), image(21, len(other_bands), np.float32)]
    for name, array in zip(("one", "other"), arrays, strict=True):
        write(folder.root / f"images/{name}.tif", array)
    folder.json |= {"bands": bands, "band_sets": {"s1": RADAR, "other": other_bands}}
    del folder.json["value_scale"]
    sample = folder.sample("a", ["one", "other"], LABELS)
    sample["images"][1]["band_set"] = "other"
    folder.json["samples"] = [sample]
    return arrays


def test_one_physical_band_under_two_names_has_one_record(folder):
    bands = [{"name": "B04", "center_nm": 665}, {"name": "slope", "kind": "elevation"}, RADAR[0]]
    others = [{"name": "red", "center_nm": 665}, {"name": "DEM", "kind": "elevation"}, RADAR[0] | {"name": "vv"}]
    one, other = two_images(folder, bands, others)
    statistics = band_statistics(folder.open())
    assert [entry["name"] for entry in statistics] == ["B04", "slope", "VV"]
    together = np.concatenate([one.reshape(3, -1), other.reshape(3, -1)], axis=1).astype(float)
    for entry, values in zip(statistics, together, strict=True):
        assert entry["mean"] == pytest.approx(values.mean(), rel=1e-6)
        assert entry["std"] == pytest.approx(values.std(), rel=1e-6)


@pytest.mark.parametrize(
    ("bands", "others"),
    [
        # One name for two wavelengths.
        ([{"name": "B08", "center_nm": 833}], [{"name": "B08", "center_nm": 865}]),
        # Nothing but their names tells these apart.
        ([{"name": "ndvi", "kind": "index"}], [{"name": "ndwi", "kind": "index"}]),
        ([{"name": "b1", "kind": "reflective"}], [{"name": "b2", "kind": "reflective"}]),
        ([{"name": "b1", "kind": "other"}], [{"name": "b2", "kind": "other"}]),
    ],
)
def test_bands_that_are_not_one_have_records_of_their_own(folder, bands, others):
    arrays = two_images(folder, bands, others)
    statistics = band_statistics(folder.open())
    assert len(statistics) == 2
    for entry, values, band in zip(statistics, arrays, (*bands, *others), strict=True):
        assert entry["name"] == band["name"]
        assert entry["mean"] == pytest.approx(values.mean(dtype=float), rel=1e-6)


def test_names_tell_bands_apart_that_one_image_holds_twice(folder):
    ascending, descending = RADAR[0] | {"name": "VV_ascending"}, RADAR[0] | {"name": "VV_descending"}
    one, other = two_images(folder, [ascending, descending], [descending])
    first, second = band_statistics(folder.open())
    assert (first["name"], second["name"]) == ("VV_ascending", "VV_descending")
    assert first["polarisation"] == second["polarisation"] == "VV"
    assert first["mean"] == pytest.approx(one[0].mean(dtype=float), rel=1e-6)
    assert second["mean"] == pytest.approx(np.concatenate([one[1], other[0]]).mean(dtype=float), rel=1e-6)


def test_a_band_without_a_valid_pixel_is_refused(folder):
    write(folder.root / "images/t2.tif", folder.images["t2"] * 0, nodata=0)
    folder.json["bands"] = [{"name": "B08", "center_nm": 833}, *RADAR]
    folder.json["band_sets"]["s1"] = [{"name": "B11", "center_nm": 1610}, {"name": "B12", "center_nm": 2200}]
    folder.json["samples"] = [folder.sample("a", ["t2", "radar"], LABELS)]
    with pytest.raises(DatasetError, match="Bands B08, VV, sigma0_vh of data set 'made', split 'train'"):
        band_statistics(folder.open())


@pytest.mark.parametrize("value", [-3.4028235e38, 9.96921e36, 1e20])
def test_fill_values_that_nobody_declared_are_refused_with_their_place(folder, value):
    pixels = folder.images["t1"].astype(np.float32)
    pixels[2, 1, :3] = value
    write(folder.root / "images/t1.tif", pixels)
    folder.json["samples"] = [folder.sample("a", ["t1"], LABELS)]
    with pytest.raises(DatasetError, match=r"of .*t1\.tif holds .* in 3 pixels, .*nodata in dataset\.json"):
        band_statistics(folder.open())


def test_a_reading_is_what_dataset_json_adds_to_the_files(folder):
    write(folder.root / "images/t0.tif", folder.images["t0"], transform=None, crs=None)
    write(folder.root / "images/radar.tif", folder.images["radar"], transform=None, crs=None)
    folder.json["bands"][2] = {**folder.json["bands"][2], "offset": -20.0, "nodata": -1}
    folder.json["samples"] = [folder.sample("a", ["t0", "radar"], LABELS)]
    optical, radar = readings(folder.open())
    assert [band["name"] for band in optical["bands"]] == ["B04", "B08", "DEM"]
    assert {key: optical[key] for key in ("dtype", "scale", "offset", "nodata", "gsd_m")} == {
        "dtype": "int16",
        "scale": [1e-4, 1e-4, None],
        "offset": [None, None, -20.0],
        "nodata": [None, None, -1],
        "gsd_m": 10.0,
    }
    assert [(band["kind"], band["polarisation"]) for band in radar["bands"]] == [("sar", "VV"), ("sar", "VH")]
    assert [radar[key] for key in ("dtype", "scale", "offset", "nodata")] == ["float32", None, None, None]
    json.dumps([optical, radar], allow_nan=False)


def test_band_sets_and_types_have_readings_of_their_own_and_images_share_them(folder):
    write(folder.root / "images/t2.tif", folder.images["t2"].astype(np.float32))
    folder.json["samples"] = [
        folder.sample("a", ["t0", "radar"], LABELS),
        folder.sample("b", ["t1", "t2"], LABELS),
    ]
    folder.json["splits"] = {"train": ["a", "b"]}
    found = readings(folder.open())
    assert [(len(reading["bands"]), reading["dtype"]) for reading in found] == [
        (3, "int16"),
        (2, "float32"),
        (3, "float32"),
    ]
    assert [reading["gsd_m"] for reading in found] == [None, None, None], "the georeference says it"


def test_a_distance_that_differs_between_images_belongs_to_no_reading(folder):
    for name in ("t0", "t1"):
        write(folder.root / f"images/{name}.tif", folder.images[name], transform=None, crs=None)
    folder.json["samples"] = [
        folder.sample("a", ["t0"], LABELS, gsd_m=0.5),
        folder.sample("b", ["t1"], LABELS, gsd_m=0.6),
    ]
    folder.json["splits"] = {"train": ["a", "b"], "val": []}
    (reading,) = readings(folder.open())
    assert reading["gsd_m"] is None
    folder.json["splits"] = {"train": ["a"]}
    assert readings(folder.open())[0]["gsd_m"] == 0.5


def test_bands_marked_as_bad_take_no_part(folder):
    array = image(30, 4)
    folder.root.mkdir(exist_ok=True)
    write(folder.root / "images/t0.dat", array, driver="ENVI")
    with (folder.root / "images/t0.hdr").open("a") as header:
        header.write("bbl = {1, 0, 1, 1}\n")
    listed = [{"name": f"b{index}", "center_nm": 500 + 100 * index, "scale": 10.0**-index} for index in range(4)]
    folder.json["samples"][0]["images"][0]["path"] = "images/t0.dat"
    for bands in (listed, [listed[0], *listed[2:]]):
        folder.json["bands"] = bands
        dataset = folder.open()
        assert [entry["name"] for entry in band_statistics(dataset)] == ["b0", "b2", "b3"]
        (reading,) = readings(dataset)
        assert reading["scale"] == [1.0, 0.01, 0.001]
        assert dataset[0].series.pixels[0].shape == (3, HEIGHT, WIDTH)
        np.testing.assert_allclose(dataset[0].series.pixels[0][1], array[2] / 100, rtol=1e-6)


def test_statistics_read_the_labelled_samples_that_training_reads(folder):
    write(folder.root / "labels/none.tif", np.full((HEIGHT, WIDTH), 255, np.uint8))
    folder.json["samples"].append(folder.sample("b", ["t1"], {"semantic": "labels/none.tif"}))
    folder.json["splits"]["train"] = ["a", "b"]
    folder.open()
    statistics = band_statistics(FolderDataset(folder.root, "train", labelled_only=True))
    assert statistics[0]["mean"] == pytest.approx(folder.images["t0"][0].mean() / 1e4, rel=1e-6)
