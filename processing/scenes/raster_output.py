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
"""From class maps and [`ImageSeries`] to GeoTIFF, and from maps in GeoTIFF to pictures."""

import json
import math
import os
import secrets
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from xml.etree import ElementTree

import numpy as np
import rasterio
import rasterio.shutil
from rasterio import Affine, windows

# What `rasterio.shutil.copy` raises; rasterio.errors has no name for it.
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader, DatasetWriter
from rasterio.windows import Window

from .._files import sync
from ..metadata import IGNORE_INDEX, ImageSeries
from ..rasters.entries import PathLike
from ..rasters.records import GDAL_ERRORS, RasterError
from .visualization import Colour, default_colours, map_sheet

# What stands for no class in maps of uint16.
WIDE_NODATA = 65535
RASTER_SUFFIXES = (".tif", ".tiff")
PICTURE_SUFFIXES = (".png",)

# Side of the blocks of a GeoTIFF. 256, not the 512 of GDAL's COG driver: probabilities of a hundred classes
# are interleaved by pixel, and a block of them has to stay small.
_BLOCK_SIZE = 256
# Of a name, where the system does not say how many it allows.
_NAME_BYTES = 255

# Columns of a raster attribute table: name, GDALRATFieldType (0 integer, 2 text), GDALRATFieldUsage.
_ATTRIBUTE_FIELDS = (("Value", 0, 5), ("Class", 2, 2), ("Red", 0, 6), ("Green", 0, 7), ("Blue", 0, 8))


