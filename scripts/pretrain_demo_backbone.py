"""Pretrain the small Vision Transformer that `lpt demo` keeps frozen.

The demo adapts a frozen backbone to handwritten digits, so the backbone must never have seen one. It learns to
tell apart letters and symbols of many scripts, rendered from the DejaVu and STIX fonts that matplotlib ships.
Left out: every code point of Unicode category N, everything whose compatibility decomposition or name holds a
number, and every glyph whose picture nearly equals that of one of the digits 0-9 in its own font. The
handwritten digits play no part in any choice made here; whatever is measured is measured on glyph renders that
were held out of training.

Command::

    python scripts/pretrain_demo_backbone.py --minutes 19.3 --threads 1 --work /tmp/lpt-demo-backbone

It ran on one thread of a 2-core Intel Xeon with AMX (bfloat16), which other processes shared: 1159 s, 2230 steps,
285,440 images of 1,000 classes. Result: 49.9 % top-1 on 1,250 held-out renders, 39.9 % with the training
augmentation. The schedule follows the clock, so a second run comes out alike, not equal.

It writes `src/lpt/demo/backbone/model.safetensors` (float16, no head) and `model.json`. Interrupted, the
same command goes on from its last checkpoint, at most two minutes old.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import re
import sys
import time
import unicodedata
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fontTools
import matplotlib
import numpy as np
import PIL
import safetensors
import safetensors.torch
import timm
import torch
import torch.nn.functional as F
from fontTools.ttLib import TTFont
from PIL import Image, ImageFont
from timm.layers import PatchDropout, build_sincos2d_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

ARCHITECTURE: dict[str, Any] = {
    "img_size": 32,
    "patch_size": 4,
    "in_chans": 3,
    "embed_dim": 128,
    "depth": 6,
    "num_heads": 4,
    "class_token": True,
    "global_pool": "token",
}
MEAN, STD = 0.5, 0.5
CANVAS, INK = 64, 52  # pixels: a stored render, and the longer side of the ink box inside it
WORK_SIZE = 48  # pixels: the size at which renders are deformed
CHECKPOINT_SECONDS = 120.0
# Until the last third, training sees a random 60 % of an image's patches: nearly twice the images in the same time.
PATCH_DROPOUT, WHOLE = PatchDropout(0.4), nn.Identity()

# The cm* fonts are left out: their cmap puts glyphs at code points that are not theirs (TeX encodings), so a
# digit may sit where a letter is announced. STIXSiz* and STIXNonUni* hold only private or oversized glyphs.
FONT_PREFIXES = ("DejaVu", "STIXGeneral")
NUMBER_WORDS = re.compile(
    r"\b(DIGITS?|NUMBER|NUMERAL|FRACTION|ZERO|ONE|TWO|THREE|FOUR|FIVE|SIX|SEVEN|EIGHT|NINE|TEN|ELEVEN|TWELVE|"
    r"HUNDRED|THOUSAND|HALF|SECOND|THIRD|CUBE|FOURTH|QUARTER|PERCENT)\b"
)
# Pictures of numbers (dice, cards, dominoes), and dot or bar patterns that no low resolution can tell apart.
PATTERN_WORDS = re.compile(r"\b(DIE|PLAYING|DOMINO|BRAILLE|HEXAGRAM|TETRAGRAM|TRIGRAM|BOX|MONOGRAM|DIGRAM|CLOCK)\b")
DIGIT_GLYPHS = re.compile(r"(zero|one|two|three|four|five|six|seven|eight|nine)($|[._])")
# Squared distance of two renders over the larger squared norm, below which
MERGE_DISTANCE = 0.03  # two characters are one picture, hence one class,
DIGIT_DISTANCE = 0.06  # and a character is taken for the digit it is compared with.
MAX_ASPECT = 5.0
MAX_CLASSES = 1000  # those with most styles


@dataclass(frozen=True)
class Glyphs:
    """Renders: `images` uint8 [n, 64, 64], `labels` int64 [n], `fonts` the font file of each."""

    images: np.ndarray
    labels: np.ndarray
    fonts: np.ndarray
    names: list[str]
    dropped: dict[str, int]
    versions: dict[str, str]


# The characters
# ------------------------------------------------------------


def reason_to_drop(char: str) -> str | None:
    """Why a character may not be learned from, or None."""
    if unicodedata.category(char)[0] not in "LSP":
        return "category " + unicodedata.category(char)
    for form in ("NFKC", "NFKD"):
        if any(unicodedata.category(part)[0] == "N" for part in unicodedata.normalize(form, char)):
            return "decomposes into a number"
    if unicodedata.numeric(char, None) is not None:
        return "has a numeric value"
    name = unicodedata.name(char, "")
    if not name or re.search(r"\d", name) or NUMBER_WORDS.search(name):
        return "name holds a number"
    if PATTERN_WORDS.search(name):
        return "dot or bar pattern, card or dice"
    if any(unicodedata.category(part)[0] == "M" for part in unicodedata.normalize("NFD", char)):
        return "letter with a separate accent"
    if unicodedata.decomposition(char).startswith(("<circle>", "<square>")):
        return "enclosed or squared letters"
    return None


def base_character(char: str) -> str:
    """The letter a styled variant (mathematical, superscript, full width) stands for."""
    if unicodedata.decomposition(char).startswith(("<font>", "<super>", "<sub>", "<wide>", "<narrow>")):
        folded = unicodedata.normalize("NFKC", char)
        if len(folded) == 1 and reason_to_drop(folded) is None:
            return folded
    return char


def render(font: ImageFont.FreeTypeFont, char: str) -> np.ndarray | None:
    """Light ink on dark, ink box centred, its longer side `INK` pixels; None without usable ink."""
    mask = font.getmask(char, mode="L")
    width, height = mask.size
    if width == 0 or height == 0:
        return None
    pixels = np.asarray(mask, dtype=np.uint8).reshape(height, width)
    rows, columns = np.flatnonzero(pixels.max(axis=1) > 32), np.flatnonzero(pixels.max(axis=0) > 32)
    if rows.size < 4 or columns.size < 4:
        return None
    pixels = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = pixels.shape
    if max(height, width) > MAX_ASPECT * min(height, width):
        return None
    scale = INK / max(height, width)
    size = (max(2, round(width * scale)), max(2, round(height * scale)))
    small = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.HAMMING))
    canvas = np.zeros((CANVAS, CANVAS), dtype=np.uint8)
    top, left = (CANVAS - size[1]) // 2, (CANVAS - size[0]) // 2
    canvas[top : top + size[1], left : left + size[0]] = small
    return canvas


def signatures(images: np.ndarray) -> Tensor:
    """Renders at half their width and height, flat, for comparing pictures."""
    small = F.avg_pool2d(torch.from_numpy(images)[:, None].float() / 255, 2)
    return small.flatten(1)


def distances(first: Tensor, second: Tensor) -> Tensor:
    """Squared distances over the larger of the two squared norms."""
    a, b = first.square().sum(1), second.square().sum(1)
    return (a[:, None] + b[None] - 2 * first @ second.T) / torch.maximum(a[:, None], b[None])


# The classes
# ------------------------------------------------------------


def render_font(path: Path, dropped: Counter[str]) -> tuple[list[str], np.ndarray, str, set[str]]:
    """One font's admitted characters: base characters, renders, font version, look-alikes of digits."""
    table = TTFont(path)
    font = ImageFont.truetype(str(path), 128, layout_engine=ImageFont.Layout.BASIC)
    keys: list[str] = []
    images: list[np.ndarray] = []
    for point, glyph in table.getBestCmap().items():
        char = chr(point)
        reason = reason_to_drop(char)
        if reason is None and DIGIT_GLYPHS.match(glyph):
            reason = "glyph named as a digit"
        picture = render(font, char) if reason is None else None
        if picture is None:
            dropped[reason or "no usable ink"] += 1
            continue
        keys.append(base_character(char))
        images.append(picture)
    stack = np.stack(images)
    alike: set[str] = set()
    digits = [picture for digit in "0123456789" if (picture := render(font, digit)) is not None]
    if digits:
        near = distances(signatures(stack), signatures(np.stack(digits))).amin(1) < DIGIT_DISTANCE
        alike = {key for key, hit in zip(keys, near.tolist(), strict=True) if hit}
    return keys, stack, str(table["name"].getDebugName(5)), alike


