"""The methods that LPT is compared with, as one model on the same frozen blocks."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lpt.errors import ConfigError
from lpt.model.adapters import Adapters
from lpt.model.backbone import FrozenViT
from lpt.model.head import CosineHead, Head, LinearHead
from lpt.model.prompts import SharedPrompt

Weights = Literal["none", "biases", "last_blocks", "all"]
LORA_TARGETS = r"blocks\.\d+\.attn\.(qkv|proj)"  # not the patch embedding, whose layer is named proj too


class TunedViT(nn.Module):
    """A backbone with a head and any of: a shared prompt, adapters, LoRA, trained weights of the backbone.

    `state_dict()` holds the trained tensors and nothing else: `shared.tokens` [L, P, D] (deep) or [1, P, D] (shallow),
    `adapters.*` [L, ...], `lora.*`, `weights.*` (names of the backbone's tensors, with `/` for `.`) and `head.*`.
    If weights train or carry LoRA, the model has a copy of the backbone; it shares the large frozen tensors.

    Args:
        backbone: the Vision Transformer, of L blocks and width D; it is not changed.
        num_classes: classes C.
        prompts: `none`; `deep`: prompt tokens for every block, whose output is dropped (VPT-deep, Jia et al., ECCV
            2022, eq. 5); `shallow`: prompt tokens that enter before the first block and go through all (eq. 4).
        prompt_length: prompt tokens P.
        adapters: adapters beside every MLP; None: none.
        lora_rank: rank of LoRA (Hu et al., ICLR 2022) on the attention's projections, by the peft library; 0: none.
        weights: which weights of the backbone train: none, the biases (BitFit, Ben Zaken et al., ACL 2022), the last
            blocks and the final norm, or all.
        last_blocks: number of blocks that train with `weights="last_blocks"`.
        head: cosine or linear.

    Raises:
        ConfigError: a size is out of range, or LoRA is wanted and peft is not installed.
    """

    def __init__(
        self,
        backbone: FrozenViT,
        num_classes: int,
        *,
        prompts: Literal["none", "deep", "shallow"] = "none",
        prompt_length: int = 10,
        adapters: Adapters | None = None,
        lora_rank: int = 0,
        weights: Weights = "none",
        last_blocks: int = 2,
        head: Literal["cosine", "linear"] = "linear",
    ) -> None:
        super().__init__()
        if num_classes < 2:
            raise ConfigError(f"num_classes must be at least 2, got {num_classes}")
        if weights == "last_blocks" and not 1 <= last_blocks <= backbone.depth:
            raise ConfigError(f"last_blocks must lie in 1..{backbone.depth} for this backbone, got {last_blocks}")
        chosen = chosen_weights(backbone, weights, last_blocks)
        self.changes_backbone = bool(chosen) or lora_rank > 0
        if self.changes_backbone:
            backbone = backbone.with_own(chosen | _vectors(backbone))
        self.backbone: FrozenViT
        object.__setattr__(self, "backbone", backbone)  # not a submodule: its trained weights are registered below
        self.low_precision = False
        depth, width = backbone.depth, backbone.width
        self.weights = _Named({name: tensor for name, tensor in backbone.vit.named_parameters() if name in chosen})
        self.lora = _Named(_with_lora(backbone, lora_rank) if lora_rank else {})
        self.shallow = prompts == "shallow"
        blocks = {"none": 0, "shallow": 1, "deep": depth}[prompts]
        self.shared = SharedPrompt(blocks, prompt_length, width) if blocks else None
        self.adapters = adapters
        self.head: Head = (CosineHead if head == "cosine" else LinearHead)(num_classes, width)

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any) -> TunedViT:
        self.backbone._apply(fn, *args, **kwargs)  # type: ignore[no-untyped-call]
        super()._apply(fn, *args, **kwargs)  # type: ignore[no-untyped-call]
        return self

    def forward_shared(self, images: Tensor, *, feature_mask: Tensor | None = None) -> Tensor:
        """Classify images: the head gives cosines or logits.

        Args:
            images: [B, 3, height, width].
            feature_mask: factor on the features (dropout), [B, D].

        Returns:
            [B, C].
        """
        features = self.features(images)
        return self.head(features if feature_mask is None else features * feature_mask)

    def plain_features(self, images: Tensor) -> Tensor:
        """Return features without prompts and adapters, [B, 3, height, width] -> [B, D]; training starts from them."""
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=self.low_precision):
            return self.backbone.features(images)

    def features(self, images: Tensor) -> Tensor:
        """Return class-token features, [B, 3, height, width] -> [B, D]."""
        vit = self.backbone
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=self.low_precision):
            tokens = vit.embed(images)
            if self.shallow and self.shared is not None:
                prompt = self.shared.tokens.to(tokens.dtype).expand(tokens.shape[0], -1, -1)
                tokens = torch.cat([tokens, prompt], dim=1)
            for layer in range(vit.depth):
                deep = self.shared is not None and not self.shallow
                prompts = [vit.prompt_key_value(layer, self.shared.tokens[layer])] if deep else []  # type: ignore[union-attr]
                last = layer == vit.depth - 1
                tokens = vit.block(layer, tokens, prompts, class_token_only=last, adapters=self.adapters)
            return vit.norm(tokens)[:, 0]


class _Named(nn.Module):
    """Parameters of another module, registered by the names that they have in it."""

    def __init__(self, parameters: dict[str, nn.Parameter]) -> None:
        super().__init__()
        for name, parameter in parameters.items():
            self.register_parameter(name.replace(".", "/"), parameter)


def chosen_weights(backbone: FrozenViT, weights: Weights, last_blocks: int) -> set[str]:
    """Return the names of the backbone's tensors that train."""
    names = [name for name, _ in backbone.vit.named_parameters()]
    if weights == "biases":
        return {name for name in names if name.endswith("bias")}
    if weights == "last_blocks":
        last = tuple(f"blocks.{layer}." for layer in range(backbone.depth - last_blocks, backbone.depth))
        return {name for name in names if name.startswith((*last, "norm."))}
    return set(names) if weights == "all" else set()


def lora_targets(backbone: FrozenViT) -> dict[str, nn.Linear]:
    """Return the layers of a plain backbone that get LoRA, by name."""
    layers = backbone.vit.named_modules()
    return {name: layer for name, layer in layers if re.fullmatch(LORA_TARGETS, name) and isinstance(layer, nn.Linear)}


def _vectors(backbone: FrozenViT) -> set[str]:
    """Return the names of norms and biases: small tensors that stay in float32 under autocast."""
    return {name for name, tensor in backbone.vit.named_parameters() if tensor.ndim <= 1}


def _with_lora(backbone: FrozenViT, rank: int) -> dict[str, nn.Parameter]:
    """Put LoRA on the attention projections of a backbone, in place; return the parameters of LoRA by name."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise ConfigError("LoRA needs the peft library: pip install '.[lora]' in the folder of LPT") from None
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=LORA_TARGETS, lora_dropout=0.0, bias="none")
    inject_adapter_in_model(config, backbone.vit)
    return {name: tensor for name, tensor in backbone.vit.named_parameters() if ".lora_" in name}
