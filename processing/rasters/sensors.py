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
"""The sensor table: what the bands of common sensors measure, and how people name them.

Centre wavelengths and widths in nanometres, ground sampling distances in metres, each from the sources named beside it.
What no source states is unknown (`None`): nothing is copied from a sister instrument.
"""

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..metadata import Band, MetadataError

# The STAC EO extension's common names nest by wavelength range (stac-extensions/eo README): a sensor without the broad
# name answers to it with its narrower ones.
_NARROWER = {
    "rededge": ("rededge071", "rededge075", "rededge078"),
    "nir": ("nir08", "nir09"),
    "green": ("green05",),
    "lwir": ("lwir11", "lwir12"),
}
_THERMAL = ("lwir", "lwir11", "lwir12")
# Longer lists of names are abridged in messages.
_MAX_LISTED = 30
_PREFIX = r"(?:sr|st|toa|boa|surrefl)?"
# "B4_10m", "B04 (red)", "SR_B4_reflectance": a numbered band, and a remark that must not name another one.
_NUMBERED = re.compile(r"(?:(?:sr|st|toa|boa|sur_refl)[\s_-]*)?(?:band|b)[\s_-]*0*(\d+a?)[\s_(:-]+(.+)", re.IGNORECASE)
_REMARK = re.compile(r"\d+m|sr|st|toa|boa|refl|reflectance|rad|radiance")
# GDAL writes "B4, central wavelength 665 nm" (Sentinel-2) and "B4 (665 Nanometers)" (ENVI).
_WAVELENGTH_REMARK = re.compile(
    r"[\s,(]+(?:central\s+wavelength\s+)?[\d.]+\s*(?:nm|nanomet\w*|um|micromet\w*)\)?$", re.I
)


def _key(text: str) -> str:
    """A name without case and separators; numbered bands without prefix and leading zeros."""
    text = re.sub(r"[^a-z0-9]", "", text.casefold())
    numbered = re.fullmatch(rf"{_PREFIX}(?:band|b)0*(\d+a?)", text)
    return f"b{numbered[1]}" if numbered else text


def plain_band_name(text: str) -> str:
    """A band's description without the wavelength that GDAL's drivers append (`B4, central wavelength 665 nm`)."""
    return _WAVELENGTH_REMARK.sub("", text.strip()) or text


@dataclass(frozen=True)
class SensorBand:
    """One band of a sensor.

    Args:
        band: what it measures.
        common_name: its name in the STAC EO extension; `None` if it has none.
        gsd_m: ground sampling distance of the instrument in metres; `None` if unknown or it depends on flight height.
        delivered_gsd_m: that of the products, where they are resampled.
    """

    band: Band
    common_name: str | None = None
    gsd_m: float | None = None
    delivered_gsd_m: float | None = None


@dataclass(frozen=True)
class Sensor:
    """A sensor and its bands.

    Args:
        name: canonical name.
        description: name in full.
        kind: kind of its bands (see [`Band`]); thermal bands of optical sensors say so themselves.
        bands: the bands in the order of the source; empty where they differ from product to product.
        gsd_m: ground sampling distance in metres, if all bands share one.
        width_kind: what `fwhm_nm` is: `fwhm`, or `range` = distance between the published band edges.
        aliases: other names that [`find_sensor`] takes.
        sources: where the numbers come from.
        note: what to mind.
    """

    name: str
    description: str
    kind: str
    bands: tuple[SensorBand, ...]
    gsd_m: float | None
    width_kind: str
    aliases: tuple[str, ...]
    sources: tuple[str, ...]
    note: str

    def match(self, name: str) -> tuple[SensorBand, ...]:
        """The bands that `name` may mean: none if it is unknown, several if it is ambiguous.

        Args:
            name: a canonical name (`B04`), another spelling of it (`B4`, `b4`, `SR_B4`, `Band 4`, `B4_10m`,
                `B04 (red)`), or a common name of the STAC EO extension (`red`, `nir`, `swir16`).
        """
        if exact := tuple(record for record in self.bands if record.band.name == name):
            return exact
        name = plain_band_name(name)
        key = _key(name)
        found = [record for record in self.bands if key in (_key(record.band.name), record.common_name)]
        if numbered := _NUMBERED.fullmatch(name):
            words = [
                _key(word)
                for word in re.split(r"[\W_]+", numbered[2])
                if word and not _REMARK.fullmatch(word.casefold())
            ]
            for record in self.bands:
                names = (_key(record.band.name), record.common_name, *_broader(record.common_name))
                if f"b{numbered[1].casefold()}" == names[0] and all(word in names for word in words):
                    found.append(record)
        if not found:
            found = [record for record in self.bands if record.common_name in _NARROWER.get(key, ())]
        return tuple(dict.fromkeys(found))


def _broader(common_name: str | None) -> Iterator[str]:
    return (broad for broad, narrow in _NARROWER.items() if common_name in narrow)


def _number(text: str) -> float | None:
    return None if text == "-" else float(text)


