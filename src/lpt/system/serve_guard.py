"""Delete an application of Ray Serve when the process that runs it is killed: Serve would keep it, and its cores.

The process owns an actor, the pulse, that Ray ends with it. A second actor, the guard, belongs to nobody and waits for
that end; then it deletes the application. Nothing is timed, so a process that is slow or stopped for a while loses
nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

from lpt.errors import RunError
from lpt.system.cluster import ray, serve

_NAMESPACE = "lpt"
_END_SECONDS = 30.0
"""How long Ray may take to end the guard of an earlier process."""


class Pulse:
    """Lives as long as the process that started it."""

    async def stay(self) -> None:
        """Wait for the end."""
        await asyncio.Event().wait()


class Guard:
    """Deletes an application once a pulse has ended, and then ends itself.

    Args:
        application: its name.
        pulse: name of the process's. If a node dies with it, Ray starts it again elsewhere, unless the process is gone.
    """

    def __init__(self, application: str, pulse: str) -> None:
        itself = ray.get_runtime_context().current_actor
        threading.Thread(target=_watch, args=(application, pulse, itself), daemon=True).start()

    def ready(self) -> None:
        """Return once the guard is there."""


def _watch(application: str, pulse: str, guard: Any) -> None:
    while True:
        try:
            ray.get(ray.get_actor(pulse, namespace=_NAMESPACE).stay.remote())
        except ray.exceptions.ActorUnavailableError:  # the network hangs for a while, or the pulse starts again
            time.sleep(1)
        except (ray.exceptions.RayActorError, ValueError):  # it has ended, just now or before
            break
    try:
        serve().delete(application)
    finally:
        ray.kill(guard)  # an actor that ends itself would be started again


@contextlib.contextmanager
def deleted_with_this_process(application: str) -> Iterator[None]:
    """See to it that an application is deleted if this process is killed in the block.

    The guard of an earlier process ends first: an application of this name is now this process's.

    Raises:
        RunError: that guard does not end.
    """
    name = f"guard of {application}"
    _end(name)
    pulse = f"pulse of {application}, {uuid4().hex}"  # a killed process's may be there still
    held = _actor(Pulse, name=pulse, max_task_retries=-1).remote()
    guard = _actor(Guard, name=name, lifetime="detached").remote(application, pulse)
    ray.get(guard.ready.remote())
    try:
        yield
    finally:
        with contextlib.suppress(ray.exceptions.RayError):
            ray.kill(guard)
            ray.kill(held)


def _end(name: str) -> None:
    """End the actor of a name, if there is one, and wait until its name is free."""
    end = time.monotonic() + _END_SECONDS
    while time.monotonic() < end:
        try:
            ray.kill(ray.get_actor(name, namespace=_NAMESPACE))
        except ValueError:  # there is none, or none any more
            return
        time.sleep(0.2)
    raise RunError(
        f"the actor {name!r} of the Ray cluster does not end. Next: restart the cluster, or take another --port"
    )


def _actor(kind: type, **options: Any) -> Any:
    return ray.remote(num_cpus=0, max_restarts=-1)(kind).options(namespace=_NAMESPACE, **options)
