"""Locks on folders and outputs, with host and process: two runs in one folder would destroy each other's files.

The operating system's lock on the file tells for sure while both processes are on one machine. Between machines that
share a disk it may not; so the holder touches the file every few seconds, and whoever comes watches it for a while.
"""

from __future__ import annotations

import contextlib
import hashlib
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
from lpt.system.files import TEMP_SUFFIX
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
_LONGEST_NAME = 200
"""Longest name, in bytes, that a lock beside an output takes over: names of more than 255 cannot be made."""
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
    with _held(_Lock.of_folder(folder), tell):
        yield


@contextlib.contextmanager
def locked_output(folder: Path, tell: Callable[[str], None], option: str = "--output") -> Iterator[None]:
    """Hold the lock of an output folder, which is made if it is missing, and removed again if nothing comes into it.

    Args:
        folder: the folder.
        tell: as for `locked`.
        option: the option that gives the folder, for messages.

    Raises:
        FolderInUseError: another run holds its lock.
        RunError: the folder is a file or cannot be made, or the lock cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{option}: {folder} is a file; give a folder")
    with _made(folder, option), locked(folder, tell):
        yield


@contextlib.contextmanager
def locked_path(output: Path, tell: Callable[[str], None], option: str = "--output") -> Iterator[None]:
    """Hold the lock of an output that takes its name in one step, such as a file or a pack; it need not exist.

    The lock is a hidden file beside it, under the name of a temporary file: where a kill leaves it, it is removed as
    one. A device or a pipe in the place of the output has none.

    Args:
        output: the file or folder.
        tell: as for `locked`.
        option: the option that gives the output, for messages.

    Raises:
        FolderInUseError: another command writes it.
        RunError: its folder cannot be made, or the lock cannot be written.
    """
    if output.exists() and not (output.is_file() or output.is_dir()):
        yield
        return
    with _made(Path(os.path.realpath(output)).parent, option), _held(_Lock.of_path(output), tell):
        yield


def check_free_of_runs(folder: Path) -> None:
    """Check that no other process of this machine surely holds the lock of a folder; nothing is changed.

    Raises:
        FolderInUseError: one does.
    """
    holder = Holder.of(folder / LOCK)
    if holder is not None and holder.host == socket.gethostname() and holder.lives:
        raise _Lock.of_folder(folder).in_use(holder)


class _Lock(NamedTuple):
    """A lock file, what it locks, and what its holder does there."""

    file: Path
    place: Path
    use: str

    @classmethod
    def of_folder(cls, folder: Path) -> _Lock:
        use = "is running in it. Two runs in one folder would destroy each other's files"
        return cls(folder / LOCK, folder, use)

    @classmethod
    def of_path(cls, path: Path) -> _Lock:
        real = Path(os.path.realpath(path))
        name = os.fsencode(real.name)
        stem = real.name if len(name) <= _LONGEST_NAME else hashlib.sha256(name).hexdigest()
        use = "is writing it. Two commands with one output would overwrite each other's work"
        return cls(real.parent / f".{stem}.lock{TEMP_SUFFIX}", path, use)

    def in_use(self, holder: Holder | None) -> FolderInUseError:
        """Return the error for a lock that another process holds."""
        who = "another process" if holder is None else str(holder)
        return FolderInUseError(
            f"{self.place} is in use: {who} {self.use}. Wait until it has ended or stop it, or choose another output "
            f"with --output. If it is surely gone, remove {self.file}."
        )


@contextlib.contextmanager
def _held(lock: _Lock, tell: Callable[[str], None]) -> Iterator[None]:
    file, done = lock.file, threading.Event()
    with _write_errors(lock):
        descriptor = _opened(lock)
    try:
        _check_stale(lock, tell)
        with _write_errors(lock):
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
def _made(folder: Path, option: str) -> Iterator[None]:
    """Have a folder in the block; the folders that were made for it are removed again if nothing comes into them."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot make the folder {folder}: {error.strerror}. Choose another with {option}.") from None
    try:
        yield
    finally:
        for path in missing:
            with contextlib.suppress(OSError):
                path.rmdir()


def _opened(lock: _Lock) -> int:
    """Open the lock file and lock it; a file that its former holder removed meanwhile does not count."""
    file, end = lock.file, time.monotonic() + CHILD_SECONDS
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
                raise lock.in_use(holder) from None
            time.sleep(0.02)  # a child that was just forked closes what it inherited as soon as it runs
            continue
        except OSError:
            pass  # a file system without such locks: host and process decide
        if _is_same(descriptor, file):
            return descriptor
        os.close(descriptor)


def _check_stale(lock: _Lock, tell: Callable[[str], None]) -> None:
    """Raise `RunError` if the process that wrote a lock goes on."""
    file, place = lock.file, lock.place
    holder = Holder.of(file)
    if holder is None:
        return
    if holder.host != socket.gethostname():
        tell(f"{place} has the lock of {holder}: waiting {WATCH_SECONDS:.0f} s to see whether it goes on.")
        before, end = touched(file), time.monotonic() + WATCH_SECONDS
        while time.monotonic() < end:
            time.sleep(min(BEAT_SECONDS, WATCH_SECONDS) / 3)
            if touched(file) != before:
                raise lock.in_use(holder)
    elif holder.lives and (holder.pid != os.getpid() or file in _HELD.values()):
        raise lock.in_use(holder)
    tell(f"{place} was locked by {holder}, which has ended without removing its lock: it is taken over.")


@contextlib.contextmanager
def _write_errors(lock: _Lock) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(
            f"cannot write {lock.file}: {error.strerror}. Free some space if the disk is full, change the permissions, "
            "or choose another folder."
        ) from None


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
