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
"""From the published layouts of well-known data sets to the folder format of `dataset_description`.

A converter reads the layout in which a data set was published, writes a `dataset.json` that names the source's own
rasters by relative paths, and writes rasters anew only where the source holds something else than class ids or rasters:
colours, 0 and 255, signed numbers, arrays. The source is never changed; the target appears when it is complete. Move
source and target together, or convert again.

Each converter's docstring says what is expected and where the layout is described. A layout that is not recognised, a
file that lacks its counterpart, and a label with a value or colour that the data set does not have are refused by name.
"""

import json
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window
from tqdm.auto import tqdm

from ..metadata import CHANGE_CLASSES, IGNORE_INDEX
from ..rasters.sensors import sensor_bands
from .description import DatasetDescription

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
# Rows of a label map that are recoded at once.
_ROWS = 1024
_CHANGE = [{"id": index, "name": name} for index, name in enumerate(CHANGE_CLASSES)]
# Of cameras whose bands nobody published: what red, green and blue commonly mean.
_RGB = [
    {"name": name, "center_nm": center, "kind": "reflective", "nominal": True}
    for name, center in (("red", 650), ("green", 550), ("blue", 450))
]


class ConversionError(ValueError):
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
            path = _rasters(path)[0]
        with _open(path) as raster:
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
        with _open(image) as raster:
            size = raster.shape
        with _open(path) as raster:
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


def convert(name: str, source: str | Path, target: str | Path, progress: bool = True) -> list[str]:
    """Makes a folder with a `dataset.json` from a data set in its published layout.

    Args:
        name: which data set; see `CONVERTERS`.
        source: the folder that holds it, as its archives unpack.
        target: the folder to make; it must not exist, or be empty.
        progress: whether a progress bar is shown.

    Returns:
        What was left out, and why; empty if nothing was.

    Raises:
        ConversionError: an unknown name, a layout that is not recognised, a missing counterpart, a label with a value
            or colour that the data set does not have, sizes that differ, or a target that is not free.
    """
    key = re.sub(r"[\s_]+", "-", name.strip().casefold())
    if key not in CONVERTERS:
        raise ConversionError(f"Data set {name!r} is unknown; known are {', '.join(CONVERTERS)}.")
    source, path = Path(source), Path(target)
    if not source.is_dir():
        raise ConversionError(f"{source} is not a folder. Name the one that the archives of {name} were unpacked into.")
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ConversionError(f"{path} exists already. Name a new folder.")
    folder = Target(path, progress)
    shutil.rmtree(folder.partial, ignore_errors=True)
    folder.partial.mkdir(parents=True)
    try:
        document = CONVERTERS[key](source, folder)
        document |= {"samples": folder.samples, "splits": folder.splits, "notes": folder.notes}
        (folder.partial / "dataset.json").write_text(json.dumps({"name": key.replace("-", "_"), **document}, indent=1))
        DatasetDescription.read(folder.partial / "dataset.json")
        if path.exists():
            path.rmdir()
        folder.partial.rename(path)
    except BaseException:
        shutil.rmtree(folder.partial, ignore_errors=True)
        raise
    return folder.notes


# Files


def _open(path: Path) -> DatasetReader:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            return rasterio.open(path)
    except RasterioError as error:
        raise ConversionError(f"{path} cannot be read: {error}. Fetch it again.") from error


def _rasters(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)


def _child(folder: Path, *names: str) -> Path | None:
    """The entry of a folder that has one of these names, in capitals or not; `None` if there is none."""
    entries = {path.name.casefold(): path for path in folder.iterdir()} if folder.is_dir() else {}
    return next((entries[name.casefold()] for name in names if name.casefold() in entries), None)


def _need(folder: Path, *names: str) -> Path:
    """As `_child`, where it must be there."""
    if (found := _child(folder, *names)) is None:
        raise ConversionError(f"{folder} holds no {' or '.join(names)}; it holds {_listing(folder)}.")
    return found


def _listing(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "") or "nothing"


