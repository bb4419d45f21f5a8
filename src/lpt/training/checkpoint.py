"""Checkpoints: one safetensors file, replaced atomically, from which a run goes on as if never interrupted.

Random draws are functions of the step (DESIGN section 6). So a checkpoint holds only the trainable tensors, the
optimiser's state and the step.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from lpt.errors import RunError
from lpt.system.files import write_bytes

FILE_NAME = "latest.safetensors"
_MODEL, _OPTIMIZER = "model.", "optimizer."


class Position(NamedTuple):
    """The position of a run: steps done of a phase, and the micro-batch of the last one (None: as configured)."""

    phase: int
    step: int
    micro_batch: int | None


def save_checkpoint(folder: Path, model: nn.Module, optimizer: dict[str, Tensor], position: Position) -> Path:
    """Write the checkpoint of a run; it replaces the one before only when it is on disk.

    Args:
        folder: of the checkpoints.
        model: all its trainable tensors are saved.
        optimizer: its state, from `optimizer_tensors`.
        position: of the run.

    Raises:
        RunError: it cannot be written (disk full, no permission); the one before is untouched.
    """
    tensors = {_MODEL + name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    tensors |= {_OPTIMIZER + name: tensor.detach().cpu().contiguous() for name, tensor in optimizer.items()}
    path = folder / FILE_NAME
    write_bytes(path, save(tensors, metadata={"position": json.dumps(position._asdict())}))
    return path


def load_checkpoint(folder: Path) -> tuple[Position, dict[str, Tensor], dict[str, Tensor]] | None:
    """Read position, model tensors and optimiser tensors; return None if there is no checkpoint yet.

    Raises:
        RunError: the file is damaged.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            position = Position(**json.loads(file.metadata()["position"]))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"the checkpoint {path} is damaged ({error}). Remove the folder {folder} and run the same command with "
            "--resume: the run starts again from its first step with the same settings."
        ) from None
    return position, _with_prefix(tensors, _MODEL), _with_prefix(tensors, _OPTIMIZER)


def optimizer_tensors(optimizer: torch.optim.Optimizer, parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    """Return an optimiser's state as tensors named `<parameter>/<state>`."""
    return {
        f"{name}/{key}": value
        for name, parameter in parameters.items()
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, parameters: dict[str, nn.Parameter], tensors: dict[str, Tensor]
) -> None:
    """Put the tensors from `optimizer_tensors` back into an optimiser."""
    for full_name, value in tensors.items():
        name, key = full_name.rsplit("/", 1)
        parameter = parameters[name]
        device = "cpu" if key == "step" else parameter.device
        optimizer.state[parameter][key] = value.to(device)


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
