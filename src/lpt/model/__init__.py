"""The models: a frozen backbone and what is trained on it.

Names are imported on first use, so that `lpt.model.record` and `lpt.model.shapes` load without torch and timm.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lpt.model.backbone import FrozenViT
    from lpt.model.build import Classifier, build_model, to_bfloat16
    from lpt.model.inference import InferenceModel
    from lpt.model.lpt import LPT, Encoded, LPTOutput
    from lpt.model.tuned import TunedViT

__all__ = [
    "LPT",
    "Classifier",
    "Encoded",
    "FrozenViT",
    "InferenceModel",
    "LPTOutput",
    "TunedViT",
    "build_model",
    "to_bfloat16",
]

_HOME = {
    "Classifier": "build",
    "Encoded": "lpt",
    "FrozenViT": "backbone",
    "InferenceModel": "inference",
    "LPT": "lpt",
    "LPTOutput": "lpt",
    "TunedViT": "tuned",
    "build_model": "build",
    "to_bfloat16": "build",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
