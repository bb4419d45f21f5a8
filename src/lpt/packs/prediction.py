"""From the output for images to their predictions: probabilities, a class prior, names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from lpt.data.array_transforms import UInt8Array
from lpt.data.manifest import Float32Array
from lpt.evaluation.calibration import Floats, probabilities
from lpt.evaluation.scores import check_scores
from lpt.packs.engine import LoadedPack, Output
from lpt.packs.pack import Pack
from lpt.packs.prior import Prior, scores_under
from lpt.packs.rejection import known_scores_of


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of an image.

    Args:
        name: path of the image, or its number in the call.
        classes: names of the most probable classes, best first.
        probabilities: their probabilities.
        groups: picked group prompts by descending cosine; empty if the pack uses none.
        pack: name of the pack that classified it.
        attention: attention of the class token to each patch in the last block, [rows, columns]; None unless asked for.
        known_score: how far the image lies above the pack's threshold for images of its classes; below 0 it is
            rejected. None unless asked for.
    """

    name: str
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    groups: tuple[int, ...]
    pack: str
    attention: Float32Array | None = None
    known_score: float | None = None

    @property
    def rejected(self) -> bool | None:
        """Whether the image shows none of the classes, by the pack's threshold; None unless asked for."""
        return None if self.known_score is None else self.known_score < 0

    @property
    def label(self) -> str:
        """Name of the most probable class."""
        return self.classes[0]

    @property
    def probability(self) -> float:
        """Probability of the most probable class."""
        return self.probabilities[0]


@dataclass(frozen=True)
class Prepared:
    """A decoded image that waits for its pack.

    It holds the pack, so it can be classified after the predictor has removed or replaced that pack.

    Args:
        name: path of the image, or its number in the call.
        pack: name of the pack.
        loaded: the pack in the engine.
        pixels: the image from the test transform of the pack, uint8 [3, height, width] or [V, 3, height, width].
    """

    name: str
    pack: str
    loaded: LoadedPack
    pixels: UInt8Array


def describe(
    items: Sequence[Prepared],
    outputs: Sequence[Output],
    *,
    top_k: int,
    prior: Prior | None = None,
    reject: bool = False,
) -> list[Prediction]:
    """Turn outputs for images of one pack into predictions.

    Raises:
        ConfigError: the pack does not accept the prior, or `reject` is set and it has no threshold.
        RunError: a probability is not finite.
    """
    pack = items[0].loaded.pack
    scores = np.stack([output.scores for output in outputs])
    table = probabilities_of(pack, scores, prior=prior)
    known = known_scores_of(pack, scores).tolist() if reject else [None] * len(items)
    check_scores(table, lambda row: items[row].name, model_name=label_of(pack))
    order = np.argsort(-table, axis=1, kind="stable")[:, :top_k]
    names = pack.info.class_names
    return [
        Prediction(
            item.name,
            tuple(names[index] for index in order[row]),
            tuple(table[row, order[row]].tolist()),
            output.groups,
            item.pack,
            output.attention,
            known[row],
        )
        for row, (item, output) in enumerate(zip(items, outputs, strict=True))
    ]


def probabilities_of(pack: Pack, scores: Floats, *, prior: Prior | None = None) -> Floats:
    """Return softmax(scale * score / temperature) of a pack, under a class prior if there is one.

    Without `prior` the probabilities assume even classes if training balanced them, as LPT does, else the frequencies
    of the training images (`probabilities.classes` of the pack). [n, C] -> [n, C].

    Raises:
        ConfigError: the pack does not accept the prior.
    """
    setting = pack.info.probabilities
    if prior is None:
        return probabilities(scores, setting.scale, setting.temperature)
    exact = scores_under(pack, scores.astype(np.float64), prior)
    return probabilities(exact, setting.scale, setting.temperature).astype(scores.dtype)


def label_of(pack: Pack) -> str:
    """Return what messages call a pack."""
    return f"the pack {pack.origin}"


def by_pack(
    items: Sequence[Prepared], outputs: Sequence[Output]
) -> Iterator[tuple[Sequence[Prepared], Sequence[Output]]]:
    """Cut images and their outputs into runs of the same pack."""
    for _, same in groupby(zip(items, outputs, strict=True), key=lambda row: id(row[0].loaded)):
        first, second = zip(*same, strict=True)
        yield first, second
