"""The queries of images, by which they pick their group prompts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch

from lpt.data.loading import evaluation_batches
from lpt.data.manifest import Float32Array, IntArray, LabelledImages
from lpt.data.transforms import Preprocessing
from lpt.model.lpt import LPT


class Queries(NamedTuple):
    """The queries of images.

    Args:
        vectors: class token under the shared prompt, [n, D].
        groups: picked group prompts by descending cosine, [n, k].
    """

    vectors: Float32Array
    groups: IntArray


@torch.inference_mode()
def query_images(
    model: LPT, splits: Sequence[LabelledImages], preprocessing: Preprocessing, *, batch_size: int = 64
) -> Queries:
    """Return queries and picks of all images, in order, with the test transform; of several views the first counts.

    Args:
        model: a model that trained in phase 2.
        splits: the images, one part after the other.
        preprocessing: as in training.
        batch_size: images in a forward pass.

    Raises:
        DataError: an image cannot be read.
    """
    vectors, groups = [], []
    device, constants = model.head.weight.device, model.shared_constants()
    batches = (
        evaluation_batches(images, batch_size=batch_size, preprocessing=preprocessing, workers=0) for images in splits
    )
    for batch in chain.from_iterable(batches):
        pixels = batch.images if batch.images.ndim == 4 else batch.images[:, 0]
        encoded = model.encode(preprocessing.normalize(pixels.to(device)), constants=constants)
        vectors.append(encoded.query.float().cpu().numpy())
        groups.append(model.groups.match(encoded.query, model.top_k).groups.cpu().numpy())
    return Queries(np.concatenate(vectors), np.concatenate(groups).astype(np.int64))
