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
"""Where the pixels of an xarray data set lie: coordinate reference system and affine transform."""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from rasterio import CRS, Affine
from rasterio.control import GroundControlPoint
from rasterio.errors import CRSError

from .cube_layout import Layout, grid_mappings
from .quantities import unit_key
from .records import RasterError, abridged

if TYPE_CHECKING:
    try:  # noqa: SIM105 (hides it from the check of what a checkpoint's code needs)
        from xarray import DataArray, Dataset
    except ImportError:
        pass

# Coordinates are stored rounded: what differs by less than this share of a pixel is the same.
_TOLERANCE_PIXELS = 0.01
# Pixel sizes that differ by less than this share are one.
_STEP = 1e-6
# Metres in one unit of an axis.
_METRES = {"m": 1.0, "meter": 1.0, "metre": 1.0, "km": 1e3, "kilometer": 1e3, "kilometre": 1e3}
# Attributes that hold a CRS: of rioxarray and stackstac, and of the conventions of STAC and Zarr.
_CRS_ATTRIBUTES = ("crs", "proj:code", "proj:epsg", "proj:wkt2", "proj:projjson")
# One of these makes a variable a grid mapping of CF.
_CF_CRS = {"crs_wkt", "spatial_ref", "grid_mapping_name"}
# Attributes that hold the six coefficients of an `Affine`, of the same.
_TRANSFORM_ATTRIBUTES = ("transform", "spatial:transform", "proj:transform")


@dataclass(frozen=True)
class Georeference:
    """Where the pixels lie; as in [`RasterSource`]."""

    crs: CRS | None
    transform: Affine | None
    gcps: tuple[Sequence[GroundControlPoint], CRS | None] = ((), None)


@dataclass(frozen=True)
class _Transform:
    """A transform that is stated beside the axes, and where."""

    affine: Affine
    source: str


def georeference(dataset: "Dataset", layout: Layout, name: str, is_file: bool) -> Georeference:
    """Finds where the pixels lie.

    Args:
        dataset: the data set.
        layout: what its dimensions mean.
        name: what messages call it.
        is_file: whether it is a whole file; an object may be a part of a larger grid.

    Returns:
        CRS, transform and ground control points, each as far as something states it.

    Raises:
        RasterError: axes are no regular grid, or two statements contradict each other.
    """
    mapping = _grid_mapping(dataset, layout, name)
    crs = _crs(dataset, layout, name, mapping)
    stated = list(_stated_transforms(dataset, layout, name, mapping))
    axes = _axes(dataset, layout, name, crs, stated)
    shape = dataset.sizes[layout.y], dataset.sizes[layout.x]
    centre = _first_centre(dataset)
    transform = _agreed(name, axes, centre, stated, shape, is_file)
    points = _ground_control_points(dataset, mapping)
    if transform is None and points:
        return Georeference(None, None, (points, crs))
    return Georeference(crs, transform)


def _sources(dataset: "Dataset", layout: Layout) -> Iterator[Mapping[Any, Any]]:
    """Attributes of the rasters, then those of the data set."""
    for variable in dict.fromkeys(band.variable for band in layout.bands):
        yield dataset[variable].attrs
    yield dataset.attrs


# CRS


def _grid_mapping(dataset: "Dataset", layout: Layout, name: str) -> Hashable | None:
    """The one variable that states the CRS of all rasters."""
    named = grid_mappings(dataset, [band.variable for band in layout.bands])
    if len(named) > 1:
        raise RasterError(
            f"{name} has variables on several grid mappings ({abridged(named)}). Name those of one "
            "to read with parts=[...] (--parts)."
        )
    if not named:
        # The name that rioxarray gives it.
        return "spatial_ref" if "spatial_ref" in dataset.variables else None
    if named[0] not in dataset.variables:
        raise RasterError(
            f"{name} names the grid mapping {named[0]!r}, but does not hold it. Open it with "
            "decode_coords='all', which keeps it with each array, or write the CRS "
            "(array.rio.write_crs)."
        )
    return named[0]


