"""The page in Chromium: it sorts and searches, asks nothing of the network, and axe finds nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from report_contents import content

from lpt.config.recipes import METHODS
from lpt.report.html.page import render_page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    missing = "" if CHROMIUM else "there is no Chromium on this machine"
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        missing = "playwright is not installed"
    if missing:
        if os.environ.get("LPT_REQUIRE_BROWSER"):
            pytest.fail(missing)
        pytest.skip(missing)
    with sync_playwright() as started:
        running = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render_page(content(120, methods=3)), encoding="utf-8")
    return path


def opened(browser: Any, path: Path, **options: Any) -> tuple[Any, list[str]]:
    """The page with its table, and everything that went wrong or was asked for."""
    page, faults = browser.new_page(**options), []
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda request: faults.append(request.url) if request.url.startswith(("http", "ws")) else None)
    page.goto(path.as_uri())
    page.wait_for_selector("#rows tr")
    return page, faults


def column(page: Any, number: int) -> list[str]:
    return list(page.eval_on_selector_all(f"#rows tr > :nth-child({number})", "cells => cells.map(c => c.textContent)"))


def test_the_table_sorts_searches_and_turns_pages(browser: Any, report: Path) -> None:
    page, faults = opened(browser, report)
    counts = [int(text.replace(",", "")) for text in column(page, 2)]
    assert len(counts) == 50
    assert counts == sorted(counts, reverse=True)
    page.focus("#head th:nth-child(5) button")
    page.keyboard.press("Enter")  # accuracy, highest first
    page.keyboard.press("Enter")
    accuracies = [float(text.rstrip(" %")) for text in column(page, 5)]
    assert accuracies == sorted(accuracies)
    assert page.get_attribute("#head th:nth-child(5)", "aria-sort") == "ascending"
    page.click("#next")
    assert page.inner_text("#count") == "120 of 120 classes, 51 to 100 shown"
    page.fill("#search", "SPECIES7")
    names = column(page, 1)
    assert len(names) == 11
    assert all("species7" in name for name in names)
    page.select_option("#group", "few")
    assert set(column(page, 3)) == {"few"}
    page.fill("#search", "no such class")
    assert column(page, 1) == []
    assert page.inner_text("#count") == "0 of 120 classes"
    assert faults == []
    page.close()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1100), ("dark", 390)])
def test_everybody_can_use_it(browser: Any, report: Path, scheme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page, faults = opened(browser, report, color_scheme=scheme, viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    found = axe.Axe().run(page).response["violations"]
    assert [(rule["id"], [node["html"][:120] for node in rule["nodes"]][:3]) for rule in found] == []
    assert faults == []
    page.close()


def test_names_of_all_methods_are_inside_the_chart(browser: Any, tmp_path: Path) -> None:
    """Whichever of them the report is about: its name is bold."""
    titles = [recipe.title for recipe in METHODS.values()]
    parts = content(3, methods=len(titles))
    rows = [replace(row, title=title, shown=True) for row, title in zip(parts.methods, titles, strict=True)]
    path = tmp_path / "report.html"
    path.write_text(render_page(replace(parts, methods=rows)), encoding="utf-8")
    page, _ = opened(browser, path)
    outside = "texts => texts.filter(text => text.getBBox().x < 0).map(text => text.textContent)"
    assert page.eval_on_selector_all("#accuracy svg text", outside) == []
    assert "linear probe, logit-adjusted" in page.inner_html("#accuracy svg")
    page.close()


def test_8142_classes_are_there_at_once_and_print(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(render_page(content(8142)), encoding="utf-8")
    page, faults = opened(browser, path)
    assert page.inner_text("#count").startswith("8,142 of 8,142 classes")
    assert page.pdf(prefer_css_page_size=True)[:5] == b"%PDF-"
    assert faults == []
    page.close()