def _sensor(
    name: str,
    description: str,
    *,
    sources: tuple[str, ...],
    bands: str = "",
    centers_nm: str = "",
    fwhm_nm: str = "",
    kind: str = "reflective",
    gsd_m: float | None = None,
    width_kind: str = "fwhm",
    aliases: str = "",
    note: str = "",
) -> Sensor:
    """Reads one entry of the table.

    `bands` has one line a band: name and, for optical sensors, common name, centre and width in nanometres, GSD and
    delivered GSD in metres; `-` = unknown. `centers_nm` and `fwhm_nm` list the bands of imaging spectrometers instead.
    """
    records = []
    for line in bands.strip().splitlines():
        band_name, common, center, fwhm, gsd, delivered = (*line.split(), *["-"] * 5)[:6]
        band = Band(
            name=band_name,
            center_nm=_number(center),
            fwhm_nm=_number(fwhm),
            kind="thermal" if common in _THERMAL else kind,
            polarisation=band_name if kind == "sar" else None,
        )
        own_gsd_m = gsd_m if gsd == "-" else float(gsd)
        records.append(SensorBand(band, None if common == "-" else common, own_gsd_m, _number(delivered)))
    centers, widths = centers_nm.split(), fwhm_nm.split()
    for index, center in enumerate(centers):
        band = Band(f"B{index + 1:03d}", float(center), float(widths[index]) if widths else None, kind)
        records.append(SensorBand(band, None, gsd_m))
    if len({record.gsd_m for record in records}) == 1:
        gsd_m = records[0].gsd_m
    alias_names = tuple(alias.strip() for alias in aliases.split(",") if alias.strip())
    return Sensor(name, description, kind, tuple(records), gsd_m, width_kind, alias_names, sources, note)


_SPYNDEX = "awesome-spectral-indices/awesome-spectral-indices output/bands.json (what spyndex.bands reads; MIT)"
_POSITIONS = "B001 and so on count the bands of this list, not those of a product."

