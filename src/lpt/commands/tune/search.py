"""The trials of a search, one after the other, until the time for them is used up."""

from __future__ import annotations

from lpt.commands.tune.budget import Budget, preset_seconds, relative_steps
from lpt.commands.tune.setup import Setup
from lpt.commands.tune.study import Candidate, Study
from lpt.commands.tune.trials import Limits, OutOfTimeError, StoppedError, train_trial
from lpt.errors import DataError, LptError, RunError
from lpt.evaluation.tuning import COMPLETE, FAILED, PRESET, STOPPED, TrialResult
from lpt.report.tune import number_text, short_path
from lpt.system.interrupt import Interrupted
from lpt.system.text import duration
from lpt.training.loop import lacks_memory

MOST_FAILURES = 3
"""Trials in a row whose failure ends the search."""
MOST_TOO_LONG = 5
"""Trials in a row that end the search because they would take longer than is left: a shorter one may come."""


def run_trials(setup: Setup, study: Study, budget: Budget) -> None:
    """Train trials until the time for them is used up. The one that was interrupted goes on first.

    Raises:
        Interrupted: a signal came; everything is saved.
        DataError: an image cannot be read any more.
        RunError: the preset failed, or several trials in a row did.
    """
    _sweep(setup, study)
    failures = too_long = 0
    while True:
        results = study.results()
        if not study.interrupted:
            why = budget.why_over(results, setup.plan.splits, setup.clock.seconds)
            if why:
                setup.console.print(f"The search ends: {why}.")
                return
        candidate = study.next()
        deadline = budget.deadline(results, setup.plan.splits)
        _announce(setup, candidate)
        expected = setup.clock.seconds + _expected(setup, candidate, results)
        if not candidate.resumed and expected > deadline:
            _end(setup, candidate, STOPPED, why=f"it would take longer than is left ({_left(setup, deadline)})")
            too_long += 1
            if too_long == MOST_TOO_LONG:
                setup.console.print(f"The search ends: {too_long} trials in a row would take longer than is left.")
                return
            continue
        too_long = 0
        failed = _try(setup, candidate, deadline)
        failures = failures + 1 if failed else 0
        if failures >= MOST_FAILURES:
            raise RunError(
                f"{failures} trials failed in a row, the last one: {failed}\nCorrect that, then give the same command "
                f"again: the search in {setup.folder.path} goes on."
            )


def _try(setup: Setup, candidate: Candidate, deadline: float) -> str:
    """Train a trial and tell its end; return why it failed, empty if it did not."""
    limits = Limits(deadline, lambda splits: setup.answers(PRESET, splits))
    try:
        score = train_trial(setup, candidate, limits)
    except Interrupted:
        setup.clock.keep()
        raise Interrupted(
            f"stopped in trial {candidate.number}; everything is saved in {setup.folder.path}\n"
            "Go on with the same command."
        ) from None
    except StoppedError as stopped:
        _end(setup, candidate, STOPPED, why=str(stopped))
    except OutOfTimeError:
        _end(setup, candidate, STOPPED, why="the time for trials was used up")
    except DataError:  # every other trial would fail too
        raise
    except Exception as error:  # whatever it is, the other trials are worth their time
        reason = _reason(setup, candidate.number, error)
        if candidate.number == PRESET:
            raise RunError(
                f"the preset failed, which every trial starts from: {reason}\nCorrect that, then give the same command "
                "again."
            ) from None
        _end(setup, candidate, FAILED, why=reason)
        return reason
    else:
        _end(setup, candidate, COMPLETE, accuracy=score.mean, error=score.error)
    return ""


def _end(
    setup: Setup,
    candidate: Candidate,
    state: str,
    *,
    accuracy: float | None = None,
    error: float | None = None,
    why: str = "",
) -> None:
    """Tell the end of a trial, then remove what it trained."""
    setup.clock.keep()
    candidate.end(state, accuracy, error=error, why=why, at=round(setup.clock.seconds, 1))
    for split in range(setup.plan.splits):
        setup.folder.remove_run(candidate.number, split)
    measured = f"{100 * accuracy:.1f}" if accuracy is not None else state
    around = f" ± {100 * error:.1f}" if error is not None else ""
    reason = f": {why}" if why else ""
    style = "red" if state == FAILED else None
    used = duration(setup.clock.seconds)
    setup.console.print(f"  {measured}{around}{reason} ({used} used)", style=style, markup=False)


def _announce(setup: Setup, candidate: Candidate) -> None:
    values = ", ".join(f"{short_path(path)} {number_text(value)}" for path, value in candidate.values.items())
    again = ", goes on" if candidate.resumed else ""
    preset = " (the preset)" if candidate.number == PRESET else ""
    setup.console.print(f"Trial {candidate.number}{preset}{again}: {values}", markup=False)


def _sweep(setup: Setup, study: Study) -> None:
    """Remove what trials trained that had ended when a kill came."""
    for trial in study.results():
        for split in range(setup.plan.splits):
            setup.folder.remove_run(trial.number, split)


def _expected(setup: Setup, candidate: Candidate, results: list[TrialResult]) -> float:
    """Return the seconds that a trial takes if it is not stopped."""
    steps = relative_steps(setup.plan.config, candidate.values, setup.plan.search)
    return preset_seconds(results) * steps


def _left(setup: Setup, deadline: float) -> str:
    return duration(max(deadline - setup.clock.seconds, 0))


def _reason(setup: Setup, number: int, error: Exception) -> str:
    """Say why a trial failed; the traceback of an unexpected error is written into the folder."""
    if isinstance(error, LptError):
        return str(error).replace("\n", " ")
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and lacks_memory(error)):
        return "the memory does not hold it"
    path = setup.folder.write_error(number, error)
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]} (the whole of it: {path})"
