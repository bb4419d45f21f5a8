"""Settings that do nothing in a configuration, or the same thing twice, so that the person who set one is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lpt.config.schema import RunConfig
from lpt.config.values import leaves

PHASE_2_ONLY = (
    *(f"model.{name}" for name in ("top_k", "query", "key_init", "group_init")),
    *(f"prefix_cache.{name}" for name in ("views", "store", "dtype")),
    "loss.similarity_weight",
)
GROUPED_ONLY = ("model.pool_size", "model.shared_blocks", *PHASE_2_ONLY)  # a pool that is not trained has a size yet
STEPS_ONLY = (
    *(f"loss.{name}" for name in ("label_smoothing", "dropout", "instance_weight")),
    *(f"loss.{name}" for name in ("reweighting", "reweight_from", "effective_beta")),
    *(f"image.{name}" for name in ("crop_area", "crop_aspect", "flip")),
    *(f"train.{name}" for name in ("sampling", "images_per_class", "epoch_steps")),
)
PHASE_FIELDS = ("optimizer", "lr", "head_lr", "layer_decay", "weight_decay", "warmup_epochs", "min_lr", "schedule")
LOSS_FIELDS = {
    "margin": {"a_gcl"},
    "noise": {"a_gcl", "gcl"},
    "gamma_balanced": {"a_gcl"},
    "gamma_instance": {"a_gcl"},
    "ldam_margin": {"ldam"},
    "focal_gamma": {"focal"},
    "tau": {"logit_adjusted"},
    "label_smoothing": {"a_gcl", "gcl", "cross_entropy", "logit_adjusted", "balanced_softmax"},
}
"""The losses that read a field of the section `loss`."""


def doubled_balance(config: RunConfig) -> list[str]:
    """A sentence where classes are evened out more than once, which favours the rare ones beyond even."""
    ways = {
        f"loss.name {config.loss.name}": config.adjusts_logits,
        f"loss.reweighting {config.loss.reweighting}": config.loss.reweighting != "none",
        f"train.sampling {config.train.sampling}": config.evens_draws,
    }
    found = [way for way, holds in ways.items() if holds]
    trained = config.train.phase1.epochs or config.train.phase2.epochs
    if len(found) < 2 or not trained:
        return []
    return [f"{' and '.join(found)} each make up for the frequencies of the classes: rare ones are favoured too much"]


def unused_settings(values: Mapping[str, Any], base: RunConfig, config: RunConfig) -> list[str]:
    """One sentence for each value of a user that does nothing.

    Args:
        values: what the user said, nested by section.
        base: the configuration without it. A value that is the same there is not mentioned, nor one of a field that is
            `auto` there: a saved configuration has all fields, resolved.
        config: the configuration with it.
    """
    reasons = unused_fields(config)
    before, after = (dict(leaves(one.model_dump(mode="json"))) for one in (base, config))
    said = [path for path, _ in leaves(values) if path in reasons and before[path] not in ("auto", after[path])]
    return [f"{path}: {after[path]} has no effect: {reasons[path]}" for path in said]


def unused_fields(config: RunConfig) -> dict[str, str]:
    """Why a field does nothing, by its dotted path; fields that may do something are left out."""
    model, train = config.model, config.train
    found: dict[str, str] = {}
    if not model.grouped:
        found |= dict.fromkeys(GROUPED_ONLY, f"model.prompts is {model.prompts}, and only LPT's grouped prompts use it")
    elif not train.phase2.epochs:
        found |= dict.fromkeys(PHASE_2_ONLY, "there is no phase 2 (train.phase2.epochs is 0)")
    if model.prompts == "none":
        found |= dict.fromkeys(("model.prompt_length", "model.prompt_init"), "model.prompts is none")
    if model.adapter_size == 0:
        found |= dict.fromkeys(
            ("model.adapter_norm", "model.adapter_scale"), "there is no adapter (model.adapter_size)"
        )
    if model.weights != "last_blocks":
        found["model.last_blocks"] = f"model.weights is {model.weights}"
    if config.data.long_tail is None:
        found["data.long_tail_max"] = "data.long_tail is not set: nothing is cut"
    return found | _unused_of_loss(config) | _unused_of_training(config)


def _unused_of_loss(config: RunConfig) -> dict[str, str]:
    """Fields of other losses, and of streams and weights that the loss has not."""
    loss, train = config.loss, config.train
    found = {
        f"loss.{name}": f"loss.name is {loss.name}" for name, losses in LOSS_FIELDS.items() if loss.name not in losses
    }
    if "balanced" not in config.streams:
        found.setdefault("loss.gamma_balanced", f"train.sampling is {train.sampling}: no batch is class-balanced")
    elif len(config.streams) == 1:
        found.setdefault("loss.gamma_instance", "all batches are class-balanced")
    if loss.reweighting == "none":
        found["loss.reweight_from"] = "loss.reweighting is none"
    if loss.reweighting != "effective_number" and train.sampling != "effective_number":
        found["loss.effective_beta"] = "neither loss.reweighting nor train.sampling is effective_number"
    return found


def _unused_of_training(config: RunConfig) -> dict[str, str]:
    """Fields of phases that are left out, of rates that nothing has, and of batches that are not drawn."""
    train = config.train
    found: dict[str, str] = {}
    for phase in ("phase1", "phase2"):
        settings = getattr(train, phase)
        if not settings.epochs:
            found |= {f"train.{phase}.{name}": f"train.{phase}.epochs is 0" for name in PHASE_FIELDS}
            continue
        if config.model.weights == "none":
            found[f"train.{phase}.layer_decay"] = "no weights of the backbone train (model.weights is none)"
        if not settings.warmup_epochs:
            found[f"train.{phase}.min_lr"] = f"train.{phase}.warmup_epochs is 0"
    if train.sampling != "dual":
        found["loss.instance_weight"] = f"train.sampling is {train.sampling}: there is one stream"
    if "balanced" not in config.streams:
        found["train.images_per_class"] = f"train.sampling is {train.sampling}: no batch is class-balanced"
    if not (train.phase1.epochs or train.phase2.epochs):
        found |= dict.fromkeys(STEPS_ONLY, "no phase has epochs: nothing is trained in steps")
    return found
