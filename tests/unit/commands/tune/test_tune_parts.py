"""The parts of a search without training: splits, ranges, budget, study, folder."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from optuna.trial import TrialState
from rich.console import Console

from lpt.commands.jobs.executors import InThisProcess
from lpt.commands.tune import clock
from lpt.commands.tune.budget import FINAL_FACTOR, PACKING_SECONDS, Budget
from lpt.commands.tune.clock import Clock
from lpt.commands.tune.links import FileLink, LiveLink, StoppedError, let_go_on, read_reports, tell_to_stop
from lpt.commands.tune.search import Search, _Trials, run_trials
from lpt.commands.tune.space import search_space
from lpt.commands.tune.splits import FEWEST_HELD, cut_splits, unmeasured, wanted_splits
from lpt.commands.tune.store import TuneFolder
from lpt.commands.tune.study import Candidate, Study
from lpt.commands.tune.trials import TrialEnd, _EpochCallback
from lpt.config.presets import with_preset
from lpt.config.recipes import METHODS
from lpt.config.schema import RunConfig
from lpt.data.longtail import ShotGroups
from lpt.errors import ConfigError, RunError
from lpt.evaluation.tuning import (
    COMPLETE,
    FAILED,
    STOPPED,
    Answers,
    Range,
    TrialResult,
    accuracy_of,
    choose,
    lead_of,
)

COUNTS = np.array([40, 9, 2, 1, 0])
LABELS = np.repeat(np.arange(5), COUNTS)
RATE = Range("train.phase1.lr", 0.001, 0.1, log=True, whole=False, preset=0.01)
LENGTH = Range("model.prompt_length", 2, 8, log=True, whole=True, preset=4)


def config_of(method: str, **values: object) -> RunConfig:
    """The configuration of a method under the preset for CPUs, `auto` replaced where it matters here."""
    config = with_preset({"preset": "laptop", "method": method, **values}, "cpu", origin="a test").config
    if config.loss.noise == "auto":
        config.loss.noise = 0.4
    if config.model.adapter_size == "auto":
        config.model.adapter_size = 4
    return config


# --- splits


def test_every_class_of_two_images_is_measured_and_never_on_images_it_was_trained_on() -> None:
    cuts = cut_splits(LABELS, 5, 3, seed=0)
    for cut in cuts:
        assert sorted([*cut.train, *cut.held]) == list(range(len(LABELS)))
        assert np.bincount(LABELS[cut.held], minlength=5).tolist() == [8, 1, 1, 0, 0]
        assert set(LABELS[cut.train]) == {0, 1, 2, 3}
    for label, distinct in ((0, 24), (1, 3), (2, 2)):  # other images in every split, as far as there are some
        assert len({row for cut in cuts for row in cut.held.tolist() if LABELS[row] == label}) == distinct
    assert all(np.array_equal(a.held, b.held) for a, b in zip(cuts, cut_splits(LABELS, 5, 3, seed=0), strict=True))
    assert not np.array_equal(cuts[0].held, cut_splits(LABELS, 5, 3, seed=1)[0].held)
    assert unmeasured([LABELS[cut.held] for cut in cuts], COUNTS, list("abcde")) == ["d"]


@pytest.mark.parametrize(
    ("counts", "splits"), [([500, 20], 1), ([500, 19], 2), ([500, 10], 2), ([500, 9], 4), ([9, 1], 4)]
)
def test_rare_classes_ask_for_more_splits(counts: list[int], splits: int) -> None:
    assert wanted_splits(np.array(counts)) == splits
    assert splits == 4 or splits * (min(counts) // 5) >= FEWEST_HELD


# --- ranges


@pytest.mark.parametrize("method", [name for name in METHODS if "probe" not in name and name != "class-means"])
def test_every_method_searches_only_fields_it_has_around_its_own_values(method: str) -> None:
    config = config_of(method)
    ranges = {item.path: item for item in search_space(config)}
    assert all(item.low <= item.preset <= item.high and item.low < item.high for item in ranges.values())
    assert {"train.phase1.lr", "train.phase1.epochs"} <= set(ranges)
    for path, has in {
        "train.phase2.lr": method == "lpt",
        "train.phase1.head_lr": config.train.phase1.head_lr is not None,
        "model.prompt_length": config.model.prompts != "none",
        "model.adapter_size": bool(config.model.adapter_size),
        "model.lora_rank": method == "lora",
        "loss.noise": config.loss.name in ("a_gcl", "gcl"),
    }.items():
        assert (path in ranges) is has, path


def test_phase2_searches_nothing_that_phase1_depends_on_and_set_fields_stay() -> None:
    paths = {item.path for item in search_space(config_of("lpt"), "phase2", {"model.top_k"})}
    assert paths == {"train.phase2.lr", "train.phase2.epochs", "model.pool_size", "loss.similarity_weight"}
    pool = next(item for item in search_space(config_of("lpt"), "phase2") if item.path == "model.pool_size")
    picks = next(item for item in search_space(config_of("lpt"), "phase2") if item.path == "model.top_k")
    assert picks.high <= pool.low  # every pair is valid


@pytest.mark.parametrize(
    ("method", "search", "fixed", "says"),
    [
        ("linear-probe", "all", (), "solved, not trained in steps"),
        ("lift", "phase2", (), "no second phase"),
        ("lpt", "half", (), "accepted are all, phase2"),
        ("lora", "all", ("train.phase1.lr", "train.phase1.epochs", "model.lora_rank"), "nothing is left"),
    ],
)
def test_a_search_of_nothing_is_refused(method: str, search: str, fixed: tuple[str, ...], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        search_space(config_of(method), search, fixed)


# --- choice


def test_the_preset_stays_unless_the_best_leads_by_more_than_a_standard_error() -> None:
    labels = np.repeat(np.arange(4), 25)
    wrong = (labels + 1) % 4
    counts, groups = np.full(4, 100), ShotGroups()
    preset = Answers(labels, np.where(np.arange(100) % 2, labels, wrong))
    luckier = Answers(labels, np.where(np.arange(100) < 1, labels, preset.predicted))  # one image more is right
    better = Answers(labels, np.where(np.arange(100) % 25 < 20, labels, preset.predicted))
    assert choose({0: 0.5, 1: 0.51}, lead_of(luckier, preset, counts, groups)) == 0
    assert choose({0: 0.5, 1: 0.9}, lead_of(better, preset, counts, groups)) == 1
    assert choose({0: 0.5, 1: 0.5}, None) == 0
    score = accuracy_of(preset, counts, groups)
    shares = np.array([(preset.predicted == labels)[labels == c].mean() for c in range(4)])
    assert score.mean == pytest.approx(shares.mean())
    expected = np.sqrt((shares * (1 - shares) / 24).sum()) / 4  # of a mean of four binomial shares
    assert score.error == pytest.approx(expected, rel=0.1)


# --- budget


def test_a_budget_keeps_time_for_the_final_runs_and_says_the_least_that_would_do() -> None:
    budget = Budget(seconds=3600, finals=2)
    assert budget.splits(wanted=4, used=0, split_seconds=10) == 4
    assert budget.splits(wanted=4, used=0, split_seconds=300) == 1
    assert Budget(seconds=3600, finals=2, most=2).splits(wanted=4, used=0, split_seconds=300) == 4
    with pytest.raises(ConfigError, match=r"budget 60: too few minutes for two trials.*at least 88 minutes"):
        budget.splits(wanted=4, used=0, split_seconds=1187.5)
    trials = [
        TrialResult(0, COMPLETE, {}, 0.5, 0.1, 100.0, 100.0),
        TrialResult(1, COMPLETE, {}, 0.6, 0.1, 200.0, 300.0),
    ]
    kept = FINAL_FACTOR * (50 + 100) + 2 * PACKING_SECONDS  # two splits each
    assert budget.deadline(trials, splits=2) == pytest.approx(3600 - kept)
    assert budget.why_over(trials, 2, used=3000) == ""
    assert "are left for trials" in budget.why_over(trials, 2, used=3350)
    assert "2 trials, as asked for" in Budget(3600, 2, most=2).why_over(trials, 2, used=0)


def test_a_budget_counts_on_several_runs_at_a_time() -> None:
    budget = Budget(seconds=3600, finals=2, slots=4)
    assert budget.splits(wanted=4, used=0, split_seconds=400) == 3  # alone it is one
    with pytest.raises(ConfigError, match=r"at least 35 minutes"):
        Budget(2000, 2, slots=2).splits(wanted=4, used=0, split_seconds=940)
    trials = [
        TrialResult(0, COMPLETE, {}, 0.5, 0.1, 100.0, 100.0),
        TrialResult(1, COMPLETE, {}, 0.6, 0.1, 200.0, 300.0),
    ]
    assert budget.deadline(trials, splits=2) == pytest.approx(3600 - FINAL_FACTOR * 100 - PACKING_SECONDS)
    assert Budget(3600, 2, most=4, slots=4).why_over(trials, 2, used=0, going=1) == ""
    assert "4 trials, as asked for" in Budget(3600, 2, most=4, slots=4).why_over(trials, 2, used=0, going=2)


def test_the_clock_goes_on_where_a_killed_command_left_it(tmp_path: Path) -> None:
    (tmp_path / "clock.json").write_text('{"seconds": 1000}')
    assert 1000 <= Clock(tmp_path / "clock.json", goes_on=True).seconds < 1100
    assert Clock(tmp_path / "clock.json", goes_on=False).seconds < 100
    (tmp_path / "clock.json").write_text('{"sec')
    assert Clock(tmp_path / "clock.json", goes_on=True).seconds < 100


def test_a_killed_final_run_counts_up_to_its_last_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "KEEP_SECONDS", 0.01)
    file = tmp_path / "clock.json"
    with Clock(file, goes_on=False).kept():
        end = time.monotonic() + 30
        while not file.is_file():  # a kill from here on would find it
            assert time.monotonic() < end
            time.sleep(0.005)
        file.unlink()
    assert file.is_file()


@pytest.mark.parametrize(("too_long", "states"), [({1, 2}, "CSSCCCCC"), ({1, 2, 3, 4, 5, 6, 7}, "CSSSSS")])
def test_a_trial_too_long_for_the_time_left_makes_way_for_a_shorter_one(
    too_long: set[int], states: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only several of them in a row end the search."""
    folder = SimpleNamespace(
        remove_training=lambda number: None,
        trial=lambda number: tmp_path / str(number),
        trial_run=lambda number, split: SimpleNamespace(path=tmp_path / str(number)),
    )
    setup: Any = SimpleNamespace(plan=SimpleNamespace(splits=1, search="all"), folder=folder)
    works: Any = SimpleNamespace(trial=lambda candidate, deadline: lambda console: TrialEnd(COMPLETE, 0.5, None, ""))
    monkeypatch.setattr(_Trials, "_expected", lambda self, candidate, results: 9e9 * (candidate.number in too_long))
    study, time_used = Study(tmp_path / "study.journal", [RATE], seed=0), Clock(tmp_path / "clock.json", goes_on=False)
    quiet = Console(quiet=True)
    run_trials(Search(setup, study, Budget(3600, 1, most=8), time_used, InThisProcess(), works, quiet))
    assert [trial.state for trial in study.results()] == [{"C": COMPLETE, "S": STOPPED}[state] for state in states]