def _matching(folders: Mapping[str, Path]) -> dict[str, dict[str, Path]]:
    """{stem: {folder: file}} of the files that all folders hold under the same name; all must have all."""
    stems = {key: {path.stem: path for path in _rasters(folder)} for key, folder in folders.items()}
    every = sorted(set().union(*stems.values()), key=_natural)
    if not every:
        raise ConversionError(f"{', '.join(map(str, folders.values()))} hold no image ({', '.join(IMAGE_SUFFIXES)}).")
    for key, files in stems.items():
        if missing := [stem for stem in every if stem not in files]:
            raise ConversionError(
                f"{folders[key]} lacks {len(missing)} files that its neighbours have: {', '.join(missing[:5])}. Fetch "
                "them, or remove their counterparts."
            )
    return {stem: {key: files[stem] for key, files in stems.items()} for stem in every}


def _natural(name: str) -> list[tuple[int, int, str]]:
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]


# Labels


def _palette(raster: DatasetReader) -> np.ndarray | None:
    """(3, 256) colours of a map that stores positions in a table of colours."""
    try:
        table = raster.colormap(1)
    except ValueError:
        return None
    return np.array([table.get(index, (0, 0, 0, 0))[:3] for index in range(256)], dtype=np.uint8).T


def _grey(values: np.ndarray, path: str) -> np.ndarray:
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
    grey = _grey(values, path)
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


# Data sets


def _change_pairs(source: Path) -> Iterator[tuple[str, str, dict[str, Path]]]:
    """(split, id, files A, B and label) of the two layouts in which bi-temporal change sets go round."""

    def files(folder: Path) -> dict[str, dict[str, Path]]:
        return _matching({"A": _need(folder, "A"), "B": _need(folder, "B"), "label": _need(folder, "label", "OUT")})

    splits = {split: _child(source, split) for split in ("train", "val", "test")}
    if any(splits.values()):
        for split, folder in splits.items():
            for stem, matching in (files(folder) if folder is not None else {}).items():
                # LEVIR-CD numbers its splits alike (train_1, val_1), WHU-CD does not.
                yield split, stem if stem.startswith(split) else f"{split}_{stem}", matching
        return
    if _child(source, "A") is None:
        raise ConversionError(
            f"{source} holds neither folders train, val, test nor A, B, label; it holds {_listing(source)}. Name the "
            "folder that holds them."
        )
    found, lists = files(source), _child(source, "list")
    if lists is None:
        strange = [stem for stem in found if not stem.startswith(("train", "val", "test"))]
        if strange:
            raise ConversionError(
                f"{source} has no folder `list` with train.txt, val.txt and test.txt, and names such as {strange[0]} "
                "do not say their split (train_*, val_*, test_*). Add the lists of the split that you follow."
            )
        for stem, matching in found.items():
            yield re.match("train|val|test", stem)[0], stem, matching
        return
    for split in ("train", "val", "test"):
        listed = _child(lists, f"{split}.txt")
        for entry in listed.read_text().split() if listed is not None else ():
            stem = Path(entry).stem
            if stem not in found:
                raise ConversionError(f"{listed} names {entry}, which is not in {source / 'A'}. Fetch it.")
            yield split, stem, found[stem]


def _convert_pairs(source: Path, target: Target, dates: Sequence[str | None]) -> None:
    for split, name, files in target.bar(list(_change_pairs(source))):
        images = [{"path": files[key], "timestamp": date} for key, date in zip("AB", dates, strict=True)]
        _check_sizes(files["A"], files["B"])
        label = target.recode(name, files["label"], binary_ids, files["A"])
        target.add(split, name, images, {"change": label})


def _check_sizes(*paths: Path) -> None:
    sizes = {}
    for path in paths:
        with _open(path) as raster:
            sizes.setdefault(raster.shape, path)
    if len(sizes) > 1:
        shown = ", ".join(f"{path} {height} x {width}" for (height, width), path in sizes.items())
        raise ConversionError(f"The dates of a sample measure differently: {shown}. Fetch them again.")


def _levir_cd(source: Path, target: Target) -> dict[str, Any]:
    """LEVIR-CD: buildings in Texas, 637 pairs of 1024 x 1024 pixels of 0.5 m.

    `{train,val,test}/{A,B,label}/<name>.png`; the labels are 0 and 255. Also flat, as it goes round cut into 256 x 256:
    `{A,B,label}/<name>.png` with `list/{train,val,test}.txt`, or with names that start with the split.

    Source: Chen and Shi, A spatial-temporal attention-based method and a new dataset for remote sensing image change
    detection, 2020, doi:10.3390/rs12101662; https://github.com/justchenhao/STANet; the flat layouts:
    https://github.com/justchenhao/BIT_CD and the LEVIRCD class of TorchGeo.
    """
    _convert_pairs(source, target, (None, None))
    return {
        "tasks": ["binary_change_detection"],
        "bands": _RGB,
        "gsd_m": 0.5,
        "change_classes": _CHANGE,
    }


