"""What the measurements of the server need: packs of random numbers, pictures, and the server in a process."""

from __future__ import annotations

import argparse
import io
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import psutil
from PIL import Image

BACKBONE = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
_START_SECONDS = 120


def add_options(parser: argparse.ArgumentParser, *, size: int) -> None:
    """Add the options that all measurements of the server share."""
    parser.add_argument("--backbone", default=BACKBONE, help="timm name of the backbone")
    parser.add_argument("--checkpoint", type=Path, help="local weights of that architecture")
    parser.add_argument("--size", type=int, default=size, help="input size of the packs, pixels")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")


def write_served_pack(path: Path, args: argparse.Namespace, seed: int = 0) -> Path:
    """Write a pack of the default sizes of LPT with random tensors, on the backbone of `add_options`."""
    import lpt
    from benchmarks.serving.random_packs import write_default_pack

    backbone = lpt.load_backbone(args.backbone, checkpoint=args.checkpoint)
    return write_default_pack(path, backbone, seed=seed, preprocessing={"size": (args.size, args.size)}).path


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
        environment: its environment variables; None: those of this process.
    """

    def __init__(
        self,
        packs: Path,
        args: argparse.Namespace,
        options: list[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        backbone = ["--backbone", args.backbone] if args.checkpoint is None else ["--checkpoint", str(args.checkpoint)]
        self._command = [sys.executable, "-m", "lpt", "serve", str(packs), "--port", "0", "--device", args.device]
        self._command += [*backbone, *options]
        self._log = log
        self._environment = environment
        self.port = 0
        self.start_seconds = 0.0

    def __enter__(self) -> Self:
        start = time.perf_counter()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=log, env=self._environment)
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
