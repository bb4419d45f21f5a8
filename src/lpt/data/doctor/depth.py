"""The finding about images of more than 8 bits that use part of their range."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lpt.data.depth import FEW_LEVELS, find_deep
from lpt.data.doctor.findings import Finding
from lpt.data.manifest import LabelledImages
from lpt.system.text import plural

_EXAMPLES = 5
_HEADERS, _DECODED = 2_000, 200


def depth_findings(splits: Sequence[LabelledImages], *, decode: bool, workers: int | None) -> Iterable[Finding]:
    """Yield a warning if images of more than 8 bits become a few grey levels in 8 bits.

    Args:
        splits: where to look.
        decode: look at every image; otherwise at 2,000 headers and 200 deep images, evenly spread.
        workers: threads; None: one for each core this process may use.
    """
    limits = (None, None) if decode else (_HEADERS, _DECODED)
    depths = find_deep(splits, headers=limits[0], decoded=limits[1], workers=workers)
    shallow = depths.shallow
    if not shallow:
        return
    largest = max(used.high for _, used in shallow)
    sample = " looked at" if depths.sampled else ""
    yield Finding(
        "warning",
        f"{len(shallow):,} of the {plural(len(depths.ranges), 'image')} of more than 8 bits{sample} use part of their "
        f"range: fewer than {FEW_LEVELS} grey levels are left of them in 8 bits, {shallow[0][1].levels} in the worst.",
        "The network sees next to nothing in them.",
        "Set the value that is to be white, for training and wherever the pack is used: --set image.white=auto takes "
        f"the largest of the training images; the largest here is {largest:g}.",
        tuple(f"{name}: {used.low:g} to {used.high:g}, white is {used.white:g}" for name, used in shallow[:_EXAMPLES])
        + ((f"and {len(shallow) - _EXAMPLES:,} more",) if len(shallow) > _EXAMPLES else ()),
    )
