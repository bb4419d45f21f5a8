"""What an LPT owns, the sizes that it refuses, and the query after block K."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from lpt.errors import ConfigError, LptError
from lpt.model import LPT, FrozenViT
from oracle import PARAMETERS, Textbook, load_into, random_images, relative_error, small_vit
from pairs import textbook_and_lpt

# --- what an LPT owns ------------------------------------------------------------------------------------------------


def test_state_dict_is_four_tensors() -> None:
    """Names and shapes are what packs are made of; the backbone is not among them."""
    lpt = LPT(FrozenViT(small_vit()), num_classes=7, prompt_length=3, shared_blocks=1, pool_size=5, top_k=2)
    shapes = {name: tuple(tensor.shape) for name, tensor in lpt.state_dict().items()}
    assert shapes == {
        "shared.tokens": (4, 3, 24),
        "groups.prompts": (5, 3, 3, 24),
        "groups.keys": (5, 24),
        "head.weight": (7, 24),
    }


def test_defaults() -> None:
    """Published sizes: P 10, K half the blocks, M 20, k 2."""
    lpt = LPT(FrozenViT(small_vit(depth=4)), num_classes=3).double()
    shapes = {name: tuple(tensor.shape) for name, tensor in lpt.state_dict().items()}
    assert shapes["shared.tokens"] == (4, 10, 24)
    assert shapes["groups.prompts"] == (20, 2, 10, 24)
    assert shapes["groups.keys"] == (20, 24)
    assert lpt(random_images()).groups.shape == (3, 2)


def test_initial_values() -> None:
    """Prompts and keys truncated-normal 0.02; the head's rows scaled to unit length (DESIGN section 2)."""
    torch.manual_seed(0)
    lpt = LPT(FrozenViT(small_vit(depth=2)), num_classes=50, prompt_length=50, shared_blocks=1, pool_size=40)
    state = lpt.state_dict()
    for name in ("shared.tokens", "groups.prompts", "groups.keys"):
        assert abs(float(state[name].mean())) < 2e-3
        assert 0.017 < float(state[name].std()) < 0.022, name
    assert torch.allclose(state["head.weight"].norm(dim=1), torch.ones(50, dtype=state["head.weight"].dtype))
    assert all(tensor.dtype == torch.float32 for tensor in state.values()), "not the backbone's dtype"


def test_initial_values_follow_the_seed() -> None:
    """The same seed gives the same model, another seed another."""
    frozen = FrozenViT(small_vit())

    def draw(seed: int) -> dict[str, Tensor]:
        torch.manual_seed(seed)
        return LPT(frozen, num_classes=3, prompt_length=2, shared_blocks=1, pool_size=4).state_dict()

    first, same, other = draw(0), draw(0), draw(1)
    for name in PARAMETERS:
        assert torch.equal(first[name], same[name])
        assert not torch.equal(first[name], other[name])


def test_load_is_strict_and_round_trips() -> None:
    """Four tensors in, the same four out; one too few, one too many or one of another shape is an error."""
    textbook, lpt = textbook_and_lpt(small_vit())
    state = textbook.state_dict()
    other = LPT(FrozenViT(small_vit(seed=9)), num_classes=6, prompt_length=3, shared_blocks=2, pool_size=5).double()
    result = other.load_state_dict(state, strict=True)
    assert not result.missing_keys
    assert not result.unexpected_keys
    for name, tensor in other.state_dict().items():
        assert torch.equal(tensor, state[name])
    for broken in (
        {name: tensor for name, tensor in state.items() if name != "groups.keys"},
        {**state, "backbone.cls_token": torch.zeros(1, 1, 24)},
        {**state, "head.weight": torch.zeros(5, 24)},
    ):
        with pytest.raises((RuntimeError, LptError)):
            lpt.load_state_dict(broken, strict=True)


def test_to_moves_the_backbone() -> None:
    """LPT.to(dtype) is enough: no second call on the backbone is needed."""
    vit = small_vit(dtype=torch.float32)
    frozen = FrozenViT(vit)
    lpt = LPT(frozen, num_classes=6, prompt_length=3, shared_blocks=2, pool_size=5)
    assert lpt.to(torch.float64) is lpt
    assert {tensor.dtype for tensor in frozen.parameters()} == {torch.float64}
    assert {tensor.dtype for tensor in lpt.state_dict().values()} == {torch.float64}
    assert lpt(random_images()).cosines.dtype == torch.float64
    lpt.float()
    assert {tensor.dtype for tensor in frozen.parameters()} == {torch.float32}
    lpt.to("meta")
    assert {tensor.device.type for tensor in frozen.parameters()} == {"meta"}


def test_two_models_share_a_backbone() -> None:
    """Sizes and parameters are each model's own; training one leaves the other and the backbone as they were."""
    vit = small_vit()
    first_textbook = Textbook.random(vit, seed=1)
    sizes = dict(num_classes=4, prompt_length=5, shared_blocks=3, pool_size=4, top_k=1)
    second_textbook = Textbook.random(vit, **sizes, seed=2)
    frozen = FrozenViT(vit)
    first = LPT(frozen, num_classes=6, prompt_length=3, shared_blocks=2, pool_size=5, top_k=2).double()
    second = LPT(frozen, **sizes).double()
    load_into(first, first_textbook)
    load_into(second, second_textbook)
    images = random_images()
    weights_before = {name: tensor.clone() for name, tensor in frozen.state_dict().items()}
    before = second(images).cosines.detach()
    assert relative_error(before, second_textbook(images).cosines) < 1e-9

    optimiser = torch.optim.SGD([p for p in first.parameters() if p.requires_grad], lr=1.0, weight_decay=0.1)
    output = first(images)
    (output.cosines.pow(2).sum() - output.similarity).backward()
    optimiser.step()
    assert relative_error(first(images).cosines, first_textbook(images).cosines) > 1e-6, "the step did something"
    assert torch.equal(second(images).cosines, before)
    for name, tensor in frozen.state_dict().items():
        assert torch.equal(tensor, weights_before[name]), name


