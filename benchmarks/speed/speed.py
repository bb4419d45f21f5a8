"""Time LPT beside the textbook two-pass model and timm's plain forward, in one run.

    python -m benchmarks.speed --output docs/results/speed_vit_tiny_224.json

All forms run on one backbone with random weights and the same random images, in turns: each repeat runs every case
once, and a ratio is the median over repeats of two neighbouring times, so that drift of the machine cancels. Data
loading and the optimizer are left out. Outputs and gradients are compared first; the run fails where they differ by
more than rounding. The matrix rate of the machine is measured in the same repeats, on the shapes of the ViT's MLP.

`--quick` runs everything in seconds on a tiny backbone: a test of this script, no measurement.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table

from benchmarks.record import describe_machine, describe_run
from benchmarks.speed.counts import counted_ratios, gflop_per_image
from benchmarks.speed.speed_cases import (
    QUICK_SIZE,
    RATIOS,
    Contest,
    Key,
    Sizes,
    agreement,
    build_vit,
)
from benchmarks.speed.speed_profile import shares
from lpt.system.files import write_json
from lpt.system.hardware import inspect_machine

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
MATRIX = Key("machine", "matrix products")
FUSED, PLAIN_ATTENTION = Key("attention", "fused"), Key("attention", "plain")


class Times(NamedTuple):
    """The seconds of every repeat of one job, and device memory (bytes, CUDA only)."""

    seconds: list[float]
    peak_bytes: int
    working_bytes: int


# --- what the machine can do -----------------------------------------------------------------------------------------


def matrix_products(contest: Contest, dtype: torch.dtype) -> tuple[Callable[[], Any], float]:
    """Return a run of the two products of an MLP on all tokens of the batch, and their GFLOP."""
    vit, images = contest.vit, contest.images
    width, hidden = vit.blocks[0].mlp.fc1.in_features, vit.blocks[0].mlp.fc1.out_features
    rows = len(images) * contest.kept.tokens.shape[1]
    tokens, wide = (torch.randn(rows, n, device=images.device, dtype=dtype) for n in (width, hidden))
    up, down = (torch.randn(shape, device=images.device, dtype=dtype) for shape in ((width, hidden), (hidden, width)))

    def run() -> None:
        tokens @ up, wide @ down

    return run, 2 * 2 * rows * width * hidden / 1e9


def attention_forms(contest: Contest, dtype: torch.dtype) -> dict[Key, Callable[[], Any]]:
    """Return forward and backward of the attention of one block, by torch's fused kernel and in the plain form."""
    attention, images = contest.vit.blocks[0].attn, contest.images
    tokens, prompts = contest.kept.tokens.shape[1], 2 * contest.model.shared.tokens.shape[1]

    def draw(length: int) -> torch.Tensor:
        shape = (len(images), attention.num_heads, length, attention.head_dim)
        return torch.randn(shape, device=images.device, dtype=dtype).requires_grad_()

    query, key, value = draw(tokens), draw(tokens + prompts), draw(tokens + prompts)
    gradient = torch.randn_like(query)

    def fused() -> None:
        F.scaled_dot_product_attention(query, key, value).backward(gradient)

    def plain() -> None:
        (((query * attention.scale) @ key.transpose(-2, -1)).softmax(dim=-1) @ value).backward(gradient)

    return {FUSED: fused, PLAIN_ATTENTION: plain}


# --- timing ----------------------------------------------------------------------------------------------------------


def run_in_turns(jobs: dict[Any, Callable[[], Any]], repeats: int, cuda: bool) -> dict[Any, Times]:
    """Run every job once in each repeat; the first repeat is not counted."""
    times = {name: Times([], 0, 0) for name in jobs}
    for repeat in range(repeats + 1):
        for name, run in jobs.items():
            if cuda:
                torch.cuda.reset_peak_memory_stats()
                before = torch.cuda.memory_allocated()
                torch.cuda.synchronize()
            start = time.perf_counter()
            run()
            if cuda:
                torch.cuda.synchronize()
            elapsed = time.perf_counter() - start
            if repeat == 0:
                continue
            times[name].seconds.append(elapsed)
            if cuda:
                peak = torch.cuda.max_memory_allocated()
                working = max(peak - before, times[name].working_bytes)
                times[name] = Times(times[name].seconds, max(peak, times[name].peak_bytes), working)
    return times


