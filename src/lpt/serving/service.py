"""What the server is made of, and how it answers a prediction."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

from starlette.requests import Request

from lpt.errors import ConfigError
from lpt.packs.pack import Pack
from lpt.packs.predictor import Predictor
from lpt.packs.prior import deployed_weights
from lpt.serving.answers import predictions_of
from lpt.serving.batcher import Classified, ClosedError, Job, MicroBatcher, QueueFullError, Runner
from lpt.serving.bodies import Bodies, client_gone, until_gone
from lpt.serving.decoding import Decoder
from lpt.serving.faults import Fault
from lpt.serving.forms import Ask, kind_of_body, parse
from lpt.serving.gate import GateState
from lpt.serving.limits import Limits
from lpt.serving.metrics import ServerMetrics
from lpt.serving.shelf import Served, Shelf
from lpt.serving.watching import PackEvents, Watcher

_PARSED_AT_ONCE = 2**20
_TURNED_AT_ONCE = 200_000
"""Bytes of a body, and numbers of an answer, that the event loop handles itself; larger ones go to a thread."""


class Service:
    """The parts of an app: packs, queue, threads, metrics.

    Args:
        shelf: the packs.
        watcher: takes up packs that change; None: nobody does.
        events: what happened to the packs.
        limits: of the server.
        reject: say which images show none of the classes where a request leaves it open.
    """

    def __init__(
        self, shelf: Shelf, watcher: Watcher | None, events: PackEvents, limits: Limits, *, reject: bool = False
    ) -> None:
        self.shelf, self.events, self.limits, self.reject = shelf, events, limits, reject
        self.gate = GateState()
        self.bodies = Bodies(limits)
        self._watcher = watcher
        self.metrics = ServerMetrics(lambda: self.batcher.queued, lambda: len(shelf.served))
        self.batcher = MicroBatcher(limits.queue, self._most, self.metrics.batch)
        self.decoder = Decoder(limits.max_pixels, self.find)

    def start(self) -> None:
        """Start the threads."""
        self.batcher.start()
        if self._watcher is not None:
            self._watcher.start()

    def close(self) -> None:
        """Finish what was accepted, and end the threads."""
        if self._watcher is not None:
            self._watcher.close()
        self.decoder.close()
        self.batcher.close()

    @property
    def ready(self) -> bool:
        """Whether requests are answered: there are packs, the network's thread runs, and nobody has said to stop."""
        return bool(self.shelf.served) and self.batcher.alive and not self.gate.draining

    def find(self, name: str) -> Served:
        """Return a pack by its name.

        Raises:
            Fault: 404.
        """
        served = self.shelf.served.get(name)
        if served is None:
            raise Fault(404, f"there is no pack {name[:80]!a} here. GET /v1/packs lists them.", code="unknown_pack")
        return served

    async def predict(self, request: Request, pack: str | None, defaults: Ask) -> dict[str, list[dict[str, Any]]]:
        """Answer a request with the predictions of each pack, by its name.

        Args:
            request: the request.
            pack: name of the pack; None: the body names several.
            defaults: what the address of the request says.

        Raises:
            Fault: the request is not answered.
        """
        if pack is not None:
            self.find(pack)
        content_type = request.headers.get("content-type", "")
        compare = pack is None
        kind = kind_of_body(content_type, request.headers.get("content-encoding", ""), compare=compare)
        async with self.bodies.read(request) as body:
            if len(body) > _PARSED_AT_ONCE:
                ask = await asyncio.to_thread(parse, kind, content_type, body, defaults, self.limits, compare=compare)
            else:
                ask = parse(kind, content_type, body, defaults, self.limits, compare=compare)
            del body  # what is still needed of it are the images
            names = ask.packs if pack is None else (pack,)
            request.state.noted["images"] = len(ask.images)
            self._check_packs(names, ask)
            request.state.noted["packs"] = list(names)  # names of packs, which are never long
            classified = await self._classify(request, names, ask)
        return await self._answers(names, classified, ask)

    def _check_packs(self, names: Sequence[str], ask: Ask) -> None:
        """Check the packs, the prior and whether there are thresholds before the network runs."""
        for name in names:
            pack = self.find(name).pack
            _check_threshold(name, pack, ask)
            _check_prior(name, pack, ask)

    async def _classify(self, request: Request, names: Sequence[str], ask: Ask) -> list[Classified]:
        try:
            job = self.batcher.accept(len(ask.images) * len(names))
        except QueueFullError as error:
            raise Fault(
                429,
                f"{error.waiting} images wait already. Try again in {error.seconds} s.",
                code="queue_full",
                headers={"Retry-After": str(error.seconds)},
            ) from None
        except ClosedError:
            raise Fault(503, "the server is stopping. Try again later.") from None
        try:
            self.decoder.submit(job, ask.images, names, attention=ask.attention)
            return await self._outcome(request, job)
        finally:
            job.cancel()

    async def _outcome(self, request: Request, job: Job) -> list[Classified]:
        """Wait for a job, for the client to leave, or for the time to run out."""
        answer = asyncio.wrap_future(job.future)
        gone = asyncio.ensure_future(until_gone(request))
        either: set[asyncio.Future[Any]] = {answer, gone}
        try:
            await asyncio.wait(either, timeout=self.limits.timeout, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            if gone.done():
                raise client_gone()
            raise Fault(504, f"there was no answer within {self.limits.timeout:g} s. Send fewer images, or try later.")
        finally:
            gone.cancel()

    async def _answers(
        self, names: Sequence[str], classified: list[Classified], ask: Ask
    ) -> dict[str, list[dict[str, Any]]]:
        count = len(ask.images)
        answers = {}
        for block, name in enumerate(names):
            rows = classified[block * count : (block + 1) * count]
            served = self.shelf.served.get(name)  # None: it went while the network ran
            for pack in {id(item.loaded): item.loaded.pack for item, _ in rows}.values():  # replaced meanwhile, perhaps
                _check_threshold(name, pack, ask)
                _check_prior(name, pack, ask)
            if count * len(rows[0][0].loaded.pack.info.class_names) > _TURNED_AT_ONCE:
                answers[name] = await asyncio.to_thread(predictions_of, served, rows, ask)
            else:
                answers[name] = predictions_of(served, rows, ask)
            self.metrics.images(name, count)
        return answers

    def _most(self, runner: Runner) -> int:
        """Return the most images of a batch of a predictor."""
        return self.limits.batch_on(cast(Predictor, runner).engine.device)


def _check_threshold(name: str, pack: Pack, ask: Ask) -> None:
    """Answer with status 422 if a request asks for images of none of the classes, and the pack has no threshold."""
    if ask.reject and pack.info.rejection is None:
        raise Fault(
            422,
            f"reject: the pack {name[:80]!a} has no threshold for images that show none of its classes. Ask without "
            "reject; lpt calibrate gives a pack a threshold.",
            code="no_threshold",
        )


def _check_prior(name: str, pack: Pack, ask: Ask) -> None:
    """Answer with status 422 if a pack does not accept the prior of a request."""
    if ask.prior == "training" and not pack.info.counts_known:
        raise Fault(
            422,
            f"prior: the pack {name[:80]!a} does not know how many training images its classes had. Ask with even, "
            "or with the share of each class.",
            code="prior",
        )
    try:
        if ask.prior is not None:
            deployed_weights(pack, ask.prior)
    except ConfigError as error:
        raise Fault(422, f"{error}.", code="prior") from None
