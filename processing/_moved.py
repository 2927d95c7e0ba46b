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
"""Modules under the names of version 0.1, which keep working with a warning until 0.3."""

import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from ._lazy import find

_PACKAGE = __name__.rpartition(".")[0]
# Where the names of each old module are looked for.
_MODULES = {
    "augmentation": ("data.augmentation",),
    "collator": ("data.collator",),
    "converters": ("data.converters",),
    "dataset_description": ("data.description",),
    "dataset_inspection": ("data.inspection",),
    "datasets": ("data.datasets", "data.reader", "data.sampling", "data.samples", "data.statistics"),
    "inference": ("scenes.checkpoints", "scenes.predictor", "scenes.scene_files"),
    "optimization": ("training.optimization",),
    "raster": ("rasters.series", "rasters.raster_series", "rasters.report", "rasters.checks"),
    "raster_metadata": ("rasters.records",),
    "raster_output": ("scenes.raster_output",),
    "sampling": ("data.sampling",),
    "sensors": ("rasters.sensors",),
    "vector_output": ("scenes.vector_output",),
    "visualization": ("scenes.visualization",),
}


class _MovedModule(ModuleType):
    """A module under its old name, whose names are looked up in the new ones."""

    def __getattr__(self, name: str) -> Any:
        return find(self.__name__, _MODULES[self.__name__.rpartition(".")[2]], name)


class MovedModules(MetaPathFinder, Loader):
    """Finds the modules that have moved."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The specification of a moved module; `None` for any other."""
        package, _, name = fullname.rpartition(".")
        return ModuleSpec(fullname, self) if package == _PACKAGE and name in _MODULES else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """A module that hands on the names of the new ones."""
        homes = " and ".join(f"{_PACKAGE}.{home}" for home in _MODULES[spec.name.rpartition(".")[2]])
        warnings.warn(f"{spec.name} is now {homes}; the old name goes with version 0.3.", FutureWarning, stacklevel=2)
        return _MovedModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing: its names are looked up when they are asked for."""


def install() -> None:
    """Makes the old names known to `import`, once."""
    if not any(isinstance(finder, MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(MovedModules())
