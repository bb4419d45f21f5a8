"""RunFolder: the configuration, log, checkpoints and results of a run."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from lpt.config.machine import settings_sha256
from lpt.config.schema import RunConfig
from lpt.config.values import read_yaml, to_yaml
from lpt.errors import RunError
from lpt.system.files import write_json, write_text
from lpt.system.lock import KIND as LOCK_KIND
from lpt.system.lock import LOCK, check_free_of_runs
from lpt.system.outputs import REPORT, RUN_KIND, RUN_MARKER, SHIFT_KIND, SHIFT_MARKER
from lpt.system.owned import (
    PACK_NAMES,
    Contents,
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
from lpt.training.position import FILE_NAME, Position
from lpt.training.records import damaged, gone, read_facts, read_records

KIND = RUN_KIND
FACTS = RUN_MARKER
_EVENTS = r"events\.out\.tfevents\..+"
_PREFIX_CACHE: Names = {r"process\d+\.(rows|identity)": None}
SHIFT_NAMES = (SHIFT_MARKER, "shift.json", "shift.csv", "shift.png", "shift_skipped_images.csv")
"""Names that `lpt evaluate --shift` writes, perhaps into the folder of the run it measures; the first is the marker."""
RUN_NAMES: Names = {
    **exactly(FACTS, LOCK, "config.yaml", "log.jsonl", "metrics.json"),
    **exactly("per_class.csv", "predictions.csv", "skipped_images.csv"),
    **exactly("accuracy_by_count.png", "group_use.png", "losses.png", REPORT),
    "checkpoints": exactly(FILE_NAME),
    "prefix_cache": _PREFIX_CACHE,
    **exactly("pack", "pack.partial", "pack.former", inside=PACK_NAMES),
    "lpt": {_EVENTS: None, r"\d+(\.\d+)?": {_EVENTS: None, r"hparams\.yml": None}},  # of TensorBoard
}
"""Every name that a run writes into its folder; LPT never removes anything else in it."""

Inputs = Callable[[], Iterable[Input]]


def no_inputs() -> Iterable[Input]:
    """Return nothing: a run that reads no files."""
    return ()


class RunFolder:
    """A run folder: its paths and its log.

    `config.yaml` (resolved), `run.json` (data fingerprint, software), `log.jsonl` (a line for each step) and
    `checkpoints/`. A finished run has also `metrics.json`, `per_class.csv`, `predictions.csv`, plots and `pack/`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.facts = path / FACTS
        self.log = path / "log.jsonl"
        self.lock = path / LOCK
        self.checkpoints = path / "checkpoints"
        self.metrics = path / "metrics.json"
        self.per_class = path / "per_class.csv"
        self.predictions = path / "predictions.csv"
        self.skipped = path / "skipped_images.csv"
        self.pack = path / "pack"
        self.report = path / REPORT
        self._prefix_caches = path / "prefix_cache"

    @property
    def resume_command(self) -> str:
        """Return the shell command that resumes this run."""
        return f"lpt fit --resume {shlex.quote(str(self.path))}"

    def prefix_cache(self, process: int) -> Path:
        """Return the file where a process keeps the prefix cache of phase 2."""
        return self._prefix_caches / f"process{process}.rows"

    def remove_prefix_caches(self) -> None:
        """Remove the files of all processes: an earlier job of this run may have had more processes."""
        with contextlib.suppress(OSError):
            remove_names(self._prefix_caches, _PREFIX_CACHE)

    @classmethod
    def create(cls, path: Path, facts: Mapping[str, Any], *, overwrite: bool, inputs: Inputs = no_inputs) -> RunFolder:
        """Make a new run folder. An existing folder is emptied, not replaced: it may be a mount point or a link.

        The marker `run.json` is written first and stays while an earlier run is removed: a folder left by a kill is
        known as a run.

        Args:
            path: the folder.
            facts: the fields of `run.json`.
            overwrite: remove an existing run.
            inputs: returns what the run reads; none of it may lie in a folder that is emptied.

        Raises:
            RunError: as `check_free`, or the folder cannot be written.
        """
        folder = cls(path)
        cls.check_free(path, overwrite=overwrite, inputs=inputs, locked=True)
        cls.make(path)
        try:
            inside = contents(path, folder.names)
            if folder.config in inside.files:  # first, so that nobody resumes half a run
                folder.config.unlink()
            remove(inside, keep=[folder.facts, folder.lock], last=SHIFT_NAMES[0])
            write_json(folder.facts, {**marker(KIND), **facts})
            folder.checkpoints.mkdir(exist_ok=True)
        except OSError as error:
            raise _not_made(path, error) from None
        return folder

    @staticmethod
    def make(path: Path) -> None:
        """Make the folder itself, empty, unless it is there.

        Raises:
            RunError: it cannot be made.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _not_made(path, error) from None

    @classmethod
    def check_free(cls, path: Path, *, overwrite: bool, inputs: Inputs = no_inputs, locked: bool = False) -> None:
        """Check that a folder is empty, or that it holds a run that may be overwritten.

        Args:
            path: the folder.
            overwrite: whether a run may be removed.
            inputs: as for `create`.
            locked: whether the caller holds its lock.

        Raises:
            RunError: another run goes on in it, or it holds anything else, or a run without `overwrite`, or a run that
                LPT may not remove.
        """
        if path.exists() and not path.is_dir():
            raise RunError(f"{path} is a file; choose another output folder with --output")
        folder = cls(path)
        if not locked:
            check_free_of_runs(path)
        if folder.unused:
            return
        if not folder.is_run:
            raise RunError(
                f"{path} holds files and is not a run folder of lpt (it has no {FACTS} of a run, or a damaged one); "
                "choose another with --output"
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
        """Return the names that LPT writes into this folder: those of a run, and of shifts if any were measured."""
        shift = is_marked(self.path / SHIFT_NAMES[0], SHIFT_KIND)
        return {**RUN_NAMES, **(exactly(*SHIFT_NAMES) if shift else {})}

    @property
    def is_run(self) -> bool:
        """Return whether the folder is a run's: by its marker, or by the files of a version without markers."""
        if is_marked(self.facts, KIND):
            return True
        fields = marker_fields(self.facts)
        return "kind" not in fields and {"data_sha256", "backbone_sha256"} <= set(fields) and self.config.is_file()

    @property
    def unused(self) -> bool:
        """Return whether the folder holds nothing, or only what a run leaves that was killed at its start."""
        if not self.path.is_dir():
            return True
        inside = contents(self.path, RUN_NAMES)
        marked = is_marked(self.facts, KIND)
        # Without a marker, only the temporary file of the marker may be left.
        files = (path for path in inside.files if not (is_temporary(path) and (marked or FACTS in path.name)))
        files = (path for path in files if path != self.lock or not _is_lock(path))
        return (
            not (inside.others or inside.blocking)
            and all(path == self.checkpoints for path in inside.folders)
            and all(marked and path == self.facts for path in files)
        )

    def why_kept(self, inputs: Inputs = no_inputs) -> str:
        """Return a clause that says why LPT may not remove the run; empty if it may."""
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
        """Return a sentence on the files in the folder that no run wrote; empty if there are none."""
        return contents(self.path, self.names).others_message(self.path)

    @classmethod
    def existing(cls, path: Path) -> RunFolder:
        """Open the folder of a run that was started before.

        Raises:
            RunError: there is none, or it goes on in another process.
        """
        folder = cls(path)
        if not folder.config.is_file():
            raise RunError(f"there is no run to resume in {path}: it has no config.yaml")
        if folder.facts.is_file() and not marker_fields(folder.facts):
            raise damaged(folder.facts, "it is no JSON object, or cut short")
        if not folder.is_run:
            raise RunError(f"there is no run to resume in {path}: it has no {FACTS} of a run")
        check_free_of_runs(path)
        return folder

    @property
    def begun(self) -> bool:
        """Return whether there is a run to resume."""
        return self.config.is_file() and self.is_run

    @property
    def finished(self) -> bool:
        """Return whether the run has written its result."""
        return self.metrics.is_file() and (self.pack / "pack.json").is_file()

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the records of the log; leave out a last line that a kill cut short.

        Raises:
            RunError: a line is not the record of a step.
        """
        return read_records(self.log)

    def check_there(self) -> None:
        """Raise `RunError` if the folder was removed or moved since the run was started."""
        if not self.facts.is_file():
            raise gone(self.path)

    def start_facts(self) -> dict[str, Any]:
        """Return the facts that the run was started with.

        Raises:
            RunError: `run.json` is damaged, or lacks the fingerprints.
        """
        facts = read_facts(self.facts)
        if lacking := {"data_sha256", "backbone_sha256", "versions"} - set(facts):
            raise damaged(self.facts, f"it lacks {', '.join(sorted(lacking))}")
        return facts

    def settings(self) -> dict[str, Any]:
        """Return the values of `config.yaml`.

        Raises:
            ConfigError: it is not readable.
            RunError: it was edited since the run was started, beyond what belongs to the machine.
        """
        values, before = read_yaml(self.config), self.start_facts().get("config_sha256")
        now = settings_sha256(values)
        if before is not None and now != before:
            raise RunError(
                f"{self.config} was edited since the run was started (the SHA-256 of its settings is {now[:12]}, was "
                f"{before[:12]}): the run would not be the one that was begun. Restore the file, or start a new run "
                f"with it: lpt fit --config {shlex.quote(str(self.config))} --output FOLDER"
            )
        return values

    def write_config(self, config: RunConfig) -> None:
        """Write `config.yaml` and the SHA-256 of its settings.

        Raises:
            RunError: it cannot be written.
        """
        text, facts = to_yaml(config), read_facts(self.facts)
        digest = settings_sha256(yaml.safe_load(text))
        if facts.get("config_sha256") != digest:
            write_json(self.facts, facts | {"config_sha256": digest})
        write_text(self.config, text)

    def note_seconds(self, part: str, seconds: float) -> None:
        """Add the seconds of a part of training outside of the steps to `run.json`.

        Args:
            part: its name, e.g. `head`; what an interrupted run took for it is added up.
            seconds: taken this time.

        Raises:
            RunError: it cannot be read or written.
        """
        facts = read_facts(self.facts)
        parts = facts.get("preparing_seconds", {})
        parts[part] = parts.get(part, 0.0) + seconds
        write_json(self.facts, facts | {"preparing_seconds": parts})

    def preparing_seconds(self) -> float:
        """Return the seconds of all parts outside of the steps."""
        return float(sum(read_facts(self.facts).get("preparing_seconds", {}).values()))

    def rewind_log(self, position: Position) -> None:
        """Drop the records after a position: those steps will be done and logged again.

        Raises:
            RunError: a line is not the record of a step, or the log cannot be written.
        """
        end = (position.phase, position.step)
        records = [record for record in self.records() if (record["phase"], record["step"]) < end]
        text = "".join(json.dumps(record) + "\n" for record in records)
        if not self.log.is_file() or self.log.read_bytes() != text.encode():  # a full disk has no room for a copy
            write_text(self.log, text)


def clear_runs(folder: Path, inside: Contents, runs: Iterable[RunFolder], *, keep: Iterable[Path]) -> str:
    """Remove what LPT wrote in a folder that holds runs; return what to tell the user of things that stay.

    The marker of a run is removed last, and stays where something else lies in the run's folder.

    Args:
        folder: the folder.
        inside: its contents.
        runs: the runs among them.
        keep: files to leave.

    Raises:
        RunError: a file cannot be removed.
    """
    held = [run.facts for run in runs if contents(run.path, RUN_NAMES).others]
    try:
        remove(inside, keep=[*keep, *held], last=FACTS)
    except OSError as error:
        raise RunError(
            f"cannot remove {error.filename}: {error.strerror}. Remove it yourself, or choose another folder with "
            "--output."
        ) from None
    return inside.others_message(folder)


def _is_lock(file: Path) -> bool:
    """Return whether a file is a lock of LPT; a kill may have left it empty."""
    return is_marked(file, LOCK_KIND) or not file.stat().st_size


def _not_made(path: Path, error: OSError) -> RunError:
    return RunError(
        f"cannot make the run folder {path}: {error.strerror or error}. Choose another output folder with --output."
    )
