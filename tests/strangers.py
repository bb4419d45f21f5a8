"""Files of a stranger that try to run code, and the program run on them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from typer.testing import CliRunner

from lpt.cli.app import app

LPT = [sys.executable, "-m", "lpt"]
TINY_NAME, TINY_WIDTH = "vit_tiny_patch16_224", 192


class Evil:
    """An object that makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def program(*arguments: object, folder: Path, **environment: str) -> tuple[int, str]:
    """Run `lpt` in a folder; in a process of its own if the environment differs, which libraries read on import."""
    if not environment:
        with contextlib.chdir(folder):
            result = CliRunner().invoke(app, list(map(str, arguments)))
        return result.exit_code, result.output
    done = subprocess.run(
        [*LPT, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **environment},
    )
    return done.returncode, done.stdout + done.stderr


def check_refused(marker: Path, code: int, output: str, *parts: str) -> None:
    assert code == 2, output
    assert len(re.findall(r"^Error: ", output, flags=re.MULTILINE)) == 1
    assert "Traceback" not in output
    for part in parts:
        assert part in output.replace("\n", " ")
    assert not marker.exists()


def model_folder(path: Path, weights: object) -> Path:
    """Write a folder as timm's `local-dir:` and a snapshot of the hub have it."""
    path.mkdir(parents=True)
    config = {"architecture": TINY_NAME, "num_classes": 0, "pretrained_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    (path / "config.json").write_text(json.dumps(config))
    torch.save(weights, path / "pytorch_model.bin")
    return path
