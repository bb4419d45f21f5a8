"""`lpt serve`: answer predictions over HTTP."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from socket import socket
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lpt.cli import options
from lpt.cli.screen import error_console, output_console
from lpt.errors import ConfigError
from lpt.system.text import plural, shorten

if TYPE_CHECKING:
    from lpt.serving.limits import Limits
    from lpt.serving.server import GracefulServer

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
            help="Say which images show none of the classes: each pack needs a threshold. A request may ask otherwise.",
        ),
    ] = False,
    queue: Annotated[
        int,
        typer.Option(metavar="N", min=1, help="Most images that wait; more get status 429.", rich_help_panel=_SERVER),
    ] = 64,
    timeout: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=0.001,
            help="Longest time to an answer; after it, status 504.",
            rich_help_panel=_SERVER,
        ),
    ] = 30.0,
    ray: Annotated[
        bool,
        typer.Option(
            "--ray",
            help="Answer by replicas on the Ray cluster at RAY_ADDRESS; without it, on one started here.",
            rich_help_panel=_SERVER,
        ),
    ] = False,
    replicas: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Replicas, with --ray. Default: 1.", rich_help_panel=_SERVER)
    ] = None,
    max_batch: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Most images that the network takes at once. Default: 8 on a CPU, 32 on a card.",
            rich_help_panel=_SERVER,
        ),
    ] = None,
    engine: options.Engine = "auto",
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

    **Example:** RAY_ADDRESS=head:6379 lpt serve /shared/packs --ray --replicas 4
    """
    from lpt.serving.access import EVERY_HOST, LOOPBACK_NAMES, is_loopback, read_token
    from lpt.serving.limits import Limits
    from lpt.serving.logs import log_to
    from lpt.serving.server import address_of, listen

    if replicas is not None and not ray:
        raise ConfigError("--replicas: only a server on Ray has replicas; add --ray")
    token = None if token_file is None else read_token(token_file)
    limits = Limits(queue=queue, timeout=timeout, max_batch=max_batch)
    options = {
        "backbone": backbone,
        "checkpoint": checkpoint and checkpoint.absolute(),
        "engine": engine,
        "device": device or "auto",
        "precision": precision,
        "watch": watch,
        "reject": reject,
    }
    local = is_loopback(host)
    with ExitStack() as stack:
        listener = stack.enter_context(listen(host, port))
        hosts = {*LOOPBACK_NAMES, listener.getsockname()[0]} if local and token is None else {EVERY_HOST}
        if ray:
            server, what = stack.enter_context(_on_ray(packs, replicas or 1, limits, options, token, hosts, listener))
        else:
            server, what = _here(packs, limits, options, token, hosts)
        if not local and token is None:
            error_console().print(
                f"Warning: {host} can be reached from other machines, and no token is asked for: whoever reaches it "
                "may send images. Give --token-file FILE, or listen on 127.0.0.1 behind a proxy.",
                style="yellow",
            )
        log_to(sys.stderr)
        listener.listen()  # whoever connects from here on waits until the server answers
        output_console(lasting=True).print(f"{address_of(listener)} serves {what}")
        server.run(sockets=[listener])


def _here(
    packs: Sequence[str], limits: Limits, options: dict[str, Any], token: str | None, hosts: set[str]
) -> tuple[GracefulServer, str]:
    """Return the server of an app in this process, and what it serves."""
    from lpt.report.bars import teller
    from lpt.serving.app import create_app
    from lpt.serving.server import new_server
    from lpt.system.notices import notices_to

    with notices_to(teller(error_console())):
        app = create_app(packs, **options, token=token, hosts=hosts, limits=limits)
    names = list(app.state.service.shelf.served)
    return new_server(app), f"{plural(len(names), 'pack')}{': ' if names else ''}{shorten(names)}"


@contextmanager
def _on_ray(
    packs: Sequence[str],
    replicas: int,
    limits: Limits,
    options: dict[str, Any],
    token: str | None,
    hosts: set[str],
    listener: socket,
) -> Iterator[tuple[GracefulServer, str]]:
    """Yield the server of a front in this process, whose replicas run on Ray in the block, and what it serves."""
    from lpt.serving.front import Front
    from lpt.serving.replicas import running_replicas
    from lpt.serving.server import server_of

    with ExitStack() as stack:
        with error_console().status("starting Ray and the replicas, which takes about half a minute"):
            running, where = stack.enter_context(
                running_replicas(packs, replicas, limits, options, port=listener.getsockname()[1])
            )
        front = Front(running, limits=limits, token=token, hosts=hosts)
        yield server_of(front.app, front.gate, limits), f"{shorten(packs)} with {where}"
