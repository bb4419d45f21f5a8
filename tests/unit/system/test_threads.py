"""Work in a passing thread."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from lpt.system.threads import in_passing_thread

COMPUTE = """
import os, threading, time
import torch
from lpt.system.threads import in_passing_thread
torch.set_num_threads(3)
def helpers():
    return len(os.listdir("/proc/self/task")) - threading.active_count()
def compute():
    return float(torch.ones(4096, 512).sum())
before = helpers()
in_passing_thread(compute)
end = time.monotonic() + 20
while helpers() > before and time.monotonic() < end:
    time.sleep(0.01)
passed = helpers() - before
compute()
print(passed, helpers() - before)
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads are counted in /proc")  # noqa: PTH112
def test_no_helper_thread_of_the_work_stays() -> None:
    """Those of a thread that goes on would stay, and slow PyTorch down in all others."""
    environment = {**os.environ, "OMP_NUM_THREADS": "3"}
    done = subprocess.run([sys.executable, "-c", COMPUTE], env=environment, capture_output=True, text=True, check=True)
    passed, stayed = map(int, done.stdout.split())
    assert passed == 0
    assert stayed > 0


def test_results_and_errors_come_back() -> None:
    assert in_passing_thread(threading.get_ident) != threading.get_ident()
    with pytest.raises(KeyError, match="gone"):
        in_passing_thread(lambda: {}["gone"])
