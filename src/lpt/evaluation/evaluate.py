"""A model on a split: cosines, picked groups, features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from lpt.data.loading import evaluation_batches
from lpt.data.manifest import IntArray, LabelledImages
from lpt.data.transforms import Preprocessing
from lpt.model import LPT

FloatArray = npt.NDArray[np.float32]
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Predictions:
    """What a model says of a split.

    Args:
        cosines: cosine of each image with each class, [n, C].
        labels: true classes, [n].
        groups: picked group prompts, [n, k]; None after phase 1 alone.
    """

    cosines: FloatArray
    labels: IntArray
    groups: IntArray | None


@torch.inference_mode()
def predict_split(
    model: LPT,
    images: LabelledImages,
    preprocessing: Preprocessing,
    *,
    group_prompts: bool,
    batch_size: int,
    workers: int = 0,
    progress: Progress = lambda done: None,
) -> Predictions:
    """Run a model over all images of a split, in order, with the test transform.

    Args:
        model: the model.
        images: the split.
        preprocessing: as in training.
        group_prompts: whether group prompts are used (False after phase 1 alone).
        batch_size, workers: how images are read.
        progress: called with the number of images done after each batch.
    """
    constants = model.shared_constants() if group_prompts else None
    cosines, labels, groups = [], [], []
    done = 0
    for batch in evaluation_batches(images, batch_size=batch_size, preprocessing=preprocessing, workers=workers):
        inputs = preprocessing.normalize(batch.images.to(model.head.weight.device))
        if group_prompts:
            output = model(inputs, constants=constants)
            cosines.append(output.cosines.float().cpu().numpy())
            groups.append(output.groups.cpu().numpy())
        else:
            cosines.append(model.forward_shared(inputs).float().cpu().numpy())
        labels.append(batch.labels.numpy())
        done += len(batch.labels)
        progress(done)
    return Predictions(
        np.concatenate(cosines), np.concatenate(labels).astype(np.int64), np.concatenate(groups) if groups else None
    )
