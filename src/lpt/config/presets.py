"""Named presets: the values that a configuration starts from.

Values come from the preset, then from the method, then from the user's YAML and `--set`. What is left at `auto` is
resolved by `lpt.commands.fit.auto`, which knows the data and the machine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from lpt.config.lint import doubled_balance, unused_settings
from lpt.config.recipes import method_named
from lpt.config.schema import RunConfig, validate
from lpt.config.values import merge
from lpt.errors import ConfigError


def paper() -> dict[str, Any]:
    """The published setting: ViT-B/16 (ImageNet-21k) at 224, 90 epochs a phase, SGD (Dong et al., ICLR 2023).

    Command: lpt fit DATA --preset paper
    Expected: CIFAR-100-LT IR 100 89.1 overall, as published; not measured here (it needs a GPU).
    """
    return {
        "backbone": {"name": "vit_base_patch16_224.augreg_in21k"},
        "image": {"size": 224, "crop_area": [0.08, 1.0], "test_crop": 0.875},
    }


def laptop() -> dict[str, Any]:
    """A small budget on a CPU: ViT-Ti/16 at 128, AdamW, starts from the data, adapters of one number, 12 passes.

    A set of fewer than 6,400 images is passed over more often: an epoch has 100 steps at least.

    Command: lpt fit DATA --preset laptop
    Expected: CIFAR-100-LT as docs/results.md says, in about ten minutes on 2 CPU cores with bfloat16. Settings were
    chosen on training images held out of CIFAR-100, the least steps on those of an emoji set, never on test images
    (docs/trials.md says how).
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


class Resolved(NamedTuple):
    """A configuration, why `auto` became what it is, and which values are doubtful, a sentence each."""

    config: RunConfig
    reasons: list[str]
    warnings: tuple[str, ...] = ()


def choose_preset(config_preset: str, device: str) -> tuple[str, list[str]]:
    """Return the name of the preset to use on a device (cpu, cuda or mps), and why.

    Raises:
        ConfigError: there is no such preset.
    """
    if config_preset in PRESETS:
        return config_preset, []
    if config_preset != "auto":
        raise ConfigError(f"preset: no preset {config_preset!r}. Accepted: auto, {', '.join(PRESETS)}")
    if device == "cuda":
        return "paper", ["preset paper: there is a CUDA card, on which the published setting is affordable"]
    return "laptop", [f"preset laptop: on {device} the published setting would take days"]


def with_preset(values: dict[str, Any], device: str, *, origin: str) -> Resolved:
    """The user's values on top of the method's, these on the preset's, checked; fields may still be `auto`."""
    name, reasons = choose_preset(str(values.get("preset", "auto")), device)
    method = method_named(str(values.get("method", "lpt")))
    recipe = {"preset": name, "method": method.name}
    scale = PRESETS[name]()
    base = merge(scale, method.values(validate({**scale, "preset": name}, origin=f"the preset {name}")))
    config = validate(merge(merge(base, values), recipe), origin=origin)
    without = validate(merge(base, recipe), origin=f"the method {method.name}")
    doubtful = unused_settings(values, without, config) + doubled_balance(config)
    return Resolved(config, reasons, tuple(doubtful))
