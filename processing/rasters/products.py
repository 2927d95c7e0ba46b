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
"""Products that people have: named by the caller, recognised by identifiers, or found as folders and archives."""

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from . import landsat_c2, sentinel2_safe
from .dates import parse_period
from .folders import folder_entry
from .product_presets import PRODUCTS, Preset, Product, find_product_record
from .records import (
    BandStatements,
    Beside,
    Entry,
    Period,
    Quantity,
    RasterError,
    RasterSource,
    Stated,
    Statements,
)
from .sensors import SENSORS, find_sensor

__all__ = ["PRODUCTS", "Preset", "find_product", "folder_entry", "product_named", "recognise_product"]

_HLS_ID = re.compile(r"HLS\.([SL]30)\.T\w{5}\.(\d{7}T\d{6})\.v\d\.\d", re.IGNORECASE)
_MODIS_ID = re.compile(r"(?<![A-Za-z0-9])(M[OY]D09(?:GA|GQ|A1|Q1)|MCD43A4)\.(?:A(\d{7})|\d{3})", re.IGNORECASE)
_DAY_OF_YEAR = re.compile(r"doy(\d{7})", re.IGNORECASE)
_PLANET_ID = re.compile(r"(\d{8}_\d{6})_\w+_3B_AnalyticMS_SR(_8b)?(?![0-9A-Za-z])", re.IGNORECASE)
# A1 and Q1 hold the best of eight days; the last period of a year ends with it.
_COMPOSITE_DAYS = 8
_GRANULE_IMAGE = re.compile(
    r"(?:^|[/\\_])T\d{2}[A-Z]{3}_\d{8}T\d{6}_B\w{2}(?:_[126]0m)?\.(?:jp2|tiff?)$", re.IGNORECASE
)


def find_product(path: str, parts: Sequence[str] | None) -> Entry | None:
    """The bands of a product as it is distributed.

    Args:
        path: a Sentinel-2 SAFE folder, a zip of it, a granule's folder or the product's metadata file; or the folder or
            tar archive of a Landsat Collection 2 scene.
        parts: the bands to read, in this order: `B02` or `red` (Sentinel-2), `SR_B4` (Landsat); `None` = all bands of
            reflectance and surface temperature.

    Returns:
        One part per band, and what was left out; `None` if `path` is no such product.

    Raises:
        RasterError: the product is broken, or lacks a part.
    """
    return sentinel2_safe.find_safe(path, parts) or landsat_c2.find_landsat(path, parts)


def recognise_product(path: str, statements: Statements) -> Beside | None:
    """The product that a raster belongs to, by identifiers in its name, tags, or the names of folders above it.

    Args:
        path: the raster.
        statements: what is stated about it; `product` may hold identifiers or names of products.

    Returns:
        What the product says about it; `None` if it is not recognised.

    Raises:
        RasterError: metadata beside the raster are broken.
    """
    if preset := sentinel2_safe.preset_of_path(path):
        return preset
    name, *folders = [name for name in reversed(re.split(r"[/\\]", path)) if name] or [""]
    of_file = [name, *(stated.value for stated in statements.product)]
    for position, text in enumerate((*of_file, *folders)):
        preset = (
            sentinel2_safe.preset_of_id(text)
            or landsat_c2.preset_of_id(path, text)
            or _hls(text)
            or _modis(text)
            or _planetscope(text)
        )
        if preset:
            return replace(preset, by_folder=position >= len(of_file))
    return GranuleImage() if _GRANULE_IMAGE.search(path) else None


@dataclass(frozen=True)
class GranuleImage:
    """An image of a Sentinel-2 granule outside of its product; a `Beside`.

    Its name does not say of which processing baseline it is, on which the offset depends; 0 is no data in all of them,
    unless a copy states another number.
    """

    @property
    def num_bands(self) -> None:
        """It lists no bands."""
        return None

    def states(self, source: RasterSource) -> Statements:
        """What every product states about such an image."""
        stated = (Stated(0.0, "name of an image of a Sentinel-2 granule"),)
        bands = [
            BandStatements(nodata=stated if dtype == "uint16" and not band.nodata else ())
            for band, dtype in zip(source.states().bands, source.dtypes, strict=True)
        ]
        return Statements(bands=tuple(bands))


def product_named(name: str, *, offset_given: bool = False) -> "NamedProduct":
    """What a product that the caller names says about a raster.

    Args:
        name: a name of `PRODUCTS`.
        offset_given: whether the caller gives the offset too, so that it need not be known.

    Raises:
        RasterError: there is no such product.
    """
    return NamedProduct(find_product_record(name), offset_given)


