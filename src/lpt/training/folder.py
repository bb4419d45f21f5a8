"""The run folder: configuration, log, checkpoints, and what a finished run leaves."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lpt.errors import RunError
from lpt.system.files import write_json, write_text
from lpt.system.owned import (
    PACK_NAMES,
    Input,
    Names,
    contents,
    exactly,
    first_inside,
    is_marked,
    is_temporary,
    marker,
    marker_fields,
    remove,
    remove_names,
)
from lpt.training.checkpoint import FILE_NAME, Position

KIND = "lpt-run"
FACTS = "run.json"
_EVENTS = r"events\.out\.tfevents\..+"
_PREFIX_CACHE: Names = {r"process\d+\.(rows|identity)": None}
SHIFT_NAMES = ("shift_cells.json", "shift.json", "shift.csv", "shift.png", "shift_skipped_images.csv")
"""What `lpt evaluate --shift` writes, perhaps into the folder of the run it measures; the first is the marker."""
SHIFT_KIND = "lpt-shift"
RUN_NAMES: Names = {
    **exactly(FACTS, "config.yaml", "log.jsonl", "metrics.json"),
    **exactly("per_class.csv", "predictions.csv", "skipped_images.csv"),
    **exactly("accuracy_by_count.png", "group_use.png", "losses.png"),
    "checkpoints": exactly(FILE_NAME),
    "prefix_cache": _PREFIX_CACHE,
    **exactly("pack", "pack.partial", "pack.former", inside=PACK_NAMES),
    "lpt": {_EVENTS: None, r"\d+(\.\d+)?": {_EVENTS: None, r"hparams\.yml": None}},  # of TensorBoard
}
"""Every name that a run writes into its folder; nothing else in it is ever removed."""

Inputs = Callable[[], Iterable[Input]]


def no_inputs() -> Iterable[Input]:
    """Nothing that a run reads from files."""
    return ()


class RunFolder:
    """Paths of a run, and its log.

    `config.yaml` (resolved), `run.json` (data fingerprint, software), `log.jsonl` (a line per step), `checkpoints/`;
    when finished also `metrics.json`, `per_class.csv`, `predictions.csv`, plots and `pack/`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.facts = path / FACTS
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
        with contextlib.suppress(OSError):
            remove_names(self._prefix_caches, _PREFIX_CACHE)

    @classmethod
    def create(cls, path: Path, facts: Mapping[str, Any], *, overwrite: bool, inputs: Inputs = no_inputs) -> RunFolder:
        """A new run folder; a folder that is there already is emptied, not replaced: it may be a mount point or a link.

        The marker, `run.json`, is there before anything else, and while an earlier run is removed: what a kill leaves
        is known to be a run.

        Args:
            path: the folder.
            facts: what `run.json` says.
            overwrite: remove the run that is there.
            inputs: gives what the run reads, which must not lie in a folder that is emptied.

        Raises:
            RunError: as `check_free`; or it cannot be written.
        """
        folder = cls(path)
        cls.check_free(path, overwrite=overwrite, inputs=inputs)
        try:
            path.mkdir(parents=True, exist_ok=True)
            inside = contents(path, folder.names)
            if folder.config in inside.files:  # first, so that nobody goes on with half a run
                folder.config.unlink()
            remove(inside, keep=[folder.facts], last=SHIFT_NAMES[0])
            write_json(folder.facts, {**marker(KIND), **facts})
            folder.checkpoints.mkdir(exist_ok=True)
        except OSError as error:
            raise RunError(
                f"cannot make the run folder {path}: {error.strerror or error}. Choose another output folder with "
                "--output."
            ) from None
        return folder

    @classmethod
    def check_free(cls, path: Path, *, overwrite: bool, inputs: Inputs = no_inputs) -> None:
        """Raise `RunError` if a folder holds anything, but for a run of which `overwrite` says that it may go."""
        if path.exists() and not path.is_dir():
            raise RunError(f"{path} is a file; choose another output folder with --output")
        folder = cls(path)
        if folder.unused:
            return
        if not folder.is_run:
            raise RunError(
                f"{path} holds files and is not a run folder of lpt (it has no {FACTS} of a run); choose another with "
                "--output"
            )
        reason = folder.why_kept(inputs)
        if overwrite and reason:
            raise RunError(f"{path} is not overwritten: {reason}. Choose another output folder with --output.")
        if not overwrite:
            advice = [f"Go on with it: {folder.resume_command}."] if folder.config.is_file() else []
            advice += [] if reason else ["Replace it: add --overwrite."]
            advice += [f"{'Or choose' if advice else 'Choose'} another output folder with --output."]
            raise RunError(f"{path} holds a run already. {' '.join(advice)}")

    @property
    def names(self) -> Names:
        """The names that were written into the folder: a run's, and those of shifts that were measured into it."""
        shift = is_marked(self.path / SHIFT_NAMES[0], SHIFT_KIND)
        return {**RUN_NAMES, **(exactly(*SHIFT_NAMES) if shift else {})}

    @property
    def is_run(self) -> bool:
        """Whether the folder is proven to be that of a run, of this version or of one before there were markers."""
        if is_marked(self.facts, KIND):
            return True
        fields = marker_fields(self.facts)
        return "kind" not in fields and {"data_sha256", "backbone_sha256"} <= set(fields) and self.config.is_file()

    @property
    def unused(self) -> bool:
        """Whether there is nothing in the folder but what a run leaves that was killed before its configuration."""
        if not self.path.is_dir():
            return True
        inside = contents(self.path, RUN_NAMES)
        marked = is_marked(self.facts, KIND)
        # Before there is a marker there is nothing but its temporary file.
        begun = (path for path in inside.files if not (is_temporary(path) and (marked or FACTS in path.name)))
        return (
            not (inside.others or inside.blocking)
            and all(path == self.checkpoints for path in inside.folders)
            and all(marked and path == self.facts for path in begun)
        )

    def why_kept(self, inputs: Inputs = no_inputs) -> str:
        """Why the run in the folder may not be removed by LPT, a clause; empty if it may."""
        if not is_marked(self.facts, KIND):
            return (
                f"its {FACTS} is not marked as that of a run of this version. If it is the run you mean, remove the "
                "folder yourself"
            )
        blocking = contents(self.path, self.names).blocking
        if blocking:
            return f"{blocking[0]} lies where a run would write and is nothing that a run wrote"
        inside = first_inside(self.path, inputs())
        return f"{inside.what} lies in it ({inside.path})" if inside else ""

    @property
    def others(self) -> str:
        """What to tell of things in the folder that no run wrote; empty if there is none."""
        return contents(self.path, self.names).told(self.path)

    @classmethod
    def existing(cls, path: Path) -> RunFolder:
        """The folder of a run that was started before.

        Raises:
            RunError: there is none.
        """
        folder = cls(path)
        if not folder.config.is_file():
            raise RunError(f"there is no run to resume in {path}: it has no config.yaml")
        if not folder.is_run:
            raise RunError(f"there is no run to resume in {path}: it has no {FACTS} of a run")
        return folder

    @property
    def begun(self) -> bool:
        """Whether there is a run to go on with."""
        return self.config.is_file() and self.is_run

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
