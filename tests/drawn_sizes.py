"""Methods of random sizes, for tests that hold for all of them."""

from __future__ import annotations

import random
from typing import Any

from lpt.config.architecture import Architecture

DEPTH = 4
"""Blocks of the small backbones."""


def drawn_architecture(draw: random.Random) -> tuple[Architecture, list[int]]:
    """Draw a method and its sizes, and the phases that it trained."""
    prompts = draw.choice(["grouped", "grouped", "grouped", "deep", "shallow", "none"])
    sizes: dict[str, Any] = {"prompts": prompts, "prompt_length": draw.choice([0, 1, 3, 7, 40])}
    if draw.random() < 0.5:
        adapter_scale = draw.choice([None, 0.1])
        sizes |= {"adapter_size": draw.choice([1, 5, 20]), "adapter_norm": draw.random() < 0.5}
        sizes |= {"adapter_scale": adapter_scale}
    if prompts == "grouped":
        pool = draw.randint(1, 6)
        query = draw.choice(["full", "prefix"])
        blocks = draw.choice([None, *range(query == "prefix", DEPTH)])
        sizes |= {"pool_size": pool, "top_k": draw.randint(1, pool), "query": query, "shared_blocks": blocks}
        return Architecture(**sizes), draw.choice([[1], [1, 2], [1, 2]])
    sizes |= {"head": draw.choice(["linear", "cosine"]), "weights": draw.choice(["none", "none", "none", "biases"])}
    return Architecture(**sizes), []
