"""Decide which backbones a pack may load: anyone can write a pack, so no file or repository that it names is opened.

Without the user's word only these are loaded: backbones that come with this package, and timm names whose weights lie
in timm's organisation on the hub. The user names any other backbone: to name it is to consent.
"""

from __future__ import annotations

import re
from pathlib import Path

from lpt.errors import ConfigError
from lpt.model.record import HUB_SCHEMES, SHIPPED, BackboneRecord

_PLAIN = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*(?:\.[a-z0-9_]+)?", re.ASCII)
_TIMMS_OWN = re.compile(r"timm/[A-Za-z0-9_][A-Za-z0-9_.-]*", re.ASCII)
_LONGEST = 100


def permitted_name(record: BackboneRecord, pack: str | Path, *, checkpoint: Path | None = None) -> str:
    """Return the name of the backbone that a pack names, if a pack may name it.

    Args:
        record: the backbone's record in the pack. Nothing that it names is opened or looked for.
        pack: path or address of the pack, for messages.
        checkpoint: weights that the user gives; any file is accepted.

    Raises:
        ConfigError: only the user may name this backbone.
    """
    if checkpoint is not None:
        from lpt.model.pretrained import architecture_file

        if not is_plain(record.name) and architecture_file(checkpoint) is None:
            raise ConfigError(
                f"the pack {pack} was trained on the backbone {_shown(record.name)}, which is no plain timm name. Give "
                f"the architecture of {checkpoint} too: --backbone NAME."
            )
        return record.name
    reason = why_refused(record)
    if reason is not None:
        options = " ".join(options_for(record, name="NAME", checkpoint="FILE"))
        argument = "backbone=NAME" if record.checkpoint is None else "checkpoint=FILE"
        raise ConfigError(
            f"the pack {pack} asks for {reason}. A pack may not choose what is loaded from your disk or the hub.\n"
            f"Next: name the backbone yourself if you trust it: {options} (Python: "
            f"lpt.load_predictor(pack, {argument})). Its sha256 over tensors must be {record.weight_hash[:64]}."
        )
    return record.name


def is_plain(name: str) -> bool:
    """Return whether a name has the form of a timm model name: `name` or `name.tag`, no scheme or folder."""
    return len(name) <= _LONGEST and _PLAIN.fullmatch(name) is not None


def why_refused(record: BackboneRecord) -> str | None:
    """Describe what a pack asks for if only the user may name it; None if a pack may name this backbone."""
    if record.checkpoint is None and is_plain(record.name) and record.name not in SHIPPED:
        return _refused_by_timm(record.name)
    return refused_by_form(record)


def refused_by_form(record: BackboneRecord) -> str | None:
    """As `why_refused`, but without timm: any plain name passes."""
    name = record.name
    if record.checkpoint is not None:
        return f"the local weights {_shown(record.checkpoint)} of {_shown(name)}"
    if name in SHIPPED or is_plain(name):
        return None
    return f"the backbone {_shown(name)}, which is no plain timm name"


def _refused_by_timm(name: str) -> str | None:
    """As `why_refused`, for a plain name: timm must know it and load it from its own organisation."""
    import timm

    if not timm.is_model(name):
        return f"the backbone {_shown(name)}, which timm {timm.__version__} does not know"
    try:
        source = timm.models.get_pretrained_cfg(name)
    except RuntimeError:
        return f"the backbone {_shown(name)}, whose tag timm {timm.__version__} does not know"
    if source is None or source.file or source.state_dict or not _TIMMS_OWN.fullmatch(str(source.hf_hub_id)):
        return f"the backbone {_shown(name)}, whose weights are not in timm's own organisation on the hub"
    return None


def hub_repository(record: BackboneRecord) -> str | None:
    """Return the repository of the hub that the weights of a backbone come from; None if they come from elsewhere."""
    if record.checkpoint is not None or record.name in SHIPPED:
        return None
    scheme, colon, place = record.name.partition(":")
    if colon:
        return place.partition("@")[0] if scheme in HUB_SCHEMES else None
    if why_refused(record) is not None:
        return None
    import timm

    return str(timm.models.get_pretrained_cfg(record.name).hf_hub_id)


def needed_options(
    record: BackboneRecord, *, name: str | None = None, checkpoint: str | Path | None = None
) -> list[str]:
    """Return the options that `lpt predict` and `evaluate` need for the backbone of a pack; none if a pack may name it.

    Args:
        record: the backbone's record in the pack.
        name, checkpoint: values of the options; None: those in the record.
    """
    return [] if why_refused(record) is None else options_for(record, name=name, checkpoint=checkpoint)


def options_for(record: BackboneRecord, *, name: str | None = None, checkpoint: str | Path | None = None) -> list[str]:
    """Return the options by which a user names the backbone of a pack; arguments as in `needed_options`."""
    options: list[str] = []
    if record.checkpoint is None or not is_plain(record.name):
        options += ["--backbone", name or record.name]
    if record.checkpoint is not None:
        options += ["--checkpoint", str(checkpoint or record.checkpoint)]
    return options


def _shown(text: str) -> str:
    """Return text from a pack for a message, shortened and in ASCII."""
    return ascii(text if len(text) <= _LONGEST else text[:_LONGEST] + "...")
