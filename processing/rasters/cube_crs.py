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
"""The coordinate reference system that an xarray data set states."""

from collections.abc import Hashable, Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from rasterio import CRS
from rasterio.errors import CRSError

from .cube_layout import Layout, grid_mappings, raster_attributes
from .records import RasterError, abridged

if TYPE_CHECKING:
    from xarray import Dataset

# Attributes that hold a CRS: of rioxarray and stackstac, and of the conventions of STAC and Zarr.
_CRS_ATTRIBUTES = ("crs", "proj:code", "proj:epsg", "proj:wkt2", "proj:projjson")
# One of these makes a variable a grid mapping of CF.
_CF_CRS = {"crs_wkt", "spatial_ref", "grid_mapping_name"}


def grid_mapping_of(dataset: "Dataset", layout: Layout, name: str) -> Hashable | None:
    """The variable of the grid mapping (CF 5.6) that all rasters share; `None` if there is none.

    Args:
        dataset: the data set.
        layout: what its dimensions mean.
        name: what messages call it.

    Raises:
        RasterError: rasters name several, or one that is missing.
    """
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


def crs_of(
    dataset: "Dataset",
    layout: Layout,
    name: str,
    mapping: Hashable | None,
) -> CRS | None:
    """The CRS, which all that state it must agree on; `None` if nothing does.

    Args:
        dataset: the data set.
        layout: what its dimensions mean.
        name: what messages call it.
        mapping: the variable of its grid mapping.

    Raises:
        RasterError: a statement cannot be read, or two contradict each other.
    """
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
    for attributes in raster_attributes(dataset, layout):
        for key in _CRS_ATTRIBUTES:
            if attributes.get(key) is not None:
                yield _crs_input(key, attributes[key]), f"attribute {key}"
    # stackstac's own; those of the projection extension (`proj:epsg`) are of the items that it warped.
    if "epsg" in dataset.coords and not dataset.coords["epsg"].ndim:
        yield _crs_input("epsg", dataset.coords["epsg"].values.item()), "coordinate epsg"


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
