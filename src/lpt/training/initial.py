"""Where training starts: the first values of prompts, keys and head."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from lpt.architecture import Architecture
from lpt.data.loading import evaluation_batches
from lpt.data.manifest import IntArray, LabelledImages
from lpt.data.transforms import Preprocessing
from lpt.model import LPT, Classifier, FrozenViT, build_model
from lpt.model.head import LinearHead
from lpt.processes import ALONE, Processes
from lpt.randomness import global_generator_restored, seed_of, torch_generator
from lpt.training.linear_probe import linear_probe

FloatArray = npt.NDArray[np.float32]
Progress = Callable[[int], None]
KMEANS_ROUNDS = 50


def new_model(architecture: Architecture, backbone: FrozenViT, num_classes: int, seed: int) -> Classifier:
    """A model whose first values are a function of the seed; torch's global generator is left as it was."""
    with global_generator_restored() as generator:
        generator.manual_seed(seed_of(seed, "model"))
        return build_model(architecture, backbone, num_classes)


def class_means(features: FloatArray, labels: IntArray, num_classes: int) -> tuple[Tensor, Tensor]:
    """Mean unit feature of each class, at unit length, [n, D], [n] -> [C, D], and which classes have images, [C]."""
    unit = F.normalize(torch.from_numpy(features), dim=-1)
    target = torch.from_numpy(labels)
    sums = torch.zeros(num_classes, unit.shape[1]).index_add_(0, target, unit)
    present = torch.bincount(target, minlength=num_classes) > 0
    return F.normalize(sums, dim=-1), present


@torch.no_grad()
def head_from_class_means(model: Classifier, features: FloatArray, labels: IntArray) -> None:
    """Start the head at the class means of frozen features; classes without images keep their random rows."""
    means, present = class_means(features, labels, len(model.head.weight))
    rows = present.nonzero()[:, 0].to(model.head.weight.device)
    model.head.weight[rows] = means[present].to(model.head.weight)


@torch.no_grad()
def head_from_probe(model: Classifier, features: FloatArray, labels: IntArray, *, tau: float, seed: int) -> None:
    """Start a linear head at a linear probe on frozen features, solved to convergence (LP-FT: Kumar et al., ICLR 2022).

    Args:
        model: with a linear head.
        features, labels: of the training split.
        tau: strength of the probe's logit adjustment.
        seed: of the cuts on which its weight decay is chosen.
    """
    assert isinstance(model.head, LinearHead)
    weight, bias = linear_probe(features, labels, len(model.head.weight), tau=tau, seed=seed).plain_head()
    model.head.weight.copy_(weight)
    model.head.bias.copy_(bias)


@torch.no_grad()
def keys_from_queries(model: LPT, queries: FloatArray, seed: int) -> None:
    """Start the keys at spherical k-means centres of the training queries (k-means++ seeding), at unit length."""
    unit = F.normalize(torch.from_numpy(queries), dim=-1)
    generator = torch_generator(seed, "keys")
    centres = unit[_spread_rows(unit, len(model.groups.keys), generator)]
    for _ in range(KMEANS_ROUNDS):
        nearest = (unit @ centres.T).argmax(dim=-1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, unit)
        moved = torch.where(sums.norm(dim=-1, keepdim=True) > 0, F.normalize(sums, dim=-1), centres)
        if torch.allclose(moved, centres, atol=1e-6):
            break
        centres = moved
    model.groups.keys.copy_(centres.to(model.groups.keys))


@torch.no_grad()
def groups_from_shared(model: LPT) -> None:
    """Start every group prompt at the shared prompt of its blocks, plus the random values it has."""
    model.groups.prompts.add_(model.shared.tokens[model.shared_blocks :])


def _spread_rows(unit: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Rows far from each other: each next one is drawn with probability proportional to its distance, [count]."""
    rows = [int(torch.randint(len(unit), (1,), generator=generator))]
    for _ in range(count - 1):
        distance = (1 - unit @ unit[rows].T).amin(dim=-1).clamp_min(1e-12)
        rows.append(int(torch.multinomial(distance, 1, generator=generator)))
    return torch.tensor(rows)


@torch.inference_mode()
def split_features(
    encode: Callable[[torch.Tensor], torch.Tensor],
    backbone: FrozenViT,
    images: LabelledImages,
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    workers: int = 0,
    progress: Progress = lambda done: None,
    processes: Processes = ALONE,
) -> FloatArray:
    """Features of all images of a split, in order, with the test transform (its central view), [n, D].

    Args:
        encode: what gives features, e.g. `backbone.features` or a model's `query`.
        backbone: tells the device.
        images, preprocessing, batch_size, workers, progress, processes: as in `predict_split`.
    """
    features, done = [], 0
    own = images.subset(np.array(processes.share(len(images)), dtype=np.int64))
    with processes.apart():
        for batch in evaluation_batches(own, batch_size=batch_size, preprocessing=preprocessing, workers=workers):
            images_here = batch.images[:, 0] if preprocessing.test_views > 1 else batch.images  # the centre
            inputs = preprocessing.normalize(images_here.to(backbone.device))
            features.append(encode(inputs).float().cpu().numpy())
            done += len(batch.labels)
            progress(done)
    return np.concatenate(processes.gather(features))
