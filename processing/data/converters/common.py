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
"""What all converters share: the folder being written, the files of a source, and its labels."""

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window
from tqdm.auto import tqdm

from ...errors import STSUNError
from ...metadata import CHANGE_CLASSES
from ...rasters.folders import natural_key

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
# Rows of a label map that are recoded at once.
_ROWS = 1024
CHANGE = [{"id": index, "name": name} for index, name in enumerate(CHANGE_CLASSES)]
# Of cameras whose bands nobody published: what red, green and blue commonly mean.
RGB = [
    {"name": name, "center_nm": center, "kind": "reflective", "nominal": True}
    for name, center in (("red", 650), ("green", 550), ("blue", 450))
]


class ConversionError(STSUNError, ValueError):
    """A source that cannot be converted. The message says what was found, what is expected, and what to do."""


Recode = Callable[[np.ndarray, str], np.ndarray]


class Target:
    """The folder being written, beside its final place.

    Args:
        path: where the folder goes.
        progress: whether progress bars are shown.

    Attributes:
        notes: what was left out, and why.
    """

    def __init__(self, path: Path, progress: bool) -> None:
        self.path, self.progress = path, progress
        # A sibling, so that relative paths to the source are right in both places.
        self.partial = path.with_name(f".{path.name}.partial")
        self.samples: list[dict[str, Any]] = []
        self.splits: dict[str, list[str]] = {}
        self.notes: list[str] = []

    def bar(self, items: Sequence[Any]) -> Iterator[Any]:
        """The items, with a progress bar."""
        return iter(tqdm(items, desc="samples", disable=not self.progress))

    def refer(self, path: Path) -> str:
        """The path of a file of the source, as `dataset.json` names it."""
        try:
            return Path(os.path.relpath(path.resolve(), self.path.parent.resolve() / self.path.name)).as_posix()
        except ValueError:  # another drive
            return path.resolve().as_posix()

    def add(self, split: str, name: str, images: Sequence[Mapping[str, Any]], labels: Mapping[str, Any]) -> None:
        """Adds a sample; `images` name their `path` as a file or folder of the source, or one below the target."""
        first = images[0]["path"]
        path = self.partial / first if isinstance(first, str) else first
        if path.is_dir():
            path = rasters_in(path)[0]
        with open_raster(path) as raster:
            height, width = raster.shape
        self.samples.append(
            {
                "id": name,
                "height": height,
                "width": width,
                "images": [
                    {**image, "path": path if isinstance(path := image["path"], str) else self.refer(path)}
                    for image in images
                ],
                "labels": dict(labels),
            }
        )
        self.splits.setdefault(split, []).append(name)

    def recode(self, name: str, path: Path, recode: Recode, image: Path) -> str:
        """Writes a label map with other values, strip by strip; returns its path in the target.

        Args:
            name: of the new map, without suffix.
            path: the label map of the source.
            recode: (bands, rows, columns) stored values and the path of the map -> (rows, columns) uint8.
            image: a raster of the sample, whose size the map must have.
        """
        with open_raster(image) as raster:
            size = raster.shape
        with open_raster(path) as raster:
            if raster.shape != size:
                raise ConversionError(
                    f"Label map {path} measures {raster.height} x {raster.width} pixels, its image {image} {size[0]} x "
                    f"{size[1]}. Fetch the two again: they do not belong together."
                )
            relative = f"labels/{name}.tif"
            palette = _palette(raster)
            with self.create(relative, 1, "uint8", size, raster.crs, raster.transform) as written:
                for top in range(0, size[0], _ROWS):
                    window = Window(0, top, size[1], min(_ROWS, size[0] - top))
                    values = raster.read(window=window)
                    written.write(
                        recode(values if palette is None else palette[:, values[0]], str(path)), 1, window=window
                    )
        return relative

    def create(
        self, relative: str, count: int, dtype: str, size: tuple[int, int], crs: Any = None, transform: Any = None
    ) -> Any:
        """A GeoTIFF of the target, open for writing."""
        path = self.partial / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        place = {} if transform is None or transform.is_identity else {"crs": crs, "transform": transform}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            return rasterio.open(
                path,
                "w",
                driver="GTiff",
                count=count,
                dtype=dtype,
                height=size[0],
                width=size[1],
                compress="deflate",
                **place,
            )


def open_raster(path: Path) -> DatasetReader:
    """Opens a raster, which need not be georeferenced."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            return rasterio.open(path)
    except RasterioError as error:
        raise ConversionError(f"{path} cannot be read: {error}. Fetch it again.") from error


def rasters_in(folder: Path) -> list[Path]:
    """The images of a folder, by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)


def child(folder: Path, *names: str) -> Path | None:
    """The entry of a folder that has one of these names, in capitals or not; `None` if there is none."""
    entries = {path.name.casefold(): path for path in folder.iterdir()} if folder.is_dir() else {}
    return next((entries[name.casefold()] for name in names if name.casefold() in entries), None)


