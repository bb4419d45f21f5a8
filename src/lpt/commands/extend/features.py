"""The features by which a pack's head would classify pictures."""

from __future__ import annotations

import torch
from rich.console import Console

from lpt.commands.evaluate.request import loading_workers, readers_explained
from lpt.data.manifest import LabelledImages
from lpt.evaluation.predictions import Predictions, SplitClassifier, predict_split
from lpt.model import Classifier
from lpt.model.head import CosineHead
from lpt.model.inference import InferenceModel
from lpt.packs.info import PackInfo
from lpt.report.bars import image_bar


def make_encoder(model: Classifier) -> None:
    """Make the scores of a model its unit features, in place: one class for each axis, [C, D] -> [D, D]."""
    assert isinstance(model.head, CosineHead)
    weight = model.head.weight
    model.head.scale = None
    model.head.weight = torch.nn.Parameter(torch.eye(weight.shape[1]).to(weight), requires_grad=False)


def encode(
    encoder: Classifier, info: PackInfo, images: LabelledImages, *, batch_size: int, what: str, progress: Console
) -> Predictions:
    """Return unit features, averaged over the views of an image, as scores [n, D], and the picked group prompts.

    Args:
        encoder: the model of the pack, after `make_encoder`.
        info: the description of the pack.
        images: the images.
        batch_size: images in a forward pass.
        what: what the bar says.
        progress: where the bar is shown.

    Raises:
        DataError: an image cannot be read.
        RunError: features are not finite, or a process that reads images was lost.
    """
    model = InferenceModel(encoder, info.preprocessing, group_prompts=info.uses_group_prompts)
    with image_bar(progress, what, len(images)) as show, readers_explained():
        return predict_split(
            SplitClassifier.of_model(model),
            images,
            info.preprocessing,
            batch_size=batch_size,
            workers=loading_workers(len(images)),
            progress=show,
            model_name="the pack",
        )