def _crs(dataset: "Dataset", layout: Layout, name: str, mapping: Hashable | None) -> CRS | None:
    """The CRS, which all that state it must agree on."""
    stated = []
    for value, source in _stated_crs(dataset, layout, mapping):
        try:
            stated.append((_read_crs(value), source))
        except (CRSError, ValueError, TypeError, RuntimeError) as error:
            raise RasterError(
                f"{name} has a coordinate system that cannot be read ({source}): {error} Write it "
                "again (dataset.rio.write_crs) and pass the xarray object."
            ) from error
    for other, source in stated[1:]:
        codes = stated[0][0].to_epsg(), other.to_epsg()
        if None not in codes and codes[0] != codes[1]:
            raise RasterError(
                f"{name} states two coordinate systems: EPSG:{codes[0]} ({stated[0][1]}) and "
                f"EPSG:{codes[1]} ({source}). Correct one, or write the right one "
                "(dataset.rio.write_crs), delete the other and pass the xarray object."
            )
    return stated[0][0] if stated else None


def _stated_crs(
    dataset: "Dataset",
    layout: Layout,
    mapping: Hashable | None,
) -> Iterator[tuple[Any, str]]:
    """What states a CRS, and where."""
    if mapping is not None and not _CF_CRS.isdisjoint(dataset.variables[mapping].attrs):
        yield dataset.variables[mapping].attrs, f"grid mapping {mapping}"
    for attributes in _sources(dataset, layout):
        for key in _CRS_ATTRIBUTES:
            if attributes.get(key) is not None:
                yield _crs_input(key, attributes[key]), f"attribute {key}"
    for key in ("epsg", "proj:epsg", "proj:code"):
        coordinate = dataset.coords.get(key)
        if coordinate is not None and not coordinate.ndim and coordinate.values.item() is not None:
            yield _crs_input(key, coordinate.values.item()), f"coordinate {key}"


def _crs_input(key: str, value: Any) -> Any:
    return f"EPSG:{value}" if key.endswith("epsg") else value


def _read_crs(value: Any) -> CRS:
    """A CRS from attributes of a CF grid mapping, PROJJSON, or whatever else rioxarray takes."""
    if isinstance(value, Mapping):
        crs_class = import_module("pyproj").CRS
        is_cf = not _CF_CRS.isdisjoint(value)
        value = crs_class.from_cf(dict(value)) if is_cf else crs_class.from_json_dict(dict(value))
    crs: CRS = import_module("rioxarray.crs").crs_from_user_input(value)
    return crs


def _ground_control_points(
    dataset: "Dataset",
    mapping: Hashable | None,
) -> Sequence[GroundControlPoint]:
    """The points that rioxarray keeps with the grid mapping."""
    if mapping is None or "gcps" not in dataset.variables[mapping].attrs:
        return ()
    points: Sequence[GroundControlPoint] = dataset.set_coords([mapping]).rio.get_gcps()
    return points


# Transforms that are stated


def _stated_transforms(
    dataset: "Dataset",
    layout: Layout,
    name: str,
    mapping: Hashable | None,
) -> Iterator[_Transform]:
    """Transforms that stand beside the axes, each once; the identity says that there is none."""
    value = None if mapping is None else dataset.variables[mapping].attrs.get("GeoTransform")
    if value is not None:
        numbers = _numbers(value.split() if isinstance(value, str) else value)
        if len(numbers) != 6:
            raise RasterError(
                f"{name} has the GeoTransform {value!r} (grid mapping {mapping}); six numbers are "
                "expected. Write it again (dataset.rio.write_transform)."
            )
        if (affine := Affine.from_gdal(*numbers)) != Affine.identity():
            yield _Transform(affine, f"GeoTransform of {mapping}")
    seen = []
    for attributes in _sources(dataset, layout):
        for key in _TRANSFORM_ATTRIBUTES:
            numbers = _numbers(attributes.get(key))
            affine = Affine(*numbers[:6]) if len(numbers) in (6, 9) else Affine.identity()
            if key == "spatial:transform" and attributes.get("spatial:registration") == "node":
                # It leads to the centres of pixels, not to their corners.
                affine = _shifted(affine, -0.5, -0.5)
            if affine != Affine.identity() and affine not in seen:
                seen.append(affine)
                yield _Transform(affine, f"attribute {key}")


def _numbers(value: Any) -> list[float]:
    """The numbers of a list or an `Affine`; none if it is something else."""
    if not isinstance(value, Iterable) or isinstance(value, (str, Mapping, Set)):
        return []
    try:
        return [float(item) for item in value]
    except (TypeError, ValueError):
        return []