def merge_identical(keys: list[str], images: np.ndarray, parent: dict[str, str]) -> None:
    """Join the classes whose renders in one font are the same picture (Latin A, Greek Alpha, Cyrillic A)."""
    signs = signatures(images)
    for start in range(0, len(keys), 1024):
        near = distances(signs[start : start + 1024], signs) < MERGE_DISTANCE
        for row, column in near.nonzero().tolist():
            a, b = find(parent, keys[start + row]), find(parent, keys[column])
            if a != b:
                parent[max(a, b)] = min(a, b)


def find(parent: dict[str, str], key: str) -> str:
    """The representative of a key's class."""
    while parent.setdefault(key, key) != key:
        key = parent[key]
    return key


def build_glyphs() -> Glyphs:
    """Render all admitted characters, merge equal pictures into classes, keep those of several styles."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    dropped: Counter[str] = Counter()
    versions: dict[str, str] = {}
    parent: dict[str, str] = {}
    alike: set[str] = set()
    entries: list[tuple[str, str, np.ndarray]] = []
    for path in sorted(folder.glob("*.ttf")):
        if not path.name.startswith(FONT_PREFIXES):
            continue
        keys, images, versions[path.name], look = render_font(path, dropped)
        alike |= look
        if "Oblique" not in path.name and "Ital" not in path.name:
            merge_identical(keys, images, parent)
        entries += [(key, path.name, image) for key, image in zip(keys, images, strict=True)]
    forbidden = {find(parent, key) for key in alike}
    groups: dict[str, list[tuple[str, np.ndarray]]] = {}
    for key, font, image in entries:
        root = find(parent, key)
        if root in forbidden:
            dropped["looks like a digit"] += 1
        else:
            groups.setdefault(root, []).append((font, image))
    groups = {root: distinct(members) for root, members in groups.items()}
    several = [root for root, members in groups.items() if len({font for font, _ in members}) >= 2]
    dropped["classes seen in one style only"] = len(groups) - len(several)
    chosen = sorted(sorted(several, key=lambda root: (-len(groups[root]), root))[:MAX_CLASSES])
    flat = [(label, font, image) for label, root in enumerate(chosen) for font, image in groups[root]]
    names = [" ".join(f"U+{ord(char):04X}" for char in root) for root in chosen]
    return Glyphs(
        images=np.stack([image for _, _, image in flat]),
        labels=np.array([label for label, _, _ in flat], dtype=np.int64),
        fonts=np.array([font for _, font, _ in flat]),
        names=names,
        dropped=dict(sorted(dropped.items())),
        versions=versions,
    )


def distinct(members: list[tuple[str, np.ndarray]]) -> list[tuple[str, np.ndarray]]:
    """One of each picture within a class, so that a held-out render is never a copy of a training one."""
    near = distances(*(signatures(np.stack([image for _, image in members])),) * 2) < MERGE_DISTANCE
    kept: list[int] = []
    for index in range(len(members)):
        if not any(near[index, other] for other in kept):
            kept.append(index)
    return [members[index] for index in kept]


def hold_out(glyphs: Glyphs, seed: int) -> np.ndarray:
    """True for test renders: all of one font, drawn by seed, of every class seen in three fonts or more."""
    rng = np.random.default_rng(seed)
    held = np.zeros(len(glyphs.labels), dtype=bool)
    for label in range(len(glyphs.names)):
        members = np.flatnonzero(glyphs.labels == label)
        fonts = np.unique(glyphs.fonts[members])
        if len(fonts) >= 3:
            held[members[glyphs.fonts[members] == rng.choice(fonts)]] = True
    return held


# The augmentation
# ------------------------------------------------------------


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
    size = ARCHITECTURE["img_size"]
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
    return normalise(F.avg_pool2d(images[:, None].float() / 255, CANVAS // ARCHITECTURE["img_size"]))


def normalise(x: Tensor) -> Tensor:
    """One channel in [0, 1] to the three normalised ones of the model."""
    return ((x - MEAN) / STD).expand(-1, 3, -1, -1)


# The training
# ------------------------------------------------------------


class Sampler:
    """Draws a class, then one of its renders, both uniformly, so that no script dominates."""

    def __init__(self, labels: np.ndarray, classes: int) -> None:
        order = np.argsort(labels, kind="stable")
        counts = np.bincount(labels, minlength=classes)
        self.order = torch.from_numpy(order)
        self.counts = torch.from_numpy(counts)
        self.starts = self.counts.cumsum(0) - self.counts
        self.classes = classes

    def draw(self, size: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Indices of renders and their labels."""
        labels = torch.randint(self.classes, (size,), generator=rng)
        offset = (torch.rand(size, generator=rng) * self.counts[labels]).long()
        return self.order[self.starts[labels] + offset], labels


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


