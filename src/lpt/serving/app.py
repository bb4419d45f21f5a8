"""The server as an ASGI app, without any state outside of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from lpt.errors import ConfigError
from lpt.serving import routes
from lpt.serving.access import EVERY_HOST, LOOPBACK_NAMES, refuse_weak_token
from lpt.serving.faults import Fault
from lpt.serving.gate import HEALTH, Gate
from lpt.serving.limits import Limits
from lpt.serving.service import Service
from lpt.serving.shelf import Shelf
from lpt.serving.static import page_files
from lpt.serving.watching import PackEvents, Watcher
from lpt.system.threads import in_passing_thread

_DESCRIPTION = (
    "Classifies images with prompt packs on a frozen Vision Transformer. Errors have a status, a code for programs and "
    "a sentence for people; each answer has the header X-Request-ID."
)


def create_app(
    packs: str | Path | Sequence[str | Path],
    *,
    backbone: str | None = None,
    checkpoint: str | Path | None = None,
    engine: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    watch: bool = False,
    watch_seconds: float = 1.0,
    token: str | None = None,
    hosts: Collection[str] | None = None,
    limits: Limits | None = None,
    reject: bool = False,
) -> FastAPI:
    """Load packs, and return an ASGI app that serves them.

    Args:
        packs: packs, run folders, folders that hold them, or addresses `hf://OWNER/NAME[@REVISION]` on the hub.
        backbone, checkpoint, engine, device, precision: as for `lpt.load_predictor`. A backbone that is not given is
            the one that a pack names; packs on different backbones may be served together.
        watch: take up packs that appear in these places, change, or go.
        watch_seconds: from one look at them to the next.
        token: that a request must have (`Authorization: Bearer TOKEN`), other than for health and the page.
        hosts: host names that requests may be sent to, "*" for all; None: those of this machine if there is no token,
            else all. Without a token and this check, any web page could reach a server on its visitor's machine.
        limits: what requests may hold, and how long anything may take.
        reject: say for each image whether it shows none of the classes, unless a request says otherwise. Packs without
            a threshold for it are refused.

    Raises:
        PackError: a pack is damaged, or does not fit its backbone.
        ConfigError: there is no pack, one has no threshold and `reject` is set, two have the same name, or an argument
            is wrong.
    """
    if token is not None:  # an empty one would let everybody in
        refuse_weak_token(token, "token: what was given")
    sources = [packs] if isinstance(packs, str | Path) else list(packs)
    shelf = Shelf(
        backbone=backbone,
        checkpoint=None if checkpoint is None else Path(checkpoint),
        engine=engine,
        device=device,
        precision=precision,
        reject=reject,
    )
    events = PackEvents()
    watcher = Watcher(shelf, sources, events, watch_seconds)
    in_passing_thread(watcher.load)
    if not shelf.served and not watch:
        raise ConfigError(
            f"there is no pack in {', '.join(map(str, sources)) or 'an empty list'}. Give prompt packs, run folders, "
            "or folders that hold them; with --watch (Python: watch=True) packs may come later."
        )
    service = Service(shelf, watcher if watch else None, events, limits or Limits(), reject=reject)
    if hosts is None:
        hosts = LOOPBACK_NAMES if token is None else (EVERY_HOST,)
    return _assembled(service, token=token, hosts=None if EVERY_HOST in hosts else frozenset(map(str.lower, hosts)))


def _assembled(service: Service, *, token: str | None, hosts: frozenset[str] | None) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        del app
        service.start()
        yield
        service.close()

    from lpt import __version__

    app = FastAPI(
        title="LPT",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # behind a proxy it would lead to the address behind it
        separate_input_output_schemas=False,
    )
    files = page_files()
    for router in (
        routes.prediction_routes(service),
        routes.pack_routes(service),
        routes.machine_routes(service),
        routes.page_routes(files),
    ):
        app.include_router(router)
    app.add_exception_handler(RequestValidationError, _refuse_arguments)
    app.add_exception_handler(HTTPException, _refuse_address)
    app.add_middleware(
        Gate,
        state=service.gate,
        metrics=service.metrics,
        token=token,
        hosts=hosts,
        open_paths=frozenset({*HEALTH, *files}),
    )
    app.state.service = service
    return app


async def _refuse_arguments(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = [f"{fault['loc'][-1]}: {str(fault['msg'])[:1].lower()}{fault['msg'][1:]}" for fault in error.errors()[:5]]
    raise Fault(422, f"the address is not accepted: {'; '.join(faults)}.") from None


async def _refuse_address(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    messages = {
        404: "there is nothing at this address. GET /openapi.json lists the addresses.",
        405: f"{request.method[:16]} is not accepted at this address. GET /openapi.json lists the addresses.",
    }
    raise Fault(error.status_code, messages.get(error.status_code, str(error.detail)), headers=error.headers) from None
