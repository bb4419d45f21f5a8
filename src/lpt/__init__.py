"""LPT: long-tailed prompt tuning of frozen Vision Transformers (Dong et al., ICLR 2023).

import lpt

result = lpt.fit("photos/", "runs/photos")
predictor = lpt.Predictor(None, result.pack)
predictor.predict(["new.jpg"])
"""

from lpt.errors import ConfigError, DataError, LptError, PackError, RunError
from lpt.model.pretrained import load_backbone
from lpt.pack import Pack, load_pack
from lpt.predictor import Prediction, Predictor
from lpt.run.fit import FitResult, fit, resume

__version__ = "0.1.0"

__all__ = [
    "ConfigError",
    "DataError",
    "FitResult",
    "LptError",
    "Pack",
    "PackError",
    "Prediction",
    "Predictor",
    "RunError",
    "fit",
    "load_backbone",
    "load_pack",
    "resume",
]
