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
"""STAC items as inputs: which files an item leads to, and what it states about them.

Reads items of STAC 1.0 (`eo:bands`, `raster:bands`) and 1.1 (`bands`), and of GDAL's making, from a local JSON file or
a dictionary such as pystac's `Item.to_dict()` gives.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import url2pathname

from .folders import RASTER_SUFFIXES
from .product_presets import PRODUCTS, Preset
from .records import Entry, Part, RasterError, abridged
from .sensors import SENSORS
from .sentinel2_safe import has_offset, parse_baseline, reflectance_of
from .stac_assets import Asset, asset_of, is_jpeg_2000, offset_applied

ITEM_SUFFIXES = (".json", ".geojson")

_RASTER_TYPES = (
    "image/tiff",
    "image/jp2",
    "image/vnd.stac.geotiff",
    "application/x-geotiff",
    "image/png",
    "image/jpeg",
)
# Roles of assets (STAC best practices, "List of asset roles"). One of the first makes an asset an input, unless it has
# one of the second.
_DATA_ROLES = {"data", "reflectance", "temperature", "amplitude", "magnitude", "sigma0", "beta0", "gamma0"}
_OTHER_ROLES = {"thumbnail", "overview", "visual", "metadata", "date", "data-mask", "cloud", "cloud-shadow", "snow-ice"}
_OTHER_ROLES |= {"land-water", "water-mask", "iso-19115", "saturation"}
# S2B_MSIL2A_20220403T..., S2MSI2A, and identifiers of Earth Search: S2B_33TXL_20220403_0_L2A.
_LEVEL = re.compile(r"S2[A-D]_MSIL(1C|2A)_|S2MSI(1C|2A)|^S2[A-D]_\w+_L(1C|2A)$")


@dataclass(frozen=True)
class _Item:
    """An item that was read: what to call it in messages, where its links start from, and its fields."""

    where: str
    base: str
    properties: Mapping[str, Any]
    assets: Mapping[str, Mapping[str, Any]]


def read_item(item: str | os.PathLike[str] | Mapping[str, Any], parts: Sequence[str] | None) -> Entry:
    """The assets of a STAC item that hold the pixels of one date.

    Args:
        item: a local JSON file, relative to which its links are read, or the item's dictionary, relative to its link
            `self` or else to the working directory.
        parts: keys of the assets, in this order; `None` = all rasters whose roles say that they hold data, or that have
            no role. If the item describes the bands of some of these, the others are left out, and of files with
            the same bands all but the finest.

    Returns:
        One part per asset.

    Raises:
        RasterError: not a STAC item, or not a local one; an asset is missing; assets hold the same bands.
    """
    read = _read(item)
    if parts is None:
        assets, notes = _data_assets(read)
    else:
        if unknown := [key for key in parts if key not in read.assets]:
            raise RasterError(
                f"{read.where} has no asset {unknown[0]!r} (parts=[...], --parts). Its assets are "
                f"{abridged(read.assets)}."
            )
        assets, notes = [_asset(read, key) for key in parts], ()
    return Entry(tuple(Part(asset.path, beside=(asset, *_product(read, asset))) for asset in assets), notes)


# The item


def _read(item: str | os.PathLike[str] | Mapping[str, Any]) -> _Item:
    if isinstance(item, Mapping):
        fields, where = item, f"STAC item {item.get('id')!r}"
        base = _own_link(item)
        base = _file_path(where, base) if base.lower().startswith("file:") else base
    else:
        where = base = _local_item(os.fspath(item))
        fields = _load(base)
    assets = fields.get("assets") if isinstance(fields, Mapping) else None
    if not isinstance(assets, Mapping) or not assets or not all(isinstance(one, Mapping) for one in assets.values()):
        raise RasterError(
            f"{where} is no STAC item: an object with 'assets' is expected (type Feature). Name rasters, or items with "
            "assets."
        )
    properties = fields.get("properties")
    properties = properties if isinstance(properties, Mapping) else {}
    collection = fields.get("collection")
    return _Item(where, base, {**properties, "collection": collection, "id": fields.get("id")}, assets)


def _own_link(item: Mapping[str, Any]) -> str:
    """Where an item says that it is; empty if it does not."""
    links = item.get("links")
    for link in links if isinstance(links, list) else ():
        if isinstance(link, Mapping) and link.get("rel") == "self" and isinstance(link.get("href"), str):
            return str(link["href"])
    return ""


def _local_item(path: str) -> str:
    if path.lower().startswith("file:"):
        return _file_path(path, path)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", path):
        raise RasterError(
            f"{path}: STAC items are read from local files and from dictionaries. Fetch it first, for instance with "
            f"pystac.Item.from_file({path!r}).to_dict() or requests.get({path!r}).json(), and pass the dictionary, or "
            "save it as a .json file."
        )
    return path


def _load(path: str) -> Any:
    if not os.path.exists(path):
        raise RasterError(f"{path} does not exist.")
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (ValueError, RecursionError) as error:
        raise RasterError(f"{path} is no JSON text: {error}. A STAC item is expected.") from error


def _location(item: _Item, href: str) -> str:
    """Where GDAL finds the file that an href (a URI reference of RFC 3986) leads to."""
    if href.startswith("/vsi"):
        return href
    folder = os.path.dirname(item.base)
    if scheme := re.match(r"([A-Za-z][A-Za-z0-9+.-]+):", href):
        return os.path.join(folder, _file_path(item.where, href)) if scheme[1].lower() == "file" else href
    if "://" in item.base:
        return urljoin(item.base, href)
    literal, decoded = (os.path.normpath(os.path.join(folder, text)) for text in (href, unquote(href)))
    # Many writers put names as they are, with spaces and percent signs.
    return literal if os.path.exists(literal) and not os.path.exists(decoded) else decoded


def _file_path(where: str, uri: str) -> str:
    """The path of a file URI (RFC 8089): `file:///a%20b.tif`, `file://localhost/a.tif`, `file:/a.tif`.

    Raises:
        RasterError: it names another host.
    """
    parts = urlsplit(uri)
    if parts.netloc.lower() not in ("", "localhost"):
        raise RasterError(f"{where} names {uri!r}, a file of host {parts.netloc!r}. Name a local file.")
    literal = re.sub(r"^file:(//(localhost)?(?=/))?", "", uri, flags=re.IGNORECASE)
    decoded = url2pathname(parts.path)
    return literal if os.path.exists(literal) and not os.path.exists(decoded) else decoded


# Which assets are read


def _data_assets(item: _Item) -> tuple[list[Asset], tuple[str, ...]]:
    """The assets that hold data, and notes about rasters that are left out."""
    rasters = [key for key, asset in item.assets.items() if _is_raster(asset)]
    candidates = [key for key in rasters if _is_data(key, item.assets[key])]
    if not candidates:
        raise RasterError(
            f"{item.where} has no raster asset with the role 'data' or without a role. Its assets are "
            f"{abridged(item.assets)}; name those to read with parts=[...] (--parts)."
        )
    reasons = {key: "by their roles" for key in rasters if key not in candidates}
    assets = [_asset(item, key) for key in candidates]
    if described := [asset for asset in assets if _identities(asset)]:
        for asset in assets:
            if asset not in described:
                reasons[asset.key] = "as the item does not say what their bands measured"
        assets = _without_repetitions(item, described)
        for asset in described:
            if asset not in assets:
                reasons[asset.key] = "as finer files, or GeoTIFFs made of them, hold the same bands"
    notes = []
    for why in dict.fromkeys(reasons.values()):
        keys = abridged(key for key, reason in reasons.items() if reason == why)
        notes.append(f"{item.where}: left out assets {keys}, {why}. parts=[...] (--parts) reads them.")
    return assets, tuple(notes)


def _is_raster(asset: Mapping[str, Any]) -> bool:
    media, href = str(asset.get("type", "")).partition(";")[0].strip().lower(), str(asset.get("href", ""))
    return media in _RASTER_TYPES if media else href.lower().endswith(RASTER_SUFFIXES)


def _is_data(key: str, asset: Mapping[str, Any]) -> bool:
    listed = asset.get("roles")
    roles = {str(role) for role in listed} if isinstance(listed, list) else set()
    # Planetary Computer gives its pictures the role of data.
    is_picture = key.casefold().startswith("visual")
    return not is_picture and not roles & _OTHER_ROLES and (not roles or bool(roles & _DATA_ROLES))


def _identities(asset: Asset) -> list[Any]:
    """What tells each band of an asset from others; empty if the item does not describe them."""
    identities: list[Any] = []
    for band in asset.described:
        known = [name.value for name in band.names if _is_known(name.value)]
        center = band.center_nm[0].value.value if band.center_nm else None
        polarisation = band.polarisation[0].value if band.polarisation else None
        if known or center or polarisation:
            identities.append((tuple(name.value for name in band.names), center, polarisation))
    return identities if len(identities) == len(asset.described) else []


@cache
def _is_known(name: str) -> bool:
    return any(sensor.match(name) for sensor in SENSORS.values())


def _without_repetitions(item: _Item, assets: Sequence[Asset]) -> list[Asset]:
    """Of assets with the same bands the finest, and rather a GeoTIFF than the JPEG 2000 that it was made from.

    Raises:
        RasterError: two with the same bands differ in neither.
    """
    chosen: dict[Any, Asset] = {}
    for asset in sorted(assets, key=lambda asset: _rank(item, asset)):
        bands = tuple(_identities(asset))
        rival = chosen.setdefault(bands, asset)
        if rival is not asset and _rank(item, rival) == _rank(item, asset):
            raise RasterError(
                f"{item.where} has assets {rival.key!r} and {asset.key!r} of the same bands. Name those to read with "
                "parts=[...] (--parts)."
            )
    return [asset for asset in assets if asset in chosen.values()]


def _rank(item: _Item, asset: Asset) -> tuple[float, bool]:
    fields = item.assets[asset.key]
    listed = fields.get("raster:bands")
    first = listed[0] if isinstance(listed, list) and listed and isinstance(listed[0], Mapping) else {}
    transform = fields.get("proj:transform")
    sizes = (fields.get("gsd"), first.get("spatial_resolution"), transform[0] if isinstance(transform, list) else None)
    known = [float(size) for size in sizes if isinstance(size, (int, float)) and size > 0]
    return (known[0] if known else 0.0, is_jpeg_2000(fields))


def _asset(item: _Item, key: str) -> Asset:
    fields = item.assets[key]
    href = fields.get("href")
    if not isinstance(href, str) or not href or "\0" in href:
        raise RasterError(
            f"Asset {key!r} of {item.where} has no href that names a file, got {href!r}. Correct the item."
        )
    return asset_of(item.where, key, _location(item, href), fields, item.properties)


# Sentinel-2


def _product(item: _Item, asset: Asset) -> tuple[Preset, ...]:
    """What the processing baseline of Sentinel-2 says, unless the item states a scaling that goes with it.

    A scale without any word of the offset from baseline 04.00 on, and an offset before, do not go with it.
    """
    level = _level(item.properties)
    fields = ("s2:processing_baseline", "sentinel:processing_baseline")
    text = next((str(item.properties[field]) for field in fields if field in item.properties), "")
    baseline = parse_baseline(text)
    if level is None or baseline is None or not _identities(asset):
        return ()
    scalings = [scaling.value for band in asset.described for scaling in band.scaling]
    is_shifted = any(scaling.offset for scaling in scalings)
    if scalings and (asset.states_offset if has_offset(baseline) else not is_shifted):
        return ()
    applied = offset_applied(item.assets[asset.key], item.properties)
    source = f"STAC processing baseline {text}"
    if applied:
        source += f"; its offset is not applied again, as {applied}"
    stored = {"reflective": reflectance_of(baseline, applied=bool(applied))}
    return (Preset(PRODUCTS[f"sentinel-2-{level}"], source, by_kind=stored, whole=True),)


def _level(properties: Mapping[str, Any]) -> str | None:
    """The level of a Sentinel-2 product, `l1c` or `l2a`; `None` if the item is of something else."""
    for field in ("s2:product_uri", "s2:product_type", "sentinel:product_id", "id"):
        if match := _LEVEL.search(str(properties.get(field) or "")):
            return f"l{match[1] or match[2] or match[3]}".lower()
    return None
