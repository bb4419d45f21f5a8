"""The run folder: configuration, log, checkpoints, and what a finished run leaves."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lpt.errors import RunError
from lpt.files import TEMP_SUFFIX, write_json, write_text
from lpt.training.checkpoint import Position


class RunFolder:
    """Paths of a run, and its log.

    `config.yaml` (resolved), `run.json` (data fingerprint, software), `log.jsonl` (a line per step), `checkpoints/`;
    when finished also `metrics.json`, `per_class.csv`, `predictions.csv`, plots and `pack/`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.facts = path / "run.json"
        self.log = path / "log.jsonl"
        self.checkpoints = path / "checkpoints"
        self.metrics = path / "metrics.json"
        self.per_class = path / "per_class.csv"
        self.predictions = path / "predictions.csv"
        self.skipped = path / "skipped_images.csv"
        self.pack = path / "pack"
        self._prefix_caches = path / "prefix_cache"

    @property
    def resume_command(self) -> str:
        """What goes on with this run, to be copied into a shell."""
        return f"lpt fit --resume {shlex.quote(str(self.path))}"

    def prefix_cache(self, process: int) -> Path:
        """Where a process keeps the frozen part of phase 2; removed at the end of it."""
        return self._prefix_caches / f"process{process}.rows"

    def remove_prefix_caches(self) -> None:
        """Remove what is left of all of them: an earlier job of this run may have had more processes."""
        shutil.rmtree(self._prefix_caches, ignore_errors=True)

    @classmethod
    def create(cls, path: Path, *, overwrite: bool) -> RunFolder:
        """A new run folder; a folder that is there already is emptied, not replaced: it may be a mount point or a link.

        Raises:
            RunError: there is something at that path already, and `overwrite` is not set or it is no run folder; or it
                cannot be written.
        """
        folder = cls(path)
        cls.check_free(path, overwrite=overwrite)
        try:
            path.mkdir(parents=True, exist_ok=True)
            # The configuration last: while it is there, a removal that was cut short can be started again.
            for item in sorted(path.iterdir(), key=lambda item: item == folder.config):
                if item.is_dir() and not item.is_symlink():
                    shutil.rmtree(item)
                else:
                    item.unlink()
            folder.checkpoints.mkdir()
        except OSError as error:
            raise RunError(
                f"cannot make the run folder {path}: {error.strerror or error}. Choose another output folder with "
                "--output."
            ) from None
        return folder

    @classmethod
    def check_free(cls, path: Path, *, overwrite: bool) -> None:
        """Raise `RunError` as `create` would."""
        if path.exists() and not path.is_dir():
            raise RunError(f"{path} is a file; choose another output folder with --output")
        if path.is_dir() and _holds_something(path):
            if not cls(path).config.is_file():
                raise RunError(f"{path} holds files and is not a run folder of lpt; choose another with --output")
            if not overwrite:
                raise RunError(
                    f"{path} holds a run already. Go on with it: {cls(path).resume_command}. "
                    "Replace it: add --overwrite. Or choose another output folder with --output."
                )

    @classmethod
    def existing(cls, path: Path) -> RunFolder:
        """The folder of a run that was started before.

        Raises:
            RunError: there is none.
        """
        folder = cls(path)
        if not folder.config.is_file():
            raise RunError(f"there is no run to resume in {path}: it has no config.yaml")
        return folder

    @property
    def finished(self) -> bool:
        """Whether the run has left its result."""
        return self.metrics.is_file() and (self.pack / "pack.json").is_file()

    def records(self) -> Iterator[dict[str, Any]]:
        """The log's lines; a last line that a kill cut short is left out."""
        if not self.log.is_file():
            return
        with self.log.open(encoding="utf-8") as lines:
            for line in lines:
                if line.endswith("\n"):
                    yield json.loads(line)

    def note_seconds(self, part: str, seconds: float) -> None:
        """Remember what a part of training outside of its steps took, such as the features that the head starts from.

        Raises:
            RunError: it cannot be written.
        """
        facts = self._facts()
        taken = facts.get("preparing_seconds", {})
        taken[part] = taken.get(part, 0.0) + seconds  # what an interrupted run did before counts too
        write_json(self.facts, facts | {"preparing_seconds": taken})

    def preparing_seconds(self) -> float:
        """What all such parts took."""
        return float(sum(self._facts().get("preparing_seconds", {}).values()))

    def _facts(self) -> dict[str, Any]:
        return json.loads(self.facts.read_text(encoding="utf-8")) if self.facts.is_file() else {}

    def rewind_log(self, position: Position) -> None:
        """Drop what was logged after a position: those steps will be done and logged again."""
        kept = [r for r in self.records() if (r["phase"], r["step"]) < (position.phase, position.step)]
        write_text(self.log, "".join(json.dumps(record) + "\n" for record in kept))


def _holds_something(path: Path) -> bool:
    """Whether there is more than what a run leaves that was killed before it wrote its configuration."""
    return any(
        not (item.name.endswith(TEMP_SUFFIX) or (item.name == "checkpoints" and not any(item.iterdir())))
        for item in path.iterdir()
    )
