"""Warnings about a valid configuration: settings without effect, and class balancing that is applied twice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lpt.config.architecture import GROUPED, PHASE_2
from lpt.config.rules import settings_of
from lpt.config.schema import RunConfig
from lpt.config.values import leaves


def doubled_balance(config: RunConfig) -> list[str]:
    """Return a warning if classes are balanced more than once, which favours the rare ones too much."""
    methods = {
        f"loss.name {config.loss.name}": config.adjusts_logits,
        f"loss.reweighting {config.loss.reweighting}": config.loss.reweighting != "none",
        f"train.sampling {config.train.sampling}": config.evens_draws,
    }
    active = [method for method, applies in methods.items() if applies]
    if len(active) < 2 or not config.trains_in_steps:
        return []
    return [f"{' and '.join(active)} each make up for the frequencies of the classes: rare ones are favoured too much"]


def unused_settings(values: Mapping[str, Any], base: RunConfig, config: RunConfig) -> list[str]:
    """Return a warning for each value of a user that has no effect.

    Args:
        values: the user's values, nested by section.
        base: the configuration without these values. A value is passed over if `base` has the same, or has `auto` in
            its field: a saved configuration holds every field, resolved.
        config: the configuration with these values.
    """
    reasons = unused_fields(config)
    before = dict(leaves(base.model_dump(mode="json")))
    after = dict(leaves(config.model_dump(mode="json")))
    return [
        f"{path}: {after[path]} has no effect: {reasons[path]}"
        for path, _ in leaves(values)
        if path in reasons and before[path] not in ("auto", after[path])
    ]


def unused_fields(config: RunConfig) -> dict[str, str]:
    """Return why a field has no effect in a configuration, for each such field by its dotted path."""
    reasons = {setting.path: setting.unused_reason(config) for setting in settings_of(RunConfig)}
    return {path: reason for path, reason in reasons.items() if reason is not None}


def second_phase_fields() -> set[str]:
    """Return the dotted paths of the fields that only LPT's second phase or its group prompts use."""
    return {
        setting.path
        for setting in settings_of(RunConfig)
        if setting.path.startswith("train.phase2.") or {GROUPED, PHASE_2} & set(setting.rules)
    }
