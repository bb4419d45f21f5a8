"""The characters: which may be learned from, how they are drawn, how two pictures compare."""

from __future__ import annotations

import re
import unicodedata

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFont
from torch import Tensor

CANVAS, INK = 64, 52  # pixels: a stored render, and the longer side of the ink box inside it
MAX_ASPECT = 5.0
NUMBER_WORDS = re.compile(
    r"\b(DIGITS?|NUMBER|NUMERAL|FRACTION|ZERO|ONE|TWO|THREE|FOUR|FIVE|SIX|SEVEN|EIGHT|NINE|TEN|ELEVEN|TWELVE|"
    r"HUNDRED|THOUSAND|HALF|SECOND|THIRD|CUBE|FOURTH|QUARTER|PERCENT)\b"
)
# Pictures of numbers (dice, cards, dominoes), and dot or bar patterns that no low resolution can tell apart.
PATTERN_WORDS = re.compile(r"\b(DIE|PLAYING|DOMINO|BRAILLE|HEXAGRAM|TETRAGRAM|TRIGRAM|BOX|MONOGRAM|DIGRAM|CLOCK)\b")


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
