"""`lpt predict --ray` on two nodes: the bytes of one process, also if a node dies; one message about what is wrong."""

from __future__ import annotations

import os
import runpy
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.cluster.nodes import Node
from PIL import Image
from rich.console import Console

from lpt.commands.predict.predict import predict_files
from lpt.commands.predict.request import PredictRequest
from ray_cluster import RayCluster
from warm_process import WarmProcess

IMAGES, SIZE = 160, 8
PROGRAM = f"""
import dataclasses, functools, sys, time
from pathlib import Path
import lpt.commands.predict.predict as predict
import lpt.commands.predict.request as module
from lpt.cli import main
from lpt.commands.predict.table import Labeller
module.PredictRequest = functools.partial(module.PredictRequest, shard_size={SIZE})

class Held(Labeller):
    def write_rows(self, pictures, file, bad, show_done):
        def held(images):
            show_done(images)
            while rests():
                time.sleep(0.02)
                show_done(images)
        return super().write_rows(pictures, file, bad, held)

def rests():
    try:
        return len(list(parts.glob("*.part"))) >= int(gate.read_text())
    except FileNotFoundError:
        return False

def prepare(request):
    from lpt.commands.predict.predict import prepare_output
    labeller, output = prepare_output(request)
    return Held(**{{field.name: getattr(labeller, field.name) for field in dataclasses.fields(labeller)}}), output

gate, parts = Path(sys.argv.pop()), Path(sys.argv.pop())

predict.prepare_output = prepare
main()
"""
"""Work on the nodes that rests while a file says how many shards are enough: there is time to kill a node."""


def run_script(command: list[str]) -> None:
    sys.argv = command
    runpy.run_path(command[0], run_name="__main__")  # Ray takes what is defined there to its workers


class Work:
    """A job of 160 images in 20 shards."""

    def __init__(self, run: Path, backbone: Path, folder: Path, cluster: RayCluster) -> None:
        self.output, self.parts, self.images = folder / "found.csv", folder / "found.csv.parts", folder / "new"
        self._gate = folder / "gate"
        self.images.mkdir()
        pixels = np.random.default_rng(0).integers(0, 255, (36, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(self.images / "000.jpg")
        for number in range(1, IMAGES):
            os.link(self.images / "000.jpg", self.images / f"{number:03d}.jpg")
        (folder / "program.py").write_text(PROGRAM)
        self.cluster, self.pack, self.backbone = cluster, run / "pack", backbone
        options = ["--checkpoint", str(backbone), "--device", "cpu", "--batch-size", "4", "--top-k", "3", "--ray"]
        self._command = [str(folder / "program.py"), "predict", str(run), str(self.images)]
        self._command += ["--output", str(self.output), *options]
        self._command += [str(self.parts), str(self._gate)]

    def hold(self, shards: int) -> None:
        """Let the workers rest once so many shards are done, until they are released."""
        self._gate.with_suffix(".new").write_text(str(shards))
        self._gate.with_suffix(".new").replace(self._gate)

    def release(self) -> None:
        self._gate.unlink()

    def start(self) -> WarmProcess:
        return WarmProcess(run_script, self._command, environment=self.cluster.environment)

    def wait_for(self, process: WarmProcess, count: int, files: str = "*.part") -> None:
        end = time.monotonic() + 240
        while len(list(self.parts.glob(files))) < count:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end
            time.sleep(0.005)

    def whole(self) -> bytes:
        """What one process writes."""
        output = self.output.with_name("whole.csv")
        values: dict[str, Any] = {"top_k": 3, "device": "cpu", "batch_size": 4, "shard_size": SIZE}
        values["checkpoint"] = self.backbone
        predict_files(PredictRequest(self.pack, (self.images,), output, **values), progress=Console(quiet=True))
        return output.read_bytes()


@pytest.fixture
def work(fitted_run: Path, tiny_backbone: Path, tmp_path: Path, ray_cluster: RayCluster) -> Work:
    return Work(fitted_run, tiny_backbone, tmp_path, ray_cluster)


@pytest.mark.slow
def test_a_killed_node_an_interruption_and_a_bad_image(work: Work, mortal_node: Node) -> None:
    """Ctrl-C keeps what is done; a bad image stops both nodes with one message; a killed node stops nobody."""
    work.hold(2)
    first = work.start()
    work.wait_for(first, 2)
    first.send_signal(signal.SIGINT)
    _, said = first.communicate(timeout=240)
    assert first.returncode == 130, said
    kept = {path: path.stat().st_mtime_ns for path in work.parts.iterdir()}
    assert f"{SIZE * len(kept)} of {IMAGES} images are done" in said

    (work.images / "100.jpg").unlink()
    (work.images / "100.jpg").write_bytes(b"broken")
    work.release()
    second = work.start()
    _, said = second.communicate(timeout=240)
    assert second.returncode == 2
    assert said.count("\nError: ") == said.count("100.jpg: cannot be read") == 1, said
    (work.images / "100.jpg").unlink()
    os.link(work.images / "000.jpg", work.images / "100.jpg")
    for part in sorted(work.parts.glob("*.part"))[3:]:
        part.unlink()  # enough is left to do while the node dies

    work.hold(4)
    third = work.start()
    work.wait_for(third, 4)
    work.wait_for(third, 2, "*.beat")  # both nodes are at work
    mortal_node.kill()
    work.release()
    _, said = third.communicate(timeout=240)
    assert third.returncode == 0, said
    assert f"Going on: {SIZE * 3} of {IMAGES} images are done" in said
    assert f"{IMAGES} predictions" in said
    assert "Traceback" not in said
    assert not work.parts.exists()
    assert work.output.read_bytes() == work.whole()
