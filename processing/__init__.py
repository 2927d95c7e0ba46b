"""Everything between files and tensors: metadata, sensors, rasters, the image processor, data and scene inference.

Installed as `stsun_processing`. Names are imported on first use, so that what needs no rasterio works without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import _moved
from ._version import __version__

# What editors and type checkers see of the names below.
if TYPE_CHECKING:
    from .data.augmentation import Augmentation
    from .data.collator import STSUNCollator
    from .data.converters import convert
    from .data.datasets import FolderDataset, Sample
    from .data.description import DatasetError
    from .data.inspection import inspect_dataset
    from .data.statistics import band_statistics, readings
    from .errors import STSUNError
    from .image_processing_stsun import STSUNImageProcessor
    from .metadata import Acquisition, Band, ImageSeries, MetadataError
    from .metrics import ConfusionMatrix
    from .rasters.records import RasterError
    from .rasters.sensors import SENSORS, find_sensor, sensor_bands
    from .rasters.series import open_series, read_series
    from .scenes.checkpoints import load_checkpoint
    from .scenes.predictor import ScenePredictor
    from .scenes.raster_output import MapWriter, write_quick_look
    from .scenes.scene_files import predict_raster, predict_scene
    from .scenes.vector_output import write_polygons
    from .synthetic.dataset import SyntheticDataset
    from .synthetic.scene import make_scene

_MODULES = {
    "data.augmentation": ("Augmentation",),
    "data.collator": ("STSUNCollator",),
    "data.converters": ("convert",),
    "data.datasets": ("FolderDataset", "Sample"),
    "data.description": ("DatasetError",),
    "data.inspection": ("inspect_dataset",),
    "data.statistics": ("band_statistics", "readings"),
    "errors": ("STSUNError",),
    "image_processing_stsun": ("STSUNImageProcessor",),
    "metadata": ("Acquisition", "Band", "ImageSeries", "MetadataError"),
    "metrics": ("ConfusionMatrix",),
    "rasters.records": ("RasterError",),
    "rasters.sensors": ("SENSORS", "find_sensor", "sensor_bands"),
    "rasters.series": ("open_series", "read_series"),
    "scenes.checkpoints": ("load_checkpoint",),
    "scenes.predictor": ("ScenePredictor",),
    "scenes.raster_output": ("MapWriter", "write_quick_look"),
    "scenes.scene_files": ("predict_raster", "predict_scene"),
    "scenes.vector_output": ("write_polygons",),
    "synthetic.dataset": ("SyntheticDataset",),
    "synthetic.scene": ("make_scene",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "SENSORS",
    "Acquisition",
    "Augmentation",
    "Band",
    "ConfusionMatrix",
    "DatasetError",
    "FolderDataset",
    "ImageSeries",
    "MapWriter",
    "MetadataError",
    "RasterError",
    "STSUNCollator",
    "STSUNError",
    "STSUNImageProcessor",
    "Sample",
    "ScenePredictor",
    "SyntheticDataset",
    "__version__",
    "band_statistics",
    "convert",
    "find_sensor",
    "inspect_dataset",
    "load_checkpoint",
    "make_scene",
    "open_series",
    "predict_raster",
    "predict_scene",
    "read_series",
    "readings",
    "sensor_bands",
    "write_polygons",
    "write_quick_look",
]

_moved.install()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
