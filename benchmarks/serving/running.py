"""What the measurements of the server need: packs of random numbers, pictures, and the server in a process."""

from __future__ import annotations

import argparse
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import psutil
from PIL import Image

BACKBONE = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
CLASSES = 100
_START_SECONDS = 120


def add_options(parser: argparse.ArgumentParser, *, size: int) -> None:
    """Add the options that all measurements of the server share."""
    parser.add_argument("--backbone", default=BACKBONE, help="timm name of the backbone")
    parser.add_argument("--checkpoint", type=Path, help="local weights of that architecture")
    parser.add_argument("--size", type=int, default=size, help="input size of the packs, pixels")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")


def write_random_pack(path: Path, args: argparse.Namespace, seed: int = 0) -> Path:
    """Write a pack of the default sizes of LPT with random tensors; speed does not depend on them."""
    import torch

    import lpt
    from lpt.config.architecture import Architecture
    from lpt.data.longtail import ShotGroups
    from lpt.data.transforms import Preprocessing
    from lpt.model import LPT
    from lpt.packs.info import PackInfo, Probabilities
    from lpt.packs.pack import encode_tensors, write_pack
    from lpt.packs.reference import make_reference

    backbone = lpt.load_backbone(args.backbone, checkpoint=args.checkpoint, image_size=(args.size, args.size))
    torch.manual_seed(seed)
    model = LPT(backbone, CLASSES).requires_grad_(False)
    content = encode_tensors(model.state_dict())
    record, groups = backbone.record, model.groups.prompts.shape
    sizes = Architecture(
        prompt_length=groups[2], shared_blocks=backbone.depth - groups[1], pool_size=groups[0], top_k=2
    )
    info = PackInfo.of(
        backbone=record,
        preprocessing=Preprocessing(
            size=backbone.image_size,
            mean=record.mean,
            std=record.std,
            interpolation="bicubic",
            test_crop=0.875,
            crop_area=(0.2, 1.0),
            crop_aspect=(0.75, 1.33),
            flip=True,
        ),
        class_names=[f"class {number:03d}" for number in range(CLASSES)],
        class_counts=[max(500 - 5 * number, 5) for number in range(CLASSES)],
        shot_groups=ShotGroups(),
        method="lpt",
        architecture=sizes,
        phases=[1, 2],
        probabilities=Probabilities(scale=20, temperature=1.0, fitted_on="nothing: random numbers"),
        reference=make_reference(model, group_prompts=True),
        tensors=content,
    )
    return write_pack(path, info, content, "# Random numbers, for measurements\n")


def picture(seed: int, width: int = 500, height: int = 375) -> bytes:
    """Return a smooth random picture as JPEG, about as large and as slow to decode as one of ImageNet."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (24, 32, 3)).astype(np.uint8)).resize((width, height))
    grain = random.normal(0, 12, (height, width, 3))
    pixels = np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=85)
    return stream.getvalue()


class ServerProcess:
    """`lpt serve` in a process of its own, as a context.

    Args:
        packs: what it serves.
        args: of the command line, with the options of `add_options`.
        options: further options of `lpt serve`.
        log: file for its log.
    """

    def __init__(self, packs: Path, args: argparse.Namespace, options: list[str], log: Path) -> None:
        backbone = ["--backbone", args.backbone] if args.checkpoint is None else ["--checkpoint", str(args.checkpoint)]
        self._command = [sys.executable, "-m", "lpt", "serve", str(packs), "--port", "0", "--device", args.device]
        self._command += [*backbone, *options]
        self._log = log
        self.port = 0
        self.start_seconds = 0.0

    def __enter__(self) -> Self:
        start = time.perf_counter()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=log, env=os.environ)
        assert self._process.stdout is not None
        line = self._process.stdout.readline().decode()
        if not line.startswith("http://"):
            self._process.kill()
            raise RuntimeError(f"the server did not start: {self._log.read_text()}")
        self.port = int(line.split()[0].rpartition(":")[2])
        self.start_seconds = time.perf_counter() - start
        self.view = psutil.Process(self._process.pid)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def stop(self) -> int:
        """End it as an operator does, and return its exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(_START_SECONDS)

    @property
    def resident_mb(self) -> float:
        """Memory that it holds, in units of 10^6 bytes."""
        return float(self.view.memory_info().rss / 1e6)

    @property
    def descriptors(self) -> int:
        """Open file descriptors."""
        return int(self.view.num_fds())
