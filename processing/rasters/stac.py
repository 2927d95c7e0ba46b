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

"""STAC items as inputs: which files one has, and what it says of them.

Reads items of STAC 1.0 (`eo:bands`, `raster:bands`) and 1.1 (`bands`), and of GDAL's making, from a local JSON file or
a dictionary such as pystac's `Item.to_dict()` gives.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .statements import RASTER_SUFFIXES, RasterError, Tag, abridged

if TYPE_CHECKING:
    try:  # noqa: SIM105 (hides it from the check of what a checkpoint's code needs)
        from rasterio.io import DatasetReader
    except ImportError:
        pass

ITEM_SUFFIXES = (".json", ".geojson")

_RASTER_TYPES = (
    "image/tiff",
    "image/jp2",
    "image/vnd.stac.geotiff",
    "application/x-geotiff",
    "image/png",
    "image/jpeg",
)
# Assets with these roles (STAC best practices, "List of asset roles") are no input, unless they are asked for.
_OTHER_ROLES = {"thumbnail", "overview", "visual", "metadata", "date", "data-mask", "cloud", "cloud-shadow", "snow-ice"}
_OTHER_ROLES |= {"land-water", "water-mask", "iso-19115", "saturation"}
# Fields of the EO, raster and SAR extensions, and of STAC 1.1's common metadata, by what this package calls them.
_BAND_FIELDS = {
    **{"name": "name", "common_name": "common_name", "eo:common_name": "common_name"},
    **{"center_wavelength": "wavelength_um", "eo:center_wavelength": "wavelength_um"},
    **{"full_width_half_max": "fwhm_um", "eo:full_width_half_max": "fwhm_um"},
    **{"nodata": "nodata", "scale": "scale", "raster:scale": "scale", "offset": "offset", "raster:offset": "offset"},
    "sar:polarizations": "polarisation",
}
# Those that may stand beside an asset's list of bands and hold for all of them.
_SHARED_FIELDS = [field for field in _BAND_FIELDS if field == "nodata" or field.startswith(("eo:", "raster:"))]
_ITEM_FIELDS = ("platform", "gsd", "datetime")


@dataclass(frozen=True)
class Asset:
    """One file of an item.

    Args:
        path: where it is, as GDAL takes it.
        key: its key in the item.
        tags: what the item says of the whole file.
        shared: what it says of all bands alike.
        bands: what it says of each band; empty if it lists none.
    """

    path: str
    key: str
    tags: tuple[Tag, ...]
    shared: tuple[Tag, ...]
    bands: tuple[tuple[Tag, ...], ...]

    def tags_of_band(self, index: int, dataset: "DatasetReader") -> tuple[Tag, ...]:
        """What the item says of band `index` (from 1) of the open file.

        Raises:
            RasterError: it lists another number of bands than the file holds.
        """
        channels = [number for number in dataset.indexes if dataset.colorinterp[number - 1].name != "alpha"]
        if not self.bands:
            name = Tag("name", "STAC asset", self.key)
            return (*self.shared, name) if len(channels) == 1 else self.shared
        # Items may leave the alpha band out.
        for numbers in (list(dataset.indexes), channels):
            if len(numbers) == len(self.bands):
                own = self.bands[numbers.index(index)] if index in numbers else ()
                # A band's own field overrides that of its asset (STAC 1.1).
                return (*(tag for tag in self.shared if tag.key not in {one.key for one in own}), *own)
        raise RasterError(
            f"Asset {self.key!r} of the STAC item lists {len(self.bands)} bands, but {self.path} holds "
            f"{dataset.count}. Correct the item, or name the file itself in its place."
        )


def read_item(item: str | os.PathLike[str] | Mapping[str, Any], parts: Sequence[str] | None) -> list[Asset]:
    """The assets of a STAC item that hold the pixels of one date.

    Args:
        item: a local JSON file, relative to which its links are read, or the item's dictionary, relative to its link
            `self` or else to the working directory.
        parts: keys of the assets, in this order; `None` = all rasters with the role `data`, or without a role.

    Returns:
        At least one asset.

    Raises:
        RasterError: not a STAC item, or an asset is missing.
    """
    if isinstance(item, Mapping):
        fields, where = item, f"STAC item {item.get('id')!r}"
        links = item.get("links") if isinstance(item.get("links"), list) else []
        own = [link.get("href") for link in links if isinstance(link, Mapping) and link.get("rel") == "self"]
        folder = os.path.dirname(own[0]) if own and isinstance(own[0], str) else ""
    else:
        where, folder = os.fspath(item), os.path.dirname(os.fspath(item))
        fields = _load(where)
    assets = fields.get("assets") if isinstance(fields, Mapping) else None
    if not isinstance(assets, Mapping) or not assets or not all(isinstance(one, Mapping) for one in assets.values()):
        raise RasterError(
            f"{where} is no STAC item: an object with 'assets' is expected (type Feature). Name rasters, or items with "
            "assets."
        )
    properties = fields.get("properties") if isinstance(fields.get("properties"), Mapping) else {}
    if parts is None:
        keys = [key for key, asset in assets.items() if _is_data(asset)]
        if not keys:
            raise RasterError(
                f"{where} has no raster asset with the role 'data' or without a role. Its assets are "
                f"{abridged(assets)}; name those to read with parts=[...]."
            )
    else:
        keys = list(parts)
        if unknown := [key for key in keys if key not in assets]:
            raise RasterError(f"{where} has no asset {unknown[0]!r}. Its assets are {abridged(assets)}.")
    return [_asset(where, folder, key, assets[key], properties) for key in keys]


def _load(path: str) -> Any:
    if not os.path.exists(path):
        raise RasterError(f"{path} does not exist.")
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (ValueError, RecursionError) as error:
        raise RasterError(f"{path} is no JSON text: {error}. A STAC item is expected.") from error


def _is_data(asset: Mapping[str, Any]) -> bool:
    media, href = str(asset.get("type", "")).partition(";")[0].strip().lower(), str(asset.get("href", ""))
    roles = asset.get("roles")
    roles = {str(role) for role in roles} if isinstance(roles, list) else set()
    is_raster = media in _RASTER_TYPES if media else href.lower().endswith(RASTER_SUFFIXES)
    return is_raster and not roles & _OTHER_ROLES and ("data" in roles or not roles)


def _asset(where: str, folder: str, key: str, asset: Mapping[str, Any], properties: Mapping[str, Any]) -> Asset:
    href = asset.get("href")
    if not isinstance(href, str) or not href or "\0" in href:
        raise RasterError(f"Asset {key!r} of {where} has no href that names a file, got {href!r}. Correct the item.")
    if href.startswith("file://"):
        href = href.removeprefix("file://")
    elif not re.match(r"/|[A-Za-z][A-Za-z0-9+.-]*:", href):
        href = f"{folder}/{href}" if "://" in folder else os.path.normpath(os.path.join(folder, href))
    # An asset's field overrides that of the item (STAC common metadata).
    common = {**properties, **asset}
    tags = [Tag(field, f"STAC {field}", str(common[field])) for field in _ITEM_FIELDS if _is_plain(common.get(field))]
    if not _is_plain(common.get("datetime")) and _is_plain(common.get("start_datetime")):
        period = f"{common['start_datetime']}/{common.get('end_datetime')}"
        tags.append(Tag("datetime", "STAC start_datetime and end_datetime", period))
    instruments = common.get("instruments")
    if isinstance(instruments, list) and instruments:
        tags.append(Tag("instrument", "STAC instruments", " ".join(map(str, instruments))))
    shared = [_band_tag("", field, asset[field]) for field in _SHARED_FIELDS if field in asset]
    return Asset(href, key, tuple(tags), tuple(tag for tag in shared if tag.text), _bands(where, key, asset, common))


def _is_plain(value: Any) -> bool:
    return isinstance(value, (str, int, float)) and not isinstance(value, bool)


def _bands(where: str, key: str, asset: Mapping[str, Any], common: Mapping[str, Any]) -> tuple[tuple[Tag, ...], ...]:
    """What an item says of each band of an asset; empty if it lists none."""
    lists = {name: asset[name] for name in ("bands", "eo:bands", "raster:bands") if asset.get(name)}
    for name, listed in lists.items():
        if not isinstance(listed, list) or not all(isinstance(band, Mapping) for band in listed):
            raise RasterError(f"Asset {key!r} of {where} has {name!r} that is no list of objects. Correct the item.")
    polarisations = common.get("sar:polarizations")
    if isinstance(polarisations, list) and polarisations and (not lists or "sar:polarizations" in asset):
        lists["sar:polarizations"] = [{"sar:polarizations": value} for value in polarisations]
    if len({len(listed) for listed in lists.values()}) > 1:
        counts = " and ".join(f"{len(listed)} {name}" for name, listed in lists.items())
        raise RasterError(f"Asset {key!r} of {where} lists {counts}, which must be as many. Correct the item.")
    bands = []
    for records in zip(*lists.values(), strict=True):
        pairs = [
            (name, field, value) for name, band in zip(lists, records, strict=True) for field, value in band.items()
        ]
        tags = [_band_tag(f"{name} ", field, value) for name, field, value in pairs if field in _BAND_FIELDS]
        bands.append(tuple(tag for tag in tags if tag.text))
    return tuple(bands)


def _band_tag(where: str, field: str, value: Any) -> Tag:
    return Tag(_BAND_FIELDS[field], f"STAC {where}{field}", str(value) if _is_plain(value) else "")
