"""How long the threads of GNU's OpenMP, which PyTorch computes with, spin before they sleep.

At the end of every parallel part each thread waits for the slowest one. By default it spins 300,000 times (some
milliseconds) before it sleeps. Where another program takes a core, the thread that spins holds the core that the
slowest one needs. A training step then takes many times as long.
"""

from __future__ import annotations

import os

SPIN_COUNT = 3_000
"""How often a thread looks whether the others are done before it sleeps (docs/explanation/performance.md)."""
WAITING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME")
"""Environment variables by which a user says how threads wait."""


def limit_spinning() -> None:
    """Let the threads of OpenMP sleep soon, in this process and those that it starts.

    OpenMP reads the environment when PyTorch loads it, so a program calls this before it imports PyTorch. A library
    must not: the environment belongs to the program. Nothing is done where the user set one of `WAITING`.
    """
    if not any(name in os.environ for name in WAITING):
        os.environ["GOMP_SPINCOUNT"] = str(SPIN_COUNT)
