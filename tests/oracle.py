"""The method of DESIGN section 2, written the slow and obvious way, to compare `lpt` against.

Nothing here imports `lpt`. Prompts are real tokens that run through timm's own blocks and are thrown away behind
each of them; the query is a whole pass of its own; the loss is a sum over images and classes. No shortcut of
DESIGN section 3 is used.

Shapes: B images, N tokens (class token first), D width, L blocks, P prompt length, K shared-only blocks,
M pool size, k picks, C classes.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

PARAMETERS = ("shared.tokens", "groups.prompts", "groups.keys", "head.weight")


# --- small random backbones ------------------------------------------------------------------------------------------


def randomise(module: nn.Module, seed: int = 0) -> None:
    """Fill every parameter and running statistic with values none of which is trivial (no zero bias, no unit norm)."""
    generator = torch.Generator().manual_seed(seed)

    def normal(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like.dtype)

    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith("gamma"):  # layer scale
                parameter.copy_(0.6 + 0.3 * normal(parameter))
            elif name.endswith("weight") and parameter.ndim == 1:  # norms, also those of queries and keys
                parameter.copy_(1.0 + 0.4 * normal(parameter))
            elif name.endswith("weight"):
                parameter.copy_(normal(parameter) / math.sqrt(parameter[0].numel()))
            elif name.endswith("bias"):
                parameter.copy_(0.3 * normal(parameter))
            else:  # class token, registers, positions
                parameter.copy_(0.5 * normal(parameter))
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(0.2 * normal(buffer))
            elif name.endswith("running_var"):
                buffer.copy_(0.5 + normal(buffer).abs())


def small_vit(seed: int = 0, dtype: torch.dtype = torch.float64, **kwargs: Any) -> VisionTransformer:
    """A random timm ViT of a few thousand parameters: 24x24 images, patch 8 (N = 10), D = 24, L = 4, 3 heads."""
    sizes: dict[str, Any] = dict(
        img_size=24, patch_size=8, embed_dim=24, depth=4, num_heads=3, mlp_ratio=2.0, num_classes=0
    )
    vit = VisionTransformer(**{**sizes, **kwargs})
    randomise(vit, seed)
    return vit.to(dtype).eval()


def random_images(
    batch: int = 3,
    size: tuple[int, int] = (24, 24),
    channels: int = 3,
    seed: int = 1,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """[B, channels, H, W] standard normal pixels."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, channels, *size, generator=generator, dtype=torch.float64).to(dtype)


# --- the model -------------------------------------------------------------------------------------------------------


@dataclass
class Output:
    """What the final pass of phase 2 gives, and the numbers on the way to it."""

    cosines: Tensor  # [B, C]
    similarity: Tensor  # scalar
    groups: Tensor  # [B, k], by descending cosine
    query: Tensor  # [B, D]
    matching: Tensor  # [B, M] cosine of every key


def cosine(rows: Tensor, columns: Tensor) -> Tensor:
    """[B, D], [C, D] -> [B, C], <a, b> / (|a| |b|)."""
    return (rows @ columns.T) / (rows.norm(dim=1)[:, None] * columns.norm(dim=1)[None, :])


