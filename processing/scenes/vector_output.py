# Copyright 2026 The STSUN Authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""From class maps in GeoTIFF to polygons; needs pyogrio and shapely (`pip install 'stsun[vector]'`)."""

import json
import os
import secrets
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rasterio import Affine, features
from rasterio.io import DatasetReader
from rasterio.warp import transform as warp_points
from rasterio.windows import Window
from tqdm.auto import tqdm

from ..rasters.entries import PathLike
from ..rasters.records import RasterError
from .raster_output import check_writable, class_names, open_quietly

if TYPE_CHECKING:
    from shapely import Polygon

SUFFIXES = (".gpkg", ".geojson")
# Rows of a map are outlined together until they hold so many pixels.
_BAND_PIXELS = 2**22
_FIELDS = ("map", "description", "value", "class")


def check_polygons(path: PathLike) -> None:
    """Makes sure that polygons can be written, before any work is done for them.

    Args:
        path: the output file; one that exists will be replaced.

    Raises:
        RasterError: its name ends neither in .gpkg nor in .geojson, it cannot be written, or a library is missing.
    """
    check_writable(path, SUFFIXES)
    if missing := [name for name in ("pyogrio", "shapely") if find_spec(name) is None]:
        raise RasterError(f"Polygons need {' and '.join(missing)}. Install: pip install 'stsun[vector]'")


def check_geojson(path: PathLike, crs: Any) -> None:
    """Makes sure that polygons can be brought to the coordinates of GeoJSON, if that is what is asked for.

    Args:
        path: the output file.
        crs: that of the map; `None` = unknown.

    Raises:
        RasterError: the file is GeoJSON, and the map has no CRS.
    """
    if crs is None and Path(path).suffix.lower() == ".geojson":
        raise RasterError(f"{path} would be in longitude and latitude, but the map has no CRS. Write a .gpkg instead.")


