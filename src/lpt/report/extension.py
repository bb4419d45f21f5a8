"""Print the result of `lpt extend`: the new pack, and what the classes that were there before lose."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from lpt.evaluation.extension import OldClasses
from lpt.model.consent import needed_options
from lpt.packs.pack import Pack
from lpt.report.tables import accuracy_table, metrics_table, percent
from lpt.system.text import plural, shorten

_SHOWN = 5


def print_extension(
    pack: Pack,
    old_classes: OldClasses | None,
    *,
    new_right: int,
    new_judged: int,
    notes: Sequence[str],
    skipped: Sequence[tuple[str, str]],
    lost_threshold: bool,
    console: Console,
) -> None:
    """Print the new classes, what the others lose, and the next command.

    Args:
        pack: the new pack.
        old_classes: what the other classes lose; None: not measured.
        new_right, new_judged: pictures of new classes that are right when left out of their row, of how many.
        notes: what to know about the pictures.
        skipped: pictures that cannot be read, as (name, reason).
        lost_threshold: whether the pack had a threshold for `--reject` before.
        console: where to print.
    """
    for note in notes:
        console.print(note, style="yellow", markup=False)
    for name, reason in skipped[:_SHOWN]:
        console.print(f"  {name}: {reason}", style="yellow", markup=False)
    _print_new(pack, console)
    if new_judged:
        console.print(
            f"New classes: {percent(new_right / new_judged)} % of {plural(new_judged, 'picture')} are right, each "
            "left out of the row of its class.",
            markup=False,
        )
    else:
        console.print("New classes: not measured, which takes a second picture of a class.", markup=False)
    if old_classes is None:
        console.print(
            "What the other classes lose was not measured. Give labelled pictures of them that the pack was not "
            "trained on, and the scale is chosen on these too: --known SOURCE.",
            style="yellow",
            markup=False,
        )
    else:
        _print_losses(old_classes, console)
    if lost_threshold:
        console.print(
            "The threshold for --reject was that of the other classes: the new pack has none until lpt calibrate gives "
            "it one.",
            style="yellow",
            markup=False,
        )
    console.print(f"Pack: {pack.path} ({pack.stored_bytes / 2**20:.2f} MiB)", markup=False)
    options = needed_options(pack.info.backbone)
    console.print(f"Next: {shlex.join(['lpt', 'predict', str(pack.path), 'IMAGE_OR_FOLDER', *options])}", markup=False)


def _print_new(pack: Pack, console: Console) -> None:
    info = pack.info
    addition = info.additions[-1]
    counts, names = info.class_counts[-addition.classes :], info.class_names[-addition.classes :]
    fewest = f" ({min(counts):,} to {max(counts):,} a class)" if len(counts) > 1 else ""
    console.print(
        f"Added {plural(addition.classes, 'class')} to {len(info.class_names) - addition.classes:,}: {shorten(names)}. "
        f"They are made of {plural(sum(counts), 'picture')}{fewest}.",
        markup=False,
    )
    scales = pack.tensors["head.scale"][-addition.classes :]
    low, high = float(scales.min()), float(scales.max())
    shown = f"{low:.3f}" if high - low < 5e-4 else f"{low:.3f} to {high:.3f}"
    console.print(f"Scale of their cosines: {shown}, chosen {addition.chosen}.", markup=False)


def _print_losses(old: OldClasses, console: Console) -> None:
    console.print(metrics_table({"other classes, before": old.before, "other classes, now": old.after}))
    if not old.losses:
        console.print("None of the other classes loses.", markup=False)
        return
    table = accuracy_table("class that loses most")
    for name in ("pictures", "before, %", "now, %"):
        table.add_column(name, justify="right")
    table.add_column("most go to")
    for loss in old.losses:
        taken = f"{loss.taken_by} ({loss.taken:,})" if loss.taken else "classes that were there"
        table.add_row(
            Text(loss.name), f"{loss.images:,}", percent(loss.before), percent(loss.after), Text(taken)
        )  # fmt: skip
    console.print(table)