_TABLE = (
    _sensor(
        "sentinel-2a",
        "Sentinel-2A MSI",
        aliases="s2a, sentinel2a_msi",
        sources=(
            _SPYNDEX,
            "B10: EOA-team/eodal eodal/utils/constants/sentinel2.py (from ESA S2-SRF COPE-GSEG-EOPG-TN-15-0007 v3.0)",
            "centres equal torchgeo/datasets/sentinel.py ClassVar wavelengths except B02 (torchgeo 492.7)",
        ),
        bands="""
            B01  coastal      442.7   21  60
            B02  blue         492.4   66  10
            B03  green        559.8   36  10
            B04  red          664.6   31  10
            B05  rededge071   704.1   15  20
            B06  rededge075   740.5   15  20
            B07  rededge078   782.8   20  20
            B08  nir          832.8  106  10
            B8A  nir08        864.7   21  20
            B09  nir09        945.1   20  60
            B10  cirrus      1373.5   31  60
            B11  swir16      1613.7   91  20
            B12  swir22      2202.4  175  20
        """,
    ),
    _sensor(
        "sentinel-2b",
        "Sentinel-2B MSI",
        aliases="s2b, sentinel2b_msi",
        sources=(
            _SPYNDEX,
            "B10: EOA-team/eodal eodal/utils/constants/sentinel2.py (from ESA S2-SRF COPE-GSEG-EOPG-TN-15-0007 v3.0)",
        ),
        bands="""
            B01  coastal      442.3   21  60
            B02  blue         492.1   66  10
            B03  green          559   36  10
            B04  red            665   31  10
            B05  rededge071   703.8   15  20
            B06  rededge075   739.1   15  20
            B07  rededge078   779.7   20  20
            B08  nir            833  106  10
            B8A  nir08          864   21  20
            B09  nir09        943.2   21  60
            B10  cirrus      1376.9   30  60
            B11  swir16      1610.4   94  20
            B12  swir22      2185.7  185  20
        """,
    ),
    _sensor(
        "sentinel-2c",
        "Sentinel-2C MSI (in service since January 2025, replaces 2A)",
        aliases="s2c, sentinel2c_msi",
        sources=(
            "B01 computed as the half-maximum mid-point and width of MarcYin/spectral_response "
            "sources/extracted/sentinel-2c_msi/band_average/overlay_reference.csv (ESA SRF)",
        ),
        note=(
            "Exact values: same CSV, or the PHYSICAL_BANDS block of each MTD_MSIL2A.xml (GDAL's SENTINEL2 driver "
            "exposes it). eodal copies the 2A list; this table does not."
        ),
        bands="""
            B01  coastal     444  20.3  60
            B02  blue          -     -  10
            B03  green         -     -  10
            B04  red           -     -  10
            B05  rededge071    -     -  20
            B06  rededge075    -     -  20
            B07  rededge078    -     -  20
            B08  nir           -     -  10
            B8A  nir08         -     -  20
            B09  nir09         -     -  60
            B10  cirrus        -     -  60
            B11  swir16        -     -  20
            B12  swir22        -     -  20
        """,
    ),
    _sensor(
        "sentinel-2",
        "Generic Sentinel-2 (platform unknown)",
        aliases="s2, s2_msi, sentinel2_msi, s2_l1c, s2_l2a",
        sources=("sertit/eoreader 0.24.4 eoreader/products/optical/s2_product.py (Apache-2.0)",),
        bands="""
            B01  coastal      442   21  60
            B02  blue         492   66  10
            B03  green        560   36  10
            B04  red          665   31  10
            B05  rededge071   704   15  20
            B06  rededge075   740   15  20
            B07  rededge078   781   20  20
            B08  nir          833  106  10
            B8A  nir08        864   21  20
            B09  nir09        944   20  60
            B10  cirrus      1380   30  60
            B11  swir16      1612   92  20
            B12  swir22      2190  180  20
        """,
    ),
    _sensor(
        "landsat-4-tm",
        "Landsat 4 TM",
        aliases="landsat4, l4, lt04, lt4, tm4",
        sources=(_SPYNDEX,),
        width_kind="range",
        bands="""
            B1  blue      485    70   30
            B2  green     560    80   30
            B3  red       660    60   30
            B4  nir       830   140   30
            B5  swir16   1650   200   30
            B7  swir22   2215   270   30
            B6  lwir    11450  2100  120  30
        """,
    ),
    _sensor(
        "landsat-5-tm",
        "Landsat 5 TM",
        aliases="landsat5, l5, lt05, lt5, tm5",
        sources=(_SPYNDEX,),
        width_kind="range",
        bands="""
            B1  blue      485    70   30
            B2  green     560    80   30
            B3  red       660    60   30
            B4  nir       830   140   30
            B5  swir16   1650   200   30
            B7  swir22   2215   270   30
            B6  lwir    11450  2100  120  30
        """,
    ),
    _sensor(
        "landsat-7-etm",
        "Landsat 7 ETM+",
        aliases="landsat7, l7, le07, le7, etm, etm7",
        sources=(
            _SPYNDEX,
            "pan edges 520-900: sertit/eoreader 0.24.4 (PyPI wheel, Apache-2.0) landsat_product.py and "
            "torchgeo/datasets/landsat.py",
        ),
        width_kind="range",
        bands="""
            B1  blue      485    70  30
            B2  green     560    80  30
            B3  red       660    60  30
            B4  nir       835   130  30
            B5  swir16   1650   200  30
            B7  swir22   2220   260  30
            B6  lwir    11450  2100  60  30
            B8  pan       710   380  15
        """,
    ),
    _sensor(
        "landsat-8-oli-tirs",
        "Landsat 8 OLI/TIRS",
        aliases="landsat8, l8, lc08, lc8, oli, oli_tirs, landsat8_oli",
        sources=(
            _SPYNDEX,
            "pan 500-680, cirrus 1360-1380: sertit/eoreader 0.24.4 (PyPI wheel, Apache-2.0) landsat_product.py; "
            "measured Gaussian fits: Panopticon landsat8.yaml via allenai/rslearn "
            "rslearn/models/panopticon_data/sensors (B1 442.65 s6.20, B2 482.63 s22.52, B3 560.99 s21.84, B4 "
            "654.29 s14.31, B5 864.61 s11.35, B6 1608.75 s33.93, B7 2203.50 s76.21; FWHM = 2.355 s)",
        ),
        width_kind="range",
        bands="""
            B1   coastal    440    20   30
            B2   blue       480    60   30
            B3   green      560    60   30
            B4   red        655    30   30
            B5   nir08      865    30   30
            B6   swir16    1610    80   30
            B7   swir22    2200   180   30
            B8   pan        590   180   15
            B9   cirrus    1370    20   30
            B10  lwir11   10895   590  100  30
            B11  lwir12   12005  1010  100  30
        """,
    ),
    _sensor(
        "landsat-9-oli2-tirs2",
        "Landsat 9 OLI-2/TIRS-2",
        aliases="landsat9, l9, lc09, lc9, oli2, oli2_tirs2, landsat9_oli2, landsat9_oli_tirs, landsat9_oli",
        sources=(
            _SPYNDEX,
            "pan 500-680, cirrus 1360-1380: sertit/eoreader 0.24.4 (PyPI wheel, Apache-2.0) landsat_product.py; "
            "measured Gaussian fits: Panopticon landsat8.yaml via allenai/rslearn "
            "rslearn/models/panopticon_data/sensors (B1 442.65 s6.20, B2 482.63 s22.52, B3 560.99 s21.84, B4 "
            "654.29 s14.31, B5 864.61 s11.35, B6 1608.75 s33.93, B7 2203.50 s76.21; FWHM = 2.355 s)",
        ),
        width_kind="range",
        bands="""
            B1   coastal    440    20   30
            B2   blue       480    60   30
            B3   green      560    60   30
            B4   red        655    30   30
            B5   nir08      865    30   30
            B6   swir16    1610    80   30
            B7   swir22    2200   180   30
            B8   pan        590   180   15
            B9   cirrus    1370    20   30
            B10  lwir11   10895   590  100  30
            B11  lwir12   12005  1010  100  30
        """,
    ),
    _sensor(
        "hls-l30",
        "Harmonized Landsat Sentinel-2, Landsat part (L30)",
        aliases="l30",
        sources=("sertit/eoreader 0.24.4 (PyPI wheel, Apache-2.0) eoreader/products/optical/hls_product.py",),
        width_kind="range",
        bands="""
            B01  coastal    440    20  30
            B02  blue       480    60  30
            B03  green      560    60  30
            B04  red        655    30  30
            B05  nir08      865    30  30
            B06  swir16    1610    80  30
            B07  swir22    2200   180  30
            B09  cirrus    1370    20  30
            B10  lwir11   10895   590  30
            B11  lwir12   12005  1010  30
        """,
    ),
    _sensor(
        "hls-s30",
        "Harmonized Landsat Sentinel-2, Sentinel-2 part (S30)",
        aliases="s30",
        sources=("sertit/eoreader 0.24.4 (PyPI wheel, Apache-2.0) eoreader/products/optical/hls_product.py",),
        note=(
            "Prithvi uses B02 B03 B04 B8A(B05 in L30) B11(B06) B12(B07). UniverSat lists Landsat-7-like centres "
            "for hls (0.485 0.56 0.66 0.835 1.65 2.22): do not copy."
        ),
        width_kind="range",
        bands="""
            B01  coastal      440   20  30
            B02  blue         480   60  30
            B03  green        560   60  30
            B04  red          655   30  30
            B05  rededge071   700   20  30
            B06  rededge075   740   20  30
            B07  rededge078   780   20  30
            B08  nir          830  100  30
            B8A  nir08        865   30  30
            B09  nir09        940   20  30
            B10  cirrus      1370   20  30
            B11  swir16      1610   80  30
            B12  swir22      2200  180  30
        """,
    ),
    _sensor(
        "modis",
        "MODIS land bands (Terra/Aqua)",
        aliases="mod09, mod09ga, mod09a1, myd09, myd09ga, myd09a1",
        sources=(
            _SPYNDEX,
            "B5 1240: Clay-foundation/model configs/metadata.yaml; Panopticon modis_terra.yaml fits 1241.6 s23.4",
        ),
        note=(
            "UniverSat registry has 1234 and 1213 for b5 and b7: slips. Surface-reflectance products (MOD09GA/A1)"
            " deliver all seven bands at 500 m (Clay gsd 500); B1 B2 exist natively at 250 m. B5: width nominal "
            "1230-1250."
        ),
        bands="""
            B1  red       645  50  250
            B2  nir08   858.5  35  250
            B3  blue      469  20  500
            B4  green     555  20  500
            B5  -        1240  20  500
            B6  swir16   1640  24  500
            B7  swir22   2130  50  500
        """,
    ),
    _sensor(
        "planetscope-superdove",
        "PlanetScope SuperDove (PSB.SD), 8 bands",
        aliases="superdove, psb.sd",
        sources=(
            _SPYNDEX,
            "eoreader pla_product.py gives the same edges; Panopticon superdove.yaml Gaussian fits 443.7 490.97 "
            "532.7 565.8 611.6 665.8 706.9 864.8 nm, GSD 3.7",
        ),
        width_kind="range",
        bands="""
            B1  coastal     441.5  21  3.7  3
            B2  blue          490  50  3.7  3
            B3  green05       531  36  3.7  3
            B4  green         565  36  3.7  3
            B5  yellow        610  20  3.7  3
            B6  red           665  30  3.7  3
            B7  rededge071    705  16  3.7  3
            B8  nir08         865  40  3.7  3
        """,
    ),
    _sensor(
        "worldview-2",
        "WorldView-2",
        aliases="wv2, wv02",
        sources=(
            "sertit/eoreader 0.24.4 (PyPI wheel, Apache-2.0) eoreader/products/optical/vantor_product.py",
            _SPYNDEX,
            "Panopticon wv23.yaml: fits 427.9 482.4 545.1 604.7 660.5 723.2 823.9 906.5 nm; GSD 1.24",
        ),
        note=(
            "eoreader gives YELLOW id 7, an upstream slip: file order is coastal blue green yellow red rededge "
            "nir1 nir2."
        ),
        width_kind="range",
        bands="""
            B1   coastal    425   50  1.84
            B2   blue       480   60  1.84
            B3   green      545   70  1.84
            B4   yellow     605   40  1.84
            B5   red        660   60  1.84
            B6   rededge    725   40  1.84
            B7   nir      832.5  125  1.84
            B8   nir09      950  180  1.84
            PAN  pan        625  350  0.46
        """,
    ),
    _sensor(
        "worldview-3",
        "WorldView-3 (VNIR)",
        aliases="wv3, wv03",
        sources=(
            "sertit/eoreader 0.24.4 (PyPI wheel, Apache-2.0) eoreader/products/optical/vantor_product.py",
            _SPYNDEX,
            "Panopticon wv23.yaml: fits 427.9 482.4 545.1 604.7 660.5 723.2 823.9 906.5 nm; GSD 1.24",
        ),
        note="GSD at nadir; delivered Vantor products are 2.0 m MS and 0.5 m pan in eoreader.",
        width_kind="range",
        bands="""
            B1   coastal    425   50  1.24
            B2   blue       480   60  1.24
            B3   green      545   70  1.24
            B4   yellow     605   40  1.24
            B5   red        660   60  1.24
            B6   rededge    725   40  1.24
            B7   nir      832.5  125  1.24
            B8   nir09      950  180  1.24
            PAN  pan        625  350  0.31
        """,
    ),
    _sensor(
        "quickbird-2-geoeye-1",
        "QuickBird-2 / GeoEye-1 pooled as in fMoW",
        aliases="quickbird2, qb2, qb02, geoeye1, ge1, ge01",
        sources=("Panopticon-FM qb2_ge1.yaml (Gaussian fits, FWHM = 2.355 sigma)",),
        note="GSD 2.0 m is a nominal value (source file says 1.24 for both, copied from WorldView-3).",
        bands="""
            B1  blue   482.4    106  2
            B2  green  547.3  136.6  2
            B3  red      665   84.8  2
            B4  nir    840.8  197.8  2
        """,
    ),
    _sensor(
        "pleiades-1",
        "Pleiades 1A/1B HiRI",
        aliases="pleiades1a, pleiades1b, phr, phr1a, phr1b",
        sources=(
            "MarcYin/spectral_response sources/raw/wmo/oscar/pleiades/hiri (WMO OSCAR)",
            "sertit/eoreader 0.24.4 (PyPI wheel, Apache-2.0) pld_product.py (blue 460-530, green 500-620, red "
            "590-710, nir 740-940, pan 470-830; MS 2.0 m, pan 0.5 m)",
        ),
        note=(
            "The two sources disagree on widths; centres agree to about 10 nm (nir 830 and 840). Airbus SRF "
            "curves would settle it."
        ),
        width_kind="range",
        bands="""
            B0   blue   490   80    2
            B1   green  550   60    2
            B2   red    660   80    2
            B3   nir    830  110    2
            PAN  pan    650  360  0.5
        """,
    ),
    _sensor(
        "pleiades-neo",
        "Pleiades Neo",
        aliases="pneo",
        sources=(
            "MarcYin/spectral_response sources/raw/wmo/oscar/pleiades-neo (WMO OSCAR)",
            "sertit/eoreader 0.24.4 (PyPI wheel, Apache-2.0) pneo_product.py (MS 1.2 m, pan 0.3 m)",
            "GDAL PR 11075/11043: DIMAP driver writes these into the IMAGERY domain",
        ),
        width_kind="range",
        bands="""
            DB   coastal  425   50  1.2
            B    blue     485   70  1.2
            G    green    560   60  1.2
            R    red      655   70  1.2
            RE   rededge  725   50  1.2
            NIR  nir      825  110  1.2
            PAN  pan      625  350  0.3
        """,
    ),
    _sensor(
        "spot-6-7",
        "SPOT 6/7 NAOMI",
        aliases="spot6, spot7, spot67",
        sources=(
            "sertit/eoreader 0.24.4 (PyPI wheel, Apache-2.0) spot67_product.py",
            "same edges: dinamis.data-terra.org/en/spot-6-7-imagery",
            "WMO OSCAR rounds them to 485/565/655/825 (MarcYin/spectral_response)",
        ),
        note="Pan-sharpened 1.5 m products keep the four MS band definitions with gsd 1.5.",
        width_kind="range",
        bands="""
            B0   blue     485   70    6
            B1   green    560   60    6
            B2   red      660   70    6
            B3   nir      825  130    6
            PAN  pan    597.5  295  1.5
        """,
    ),
    _sensor(
        "spot-5",
        "SPOT 5 HRG",
        aliases="spot5",
        sources=(
            "sertit/eoreader 0.24.4 (PyPI wheel, Apache-2.0) spot45_product.py",
            "resmap.com and catalyst.earth list green 500-590, pan 480-710",
        ),
        width_kind="range",
        bands="""
            XS1   green    545   90  10
            XS2   red      645   70  10
            XS3   nir      835  110  10
            SWIR  swir16  1665  170  20
            PAN   pan      595  230   5
        """,
    ),
    _sensor(
        "gaofen-2-pms",
        "Gaofen-2 PMS",
        aliases="gf2, gf2_pms, gaofen2",
        sources=(
            "eo-atlas.org/products/sensor/pmc-2.md (agency-sourced, 2026-06-16: centres 485/555/660/830, PAN "
            "450-900, 0.75 m pan)",
            "eomag.eu: 0.8 m pan, 3.2 m MS",
        ),
        note="SuperView-1 has the same four edges in eoreader (sv1_product.py).",
        width_kind="range",
        bands="""
            B1   blue   485   70  3.2
            B2   green  555   70  3.2
            B3   red    660   60  3.2
            B4   nir    830  120  3.2
            PAN  pan    675  450  0.8
        """,
    ),
    _sensor(
        "gaofen-1-pms",
        "Gaofen-1 PMS",
        aliases="gf1_pms",
        sources=(
            "grokipedia/eoportal text: MS 450-520, 520-590, 630-690, 770-890; pan 450-900; 8 m and 2 m",
            "catalyst.earth gdb_r/Gaofen-1: 2 m and 8 m",
        ),
        width_kind="range",
        bands="""
            B1   blue   485   70  8
            B2   green  555   70  8
            B3   red    660   60  8
            B4   nir    830  120  8
            PAN  pan    675  450  2
        """,
    ),
    _sensor(
        "gaofen-1-wfv",
        "Gaofen-1 WFV",
        aliases="gf1_wfv",
        sources=("grokipedia/eoportal text on Gaofen-1: WFV 16 m in the same four bands as PMS",),
        width_kind="range",
        bands="""
            B1  blue   485   70  16
            B2  green  555   70  16
            B3  red    660   60  16
            B4  nir    830  120  16
        """,
    ),
    _sensor(
        "naip",
        "NAIP aerial (R G B NIR order in files)",
        sources=("Clay-foundation/model configs/metadata.yaml naip: red .65 green .56 blue .48 nir .842, gsd 1.0",),
        note="Camera varies by contractor and year: widths unknown, GSD 0.3 to 1.0 m.",
        bands="""
            R    red    650  -  1
            G    green  560  -  1
            B    blue   480  -  1
            NIR  nir    842  -  1
        """,
    ),
    _sensor(
        "aerial-rgb",
        "Generic RGB aerial / orthophoto (R G B)",
        aliases="rgb, aerial, orthophoto",
        sources=(
            "Clay configs/metadata.yaml linz: .635 .555 .465, gsd 0.5",
            "UniverSat modality_registry.py aerial: .665 .56 .49",
        ),
        note=(
            "Take GSD from the geotransform. For WHU/LEVIR/LoveDA/SECOND this is the right entry (GSD 0.3, 0.5, "
            "0.3, 0.5 to 3 m)."
        ),
        bands="""
            R  red    635  -  -
            G  green  555  -  -
            B  blue   465  -  -
        """,
    ),
    _sensor(
        "drone-p4m",
        "DJI P4 Multispectral",
        aliases="p4m, dji_p4m, p4_multispectral",
        sources=("Panopticon drone.yaml (Gaussian)",),
        bands="""
            B    blue   450  37.7  -
            G    green  560  37.7  -
            R    red    650  37.7  -
            NIR  nir    840  61.2  -
        """,
    ),
    _sensor(
        "enmap",
        "EnMAP HSI, 224 bands",
        aliases="enmap_hsi",
        sources=(
            "allenai/rslearn rslearn/models/panopticon_data/sensors/enmap.yaml (from Panopticon-FM)",
            "torchgeo/datasets/enmap.py dict agrees",
        ),
        note=(
            "FWHM derived from the Gaussian sigma in the source; the L2A XML of each product carries measured "
            "values. 418.42-2445.3 nm, sampling about 5-6.5 nm (VNIR), 8-12 nm (SWIR). " + _POSITIONS
        ),
        gsd_m=30,
        centers_nm="""
            418.42 424.04 429.46 434.69 439.76 444.7 449.54 454.31 459.03 463.73 468.41 473.08 477.74 482.41 487.09
            491.78 496.5 501.24 506.02 510.83 515.67 520.55 525.47 530.42 535.42 540.46 545.55 550.69 555.87 561.11
            566.4 571.76 577.17 582.64 588.17 593.77 599.45 605.19 611.02 616.92 622.92 628.99 635.11 641.29 647.54
            653.84 660.21 666.64 673.13 679.69 686.32 693.01 699.78 706.62 713.52 720.5 727.54 734.65 741.83 749.06
            756.35 763.7 771.11 778.57 786.08 793.64 801.25 808.9 816.61 824.36 832.14 839.98 847.85 855.76 863.7
            871.68 879.69 887.73 895.79 901.96 903.87 911.57 911.97 920.08 921.32 928.2 931.2 936.34 941.22 944.47
            951.36 952.61 960.75 961.63 968.89 972.02 977.04 982.52 985.19 993.14 993.34 1003.88 1014.72 1025.66
            1036.7 1047.84 1059.07 1070.39 1081.78 1093.26 1104.81 1116.43 1128.1 1139.84 1151.62 1163.44 1175.3
            1187.2 1199.11 1211.05 1223.0 1234.97 1246.94 1258.93 1270.92 1282.92 1294.91 1306.9 1318.88 1330.85
            1342.82 1354.76 1366.69 1378.6 1390.48 1461.1 1472.74 1484.34 1495.89 1507.4 1518.87 1530.29 1541.67
            1553.01 1564.3 1575.55 1586.76 1597.91 1609.02 1620.09 1631.11 1642.07 1653.0 1663.87 1674.7 1685.47
            1696.2 1706.87 1717.5 1728.08 1738.6 1749.08 1759.51 1939.14 1948.69 1958.2 1967.66 1977.08 1986.45
            1995.79 2005.08 2014.33 2023.54 2032.7 2041.83 2050.92 2059.96 2068.97 2077.93 2086.86 2095.74 2104.59
            2113.4 2122.17 2130.9 2139.6 2148.26 2156.88 2165.47 2174.02 2182.53 2191.01 2199.45 2207.86 2216.24
            2224.58 2232.89 2241.16 2249.4 2257.61 2265.79 2273.93 2282.04 2290.12 2298.17 2306.19 2314.17 2322.13
            2330.05 2337.94 2345.81 2353.64 2361.44 2369.21 2376.95 2384.66 2392.34 2400.0 2407.62 2415.21 2422.78
            2430.32 2437.82 2445.3
        """,
        fwhm_nm="""
            7.0 6.67 6.42 6.25 6.13 6.06 6.01 5.98 5.95 5.92 5.89 5.86 5.83 5.81 5.8 5.8 5.81 5.84 5.87 5.91 5.96 6.01
            6.07 6.12 6.18 6.24 6.29 6.35 6.41 6.47 6.53 6.58 6.64 6.7 6.76 6.82 6.88 6.95 7.02 7.1 7.18 7.25 7.33 7.4
            7.48 7.55 7.62 7.69 7.75 7.83 7.9 7.97 8.05 8.13 8.21 8.29 8.38 8.47 8.55 8.64 8.72 8.8 8.88 8.96 9.03 9.1
            9.17 9.24 9.3 9.37 9.44 9.51 9.58 9.66 9.74 9.82 9.9 9.99 10.08 9.18 10.16 9.32 10.25 10.34 9.45 10.42
            9.58 10.5 9.71 10.58 9.83 10.66 10.71 9.94 10.75 10.06 10.75 10.16 10.72 10.27 10.64 10.37 10.48 10.58
            10.67 10.77 10.86 10.94 11.02 11.08 11.14 11.19 11.24 11.28 11.31 11.34 11.37 11.39 11.4 11.41 11.42 11.43
            11.43 11.43 11.43 11.42 11.42 11.41 11.39 11.38 11.36 11.34 11.32 11.3 11.27 11.09 11.05 11.01 10.98 10.94
            10.9 10.86 10.81 10.77 10.73 10.69 10.64 10.6 10.55 10.51 10.46 10.42 10.37 10.32 10.28 10.23 10.19 10.14
            10.1 10.05 10.01 9.96 9.92 9.16 9.12 9.08 9.05 9.01 8.97 8.93 8.89 8.85 8.81 8.78 8.74 8.7 8.66 8.63 8.59
            8.55 8.52 8.48 8.44 8.41 8.37 8.34 8.3 8.27 8.23 8.2 8.16 8.13 8.1 8.06 8.03 8.0 7.97 7.94 7.91 7.88 7.85
            7.82 7.79 7.76 7.73 7.7 7.67 7.64 7.61 7.58 7.56 7.53 7.5 7.47 7.44 7.41 7.38 7.35 7.32 7.29 7.26 7.22
            7.19 7.16
        """,
    ),
    _sensor(
        "prisma",
        "PRISMA HYC",
        aliases="prisma_hyc",
        sources=(
            "nik.com.tr / eoPortal: VNIR 400-1010 nm 66 bands, SWIR 920-2505 nm 171-173 bands, FWHM <= 12 nm, 30 "
            "m; pan 400-700 nm 5 m",
            "marcyin.github.io/spectral_response sensor-notes/prisma: 66 VNIR + 172 SWIR valid bands",
        ),
        note=(
            "Read List_Cw_Vnir/List_Fwhm_Vnir/List_Cw_Swir/List_Fwhm_Swir from the HE5 of the scene (drop zero "
            "placeholders); do not synthesise. 400-2505 nm, 66 VNIR + 172 SWIR bands, FWHM at most 12 nm."
        ),
        gsd_m=30,
    ),
    _sensor(
        "aviris-classic",
        "AVIRIS-Classic, 224 bands",
        aliases="aviris",
        sources=("Panopticon/geobreeze AVIRIS list: 404.69 to 2495.31 step 9.375 nm, 3.7 m",),
        note="GSD depends on flight height (3-20 m). 404.69-2495.31 nm, 224 bands, step 9.375 nm.",
    ),
    _sensor(
        "hyperion",
        "EO-1 Hyperion, calibrated bands after water-vapour removal",
        aliases="eo1_hyperion",
        sources=("gastruc/UniverSat modality_registry.py EO1 (nm, rounded)",),
        note="175 bands, step about 10 nm; FWHM about 10-11 nm, not in the source. " + _POSITIONS,
        gsd_m=30,
        centers_nm="""
            427 437 447 457 468 478 488 498 508 518 529 539 549 559 569 579 590 600 610 620 630 641 651 661 671 681
            691 702 712 722 732 742 752 763 773 783 793 803 813 824 834 844 854 864 875 885 895 905 915 925 912 923
            933 943 953 963 973 983 993 1003 1013 1023 1033 1044 1054 1064 1074 1084 1094 1104 1114 1124 1134 1144
            1154 1164 1175 1185 1195 1205 1215 1225 1235 1245 1255 1266 1276 1286 1296 1306 1316 1326 1336 1346 1416
            1426 1436 1446 1456 1466 1478 1488 1498 1508 1518 1528 1538 1548 1558 1568 1578 1588 1599 1609 1619 1629
            1639 1649 1659 1669 1679 1689 1699 1710 1720 1730 1740 1750 1760 1770 1780 1790 1800 1810 1962 1972 1982
            1992 2002 2012 2022 2032 2042 2052 2063 2073 2083 2093 2103 2113 2123 2133 2143 2153 2163 2174 2184 2194
            2204 2214 2224 2234 2244 2254 2264 2274 2285 2295 2305 2315 2325 2335 2345 2355 2365
        """,
    ),
    _sensor(
        "neon-aop",
        "NEON AOP imaging spectrometer",
        aliases="neon",
        sources=("Panopticon neon yaml: starts 382.67 nm, about 5 nm step",),
        note="382.67-2512 nm, step 5.0 nm.",
        gsd_m=1.0,
    ),
    _sensor(
        "sentinel-1",
        "Sentinel-1 C-SAR, IW GRD",
        kind="sar",
        aliases="s1, s1_grd, s1a, s1b, s1c, s1d, sentinel1a, sentinel1b, sentinel1c, sentinel1d, c_sar",
        sources=(
            "torchgeo/datasets/sentinel.py: wavelength = 55500 um (5.55 cm)",
            "DOFA README passes 5.405 (GHz) as if micrometres; Clay 3.5/4.0 and torchgeo-bench 3.75 are "
            "placeholders (torchgeo#3931, torchgeo-bench#230)",
        ),
        note=(
            "Radar channels need a polarisation (and orbit direction) code, not only a wavelength: VV and VH "
            "share one wavelength. Panopticon gives 12 ids (4 polarisations x ascending/descending/unknown). "
            "Frequency 5.405 GHz, wavelength 0.055466 m (c / 5.405 GHz)."
        ),
        gsd_m=10,
        bands="""
            VV
            VH
            HH
            HV
        """,
    ),
    _sensor(
        "alos-palsar",
        "ALOS PALSAR / ALOS-2 PALSAR-2 L-band SAR",
        kind="sar",
        aliases="palsar, palsar2, alos2_palsar2",
        sources=(
            "catalyst.earth gdb_r/ALOS-2_PALSAR: 1.2 GHz, L (22.9 cm), HH HV VH VV",
            "GSD per mode: alos-pasco.com/en/alos-2/spec (FBD 10 m: 9.1 x 5.3 m); UniverSat alos HH/HV at 30 m",
        ),
        note=(
            "Frequency 1.27 GHz, nominal PALSAR centre; PALSAR-2 modes 1.2365/1.2575/1.2785 (to confirm). Wavelength "
            "0.236 m (c / 1.27 GHz); catalyst.earth prints 0.229."
        ),
        bands="""
            HH
            HV
            VV
            VH
        """,
    ),
    _sensor(
        "dem",
        "Elevation (no wavelength)",
        kind="elevation",
        aliases="elevation",
        sources=("UniverSat learned codes DSM / nDEM; Copernicus-FM language-embedding variables; galileo SRTM group",),
        note="Unit: metres.",
        bands="""
            DSM
            nDSM
        """,
    ),
)

