"""Named presets: the values that a configuration starts from.

Values come from the preset, then from the method, then from the user's YAML and `--set`; later ones win. Fields that
are still `auto` are resolved by `lpt.commands.fit.auto`, which knows the data and the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from lpt.config.lint import doubled_balance, second_phase_fields, unused_settings
from lpt.config.recipes import Method, method_named
from lpt.config.schema import RunConfig, validate
from lpt.config.values import leaves, merge
from lpt.errors import ConfigError


def paper() -> dict[str, Any]:
    """Return the published setting: ViT-B/16 (ImageNet-21k) at 224, 90 epochs a phase, SGD (Dong et al., ICLR 2023).

    Command: lpt fit DATA --preset paper
    Expected: 89.1 overall on CIFAR-100-LT (imbalance factor 100), as published. Not measured here: it needs a GPU.
    """
    return {
        "backbone": {"name": "vit_base_patch16_224.augreg_in21k"},
        "image": {"size": 224, "crop_area": [0.08, 1.0], "test_crop": 0.875},
    }


def laptop() -> dict[str, Any]:
    """Return a setting for a CPU: ViT-Ti/16 at 128, AdamW, 12 passes, initial values from data, adapters of width 1.

    A set of fewer than 6,400 images has more passes, because an epoch has at least 100 steps.

    Command: lpt fit DATA --preset laptop
    Expected: the accuracy on CIFAR-100-LT in docs/explanation/better_than_fine_tuning.md, in about ten minutes on 2 CPU
    cores with bfloat16.
    Settings were chosen on held-out training images of CIFAR-100 (the fewest steps: of an emoji set), never on test
    images. docs/explanation/trials.md says how.
    """
    phase = {"optimizer": "adamw", "weight_decay": 0.01, "warmup_epochs": 1, "schedule": "step"}
    return {
        "backbone": {"name": "vit_tiny_patch16_224.augreg_in21k_ft_in1k"},
        "image": {"size": 128, "crop_area": [0.3, 1.0], "test_crop": 0.875},
        "model": {
            "head_init": "class_means", "prompt_init": "tokens", "group_init": "shared",
            "adapter_size": 1, "adapter_norm": True, "adapter_scale": None,
        },
        "loss": {"noise": "auto"},
        "train": {
            "batch_size": 32,
            "phase1": {**phase, "epochs": 8, "lr": 2.4e-2},
            "phase2": {**phase, "epochs": 4, "lr": 3e-3},
        },
    }  # fmt: skip


PRESETS: dict[str, Callable[[], dict[str, Any]]] = {"laptop": laptop, "paper": paper}
PHASES = {1: "lpt-phase1", 2: "lpt"}
"""The method that trains this many of LPT's phases."""
_PHASES_OF = {"laptop": 1, "paper": 2}
"""Phases that a preset trains unless a method is named."""


class Resolved(NamedTuple):
    """A configuration, the reasons for the values that replaced `auto`, and warnings; one sentence each."""

    config: RunConfig
    reasons: list[str]
    warnings: tuple[str, ...] = ()


def choose_preset(preset: str, device: str) -> tuple[str, list[str]]:
    """Return the name of the preset to use on a device (cpu, cuda or mps), and the reason if it was `auto`.

    Raises:
        ConfigError: there is no such preset.
    """
    if preset in PRESETS:
        return preset, []
    if preset != "auto":
        raise ConfigError(f"preset: no preset {preset!r}. Accepted: auto, {', '.join(PRESETS)}")
    if device == "cuda":
        return "paper", [
            "preset paper: there is a CUDA card. This is the published setting; with this software it is not measured "
            "yet. What docs/explanation/better_than_fine_tuning.md measures is --preset laptop, which also runs on a "
            "card"
        ]
    return "laptop", [f"preset laptop: on {device} the published setting would take days"]


def choose_method(values: Mapping[str, Any], preset: str) -> tuple[Method, list[str]]:
    """Return the method that values name, and the reason if it was `auto`.

    `laptop` trains LPT's first phase alone, unless a value is of the second.

    Args:
        values: the user's values by section.
        preset: name of the preset.

    Raises:
        ConfigError: there is no such method.
    """
    name = str(values.get("method", "auto"))
    if name != "auto":
        return method_named(name), []
    if _PHASES_OF[preset] == 2:
        return method_named(PHASES[2]), []
    second = second_phase_fields()
    path = next((path for path, _ in leaves(values) if path in second), None)
    if path is not None:
        return method_named(PHASES[2]), [f"method {PHASES[2]}: {path} is of its second phase"]
    return method_named(PHASES[1]), [
        f"method {PHASES[1]}: in the mean per class the first phase alone was as accurate as both wherever both were "
        "measured, and it predicts faster (docs/explanation/group_prompts.md). Both: --phases 2"
    ]


def with_preset(values: dict[str, Any], device: str, *, origin: str) -> Resolved:
    """Return the configuration of a preset, a method and a user's values, checked; fields may still be `auto`.

    Args:
        values: the user's values by section, with the names of preset and method, which may be `auto`.
        device: where it will run: cpu, cuda or mps.
        origin: where the values come from, for errors.

    Raises:
        ConfigError: a value is wrong, or there is no such preset or method.
    """
    name, reasons = choose_preset(str(values.get("preset", "auto")), device)
    method, why = choose_method(values, name)
    names = {"preset": name, "method": method.name}
    scale = PRESETS[name]()
    base = merge(scale, method.values(validate({**scale, "preset": name}, origin=f"the preset {name}")))
    config = validate(merge(merge(base, values), names), origin=origin)
    recipe = validate(merge(base, names), origin=f"the method {method.name}")
    warnings = unused_settings(values, recipe, config) + doubled_balance(config)
    return Resolved(config, reasons + why, tuple(warnings))
