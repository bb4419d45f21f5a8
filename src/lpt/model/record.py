"""What identifies a backbone: its record in the pack, and the hash over its weights."""

from __future__ import annotations

import hashlib

import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

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


class BackboneRecord(BaseModel):
    """What identifies a backbone; stored in the pack.

    Args:
        name: timm model name, or the name a checkpoint's architecture file gives.
        checkpoint: local weights, when they did not come from the hub: their path, in a pack their name alone.
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

    def without_folders(self) -> BackboneRecord:
        """What a pack says: the names of local files and folders, not where they lie on this machine."""
        scheme, colon, place = self.name.partition(":")
        name = f"{scheme}:{last_part(place)}" if colon and scheme == FOLDER_SCHEME else self.name
        checkpoint = None if self.checkpoint is None else last_part(self.checkpoint)
        return self.model_copy(update={"name": name, "checkpoint": checkpoint})


def weight_hash(vit: nn.Module) -> str:
    """sha256 over a backbone's tensors in order of their names: name, dtype, shape and bytes; without its head."""
    digest = hashlib.sha256()
    for key, tensor in sorted(vit.state_dict().items()):
        if key.startswith("head."):
            continue
        digest.update(f"{key}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


HUB_SCHEMES, FOLDER_SCHEME = ("hf-hub", "hf_hub"), "local-dir"
