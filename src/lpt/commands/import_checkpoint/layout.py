"""Read the layout in which the authors' code saves a model, and check that its backbone is the one that is named.

Their model is timm's VisionTransformer with a module `prompt_learner`: `Prompt_Tokens` [L, P, D], `Prompt_Tokens_pool`
[M, L-K, P, D], `Prompt_Keys` [M, D] and `head.weight` [D, C], a cosine head whose columns are classes. In phase 1 there
may be no pool and no keys. It may be saved under `state_dict` or `model`, from several cards with `module.` before each
name, and with the prompts alone.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lpt.config.architecture import Architecture
from lpt.errors import ConfigError, DataError
from lpt.model.backbone import FrozenViT
from lpt.model.shapes import shape_faults, trained_shapes
from lpt.model.weights import objects_inside, read_weights, readings
from lpt.packs.files import number_fault

PREFIX = "prompt_learner."
SHARED, POOL, KEYS, HEAD = "Prompt_Tokens", "Prompt_Tokens_pool", "Prompt_Keys", "head.weight"
_NAMES = {SHARED: "shared.tokens", POOL: "groups.prompts", KEYS: "groups.keys", HEAD: "head.weight"}
_DIMENSIONS = {SHARED: 3, POOL: 4, KEYS: 2, HEAD: 2}
_NOT_USED = ("head.", "pre_logits.")
"""Parts of timm's model that the authors' code does not use: its own head is `prompt_learner.head`."""
_SHOWN = 5


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint.

    Args:
        file: where it was read.
        trained: trained tensors by the names of lpt; the head has a row for each class.
        backbone: tensors of the backbone by timm's names; empty if the file holds the prompts alone.
    """

    file: Path
    trained: dict[str, Tensor]
    backbone: dict[str, Tensor]

    @property
    def grouped(self) -> bool:
        """Whether it has group prompts, so that phase 2 was trained."""
        return "groups.keys" in self.trained

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.trained["head.weight"])


def read_checkpoint(file: Path) -> Checkpoint:
    """Read a checkpoint of the authors' layout; no code in it runs.

    Raises:
        DataError: there is no such file, or it holds no model of this layout.
        ConfigError: the file holds Python objects besides tensors.
    """
    if not file.is_file():
        raise DataError(f"there is no file {file}. Give a checkpoint of the authors' code (.pt, .pth, .safetensors)")
    try:
        content = read_weights(file)
    except pickle.UnpicklingError:
        raise objects_inside("the checkpoint", file) from None
    except Exception as error:  # the file formats raise many kinds of errors
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{file} is no file of tensors that can be read: {type(error).__name__}: {reason}") from None
    for weights in readings(content):
        prefix = next((prefix for prefix in (PREFIX, "") if f"{prefix}{SHARED}" in weights), None)
        if prefix is not None:
            return _sort(file, weights, prefix)
    names = ", ".join(list(map(str, content))[:_SHOWN]) or "nothing"
    raise DataError(
        f"{file} holds no model of the authors' layout: there is no {PREFIX}{SHARED} in it, with or without module. in "
        f"front. It holds {names}"
    )


def _sort(file: Path, weights: Mapping[str, Any], prefix: str) -> Checkpoint:
    """Tell prompts from backbone, and give them the names of lpt."""
    learner = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    missing = [name for name in (SHARED, HEAD) if name not in learner]
    unpaired = (POOL in learner) != (KEYS in learner)
    missing += [name for name in (POOL, KEYS) if unpaired and name not in learner]
    unknown = sorted(set(learner) - set(_NAMES)) if prefix else []
    if missing or unknown:
        faults = [f"{PREFIX}{name} is missing" for name in missing]
        faults += [f"lpt does not know {PREFIX}{name}" for name in unknown[:_SHOWN]]
        raise DataError(f"{file} is not of the authors' layout: {'; '.join(faults)}")
    trained: dict[str, Tensor] = {}
    for name, ours in _NAMES.items():
        if name not in learner:
            continue
        tensor = learner[name]
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            raise DataError(f"{file}: {PREFIX}{name} is no tensor of floating-point numbers")
        if tensor.ndim != _DIMENSIONS[name]:
            raise DataError(f"{file}: {PREFIX}{name} is {list(tensor.shape)}; {_DIMENSIONS[name]} sides are accepted")
        trained[ours] = (tensor.T if name == HEAD else tensor).detach().float().contiguous()
        if fault := number_fault(trained[ours].numpy()):
            raise DataError(f"{file}: {PREFIX}{name} {fault}. Get the file again, or take another checkpoint")
    backbone = {
        name: value
        for name, value in weights.items()
        if prefix and not name.startswith((prefix, *_NOT_USED)) and isinstance(value, Tensor)
    }
    return Checkpoint(file, trained, backbone)


