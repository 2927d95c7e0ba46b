"""What a command sets for its process does what it is set for."""

import os
import platform
import subprocess
import sys

import pytest

from stsun_processing._runtime import prepare_process, wait_passively

FAULTS = """
import resource
import numpy as np
from stsun_processing._runtime import keep_heap
{prepare}
for turn in range(6):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(2**24)  # 128 MiB, more than glibc would keep by itself
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(prepare):
    code = FAULTS.format(prepare=prepare)
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_memory_that_was_freed_is_used_again():
    assert page_faults("keep_heap()") < 100


def test_where_there_is_no_mallopt_nothing_is_set(monkeypatch):
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    monkeypatch.setattr(os, "environ", {"OMP_WAIT_POLICY": "ACTIVE"})
    prepare_process()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"


def test_threads_wait_passively_unless_the_environment_decides(monkeypatch):
    monkeypatch.setattr(os, "environ", {})
    wait_passively()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
