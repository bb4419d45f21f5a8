"""The model: a frozen backbone and the prompts, keys and head that train."""

from lpt.model.backbone import FrozenViT
from lpt.model.lpt import LPT, Encoded, LPTOutput

__all__ = ["LPT", "Encoded", "FrozenViT", "LPTOutput"]
