"""Make the record of trials from `trials.toml`, a table for each question, for `benchmarks.documents.tables`."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.documents.performance_tables import RESULTS, raw_link, rows_of

FILE = Path(__file__).parent / "trials.toml"


@dataclass(frozen=True)
class Trial:
    """What was tried, on which data and seeds, what came out, and what follows.

    Attributes:
        result: accuracies in percent. `a → b` is before and after.
        raw: the raw file in docs/results; empty if there is none here.
        commit: the commit that has the raw rows or the script; empty if they are here.
        tables: generated tables that show the numbers of the result; empty if only a commit has them.
    """

    tried: str
    data: str
    result: str
    finding: str
    raw: str = ""
    commit: str = ""
    tables: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """Where the numbers can be looked up."""
        comparison = f"{self.raw}/comparison.md"
        file = comparison if (RESULTS / comparison).exists() else self.raw
        link = raw_link(self.raw) if (RESULTS / file).is_dir() else f"[rows](../results/{file})"
        places = [link] * bool(self.raw) + [f"commit {self.commit}"] * bool(self.commit)
        return ", ".join(places) or "the project's design notes"


def record() -> dict[str, list[Trial]]:
    """Read the trials of each question. A question's own values are those of all its trials that give no other."""
    questions: dict[str, dict[str, Any]] = tomllib.loads(FILE.read_text(encoding="utf-8"))
    trials = {}
    for name, question in questions.items():
        common = {key: value for key, value in question.items() if key != "trial"}
        every = [common | trial for trial in question["trial"]]
        trials[name] = [Trial(**{**trial, "tables": tuple(trial.get("tables", ()))}) for trial in every]
    return trials


def table_of(name: str) -> Callable[[], str]:
    """Return a maker of the table of a question."""

    def make() -> str:
        lines = [[trial.tried, trial.data, trial.result, trial.finding, trial.source] for trial in record()[name]]
        return "\n".join(rows_of(["tried", "data, seeds", "result", "finding", "raw"], lines))

    return make


TABLES: dict[str, Callable[[], str]] = {f"tried_{name}": table_of(name) for name in record()}
