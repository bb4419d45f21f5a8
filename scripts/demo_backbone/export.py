"""The result: own test, weights, and the report beside them."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
import unicodedata
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fontTools
import matplotlib
import numpy as np
import PIL
import safetensors
import safetensors.torch
import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from scripts.demo_backbone.augment import MEAN, STD
from scripts.demo_backbone.classes import Glyphs
from scripts.demo_backbone.model import ARCHITECTURE, accuracy, build_model
from scripts.demo_backbone.train import State


def processor() -> str:
    """The name of the CPU, with what of it is used."""
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        match = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
        name = match.group(1) if match else name
    return f"{name}, {torch.get_num_threads()} threads, bfloat16 autocast"


def rounded(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as float16 holds them, in float32."""
    return {name: value.half().float() for name, value in tensors.items()}


def own_test(state: State, glyphs: Glyphs, held: np.ndarray, seed: int) -> dict[str, Any]:
    """Top-1 of the averaged, float16-rounded weights on the held-out renders."""
    model = build_model(len(glyphs.names))
    model.load_state_dict(rounded(state.average))
    images, labels = torch.from_numpy(glyphs.images[held]), torch.from_numpy(glyphs.labels[held])
    rng = torch.Generator().manual_seed(seed)
    return {
        "what": "renders of a font that training did not see for that class: one font, drawn by seed, of every "
        "class that has three or more; equal pictures within a class removed beforehand",
        "renders": int(held.sum()),
        "classes": len(np.unique(glyphs.labels[held])),
        "top1_percent_plain": round(accuracy(model, images, labels, None), 2),
        "top1_percent_augmented": round(accuracy(model, images, labels, rng), 2),
    }


def replace(path: Path, content: bytes) -> None:
    """Write a file beside its place, then move it there."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    os.replace(partial, path)


def export(state: State, glyphs: Glyphs, held: np.ndarray, args: argparse.Namespace) -> None:
    """Write the weights and what they are, and prove that they load."""
    args.out.mkdir(parents=True, exist_ok=True)
    tensors = {n: v.half().contiguous() for n, v in state.average.items() if not n.startswith("head.")}
    weights = args.out / "model.safetensors"
    replace(weights, safetensors.torch.save(tensors))
    bare = VisionTransformer(**ARCHITECTURE, num_classes=0)
    bare.load_state_dict(safetensors.torch.load_file(weights), strict=True)
    report = {
        "name": "lpt-demo-glyphs",
        "architecture": ARCHITECTURE,
        "mean": [MEAN] * 3,
        "std": [STD] * 3,
        "license": "apache-2.0",
        "provenance": "Made from renders of the DejaVu fonts (Bitstream Vera licence) and the STIX fonts (STIX font "
        "licence); the fonts themselves are not included.",
        "dtype": "float16",
        "parameters": sum(p.numel() for p in bare.parameters()),
        "training": {
            "task": "rendered letters and symbols; no digit, and no glyph nearly equal to a digit of its own font",
            "classes": len(glyphs.names),
            "renders": int((~held).sum()),
            "fonts": glyphs.versions,
            "dropped": glyphs.dropped,
            "images_seen": state.images,
            "steps": state.step,
            "batch": args.batch,
            "optimizer": f"Muon {args.muon_lr:g} (matrices of the blocks), AdamW {args.lr:g} (rest), "
            f"weight decay {args.weight_decay:g}, label smoothing 0.1, cosine",
            "patch_dropout": "0.4 during the first 70 % of the time, then none",
            "weights": f"exponential moving average, decay {args.ema:g}",
            "seconds": round(state.seconds),
            "seed": args.seed,
            "hardware": processor(),
        },
        "own_test": own_test(state, glyphs, held, args.seed),
        "libraries": {
            "python": platform.python_version(),
            "unicode": unicodedata.unidata_version,
            **{m.__name__: m.__version__ for m in (torch, timm, np, matplotlib, PIL, safetensors)},
            "fonttools": fontTools.version,
        },
        "date": datetime.now(UTC).date().isoformat(),
        "command": " ".join(["python", "-m", "scripts.demo_backbone", *sys.argv[1:]]),
    }
    replace(args.out / "model.json", (json.dumps(report, indent=2, ensure_ascii=False) + "\n").encode())
    print(json.dumps(report["own_test"], indent=2), flush=True)
