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
"""Names that a package hands on from its modules, which are imported when a name is first asked for."""

from collections.abc import Iterable
from importlib import import_module
from typing import Any


def find(package: str, modules: Iterable[str], name: str) -> Any:
    """The attribute of that name in the first of some modules that has it.

    Args:
        package: full name of the package or module that hands it on, for the message.
        modules: names of modules below `stsun_processing`, such as `training.arguments`.
        name: name of the attribute.

    Raises:
        AttributeError: none of the modules has it.
    """
    root = __name__.rpartition(".")[0]
    for home in modules:
        module = import_module(f"{root}.{home}")
        if not name.startswith("__") and hasattr(module, name):
            return getattr(module, name)
    raise AttributeError(f"module {package!r} has no attribute {name!r}")
