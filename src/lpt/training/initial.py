"""Initial values of prompts, keys and head, computed from the training data."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lpt.config.architecture import Architecture
from lpt.data.loading import StreamBatch, evaluation_batches
from lpt.data.manifest import Float32Array, IntArray, LabelledImages
from lpt.data.transforms import Preprocessing
from lpt.model import LPT, Classifier, FrozenViT, build_model
from lpt.model.head import LinearHead
from lpt.system.processes import ALONE, Processes
from lpt.system.randomness import (
    global_generator_restored,
    permutation,
    seed_of,
    torch_generator,
)
from lpt.training.linear_probe import linear_probe

Progress = Callable[[int], None]
KMEANS_ROUNDS = 50
TOKEN_IMAGES, TOKENS_PER_IMAGE = 256, 32
"""Number of images, and of tokens of each image, from which the initial prompts are computed."""


def new_model(architecture: Architecture, backbone: FrozenViT, num_classes: int, seed: int) -> Classifier:
    """Build a model whose random values depend on the seed alone; torch's global generator stays as it was."""
    with global_generator_restored() as generator:
        generator.manual_seed(seed_of(seed, "model"))
        return build_model(architecture, backbone, num_classes)


def class_means(features: Float32Array, labels: IntArray, num_classes: int) -> tuple[Tensor, Tensor]:
    """Return the mean unit feature of each class and which classes have images, [n, D], [n] -> [C, D], [C].

    The means have unit length.
    """
    unit = F.normalize(torch.from_numpy(features), dim=-1)
    target = torch.from_numpy(labels)
    sums = torch.zeros(num_classes, unit.shape[1]).index_add_(0, target, unit)
    present = torch.bincount(target, minlength=num_classes) > 0
    return F.normalize(sums, dim=-1), present


@torch.no_grad()
def head_from_class_means(model: Classifier, features: Float32Array, labels: IntArray) -> None:
    """Set the head to the class means of frozen features; classes without images keep their random rows."""
    means, present = class_means(features, labels, len(model.head.weight))
    rows = present.nonzero()[:, 0].to(model.head.weight.device)
    model.head.weight[rows] = means[present].to(model.head.weight)


@torch.no_grad()
def head_from_probe(model: Classifier, features: Float32Array, labels: IntArray, *, tau: float, seed: int) -> None:
    """Set a linear head to a linear probe on frozen features, solved to convergence (LP-FT: Kumar et al., ICLR 2022).

    Args:
        model: with a linear head.
        features, labels: of the training split.
        tau: strength of the logit adjustment.
        seed: of the cuts on which the weight decay is chosen.
    """
    assert isinstance(model.head, LinearHead)
    weight, bias = linear_probe(features, labels, len(model.head.weight), tau=tau, seed=seed).plain_head()
    model.head.weight.copy_(weight)
    model.head.bias.copy_(bias)


@torch.no_grad()
def keys_from_queries(model: LPT, queries: Float32Array, seed: int) -> None:
    """Set the keys to spherical k-means centres of the training queries (k-means++ seeding), of unit length."""
    unit = F.normalize(torch.from_numpy(queries), dim=-1)
    centres = _kmeans(unit, len(model.groups.keys), torch_generator(seed, "keys"), unit_length=True)
    model.groups.keys.copy_(centres.to(model.groups.keys))


@torch.no_grad()
def groups_from_shared(model: LPT) -> None:
    """Add the shared prompt of its blocks to the random values of every group prompt."""
    model.groups.prompts.add_(model.shared.tokens[model.shared_blocks :])


def token_centres(tokens: Tensor, length: int, seed: int) -> Tensor:
    """Return initial prompts: k-means centres of the image tokens of every block (SPT: Wang et al., ICML 2024).

    Args:
        tokens: of L blocks, [L, n, D].
        length: prompt tokens of a block, P.
        seed: of the k-means++ seeding.

    Returns:
        [L, P, D].
    """
    generator = torch_generator(seed, "prompts")
    return torch.stack([_kmeans(points, length, generator, unit_length=False) for points in tokens])