def _whu_cd(source: Path, target: Target) -> dict[str, Any]:
    """WHU-CD: buildings in Christchurch in 2012 and 2016, one scene of 0.2 m.

    As published, `Building change detection dataset_add/1. The two-period image data/`, with
    `{2012,2016}/whole_image/{train,test}/image/<year>_<split>.tif` and `change_label/{train,test}/change_label.tif`
    (0 and 1): two large scenes, no validation split. Or cut into tiles as it goes round, in the layouts of LEVIR-CD.
    The first edition (`before/before.tif`, `after/after.tif`) has no split and is refused.

    Source: Ji, Wei and Lu, Fully convolutional networks for multisource building extraction from an open aerial and
    satellite imagery data set, 2019, doi:10.1109/TGRS.2018.2858817;
    https://study.rsgis.whu.edu.cn/pages/download/building_dataset.html; the tiles:
    https://github.com/justchenhao/BIT_CD.
    """
    document = {"tasks": ["binary_change_detection"], "bands": _RGB, "change_classes": _CHANGE}
    inner = _child(source, "Building change detection dataset_add") or source
    inner = _child(inner, "1. The two-period image data") or inner
    if _child(inner, "before") is not None:
        raise ConversionError(
            f"{inner} is the first edition of WHU-CD, one scene without a split. Take the later one (dataset_add: "
            "2012, 2016 and change_label, each with train and test), or tiles with lists of a split."
        )
    labels = _child(inner, "change_label")
    if labels is None:
        _convert_pairs(source, target, ("2012", "2016"))
        return document | {"gsd_m": 0.2}
    for split in target.bar(["train", "test"]):
        images = [
            _need(_need(_need(_need(_need(inner, year), "whole_image"), split), "image"), f"{year}_{split}.tif")
            for year in ("2012", "2016")
        ]
        _check_sizes(*images)
        label = target.recode(split, _need(_need(labels, split), "change_label.tif"), binary_ids, images[0])
        dated = zip(images, ("2012", "2016"), strict=True)
        target.add(split, split, [{"path": path, "timestamp": year} for path, year in dated], {"change": label})
    return document


def _whu_building(source: Path, target: Target) -> dict[str, Any]:
    """WHU building data set, aerial imagery of Christchurch: 8 188 tiles of 512 x 512 pixels of 0.3 m.

    `{train,val,test}/{image,label}/<name>.tif`; the labels are 0 and 255, or 0 and 1 in copies. The folders are also
    called Image, and Mask or Label.

    Source: Ji, Wei and Lu, 2019, doi:10.1109/TGRS.2018.2858817 (`3. The cropped image tiles and raster labels`);
    https://huggingface.co/datasets/giswqs/WHU-Building-Dataset for the other names.
    """
    splits = {split: _child(source, split) for split in ("train", "val", "test")}
    if not any(splits.values()):
        raise ConversionError(
            f"{source} holds none of the folders train, val, test; it holds {_listing(source)}. Name the folder of the "
            "cropped tiles."
        )
    tiles = [
        (split, stem, files)
        for split, folder in splits.items()
        if folder is not None
        for stem, files in _matching(
            {"image": _need(folder, "image", "images"), "label": _need(folder, "label", "labels", "mask", "masks")}
        ).items()
    ]
    for split, stem, files in target.bar(tiles):
        name = f"{split}_{stem}"
        label = target.recode(name, files["label"], binary_ids, files["image"])
        target.add(split, name, [{"path": files["image"], "timestamp": None}], {"semantic": label})
    return {
        "tasks": ["semantic_segmentation"],
        "bands": _RGB,
        "gsd_m": 0.3,
        "classes": [{"id": 0, "name": "background"}, {"id": 1, "name": "building"}],
    }


