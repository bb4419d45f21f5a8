"""The reference output of a pack: loading recomputes it to see whether the pack still gives the same."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from lpt.errors import RunError
from lpt.model.backbone import FrozenViT
from lpt.model.build import Classifier
from lpt.model.lpt import LPT
from lpt.model.mixed import Mix
from lpt.model.tuning import Tuning
from lpt.packs.info import REFERENCE_CLASSES, REFERENCE_VARIANTS, Reference

REFERENCE_TOLERANCE = 2e-3
_GOLDEN = 0.6180339887498949


class ReferenceOutput(NamedTuple):
    """The output of a model for a reference image; fields as in `Reference`."""

    cosines: list[float]
    mixed: list[float] | None = None
    keys: list[float] | None = None


@lru_cache(maxsize=32)
def reference_image(size: tuple[int, int], variant: int) -> Tensor:
    """Return an image made by a formula, the same on every machine, roughly normalised, [1, 3, height, width].

    Do not change it: it is kept.
    """
    height, width = size
    rows = torch.linspace(0, 6.283185, height, dtype=torch.float64)[:, None]
    columns = torch.linspace(0, 6.283185, width, dtype=torch.float64)[None]
    waves = [torch.sin((1 + band) * rows + band + variant) * torch.cos((2 + band) * columns) for band in range(3)]
    return torch.stack(waves)[None].float()


@torch.no_grad()
def reference_output(model: Classifier, variant: int, classes: list[int], *, group_prompts: bool) -> ReferenceOutput:
    """Return the output of a model for a reference image.

    An image picks few group prompts and does not show the others. So it is classified once more under a weighted sum
    of all group prompts, and compared with all keys. The first blocks and the query are computed once.
    """
    image = reference_image(model.backbone.image_size, variant).to(model.head.weight.device)
    if not group_prompts or not isinstance(model, LPT):
        scores = model.forward_shared(image)
        return ReferenceOutput(_plain(scores[0, classes]))
    shared = model.shared_constants()
    encoded = model.encode(image, constants=shared)
    picked = model.classify(encoded, constants=shared).cosines
    mixed = model.classify_under(encoded, mixed_prompt(model.groups.prompts)[None], constants=shared)
    keys = model.groups.cosines(encoded.query)[0]
    return ReferenceOutput(_plain(picked[0, classes]), _plain(mixed[0, classes]), _plain(keys))


@torch.no_grad()
def tuned_output(backbone: FrozenViT, tuning: Tuning, variant: int, classes: list[int]) -> ReferenceOutput:
    """Return the output for a reference image as `reference_output` does, computed as in mixed batches."""
    mix = Mix(backbone, [tuning])
    encoded = mix.encode(reference_image(backbone.image_size, variant).to(backbone.device))
    if tuning.pool is None:
        return ReferenceOutput(_plain(tuning.scores(encoded.features)[0, classes]))
    picked = mix.group_prompts(mix.match(encoded.queries))
    both = torch.cat([*picked, mixed_prompt(tuning.pool.prompts)[None]])  # the second pass runs once, on two rows
    features, _ = Mix(backbone, [tuning, tuning]).finish(encoded.repeated(2), [both])
    scores = tuning.scores(features)[:, classes]
    return ReferenceOutput(_plain(scores[0]), _plain(scores[1]), _plain(tuning.pool.cosines(encoded.queries)[0]))


def mixed_prompt(prompts: Tensor) -> Tensor:
    """Return a weighted sum of all group prompts, [M, L-K, P, D] -> [L-K, P, D].

    The weights follow the golden ratio: all differ, neighbours by much, and none is small. Their signs vary, so the
    common part of the prompts does not hide the rest. The sum shows a change of any prompt or of their order.
    """
    points = (torch.arange(1, len(prompts) + 1, dtype=torch.float64) * _GOLDEN) % 1 - 0.5
    weights = points + points.sign() / 2
    return torch.tensordot((weights / weights.norm()).to(prompts), prompts, dims=1)


def make_reference(model: Classifier, *, group_prompts: bool) -> Reference:
    """Compute the reference output of a float32 model.

    The image with the clearest picks is used: a near tie between the last picked group prompt and the next could turn
    out differently on another machine.

    Raises:
        RunError: a score is not finite.
    """
    count = model.head.weight.shape[0]
    classes = torch.linspace(0, count - 1, min(REFERENCE_CLASSES, count)).long().tolist()
    variant = 0
    if group_prompts and isinstance(model, LPT):
        lpt = model
        variant = max(range(REFERENCE_VARIANTS), key=lambda number: _pick_gap(lpt, number))
    output = reference_output(model, variant, classes, group_prompts=group_prompts)
    if not torch.tensor([*output.cosines, *(output.mixed or ()), *(output.keys or ())]).isfinite().all():
        raise RunError(
            "the trained model gives scores that are not finite for a reference image: it cannot be packed. Train "
            "again at a lower rate, or in full precision (--set runtime.precision=fp32)."
        )
    return Reference(variant=variant, classes=classes, **output._asdict())


def largest_difference(stored: Reference, now: ReferenceOutput) -> float:
    """Return the largest difference between an output and the stored one; values that an old pack lacks are skipped."""
    pairs = [(stored.cosines, now.cosines), (stored.mixed, now.mixed), (stored.keys, now.keys)]
    present = [torch.tensor([a, b], dtype=torch.float64) for a, b in pairs if a is not None and b is not None]
    return float(torch.cat([(a - b).abs() for a, b in present]).max())


def _plain(values: Tensor) -> list[float]:
    return [round(value, 7) for value in values.float().cpu().tolist()]


@torch.no_grad()
def _pick_gap(model: LPT, variant: int) -> float:
    """Return the difference between the cosines of the last picked key and the next, for a reference image."""
    if len(model.groups.keys) == model.top_k:
        return 0.0
    image = reference_image(model.backbone.image_size, variant).to(model.head.weight.device)
    cosines = model.groups.match(model.query(image), model.top_k + 1).cosines[0]
    return float(cosines[-2] - cosines[-1])
