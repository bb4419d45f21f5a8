"""The second pass of the research: with LPT's own parts it is LPT, and its variations are what they say."""

from __future__ import annotations

import numpy as np
import torch
from benchmarks.accuracy.second_pass.__main__ import mean_per_class, weighted
from benchmarks.accuracy.second_pass.model import Parts, SecondPass

from lpt.model import LPT, FrozenViT
from lpt.model.adapters import Adapters
from oracle import random_images, small_vit


def test_it_is_lpt_with_its_own_parts() -> None:
    torch.manual_seed(0)
    backbone = FrozenViT(small_vit(depth=4))
    adapters = Adapters(4, 24, 1, norm=True, scale=None)
    torch.nn.init.normal_(adapters.up)
    lpt = LPT(backbone, 5, prompt_length=3, shared_blocks=2, pool_size=6, top_k=2, adapters=adapters).double()
    images = random_images()
    encoded = lpt.encode(images)
    second = SecondPass(lpt, Parts(pool=6)).double()
    alone = second(encoded, picks="none").second
    assert torch.allclose(alone, lpt.forward_shared(images), atol=1e-12)
    assert second.groups is not None
    second.groups.load_state_dict(lpt.groups.state_dict())

    opinions, expected = second(encoded), lpt(images)
    assert torch.allclose(opinions.first, lpt.forward_shared(images), atol=1e-12)
    assert torch.allclose(opinions.second, expected.cosines, atol=1e-12)
    assert torch.allclose(opinions.similarity, expected.similarity, atol=1e-12)

    shared = lpt.shared_constants()
    mean = lpt.groups.prompts.mean(dim=0).expand(len(images), -1, -1, -1)
    assert torch.allclose(
        second(encoded, picks="mean").second, lpt.classify_under(encoded, mean, constants=shared), atol=1e-12
    )
    other = lpt.groups.gather(expected.groups.roll(1, dims=0))
    assert torch.allclose(
        second(encoded, picks="others").second, lpt.classify_under(encoded, other, constants=shared), atol=1e-12
    )


def test_phase_1_stays_as_it_was() -> None:
    """Only what the second pass has of its own trains."""
    lpt = LPT(FrozenViT(small_vit(depth=4)), 5, prompt_length=3, shared_blocks=2).double()
    before = {name: tensor.clone() for name, tensor in lpt.state_dict().items()}
    second = SecondPass(lpt, Parts("replace", adapters=2)).double()
    optimizer = torch.optim.SGD(second.parameters(), lr=1.0)
    second(lpt.encode(random_images())).second.square().sum().backward()
    optimizer.step()
    assert all(torch.equal(tensor, before[name]) for name, tensor in lpt.state_dict().items())
    trained = dict(second.named_parameters())
    assert {"head.weight", "groups.prompts", "adapters.up"} <= set(trained)
    assert all(trained[name].grad is not None and trained[name].grad.any() for name in ("head.weight", "adapters.up"))


def test_groups_of_classes_and_a_head_on_the_patches() -> None:
    """A class's own row picks one group for all of its images; the head sees no class token."""
    torch.manual_seed(0)
    backbone = FrozenViT(small_vit(depth=4))
    lpt = LPT(backbone, 5, prompt_length=3, shared_blocks=2).double()
    second = SecondPass(lpt, Parts(keys="classes", pool=20)).double()
    assert second.groups is not None
    assert len(second.groups.keys) == 5  # no more groups than classes
    rows = torch.nn.functional.normalize(lpt.head.weight, dim=-1)
    assert torch.allclose(second.groups.cosines(rows).max(dim=1).values, torch.ones(5).double(), atol=1e-6)

    encoded = lpt.encode(random_images())
    patches = SecondPass(lpt, Parts("none", reads="patches")).double()
    tokens = encoded.tokens
    for layer in (2, 3):
        prompt = backbone.prompt_key_value(layer, lpt.shared.tokens[layer])
        tokens = backbone.block(layer, tokens, [prompt])
    expected = lpt.head(backbone.norm(tokens)[:, 1:].mean(dim=1))
    assert torch.allclose(patches(encoded).second, expected, atol=1e-12)
    assert torch.allclose(patches(encoded).first, lpt.forward_shared(random_images()), atol=1e-12)


def test_weights_are_chosen_on_other_images() -> None:
    """Where the second pass is right on one half only, the other half follows it, and loses."""
    labels = np.repeat([0, 1], 4)
    first = np.eye(2, dtype=np.float32)[labels]
    second = first.copy()
    second[1::2] = 1 - first[1::2]
    first[::2] = 1 - first[::2]
    assert mean_per_class(weighted(first, second, labels), labels) == 0
    assert mean_per_class(weighted(second, second, labels), labels) == 0.5