@dataclass(frozen=True)
class NamedProduct:
    """A product that the caller names (`product=...`, --product); a `Beside`.

    Args:
        product: the product.
        offset_given: whether the caller gives the offset too.
    """

    product: Product
    offset_given: bool = False

    @property
    def num_bands(self) -> None:
        """It lists no bands."""
        return None

    def states(self, source: RasterSource) -> Statements:
        """What the product states about an open raster.

        Raises:
            RasterError: the raster is of another product by its name, its numbers are of another type, or its scaling
                depends on what is not known.
        """
        return self.preset(source).states(source)

    def preset(self, source: RasterSource) -> Preset:
        """What the product says about an open raster, as far as it is known which scene it is of.

        Raises:
            RasterError: as `states`.
        """
        own = source.states()
        found = recognise_product(source.path, own)
        if isinstance(found, Preset) and not found.fits(own, source.dtypes):
            found = None
        if isinstance(found, Preset) and found.product != self.product:
            raise RasterError(
                f"{source.path} is of product {found.product.name} ({found.source}), but {self.product.name} was named "
                "(product=..., --product). Name the right one, or none."
            )
        if isinstance(found, Preset) and (found.by_kind or found.by_band):
            return replace(found, whole=True, required=True, by_folder=False)
        return self._documented(source.path)

    def _documented(self, path: str) -> Preset:
        by_kind = self.product.by_kind
        sensor = self.product.sensor
        if self.product.name.startswith("sentinel-2"):
            sensor = SENSORS["sentinel-2"]
            if not self.offset_given:
                raise RasterError(
                    f"{path}: the offset of {self.product.name} depends on the processing baseline, which neither a "
                    "product id in its path (S2A_MSIL2A_..._N0509_...) nor metadata beside it state. Say offset=... "
                    "(--offset): -0.1 from baseline 04.00 on (since 2022-01-25, and reprocessed archives), 0 before; "
                    "or name the SAFE folder."
                )
            by_kind = {"reflective": sentinel2_safe.reflectance_of((0, 0))}
        elif not by_kind:
            raise RasterError(
                f"{path}: each scene of {self.product.name} has its own scaling, which its MTL file (..._MTL.txt) "
                "states; none lies beside the raster. Put it there, or say scale=... and offset=... (--scale, "
                "--offset)."
            )
        source = f"product {self.product.name}"
        return Preset(self.product, source, by_kind=by_kind, sensor=sensor, whole=True, required=True)


# Identifiers


def _hls(text: str) -> Preset | None:
    match = _HLS_ID.search(text)
    if match is None:
        return None
    product = PRODUCTS[f"hls-{match[1].lower()}"]
    # Its files name the satellite, but its bands are adjusted to those of Landsat 8.
    adjusted = {
        record.band.name: (Quantity(record.band.center_nm), Quantity(record.band.fwhm_nm))
        for record in (product.sensor.bands if product.sensor else ())
        if record.band.center_nm is not None and record.band.fwhm_nm is not None
    }
    return replace(_preset(product, match[0], parse_period(match[2])), wavelengths=adjusted)


def _modis(text: str) -> Preset | None:
    match = _MODIS_ID.search(text)
    if match is None:
        return None
    product = PRODUCTS["modis-nbar" if match[1].upper().startswith("MCD43") else "modis-sr"]
    day = match[2] or next(iter(_DAY_OF_YEAR.findall(text)), "")
    date = parse_period(day)
    if date is not None and match[1].upper().endswith("1"):
        date = _composite(date.start)
    return _preset(product, match[0], date)


def _composite(start: dt.datetime) -> Period:
    end = min(start + dt.timedelta(days=_COMPOSITE_DAYS), dt.datetime(start.year + 1, 1, 1))
    return Period(start + (end - start) / 2, start, end)


def _planetscope(text: str) -> Preset | None:
    match = _PLANET_ID.search(text)
    if match is None:
        return None
    day, time = match[1].split("_")
    preset = _preset(PRODUCTS["planetscope-sr"], match[0], parse_period(f"{day}T{time}"))
    if match[2] is None:
        return replace(preset, bands=("blue", "green", "red", "nir"), whole=True)
    superdove = find_sensor("planetscope-superdove")
    return replace(preset, sensor=superdove, bands=tuple(record.band.name for record in superdove.bands), whole=True)


def _preset(product: Product, identifier: str, date: Period | None) -> Preset:
    return Preset(product, f"product id {identifier}", by_kind=product.by_kind, sensor=product.sensor, date=date)
