"""Show on a console how far a command is, and warn. Nothing here needs PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


def warner(console: Console) -> Callable[[str], None]:
    """Return a function that prints a sentence as a warning."""
    return lambda line: console.print(line, style="yellow", markup=False)


def teller(console: Console) -> Callable[[str], None]:
    """Return a function that prints a sentence as it is."""
    return lambda line: console.print(line, markup=False)


def progress_bar(console: Console) -> Progress:
    """Return a bar with count, text, time passed and time left.

    It is shown on terminals only, and disappears when done.
    """
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[info]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


@contextmanager
def image_bar(console: Console, what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar over a known number of images; yield a function to call with the number of images done."""
    with progress_bar(console) as bar:
        task = bar.add_task(what, total=total, info="images")
        yield lambda done: bar.update(task, completed=done)
