"""A lock on a folder, with host and process: two runs in one folder would destroy each other's files.

The operating system's lock on the file tells for sure while both processes are on one machine. Between machines that
share a disk it may not; so the holder touches the file every few seconds, and whoever comes watches it for a while.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from lpt.errors import RunError
from lpt.system.owned import marker, marker_fields

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = "run.lock"
KIND = "lpt-lock"
BEAT_SECONDS = 3.0
"""How often a holder touches its lock."""
WATCH_SECONDS = 15.0
"""How long a lock of another machine must rest to be taken for stale."""
CHILD_SECONDS = 5.0
"""How long a child of a killed holder may take to close the lock that it inherited."""
_START_TOLERANCE = 2.0
_HELD: dict[int, Path] = {}
"""The locks of this process by descriptor. A child that inherits one closes it, or it would outlive the run."""


class FolderInUseError(RunError):
    """Another process holds the lock of a folder."""


class Holder(NamedTuple):
    """The process that holds a lock, or held it."""

    host: str
    pid: int
    started: float

    @classmethod
    def here(cls) -> Holder:
        """Return this process."""
        return cls(socket.gethostname(), os.getpid(), psutil.Process().create_time())

    @classmethod
    def of(cls, file: Path) -> Holder | None:
        """Read who wrote a lock; None where there is none, or a kill left it empty."""
        fields = marker_fields(file)
        host, pid, started = (fields.get(name) for name in cls._fields)
        if fields.get("kind") != KIND or type(pid) is not int or not isinstance(started, int | float):
            return None
        return cls(str(host), pid, float(started))

    @property
    def lives(self) -> bool:
        """Return whether the process is still there; it must be of this machine."""
        try:
            return abs(psutil.Process(self.pid).create_time() - self.started) < _START_TOLERANCE
        except (psutil.Error, ValueError, OverflowError):
            return False

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@contextlib.contextmanager
def locked(folder: Path, tell: Callable[[str], None] = lambda message: None) -> Iterator[None]:
    """Hold the lock of an existing folder in the block.

    Args:
        folder: the folder.
        tell: called with a sentence if a lock is being watched, or was left by a run that is gone.

    Raises:
        FolderInUseError: another run holds it.
        RunError: the lock cannot be written.
    """
    file, done = folder / LOCK, threading.Event()
    with _write_errors(file):
        descriptor = _opened(file)
    try:
        _check_stale(file, tell)
        with _write_errors(file):
            _write(descriptor)
        _HELD[descriptor] = file
        threading.Thread(target=_beat, args=(file, done), daemon=True).start()
        yield
    finally:
        done.set()
        if _HELD.pop(descriptor, None) is not None and _is_same(descriptor, file):
            with contextlib.suppress(OSError):
                file.unlink()
        os.close(descriptor)


@contextlib.contextmanager
def locked_output(folder: Path, tell: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of an output folder, which is made if it is missing, and removed again if nothing comes into it.

    Args:
        folder: the folder.
        tell: as for `locked`.

    Raises:
        FolderInUseError: another run holds its lock.
        RunError: the folder cannot be made, or the lock cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot make the folder {folder}: {error.strerror}. Choose another with --output.") from None
    try:
        with locked(folder, tell):
            yield
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()


def check_free_of_runs(folder: Path) -> None:
    """Check that no other process of this machine surely holds the lock of a folder; nothing is changed.

    Raises:
        FolderInUseError: one does.
    """
    holder = Holder.of(folder / LOCK)
    if holder is not None and holder.host == socket.gethostname() and holder.lives:
        raise _in_use(folder / LOCK, holder)


def _opened(file: Path) -> int:
    """Open the lock file and lock it; a file that its former holder removed meanwhile does not count."""
    end = time.monotonic() + CHILD_SECONDS
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            if fcntl is not None:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            holder = Holder.of(file)
            is_gone = holder is not None and holder.host == socket.gethostname() and not holder.lives
            if not is_gone or time.monotonic() > end:
                raise _in_use(file, holder) from None
            time.sleep(0.02)  # a child that was just forked closes what it inherited as soon as it runs
            continue
        except OSError:
            pass  # a file system without such locks: host and process decide
        if _is_same(descriptor, file):
            return descriptor
        os.close(descriptor)


def _check_stale(file: Path, tell: Callable[[str], None]) -> None:
    """Raise `RunError` if the process that wrote a lock goes on."""
    holder = Holder.of(file)
    if holder is None:
        return
    if holder.host != socket.gethostname():
        tell(f"{file.parent} has the lock of {holder}: waiting {WATCH_SECONDS:.0f} s to see whether it goes on.")
        before, end = touched(file), time.monotonic() + WATCH_SECONDS
        while time.monotonic() < end:
            time.sleep(min(BEAT_SECONDS, WATCH_SECONDS) / 3)
            if touched(file) != before:
                raise _in_use(file, holder)
    elif holder.lives and (holder.pid != os.getpid() or file in _HELD.values()):
        raise _in_use(file, holder)
    tell(f"{file.parent} was locked by {holder}, which has ended without removing its lock: it is taken over.")


@contextlib.contextmanager
def _write_errors(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(
            f"cannot write {file}: {error.strerror}. Free some space if the disk is full, change the permissions, or "
            "choose another folder."
        ) from None


def _in_use(file: Path, holder: Holder | None) -> FolderInUseError:
    who = "another process" if holder is None else str(holder)
    return FolderInUseError(
        f"{file.parent} is in use: {who} is running in it. Two runs in one folder would destroy each other's files. "
        "Wait until it has ended or stop it, or choose another folder with --output. If it is surely gone, remove "
        f"{file}."
    )


def _write(descriptor: int) -> None:
    content: dict[str, Any] = {**marker(KIND), **Holder.here()._asdict()}
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, (json.dumps(content) + "\n").encode())


def touched(file: Path) -> int:
    """Return when a lock was touched, by the clock of its disk; opening it makes network disks look again."""
    try:
        with file.open("rb") as opened:
            return os.fstat(opened.fileno()).st_mtime_ns
    except OSError:
        return 0


def _beat(file: Path, done: threading.Event) -> None:
    while not done.wait(BEAT_SECONDS):
        with contextlib.suppress(OSError):
            os.utime(file)


def _is_same(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(file))  # noqa: PTH116
    except OSError:
        return False


def _let_go() -> None:
    """Close the inherited locks in a child process."""
    for descriptor in _HELD:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
