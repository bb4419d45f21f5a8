"""What a run was started with: its facts in run.json, and whether a resumed run still has them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from lpt.commands.fit.disk import check_disk, disk_left
from lpt.commands.fit.prepare import Prepared
from lpt.data.fingerprint import data_fingerprint
from lpt.errors import RunError
from lpt.packs.info import Versions
from lpt.system.files import remove_leftovers
from lpt.system.invocation import typed_command
from lpt.system.text import shorten
from lpt.training.folder import RunFolder


def check_unchanged(prepared: Prepared, run: RunFolder, console: Console) -> None:
    """Make the folder of a run ready to go on.

    Raises:
        RunError: the images or the backbone's weights are not those that the run was started with.
    """
    for folder in (run.path, run.checkpoints):
        remove_leftovers(folder)
    run.checkpoints.mkdir(exist_ok=True)  # a kill right after the start may have left none
    check_disk(run.path, disk_left(prepared, run))
    before, now = run.start_facts(), start_facts(prepared)
    _check_images(before, now, run)
    if before["backbone_sha256"] != now["backbone_sha256"]:
        raise RunError(
            f"the backbone's weights are not those {run.path} was started with (sha256 "
            f"{now['backbone_sha256'][:12]}, were {before['backbone_sha256'][:12]}). Restore them, or start a new run."
        )
    former = before["versions"]
    changed = [
        f"{name} {former.get(name)} -> {version}"
        for name, version in now["versions"].items() if former.get(name) != version
    ]  # fmt: skip
    if changed:
        console.print(
            f"[yellow]Other library versions than before: {', '.join(changed)}; the pack may differ in rounding."
        )


def _check_images(before: Mapping[str, Any], now: Mapping[str, Any], run: RunFolder) -> None:
    """Raise `RunError` if training, validation or test images are not those of the start; say which classes differ."""
    changed = ["training"] if before["data_sha256"] != now["data_sha256"] else []
    former = before.get("measured_images")
    if former is not None:  # run.json of an earlier version has none
        names = sorted({*former, *now["measured_images"]})
        changed += [name for name in names if former.get(name) != now["measured_images"].get(name)]
    if not changed:
        return
    counts, there = before.get("class_counts"), now["class_counts"]
    classes = [] if not isinstance(counts, dict) else [
        f"{name}: {counts.get(name, 0)} training images then, {there.get(name, 0)} now"
        for name in {**counts, **there} if counts.get(name, 0) != there.get(name, 0)
    ]  # fmt: skip
    raise RunError(
        f"the images are not those {run.path} was started on ({', '.join(changed)}; fingerprint "
        f"{now['data_sha256'][:12]}, was {before['data_sha256'][:12]}): files were added, removed, renamed or changed"
        f"{f' ({shorten(classes)})' if classes else ''}. Put them back as they were, or name a copy of that state: "
        f"lpt fit DATA --resume {shlex.quote(str(run.path))}. To go on without them, start a new run: lpt fit --config "
        f"{shlex.quote(str(run.config))} --output FOLDER"
    )


def start_facts(prepared: Prepared) -> dict[str, Any]:
    """Return what run.json says of a run: fingerprints of data and backbone, versions, machine, command."""
    train = prepared.splits.train
    return {
        "data_sha256": data_fingerprint(train),
        "measured_images": {
            name: data_fingerprint(images)
            for name, images in (("validation", prepared.splits.validation), ("test", prepared.splits.test))
            if images is not None
        },
        "class_counts": dict(zip(prepared.splits.class_names, train.class_counts.tolist(), strict=True)),
        "backbone_sha256": prepared.backbone.record.weight_hash,
        "versions": Versions.here().model_dump(),
        "machine": prepared.machine.describe(),
        "command": typed_command(),
        "started": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
    }
