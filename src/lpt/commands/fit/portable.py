"""The settings of a run as its pack stores them: the same wherever it was run, without the author's folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lpt.commands.fit.prepare import with_absolute_paths
from lpt.config.schema import RunConfig
from lpt.data.manifest import Splits
from lpt.data.sources.portable import portable_source
from lpt.model.record import portable_name
from lpt.system.files import last_part


def portable_settings(config: RunConfig, splits: Splits) -> dict[str, Any]:
    """Return the configuration with only the last part of every path; a resumed run gives the same."""
    config = with_absolute_paths(config, splits)
    data, backbone = config.data, config.backbone
    data.source = portable_source(data.source)
    data.test, data.validation = (
        portable_source(value) if isinstance(value, str) else value for value in (data.test, data.validation)
    )
    data.image_root = data.image_root and Path(last_part(data.image_root))
    backbone.checkpoint = backbone.checkpoint and Path(last_part(backbone.checkpoint))
    backbone.name = portable_name(backbone.name)
    return config.model_dump(mode="json")
