"""Optuna's part of a search: what to try next, and when a trial is not worth its time.

The journal in the folder holds the whole study. A trial that a kill interrupted stays RUNNING in it for ever unless
somebody tells its end: it is found, and goes on under its number.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from lpt.errors import RunError
from lpt.evaluation.tuning import COMPLETE, FAILED, STOPPED, Range, TrialResult
from lpt.system.randomness import seed_of

NAME = "lpt"
STARTUP_TRIALS = 5
"""Trials, the preset's among them, before the sampler learns from them."""
BEFORE_PRUNING = 3
"""Complete trials that a trial is compared with, at least."""
FEWEST_FOR_IMPORTANCE = 6
"""Complete trials from which on importance says anything."""
_STATES = {TrialState.COMPLETE: COMPLETE, TrialState.PRUNED: STOPPED, TrialState.FAIL: FAILED}


class Candidate:
    """A trial that is going on.

    Args:
        study: the study.
        trial: Optuna's trial.
        ranges: what is searched.
        resumed: whether an earlier command began it.
    """

    def __init__(self, study: optuna.Study, trial: optuna.Trial, ranges: Sequence[Range], *, resumed: bool) -> None:
        self._study, self._trial = study, trial
        self.number = trial.number
        self.resumed = resumed
        with _quiet():
            self.values = {item.path: _suggest(trial, item) for item in ranges}

    def report(self, step: int, accuracy: float) -> None:
        """Report an accuracy at a step that all trials have in common."""
        with _quiet():
            self._trial.report(accuracy, step)

    def reported(self, step: int) -> float | None:
        """Return the accuracy that was reported at a step; None where none was."""
        return self._study.get_trials(deepcopy=False)[self.number].intermediate_values.get(step)

    def lags(self) -> bool:
        """Return whether the trial, at its best, is worse than half of the complete ones were at this step."""
        with _quiet():
            return self._trial.should_prune()

    def note_host(self, host: str) -> None:
        """Note a machine of the cluster that the trial runs on."""
        hosts = self._trial.user_attrs.get("hosts", [])
        if host not in hosts:
            self._trial.set_user_attr("hosts", [*hosts, host])

    @property
    def seconds(self) -> float:
        """Seconds of the trial that earlier commands spent on it."""
        return float(self._trial.user_attrs.get("seconds", 0.0))

    def keep_seconds(self, seconds: float) -> None:
        """Keep the seconds that the trial has taken so far."""
        self._trial.set_user_attr("seconds", round(seconds, 1))

    def end(self, state: str, accuracy: float | None, **facts: Any) -> None:
        """Tell the end of the trial, with facts to keep."""
        for name, value in facts.items():
            self._trial.set_user_attr(name, value)
        wanted = next(key for key, name in _STATES.items() if name == state)
        with _quiet():
            self._study.tell(self.number, accuracy if state == COMPLETE else None, state=wanted)


class Study:
    """The study in a journal.

    Args:
        journal: its file.
        ranges: what is searched.
        seed: of the suggestions. They depend on the seed, the number of a trial and the trials begun before it alone.

    Raises:
        RunError: the journal is damaged.
    """

    def __init__(self, journal: Path, ranges: Sequence[Range], seed: int) -> None:
        self._ranges, self._seed = ranges, seed
        self._taken = set[int]()
        _mend(journal)
        try:
            with _quiet():
                self._study = optuna.create_study(
                    storage=JournalStorage(JournalFileBackend(str(journal), JournalFileOpenLock(str(journal)))),
                    study_name=NAME,
                    direction="maximize",
                    load_if_exists=True,
                    pruner=optuna.pruners.MedianPruner(BEFORE_PRUNING),
                )
                if not self._study.get_trials(deepcopy=False):
                    self._study.enqueue_trial({item.path: item.preset for item in ranges})
        except (ValueError, KeyError, AssertionError) as error:
            raise RunError(
                f"{journal} is damaged ({error}): it holds the trials of the search. Restore it, or begin anew with "
                "--overwrite."
            ) from None

    def next(self) -> Candidate:
        """Return a trial that an earlier command left unfinished, or a new one."""
        left, running = self._left(), len(self._running())
        number = left[0].number if left else running + len(self._ended())
        self._taken.add(number)
        with _quiet():
            self._study.sampler = optuna.samplers.TPESampler(
                seed=seed_of(self._seed, "tune", number) % 2**32,
                n_startup_trials=STARTUP_TRIALS,
                constant_liar=True,  # several at once do not try the same; without effect while none other runs
            )
            trial = optuna.trial.Trial(self._study, left[0]._trial_id) if left else self._study.ask()
        return Candidate(self._study, trial, self._ranges, resumed=bool(left))

    @property
    def interrupted(self) -> bool:
        """Whether an earlier command left a trial unfinished that has not been taken up again."""
        return bool(self._left())

    @property
    def going(self) -> int:
        """How many trials were begun and have not ended."""
        return len(self._running())

    def results(self) -> list[TrialResult]:
        """Return the trials that have ended, by number."""
        return [_result(trial) for trial in self._ended()]

    def importance(self) -> dict[str, float] | None:
        """Return the share of each field in how the accuracies of complete trials differ; None with too few trials.

        PED-ANOVA (Watanabe et al., IJCAI 2023): which values the best trials have that others have not.
        """
        complete = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if len(complete) < FEWEST_FOR_IMPORTANCE:
            return None
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.25)
        try:
            with _quiet():
                shares = optuna.importance.get_param_importances(self._study, evaluator=evaluator)
        except (ValueError, RuntimeError):  # all accuracies are the same
            return None
        return {name: float(share) for name, share in shares.items()}

    def _running(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))

    def _left(self) -> list[FrozenTrial]:
        return [trial for trial in self._running() if trial.number not in self._taken]

    def _ended(self) -> list[FrozenTrial]:
        trials = self._study.get_trials(deepcopy=False, states=tuple(_STATES))
        return sorted(trials, key=lambda trial: trial.number)


def _suggest(trial: optuna.Trial, item: Range) -> float:
    if item.whole:
        return trial.suggest_int(item.path, int(item.low), int(item.high), log=item.log)
    return trial.suggest_float(item.path, item.low, item.high, log=item.log)


def _result(trial: FrozenTrial) -> TrialResult:
    facts = trial.user_attrs
    last = trial.intermediate_values[max(trial.intermediate_values)] if trial.intermediate_values else None
    state = _STATES[trial.state]
    return TrialResult(
        number=trial.number,
        state=state,
        values=dict(trial.params),
        accuracy=trial.value if state == COMPLETE else None if state == FAILED else facts.get("accuracy", last),
        error=facts.get("error"),
        seconds=float(facts.get("seconds", 0.0)),
        at=float(facts.get("at", 0.0)),
        why=str(facts.get("why", "")),
        hosts=list(facts.get("hosts", [])),
    )


def _mend(journal: Path) -> None:
    """Remove what a killed writer left: half a last line, and its lock. The folder's own lock keeps others out.

    Raises:
        RunError: the journal cannot be written.
    """
    try:
        for left in journal.parent.glob(f"{journal.name}.lock*"):
            left.unlink(missing_ok=True)
        if not journal.exists():
            return
        with journal.open("r+b") as file:
            content = file.read()
            file.truncate(content.rfind(b"\n") + 1)
    except OSError as error:
        raise RunError(
            f"cannot write {journal}: {error.strerror}. Change its permissions, or free some space."
        ) from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna's logs and warnings off the screen."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
