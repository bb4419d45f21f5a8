"""Load backbones by name or from a file, with the record of their weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.constants import HF_HUB_CACHE
from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled
from pydantic import BaseModel, ValidationError
from timm.models.vision_transformer import VisionTransformer

from lpt.config.bounds import Deviations, Means, Text
from lpt.errors import ConfigError
from lpt.model.backbone import FrozenViT
from lpt.model.reach import UnreachableError, is_cached, why_unreachable
from lpt.model.record import (
    FOLDER_SCHEME,
    HUB_SCHEMES,
    SHIPPED,
    BackboneRecord,
    weight_hash,
)
from lpt.model.supported import WORKING_NAMES
from lpt.model.weights import download_again, fill, folder_file, hub_file

_ENDINGS = (".safetensors", ".bin", ".npz")
_DESCRIPTION = "config.json"
"""File of an `hf-hub:` repository or `local-dir:` folder that describes the model."""


class _Facts(BaseModel):
    """The fields of a checkpoint's architecture file that a record needs; other fields are ignored."""

    name: Text = "unnamed"
    mean: Means
    std: Deviations


def load_backbone(name: str, *, checkpoint: Path | None = None, image_size: tuple[int, int] | None = None) -> FrozenViT:
    """Load a frozen backbone at an input size; its `record` identifies it.

    Weights are read from safetensors, NumPy archives or PyTorch files of tensors: code in a file never runs.

    Args:
        name: timm model name, whose weights come from the hub or its cache (`HF_HUB_CACHE`, `HF_HUB_OFFLINE=1`); or
            `hf-hub:OWNER/NAME` for any repository of the hub, `local-dir:FOLDER` for a folder; or the name of a
            backbone that comes with this package.
        checkpoint: local weights to use instead. If a file `<stem>.json` beside it holds `architecture` (arguments of
            timm's VisionTransformer), `name` need not be a timm name.
        image_size: input height and width, pixels; None: the size of the weights. Position embeddings are resampled as
            timm does.

    Raises:
        ConfigError: the name is unknown, the weights cannot be loaded or do not fill the model, LPT does not support
            the model, or the size does not fit its patches.

    Example:
        >>> backbone = lpt.load_backbone("lpt-demo-glyphs")
        >>> backbone.depth, backbone.width, backbone.image_size
        (6, 128, (32, 32))
    """
    if checkpoint is not None and not checkpoint.is_file():
        raise ConfigError(f"backbone.checkpoint: there is no file {checkpoint}")
    file = SHIPPED.get(name) if checkpoint is None else checkpoint
    architecture = architecture_file(file)
    if architecture is not None:
        vit, facts = _from_architecture(architecture, file), architecture
        name = str(facts.get("name", name))
    else:
        vit = _from_timm(name)
        facts = vit.pretrained_cfg
    frozen = FrozenViT(vit)  # refuse an unsupported model before it takes memory, and before its weights are fetched
    if frozen.device.type == "meta":
        vit.to_empty(device="cpu")  # `fill` replaces every number
    where = "backbone.name" if checkpoint is None else "backbone.checkpoint"
    if file is None:
        file = _weights_of(name, vit)
        fill(vit, file, where, downloaded=not name.startswith(f"{FOLDER_SCHEME}:"))
    else:
        fill(vit, file, where)
    frozen = FrozenViT(vit, _record(frozen, name, checkpoint, facts))
    return frozen if image_size is None else frozen.at_size(image_size)


def _record(frozen: FrozenViT, name: str, checkpoint: Path | None, facts: dict[str, Any]) -> BackboneRecord:
    interpolation = facts.get("interpolation")
    parameters = frozen.vit.named_parameters()
    try:
        return BackboneRecord(
            name=name,
            checkpoint=None if checkpoint is None else str(checkpoint.resolve()),
            weight_hash=weight_hash(frozen.vit),
            licence=str(facts.get("license") or facts.get("licence") or "unknown"),
            parameters=sum(parameter.numel() for key, parameter in parameters if not key.startswith("head.")),
            native_size=frozen.image_size,
            mean=facts["mean"],
            std=facts["std"],
            interpolation=interpolation if interpolation in ("bilinear", "bicubic") else "bicubic",
        )
    except (KeyError, ValidationError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"the description of the backbone {name} (its config.json, or the JSON file beside its weights) is wrong: "
            f"{reason}. Mean and standard deviation of the input are three numbers each."
        ) from None


def cached_backbones() -> list[str]:
    """Return the names of timm models whose weights are in the local hub cache."""
    prefix = "models--timm--"
    files = [path for ending in _ENDINGS for path in Path(HF_HUB_CACHE).glob(f"{prefix}*/snapshots/*/*{ending}")]
    return sorted({path.parents[2].name.removeprefix(prefix) for path in files if path.is_file()})


