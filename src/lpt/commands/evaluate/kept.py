"""Keep measurements under domain shift in the folder of the results, so that none is made twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lpt.commands.evaluate.folder import SHIFT
from lpt.commands.evaluate.request import Subject
from lpt.commands.results import check_inputs, check_owned, drop_links, first_precious
from lpt.data.manifest import LabelledImages
from lpt.errors import RunError
from lpt.evaluation.corruptions import VERSION
from lpt.evaluation.metrics import Metrics
from lpt.packs.files import sha256
from lpt.system.files import write_json
from lpt.system.owned import marker
from lpt.training.folder import SHIFT_NAMES

CELLS_NAME = SHIFT_NAMES[0]
_PACK_FIELDS = ("method", "preprocessing", "class_counts", "shots", "probabilities")
"""Fields of a pack that its measurements depend on; packs with the same tensors may differ in them."""


def cell_settings(subject: Subject) -> dict[str, Any]:
    """Return what a kept measurement must agree in, beside its name, its images and its seed."""
    info = subject.pack.info
    fields = info.model_dump(mode="json", include=set(_PACK_FIELDS))
    return {
        "pack_sha256": info.tensors_sha256,
        **{f"pack_{name}": sha256(json.dumps(fields[name]).encode())[:16] for name in _PACK_FIELDS},
        "backbone": info.backbone.weight_hash,
        "precision": subject.predictor.engine.precision,
        "corruptions_version": VERSION,
        "prior": None if subject.prior is None else sha256(json.dumps(subject.prior, sort_keys=True).encode())[:16],
    }


def write_cells(output: Path, settings: dict[str, Any], cells: dict[str, Any]) -> None:
    """Write all measurements so far.

    Raises:
        RunError: the file cannot be written.
    """
    drop_links(output, SHIFT)
    write_json(output / CELLS_NAME, {**marker(SHIFT.kind), "settings": settings, "cells": cells})


def kept_cells(
    output: Path | None, settings: dict[str, Any], inputs: Sequence[Mapping[str, Any]], *, overwrite: bool
) -> dict[str, Any]:
    """Read the measurements that are kept in a folder.

    Args:
        output: the folder.
        settings: what they must agree in.
        inputs: configurations of what the command reads, as for `inputs_of`.
        overwrite: keep none, so that all is measured again and replaced.

    Raises:
        RunError: they are of another pack or other settings, or LPT did not write the files.
    """
    if output is None or not check_owned(output, SHIFT):
        return {}
    path = output / CELLS_NAME
    if overwrite:
        for configuration in inputs:
            check_inputs(output, configuration)
        return {}
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        cells = {str(key): Metrics.from_dict(value).to_dict() for key, value in kept["cells"].items()}
        before = dict(kept["settings"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        again = _again(output, inputs)
        raise RunError(f"{path} cannot be read ({error}): remove it, or give another folder{again}") from None
    differences = [
        f"{key} was {before.get(key)}, is {value}" for key, value in settings.items() if before.get(key) != value
    ]
    if differences:
        raise RunError(
            f"--output: {output} holds measurements of another pack or with other settings: {'; '.join(differences)}. "
            f"Give another folder{_again(output, inputs)}."
        )
    return cells


def _again(output: Path, inputs: Sequence[Mapping[str, Any]]) -> str:
    """Return the advice to overwrite; empty where overwriting would be refused."""
    return (
        ""
        if any(first_precious(output, configuration) for configuration in inputs)
        else ", or add --overwrite to measure again"
    )


def digest(images: LabelledImages) -> str:
    """Return a fingerprint of images: of names, labels and, where the source knows them, stored sizes."""
    hashed = hashlib.blake2b(digest_size=8)
    stored_bytes = getattr(images.source, "stored_bytes", None)
    for index, (row, label) in enumerate(zip(images.rows.tolist(), images.labels.tolist(), strict=True)):
        size = "" if stored_bytes is None else stored_bytes(row)
        hashed.update(f"{images.name(index)}\x1f{label}\x1f{size}\x1e".encode(errors="surrogatepass"))
    return hashed.hexdigest()