def _loveda(source: Path, target: Target) -> dict[str, Any]:
    """LoveDA: land cover around Nanjing, Changzhou and Wuhan, 5 987 images of 1024 x 1024 pixels of 0.3 m.

    `{Train,Val,Test}/{Rural,Urban}/images_png/<number>.png` and `masks_png/<number>.png`: 1 background, 2 building,
    3 road, 4 water, 5 barren, 6 forest, 7 agriculture, 0 no data. The masks of Test were never published: it is left
    out.

    Source: Wang et al., LoveDA: a remote sensing land-cover dataset for domain adaptive semantic segmentation, 2021,
    arXiv:2110.08733; https://github.com/Junjue-Wang/LoveDA.
    """
    names = ("background", "building", "road", "water", "barren", "forest", "agriculture")
    for split in ("train", "val", "test"):
        folder = _child(source, split)
        if folder is None and split != "test":
            raise ConversionError(f"{source} holds no {split.capitalize()}; it holds {_listing(source)}.")
        scenes = [scene for scene in ("Rural", "Urban") if folder is not None and _child(folder, scene) is not None]
        if folder is not None and not scenes:
            raise ConversionError(f"{folder} holds neither Rural nor Urban; it holds {_listing(folder)}.")
        for scene in scenes:
            images, masks = _need(_need(folder, scene), "images_png"), _child(_need(folder, scene), "masks_png")
            if masks is None:
                if split != "test":
                    raise ConversionError(f"{folder / scene} holds no masks_png; only Test is published without.")
                target.notes.append(f"{folder / scene}: no masks_png, left out.")
                continue
            for stem, files in target.bar(list(_matching({"image": images, "mask": masks}).items())):
                _check_sizes(files["image"], files["mask"])
                name = f"{split}_{scene.lower()}_{stem}"
                image = {"path": files["image"], "timestamp": None}
                target.add(split, name, [image], {"semantic": target.refer(files["mask"])})
    return {
        "tasks": ["semantic_segmentation"],
        "bands": _RGB,
        "gsd_m": 0.3,
        "classes": [{"id": index, "name": name} for index, name in enumerate(names, start=1)],
        "ignore_index": 0,
    }


SECOND_COLOURS = {
    (255, 255, 255): 0,
    (0, 0, 255): 1,
    (128, 128, 128): 2,
    (0, 128, 0): 3,
    (0, 255, 0): 4,
    (128, 0, 0): 5,
    (255, 0, 0): 6,
}


def _second_ids(values: np.ndarray, path: str) -> np.ndarray:
    if len(values) > 1:
        return colour_ids(values, path, SECOND_COLOURS)
    others = np.setdiff1d(values, range(len(SECOND_COLOURS)))
    if others.size:
        raise ConversionError(f"Label map {path} holds {', '.join(map(str, others[:10]))}; 0 to 6 are expected.")
    return values[0].astype(np.uint8)


def _second(source: Path, target: Target) -> dict[str, Any]:
    """SECOND: semantic change in Chinese cities, 4 662 pairs of 512 x 512 pixels of 0.5 to 3 m.

    `{train,test}/{im1,im2,label1,label2}/<name>.png`, optionally with val; the labels are colours (white = unchanged,
    else the class of the date), or the positions 0 to 6 into which Bi-SRNet and its followers recode them (they keep
    the colours in label1_rgb and label2_rgb, which are then not needed).

    The maps of the result have the class `unchanged` (0), as the set defines it: land cover is known only where it
    changed. A change map is written too: what is not unchanged on one of the dates. Score it with `no_change=0`.

    Source: Yang et al., Asymmetric siamese networks for semantic change detection in aerial images, 2021,
    arXiv:2010.05687; colours and classes as in https://github.com/ggsDing/Bi-SRNet (datasets/RS_ST.py) and Open-CD.
    """
    splits = {split: _child(source, split) for split in ("train", "val", "test")}
    if splits["train"] is None and splits["test"] is None:
        raise ConversionError(f"{source} holds neither train nor test; it holds {_listing(source)}.")
    for split, folder in splits.items():
        if folder is None:
            continue
        folders = {name: _need(folder, name, f"{name}_rgb") for name in ("im1", "im2", "label1", "label2")}
        for stem, files in target.bar(list(_matching(folders).items())):
            _check_sizes(files["im1"], files["im2"])
            name = f"{split}_{stem}"
            labels = [
                target.recode(f"{name}_{date}", files[f"label{date}"], _second_ids, files["im1"]) for date in (1, 2)
            ]
            change, one_sided = _changed(target, f"{name}_change", labels)
            if one_sided:
                target.notes.append(f"{name}: {one_sided} pixels are unchanged in one of the two maps only.")
            target.add(
                split,
                name,
                [{"path": files[f"im{date}"], "timestamp": None} for date in (1, 2)],
                {
                    "semantic_per_time": [
                        {"path": path, "image_indices": [index]} for index, path in enumerate(labels)
                    ],
                    "change": change,
                },
            )
    names = ("unchanged", "water", "ground", "low_vegetation", "tree", "building", "sports_field")
    return {
        "tasks": ["semantic_change_detection", "binary_change_detection"],
        "bands": _RGB,
        "classes": [{"id": index, "name": name} for index, name in enumerate(names)],
        "change_classes": _CHANGE,
    }


