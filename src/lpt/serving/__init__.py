"""The server: packs behind HTTP. It stands on `lpt.packs.predictor` and never imports torch itself."""

from typing import TYPE_CHECKING, Any

from lpt.serving.app import create_app
from lpt.serving.limits import Limits
from lpt.system.packages import explain_missing_packages

if TYPE_CHECKING:
    from lpt.serving.replicas import Replicated, deployment

__all__ = ["Limits", "Replicated", "create_app", "deployment"]


def __getattr__(name: str) -> Any:
    """Import what needs Ray on first use."""
    if name not in ("Replicated", "deployment"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with explain_missing_packages(f"lpt.serving.{name}"):
        from lpt.serving import replicas

    return getattr(replicas, name)
