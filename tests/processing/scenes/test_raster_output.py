import json
import os
import warnings
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window

from stsun_processing.metadata import Acquisition, Band, ImageSeries, MetadataError
from stsun_processing.rasters.records import RasterError
from stsun_processing.rasters.series import read_series
from stsun_processing.scenes.raster_output import (
    MapWriter,
    RasterWriter,
    check_writable,
    class_names,
    open_quietly,
    write_quick_look,
    write_series,
)
from stsun_processing.scenes.visualization import colour_map, default_colours

# Writing a series


def test_series_survives_the_round_trip(tmp_path):
    rng = np.random.default_rng(0)
    radar = (Band("VV", kind="sar", polarisation="VV"), Band("VH", kind="sar", polarisation="VH"))
    optical = (Band("B04", 664.6, 31), Band("heat", 10895, 590, "thermal"), Band("?", None, None, "other"))
    pixels = [rng.normal(size=(len(bands), 9, 11)).astype("float32") for bands in (radar, optical)]
    pixels[0][:, 3, 4] = np.nan
    series = ImageSeries(
        (Acquisition(radar, "2020-01-11T23:27:23", 10), Acquisition(optical, None, 10)),
        crs="EPSG:32633",
        transform=(10, 0, 500000, 0, -10, 5000000),
        pixels=tuple(pixels),
    )
    paths = write_series(series, tmp_path / "series")
    back = read_series(paths)
    assert back == series
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(back.pixels, pixels, strict=True))
    assert sorted(path.name for path in (tmp_path / "series").iterdir()) == ["date_0.tif", "date_1.tif"]
    with pytest.raises(RasterError, match="does not exist"):
        write_series(series, tmp_path / "no" / "such")
    with pytest.raises(MetadataError, match="no pixels"):
        write_series(ImageSeries.from_dict(series.to_dict()), tmp_path / "series")


# Writing maps

NAMES = ("water & ice", "forest", "<built-up>")


def write_maps(path, maps, **options):
    with MapWriter(path, *maps.shape[1:], len(maps), NAMES, **options) as writer:
        writer.write(maps)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 5), (3, 300, 270), (4, 20, 20)])
def test_maps_are_what_was_written(tmp_path, shape):
    maps = np.random.default_rng(0).choice(np.array([0, 1, 2, 255], "uint8"), size=shape)
    path = tmp_path / "map.tif"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_maps(
            path,
            maps,
            crs="EPSG:32633",
            transform=(10, 0, 500000, 0, -10, 5000000),
            descriptions=[f"map {index}" for index in range(len(maps))],
            tags={"TASK": "semantic_segmentation"},
        )
    with rasterio.open(path) as dataset:
        assert np.array_equal(dataset.read(), maps)
        assert dataset.dtypes == ("uint8",) * len(maps)
        assert (dataset.crs.to_epsg(), tuple(dataset.transform)[:6]) == (32633, (10, 0, 500000, 0, -10, 5000000))
        assert dataset.nodatavals == (255,) * len(maps)
        assert dataset.compression.value.lower() == "deflate"
        assert set(dataset.block_shapes) == {(256, 256)}
        assert dataset.descriptions == tuple(f"map {index}" for index in range(len(maps)))
        assert dataset.tags()["TASK"] == "semantic_segmentation"
        assert all(json.loads(dataset.tags(index)["CLASS_NAMES"]) == list(NAMES) for index in dataset.indexes)
        # A palette, never red, green and blue: readers must not show three maps as one picture.
        assert set(dataset.colorinterp) == {ColorInterp.palette}
        table = dataset.colormap(1)
    assert [table[value][:3] for value in range(3)] == default_colours(NAMES)
    assert table[255][3] == 0


