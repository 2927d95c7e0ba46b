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
"""From class maps and [`ImageSeries`] to GeoTIFF."""

import json
import math
import os
import secrets
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from xml.etree import ElementTree

import numpy as np
import rasterio
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning, RasterioError, RasterioIOError
from rasterio.io import DatasetWriter
from rasterio.windows import Window

from .metadata import ImageSeries
from .raster import PathLike, check_complete
from .raster_metadata import RasterError
from .visualization import Colour, default_colours

# Columns of a raster attribute table: name, GDALRATFieldType (0 integer, 2 text), GDALRATFieldUsage.
_ATTRIBUTE_FIELDS = (("Value", 0, 5), ("Class", 2, 2), ("Red", 0, 6), ("Green", 0, 7), ("Blue", 0, 8))


def check_writable(path: PathLike) -> None:
    """Makes sure that a map can be written, before any work is done for it.

    Args:
        path: the output file; one that exists will be replaced.

    Raises:
        RasterError: the name does not end in .tif or .tiff, it is that of a folder, or its folder is missing or not
            writable.
    """
    target = Path(path)
    folder = target.absolute().parent
    if target.is_dir():
        raise RasterError(f"{target} is a folder. Name a file in it, for instance {target / 'map.tif'}.")
    if target.suffix.lower() not in (".tif", ".tiff"):
        raise RasterError(f"Maps are written as GeoTIFF, but {target} does not end in .tif or .tiff. Name it so.")
    if not folder.is_dir():
        raise RasterError(f"Folder {folder} does not exist. Make it, or write elsewhere.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise RasterError(f"Folder {folder} is not writable. Change its permissions, or write elsewhere.")


def write_series(series: ImageSeries, folder: PathLike) -> list[Path]:
    """Writes a series as one GeoTIFF of float32 a date, which [`open_series`] reads back with its metadata.

    GSD is not written, as it follows from the georeference, nor is the sensor, whose table might then add to the bands.

    Args:
        series: the series, with pixels.
        folder: where to write `date_0.tif`, `date_1.tif`...; made if its parent exists. Files there are replaced.

    Returns:
        The files, in the order of the dates.

    Raises:
        MetadataError: the series holds no pixels.
        RasterError: the folder cannot be written to.
    """
    height, width = series.size
    if Path(folder).absolute().parent.is_dir() and not Path(folder).exists():
        Path(folder).mkdir()
    paths = [Path(folder) / f"date_{index}.tif" for index in range(len(series.acquisitions))]
    for path, acquisition, pixels, valid in zip(paths, series.acquisitions, series.pixels, series.valid, strict=True):
        check_writable(path)
        partial = _partial(path)
        profile = _profile(height, width, len(pixels), "float32", series.crs, series.transform)
        try:
            with _create(partial, nodata=math.nan, predictor=3, **profile) as dataset:
                dataset.write(np.where(valid, pixels, np.float32(np.nan)))
                if acquisition.datetime is not None:
                    dataset.update_tags(TIMESTAMP=acquisition.datetime.isoformat())
                for index, band in enumerate(acquisition.bands, start=1):
                    dataset.set_band_description(index, band.name)
                    tags: dict[str, Any] = {"kind": band.kind, "polarisation": band.polarisation}
                    tags |= {"wavelength_nm": band.center_nm, "fwhm_nm": band.fwhm_nm}
                    dataset.update_tags(index, **{key: value for key, value in tags.items() if value is not None})
            os.replace(partial, path)
        except (OSError, RasterioError) as error:
            raise RasterError(f"{path} cannot be written: {error}") from error
        finally:
            partial.unlink(missing_ok=True)
    return paths


class MapWriter:
    """Writes class maps as a coloured GeoTIFF, window by window; the file appears whole or not at all.

    A context manager: on normal exit the maps and beside them `<path>.aux.xml` (names and colours of the classes, as
    GDAL and QGIS read them) get their names, on an exception nothing is left. What was not written is nodata.

    Args:
        path: the output, .tif or .tiff; a file that exists is replaced.
        height: rows.
        width: columns.
        num_maps: number of maps; each becomes a band.
        class_names: names of the values 0, 1, ...; at most 255.
        crs: coordinate reference system, as in [`ImageSeries`].
        transform: the six coefficients, as in [`ImageSeries`].
        descriptions: what each map shows, for instance its date.
        nodata: value of pixels without a class.
        colours: red, green and blue (0-255) of each class; `None` = [`default_colours`].
        tags: tags of the file.

    Raises:
        RasterError: the file cannot be written there (see [`check_writable`]), or the arguments do not fit each other.
    """

    def __init__(
        self,
        path: PathLike,
        height: int,
        width: int,
        num_maps: int,
        class_names: Sequence[str],
        *,
        crs: str | None = None,
        transform: Sequence[float] | None = None,
        descriptions: Sequence[str] | None = None,
        nodata: int = 255,
        colours: Sequence[Colour] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        check_writable(path)
        self.path = Path(path)
        self.shape = (num_maps, height, width)
        self.class_names = tuple(class_names)
        self.nodata = nodata
        if min(self.shape) < 1:
            raise RasterError(f"num_maps, height and width must be 1 or more, got {self.shape}.")
        if not 1 <= len(self.class_names) <= 255:
            raise RasterError(f"A map holds 1 to 255 classes, got {len(self.class_names)}. Merge classes.")
        if not len(self.class_names) <= nodata <= 255:
            raise RasterError(f"nodata must be free of classes, {len(self.class_names)} to 255, got {nodata}.")
        self.colours = [tuple(colour) for colour in (default_colours(self.class_names) if colours is None else colours)]
        if len(self.colours) != len(self.class_names) or not all(
            len(colour) == 3 and all(0 <= part <= 255 for part in colour) for colour in self.colours
        ):
            raise RasterError(
                f"colours must hold (red, green, blue), 0 to 255, for each of {len(self.class_names)} classes, got "
                f"{self.colours}."
            )
        if descriptions is not None and len(descriptions) != num_maps:
            raise RasterError(f"descriptions must hold one text for each of {num_maps} maps, got {list(descriptions)}.")
        self._descriptions = descriptions
        self._tags = dict(tags or {})
        self._profile = _profile(height, width, num_maps, "uint8", crs, transform)
        self._partial = _partial(self.path)
        self._partial_sidecar = _partial(self.path)
        self._dataset: DatasetWriter | None = None

    def __enter__(self) -> "MapWriter":
        try:
            self._dataset = _create(self._partial, nodata=self.nodata, **self._profile)
            self._dataset.update_tags(**self._tags)
            for index in self._dataset.indexes:
                self._dataset.update_tags(index, CLASS_NAMES=json.dumps(self.class_names))
                if self._descriptions is not None:
                    self._dataset.set_band_description(index, self._descriptions[index - 1])
            if self._dataset.count == 1:
                self._dataset.write_colormap(1, dict(enumerate(self._table())))
        except RasterioError as error:
            self._discard()
            raise RasterError(f"{self.path} cannot be written: {error}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._discard()
            return
        try:
            self._dataset.close()
            check_complete(self._partial)
            ElementTree.ElementTree(self._sidecar()).write(self._partial_sidecar, encoding="utf-8")
            sidecar = self.path.with_name(self.path.name + ".aux.xml")
            os.replace(self._partial_sidecar, sidecar)
            try:
                os.replace(self._partial, self.path)
            except OSError:
                sidecar.unlink()
                raise
        except (OSError, RasterioError) as problem:
            raise RasterError(f"{self.path} cannot be written: {problem}") from problem
        finally:
            self._discard()

    def write(self, maps: np.ndarray, row: int = 0, column: int = 0) -> None:
        """Writes a window of all maps.

        Args:
            maps: (num_maps, height, width) uint8, positions in `class_names`, or nodata.
            row: row of its first pixel.
            column: column of its first pixel.

        Raises:
            RasterError: wrong type or shape, a window outside the map, a value without a class, or a failing disk.
        """
        if self._dataset is None:
            raise RasterError("MapWriter is a context manager: write inside `with MapWriter(...) as writer:`.")
        count, height, width = self.shape
        if not isinstance(maps, np.ndarray) or maps.dtype != np.uint8 or maps.ndim != 3 or len(maps) != count:
            found = f"{maps.dtype} of shape {maps.shape}" if isinstance(maps, np.ndarray) else type(maps).__name__
            raise RasterError(f"maps must be an array of uint8 of shape ({count}, height, width), got {found}.")
        if row < 0 or column < 0 or row + maps.shape[1] > height or column + maps.shape[2] > width:
            raise RasterError(
                f"Window row={row}, column={column} of {maps.shape[1]} x {maps.shape[2]} pixels does not lie inside "
                f"the map of {height} x {width}."
            )
        if (wrong := maps[(maps >= len(self.class_names)) & (maps != self.nodata)]).size:
            raise RasterError(
                f"Value {wrong[0]} has no class: values are 0 to {len(self.class_names) - 1}, and {self.nodata} for "
                "nodata."
            )
        try:
            self._dataset.write(maps, window=Window(column, row, maps.shape[2], maps.shape[1]))
        except RasterioIOError as error:
            raise RasterError(f"{self.path} cannot be written: {error.__cause__ or error}") from error

    def _table(self) -> Iterator[tuple[int, int, int, int]]:
        """Red, green, blue and alpha of the values 0 to 255; values without a class are transparent."""
        for value in range(256):
            yield (*self.colours[value], 255) if value < len(self.colours) else (0, 0, 0, 0)

    def _sidecar(self) -> ElementTree.Element:
        """GDAL's auxiliary file: names and colours of the classes for each band, which TIFF has no room for.

        Of a GeoTIFF with several bands GDAL reads the colour table of the first one only, but the attribute tables
        (value, name, colour) of all.
        """
        root = ElementTree.Element("PAMDataset")
        for index in range(1, self.shape[0] + 1):
            band = ElementTree.SubElement(root, "PAMRasterBand", band=str(index))
            ElementTree.SubElement(band, "ColorInterp").text = "Palette"
            categories = ElementTree.SubElement(band, "CategoryNames")
            for name in self.class_names:
                ElementTree.SubElement(categories, "Category").text = name
            colours = ElementTree.SubElement(band, "ColorTable")
            for colour in self._table():
                entry = {f"c{position}": str(part) for position, part in enumerate(colour, start=1)}
                ElementTree.SubElement(colours, "Entry", entry)
            attributes = ElementTree.SubElement(band, "GDALRasterAttributeTable", tableType="thematic")
            for position, (name, kind, usage) in enumerate(_ATTRIBUTE_FIELDS):
                column = ElementTree.SubElement(attributes, "FieldDefn", index=str(position))
                for key, value in (("Name", name), ("Type", kind), ("Usage", usage)):
                    ElementTree.SubElement(column, key).text = str(value)
            for value, (name, colour) in enumerate(zip(self.class_names, self.colours, strict=True)):
                row = ElementTree.SubElement(attributes, "Row", index=str(value))
                for cell in (value, name, *colour):
                    ElementTree.SubElement(row, "F").text = str(cell)
        return root

    def _discard(self) -> None:
        if self._dataset is not None:
            self._dataset.close()
            self._dataset = None
        self._partial.unlink(missing_ok=True)
        self._partial_sidecar.unlink(missing_ok=True)
        self._partial.with_name(self._partial.name + ".aux.xml").unlink(missing_ok=True)


def _partial(path: Path) -> Path:
    """A name beside the target that no other writer uses."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")


def _profile(
    height: int, width: int, count: int, dtype: str, crs: str | None, transform: Sequence[float] | None
) -> dict[str, Any]:
    """Tiled, compressed GeoTIFF; bands apart, and never taken for a colour picture."""
    try:
        known_crs = None if crs is None else CRS.from_user_input(crs)
    except ValueError as error:
        raise RasterError(f"crs {crs!r} is not known: {error}. Write WKT or EPSG:code, or None.") from error
    return {
        **{"driver": "GTiff", "dtype": dtype, "count": count, "height": height, "width": width, "crs": known_crs},
        **({} if transform is None else {"transform": Affine(*tuple(transform)[:6])}),
        **{"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate", "interleave": "band"},
        **{"photometric": "minisblack", "bigtiff": "IF_SAFER"},
    }


def _create(path: Path, **profile: Any) -> DatasetWriter:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(path, "w", **profile)
