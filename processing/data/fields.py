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
"""Values of a dataset.json, each checked when it is looked up."""

import math
from typing import Any

from ..errors import STSUNError

_REQUIRED = object()


class DatasetError(STSUNError, ValueError):
    """A dataset.json, or a file that it names, cannot be used. The message says where, what is allowed, what to do."""


def value_of(
    record: Any,
    key: str,
    kinds: type | tuple[type, ...],
    where: str,
    expected: str,
    default: Any = _REQUIRED,
) -> Any:
    """The value of a key.

    Args:
        record: the JSON object that should have it.
        key: the key.
        kinds: types that the value may have.
        where: what the object is, for messages.
        expected: what the value should be, for messages.
        default: stands for a key that is absent or null; without it, the key is required.

    Raises:
        DatasetError: `record` is no object, the key is missing, or its value is of another type.
    """
    if not isinstance(record, dict):
        raise DatasetError(f"{where} is {record!r}; an object with the documented keys is expected.")
    value = record.get(key)
    if value is None and default is not _REQUIRED:
        return default
    if key not in record:
        raise DatasetError(f"{where}: {key} is missing. Add it: {expected}.")
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise DatasetError(f"{where}: {key} is {value!r}; {expected} is expected.")
    return value


def number_of(value: Any, what: str, expected: str) -> float:
    """A JSON number as a float.

    Raises:
        DatasetError: it is no number, or none that a float holds.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise DatasetError(f"{what} is {value!r}; {expected} is expected.")
    try:
        return float(value)
    except OverflowError as error:
        raise DatasetError(f"{what} is a number of {len(str(value))} digits; {expected} is expected.") from error


def positive_number_of(value: Any, what: str) -> float:
    """A finite JSON number above 0.

    Raises:
        DatasetError: it is none.
    """
    number = number_of(value, what, "a number above 0")
    if not 0 < number < math.inf:
        raise DatasetError(f"{what} is {value!r}; it must be a number above 0.")
    return number


def finite_number_of(value: Any, what: str) -> float:
    """A finite JSON number.

    Raises:
        DatasetError: it is none.
    """
    number = number_of(value, what, "a number")
    if not math.isfinite(number):
        raise DatasetError(f"{what} is {value!r}; it must be a finite number.")
    return number


def path_of(record: Any, key: str, where: str, expected: str, default: Any = _REQUIRED) -> Any:
    """The path that a key holds; see [`value_of`].

    Raises:
        DatasetError: as [`value_of`], or the text is the path of no file.
    """
    path = value_of(record, key, str, where, expected, default)
    if path is not default and (not path.strip() or "\0" in path):
        raise DatasetError(f"{where}: {key} is {path!r}; {expected} is expected.")
    return path
