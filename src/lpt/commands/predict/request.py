"""What `lpt predict` is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lpt.commands.predict.shards import SHARD_SIZE
from lpt.commands.prior import Prior
from lpt.config.bounds import MAX_PIXELS


@dataclass(frozen=True)
class PredictRequest:
    """A pack, and the images to classify with it.

    Args:
        pack: the pack folder, a run folder that holds one, or an address on the hub.
        images: files, folders, tables and lists of images, and patterns of them.
        output: a .csv, .jsonl or .parquet file. It appears when it is complete, in place of one that an earlier call
            wrote. None: CSV on standard output.
        top_k: how many classes to give for an image.
        prior: CSV file of class and share, `even` or `training`; None: as the pack's probabilities take the classes.
        skip_bad: leave out images that cannot be read, instead of stopping.
        repair: take a JPEG that lacks its last bytes as far as it goes.
        max_pixels: most pixels of an image; a larger one counts as one that cannot be read.
        engine, backbone, checkpoint, device, precision: as for `lpt.load_predictor`.
        batch_size: images in a forward pass.
        shard_size: images of a shard.
        image_root: folder that relative paths of tables and lists start from.
        image_column: column of images in a table; None: found by name.
        ray: divide the shards among the nodes of a Ray cluster: that of `RAY_ADDRESS`, or this machine.
        reject: say for each image whether it shows none of the classes, by the threshold of the pack.
    """

    pack: str | Path
    images: tuple[Path, ...]
    output: Path | None = None
    top_k: int = 5
    prior: Prior | None = None
    skip_bad: bool = False
    repair: bool = False
    max_pixels: int = MAX_PIXELS
    engine: str = "auto"
    backbone: str | None = None
    checkpoint: Path | None = None
    device: str = "auto"
    precision: str = "auto"
    batch_size: int = 32
    shard_size: int = SHARD_SIZE
    image_root: Path | None = None
    image_column: str | None = None
    ray: bool = False
    reject: bool = False
