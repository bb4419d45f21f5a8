"""Randomness as a pure function of its purpose (DESIGN section 6).

Every random draw of a run comes from a seed made of (run seed, phase, stream, step, position in the global batch, use).
Nothing depends on the history of a generator. So a resumed run, another number of workers or another micro-batch draws
the same numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def seed_of(*parts: int | str) -> int:
    """Return a 63-bit seed made of these parts; any two different lists of parts give unrelated seeds."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


def torch_generator(*parts: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator of torch seeded by the parts; each kind of device draws its own numbers."""
    import torch

    return torch.Generator(device).manual_seed(seed_of(*parts))


def permutation(size: int, *parts: int | str) -> np.ndarray:
    """Return a random order of 0..size-1, seeded by the parts, [size]."""
    return np.random.Generator(np.random.PCG64(seed_of(*parts))).permutation(size)


@contextmanager
def global_generator_restored() -> Iterator[torch.Generator]:
    """Lend torch's global CPU generator to code that draws from nothing else; put its state back at the end."""
    import torch

    state = torch.get_rng_state()
    try:
        yield torch.default_generator
    finally:
        torch.set_rng_state(state)
