"""The models: a frozen backbone and what is trained on it."""

from lpt.model.backbone import FrozenViT
from lpt.model.build import Classifier, build_model, to_bfloat16
from lpt.model.lpt import LPT, Encoded, LPTOutput
from lpt.model.tuned import TunedViT

__all__ = ["LPT", "Classifier", "Encoded", "FrozenViT", "LPTOutput", "TunedViT", "build_model", "to_bfloat16"]
