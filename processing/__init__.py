"""Everything between files and tensors: metadata, sensors, rasters, the image processor, data and scene inference.

Installed as `stsun_processing`. Names are imported on first use, so that what needs no rasterio works without it.
"""

from importlib import import_module
from typing import Any

from . import _moved

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

__all__ = sorted(_HOMES)

_moved.install()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
