"""A synthetic world: land-cover maps with exact labels, seen by any sensor on any dates.

[`make_scene`] draws a place, [`SyntheticScene.observe`] takes images of it, [`SyntheticScene.labels`] says what is
there, and [`SyntheticDataset`] draws such samples without end.

May import `data`, `scenes`, `rasters` and `metadata`; needs no rasterio.
"""

from typing import TYPE_CHECKING, Any

from .._lazy import find

if TYPE_CHECKING:
    from .dataset import DEFAULT_SENSORS, SyntheticDataset
    from .materials import CLASSES, ENDMEMBERS, MATERIALS, Material, SyntheticError, reflectance
    from .scene import SyntheticScene, make_scene

_MODULES = ("materials", "scene", "dataset")

__all__ = [
    "CLASSES",
    "DEFAULT_SENSORS",
    "ENDMEMBERS",
    "MATERIALS",
    "Material",
    "SyntheticDataset",
    "SyntheticError",
    "SyntheticScene",
    "make_scene",
    "reflectance",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return find(__name__, [f"synthetic.{module}" for module in _MODULES], name)


def __dir__() -> list[str]:
    return __all__
