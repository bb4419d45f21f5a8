"""Count floating-point operations for each image of LPT and of the textbook model: the most that the exact form saves.

    python -m benchmarks.speed.counts

Operations are those of matrix products and convolutions (a multiply-add is two), counted by torch while it computes.
The backward pass of attention counts as four matrix products: torch's fused kernel computes the scores a second time
instead of keeping them, but that is no part of the mathematics. Keys and values of the shared prompt are computed once
for a batch, so operations are counted at two batch sizes and given for the batch asked for.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from timm.models.vision_transformer import VisionTransformer
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.record import describe_run, versions
from benchmarks.speed.speed_cases import RATIOS, Contest, Key, Sizes, build_vit
from lpt.system.files import write_json

ATEN = torch.ops.aten


def attention_flop(query: Any, key: Any, *rest: Any, **named: Any) -> int:
    """Count two matrix products, from shapes [B, H, N, d] and [B, H, M, d]."""
    batch, heads, tokens, width = query
    return int(2 * 2 * batch * heads * tokens * key[2] * width)


def attention_backward_flop(gradient: Any, query: Any, key: Any, *rest: Any, **named: Any) -> int:
    """Count four matrix products."""
    return 2 * attention_flop(query, key)


FORMULAS = {
    ATEN._scaled_dot_product_flash_attention_for_cpu: attention_flop,
    ATEN._scaled_dot_product_flash_attention_for_cpu_backward: attention_backward_flop,
}


def flop(run: Callable[[], Any]) -> int:
    """Count the operations of the matrix products and convolutions in a call on the CPU."""
    with FlopCounterMode(display=False, custom_mapping=FORMULAS) as counter:
        run()
    return counter.get_total_flops()


def gflop_per_image(vit: VisionTransformer, sizes: Sizes) -> dict[Key, float]:
    """Count each case at the batch size: what is done once for a batch is shared by its images."""
    first, second = (
        {key: flop(run) for key, run in Contest(vit, sizes._replace(batch=batch)).cases().items()} for batch in (1, 2)
    )
    return {key: ((second[key] - first[key]) + (2 * first[key] - second[key]) / sizes.batch) / 1e9 for key in first}


def counted_ratios(counts: dict[Key, float]) -> dict[str, float]:
    """Return the counted ratio of every pair in `RATIOS`."""
    return {name: counts[first] / counts[second] for name, (first, second) in RATIOS.items()}


def main(argv: list[str] | None = None) -> None:
    """Count, print the table and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vit_tiny_patch16_224")
    parser.add_argument("--size", type=int, default=224, help="input side, pixels")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--output", type=Path, default=Path("docs/results/counts_vit_tiny_224.json"))
    arguments = sys.argv[1:] if argv is None else argv
    args = parser.parse_args(arguments)
    sizes = Sizes(args.batch)
    counts = gflop_per_image(build_vit(args.model, args.size, seed=0), sizes)
    ratios = counted_ratios(counts)
    table = Table(title=f"GFLOP for each image, {args.model} at {args.size}", title_justify="left")
    for name in ("form", "case", "GFLOP"):
        table.add_column(name)
    for key, count in counts.items():
        table.add_row(*key, f"{count:.3f}")
    console = Console()
    console.print(table)
    console.print("; ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items()))
    what = "GFLOP for each image: matrix products and convolutions, a multiply-add being two operations"
    record = {
        **describe_run(what, "benchmarks.speed.counts", arguments),
        "versions": versions(),
        "model": args.model,
        "size": args.size,
        "sizes": sizes._asdict(),
        "gflop_per_image": [{**key._asdict(), "gflop": round(count, 4)} for key, count in counts.items()],
        "ratios": {name: round(ratio, 4) for name, ratio in ratios.items()},
    }
    write_json(args.output, record)
    print(f"written: {args.output}")


if __name__ == "__main__":
    main()
