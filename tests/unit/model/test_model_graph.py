"""What the exact shortcuts of DESIGN section 3 save, and what is float32 when the backbone is not.

Blocks run once, the last block runs for one token, and where nothing is trained there is no graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from lpt.model import LPT, FrozenViT
from oracle import (
    PARAMETERS,
    Textbook,
    cosine,
    load_into,
    random_images,
    relative_error,
    small_vit,
    train_only,
)

DEPTH = 4
TOKENS = 10  # 3x3 patches and the class token
PHASE1 = ("shared.tokens", "head.weight")
PHASE2 = ("groups.prompts", "groups.keys", "head.weight")


def build(shared_blocks: int = 2, **kwargs: Any) -> tuple[LPT, list[Block]]:
    """A double-precision LPT and the blocks it runs."""
    vit = small_vit(depth=DEPTH, **kwargs)
    frozen = FrozenViT(vit)
    lpt = LPT(frozen, num_classes=6, prompt_length=3, shared_blocks=shared_blocks, pool_size=5, top_k=2).double()
    load_into(lpt, Textbook.random(vit, shared_blocks=shared_blocks))
    blocks = [module for module in frozen.modules() if type(module) is Block]
    assert len(blocks) == DEPTH
    return lpt, blocks


@dataclass
class Call:
    """One run of a block's MLP."""

    block: int
    tokens: int
    graph: bool


@contextmanager
def watched(blocks: list[Block]) -> Iterator[list[Call]]:
    """Collects every run of every block's MLP, in order."""
    calls: list[Call] = []

    def watch(i: int) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            calls.append(Call(i, inputs[0].shape[1], output.requires_grad))

        return hook

    handles = [block.mlp.register_forward_hook(watch(i)) for i, block in enumerate(blocks)]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def runs(calls: list[Call], block: int) -> list[int]:
    """Token counts of the runs of one block."""
    return [call.tokens for call in calls if call.block == block]


