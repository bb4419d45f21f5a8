"""Batches of a step: images to encode, or cached outputs of the frozen part (`lpt.training.prefix_cache`)."""

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
    """A process's part of the batch of one stream."""

    @property
    def labels(self) -> Tensor:
        """Return the classes, [b]."""
        ...

    def inputs(self, rows: slice, device: torch.device) -> Tensor | Encoded:
        """Return the model's inputs for some rows: normalised images, or their cached frozen part."""
        ...


Batches = Iterator[dict[str, Batch]]
"""The batches of all streams, step by step."""


@dataclass(frozen=True)
class ImageBatch:
    """A batch of augmented images, or of whole images whose crops are made on the device."""

    stored: StreamBatch
    preprocessing: Preprocessing

    @property
    def labels(self) -> Tensor:
        """Return the classes, [b]."""
        return self.stored.labels

    def inputs(self, rows: slice, device: torch.device) -> Tensor:
        """Return normalised images, [rows, 3, height, width]."""
        images, _, crops = self.stored
        pixels = to_device(images[rows], device)
        if crops is not None:
            pixels = resampled_crops(
                pixels, to_device(crops[rows], device), self.preprocessing.size, self.preprocessing.interpolation
            )
        return self.preprocessing.normalize(pixels)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device; without waiting only for CUDA, since elsewhere the copy may outlive its source."""
    return tensor.to(device, non_blocking=device.type == "cuda")
