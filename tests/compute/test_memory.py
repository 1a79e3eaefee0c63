"""Freed memory is kept: the same work costs no page faults the second time."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_CODE = """
import resource, sys
import numpy as np
from goalrank.compute import keep_freed_memory

def work():
    kept = [np.ones(1 << 18) for _ in range(32)]  # 2 MiB each
    del kept

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

if sys.argv[1] == "kept":
    print(keep_freed_memory())
for _ in range(3):
    work()
before = faults()
for _ in range(10):
    work()
print(faults() - before)
"""


def run(how: str, **environment: str) -> list[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", _CODE, how],
        env=clean | environment, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return done.stdout.split()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
def test_the_same_work_faults_no_more():
    (before,) = run("as it is")
    took_effect, after = run("kept")
    if took_effect == "False":
        pytest.skip("another C library than glibc")
    assert int(after) < 100 < int(before)


def test_the_environment_has_the_last_word():
    assert run("kept", MALLOC_TRIM_THRESHOLD_="131072")[0] == "False"