def _from_timm(name: str) -> VisionTransformer:
    """Build a timm model without its weights, on the meta device: a huge model takes no memory yet."""
    scheme, colon, _ = name.partition(":")
    if colon and scheme not in (*HUB_SCHEMES, FOLDER_SCHEME):
        raise ConfigError(
            f"backbone.name: {name!r} has a scheme that lpt does not know. Accepted: a timm name, hf-hub:OWNER/NAME or "
            "local-dir:FOLDER"
        )
    if not colon and not timm.is_model(name):
        near = timm.list_models(f"*{name.split('.')[0][:12]}*", module="vision_transformer")[:5]
        raise ConfigError(
            f"backbone.name: timm {timm.__version__} knows no model {name!r}. Near it: {', '.join(near) or 'nothing'}. "
            f"Names that work: {', '.join(WORKING_NAMES)}"
        )
    if scheme == FOLDER_SCHEME and not (description := Path(name.partition(":")[2]) / _DESCRIPTION).is_file():
        raise ConfigError(f"backbone.name: there is no file {description}, which would describe the model of {name}")
    try:
        _check_description(name)
        with torch.device("meta"):
            return timm.create_model(name, pretrained=False, num_classes=0)
    except Exception as error:  # timm and the hub raise many kinds of errors
        raise ConfigError(_loading_failed(name, error)) from error


def _check_description(name: str) -> None:
    """Raise `UnreachableError` if timm would wait in vain for the config.json of an `hf-hub:` name."""
    scheme, _, place = name.partition(":")
    if scheme not in HUB_SCHEMES or constants.HF_HUB_OFFLINE:
        return
    repository, _, revision = place.partition("@")
    if is_cached(repository, _DESCRIPTION, revision):
        return
    if (failure := why_unreachable(repository, _DESCRIPTION, revision)) is not None:
        raise failure


def _weights_of(name: str, vit: VisionTransformer) -> Path:
    """Return the file with the weights of a timm name, `hf-hub:` repository or `local-dir:` folder."""
    scheme, colon, place = name.partition(":")
    repository = place if colon and scheme in HUB_SCHEMES else vit.pretrained_cfg.get("hf_hub_id")
    try:
        if colon and scheme == FOLDER_SCHEME:
            return folder_file(Path(place))
        if repository:
            return hub_file(vit, str(repository), name)
    except Exception as error:  # the hub raises many kinds of errors
        raise ConfigError(_loading_failed(name, error)) from error
    url = vit.pretrained_cfg.get("url")
    advice = f"Download {url} and give it with --checkpoint FILE" if url else "Give weights with --checkpoint FILE"
    raise ConfigError(f"backbone.name: the hub has no weights of {name}. {advice}, or choose another backbone.")


def _loading_failed(name: str, error: Exception) -> str:
    failed = f"backbone.name: the weights of {name} cannot be had: {_reason(error)}.\n"
    if (description := _damaged_description(name)) is not None:
        return f"{failed}Its description {description} is not readable JSON.\n{download_again(description)}"
    others = [cached for cached in cached_backbones() if cached != name and not cached.startswith(f"{name}.")]
    there = f"In the local cache {HF_HUB_CACHE}: {', '.join(others)}.\n" if others else ""
    steps = ["choose one of these"] if others else []
    if constants.HF_HUB_OFFLINE:
        steps += ["run once with a network and without HF_HUB_OFFLINE"]
    elif isinstance(error, UnreachableError):
        steps += ["check the connection"]
    steps += [
        "copy the cache of a machine that has loaded this backbone and name it with HF_HUB_CACHE",
        "or give local weights with --checkpoint FILE",
    ]
    return f"{failed}{there}Next: {', '.join(steps)}."


def _reason(error: Exception) -> str:
    reason = " ".join(str(error).split())[:300].rstrip(".")
    absent = f"they are not in the local cache {HF_HUB_CACHE}"
    if isinstance(error, UnreachableError):
        return f"{absent}, and {reason}"
    if constants.HF_HUB_OFFLINE and isinstance(error, LocalEntryNotFoundError | OfflineModeIsEnabled):
        return f"{absent}, and HF_HUB_OFFLINE forbids to download them"
    return f"{type(error).__name__}: {reason}"


def _damaged_description(name: str) -> Path | None:
    """Return the config.json of an `hf-hub:` repository in the cache if it cannot be read."""
    scheme, _, place = name.partition(":")
    if scheme not in HUB_SCHEMES:
        return None
    repository, _, revision = place.partition("@")
    path = try_to_load_from_cache(repository, _DESCRIPTION, revision=revision or None)
    if not isinstance(path, str):
        return None
    try:
        json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return Path(path)
    return None


def architecture_file(checkpoint: Path | None) -> dict[str, Any] | None:
    """Read the JSON file beside a checkpoint that describes its architecture; None if it has none."""
    if checkpoint is None or not (path := checkpoint.with_suffix(".json")).is_file():
        return None
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}, beside the checkpoint, is not readable JSON: {error}") from None
    missing = [key for key in ("architecture", "mean", "std") if not isinstance(facts, dict) or key not in facts]
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


def _from_architecture(facts: dict[str, Any], checkpoint: Path | None) -> VisionTransformer:
    try:
        return VisionTransformer(**{**facts["architecture"], "num_classes": 0})
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"backbone.checkpoint: the architecture in the JSON file beside {checkpoint} is not one of timm's "
            f"VisionTransformer: {type(error).__name__}: {reason}"
        ) from error
