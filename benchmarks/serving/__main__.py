"""Measure packs in use: `python -m benchmarks.serving packs`."""

from __future__ import annotations

import argparse

from benchmarks.serving import packs

COMMANDS = {"packs": packs}
"""Each module has a docstring, `add_arguments(parser)` and `main(args)`."""


def main(argv: list[str] | None = None) -> None:
    """Run a measurement."""
    parser = argparse.ArgumentParser("benchmarks.serving", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, module in COMMANDS.items():
        module.add_arguments(commands.add_parser(name, help=(module.__doc__ or "").splitlines()[0]))
    args = parser.parse_args(argv)
    COMMANDS[args.command].main(args)


if __name__ == "__main__":
    main()
