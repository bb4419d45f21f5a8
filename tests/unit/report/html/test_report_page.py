"""The page: small enough, all user text escaped, nothing from elsewhere, the numbers of the results."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from report_contents import content, without_parts

from lpt.config.bounds import escaped
from lpt.evaluation.paired import Difference
from lpt.evaluation.reliability import reliability
from lpt.report.html.charts_classes import accuracy_chart, distribution_chart
from lpt.report.html.charts_methods import calibration_chart, methods_chart
from lpt.report.html.content import Calibration, Pairs, PairShown
from lpt.report.html.page import is_report, render_page
from lpt.report.html.svg import linear, log_ticks, logarithmic, ticks, whole_ticks
from lpt.report.html.wording import distribution, few_images_sentence, groups_present, log_sentence

NASTY = ['<script>alert("1")</script>', "</script><img src=x onerror=alert(2)>", "a\x1b[31m&amp;\u202e", "{{ 7 * 7 }}"]


class Reader(HTMLParser):
    """Collects tags with their attributes, and the text that a person sees."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._hidden = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._hidden = tag if tag in ("script", "style") else self._hidden

    def handle_endtag(self, tag: str) -> None:
        self._hidden = "" if tag == self._hidden else self._hidden

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.text += data


def columns(page: str) -> dict[str, list[Any]]:
    packed = re.search(r'id="data">([^<]*)<', page)
    assert packed is not None
    table = json.loads(zlib.decompress(base64.b64decode(packed[1])))
    return {column["name"]: column["values"] for column in table["columns"]}


@pytest.mark.parametrize(("classes", "most"), [(2, 300_000), (100, 1_500_000), (8142, 4_000_000)])
def test_it_is_small_enough(classes: int, most: int) -> None:
    page = render_page(content(classes))
    assert len(page.encode()) <= most
    table = columns(page)
    assert len(table["class"]) == classes
    for drawing in re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL):
        ElementTree.fromstring(drawing)  # well-formed


def test_the_table_has_the_numbers_of_the_results() -> None:
    shown = content(40)
    table, classes = columns(render_page(shown)), shown.classes
    assert table["training images"] == classes.counts.tolist()
    assert table["accuracy"] == np.round(100 * np.asarray(classes.accuracy), 1).tolist()
    assert table["gain"] == np.round(100 * shown.probe.gain, 1).tolist()  # type: ignore[union-attr]
    assert table["group"].count("few") == int((classes.counts < 20).sum())
    assert [None if c < 0 else c for c in np.asarray(classes.confused_with).tolist()] == table["most confused with"]


def test_names_are_text_wherever_they_stand() -> None:
    shown = content(4, names=NASTY, methods=2)
    shown = replace(
        shown, title=NASTY[0], shown=NASTY[1], trained=[(NASTY[0], NASTY[1])], record=[("Command", NASTY[1])],
        methods=[replace(row, title=NASTY[1]) for row in shown.methods],
    )  # fmt: skip
    page = render_page(shown)
    read = Reader(page)
    assert [tag for tag, _ in read.tags].count("script") == 2
    assert not [tag for tag, attributes in read.tags if any(name.startswith("on") for name in attributes)]
    assert {attributes.get("src", "data:")[:5] for tag, attributes in read.tags if tag == "img"} == {"data:"}  # type: ignore[index]
    assert NASTY[0] in read.text
    assert NASTY[1] in read.text
    assert "{{ 7 * 7 }}" in read.text
    assert "\x1b" not in page
    assert columns(page)["class"] == [escaped(name) for name in NASTY]


