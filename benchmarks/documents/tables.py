"""Make the tables of README.md and the documents from the committed result files.

python -m benchmarks.documents.tables          print them
python -m benchmarks.documents.tables --write  put them between their marks, `<!-- table NAME -->` and `<!-- end -->`
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.documents import (
    compare_tables,
    evidence_tables,
    extension_tables,
    label_tables,
    machine_tables,
    performance_tables,
    prior_tables,
    scaling_tables,
    second_pass_tables,
    serving_tables,
    shift_tables,
    stranger_tables,
    trial_record,
    trial_tables,
    tune_tables,
)
from benchmarks.documents.pages import PAGES
from benchmarks.documents.performance_tables import (
    MEASURES,
    MISSING,
    RESULTS,
    Result,
    spread,
)
from lpt.config.recipes import METHODS

DOCUMENTS = tuple(page for page in PAGES if "<!-- table " in page.read_text(encoding="utf-8"))


MOVED = {
    "cifar100_compare": "accuracy.cifar100_compare",
    "cifar100_shift": "accuracy.cifar100_shift",
    "emoji_folder": "accuracy.emoji_folder",
    "frozen_prefix": "accuracy.frozen_prefix",
    "counts": "speed.counts",
    "pipeline": "speed.pipeline",
}
"""Modules of benchmarks by the names that older result files give them; the files stay as they were written."""


def demo() -> str:
    """Return the table of the embedded demo, long-tailed digits: mean and standard deviation over its seeds."""
    path = RESULTS / "demo.json"
    if not path.exists():
        return MISSING
    result = read(path)
    lines = ["| method | overall | many | medium | few | trained numbers | stored |", "|---|---|---|---|---|---|---|"]
    for name, rows in result["rows"].items():
        cells = [spread(100 * row["metrics"][measure] for row in rows) for measure in MEASURES]
        stored = f"{rows[0]['stored_bytes'] / 1000:,.0f} kB"
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {rows[0]['parameters']:,} | {stored} |")
    first = next(iter(result["rows"].values()))[0]["metrics"]
    lines += [
        "",
        f"scikit-learn's digits, 100 to 2 training images a class, {first['images']:,} test images; groups: "
        f"{first['boundaries']}. {result['seeds']} seeds, {result['budget']['image_draws']:,} image draws for each "
        f"trained row. {result['machine']}; torch {result['versions']['torch']}, timm {result['versions']['timm']}; "
        f"{result['date']}; {result['seconds']:.0f} s in all. Command: `{result['command']}`.",
    ]
    return "\n".join(lines)


def methods() -> str:
    """Return the table of the methods that `--method` takes."""
    lines = ["| name | method | where it comes from |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| `{each.name}` | {each.title} | {each.reference} |" for each in METHODS.values())])


TABLES: dict[str, Callable[[], str]] = {
    "demo": demo,
    "methods": methods,
    **compare_tables.TABLES,
    **evidence_tables.TABLES,
    **shift_tables.TABLES,
    **trial_record.TABLES,
    **trial_tables.TABLES,
    **performance_tables.TABLES,
    **serving_tables.TABLES,
    **scaling_tables.TABLES,
    **machine_tables.TABLES,
    **tune_tables.TABLES,
    **stranger_tables.TABLES,
    **prior_tables.TABLES,
    **label_tables.TABLES,
    **second_pass_tables.TABLES,
    **extension_tables.TABLES,
}


def read(path: Path) -> Result:
    """Read a result file."""
    result: Result = json.loads(path.read_text(encoding="utf-8"))
    return result


def present_commands(text: str) -> str:
    """Name modules that moved since a result file was written by their present names."""
    return re.sub(
        rf"python -m benchmarks\.({'|'.join(MOVED)})\b", lambda match: f"python -m benchmarks.{MOVED[match[1]]}", text
    )


def filled(text: str) -> str:
    """Return a document with every marked table made anew from the result files."""

    def table(match: re.Match[str]) -> str:
        return f"<!-- table {match[1]} -->\n{present_commands(TABLES[match[1]]())}\n<!-- end -->"

    return re.sub(r"<!-- table (\w+) -->\n.*?<!-- end -->", table, text, flags=re.DOTALL)


def main() -> None:
    """Print the tables, or write them into the documents."""
    if "--write" not in sys.argv:
        print("\n\n".join(f"## {name}\n\n{present_commands(table())}" for name, table in TABLES.items()))
        return
    for path in DOCUMENTS:
        path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
