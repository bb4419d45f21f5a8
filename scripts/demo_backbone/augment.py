"""Training pictures: batches of renders deformed, restroked and coarsened on the fly."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from scripts.demo_backbone.glyphs import CANVAS

IMAGE_SIZE = 32  # pixels: what the model sees
WORK_SIZE = 48  # pixels: the size at which renders are deformed
MEAN, STD = 0.5, 0.5


def uniform(shape: tuple[int, ...], low: float, high: float, rng: torch.Generator) -> Tensor:
    """Uniform draws in [low, high)."""
    return torch.rand(shape, generator=rng) * (high - low) + low


def deform(images: Tensor, rng: torch.Generator, strength: float = 1.0) -> Tensor:
    """Random affine map and smooth elastic displacement: [b, 1, 64, 64] to [b, 1, 48, 48], never mirrored."""
    b = len(images)
    angle = uniform((b,), -20, 20, rng) * (math.pi / 180) * strength
    zoom = uniform((b,), math.log(0.85), math.log(1.25), rng)
    stretch = uniform((b,), -0.25, 0.25, rng) * strength
    sx, sy = torch.exp(-(zoom + stretch)), torch.exp(-(zoom - stretch))
    shear = uniform((b,), -0.3, 0.3, rng) * strength
    shift = uniform((b, 2), -0.12, 0.12, rng) * strength
    cos, sin = torch.cos(angle), torch.sin(angle)
    first = torch.stack([sx * cos, sx * (shear * cos - sin), shift[:, 0]], 1)
    second = torch.stack([sy * sin, sy * (shear * sin + cos), shift[:, 1]], 1)
    grid = F.affine_grid(torch.stack([first, second], 1), [b, 1, WORK_SIZE, WORK_SIZE], align_corners=False)
    amplitude = uniform((b, 1, 1, 1), 0.0, 0.13, rng) * strength
    bumps = torch.randn((b, 2, 5, 5), generator=rng).clamp_(-2, 2) * amplitude
    smooth = F.interpolate(bumps, size=(WORK_SIZE, WORK_SIZE), mode="bicubic", align_corners=False)
    return F.grid_sample(images, grid + smooth.permute(0, 2, 3, 1), padding_mode="zeros", align_corners=False)


def restroke(images: Tensor, rng: torch.Generator) -> Tensor:
    """Thin or thicken the strokes by up to two pixels of 48, then blur by a random amount."""
    amount = uniform((len(images), 1, 1, 1), -0.7, 1.6, rng)
    thin = -F.max_pool2d(-images, 3, 1, 1)
    thick = F.max_pool2d(images, 3, 1, 1)
    thicker = F.max_pool2d(thick, 3, 1, 1)
    images = torch.where(
        amount < 0,
        images + (thin - images) * -amount,
        images + (thick - images) * amount.clamp(0, 1) + (thicker - thick) * (amount - 1).clamp(0, 1),
    )
    soft = F.avg_pool2d(F.avg_pool2d(images, 3, 1, 1), 3, 1, 1)
    return torch.lerp(images, soft, uniform((len(images), 1, 1, 1), 0.0, 1.0, rng))


def coarsen(images: Tensor, rng: torch.Generator, strength: float = 1.0) -> Tensor:
    """Average down to a random 7x7 to 20x20, quantise or add noise there, and interpolate up to 32x32."""
    size = IMAGE_SIZE
    parts = []
    for part in images.split(16):
        draw = float(torch.rand((), generator=rng))
        lowest = 7 + round(7 * (1 - strength))
        side = lowest + int((21 - lowest) * draw**1.5)  # 7..20, the low ones more often
        small = F.adaptive_avg_pool2d(part, side)
        peak = small.amax((1, 2, 3), keepdim=True).clamp_min(0.1)
        small = small / peak
        if torch.rand((), generator=rng) < 0.5:
            small = (small * 16).round() / 16
        grain = torch.randn(small.shape, generator=rng)
        small = small + grain * uniform((len(part), 1, 1, 1), 0.0, 0.06, rng)
        mode = "bilinear" if torch.rand((), generator=rng) < 0.6 else "bicubic"
        parts.append(F.interpolate(small, size=(size, size), mode=mode, align_corners=False))
    return torch.cat(parts)


def augment(images: Tensor, rng: torch.Generator, strength: float = 1.0) -> Tensor:
    """Training pictures from renders: uint8 [b, 64, 64] to normalised float32 [b, 3, 32, 32]."""
    b = len(images)
    x = deform(images[:, None].float() / 255, rng, strength)
    x = coarsen(restroke(x, rng), rng, strength).clamp(0, 1)
    x = x ** torch.exp(uniform((b, 1, 1, 1), -0.5, 0.5, rng))
    dark, light = uniform((b, 1, 1, 1), -0.05, 0.2, rng), uniform((b, 1, 1, 1), 0.65, 1.05, rng)
    x = dark + (light - dark) * x
    x = x + torch.randn(x.shape, generator=rng) * uniform((b, 1, 1, 1), 0.0, 0.03, rng)
    x = torch.where(torch.rand((b, 1, 1, 1), generator=rng) < 0.15, 1 - x, x).clamp(0, 1)
    return normalise(x)


def plain(images: Tensor) -> Tensor:
    """Pictures without augmentation: the render averaged down to 32x32."""
    return normalise(F.avg_pool2d(images[:, None].float() / 255, CANVAS // IMAGE_SIZE))


def normalise(x: Tensor) -> Tensor:
    """One channel in [0, 1] to the three normalised ones of the model."""
    return ((x - MEAN) / STD).expand(-1, 3, -1, -1)
