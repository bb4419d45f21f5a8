"""The settings that belong to the machine and not to the run: a resumed run may change them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from lpt.config.values import leaves

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

`data.validation` counts only where it names images: as a share it decides which images are trained on.
"""


def of_the_machine(path: str, value: Any) -> bool:
    """Return whether a field belongs to the machine, given its dotted path and its value."""
    return path in MACHINE_FIELDS and (path != "data.validation" or _names_images(value))


def settings_sha256(values: Mapping[str, Any]) -> str:
    """Return a SHA-256 over all settings that do not belong to the machine, whatever their order."""
    kept = {path: value for path, value in leaves(values) if not of_the_machine(path, value)}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()


def _names_images(validation: Any) -> bool:
    try:
        float(validation)
    except (TypeError, ValueError):
        return isinstance(validation, str)
    return False
