"""Run the measurements one after another and write their record. It imports nothing large itself."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.record import describe_machine, describe_run
from benchmarks.scale.measure import in_fresh_process

ROOT = Path(__file__).parent.parent.parent
BACKBONE = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
FRACTIONS = [1 / 16, 1 / 8, 1 / 4, 1 / 2]
GPU_STEP = {"seconds": 0.3, "batch_size": 256}
"""A step of two batches on a card: assumed, not measured."""
SEED = 0


def main() -> None:
    """Measure, and write the record and its plot."""
    args = parse_arguments()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="lpt-scale-", dir=args.folder) as folder:
        record = measure(args, Path(folder))
    record["minutes"] = round((time.perf_counter() - start) / 60, 1)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    in_fresh_process("__main__", "draw_plot", record=str(args.output), plot=str(args.plot))
    print(f"written: {args.output} and {args.plot}")


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure everything and return the record."""
    backbone = {"backbone_name": BACKBONE, "checkpoint": args.checkpoint}
    say("writing the data set")
    simulated = in_fresh_process("__main__", "write", folder=str(folder), images=args.images, classes=args.classes,
                                 files=args.files)  # fmt: skip
    what = "LPT at the sizes of iNaturalist 2018, simulated over a small set of image files"
    record: dict[str, Any] = {
        **describe_run(what, "benchmarks.scale"),
        "seed": SEED,
        **in_fresh_process("__main__", "machine"),
        "simulated": simulated,
    }
    forms: dict[str, dict[str, Any]] = {
        "csv": {"source": str(folder / "table.csv"), "test": None},
        "path_list": {"source": str(folder / "train.txt"), "test": str(folder / "test.txt")},
        "folder": {"source": str(folder / "tree"), "test": None},
    }
    say("opening")
    record["opening"] = {form: in_fresh_process("data_side", "opening", **where) for form, where in forms.items()}
    record["drawing"] = drawing(args)
    record["sampling_share"] = sampling_share(args, record["drawing"], backbone)
    say("lpt doctor")
    for form in ("csv", "folder"):
        for decode in (False, True):
            name = f"doctor_{form}{'' if decode else '_no_decode'}"
            plot = str(folder / f"{name}.png")
            record[name] = in_fresh_process("data_side", "doctor", **forms[form], decode=decode, plot=plot)
    record["decoding_a_photo"] = in_fresh_process("data_side", "decoding", width=800, height=600)
    say("the start of lpt fit")
    where = forms["folder"] | {"checkpoint": args.checkpoint}
    record["start_of_fit"] = in_fresh_process("data_side", "start_of_fit", **where)
    say("evaluation and pack")
    sizes = {"images": args.images, "classes": args.classes}
    record["evaluation"] = in_fresh_process("results_side", "evaluation", **sizes, folder=str(folder))
    record["pack"] = in_fresh_process("results_side", "pack", **sizes, **backbone, folder=str(folder))
    record["pack_vit_b"] = in_fresh_process("results_side", "vit_b_tensors", classes=args.classes)
    record["against"] = against(args, folder, record["opening"]["csv"], backbone)
    if args.keep is not None:
        keep(folder, args.keep)
    return record


