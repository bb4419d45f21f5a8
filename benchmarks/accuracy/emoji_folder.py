"""Compare methods on a naturally uneven folder: emoji by their Unicode subcategory, drawn by two foundries.

With `HF_HUB_CACHE=../shared/hub HF_HUB_OFFLINE=1` in the environment:

    python -m benchmarks.accuracy.emoji_folder trials
    python -m benchmarks.accuracy.emoji_folder final --seeds 0 1 2

Both fetch the pictures. `final` runs `lpt compare` on those of Noto with three tenths of each class held out, and
measures the packs on Twemoji's drawings of the same things (`lpt evaluate PACK HELD_OUT --shift TWEMOJI`); tables and
plots go to docs/results/compare_emoji/ and docs/results/shift_emoji/. `trials` tries settings (TRIALS) on three tenths
of its training images, so without its test images; rows go to docs/results/emoji_trials.csv. What is finished is kept:
the same command goes on from there.

99 classes (`country-flag` has 259 pictures, many have fewer than ten, one has one): nobody made them uneven for an
experiment. Pictures come from the npm registry (emoji-datasource-google and -twitter 16.0.0, checked by their
checksums): Noto's under the Apache License 2.0, Twemoji's under CC-BY 4.0. Skin tones are left out: they would put the
same drawing on both sides of a split.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import re
import tarfile
import urllib.request
from pathlib import Path

from rich.console import Console

from benchmarks.accuracy.cifar100_compare import PRECISION, in_precision, measure
from benchmarks.accuracy.cifar100_shift import measure_pack
from benchmarks.accuracy.comparison_cells import RESULTS, has_weights, run_comparison
from lpt.commands.compare.plan import DEFAULT_METHODS, with_test_images
from lpt.commands.evaluate.shift import parse_shift
from lpt.commands.fit.prepare import open_data
from lpt.data.manifest import Splits

REGISTRY = "https://registry.npmjs.org/emoji-datasource-{name}/-/emoji-datasource-{name}-16.0.0.tgz"
FOUNDRIES = {"google": "noto", "twitter": "twemoji"}
SHA1 = {"google": "a80ac3e8106cbd4d8648ce758aa099e8827b6157", "twitter": "e2bd39a8acb77e158106f8249dd7b4cd93fa1b14"}


HELD_OUT = 0.3
"""Share of each class to test on."""
TRIALS = {
    "lpt": (
        "train.phase1.lr=2.4e-2 train.phase2.lr=1.2e-2",
        "train.phase1.lr=8e-3 train.phase2.lr=4e-3",
        "train.phase1.lr=4.8e-2 train.phase2.lr=2.4e-2",
    ),
    "lpt-phase1": ("train.phase1.lr=2.4e-2",),
    "lift": ("train.phase1.lr=0.32",),
}
"""Settings to try, with different numbers of steps."""


def fetch(name: str, cache: Path) -> tarfile.TarFile:
    """Open the package of a foundry, from the cache or the registry."""
    path = cache / f"{name}.tgz"
    if not path.exists():
        with urllib.request.urlopen(REGISTRY.format(name=name)) as answer:
            content = answer.read()
        path.write_bytes(content)
    content = path.read_bytes()
    if hashlib.sha1(content).hexdigest() != SHA1[name]:
        raise SystemExit(f"{path} is not the package that was published: delete it and start again")
    return tarfile.open(fileobj=io.BytesIO(content))


def unpack(name: str, package: tarfile.TarFile, target: Path) -> int:
    """Write the pictures of a foundry into a folder for each subcategory, and return their number."""
    described = package.extractfile("package/emoji.json")
    assert described is not None
    count = 0
    for emoji in json.load(described):
        if not emoji[f"has_img_{name}"]:
            continue
        picture = package.extractfile(f"package/img/{name}/64/{emoji['image']}")
        assert picture is not None
        folder = target / re.sub(r"[^a-z-]+", "-", emoji["subcategory"].lower())
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{emoji['short_name']}.png").write_bytes(picture.read())
        count += 1
    return count


def pictures(folder: Path) -> dict[str, Path]:
    """Return the class folders of each foundry; fetch and unpack those that are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, foundry in FOUNDRIES.items():
        if not (folder / foundry).exists():
            count = unpack(name, fetch(name, folder), folder / f"{foundry}.part")
            (folder / f"{foundry}.part").rename(folder / foundry)
            print(f"{folder / foundry}: {count:,} pictures")
    return {foundry: folder / foundry for foundry in FOUNDRIES.values()}


def trials(noto: Path, args: argparse.Namespace) -> None:
    """Try settings on images held out of the comparison's training images."""
    splits = with_test_images(open_data({"preset": "laptop", "data": {"source": str(noto)}}), HELD_OUT)
    train = Splits(train=splits.train, validation=None, test=None, counts_before_cut=splits.train.class_counts)
    measure(with_test_images(train, HELD_OUT), TRIALS, RESULTS / "emoji_trials.csv", args, "natural")


def final(folders: dict[str, Path], args: argparse.Namespace) -> None:
    """Compare on one foundry's pictures, then measure the packs on the other's."""
    console, runs, methods = Console(), args.runs / "emoji", args.methods or DEFAULT_METHODS
    settings = [f"image.size={args.size}", *in_precision(args.precision)]
    run_comparison(
        folders["noto"], runs, RESULTS / "compare_emoji", methods=methods, seeds=args.seeds, preset="laptop",
        holdout=HELD_OUT, settings=settings, console=console,
    )  # fmt: skip
    for cell in (Path(method) / f"seed{seed}" for method in methods for seed in args.seeds):
        run, output = runs / "runs" / cell, args.runs / "emoji_shift" / cell
        console.rule(str(cell))
        if not has_weights(run):
            console.print(f"no weights in {run}")
            continue
        shift, target = parse_shift([str(folders["twemoji"])]), RESULTS / "shift_emoji" / cell
        measure_pack(run / "pack", str(run / "predictions.csv"), shift, output, target, console)


def main() -> None:
    """Fetch the pictures and run a stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["trials", "final"])
    parser.add_argument("--size", type=int, default=96, help="input side, pixels")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the comparison")
    parser.add_argument("--seed", type=int, default=0, help="of the trials")
    parser.add_argument("--share", type=float, default=1.0, help="of the preset's draws, in trials")
    parser.add_argument("--precision", choices=["fp32", "bf16"], help=PRECISION)
    parser.add_argument("--methods", nargs="*", default=None, help="default: all of TRIALS; the seven that matter")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    args = parser.parse_args()
    folders = pictures(args.runs / "emoji_pictures")
    if args.stage == "trials":
        args.precision = args.precision or "fp32"
        trials(folders["noto"], args)
    else:
        final(folders, args)


if __name__ == "__main__":
    main()
