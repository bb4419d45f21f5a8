"""Measure on a card what is not measured on CPUs, in a few minutes, the most worthy first.

    HF_HUB_CACHE=../shared/hub HF_HUB_OFFLINE=1 python -m benchmarks.gpu --minutes 10

1. Parity: outputs, losses and gradients in float32 and bfloat16 against the golden numbers of the authors' code.
2. Rates: phase-1, phase-2 and cached phase-2 steps and inference of ViT-Ti, B and L at 224 against the textbook
   model in the same precision, with the memory that they take.
3. Accuracy: CIFAR-100-LT at 224 with ViT-Ti, 8 + 4 epochs: LPT, its phase 1 alone, LIFT.

The result file is written after each stage. When the time is over, the stage that runs is stopped; the same command
goes on from there, a training run from its checkpoint. `--device cpu --tiny` tries all of it without a card.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.gpu.stages import Given, command_of, stage_names
from benchmarks.record import describe_machine, describe_run
from lpt.errors import ConfigError
from lpt.system.files import write_json

ROOT = Path(__file__).parent.parent.parent
GRACE_SECONDS = 20
"""Time of a stage that is stopped, to save its state. It is part of `--minutes`."""
LEAST_SECONDS = 15
"""No stage is started with less time."""

Record = dict[str, Any]


def run_stages(record: Record, given: Given, path: Path, deadline: float, say: Callable[[str], None]) -> None:
    """Run the stages that have no result yet, and write the record after each.

    Args:
        record: of the results so far; it is changed.
        given: what all stages share.
        path: of the result file.
        deadline: on the clock of `time.monotonic`.
        say: shows a line.
    """
    stages: dict[str, Any] = record["stages"]
    for name in stage_names(given.tiny):
        if "result" in stages.get(name, {}):
            say(f"{name}: measured before")
            continue
        left = deadline - GRACE_SECONDS - time.monotonic()
        if left < LEAST_SECONDS:
            say(f"{name}: no time is left; the same command goes on from here")
            break
        begin = time.monotonic()
        outcome = run_apart(name, given, left)
        stages[name] = {**outcome, "seconds": round(time.monotonic() - begin, 1)}
        write_json(path, record)
        say(f"{name}: {outcome.get('failed', 'measured')} ({stages[name]['seconds']} s)")


def run_apart(name: str, given: Given, seconds: float) -> Record:
    """Run a stage in a process of its own; return its result, or why there is none."""
    with tempfile.TemporaryDirectory(prefix="lpt-gpu-") as folder:
        result, log = Path(folder) / "result.json", Path(folder) / "log"
        with log.open("w", encoding="utf-8") as output:
            # Ctrl-C in the terminal reaches this process alone: a second one would end a run before it is saved.
            command = command_of(name, given, result)
            process = subprocess.Popen(command, stdout=output, stderr=output, cwd=ROOT, start_new_session=True)
            try:
                code = process.wait(seconds)
            except subprocess.TimeoutExpired:
                stop(process)
                return {"failed": f"it was stopped after {seconds:.0f} s"}
            finally:
                if process.poll() is None:  # this process is interrupted
                    stop(process)
        if code == 0:
            return {"result": json.loads(result.read_text(encoding="utf-8"))}
        return {"failed": f"exit code {code}: {log.read_text(encoding='utf-8', errors='replace')[-1500:]}"}


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask a stage to stop, so that a training run saves its state. What runs in the background may ignore Ctrl-C."""
    process.terminate()
    try:
        process.wait(GRACE_SECONDS - 5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def open_record(path: Path, given: Given, arguments: list[str]) -> Record:
    """Return the record of an earlier start with its stages, or a new one.

    Raises:
        SystemExit: the file holds the results of another device or other sizes.
    """
    settings = {name: value for name, value in asdict(given).items() if name not in ("shared", "runs")}
    record = {
        **describe_run("parity, rates and accuracy on a card", "benchmarks.gpu", arguments),
        **describe_machine(given.device),
        "settings": settings,
        "stages": {},
    }
    if path.is_file():
        before: Record = json.loads(path.read_text(encoding="utf-8"))
        same = before.get("settings") == settings and before["versions"] == record["versions"]
        if not same or card_of(before) != card_of(record):
            raise SystemExit(
                f"{path} holds results of other settings, versions or another device ({before['hardware']}). "
                "Remove it, or name another file with --output."
            )
        record["stages"] = before["stages"]
    return record


def card_of(record: Record) -> str:
    """Return the device of a record, without its free memory."""
    return str(record["hardware"]).rpartition(", ")[0]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the stages that fit into the time."""
    deadline = time.monotonic()
    arguments = list(sys.argv[1:] if argv is None else argv)
    args = parse(arguments)
    deadline += 60 * args.minutes
    args.runs.mkdir(parents=True, exist_ok=True)
    output = args.output or (args.runs / "gpu.json" if args.tiny else Path("docs/results/gpu.json"))
    batch, repeats = (2, 1) if args.tiny else (args.batch, args.repeats)
    given = Given(args.device, args.tiny, str(args.shared), str(args.runs.resolve()), batch, repeats)
    try:
        record = open_record(output, given, arguments)
    except ConfigError as error:
        raise SystemExit(str(error)) from None  # there is no card
    run_stages(record, given, output, deadline, lambda line: print(line, flush=True))
    print(f"results: {output}")


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    beside = [folder for folder in (ROOT / "shared", ROOT.parent / "shared") if folder.is_dir()]
    parser.add_argument("--minutes", type=float, default=10, help="time for all stages together")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes: does it run at all?")
    parser.add_argument("--batch", type=int, default=128, help="images of a pass; halved where they do not fit")
    parser.add_argument("--repeats", type=int, default=10, help="how often each case is timed")
    parser.add_argument(
        "--shared", type=Path, default=beside[0] if beside else ROOT / "shared", help="golden numbers, data"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/gpu"), help="folder of the training runs")
    parser.add_argument(
        "--output", type=Path, help="result file; default: docs/results/gpu.json, of --tiny in the runs"
    )
    return parser.parse_args(arguments)
