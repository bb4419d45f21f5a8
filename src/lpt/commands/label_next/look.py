"""Look at every picture once: its most probable classes, and its feature."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from lpt.commands.predict.table import Picture
from lpt.data.manifest import Float32Array
from lpt.data.scan import failure_reason
from lpt.evaluation.acquisition import Guesses
from lpt.evaluation.scores import check_scores
from lpt.model.inference import InferenceModel
from lpt.packs.prediction import label_of, probabilities_of
from lpt.packs.predictor import Predictor

MOST_CLASSES = 10
"""Most classes that are kept for a picture: with 8,142 classes a table of all would not fit into memory."""


class Looks(NamedTuple):
    """What a pack sees in pictures.

    Args:
        paths: the pictures that could be read.
        guesses: their most probable classes, as if all classes were equally frequent.
        features: the input of the head, of unit length, [n, D].
    """

    paths: list[Path]
    guesses: Guesses
    features: Float32Array


def look_at(
    predictor: Predictor,
    pictures: Iterable[Picture],
    *,
    batch_size: int,
    bad: list[str] | None,
    show_done: Callable[[int], None],
) -> Looks:
    """Run the pack over pictures.

    Args:
        predictor: holds the pack.
        pictures: the pictures, in order.
        batch_size: pictures in a forward pass.
        bad: gets a line for each picture that cannot be read. None: such a picture raises.
        show_done: called with the number of pictures done.

    Raises:
        DataError: a picture cannot be read, and `bad` is None.
        RunError: the scores of a picture are not finite.
    """
    pack, inference = predictor.pack(), predictor.model()
    kept = min(MOST_CLASSES, len(pack.info.class_names))
    even = None if pack.info.probabilities.classes == "even" else dict.fromkeys(pack.info.class_names, 1.0)
    paths, classes, shares, features = list[Path](), [], [], []
    with _features_of(inference) as inputs:
        readable = _readable(pictures, bad)
        while batch := list(islice(readable, batch_size)):
            pixels = np.stack([pack.info.preprocessing.test_array(image) for _, image in batch])
            scores = inference.classify(torch.from_numpy(pixels)).scores.cpu().numpy()
            names = [path for path, _ in batch]
            check_scores(scores, lambda row, names=names: str(names[row]), model_name=label_of(pack))  # type: ignore[misc]
            table = probabilities_of(pack, scores, prior=even)
            order = np.argsort(-table, axis=1, kind="stable")[:, :kept].copy()  # a view would keep all classes
            paths += names
            classes.append(order)
            shares.append(np.take_along_axis(table, order, axis=1).astype(np.float32))
            features.append(_unit(inputs.pop().unflatten(0, (len(batch), -1)).mean(dim=1)))
            show_done(len(paths) + len(bad or ()))
    if not paths:
        nothing = np.zeros((0, kept))
        return Looks([], Guesses(nothing.astype(np.int64), nothing.astype(np.float32)), nothing.astype(np.float32))
    return Looks(paths, Guesses(np.concatenate(classes), np.concatenate(shares)), np.concatenate(features))


def _readable(pictures: Iterable[Picture], bad: list[str] | None) -> Iterator[tuple[Path, Image.Image]]:
    """Yield the pictures that can be read; add failures to `bad` if it is given."""
    for path, image in pictures:
        if isinstance(image, Image.Image):
            yield path, image
        elif bad is None:
            raise image
        else:
            bad.append(f"{path}: {failure_reason(image)}")


@contextmanager
def _features_of(inference: InferenceModel) -> Iterator[list[Tensor]]:
    """Give a list to which each run adds the input of the head: every kind of model has a head."""
    inputs: list[Tensor] = []

    def keep(head: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        del head
        inputs.append(arguments[0].detach())

    handle = inference.model.head.register_forward_pre_hook(keep)
    try:
        yield inputs
    finally:
        handle.remove()


def _unit(features: Tensor) -> Float32Array:
    return nn.functional.normalize(features.float(), dim=-1).cpu().numpy()
