"""Find installed fonts for characters that the font of the plots lacks, such as names in other scripts."""

from __future__ import annotations

import contextlib
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache

from matplotlib import font_manager
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text

_PLACEHOLDERS = ("last resort", "lastresort", "adobe blank", "adobeblank")
"""Fonts that have a box for every character and show none of them."""
_INVISIBLE = ("Cc", "Cf", "Zl", "Zp", "Zs")


def complete_fonts(texts: Iterable[Text]) -> None:
    """Give texts of a figure further fonts for the characters that their own lacks, as far as some are installed."""
    for text in texts:
        families, _ = _further_families(text.get_text())
        if families:
            text.set_fontfamily([*text.get_fontfamily(), *families])


def is_legible(text: str) -> bool:
    """Return whether the installed fonts have all characters of a text."""
    return not _further_families(text)[1]


def legible(text: str) -> str:
    """Return a text with `?` for each character that no installed font has."""
    missing = _further_families(text)[1]
    return "".join("?" if character in missing else character for character in text)


def numbered(names: Sequence[str]) -> list[str]:
    """Return names of classes in label order, with `class 3` for the third if no installed font can write its name."""
    return [name if is_legible(name) else f"class {number}" for number, name in enumerate(names, start=1)]


def _further_families(text: str) -> tuple[list[str], set[str]]:
    """Return the fonts that a text needs beside the usual one, and the characters that none of them has."""
    missing = {c for c in text if not c.isascii() and unicodedata.category(c) not in _INVISIBLE}
    missing -= _characters(None)
    families: list[str] = []
    while missing:
        covered = {family: len(missing & _characters(family)) for family in _installed_families()}
        best = max(covered, key=lambda family: (covered[family], "sans" in family.lower()), default=None)
        if best is None or not covered[best]:
            break
        families.append(best)
        missing -= _characters(best)
    return families, missing


@cache
def _installed_families() -> tuple[str, ...]:
    """Return the fonts of this machine, also those that were installed after matplotlib listed them."""
    manager = font_manager.fontManager
    known = {str(entry.fname) for entry in manager.ttflist}
    for path in sorted(font_manager.findSystemFonts()):
        if path not in known:
            with contextlib.suppress(Exception):  # matplotlib cannot draw with every kind of font
                manager.addfont(path)
    names = {entry.name for entry in manager.ttflist}
    return tuple(sorted(name for name in names if not any(word in name.lower() for word in _PLACEHOLDERS)))


@cache
def _characters(family: str | None) -> frozenset[str]:
    """Return the characters that a font has; None: the font of the plots."""
    try:
        path = font_manager.findfont(FontProperties(family=family), fallback_to_default=family is None)
        return frozenset(map(chr, font_manager.get_font(path).get_charmap()))
    except Exception:  # a damaged font, or one that was removed
        return frozenset()
