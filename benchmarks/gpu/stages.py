"""The stages of `benchmarks.gpu` in order of worth, and the process that runs one of them.

    python -m benchmarks.gpu.stages NAME GIVEN_AS_JSON RESULT_FILE

A stage has a process of its own: it leaves no memory on the card, and one that fails or takes too long ends alone.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lpt.system.files import write_json

PRECISIONS = ("float32", "bfloat16")
MODELS = ("vit_tiny_patch16_224", "vit_base_patch16_224", "vit_large_patch16_224")
METHODS = ("lpt", "lpt-phase1", "lift")
TINY_MODEL = "quick"


@dataclass(frozen=True)
class Given:
    """What all stages share.

    Args:
        device: `cuda` or `cpu`.
        tiny: tiny sizes, to try the command without a card.
        shared: folder with golden numbers and data.
        runs: folder of the training runs.
        batch: images of a forward pass at first; it is halved where they do not fit.
        repeats: how often each case is timed.
    """

    device: str
    tiny: bool
    shared: str
    runs: str
    batch: int
    repeats: int


def stage_names(tiny: bool) -> list[str]:
    """Return the names of the stages, those that are worth most first."""
    models = (TINY_MODEL,) if tiny else MODELS
    return [
        *(f"parity {precision}" for precision in PRECISIONS),
        *(f"rates {model} {precision}" for model in models for precision in reversed(PRECISIONS)),
        *(f"accuracy {method}" for method in METHODS),
    ]


def run_stage(name: str, given: Given) -> dict[str, Any]:
    """Run a stage and return what it measured."""
    kind, *parts = name.split(" ")
    if kind == "parity":
        from benchmarks.gpu.parity import measure_parity

        return measure_parity(parts[0], given)
    if kind == "rates":
        from benchmarks.gpu.rates import measure_rates

        return measure_rates(parts[0], parts[1], given)
    from benchmarks.gpu.accuracy import measure_accuracy

    return measure_accuracy(parts[0], given)


def command_of(name: str, given: Given, result: Path) -> list[str]:
    """Return the command that runs a stage in a process of its own."""
    return [sys.executable, "-m", "benchmarks.gpu.stages", name, json.dumps(asdict(given)), str(result)]


if __name__ == "__main__":
    write_json(Path(sys.argv[3]), run_stage(sys.argv[1], Given(**json.loads(sys.argv[2]))))
