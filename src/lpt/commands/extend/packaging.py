"""Write the pack with the new classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from lpt.commands.extend.request import Task
from lpt.config.faults import faults
from lpt.data.manifest import FloatArray, IntArray
from lpt.data.sample import SAMPLE, sample_files
from lpt.data.sources.portable import portable_source
from lpt.errors import DataError
from lpt.evaluation.extension import OldClasses
from lpt.evaluation.measured import most_picked, picked_shares
from lpt.model.backbone import FrozenViT
from lpt.model.build import build_model
from lpt.packs.files import count_numbers, sha256
from lpt.packs.info import MOST_CLASSES_WITH_USE, GroupUse, PackInfo, Versions
from lpt.packs.pack import Pack, encode_tensors, load_pack, write_pack
from lpt.packs.reference import make_reference
from lpt.report.card import model_card

BEFORE_ADDITIONS = ", before classes were added"


class Added(NamedTuple):
    """New classes, ready for the pack.

    Args:
        names: their names.
        counts: their pictures, [K].
        rows: their rows, [K, D].
        scales: their scales, [K].
        groups: group prompts that each picture picks, [n, k]; None: the pack uses none.
        labels: new class of each picture, [n].
        factor, chosen: as in `Addition`.
        data: source of the pictures.
        old_classes: what the other classes lose; None: not measured.
    """

    names: Sequence[str]
    counts: IntArray
    rows: FloatArray
    scales: FloatArray
    groups: IntArray | None
    labels: IntArray
    factor: float
    chosen: str
    data: str
    old_classes: OldClasses | None


def extended_pack(task: Task, added: Added, backbone: FrozenViT, output: Path) -> Pack:
    """Write the pack with the new classes, and return it.

    Args:
        task: the pack and the pictures.
        added: the new classes.
        backbone: the backbone of the pack.
        output: folder of the new pack.

    Raises:
        DataError: a class cannot be stored in a pack.
        RunError: the pack cannot be written.
    """
    info = task.pack.info
    state = _tensors(task.pack, added)
    sized = backbone.at_size(info.preprocessing.size)
    model = build_model(info.method, sized, len(state["head.weight"]), added=len(state["head.scale"]))
    model.load_state_dict(state)
    model.requires_grad_(False).to(backbone.device)
    content = encode_tensors(state)
    values = info.model_dump() | {
        "versions": Versions.here().model_dump(),
        "class_names": [*info.class_names, *added.names],
        "class_counts": [*info.class_counts, *added.counts.tolist()],
        "probabilities": info.probabilities.model_dump() | {"fitted_on": _fitted_on(info)},
        "metrics": {},  # they were those of the pack without these classes
        "rejection": None,  # as was its threshold
        "training": _training(task),
        "reference": make_reference(model, group_prompts=info.uses_group_prompts).model_dump(),
        "group_use": _group_use(info, added),
        "additions": [*(addition.model_dump() for addition in info.additions), _addition(added)],
        "tensors_sha256": sha256(content),
    }
    numbers = count_numbers(content)
    values["method"] |= {"trainable_parameters": numbers, "share_of_backbone": numbers / info.backbone.parameters}
    try:
        new = PackInfo.model_validate(values)
    except ValidationError as error:
        raise DataError(f"the classes cannot be stored in a pack: {faults(error)}") from None
    write_pack(output, new, content, model_card(new, {}, len(content)))
    return load_pack(output)


def _tensors(pack: Pack, added: Added) -> dict[str, Tensor]:
    """Return the tensors of the pack with the rows and scales of the new classes below those of the others."""
    state = pack.torch_tensors()
    rows, scales = (torch.from_numpy(part.astype(np.float32)) for part in (added.rows, added.scales))
    earlier = state.get("head.scale", torch.zeros(0))
    return state | {
        "head.weight": torch.cat([state["head.weight"], rows]),
        "head.scale": torch.cat([earlier, scales]),
    }


def _addition(added: Added) -> dict[str, Any]:
    """Return the fields of an `Addition`, which are checked with the rest."""
    known = None
    if (old := added.old_classes) is not None:
        known = {"images": old.before.images, "before": old.before.overall, "after": old.after.overall}
    return {
        "classes": len(added.names),
        "data": portable_source(added.data),
        "factor": added.factor,
        "chosen": added.chosen,
        "known": known,
    }


def _fitted_on(info: PackInfo) -> str:
    setting, before = info.probabilities, info.probabilities.fitted_on
    return before if setting.unfitted_because or before.endswith(BEFORE_ADDITIONS) else before + BEFORE_ADDITIONS


def _training(task: Task) -> dict[str, Any]:
    """Return the training configuration; the pictures join the sample by which training images are recognised."""
    training = task.pack.info.training
    sample = training.get(SAMPLE)
    return training | {SAMPLE: [*sample, *sample_files(task.new)]} if isinstance(sample, list) and sample else training


def _group_use(info: PackInfo, added: Added) -> dict[str, Any] | None:
    """Return the group prompts that each class picks most, those of new classes by their pictures."""
    stored = info.group_use
    classes, pool_size = len(added.names), info.method.pool_size
    if stored is None or added.groups is None or len(stored.classes) + classes > MOST_CLASSES_WITH_USE:
        return None
    shares = picked_shares(added.labels, added.groups, classes, pool_size)
    picked = most_picked(shares, added.groups.shape[1])
    return GroupUse(split=stored.split, classes=[*stored.classes, *picked]).model_dump()
