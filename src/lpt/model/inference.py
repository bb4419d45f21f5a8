"""The model that only predicts: a predictor, a server and an export stand on it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lpt.data.transforms import Preprocessing
from lpt.model.build import Classifier
from lpt.model.lpt import LPT


class Scores(NamedTuple):
    """The output for a batch of images.

    Args:
        scores: cosine of each image with each class, or logit of a linear head, [B, C] in float32.
        groups: indices of the picked group prompts by descending cosine, [B, k]; None without group prompts.
    """

    scores: Tensor
    groups: Tensor | None


class InferenceModel:
    """A trained model with its preprocessing and the constants of its shared prompt.

    The keys and values of the shared prompt are computed once, here (DESIGN section 3, item 2). So the model must not
    train, move or change its precision afterwards.

    Args:
        model: the trained model, on its device and in its precision.
        preprocessing: how images become its input.
        group_prompts: whether it uses its group prompts; only an LPT that trained in phase 2 does.
    """

    def __init__(self, model: Classifier, preprocessing: Preprocessing, *, group_prompts: bool) -> None:
        self.model = model
        self.preprocessing = preprocessing
        with torch.no_grad():
            self.constants = model.shared_constants() if group_prompts and isinstance(model, LPT) else None

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return self.model.head.weight.device

    @property
    def num_classes(self) -> int:
        """Classes C."""
        return self.model.head.weight.shape[0]

    @torch.inference_mode()
    def scores(self, inputs: Tensor) -> Scores:
        """Return scores and picked groups of normalised images.

        Args:
            inputs: [B, 3, height, width], or several views of each image [B, V, 3, height, width]: their scores are
                averaged, and the first view picks the groups.
        """
        views = inputs.shape[1] if inputs.ndim == 5 else 1
        flat = inputs.flatten(0, 1) if inputs.ndim == 5 else inputs
        flat = flat.to(self.device)
        if self.constants is None or not isinstance(self.model, LPT):
            scores, groups = self.model.forward_shared(flat), None
        else:
            output = self.model(flat, constants=self.constants)
            scores, groups = output.cosines, output.groups[::views]
        return Scores(scores.float().unflatten(0, (-1, views)).mean(dim=1), groups)

    @torch.inference_mode()
    def classify(self, pixels: Tensor) -> Scores:
        """Return scores and picked groups of images from the test transform, uint8 [B, 3, height, width] or views."""
        return self.scores(self.preprocessing.normalize(pixels.to(self.device)))
