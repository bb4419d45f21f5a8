"""Train what a measurement needs, once, and go on from there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

import lpt
from lpt.commands.fit.prepare import Prepared
from lpt.data.manifest import Splits
from lpt.model import LPT
from lpt.training.folder import RunFolder


def fit_once(
    data: Splits | Path, folder: Path, settings: Sequence[str], *, method: str = "lpt", console: Console | None = None
) -> RunFolder:
    """Train with the preset `laptop`, unless the folder holds the finished run; go on with an interrupted one.

    Args:
        data: opened splits, or a table.
        folder: the run folder.
        settings: over the preset, as `path=value`.
        method: as of `lpt.fit`.
        console: where training reports. None: silent.
    """
    run = RunFolder(folder)
    if run.finished:
        print(f"{folder}: finished", flush=True)
    elif run.begun:
        lpt.resume(folder, data if isinstance(data, Splits) else None, console=console)
    else:
        lpt.fit(data, folder, preset="laptop", method=method, settings=list(settings), console=console)
    return run


def after_phase1(prepared: Prepared, pack: Path) -> LPT:
    """Return the model of a prepared run with the tensors of a pack, but with group prompts and keys as they start."""
    model = prepared.new_model()
    assert isinstance(model, LPT)
    trained = {name: torch.from_numpy(tensor) for name, tensor in lpt.load_pack(pack).tensors.items()}
    groups = {name: tensor for name, tensor in model.state_dict().items() if name.startswith("groups")}
    model.load_state_dict({**trained, **groups})
    return model
