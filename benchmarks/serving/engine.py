"""The engine without PyTorch against the one with it: size of the install, start, memory and rate.

    python -m benchmarks.serving engine

ONNX Runtime is measured in a new virtual environment that holds `lpt[onnx]` and nothing else. Both engines load ten
packs of the default sizes and classify a picture; start counts from the start of the process to that prediction.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.record import describe_machine, describe_run
from lpt.system.files import write_json

MODULE = "benchmarks.serving"
BACKBONE = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
PACKS, CLASSES, BATCH = 10, 100, 8
_ROOT = Path(__file__).parents[2]
_CHILD = """
import json, sys, time
import psutil
engine, backbone, checkpoint, picture, *packs = sys.argv[1:]
import lpt
options = {"checkpoint": checkpoint} if checkpoint else {}
named = {str(number): pack for number, pack in enumerate(packs)}
predictor = lpt.load_predictor(named, engine=engine, backbone=backbone, device="cpu", **options)
predictor.predict(picture)
process = psutil.Process()
seconds = time.time() - process.create_time()
for name in named:
    predictor.predict([picture] * 8, pack=name, batch_size=8)
print(json.dumps({"seconds": seconds, "resident_mb": process.memory_info().rss / 1e6, "torch": "torch" in sys.modules}))
"""


def main(argv: Sequence[str]) -> None:
    """Measure, and write the record."""
    args = parse(argv)
    with tempfile.TemporaryDirectory(prefix="lpt-engine-") as place:
        folder = Path(place)
        backbone, packs = make_packs(folder / "packs", args)
        exported = folder / "backbone"
        command = [sys.executable, "-m", "lpt", "export", "--backbone", args.backbone, "--output", str(exported)]
        command += ["--checkpoint", str(args.checkpoint)] if args.checkpoint else []
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        python, install_mb = (sys.executable, None) if args.no_install else installed(folder / "venv")
        picture = folder / "picture.jpg"
        picture.write_bytes(noise_picture())
        starts = measure_starts(args, python, exported, picture, packs)
        rates = measure_rates(args, backbone, exported, packs)
        sizes = {file.name: round(file.stat().st_size / 1e6, 2) for file in sorted(exported.iterdir())}
    record = {
        **describe_run(
            "engine onnx against torch: install, start and memory with ten packs, images per second in turns",
            MODULE,
            ["engine", *argv],
        ),
        **describe_machine("cpu"),
        "settings": {"backbone": args.backbone, "packs": PACKS, "classes": CLASSES, "batch": BATCH},
        "aims": {"install_mb": 280, "start_seconds": 2, "resident_mb": 250},
        "install_mb": install_mb,
        "exported_mb": sizes,
        "start": starts,
        "rate": rates,
    }
    write_json(args.output, record)
    print(json.dumps({key: record[key] for key in ("install_mb", "start", "rate")}, indent=1))
    print(f"written: {args.output}")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the arguments."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving engine", description=__doc__)
    parser.add_argument("--backbone", default=BACKBONE, help="timm name of the backbone")
    parser.add_argument("--checkpoint", type=Path, help="local weights of that architecture")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--no-install", action="store_true", help="use this environment for ONNX Runtime too")
    parser.add_argument("--output", type=Path, default=Path("docs/results/serving_engine.json"))
    return parser.parse_args(argv)


def make_packs(folder: Path, args: argparse.Namespace) -> tuple[Any, list[Path]]:
    """Write packs of the default sizes; return the backbone, and their folders."""
    from benchmarks.serving.random_packs import write_default_pack
    from lpt.model.pretrained import load_backbone

    backbone = load_backbone(args.backbone, checkpoint=args.checkpoint)
    for number in range(PACKS):
        write_default_pack(folder / str(number), backbone, classes=CLASSES, seed=number)
    return backbone, [folder / str(number) for number in range(PACKS)]


def installed(folder: Path) -> tuple[str, float]:
    """Install lpt with ONNX Runtime alone; return its Python, and the size of its packages without pip, 10^6 bytes."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", f"{_ROOT}[onnx]"], check=True)
    packages = next((folder / "lib").glob("python*/site-packages"))
    files = (file for file in packages.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    tools = ("pip", "setuptools", "wheel", "pkg_resources")
    size = sum(file.stat().st_size for file in files if not file.relative_to(packages).parts[0].startswith(tools))
    return str(python), round(size / 1e6, 1)


def noise_picture() -> bytes:
    """Return a picture of 500 x 375 as JPEG."""
    pixels = np.random.default_rng(0).integers(0, 256, (375, 500, 3)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG")
    return stream.getvalue()


def measure_starts(
    args: argparse.Namespace, python: str, exported: Path, picture: Path, packs: list[Path]
) -> dict[str, dict[str, float]]:
    """Start each engine in new processes, in turns."""
    folders = list(map(str, packs))
    checkpoint = "" if args.checkpoint is None else str(args.checkpoint)
    commands = {
        "onnx": [python, "-c", _CHILD, "onnx", str(exported), "", str(picture), *folders],
        "torch": [sys.executable, "-c", _CHILD, "torch", args.backbone, checkpoint, str(picture), *folders],
    }
    rows: dict[str, list[dict[str, float]]] = {engine: [] for engine in commands}
    for _ in range(args.rounds):
        for engine, command in commands.items():
            done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=exported)
            rows[engine].append(json.loads(done.stdout.splitlines()[-1]))
    assert not any(row["torch"] for row in rows["onnx"])
    return {
        engine: {
            "best_seconds": round(min(row["seconds"] for row in taken), 2),
            "median_seconds": round(median(row["seconds"] for row in taken), 2),
            "resident_mb": round(median(row["resident_mb"] for row in taken), 1),
        }
        for engine, taken in rows.items()
    }


def measure_rates(args: argparse.Namespace, backbone: Any, exported: Path, packs: list[Path]) -> dict[str, float]:
    """Classify the same prepared images with both engines, in turns; return images per second and their ratio."""
    import lpt

    predictors = {
        "torch": lpt.Predictor(backbone, packs[0]),
        "onnx": lpt.load_predictor(packs[0], engine="onnx", backbone=str(exported)),
    }
    stream = noise_picture()
    batches = {name: [p.prepare(stream) for _ in range(BATCH)] for name, p in predictors.items()}
    turns: list[dict[str, float]] = []
    for _ in range(3 * args.rounds):
        seconds = {}
        for name, predictor in predictors.items():
            start = time.perf_counter()
            for _ in range(4):
                predictor.run(batches[name])
            seconds[name] = (time.perf_counter() - start) / (4 * BATCH)
        turns.append(seconds)
    best = {name: min(turn[name] for turn in turns) for name in predictors}
    return {
        "torch_images_per_second": round(1 / best["torch"], 1),
        "onnx_images_per_second": round(1 / best["onnx"], 1),
        "onnx_over_torch_best": round(best["torch"] / best["onnx"], 3),
        "onnx_over_torch_median": round(median(turn["torch"] / turn["onnx"] for turn in turns), 3),
    }
