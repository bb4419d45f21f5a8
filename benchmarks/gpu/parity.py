"""LPT on a device against golden numbers of the authors' code in float64, or against the textbook model on the CPU.

Top-k is discontinuous: what follows from picks is compared only if all images pick the same group prompts. Where picks
differ though their cosines are further apart than the tolerance, the models do not agree.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from tests.oracle import Textbook, load_into, random_images, small_vit, train_only
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from benchmarks.gpu.stages import Given
from benchmarks.speed.speed import DTYPES
from benchmarks.speed.speed_cases import SIMILARITY_WEIGHT, TOLERANCES, TRAINED
from lpt.losses import AsymmetricGCL
from lpt.model import LPT, FrozenViT

GOLDEN = Path("parity") / "official_small.safetensors"
GAMMAS = {"balanced": (0.0, 4.0), "instance": (0.5, 8.0)}
_GRADIENTS = {
    "shared.tokens": "shared", "head.weight": "head", "groups.prompts": "pool", "groups.keys": "keys",
}  # fmt: skip
"""Names of trained tensors, and those of their gradients in the golden file."""


class Reference(NamedTuple):
    """Parameters, inputs and the numbers that they must give, in float64 on the CPU."""

    textbook: Textbook
    images: Tensor
    labels: Tensor
    counts: list[int]
    numbers: dict[str, Tensor]
    origin: str


def measure_parity(precision: str, given: Given) -> dict[str, Any]:
    """Compare outputs, losses and gradients on the device in a precision."""
    path = Path(given.shared) / GOLDEN
    reference = golden(path) if path.is_file() else computed()
    dtype = DTYPES[precision]
    model = on_device(reference, dtype, given.device)
    numbers = numbers_of(
        model.forward_shared, model, model.query, partial(train_only, model), dict(model.named_parameters()),
        [tensor.to(given.device) for tensor in (reference.images.float(), reference.labels)], reference.counts,
    )  # fmt: skip
    picks = numbers.pop("picks").cpu()
    compared = compare(numbers, picks, reference, dtype)
    return {"reference": reference.origin, "images": len(reference.images), **compared}


def on_device(reference: Reference, dtype: torch.dtype, device: str) -> LPT:
    """Return LPT with the parameters of the reference: the backbone in a precision, the trained tensors in float32."""
    textbook = reference.textbook
    backbone = FrozenViT(copy.deepcopy(textbook.vit).to(device, dtype))
    model = LPT(
        backbone,
        num_classes=len(textbook.head),
        prompt_length=textbook.shared.shape[1],
        shared_blocks=textbook.shared_blocks,
        pool_size=len(textbook.keys),
        top_k=textbook.top_k,
    )
    load_into(model, textbook)
    return model.to(device)


def numbers_of(
    forward_shared: Callable[[Tensor], Tensor],
    forward: Callable[[Tensor], Any],
    query: Callable[[Tensor], Tensor],
    select: Callable[..., None],
    parameters: dict[str, Any],
    inputs: list[Tensor],
    counts: list[int],
) -> dict[str, Tensor]:
    """Return outputs, losses and gradients of either implementation, by name."""
    images, labels = inputs
    numbers: dict[str, Tensor] = {"query": query(images)}
    for which, gammas in GAMMAS.items():
        criterion = AsymmetricGCL(counts, *gammas).to(images.device)
        for phase, trained in TRAINED.items():
            select(*trained)
            output: Any = forward_shared(images) if phase == 1 else forward(images)
            cosines: Tensor = output if phase == 1 else output.cosines
            loss = criterion(cosines, labels, noise=torch.zeros_like(cosines))
            (loss if phase == 1 else loss - SIMILARITY_WEIGHT * output.similarity).backward()
            numbers |= {f"phase {phase} cosines": cosines, f"phase {phase} loss, {which}": loss}
            for name in trained:
                numbers[f"phase {phase} gradient of {name}, {which}"] = parameters[name].grad.clone()
            if phase == 2:
                numbers |= {"phase 2 similarity": output.similarity, "picks": output.groups}
    return {name: tensor.detach() for name, tensor in numbers.items()}


def computed() -> Reference:
    """Return a small random model with the numbers of the textbook on the CPU."""
    textbook = Textbook.random(small_vit(), num_classes=6)
    images, labels, counts = random_images(6), torch.arange(6), [100, 50, 20, 10, 5, 2]
    numbers = numbers_of(
        textbook.forward_shared, textbook, textbook.query, textbook.train_only, dict(textbook.named()),
        [images, labels], counts,
    )  # fmt: skip
    del numbers["picks"]
    return Reference(textbook, images, labels, counts, numbers, "the textbook model on the CPU, float64")


def golden(path: Path) -> Reference:
    """Return the golden numbers of the authors' code."""
    with safe_open(str(path), "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
        size = {name: int(value) for name, value in file.metadata().items() if value.isdecimal()}
    vit = VisionTransformer(
        img_size=size["img"], patch_size=size["patch"], embed_dim=size["dim"], depth=size["depth"],
        num_heads=size["heads"], num_classes=0, norm_layer=partial(nn.LayerNorm, eps=1e-5),
    ).double().eval()  # fmt: skip
    vit.load_state_dict({k.removeprefix("backbone."): v for k, v in tensors.items() if k.startswith("backbone.")})
    textbook = Textbook(
        vit=vit,
        shared=tensors["prompt_learner.Prompt_Tokens"],
        pool=tensors["prompt_learner.Prompt_Tokens_pool"],
        keys=tensors["prompt_learner.Prompt_Keys"],
        head=tensors["prompt_learner.head.weight"].T.contiguous(),
        shared_blocks=size["shared_blocks"],
        top_k=size["top_k"],
    )
    numbers = {"query": tensors["phase2.query"], "phase 2 similarity": tensors["phase2.similarity"]}
    for phase, trained in TRAINED.items():
        numbers[f"phase {phase} cosines"] = tensors[f"phase{phase}.cosine"]
        for which in GAMMAS:
            numbers[f"phase {phase} loss, {which}"] = tensors[f"phase{phase}.loss.{which}"]
            for name in trained:
                gradient = tensors[f"phase{phase}.grad.{which}.{_GRADIENTS[name]}"]
                numbers[f"phase {phase} gradient of {name}, {which}"] = gradient.T if "head" in name else gradient
    images, labels = tensors["input.images"], tensors["input.labels"]
    counts = tensors["input.class_counts"].tolist()
    return Reference(textbook, images, labels, counts, numbers, "golden numbers of the authors' code, float64")


def compare(numbers: dict[str, Tensor], picks: Tensor, reference: Reference, dtype: torch.dtype) -> dict[str, Any]:
    """Compare numbers with those of the reference, and say which are outside the tolerance."""
    cosines, gradients = TOLERANCES[dtype]
    top_k, expected = reference.textbook.top_k, reference.textbook(reference.images)
    other = (picks.sort(dim=1).values != expected.groups.sort(dim=1).values).any(dim=1)
    ranked = expected.matching.sort(dim=1, descending=True).values
    clear = ranked[:, top_k - 1] - ranked[:, top_k] > cosines
    differences = {
        name: _difference(numbers[name], value, absolute="cosines" in name or "similarity" in name)
        for name, value in reference.numbers.items()
        if not (other.any() and name.startswith("phase 2"))
    }
    wrong = [name for name, value in differences.items() if not value <= (gradients if "gradient" in name else cosines)]
    if clear_picks := int((other & clear).sum()):
        wrong.append(f"{clear_picks} images pick clearly other group prompts")
    return {
        "agree": not wrong,
        "outside_tolerance": wrong,
        "tolerance_of_outputs": cosines,
        "tolerance_of_gradients": gradients,
        "images_with_other_picks": int(other.sum()),
        "largest": {
            "outputs": max(value for name, value in differences.items() if "gradient" not in name),
            "gradients": max(value for name, value in differences.items() if "gradient" in name),
        },
        "differences": differences,
    }


def _difference(value: Tensor, expected: Tensor, *, absolute: bool) -> float:
    """Return the largest difference of cosines, or the norm of the difference over that of the expected tensor."""
    value, expected = value.detach().double().cpu().reshape(expected.shape), expected.detach().double()
    if absolute:
        return float((value - expected).abs().max())
    return float((value - expected).norm() / expected.norm())
