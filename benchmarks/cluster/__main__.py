"""Measure Ray on two nodes of this machine: `python -m benchmarks.cluster COMMAND`; each command has `--help`."""

from __future__ import annotations

import argparse
from importlib import import_module

COMMANDS = {
    "compare": "cells of a comparison on two nodes and on one, against the same in one process",
    "lists": "seconds and memory of cutting lists of up to ten million images into shards",
    "predict": "shards of a prediction on two nodes and on one",
    "serve": "replicas behind a front against the server alone, and requests while a replica is killed",
}
"""Modules beside this one, each with `main(argv)`, and what they measure."""


def main(argv: list[str] | None = None) -> None:
    """Run a measurement."""
    listed = "\n".join(f"  {name:8}{what}" for name, what in COMMANDS.items())
    parser = argparse.ArgumentParser(
        "python -m benchmarks.cluster",
        description=f"{__doc__}\n\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("options", nargs=argparse.REMAINDER)
    args = parser.parse_args(argv)
    import_module(f"benchmarks.cluster.{args.command}").main(args.options)


if __name__ == "__main__":
    main()
