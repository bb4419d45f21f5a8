"""Which backbones a pack may have loaded: packs come from anyone, so a file or repository they name is not touched.

Without the user's word these alone are loaded: backbones shipped with this package, and timm's names whose weights lie
in timm's organisation on the hub. Any other backbone is named by the user: to give it is to consent.
"""

from __future__ import annotations

import re
from pathlib import Path

import timm
from timm.models import get_pretrained_cfg

from lpt.errors import ConfigError
from lpt.model.backbone import FrozenViT
from lpt.model.pretrained import SHIPPED, architecture_file, load_backbone
from lpt.model.record import BackboneRecord

_PLAIN = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*(?:\.[a-z0-9_]+)?", re.ASCII)
_TIMMS_OWN = re.compile(r"timm/[A-Za-z0-9_][A-Za-z0-9_.-]*", re.ASCII)
_LONGEST = 100


def backbone_for(
    record: BackboneRecord, pack: Path, *, name: str | None = None, checkpoint: Path | None = None
) -> FrozenViT:
    """The backbone that a user gives for a pack, or the one the pack names, if a pack may.

    Args:
        record: what the pack says of its backbone. Nothing it names is opened, or looked for, before it is accepted.
        pack: where the pack lies, for messages.
        name, checkpoint: what the user gives; any backbone is accepted there.

    Raises:
        ConfigError: the pack asks for a backbone that only the user may name, or it cannot be had.
    """
    if name is not None:
        return load_backbone(name, checkpoint=checkpoint)
    if checkpoint is not None:
        if not is_plain(record.name) and architecture_file(checkpoint) is None:
            raise ConfigError(
                f"the pack {pack} was trained on the backbone {_shown(record.name)}, which is no plain timm name. Give "
                f"the architecture of {checkpoint} too: --backbone NAME."
            )
        return load_backbone(record.name, checkpoint=checkpoint)
    reason = why_refused(record)
    if reason is not None:
        options = " ".join(needed_options(record, name="NAME", checkpoint="FILE"))
        python = "Predictor(NAME, pack)" if record.checkpoint is None else "Predictor(None, pack, checkpoint=FILE)"
        raise ConfigError(
            f"the pack {pack} asks for {reason}. A pack may not choose what is loaded from your disk or the hub.\n"
            f"Next: name the backbone yourself if you trust it: {options} (Python: {python}). Its sha256 over tensors "
            f"must be {record.weight_hash[:64]}."
        )
    return load_backbone(record.name)


def is_plain(name: str) -> bool:
    """Whether a name has the form of a timm model's, `name` or `name.tag`: no scheme, folder or repository in it."""
    return len(name) <= _LONGEST and _PLAIN.fullmatch(name) is not None


def why_refused(record: BackboneRecord) -> str | None:
    """What a pack asks for, where only the user may name it; None for a backbone that a pack may name."""
    name = record.name
    if record.checkpoint is not None:
        return f"the local weights {_shown(record.checkpoint)} of {_shown(name)}"
    if name in SHIPPED:
        return None
    if not is_plain(name):
        return f"the backbone {_shown(name)}, which is no plain timm name"
    if not timm.is_model(name):
        return f"the backbone {_shown(name)}, which timm {timm.__version__} does not know"
    try:
        source = get_pretrained_cfg(name)
    except RuntimeError:
        return f"the backbone {_shown(name)}, whose tag timm {timm.__version__} does not know"
    if source is None or source.file or source.state_dict or not _TIMMS_OWN.fullmatch(str(source.hf_hub_id)):
        return f"the backbone {_shown(name)}, whose weights are not in timm's own organisation on the hub"
    return None


def needed_options(
    record: BackboneRecord, *, name: str | None = None, checkpoint: str | Path | None = None
) -> list[str]:
    """Options by which `lpt predict` and `evaluate` get the backbone of a pack; none where the pack's word is enough.

    Args:
        record: what the pack says of its backbone.
        name, checkpoint: what to write for them; None: what the pack says.
    """
    options: list[str] = []
    if why_refused(record) is None:
        return options
    if record.checkpoint is None or not is_plain(record.name):
        options += ["--backbone", name or record.name]
    if record.checkpoint is not None:
        options += ["--checkpoint", str(checkpoint or record.checkpoint)]
    return options


def _shown(text: str) -> str:
    """Text of a stranger, short and with nothing in it that is not ASCII."""
    return ascii(text if len(text) <= _LONGEST else text[:_LONGEST] + "...")
