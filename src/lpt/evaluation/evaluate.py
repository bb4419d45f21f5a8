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
from lpt.model import LPT, Classifier
from lpt.processes import ALONE, Processes

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
    model: Classifier,
    images: LabelledImages,
    preprocessing: Preprocessing,
    *,
    group_prompts: bool,
    batch_size: int,
    workers: int = 0,
    progress: Progress = lambda done: None,
    processes: Processes = ALONE,
) -> Predictions:
    """Run a model over all images of a split, in order, with the test transform.

    Args:
        model: the model.
        images: the split.
        preprocessing: as in training.
        group_prompts: whether group prompts are used (only LPT has some, and not after phase 1 alone).
        batch_size, workers: how images are read.
        progress: called with the number of images of this process done after each batch.
        processes: those that share the images; each gets the predictions of all.
    """
    constants = model.shared_constants() if group_prompts and isinstance(model, LPT) else None
    labels, groups = [], []
    done = 0
    own = images.subset(np.array(processes.share(len(images)), dtype=np.int64))
    cosines: FloatArray = np.empty((len(own), len(model.head.weight)), dtype=np.float32)  # the largest thing there is
    with processes.apart():
        for batch in evaluation_batches(own, batch_size=batch_size, preprocessing=preprocessing, workers=workers):
            inputs = preprocessing.normalize(batch.images.to(model.head.weight.device))
            rows = slice(done, done + len(batch.labels))
            if constants is not None:
                output = model(inputs, constants=constants)
                cosines[rows] = output.cosines.float().cpu().numpy()
                groups.append(output.groups.cpu().numpy())
            else:
                cosines[rows] = model.forward_shared(inputs).float().cpu().numpy()
            labels.append(batch.labels.numpy())
            done += len(batch.labels)
            progress(done)
    return Predictions(
        cosines if processes.count == 1 else np.concatenate(processes.gather([cosines])),
        np.concatenate(processes.gather(labels)).astype(np.int64),
        np.concatenate(processes.gather(groups)) if group_prompts else None,
    )
