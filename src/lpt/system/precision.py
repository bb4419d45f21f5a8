"""Arithmetic that must not be done in half precision."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(tensor: Tensor) -> Tensor:
    """Return the tensor in float32, or as it is when it is wider; matching, head and loss need no less."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()