@dataclass
class State:
    """Everything a training run carries from step to step."""

    model: VisionTransformer
    average: dict[str, Tensor]
    optimizers: list[torch.optim.Optimizer]
    rng: torch.Generator
    step: int = 0
    images: int = 0
    seconds: float = 0.0

    def save(self, path: Path) -> None:
        """Write the checkpoint beside its place, then move it there."""
        content = {
            "model": self.model.state_dict(),
            "average": self.average,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "rng": self.rng.get_state(),
            "counters": (self.step, self.images, self.seconds),
        }
        partial = path.with_suffix(".partial")
        torch.save(content, partial)
        os.replace(partial, path)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint."""
        content = torch.load(path, weights_only=True)
        self.model.load_state_dict(content["model"])
        self.average = content["average"]
        for optimizer, saved in zip(self.optimizers, content["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.rng.set_state(content["rng"])
        self.step, self.images, self.seconds = content["counters"]


def schedule(progress: float, step: int, warmup: int) -> float:
    """The share of the peak learning rate: linear warm-up, then a cosine to nearly nothing at progress 1."""
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return min(1.0, (step + 1) / warmup) * (0.005 + 0.995 * cosine)


def train(state: State, glyphs: Glyphs, held: np.ndarray, args: argparse.Namespace, checkpoint: Path) -> None:
    """Train until the steps or the minutes are used up, whichever comes first."""
    images, labels = torch.from_numpy(glyphs.images[~held]), glyphs.labels[~held]
    tests, truths = torch.from_numpy(glyphs.images[held]), torch.from_numpy(glyphs.labels[held])
    sampler = Sampler(labels, len(glyphs.names))
    clock, saved, before = time.monotonic(), time.monotonic(), state.seconds
    running = 0.0
    while (progress := max(state.step / args.steps, state.seconds / (60 * args.minutes))) < 1:
        index, target = sampler.draw(args.batch, state.rng)
        rate = schedule(progress, state.step, args.warmup)
        strength = min(1.0, 0.2 + 0.8 * progress / 0.3)  # mild deformations first: they are learned sooner
        x = augment(images[index], state.rng, strength)
        state.model.patch_drop = WHOLE if progress > 0.7 else PATCH_DROPOUT
        loss = F.cross_entropy(logits(state.model, x), target, label_smoothing=0.1)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(state.model.parameters(), 1.0)
        for optimizer in state.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group["peak"]
            optimizer.step()
            optimizer.zero_grad()
        keep = min(args.ema, (1 + state.step) / (10 + state.step))
        with torch.no_grad():
            for name, value in state.model.state_dict().items():
                state.average[name].lerp_(value, 1 - keep)
        state.step += 1
        state.images += args.batch
        state.seconds = before + time.monotonic() - clock
        running = loss.item() if running == 0 else 0.98 * running + 0.02 * loss.item()
        if state.step % 50 == 0:
            print(
                f"step {state.step} progress {progress:.3f} loss {running:.3f} lr {rate:.3f} of peak "
                f"{state.images / state.seconds:.0f} images/s {state.seconds:.0f} s",
                flush=True,
            )
        if time.monotonic() - saved > CHECKPOINT_SECONDS:
            saved = time.monotonic()
            state.save(checkpoint)
            score = accuracy(state.model, tests, truths, torch.Generator().manual_seed(args.seed))
            print(f"step {state.step} held-out, augmented: top-1 {score:.2f} %", flush=True)
    state.save(checkpoint)


# The result
# ------------------------------------------------------------


def processor() -> str:
    """The name of the CPU, with what of it is used."""
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        match = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
        name = match.group(1) if match else name
    return f"{name}, {torch.get_num_threads()} threads, bfloat16 autocast"


def rounded(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as float16 holds them, in float32."""
    return {name: value.half().float() for name, value in tensors.items()}


