"""The addresses of the server."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from starlette.requests import Request
from starlette.responses import Response

from lpt.packs.facts import pack_facts
from lpt.packs.info import ClassFrequencies
from lpt.serving import schemas
from lpt.serving.answers import pack_line
from lpt.serving.faults import Fault
from lpt.serving.forms import PRIOR, REJECT, Ask
from lpt.serving.metrics import CONTENT_TYPE
from lpt.serving.service import Service
from lpt.serving.static import StaticFile

PackName = Annotated[str, Path(description="Name of a pack, as GET /v1/packs lists it.")]
TopK = Annotated[int, Query(ge=1, description="How many classes to list for an image.")]
WithAttention = Annotated[bool, Query(description="Whether to say where the network looked.")]
WithPrior = Annotated[ClassFrequencies | None, Query(description=f"{PRIOR} Default: as the pack says.")]
WithRejection = Annotated[bool | None, Query(description=f"{REJECT} Default: as the server was started.")]


def answer(content: Any, status: int = 200) -> Response:
    """Return JSON; numbers that are not finite would be no JSON."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(text.encode(), status, media_type="application/json")


def prediction_routes(service: Service) -> APIRouter:
    """Return the addresses that classify images."""
    router = APIRouter(tags=["predictions"])

    def defaults(top_k: int, attention: bool, prior: ClassFrequencies | None, reject: bool | None) -> Ask:
        return Ask((), (), top_k, attention, prior, service.reject if reject is None else reject)

    @router.post(
        "/v1/packs/{name}/predict",
        summary="Classify images with a pack",
        response_model=schemas.PackAnswer,
        responses=schemas.ASKED,
        openapi_extra=schemas.request_body(compare=False),
    )
    async def predict(
        request: Request,
        name: PackName,
        top_k: TopK = 5,
        attention: WithAttention = False,
        prior: WithPrior = None,
        reject: WithRejection = None,
    ) -> Response:
        """Send images as multipart parts named `images`, as base64 in JSON, or one image as the body itself."""
        answers = await service.predict(request, name, defaults(top_k, attention, prior, reject))
        return answer({"request_id": request.state.request_id, "pack": name, "predictions": answers[name]})

    @router.post(
        "/v1/predict",
        summary="Classify images with several packs",
        response_model=schemas.CompareAnswer,
        responses=schemas.ASKED,
        openapi_extra=schemas.request_body(compare=True),
    )
    async def compare(
        request: Request,
        top_k: TopK = 5,
        attention: WithAttention = False,
        prior: WithPrior = None,
        reject: WithRejection = None,
    ) -> Response:
        """Compare packs on the same images: name them in `packs`."""
        answers = await service.predict(request, None, defaults(top_k, attention, prior, reject))
        results = [{"pack": name, "predictions": predictions} for name, predictions in answers.items()]
        return answer({"request_id": request.state.request_id, "results": results})

    return router


def pack_routes(service: Service) -> APIRouter:
    """Return the addresses that describe packs."""
    router = APIRouter(tags=["packs"])

    @router.get("/v1/packs", summary="List the packs", response_model=schemas.PackList, responses=schemas.READ)
    async def packs() -> Response:
        return answer({"packs": [pack_line(served) for served in service.shelf.served.values()]})

    @router.get(
        "/v1/packs/logs", summary="What happened to the packs", response_model=schemas.PackLog, responses=schemas.READ
    )
    async def logs() -> Response:
        return answer({"events": service.events.listed()})

    @router.get(
        "/v1/packs/{name}", summary="Describe a pack", response_model=schemas.PackDetails, responses=schemas.READ
    )
    async def pack(name: PackName) -> Response:
        served = service.find(name)
        return answer(pack_facts(served.name, served.pack.info))

    return router


def machine_routes(service: Service) -> APIRouter:
    """Return the addresses for those who run the server."""
    router = APIRouter(tags=["operation"])

    @router.get("/healthz", summary="Whether the process works", response_model=schemas.Health)
    async def health() -> Response:
        return answer({"status": "ok"})

    @router.get(
        "/readyz",
        summary="Whether requests are answered",
        response_model=schemas.Health,
        responses={503: {"model": schemas.Health}},
    )
    async def ready() -> Response:
        if service.ready:
            return answer({"status": "ready"})
        return answer({"status": "stopping" if service.gate.draining else "no packs"}, 503)

    @router.get(
        "/metrics",
        summary="Metrics for Prometheus",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}, **schemas.READ},
    )
    async def metrics() -> Response:
        return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    return router


def page_routes(files: dict[str, StaticFile]) -> APIRouter:
    """Return the addresses of the page. A path in a request only looks up one of these files."""
    router = APIRouter(include_in_schema=False)

    async def page(request: Request) -> Response:
        file = files.get(request.url.path)
        if file is None:
            raise Fault(404, "there is nothing at this address.")
        unchanged = file.etag in request.headers.get("if-none-match", "")
        content = b"" if unchanged else file.content
        return Response(content, 304 if unchanged else 200, headers=file.headers, media_type=file.media_type)

    for path in files:
        router.add_api_route(path, page, methods=["GET", "HEAD"])
    return router
