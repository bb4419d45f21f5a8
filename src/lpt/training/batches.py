"""What a step is made of: images to encode, or kept results of the frozen part (`lpt.training.prefix_cache`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lpt.data.device_crops import resampled_crops
from lpt.data.loading import StreamBatch
from lpt.data.transforms import Preprocessing
from lpt.model import Encoded


class Batch(Protocol):
    """This process's part of one stream's batch."""

    @property
    def labels(self) -> Tensor:
        """Classes, [b]."""
        ...

    def inputs(self, rows: slice, device: torch.device) -> Tensor | Encoded:
        """What the model gets of some rows: normalised images, or what is kept of them."""
        ...


Batches = Iterator[dict[str, Batch]]
"""The streams' batches, step by step."""


@dataclass(frozen=True)
class ImageBatch:
    """Images as they were augmented, or whole ones of which the crops are made on the device."""

    stored: StreamBatch
    preprocessing: Preprocessing

    @property
    def labels(self) -> Tensor:
        """Classes, [b]."""
        return self.stored.labels

    def inputs(self, rows: slice, device: torch.device) -> Tensor:
        """Normalised, [rows, 3, height, width]."""
        images, _, crops = self.stored
        pixels = to_device(images[rows], device)
        if crops is not None:
            pixels = resampled_crops(
                pixels, to_device(crops[rows], device), self.preprocessing.size, self.preprocessing.interpolation
            )
        return self.preprocessing.normalize(pixels)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on a device; without waiting only for CUDA, since elsewhere the copy may outlive its source."""
    return tensor.to(device, non_blocking=device.type == "cuda")
