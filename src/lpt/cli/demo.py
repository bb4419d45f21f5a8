"""`lpt demo`: train and compare three methods on data that comes with the packages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lpt.cli.screen import output_console


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where to write tables, plots and packs.")
    ] = Path("lpt-demo"),
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds each method is trained with.")] = 3,
) -> None:
    """Train both phases on long-tailed handwritten digits, beside a linear probe and full fine-tuning.

    No download: the digits come with scikit-learn, the backbone with this package. A few minutes on two CPU cores.

    **Example:** lpt demo --seeds 1
    """
    from lpt.demo.run import run_demo

    run_demo(output, seeds=seeds, console=output_console(lasting=True))
