"""A process that keeps a core busy, as other programs of a user do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

BUSY = """
import os
parent = os.getppid()
print("busy", flush=True)
while os.getppid() == parent:  # it ends with the measurement, however that ends
    for _ in range(100_000):
        pass
"""


@contextmanager
def companions(count: int) -> Iterator[list[int]]:
    """Keep so many cores busy while the block runs; yield the ids of the processes."""
    with ExitStack() as running:
        started = [running.enter_context(_busy()) for _ in range(count)]
        yield [process.pid for process in started]


@contextmanager
def _busy() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
