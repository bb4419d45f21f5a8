"""`lpt` that predicts in shards of few images, so that there are many shards."""

from __future__ import annotations

import functools
import sys

import lpt.commands.predict.request as module
from lpt.cli import main

SIZE = 8


def run(arguments: list[str]) -> None:
    module.PredictRequest = functools.partial(module.PredictRequest, shard_size=SIZE)  # type: ignore[assignment,misc]
    sys.argv = ["lpt", *arguments]
    main()