def _changed(target: Target, name: str, labels: Sequence[str]) -> tuple[str, int]:
    """Writes where one of two recoded maps is not 0; also tells how many pixels are 0 in the other one."""
    maps = []
    for path in labels:
        with _open(target.partial / path) as raster:
            maps.append(raster.read(1) != 0)
    relative = f"labels/{name}.tif"
    with target.create(relative, 1, "uint8", maps[0].shape) as raster:
        raster.write((maps[0] | maps[1]).astype(np.uint8), 1)
    return relative, int((maps[0] != maps[1]).sum())


def _tscd(source: Path, target: Target) -> dict[str, Any]:
    """TSCD: change between neighbouring dates of a series of high-resolution RGB images, here 2016, 2018, 2020, 2022.

    `<year>_<year>/{train,val,test}/{A,B,label}/<name>.jpg`, one folder a pair of neighbouring dates; the labels are 0
    and 255, blurred by JPEG, and lie in `OUT` instead of `label` in some of the folders. The same name is the same
    place in all pairs, and B of a pair shows what A of the next one does.

    Source: no description by its authors was found; the layout is that of public scripts which read it (a shell script
    that merges the three pairs of a folder `TSCD` into series of four dates, and its loader). The set is used in
    arXiv:2505.12280.
    """
    pairs = {}
    for folder in sorted(source.iterdir()):
        if (years := re.fullmatch(r"(\d{4})_(\d{4})", folder.name)) and folder.is_dir():
            pairs[years[1], years[2]] = folder
    chain = sorted(pairs)
    if not chain or any(before[1] != after[0] for before, after in pairwise(chain)):
        raise ConversionError(
            f"{source} holds {_listing(source)}; folders <year>_<year> that follow each other are expected, such as "
            "2016_2018, 2018_2020, 2020_2022."
        )
    years = [chain[0][0], *(after for _, after in chain)]
    for split in ("train", "val", "test"):
        folders = {}
        for pair in chain:
            if (folder := _child(pairs[pair], split)) is not None:
                for key, names in {"A": ("A",), "B": ("B",), "label": ("label", "OUT")}.items():
                    folders[*pair, key] = _need(folder, *names)
        if not folders:
            continue
        if len(folders) != 3 * len(chain):
            raise ConversionError(
                f"Split {split!r} is not in all of {', '.join(path.name for path in pairs.values())}."
            )
        for stem, files in target.bar(list(_matching(folders).items())):
            name = f"{split}_{stem}"
            images = [files[*chain[0], "A"], *(files[*pair, "B"] for pair in chain)]
            _check_sizes(*images)
            maps = [
                {
                    "path": target.recode(f"{name}_{'_'.join(pair)}", files[*pair, "label"], binary_ids, images[0]),
                    "image_indices": [index, index + 1],
                }
                for index, pair in enumerate(chain)
            ]
            dated = zip(images, years, strict=True)
            target.add(
                split, name, [{"path": path, "timestamp": year} for path, year in dated], {"change_per_pair": maps}
            )
    return {"tasks": ["binary_change_detection"], "bands": _RGB, "change_classes": _CHANGE}


PASTIS_CLASSES = (
    *("background", "meadow", "soft_winter_wheat", "corn", "winter_barley", "winter_rapeseed", "spring_barley"),
    *("sunflower", "grapevine", "beet", "winter_triticale", "winter_durum_wheat", "fruits_vegetables_flowers"),
    *("potatoes", "leguminous_fodder", "soybeans", "orchard", "mixed_cereal", "sorghum"),
)
PASTIS_VOID = 19
PASTIS_FOLDS = {"train": (1, 2, 3), "val": (4,), "test": (5,)}


