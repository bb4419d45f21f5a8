"""Command line: render, train (or go on training), export."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from PIL import Image

from scripts.demo_backbone.augment import MEAN, STD, augment, plain
from scripts.demo_backbone.classes import Glyphs, build_glyphs, hold_out
from scripts.demo_backbone.export import export
from scripts.demo_backbone.model import build_model, build_optimizers
from scripts.demo_backbone.train import State, train


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.demo_backbone",
        description="Pretrain the demo's backbone on rendered letters and symbols.",
    )
    parser.add_argument("--minutes", type=float, default=23.0, help="training time, the schedule's length")
    parser.add_argument("--steps", type=int, default=1_000_000, help="stop after these, if that is sooner")
    parser.add_argument("--batch", type=int, default=128, help="images a step")
    parser.add_argument("--lr", type=float, default=2e-3, help="peak learning rate of AdamW")
    parser.add_argument("--muon-lr", type=float, default=0.02, help="peak learning rate of Muon")
    parser.add_argument("--weight-decay", type=float, default=0.02)
    parser.add_argument("--warmup", type=int, default=150, help="steps")
    parser.add_argument("--ema", type=float, default=0.998, help="decay of the weights' moving average")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[2] / "src/lpt/demo/backbone")
    parser.add_argument("--contact-sheet", action="store_true", help="draw samples into WORK and stop")
    return parser.parse_args(argv)


def contact_sheet(glyphs: Glyphs, folder: Path, seed: int) -> None:
    """Samples to look at: renders above, their training pictures below."""
    rng = torch.Generator().manual_seed(seed)
    picks = torch.randint(len(glyphs.images), (256,), generator=rng)
    chosen = torch.from_numpy(glyphs.images)[picks]
    for name, x in (("plain", plain(chosen)), ("augmented", augment(chosen, rng))):
        grey = ((x[:, 0] * STD + MEAN) * 255).byte()
        tiles = grey.reshape(16, 16, 32, 32).permute(0, 2, 1, 3).reshape(512, 512).numpy()
        sheet = Image.fromarray(tiles).resize((1024, 1024), Image.Resampling.NEAREST)
        sheet.save(folder / f"{name}.png")


def main(argv: list[str] | None = None) -> None:
    """Render, train (or go on training), export."""
    args = parse(argv)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    args.work.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    glyphs = build_glyphs()
    held = hold_out(glyphs, args.seed)
    print(
        f"{len(glyphs.names)} classes, {int((~held).sum())} renders to train on, {int(held.sum())} held out, "
        f"{time.monotonic() - started:.0f} s; dropped {glyphs.dropped}",
        flush=True,
    )
    if args.contact_sheet:
        contact_sheet(glyphs, args.work, args.seed)
        return
    model = build_model(len(glyphs.names))
    state = State(
        model=model,
        average={name: value.clone() for name, value in model.state_dict().items()},
        optimizers=build_optimizers(model, args),
        rng=torch.Generator().manual_seed(args.seed),
    )
    checkpoint = args.work / "checkpoint.pt"
    if checkpoint.exists():
        state.load(checkpoint)
        print(f"going on from step {state.step}", flush=True)
    train(state, glyphs, held, args, checkpoint)
    export(state, glyphs, held, args)


if __name__ == "__main__":
    main()
