"""Measure Ray on two nodes of this machine: `python -m benchmarks.cluster COMMAND`; each command has `--help`."""

from __future__ import annotations

from benchmarks.dispatch import run_command

COMMANDS = {
    "compare": "cells of a comparison on two nodes and on one, against the same in one process",
    "lists": "seconds and memory of cutting lists of up to ten million images into shards",
    "predict": "shards of a prediction on two nodes and on one",
    "serve": "replicas behind a front against the server alone, and requests while a replica is killed",
}
"""Modules beside this one, each with `main(argv)`, and what they measure."""


def main(argv: list[str] | None = None) -> None:
    """Run a measurement."""
    run_command("benchmarks.cluster", __doc__, COMMANDS, argv)


if __name__ == "__main__":
    main()
