"""Claims on pieces of work in a folder that several workers share, perhaps on several machines.

A claim is a file that only one worker can create. Its owner touches a file of its own, its beat, every few seconds. A
claim whose owner has died is taken over, and so is one that gets nowhere for minutes. Ages are differences of times
that the disk of the folder gave, so clocks of machines do not count. No file lock is needed.

Two workers may come to work on one piece, where a disk shows changes late. So the result of a piece must be the same
whoever writes it, and appear in one step.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from pathlib import Path
from typing import Self

from lpt.errors import RunError
from lpt.system.lock import BEAT_SECONDS, KIND, WATCH_SECONDS, Holder, touched
from lpt.system.owned import marker, marker_fields

CLAIM, BEAT = ".claim", ".beat"
_PIDS = "pids"
DEAD_SECONDS = 2 * WATCH_SECONDS
"""How long the beat of a worker of another machine must rest to be taken for dead."""
STALL_SECONDS = 900.0
"""How long a claim may go without progress until another worker does the piece too."""


class Claims:
    """The claims of one worker; a context, in which its beat goes on.

    Args:
        folder: the folder that all workers share.
        worker: name of this worker, of letters, digits and dashes, unlike those of all others.

    Raises:
        RunError: the folder cannot be written to.
    """

    def __init__(self, folder: Path, worker: str) -> None:
        self._folder, self._worker = folder, worker
        self._beat = folder / (worker + BEAT)
        self._held = set[Path]()
        self._done = threading.Event()

    def __enter__(self) -> Self:
        content = {**marker(KIND), **Holder.here()._asdict(), _PIDS: _pid_namespace()}
        try:
            self._beat.write_text(json.dumps(content) + "\n", encoding="utf-8")
        except OSError as error:
            raise _unwritable(self._beat, error) from None
        threading.Thread(target=self._keep_beating, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        for path in [*self._held, self._beat]:
            with contextlib.suppress(OSError):
                path.unlink()
        self._held.clear()

    def take(self, piece: str) -> bool:
        """Claim a piece, and return whether it is this worker's now.

        Raises:
            RunError: the folder cannot be written to.
        """
        path = self._folder / (piece + CLAIM)
        for _ in range(2):
            try:
                handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            except FileExistsError:
                if not self._is_stale(path):
                    return False
                self._clear(path)
                continue
            except OSError as error:
                raise _unwritable(path, error) from None
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(self._worker)
            self._held.add(path)
            return True
        return False

    def release(self, piece: str) -> None:
        """Give up a claim; one that another worker took over stays."""
        path = self._folder / (piece + CLAIM)
        self._held.discard(path)
        if _owner(path) == self._worker:
            with contextlib.suppress(OSError):
                path.unlink()

    def touch(self) -> None:
        """Note progress: the claims of this worker are not stalled."""
        for path in self._held:
            with contextlib.suppress(OSError):
                os.utime(path)

    def lives(self, worker: str) -> bool:
        """Return whether a worker goes on. One that has ended has no beat any more."""
        beat = self._folder / (worker + BEAT)
        holder = Holder.of(beat)
        if holder is None:  # gone, or being written
            return beat.exists() and self._age(beat) < DEAD_SECONDS
        is_here = holder.host == socket.gethostname() and marker_fields(beat).get(_PIDS) == _pid_namespace()
        if is_here and not holder.lives:
            return False
        return self._age(beat) < DEAD_SECONDS

    def others(self) -> list[str]:
        """Return the other workers that go on."""
        names = [path.stem for path in self._folder.glob(f"*{BEAT}") if path != self._beat]
        return [name for name in names if self.lives(name)]

    def _is_stale(self, path: Path) -> bool:
        owner = _owner(path)
        if owner is None:
            return False  # released meanwhile: the next round gets it
        if owner == self._worker:
            return path not in self._held
        if not owner:  # being written, or its writer was killed in between
            return self._age(path) > DEAD_SECONDS
        return not self.lives(owner) or self._age(path) > STALL_SECONDS

    def _age(self, path: Path) -> float:
        """Return the seconds since a file was touched, by the clock of its disk."""
        return (touched(self._beat) - touched(path)) / 1e9

    def _clear(self, path: Path) -> None:
        """Remove a stale claim; of several workers that try one succeeds."""
        aside = path.with_name(f".{path.name}.{self._worker}")
        with contextlib.suppress(OSError):
            os.replace(path, aside)
            aside.unlink()

    def _keep_beating(self) -> None:
        while not self._done.wait(BEAT_SECONDS):
            with contextlib.suppress(OSError):
                os.utime(self._beat)


def remove_claims(folder: Path) -> None:
    """Remove the claims and beats that killed workers left; none may be at work."""
    for pattern in (f"*{CLAIM}", f"*{BEAT}", f".*{CLAIM}.*"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)


def _pid_namespace() -> str:
    """Return what tells whether process numbers mean the same: containers of one host name may count their own."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:  # no Linux
        return ""


def _owner(path: Path) -> str | None:
    """Return who holds a claim; empty while it is being written, None if there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except OSError:
        return ""


def _unwritable(path: Path, error: OSError) -> RunError:
    return RunError(
        f"cannot write {path}: {error.strerror}. Free some space if the disk is full, change the permissions of its "
        "folder, or choose another --output on a disk that all workers share."
    )
