"""The record that identifies a backbone, and the hash over its weights."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from lpt.config.bounds import (
    Deviations,
    Interpolation,
    Means,
    Sha256,
    Side,
    Size,
    Text,
)
from lpt.system.files import last_part

if TYPE_CHECKING:
    from torch import nn

SHIPPED = {"lpt-demo-glyphs": Path(__file__).parent.parent / "demo" / "backbone" / "model.safetensors"}
"""Backbones that come with this package, by name."""
HUB_SCHEMES, FOLDER_SCHEME = ("hf-hub", "hf_hub"), "local-dir"
"""Schemes of names: `hf-hub:OWNER/NAME` and `local-dir:FOLDER`."""


class BackboneRecord(BaseModel):
    """The record that identifies a backbone; a pack stores it.

    Args:
        name: timm model name, or the name in the architecture file of a checkpoint.
        checkpoint: path of local weights, in a pack only their file name; None: they came from the hub.
        weight_hash: sha256 over the loaded tensors by name, before positions are resampled, without the head.
        licence: licence of the weights, if timm or the architecture file names it.
        parameters: number of weights without the head.
        native_size: height and width that the weights were trained at, pixels.
        mean, std: normalisation of the input.
        interpolation: interpolation that the weights were trained with.
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

    def without_folders(self) -> BackboneRecord:
        """Return the record for a pack: it names local files and folders, but not their place on this machine."""
        checkpoint = None if self.checkpoint is None else last_part(self.checkpoint)
        return self.model_copy(update={"name": portable_name(self.name), "checkpoint": checkpoint})


def portable_name(name: str) -> str:
    """Return a backbone's name without the folders above a `local-dir:` folder; other names stay as they are."""
    scheme, colon, place = name.partition(":")
    return f"{scheme}:{last_part(place)}" if colon and scheme == FOLDER_SCHEME else name


def weight_hash(vit: nn.Module) -> str:
    """Return the sha256 over the tensors of a backbone by name: name, dtype, shape and bytes, without its head."""
    import torch

    digest = hashlib.sha256()
    for key, tensor in sorted(vit.state_dict().items()):
        if key.startswith("head."):
            continue
        digest.update(f"{key}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
