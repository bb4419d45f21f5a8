"""The Vision Transformer, its optimizers, and how often it is right."""

from __future__ import annotations

import argparse
from typing import Any

import torch
from timm.layers import build_sincos2d_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from scripts.demo_backbone.augment import IMAGE_SIZE, augment, plain

ARCHITECTURE: dict[str, Any] = {
    "img_size": IMAGE_SIZE,
    "patch_size": 4,
    "in_chans": 3,
    "embed_dim": 128,
    "depth": 6,
    "num_heads": 4,
    "class_token": True,
    "global_pool": "token",
}


def build_model(classes: int) -> VisionTransformer:
    """The backbone with a head; attention unfused, whose backward pass is several times faster on a CPU."""
    model = VisionTransformer(**ARCHITECTURE, num_classes=classes)
    for block in model.blocks:
        block.attn.fused_attn = False
    for weight in matrices(model):
        torch.nn.init.xavier_uniform_(weight)
    with torch.no_grad():
        torch.nn.init.xavier_uniform_(model.patch_embed.proj.weight.flatten(1))
        positions = build_sincos2d_pos_embed([*model.patch_embed.grid_size], model.embed_dim)
        model.pos_embed[0, 1:] = 0.5 * positions
    return model


def matrices(model: VisionTransformer) -> list[torch.nn.Parameter]:
    """The weight matrices inside the blocks."""
    return [p for p in model.blocks.parameters() if p.ndim == 2]


def build_optimizers(model: VisionTransformer, args: argparse.Namespace) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for the rest: much further in few steps than AdamW alone."""
    hidden = matrices(model)
    chosen = {id(p) for p in hidden}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    muon = torch.optim.Muon(hidden, lr=args.muon_lr, momentum=0.95, weight_decay=args.weight_decay)
    adam = torch.optim.AdamW(rest, lr=args.lr, betas=(0.9, 0.98), weight_decay=args.weight_decay, fused=True)
    for optimizer in (muon, adam):
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return [muon, adam]


def logits(model: VisionTransformer, x: Tensor) -> Tensor:
    """A forward pass in bfloat16."""
    with torch.autocast("cpu", torch.bfloat16):
        return model(x).float()


@torch.no_grad()
def accuracy(model: VisionTransformer, images: Tensor, labels: Tensor, rng: torch.Generator | None) -> float:
    """Top-1 in per cent; augmented when a generator is given."""
    model.eval()
    right = 0
    for part, truth in zip(images.split(256), labels.split(256), strict=True):
        x = plain(part) if rng is None else augment(part, rng)
        right += int((logits(model, x).argmax(1) == truth).sum())
    model.train()
    return 100.0 * right / max(1, len(labels))
