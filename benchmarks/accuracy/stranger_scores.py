"""The scores of a pack for known images and strangers, computed once, and the candidates for telling them apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

import lpt
from lpt.data.loading import evaluation_batches
from lpt.data.manifest import Float32Array, FloatArray, IntArray, LabelledImages
from lpt.evaluation.strangers import known_scores
from lpt.model.lpt import LPT
from lpt.packs.pack import read_info

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


def score_images(pack: Path, images: LabelledImages, kept: Path, *, strangers: bool = False) -> Scored:
    """Return the scores of a pack for images; they are computed once, and kept in a file.

    Args:
        pack: the pack.
        images: the images.
        kept: the file; the hash of the pack is added to its name, so that another pack has another file.
        strangers: the labels mean nothing to the pack.
    """
    kept = kept.with_stem(f"{kept.stem}_{read_info(pack).tensors_sha256[:16]}")
    if not kept.exists():
        scored = _score(pack, images)
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, **scored._asdict())
    with np.load(kept) as stored:
        scored = Scored(stored["scores"], stored["keys"], stored["labels"])
    return scored._replace(labels=np.full(len(images), NO_LABEL)) if strangers else scored


@torch.inference_mode()
def _score(pack: Path, images: LabelledImages) -> Scored:
    predictor = lpt.load_predictor(pack, device="cpu", precision="fp32")
    model, info = predictor.model().model, predictor.pack().info
    assert isinstance(model, LPT)
    keys, constants = F.normalize(model.groups.keys, dim=1), model.shared_constants()
    scores, nearest, labels = [], [], []
    for batch in evaluation_batches(images, batch_size=64, preprocessing=info.preprocessing, workers=0):
        encoded = model.encode(info.preprocessing.normalize(batch.images), constants=constants)
        scores.append(model.classify(encoded, constants=constants).cosines.numpy())
        nearest.append((F.normalize(encoded.query, dim=1) @ keys.T).amax(dim=1).numpy())
        labels.append(batch.labels.numpy())
    return Scored(np.concatenate(scores), np.concatenate(nearest).astype(np.float64), np.concatenate(labels))


Score = Callable[[Scored, float], FloatArray]
"""(images, factor of the cosines in the probabilities) -> how known each looks, [n]."""


def cosine(images: Scored, scale: float) -> FloatArray:
    """Return the largest cosine."""
    del scale
    return known_scores(images.scores)


def margin(images: Scored, scale: float) -> FloatArray:
    """Return the largest cosine less the second."""
    del scale
    first, second = np.partition(-images.scores, 1, axis=1)[:, :2].T.astype(np.float64)
    return np.asarray(second - first)


def energy(images: Scored, scale: float) -> FloatArray:
    """Return log(sum_c exp(scale * z_c)) / scale, the negative energy of Liu et al. (NeurIPS 2020, eq. 4)."""
    z = images.scores.astype(np.float64)
    top = z.max(axis=1)
    return np.asarray(top + np.log(np.exp(scale * (z - top[:, None])).sum(axis=1)) / scale)


def probability(images: Scored, scale: float) -> FloatArray:
    """Return the log of the largest probability, at temperature 1."""
    return np.asarray(scale * (cosine(images, scale) - energy(images, scale)))


def keys(images: Scored, scale: float) -> FloatArray:
    """Return the largest cosine of the query with a key."""
    del scale
    return images.keys


def lifted(images: Scored, scale: float) -> FloatArray:
    """Return the largest cosine less the mean one."""
    return np.asarray(cosine(images, scale) - images.scores.mean(axis=1))


def cosine_and_margin(images: Scored, scale: float) -> FloatArray:
    """Return the largest cosine plus its lead over the second."""
    return np.asarray(cosine(images, scale) + margin(images, scale))


def cosine_and_keys(images: Scored, scale: float) -> FloatArray:
    """Return the largest cosine plus the largest cosine with a key."""
    return np.asarray(cosine(images, scale) + images.keys)


CANDIDATES: dict[str, Score] = {
    "largest cosine": cosine,
    "largest probability": probability,
    "margin": margin,
    "energy": energy,
    "keys": keys,
    "cosine - mean": lifted,
    "cosine + margin": cosine_and_margin,
    "cosine + keys": cosine_and_keys,
}
