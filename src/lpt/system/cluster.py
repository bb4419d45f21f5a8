"""Ray without its usage reports: import it from here only.

Ray tells its makers of every cluster unless this variable is set before it starts. Nothing of LPT imports this module
unless the user asks for `--ray`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
if "RAY_AUTH_MODE" not in os.environ and (Path.home() / ".ray" / "auth_token").exists():
    # `ray start --head` asks for a token by default; a driver that is given an address would not show its own.
    os.environ["RAY_AUTH_MODE"] = "token"

import ray

from lpt.errors import RunError

__all__ = ["connected", "ray"]


@contextlib.contextmanager
def connected() -> Iterator[None]:
    """Connect to the cluster that `RAY_ADDRESS` names, else to one on this machine that ends with the block.

    A process that is connected already, such as a task of a cluster, stays so.

    Raises:
        RunError: the cluster does not answer.
    """
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS")
    try:
        ray.init(address=address, log_to_driver=False, include_dashboard=False if address is None else None)
    except (ConnectionError, RuntimeError, TimeoutError) as error:
        raise RunError(
            f"the Ray cluster {address or 'of this machine'} does not answer: {error}. Next: start it with `ray start "
            "--head`, and set RAY_ADDRESS to the address that this prints; on another machine copy its "
            "~/.ray/auth_token too, or set RAY_AUTH_MODE as it was there"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()
