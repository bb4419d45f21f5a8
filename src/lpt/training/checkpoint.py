"""Checkpoints: one safetensors file, replaced atomically, from which a run goes on as if never interrupted.

Random draws are functions of the step (DESIGN section 6). So a checkpoint holds only the trainable tensors, the
optimiser's state and the step.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from lpt.errors import RunError
from lpt.system.files import write_bytes
from lpt.training.position import FILE_NAME, Position, damaged_checkpoint

_MODEL, _OPTIMIZER = "model.", "optimizer."
_GROUPS = "groups."
"""Beginning of the names of the tensors that only phase 2 trains."""


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
    path, where = folder / FILE_NAME, json.dumps(position._asdict())
    content = save(tensors, metadata={"position": where, "sha256": _sha256(where, tensors)})
    write_bytes(path, content, make_parents=False)  # a folder that was removed does not come back
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
            metadata = file.metadata()
            position = Position(**json.loads(metadata["position"]))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if metadata.get("sha256") != _sha256(metadata["position"], tensors):
            raise ValueError("its content does not have the SHA-256 it was written with")
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise damaged_checkpoint(path, error) from None
    return position, _with_prefix(tensors, _MODEL), _with_prefix(tensors, _OPTIMIZER)


def begin_phase2(folder: Path, phase1: Path, model: nn.Module, steps: int) -> Path:
    """Write the checkpoint of a new run that starts with phase 2, from the end of another run's phase 1.

    The group prompts are the model's own: phase 1 does not train them. A run from here equals one that trained phase 1
    itself, if both have the same seed and the same settings of phase 1.

    Args:
        folder: of the checkpoints of the new run.
        phase1: of those of the other run.
        model: untrained.
        steps: steps of phase 1.

    Raises:
        RunError: the other run is not at the end of phase 1, or a file is damaged or cannot be written.
    """
    saved = load_checkpoint(phase1)
    if saved is None or saved[0][:2] != (1, steps):
        raise RunError(
            f"the checkpoint in {phase1} is not the end of a phase 1 of {steps} steps. Remove that folder, then give "
            "the same command again."
        )
    position, tensors, _ = saved
    untrained = {name: tensor for name, tensor in model.state_dict().items() if name.startswith(_GROUPS)}
    try:
        model.load_state_dict({**tensors, **untrained})
    except RuntimeError as error:
        raise RunError(f"the checkpoint in {phase1} does not fit the settings of this run: {error}") from None
    return save_checkpoint(folder, model, {}, position)


def _sha256(position: str, tensors: dict[str, Tensor]) -> str:
    """Return a SHA-256 of a position and of names, kinds, shapes and bytes of tensors on the CPU."""
    digest = hashlib.sha256(position.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\0{name} {tensor.dtype} {list(tensor.shape)}\0".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


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
