"""Run one of the measurements of a folder: `python -m benchmarks.FOLDER COMMAND`. It imports nothing large itself."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from importlib import import_module


def run_command(package: str, description: str | None, commands: Mapping[str, str], argv: Sequence[str] | None) -> None:
    """Run a measurement.

    Args:
        package: dotted name of the folder.
        description: what the folder measures, for `--help`.
        commands: modules of the folder, each with `main(argv)`, and what they measure.
        argv: the command and its options; None: those of this process.
    """
    listed = "\n".join(f"  {name:8}{what}" for name, what in commands.items())
    parser = argparse.ArgumentParser(
        f"python -m {package}",
        description=f"{description}\n\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=commands)
    parser.add_argument("options", nargs=argparse.REMAINDER)
    args = parser.parse_args(argv)
    import_module(f"{package}.{args.command}").main(args.options)
