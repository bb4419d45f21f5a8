"""Run a model over a split: the scores of the classes, and the picked groups."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lpt.data.loading import evaluation_batches
from lpt.data.manifest import Float32Array, IntArray, LabelledImages
from lpt.data.transforms import Preprocessing
from lpt.evaluation.scores import check_scores
from lpt.model import Classifier
from lpt.model.inference import InferenceModel
from lpt.system.processes import ALONE, Processes

Progress = Callable[[int], None]
Classify = Callable[[Tensor], tuple[Float32Array, IntArray | None]]
"""Images from the test transform, uint8 -> scores [B, C], and picked group prompts [B, k] if there are any."""


@dataclass(frozen=True)
class Predictions:
    """The output of a model on a split.

    Args:
        scores: cosine of each image with each class, or logit of a linear head, [n, C].
        labels: true classes, [n].
        groups: picked group prompts, [n, k]; None after phase 1 alone.
    """

    scores: Float32Array
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
    model_name: str = "the trained model",
) -> Predictions:
    """Run a model over all images of a split, in order, with the test transform.

    Args:
        model: the model.
        images: the split.
        preprocessing: as in training.
        group_prompts: whether to use group prompts. Only LPT has some, and not after phase 1 alone.
        batch_size, workers: images per batch, and processes that read them.
        progress: called after each batch with the number of images that this process has done.
        processes: the processes that share the images; each gets the predictions of all.
        model_name: what an error calls the model.

    Raises:
        RunError: scores are not finite.
    """
    inference = InferenceModel(model, preprocessing, group_prompts=group_prompts)

    def classify(pixels: Tensor) -> tuple[Float32Array, IntArray | None]:
        scores, groups = inference.classify(pixels)
        return scores.cpu().numpy(), None if groups is None else groups.cpu().numpy()

    return classify_split(
        classify,
        images,
        preprocessing,
        classes=len(model.head.weight),
        group_prompts=group_prompts,
        batch_size=batch_size,
        workers=workers,
        progress=progress,
        processes=processes,
        model_name=model_name,
    )


def classify_split(
    classify: Classify,
    images: LabelledImages,
    preprocessing: Preprocessing,
    *,
    classes: int,
    group_prompts: bool,
    batch_size: int,
    workers: int = 0,
    progress: Progress = lambda done: None,
    processes: Processes = ALONE,
    model_name: str = "the trained model",
) -> Predictions:
    """Do what `predict_split` does, with anything that classifies images.

    Args:
        classify: what classifies a batch.
        classes: number of its classes.
        group_prompts: whether it picks group prompts.
        images, preprocessing, batch_size, workers, progress, processes, model_name: as for `predict_split`.

    Raises:
        RunError: scores are not finite.
    """
    labels, groups = [], []
    done = 0
    part = images.subset(np.array(processes.share(len(images)), dtype=np.int64))
    scores: Float32Array = np.empty((len(part), classes), dtype=np.float32)  # the largest thing there is
    with processes.local():
        for batch in evaluation_batches(part, batch_size=batch_size, preprocessing=preprocessing, workers=workers):
            rows = slice(done, done + len(batch.labels))
            scores[rows], picked = classify(batch.images)
            check_scores(scores[rows], lambda row, first=done: part.name(first + row), model_name=model_name)  # type: ignore[misc]
            if picked is not None:
                groups.append(picked)
            labels.append(batch.labels.numpy())
            done += len(batch.labels)
            progress(done)
    return Predictions(
        scores if processes.world_size == 1 else np.concatenate(processes.gather([scores])),
        np.concatenate(processes.gather(labels)).astype(np.int64),
        np.concatenate(processes.gather(groups)) if group_prompts else None,
    )
