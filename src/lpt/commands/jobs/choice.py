"""Choose where jobs run: in this process, or on a Ray cluster if the user asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from rich.console import Console

from lpt.commands.jobs.executors import Executor, InThisProcess


@contextmanager
def cluster(ray: bool, console: Console) -> Iterator[None]:
    """Be connected to the Ray cluster in the block, if Ray is asked for.

    Raises:
        RunError: the cluster does not answer.
    """
    if not ray:
        yield
        return
    from lpt.system.cluster import connected

    with ExitStack() as stack:
        with console.status("connecting to Ray; to start it on this machine takes about ten seconds"):
            stack.enter_context(connected())
        yield


def choose_executor(ray: bool, *, device: str, threads: object, console: Console) -> Executor:
    """Return what runs jobs.

    Args:
        ray: whether Ray is asked for; then this process is connected to the cluster.
        device: what the jobs train on; each takes a card where that is `cuda`.
        threads: CPU threads of a job; anything but a number leaves the choice to the cluster.
        console: where to describe the cluster.

    Raises:
        ConfigError: no machine of the cluster has room for a job.
    """
    if not ray:
        return InThisProcess()
    from lpt.commands.jobs.on_ray import OnRay

    on_ray = OnRay(card=device == "cuda", cores=threads if isinstance(threads, int) else None)
    console.print(f"Ray: {on_ray.describe()}", highlight=False, markup=False)
    return on_ray
