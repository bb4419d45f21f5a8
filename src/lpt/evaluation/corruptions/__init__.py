"""Common corruptions of pictures, in 20 kinds and five severities (after Hendrycks and Dietterich, ICLR 2019)."""

from lpt.evaluation.corruptions.registry import (
    CORRUPTIONS,
    FAMILIES,
    SEVERITIES,
    VERSION,
    CorruptedImages,
    Corruption,
    ReducedImages,
    corrupt,
    find_kinds,
    find_severities,
)

__all__ = [
    "CORRUPTIONS",
    "FAMILIES",
    "SEVERITIES",
    "VERSION",
    "CorruptedImages",
    "Corruption",
    "ReducedImages",
    "corrupt",
    "find_kinds",
    "find_severities",
]
