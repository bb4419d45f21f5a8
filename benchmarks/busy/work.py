"""A process that works a turn whenever it is asked: training steps, or predictions as `lpt predict` makes them.

It reads a line for each turn from standard input, and answers with the seconds that the turn took.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lpt.system.openmp import limit_spinning

Turn = Callable[[], object]
MANY_STEPS = 20_000
"""More steps than are asked for."""


def fit(given: dict[str, Any]) -> Turn:
    """Return a turn of training steps of phase 1 as in `lpt fit`, fed by the loader."""
    import torch

    from benchmarks.speed.pipeline import Case, load_batches, prepare_case
    from lpt.system.hardware import reproducible
    from lpt.training.loop import train_steps
    from lpt.training.phases import build_objective
    from lpt.training.schedule import build_optimizer

    checkpoint = [f"backbone.checkpoint={given['checkpoint']}"] if given["checkpoint"] else []
    case = Case("pictures", given["folder"], given["size"], (*checkpoint, "runtime.device=cpu"))
    arguments = argparse.Namespace(
        steps=MANY_STEPS, batch=given["batch"], seed=0, backbone=given["backbone"], preset="laptop", quick=False
    )
    run = prepare_case(case, arguments, workers=0)
    batches = load_batches(run, phase=1)
    plan = dataclasses.replace(run.phase_data.plan(1), epoch_steps=given["steps"])
    objective = build_objective(run.new_model(), run.train, run.config, 1)
    optimizer = build_optimizer(objective.trainable(), plan.settings)

    def turn() -> None:
        with reproducible(torch.get_num_threads()):
            train_steps(objective, optimizer, batches, plan, first_step=0, after_step=lambda *done: None)

    return turn


def predict(given: dict[str, Any]) -> Turn:
    """Return a turn of predictions from files, decoded ahead in threads as in `lpt predict`."""
    import lpt
    from lpt.commands.predict.table import decode_ahead
    from lpt.errors import DataError

    backbone = None if given["checkpoint"] else given["backbone"]
    predictor = lpt.load_predictor(given["pack"], backbone=backbone, checkpoint=given["checkpoint"], device="cpu")
    files = sorted(Path(given["folder"]).rglob("*.jpg"))
    paths = [files[number % len(files)] for number in range(given["images"])]

    def turn() -> None:
        pictures = (image for _, image in decode_ahead(paths) if not isinstance(image, DataError))
        assert sum(1 for _ in predictor.iterate(pictures, batch_size=given["batch"])) == len(paths)

    return turn


def main() -> None:
    """Get ready, then work a turn for each line."""
    given = json.loads(sys.argv[1])
    limit_spinning()  # as the program does, unless the policy sets the variables itself
    turn = {"fit": fit, "predict": predict}[given["part"]](given)
    turn()
    print(0.0, flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        turn()
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
