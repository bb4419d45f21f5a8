"""The processes that are measured: each stays alive under its policy, and works when it is asked."""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from benchmarks.serving.client import Reply, load, request
from benchmarks.serving.running import ServerProcess


class Asked(Protocol):
    """A context that works a turn when it is asked."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def turn(self) -> float:
        """Work a turn; return its seconds."""
        ...


class Worker:
    """A process of `benchmarks.busy.work`.

    Args:
        given: what it works on.
        environment: its environment variables.
    """

    def __init__(self, given: dict[str, Any], environment: Mapping[str, str]) -> None:
        self._given, self._environment = given, environment

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "benchmarks.busy.work", json.dumps(self._given)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self._environment
        )
        try:
            self._answer()
        except RuntimeError:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def turn(self) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> float:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("a process that is measured has ended; see above")
        return float(line)


class Server:
    """`lpt serve`; a turn is requests of several clients.

    Args:
        given: what it works on.
        environment: its environment variables.
        log: file for its log.
    """

    def __init__(self, given: dict[str, Any], environment: Mapping[str, str], log: Path) -> None:
        args = argparse.Namespace(backbone=given["backbone"], checkpoint=given["checkpoint"], device="cpu")
        self._server = ServerProcess(Path(given["pack"]), args, [], log, environment)
        files = sorted(Path(given["folder"]).rglob("*.jpg"))
        path, headers = f"/v1/packs/{Path(given['pack']).name}/predict", {"Content-Type": "image/jpeg"}
        self._requests = [request(path, file.read_bytes(), headers) for file in files]
        self._images, self._clients = given["images"], given["clients"]

    def __enter__(self) -> Self:
        self._server.__enter__()
        self.turn()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.__exit__(kind, error, trace)

    def turn(self) -> float:
        count = len(self._requests)
        start = time.perf_counter()
        sending = load(
            self._server.port, self._clients, self._images, lambda number: self._requests[number % count], _check
        )
        asyncio.run(sending)
        return time.perf_counter() - start


def _check(number: int, reply: Reply) -> None:
    """Stop at a request that was not answered: a rate with failures says nothing."""
    if reply.status != 200:
        raise RuntimeError(f"request {number}: status {reply.status}: {reply.body[:300]!r}")