def _pastis(source: Path, target: Target) -> dict[str, Any]:
    """PASTIS: crops of France in 2 433 Sentinel-2 series of 38 to 61 dates, 128 x 128 pixels of 10 m.

    `metadata.geojson` with ID_PATCH, Fold and dates-S2 ({position: yyyymmdd}) of each patch;
    `DATA_S2/S2_<id>.npy` (dates, 10, 128, 128): bands 2 to 8, 8A, 11 and 12, reflectance x 10000;
    `ANNOTATIONS/TARGET_<id>.npy` (3, 128, 128), whose first layer holds classes 0 to 18 and 19 = void. The arrays are
    written anew as one GeoTIFF a date. Folds 1 to 3 train, 4 validates, 5 tests, the first of the five rotations of the
    benchmark. The radar series of PASTIS-R are not taken along.

    Source: Garnot and Landrieu, Panoptic segmentation of satellite image time series with convolutional temporal
    attention networks, 2021, arXiv:2107.07933; https://github.com/VSainteuf/pastis-benchmark; TorchGeo's PASTIS class.
    """
    try:
        features = json.loads(_need(source, "metadata.geojson").read_text())["features"]
        patches = [feature["properties"] for feature in features]
        patches = [(str(patch["ID_PATCH"]), int(patch["Fold"]), patch["dates-S2"]) for patch in patches]
    except (KeyError, TypeError, ValueError) as error:
        raise ConversionError(
            f"{source / 'metadata.geojson'} cannot be used: {error!r}. Features with ID_PATCH, Fold and dates-S2 are "
            "expected."
        ) from error
    images, targets = _need(source, "DATA_S2"), _need(source, "ANNOTATIONS")
    bands = [band.to_dict() for band in sensor_bands("sentinel-2") if band.name not in ("B01", "B09", "B10")]
    folds = {fold: split for split, members in PASTIS_FOLDS.items() for fold in members}
    for patch, fold, dates in target.bar(patches):
        if isinstance(dates, str):
            dates = json.loads(dates)
        days = [str(dates[key]) for key in sorted(dates, key=int)] if isinstance(dates, dict) else list(map(str, dates))
        series = _array(images / f"S2_{patch}.npy", (len(days), len(bands), None, None))
        size = series.shape[2:]
        annotation = _array(targets / f"TARGET_{patch}.npy", (None, *size))[0]
        if strange := sorted(set(np.unique(annotation).tolist()) - set(range(PASTIS_VOID + 1))):
            raise ConversionError(f"TARGET_{patch}.npy holds {strange[:10]}; 0 to {PASTIS_VOID} are expected.")
        if fold not in folds:
            raise ConversionError(f"Patch {patch} is in fold {fold}; folds 1 to 5 are expected.")
        paths = []
        for index, (day, array) in enumerate(zip(days, series, strict=True)):
            paths.append(f"images/{patch}/{index:02d}_{day}.tif")
            with target.create(paths[-1], len(bands), str(series.dtype), size) as raster:
                raster.write(array)
        label = f"labels/{patch}.tif"
        with target.create(label, 1, "uint8", size) as raster:
            raster.write(annotation.astype(np.uint8), 1)
        dated = [
            {"path": path, "timestamp": f"{day[:4]}-{day[4:6]}-{day[6:]}"}
            for path, day in zip(paths, days, strict=True)
        ]
        target.add(folds[fold], patch, dated, {"semantic": label})
    return {
        "tasks": ["semantic_segmentation"],
        "bands": bands,
        "value_scale": 1e-4,
        "gsd_m": 10,
        "classes": [{"id": index, "name": name} for index, name in enumerate(PASTIS_CLASSES)],
        "ignore_index": PASTIS_VOID,
    }


def _array(path: Path, shape: Sequence[int | None]) -> np.ndarray:
    """An array of a file; `None` in the shape = any length."""
    try:
        array = np.load(path)
    except (OSError, ValueError) as error:
        raise ConversionError(f"{path} cannot be read: {error}. Fetch it again.") from error
    if array.ndim != len(shape) or any(want not in (None, got) for want, got in zip(shape, array.shape, strict=True)):
        expected = tuple("any" if want is None else want for want in shape)
        raise ConversionError(f"{path} has shape {array.shape}; {expected} is expected.")
    return array


