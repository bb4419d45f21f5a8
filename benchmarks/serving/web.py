"""Measure the page of `lpt export --web` in Chromium: start, and seconds for an image.

    HF_HUB_CACHE=../shared/hub HF_HUB_OFFLINE=1 python -m benchmarks.serving web

A pack of LPT with random tensors is exported whole and served on 127.0.0.1. Then pictures are given to the page one by
one, as a person does. For each the page says how long it took to decode and resize it, and to run the network. The
first pictures are not counted. The page takes a thread for each core that the browser may use, at most 4:
`taskset --cpu-list 0,1` gives it two.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import FilePayload, Page, sync_playwright

import lpt
from benchmarks.record import describe_machine, describe_run
from benchmarks.serving.random_packs import write_default_pack
from lpt.errors import ConfigError
from lpt.system.files import write_json

AIM_SECONDS = 0.6
UNTIMED = 3
"""Pictures before those that count."""
MODULE = "benchmarks.serving"
_WAIT_MILLISECONDS = 300_000


def main(argv: list[str]) -> None:
    """Measure, print and write the results."""
    args = _parser().parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="lpt-web-") as scratch:
        backbone = lpt.load_backbone(args.backbone, checkpoint=args.checkpoint)
        size = {"size": (args.size, args.size)}
        pack = write_default_pack(Path(scratch) / "pack", backbone, classes=args.classes, preprocessing=size).path
        site = Path(scratch) / "site"
        lpt.export(pack, site, web=True, runtime=args.runtime, checkpoint=args.checkpoint)
        sizes = {path.name: path.stat().st_size for path in sorted(site.iterdir())}
        with _served(site) as address, _page() as (page, version):
            measured = measure(page, address, args.images)
    result = {
        **describe_run("seconds for an image in the page of lpt export --web", MODULE, ["web", *argv]),
        **describe_machine("cpu"),
        "chromium": version,
        "backbone": args.backbone,
        "size": args.size,
        "classes": args.classes,
        "bytes": {"all": sum(sizes.values()), "model.onnx": sizes["model.onnx"]},
        "aim_seconds_per_image": AIM_SECONDS,
        **measured,
    }
    print(json.dumps(result, indent=2))
    write_json(args.output, result)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.serving web", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="vit_tiny_patch16_224.augreg_in21k_ft_in1k", help="as for lpt fit")
    parser.add_argument("--checkpoint", type=Path, help="local weights of the backbone")
    parser.add_argument("--runtime", type=Path, help="unpacked npm package onnxruntime-web; default: npm fetches it")
    parser.add_argument("--size", type=int, default=224, help="side of the input, pixels")
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--images", type=int, default=20, help="pictures that count")
    parser.add_argument("--output", type=Path, default=Path("docs/results/serving_web.json"))
    return parser


def measure(page: Page, address: str, images: int) -> dict[str, Any]:
    """Open the page and give it pictures one by one; return what took how long, in seconds."""
    begin = time.perf_counter()
    page.goto(address)
    page.wait_for_selector("#state:has-text('Ready'), #problem:not([hidden])", timeout=_WAIT_MILLISECONDS)
    ready = time.perf_counter() - begin
    state = page.text_content("#state") or ""
    if "Ready" not in state:
        raise ConfigError(f"the page does not start: {page.text_content('#problem')}")
    parts = [_classify(page, number) for number in range(UNTIMED + images)][UNTIMED:]
    totals = [part["prepare"] + part["run"] for part in parts]
    return {
        "cores_of_the_browser": page.evaluate("navigator.hardwareConcurrency"),
        "state": state,
        "ready_seconds": round(ready, 2),
        "images": images,
        "seconds_per_image": {
            "median": round(median(totals), 4),
            "least": round(min(totals), 4),
            "most": round(max(totals), 4),
            "decode_and_resize": round(median(part["prepare"] for part in parts), 4),
            "network": round(median(part["run"] for part in parts), 4),
        },
    }


def _classify(page: Page, number: int) -> dict[str, float]:
    """Give a picture to the page, and return the seconds that it took to prepare it and to run the network."""
    name = f"{number}.jpg"
    file: FilePayload = {"name": name, "mimeType": "image/jpeg", "buffer": _photo(number)}
    page.set_input_files("#choose", file)
    card = page.locator(".card[data-state=done]").filter(has=page.get_by_role("heading", name=name, exact=True))
    card.wait_for(timeout=_WAIT_MILLISECONDS)
    milliseconds = json.loads(card.get_attribute("data-milliseconds") or "")
    return {part: milliseconds[part] / 1000 for part in ("prepare", "run")}


def _photo(number: int) -> bytes:
    """Return a JPEG of 1000 x 750 pixels."""
    pixels = np.random.default_rng(number).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((1000, 750)).save(file, "JPEG", quality=90)
    return file.getvalue()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def _page() -> Iterator[tuple[Page, str]]:
    """Start the system's Chromium; yield a page and the version."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        raise ConfigError("Chromium is not installed (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=path, args=sandbox)
        try:
            yield browser.new_page(), browser.version
        finally:
            browser.close()
