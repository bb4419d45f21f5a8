"""The run folder that a request asks for: check it before anything takes long, or choose one."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from lpt.commands.fit.request import RunRequest, gather_values
from lpt.commands.inputs import config_file, inputs_of
from lpt.config.schema import RunConfig
from lpt.system.owned import Input
from lpt.training.folder import RunFolder


def check_output(request: RunRequest) -> None:
    """Raise `RunError` if a run cannot have the folder that it asks for."""
    folder = request.folder
    if folder is None:
        return

    def inputs() -> Iterable[Input]:
        values = gather_values(request, needs_source=False)
        return inputs_of(values, config_file(request.config), request.splits)

    RunFolder.check_free(folder, overwrite=request.overwrite, inputs=inputs)


def default_output(config: RunConfig) -> Path:
    """Return a new folder under `runs/`, named after the data and the time."""
    source = str(config.data.source or "data").removeprefix("hf:").partition(":")[0]
    return Path("runs") / f"{Path(source).stem or 'data'}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
