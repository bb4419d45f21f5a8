"""What a command reads from files: it must not lie in a folder that is emptied for the results."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub.constants import HF_HUB_CACHE
from pydantic import ValidationError

from lpt.commands.fit.request import Data, Settings, gather_values, section
from lpt.config.schema import DataConfig
from lpt.data.cache import source_of
from lpt.data.decoding import ImageError
from lpt.data.images import ColumnImages, FileImages
from lpt.data.manifest import ImageSource, Splits
from lpt.data.sources.huggingface import PREFIX, parse_spec
from lpt.data.sources.opening import read_source
from lpt.errors import DataError
from lpt.model.pretrained import SHIPPED
from lpt.system.owned import Input
from lpt.training.folder import RunFolder


def check_output(
    data: Data | None,
    output: Path,
    overwrite: bool,
    config: str | Path | Mapping[str, Any] | None,
    settings: Settings | None,
) -> None:
    """Raise `RunError` if a run with these arguments of `lpt.fit` cannot have its folder; nothing long is done."""
    splits = data if isinstance(data, Splits) else None

    def inputs() -> Iterable[Input]:
        values = gather_values(data, {}, config, settings, needs_source=False)
        return inputs_of(values, config_file(config), splits)

    RunFolder.check_free(output, overwrite=overwrite, inputs=inputs)


def config_file(config: str | Path | Mapping[str, Any] | None) -> Path | None:
    """The file that a configuration is read from, if it is one."""
    return None if config is None or isinstance(config, Mapping) else Path(config)


def inputs_of(values: Mapping[str, Any], config: Path | None, splits: Splits | None = None) -> Iterator[Input]:
    """Everything that a run with these values reads from files.

    Args:
        values: a configuration, perhaps not checked yet.
        config: the file it was read from.
        splits: the images where they are opened; None: they are listed, as far as their sources can be read.
    """
    data, backbone = (section(values, name) for name in ("data", "backbone"))
    if config is not None:
        yield Input("the configuration", config)
    specs = {f"data.{name}": data[name] for name in ("source", "validation", "test") if isinstance(data.get(name), str)}
    for name, spec in specs.items():
        if (path := _local(spec)).exists():
            yield Input(f"the data ({name})", path)
    if data.get("image_root"):
        yield Input("the folder of the images (data.image_root)", Path(data["image_root"]))
    checkpoint = backbone.get("checkpoint") or SHIPPED.get(str(backbone.get("name")))
    weights = (HF_HUB_CACHE,) if checkpoint is None else (checkpoint, Path(checkpoint).with_suffix(".json"))
    yield from (Input("the backbone's file", Path(path)) for path in weights if Path(path).exists())
    for source in _opened(splits) if splits is not None else _listed(data, specs.values()):
        yield from (Input("an image of the data", path) for path in _files(source))


def _local(spec: str) -> Path:
    """The path that a source is read from, if it is a local one."""
    if spec.startswith(PREFIX):
        try:
            spec = parse_spec(spec)[0]
        except DataError:
            spec = spec.removeprefix(PREFIX)
    return Path(spec).expanduser()


def _files(source: ImageSource) -> Iterator[Path]:
    """The files that images are in, where they are in files of their own."""
    if not isinstance(source, FileImages | ColumnImages):
        return
    for row in range(len(source)):
        with contextlib.suppress(ImageError):  # told where the image is read
            stored = source.encoded(row)
            if isinstance(stored, bytes):
                return
            yield stored


def _opened(splits: Splits) -> list[ImageSource]:
    found = (images.source for images in (splits.train, splits.validation, splits.test) if images is not None)
    return list({id(source): source for source in map(source_of, found)}.values())


def _listed(data: Mapping[str, Any], specs: Iterable[str]) -> Iterator[ImageSource]:
    """The sources of images; what is wrong with one is told where it is opened to be used."""
    for spec in specs:
        try:
            raw = read_source(spec, DataConfig(**data))
        except (DataError, ValidationError):
            continue
        yield from {id(part.source): part.source for part in raw.splits.values()}.values()
