"""The reference output of a pack: loading recomputes it to see whether the pack still gives the same."""

from __future__ import annotations

import torch
from torch import Tensor

from lpt.errors import RunError
from lpt.model.build import Classifier
from lpt.model.lpt import LPT
from lpt.packs.info import REFERENCE_CLASSES, REFERENCE_VARIANTS, Reference
from lpt.packs.reference_image import ReferenceOutput, mixing_weights, reference_array


def reference_image(size: tuple[int, int], variant: int) -> Tensor:
    """Return the reference image of a size and number, [1, 3, height, width]."""
    return torch.from_numpy(reference_array(size, variant))


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
    mixed = model.classify_under(encoded, mixed_prompt(model)[None], constants=shared)
    keys = model.groups.cosines(encoded.query)[0]
    return ReferenceOutput(_plain(picked[0, classes]), _plain(mixed[0, classes]), _plain(keys))


def mixed_prompt(model: LPT) -> Tensor:
    """Return a weighted sum of all group prompts, [L-K, P, D]; see `mixing_weights`."""
    prompts = model.groups.prompts
    return torch.tensordot(torch.from_numpy(mixing_weights(len(prompts))).to(prompts), prompts, dims=1)


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