def own_test(state: State, glyphs: Glyphs, held: np.ndarray, seed: int) -> dict[str, Any]:
    """Top-1 of the averaged, float16-rounded weights on the held-out renders."""
    model = build_model(len(glyphs.names))
    model.load_state_dict(rounded(state.average))
    images, labels = torch.from_numpy(glyphs.images[held]), torch.from_numpy(glyphs.labels[held])
    rng = torch.Generator().manual_seed(seed)
    return {
        "what": "renders of a font that training did not see for that class: one font, drawn by seed, of every "
        "class that has three or more; equal pictures within a class removed beforehand",
        "renders": int(held.sum()),
        "classes": len(np.unique(glyphs.labels[held])),
        "top1_percent_plain": round(accuracy(model, images, labels, None), 2),
        "top1_percent_augmented": round(accuracy(model, images, labels, rng), 2),
    }


def replace(path: Path, content: bytes) -> None:
    """Write a file beside its place, then move it there."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    os.replace(partial, path)


def export(state: State, glyphs: Glyphs, held: np.ndarray, args: argparse.Namespace) -> None:
    """Write the weights and what they are, and prove that they load."""
    args.out.mkdir(parents=True, exist_ok=True)
    tensors = {n: v.half().contiguous() for n, v in state.average.items() if not n.startswith("head.")}
    weights = args.out / "model.safetensors"
    replace(weights, safetensors.torch.save(tensors))
    bare = VisionTransformer(**ARCHITECTURE, num_classes=0)
    bare.load_state_dict(safetensors.torch.load_file(weights), strict=True)
    report = {
        "name": "lpt-demo-glyphs",
        "architecture": ARCHITECTURE,
        "mean": [MEAN] * 3,
        "std": [STD] * 3,
        "license": "apache-2.0",
        "provenance": "Made from renders of the DejaVu fonts (Bitstream Vera licence) and the STIX fonts (STIX font "
        "licence); the fonts themselves are not included.",
        "dtype": "float16",
        "parameters": sum(p.numel() for p in bare.parameters()),
        "training": {
            "task": "rendered letters and symbols; no digit, and no glyph nearly equal to a digit of its own font",
            "classes": len(glyphs.names),
            "renders": int((~held).sum()),
            "fonts": glyphs.versions,
            "dropped": glyphs.dropped,
            "images_seen": state.images,
            "steps": state.step,
            "batch": args.batch,
            "optimizer": f"Muon {args.muon_lr:g} (matrices of the blocks), AdamW {args.lr:g} (rest), "
            f"weight decay {args.weight_decay:g}, label smoothing 0.1, cosine",
            "patch_dropout": "0.4 during the first 70 % of the time, then none",
            "weights": f"exponential moving average, decay {args.ema:g}",
            "seconds": round(state.seconds),
            "seed": args.seed,
            "hardware": processor(),
        },
        "own_test": own_test(state, glyphs, held, args.seed),
        "libraries": {
            "python": platform.python_version(),
            "unicode": unicodedata.unidata_version,
            **{m.__name__: m.__version__ for m in (torch, timm, np, matplotlib, PIL, safetensors)},
            "fonttools": fontTools.version,
        },
        "date": datetime.now(UTC).date().isoformat(),
        "command": " ".join(["python", *sys.argv]),
    }
    replace(args.out / "model.json", (json.dumps(report, indent=2, ensure_ascii=False) + "\n").encode())
    print(json.dumps(report["own_test"], indent=2), flush=True)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description="Pretrain the demo's backbone on rendered letters and symbols.")
    parser.add_argument("--minutes", type=float, default=23.0, help="training time, the schedule's length")
    parser.add_argument("--steps", type=int, default=1_000_000, help="stop after these, if that is sooner")
    parser.add_argument("--batch", type=int, default=128, help="images a step")
    parser.add_argument("--lr", type=float, default=2e-3, help="peak learning rate of AdamW")
    parser.add_argument("--muon-lr", type=float, default=0.02, help="peak learning rate of Muon")
    parser.add_argument("--weight-decay", type=float, default=0.02)
    parser.add_argument("--warmup", type=int, default=150, help="steps")
    parser.add_argument("--ema", type=float, default=0.998, help="decay of the weights' moving average")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "src/lpt/demo/backbone")
    parser.add_argument("--contact-sheet", action="store_true", help="draw samples into WORK and stop")
    return parser.parse_args(argv)


def contact_sheet(glyphs: Glyphs, folder: Path, seed: int) -> None:
    """Samples to look at: renders above, their training pictures below."""
    rng = torch.Generator().manual_seed(seed)
    picks = torch.randint(len(glyphs.images), (256,), generator=rng)
    chosen = torch.from_numpy(glyphs.images)[picks]
    for name, x in (("plain", plain(chosen)), ("augmented", augment(chosen, rng))):
        grey = ((x[:, 0] * STD + MEAN) * 255).byte()
        tiles = grey.reshape(16, 16, 32, 32).permute(0, 2, 1, 3).reshape(512, 512).numpy()
        sheet = Image.fromarray(tiles).resize((1024, 1024), Image.Resampling.NEAREST)
        sheet.save(folder / f"{name}.png")


def main(argv: list[str] | None = None) -> None:
    """Render, train (or go on training), export."""
    args = parse(argv)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    args.work.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    glyphs = build_glyphs()
    held = hold_out(glyphs, args.seed)
    print(
        f"{len(glyphs.names)} classes, {int((~held).sum())} renders to train on, {int(held.sum())} held out, "
        f"{time.monotonic() - started:.0f} s; dropped {glyphs.dropped}",
        flush=True,
    )
    if args.contact_sheet:
        contact_sheet(glyphs, args.work, args.seed)
        return
    model = build_model(len(glyphs.names))
    state = State(
        model=model,
        average={name: value.clone() for name, value in model.state_dict().items()},
        optimizers=build_optimizers(model, args),
        rng=torch.Generator().manual_seed(args.seed),
    )
    checkpoint = args.work / "checkpoint.pt"
    if checkpoint.exists():
        state.load(checkpoint)
        print(f"going on from step {state.step}", flush=True)
    train(state, glyphs, held, args, checkpoint)
    export(state, glyphs, held, args)


if __name__ == "__main__":
    main()