SENSORS: dict[str, Sensor] = {sensor.name: sensor for sensor in _TABLE}


def _sensor_key(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())


_BY_KEY = {_sensor_key(name): sensor for sensor in _TABLE for name in (sensor.name, *sensor.aliases)}


def find_sensor(name: str) -> Sensor:
    """Looks a sensor up.

    Args:
        name: canonical name or alias; case, spaces, `_`, `-` and `/` do not matter (`Sentinel-2A`, `s2a`, `LANDSAT_8`).

    Returns:
        The sensor's record.

    Raises:
        MetadataError: no sensor goes by that name.
    """
    key = _sensor_key(name) if isinstance(name, str) else ""
    if sensor := _BY_KEY.get(key):
        return sensor
    close = dict.fromkeys(_BY_KEY[match].name for match in difflib.get_close_matches(key, _BY_KEY, n=5))
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    raise MetadataError(
        f"Sensor {name!r} is not known.{hint} Known sensors: {', '.join(SENSORS)}. For any other, give Band records."
    )


def _records(sensor: str | Sensor, names: Sequence[str] | None) -> tuple[SensorBand, ...]:
    sensor = sensor if isinstance(sensor, Sensor) else find_sensor(sensor)
    if not sensor.bands:
        raise MetadataError(
            f"The table holds no band list of sensor {sensor.name!r}: its wavelengths differ from product to product. "
            f"Take them from the product's metadata and give Band records. {sensor.note}"
        )
    if names is None:
        return sensor.bands
    if isinstance(names, str):
        raise MetadataError(f"names must be a sequence of band names, got the text {names!r}. Write [{names!r}].")
    known = ", ".join(
        record.band.name + (f" ({record.common_name})" if record.common_name else "") for record in sensor.bands
    )
    if len(sensor.bands) > _MAX_LISTED:
        known = f"{sensor.bands[0].band.name} to {sensor.bands[-1].band.name}"
    records = []
    for name in names:
        found = sensor.match(name) if isinstance(name, str) else ()
        if len(found) != 1:
            bands = " and ".join(record.band.name for record in found)
            problem = f"may mean {bands} of" if found else "is not known for"
            raise MetadataError(f"Band {name!r} {problem} sensor {sensor.name!r}. Its bands are {known}.")
        records.append(found[0])
    return tuple(records)


def sensor_bands(sensor: str | Sensor, names: Sequence[str] | None = None) -> tuple[Band, ...]:
    """The bands of a sensor.

    Args:
        sensor: a name that [`find_sensor`] takes, or a record.
        names: the bands asked for, in that order, by any name that [`Sensor.match`] takes; `None` = all.

    Returns:
        One [`Band`] a name, with its canonical name.

    Raises:
        MetadataError: the sensor is unknown or has no band list, or a name is unknown or ambiguous.
    """
    return tuple(record.band for record in _records(sensor, names))


def band_gsd_m(sensor: str | Sensor, name: str) -> float | None:
    """Ground sampling distance in metres at which a sensor records a band; `None` if unknown.

    Raises:
        MetadataError: as [`sensor_bands`].
    """
    return _records(sensor, [name])[0].gsd_m
