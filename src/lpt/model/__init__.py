"""The model: a frozen backbone and the prompts, keys and head that train."""

from lpt.model.backbone import FrozenViT
from lpt.model.lpt import LPT, LPTOutput

__all__ = ["LPT", "FrozenViT", "LPTOutput"]