# --- study


def test_a_killed_study_goes_on_with_the_trial_that_was_running(tmp_path: Path) -> None:
    journal, ranges = tmp_path / "study.journal", [RATE, LENGTH]
    first = Study(journal, ranges, seed=0).next()
    assert (first.number, first.values, first.resumed) == (0, {RATE.path: 0.01, LENGTH.path: 4}, False)
    first.report(10, 0.4)
    first.end(COMPLETE, 0.5, why="", at=3.0)
    second = Study(journal, ranges, seed=0).next()
    second.report(5, 0.3)
    second.keep_seconds(12)
    lines = journal.read_bytes()
    (tmp_path / "study.journal.lock").write_text("of a killed writer")
    journal.write_bytes(lines + b'{"op_code": 6, "trial_id"')  # and half of its line

    again = Study(journal, ranges, seed=0)
    assert not (tmp_path / "study.journal.lock").exists()
    assert again.interrupted
    resumed = again.next()
    assert (resumed.number, resumed.values, resumed.resumed, resumed.seconds) == (1, second.values, True, 12)
    resumed.end(FAILED, None, why="the memory does not hold it")
    third = again.next()
    third.report(4, 0.2)
    third.end(STOPPED, None, why="it was worse")
    states = [(trial.number, trial.state, trial.accuracy, trial.why) for trial in Study(journal, ranges, 0).results()]
    assert states == [
        (0, COMPLETE, 0.5, ""),
        (1, FAILED, None, "the memory does not hold it"),
        (2, STOPPED, 0.2, "it was worse"),
    ]
    assert all(trial.state is not TrialState.RUNNING for trial in again._study.trials)
    assert again.importance() is None


