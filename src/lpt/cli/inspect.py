"""`lpt inspect`: show a pack."""

from __future__ import annotations

import json as json_module
from typing import Annotated

import typer

from lpt.cli import options
from lpt.cli.screen import output_console
from lpt.system.text import output_for_programs


def inspect(
    pack: options.PackPath,
    json: Annotated[bool, typer.Option("--json", help="Print the whole description as JSON.")] = False,
) -> None:
    """Show a pack: task, classes, method, backbone, input, results, how it was trained; its tensors are verified.

    **Example:** lpt inspect runs/photos
    """
    from lpt.packs.pack import load_pack
    from lpt.report.pack import print_pack

    loaded = load_pack(pack)
    if json:
        sizes = {"path": str(loaded.path), "address": loaded.address, "stored_bytes": loaded.stored_bytes}
        facts = {**loaded.info.model_dump(mode="json"), **sizes}
        typer.echo(json_module.dumps(facts, indent=2, ensure_ascii=False), output_for_programs())
        return
    print_pack(loaded, output_console())
