"""The table of docs/how-to/tune.md: tuned settings against the preset."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.documents.performance_tables import MISSING, RESULTS, Result, spread
from lpt.system.text import plural

DATA = ("clothing", "grocery")
MEASURES = ("overall", "mean_per_class", "many", "medium", "few")
_NAMES = ("overall", "mean per class", "many", "medium", "few")


def gains() -> str:
    """Return the test accuracies of the tuned settings and of the preset, and their difference."""
    files = [RESULTS / f"tune_{data}.json" for data in DATA]
    results = [json.loads(file.read_text(encoding="utf-8")) for file in files if file.exists()]
    if not results:
        return MISSING
    lines = [f"| data | settings | {' | '.join(_NAMES)} |", "|---|---|" + "---|" * len(MEASURES)]
    for result in results:
        lines += _rows(result)
    return "\n".join([*lines, "", *(f"{_note(result)}\n" for result in results)]).rstrip()


def _rows(result: Result) -> list[str]:
    tests = result["tests"]
    if tests is None:
        cells = [_percent(result["search"]["final"]["chosen"][name]) for name in MEASURES]
        return [f"| {result['data']} | the preset, which was kept | " + " | ".join(cells) + " |"]
    rows = [f"| {result['data']} | {name} | " + " | ".join(_means(tests[name])) + " |" for name in ("preset", "tuned")]
    differences = [_difference(tests["difference"]["measures"].get(name)) for name in MEASURES]
    return [*rows, f"| {result['data']} | difference (95 % interval) | " + " | ".join(differences) + " |"]


def _means(runs: Sequence[dict[str, Any]]) -> list[str]:
    cells = []
    for name in MEASURES:
        values = [100 * run[name] for run in runs if run[name] is not None]
        cells.append(spread(values) if values else "–")
    return cells


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _difference(value: dict[str, Any] | None) -> str:
    if value is None:
        return "–"
    text = f"{100 * value['mean']:+.1f}"
    return text if value["low"] is None else f"{text} ({100 * value['low']:+.1f} to {100 * value['high']:+.1f})"


def _note(result: Result) -> str:
    search = result["search"]
    preset = {item["path"]: item["preset"] for item in search["ranges"]}
    chosen = next(trial["values"] for trial in search["trials"] if trial["number"] == search["chosen"])
    changed = ", ".join(f"`{path}` {preset[path]:.3g} to {value:.3g}" for path, value in chosen.items())
    kept = "no trial was better by more than a standard error" if search["chosen"] == 0 else changed
    seeds = f"Seeds {', '.join(map(str, result['seeds']))} (mean ± standard deviation)" if result["tests"] else "Seed 0"
    return (
        f"{result['what']}: {len(search['trials'])} trials in {search['used_minutes']:.0f} of "
        f"{search['budget_minutes']:.0f} minutes, {plural(search['splits'], 'validation split')}; {kept}. {seeds}. "
        f"{result['machine']['hardware']}; {result['date']}. Command: `{result['command']}`."
    )


TABLES: dict[str, Callable[[], str]] = {"tune": gains}