def nodes(output: Tensor) -> int:
    """Size of the graph behind a tensor."""
    seen, todo = set(), [output.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            todo.extend(parent for parent, _ in node.next_functions)
    return len(seen)


# --- how often blocks run --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("registers", [0, 2])
@pytest.mark.parametrize("shared_blocks", range(DEPTH))
@pytest.mark.parametrize("trained", [(), PHASE2, PARAMETERS], ids=["inference", "phase2", "everything"])
def test_forward_runs_the_prefix_once(shared_blocks: int, trained: tuple[str, ...], registers: int) -> None:
    """Items 3 and 5: blocks 1..K once with all tokens, the rest twice, the last for the class token only."""
    lpt, blocks = build(shared_blocks, reg_tokens=registers)
    train_only(lpt, *trained)
    with watched(blocks) as calls:
        lpt(random_images())
    for i in range(DEPTH - 1):
        assert runs(calls, i) == [TOKENS + registers] * (1 if i < shared_blocks else 2), f"block {i}"
    assert runs(calls, DEPTH - 1) == [1, 1]


@pytest.mark.parametrize("shared_blocks", range(DEPTH))
def test_image_tokens_are_projected_once_behind_the_prefix(shared_blocks: int) -> None:
    """Block K+1 sees the same tokens in both passes: its norm, queries, keys and values are computed once."""
    lpt, blocks = build(shared_blocks)
    whole: list[int] = []  # norms of all image tokens, not of prompts
    for i, block in enumerate(blocks):
        block.norm1.register_forward_hook(
            lambda module, inputs, output, i=i: whole.append(i) if inputs[0].shape[1] == TOKENS else None
        )
    lpt(random_images())
    assert [whole.count(i) for i in range(DEPTH)] == [1 if i <= shared_blocks else 2 for i in range(DEPTH)]


@pytest.mark.parametrize("method", ["query", "forward_shared"])
def test_one_pass_methods_run_each_block_once(method: str) -> None:
    """Query and phase 1 are one pass, with the last block for one token."""
    lpt, blocks = build()
    with watched(blocks) as calls:
        getattr(lpt, method)(random_images())
    assert [(call.block, call.tokens) for call in calls] == [(0, TOKENS), (1, TOKENS), (2, TOKENS), (3, 1)]


def test_prompts_never_enter_the_mlp() -> None:
    """Item 1: a longer prompt gives attention more keys, nothing else more tokens."""
    vit = small_vit(depth=DEPTH)
    frozen = FrozenViT(vit)
    blocks = [module for module in frozen.modules() if type(module) is Block]
    lpt = LPT(frozen, num_classes=3, prompt_length=50, shared_blocks=2, pool_size=4).double()
    with watched(blocks) as calls:
        lpt(random_images())
    assert max(call.tokens for call in calls) == TOKENS


# --- where a graph is built ------------------------------------------------------------------------------------------


def test_head_alone_builds_no_graph_through_blocks() -> None:
    """Item 4: nothing in the blocks depends on what is trained, so nothing of them is kept."""
    lpt, blocks = build()
    train_only(lpt, "head.weight")
    for run in (lambda: lpt(random_images()).cosines, lambda: lpt.forward_shared(random_images())):
        with watched(blocks) as calls:
            cosines = run()
        assert not any(call.graph for call in calls)
        assert cosines.requires_grad
        assert nodes(cosines) < 25, "a head: normalise, multiply, scale"
    assert not lpt(random_images()).similarity.requires_grad


def test_keys_alone() -> None:
    """Similarity has a graph, the cosines have none."""
    lpt, blocks = build()
    train_only(lpt, "groups.keys")
    with watched(blocks) as calls:
        output = lpt(random_images())
    assert not any(call.graph for call in calls)
    assert output.similarity.requires_grad
    assert not output.cosines.requires_grad
    assert nodes(output.similarity) < 25


@pytest.mark.parametrize("shared_blocks", range(DEPTH))
def test_phase2_has_no_graph_before_the_group_prompts(shared_blocks: int) -> None:
    """Item 4: prefix and query pass are frozen; the graph begins in block K+1 of the final pass."""
    lpt, blocks = build(shared_blocks)
    train_only(lpt, *PHASE2)
    with watched(blocks) as calls:
        output = lpt(random_images())
    for i in range(DEPTH):
        graphs = [call.graph for call in calls if call.block == i]
        assert graphs == ([False] if i < shared_blocks else [False, True]), f"block {i}"
    assert output.cosines.requires_grad
    assert output.similarity.requires_grad
    assert not output.groups.requires_grad


def test_phase2_graph_shrinks_with_the_prefix() -> None:
    """A longer frozen prefix leaves fewer nodes, and far fewer than training everything does."""
    sizes = []
    for shared_blocks in range(DEPTH):
        lpt, _ = build(shared_blocks)
        train_only(lpt, *PHASE2)
        sizes.append(nodes(lpt(random_images()).cosines))
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == DEPTH
    lpt, _ = build(DEPTH - 1)
    train_only(lpt, *PARAMETERS)
    assert nodes(lpt(random_images()).cosines) > 2 * sizes[-1]


def test_phase2_keeps_no_tensor_of_the_prefix() -> None:
    """Memory: what is saved for backward does not grow with the number of frozen blocks before the group prompts."""

    def saved(depth: int) -> int:
        vit = small_vit(depth=depth)
        lpt = LPT(FrozenViT(vit), num_classes=6, prompt_length=3, shared_blocks=depth - 1, pool_size=5).double()
        train_only(lpt, *PHASE2)
        count = 0

        def pack(tensor: Tensor) -> Tensor:
            nonlocal count
            count += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            lpt(random_images())
        return count

    assert saved(2) == saved(5) > 0


def test_phase1_graph_begins_in_the_first_block() -> None:
    """The shared prompt enters block 1: every block's run is part of the graph."""
    lpt, blocks = build()
    train_only(lpt, *PHASE1)
    with watched(blocks) as calls:
        cosines = lpt.forward_shared(random_images())
    assert all(call.graph for call in calls)
    assert cosines.requires_grad


def test_query_never_has_a_graph() -> None:
    """The query carries no gradient, whatever is trained."""
    lpt, blocks = build()
    train_only(lpt, *PARAMETERS)
    with watched(blocks) as calls:
        query = lpt.query(random_images())
    assert query.grad_fn is None
    assert not query.requires_grad
    assert not any(call.graph for call in calls)


def test_everything_trained_builds_no_graph_for_the_query_pass() -> None:
    """Behind the common prefix the first run of a block is the query's, without a graph, the second the final one's."""
    lpt, blocks = build(shared_blocks=2)
    train_only(lpt, *PARAMETERS)
    with watched(blocks) as calls:
        lpt(random_images())
    graphs = [[call.graph for call in calls if call.block == i] for i in range(DEPTH)]
    assert graphs == [[True], [True], [False, True], [False, True]]


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_inference_builds_nothing(context: Callable[[], Any]) -> None:
    """Under no_grad and inference_mode everything works and nothing is kept."""
    lpt, _ = build()
    train_only(lpt, *PARAMETERS)
    with context():
        output = lpt(random_images())
        assert not output.cosines.requires_grad
        assert not output.similarity.requires_grad
        assert not lpt.forward_shared(random_images()).requires_grad
        assert not lpt.query(random_images()).requires_grad


def test_backward_leaves_the_backbone_alone() -> None:
    """No gradient is ever computed for a frozen weight."""
    vit = small_vit(depth=DEPTH)
    frozen = FrozenViT(vit)
    lpt = LPT(frozen, num_classes=6, prompt_length=3, shared_blocks=2, pool_size=5).double()
    train_only(lpt, *PARAMETERS)
    output = lpt(random_images())
    (output.cosines.sum() - output.similarity).backward()
    assert all(parameter.grad is None for parameter in frozen.parameters())


def test_only_chosen_groups_receive_gradients() -> None:
    """A prompt or key nobody picked is left alone; every picked one is reached."""
    lpt, _ = build()
    train_only(lpt, *PHASE2)
    output = lpt(random_images(batch=2))
    (output.cosines.pow(2).sum() - output.similarity).backward()
    picked = torch.zeros(5, dtype=torch.bool)
    picked[output.groups.flatten()] = True
    assert 0 < picked.sum() < 5, "choose another seed"
    parameters = dict(lpt.named_parameters())
    for name in ("groups.prompts", "groups.keys"):
        gradient = parameters[name].grad
        assert gradient is not None
        assert torch.equal(gradient.flatten(1).abs().sum(dim=1) > 0, picked), name


# --- precision -------------------------------------------------------------------------------------------------------


def float32_pair(seed: int = 0) -> tuple[LPT, LPT, FrozenViT]:
    """The same LPT over a float32 and over a bfloat16 backbone, and the second backbone."""
    vit = small_vit(seed=seed, dtype=torch.float32)
    textbook = Textbook.random(vit, dtype=torch.float32)
    models, frozen = [], FrozenViT(vit)
    for dtype in (torch.float32, torch.bfloat16):
        frozen = FrozenViT(small_vit(seed=seed, dtype=torch.float32)).to(dtype)
        model = LPT(frozen, num_classes=6, prompt_length=3, shared_blocks=2, pool_size=5, top_k=2)
        load_into(model, textbook)
        models.append(model)
    return models[0], models[1], frozen


@pytest.mark.parametrize("seed", range(4))
def test_bfloat16_backbone(seed: int) -> None:
    """The backbone in bfloat16, prompts, keys and head in float32: float32 cosines within bfloat16's error."""
    tolerance = 0.05
    exact, low, frozen = float32_pair(seed)
    assert {tensor.dtype for tensor in frozen.parameters()} == {torch.bfloat16}
    assert {tensor.dtype for tensor in low.state_dict().values()} == {torch.float32}
    images = random_images(batch=6, dtype=torch.float32)
    with torch.no_grad():
        reference, output = exact(images), low(images)
        assert output.cosines.dtype == output.similarity.dtype == torch.float32
        assert low.forward_shared(images).dtype == torch.float32
        assert (low.forward_shared(images) - exact.forward_shared(images)).abs().max() < tolerance
        matching = cosine(exact.query(images), exact.state_dict()["groups.keys"]).sort(dim=1, descending=True).values
        clear = matching[:, 1] - matching[:, 2] > tolerance  # DESIGN section 3: compare picks only where it is clear
        assert clear.any(), "choose another seed"
        same = output.groups.sort(dim=1).values == reference.groups.sort(dim=1).values
        assert same[clear].all()
        assert (output.cosines - reference.cosines)[clear].abs().max() < tolerance


def test_bfloat16_backbone_trains_float32_prompts() -> None:
    """Gradients arrive in float32 and point the way the float32 backbone's do."""
    exact, low, _ = float32_pair()
    images = random_images(batch=6, dtype=torch.float32)
    gradients = []
    for model in (exact, low):
        train_only(model, *PHASE1)
        model.forward_shared(images)[:, 0].sum().backward()
        gradients.append([dict(model.named_parameters())[name].grad for name in PHASE1])
    for name, reference, gradient in zip(PHASE1, *gradients, strict=True):
        assert gradient.dtype == torch.float32
        alignment = torch.cosine_similarity(gradient.flatten(), reference.flatten(), dim=0)
        assert alignment > 0.98, f"{name}: cosine of the gradients {alignment:.3f}"


def test_matching_is_float32_over_a_bfloat16_backbone() -> None:
    """The cosines that pick groups lose nothing beyond the query itself: checked in float64 from query and keys."""
    _, low, _ = float32_pair()
    images = random_images(batch=6, dtype=torch.float32)
    with torch.no_grad():
        output = low(images)
        matching = cosine(low.query(images).double(), low.state_dict()["groups.keys"].double())
    best = matching.topk(2, dim=1)
    assert torch.equal(output.groups, best.indices)
    assert relative_error(output.similarity, best.values.sum(dim=1).mean()) < 1e-6


@pytest.mark.parametrize("method", ["forward", "forward_shared"])
def test_head_and_matching_are_float32_under_autocast(method: str) -> None:
    """Mixed precision casts matrix products, and a cosine in bfloat16 has two digits."""
    exact, _, _ = float32_pair()
    images = random_images(batch=4, dtype=torch.float32)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        if method == "forward_shared":
            cosines = exact.forward_shared(images)
        else:
            output = exact(images)
            cosines = output.cosines
            matching = cosine(exact.query(images).double(), exact.state_dict()["groups.keys"].double())
            best = matching.topk(2, dim=1)
            assert torch.equal(output.groups, best.indices)
            assert output.similarity.dtype == torch.float32
            assert relative_error(output.similarity, best.values.sum(dim=1).mean()) < 1e-6
    assert cosines.dtype == torch.float32
    rounded = cosines.bfloat16().float()
    assert (rounded != cosines).float().mean() > 0.9, "cosines were rounded to bfloat16 on the way"