def test_nothing_is_remembered_between_calls() -> None:
    """No constant of a prompt survives a call: parameters changed in eval mode count at once."""
    textbook, lpt = textbook_and_lpt(small_vit())
    lpt.eval()
    images = random_images()
    with torch.inference_mode():
        lpt(images)
        lpt.forward_shared(images)
    with torch.no_grad():
        for parameter in lpt.parameters():
            if parameter.requires_grad:
                parameter.mul_(-0.5).add_(0.1)
    with torch.no_grad():
        for _, tensor in textbook.named():
            tensor.mul_(-0.5).add_(0.1)
    assert relative_error(lpt(images).cosines, textbook(images).cosines) < 1e-9
    assert relative_error(lpt.forward_shared(images), textbook.forward_shared(images)) < 1e-9
    lpt(images).cosines.sum().backward()  # what was run in inference mode does not stand in the way of training


def test_deepcopy_is_independent() -> None:
    """A copy (an average of weights, a best epoch) has tensors of its own."""
    _, lpt = textbook_and_lpt(small_vit())
    other = copy.deepcopy(lpt)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert all(tensor.abs().sum() > 0 for tensor in lpt.state_dict().values())


# --- refusals of sizes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (dict(pool_size=1, top_k=2), "top_k"),
        (dict(pool_size=0, top_k=1), "pool_size|top_k"),
        (dict(pool_size=-3), "pool_size|top_k"),
        (dict(top_k=0), "top_k"),
        (dict(top_k=-1), "top_k"),
        (dict(shared_blocks=-1), "shared_blocks"),
        (dict(shared_blocks=4), "shared_blocks"),
        (dict(shared_blocks=5), "shared_blocks"),
        (dict(prompt_length=-1), "prompt_length"),
        (dict(num_classes=1), "num_classes"),
        (dict(num_classes=0), "num_classes"),
        (dict(num_classes=-2), "num_classes"),
    ],
    ids=str,
)
def test_refuses_sizes(changes: dict[str, int], named: str) -> None:
    """A size that cannot be meant is refused with its name and the value given (L = 4: group prompts need a block)."""
    sizes = {"num_classes": 3, "prompt_length": 2, "shared_blocks": 2, "pool_size": 4, "top_k": 2, **changes}
    with pytest.raises(ConfigError, match=named) as caught:
        LPT(FrozenViT(small_vit()), **sizes)
    assert any(str(value) in str(caught.value) for value in changes.values()), "the value received is said"


def test_accepts_the_limits() -> None:
    """The smallest and largest sizes that make sense do work."""
    frozen = FrozenViT(small_vit())
    for sizes in (
        dict(num_classes=2, prompt_length=0, shared_blocks=0, pool_size=1, top_k=1),
        dict(num_classes=2, prompt_length=1, shared_blocks=3, pool_size=2, top_k=2),
    ):
        output = LPT(frozen, **sizes).double()(random_images())
        assert output.cosines.shape == (3, 2)
        assert output.groups.shape == (3, sizes["top_k"])


def test_refuses_a_bare_vit() -> None:
    """LPT takes a FrozenViT: a bare backbone has not been looked at and would be trained along."""
    with pytest.raises(ConfigError, match="FrozenViT"):
        LPT(small_vit(), num_classes=3)


# --- the query after block K ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shared_blocks", [1, 3])
def test_prefix_query_is_the_normed_class_token_after_block_k(shared_blocks: int) -> None:
    """It picks by what timm's own first K blocks give with the shared prompt as tokens; the rest is as published."""
    textbook = Textbook.random(small_vit(), shared_blocks=shared_blocks)
    sizes = (6, 3, shared_blocks, 5, 2)
    model, full = (LPT(FrozenViT(textbook.vit), *sizes, query=kind).double() for kind in ("prefix", "full"))
    for lpt in (model, full):
        load_into(lpt, textbook)
    images = random_images()
    tokens = textbook.embed(images)
    for block in range(shared_blocks):
        tokens = textbook.block(block, tokens, textbook.shared[block].expand(len(images), -1, -1))
    expected = textbook.vit.norm(tokens)[:, 0]
    torch.testing.assert_close(model.query(images), expected)
    assert not model.query(images).requires_grad
    output, encoded = model(images), full.encode(images)
    by_hand = full.classify(encoded._replace(query=expected))
    torch.testing.assert_close(output.cosines, by_hand.cosines)
    assert torch.equal(output.groups, by_hand.groups)


def test_prefix_query_needs_a_block_before_it() -> None:
    """With K = 0 the class token would be the same for all images: refused, as is an unknown query."""
    with pytest.raises(ConfigError, match="shared_blocks"):
        LPT(FrozenViT(small_vit()), 3, shared_blocks=0, query="prefix")
    with pytest.raises(ConfigError, match="full, prefix"):
        LPT(FrozenViT(small_vit()), 3, query="quick")
