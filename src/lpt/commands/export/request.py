"""What an export is asked for, and where its files go."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lpt.errors import ConfigError
from lpt.system.packages import install_command

_NEEDED = ("torch", "timm", "onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class ExportRequest:
    """A pack to export whole, or a backbone that any of its packs runs on.

    Args:
        output: folder for the files.
        pack: the pack folder, a run folder that holds one, or its address on the hub; None: export the backbone alone.
        backbone: name of the backbone, or a pack that names it; None: the one that `pack` names.
        checkpoint: local weights of that backbone.
        overwrite: replace the export that is in `output`.
        web: write a page that classifies with the pack in a browser.
        runtime: unpacked npm package of ONNX Runtime Web, for the page; None: npm fetches it.
        reject: let the page say which pictures show none of the classes.
    """

    output: Path
    pack: str | Path | None = None
    backbone: str | None = None
    checkpoint: Path | None = None
    overwrite: bool = False
    web: bool = False
    runtime: Path | None = None
    reject: bool = False

    @property
    def inputs(self) -> dict[str, Any]:
        """The configuration of everything that is read from files, except the pack."""
        return {"backbone": {"name": self.backbone, "checkpoint": self.checkpoint}}

    def check(self) -> None:
        """Check that the request names what to export, and that the packages for it are installed.

        Raises:
            ConfigError: it does not, or they are not.
        """
        if self.pack is None and self.backbone is None:
            raise ConfigError(
                "nothing to export: give a PACK to export it whole, or --backbone NAME_OR_PACK (Python: "
                "backbone=NAME_OR_PACK) to export the backbone alone"
            )
        if self.web and self.pack is None:
            raise ConfigError("lpt export --web: give the PACK that the page classifies with")
        if self.runtime is not None and not self.web:
            raise ConfigError("--runtime: only a page needs it; give --web FOLDER too, or leave it out")
        if self.reject and not self.web:
            raise ConfigError(
                "--reject: only a page decides by itself; give --web FOLDER too. model.onnx has the threshold in its "
                "metadata"
            )
        missing = [name for name in _NEEDED if find_spec(name) is None]
        if missing:
            raise ConfigError(
                f"lpt export needs {', '.join(missing)}, which is not installed. Next: {install_command('export')}"
            )
