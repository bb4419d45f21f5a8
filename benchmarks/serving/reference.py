"""The predictor alone, in a process of its own: `load` compares the server with it, in turns."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self


class Reference:
    """A predictor that is fed encoded images, as a context.

    Args:
        pack: path of the pack.
        images: files of the images.
        options: `backbone`, `checkpoint` and `device` of the predictor.
    """

    def __init__(self, pack: Path, images: list[Path], options: dict[str, str | None]) -> None:
        self._given = {"pack": str(pack), "images": [str(image) for image in images], "options": options}

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "benchmarks.serving.reference", json.dumps(self._given)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answer()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate("")

    def rate(self, count: int, batch_size: int) -> float:
        """Return its images per second."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{count} {batch_size}\n")
        self._process.stdin.flush()
        return count / self._answer()

    def _answer(self) -> float:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the predictor has ended; see above")
        return float(line)


def main() -> None:
    """Load the predictor, then classify as many images as each line of standard input says."""
    import lpt

    given = json.loads(sys.argv[1])
    predictor = lpt.load_predictor(given["pack"], **given["options"])
    images = [Path(image).read_bytes() for image in given["images"]]
    predictor.predict(images[:8], batch_size=8)
    print(0.0, flush=True)
    for line in sys.stdin:
        count, batch_size = map(int, line.split())
        start = time.perf_counter()
        predictor.predict((images[number % len(images)] for number in range(count)), batch_size=batch_size)
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
