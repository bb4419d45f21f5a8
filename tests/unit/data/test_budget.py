"""Memory by bytes: what threads decode together, and what is read ahead."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lpt.commands.predict import table
from lpt.data.budget import ByteBudget
from lpt.data.decoding import ImageError

MEASURED = """
import resource, struct, sys, zlib
from lpt.data.decoding import Reading, read_image

def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

side, depth, kind, white = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]) or None
row = bytes(1 + side * {0: 1, 2: 3, 4: 2, 6: 4}[kind] * depth // 8)
packer = zlib.compressobj(1)
body = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
header = struct.pack(">IIBBBBB", side, side, depth, kind, 0, 0, 0)
stored = b"\\x89PNG\\r\\n\\x1a\\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
image = read_image(stored, "it", Reading(white=white))
taken = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * (1 if sys.platform == "darwin" else 1024)
print(image.size == (side, side), taken / side**2)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no getrusage")
@pytest.mark.parametrize(
    ("depth", "kind", "white", "most"), [(16, 0, 0, 6), (8, 2, 0, 5), (8, 6, 0, 9), (8, 4, 0, 9), (16, 2, 1000, 14)]
)
def test_decoding_takes_few_bytes_a_pixel(depth: int, kind: int, white: int, most: int) -> None:
    command = [sys.executable, "-c", MEASURED, *map(str, (3000, depth, kind, white))]
    done, bytes_a_pixel = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert done == "True"
    assert float(bytes_a_pixel) < most


def test_threads_hold_no_more_than_the_budget_but_a_larger_turn_is_served_alone() -> None:
    budget, seen = ByteBudget(100), list[int]()

    def work(size: int) -> None:
        with budget.queue() as turn:
            turn.take(size)
            seen.append(budget.held)
            time.sleep(0.002)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [30, 60, 250, 50, 50, 10, 90, 100] * 4))
    assert max(held for held in seen if held != 250) <= 100
    assert seen.count(250) == 4
    assert budget.held == 0


def test_turns_are_served_in_order_and_may_step_aside() -> None:
    budget = ByteBudget(100)
    first, second, third = budget.queue(), budget.queue(), budget.queue()
    served = threading.Event()
    thread = threading.Thread(target=lambda: (third.take(10), served.set()))
    thread.start()
    assert not served.wait(0.05)
    first.take(10)
    assert not served.wait(0.05)
    second.step_aside()
    assert served.wait(5)
    thread.join()
    second.end()
    first.take(90)  # a second attempt takes nothing more
    assert budget.held == 20


def test_what_is_read_ahead_stays_within_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = 5 * 8 * 40 * 40
    budgets: list[ByteBudget] = []

    def small() -> ByteBudget:
        budgets.append(ByteBudget(limit))
        return budgets[-1]

    monkeypatch.setattr(table, "ByteBudget", small)
    monkeypatch.setattr(table, "cores_here", lambda: 4)
    paths = []
    for number in range(30):
        side = 200 if number == 11 else 40
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(np.full((side, side), number, np.uint8)).save(paths[-1])
    paths[7].write_bytes(b"no image")
    held, values = [], []
    for _, picture in table.decode_ahead(paths):
        time.sleep(0.005)
        held.append(budgets[0].held)
        values.append("bad" if isinstance(picture, ImageError) else picture.getpixel((0, 0))[0])
    assert values == [number if number != 7 else "bad" for number in range(30)]
    assert max(held) <= 8 * 200 * 200
    assert sorted(held)[-3] <= limit
    assert budgets[0].held == 0


def test_reading_ahead_can_be_left_at_any_time(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (40, 40)).save(path)
    pictures = table.decode_ahead([path] * 100)
    next(pictures)
    pictures.close()