def test_trials_that_were_interrupted_at_once_all_go_on_before_new_ones(tmp_path: Path) -> None:
    journal, ranges = tmp_path / "study.journal", [RATE, LENGTH]
    study = Study(journal, ranges, seed=0)
    begun = [study.next() for _ in range(3)]
    begun[1].end(COMPLETE, 0.5, at=1.0)
    assert (study.interrupted, study.going) == (False, 2)

    again = Study(journal, ranges, seed=0)
    assert again.interrupted
    resumed = [again.next(), again.next()]
    assert [(trial.number, trial.values) for trial in resumed] == [(trial.number, trial.values) for trial in begun[::2]]
    assert all(trial.resumed for trial in resumed)
    new = again.next()
    assert (new.number, new.resumed, again.interrupted, again.going) == (3, False, False, 3)
    in_turn = Study(tmp_path / "other.journal", ranges, seed=0)
    for expected in [*begun, new]:  # at random before the sampler learns: the same whoever else runs
        trial = in_turn.next()
        assert trial.values == expected.values
        trial.end(COMPLETE, 0.5, at=1.0)


def test_a_trial_whose_report_a_kill_lost_is_judged_when_it_goes_on(tmp_path: Path) -> None:
    """The kill came after the checkpoint of an epoch: with the report the trial would have been stopped there."""
    journal, plan = tmp_path / "study.journal", SimpleNamespace(phase=2, epoch_steps=4)
    study = Study(journal, [RATE], seed=0)
    for _ in range(4):
        other = study.next()
        other.report(5, 0.9)
        other.end(COMPLETE, 0.9)
    assert study.next().number == 4

    def watching(candidate: Candidate, search: str = "all") -> _EpochCallback:
        watch = object.__new__(_EpochCallback)
        watch._setup = SimpleNamespace(plan=SimpleNamespace(search=search))  # type: ignore[assignment]
        watch._link = LiveLink(candidate, Clock(tmp_path / "clock.json", goes_on=False), math.inf)
        watch._split, watch._former, watch._epochs = 0, 0.0, [2, 2]
        watch._accuracy = lambda phase: 0.1 * phase  # type: ignore[method-assign]
        return watch

    candidate = Study(journal, [RATE], seed=0).next()
    watching(candidate).on_phase_begin(plan, 3)  # type: ignore[arg-type]  # within an epoch
    watching(candidate, "phase2").on_phase_begin(plan, 0)  # type: ignore[arg-type]  # no trial reports a shared phase
    assert candidate.reported(5) is None
    for _ in range(2):  # the second kill comes after the report, before the end is told
        with pytest.raises(StoppedError, match=r"after epoch 2 of 4 .*10\.0"):
            watching(candidate).on_phase_begin(plan, 0)  # type: ignore[arg-type]
        assert candidate.reported(5) == 0.1
        candidate = Study(journal, [RATE], seed=0).next()


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    journal = tmp_path / "study.journal"
    Study(journal, [RATE], seed=0)
    journal.write_bytes(b"no journal\n" + journal.read_bytes())
    with pytest.raises(RunError, match=r"study\.journal is damaged.*overwrite"):
        Study(journal, [RATE], seed=0)


