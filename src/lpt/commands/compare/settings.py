"""The settings that a method is trained with in a comparison, and how those of two runs differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lpt.commands.compare.plan import REFERENCE, Plan
from lpt.config.lint import unused_fields
from lpt.config.recipes import METHODS
from lpt.config.schema import RunConfig
from lpt.config.values import leaves, merge

_RECIPE_SECTIONS = ("model", "loss")
_RECIPE_TRAINING = ("sampling", "batch_size", "phase1", "phase2")
"""What the other methods take from their recipes and not from the user's values for LPT."""
_OF_THE_MACHINE = (
    "runtime.", "train.micro_batch", "prefix_cache.store", "prefix_cache.dtype", "data.cache",
    "data.source", "data.image_root", "backbone.checkpoint",
)  # fmt: skip
"""Settings that results do not depend on. Images and weights themselves are compared, not where they lie."""


def cell_values(plan: Plan, method: str, base: RunConfig) -> dict[str, Any]:
    """Return the values that a method is trained with, over the preset's.

    LPT has the user's values. The other methods share data, backbone, pictures and machine with it. They take the
    model, loss and rates from their recipe, for the same number of draws.

    Args:
        plan: the comparison.
        method: its name.
        base: LPT's configuration; fields may still be `auto`.
    """
    values = plan.values
    if method != REFERENCE:
        train = {key: value for key, value in values.get("train", {}).items() if key not in _RECIPE_TRAINING}
        shared = {key: value for key, value in values.items() if key not in _RECIPE_SECTIONS}
        values = merge({**shared, "train": train}, METHODS[method].values(base))
    return merge(values, {"method": method, **plan.method_values.get(method, {})})


def changes(settings: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, str]:
    """Describe each field that differs, by its dotted path; fields of the machine do not count."""
    first, second = dict(leaves(settings)), dict(leaves(others))
    messages = {}
    for path in {**first, **second}:
        before, now = first.get(path), second.get(path)
        both_places = path == "data.validation" and isinstance(before, str) and isinstance(now, str)
        no_share = path == "data.test" and not isinstance(before, float) and not isinstance(now, float)
        if before != now and not both_places and not no_share and not path.startswith(_OF_THE_MACHINE):
            messages[path] = f"{path} was {before!r}, is {now!r}"
    return messages


def machine_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Pick the values that describe the machine; they also hold for a cell that was begun on another one."""
    picked: dict[str, Any] = {"runtime": values.get("runtime") or {}}
    for section, name in (("train", "micro_batch"), ("prefix_cache", "store")):
        if name in (values.get(section) or {}):
            picked[section] = {name: values[section][name]}
    return picked


def cell_changes(stored: RunConfig, wanted: Mapping[str, Any]) -> list[str]:
    """Describe how the settings of a trained cell differ from those wanted now.

    A wanted value that is still `auto` does not count, nor does a field that has no effect in the cell.
    """
    now, unused = dict(leaves(wanted)), unused_fields(stored)
    messages = changes(stored.model_dump(mode="json"), wanted).items()
    return [message for path, message in messages if now.get(path) != "auto" and path not in unused]
