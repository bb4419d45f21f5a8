"""Export a pack, or a backbone, for ONNX Runtime."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rich.console import Console

from lpt.commands.export.request import ExportRequest
from lpt.commands.results import Results, check_inputs, check_owned, clear, first_precious
from lpt.errors import RunError
from lpt.system.files import write_bytes, write_json
from lpt.system.outputs import output_in
from lpt.system.owned import marker
from lpt.system.text import size_of

MODEL = Results("lpt-onnx-model", ("model.json", "model.onnx"), "an exported model")


def export(
    pack: str | Path | None = None,
    output: str | Path = "exported",
    *,
    backbone: str | None = None,
    checkpoint: str | Path | None = None,
    overwrite: bool = False,
    web: bool = False,
    runtime: str | Path | None = None,
    console: Console | None = None,
) -> Path:
    """Export a pack, or a backbone, for ONNX Runtime: what `lpt export` does, from Python.

    Args:
        pack: the pack folder, or a run folder that holds one: it becomes one `model.onnx`, backbone included. None:
            export the backbone alone, which runs any number of packs (`lpt.load_predictor(packs, backbone=FOLDER)`).
        output: folder for the files.
        backbone: name of the backbone, or a pack that names it; None: the one that `pack` names.
        checkpoint: local weights of that backbone.
        overwrite: replace the export that is in `output`.
        web: write a page that classifies with the pack in a browser (`lpt export PACK --web FOLDER`).
        runtime: unpacked npm package of ONNX Runtime Web, for the page; None: npm fetches it.
        console: where to report; None: silent.

    Returns:
        The ONNX file, or the page's index.html.

    Raises:
        PackError, ConfigError: the pack, the backbone or an argument cannot be used.
        RunError: the folder holds something else, or cannot be written.
    """
    request = ExportRequest(
        output=Path(output),
        pack=None if pack is None else Path(pack),
        backbone=backbone,
        checkpoint=None if checkpoint is None else Path(checkpoint),
        overwrite=overwrite,
        web=web,
        runtime=None if runtime is None else Path(runtime),
    )
    return export_files(request, console=console or Console(quiet=True))


def export_files(request: ExportRequest, *, console: Console) -> Path:
    """Export what is asked for, and return the ONNX file, or the page; errors as for `export`."""
    request.check()
    return _export_page(request, console) if request.web else _export_pack(request, console)


def _export_pack(request: ExportRequest, console: Console) -> Path:
    from lpt.commands.export.model import encode_pack
    from lpt.packs.predictor import load_predictor

    assert request.pack is not None
    check_output(request, MODEL)
    predictor = load_predictor(
        request.pack, backbone=request.backbone, checkpoint=request.checkpoint, device="cpu", precision="fp32"
    )
    content, facts = encode_pack(predictor)
    return write_export(request.output, MODEL, content, facts, console)


def _export_page(request: ExportRequest, console: Console) -> Path:
    from lpt.commands.export.model import encode_pack
    from lpt.commands.export.model_graph import resized_size
    from lpt.commands.export.web.page import SITE, build_page, write_page
    from lpt.commands.export.web.runtime import read_runtime
    from lpt.packs.predictor import load_predictor

    assert request.pack is not None
    check_output(request, SITE)
    runtime = read_runtime(request.runtime)
    predictor = load_predictor(
        request.pack, backbone=request.backbone, checkpoint=request.checkpoint, device="cpu", precision="fp32"
    )
    model, _ = encode_pack(predictor)
    info = predictor.pack().info
    page = build_page(predictor.pack_names[0], info, model, resized_size(info), runtime)
    return write_page(request.output, page, console)


def check_output(request: ExportRequest, results: Results) -> None:
    """Raise `RunError` if an export cannot be written into the folder of a request."""
    output = request.output
    if output.is_dir() and (holds := output_in(output, os.listdir(output))).whole:  # noqa: PTH208
        raise RunError(f"{results.option}: {output} holds {holds.title}, and stays as it is; give another folder")
    if not check_owned(output, results):
        return
    if request.overwrite:
        check_inputs(output, request.inputs, results.option)
        return
    replace = "" if first_precious(output, request.inputs) else "add --overwrite, or "
    raise RunError(f"{results.option}: {output} holds {results.title} already; {replace}give another folder")


def write_export(output: Path, results: Results, content: bytes, facts: dict[str, Any], console: Console) -> Path:
    """Write an ONNX file and, as JSON, the facts in it; return the ONNX file."""
    clear(output, results)
    write_json(output / results.names[0], {**marker(results.kind), **facts})  # the marker of the others: first
    file = output / results.names[-1]
    write_bytes(file, content)
    console.print(f"{file} ({size_of(len(content))})", markup=False)
    return file