def _oscd(source: Path, target: Target) -> dict[str, Any]:
    """OSCD: change in 24 cities between two Sentinel-2 images (level 1C), 13 bands on a grid of 10 m.

    `Onera Satellite Change Detection dataset - Images/<city>/{imgs_1_rect,imgs_2_rect}/B01.tif ... B12.tif` and
    `<city>/dates.txt` (lines `date_1: 20160308`); `... - Train Labels` and `... - Test Labels` with
    `<city>/cm/<city>-cm.tif` (1 = no change, 2 = change) and `cm.png` (0 and 255), of which the first is taken where it
    is there. Names of the outer folders may lack `Onera Satellite Change Detection dataset - `. There is no validation
    split. Cities without a label are left out.

    Source: Daudt et al., Urban change detection for multispectral Earth observation using convolutional neural
    networks, 2018, doi:10.1109/IGARSS.2018.8518015; https://rcdaudt.github.io/oscd/; TorchGeo's OSCD class.
    """
    prefix = "Onera Satellite Change Detection dataset - "
    images = _need(source, f"{prefix}Images", "Images")
    labels = {
        split: _child(source, f"{prefix}{split.capitalize()} Labels", f"{split.capitalize()} Labels", f"{split}_labels")
        for split in ("train", "test")
    }
    if not any(labels.values()):
        raise ConversionError(f"{source} holds no Train Labels and no Test Labels; it holds {_listing(source)}.")
    bands = [band.to_dict() for band in sensor_bands("sentinel-2")]
    names = [band["name"] for band in bands]
    cities = [path for path in sorted(images.iterdir()) if path.is_dir()]
    for city in target.bar(cities):
        homes = [(split, _child(folder, city.name)) for split, folder in labels.items() if folder is not None]
        homes = [(split, folder) for split, folder in homes if folder is not None]
        if not homes:
            target.notes.append(f"{city.name}: no label, left out.")
            continue
        split, folder = homes[0]
        dates = re.findall(r"(\d{4})(\d{2})(\d{2})", _need(city, "dates.txt").read_text())
        if len(dates) != 2:
            raise ConversionError(f"{city / 'dates.txt'} does not hold two dates as yyyymmdd.")
        dated = []
        for index, date in enumerate(dates, start=1):
            folder_of_bands = _need(city, f"imgs_{index}_rect")
            found = sorted(path.stem for path in _rasters(folder_of_bands))
            if found != sorted(names):
                raise ConversionError(f"{folder_of_bands} holds {', '.join(found)}; {', '.join(names)} are expected.")
            dated.append({"path": folder_of_bands, "timestamp": "-".join(date)})
        _check_sizes(*(path for image in dated for path in _rasters(image["path"])))
        maps = _need(folder, "cm")
        numbers = _child(maps, f"{city.name}-cm.tif")
        label = target.recode(
            city.name,
            numbers or _need(maps, "cm.png"),
            _oscd_ids if numbers is not None else binary_ids,
            _rasters(dated[0]["path"])[0],
        )
        target.add(split, city.name, dated, {"change": label})
    return {
        "tasks": ["binary_change_detection"],
        "bands": bands,
        "value_scale": 1e-4,
        "gsd_m": 10,
        "change_classes": _CHANGE,
    }


def _oscd_ids(values: np.ndarray, path: str) -> np.ndarray:
    grey = _grey(values, path)
    others = np.setdiff1d(grey, (1, 2))
    if others.size:
        raise ConversionError(f"Label map {path} holds {', '.join(map(str, others[:10]))}; 1 and 2 are expected.")
    return (grey == 2).astype(np.uint8)


