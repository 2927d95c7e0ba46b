"""A small Sentinel-2 product in the layout in which it is distributed."""

from pathlib import Path

import numpy as np
import rasterio
from rasterio import Affine

PRODUCT = "S2A_MSIL2A_20230601T101031_N0509_R022_T32UMD_20230601T140000"
_RESOLUTIONS = {10: ("B02", "B03", "B04", "B08"), 20: ("B05", "B06", "B07", "B8A", "B11", "B12"), 60: ("B01", "B09")}
_IDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
_METADATA = """<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<n1:Level-2A_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-2A.xsd">
  <n1:General_Info>
    <Product_Info>
      <PRODUCT_START_TIME>2023-06-01T10:10:31.024Z</PRODUCT_START_TIME>
      <PRODUCT_STOP_TIME>2023-06-01T10:10:31.024Z</PRODUCT_STOP_TIME>
      <PROCESSING_LEVEL>Level-2A</PROCESSING_LEVEL>
      <PROCESSING_BASELINE>05.09</PROCESSING_BASELINE>
      <Datatake><SPACECRAFT_NAME>Sentinel-2A</SPACECRAFT_NAME></Datatake>
    </Product_Info>
    <Product_Image_Characteristics>
      <Special_Values>
        <SPECIAL_VALUE_TEXT>NODATA</SPECIAL_VALUE_TEXT><SPECIAL_VALUE_INDEX>0</SPECIAL_VALUE_INDEX>
      </Special_Values>
      <QUANTIFICATION_VALUES_LIST>
        <BOA_QUANTIFICATION_VALUE unit="none">10000</BOA_QUANTIFICATION_VALUE>
      </QUANTIFICATION_VALUES_LIST>
      <BOA_ADD_OFFSET_VALUES_LIST>{offsets}</BOA_ADD_OFFSET_VALUES_LIST>
    </Product_Image_Characteristics>
  </n1:General_Info>
</n1:Level-2A_User_Product>
"""


def write_safe(folder: Path, bands: dict[str, np.ndarray], crs: str, transform: Affine, suffix: str = "jp2") -> Path:
    """A .SAFE folder.

    Args:
        folder: where to make it.
        bands: stored numbers (rows, columns) of bands of 10 m; those of 20 and 60 m are made up.
        crs: coordinate reference system.
        transform: of the pixels of 10 m.
        suffix: `jp2` as distributed.
    """
    safe = folder / f"{PRODUCT}.SAFE"
    granule = safe / "GRANULE" / "L2A_T32UMD_A041474_20230601T101030" / "IMG_DATA"
    height, width = next(iter(bands.values())).shape
    for resolution, names in _RESOLUTIONS.items():
        place = granule / f"R{resolution}m"
        place.mkdir(parents=True)
        factor = resolution // 10
        shape = (-(-height // factor), -(-width // factor))
        a, b, c, d, e, f = tuple(transform)[:6]
        grid = Affine(a * factor, b, c, d, e * factor, f)
        for name in (*names, "SCL") if resolution == 20 else names:
            array = bands.get(name, np.full(shape, 2000 if name != "SCL" else 4, "uint16"))
            _write(place / f"T32UMD_20230601T101031_{name}_{resolution}m.{suffix}", array, crs, grid)
    offsets = "".join(f'<BOA_ADD_OFFSET band_id="{index}">-1000</BOA_ADD_OFFSET>' for index in range(len(_IDS)))
    (safe / "MTD_MSIL2A.xml").write_text(_METADATA.format(offsets=offsets))
    return safe


def _write(path: Path, array: np.ndarray, crs: str, transform: Affine) -> None:
    options = {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES"}
    if path.suffix == ".tif":
        options = {"driver": "GTiff"}
    with rasterio.open(
        path,
        "w",
        count=1,
        height=array.shape[0],
        width=array.shape[1],
        dtype="uint16",
        crs=crs,
        transform=transform,
        **options,
    ) as dataset:
        dataset.write(array.astype("uint16"), 1)
