"""The fields that `lpt tune` searches, and their ranges around the values of the preset."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

from lpt.config.lint import unused_fields
from lpt.config.schema import PhaseConfig, RunConfig
from lpt.errors import ConfigError
from lpt.evaluation.tuning import Range

SEARCHES = ("all", "phase2")
"""`all` fields, or those of LPT's second phase alone, over one first phase that all trials share."""

RATE_FACTOR = 4.0
"""Learning rates are searched from this part of the preset's to this multiple of it."""
SIZE_FACTOR = 4
"""The same for the bottleneck of adapters and the rank of LoRA."""
LENGTH_FACTOR = 2
"""The same for the prompt length and the pool of group prompts."""
EPOCHS_DOWN, EPOCHS_UP = 0.5, 1.5
"""Epochs are searched from this part of the preset's to this multiple."""


class _Field(NamedTuple):
    """A field that can be searched: its path, whether phase 1 depends on it, and its range around a value."""

    path: str
    of_phase1: bool
    around: Callable[[str, Any, RunConfig], Range | None]


def search_space(config: RunConfig, search: str = "all", fixed: Collection[str] = ()) -> list[Range]:
    """Return the ranges of the fields that a method has.

    Args:
        config: the resolved configuration of the preset.
        search: one of `SEARCHES`.
        fixed: dotted paths of fields that the user set: they stay.

    Raises:
        ConfigError: nothing is left to search.
    """
    if search not in SEARCHES:
        raise ConfigError(f"--search {search}: accepted are {', '.join(SEARCHES)}")
    if not config.trains_in_steps:
        raise ConfigError(
            f"method {config.method} is solved, not trained in steps: it has no settings to search. Take another "
            "--method; lpt methods lists them."
        )
    if search == "phase2" and not config.train.phase2.epochs:
        raise ConfigError(
            f"--search phase2: {config.method} has no second phase here; only lpt has one. Leave --search out."
        )
    ranges = [item for item in _ranges(config, search) if item.path not in fixed]
    if not ranges:
        raise ConfigError(
            "every field that is searched is set with --set: nothing is left. Leave one of them out: "
            + ", ".join(item.path for item in _ranges(config, search))
        )
    return ranges


def _ranges(config: RunConfig, search: str) -> Iterator[Range]:
    unused = unused_fields(config)
    for field in _FIELDS:
        if field.path in unused or (search == "phase2" and field.of_phase1):
            continue
        if search == "all" and field.path in _PHASE2_ONLY:
            continue
        value: Any = config
        for name in field.path.split("."):
            value = getattr(value, name)
        item = field.around(field.path, value, config)
        if item is not None and item.low < item.high:
            yield item


def _rate(path: str, value: float | None, config: RunConfig) -> Range | None:
    del config
    if value is None:  # head_lr: the same as lr
        return None
    return Range(path, value / RATE_FACTOR, value * RATE_FACTOR, log=True, whole=False, preset=value)


def _epochs(path: str, value: int, config: RunConfig) -> Range | None:
    phase: PhaseConfig = config.train.phase1 if ".phase1." in path else config.train.phase2
    if not value:
        return None
    least = phase.warmup_epochs + 1 if phase.schedule == "epoch" else 1
    low = min(max(round(value * EPOCHS_DOWN), least), value)
    return Range(path, low, math.ceil(value * EPOCHS_UP), log=False, whole=True, preset=value)


def _multiples(factor: int) -> Callable[[str, Any, RunConfig], Range | None]:
    def around(path: str, value: Any, config: RunConfig) -> Range | None:
        del config
        if not value:  # what the preset leaves out is not added
            return None
        return Range(path, max(value // factor, 1), value * factor, log=True, whole=True, preset=value)

    return around


def _share(path: str, value: float, config: RunConfig) -> Range:
    del config
    return Range(path, 0.0, max(1.0, value), log=False, whole=False, preset=value)


def _picks(path: str, value: int, config: RunConfig) -> Range:
    """Return the range of the group prompts that an image picks: the smallest pool that is searched holds them."""
    least_pool = max(config.model.pool_size // LENGTH_FACTOR, 1)
    return Range(path, 1, max(min(2 * value, least_pool), value), log=False, whole=True, preset=value)


_FIELDS = (
    _Field("train.phase1.lr", True, _rate),
    _Field("train.phase1.head_lr", True, _rate),
    _Field("train.phase1.epochs", True, _epochs),
    _Field("train.phase2.lr", False, _rate),
    _Field("train.phase2.epochs", False, _epochs),
    _Field("model.prompt_length", True, _multiples(LENGTH_FACTOR)),
    _Field("model.adapter_size", True, _multiples(SIZE_FACTOR)),
    _Field("model.lora_rank", True, _multiples(SIZE_FACTOR)),
    _Field("loss.noise", True, _share),
    _Field("model.pool_size", False, _multiples(LENGTH_FACTOR)),
    _Field("model.top_k", False, _picks),
    _Field("loss.similarity_weight", False, _share),
)
_PHASE2_ONLY = ("model.pool_size", "model.top_k", "loss.similarity_weight")
"""Fields that are searched with `phase2` alone: with all others at once there would be too many for the trials."""
