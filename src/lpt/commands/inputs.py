"""The images that a command opens, and the files that it reads: they must not lie in a folder that is emptied."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub.constants import HF_HUB_CACHE
from pydantic import ValidationError

from lpt.config.schema import DataConfig
from lpt.config.values import section
from lpt.data.cache import source_of
from lpt.data.decoding import ImageError
from lpt.data.images import ColumnImages, FileImages
from lpt.data.manifest import ImageSource, Splits
from lpt.data.sources.huggingface import PREFIX, parse_spec
from lpt.data.sources.opening import read_source
from lpt.errors import DataError
from lpt.model.record import FOLDER_SCHEME, SHIPPED
from lpt.system.owned import Input


def config_file(config: str | Path | Mapping[str, Any] | None) -> Path | None:
    """Return the file that a configuration is read from, if there is one."""
    return None if config is None or isinstance(config, Mapping) else Path(config)


def data_settings(
    image_root: str | Path | None,
    image_column: str | None,
    label_column: str | None,
    split_column: str | None,
    bad_images: str,
    max_pixels: int,
) -> dict[str, Any]:
    """Return the fields of the `data` section that say how a source is read."""
    return {
        "image_root": None if image_root is None else Path(image_root),
        "image_column": image_column,
        "label_column": label_column,
        "split_column": split_column,
        "bad_images": bad_images,
        "max_pixels": max_pixels,
    }


def inputs_of(values: Mapping[str, Any], config: Path | None, splits: Splits | None = None) -> Iterator[Input]:
    """List every file and folder that a run with these values reads.

    Args:
        values: a configuration that need not be checked yet.
        config: the file that it was read from.
        splits: the images, if they are opened already. None: list them, as far as their sources can be read.
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
    name = str(backbone.get("name"))
    checkpoint = backbone.get("checkpoint") or SHIPPED.get(name)
    weights = (HF_HUB_CACHE,) if checkpoint is None else (checkpoint, Path(checkpoint).with_suffix(".json"))
    if name.startswith(f"{FOLDER_SCHEME}:"):
        weights = (name.partition(":")[2], *weights)
    yield from (Input("the backbone's file", Path(path)) for path in weights if Path(path).exists())
    for source in _opened(splits) if splits is not None else _listed(data, specs.values()):
        yield from (Input("an image of the data", path) for path in _files(source))


def _local(spec: str) -> Path:
    """Return the path that a source is read from, if it is a local one."""
    if spec.startswith(PREFIX):
        try:
            spec = parse_spec(spec)[0]
        except DataError:
            spec = spec.removeprefix(PREFIX)
    return Path(spec).expanduser()


def _files(source: ImageSource) -> Iterator[Path]:
    """List the image files of a source. A source that holds all images in itself has none."""
    if not isinstance(source, FileImages | ColumnImages):
        return
    for row in range(len(source)):
        with contextlib.suppress(ImageError):  # reading the image reports it
            stored = source.encoded(row)
            if isinstance(stored, bytes):
                return
            yield stored


def _opened(splits: Splits) -> list[ImageSource]:
    """Return the sources of opened splits, each once."""
    sources = [source_of(split.source) for split in (splits.train, splits.validation, splits.test) if split is not None]
    return list({id(source): source for source in sources}.values())


def _listed(data: Mapping[str, Any], specs: Iterable[str]) -> Iterator[ImageSource]:
    """List the sources of images that can be read. Opening a bad one for use reports what is wrong with it."""
    for spec in specs:
        try:
            raw = read_source(spec, DataConfig(**data), needs_split=False)
        except (DataError, ValidationError):
            continue
        yield from {id(part.source): part.source for part in raw.splits.values()}.values()
