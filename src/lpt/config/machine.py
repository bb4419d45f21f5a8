"""The settings that belong to the machine and not to the run: a resumed run may change them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from lpt.config.values import leaves
from lpt.errors import ConfigError

MACHINE_FIELDS = (
    "data.source",
    "data.test",
    "data.validation",
    "data.image_root",
    "data.cache",
    "backbone.checkpoint",
    "train.micro_batch",
    "prefix_cache.store",
    "runtime.device",
    "runtime.threads",
    "runtime.workers",
    "runtime.checkpoint_seconds",
    "runtime.log_with",
)
"""Where images and weights lie (their content is compared), and how the work is spread. Precision is not among them.

Those of `_MAYBE_SHARES` count only where they name images: as a share they decide which images are trained on.
"""
_MAYBE_SHARES = ("data.test", "data.validation")


def of_the_machine(path: str, value: Any) -> bool:
    """Return whether a field belongs to the machine, given its dotted path and its value."""
    return path in MACHINE_FIELDS and (path not in _MAYBE_SHARES or _names_images(value))


def check_of_the_machine(given: Mapping[str, Any], stored: Mapping[str, Any]) -> None:
    """Check that a resumed run is given only settings that it may change.

    Args:
        given: values by section.
        stored: the run's own.

    Raises:
        ConfigError: a value decides what the run learns.
    """
    before = dict(leaves(stored))
    refused = [
        path
        for path, value in leaves(given)
        if not (of_the_machine(path, value) and of_the_machine(path, before.get(path) or value))
        and before.get(path) != value
    ]
    if refused:
        raise ConfigError(
            f"{', '.join(refused)}: a resumed run keeps this setting, since its numbers depend on it. Leave it out, or "
            f"start a new run. What may change: {', '.join(MACHINE_FIELDS)}."
        )


def settings_sha256(values: Mapping[str, Any]) -> str:
    """Return a SHA-256 over all settings that do not belong to the machine, whatever their order."""
    kept = {path: value for path, value in leaves(values) if not of_the_machine(path, value)}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()


def _names_images(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return isinstance(value, str)
    return False
