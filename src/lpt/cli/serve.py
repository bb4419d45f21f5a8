"""`lpt serve`: answer predictions over HTTP."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from lpt.cli import options
from lpt.cli.screen import error_console, output_console
from lpt.system.text import plural, shorten

_SERVER = "Server"


def serve(
    packs: Annotated[
        list[str],
        typer.Argument(
            metavar="PACK",
            help="Prompt packs, run folders, folders that hold them, or hf://OWNER/NAME[@REVISION].",
            show_default=False,
        ),
    ],
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address to listen on; 0.0.0.0: all.", rich_help_panel=_SERVER)
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="N", min=0, max=65535, help="Port; 0: a free one.", rich_help_panel=_SERVER)
    ] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File whose first line is the token that requests must have.",
            rich_help_panel=_SERVER,
        ),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Take up packs that appear, change, or go.", rich_help_panel=_SERVER)
    ] = False,
    reject: Annotated[
        bool,
        typer.Option(
            "--reject",
            help="Say which images show none of the classes; every pack needs a threshold. A request may differ.",
        ),
    ] = False,
    queue: Annotated[
        int,
        typer.Option(metavar="N", min=1, help="Most images that wait; more get status 429.", rich_help_panel=_SERVER),
    ] = 64,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.001, help="Longest time to an answer.", rich_help_panel=_SERVER)
    ] = 30.0,
    max_batch: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Most images that the network takes at once. Default: 8 on a CPU, 32 on a card.",
            rich_help_panel=_SERVER,
        ),
    ] = None,
    engine: Annotated[
        Literal["auto", "torch", "onnx"],
        typer.Option(help="What runs the network: PyTorch, or ONNX Runtime on what lpt export wrote."),
    ] = "auto",
    backbone: options.Backbone = None,
    checkpoint: options.Checkpoint = None,
    device: options.Device = None,
    precision: options.Precision = "auto",
) -> None:
    """Serve packs over HTTP: a page for people at /, an API for programs, described at /openapi.json.

    Packs of the same backbone share it in memory, and images of all packs share batches. SIGTERM and Ctrl-C end the
    server once it has answered what it accepted. Logs are lines of JSON on standard error.

    **Example:** lpt serve runs/photos

    **Example:** lpt serve packs/ --watch --host 0.0.0.0 --token-file token.txt
    """
    from lpt.serving.access import EVERY_HOST, LOOPBACK_NAMES, is_loopback, read_token
    from lpt.serving.app import create_app
    from lpt.serving.limits import Limits
    from lpt.serving.logs import log_to
    from lpt.serving.server import address_of, listen, new_server

    token = None if token_file is None else read_token(token_file)
    limits = Limits(queue=queue, timeout=timeout, max_batch=max_batch)
    local = is_loopback(host)
    with listen(host, port) as listener:
        app = create_app(
            packs,
            backbone=backbone,
            checkpoint=checkpoint,
            engine=engine,
            device=device or "auto",
            precision=precision,
            watch=watch,
            token=token,
            hosts={*LOOPBACK_NAMES, listener.getsockname()[0]} if local and token is None else {EVERY_HOST},
            limits=limits,
            reject=reject,
        )
        if not local and token is None:
            error_console().print(
                f"Warning: {host} can be reached from other machines, and no token is asked for: whoever reaches it "
                "may send images. Give --token-file FILE, or listen on 127.0.0.1 behind a proxy.",
                style="yellow",
            )
        log_to(sys.stderr)
        names = list(app.state.service.shelf.served)
        listener.listen()  # whoever connects from here on waits until the server answers
        output_console(lasting=True).print(
            f"{address_of(listener)} serves {plural(len(names), 'pack')}{': ' if names else ''}{shorten(names)}"
        )
        new_server(app).run(sockets=[listener])
