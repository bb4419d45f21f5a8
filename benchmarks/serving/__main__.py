"""Measure packs in use: `python -m benchmarks.serving COMMAND`; each command has `--help`."""

from __future__ import annotations

from benchmarks.dispatch import run_command

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
    run_command("benchmarks.serving", __doc__, COMMANDS, argv)


if __name__ == "__main__":
    main()
