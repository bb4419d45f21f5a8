"""`lpt methods`: list the methods that `--method` and `--methods` accept."""

from __future__ import annotations

from rich import box
from rich.table import Table

from lpt.cli.screen import output_console


def methods() -> None:
    """List the methods for lpt fit --method and lpt compare --methods."""
    from lpt.config.recipes import METHODS

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 2, 0, 0))
    table.add_column("name", no_wrap=True, style="bold")
    table.add_column("method")
    table.add_column("reference")
    for method in METHODS.values():
        table.add_row(method.name, method.title, method.reference)
    output_console().print(table)
