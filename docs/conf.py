"""Build the site: `make docs`."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.documents.reference import completed  # noqa: E402

import lpt  # noqa: E402

project = "LPT"
author = copyright = "The LPT authors"
version = release = lpt.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["results/**"]
smartquotes = False  # `--option` stays as it is
default_role = "code"  # docstrings write code as Markdown does
myst_heading_anchors = 4
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
autodoc_class_signature = "mixed"
maximum_signature_line_length = 100
nitpick_ignore_regex = [("py:.*", ".*")]  # types of other packages: nothing is looked up in the network
suppress_warnings = ["misc.highlighting_failure"]  # answers in JSON with `...` in them

html_theme = "furo"
html_title = f"LPT {release}"
html_copy_source = False
html_show_sourcelink = False

_LISTED = re.compile(r"^- \[[^\]]+\]\(([\w/-]+)\.md\)", flags=re.MULTILINE)
_RAW = re.compile(r"\[([^\]]+)\]\((\.\./results[^)]*)\)")
_PUBLIC = {f"{home}.{name}": f"lpt.{name}" for name, home in lpt._HOME.items()}


def fill_page(app: Sphinx, page: str, source: list[str]) -> None:
    """Put the generated reference into a page; list the pages of an index in the navigation, as its text does."""
    folder = (Path(app.srcdir) / page).parent
    source[0] = completed(_RAW.sub(lambda link: raw_link(folder, link[1], link[2]), source[0]))
    if page.endswith("index"):
        listed = "\n".join(_LISTED.findall(source[0]))
        source[0] += f"\n```{{toctree}}\n:hidden:\n\n{listed}\n```\n"


def raw_link(folder: Path, text: str, target: str) -> str:
    """Return a link to raw results for the site: a page there is a file to load, and a folder has no page."""
    if (folder / target).is_dir():
        return f"`{text}`"
    return f"[{text}]({'path:' * target.endswith('.md')}{target})"


def mark_formulas(app: Sphinx, what: str, name: str, item: object, options: object, lines: list[str]) -> None:
    """Mark the indented blocks of a docstring, which are formulas, as what is shown as it stands."""
    for number in range(len(lines) - 1, 1, -1):
        indented, blank, above = lines[number].startswith("    "), not lines[number - 1], lines[number - 2]
        if indented and blank and above and not above.startswith(" "):
            lines[number:number] = ["::", ""]


def link_public_name(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, text: nodes.TextElement
) -> nodes.Node | None:
    """Link a class to the name that `lpt` exports, wherever it is defined."""
    public = _PUBLIC.get(node.get("reftarget", ""))
    if public is None or node.get("refdomain") != "py":
        return None
    domain = env.domains.python_domain
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", public, node, nodes.literal(public, public))


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect them."""
    app.connect("source-read", fill_page)
    app.connect("autodoc-process-docstring", mark_formulas, priority=400)  # before napoleon
    app.connect("missing-reference", link_public_name)
    return {"parallel_read_safe": True}