def ratio(first: list[float], second: list[float]) -> dict[str, Any]:
    """Return median, least and greatest of first / second over repeats, and the ratio of the best times."""
    pairs = [above / below for above, below in zip(first, second, strict=True)]
    return {
        "measured": round(median(pairs), 4),
        "range": [round(min(pairs), 4), round(max(pairs), 4)],
        "of_best": round(min(first) / min(second), 4),
    }


def rounded(value: float) -> float:
    """Round to four digits."""
    return float(f"{value:.4g}")


# --- the result ------------------------------------------------------------------------------------------------------


def rows_of(times: dict[Any, Times], counts: dict[Key, float], matrix_gflop: float, batch: int) -> list[dict[str, Any]]:
    """Return a row for each precision and case; rates are of the median time."""
    rows = []
    for (precision, key), measured in times.items():
        if key not in counts:
            continue
        seconds = median(measured.seconds)
        rate = counts[key] * batch / seconds
        products = matrix_gflop / median(times[precision, MATRIX].seconds)
        row: dict[str, Any] = {
            "precision": precision,
            **key._asdict(),
            "images_per_second": rounded(batch / seconds),
            "seconds": {"median": rounded(seconds), "best": rounded(min(measured.seconds))},
            "gflop_per_image": round(counts[key], 4),
            "gflop_per_second": rounded(rate),
            "share_of_matrix_rate": rounded(rate / products),
        }
        if measured.peak_bytes:
            row |= {"peak_memory_bytes": measured.peak_bytes, "working_memory_bytes": measured.working_bytes}
        rows.append(row)
    return rows


def ratios_of(times: dict[Any, Times], counts: dict[Key, float], precisions: list[str]) -> list[dict[str, Any]]:
    """Return measured beside counted ratios, and precisions beside each other.

    A share of the counted ratio below 1 is a saving not reached, except for the inference of LPT over the plain forward
    of timm: there a lower ratio and a lower share are better.
    """
    counted = counted_ratios(counts)
    rows = []
    for precision in precisions:
        for name, (first, second) in RATIOS.items():
            measured = ratio(times[precision, first].seconds, times[precision, second].seconds)
            of_counted = rounded(measured["measured"] / counted[name])
            share = {"counted": round(counted[name], 4), "share_of_counted": of_counted}
            rows.append({"precision": precision, "name": name, **measured, **share})
    if len(precisions) == 2:
        wide, low = precisions
        for name, (first, second) in RATIOS.items():
            if first.form == "textbook":  # what a user gains in all: the textbook in float32 against LPT in bfloat16
                measured = ratio(times[wide, first].seconds, times[low, second].seconds)
                rows.append({"precision": "both", "name": f"{name}, textbook {wide} against LPT {low}", **measured})
    return rows


def measure(args: argparse.Namespace, precisions: list[str]) -> dict[str, Any]:
    """Measure everything that depends on the machine; docs/explanation/performance.md says how to read it.

    Raises:
        SystemExit: LPT and the textbook model do not agree.
    """
    vit = build_vit(args.model, args.size, args.seed)
    sizes = Sizes(args.batch)
    jobs: dict[Any, Callable[[], Any]] = {}
    agreements, matrix_gflop = {}, 0.0
    for precision in precisions:
        dtype = DTYPES[precision]
        contest = Contest(vit, sizes, dtype=dtype, device=args.device, seed=args.seed)
        agreements[precision] = agreement(contest, dtype)
        if not agreements[precision]["agree"]:
            raise SystemExit(f"LPT and the textbook model differ in {precision}: {agreements[precision]}")
        matrix, matrix_gflop = matrix_products(contest, dtype)
        group = {**contest.cases(), MATRIX: matrix, **attention_forms(contest, dtype)}
        jobs |= {(precision, key): run for key, run in group.items()}
    times = run_in_turns(jobs, args.repeats, args.device == "cuda")
    counts = gflop_per_image(vit, sizes)
    spent = {key: shares(run, cuda=args.device == "cuda") for key, run in jobs.items() if key[1] in counts}
    return {
        "agreement": agreements,
        "rows": rows_of(times, counts, matrix_gflop, args.batch),
        "ratios": ratios_of(times, counts, precisions),
        "profile": [
            {"precision": precision, **key._asdict(), "shares": kinds} for (precision, key), kinds in spent.items()
        ],
        "matrix_gflop_per_second": {
            precision: {
                "median": rounded(matrix_gflop / median(times[precision, MATRIX].seconds)),
                "best": rounded(matrix_gflop / min(times[precision, MATRIX].seconds)),
            }
            for precision in precisions
        },
        "attention_seconds": {
            precision: {key.case: rounded(median(times[precision, key].seconds)) for key in (FUSED, PLAIN_ATTENTION)}
            for precision in precisions
        },
    }


