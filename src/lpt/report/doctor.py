"""Print what `lpt doctor` finds in a data set."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lpt.data.doctor.findings import Finding, Findings, Severity, SizeFacts
from lpt.system.text import plural

_MARKS: dict[Severity, tuple[str, str]] = {
    "error": ("✗ error", "bold red"),
    "warning": ("! warning", "bold yellow"),
    "info": ("· info", "cyan"),
}
_LISTED_CLASSES = 10


def print_findings(findings: Findings, console: Console) -> None:
    """Print splits, class sizes, image sizes and the findings; the worst come last, where they are seen."""
    _print_table("Data", _splits_table(findings), console)
    factor = "" if findings.imbalance is None else f"; imbalance factor {findings.imbalance:,.4g}"
    _print_table(
        f"Shot groups by training images: {findings.groups.describe()}{factor}", _groups_table(findings), console
    )
    _print_table("Classes by training images", _classes_table(findings), console)
    if findings.sizes is not None:
        how = "decoded" if findings.decoded else "by header"
        title = f"Image sizes, pixels ({plural(findings.sizes.images, 'image')} {how})"
        _print_table(title, _sizes_table(findings.sizes), console)
    for note in findings.notes:
        console.print(Text(f"- {note}", style="dim"))
    if findings.notes:
        console.print()
    for finding in reversed(findings.findings):
        _print_finding(finding, console)
    console.print(_verdict(findings))


def _print_table(title: str, table: Table, console: Console) -> None:
    console.print(Text(title, style="bold"))  # a table's own title would wrap at its width
    console.print(table)
    console.print()


def _splits_table(findings: Findings) -> Table:
    table = _table()
    table.add_column("split")
    table.add_column("images", justify="right")
    table.add_column("classes with images", justify="right")
    for split in findings.splits:
        table.add_row(split.name, f"{split.images:,}", f"{split.classes:,} of {len(findings.class_names):,}")
    return table


def _groups_table(findings: Findings) -> Table:
    table = _table()
    table.add_column("group")
    table.add_column("classes", justify="right")
    table.add_column("images", justify="right")
    for name, classes, images in findings.group_sizes():
        table.add_row(name, f"{classes:,}", f"{images:,}")
    return table


def _classes_table(findings: Findings) -> Table:
    """Return a table of all classes if they are few, else of the largest and the smallest."""
    total = len(findings.class_names)
    table = _table()
    table.add_column("class", overflow="fold")
    table.add_column("images", justify="right")
    if total <= 2 * _LISTED_CLASSES:
        rows = findings.largest(total)
    else:
        hidden = (f"… {total - 2 * _LISTED_CLASSES:,} more …", -1)
        rows = [*findings.largest(_LISTED_CLASSES), hidden, *findings.smallest(_LISTED_CLASSES)]
    for name, count in rows:
        table.add_row(Text(name), "" if count < 0 else f"{count:,}", style="dim" if count < 0 else None)
    return table


def _sizes_table(sizes: SizeFacts) -> Table:
    table = _table()
    for name in ("", "smallest", "median", "largest"):
        table.add_column(name, justify="right" if name else "left")
    for name in ("width", "height", "shorter"):
        values = getattr(sizes, name)
        table.add_row("shorter side" if name == "shorter" else name, *(f"{value:,}" for value in values))
    return table


def _print_finding(finding: Finding, console: Console) -> None:
    mark, style = _MARKS[finding.severity]
    console.print(Text.assemble((mark, style), " ", (finding.what, "bold")))
    body = Text(" ".join(part for part in (finding.harm, finding.advice) if part))
    for example in finding.examples:
        body.append(f"\n- {example}", style="dim")
    console.print(Padding(body, (0, 0, 0, 4), expand=False))


def _verdict(findings: Findings) -> Text:
    errors, warnings = findings.count("error"), findings.count("warning")
    tally = f"{plural(errors, 'error')}, {plural(warnings, 'warning')}"
    if errors:
        return Text(f"Not usable as it is: {tally}.", style="bold red")
    limits = "" if findings.decoded else " Only headers were read, and duplicates were not searched for."
    return Text(f"Usable: {tally}.{limits}", style="bold green")


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 2, 0, 1))
