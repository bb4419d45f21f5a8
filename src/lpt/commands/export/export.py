"""Export a pack, or a backbone, for ONNX Runtime."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from lpt.commands.export.request import ExportRequest
from lpt.commands.results import Results, check_inputs, check_owned, first_precious, write_together
from lpt.errors import RunError
from lpt.model.consent import permitted_name
from lpt.packs.exported import DESCRIPTION, GRAPH, KIND, POSITIONS
from lpt.packs.hub import is_address
from lpt.packs.pack import JSON_NAME, find_pack, load_pack, read_info
from lpt.packs.rejection import check_threshold
from lpt.report.bars import teller, warner
from lpt.system.lock import locked_output
from lpt.system.notices import notices_to
from lpt.system.outputs import output_in
from lpt.system.owned import marker
from lpt.system.text import size_of

if TYPE_CHECKING:
    from lpt.packs.predictor import Predictor

BACKBONE = Results(KIND, (DESCRIPTION, POSITIONS, GRAPH), "an exported backbone")
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
    reject: bool = False,
    console: Console | None = None,
) -> Path:
    """Export a pack, or a backbone, for ONNX Runtime: what `lpt export` does, from Python.

    Args:
        pack: the pack folder, a run folder that holds one, or its address on the hub: it becomes one `model.onnx`,
            backbone included. None: export the backbone alone, which runs any number of packs
            (`lpt.load_predictor(packs, backbone=FOLDER)`).
        output: folder for the files.
        backbone: name of the backbone, or a pack that names it; None: the one that `pack` names.
        checkpoint: local weights of that backbone.
        overwrite: replace the export that is in `output`.
        web: write a page that classifies with the pack in a browser (`lpt export PACK --web FOLDER`).
        runtime: unpacked npm package of ONNX Runtime Web, for the page; None: npm fetches it.
        reject: let the page say which pictures show none of the classes; the pack needs a threshold.
        console: where to report; None: silent.

    Returns:
        The ONNX file, or the page's index.html.

    Raises:
        PackError, ConfigError: the pack, the backbone or an argument cannot be used.
        RunError: the folder holds something else, or cannot be written.
    """
    request = ExportRequest(
        output=Path(output),
        pack=pack,
        backbone=backbone,
        checkpoint=None if checkpoint is None else Path(checkpoint),
        overwrite=overwrite,
        web=web,
        runtime=None if runtime is None else Path(runtime),
        reject=reject,
    )
    return export_files(request, console=console or Console(quiet=True))


def export_files(request: ExportRequest, *, console: Console) -> Path:
    """Export what is asked for, and return the ONNX file, or the page; errors as for `export`."""
    request.check()
    option = "--web" if request.web else "--output"
    with locked_output(request.output, warner(console), option=option), notices_to(teller(console)):
        return _export_page(request, console) if request.web else _export_graph(request, console)


def _export_graph(request: ExportRequest, console: Console) -> Path:
    """Write the ONNX files of a pack or a backbone, and return the graph."""
    results, encoded = (BACKBONE, _backbone) if request.pack is None else (MODEL, _pack)
    check_output(request, results)
    files = encoded(request)
    write_together(request.output, results, files)
    graph = request.output / results.names[-1]
    console.print(f"{graph} ({size_of(len(files[graph.name]))})", markup=False)
    return graph


def _whole(request: ExportRequest) -> tuple[Predictor, bytes, dict[str, Any]]:
    """Return a pack ready to predict, its `model.onnx`, and the facts in that."""
    from lpt.commands.export.model import encode_pack
    from lpt.packs.predictor import load_predictor

    assert request.pack is not None
    name = None if request.backbone is None else _backbone_name(request.backbone, request.checkpoint)
    predictor = load_predictor(
        request.pack, backbone=name, checkpoint=request.checkpoint, device="cpu", precision="fp32"
    )  # fmt: skip
    return predictor, *encode_pack(predictor)


def _pack(request: ExportRequest) -> dict[str, bytes]:
    """Return the files of a pack that is exported whole, the marker first."""
    _, content, facts = _whole(request)
    text = json.dumps({**marker(MODEL.kind), **facts}, indent=2, ensure_ascii=False) + "\n"
    return dict(zip(MODEL.names, (text.encode(), content), strict=True))


def _backbone(request: ExportRequest) -> dict[str, bytes]:
    """Return the files of a backbone, the marker first."""
    from lpt.commands.export.backbone import encode_backbone
    from lpt.model.pretrained import load_backbone

    assert request.backbone is not None
    name = _backbone_name(request.backbone, request.checkpoint)
    return encode_backbone(load_backbone(name, checkpoint=request.checkpoint))


def _backbone_name(given: str, checkpoint: Path | None) -> str:
    """Return the name of a backbone that is given by its name, or by a pack that names it."""
    if is_address(given):
        pack = load_pack(given)
        return permitted_name(pack.info.backbone, pack.origin, checkpoint=checkpoint)
    if (folder := find_pack(Path(given))).joinpath(JSON_NAME).is_file():
        return permitted_name(read_info(folder).backbone, folder, checkpoint=checkpoint)
    return given


def _export_page(request: ExportRequest, console: Console) -> Path:
    """Write the page of a pack, and return its index.html."""
    from lpt.commands.export.model_graph import resized_size
    from lpt.commands.export.web.page import SITE, build_page, write_page
    from lpt.commands.export.web.runtime import read_runtime

    check_output(request, SITE)
    if request.reject:
        assert request.pack is not None
        check_threshold(load_pack(request.pack))
    runtime = read_runtime(request.runtime)  # before the work
    predictor, model, _ = _whole(request)
    info = predictor.pack().info
    page = build_page(predictor.pack_names[0], info, model, resized_size(info), runtime, reject=request.reject)
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