def test_gdal_finds_names_and_colours_of_every_map(tmp_path):
    write_maps(tmp_path / "map.tif", np.zeros((2, 4, 4), "uint8"), transform=(1, 0, 0, 0, -1, 9), crs="EPSG:32633")
    # rasterio has no call for category names: GDAL writes into a VRT what it read from the file.
    rasterio.shutil.copy(tmp_path / "map.tif", tmp_path / "map.vrt", driver="VRT")
    bands = ElementTree.parse(tmp_path / "map.vrt").getroot().findall("VRTRasterBand")
    assert len(bands) == 2
    for band in bands:
        assert [item.text for item in band.find("CategoryNames")] == list(NAMES)
        rows = [
            [cell.text for cell in row.findall("F")] for row in band.find("GDALRasterAttributeTable").findall("Row")
        ]
        expected = [
            [str(value), name, *map(str, colour)]
            for value, (name, colour) in enumerate(zip(NAMES, default_colours(NAMES), strict=True))
        ]
        assert rows == expected


@pytest.mark.parametrize("count", [1, 3, 4])
def test_map_without_its_sidecar_is_no_colour_picture(tmp_path, count):
    path = tmp_path / "map.tif"
    write_maps(path, np.zeros((count, 4, 4), "uint8"), transform=(1, 0, 0, 0, -1, 9), crs="EPSG:32633")
    (tmp_path / "map.tif.aux.xml").unlink()
    with rasterio.open(path) as dataset:
        assert set(dataset.colorinterp) <= {ColorInterp.palette, ColorInterp.gray, ColorInterp.undefined}
        if count == 1:
            assert [dataset.colormap(1)[value][:3] for value in range(3)] == default_colours(NAMES)


def test_map_has_the_colours_that_pictures_have(tmp_path):
    maps = np.array([[[0, 1], [2, 0]]], dtype="uint8")
    write_maps(tmp_path / "map.tif", maps, transform=(1, 0, 0, 0, -1, 9), crs="EPSG:32633")
    with rasterio.open(tmp_path / "map.tif") as dataset:
        table = dataset.colormap(1)
    picture = np.asarray(colour_map(maps[0], default_colours(NAMES)))
    assert picture.tolist() == [[list(table[value][:3]) for value in row] for row in maps[0].tolist()]


def test_windows_fill_the_map_and_the_rest_is_nodata(tmp_path):
    path = tmp_path / "map.tif"
    with MapWriter(path, 300, 280, 2, NAMES) as writer:
        writer.write(np.ones((2, 100, 30), "uint8"), row=190, column=250)
        writer.write(np.zeros((2, 10, 280), "uint8"))
    with rasterio.open(path) as dataset:
        maps = dataset.read()
    expected = np.full((2, 300, 280), 255)
    expected[:, 190:290, 250:], expected[:, :10] = 1, 0
    assert np.array_equal(maps, expected)


@pytest.mark.parametrize(
    ("maps", "place", "problem"),
    [
        (np.zeros((2, 4, 4), "uint8"), {}, r"shape \(1, height, width\)"),
        (np.zeros((1, 4, 4), "int64"), {}, "uint8"),
        (np.zeros((4, 4), "uint8"), {}, "uint8"),
        ([[[0]]], {}, "list"),
        (np.zeros((1, 4, 4), "uint8"), {"row": 1}, "does not lie inside"),
        (np.zeros((1, 4, 4), "uint8"), {"column": -1}, "does not lie inside"),
        (np.full((1, 4, 4), 3, "uint8"), {}, "Value 3 has no class"),
    ],
)
def test_wrong_windows_leave_nothing_behind(tmp_path, maps, place, problem):
    with pytest.raises(RasterError, match=problem), MapWriter(tmp_path / "map.tif", 4, 4, 1, NAMES) as writer:
        writer.write(maps, **place)
    assert list(tmp_path.iterdir()) == []