@torch.inference_mode()
def block_tokens(
    backbone: FrozenViT,
    images: LabelledImages,
    preprocessing: Preprocessing,
    seed: int,
    *,
    blocks: int,
    batch_size: int,
    at_once: int,
    progress: Progress = lambda done: None,
) -> Tensor:
    """Return image tokens as they enter the first blocks, without prompts.

    They come from `TOKEN_IMAGES` images, of all classes in turn.

    Args:
        backbone: the frozen Vision Transformer.
        images, preprocessing, progress: as in `split_features`.
        seed: of the choice of images and of tokens.
        blocks: number of blocks.
        batch_size: images that share the chosen token positions.
        at_once: images in memory at a time.

    Returns:
        [blocks, n, D] on the CPU: at most `TOKENS_PER_IMAGE` of an image, at the same positions in every block.
    """
    chosen = images.subset(_classes_in_turn(images.labels, TOKEN_IMAGES, seed))
    prefix, done, parts = backbone.vit.num_prefix_tokens, 0, list[Tensor]()
    batches = evaluation_batches(chosen, batch_size=batch_size, preprocessing=preprocessing, workers=0)
    for number, batch in enumerate(batches):
        positions = permutation(backbone.tokens - prefix, seed, "places", number)[:TOKENS_PER_IMAGE] + prefix
        for inputs in _inputs(batch, backbone, preprocessing).split(at_once):
            tokens, entering = backbone.embed(inputs), []
            for layer in range(blocks):
                entering.append(tokens[:, positions].flatten(0, 1).float().cpu())
                tokens = backbone.block(layer, tokens, ())
            parts.append(torch.stack(entering))
        done += len(batch.labels)
        progress(done)
    return torch.cat(parts, dim=1)


def _classes_in_turn(labels: IntArray, count: int, seed: int) -> IntArray:
    """Choose random images: one of every class, then a second of every class that has one, and so on, [count]."""
    order = permutation(len(labels), seed, "tokens")
    by_class = order[np.argsort(labels[order], kind="stable")]
    sizes = np.bincount(labels)
    turn = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return by_class[np.argsort(turn, kind="stable")][:count]


def _kmeans(points: Tensor, count: int, generator: torch.Generator, *, unit_length: bool) -> Tensor:
    """Return the centres of clusters, [n, D] -> [count, D].

    Args:
        points: to be clustered.
        count: number of clusters.
        generator: of the k-means++ seeding.
        unit_length: normalise the centres, for points of unit length (spherical k-means).
    """
    centres = points[_spread_rows(points, count, generator)]
    for _ in range(KMEANS_ROUNDS):
        nearest = torch.cdist(points, centres).argmin(dim=-1)
        sizes = torch.bincount(nearest, minlength=count)[:, None]
        moved = torch.zeros_like(centres).index_add_(0, nearest, points) / sizes.clamp_min(1)
        if unit_length:  # points that cancel out leave a centre where it was
            moved = torch.where(moved.norm(dim=-1, keepdim=True) > 0, F.normalize(moved, dim=-1), centres)
        moved = torch.where(sizes > 0, moved, centres)
        if torch.allclose(moved, centres, atol=1e-6):
            break
        centres = moved
    return centres


def _spread_rows(points: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw rows far from each other, [count].

    A row's probability is proportional to the squared distance from the rows before it.
    """
    rows = [int(torch.randint(len(points), (1,), generator=generator))]
    distance = torch.full((len(points),), torch.inf)
    for _ in range(count - 1):
        distance = torch.minimum(distance, (points - points[rows[-1]]).square().sum(dim=-1)).clamp_min(1e-12)
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
) -> Float32Array:
    """Return the features of all images of a split in order, [n, D], from the central view of the test transform.

    Args:
        encode: maps images to features, e.g. `backbone.features` or the `query` of a model.
        backbone: its device is used.
        images, preprocessing, batch_size, workers, progress, processes: as in `predict_split`.
    """
    features, done = [], 0
    local_images = images.subset(np.array(processes.share(len(images)), dtype=np.int64))
    with processes.local():
        for batch in evaluation_batches(
            local_images, batch_size=batch_size, preprocessing=preprocessing, workers=workers
        ):
            features.append(encode(_inputs(batch, backbone, preprocessing)).float().cpu().numpy())
            done += len(batch.labels)
            progress(done)
    return np.concatenate(processes.gather(features))


def _inputs(batch: StreamBatch, backbone: FrozenViT, preprocessing: Preprocessing) -> Tensor:
    """Return the backbone's inputs from the central view of each image, [B, 3, height, width]."""
    central = batch.images[:, 0] if preprocessing.test_views > 1 else batch.images
    return preprocessing.normalize(central.to(backbone.device))
