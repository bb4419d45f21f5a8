"""Backbones by name or from a file, with what identifies them: weights' hash, licence, normalisation."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub.constants import HF_HUB_CACHE
from pydantic import BaseModel, ConfigDict, ValidationError
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from lpt.bounds import Deviations, Interpolation, Means, Sha256, Side, Size, Text
from lpt.errors import ConfigError
from lpt.model.backbone import WORKING_NAMES, FrozenViT

SHIPPED = {"lpt-demo-glyphs": Path(__file__).parent.parent / "demo" / "backbone" / "model.safetensors"}
"""Backbones that come with this package, by name."""


class BackboneRecord(BaseModel):
    """What identifies a backbone; stored in the pack.

    Args:
        name: timm model name, or the name a checkpoint's architecture file gives.
        checkpoint: path of local weights, when they did not come from the hub.
        weight_hash: sha256 over the tensors by name as loaded: before positions are resampled, without the head.
        licence: of the weights, as far as timm or the architecture file says.
        parameters: number of weights without the head.
        native_size: height and width the weights were trained at, pixels.
        mean, std: normalisation of the input.
        interpolation: resizing the weights were trained with.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Text
    checkpoint: Text | None
    weight_hash: Sha256
    licence: Text
    parameters: Size
    native_size: tuple[Side, Side]
    mean: Means
    std: Deviations
    interpolation: Interpolation


class _Facts(BaseModel):
    """What a record takes from the file beside a checkpoint; the rest of that is not looked at."""

    name: Text = "unnamed"
    mean: Means
    std: Deviations


def load_backbone(name: str, *, checkpoint: Path | None = None, image_size: tuple[int, int] | None = None) -> FrozenViT:
    """A frozen backbone at an input size; its `record` says what identifies it.

    Args:
        name: timm model name, whose weights come from the hub or its cache (`HF_HUB_CACHE`, `HF_HUB_OFFLINE=1`); or
            the name of a backbone shipped with this package.
        checkpoint: local weights to use instead. With a file `<stem>.json` beside it that holds
            `architecture` (arguments of timm's VisionTransformer), `name` need not be one of timm's.
        image_size: input height and width, pixels; None keeps the size of the weights. Position embeddings are
            resampled as timm does.

    Raises:
        ConfigError: the name is unknown, the weights cannot be had, the model is one LPT is not right for, or the
            size does not fit its patches.
    """
    if checkpoint is not None and not checkpoint.is_file():
        raise ConfigError(f"backbone.checkpoint: there is no file {checkpoint}")
    weights = SHIPPED.get(name) if checkpoint is None else checkpoint
    architecture = _architecture_file(weights)
    if architecture is not None and weights is not None:
        vit, facts = _from_architecture(architecture, weights)
        name = str(facts.get("name", name))
    else:
        vit, facts = _from_timm(name, checkpoint)
    frozen = FrozenViT(vit)
    frozen.record = BackboneRecord(
        name=name,
        checkpoint=None if checkpoint is None else str(checkpoint.resolve()),
        weight_hash=weight_hash(vit),
        licence=str(facts.get("license") or facts.get("licence") or "unknown"),
        parameters=sum(parameter.numel() for key, parameter in vit.named_parameters() if not key.startswith("head.")),
        native_size=frozen.image_size,
        mean=facts["mean"],
        std=facts["std"],
        interpolation=facts.get("interpolation")
        if facts.get("interpolation") in ("bilinear", "bicubic")
        else "bicubic",
    )
    return frozen if image_size is None else frozen.at_size(image_size)


def weight_hash(vit: nn.Module) -> str:
    """sha256 over a backbone's tensors in order of their names: name, dtype, shape and bytes; without its head."""
    digest = hashlib.sha256()
    for key, tensor in sorted(vit.state_dict().items()):
        if key.startswith("head."):
            continue
        digest.update(f"{key}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def cached_backbones() -> list[str]:
    """Names of timm models in the local hub cache."""
    prefix = "models--timm--"
    return sorted(path.name.removeprefix(prefix) for path in Path(HF_HUB_CACHE).glob(prefix + "*"))


def _from_timm(name: str, checkpoint: Path | None) -> tuple[VisionTransformer, dict[str, Any]]:
    if not timm.is_model(name.removeprefix("hf-hub:").split("/")[-1]):
        near = timm.list_models(f"*{name.split('.')[0][:12]}*", module="vision_transformer")[:5]
        raise ConfigError(
            f"backbone.name: timm {timm.__version__} knows no model {name!r}. Near it: {', '.join(near) or 'nothing'}. "
            f"Names that work: {', '.join(WORKING_NAMES)}"
        )
    overlay = {} if checkpoint is None else {"pretrained_cfg_overlay": {"file": str(checkpoint)}}
    try:
        vit = timm.create_model(name, pretrained=True, num_classes=0, **overlay)
    except Exception as error:  # timm, the hub and the file formats raise many kinds
        raise ConfigError(_why_not_loaded(name, checkpoint, error)) from error
    return vit, vit.pretrained_cfg


def _why_not_loaded(name: str, checkpoint: Path | None, error: Exception) -> str:
    reason = " ".join(str(error).split())[:300]
    if checkpoint is not None:
        return f"backbone.checkpoint: {checkpoint} does not load as {name}: {type(error).__name__}: {reason}"
    cached = cached_backbones()
    return (
        f"backbone.name: the weights of {name} cannot be had: {type(error).__name__}: {reason}\n"
        f"In the local cache {HF_HUB_CACHE}: {', '.join(cached) or 'no timm model'}.\n"
        "Next: choose one of these, connect to the hub once (without HF_HUB_OFFLINE=1), point HF_HUB_CACHE to a filled "
        "cache, or give local weights with --checkpoint FILE."
    )


def _architecture_file(checkpoint: Path | None) -> dict[str, Any] | None:
    """What the file beside a checkpoint says of its architecture, if there is one."""
    if checkpoint is None or not (path := checkpoint.with_suffix(".json")).is_file():
        return None
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}, beside the checkpoint, is not readable JSON: {error}") from None
    missing = [key for key in ("architecture", "mean", "std") if key not in facts]
    if missing:
        raise ConfigError(f"{path}, beside the checkpoint, lacks {', '.join(missing)}")
    try:
        _Facts.model_validate(facts)
    except ValidationError as error:
        fault = error.errors()[0]
        raise ConfigError(
            f"{path}, beside the checkpoint: {'.'.join(map(str, fault['loc']))}: {fault['msg']}"
        ) from None
    return dict(facts)


def _from_architecture(facts: dict[str, Any], checkpoint: Path) -> tuple[VisionTransformer, dict[str, Any]]:
    try:
        vit = VisionTransformer(**{**facts["architecture"], "num_classes": 0})
        weights = timm.models.load_state_dict(str(checkpoint), use_ema=False, weights_only=True)
        vit.load_state_dict({key: value for key, value in weights.items() if not key.startswith("head.")})
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"backbone.checkpoint: {checkpoint} does not fit the architecture in the JSON file beside it: "
            f"{type(error).__name__}: {reason}"
        ) from error
    return vit, facts
