"""A naturally uneven folder of pictures: emoji by their Unicode subcategory, drawn by two foundries.

With `HF_HUB_CACHE=../shared/hub HF_HUB_OFFLINE=1` in the environment:

    python -m benchmarks.emoji_folder --seeds 0 1 2

It fetches the pictures, runs `lpt compare` on those of Noto with three tenths of each class held out, and measures the
packs on Twemoji's drawings of the same things (`lpt evaluate PACK HELD_OUT --shift TWEMOJI`). Tables and plots go to
docs/results/compare_emoji/ and docs/results/shift_emoji/. What is finished is kept: the same command goes on.

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

from benchmarks.cifar100_compare import RESULTS, copy_results
from benchmarks.cifar100_shift import measure_pack
from lpt.run.compare import compare
from lpt.run.compare_plan import DEFAULT_METHODS
from lpt.run.shift import parse_shift

REGISTRY = "https://registry.npmjs.org/emoji-datasource-{name}/-/emoji-datasource-{name}-16.0.0.tgz"
FOUNDRIES = {"google": "noto", "twitter": "twemoji"}
SHA1 = {"google": "a80ac3e8106cbd4d8648ce758aa099e8827b6157", "twitter": "e2bd39a8acb77e158106f8249dd7b4cd93fa1b14"}


def fetched(name: str, cache: Path) -> tarfile.TarFile:
    """A foundry's package, from the cache or the registry."""
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
    """Write a foundry's pictures into a folder for each subcategory; how many there are."""
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
    """Class folders of each foundry, fetched and unpacked where they are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, foundry in FOUNDRIES.items():
        if not (folder / foundry).exists():
            count = unpack(name, fetched(name, folder), folder / f"{foundry}.part")
            (folder / f"{foundry}.part").rename(folder / foundry)
            print(f"{folder / foundry}: {count:,} pictures")
    return {foundry: folder / foundry for foundry in FOUNDRIES.values()}


def main() -> None:
    """Compare on one foundry's pictures, then measure the packs on the other's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=96, help="input side, pixels")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="*", default=DEFAULT_METHODS)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    args = parser.parse_args()
    console, runs = Console(), args.runs / "emoji"
    folders = pictures(args.runs / "emoji_pictures")
    compare(
        folders["noto"],
        runs,
        methods=args.methods,
        seeds=args.seeds,
        preset="laptop",
        holdout=0.3,
        settings=[f"image.size={args.size}"],
        console=console,
    )
    copy_results(runs, RESULTS / "compare_emoji", ("*.md", "*.csv", "*.json", "*.png"))
    for cell in (Path(method) / f"seed{seed}" for method in args.methods for seed in args.seeds):
        console.rule(str(cell))
        run, output = runs / "runs" / cell, args.runs / "emoji_shift" / cell
        request, target = parse_shift([str(folders["twemoji"])]), RESULTS / "shift_emoji" / cell
        measure_pack(run / "pack", str(run / "predictions.csv"), request, output, target, console)


if __name__ == "__main__":
    main()
