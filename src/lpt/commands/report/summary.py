"""Read comparison.json, which `lpt compare` wrote: all that the report takes from it is checked first."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field

from lpt.config.stored import read_fields
from lpt.errors import RunError

SUMMARY = "comparison.json"
_AGAIN = "Give the same lpt compare command again: finished runs are kept, and the tables are written anew."


class _Spread(BaseModel):
    mean: float | None


class _Row(BaseModel):
    method: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]  # a part of a path
    title: str
    seeds: list[int]
    cost: dict[str, _Spread]


class _Measure(BaseModel):
    mean: float
    low: float | None
    high: float | None
    seed_std: float | None
    by_seed: list[float | None]


class _Difference(BaseModel):
    method: str
    reference: str
    measures: dict[str, _Measure]


class _Summary(BaseModel):
    reference: str
    seeds: Annotated[list[int], Field(min_length=1)]
    methods: list[_Row]
    differences: list[_Difference]
    facts: dict[str, Any] = {}


def read_summary(folder: Path) -> dict[str, Any]:
    """Read comparison.json.

    Raises:
        RunError: it is missing or damaged, or no run is finished.
    """
    file = folder / SUMMARY
    try:
        summary = read_fields(file, _Summary)
    except FileNotFoundError:
        raise RunError(f"the comparison in {folder} is not finished: it has no {SUMMARY}. {_AGAIN}") from None
    except (OSError, ValueError) as error:
        raise RunError(f"{file} is damaged, or of something else ({error}). {_AGAIN}") from None
    if not any(row["seeds"] for row in summary["methods"]):
        raise RunError(f"the comparison in {folder} has no finished run. {_AGAIN}")
    return summary
