"""`lpt push`: put a pack on the Hugging Face Hub."""

from __future__ import annotations

from typing import Annotated

import typer

from lpt.cli import options
from lpt.cli.screen import output_console


def push(
    pack: options.PackPath,
    repository: Annotated[
        str, typer.Argument(metavar="OWNER/NAME", help="Repository on the hub; a missing one is made.")
    ],
    private: Annotated[bool, typer.Option("--private", help="Make the repository private, if it is new.")] = False,
) -> None:
    """Put a pack on the Hugging Face Hub: its three files, in one commit, which is printed.

    It is then used as hf://OWNER/NAME wherever a pack is expected. Log in once with hf auth login, or set HF_TOKEN.
    The files name the classes, their numbers of training images, and the settings of the run without its folders.

    **Example:** lpt push runs/photos me/photos --private
    """
    from lpt.commands.push import push as push_pack

    push_pack(pack, repository, private=private, console=output_console())