def _sen1floods11(source: Path, target: Target) -> dict[str, Any]:
    """Sen1Floods11, the hand-labelled part: water in 446 chips of 512 x 512 pixels of 10 m, Sentinel-1 and Sentinel-2.

    `v1.1/data/flood_events/HandLabeled/{S1Hand,S2Hand,LabelHand}/<event>_<number>_{S1Hand,S2Hand,LabelHand}.tif`:
    VV and VH in decibels; 13 bands of level 1C, reflectance x 10000; 1 = water, 0 = not, -1 = not known.
    `v1.1/splits/flood_handlabeled/flood_{train,valid,test,bolivia}_data.csv` (lines `<S1Hand>,<LabelHand>`), where
    Bolivia is an event held out, here the split `bolivia`. `Sen1Floods11_Metadata.geojson` gives the dates of each
    event; without it, or for an event that it does not name, they are unknown. The two sensors of a chip are two images
    of one sample.

    Source: Bonafilia et al., Sen1Floods11: a georeferenced dataset to train and test deep learning flood algorithms for
    Sentinel-1, 2020, doi:10.1109/CVPRW50498.2020.00113; https://github.com/cloudtostreet/Sen1Floods11.
    """
    root = _child(source, "v1.1") or source
    hand = _need(_need(_need(root, "data"), "flood_events"), "HandLabeled")
    splits = _need(_need(root, "splits"), "flood_handlabeled")
    dates = _flood_dates(root, target)
    chips = []
    for split, file in {"train": "train", "val": "valid", "test": "test", "bolivia": "bolivia"}.items():
        listed = _child(splits, f"flood_{file}_data.csv")
        if listed is None and split != "bolivia":
            raise ConversionError(f"{splits} holds no flood_{file}_data.csv; it holds {_listing(splits)}.")
        for line in listed.read_text().split() if listed is not None else ():
            if not line.split(",")[0].endswith("_S1Hand.tif"):
                raise ConversionError(
                    f"{listed} holds the line {line!r}; <chip>_S1Hand.tif,<chip>_LabelHand.tif is meant."
                )
            chips.append((split, line.split(",")[0].removesuffix("_S1Hand.tif")))
    for split, chip in target.bar(chips):
        paths = {kind: _need(hand / kind, f"{chip}_{kind}.tif") for kind in ("S1Hand", "S2Hand", "LabelHand")}
        _check_sizes(paths["S1Hand"], paths["S2Hand"])
        s1_date, s2_date = dates.get(_letters(chip.rsplit("_", 1)[0]), (None, None))
        label = target.recode(chip, paths["LabelHand"], _flood_ids, paths["S1Hand"])
        images = [
            {"path": paths["S1Hand"], "timestamp": s1_date, "band_set": "sentinel_1"},
            {"path": paths["S2Hand"], "timestamp": s2_date, "band_set": "sentinel_2"},
        ]
        target.add(split, chip, images, {"semantic": label})
    return {
        "tasks": ["semantic_segmentation"],
        "band_sets": {
            "sentinel_1": [{"name": name, "kind": "sar", "polarisation": name} for name in ("VV", "VH")],
            "sentinel_2": [band.to_dict() for band in sensor_bands("sentinel-2")],
        },
        "value_scale": 1e-4,
        "gsd_m": 10,
        "classes": [{"id": 0, "name": "land"}, {"id": 1, "name": "water"}],
    }


def _flood_ids(values: np.ndarray, path: str) -> np.ndarray:
    grey = _grey(values, path)
    others = np.setdiff1d(grey, (-1, 0, 1))
    if others.size:
        raise ConversionError(f"Label map {path} holds {', '.join(map(str, others[:10]))}; -1, 0 and 1 are expected.")
    return np.where(grey < 0, IGNORE_INDEX, grey).astype(np.uint8)


def _flood_dates(root: Path, target: Target) -> dict[str, tuple[str | None, str | None]]:
    """Dates of Sentinel-1 and Sentinel-2 by event."""
    path = _child(root, "Sen1Floods11_Metadata.geojson")
    if path is None:
        target.notes.append("Sen1Floods11_Metadata.geojson is not there: all dates are unknown.")
        return {}
    dates = {}
    for feature in json.loads(path.read_text())["features"]:
        properties = {key.casefold(): value for key, value in feature["properties"].items()}
        found = [re.match(r"(\d{4})\D(\d{1,2})\D(\d{1,2})", str(properties.get(f"s{n}_date", ""))) for n in (1, 2)]
        dates[_letters(str(properties.get("location", "")))] = tuple(
            None if match is None else f"{match[1]}-{match[2]:0>2}-{match[3]:0>2}" for match in found
        )
    return dates


def _letters(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.casefold())


CONVERTERS: dict[str, Callable[[Path, Target], dict[str, Any]]] = {
    "levir-cd": _levir_cd,
    "whu-cd": _whu_cd,
    "whu-building": _whu_building,
    "loveda": _loveda,
    "second": _second,
    "tscd": _tscd,
    "pastis": _pastis,
    "oscd": _oscd,
    "sen1floods11": _sen1floods11,
}
