"""`lpt.model.LPT` against the textbook two-pass model, over every kind of backbone DESIGN section 4 promises."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
import torch
from timm.layers import GluMlp, HybridEmbed, LayerNorm, RmsNorm, SwiGLU, SwiGLUPacked
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

import lpt.model.backbone
from lpt.model import LPT, FrozenViT
from lpt.model.adapters import Adapters
from oracle import (
    PARAMETERS,
    Textbook,
    cosine,
    load_into,
    random_images,
    randomise,
    read_from,
    relative_error,
    small_vit,
    train_only,
)

TOLERANCE = 1e-9
POOL = 5


class SmallConv(nn.Sequential):
    """A convolutional stem with batch statistics, halving the image."""

    def __init__(self, channels: int = 6) -> None:
        super().__init__(nn.Conv2d(3, channels, 3, stride=2, padding=1), nn.BatchNorm2d(channels), nn.ReLU())


def hybrid(**kwargs: Any) -> HybridEmbed:
    """Conv stem (stride 2), then 4x4 patches of its map: 8x8 pixels of the image."""
    return HybridEmbed(SmallConv(), **{**kwargs, "patch_size": 4})


def resize(vit: VisionTransformer) -> None:
    vit.set_input_size(img_size=(16, 40))


def checkpointing(vit: VisionTransformer) -> None:
    vit.set_grad_checkpointing(True)


def unfused(vit: VisionTransformer) -> None:
    for block in vit.blocks:
        block.attn.fused_attn = False


def leave(vit: VisionTransformer) -> None:
    """Nothing to do behind the constructor."""


@dataclass
class Arch:
    """A backbone: arguments of `VisionTransformer`, what is done to it afterwards, the images it is given."""

    kwargs: dict[str, Any] = field(default_factory=dict)
    size: tuple[int, int] = (24, 24)
    channels: int = 3
    after: Callable[[VisionTransformer], None] = leave


ARCHITECTURES: dict[str, Arch] = {
    "plain": Arch(),
    "deit3": Arch(dict(no_embed_class=True, init_values=1e-6)),
    "dinov2": Arch(dict(init_values=1e-5)),
    "dinov2_registers": Arch(dict(reg_tokens=4, no_embed_class=True, init_values=1e-5)),
    "registers_with_positions": Arch(dict(reg_tokens=4, no_embed_class=False, init_values=1e-5)),
    "clip": Arch(dict(pre_norm=True, act_layer="quick_gelu", norm_layer=partial(LayerNorm, eps=1e-5))),
    "qk_norm": Arch(dict(qk_norm=True)),
    "qk_norm_rms": Arch(dict(qk_norm=True, qkv_bias=False, norm_layer=RmsNorm)),
    "no_qkv_bias": Arch(dict(qkv_bias=False)),
    "no_proj_bias": Arch(dict(proj_bias=False)),
    "dynamic_size": Arch(dict(dynamic_img_size=True), size=(32, 16)),
    "dynamic_size_no_embed_class": Arch(dict(dynamic_img_size=True, no_embed_class=True, reg_tokens=2), size=(16, 40)),
    "dynamic_pad": Arch(dict(dynamic_img_size=True, dynamic_img_pad=True), size=(30, 21)),
    "oblong": Arch(dict(img_size=(16, 32)), size=(16, 32)),
    "resized": Arch(size=(16, 40), after=resize),
    "patch_12_depth_2": Arch(dict(patch_size=12, depth=2)),
    "patch_6_depth_5": Arch(dict(patch_size=6, depth=5, embed_dim=32, num_heads=2)),
    "one_patch": Arch(dict(patch_size=24, depth=3)),
    "swiglu": Arch(dict(mlp_layer=SwiGLU, act_layer=nn.SiLU)),
    "swiglu_packed": Arch(dict(mlp_layer=SwiGLUPacked, act_layer=nn.SiLU, init_values=1e-5)),
    "glu": Arch(dict(mlp_layer=GluMlp)),
    "rms_norm": Arch(dict(norm_layer=RmsNorm)),
    "torch_norm": Arch(dict(norm_layer=partial(nn.LayerNorm, eps=1e-5))),
    "aimv2_like": Arch(
        dict(norm_layer=partial(RmsNorm, eps=1e-5), embed_norm_layer=RmsNorm, mlp_layer=SwiGLU, qkv_bias=False)
        | dict(proj_bias=False, act_layer="silu")
    ),
    "hybrid": Arch(dict(embed_layer=hybrid)),
    "hybrid_dynamic": Arch(dict(embed_layer=hybrid, dynamic_img_size=True), size=(32, 16)),
    "no_positions": Arch(dict(pos_embed="none")),
    "no_positions_dynamic": Arch(dict(pos_embed="none", dynamic_img_size=True, reg_tokens=1), size=(16, 24)),
    "one_channel": Arch(dict(in_chans=1), channels=1),
    "dropout_rates": Arch(
        dict(drop_rate=0.5, pos_drop_rate=0.5, patch_drop_rate=0.5, proj_drop_rate=0.5)
        | dict(attn_drop_rate=0.5, drop_path_rate=0.5)
    ),
    "checkpointing": Arch(after=checkpointing),
    "unfused_attention": Arch(dict(qk_norm=True), after=unfused),
    "everything": Arch(
        dict(pre_norm=True, reg_tokens=2, no_embed_class=True, init_values=1e-3, qk_norm=True, qkv_bias=False)
        | dict(norm_layer=RmsNorm, mlp_layer=SwiGLU, dynamic_img_size=True, depth=5, num_heads=4),
        size=(32, 24),
    ),
}


def build(
    arch: str, shared_blocks: int | None = None, top_k: int = 2, prompt_length: int = 3, batch: int = 3
) -> tuple[Textbook, LPT, Tensor]:
    """Textbook model and LPT with the same parameters over the same backbone, and images for them."""
    spec = ARCHITECTURES[arch]
    vit = small_vit(**spec.kwargs)
    spec.after(vit)
    randomise(vit, seed=3)
    shared_blocks = len(vit.blocks) // 2 if shared_blocks is None else shared_blocks
    textbook = Textbook.random(
        vit, prompt_length=prompt_length, shared_blocks=shared_blocks, pool_size=POOL, top_k=top_k
    )
    lpt = LPT(
        FrozenViT(vit),
        num_classes=len(textbook.head),
        prompt_length=prompt_length,
        shared_blocks=shared_blocks,
        pool_size=POOL,
        top_k=top_k,
    ).double()
    load_into(lpt, textbook)
    lpt.train()  # everything must hold while training: dropout and batch statistics of the backbone stay off
    return textbook, lpt, random_images(batch, spec.size, spec.channels)


def assert_close(value: Tensor, reference: Tensor, what: str) -> None:
    error = relative_error(value, reference)
    assert error <= TOLERANCE, f"{what}: relative error {error:.1e}"


def assert_same_outputs(lpt: LPT, textbook: Textbook, images: Tensor, mask: Tensor | None = None) -> None:
    kwargs = {} if mask is None else {"feature_mask": mask}
    reference, output = textbook(images, mask), lpt(images, **kwargs)
    ranked = reference.matching.sort(dim=1, descending=True).values
    assert (ranked[:, :-1] - ranked[:, 1:]).min() > 1e-6, "a tie: choose another seed, picks would hang on rounding"
    assert_close(lpt.query(images), reference.query, "query")
    assert torch.equal(output.groups, reference.groups), "groups chosen, in order"
    assert_close(output.similarity, reference.similarity, "similarity")
    assert_close(output.cosines, reference.cosines, "phase 2 cosines")
    assert_close(lpt.forward_shared(images, **kwargs), textbook.forward_shared(images, mask), "phase 1 cosines")


def probe(output: Any, seed: int = 7) -> Tensor:
    """A scalar in which every cosine and the similarity count differently."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(output.cosines.shape, generator=generator, dtype=torch.float64)
    return (weights * output.cosines).sum() - 0.7 * output.similarity


