"""Run work in a thread of its own, so that no helper threads of it stay."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


def in_passing_thread(work: Callable[[], Result]) -> Result:
    """Run work in a thread that ends with it, and return its result; errors are raised here.

    OpenMP keeps helper threads for every thread that ever computed in parallel. Where all together are more than there
    are cores, GNU's OpenMP lets them sleep at each barrier instead of spinning. Then PyTorch takes half as long again
    for every image (measured: 41 to 63 ms on two cores). So in a server only the thread of the network may keep some.
    """
    with ThreadPoolExecutor(1) as passing:
        return passing.submit(work).result()