def drawing(args: argparse.Namespace) -> dict[str, Any]:
    """Measure both samplers at several numbers of images and of classes."""
    say("drawing")
    batch_size, steps = (16, 4) if args.quick else (256, 400)
    images = [args.images // 16, args.images // 4, args.images]
    classes = [max(args.classes // 80, 20), max(args.classes // 8, 20), args.classes]

    def draw(n: int, c: int) -> Any:
        return in_fresh_process("data_side", "drawing", images=n, classes=c, batch_size=batch_size, steps=steps)

    return {
        "batch_size": batch_size,
        "by_images": [draw(n, args.classes) for n in images],
        "by_classes": [draw(args.images, c) for c in classes],
    }


def sampling_share(args: argparse.Namespace, drawn: dict[str, Any], backbone: dict[str, Any]) -> dict[str, Any]:
    """Measure the time of the draws of a step, over that of the rest of the step."""
    say("a real step")
    pixels, batch_size = (32, 2) if args.quick else (224, 32)
    [step] = in_fresh_process(
        "steps", "step_seconds", sizes=[{"pool_size": 20, "prompt_length": 10, "classes": args.classes}], **backbone,
        pixels=pixels, batch_size=batch_size, repeats=1 if args.quick else 5, alone=False,
    )  # fmt: skip
    full = drawn["by_images"][-1]
    slower = {
        stream: max(full[stream][f"{which}microseconds_a_draw"] for which in ("", "first_round_"))
        for stream in ("balanced", "instance")
    }
    pair = 1e-6 * sum(slower.values())  # a draw of each stream, seconds
    return {
        "slower_round_microseconds_a_draw": slower,
        "measured_step": {**step, "backbone": BACKBONE, "pixels": pixels, "batch_size": batch_size},
        "share_of_measured_step": round(pair * batch_size / step["seconds"], 5),
        "calculated_step": GPU_STEP,
        "share_of_calculated_step": round(pair * GPU_STEP["batch_size"] / GPU_STEP["seconds"], 5),
    }


def against(args: argparse.Namespace, folder: Path, full: dict[str, Any], backbone: dict[str, Any]) -> dict[str, Any]:
    """Measure cost against the number of images, classes, group prompts and tokens of a prompt, and fit lines."""
    from benchmarks.scale.steps import fitted_line, grid  # needs torch, which no measurement after this one shares

    say("cost against each size")
    tables = [folder / f"table_{int(args.images * fraction)}.csv" for fraction in FRACTIONS]
    opened = [*(in_fresh_process("data_side", "opening", source=str(table)) for table in tables), full]
    pixels, batch_size, repeats = (32, 2, 1) if args.quick else (96, 16, 15)
    scans = grid([5, 20, 80, 320], [0, 5, 10, 20, 40], [min(args.classes, 100), 1000, args.classes])
    result: dict[str, Any] = {
        "opening": {
            "points": opened,
            "line": fitted_line([point["train_images"] for point in opened], [point["seconds"] for point in opened]),
        },
        "step": {
            "backbone": BACKBONE,
            "pixels": pixels,
            "batch_size": batch_size,
            "repeats": repeats,
            "seconds": "of CPU time, one thread",
        },
    }
    for size, sizes in scans.items():
        points = in_fresh_process(
            "steps", "step_seconds", sizes=sizes, **backbone, pixels=pixels, batch_size=batch_size, repeats=repeats,
            alone=True,
        )  # fmt: skip
        # Without prompts no gradient goes through the blocks: another step.
        fitted = [point for point in points if point[size]]
        line = fitted_line([point[size] for point in fitted], [point["seconds"] for point in fitted])
        result[size] = {"points": points, "line": line}
    return result


def write(folder: str, images: int, classes: int, files: int) -> dict[str, Any]:
    """Write the simulated data set and describe it."""
    from benchmarks.scale.simulated import PIXELS, Sizes, class_counts, write_data, write_tree
    from lpt.data.longtail import ShotGroups

    sizes = Sizes(images, classes, files)
    write_data(Path(folder), sizes, FRACTIONS, SEED)
    start = time.perf_counter()
    write_tree(Path(folder), sizes, SEED)
    counts, groups = class_counts(images, classes), ShotGroups()
    group_of = groups.of(counts)
    return {
        "train_images": images,
        "classes": classes,
        "largest_class": int(counts.max()),
        "smallest_class": int(counts.min()),
        "groups": {name: int((group_of == index).sum()) for index, name in enumerate(groups.names)},
        "boundaries": groups.describe(),
        "files": files,
        "pixels": PIXELS,
        "tree_seconds": round(time.perf_counter() - start, 1),
    }


def machine() -> dict[str, Any]:
    """Return the hardware and the versions."""
    return describe_machine("cpu")


def draw_plot(record: str, plot: str) -> dict[str, Any]:
    """Draw the plot of a record."""
    from benchmarks.scale.plot import plot_scale

    plot_scale(Path(plot), json.loads(Path(record).read_text(encoding="utf-8")))
    return {}


def keep(folder: Path, target: Path) -> None:
    """Copy the printed texts and the plots."""
    target.mkdir(parents=True, exist_ok=True)
    files = [
        *folder.glob("*.png"),
        *folder.glob("doctor*.txt"),
        folder / "per_class.csv",
        folder / "pack" / "README.md",
    ]
    for path in files:
        (target / path.name).write_bytes(path.read_bytes())


def say(what: str) -> None:
    """Print what is measured now."""
    print(f"{datetime.now(UTC):%H:%M:%S} {what}", file=sys.stderr, flush=True)


def parse_arguments() -> argparse.Namespace:
    """Read the command line; `--quick` sets tiny sizes."""
    parser = argparse.ArgumentParser("benchmarks.scale", description="LPT at the sizes of iNaturalist 2018.")
    parser.add_argument("--images", type=int, default=437_513, help="training images")
    parser.add_argument("--classes", type=int, default=8142)
    parser.add_argument("--files", type=int, default=2000, help="image files that the manifests point at")
    parser.add_argument("--folder", type=Path, help="where the simulated data set is put for the time")
    parser.add_argument("--checkpoint", help="weights to take for the backbone's")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "results" / "scale_inaturalist.json")
    parser.add_argument("--plot", type=Path, default=ROOT / "docs" / "images" / "scale.png")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="copy what was printed and plotted there")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does everything once, measures nothing")
    args = parser.parse_args()
    if args.quick:
        args.images, args.classes, args.files = 1600, 20, 10
    return args


if __name__ == "__main__":
    main()