def write_polygons(source: PathLike, path: PathLike, progress: bool = True) -> None:
    """Outlines the areas of one class in maps, pixels that share an edge.

    The map is read a few rows at a time. Areas that go on in the next rows wait for them and are joined, so that no
    outline is cut; all others are written at once. Memory depends on the width of the map and on the outlines that
    are unfinished at a time, not on its height. Each polygon has the fields `map` (number of the band), `description`,
    `value` and `class`.

    Args:
        source: the maps, a GeoTIFF that [`MapWriter`] wrote.
        path: the polygons: .gpkg, in the CRS of the map, or .geojson, in longitude and latitude (WGS 84) as RFC 7946
            asks. It appears when it is complete.
        progress: whether a progress bar is shown.

    Raises:
        RasterError: the file cannot be written, a library is missing, `source` holds no class names, or GeoJSON is
            asked for where the map has no CRS.
    """
    path = Path(path)
    check_polygons(path)
    with open_quietly(source) as dataset:
        check_geojson(path, dataset.crs)
    import pyogrio.errors

    # The suffix tells the driver.
    partial = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.partial{path.suffix}")
    try:
        with open_quietly(source) as dataset:
            names = class_names(dataset)
            if path.suffix.lower() == ".gpkg":
                _write_geopackage(partial, dataset, names, progress)
            else:
                _write_geojson(partial, dataset, names, progress)
        os.replace(partial, path)
    except (OSError, pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise RasterError(f"{path} cannot be written: {error}") from error
    finally:
        for left in (partial, *(partial.with_name(partial.name + end) for end in ("-journal", "-wal", "-shm"))):
            left.unlink(missing_ok=True)


def _write_geopackage(path: Path, dataset: DatasetReader, names: list[str], progress: bool) -> None:
    import pyogrio.raw
    import shapely

    append = False
    for polygons, rows in _batches(dataset, names, progress):
        columns = list(zip(*rows, strict=True)) or [()] * len(_FIELDS)
        kinds = (np.int32, object, np.int32, object)
        with warnings.catch_warnings():
            # A map without CRS has areas without.
            warnings.filterwarnings("ignore", message="'crs' was not provided")
            pyogrio.raw.write(
                path,
                shapely.to_wkb(polygons),
                [np.array(column, dtype=kind) for column, kind in zip(columns, kinds, strict=True)],
                _FIELDS,
                layer="areas",
                driver="GPKG",
                geometry_type="Polygon",
                crs=None if dataset.crs is None else dataset.crs.to_wkt(),
                append=append,
            )
        append = True


def _write_geojson(path: Path, dataset: DatasetReader, names: list[str], progress: bool) -> None:
    import shapely

    def to_degrees(points: np.ndarray) -> np.ndarray:
        return np.transpose(warp_points(dataset.crs, "EPSG:4326", *points.T))

    with open(path, "w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        separator = "\n"
        for polygons, rows in _batches(dataset, names, progress):
            polygons = shapely.orient_polygons(shapely.transform(polygons, to_degrees), exterior_cw=False)
            for polygon, row in zip(polygons, rows, strict=True):
                # 7 decimals of a degree are a centimetre.
                rings = [
                    [[round(x, 7), round(y, 7)] for x, y in ring.coords]
                    for ring in (polygon.exterior, *polygon.interiors)
                ]
                feature = {
                    "type": "Feature",
                    "properties": dict(zip(_FIELDS, row, strict=True)),
                    "geometry": {"type": "Polygon", "coordinates": rings},
                }
                file.write(separator + json.dumps(feature))
                separator = ",\n"
        file.write("\n]}\n")


def _batches(
    dataset: DatasetReader, names: list[str], progress: bool
) -> Iterator[tuple[np.ndarray, list[tuple[int, str, int, str]]]]:
    """Finished polygons in map coordinates, and their fields."""
    import shapely

    to_map = _affine(dataset.transform)
    bands = max(1, _BAND_PIXELS // dataset.width)
    total = dataset.count * -(-dataset.height // bands)
    with tqdm(total=total, desc="polygons", unit="band", disable=not progress) as bar:
        for index, text in zip(dataset.indexes, dataset.descriptions, strict=True):
            for areas in _outline(dataset, index, bands):
                polygons = np.array([polygon for polygon, _ in areas], dtype=object)
                rows = [(index, text or f"map {index}", value, names[value]) for _, value in areas]
                yield (shapely.transform(polygons, to_map) if len(polygons) else polygons), rows
                bar.update()


def _affine(transform: Affine) -> Callable[[np.ndarray], np.ndarray]:
    matrix, offset = np.array([[transform.a, transform.b], [transform.d, transform.e]]), (transform.c, transform.f)
    return lambda points: points @ matrix.T + offset


def _outline(dataset: DatasetReader, index: int, num_rows: int) -> Iterator[list[tuple["Polygon", int]]]:
    """Areas of a band in pixel coordinates, each with its value, as soon as the rows read so far complete them."""
    from shapely.geometry import shape

    waiting: list[tuple[Polygon, int]] = []
    above = None
    for row in range(0, dataset.height, num_rows):
        window = Window(0, row, dataset.width, min(num_rows, dataset.height - row))
        values = dataset.read(index, window=window)
        found = features.shapes(
            values if values.dtype == np.uint8 else values.astype(np.int32),
            mask=values != dataset.nodata,
            connectivity=4,
            transform=Affine.translation(0, row),
        )
        areas = [(shape(geometry), int(value)) for geometry, value in found]
        if above is not None:
            areas = _join(waiting, areas, row, above == values[0])
        end = row + window.height
        last = end == dataset.height
        waiting = [] if last else [area for area in areas if area[0].bounds[3] == end]
        yield areas if last else [area for area in areas if area[0].bounds[3] < end]
        above = values[-1]


def _join(
    waiting: list[tuple["Polygon", int]], areas: list[tuple["Polygon", int]], row: int, same: np.ndarray
) -> list[tuple["Polygon", int]]:
    """Unites areas above a row with those below it wherever `same` says that the pixels above and below are equal."""
    import shapely

    everything = [*waiting, *areas]
    owners = np.full((2, len(same)), -1)
    for number, (polygon, _) in enumerate(everything):
        side = int(number >= len(waiting))
        if polygon.bounds[1 if side else 3] != row:
            continue
        x, y = np.asarray(polygon.exterior.coords).T
        on_row = (y[:-1] == row) & (y[1:] == row)
        for first, last in zip(x[:-1][on_row], x[1:][on_row], strict=True):
            owners[side, int(min(first, last)) : int(max(first, last))] = number
    touching = np.unique(owners[:, same & (owners >= 0).all(0)], axis=1)

    # Union-find over the areas that touch.
    parents = list(range(len(everything)))

    def root(number: int) -> int:
        while parents[number] != number:
            parents[number] = parents[parents[number]]
            number = parents[number]
        return number

    for upper, lower in touching.T:
        parents[root(int(upper))] = root(int(lower))
    groups: dict[int, list[int]] = {}
    for number in range(len(everything)):
        groups.setdefault(root(number), []).append(number)
    joined = []
    for numbers in groups.values():
        polygon, value = everything[numbers[0]]
        if len(numbers) > 1:
            union = shapely.union_all([everything[number][0] for number in numbers])
            # Straight edges that went through the row have a point there that turns nowhere.
            polygon = shapely.Polygon(_corners(union.exterior), [_corners(ring) for ring in union.interiors])
        joined.append((polygon, value))
    return joined


def _corners(ring: Any) -> np.ndarray:
    """Points of a ring of horizontal and vertical edges at which it turns."""
    points = np.asarray(ring.coords)[:-1]
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    return points[(before[:, 0] == 0) != (after[:, 0] == 0)]
