"""Settings that do nothing are named, and really do nothing."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

import lpt
from lpt.config import parse_assignments
from lpt.hardware import Machine
from lpt.presets import with_preset
from lpt.unused import unused_fields

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
    "loss.reweight_from": "0.4",
    "loss.effective_beta": "0.9",
    "train.images_per_class": "2",
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
"""A value for every field that can be without effect, other than any recipe's."""
CASES = {
    "lpt": [],
    "lpt-phase1": [],
    "lift": [],
    "last-blocks": [],
    "vpt-gcl-drw": [],
    "fine-tuning": ["loss.name=focal"],
    "vpt-shallow": ["train.sampling=balanced"],
    "linear-probe-la": [],
}


def fitted(method: str, settings: list[str], folder: Path, photos: Path, checkpoint: Path) -> tuple[Any, str]:
    small = ["image.size=32", "runtime.threads=1", "runtime.precision=fp32", "runtime.device=cpu", "runtime.workers=0"]
    steps = (
        [] if method == "linear-probe-la" else ["train.batch_size=8", "train.epoch_steps=2", "train.phase1.epochs=2"]
    )
    own = [*small, *steps, f"backbone.checkpoint={checkpoint}", *(["train.phase2.epochs=1"] if method == "lpt" else [])]
    console = Console(file=io.StringIO(), width=400)
    run = lpt.fit(photos, folder, preset="laptop", method=method, settings=[*own, *settings], console=console)
    return run.pack.tensors, console.file.getvalue()


@pytest.mark.parametrize("method", CASES)
def test_what_is_called_unused_changes_nothing_and_is_told(
    method: str, photo_folder: Path, tiny_backbone: Path, tmp_path: Path
) -> None:
    """All such fields at once, set otherwise: the same trained tensors bit for bit, and one warning for each."""
    config = with_preset({"preset": "laptop", "method": method, **parse_assignments(CASES[method])}, CPU, origin="test")
    unused = unused_fields(config.config)
    assert set(unused) <= set(OTHERWISE)
    changed = [f"{path}={OTHERWISE[path]}" for path in unused]
    before, said = fitted(method, CASES[method], tmp_path / "before", photo_folder, tiny_backbone)
    assert "has no effect" not in said
    after, said = fitted(method, [*CASES[method], *changed], tmp_path / "after", photo_folder, tiny_backbone)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    for path, reason in unused.items():
        assert f"warning: {path}: " in said
        assert f"has no effect: {reason}\n" in said


def test_a_saved_configuration_and_an_equal_value_are_not_warned_of() -> None:
    saved = with_preset({"preset": "laptop", "method": "lift"}, CPU, origin="test").config.model_dump(mode="json")
    assert with_preset(saved, CPU, origin="test").unused == ()
    said = with_preset({"preset": "laptop", "method": "lift", "model": {"pool_size": 20}}, CPU, origin="test").unused
    assert said == ()
    (said_of_other,) = with_preset(
        {"preset": "laptop", "method": "lift", "model": {"pool_size": 30}}, CPU, origin="test"
    ).unused
    assert said_of_other == (
        "model.pool_size: 30 has no effect: model.prompts is none, and only LPT's grouped prompts use it"
    )