def test_it_allows_nothing_but_its_own_style_and_script() -> None:
    page = render_page(content(5))
    read = Reader(page)
    policy = next(a["content"] for t, a in read.tags if t == "meta" and a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; ")
    for tag in ("style", "script"):
        text = re.search(rf"<{tag}>(.*?)</{tag}>", page, flags=re.DOTALL)
        assert text is not None
        assert f"sha256-{base64.b64encode(hashlib.sha256(text[1].encode()).digest()).decode()}" in policy
    assert "http:" not in page.replace("http-equiv", "")
    assert "https:" not in page
    assert not [a for _, a in read.tags if "style" in a]


def test_what_is_missing_is_said_in_a_sentence() -> None:
    page = render_page(without_parts("It was not there."))
    assert page.count("It was not there.") == 3  # group prompts, queries, curves; what needs a measurement has no place
    assert "Nothing was measured" in page
    shown = content(30)
    assert isinstance(shown.pairs, Pairs)
    plain = Pairs([PairShown(item.pair) for item in shown.pairs.largest], (), "few", "The data is gone.")
    page = render_page(replace(shown, pairs=plain))
    assert "The data is gone." in page
    assert "<img" not in page


def test_the_largest_confusions_and_those_of_rare_classes_have_a_list_each() -> None:
    shown = content(40)
    assert isinstance(shown.pairs, Pairs)
    page = Reader(render_page(shown)).text
    largest, rare = page.index("Most mistakes\n"), page.index("Most mistakes of few-shot classes\n")
    assert largest < rare
    for item, start, end in ((shown.pairs.largest[0], largest, rare), (shown.pairs.rare[0], rare, len(page))):
        names = [shown.classes.names[c] for c in item.pair[:2]]
        assert start < page.index(f"{names[0]} taken for {names[1]}") < end
    counts = np.maximum(shown.classes.counts, 20)
    medium = replace(shown, classes=replace(shown.classes, counts=counts), pairs=replace(shown.pairs, group="medium"))
    assert "Most mistakes of medium-shot classes, the rarest here" in render_page(medium)
    single = render_page(replace(shown, pairs=replace(shown.pairs, rare=())))
    assert "Most mistakes" not in single
    assert f"The next {len(shown.pairs.largest) - 12} pairs" in single


def test_bins_of_a_few_images_do_not_look_sure() -> None:
    confidence = np.repeat([0.12, 0.35, 0.55, 0.7, 0.9], [3, 40, 40, 19, 40])
    calibration = Calibration(reliability(np.ones(len(confidence)), confidence), 0.3, "")
    drawing = ElementTree.fromstring(calibration_chart(calibration))
    points = list(drawing.iter("circle"))
    assert [element.get("class") == "before" for element in points] == [True, False, False, True, False]
    lines = [element.get("d", "") for element in drawing.iter("path") if "curve" in element.get("class", "")]
    joined = [element.get("cx", "-") for element in points if any(f"{element.get('cx')} " in line for line in lines)]
    assert joined == [element.get("cx") for element in points if element.get("class") != "before"]
    assert len(lines) == 2  # it does not bridge the gap
    reach = [
        float(e.get("y2", 0)) - float(e.get("y1", 0)) for e in drawing.iter("line") if "whisker" in e.get("class", "")
    ]
    assert min(map(abs, reach)) > 0
    assert abs(reach[0]) > 4 * abs(reach[1])
    sentence = few_images_sentence(calibration)
    assert "2 points, 22 images in all" in sentence
    assert few_images_sentence(replace(calibration, bins=[calibration.bins[1]])) == ""
    assert "not joined by a line" in few_images_sentence(replace(calibration, bins=[calibration.bins[0]]))


def test_a_run_without_group_prompts_has_no_section_about_them() -> None:
    shown = content(5)
    assert "Group prompts" in Reader(render_page(shown)).text
    page = Reader(render_page(replace(shown, sharing=None, queries=None))).text
    assert "roup prompt" not in page
    assert "Map of queries" not in page


def test_a_report_is_known_as_one(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(render_page(content(2)))
    (tmp_path / "b.html").write_text("<!doctype html><title>mine</title>")
    assert is_report(tmp_path / "a.html")
    assert not is_report(tmp_path / "b.html")


@pytest.mark.parametrize("counts", [[5, 5], [1, 1], [0, 3], [100_000, 1]])
def test_charts_of_extreme_sizes_stay_inside(counts: list[int]) -> None:
    classes = replace(content(2).classes, counts=np.array(counts), accuracy=np.array([np.nan, 1.0]))
    for drawing in (distribution_chart(classes), accuracy_chart(classes, {"few": 0.5, "many": 1.0})):
        root = ElementTree.fromstring(drawing)
        _, _, width, height = map(float, root.attrib["viewBox"].split())
        for element in root.iter():
            places = {name: float(element.attrib.get(name, 0)) for name in ("x", "y", "cx", "cy", "height")}
            assert all(-1 <= value <= max(width, height) + 1 for value in places.values()), places


@pytest.mark.parametrize(("classes", "named"), [(2, True), (45, True), (46, False)])
def test_bars_have_names_or_an_axis_that_says_what_it_is(classes: int, named: bool) -> None:
    shown = content(classes).classes
    counts = np.linspace(720, 20, classes).astype(int)  # 36 times as many
    table = replace(shown, counts=counts)
    drawing = ElementTree.fromstring(distribution_chart(table))
    texts = [list(element.itertext())[-1] for element in drawing.iter("text")]  # after its title
    assert (set(shown.names) <= set(texts)) == named
    assert {f"{count}" for count in counts} <= set(texts) or not named
    bars = [float(e.get("width" if named else "height", 0)) for e in drawing.iter("rect")]
    assert bars[0] / bars[-1] == pytest.approx(36, rel=0.02)
    assert log_sentence(table) == ""
    steep = replace(shown, counts=np.geomspace(5000, 1, classes).astype(int))
    axes = [text for text in (e.text for e in ElementTree.fromstring(distribution_chart(steep)).iter("text")) if text]
    assert any("logarithmic" in text for text in axes) != named
    assert ("5,000 times as many images" in log_sentence(steep)) != named


def test_scales_and_ticks() -> None:
    assert linear(0, 10, 100, 200)(5) == 150
    assert logarithmic(1, 100, 0, 2)(10) == pytest.approx(1)
    assert logarithmic(1, 100, 0, 2)(0) == 0
    assert ticks(0, 1, 5) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert ticks(3, 3) == [3]
    assert log_ticks(1, 1000) == pytest.approx([1, 10, 100, 1000])
    assert log_ticks(14, 300) == pytest.approx([20, 50, 100, 200])
    assert log_ticks(34, 46) == pytest.approx([35, 40, 45])  # all classes of 40 images: still an axis to read
    assert whole_ticks(0, 10, 4) == pytest.approx([0, 5, 10])  # 2.5 would be written 2


def test_classes_without_images_are_in_no_shot_group() -> None:
    classes = replace(content(4).classes, counts=np.array([300, 50, 0, 0]))
    assert "1 many-shot, 1 medium-shot, 0 few-shot" in distribution(classes)
    assert "2 classes had no training image." in distribution(classes)
    assert [name for _, name in groups_present(classes)] == ["many", "medium"]
    texts = [element.text for element in ElementTree.fromstring(distribution_chart(classes)).iter("text")]
    assert "1 medium" in texts
    assert not [text for text in texts if text and text.endswith(" few")]


def test_a_scale_says_where_its_lines_are() -> None:
    rows = content(5, methods=2).methods
    accuracy = Difference(0.75, 0.73, 0.77, None, (0.75,))
    drawing = methods_chart([replace(row, accuracies={"overall": accuracy}, less={}) for row in rows])
    marks = [
        float(e.text or "") for e in ElementTree.fromstring(drawing).iter("text") if e.get("text-anchor") == "middle"
    ]
    assert len(marks) >= 3
    assert np.diff(marks) == pytest.approx(np.diff(marks)[0])