# Axes


def _axes(
    dataset: "Dataset",
    layout: Layout,
    name: str,
    crs: CRS | None,
    stated: Sequence[_Transform],
) -> Affine | None:
    """The transform that the coordinates of rows and columns give; `None` if there are none."""
    steps = (stated[0].affine.a, stated[0].affine.e) if stated else (0.0, 0.0)
    x = _axis(dataset, layout.x, name, crs, steps[0])
    y = _axis(dataset, layout.y, name, crs, steps[1])
    if x is None or y is None:
        return None
    (left, width), (top, height) = x, y
    transform = Affine(width, 0, left, 0, height, top)
    return None if transform == Affine.identity() else transform


def _axis(
    dataset: "Dataset", dim: Hashable, name: str, crs: CRS | None, stated_step: float
) -> tuple[float, float] | None:
    """Outer edge of the first pixel, and step, in units of the CRS; `None` if unknown."""
    # xarray numbers dimensions without coordinates when it is asked for them.
    if dim not in dataset.coords or not dataset.sizes[dim]:
        return None
    coordinate = dataset.coords[dim]
    values = np.asarray(coordinate.values)
    if values.ndim != 1 or values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise RasterError(
            f"{name} has no numbers as coordinate {dim!r}. Rasters on a regular grid are read. Give it "
            "some (dataset.assign_coords) and pass the xarray object."
        )
    values = values.astype(np.float64) * _axis_factor(coordinate, crs)
    if len(values) == 1:
        # One pixel has no step; odc-geo states it with the coordinate.
        step = float(coordinate.attrs.get("resolution", stated_step))
        return (float(values[0]) - step / 2, step) if step else None
    step = float(values[-1] - values[0]) / (len(values) - 1)
    even = values[0] + step * np.arange(len(values))
    if step == 0 or np.abs(values - even).max() > _TOLERANCE_PIXELS * abs(step):
        raise RasterError(
            f"{name} is no regular grid: the steps of coordinate {dim!r} differ. Interpolate it to "
            "one (dataset.interp) and pass the xarray object."
        )
    return float(values[0]) - step / 2, step


def _axis_factor(coordinate: "DataArray", crs: CRS | None) -> float:
    """Units of the CRS in one unit of an axis, which may be km, or radians seen by a satellite."""
    unit = unit_key(str(coordinate.attrs.get("units", "")))
    if crs is None or not crs.is_projected:
        return 1.0
    if unit in _METRES:
        return _METRES[unit] / float(crs.linear_units_factor[1])
    parameters = crs.to_dict()
    if unit in ("rad", "radian") and parameters.get("proj") == "geos":
        return float(parameters["h"])
    return 1.0


# Both together


def _agreed(
    name: str,
    axes: Affine | None,
    centre: tuple[float, float] | None,
    stated: Sequence[_Transform],
    shape: tuple[int, int],
    is_file: bool,
) -> Affine | None:
    """The transform that axes (or the centre of the first pixel) and statements agree on."""
    found = axes
    for number, one in enumerate(stated):
        if axes is not None:
            affine = _with_axes(name, axes, one, shape, is_file)
        else:
            affine = one.affine if centre is None else _from_centre(name, centre, one)
        if number and found is not None and not _is_same(found, affine, shape):
            raise _contradiction(name, stated[0].affine, stated[0].source, one)
        found = found if number else affine
    return found


def _with_axes(
    name: str,
    axes: Affine,
    stated: _Transform,
    shape: tuple[int, int],
    is_file: bool,
) -> Affine:
    """The transform that axes and one statement agree on, as exactly as it is stated."""
    if _is_same(stated.affine, axes, shape):
        return stated.affine
    if _is_turned(stated.affine, axes, shape):
        return axes
    if stated.affine.determinant:
        # Where the axes' grid begins in the stated one, and its steps, in pixels of that.
        relative = np.linalg.solve(_matrix(stated.affine), _matrix(axes))
        column, row = relative[:2, 2]
        is_upright = np.allclose(relative[:2, :2], np.eye(2), atol=_STEP)
        has_same_pixels = np.allclose(np.abs(relative[:2, :2]), np.eye(2), atol=_STEP)
        # stackstac's coordinates are by default those of the pixels' upper left corners.
        corner = column + 0.5, row + 0.5
        is_whole_grid = not np.round(corner).any()
        are_corners = stated.source == "attribute transform" and is_upright and _is_whole(*corner)
        if are_corners and (is_whole_grid or not is_file):
            return _shifted(stated.affine, *np.round(corner))
        # Slicing and sorting an object leave the transform of the whole grid behind.
        if has_same_pixels and _is_whole(column, row) and not is_file:
            return axes
        # Without coordinates, stackstac numbers rows and columns.
        if (axes.a, axes.e) == (1, 1) and _is_whole(axes.c + 0.5, axes.f + 0.5):
            return _shifted(stated.affine, round(axes.c + 0.5), round(axes.f + 0.5))
    raise _contradiction(name, axes, "coordinates", stated)


