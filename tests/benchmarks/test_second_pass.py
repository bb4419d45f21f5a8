"""The second pass of the research: with LPT's own parts it is LPT, and its variations are what they say."""

from __future__ import annotations

import torch
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
