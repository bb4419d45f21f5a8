"""Write a static page that classifies pictures with a pack on the visitor's machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import PIL
from rich.console import Console

from lpt import __version__
from lpt.commands.results import Results, write_together
from lpt.packs.facts import pack_facts, unsure_below
from lpt.packs.info import PackInfo
from lpt.packs.prior import prior_ratios
from lpt.system.owned import marker
from lpt.system.text import plural, size_of

HERE = Path(__file__).parent / "page"
SHARED = Path(__file__).parents[3] / "serving" / "page"
"""The server's page, of which this one takes the style and the parts that show pictures and answers."""
OWN_FILES = (
    "index.html", "app.js", "engine.js", "offline.js", "service-worker.js", "worker.js", "download.js", "pixels.js"
)  # fmt: skip
SHARED_FILES = ("style.css", "about.js", "answer.js", "attention.js", "card.js", "files.js", "queue.js")
RUNTIME_FILES = (
    "ort.wasm.min.js", "ort-wasm-simd-threaded.js", "ort-wasm-simd-threaded.wasm", "onnxruntime-LICENSE.txt",
    "onnxruntime-notices.txt",
)  # fmt: skip
LARGE_BYTES = 2**20
"""A file from this size on is fetched with progress, by the page itself."""
_FIRST_PILLOW_BY_COLUMNS = 13
"""The first major version of Pillow that resizes tall pictures along their columns first."""
SITE = Results(
    "lpt-web-page",
    ("site.json", *OWN_FILES, *SHARED_FILES, *RUNTIME_FILES, "model.onnx", "facts.json", "release.js", "README.txt"),
    "a page",
    option="--web",
)


def build_page(
    name: str,
    info: PackInfo,
    model: bytes,
    size: tuple[int, int],
    runtime: Mapping[str, bytes],
    *,
    reject: bool = False,
) -> dict[str, bytes]:
    """Return the files of a page by their names.

    Args:
        name: name of the pack.
        info: its description.
        model: `model.onnx` of the pack, which takes resized pictures and gives probabilities.
        size: height and width that it takes, pixels.
        runtime: files of ONNX Runtime Web.
        reject: let the page say which pictures show none of the classes.
    """
    files = {file: (HERE / file).read_bytes() for file in OWN_FILES}
    files |= {file: (SHARED / file).read_bytes() for file in SHARED_FILES}
    files |= runtime
    files["model.onnx"] = model
    of_model = {"model_sha256": hashlib.sha256(model).hexdigest()}  # the page takes no classes of another model
    files["facts.json"] = _json(page_facts(name, info, size, reject=reject) | of_model)
    release = _release(files)
    files["release.js"] = b"self.RELEASE = " + _json(release).rstrip() + b";\n"
    files["README.txt"] = _readme(name, info, len(model)).encode("utf-8", "backslashreplace")
    files["site.json"] = _json({**marker(SITE.kind), "lpt": __version__, **release})
    return files


def page_facts(name: str, info: PackInfo, size: tuple[int, int], *, reject: bool = False) -> dict[str, Any]:
    """Return what the page knows about its pack."""
    preprocessing = info.preprocessing
    return {
        **pack_facts(name, info),
        "unsure_below": unsure_below(len(info.class_names)),
        "reject": reject,
        "priors": {prior: ratios.tolist() for prior, ratios in prior_ratios(info).items()},
        "preprocessing": {
            "height": size[0],
            "width": size[1],
            "interpolation": preprocessing.interpolation,
            "tall_first": int(PIL.__version__.split(".")[0]) >= _FIRST_PILLOW_BY_COLUMNS,
            "deep": preprocessing.white is not None,
        },
    }


def write_page(folder: Path, page: Mapping[str, bytes], console: Console) -> Path:
    """Write the files of a page into a folder, all of them or none, and return its index.html.

    Raises:
        RunError: they cannot be written; an earlier page is untouched.
    """
    write_together(folder, SITE, page)
    size = size_of(sum(map(len, page.values())))
    console.print(
        f"{folder / 'index.html'} ({plural(len(page), 'file')}, {size}; README.txt: how to serve it)", markup=False
    )
    return folder / "index.html"


def _release(files: Mapping[str, bytes]) -> dict[str, Any]:
    """Return the list of the files that the page uses, and a version that changes with any of them."""
    listed = [
        {
            "name": name,
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            **({"large": True} if len(content) >= LARGE_BYTES else {}),
        }
        for name, content in sorted(files.items())
        if name != "service-worker.js"  # the browser compares that one itself
    ]
    return {"version": hashlib.sha256(_json(listed)).hexdigest()[:16], "files": listed}


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "backslashreplace")


def _readme(name: str, info: PackInfo, model_bytes: int) -> str:
    backbone = info.backbone
    return f"""{name}: a page that classifies pictures in the visitor's browser
{"=" * 70}

Written by lpt {__version__} (lpt export --web): {plural(len(info.class_names), "class")}, method {info.method.name}.
Pictures do not leave the visitor's machine, and no other host is asked.

Try it here:
    python -m http.server --bind 127.0.0.1 8000      (in this folder; then open http://127.0.0.1:8000/)

Publish it: copy this folder to any static host that serves https. A visitor fetches it once
(the model is {size_of(model_bytes)}); after that the page works without a network. Without https the
page works too, but on one thread and only with a network. No headers need to be set: a service worker
adds those that threads need. It takes the whole folder as its own, so keep other files elsewhere.

Files:
    index.html ...            the page
    model.onnx                pack and backbone, for ONNX Runtime
    facts.json                classes, training counts and measures of the pack
    site.json                 every file with its size and sha256
    ort*, onnxruntime-*       ONNX Runtime Web, its licence (MIT) and notices

Licences: the page is part of LPT (Apache-2.0). model.onnx holds the weights of the backbone
{backbone.name} (licence: {backbone.licence}): check that it lets you publish them, and that you may
publish what the pack learnt from your pictures.
"""
