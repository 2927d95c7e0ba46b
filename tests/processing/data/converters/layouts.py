"""Tiny look-alikes of published layouts, and a conversion with checks of what holds of all."""

import hashlib
import warnings

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning

from stsun_processing import FolderDataset
from stsun_processing.data.converters import convert
from stsun_processing.data.inspection import inspect_dataset

SIZE = (12, 17)
DRIVERS = {".png": "PNG", ".tif": "GTiff", ".jpg": "JPEG"}


def write(path, array, **profile):
    array = np.asarray(array)
    array = array[None] if array.ndim == 2 else array
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", driver=DRIVERS[path.suffix], count=len(array), dtype=array.dtype, height=array.shape[1],
            width=array.shape[2], **profile,
        ) as raster:  # fmt: skip
            raster.write(array)
    return array


def rgb(seed):
    return np.random.default_rng(seed).integers(0, 256, (3, *SIZE)).astype(np.uint8)


def ids(seed, classes=2):
    return np.random.default_rng(100 + seed).integers(0, classes, SIZE).astype(np.uint8)


def state(folder):
    return {
        path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def converted(name, source, tmp_path, faults=0):
    """Converts, and checks what holds of all: the source is as it was, nothing else appears, nothing is at fault."""
    before = state(source)
    notes = convert(name, source, tmp_path / "target", progress=False)
    assert state(source) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted({source.name, "target"})
    report = inspect_dataset(tmp_path / "target", progress=False)
    assert len(report.faults) == faults, report.faults
    return report, notes, lambda split: {s.name: s for s in FolderDataset(tmp_path / "target", split)}


def pairs(source, split, names, folder=None, suffix=".png", label=255):
    """Writes A, B and label of each name; returns the arrays."""
    made = {}
    for index, name in enumerate(names):
        seed = 10 * index + sum(map(ord, split))
        arrays = rgb(seed), rgb(seed + 1), ids(seed)
        for key, array in zip(("A", "B", "label"), arrays, strict=True):
            write((folder or source / split) / key / f"{name}{suffix}", array * (label if key == "label" else 1))
        made[name] = arrays
    return made
