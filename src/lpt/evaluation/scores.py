"""Check the scores of a model before anything is made of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from lpt.errors import RunError

Floats = npt.NDArray[np.floating]


def check_scores(scores: Floats, name_of: Callable[[int], str], *, model_name: str) -> None:
    """Check that all scores or probabilities [n, C] are finite; argmax would find a class for NaN too.

    Args:
        scores: the table.
        name_of: returns the name of an image by its row.
        model_name: what the error calls the model.

    Raises:
        RunError: a number is not finite; the first such image is named.
    """
    finite: npt.NDArray[np.bool_] = np.asarray(np.isfinite(scores).all(axis=1))
    if finite.all():
        return
    row = int(np.argmin(finite))
    bad_classes = int((~np.isfinite(scores[row])).sum())
    raise RunError(
        f"{model_name} gives scores that are not finite for {int((~finite).sum())} of {len(finite)} images, the first "
        f"being {name_of(row)} ({bad_classes} of {scores.shape[1]} classes). They mean nothing. "
        "Try --device cpu; if it does the same there, train again at a lower rate or in full precision "
        "(--set runtime.precision=fp32)."
    )
