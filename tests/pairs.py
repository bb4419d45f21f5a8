"""A textbook model and an LPT with the same tensors."""

from __future__ import annotations

from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer

from lpt.model import LPT, FrozenViT
from oracle import Textbook, load_into


def textbook_and_lpt(vit: VisionTransformer, dtype: torch.dtype = torch.float64, **kwargs: Any) -> tuple[Textbook, LPT]:
    sizes: dict[str, Any] = {"prompt_length": 3, "shared_blocks": 2, "pool_size": 5, "top_k": 2, **kwargs}
    textbook = Textbook.random(vit, dtype=dtype, **sizes)
    lpt = LPT(FrozenViT(vit), num_classes=len(textbook.head), **sizes).to(dtype)
    load_into(lpt, textbook)
    return textbook, lpt
