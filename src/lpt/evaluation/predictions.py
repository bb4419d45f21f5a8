"""Run a model over a split: the scores of the classes, and the picked groups."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import Tensor

from lpt.data.loading import evaluation_batches
from lpt.data.manifest import Float32Array, IntArray, LabelledImages
from lpt.data.transforms import Preprocessing
from lpt.evaluation.scores import check_scores
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


class SplitClassifier(NamedTuple):
    """What classifies the images of a split.

    Args:
        classify: classifies a batch.
        classes: number of its classes C.
        picks_groups: whether it picks group prompts. Only LPT has some, and not after phase 1 alone.
    """

    classify: Classify
    classes: int
    picks_groups: bool

    @classmethod
    def of_model(cls, model: InferenceModel) -> SplitClassifier:
        """Return the classifier that runs a model."""

        def classify(pixels: Tensor) -> tuple[Float32Array, IntArray | None]:
            scores, groups = model.classify(pixels)
            return scores.cpu().numpy(), None if groups is None else groups.cpu().numpy()

        return cls(classify, model.num_classes, model.constants is not None)


def predict_split(
    classifier: SplitClassifier,
    images: LabelledImages,
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    workers: int = 0,
    progress: Progress = lambda done: None,
    processes: Processes = ALONE,
    model_name: str = "the trained model",
) -> Predictions:
    """Classify all images of a split, in order, with the test transform.

    Args:
        classifier: what classifies them.
        images: the split.
        preprocessing: as in training.
        batch_size, workers: images per batch, and processes that read them.
        progress: called after each batch with the number of images that this process has done.
        processes: the processes that share the images; each gets the predictions of all.
        model_name: what an error calls the model.

    Raises:
        RunError: scores are not finite.
    """
    labels, groups = [], []
    done = 0
    part = images.subset(np.array(processes.share(len(images)), dtype=np.int64))
    scores: Float32Array = np.empty((len(part), classifier.classes), dtype=np.float32)  # the largest thing there is
    with processes.local():
        for batch in evaluation_batches(part, batch_size=batch_size, preprocessing=preprocessing, workers=workers):
            rows = slice(done, done + len(batch.labels))
            scores[rows], picked = classifier.classify(batch.images)
            check_scores(scores[rows], lambda row, first=done: part.name(first + row), model_name=model_name)  # type: ignore[misc]
            if picked is not None:
                groups.append(picked)
            labels.append(batch.labels.numpy())
            done += len(batch.labels)
            progress(done)
    return Predictions(
        scores if processes.world_size == 1 else np.concatenate(processes.gather([scores])),
        np.concatenate(processes.gather(labels)).astype(np.int64),
        np.concatenate(processes.gather(groups)) if classifier.picks_groups else None,
    )