@dataclass
class Textbook:
    """The two-pass model of the paper over timm's own blocks."""

    vit: VisionTransformer
    shared: Tensor  # [L, P, D]
    pool: Tensor  # [M, L-K, P, D]
    keys: Tensor  # [M, D]
    head: Tensor  # [C, D]
    shared_blocks: int
    top_k: int

    @classmethod
    def random(
        cls,
        vit: VisionTransformer,
        num_classes: int = 6,
        prompt_length: int = 3,
        shared_blocks: int = 2,
        pool_size: int = 5,
        top_k: int = 2,
        seed: int = 2,
        dtype: torch.dtype = torch.float64,
    ) -> Textbook:
        """Parameters large enough that leaving any one out changes every digit. The backbone is copied."""
        depth, width = len(vit.blocks), vit.embed_dim
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

        frozen = copy.deepcopy(vit).eval().requires_grad_(False)
        return cls(
            vit=frozen,
            shared=draw(depth, prompt_length, width),
            pool=draw(pool_size, depth - shared_blocks, prompt_length, width),
            keys=draw(pool_size, width),
            head=draw(num_classes, width),
            shared_blocks=shared_blocks,
            top_k=top_k,
        )

    def named(self) -> Iterator[tuple[str, Tensor]]:
        """The four parameters under the names the state dict of `lpt.model.LPT` gives them."""
        yield from zip(PARAMETERS, (self.shared, self.pool, self.keys, self.head), strict=True)

    def state_dict(self) -> dict[str, Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self.named()}

    def train_only(self, *names: str) -> None:
        """Let gradients reach the named parameters, forget those collected before."""
        for name, tensor in self.named():
            tensor.requires_grad_(name in names)
            tensor.grad = None

    def embed(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, N, D], as `VisionTransformer.forward_features` begins."""
        vit = self.vit
        return vit.norm_pre(vit.patch_drop(vit._pos_embed(vit.patch_embed(images))))

    def block(self, i: int, x: Tensor, *prompts: Tensor) -> Tensor:
        """Block i on [x; prompts], outputs at prompt positions dropped."""
        return self.vit.blocks[i](torch.cat([x, *prompts], dim=1))[:, : x.shape[1]]

    def shared_pass(self, images: Tensor) -> Tensor:
        """Class token [B, D] with the shared prompt in every block."""
        x = self.embed(images)
        for i in range(len(self.vit.blocks)):
            x = self.block(i, x, self.shared[i].expand(len(images), -1, -1))
        return self.vit.norm(x)[:, 0]

    def query(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            return self.shared_pass(images)

    def forward_shared(self, images: Tensor, feature_mask: Tensor | None = None) -> Tensor:
        """Phase 1: cosines [B, C]."""
        features = self.shared_pass(images)
        return cosine(features if feature_mask is None else features * feature_mask, self.head)

    def forward(self, images: Tensor, feature_mask: Tensor | None = None) -> Output:
        """Phase 2: query, matching, final pass with the mean of the chosen group prompts."""
        query = self.query(images)
        matching = cosine(query, self.keys)
        chosen, groups = matching.sort(dim=1, descending=True)
        chosen, groups = chosen[:, : self.top_k], groups[:, : self.top_k]
        group_prompt = self.pool[groups].mean(dim=1)  # [B, L-K, P, D]

        x = self.embed(images)
        for i in range(len(self.vit.blocks)):
            prompts = [self.shared[i].expand(len(images), -1, -1)]
            if i >= self.shared_blocks:
                prompts.append(group_prompt[:, i - self.shared_blocks])
            x = self.block(i, x, *prompts)
        features = self.vit.norm(x)[:, 0]
        if feature_mask is not None:
            features = features * feature_mask
        return Output(cosine(features, self.head), chosen.sum(dim=1).mean(), groups, query, matching)

    __call__ = forward


def load_into(model: nn.Module, textbook: Textbook) -> None:
    """Give an `lpt.model.LPT` the four parameters of the textbook model."""
    model.load_state_dict(textbook.state_dict(), strict=True)


def read_from(textbook: Textbook, model: nn.Module) -> None:
    """Give the textbook model the four parameters of an `lpt.model.LPT`."""
    state = model.state_dict()
    textbook.shared, textbook.pool, textbook.keys, textbook.head = (state[name].detach().clone() for name in PARAMETERS)


def train_only(model: nn.Module, *names: str) -> None:
    """Let gradients reach the named parameters of an `lpt.model.LPT` only, forget those collected before."""
    parameters = dict(model.named_parameters())
    for name in PARAMETERS:
        parameters[name].requires_grad_(name in names)
        parameters[name].grad = None


# --- the loss --------------------------------------------------------------------------------------------------------


def textbook_delta(class_counts: Sequence[int]) -> list[float]:
    """delta_c = (log n_max - log n_c) / (log n_max - log n_min), an empty class counting as one image."""
    logs = [math.log(max(int(count), 1)) for count in class_counts]
    span = max(logs) - min(logs)
    return [(max(logs) - value) / span if span > 0 else 0.0 for value in logs]


def textbook_agcl(
    cosines: Tensor,
    labels: Tensor,
    class_counts: Sequence[int],
    gamma_pos: float,
    gamma_neg: float,
    *,
    scale: float = 20.0,
    margin: float = 0.1,
    noise_weight: float = 0.5,
    label_smoothing: float = 0.1,
    noise: Tensor | None = None,
) -> Tensor:
    """Asymmetric Gaussian clouded logit loss in float64, image by image. Gradients are those of the plain form."""
    cosines = cosines.double()
    batch, classes = cosines.shape
    delta = torch.tensor(textbook_delta(class_counts), dtype=torch.float64)
    noise = torch.zeros_like(cosines) if noise is None else noise.double()
    total = torch.zeros((), dtype=torch.float64)
    for b in range(batch):
        is_label = torch.zeros(classes, dtype=torch.float64)
        is_label[int(labels[b])] = 1.0
        u = cosines[b] - noise_weight * delta * noise[b].abs() - margin * is_label
        p = torch.softmax(scale * u, dim=0)
        log_p = torch.log_softmax(scale * u, dim=0)
        target = is_label * (1 - label_smoothing) + label_smoothing / classes
        weight = torch.where(is_label.bool(), (1 - p) ** gamma_pos, p**gamma_neg)
        total = total - (target * weight * log_p).sum()
    return total / batch


def relative_error(value: Tensor, reference: Tensor) -> float:
    """Largest difference over the largest reference value."""
    assert value.shape == reference.shape, f"shapes differ: {tuple(value.shape)} and {tuple(reference.shape)}"
    if reference.numel() == 0:
        return 0.0
    value, reference = value.detach().double(), reference.detach().double()
    assert torch.isfinite(value).all(), "not finite"
    return float((value - reference).abs().max() / reference.abs().max().clamp_min(1e-300))
