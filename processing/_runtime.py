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
"""What a command sets for its own process, before torch is loaded. A library must not call this."""

import ctypes
import os

# Parameters of mallopt(3), from malloc.h of glibc.
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4
KEPT_BYTES = 2**30


def prepare_process() -> None:
    """Keeps memory that was freed for the next pass, and lets idle threads sleep."""
    keep_heap()
    wait_passively()


def keep_heap() -> None:
    """Has glibc keep freed memory, up to 1 GiB at the end of the heap, rather than return each large
    block to the system at once: the next pass of a model would take thousands of page faults for
    it, half of its time for 1024 x 1024 cells. Other C libraries are left as they are."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


def wait_passively() -> None:
    """Has idle OpenMP threads sleep rather than spin, unless the environment decides: spinning
    takes cores from whoever else uses the machine. OpenMP reads this when torch is loaded."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