def need(folder: Path, *names: str) -> Path:
    """As `child`, where it must be there."""
    if (found := child(folder, *names)) is None:
        raise ConversionError(f"{folder} holds no {' or '.join(names)}; it holds {listing(folder)}.")
    return found


def listing(folder: Path) -> str:
    """What a folder holds, for messages."""
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "") or "nothing"


def matching_files(folders: Mapping[str, Path]) -> dict[str, dict[str, Path]]:
    """{stem: {folder: file}} of the files that all folders hold under the same name; all must have all."""
    stems = {key: {path.stem: path for path in rasters_in(folder)} for key, folder in folders.items()}
    every = sorted(set().union(*stems.values()), key=natural_key)
    if not every:
        raise ConversionError(f"{', '.join(map(str, folders.values()))} hold no image ({', '.join(IMAGE_SUFFIXES)}).")
    for key, files in stems.items():
        if missing := [stem for stem in every if stem not in files]:
            raise ConversionError(
                f"{folders[key]} lacks {len(missing)} files that its neighbours have: {', '.join(missing[:5])}. Fetch "
                "them, or remove their counterparts."
            )
    return {stem: {key: files[stem] for key, files in stems.items()} for stem in every}


def _palette(raster: DatasetReader) -> np.ndarray | None:
    """(3, 256) colours of a map that stores positions in a table of colours."""
    try:
        table = raster.colormap(1)
    except ValueError:
        return None
    return np.array([table.get(index, (0, 0, 0, 0))[:3] for index in range(256)], dtype=np.uint8).T


def grey_band(values: np.ndarray, path: str) -> np.ndarray:
    """The one band of a map, also where grey is stored as equal red, green and blue."""
    bands = values[:3] if len(values) in (3, 4) else values
    if len(values) == 2 or len(values) > 4 or any((band != bands[0]).any() for band in bands):
        raise ConversionError(
            f"Label map {path} holds {len(values)} bands that differ; one of grey values is expected."
        )
    return bands[0]


def binary_ids(values: np.ndarray, path: str) -> np.ndarray:
    """Ids 0 and 1 from a mask of 0 and 255, or 0 and 1; from a JPEG, which blurs them, by the nearer of 0 and 255.

    Raises:
        ConversionError: another value is met.
    """
    grey = grey_band(values, path)
    if path.lower().endswith((".jpg", ".jpeg")):
        return (grey > 127).astype(np.uint8)
    others = np.setdiff1d(grey, (0, 1, 255))
    if others.size:
        raise ConversionError(
            f"Label map {path} holds {', '.join(map(str, others[:10]))}; 0 and 255 (or 1) are expected. It is not the "
            "mask of this data set, or was resampled."
        )
    return (grey != 0).astype(np.uint8)


def colour_ids(values: np.ndarray, path: str, colours: Mapping[tuple[int, int, int], int]) -> np.ndarray:
    """Ids from colours.

    Args:
        values: (3 or 4, rows, columns) red, green, blue.
        path: of the map, for messages.
        colours: id of each colour.

    Raises:
        ConversionError: not an RGB map, or a colour that has no id; the message names the colours and counts them.
    """
    if len(values) not in (3, 4):
        raise ConversionError(f"Label map {path} holds {len(values)} bands; red, green and blue are expected.")
    packed = (values[:3].astype(np.int64) * np.array([1 << 16, 1 << 8, 1])[:, None, None]).sum(0)
    met, position, counts = np.unique(packed, return_inverse=True, return_counts=True)
    table = {(red << 16) + (green << 8) + blue: number for (red, green, blue), number in colours.items()}
    unknown = [(int(colour), int(count)) for colour, count in zip(met, counts, strict=True) if int(colour) not in table]
    if unknown:
        shown = ", ".join(f"({c >> 16}, {c >> 8 & 255}, {c & 255}) in {count} pixels" for c, count in unknown[:5])
        raise ConversionError(
            f"Label map {path} holds {len(unknown)} colours without a class: {shown}. Known are "
            f"{', '.join(map(str, colours))}. It is not a map of this data set, or was resampled or compressed."
        )
    return np.array([table[int(colour)] for colour in met], dtype=np.uint8)[position].reshape(packed.shape)


def check_sizes(*paths: Path) -> None:
    """Refuses rasters of different sizes."""
    sizes = {}
    for path in paths:
        with open_raster(path) as raster:
            sizes.setdefault(raster.shape, path)
    if len(sizes) > 1:
        shown = ", ".join(f"{path} {height} x {width}" for (height, width), path in sizes.items())
        raise ConversionError(f"The dates of a sample measure differently: {shown}. Fetch them again.")
