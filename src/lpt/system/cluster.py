"""Ray without its usage reports: import it from here only.

Ray tells its makers of every cluster unless this variable is set before it starts. Nothing of LPT imports this module
unless the user asks for `--ray`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
if "RAY_AUTH_MODE" not in os.environ and (Path.home() / ".ray" / "auth_token").exists():
    # `ray start --head` asks for a token by default; a driver that is given an address would not show its own.
    os.environ["RAY_AUTH_MODE"] = "token"

import ray

from lpt.errors import RunError
from lpt.system.text import plural

__all__ = ["Node", "connected", "nodes", "ray", "serve"]

_HERE = "local"
"""What Ray calls a cluster that it starts on this machine."""
_ANSWER_SECONDS = 30.0
"""How long the head of a cluster may take to accept a connection."""


class Node(NamedTuple):
    """A machine of the cluster: its name, and the CPU cores and cards that it has for Ray."""

    host: str
    cores: int
    cards: int

    def __str__(self) -> str:
        cards = f" and {plural(self.cards, 'card')}" if self.cards else ""
        return f"{self.host} with {plural(self.cores, 'core')}{cards}"


@contextlib.contextmanager
def connected() -> Iterator[None]:
    """Connect to the cluster that `RAY_ADDRESS` names, else start one on this machine that ends with the block.

    Without an address Ray itself would look for any cluster that was started on this machine.

    A process that is connected already, such as a task of a cluster, stays so.

    Raises:
        RunError: the cluster does not answer.
    """
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS") or _HERE
    try:
        _check_answers(address)
        ray.init(
            address=address,
            include_dashboard=False if address == _HERE else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise RunError(
            f"the Ray cluster {'of this machine' if address == _HERE else address} does not answer: "
            f"{str(error).rstrip('.')}. Next: start it with `ray start "
            "--head`, and set RAY_ADDRESS to the address that this prints; on another machine copy its "
            "~/.ray/auth_token too, or set RAY_AUTH_MODE as it was there"
        ) from None
    try:
        with _ends_on_sigterm():
            yield
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Raise `OSError` if nothing listens at an address of the form HOST:PORT: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if "://" not in address and host and port.isdecimal():
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_SECONDS):
            pass


@contextlib.contextmanager
def _ends_on_sigterm() -> Iterator[None]:
    """Let SIGTERM end the block in order: Ray's own handler prints the stacks of its C++ code."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        del frame
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def nodes() -> list[Node]:
    """Return the machines of the cluster that are there now."""
    there = []
    for facts in ray.nodes():  # type: ignore[no-untyped-call]
        if facts["Alive"]:
            resources = facts["Resources"]
            cores, cards = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
            there.append(Node(facts["NodeManagerHostname"], cores, cards))
    return there


def serve() -> Any:
    """Return Ray Serve, which is slow to import and not needed for tasks; of its messages only errors are shown."""
    from ray import serve

    logging.getLogger("ray.serve").addFilter(_is_error)  # it sets the level anew when it starts
    return serve


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR
