"""The result of `lpt tune` on the terminal and as files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.text import Text

from lpt.evaluation.tuning import COMPLETE, PRESET, TrialResult, TuneResult
from lpt.report.tables import COLUMNS, accuracy_table, notes_below, percent
from lpt.system.files import write_json, write_text
from lpt.system.text import csv_text, duration, plural, shorten

SUMMARY, TRIALS = "tuning.json", "trials.csv"
WRITTEN = (SUMMARY, TRIALS)
"""Names of the files that `write_tuning` writes."""
_SHOWN = 10
"""Trials that the terminal shows, the best first."""


def write_tuning(folder: Path, result: TuneResult) -> None:
    """Write tuning.json and trials.csv; tuning.json comes last: it marks a finished search.

    Raises:
        RunError: a file cannot be written.
    """
    write_text(folder / TRIALS, csv_text(_lines(result)))
    write_json(folder / SUMMARY, result.to_dict())


def print_tuning(result: TuneResult, console: Console) -> None:
    """Print the best trials, the chosen settings against the preset, and what follows from them."""
    console.print(trials_table(result))
    console.print(final_table(result))
    for line in verdict(result):
        console.print(line, markup=False)
    console.print(f"The run of the chosen settings: {result.run}; everything else: {result.folder}", markup=False)


def trials_table(result: TuneResult) -> Group:
    """Return a table of the best trials."""
    table = accuracy_table("trial", "Trials, the best first")
    table.add_column("mean per\nclass", justify="right", no_wrap=True)
    table.add_column("± error", justify="right", no_wrap=True)
    for item in result.ranges:
        table.add_column(short_path(item.path).replace(" ", "\n"), justify="right", no_wrap=True)
    trials = ordered(result.trials)
    for trial in trials[:_SHOWN]:
        values = [number_text(trial.values.get(item.path)) for item in result.ranges]
        table.add_row(Text(trial_name(trial, result)), percent(trial.accuracy), percent(trial.error), *values)
    notes = [
        f"Mean per-class accuracy, %, on {plural(result.held_out, 'held-out image')} of "
        f"{plural(result.splits, 'validation split')}; ± is one standard error.",
        counts_line(result),
    ]
    if len(trials) > _SHOWN:
        notes.append(f"All {len(trials)} trials: {result.folder / TRIALS}")
    return Group(table, notes_below(notes))


def final_table(result: TuneResult) -> Group:
    """Return a table of the chosen settings and the preset on the final images."""
    final = result.final
    table = accuracy_table("accuracy, %", measured_on(result))
    for name in COLUMNS.values():
        table.add_column(name, justify="right", no_wrap=True)
    rows = [("preset", final.preset)] if final.preset is not None else []
    for name, metrics in [*rows, (chosen_name(result), final.chosen)]:
        assert metrics is not None
        table.add_row(Text(name), *(percent(getattr(metrics, field)) for field in COLUMNS))
    notes = [f"Groups: {final.chosen.boundaries}."]
    return Group(table, notes_below(notes))


def verdict(result: TuneResult) -> list[str]:
    """Say which settings were taken and why, and whether they gain more than chance over the preset."""
    lines = [why_chosen(result)]
    gain, final = result.final.gain, result.final
    if gain is not None:
        points = f"{100 * gain.mean:+.1f} points in the mean per-class accuracy"
        interval = "" if gain.low is None or gain.high is None else (
            f" (95 % interval {100 * gain.low:+.1f} to {100 * gain.high:+.1f})"
        )  # fmt: skip
        lines.append(
            f"Against the preset on {plural(final.chosen.images, f'{final.split} image')}: {points}{interval}."
        )
        lines.append(_meaning(result))
    if result.unmeasured:
        lines.append(
            f"{plural(len(result.unmeasured), 'class')} without a held-out image could not be measured while choosing: "
            f"{shorten(result.unmeasured)}."
        )
    return lines


def why_chosen(result: TuneResult) -> str:
    """Say which trial was taken and why."""
    lead = result.lead
    if result.best == PRESET or lead is None:
        return "No trial was better than the preset on held-out images: the preset is kept."
    points = f"{100 * lead.mean:.1f} points"
    error = "an unknown standard error" if lead.error is None else f"one standard error ({100 * lead.error:.1f})"
    if result.chosen == PRESET:
        return (
            f"The preset is kept: trial {result.best}, the best, leads it by {points} on held-out images, which is not "
            f"more than {error}; the best of {plural(len(result.trials), 'trial')} is in part the luckiest."
        )
    return f"Trial {result.best} is taken: it leads the preset by {points} on held-out images, more than {error}."


def measured_on(result: TuneResult) -> str:
    """Return what the final table was measured on."""
    if result.final.split == "test":
        return "Trained on all training images, on the test images"
    return "There are no test images: the trials on their held-out images"


def chosen_name(result: TuneResult) -> str:
    """Return the name of the chosen settings in tables."""
    return "preset (kept)" if result.chosen == PRESET else f"trial {result.chosen} (chosen)"


def trial_name(trial: TrialResult, result: TuneResult) -> str:
    """Return the name of a trial in tables."""
    name = "0 (preset)" if trial.number == PRESET else str(trial.number)
    marks = [trial.state] if trial.state != COMPLETE else []
    marks += ["chosen"] if trial.number == result.chosen else []
    return f"{name} {', '.join(marks)}".rstrip()


def counts_line(result: TuneResult) -> str:
    """Say how many trials there were, and how long they took."""
    states = [trial.state for trial in result.trials]
    parts = [f"{states.count(state)} {state}" for state in dict.fromkeys(states)]
    return (
        f"{plural(len(states), 'trial')} ({', '.join(parts)}); {duration(60 * result.used_minutes)} used of "
        f"{duration(60 * result.budget_minutes)}."
    )


def ordered(trials: Sequence[TrialResult]) -> list[TrialResult]:
    """Return complete trials by their accuracy, then stopped and failed ones."""
    states = {COMPLETE: 0}
    return sorted(trials, key=lambda trial: (states.get(trial.state, 1), -(trial.accuracy or 0.0), trial.number))


def short_path(path: str) -> str:
    """Return a field in a short form for the head of a column: `phase1 lr`, `prompt_length`."""
    return " ".join(path.split(".")[1:])


def number_text(value: float | None) -> str:
    """Return a value of a field with three digits."""
    return "–" if value is None else f"{value:.3g}"


def _meaning(result: TuneResult) -> str:
    gain, final = result.final.gain, result.final
    assert gain is not None
    if final.split != "test":
        return (
            "These are the images that the settings were chosen by, so the gain is too high in the mean. Give test "
            "images with --test for a fair one."
        )
    if gain.low is None or gain.high is None:
        return "There are too few test images to say whether that is more than chance."
    if gain.low > 0:
        return "That is more than other test images of the same classes would change by chance."
    if gain.high < 0:
        return "The chosen settings are worse on the test images, by more than chance: take the preset."
    return "That may be chance: the interval holds 0."


def _lines(result: TuneResult) -> Iterable[Sequence[Any]]:
    """Yield the header and a line for each trial: accuracies as fractions, times in seconds."""
    paths = [item.path for item in result.ranges]
    yield ["trial", "state", "mean_per_class", "standard_error", "seconds", "ended_at", "hosts", *paths, "why"]
    for trial in result.trials:
        accuracies = ["" if value is None else f"{value:.4f}" for value in (trial.accuracy, trial.error)]
        values = [trial.values.get(path, "") for path in paths]
        times = [f"{trial.seconds:.1f}", f"{trial.at:.1f}"]
        yield [trial.number, trial.state, *accuracies, *times, "; ".join(trial.hosts), *values, trial.why]
