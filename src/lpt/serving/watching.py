"""Take up packs that appear, change or go, while the server runs.

Folders are looked at again and again. A pack is taken up when its files stayed the same between two looks, so that one
that is being copied is left alone. One that is damaged leaves the former one serving. One that is gone for two looks is
removed: in the middle of its replacement a pack is away for a moment.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lpt.config.bounds import one_line
from lpt.errors import ConfigError, LptError
from lpt.packs.hub import is_address, parse_address
from lpt.packs.pack import JSON_NAME, TENSORS_NAME, load_pack
from lpt.serving.shelf import Shelf, find_packs
from lpt.system.threads import in_passing_thread

KEPT_EVENTS = 200
_LOOKS_UNTIL_GONE = 2
CLOSE_SECONDS = 5.0
"""How long the end of the server waits for a pack that is being taken up: its backbone may come over a network."""
Mark = tuple[object, ...]
logger = logging.getLogger("lpt.serving")


class PackEvents:
    """What happened to the packs: added, replaced, removed, or refused with the reason; the last ones are kept."""

    def __init__(self) -> None:
        self._events: deque[dict[str, str]] = deque(maxlen=KEPT_EVENTS)

    def add(self, pack: str, event: str, message: str = "") -> None:
        """Keep an event, and log it.

        Args:
            pack: name of the pack; empty: of none in particular.
            event: added, replaced, removed or refused.
            message: why it was refused.
        """
        message = one_line(message)  # it may have the name of a folder in it
        time = datetime.now(UTC).isoformat(timespec="seconds")
        self._events.append({"time": time, "pack": pack, "event": event, "message": message})
        level = logging.WARNING if event == "refused" else logging.INFO
        fields: dict[str, Any] = {"pack": pack} | ({"message": message} if message else {})
        logger.log(level, f"pack_{event}", extra={"fields": fields})

    def listed(self) -> list[dict[str, str]]:
        """Return the events, the latest last."""
        return list(self._events)


class Watcher:
    """Keeps a shelf in step with folders.

    Args:
        shelf: of the packs.
        sources: packs, run folders, and folders of these; addresses on the hub are loaded once.
        events: where to report what happened.
        seconds: from one look to the next.
    """

    def __init__(self, shelf: Shelf, sources: Sequence[str | Path], events: PackEvents, seconds: float = 1.0) -> None:
        self._shelf, self._events, self._seconds = shelf, events, seconds
        self._addresses = [str(source) for source in sources if is_address(source)]
        self._sources = [Path(source) for source in sources if not is_address(source)]
        self._seen: dict[str, Mark | None] = {}
        self._taken: dict[str, Mark | None] = {}
        self._missing: dict[str, int] = {}
        self._trouble = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="lpt-watch", daemon=True)

    def load(self) -> None:
        """Load all packs for the first time.

        Raises:
            PackError: a pack is damaged, or does not fit its backbone.
            ConfigError: two packs have the same name, a path does not exist, or a backbone cannot be loaded.
        """
        for name, path in find_packs(self._sources).items():
            self._seen[name] = self._taken[name] = _mark(path)
            self._shelf.put(name, load_pack(path))
        for address in self._addresses:
            name = parse_address(address).name
            if name in self._shelf.served:
                raise ConfigError(
                    f"two packs are named {name!r}, one of them {address}. Rename the folder of the other."
                )
            self._shelf.put(name, load_pack(address))

    def start(self) -> None:
        """Look again and again, in a thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop looking."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(CLOSE_SECONDS)

    def look(self) -> None:
        """Look once, and take up what changed."""
        try:
            packs = find_packs(self._sources)
            if taken := [address for address in self._addresses if parse_address(address).name in packs]:
                raise ConfigError(f"a pack has the name of {taken[0]}, which is served: rename its folder.")
        except (LptError, OSError) as error:
            self._report(str(error))
            return
        self._trouble = ""
        for name, path in packs.items():
            self._missing.pop(name, None)
            mark = _mark(path)
            if mark is not None and mark == self._seen.get(name) and mark != self._taken.get(name):
                self._taken[name] = mark
                self._take_up(name, path)
            self._seen[name] = mark
        for name in [name for name in self._seen if name not in packs]:
            self._missing[name] = self._missing.get(name, 0) + 1
            if self._missing[name] >= _LOOKS_UNTIL_GONE:
                self._forget(name)

    def _watch(self) -> None:
        while not self._stop.wait(self._seconds):
            try:
                self.look()
            except Exception as error:  # a watcher that ends would leave old packs serving without a word
                self._report(f"{type(error).__name__}: {error}")

    def _take_up(self, name: str, path: Path) -> None:
        try:
            replaced = in_passing_thread(lambda: self._shelf.put(name, load_pack(path)))
        except (LptError, OSError, MemoryError) as error:
            reason = str(error).replace(f"{path.parent}{os.sep}", "")
            kept = " The former pack is still served." if name in self._shelf.served else ""
            self._events.add(name, "refused", reason + kept)
        else:
            self._events.add(name, "replaced" if replaced else "added")

    def _forget(self, name: str) -> None:
        for marks in (self._seen, self._taken, self._missing):
            marks.pop(name, None)
        if name in self._shelf.served:
            self._shelf.remove(name)
            self._events.add(name, "removed")

    def _report(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._events.add("", "refused", trouble)
        self._trouble = trouble


def _mark(path: Path) -> Mark | None:
    """Return what changes when a pack changes; None while a file is missing."""
    with contextlib.suppress(OSError):
        status = [(path / name).stat() for name in (JSON_NAME, TENSORS_NAME)]
        return (str(path), *((file.st_mtime_ns, file.st_size, file.st_ino) for file in status))
    return None
