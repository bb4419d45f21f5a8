"""The record of trials says what the raw rows say."""

from __future__ import annotations

import re
from functools import cache

import pytest
from benchmarks.documents.performance_tables import RESULTS
from benchmarks.documents.tables import TABLES
from benchmarks.documents.trial_record import Trial, record
from scripts.check_prose import faults

TRIALS = [trial for trials in record().values() for trial in trials]


@cache
def numbers_in(table: str) -> set[str]:
    """Return the decimal numbers of a generated table."""
    return set(re.findall(r"(?<![\d.,])\d+\.\d+(?![\d.])", TABLES[table]()))


@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: f"{trial.tried[:30]}")
def test_numbers_of_a_trial_stand_in_the_tables_of_its_raw_rows(trial: Trial) -> None:
    """Without such tables the trial names the commit that has them; without either it says what it is."""
    numbers = re.findall(r"(?<![\d.])\d+\.\d(?![\de])", trial.result)
    assert numbers or trial.commit
    if trial.tables:
        assert (RESULTS / trial.raw).exists()
        assert set(numbers) <= set().union(*map(numbers_in, trial.tables))
    else:
        assert re.search(r"\b[0-9a-f]{7}\b", trial.commit) or "not measured with this software" in trial.finding


@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: f"{trial.tried[:30]}")
def test_a_finding_is_plain(trial: Trial) -> None:
    """Cells of generated tables are out of reach of the check of the pages."""
    assert not list(faults(trial.finding))
    assert trial.finding.endswith(".")
