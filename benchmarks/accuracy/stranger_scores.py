"""The scores of a pack for known images and strangers, computed once, and the candidates for telling them apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

import lpt
from lpt.data.manifest import Float32Array, FloatArray, IntArray, LabelledImages
from lpt.evaluation.queries import query_images
from lpt.evaluation.strangers import known_scores
from lpt.model.lpt import LPT

NO_LABEL = -1


class Scored(NamedTuple):
    """Images as a pack sees them.

    Args:
        scores: cosine with each class, [n, C].
        keys: largest cosine of the query with a key, [n].
        labels: true classes, [n]; `NO_LABEL` for strangers.
    """

    scores: Float32Array
    keys: FloatArray
    labels: IntArray

    def take(self, rows: IntArray) -> Scored:
        """Return some of the images."""
        return Scored(self.scores[rows], self.keys[rows], self.labels[rows])


class Facts(NamedTuple):
    """What a candidate may use beside the scores: factor of the scores in the probabilities, and class sizes [C]."""

    scale: float
    counts: IntArray


def score_parts(pack: Path, parts: Mapping[str, LabelledImages], strangers: set[str], kept: Path) -> dict[str, Scored]:
    """Return the scores of a pack for several parts of images; they are computed once, and kept in a file.

    Args:
        pack: the pack.
        parts: images by name.
        strangers: names of the parts whose labels mean nothing to the pack.
        kept: the file.
    """
    if not kept.exists():
        predictor = lpt.load_predictor(pack, device="cpu", precision="fp32")
        model, info = predictor.model().model, predictor.pack().info
        assert isinstance(model, LPT)
        keys = model.groups.keys.detach().numpy().astype(np.float64)
        keys /= np.linalg.norm(keys, axis=1, keepdims=True)
        arrays = {}
        for name, images in parts.items():
            predictions = predictor.split(images, batch_size=64)
            queries = query_images(model, [images], info.preprocessing).vectors.astype(np.float64)
            queries /= np.linalg.norm(queries, axis=1, keepdims=True)
            labels = np.full(len(images), NO_LABEL) if name in strangers else predictions.labels
            arrays[f"{name}/scores"] = predictions.scores
            arrays[f"{name}/keys"] = (queries @ keys.T).max(axis=1)
            arrays[f"{name}/labels"] = labels
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, **arrays)  # type: ignore[arg-type]
    with np.load(kept) as stored:
        return {name: Scored(*(stored[f"{name}/{field}"] for field in Scored._fields)) for name in parts}


def _ranked(images: Scored, facts: Facts) -> FloatArray:
    del facts
    return np.asarray(-np.partition(-images.scores, 1, axis=1)[:, :2], dtype=np.float64)


def cosine(images: Scored, facts: Facts) -> FloatArray:
    """Return the largest cosine."""
    return _ranked(images, facts)[:, 0]


def margin(images: Scored, facts: Facts) -> FloatArray:
    """Return the largest cosine less the second."""
    ranked = _ranked(images, facts)
    return np.asarray(ranked[:, 0] - ranked[:, 1])


def energy(images: Scored, facts: Facts) -> FloatArray:
    """Return the log-sum-exp of the scaled cosines."""
    return known_scores(images.scores, facts.scale)


def probability(images: Scored, facts: Facts) -> FloatArray:
    """Return the log of the largest probability, at temperature 1."""
    return np.asarray(facts.scale * (cosine(images, facts) - energy(images, facts)))


def keys(images: Scored, facts: Facts) -> FloatArray:
    """Return the largest cosine of the query with a key."""
    del facts
    return images.keys


def lifted(images: Scored, facts: Facts) -> FloatArray:
    """Return the largest cosine less the mean one."""
    return np.asarray(cosine(images, facts) - images.scores.mean(axis=1))


def cosine_and_margin(images: Scored, facts: Facts) -> FloatArray:
    """Return the largest cosine plus its lead over the second."""
    return np.asarray(cosine(images, facts) + margin(images, facts))


def cosine_and_keys(images: Scored, facts: Facts) -> FloatArray:
    """Return the largest cosine plus the largest cosine with a key."""
    return np.asarray(cosine(images, facts) + images.keys)


CANDIDATES: dict[str, Callable[[Scored, Facts], FloatArray]] = {
    "largest cosine": cosine,
    "largest probability": probability,
    "margin": margin,
    "energy": energy,
    "keys": keys,
    "cosine - mean": lifted,
    "cosine + margin": cosine_and_margin,
    "cosine + keys": cosine_and_keys,
}
