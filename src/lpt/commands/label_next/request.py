"""What `lpt label-next` is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lpt.config.bounds import MAX_PIXELS

LIST = Path("label_next.csv")
"""Where the list is written by default."""


@dataclass(frozen=True)
class LabelNextRequest:
    """A pack, pictures without labels, and how many of them to label next.

    Args:
        pack: the pack folder, a run folder that holds one, or an address on the hub.
        images: files, folders, tables and lists of images, and patterns of them.
        number: how many pictures to choose.
        output: the .csv file of the list; the contact sheet is the .html file of the same name beside it.
        labelled: files, folders, tables and lists of images that are labelled already and are left out.
        sheet: whether the contact sheet is drawn.
        bad_images: `stop` at an image that cannot be read, `skip` it, or `repair` JPEGs that lack their last bytes.
        max_pixels: most pixels of an image; a larger one counts as one that cannot be read.
        image_root: folder that relative paths of tables and lists start from.
        image_column: column of images in a table; None: found by name.
        backbone, checkpoint, device, precision: as for `Predictor`.
        batch_size: images in a forward pass.
    """

    pack: str | Path
    images: tuple[Path, ...]
    number: int = 100
    output: Path = LIST
    labelled: tuple[Path, ...] = ()
    sheet: bool = True
    bad_images: str = "skip"
    max_pixels: int = MAX_PIXELS
    image_root: Path | None = None
    image_column: str | None = None
    backbone: str | None = None
    checkpoint: Path | None = None
    device: str = "auto"
    precision: str = "auto"
    batch_size: int = 32
