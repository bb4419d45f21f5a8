"""Render a contact sheet: pictures with room for their labels, in one HTML file that asks nothing of the network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from lpt.evaluation.acquisition import Suggestion
from lpt.report.html.page import policy, read_part, template

GENERATOR = '<meta name="generator" content="lpt label-next">'
"""The line by which a file is known as a contact sheet."""
_START = 4096


class SoughtClass(NamedTuple):
    """A class that pictures were chosen for.

    Args:
        name: its name.
        images: its training images.
        chosen: pictures that were chosen for it.
    """

    name: str
    images: int
    chosen: int


class Sheet(NamedTuple):
    """What a contact sheet shows.

    Args:
        pack: what the pack is called.
        looked_at: pictures that the choice was made from.
        rare: which classes count as rare, in words.
        sought: the classes that pictures were chosen for, most pictures first.
        suggestions: the pictures, best first.
        thumbnails: each as a WebP in base64; empty where the picture cannot be read any more.
    """

    pack: str
    looked_at: int
    rare: str
    sought: Sequence[SoughtClass]
    suggestions: Sequence[Suggestion]
    thumbnails: Sequence[str]


def render_sheet(sheet: Sheet) -> str:
    """Return the HTML of a contact sheet."""
    style = read_part("sheet.css")
    return template("sheet.html.j2").render(
        sheet=sheet,
        pictures=list(zip(sheet.suggestions, sheet.thumbnails, strict=True)),
        generator=Markup(GENERATOR),
        policy=policy(style, ""),
        style=Markup(style),
    )


def is_sheet(file: Path) -> bool:
    """Return whether a file is a contact sheet.

    Raises:
        OSError: it cannot be read.
    """
    with file.open("rb") as opened:
        return GENERATOR.encode() in opened.read(_START)