def test_map_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "map.tif"

    def interrupted(shape, error):
        with MapWriter(path, *shape[1:], shape[0], NAMES) as writer:
            writer.write(np.full(shape, 1, "uint8"))
            raise error

    with pytest.raises(KeyboardInterrupt):
        interrupted((1, 4, 4), KeyboardInterrupt)
    assert list(tmp_path.iterdir()) == []
    write_maps(path, np.zeros((1, 4, 4), "uint8"))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert set(before) == {"map.tif", "map.tif.aux.xml"}
    # A failure keeps the earlier result.
    with pytest.raises(ZeroDivisionError):
        interrupted((2, 5, 5), ZeroDivisionError)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    # A success replaces it, sidecar and all.
    write_maps(path, np.ones((2, 5, 5), "uint8"))
    with rasterio.open(path) as dataset:
        assert dataset.count == 2
    assert set(os.listdir(tmp_path)) == set(before)


@pytest.mark.parametrize("failing", [1, 2])
def test_map_that_cannot_be_put_in_place_leaves_nothing(tmp_path, monkeypatch, failing):
    replace, calls = os.replace, []

    def fail(*names):
        calls.append(names)
        if len(calls) == failing:
            raise OSError("no")
        replace(*names)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(RasterError, match=r"map\.tif cannot be written: no"):
        write_maps(tmp_path / "map.tif", np.zeros((1, 4, 4), "uint8"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", [(0, 0), (150, 290), (299, 0)])
def test_a_pixel_that_got_lost_on_the_disk_is_noticed(tmp_path, monkeypatch, place):
    copy = rasterio.shutil.copy

    def lose(source, target, **options):
        with rasterio.open(source, "r+") as draft:
            draft.write(np.full((1, 1, 1), 2, "uint8"), window=Window(place[1], place[0], 1, 1))
        copy(source, target, **options)

    monkeypatch.setattr(rasterio.shutil, "copy", lose)
    with pytest.raises(RasterError, match=r"map\.tif cannot be written: rows .* do not read back"):
        write_maps(tmp_path / "map.tif", np.zeros((1, 300, 300), "uint8"))
    assert list(tmp_path.iterdir()) == []


def test_maps_are_cloud_optimized_and_overviews_hold_classes_only(tmp_path):
    path, maps = tmp_path / "map.tif", np.random.default_rng(0).choice(np.array([0, 2], "uint8"), size=(2, 1100, 900))
    write_maps(path, maps, transform=(10, 0, 500000, 0, -10, 5000000), crs="EPSG:32633")
    with rasterio.open(path) as dataset:
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.overviews(1) == [2, 4, 8]
        for factor in dataset.overviews(1):
            small = dataset.read(1, out_shape=(1100 // factor, 900 // factor))
            assert set(np.unique(small)) == {0, 2}  # no mean of classes


def test_wide_maps_hold_more_classes_than_a_byte(tmp_path):
    names = [f"class {index}" for index in range(300)]
    maps = np.arange(300, dtype="uint16").reshape(1, 20, 15)
    with MapWriter(tmp_path / "map.tif", 21, 15, 1, names, nodata=65535) as writer:
        writer.write(maps)
    with open_quietly(tmp_path / "map.tif") as dataset:
        assert np.array_equal(dataset.read()[:, :20], maps)
        assert (dataset.read()[:, 20] == 65535).all()
        assert class_names(dataset) == names


def test_shares_are_written_with_their_scale(tmp_path):
    array = np.arange(60, dtype="uint8").reshape(2, 5, 6)
    options = {"dtype": "uint8", "nodata": 255, "scale": 0.004, "tags": {"VALUES": "probability"}}
    with RasterWriter(tmp_path / "p.tif", 5, 6, 2, descriptions=["a", "b"], **options) as writer:
        writer.write(array)
    with open_quietly(tmp_path / "p.tif") as dataset:
        assert np.array_equal(dataset.read(), array)
        assert (dataset.scales, dataset.descriptions, dataset.nodata) == ((0.004, 0.004), ("a", "b"), 255)
        assert dataset.tags()["VALUES"] == "probability"
    assert [file.name for file in tmp_path.iterdir()] == ["p.tif"]


def test_quick_look_shows_maps_in_the_colours_of_the_file(tmp_path):
    colours = [(1, 2, 3), (200, 100, 50), (9, 99, 199)]
    maps = np.zeros((2, 400, 200), "uint8")
    maps[0, :200], maps[1, :, :100] = 1, 255
    write_maps(tmp_path / "map.tif", maps, colours=colours, descriptions=["before", "after"])
    write_quick_look(tmp_path / "map.tif", tmp_path / "look.png", size=320)
    picture = Image.open(tmp_path / "look.png").convert("RGB")
    counts = {colour: count for count, colour in picture.getcolors(picture.width * picture.height)}
    # 320 x 160 pixels a map: half of the first is class 1; the other half, and half of the second, class 0.
    assert counts[colours[1]] >= 160 * 160
    assert counts[colours[0]] >= 320 * 160
    assert counts[colours[2]] > 50  # in the legend
    assert picture.width < 2 * 400
    with pytest.raises(RasterError, match=r"\.png"):
        write_quick_look(tmp_path / "map.tif", tmp_path / "look.jpg")


def test_writing_needs_the_context(tmp_path):
    writer = MapWriter(tmp_path / "map.tif", 4, 4, 1, NAMES)
    with pytest.raises(RasterError, match="with MapWriter"):
        writer.write(np.zeros((1, 4, 4), "uint8"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"class_names": [str(i) for i in range(256)]}, "1 to 255 classes, got 256"),
        ({"class_names": []}, "got 0"),
        ({"nodata": 2}, "nodata must be free"),
        ({"nodata": 256}, "nodata must be free"),
        ({"height": 0}, "must be 1 or more"),
        ({"colours": [(0, 0, 0)]}, "each of 3 classes"),
        ({"colours": [(0, 0, 0), (1, 1, 1), (0, 0, 256)]}, "0 to 255"),
        ({"descriptions": ["a", "b"]}, "each of 1 maps"),
    ],
)
def test_impossible_maps_are_refused_at_once(tmp_path, change, problem):
    arguments = {"path": tmp_path / "map.tif", "height": 4, "width": 4, "num_maps": 1, "class_names": NAMES} | change
    with pytest.raises(RasterError, match=problem):
        MapWriter(**arguments)


def test_255_classes_fit(tmp_path):
    names = [f"class {index}" for index in range(255)]
    maps = np.arange(256, dtype="uint8").reshape(1, 16, 16)
    with MapWriter(tmp_path / "map.tif", 16, 16, 1, names) as writer:
        writer.write(maps)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(tmp_path / "map.tif") as dataset:
            assert np.array_equal(dataset.read(), maps)


def test_unknown_crs_of_a_map_is_refused_before_writing(tmp_path):
    for crs in ("EPSG:nonsense", "EPSG:999999", "somewhere"):
        with pytest.raises(RasterError, match=crs):
            MapWriter(tmp_path / "map.tif", 4, 4, 1, NAMES, crs=crs)
    assert list(tmp_path.iterdir()) == []


def test_output_is_checked_before_work(tmp_path, monkeypatch):
    check_writable(tmp_path / "map.tif")
    check_writable(tmp_path / "map.TIFF")
    (tmp_path / "folder.tif").mkdir()
    for path, problem in [
        (tmp_path / "map.png", r"\.tif or \.tiff"),
        (tmp_path / "map", r"\.tif or \.tiff"),
        (tmp_path / "folder.tif", "is a folder"),
        (tmp_path / "no" / "map.tif", "does not exist"),
    ]:
        with pytest.raises(RasterError, match=problem):
            check_writable(path)
        with pytest.raises(RasterError, match=problem):
            MapWriter(path, 4, 4, 1, NAMES)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(RasterError, match="not writable"):
        check_writable(tmp_path / "map.tif")
