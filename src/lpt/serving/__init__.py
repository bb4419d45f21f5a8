"""The server: packs behind HTTP. It stands on `lpt.packs.predictor` and never imports torch itself."""

from lpt.serving.app import create_app
from lpt.serving.limits import Limits

__all__ = ["Limits", "create_app"]