def assert_same_gradients(lpt: LPT, textbook: Textbook, trained: tuple[str, ...]) -> None:
    parameters = dict(lpt.named_parameters())
    for name, reference in textbook.named():
        gradient = parameters[name].grad
        if name not in trained:
            assert gradient is None, f"{name} is frozen"
            continue
        assert reference.grad is not None, f"{name}: the reference sees nothing"
        assert reference.grad.abs().max() > 1e-6, f"{name}: the reference sees nothing"
        assert gradient is not None, f"{name}: no gradient"
        assert_close(gradient, reference.grad, f"gradient of {name}")


@pytest.mark.parametrize("arch", list(ARCHITECTURES))
def test_without_prompts_it_is_timm(arch: str) -> None:
    """(a) P = 0 leaves timm's own class token and a cosine head, in both phases."""
    textbook, lpt, images = build(arch, prompt_length=0)
    with torch.no_grad():
        token = textbook.vit.forward_features(images)[:, 0]
        assert_close(lpt.query(images), token, "class token")
        assert_close(lpt.forward_shared(images), cosine(token, textbook.head), "phase 1 cosines")
        assert_close(lpt(images).cosines, cosine(token, textbook.head), "phase 2 cosines")


@pytest.mark.parametrize("arch", list(ARCHITECTURES))
def test_outputs(arch: str) -> None:
    """(b) Query, picks, similarity and cosines are those of tokens run through timm's blocks, for every K and k."""
    depth = ARCHITECTURES[arch].kwargs.get("depth", 4)
    with torch.no_grad():
        for shared_blocks in sorted({0, depth // 2, depth - 1}):
            for top_k in (1, 2, POOL):
                textbook, lpt, images = build(arch, shared_blocks, top_k)
                assert_same_outputs(lpt, textbook, images)


@pytest.mark.parametrize("arch", list(ARCHITECTURES))
def test_gradients_phase1(arch: str) -> None:
    """(c) Phase 1: shared prompt and head receive the textbook's gradients, pool and keys none."""
    textbook, lpt, images = build(arch)
    trained = ("shared.tokens", "head.weight")
    textbook.train_only(*trained)
    train_only(lpt, *trained)
    weights = random_images(1, (len(images), len(textbook.head)), 1)[0, 0]
    (weights * textbook.forward_shared(images)).sum().backward()
    (weights * lpt.forward_shared(images)).sum().backward()
    assert_same_gradients(lpt, textbook, trained)


@pytest.mark.parametrize("trained", [PARAMETERS[1:], PARAMETERS], ids=["phase2", "everything"])
@pytest.mark.parametrize("arch", list(ARCHITECTURES))
def test_gradients_phase2(arch: str, trained: tuple[str, ...]) -> None:
    """(c) Phase 2, and with the shared prompt trained along: the same gradients, none of them through the query."""
    textbook, lpt, images = build(arch)
    textbook.train_only(*trained)
    train_only(lpt, *trained)
    probe(textbook(images)).backward()
    probe(lpt(images)).backward()
    assert_same_gradients(lpt, textbook, trained)


@pytest.mark.parametrize("top_k", [1, 2, POOL])
@pytest.mark.parametrize("shared_blocks", [0, 1, 2, 3])
@pytest.mark.parametrize("arch", ["plain", "everything"])
def test_gradients_for_every_split(arch: str, shared_blocks: int, top_k: int) -> None:
    """(c) Where the group prompts begin and how many are picked changes no gradient's agreement."""
    textbook, lpt, images = build(arch, shared_blocks, top_k)
    textbook.train_only(*PARAMETERS)
    train_only(lpt, *PARAMETERS)
    probe(textbook(images)).backward()
    probe(lpt(images)).backward()
    assert_same_gradients(lpt, textbook, PARAMETERS)


@pytest.mark.parametrize("trained", [(name,) for name in PARAMETERS[1:]] + [PARAMETERS[:1], PARAMETERS[:2]], ids=str)
def test_gradients_of_any_subset(trained: tuple[str, ...]) -> None:
    """The graph follows requires_grad: whatever subset is trained, it gets the same gradient and the rest none."""
    textbook, lpt, images = build("plain", shared_blocks=1)
    textbook.train_only(*trained)
    train_only(lpt, *trained)
    probe(textbook(images)).backward()
    probe(lpt(images)).backward()
    assert_same_gradients(lpt, textbook, trained)


@pytest.mark.parametrize("arch", ["plain", "everything"])
def test_plain_attention(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention written out, which low precision on the CPU uses, is the fused kernel's to rounding."""
    monkeypatch.setattr(lpt.model.backbone, "_plain_is_faster", lambda *tensors: True)
    textbook, model, images = build(arch)
    with torch.no_grad():
        assert_same_outputs(model, textbook, images)
    textbook.train_only(*PARAMETERS)
    train_only(model, *PARAMETERS)
    probe(textbook(images)).backward()
    probe(model(images)).backward()
    assert_same_gradients(model, textbook, PARAMETERS)


class WithAdapters(Textbook):
    """The two-pass model with an adapter beside the MLP of every block, in the query as in the final pass."""

    adapters: Adapters

    def block(self, i: int, x: Tensor, *prompts: Tensor) -> Tensor:
        block, tokens = self.vit.blocks[i], torch.cat([x, *prompts], dim=1)
        tokens = tokens + block.ls1(block.attn(block.norm1(tokens)))
        return (tokens + block.ls2(block.mlp(block.norm2(tokens))) + self.adapters(i, tokens))[:, : x.shape[1]]


@pytest.mark.parametrize("shared_blocks", [0, 2, 3])
def test_adapters_belong_to_what_all_images_share(shared_blocks: int) -> None:
    """Outputs and gradients; their own gradient in phase 1."""
    plain, lpt, images = build("everything", shared_blocks)
    depth, width = lpt.backbone.depth, lpt.backbone.width
    adapters = Adapters(depth, width, 3, norm=True, scale=None).double()
    randomise(adapters, seed=5)
    model = LPT(
        lpt.backbone, len(plain.head), len(plain.shared[0]), shared_blocks, POOL, plain.top_k, adapters=adapters
    ).double()
    model.load_state_dict({**lpt.state_dict(), **{f"adapters.{n}": t for n, t in adapters.state_dict().items()}})
    textbook = WithAdapters(**vars(plain))
    textbook.adapters = copy.deepcopy(adapters)

    assert_same_outputs(model, textbook, images)
    train_only(model, *PARAMETERS)
    textbook.train_only(*PARAMETERS)
    probe(textbook(images)).backward()
    probe(model(images)).backward()
    assert_same_gradients(model, textbook, PARAMETERS)

    for classifier in (model, textbook):
        classifier.adapters.zero_grad()
        classifier.forward_shared(images).square().sum().backward()
    for got, reference in zip(adapters.parameters(), textbook.adapters.parameters(), strict=True):
        assert got.grad is not None
        assert reference.grad is not None
        assert_close(got.grad, reference.grad, "gradient of an adapter")


@pytest.mark.parametrize("shared_blocks", [0, 2, 3])
def test_forward_is_encode_and_classify(shared_blocks: int) -> None:
    """What `forward` computes once for both passes changes nothing: outputs and gradients of the two parts."""
    _, model, images = build("everything", shared_blocks)
    gradients = []
    for run in (lambda: model(images), lambda: model.classify(model.encode(images))):
        train_only(model, *PARAMETERS)
        output = run()
        probe(output).backward()
        gradients.append(
            [output.cosines, *(parameter.grad for parameter in model.parameters() if parameter.requires_grad)]
        )
    for value, reference in zip(*gradients, strict=True):
        assert_close(value, reference, "forward against encode and classify")


@pytest.mark.parametrize("arch", ["plain", "everything"])
def test_feature_mask(arch: str) -> None:
    """(d) The mask multiplies the class token before the head, nothing else: query, picks, similarity stay."""
    textbook, lpt, images = build(arch)
    generator = torch.Generator().manual_seed(5)
    keep = torch.rand(len(images), textbook.vit.embed_dim, generator=generator) > 0.3
    mask = keep.double() / 0.7
    assert_same_outputs(lpt, textbook, images, mask)
    assert relative_error(lpt(images, feature_mask=mask).cosines, textbook(images).cosines) > 1e-3, "mask unused"
    assert_close(lpt(images, feature_mask=torch.ones_like(mask)).cosines, textbook(images).cosines, "mask of ones")

    textbook.train_only(*PARAMETERS)
    train_only(lpt, *PARAMETERS)
    probe(textbook(images, mask)).backward()
    probe(lpt(images, feature_mask=mask)).backward()
    assert_same_gradients(lpt, textbook, PARAMETERS)


def test_images_do_not_see_each_other() -> None:
    """An image's cosines and picks are its own whatever batch it comes in; similarity is the batch's mean."""
    _, lpt, images = build("plain", batch=5)
    with torch.no_grad():
        whole = lpt(images)
        alone = [lpt(image[None]) for image in images]
    assert len({tuple(groups.tolist()) for groups in whole.groups}) > 1, "a batch in which picks differ"
    assert_close(torch.cat([output.cosines for output in alone]), whole.cosines, "cosines")
    assert torch.equal(torch.cat([output.groups for output in alone]), whole.groups)
    assert_close(torch.stack([output.similarity for output in alone]).mean(), whole.similarity, "similarity")


def test_own_initialisation() -> None:
    """As initialised (small prompts, default K = half the blocks) it agrees too, not only where we put it."""
    vit = small_vit()
    lpt = LPT(FrozenViT(vit), num_classes=6, prompt_length=4, pool_size=POOL, top_k=2).double()
    textbook = Textbook.random(vit, prompt_length=4, shared_blocks=2, pool_size=POOL, top_k=2)
    read_from(textbook, lpt)
    with torch.no_grad():
        assert_same_outputs(lpt, textbook, random_images())


def test_float32() -> None:
    """Equal to rounding in the precision that is used (DESIGN section 3, item 1: 8e-6 for ViT-B)."""
    vit = small_vit(dtype=torch.float32)
    textbook = Textbook.random(vit, dtype=torch.float32)
    lpt = LPT(FrozenViT(vit), num_classes=6, prompt_length=3, shared_blocks=2, pool_size=POOL, top_k=2)
    load_into(lpt, textbook)
    images = random_images(dtype=torch.float32)
    textbook.train_only(*PARAMETERS)
    train_only(lpt, *PARAMETERS)
    reference, output = textbook(images), lpt(images)
    assert output.cosines.dtype == torch.float32
    assert torch.equal(output.groups, reference.groups)
    assert relative_error(output.cosines, reference.cosines) < 2e-5
    probe(reference).backward()
    probe(output).backward()
    for name, tensor in textbook.named():
        gradient = dict(lpt.named_parameters())[name].grad
        assert gradient is not None
        assert tensor.grad is not None
        assert relative_error(gradient, tensor.grad) < 1e-4, name
