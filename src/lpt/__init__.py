"""LPT: long-tailed prompt tuning of frozen Vision Transformers (Dong et al., ICLR 2023).

    import lpt

    result = lpt.fit("photos/", "runs/photos")
    predictor = lpt.load_predictor(result.pack)
    predictor.predict(["new.jpg"])

A name is imported when it is first used, so that `lpt --help` does not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lpt.errors import ConfigError, DataError, LptError, PackError, RunError
from lpt.system.packages import explain_missing_packages

if TYPE_CHECKING:
    from lpt.commands.calibrate.calibrate import calibrate
    from lpt.commands.compare.compare import compare
    from lpt.commands.doctor import doctor
    from lpt.commands.evaluate.evaluate import evaluate
    from lpt.commands.export.export import export
    from lpt.commands.extend.extend import Extension, extend
    from lpt.commands.fit.estimate import dry_run
    from lpt.commands.fit.fit import FitResult, fit, resume
    from lpt.commands.fit.request import RunRequest
    from lpt.commands.import_checkpoint.import_checkpoint import import_checkpoint
    from lpt.commands.push import push
    from lpt.commands.report.report import write_report
    from lpt.commands.tune.tune import tune
    from lpt.evaluation.tuning import TuneResult
    from lpt.model.pretrained import load_backbone
    from lpt.packs.pack import Pack, load_pack
    from lpt.packs.prediction import Prediction
    from lpt.packs.predictor import Predictor, load_predictor

__version__ = "0.1.0"

__all__ = [
    "ConfigError",
    "DataError",
    "Extension",
    "FitResult",
    "LptError",
    "Pack",
    "PackError",
    "Prediction",
    "Predictor",
    "RunError",
    "RunRequest",
    "TuneResult",
    "calibrate",
    "compare",
    "doctor",
    "dry_run",
    "evaluate",
    "export",
    "extend",
    "fit",
    "import_checkpoint",
    "load_backbone",
    "load_pack",
    "load_predictor",
    "push",
    "resume",
    "tune",
    "write_report",
]

_HOME = {
    "Extension": "lpt.commands.extend.extend",
    "FitResult": "lpt.commands.fit.fit",
    "Pack": "lpt.packs.pack",
    "Prediction": "lpt.packs.prediction",
    "Predictor": "lpt.packs.predictor",
    "RunRequest": "lpt.commands.fit.request",
    "TuneResult": "lpt.evaluation.tuning",
    "calibrate": "lpt.commands.calibrate.calibrate",
    "compare": "lpt.commands.compare.compare",
    "doctor": "lpt.commands.doctor",
    "dry_run": "lpt.commands.fit.estimate",
    "evaluate": "lpt.commands.evaluate.evaluate",
    "export": "lpt.commands.export.export",
    "extend": "lpt.commands.extend.extend",
    "fit": "lpt.commands.fit.fit",
    "import_checkpoint": "lpt.commands.import_checkpoint.import_checkpoint",
    "load_backbone": "lpt.model.pretrained",
    "load_pack": "lpt.packs.pack",
    "load_predictor": "lpt.packs.predictor",
    "push": "lpt.commands.push",
    "resume": "lpt.commands.fit.fit",
    "tune": "lpt.commands.tune.tune",
    "write_report": "lpt.commands.report.report",
}
_MODULES = ("config", "data", "evaluation", "losses", "model", "packs", "report", "serving", "training")


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name in _HOME:
        with explain_missing_packages(f"lpt.{name}"):
            value = getattr(import_module(_HOME[name]), name)
    elif name in _MODULES:
        with explain_missing_packages(f"lpt.{name}"):
            value = import_module(f"lpt.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
