"""Polygons of maps: every pixel in the area of its class, no outline cut, bounded memory."""

import json
import sys

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.features import rasterize
from rasterio.warp import transform

from stsun_processing.rasters.records import RasterError
from stsun_processing.scenes import vector_output
from stsun_processing.scenes.raster_output import MapWriter, open_quietly
from stsun_processing.scenes.vector_output import write_polygons

shapely = pytest.importorskip("shapely", reason="the extra `vector` is not installed")
pyogrio = pytest.importorskip("pyogrio", reason="the extra `vector` is not installed")

NAMES = ("water", "forest", "built-up")
GRID = {"crs": "EPSG:32633", "transform": (10, 0, 500_000, 0, -10, 5_000_000)}


def write_map(path, maps, **grid):
    with MapWriter(path, *maps.shape[1:], len(maps), NAMES, **grid) as writer:
        writer.write(maps)
    return path


def read_polygons(path):
    meta, _, geometry, columns = pyogrio.raw.read(path)
    return meta, shapely.from_wkb(geometry), dict(zip(meta["fields"], columns, strict=True))


def count_areas(labels):
    """Areas of equal values whose pixels share edges, by flood fill; 255 is none."""
    left, count = {tuple(place) for place in np.argwhere(labels != 255)}, 0
    while left:
        count, front = count + 1, [left.pop()]
        while front:
            row, column = front.pop()
            for place in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)):
                if place in left and labels[place] == labels[row, column]:
                    left.remove(place)
                    front.append(place)
    return count


def outlines(path, num_rows):
    with open_quietly(path) as dataset:
        return [area for areas in vector_output._outline(dataset, 1, num_rows) for area in areas]


@settings(max_examples=60)
@given(st.integers(1, 14), st.integers(1, 14), st.integers(1, 5), st.integers(0, 2**31), st.sampled_from([2, 4]))
def test_areas_are_whole_wherever_the_map_is_cut(tmp_path_factory, height, width, num_rows, seed, values):
    labels = np.random.default_rng(seed).choice(np.array([0, 1, 2, 255], "uint8")[:values], size=(height, width))
    path = write_map(tmp_path_factory.getbasetemp() / "cut.tif", labels[None], transform=(1, 0, 0, 0, 1, 0))
    areas = outlines(path, num_rows)
    assert len(areas) == count_areas(labels)
    assert all(polygon.is_valid for polygon, _ in areas)
    drawn = np.full(labels.shape, 255, "uint8")
    if areas:
        rasterize(areas, out=drawn)
    assert np.array_equal(drawn, labels)
    # The same outlines, point by point, as of the map in one piece: no point marks where it was cut.
    single = outlines(path, height)
    expected = {(shapely.normalize(polygon).wkb, value) for polygon, value in single}
    assert {(shapely.normalize(polygon).wkb, value) for polygon, value in areas} == expected


def test_geopackage_holds_areas_with_their_classes_in_the_crs_of_the_map(tmp_path, monkeypatch):
    monkeypatch.setattr(vector_output, "_BAND_PIXELS", 40)
    maps = np.random.default_rng(0).choice(np.array([0, 1, 2, 255], "uint8"), size=(2, 13, 12))
    source = write_map(tmp_path / "map.tif", maps, **GRID, descriptions=["2021-01-03", "2021-03-01"])
    write_polygons(source, tmp_path / "areas.gpkg", progress=False)
    meta, polygons, columns = read_polygons(tmp_path / "areas.gpkg")
    assert meta["crs"] == "EPSG:32633"
    assert list(meta["fields"]) == ["map", "description", "value", "class"]
    for index in (1, 2):
        own = columns["map"] == index
        drawn = rasterize(
            list(zip(polygons[own], columns["value"][own], strict=True)),
            out=np.full((13, 12), 255, "uint8"),
            transform=rasterio.Affine(*GRID["transform"]),
        )
        assert np.array_equal(drawn, maps[index - 1])
        assert set(columns["description"][own]) == {("2021-01-03", "2021-03-01")[index - 1]}
    assert [NAMES[value] for value in columns["value"]] == columns["class"].tolist()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["areas.gpkg", "map.tif", "map.tif.aux.xml"]


def test_geojson_is_in_degrees_and_turns_left(tmp_path):
    maps = np.array([[[0, 0, 1], [0, 1, 1], [0, 255, 1]]], dtype="uint8")
    source = write_map(tmp_path / "map.tif", maps, **GRID)
    write_polygons(source, tmp_path / "areas.geojson", progress=False)
    found = json.loads((tmp_path / "areas.geojson").read_text())
    assert found["type"] == "FeatureCollection"
    assert [feature["properties"]["class"] for feature in found["features"]] == ["water", "forest"]
    polygons = [shapely.geometry.shape(feature["geometry"]) for feature in found["features"]]
    assert all(polygon.exterior.is_ccw for polygon in polygons)
    (left,), (top,) = transform("EPSG:32633", "EPSG:4326", [500_000], [5_000_000])
    assert polygons[0].bounds[0] == pytest.approx(left, abs=1e-6)
    assert polygons[0].bounds[3] == pytest.approx(top, abs=1e-6)
    assert 44 < top < 46


def test_a_map_without_any_class_has_no_areas(tmp_path):
    source = write_map(tmp_path / "map.tif", np.full((1, 5, 5), 255, "uint8"), **GRID)
    for name in ("areas.gpkg", "areas.geojson"):
        write_polygons(source, tmp_path / name, progress=False)
        assert len(read_polygons(tmp_path / name)[1]) == 0


def test_what_cannot_be_written_is_refused_and_leaves_nothing(tmp_path, monkeypatch):
    source = write_map(tmp_path / "map.tif", np.zeros((1, 5, 5), "uint8"))
    with pytest.raises(RasterError, match=r"no CRS.*\.gpkg"):
        write_polygons(source, tmp_path / "areas.geojson", progress=False)
    with pytest.raises(RasterError, match=r"\.gpkg or \.geojson"):
        write_polygons(source, tmp_path / "areas.shp", progress=False)
    with pytest.raises(RasterError, match="does not exist"):
        write_polygons(source, tmp_path / "no" / "areas.gpkg", progress=False)
    with rasterio.open(tmp_path / "other.tif", "w", "GTiff", 5, 5, 1, dtype="uint8", **GRID):
        pass
    with pytest.raises(RasterError, match="CLASS_NAMES"):
        write_polygons(tmp_path / "other.tif", tmp_path / "areas.gpkg", progress=False)
    monkeypatch.setattr(vector_output, "find_spec", lambda name: None if name == "pyogrio" else sys)
    with pytest.raises(RasterError, match=r"pyogrio.*stsun\[vector\]"):
        write_polygons(source, tmp_path / "areas.gpkg", progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.tif", "map.tif.aux.xml", "other.tif"]


def test_a_map_without_crs_goes_into_a_geopackage(tmp_path):
    source = write_map(tmp_path / "map.tif", np.zeros((1, 5, 5), "uint8"), transform=(2, 0, 1, 0, -2, 9))
    write_polygons(source, tmp_path / "areas.gpkg", progress=False)
    _, polygons, _ = read_polygons(tmp_path / "areas.gpkg")
    assert polygons[0].bounds == (1, -1, 11, 9)
