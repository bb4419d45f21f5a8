"""Draw a contact sheet of every corruption at severities 1, 3 and 5, on a drawn picture and a small or real one.

python -m benchmarks.documents.corruption_sheet docs/images/corruptions.jpg
python -m benchmarks.documents.corruption_sheet sheet.png --data hf:../shared/data/cifar100:img:fine_label --row 3
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lpt.config.schema import DataConfig
from lpt.data.sources import open_images
from lpt.evaluation.corruptions import CORRUPTIONS, corrupt
from lpt.evaluation.corruptions.fields import cloud_field
from lpt.system.files import write_bytes

TILE, GAP, LABEL, PER_ROW = 96, 4, 18, 2
SHOWN = (1, 3, 5)


def photograph_like(side: int = 224) -> Image.Image:
    """Draw a landscape with sky, hills, a textured field, a house and a tree: smooth parts, texture, edges, colours."""
    rng = np.random.Generator(np.random.PCG64(7))
    y, x = np.meshgrid(np.linspace(0, 1, side), np.linspace(0, 1, side), indexing="ij")
    clouds = cloud_field((side, side), rng)
    grain = rng.standard_normal((side, side))
    sky = np.stack([0.45 + 0.3 * y, 0.62 + 0.25 * y, 0.88 + 0.05 * y], axis=2)
    sky += np.clip(clouds, 0, 2)[..., None] * 0.12
    hills = np.stack([0.25 + 0 * y, 0.38 + 0.1 * clouds * 0.3, 0.32 + 0 * y], axis=2)
    field = np.stack([0.42 + 0.1 * grain * 0.5, 0.55 + 0.14 * grain * 0.5, 0.2 + 0.05 * grain], axis=2)
    picture = np.where((y > 0.5 + 0.07 * np.sin(7 * x) + 0.04 * np.sin(17 * x))[..., None], hills, sky)
    picture = np.where((y > 0.66 + 0.03 * np.sin(5 * x + 1))[..., None], field, picture)
    image = Image.fromarray((picture.clip(0, 1) * 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    unit = side / 224

    def scaled(*points: tuple[int, int]) -> list[tuple[float, float]]:
        return [(px * unit, py * unit) for px, py in points]

    draw.rectangle(scaled((118, 120), (190, 178)), fill=(214, 190, 158))
    draw.polygon(scaled((110, 122), (154, 84), (198, 122)), fill=(160, 52, 40))
    draw.rectangle(scaled((146, 146), (162, 178)), fill=(82, 52, 34))
    for left in (126, 170):
        draw.rectangle(scaled((left, 132), (left + 12, 144)), fill=(60, 84, 120), outline=(240, 240, 240))
    draw.rectangle(scaled((50, 130), (58, 184)), fill=(84, 60, 40))
    draw.ellipse(scaled((24, 74), (84, 142)), fill=(38, 96, 44))
    draw.ellipse(scaled((188, 20), (210, 42)), fill=(252, 236, 150))
    return image


def sheet(pictures: list[Image.Image]) -> Image.Image:
    """Put all kinds on one page, `PER_ROW` beside each other, each with a row of severities for every picture."""
    font = ImageFont.load_default(12)
    columns = len(pictures) * len(SHOWN)
    width, height = columns * (TILE + GAP) + 2 * GAP, TILE + GAP + LABEL
    rows = -(-len(CORRUPTIONS) // PER_ROW) + 1
    page = Image.new("RGB", (PER_ROW * (width + 3 * GAP), rows * height), "white")
    draw = ImageDraw.Draw(page)
    draw.text((GAP, 2), "originals", fill="black", font=font)
    for index, picture in enumerate(pictures):
        page.paste(picture.resize((TILE, TILE), Image.Resampling.NEAREST), (GAP + index * (TILE + GAP), LABEL))
    for number, (kind, corruption) in enumerate(CORRUPTIONS.items()):
        left, top = number % PER_ROW * (width + 3 * GAP) + GAP, (1 + number // PER_ROW) * height
        shown = ", ".join(map(str, SHOWN))
        draw.text((left, top + 2), f"{kind} ({corruption.family}), severity {shown}", fill="black", font=font)
        for index, picture in enumerate(pictures):
            for place, severity in enumerate(SHOWN):
                corrupted = corrupt(picture, kind, severity, seed=0, position=index)
                resample = Image.Resampling.NEAREST if picture.width <= TILE else Image.Resampling.LANCZOS
                tile = corrupted.resize((TILE, TILE), resample)
                page.paste(tile, (left + (index * len(SHOWN) + place) * (TILE + GAP), top + LABEL))
    return page


def main() -> None:
    """Draw the sheet and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="PNG or JPEG to write")
    parser.add_argument("--data", help="labelled images; one of the test split takes the place of the small picture")
    parser.add_argument("--row", type=int, default=0, help="which image of it")
    arguments = parser.parse_args()
    pictures = [photograph_like(), photograph_like().resize((32, 32), Image.Resampling.BOX)]
    if arguments.data:
        pictures[1] = open_images(arguments.data, DataConfig()).images.read(arguments.row)
    stored = io.BytesIO()
    form = "JPEG" if arguments.output.suffix.lower() in (".jpg", ".jpeg") else "PNG"
    sheet(pictures).save(stored, form, quality=78)
    write_bytes(arguments.output, stored.getvalue())


if __name__ == "__main__":
    main()
