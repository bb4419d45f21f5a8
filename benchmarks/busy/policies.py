"""Ways for the threads of OpenMP to wait, and how many there are, by names for the command line."""

from __future__ import annotations

import os
from collections.abc import Mapping

LIBGOMP = "libgomp"
DEFAULT = "default"
LIBGOMP_SPINS = 300_000
"""What GNU's OpenMP takes where nothing is set. It is set here, because `lpt` takes another value otherwise."""
_PREFIXES = ("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_")
HELP = (
    f"{DEFAULT}: as `lpt` sets it; {LIBGOMP}: as GNU's OpenMP without settings (always measured, the others are "
    "compared with it); passive: threads sleep at once; spin=N: they spin N times; threads=N: so many threads, "
    f"which wait as in {LIBGOMP}"
)


def variables(policy: str) -> dict[str, str]:
    """Return the environment variables of a policy.

    Raises:
        ValueError: there is no such policy.
    """
    spins = {"GOMP_SPINCOUNT": str(LIBGOMP_SPINS)}
    named = {DEFAULT: {}, LIBGOMP: spins, "passive": {"OMP_WAIT_POLICY": "PASSIVE"}}
    if policy in named:
        return named[policy]
    kind, _, number = policy.partition("=")
    if kind not in ("spin", "threads") or not number.isdecimal() or (kind == "threads" and int(number) < 1):
        raise ValueError(f"no policy {policy!r}. Accepted: {HELP}")
    return {"GOMP_SPINCOUNT": number} if kind == "spin" else {**spins, "OMP_NUM_THREADS": number}


def environment(policy: str, given: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment of a process under a policy, without what was set for OpenMP before."""
    kept = {name: value for name, value in given.items() if not name.startswith(_PREFIXES)}
    return {**kept, **variables(policy)}
