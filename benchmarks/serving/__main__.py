"""Measure packs in use: `python -m benchmarks.serving COMMAND`; each command has `--help`."""

from __future__ import annotations

import argparse
from importlib import import_module

COMMANDS = {
    "packs": "many packs on one backbone: memory, start, loading, mixed batches",
    "engine": "ONNX Runtime against PyTorch: install, start, memory, rate",
    "load": "the server against the predictor alone, in turns",
    "faults": "hostile requests, replaced packs, slow clients, clients that leave",
    "web": "the page of lpt export --web in Chromium",
}
"""Modules beside this one, each with `main(argv)`, and what they measure."""


def main(argv: list[str] | None = None) -> None:
    """Run a measurement."""
    listed = "\n".join(f"  {name:8}{what}" for name, what in COMMANDS.items())
    parser = argparse.ArgumentParser(
        "python -m benchmarks.serving",
        description=f"{__doc__}\n\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("options", nargs=argparse.REMAINDER)
    args = parser.parse_args(argv)
    import_module(f"benchmarks.serving.{args.command}").main(args.options)


if __name__ == "__main__":
    main()