def test_importance_finds_the_field_that_matters(tmp_path: Path) -> None:
    study = Study(tmp_path / "study.journal", [RATE, LENGTH], seed=0)
    for _ in range(8):
        trial = study.next()
        trial.end(COMPLETE, -abs(np.log10(trial.values[RATE.path]) + 1.5), at=1.0)
    importance = study.importance()
    assert importance is not None
    assert importance[RATE.path] > importance[LENGTH.path]


# --- links


def test_a_trial_on_another_machine_reports_by_files_and_stops_when_it_is_told(tmp_path: Path) -> None:
    link = FileLink(tmp_path, 3, {RATE.path: 0.01}, seconds=12.0)
    link.after_step()
    link.keep_seconds(20)
    link.report(4, 0.4)
    link.report(5, 0.25, "epoch 5 of 9")
    reports = read_reports(tmp_path)
    assert [(report.step, report.accuracy, report.at, report.seconds) for report in reports] == [
        (4, 0.4, "", 20),
        (5, 0.25, "epoch 5 of 9", 20),
    ]
    assert reports[1].lags == "after epoch 5 of 9 it was worse than half of the trials were (25.0)"

    again = FileLink(tmp_path, 3, {RATE.path: 0.01}, seconds=12.0)  # its process was killed
    assert again.seconds == 20
    again.report(6, 0.3)
    assert [report.step for report in read_reports(tmp_path)] == [4, 5, 6]
    tell_to_stop(tmp_path, "it was worse")
    with pytest.raises(StoppedError, match="it was worse"):
        again.after_step()
    let_go_on(tmp_path)
    FileLink(tmp_path, 3, {}, seconds=0).after_step()


# --- folder


def test_another_folder_is_never_taken_for_a_search(tmp_path: Path) -> None:
    (tmp_path / "tune.json").write_text(json.dumps({"kind": "lpt-run"}))
    with pytest.raises(RunError, match="is no search of lpt"):
        TuneFolder(tmp_path).stored_plan()
    (tmp_path / "tune.json").unlink()
    (tmp_path / "photo.jpg").write_bytes(b"mine")
    with pytest.raises(RunError, match="is no search of lpt"):
        TuneFolder(tmp_path).stored_plan()
