"""What predicts: scores of a batch by a model and its kept constants."""

from __future__ import annotations

from torch import Tensor

from lpt.model import Classifier
from lpt.model.backbone import KeyValue


def classify(model: Classifier, inputs: Tensor, constants: list[KeyValue] | None) -> tuple[Tensor, Tensor | None]:
    """Scores [B, C] in float32, and the group prompts picked [B, k] where there are some.

    Args:
        model: the model.
        inputs: normalised images [B, 3, height, width], or views of them [B, V, 3, height, width], over which scores
            are averaged; the picks are then those of the first view.
        constants: `shared_constants()` of an LPT that uses its group prompts; None: classify without.
    """
    views = inputs.shape[1] if inputs.ndim == 5 else 1
    flat = inputs.flatten(0, 1) if inputs.ndim == 5 else inputs
    if constants is None:
        scores, groups = model.forward_shared(flat), None
    else:
        output = model(flat, constants=constants)
        scores, groups = output.cosines, output.groups[::views]
    return scores.float().unflatten(0, (-1, views)).mean(dim=1), groups
