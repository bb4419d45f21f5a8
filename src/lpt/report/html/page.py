"""Render a report: one HTML file with its style and script inside, which asks nothing of the network."""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from lpt.config.bounds import escaped
from lpt.data.longtail import CLASS_SIZE
from lpt.report.html import charts_classes, charts_methods, charts_prompts, charts_tune, wording
from lpt.report.html.content import Absent, Content, Probe
from lpt.report.html.table import packed_table

GENERATOR = '<meta name="generator" content="lpt report">'
"""The line by which a file is known as a report."""
_HERE = Path(__file__).parent
_START = 4096
PICTURED_FIRST = 12
"""Confused pairs that are shown before the others are asked for."""


def render_page(content: Content) -> str:
    """Return the HTML of a report."""
    style, script = read_part("report.css"), read_part("report.js")
    probe = content.probe if isinstance(content.probe, Probe) else None
    return template("page.html.j2").render(
        content=content,
        generator=Markup(GENERATOR),
        policy=policy(style, script),
        style=Markup(style),
        script=Markup(script),
        table=packed_table(content.classes, probe),
        class_size=CLASS_SIZE,
        accuracy_names=charts_methods.ACCURACY_NAMES,
        pictured_first=PICTURED_FIRST,
    )


def is_report(file: Path) -> bool:
    """Return whether a file is a report.

    Raises:
        OSError: it cannot be read.
    """
    with file.open("rb") as opened:
        return GENERATOR.encode() in opened.read(_START)


def policy(style: str, script: str) -> str:
    """Return the content security policy: nothing but this style, this script, and pictures inside the file.

    Args:
        style: the style.
        script: the script; empty: there is none.
    """
    scripts = _allowed(script) if script else "'none'"
    return (
        f"default-src 'none'; img-src data:; style-src {_allowed(style)}; script-src {scripts}; "
        "base-uri 'none'; form-action 'none'"
    )


def _allowed(text: str) -> str:
    """Return how a content security policy allows a style or a script inside the file."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@lru_cache(maxsize=2)
def template(name: str) -> Template:
    """Return a template of this folder. Every text in it is escaped; charts and words are there by name."""
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    environment.tests["absent"] = lambda part: isinstance(part, Absent)
    environment.globals.update(charts=_Charts, words=wording)
    return environment.get_template(name)


class _Charts:
    """The charts, by the names that the template has for them."""

    distribution = staticmethod(charts_classes.distribution_chart)
    accuracy = staticmethod(charts_classes.accuracy_chart)
    gains = staticmethod(charts_classes.gains_chart)
    bars = staticmethod(charts_methods.bars_chart)
    methods = staticmethod(charts_methods.methods_chart)
    calibration = staticmethod(charts_methods.calibration_chart)
    curves = staticmethod(charts_methods.curves_chart)
    loss_names = staticmethod(charts_methods.loss_names)
    heat = staticmethod(charts_prompts.heat_chart)
    map = staticmethod(charts_prompts.map_chart)
    coloured = staticmethod(charts_prompts.coloured_prompts)
    prompts = staticmethod(charts_prompts.prompt_rows)
    trials = staticmethod(charts_tune.trials_chart)
    importance = staticmethod(charts_tune.importance_chart)
    settings = staticmethod(charts_tune.settings_chart)
    gains_of_tuning = staticmethod(charts_tune.gains_chart)


def _printable(value: Any) -> Any:
    """Write control characters and bytes of names that are not UTF-8 as escapes; drawings stay as they are."""
    return escaped(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@lru_cache(maxsize=4)
def read_part(name: str) -> str:
    """Return the text of a file of this folder."""
    return (_HERE / name).read_text(encoding="utf-8")
