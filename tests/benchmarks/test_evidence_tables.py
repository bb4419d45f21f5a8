"""Tables that are counted anew agree with what the comparisons wrote."""

from __future__ import annotations

import json

import pytest
from benchmarks.documents.compare_tables import OVERVIEW
from benchmarks.documents.evidence_tables import disagreements, sizes
from benchmarks.documents.performance_tables import RESULTS


def cells(table: str, first: str) -> list[str]:
    """Return the cells of the row that begins with a text."""
    (row,) = (line for line in table.splitlines() if line.startswith(f"| {first} |"))
    return [cell.strip() for cell in row.strip("|").split("|")]


@pytest.fixture(scope="module")
def counted() -> str:
    """Return the table, which is counted from all predictions, once."""
    return disagreements()


def number(cell: str) -> int:
    return int(cell.split()[0].replace(",", ""))


@pytest.mark.parametrize("name", ["compare_cifar100_if100_96", "compare_cifar100_if100_128", "compare_emoji"])
def test_wins_less_losses_of_the_two_phases_are_their_difference(name: str, counted: str) -> None:
    summary = json.loads((RESULTS / name / "comparison.json").read_text(encoding="utf-8"))
    (lead,) = (lead for lead in summary["differences"] if lead["method"] == "lpt-phase1")
    total, differ, won, lost = map(number, cells(counted, OVERVIEW[name])[1:])
    assert won + lost < differ < total
    assert (won - lost) / total == pytest.approx(lead["measures"]["overall"]["mean"])


def test_sizes_are_those_that_were_trained() -> None:
    """LPT has adapters of one number beside them; fine-tuning at 96 pixels has fewer positions and a linear head."""
    summary = json.loads((RESULTS / "compare_cifar100_if100_96" / "comparison.json").read_text(encoding="utf-8"))
    trained = {row["method"]: row["cost"]["trained_parameters"]["mean"] for row in summary["methods"]}
    row = cells(sizes(), "ViT-Ti/16")
    backbone, shared, groups, keys, head = (number(row[column]) for column in (1, 2, 3, 4, 6))
    adapters = trained["lpt-phase1"] - shared - head
    assert trained["lpt"] == shared + groups + keys + head + adapters
    width, positions = head // 100, (224**2 - 96**2) // 16**2
    assert trained["fine-tuning"] == backbone - positions * width + 100 * (width + 1)
