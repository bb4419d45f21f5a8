"""The benchmark of new classes: the share that is matched, and the table of what is there."""

from __future__ import annotations

import numpy as np
from benchmarks.accuracy.extension_rows import measure, scaled, shifted
from benchmarks.accuracy.new_classes import NEW, OLD
from benchmarks.documents.extension_tables import new_classes


def test_every_kind_is_compared_at_the_share_of_the_new_classes() -> None:
    """Kinds with scores of very different sizes get the same accuracies where they order pictures the same way."""
    draws = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(OLD + NEW)), 20)
    cosines = draws.uniform(0.2, 0.4, (len(labels), len(OLD + NEW)))
    cosines[np.arange(len(labels)), labels] += draws.uniform(0, 0.3, len(labels))
    old, new = cosines[:, : len(OLD)], cosines[:, len(OLD) :]
    fair = measure(old, new, labels, scaled)
    assert 0.9 < fair["number"] < 1.1
    assert abs(fair["old"] - fair["new"]) < 10
    for factor, kind in ((0.5, scaled), (3.0, scaled)):
        other = measure(old, factor * new, labels, kind)
        assert {part: other[part] for part in ("old", "new", "all")} == {
            part: fair[part] for part in ("old", "new", "all")
        }
    assert abs(measure(old, new - 0.3, labels, shifted)["number"] - 1.3) < 0.05


def test_the_table_holds_what_is_there_and_names_what_is_not() -> None:
    parts = {"old": 50.0, "new": 20.0, "all": 44.0}
    rows = [
        {"seed": 0, "shots": 0, "method": "old pack", "old": 60.0, "new": 0.0, "all": 48.0},
        {"seed": 0, "shots": 5, "method": "extended", "seconds": 4.0, **parts},
        {"seed": 1, "shots": 5, "method": "extended", "seconds": 9.0, **parts, "old": 52.0},
    ]
    facts = {"old_classes": 80, "new_classes": 20, "size": 64, "known_per_class": 10}
    table = "\n".join(new_classes({**facts, "rows": rows, "missing": ["all_5_seed0"]}))
    assert "| 5 | `lpt extend` | 51.0 ± 1.4 | 20.0 ± 0.0 | 44.0 ± 0.0 | 2 |" in table
    assert "took 4 to 9 s" in table
    assert "Not there yet: all_5_seed0." in table
