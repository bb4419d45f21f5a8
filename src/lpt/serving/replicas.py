"""Replicas of the server on a Ray cluster, under Ray Serve.

Every replica is the whole app with its own packs, queue and watch; batches are made inside it, since images of several
packs share one. In front of them stands `lpt.serving.front`: in the process of `lpt serve --ray`, or as a deployment of
its own under Ray Serve's proxies, where a Serve config file starts everything.
"""

# Without `from __future__ import annotations`: Ray Serve takes the class of the arguments from the annotation.

import asyncio
import contextlib
import logging
import os
import re
import socket
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prometheus_client.metrics_core import Metric
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import ASGIApp

from lpt.errors import ConfigError, RunError
from lpt.packs.hub import is_address
from lpt.serving.access import EVERY_HOST, read_token
from lpt.serving.app import create_app
from lpt.serving.front import READY_SECONDS, Front, ReplicaLostError
from lpt.serving.inner import Answer, Call, answer_of
from lpt.serving.limits import Limits
from lpt.serving.shelf import find_packs
from lpt.system.cluster import Node, connected, nodes, ray, serve
from lpt.system.limits import usable_cores
from lpt.system.serve_guard import deleted_with_this_process
from lpt.system.text import plural

FRONTS = 2
"""Deployments of a Serve config file have several fronts, so that a dead one is not the end of all."""
_STARTS = 1
"""How often Serve tries to start the first replicas: what is wrong is wrong again. Lost ones are always replaced."""
_LOST = (
    ray.exceptions.RayActorError,
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.OutOfMemoryError,
    ray.exceptions.ObjectLostError,  # the replica had answered, and its node died before the front had the answer
)
_CAUSE = re.compile(r"lpt\.errors\.\w+: (.*)")


class Replicated(BaseModel):
    """The arguments of `lpt.serving.deployment`, as a Serve config file gives them under `args`.

    Paths must be the same on all machines.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    packs: list[str] = Field(min_length=1, description="Packs, run folders, folders of them, addresses on the hub.")
    replicas: int = Field(default=1, ge=1, description="Processes that hold the packs.")
    cores: int = Field(default=1, ge=1, description="CPU cores of a replica.")
    cards: float = Field(default=0, ge=0, description="Cards of a replica; a part, such as 0.5, shares one.")
    token_file: Path | None = Field(default=None, description="File whose first line is the token to ask for.")
    hosts: list[str] = Field(default=[EVERY_HOST], description="Host names that requests may be sent to.")
    app: dict[str, Any] = Field(default={}, description="More arguments of create_app, such as watch: true.")
    limits: dict[str, Any] = Field(default={}, description="Fields of lpt.serving.Limits.")


class Replica:
    """A replica: an app of its own, which is asked without a connection.

    Args:
        packs: as for `create_app`.
        cores: CPU cores of the replica.
        limits: of the server.
        options: more arguments of `create_app`.
    """

    def __init__(self, packs: Sequence[str], cores: int, limits: Limits, options: dict[str, Any]) -> None:
        os.environ["LOCAL_WORLD_SIZE"] = str(max(1, usable_cores() // cores))  # others have the rest of the machine
        logging.getLogger("lpt.serving").setLevel(logging.INFO)
        self._app = create_app(packs, limits=limits, hosts=[EVERY_HOST], **options)  # the front knows the token
        self._service = self._app.state.service
        self._service.start()

    async def __call__(self, call: Call) -> Answer:
        """Answer a request."""
        return await answer_of(self._app, call)

    async def metrics(self) -> tuple[str, list[Metric]]:
        """Return the name of this replica and its metrics."""
        return str(ray.get_runtime_context().get_actor_id())[:8], self._service.metrics.families()

    def check_health(self) -> None:
        """Raise an error if the thread of the network has died: Serve then replaces the replica."""
        if not self._service.batcher.alive:
            raise RuntimeError("the thread of the network has died")

    def __del__(self) -> None:
        service = getattr(self, "_service", None)  # there is none if the start failed
        if service is not None:
            service.close()


class RayReplicas:
    """The replicas behind a handle of Ray Serve, as the front asks them.

    Args:
        handle: of their deployment.
    """

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    async def ask(self, call: Call) -> Answer:
        """Return the answer of one of them.

        Raises:
            ReplicaLostError: it died, or cannot be reached.
        """
        response = self._handle.remote(call)
        try:
            answer: Answer = await response
        except asyncio.CancelledError:
            response.cancel()
            raise
        except _LOST as error:
            raise ReplicaLostError from error
        return answer

    async def metrics(self) -> Sequence[tuple[str, list[Metric]]]:
        """Return name and metrics of each replica that gives them."""
        results = await self._handle.broadcast("metrics").results_async(timeout_s=READY_SECONDS, return_exceptions=True)
        return [result for result in results if isinstance(result, tuple)]


class Door:
    """The front as a deployment, under the proxies of Ray Serve.

    Args:
        handle: of the replicas.
        limits, token, hosts: as for `Front`.
    """

    def __init__(self, handle: Any, limits: Limits, token: str | None, hosts: Sequence[str]) -> None:
        self._front = Front(RayReplicas(handle), limits=limits, token=token, hosts=hosts)

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Return the app that Serve runs."""
        return self._front.app


