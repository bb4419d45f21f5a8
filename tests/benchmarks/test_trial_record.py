"""The record of trials says what the raw rows say."""

from __future__ import annotations

import re

import pytest
from benchmarks.documents.performance_tables import RESULTS
from benchmarks.documents.tables import TABLES
from benchmarks.documents.trial_record import Trial, record
from scripts.check_prose import faults

TRIALS = [trial for trials in record().values() for trial in trials]


@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: f"{trial.tried[:30]}")
def test_numbers_of_a_trial_stand_in_the_tables_of_its_raw_rows(trial: Trial) -> None:
    """Without such tables the trial names the commit that has them; without either it says what it is."""
    rows = " ".join(TABLES[table]() for table in trial.tables)
    numbers = re.findall(r"(?<![\d.])\d+\.\d(?![\de])", trial.result)
    assert numbers or trial.commit
    if trial.tables:
        assert (RESULTS / trial.raw).exists()
        assert set(numbers) <= set(re.findall(r"(?<![\d.,])\d+\.\d+(?![\d.])", rows))
    else:
        assert re.search(r"\b[0-9a-f]{7}\b", trial.commit) or "not measured with this software" in trial.finding


@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: f"{trial.tried[:30]}")
def test_a_finding_is_plain(trial: Trial) -> None:
    """Cells of generated tables are out of reach of the check of the pages."""
    assert not list(faults(trial.finding))
    assert trial.finding.endswith(".")