def _first_centre(dataset: "Dataset") -> tuple[float, float] | None:
    """The centre of the first pixel of a rotated grid: rioxarray keeps those of all pixels."""
    centres = [dataset.coords[key] for key in ("xc", "yc") if key in dataset.coords]
    found = [float(one.values[0, 0]) for one in centres if one.ndim == 2 and one.size]
    return (found[0], found[1]) if len(found) == 2 else None


def _from_centre(name: str, centre: tuple[float, float], stated: _Transform) -> Affine:
    """The transform of the part of a rotated grid that begins with the pixel around a point."""
    if stated.affine.determinant:
        position = np.linalg.solve(_matrix(stated.affine), np.array([*centre, 1.0]))
        column, row = position[:2] - 0.5
        if _is_whole(column, row):
            return _shifted(stated.affine, round(column), round(row))
    raise RasterError(
        f"{name} has its first pixel at {centre[0]:.10g}, {centre[1]:.10g} by its coordinates xc "
        f"and yc, which is none of the grid {_text(stated.affine)} of its {stated.source}. Delete "
        "what is wrong and pass the xarray object."
    )


def _is_whole(column: float, row: float) -> bool:
    """Whether an offset lies inside a grid, at whole pixels."""
    offset = np.array([column, row])
    off = np.abs(offset - offset.round()).max()
    return bool(off <= _TOLERANCE_PIXELS and offset.min() > -_TOLERANCE_PIXELS)


def _is_same(one: Affine, other: Affine, shape: tuple[int, int]) -> bool:
    """Whether no corner of a raster differs."""
    if one.determinant == 0:
        return bool(one == other)
    height, width = shape
    corners = np.array([[0, width, 0, width], [0, 0, height, height], [1, 1, 1, 1]])
    moved = np.linalg.solve(_matrix(one), _matrix(other) @ corners)
    return bool(np.abs(moved - corners).max() <= _TOLERANCE_PIXELS)


def _is_turned(stated: Affine, axes: Affine, shape: tuple[int, int]) -> bool:
    """Whether axes run the other way: GDAL writes netCDF bottom-up, but its transforms top-down."""
    height, width = shape
    down, left = Affine(1, 0, 0, 0, -1, height), Affine(-1, 0, width, 0, 1, 0)
    turns = (down, left, _product(down, left))
    return any(_is_same(stated, _product(axes, turn), shape) for turn in turns)


def _matrix(affine: Affine) -> np.ndarray:
    return np.array(tuple(affine), dtype=np.float64).reshape(3, 3)


def _product(one: Affine, other: Affine) -> Affine:
    """The transform that applies `other`, then `one`; releases of affine differ in the operator."""
    return Affine(*(_matrix(one) @ _matrix(other)).ravel()[:6].tolist())


def _shifted(affine: Affine, column: float, row: float) -> Affine:
    """The transform of the grid that begins at this pixel."""
    return _product(affine, Affine.translation(float(column), float(row)))


def _contradiction(name: str, affine: Affine, source: str, stated: _Transform) -> RasterError:
    return RasterError(
        f"{name} states two transforms: {_text(affine)} by its {source}, and "
        f"{_text(stated.affine)} by its {stated.source}. Delete what is wrong, or write the "
        "coordinates' transform over it (dataset.rio.write_transform()), and pass the xarray object."
    )


def _text(affine: Affine) -> str:
    return f"({', '.join(f'{value:.10g}' for value in tuple(affine)[:6])})"
