"""The classes: renders of every font, merged where two characters are one picture, and a test cut."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from fontTools.ttLib import TTFont
from PIL import ImageFont

from scripts.demo_backbone.glyphs import base_character, distances, reason_to_drop, render, signatures

# The cm* fonts are left out: their cmap puts glyphs at code points that are not theirs (TeX encodings), so a
# digit may sit where a letter is announced. STIXSiz* and STIXNonUni* hold only private or oversized glyphs.
FONT_PREFIXES = ("DejaVu", "STIXGeneral")
DIGIT_GLYPHS = re.compile(r"(zero|one|two|three|four|five|six|seven|eight|nine)($|[._])")
# Squared distance of two renders over the larger squared norm, below which
MERGE_DISTANCE = 0.03  # two characters are one picture, hence one class,
DIGIT_DISTANCE = 0.06  # and a character is taken for the digit it is compared with.
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