def replicas_of(arguments: Replicated) -> Any:
    """Return the Serve application of the replicas alone."""
    limits = Limits(**arguments.limits)
    deployed = serve().deployment(
        Replica,
        name="Replica",
        num_replicas=arguments.replicas,
        ray_actor_options={"num_cpus": arguments.cores, "num_gpus": arguments.cards},
        max_ongoing_requests=limits.queue + limits.max_images,  # the app itself says when its queue is full
        graceful_shutdown_timeout_s=limits.timeout,
        max_constructor_retry_count=_STARTS,
    )
    sources = [source if is_address(source) else str(Path(source).absolute()) for source in arguments.packs]
    return deployed.bind(sources, arguments.cores, limits, arguments.app)


def deployment(arguments: Replicated) -> Any:
    """Return the application for Ray Serve: replicas, and fronts that ask another one if a replica dies.

    In a Serve config file: `import_path: lpt.serving:deployment`, with the fields of `Replicated` as `args`. In Python:
    `serve.run(lpt.serving.deployment(lpt.serving.Replicated(packs=["/shared/packs"], replicas=2)))`.

    Raises:
        ConfigError: a limit is not accepted, or the token cannot be read.
    """
    token = None if arguments.token_file is None else read_token(arguments.token_file)
    limits = Limits(**arguments.limits)
    door = serve().deployment(
        serve().ingress()(Door),
        name="Door",
        num_replicas=FRONTS,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=limits.connections,
        graceful_shutdown_timeout_s=limits.timeout,
    )
    return door.bind(replicas_of(arguments), limits, token, arguments.hosts)


def share_of_machine(replicas: int, *, card: bool, there: Sequence[Node]) -> int:
    """Return the most CPU cores that each of several replicas can have on the machines that are there.

    Args:
        replicas: how many there are to be.
        card: whether each needs a card.
        there: the machines.

    Raises:
        ConfigError: not all find a place.
    """

    def places(cores: int) -> int:
        return sum(min(node.cores // cores, node.cards if card else replicas) for node in there)

    for cores in range(max((node.cores for node in there), default=0), 0, -1):
        if places(cores) >= replicas:
            return cores
    wanted = "a card and a core" if card else "a core"
    raise ConfigError(
        f"--replicas {replicas}: each needs {wanted}, and the Ray cluster has {'; '.join(map(str, there)) or 'none'}. "
        "Next: ask for fewer, or start Ray on more machines"
    )


@contextlib.contextmanager
def running_replicas(
    packs: Sequence[str], replicas: int, limits: Limits, options: dict[str, Any], *, port: int
) -> Iterator[tuple[RayReplicas, str]]:
    """Run replicas in the block, on the cluster at RAY_ADDRESS or on this machine, each with its share of the cores.

    Args:
        packs: as for `create_app`.
        replicas: how many.
        limits: of the server.
        options: more arguments of `create_app`.
        port: of the front. If it is killed, its replicas end; the next one on this port need not wait for that.

    Yields:
        The replicas, and a line on where they are.

    Raises:
        ConfigError: there is no pack, or no place for so many replicas.
        RunError: the cluster does not answer, or the replicas cannot start.
    """
    find_packs([Path(source) for source in packs if not is_address(source)])
    name = f"lpt-{socket.gethostname()}-{port}"
    with connected():
        there = nodes()
        card = options.get("device", "auto") in ("auto", "cuda") and any(node.cards for node in there)
        cores = share_of_machine(replicas, card=card, there=there)
        arguments = Replicated(
            packs=list(packs), replicas=replicas, cores=cores, cards=int(card), app=options, limits=asdict(limits)
        )
        share = plural(cores, "core") + (" and a card" if card else "")
        with deleted_with_this_process(name):
            try:
                yield _started(arguments, name), f"{plural(replicas, 'replica')} of {share}"
            finally:
                with contextlib.suppress(ray.exceptions.RayError, RuntimeError, KeyError):  # gone, or never there
                    serve().delete(name)


def _started(arguments: Replicated, name: str) -> RayReplicas:
    """Start replicas, and wait until they serve.

    Raises:
        RunError: they cannot start.
    """
    engine = serve()
    engine.start(proxy_location="Disabled")  # nobody but this process asks them
    try:
        return RayReplicas(engine.run(replicas_of(arguments), name=name, route_prefix=None))
    except RuntimeError as error:
        causes = _CAUSE.findall(_message_of(name)) or [str(error)]
        raise RunError(
            f"the replicas cannot start: {causes[-1].rstrip('.')}. All machines of the cluster must find packs and "
            "weights under the same paths, and have the same version of LPT"
        ) from None


def _message_of(name: str) -> str:
    """Return what Serve says of an application."""
    status = serve().status().applications.get(name)
    return "" if status is None else "\n".join([status.message, *(d.message for d in status.deployments.values())])