def check_writable(path: PathLike, suffixes: Sequence[str] = RASTER_SUFFIXES) -> None:
    """Makes sure that an output can be written, before any work is done for it.

    Args:
        path: the output file; one that exists will be replaced.
        suffixes: how its name may end.

    Raises:
        RasterError: the name ends otherwise, it is that of a folder, or its folder is missing or not writable.
    """
    target = Path(path)
    folder = target.absolute().parent
    if target.is_dir():
        raise RasterError(f"{target} is a folder. Name a file in it, for instance {target / f'map{suffixes[0]}'}.")
    if target.suffix.lower() not in suffixes:
        raise RasterError(f"{target} does not end in {' or '.join(suffixes)}. Name it so.")
    if not folder.is_dir():
        raise RasterError(f"Folder {folder} does not exist. Make it, or write elsewhere.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise RasterError(f"Folder {folder} is not writable. Change its permissions, or write elsewhere.")
    _check_name(target, folder)


def _check_name(target: Path, folder: Path) -> None:
    """Refuses a name that would fail only when the file, or one beside it, is written."""
    try:
        target.name.encode()
    except UnicodeEncodeError as error:
        raise RasterError(f"{target.name!r} is no name in UTF-8, which GDAL asks for. Name it otherwise.") from error
    longest = len(os.fsencode(f"{_partial(target).name}.aux.xml"))
    limit = os.pathconf(folder, "PC_NAME_MAX") if hasattr(os, "pathconf") else _NAME_BYTES
    if longest > limit:
        raise RasterError(
            f"{target.name} is too long: until it is complete, a file takes up to {longest} bytes for its name, and "
            f"{folder} allows {limit}. Take a shorter name."
        )


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
        stored = np.where(valid, pixels, np.float32(np.nan))
        profile = _profile(height, width, len(pixels), "float32", series.crs, series.transform)
        try:
            with _create(partial, nodata=math.nan, predictor=3, **profile) as dataset:
                dataset.write(stored)
                if acquisition.datetime is not None:
                    dataset.update_tags(TIMESTAMP=acquisition.datetime.isoformat())
                for index, band in enumerate(acquisition.bands, start=1):
                    dataset.set_band_description(index, band.name)
                    tags: dict[str, Any] = {"kind": band.kind, "polarisation": band.polarisation}
                    tags |= {"wavelength_nm": band.center_nm, "fwhm_nm": band.fwhm_nm}
                    dataset.update_tags(index, **{key: value for key, value in tags.items() if value is not None})
            with open_quietly(partial) as dataset:
                if not np.array_equal(dataset.read(), stored, equal_nan=True):
                    raise RasterError("it does not read back as it was written. Is the disk full or failing?")
            os.replace(partial, path)
        except (OSError, RasterError, RasterioError) as error:
            raise RasterError(f"{path} cannot be written: {error}") from error
        finally:
            partial.unlink(missing_ok=True)
    return paths


class RasterWriter:
    """Writes arrays as a Cloud Optimized GeoTIFF with overviews, window by window; it appears whole or not at all.

    A context manager: on normal exit the file gets its name once every window was read back from it as it was written,
    on an exception nothing is left. What was not written is nodata. Until then the disk holds the data twice.

    Args:
        path: the output, .tif or .tiff; a file that exists is replaced.
        height: rows.
        width: columns.
        count: number of bands.
        dtype: type of the values.
        nodata: value of pixels without data.
        crs: coordinate reference system, as in [`ImageSeries`].
        transform: the six coefficients, as in [`ImageSeries`].
        descriptions: what each band shows, for instance its date.
        tags: tags of the file.
        scale: factor from stored numbers to physical units.
        resampling: how overviews are made, a name that GDAL's COG driver knows.

    Raises:
        RasterError: the file cannot be written there (see [`check_writable`]), or the arguments do not fit each other.
    """

    def __init__(
        self,
        path: PathLike,
        height: int,
        width: int,
        count: int,
        dtype: str,
        nodata: float,
        *,
        crs: str | None = None,
        transform: Sequence[float] | None = None,
        descriptions: Sequence[str] | None = None,
        tags: Mapping[str, str] | None = None,
        scale: float = 1.0,
        resampling: str = "average",
    ) -> None:
        check_writable(path)
        self.path = Path(path)
        self.shape = (count, height, width)
        self.dtype = np.dtype(dtype)
        self.nodata = nodata
        if min(self.shape) < 1:
            raise RasterError(f"The number of bands, height and width must be 1 or more, got {self.shape}.")
        if descriptions is not None and len(descriptions) != count:
            raise RasterError(f"descriptions must hold one text for each of {count} maps, got {list(descriptions)}.")
        self._descriptions = descriptions
        self._tags = dict(tags or {})
        self._scale = scale
        self._resampling = resampling
        self._profile = _profile(height, width, count, dtype, crs, transform)
        # Windows are written to the draft in any order; a COG has to be made of it in one go.
        self._draft = _partial(self.path)
        self._partial = _partial(self.path)
        self._partial_sidecar = _partial(self.path)
        self._written: list[tuple[Window, int]] = []
        self._dataset: DatasetWriter | None = None

    def __enter__(self) -> Self:
        try:
            # The draft lives for minutes: fast compression.
            self._dataset = _create(self._draft, nodata=self.nodata, zlevel=1, **self._profile)
            self._dataset.update_tags(**self._tags)
            if self._scale != 1.0:
                self._dataset.scales = (self._scale,) * self._dataset.count
            for index in self._dataset.indexes:
                if self._descriptions is not None:
                    self._dataset.set_band_description(index, self._descriptions[index - 1])
            self._describe(self._dataset)
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
            self._copy()
            self._check_written()
            sidecar = self._sidecar()
            final = self.path.with_name(self.path.name + ".aux.xml")
            sync(self._partial)
            if sidecar is None:
                final.unlink(missing_ok=True)
            else:
                ElementTree.ElementTree(sidecar).write(self._partial_sidecar, encoding="utf-8")
                sync(self._partial_sidecar)
                os.replace(self._partial_sidecar, final)
            try:
                os.replace(self._partial, self.path)
                sync(self.path.parent)
            except OSError:
                final.unlink(missing_ok=True)
                raise
        except (OSError, RasterError, RasterioError) as problem:
            raise RasterError(f"{self.path} cannot be written: {problem}") from problem
        finally:
            self._discard()

    def write(self, array: np.ndarray, row: int = 0, column: int = 0) -> None:
        """Writes a window of all bands.

        Args:
            array: (count, height, width) of the writer's type.
            row: row of its first pixel.
            column: column of its first pixel.

        Raises:
            RasterError: wrong type or shape, a window outside the raster, or a failing disk.
        """
        if self._dataset is None:
            name = type(self).__name__
            raise RasterError(f"{name} is a context manager: write inside `with {name}(...) as writer:`.")
        count, height, width = self.shape
        if not isinstance(array, np.ndarray) or array.dtype != self.dtype or array.ndim != 3 or len(array) != count:
            found = f"{array.dtype} of shape {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
            raise RasterError(
                f"What is written must be an array of {self.dtype} of shape ({count}, height, width), got {found}."
            )
        if row < 0 or column < 0 or row + array.shape[1] > height or column + array.shape[2] > width:
            raise RasterError(
                f"Window row={row}, column={column} of {array.shape[1]} x {array.shape[2]} pixels does not lie inside "
                f"the map of {height} x {width}."
            )
        window = Window(column, row, array.shape[2], array.shape[1])
        try:
            self._dataset.write(array, window=window)
        except RasterioError as error:
            raise RasterError(f"{self.path} cannot be written: {error.__cause__ or error}") from error
        self._written.append((window, zlib.crc32(np.ascontiguousarray(array))))

    def _copy(self) -> None:
        """Makes the Cloud Optimized GeoTIFF of the draft."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            try:
                rasterio.shutil.copy(
                    self._draft,
                    self._partial,
                    driver="COG",
                    compress="deflate",
                    blocksize=_BLOCK_SIZE,
                    overview_resampling=self._resampling,
                    bigtiff="IF_SAFER",
                )
            except GDAL_ERRORS as error:
                raise RasterError(str(error)) from error

    def _describe(self, dataset: DatasetWriter) -> None:
        """Adds what a subclass has to say."""

    def _sidecar(self) -> ElementTree.Element | None:
        """GDAL's auxiliary file, for what TIFF has no room for."""
        return None

    def _check_written(self) -> None:
        """Reads every window back: a full disk need not show when GDAL writes or closes a file.

        If a later window covered a part of an earlier one, only the later one is looked at.
        """
        with open_quietly(self._partial) as dataset:
            for index, (window, expected) in enumerate(self._written):
                if any(windows.intersect(window, later) for later, _ in self._written[index + 1 :]):
                    continue
                if zlib.crc32(np.ascontiguousarray(dataset.read(window=window))) != expected:
                    raise RasterError(
                        f"rows {window.row_off} to {window.row_off + window.height} do not read back as they were "
                        "written. Is the disk full or failing?"
                    )

    def _discard(self) -> None:
        if self._dataset is not None:
            self._dataset.close()
            self._dataset = None
        for path in (self._draft, self._partial, self._partial_sidecar):
            path.unlink(missing_ok=True)
            path.with_name(path.name + ".aux.xml").unlink(missing_ok=True)


class MapWriter(RasterWriter):
    """Writes class maps as a coloured GeoTIFF, window by window; see [`RasterWriter`].

    Beside the maps lies `<path>.aux.xml`: names and colours of the classes, as GDAL and QGIS read them.

    Args:
        path: the output, .tif or .tiff; a file that exists is replaced.
        height: rows.
        width: columns.
        num_maps: number of maps; each becomes a band.
        class_names: names of the values 0, 1, ...; at most `nodata`.
        crs: coordinate reference system, as in [`ImageSeries`].
        transform: the six coefficients, as in [`ImageSeries`].
        descriptions: what each map shows, for instance its date.
        nodata: value of pixels without a class: up to 255 for maps of uint8, 65535 for maps of uint16.
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
        nodata: int = IGNORE_INDEX,
        colours: Sequence[Colour] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(
            path,
            height,
            width,
            num_maps,
            "uint16" if nodata == WIDE_NODATA else "uint8",
            nodata,
            crs=crs,
            transform=transform,
            descriptions=descriptions,
            tags=tags,
            # The mean of two class numbers is no class.
            resampling="mode",
        )
        self.class_names = tuple(class_names)
        limit = WIDE_NODATA if nodata == WIDE_NODATA else IGNORE_INDEX
        if not 1 <= len(self.class_names) <= limit:
            raise RasterError(f"A map holds 1 to {limit} classes, got {len(self.class_names)}. Merge classes.")
        if not len(self.class_names) <= nodata <= limit:
            raise RasterError(f"nodata must be free of classes, {len(self.class_names)} to {limit}, got {nodata}.")
        self.colours = [tuple(colour) for colour in (default_colours(self.class_names) if colours is None else colours)]
        if len(self.colours) != len(self.class_names) or not all(
            len(colour) == 3 and all(0 <= part <= 255 for part in colour) for colour in self.colours
        ):
            raise RasterError(
                f"colours must hold (red, green, blue), 0 to 255, for each of {len(self.class_names)} classes, got "
                f"{self.colours}."
            )

    def write(self, array: np.ndarray, row: int = 0, column: int = 0) -> None:
        """Writes a window of all maps.

        Args:
            array: (num_maps, height, width), positions in `class_names`, or nodata.
            row: row of its first pixel.
            column: column of its first pixel.

        Raises:
            RasterError: see [`RasterWriter.write`]; also a value without a class.
        """
        if isinstance(array, np.ndarray) and array.dtype == self.dtype:
            wrong = array[(array >= len(self.class_names)) & (array != self.nodata)]
            if wrong.size:
                raise RasterError(
                    f"Value {wrong[0]} has no class: values are 0 to {len(self.class_names) - 1}, and {self.nodata} "
                    "for nodata."
                )
        super().write(array, row, column)

    def _describe(self, dataset: DatasetWriter) -> None:
        for index in dataset.indexes:
            dataset.update_tags(index, CLASS_NAMES=json.dumps(self.class_names))
        if dataset.count == 1 and self.dtype == np.uint8:
            dataset.write_colormap(1, dict(enumerate(self._table())))

    def _table(self) -> Iterator[tuple[int, int, int, int]]:
        """Red, green, blue and alpha of the values 0 to 255; values without a class are transparent."""
        for value in range(max(256, len(self.colours))):
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


def write_quick_look(source: PathLike, path: PathLike, size: int = 1024) -> None:
    """Draws the maps of a file that [`MapWriter`] wrote, with their legend, as a PNG for people.

    It reads overviews, so that a large map takes no longer than a small one.

    Args:
        source: the maps.
        path: the picture, .png; a file that exists is replaced.
        size: longer side of each map in the picture at most, in pixels.

    Raises:
        RasterError: the picture cannot be written there, or `source` holds no class names.
    """
    check_writable(path, PICTURE_SUFFIXES)
    with open_quietly(source) as dataset:
        names = class_names(dataset)
        scale = min(1.0, size / max(dataset.shape))
        shape = (dataset.count, *(max(1, round(side * scale)) for side in dataset.shape))
        maps = dataset.read(out_shape=shape, resampling=Resampling.nearest)
        captions = [text or f"map {index}" for index, text in enumerate(dataset.descriptions, start=1)]
        table = _colours(source) or default_colours(names)
        maps = np.where(maps == dataset.nodata, WIDE_NODATA, maps.astype(np.uint16))
    picture = map_sheet(maps, captions, dict(zip(names, table, strict=True)))
    partial = _partial(Path(path))
    try:
        picture.save(partial, format="png")
        os.replace(partial, path)
    except OSError as error:
        raise RasterError(f"{path} cannot be written: {error}") from error
    finally:
        partial.unlink(missing_ok=True)


def class_names(dataset: DatasetReader) -> list[str]:
    """Names of the values of the maps in a file that [`MapWriter`] wrote.

    Raises:
        RasterError: the file does not tell.
    """
    text = dataset.tags(1).get("CLASS_NAMES")
    if text is None:
        raise RasterError(f"{dataset.name} has no tag CLASS_NAMES: it is no map that stsun wrote. Name one that is.")
    return json.loads(text)


def _colours(source: PathLike) -> list[Colour] | None:
    """Colours of the classes from the sidecar of a map."""
    sidecar = Path(f"{os.fspath(source)}.aux.xml")
    if not sidecar.exists():
        return None
    rows = ElementTree.parse(sidecar).getroot().find("PAMRasterBand").iterfind("GDALRasterAttributeTable/Row")
    return [tuple(int(cell.text) for cell in row.findall("F")[2:5]) for row in rows]


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
    profile = {
        "driver": "GTiff",
        "dtype": dtype,
        "count": count,
        "height": height,
        "width": width,
        "crs": known_crs,
        "tiled": True,
        "blockxsize": _BLOCK_SIZE,
        "blockysize": _BLOCK_SIZE,
        "compress": "deflate",
        "interleave": "band",
        "photometric": "minisblack",
        "bigtiff": "IF_SAFER",
    }
    if transform is not None:
        profile["transform"] = Affine(*tuple(transform)[:6])
    return profile


def _create(path: Path, **profile: Any) -> DatasetWriter:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(path, "w", **profile)


def open_quietly(path: PathLike) -> DatasetReader:
    """Opens a raster; that it may lack a georeference is no news."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(path)
