"""Test that settings without effect are reported, and really have no effect."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import lpt
from lpt.config.lint import unused_fields
from lpt.config.presets import with_preset
from lpt.config.rules import settings_of
from lpt.config.schema import RunConfig
from lpt.config.values import parse_assignments
from lpt.packs.pack import Pack
from lpt.system.hardware import Machine

CPU = Machine("cpu", "a processor", 2, False, 8 * 2**30, 8 * 2**30)
OTHERWISE = {
    "model.prompt_length": "3",
    "model.prompt_init": "tokens",
    "model.shared_blocks": "1",
    "model.pool_size": "5",
    "model.top_k": "1",
    "model.query": "prefix",
    "model.key_init": "kmeans",
    "model.group_init": "shared",
    "model.adapter_norm": "true",
    "model.adapter_scale": "0.3",
    "model.last_blocks": "1",
    "loss.margin": "0.3",
    "loss.noise": "0.1",
    "loss.gamma_balanced": "[1.0, 2.0]",
    "loss.gamma_instance": "[1.0, 2.0]",
    "loss.ldam_margin": "0.2",
    "loss.focal_gamma": "1.0",
    "loss.tau": "0.5",
    "loss.label_smoothing": "0.2",
    "loss.instance_weight": "0.3",
    "loss.similarity_weight": "0.1",
    "loss.reweighting": "inverse_frequency",
    "loss.reweight_from": "0.4",
    "loss.effective_beta": "0.9",
    "loss.dropout": "0.3",
    "train.sampling": "square_root",
    "train.images_per_class": "2",
    "train.epoch_steps": "7",
    "data.long_tail_max": "7",
    "image.crop_area": "[0.6, 0.9]",
    "image.crop_aspect": "[0.9, 1.1]",
    "image.flip": "false",
    "prefix_cache.views": "2",
    "prefix_cache.store": "memory",
    "prefix_cache.dtype": "fp16",
    **{
        f"train.{phase}.{name}": value
        for phase in ("phase1", "phase2")
        for name, value in {
            "optimizer": "sgd",
            "lr": "0.5",
            "head_lr": "0.3",
            "layer_decay": "0.5",
            "weight_decay": "0.2",
            "warmup_epochs": "0",
            "min_lr": "1e-5",
            "schedule": "epoch",
        }.items()
    },
}
"""A value for every field that has a rule, different from that of any recipe."""
RESOLVED = {"prefix_cache.store", "prefix_cache.dtype", "train.epoch_steps"}
"""Those of these fields that are `auto` in every recipe: their value may come from a saved configuration."""
SOLVED = {"linear-probe", "linear-probe-la", "class-means"}
CASES = [
    ("lpt", ()),
    ("lpt", ("train.phase2.epochs=0", "model.head_init=random")),
    ("lpt", ("loss.instance_weight=0",)),
    ("lpt-phase1", ()),
    ("lift", ()),
    ("last-blocks", ()),
    ("vpt-gcl-drw", ()),
    ("fine-tuning", ("loss.name=focal",)),
    ("vpt-shallow", ("train.sampling=balanced",)),
    ("linear-probe", ()),
    ("linear-probe-la", ()),
    ("class-means", ()),
]


def fitted(method: str, settings: Sequence[str], folder: Path, photos: Path, checkpoint: Path) -> tuple[Pack, str]:
    small = ["image.size=32", "runtime.threads=1", "runtime.precision=fp32", "runtime.device=cpu", "runtime.workers=0"]
    steps = ["train.batch_size=8", "train.epoch_steps=2", "train.phase1.epochs=2"]
    common = [*small, f"backbone.checkpoint={checkpoint}", *([] if method in SOLVED else steps)]
    common += ["train.phase2.epochs=1"] if method == "lpt" else []
    console = Console(file=io.StringIO(), width=400)
    run = lpt.fit(photos, folder, preset="laptop", method=method, settings=[*common, *settings], console=console)
    return run.pack, console.file.getvalue()


def test_the_values_cover_every_field_that_has_a_rule() -> None:
    assert set(OTHERWISE) == {setting.path for setting in settings_of(RunConfig) if setting.rules}


@pytest.mark.parametrize(("method", "settings"), CASES)
def test_unused_settings_change_nothing_and_are_reported(
    method: str, settings: tuple[str, ...], photo_folder: Path, tiny_backbone: Path, tmp_path: Path
) -> None:
    """With other values for all unused fields at once, the pack is the same bit for bit; each field has a warning."""
    values = {"preset": "laptop", "method": method, **parse_assignments(list(settings))}
    config = with_preset(values, CPU.device, origin="test").config
    unused = unused_fields(config)
    before, output = fitted(method, settings, tmp_path / "before", photo_folder, tiny_backbone)
    assert "has no effect" not in output
    changed = [f"{path}={OTHERWISE[path]}" for path in unused]
    after, output = fitted(method, [*settings, *changed], tmp_path / "after", photo_folder, tiny_backbone)
    assert before.tensors.keys() == after.tensors.keys()
    assert all(np.array_equal(before.tensors[name], after.tensors[name]) for name in before.tensors)
    assert before.info.probabilities == after.info.probabilities
    kept = "model.group_init" if config.model.group_init == OTHERWISE["model.group_init"] else None
    for path, reason in unused.items():
        if path not in RESOLVED and path != kept:
            assert f"warning: {path}: " in output
            assert f"has no effect: {reason}\n" in output


def test_running_a_saved_configuration_again_warns_of_nothing(
    photo_folder: Path, tiny_backbone: Path, tmp_path: Path
) -> None:
    """It holds every field, including those that were `auto` and those that the method does not use."""
    fitted("lift", (), tmp_path / "run", photo_folder, tiny_backbone)
    console = Console(file=io.StringIO(), width=400)
    lpt.fit(None, tmp_path / "again", config=tmp_path / "run" / "config.yaml", console=console)
    assert "Machine" in console.file.getvalue()
    assert "has no effect" not in console.file.getvalue()


def test_a_value_equal_to_the_default_causes_no_warning() -> None:
    values = {"preset": "laptop", "method": "lift", "model": {"pool_size": 20}}
    assert with_preset(values, CPU.device, origin="test").warnings == ()
    values["model"] = {"pool_size": 30}
    assert with_preset(values, CPU.device, origin="test").warnings == (
        "model.pool_size: 30 has no effect: model.prompts is none, and only LPT's grouped prompts use it",
    )


def test_a_solved_probe_uses_neither_class_weights_nor_sampling() -> None:
    values = {"loss": {"reweighting": "inverse_frequency"}, "train": {"sampling": "balanced"}}
    warnings = with_preset({"preset": "laptop", "method": "linear-probe", **values}, CPU.device, origin="test").warnings
    for warning, path in zip(
        warnings, ("loss.reweighting: inverse_frequency", "train.sampling: balanced"), strict=True
    ):
        assert warning == f"{path} has no effect: no phase has epochs: nothing is trained in steps"


@pytest.mark.parametrize(
    ("method", "values", "warned"),
    [
        ("lpt", {}, None),
        ("lpt", {"loss": {"name": "logit_adjusted"}}, "loss.name logit_adjusted and train.sampling dual each"),
        ("lpt", {"loss": {"name": "logit_adjusted"}, "train": {"sampling": "instance"}}, None),
        ("lift", {"train": {"sampling": "effective_number"}}, "train.sampling effective_number each"),
        ("lift", {"loss": {"reweighting": "effective_number"}}, "and loss.reweighting effective_number each"),
        ("vpt-gcl-drw", {}, None),
        ("linear-probe-la", {}, None),
    ],
)
def test_classes_that_are_balanced_twice_cause_a_warning(
    method: str, values: dict[str, Any], warned: str | None
) -> None:
    warnings = with_preset({"preset": "laptop", "method": method, **values}, CPU.device, origin="test").warnings
    assert warned in warnings[0] if warned else warnings == ()