def architecture_of(checkpoint: Checkpoint, backbone: FrozenViT, top_k: int) -> Architecture:
    """Return the sizes of the model in a checkpoint; all shapes must fit the backbone and each other.

    Raises:
        ConfigError: they do not, or there are fewer group prompts than are picked.
    """
    trained, depth, width = checkpoint.trained, backbone.depth, backbone.width
    shapes = {name: tuple(tensor.shape) for name, tensor in trained.items()}
    sizes: dict[str, Any] = {"prompts": "deep", "prompt_length": shapes["shared.tokens"][1]}
    if checkpoint.grouped:
        pool, blocks = shapes["groups.prompts"][:2]
        blocks = blocks if 1 <= blocks <= depth else 1  # the shapes then differ, and are reported
        sizes |= {"prompts": "grouped", "shared_blocks": depth - blocks, "pool_size": max(1, pool)}
        if not 1 <= top_k <= sizes["pool_size"]:
            raise ConfigError(f"--top-k {top_k}: {checkpoint.file} has {sizes['pool_size']} group prompts to pick from")
        sizes["top_k"] = top_k
    architecture = Architecture(**sizes)
    expected = trained_shapes(architecture, depth, width, checkpoint.classes, {})
    if fault := shape_faults(shapes, expected):
        raise ConfigError(
            f"{checkpoint.file} does not fit the backbone {backbone.name}, of {depth} blocks and width {width}, in "
            f"lpt's names and order: {fault}. Give the backbone that it was trained on: --backbone NAME."
        )
    return architecture


def suit_to_norm(trained: Mapping[str, Tensor], backbone: FrozenViT, eps: float) -> dict[str, Tensor]:
    """Return prompts that act on this backbone as they did where LayerNorm had another eps; the rest is unchanged.

    A prompt p only acts through the first norm of its block, (p - mean) / sqrt(var + eps). For a * p with
    a^2 = eps here / eps there this gives the same numbers, whatever p is. Untrained prompts have a variance of 4e-4, so
    that eps is no small matter: 1e-6 for 1e-5 changes cosines by 0.005 on ViT-Ti, and picks too.

    Args:
        trained: tensors by the names of lpt.
        backbone: the backbone.
        eps: eps of LayerNorm in the code that trained the prompts.
    """
    factors = torch.tensor([math.sqrt((block.norm1.eps or eps) / eps) for block in backbone.vit.blocks])
    suited = dict(trained)
    suited["shared.tokens"] = trained["shared.tokens"] * factors[:, None, None]
    if "groups.prompts" in trained:
        blocks = trained["groups.prompts"].shape[1]
        suited["groups.prompts"] = trained["groups.prompts"] * factors[-blocks:, None, None]
    return suited


def check_backbone(checkpoint: Checkpoint, backbone: FrozenViT) -> None:
    """Check that the backbone in a checkpoint is the given one, tensor by tensor.

    Half-precision tensors in the file are compared in their precision. Position embeddings are compared at the input
    size of the weights.

    Raises:
        ConfigError: a tensor differs, is missing, or does not belong to it; the message names the first of them.
    """
    if not checkpoint.backbone:
        return
    inside = checkpoint.backbone
    ours = {name: tensor for name, tensor in backbone.vit.state_dict().items() if not name.startswith(_NOT_USED)}
    groups = {
        "missing in the file": [name for name in ours if name not in inside],
        "not of the backbone": [name for name in inside if name not in ours],
        "of another shape": [n for n, t in ours.items() if n in inside and inside[n].shape != t.shape],
    }
    shaped = [name for name, tensor in ours.items() if name in inside and inside[name].shape == tensor.shape]
    groups["with other numbers"] = [name for name in shaped if not _same(inside[name], ours[name])]
    faults = [f"{len(names)} {fault} ({_first(names)})" for fault, names in groups.items() if names]
    if faults:
        worst = groups["with other numbers"]
        most = max((float((inside[n].double() - ours[n].cpu().double()).abs().max()) for n in worst), default=0.0)
        apart = f", up to {most:.3g} apart" if worst else ""
        raise ConfigError(
            f"the backbone in {checkpoint.file} is not {backbone.name}: of {len(ours)} tensors, {'; '.join(faults)}"
            f"{apart}. Give the backbone that it was trained on: --backbone NAME, or --checkpoint FILE."
        )


def _same(theirs: Tensor, ours: Tensor) -> bool:
    """Return whether two tensors hold the same numbers, in the lower of their precisions."""
    narrow = min(theirs.dtype, ours.dtype, key=lambda dtype: dtype.itemsize)
    return torch.equal(theirs.to(narrow), ours.cpu().to(narrow))


def _first(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
