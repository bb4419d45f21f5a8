"""Names in other scripts: drawn with an installed font, else numbered, never as boxes."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from lpt.data.longtail import ShotGroups
from lpt.report import fonts, group_plot
from lpt.report.fonts import is_legible, legible, numbered
from lpt.report.group_plot import plot_group_use
from lpt.report.style import new_figure, save

SHIPPED = ("DejaVu Sans", "DejaVu Serif", "STIXGeneral")
"""Fonts that come with matplotlib, so that the tests do not depend on the machine."""
SCRIPT_A, ZEBRA = "\N{MATHEMATICAL SCRIPT CAPITAL A}", "斑马"


@pytest.fixture(autouse=True)
def _shipped_fonts_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "_installed_families", lambda: SHIPPED)


def drawn_texts(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Figures that the group plot saves from now on."""
    figures: list[Figure] = []

    def keep(figure: Figure, path: Path) -> None:
        figures.append(figure)
        save(figure, path)

    monkeypatch.setattr(group_plot, "save", keep)
    return figures


@pytest.mark.parametrize("name", ["cat", "ζέβρα", "зебра", "Cafe\u0301", "no\u00a0break", "tab\tbed", SCRIPT_A])
def test_characters_of_an_installed_font_are_legible(name: str) -> None:
    assert is_legible(name)
    assert legible(name) == name


@pytest.mark.parametrize("name", [ZEBRA, "얼룩말", "ม้าลาย", "cat 🦓", "\ue123"])
def test_characters_of_no_installed_font_are_not(name: str) -> None:
    assert not is_legible(name)
    assert "?" in legible(name)
    assert numbered(["cat", name, "dog", SCRIPT_A]) == ["cat", "class 2", "dog", SCRIPT_A]


def test_fonts_that_show_a_box_for_everything_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert "DejaVu Sans" in fonts._installed_families()
    assert not [name for name in fonts._installed_families() if "last resort" in name.lower()]


def test_a_further_font_writes_what_the_first_lacks(tmp_path: Path) -> None:
    """Without a box: matplotlib would warn of a missing glyph."""
    figure = new_figure(4, 3)
    text = figure.subplots().set_title(f"{SCRIPT_A} and A")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save(figure, tmp_path / "plot.png")
    assert "STIXGeneral" in text.get_fontfamily()


def test_group_plot_numbers_classes_that_cannot_be_written_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures, use = drawn_texts(monkeypatch), np.eye(3)
    counts, path = [3, 50, 500], tmp_path / "use.png"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot_group_use(path, use, counts, ShotGroups(), ["cat", ZEBRA, "dog"])
        plot_group_use(path, use, counts, ShotGroups(), ["cat", "зебра", "dog"])
    labels = [[text.get_text() for text in figure.axes[2].get_yticklabels()] for figure in figures]
    assert labels == [["dog", "class 2", "cat"], ["dog", "зебра", "cat"]]
    notes = ["per_class.csv" in figure.axes[3].get_xlabel() for figure in figures]
    assert notes == [True, False]
