r"""A naturally uneven folder of pictures: emoji by their Unicode subcategory, drawn by two foundries.

    python -m benchmarks.emoji_folder runs/emoji_pictures
    lpt compare runs/emoji_pictures/noto --output runs/emoji --holdout 0.3 --seeds 0,1,2 --preset laptop \
        --set image.size=96
    lpt evaluate runs/emoji/runs/lpt/seed0 runs/emoji_pictures/noto --shift runs/emoji_pictures/twemoji

99 classes (`country-flag` has 259 pictures, many have fewer than ten, one has one): nobody made them uneven for an
experiment. Pictures come from the npm registry (emoji-datasource-google and -twitter 16.0.0, checked by their
checksums): Noto's under the Apache License 2.0, Twemoji's under CC-BY 4.0. Skin tones are left out: they would put the
same drawing on both sides of a split.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import re
import tarfile
import urllib.request
from pathlib import Path

REGISTRY = "https://registry.npmjs.org/emoji-datasource-{name}/-/emoji-datasource-{name}-16.0.0.tgz"
FOUNDRIES = {"google": "noto", "twitter": "twemoji"}
SHA1 = {"google": "a80ac3e8106cbd4d8648ce758aa099e8827b6157", "twitter": "e2bd39a8acb77e158106f8249dd7b4cd93fa1b14"}


def fetched(name: str, cache: Path) -> tarfile.TarFile:
    """A foundry's package, from the cache or the registry."""
    path = cache / f"{name}.tgz"
    if not path.exists():
        with urllib.request.urlopen(REGISTRY.format(name=name)) as answer:
            content = answer.read()
        path.write_bytes(content)
    content = path.read_bytes()
    if hashlib.sha1(content).hexdigest() != SHA1[name]:
        raise SystemExit(f"{path} is not the package that was published: delete it and start again")
    return tarfile.open(fileobj=io.BytesIO(content))


def unpack(name: str, package: tarfile.TarFile, target: Path) -> int:
    """Write a foundry's pictures into a folder for each subcategory; how many there are."""
    described = package.extractfile("package/emoji.json")
    assert described is not None
    count = 0
    for emoji in json.load(described):
        if not emoji[f"has_img_{name}"]:
            continue
        picture = package.extractfile(f"package/img/{name}/64/{emoji['image']}")
        assert picture is not None
        folder = target / re.sub(r"[^a-z-]+", "-", emoji["subcategory"].lower())
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{emoji['short_name']}.png").write_bytes(picture.read())
        count += 1
    return count


def main() -> None:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    for name, foundry in FOUNDRIES.items():
        target = args.folder / foundry
        count = unpack(name, fetched(name, args.folder), target)
        print(f"{target}: {count:,} pictures of {len(list(target.iterdir()))} classes")


if __name__ == "__main__":
    main()
