"""The packs that are served, by name. Packs of the same backbone weights share a predictor."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lpt.config.bounds import one_line
from lpt.errors import ConfigError
from lpt.packs.facts import class_facts
from lpt.packs.pack import FORMER_SUFFIX, PARTIAL_SUFFIX, Pack, find_pack, holds_pack
from lpt.packs.predictor import Predictor, pack_name
from lpt.packs.rejection import check_threshold
from lpt.system.near import near_folders

RESERVED = ("logs",)
"""Names that no pack may have: /v1/packs/logs is the log of the packs."""

_LOST = "lost+found"
"""A folder that only root may read, in the root of many file systems."""

ClassFacts = dict[str, dict[str, Any]]
"""The facts of each class of a pack by its name, as in `lpt.packs.facts`."""


@dataclass(frozen=True, eq=False)
class Served:
    """A pack that is served.

    Args:
        name: in the addresses of the server.
        pack: the pack.
        predictor: that holds it, under this name.
    """

    name: str
    pack: Pack
    predictor: Predictor

    @cached_property
    def facts(self) -> ClassFacts:
        """The facts of each class, by its name."""
        return facts_by_class(self.pack)


def facts_by_class(pack: Pack) -> ClassFacts:
    """Return the facts of each class of a pack by its name."""
    return {fact["class"]: fact for fact in class_facts(pack.info)}


class Shelf:
    """The packs that are served. Packs come and go in any thread, while others look them up.

    Args:
        backbone, checkpoint, engine, device, precision: as for `lpt.load_predictor`, for every backbone.
        reject: accept only packs with a threshold for images of their classes.
    """

    def __init__(
        self,
        *,
        backbone: str | None = None,
        checkpoint: Path | None = None,
        engine: str = "auto",
        device: str = "auto",
        precision: str = "auto",
        reject: bool = False,
    ) -> None:
        self._reject = reject
        self._backbone, self._checkpoint = backbone, checkpoint
        self._engine, self._device, self._precision = engine, device, precision
        self._lock = threading.Lock()
        self._served: dict[str, Served] = {}

    @property
    def served(self) -> dict[str, Served]:
        """The packs by name; a dictionary that nobody changes."""
        return self._served

    def put(self, name: str, pack: Pack) -> bool:
        """Verify a pack and serve it, in place of one of this name; return whether there was one.

        Raises:
            PackError: it is damaged, belongs to other weights, or gives other outputs than where it was written.
            ConfigError: its backbone cannot be loaded, its name is not accepted, or it needs a threshold and has none.
        """
        if name in RESERVED:
            raise ConfigError(f"the server needs the name {name!r} itself: rename the folder of the pack {pack.path}")
        if self._reject:
            check_threshold(pack)
        with self._lock:
            former = self._served.get(name)
            predictor = self._predictor(pack.info.backbone.weight_hash)
            if predictor is None:
                predictor = self._new_predictor(name, pack)
            else:
                predictor.add(pack, name, replace=True)
            self._served = {**self._served, name: Served(name, pack, predictor)}
            if former is not None and former.predictor is not predictor:
                former.predictor.remove(name)
        return former is not None

    def remove(self, name: str) -> None:
        """Serve a pack no more; images that were decoded for it are still classified."""
        with self._lock:
            former = self._served[name]
            self._served = {other: served for other, served in self._served.items() if other != name}
            former.predictor.remove(name)

    def _predictor(self, weight_hash: str) -> Predictor | None:
        loaded = {served.predictor.engine.backbone_hash: served.predictor for served in self._served.values()}
        return loaded.get(weight_hash)

    def _new_predictor(self, name: str, pack: Pack) -> Predictor:
        return Predictor(
            self._backbone,
            {name: pack},
            checkpoint=self._checkpoint,
            engine=self._engine,
            device=self._device,
            precision=self._precision,
        )


def find_packs(sources: Sequence[Path]) -> dict[str, Path]:
    """Return the packs of paths by name: of a pack, a run folder, or a folder of these.

    Raises:
        ConfigError: a path does not exist, or two packs have the same name.
    """
    packs: dict[str, Path] = {}
    for source in sources:
        for path in _packs_in(source):
            name = one_line(pack_name(path))  # answers, logs and metrics have to hold it
            if packs.setdefault(name, path) != path:
                raise ConfigError(
                    f"two packs are named {name!r}: {packs[name]} and {path}. Rename the folder of one of them, or "
                    "leave it out."
                )
    return packs


def _packs_in(source: Path) -> list[Path]:
    try:
        if not source.is_dir():
            kind = "is not a folder." if source.exists() else "does not exist."
            near = "" if source.exists() else near_folders(source, holds_pack, "Packs and runs")
            raise ConfigError(f"{source} {kind}{near} Give prompt packs, run folders, or folders that hold them.")
        if holds_pack(source):
            return [find_pack(source)]
        return [find_pack(inner) for inner in sorted(source.iterdir()) if _is_candidate(inner)]
    except OSError as error:
        raise ConfigError(
            f"{error.filename or source} cannot be read: {error.strerror or error}. Check its permissions."
        ) from None


def _is_candidate(path: Path) -> bool:
    passing = path.name.startswith(".") or path.name.endswith((PARTIAL_SUFFIX, FORMER_SUFFIX))
    return not passing and path.name != _LOST and holds_pack(path)
