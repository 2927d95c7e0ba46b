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
"""Products whose scaling is documented outside of their files, and what they say about a raster."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..metadata import MetadataError
from .records import (
    BandStatements,
    Period,
    Quantity,
    RasterError,
    RasterSource,
    Scaling,
    Stated,
    Statements,
)
from .sensors import SENSORS, Sensor, SensorBand, find_sensor


@dataclass(frozen=True)
class StoredAs:
    """What the stored numbers of some bands mean.

    Args:
        scaling: from stored numbers to physical ones.
        unit: of the physical ones.
        nodata: stored numbers that mean missing.
        valid_range: smallest and largest stored number that is a measurement; `None` = not documented.
    """

    scaling: Scaling
    unit: str = "reflectance"
    nodata: tuple[float, ...] = (0.0,)
    valid_range: tuple[float, float] | None = None


@dataclass(frozen=True)
class Product:
    """A product whose scaling is documented.

    Args:
        name: what `product=...` (--product) takes.
        description: name in full.
        dtype: type of the stored numbers as distributed; files of another type were processed further.
        by_kind: what the numbers mean, by the kind of a band; empty where each scene has its own scaling.
        sources: where this is documented.
        sensor: the sensor, if it is the same for all scenes.
        band_kinds: patterns of band names that state a kind.
        band_number: pattern of file names that hold the number of a band of `sensor`.
        flags: pattern of names of bands that measure nothing.
    """

    name: str
    description: str
    dtype: str
    by_kind: Mapping[str, StoredAs]
    sources: tuple[str, ...]
    sensor: Sensor | None = None
    band_kinds: Mapping[str, str] = field(default_factory=dict)
    band_number: str = ""
    flags: str = r"QA\w*"


_USGS_C2_L2 = (
    "USGS, How do I use a scale factor with Landsat Level-2 science products?",
    "USGS LSDS-1618 and LSDS-1619, Landsat Collection 2 Level-2 Science Product Guides",
)
_ESA_S2 = (
    "ESA SentiWiki, S2 Products: reflectance = (DN + offset) / quantification value, offset -1000 from processing "
    "baseline 04.00 on, DN 0 = NO_DATA",
    "ESA S2-PDGS-TAS-DI-PSD, Sentinel-2 Products Specification Document: BOA_ADD_OFFSET, RADIO_ADD_OFFSET",
)
_HLS_GUIDE = ("NASA, HLS Product User Guide v2.0: 0.0001 and, for brightness temperature in degrees Celsius, 0.01",)
_HLS_REFLECTANCE = StoredAs(Scaling(0.0001), nodata=(-9999.0,))

PRODUCTS: dict[str, Product] = {
    product.name: product
    for product in (
        Product(
            "landsat-c2-l2",
            "Landsat Collection 2 Level-2: surface reflectance (SR_B*) and surface temperature (ST_B*)",
            "uint16",
            {
                "reflective": StoredAs(Scaling(0.0000275, -0.2)),
                "thermal": StoredAs(Scaling(0.00341802, 149.0), unit="K"),
            },
            _USGS_C2_L2,
            band_kinds={r"SR_B\d+": "reflective", r"ST_B\d+": "thermal"},
            # TOA_ and BT_ are bands of analysis ready data, with another scale.
            flags=r"(?:S[RT]_)?(?:QA\w*|CLOUD_QA|ATMOS_OPACITY|ATRAN|CDIST|[DTU]RAD|EMIS|EMSD)|(?:TOA|BT)_B\w+",
        ),
        Product(
            "landsat-c2-l1",
            "Landsat Collection 2 Level-1: reflectance at the top of the atmosphere, with the scaling of each MTL file",
            "uint16",
            {},
            ("USGS, Using the USGS Landsat Level-1 Data Product: reflectance = (M x DN + A) / sin(sun elevation)",),
            flags=r"QA\w*|SAA|SZA|VAA|VZA",
        ),
        Product(
            "sentinel-2-l2a",
            "Sentinel-2 Level-2A: surface reflectance, with the offset of the processing baseline",
            "uint16",
            {},
            _ESA_S2,
            flags=r"(?:SCL|TCI|AOT|WVP|CLD|SNW)(?:_\d+m)?",
        ),
        Product(
            "sentinel-2-l1c",
            "Sentinel-2 Level-1C: reflectance at the top of the atmosphere, with the offset of the processing baseline",
            "uint16",
            {},
            _ESA_S2,
            flags=r"TCI",
        ),
        Product(
            "hls-s30",
            "Harmonized Landsat Sentinel-2, Sentinel-2 part",
            "int16",
            {"reflective": _HLS_REFLECTANCE},
            _HLS_GUIDE,
            sensor=SENSORS["hls-s30"],
            flags=r"Fmask|S[AZ]A|V[AZ]A",
        ),
        Product(
            "hls-l30",
            "Harmonized Landsat Sentinel-2, Landsat part",
            "int16",
            {"reflective": _HLS_REFLECTANCE, "thermal": StoredAs(Scaling(0.01), unit="degC", nodata=(-9999.0,))},
            _HLS_GUIDE,
            sensor=SENSORS["hls-l30"],
            flags=r"Fmask|S[AZ]A|V[AZ]A",
        ),
        Product(
            "modis-sr",
            "MODIS surface reflectance: MOD09 and MYD09, GA, GQ, A1 and Q1",
            "int16",
            {"reflective": StoredAs(Scaling(0.0001), nodata=(-28672.0,), valid_range=(-100.0, 16000.0))},
            ("LP DAAC and LAADS, MOD09A1 and MOD09GA: attributes of sur_refl_b01 to sur_refl_b07",),
            sensor=SENSORS["modis"],
            band_number=r"sur_refl_b0?([1-7])(?![0-9])",
        ),
        Product(
            "modis-nbar",
            "MODIS nadir reflectance: MCD43A4",
            "int16",
            {"reflective": StoredAs(Scaling(0.0001), nodata=(32767.0,), valid_range=(0.0, 32766.0))},
            ("LP DAAC, MCD43A4: attributes of Nadir_Reflectance_Band1 to 7",),
            sensor=SENSORS["modis"],
            band_number=r"Nadir_Reflectance_Band([1-7])(?![0-9])",
        ),
        Product(
            "planetscope-sr",
            "PlanetScope surface reflectance, 4 and 8 bands (ortho_analytic_4b_sr, ortho_analytic_8b_sr)",
            "uint16",
            {"reflective": StoredAs(Scaling(0.0001))},
            ("Planet, PSScene: surface reflectance scaled by 10 000, no-data value 0",),
            flags=r"UDM2?",
        ),
    )
}


@dataclass(frozen=True)
class Preset:
    """What a product says about a raster of it; a `Beside`.

    Args:
        product: the product.
        source: where it was recognised, for reports and messages.
        by_kind: what the numbers mean, by the kind of a band.
        by_band: likewise, by the name of a band in the table of `sensor`; goes before `by_kind`.
        sensor: the sensor, if it is known.
        wavelengths: centre and width in nanometres, by the name of a band; a width may be unknown.
        date: when the scene was taken.
        bands: the bands of the raster in their order, where the layout of the product says so.
        whole: whether every band of the raster is a measurement of the product.
        required: whether the caller named the product, so that a raster that does not fit is an error.
        by_folder: whether only a folder above the raster names the product, which may hold other files as well.
    """

    product: Product
    source: str
    by_kind: Mapping[str, StoredAs] = field(default_factory=dict)
    by_band: Mapping[str, StoredAs] = field(default_factory=dict)
    sensor: Sensor | None = None
    wavelengths: Mapping[str, tuple[Quantity, Quantity | None]] = field(default_factory=dict)
    date: Period | None = None
    bands: tuple[str, ...] = ()
    whole: bool = False
    required: bool = False
    by_folder: bool = False

    @property
    def num_bands(self) -> int | None:
        """How many bands the layout of the product has; `None` where it does not say so."""
        return len(self.bands) or None

    def states(self, source: RasterSource) -> Statements:
        """What the product states about an open raster.

        Raises:
            RasterError: the caller named the product, and the numbers are of another type, or a band of another kind.
        """
        own = source.states()
        if not self.fits(own, source.dtypes):
            return Statements()
        has_layout = len(self.bands) == len(source.indexes)
        bands = []
        for position, index in enumerate(source.indexes):
            names = [self.bands[position]] if has_layout else [name.value for name in own.bands[position].names]
            band = self._band(f"Band {index} of {source.path}", source.path, names, source.dtypes[position])
            if has_layout:
                band = replace(band, names=(Stated(names[0], self.source),))
            bands.append(band)
        names_sensor = self.sensor is not None and not _names_sensor(own)
        return Statements(
            bands=tuple(bands),
            sensor=(Stated(self.sensor, self.source),) if self.sensor and names_sensor else (),
            date=() if self.date is None else (Stated(self.date, self.source),),
            product=(Stated(self.product.name, self.source),),
        )

    def fits(self, own: Statements, dtypes: Sequence[str]) -> bool:
        """Whether a raster can be of the product: people keep all sorts of files in the folder of a scene.

        Args:
            own: what the raster itself states.
            dtypes: types of its stored numbers.
        """
        if not self.by_folder:
            return True
        stored = np.dtype(self.product.dtype).kind in "iu"
        kinds = {*self.by_kind, *(record.band.kind for record in (self.sensor.bands if self.sensor else ()))}
        for band, dtype in zip(own.bands, dtypes, strict=True):
            strong = [kind.value for kind in band.kind if not kind.weak] or [kind.value for kind in band.kind]
            if (np.dtype(dtype).kind in "iu") == stored and kinds.issuperset(strong):
                return True
        return False

    def of_kind(self, where: str, kind: str, dtype: str) -> BandStatements:
        """What the product states about a band of which only the kind is known.

        Args:
            where: the band, for messages.
            kind: its kind.
            dtype: type of its stored numbers.

        Raises:
            RasterError: as `states`.
        """
        if kind in self.by_kind:
            return self._numbers(where, self.by_kind[kind], dtype)
        if self.required and self.by_kind and kind not in ("index", "other"):
            raise RasterError(
                f"{where} is of kind {kind!r}, but product {self.product.name} has {' and '.join(self.by_kind)} bands. "
                "Leave product=... (--product) out, or choose other bands with parts=[...] (--parts)."
            )
        return BandStatements()

    def _band(self, where: str, path: str, names: Sequence[str], dtype: str) -> BandStatements:
        if any(re.fullmatch(self.product.flags, name, re.IGNORECASE) for name in names):
            return BandStatements()
        record = self._record(path, names)
        if record is not None and record.band.name in self.by_band:
            numbers = self._numbers(where, self.by_band[record.band.name], dtype)
        elif kind := self._kind(record, names):
            numbers = self.of_kind(where, kind, dtype)
        else:
            numbers = BandStatements()
        return self._described(record).joined(numbers)

    def _numbers(self, where: str, stored: StoredAs, dtype: str) -> BandStatements:
        if dtype != self.product.dtype:
            if not self.required:
                return BandStatements()
            raise RasterError(
                f"{where} holds {dtype}, but product {self.product.name} comes as {self.product.dtype}: the file was "
                "processed further, and the documented scale does not apply. Leave product=... (--product) out, and "
                "say how its numbers are scaled: scale=..., offset=..., nodata=... (--scale, --offset, --nodata)."
            )
        return BandStatements(
            unit=(Stated(stored.unit, self.source),),
            scaling=(Stated(stored.scaling, self.source),),
            nodata=tuple(Stated(number, self.source) for number in stored.nodata),
            valid_range=() if stored.valid_range is None else (Stated(stored.valid_range, self.source),),
        )

    def _described(self, record: SensorBand | None) -> BandStatements:
        """Name, centre and width of a band, as far as the product itself states them."""
        if record is None:
            return BandStatements()
        name = record.band.name
        center, width = self.wavelengths.get(name, (None, None))
        return BandStatements(
            names=(Stated(name, self.source),) if self.product.band_number else (),
            center_nm=() if center is None else (Stated(center, self.source),),
            fwhm_nm=() if width is None else (Stated(width, self.source),),
        )

    def _record(self, path: str, names: Sequence[str]) -> SensorBand | None:
        """The entry of the sensor's table that the names, or the name of the file, lead to."""
        if self.sensor is None:
            return None
        if self.product.band_number:
            pattern = re.compile(self.product.band_number, re.IGNORECASE)
            numbers = [match[1] for text in (*names, path) if (match := pattern.search(text))]
            names = [f"B{number}" for number in numbers[:1]]
        for name in names:
            if len(found := self.sensor.match(name)) == 1:
                return found[0]
        return None

    def _kind(self, record: SensorBand | None, names: Sequence[str]) -> str | None:
        if record is not None:
            return record.band.kind
        for pattern, kind in self.product.band_kinds.items():
            if any(re.fullmatch(pattern, name, re.IGNORECASE) for name in names):
                return kind
        return next(iter(self.by_kind)) if self.whole and len(self.by_kind) == 1 else None


def _names_sensor(statements: Statements) -> bool:
    """Whether a file names its sensor itself."""
    texts = [name.value for name in (*statements.instrument, *statements.platform)]
    texts += [f"{one.value} {two.value}" for one in statements.platform for two in statements.instrument]
    return bool(statements.sensor) or any(map(_is_sensor, texts))


def _is_sensor(text: str) -> bool:
    try:
        find_sensor(text)
    except MetadataError:
        return False
    return True


def find_product_record(name: str) -> Product:
    """The product of a name.

    Raises:
        RasterError: there is none.
    """
    key = name.strip().casefold().replace("_", "-").replace(" ", "-") if isinstance(name, str) else ""
    if key in PRODUCTS:
        return PRODUCTS[key]
    close = difflib.get_close_matches(key, PRODUCTS, n=3)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    raise RasterError(
        f"Product {name!r} is not known.{hint} Known products (product=..., --product): {', '.join(PRODUCTS)}. For any "
        "other, say scale=..., offset=... and nodata=... (--scale, --offset, --nodata)."
    )
