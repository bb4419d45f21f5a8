"""Small helpers to write SVG: an element, a drawing, scales and axes. All text is escaped; no style attribute is used.

Colours come from classes in report.css, so that the same drawing is right in light, dark and print.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from markupsafe import Markup, escape

from lpt.config.bounds import escaped

Scale = Callable[[float], float]
"""From a value to a place in the drawing."""
CHARACTER = 6.3
"""About the mean width of a letter of the charts' text, pixels."""


def number(value: float) -> str:
    """Return a coordinate with one decimal at most."""
    text = f"{value:.1f}"
    return text[:-2] if text.endswith(".0") else text


class Drawing:
    """An SVG image that grows with the page.

    Args:
        width: of its coordinates.
        height: likewise.
        label: what it shows, for those who do not see it.
        narrow: whether it needs no more than half of the page.
    """

    def __init__(self, width: float, height: float, label: str, *, narrow: bool = False) -> None:
        self.width, self.height = width, height
        self._label, self._class = label, "chart narrow" if narrow else "chart"
        self._parts: list[str] = []

    def add(self, tag: str, content: str = "", *, title: str = "", **attributes: Any) -> None:
        """Add an element.

        Args:
            tag: its name.
            content: its text.
            title: shown beside the pointer.
            attributes: `class_` is written `class`, other underscores become hyphens; numbers get one decimal.
        """
        inner = Markup("<title>{}</title>").format(escaped(title)) if title else Markup()
        self._parts.append(f"<{tag}{_attributes(attributes)}>{inner}{escape(escaped(content))}</{tag}>")

    def text(self, x: float, y: float, content: str, *, anchor: str = "start", **attributes: Any) -> None:
        """Add a text; `anchor` is start, middle or end."""
        self.add("text", content, x=x, y=y, text_anchor=anchor if anchor != "start" else None, **attributes)

    def line(self, x1: float, y1: float, x2: float, y2: float, **attributes: Any) -> None:
        """Add a line."""
        self.add("line", x1=x1, y1=y1, x2=x2, y2=y2, **attributes)

    def dots(self, points: Sequence[tuple[float, float]], **attributes: Any) -> None:
        """Add many round points as a single path."""
        if points:
            self.add("path", d="".join(f"M{number(x)} {number(y)}h0" for x, y in points), **attributes)

    def curve(self, points: Sequence[tuple[float, float]], **attributes: Any) -> None:
        """Add a line through points."""
        if points:
            self.add("path", d="M" + "L".join(f"{number(x)} {number(y)}" for x, y in points), **attributes)

    def markup(self) -> Markup:
        """Return the drawing."""
        opening = (
            f'<svg class="{self._class}" viewBox="0 0 {number(self.width)} {number(self.height)}" role="img" '
            f'aria-label="{escape(self._label)}">'
        )
        return Markup(opening + "".join(self._parts) + "</svg>")


def linear(low: float, high: float, start: float, end: float) -> Scale:
    """Return a linear scale from low..high to start..end."""
    span = high - low or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def logarithmic(low: float, high: float, start: float, end: float) -> Scale:
    """Return a logarithmic scale from low..high to start..end; values below `low` count as `low`."""
    scale = linear(math.log(low), math.log(high), start, end)
    return lambda value: scale(math.log(max(value, low)))


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about `count` round numbers in low..high."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def whole_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about `count` round whole numbers in low..high, for a scale of things that are counted."""
    return [mark for mark in ticks(low, high, count) if abs(mark - round(mark)) < 1e-6]


def log_ticks(low: float, high: float) -> list[float]:
    """Return powers of ten in low..high; with their halves and fifths where those are few; else round numbers."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 3), (1, 2, 5)):
        inside = [f * 10.0**power for power in powers for f in factors if low <= f * 10.0**power <= high]
        if len(inside) >= 4:
            break
    return inside if len(inside) >= 2 else whole_ticks(low, high)


def y_axis(drawing: Drawing, places: Sequence[tuple[float, str]], left: float, right: float) -> None:
    """Draw faint lines across at (place, label), the labels at the left."""
    for y, label in places:
        drawing.line(left, y, right, y, class_="grid")
        drawing.text(left - 7, y + 4, label, anchor="end", class_="tick")


def x_axis(
    drawing: Drawing, places: Sequence[tuple[float, str]], y: float, name: str, left: float, right: float
) -> None:
    """Draw an axis with (place, label) below it and its name in the middle."""
    drawing.line(left, y, right, y, class_="axis")
    for x, label in places:
        drawing.line(x, y, x, y + 4, class_="axis")
        drawing.text(x, y + 17, label, anchor="middle", class_="tick")
    drawing.text((left + right) / 2, y + 36, name, anchor="middle", class_="name")


def shortened(text: str, width: float) -> str:
    """Cut a text so that it fits into so many pixels."""
    most = max(int(width / CHARACTER), 4)
    return text if len(text) <= most else text[: most - 1] + "…"


def _attributes(attributes: dict[str, object]) -> str:
    parts = []
    for name, value in attributes.items():
        if value is None:
            continue
        text = number(value) if isinstance(value, float) else str(value)
        parts.append(f' {name.rstrip("_").replace("_", "-")}="{escape(text)}"')
    return "".join(parts)
