"""Make a folder of pictures such as people have: uneven classes, mixed sizes and formats, some files broken.

The pictures are CIFAR-100's, enlarged to 40-160 pixels. Most become JPEGs; a few become greyscale PNGs, CMYK JPEGs,
or JPEGs that are stored sideways with an EXIF note, as phones do. The result has a folder `train` whose classes shrink
from 60 to 3 pictures, and a folder `test` with the same number of each:

    python examples/make_photo_folder.py photos --source hf:../shared/data/cifar100 --broken 4
    lpt doctor photos
    lpt fit photos --bad-images skip
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from lpt.config.schema import DataConfig
from lpt.data.longtail import long_tailed_counts
from lpt.data.manifest import LabelledImages
from lpt.data.sources import open_splits
from lpt.errors import LptError

CLASSES = (
    "sunflower", "bicycle", "tractor", "orange", "castle", "butterfly",
    "fox", "lamp", "turtle", "mushroom", "rocket", "lobster",
)  # fmt: skip
SIDES = (40, 160)
KINDS = ("plain", "sideways", "grey", "cmyk")
SHARES = (0.8, 0.1, 0.06, 0.04)
BROKEN = ("empty.jpg", "half.jpg", "web_page.jpg", "text.png")


def main() -> int:
    arguments = parse_arguments()
    out: Path = arguments.out
    if out.exists() and any(out.iterdir()):
        print(f"{out} is there already and not empty: remove it or give another folder", file=sys.stderr)
        return 2
    try:
        splits = open_splits(DataConfig(source=arguments.source), seed=arguments.seed)
        counts = long_tailed_counts(len(CLASSES), arguments.largest, arguments.largest / arguments.smallest).tolist()
    except LptError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    rng = np.random.default_rng(arguments.seed)
    write_split(splits.train, out / "train", counts, rng)
    if splits.test is not None:
        write_split(splits.test, out / "test", [arguments.test] * len(CLASSES), rng)
    write_broken(out / "train", arguments.broken)
    print(f"{out}: {len(CLASSES)} classes of {counts[0]} to {counts[-1]} pictures, {arguments.broken} broken files")
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, help="folder to make")
    parser.add_argument(
        "--source", default="hf:uoft-cs/cifar100:img:fine_label", help="CIFAR-100, as hf:NAME_OR_FOLDER"
    )
    parser.add_argument("--largest", type=int, default=60, help="training pictures of the first class (default 60)")
    parser.add_argument("--smallest", type=int, default=3, help="training pictures of the last class (default 3)")
    parser.add_argument("--test", type=int, default=20, help="test pictures of each class (default 20)")
    parser.add_argument("--broken", type=int, default=0, help="broken files to add (default 0)")
    parser.add_argument("--seed", type=int, default=0, help="seed of every choice (default 0)")
    return parser.parse_args()


def write_split(images: LabelledImages, folder: Path, counts: list[int], rng: np.random.Generator) -> None:
    """Write so many pictures of each class into folders of their own."""
    for name, count in zip(CLASSES, counts, strict=True):
        (folder / name).mkdir(parents=True)
        of_class = np.flatnonzero(images.labels == images.class_names.index(name))
        for number, index in enumerate(rng.choice(of_class, count, replace=False).tolist()):
            kind = str(rng.choice(KINDS, p=SHARES))
            ending = "png" if kind == "grey" else "jpg"
            (folder / name / f"IMG_{number:04d}.{ending}").write_bytes(as_stored(images.read(index), kind, rng))


def as_stored(picture: Image.Image, kind: str, rng: np.random.Generator) -> bytes:
    """A file's bytes: the picture enlarged to a random size and stored in one of the ways people's pictures are."""
    width, height = rng.integers(*SIDES, size=2, endpoint=True).tolist()
    picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    if kind == "grey":
        picture.convert("L").save(stream, "PNG")
    elif kind == "cmyk":
        picture.convert("CMYK").save(stream, "JPEG", quality=90)
    elif kind == "sideways":
        exif = Image.Exif()
        exif[0x0112] = 6  # turn it by 90 degrees clockwise to see it upright
        picture.transpose(Image.Transpose.ROTATE_90).save(stream, "JPEG", quality=90, exif=exif)
    else:
        picture.save(stream, "JPEG", quality=int(rng.integers(80, 96)))
    return stream.getvalue()


def write_broken(folder: Path, count: int) -> None:
    """Add files that look like pictures and are none, to one class after the other."""
    for number in range(count):
        name = BROKEN[number % len(BROKEN)]
        place = folder / CLASSES[number % len(CLASSES)]
        good = min(place.glob("IMG_*.jpg")).read_bytes()
        contents = {
            "empty.jpg": b"",
            "half.jpg": good[: len(good) // 2],
            "web_page.jpg": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
            "text.png": b"a text that somebody renamed",
        }
        (place / f"{number:03d}_{name}").write_bytes(contents[name])


if __name__ == "__main__":
    sys.exit(main())
