"""Everything between files and tensors: metadata, sensors, rasters, the image processor, data and scene inference.

Installed as `stsun_processing`. Names are imported on first use, so that what needs no rasterio works without it.
"""

from importlib import import_module
from typing import Any

_MODULES = {
    "augmentation": ("Augmentation",),
    "collator": ("STSUNCollator",),
    "converters": ("convert",),
    "dataset_description": ("DatasetError",),
    "dataset_inspection": ("inspect_dataset",),
    "datasets": ("FolderDataset", "Sample", "band_statistics"),
    "image_processing_stsun": ("STSUNImageProcessor",),
    "inference": ("ScenePredictor", "load_checkpoint", "predict_raster", "predict_scene"),
    "metadata": ("Acquisition", "Band", "ImageSeries", "MetadataError"),
    "metrics": ("ConfusionMatrix",),
    "raster": ("open_series", "read_series"),
    "raster_metadata": ("RasterError",),
    "raster_output": ("MapWriter", "write_quick_look"),
    "sensors": ("SENSORS", "find_sensor", "sensor_bands"),
    "synthetic": ("SyntheticDataset", "make_scene"),
    "vector_output": ("write_polygons",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
