"""Processes that start at once: each is forked from one process that has imported LPT and PyTorch before.

A start of Python with these imports takes seconds. What depends on the imports, on the environment at that time or on
a launcher needs a process of its own all the same.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")
_COMMANDS = ("fit.fit", "predict.predict", "tune.tune")
_CONTEXT.set_forkserver_preload(["accelerate", "lpt.cli.app", *(f"lpt.commands.{name}" for name in _COMMANDS)])


class WarmProcess:
    """The part of `subprocess.Popen` that tests need; both streams are kept for `communicate`.

    Args:
        work: a function of a module, not of a test's body.
        arguments: its arguments.
        environment: variables that differ from those of this process.
        most_bytes: how large a file may grow, as `ulimit -f` has it.
        cores: cores that it may use; None: all.
    """

    def __init__(
        self,
        work: Callable[..., object],
        *arguments: Any,
        environment: Mapping[str, str] | None = None,
        most_bytes: int | None = None,
        cores: Sequence[int] | None = None,
    ) -> None:
        self._streams = [_Stream() for _ in range(2)]
        writers = [stream.writer for stream in self._streams]
        start = (writers, {**os.environ, **(environment or {})}, most_bytes, cores, work, arguments)
        self._process = _CONTEXT.Process(target=_begin, args=start)
        self._process.start()
        for stream in self._streams:
            stream.start()
        atexit.register(self.kill)  # or pytest would wait for one that a failed test left

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(str(self._process), timeout or 0)
        return self.returncode

    def printed(self) -> str:
        """What came on standard output by now."""
        return self._streams[0].content.decode(errors="replace")

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end, and return what was written to standard output and to standard error."""
        self.wait(timeout)
        for stream in self._streams:
            stream.join(timeout)
        output, errors = (stream.content.decode() for stream in self._streams)
        return output, errors

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class _Stream(threading.Thread):
    """A pipe that is read to its end."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._reader, self.writer = _CONTEXT.Pipe(duplex=False)
        self.content = b""

    def run(self) -> None:
        self.writer.close()  # the process has one of its own
        with self._reader:
            while part := os.read(self._reader.fileno(), 1 << 16):
                self.content += part


def run_lpt(arguments: list[str]) -> None:
    from lpt.cli import main

    sys.argv = ["lpt", *arguments]
    sys.orig_argv = [sys.executable, "-m", *sys.argv]  # what a run notes as the command that was typed
    main()


def warm_lpt(*arguments: object, **options: Any) -> WarmProcess:
    """Start `lpt` with arguments; options as for `WarmProcess`."""
    return WarmProcess(run_lpt, [*map(str, arguments)], **options)


def warm_ranks(count: int, work: Callable[..., object], *arguments: Any, **options: Any) -> list[WarmProcess]:
    """Start several processes of one job as torchrun does, but end none of them when another dies."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    common |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    return [
        WarmProcess(work, *arguments, environment={"RANK": rank, "LOCAL_RANK": rank, **common}, **options)
        for rank in map(str, range(count))
    ]


def run_warm(process: WarmProcess, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Wait for a process, and return what `subprocess.run` does."""
    output, errors = process.communicate(timeout)
    return subprocess.CompletedProcess((), process.wait(), output, errors)


def _begin(
    streams: Sequence[Connection],
    environment: Mapping[str, str],
    most_bytes: int | None,
    cores: Sequence[int] | None,
    work: Callable[..., object],
    arguments: Sequence[Any],
) -> None:
    for number, stream in enumerate(streams, start=1):
        os.dup2(stream.fileno(), number)
        stream.close()
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115  (those of before were made for files)
    sys.stderr = open(2, "w", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests that run in the background ignore it
    if most_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    if cores is not None:
        os.sched_setaffinity(0, cores)
    try:
        work(*arguments)
    finally:
        atexit._run_exitfuncs()  # a forked process ends without them
