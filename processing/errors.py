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
"""What every error of this package has in common, so that a caller can tell ours from all others."""


class STSUNError(Exception):
    """Root of the errors of this package: the message says what is wrong, what is allowed and what to do.

    Each is a built-in error too: a ValueError where the request or the data are wrong, an OSError where the machine is.
    """


class WriteError(STSUNError, OSError):
    """A file that cannot be written: the disk is full, fails, or does not permit it."""


class InputsChangedError(STSUNError, ValueError):
    """Inputs that were replaced or overwritten while they were being read."""


class OutputInUseError(STSUNError, OSError):
    """An output that another process is writing."""


__all__ = ["InputsChangedError", "OutputInUseError", "STSUNError", "WriteError"]