def report(result: dict[str, Any], console: Console) -> None:
    """Print the result as tables."""
    table = Table(title=result["what"], title_justify="left")
    memory = any("working_memory_bytes" in row for row in result["rows"])
    for name in ("precision", "form", "case", "images/s", "GFLOP/s", "of matrix rate", *(["memory"] if memory else [])):
        table.add_column(name, justify="left" if name in ("precision", "form", "case") else "right")
    for row in result["rows"]:
        cells = [f"{row['images_per_second']:,.1f}", f"{row['gflop_per_second']:,.0f}"]
        cells.append(f"{100 * row['share_of_matrix_rate']:.0f} %")
        if memory:
            cells.append(f"{row['working_memory_bytes'] / 2**20:,.0f} MiB")
        table.add_row(row["precision"], row["form"], row["case"], *cells)
    console.print(table)
    table = Table()
    for name in ("precision", "ratio of times", "measured", "range", "counted"):
        table.add_column(name)
    for row in result["ratios"]:
        low, high = row["range"]
        counted = f"{row['counted']:.2f}" if "counted" in row else ""
        table.add_row(row["precision"], row["name"], f"{row['measured']:.2f}", f"{low:.2f}–{high:.2f}", counted)
    console.print(table)
    for precision, why in result["not_measured"].items():
        console.print(f"{precision}: not measured: {why}")


def main(argv: list[str] | None = None) -> None:
    """Measure, print the tables and write the result file."""
    arguments = sys.argv[1:] if argv is None else argv
    args = parse_arguments(arguments)
    machine = inspect_machine(args.device)
    threads = args.threads or machine.cores
    torch.set_num_threads(threads)
    precisions, missing = args.precisions, {}
    if precisions is None:
        precisions = list(DTYPES) if machine.fast_bf16 else ["float32"]
        missing = {} if machine.fast_bf16 else {"bfloat16": f"this {machine.device} has no bfloat16 arithmetic"}
    what = f"Forward and backward of {args.model} at {args.size}, batch {args.batch}"
    result = {
        **describe_run(what, "benchmarks.speed", arguments),
        **describe_machine(args.device),
        "threads": threads,
        "seed": args.seed,
        "model": args.model,
        "size": args.size,
        "sizes": Sizes(args.batch)._asdict(),
        "repeats": args.repeats,
        "not_measured": missing,
        **measure(args, precisions),
    }
    report(result, Console())
    if args.output:
        write_json(args.output, result)
        print(f"written: {args.output}")


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vit_tiny_patch16_224", help="a Vision Transformer of timm")
    parser.add_argument("--size", type=int, default=224, help="input side, pixels")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precisions", nargs="+", choices=list(DTYPES), help="default: those the device is fast in")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--threads", type=int, help="CPU threads; default: all cores")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="result file; without it nothing is written")
    parser.add_argument("--quick", action="store_true", help="a tiny backbone, 4 images, 2 repeats, on the CPU")
    args = parser.parse_args(arguments)
    if args.quick:
        args.model, args.size, args.batch, args.repeats, args.device = "quick", QUICK_SIZE, 4, 2, "cpu"
    return args


if __name__ == "__main__":
    main()
