"""The golden numbers of the authors' own code (../shared/parity/README.md), in float64.

Both implementations are held against them: `lpt`, and the textbook model every other parity test leans on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from lpt.losses import AsymmetricGCL
from lpt.model import LPT, FrozenViT
from oracle import PARAMETERS, Textbook, load_into, relative_error, textbook_agcl, train_only

TOLERANCE = 1e-6
GAMMAS = {"balanced": (0.0, 4.0), "instance": (0.5, 8.0)}


@dataclass
class Golden:
    """The fixture: tensors by name, sizes by name, and the backbone it was made with."""

    tensors: dict[str, Tensor]
    size: dict[str, int]
    vit: VisionTransformer

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]


@dataclass
class Implementation:
    """One of the two models under one face."""

    forward_shared: Callable[[Tensor], Tensor]
    forward: Callable[[Tensor], Any]
    query: Callable[[Tensor], Tensor]
    train_only: Callable[..., None]
    gradients: Callable[[], dict[str, Tensor | None]]
    loss: Callable[[Tensor, Tensor, str], Tensor]


@pytest.fixture(scope="module")
def golden(shared_dir: Path) -> Golden:
    path = shared_dir / "parity" / "official_small.safetensors"
    if not path.is_file():
        pytest.skip(f"needs the golden numbers, and {path} does not exist")
    with safe_open(str(path), "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
        size = {k: int(v) for k, v in file.metadata().items() if v.isdecimal()}
    vit = VisionTransformer(
        img_size=size["img"],
        patch_size=size["patch"],
        embed_dim=size["dim"],
        depth=size["depth"],
        num_heads=size["heads"],
        num_classes=0,
        norm_layer=partial(nn.LayerNorm, eps=1e-5),
    )
    vit = vit.double().eval()
    vit.load_state_dict({k.removeprefix("backbone."): v for k, v in tensors.items() if k.startswith("backbone.")})
    return Golden(tensors, size, vit)


def textbook_of(golden: Golden) -> Textbook:
    return Textbook(
        vit=golden.vit,
        shared=golden["prompt_learner.Prompt_Tokens"].clone(),
        pool=golden["prompt_learner.Prompt_Tokens_pool"].clone(),
        keys=golden["prompt_learner.Prompt_Keys"].clone(),
        head=golden["prompt_learner.head.weight"].T.contiguous().clone(),
        shared_blocks=golden.size["shared_blocks"],
        top_k=golden.size["top_k"],
    )


@pytest.fixture(params=["lpt", "textbook"])
def model(request: pytest.FixtureRequest, golden: Golden) -> Implementation:
    textbook = textbook_of(golden)
    counts = golden["input.class_counts"].tolist()
    if request.param == "textbook":

        def textbook_loss(cosines: Tensor, labels: Tensor, which: str) -> Tensor:
            return textbook_agcl(cosines, labels, counts, *GAMMAS[which])

        def textbook_gradients() -> dict[str, Tensor | None]:
            return {name: tensor.grad for name, tensor in textbook.named()}

        return Implementation(
            textbook.forward_shared,
            textbook.forward,
            textbook.query,
            textbook.train_only,
            textbook_gradients,
            textbook_loss,
        )

    lpt = LPT(
        FrozenViT(golden.vit),
        num_classes=golden.size["classes"],
        prompt_length=golden.size["prompt_length"],
        shared_blocks=golden.size["shared_blocks"],
        pool_size=golden.size["pool"],
        top_k=golden.size["top_k"],
    ).double()
    load_into(lpt, textbook)

    def lpt_loss(cosines: Tensor, labels: Tensor, which: str) -> Tensor:
        return AsymmetricGCL(counts, *GAMMAS[which])(cosines, labels, noise=torch.zeros_like(cosines))

    def lpt_gradients() -> dict[str, Tensor | None]:
        parameters = dict(lpt.named_parameters())
        return {name: parameters[name].grad for name in PARAMETERS}

    return Implementation(lpt.forward_shared, lpt, lpt.query, partial(train_only, lpt), lpt_gradients, lpt_loss)


def assert_close(value: Tensor | None, reference: Tensor, what: str) -> None:
    assert value is not None, f"{what}: no gradient"
    assert value.dtype == torch.float64
    error = relative_error(value.reshape(reference.shape), reference)
    assert error <= TOLERANCE, f"{what}: relative error {error:.1e}"


def test_phase1_cosines(golden: Golden, model: Implementation) -> None:
    """Cosines under the shared prompt alone are the official ones."""
    assert_close(model.forward_shared(golden["input.images"]), golden["phase1.cosine"], "phase 1 cosines")


def test_phase2_numbers(golden: Golden, model: Implementation) -> None:
    """Query, similarity and cosines under group prompts are the official ones."""
    output = model.forward(golden["input.images"])
    assert_close(model.query(golden["input.images"]), golden["phase2.query"], "query")
    assert_close(output.similarity, golden["phase2.similarity"], "similarity")
    assert_close(output.cosines, golden["phase2.cosine"], "phase 2 cosines")


@pytest.mark.parametrize("which", list(GAMMAS))
def test_phase1_loss_and_gradients(golden: Golden, model: Implementation, which: str) -> None:
    """Both losses of phase 1 and what they pull shared prompt and head towards are the official ones."""
    model.train_only("shared.tokens", "head.weight")
    loss = model.loss(model.forward_shared(golden["input.images"]), golden["input.labels"], which)
    loss.backward()
    gradients = model.gradients()
    assert_close(loss, golden[f"phase1.loss.{which}"], "loss")
    assert_close(gradients["shared.tokens"], golden[f"phase1.grad.{which}.shared"], "shared prompt")
    assert_close(gradients["head.weight"], golden[f"phase1.grad.{which}.head"].T, "head")
    assert gradients["groups.prompts"] is None
    assert gradients["groups.keys"] is None


@pytest.mark.parametrize("which", list(GAMMAS))
def test_phase2_loss_and_gradients(golden: Golden, model: Implementation, which: str) -> None:
    """Both losses of phase 2 and the gradients of loss - 0.5 * similarity are the official ones."""
    model.train_only("groups.prompts", "groups.keys", "head.weight")
    output = model.forward(golden["input.images"])
    loss = model.loss(output.cosines, golden["input.labels"], which)
    (loss - 0.5 * output.similarity).backward()
    gradients = model.gradients()
    assert_close(loss, golden[f"phase2.loss.{which}"], "classification loss")
    assert_close(gradients["groups.prompts"], golden[f"phase2.grad.{which}.pool"], "group prompts")
    assert_close(gradients["groups.keys"], golden[f"phase2.grad.{which}.keys"], "keys")
    assert_close(gradients["head.weight"], golden[f"phase2.grad.{which}.head"].T, "head")
    assert gradients["shared.tokens"] is None, "the shared prompt is frozen in phase 2"


def test_the_fixture_sees_what_it_should(golden: Golden) -> None:
    """Guards the guard: other group picks, prompts or noise-free losses would not pass for the golden numbers."""
    textbook = textbook_of(golden)
    reference = golden["phase2.cosine"]
    for name in ("shared", "pool", "keys", "head"):
        other = textbook_of(golden)
        setattr(other, name, getattr(other, name).flip(0))
        assert relative_error(other(golden["input.images"]).cosines, reference) > 1e3 * TOLERANCE, name
    matching = textbook(golden["input.images"]).matching.sort(dim=1, descending=True).values
    gap = matching[:, textbook.top_k - 1] - matching[:, textbook.top_k]
    assert gap.min() > 1e-4, "picks must not hang on rounding"
