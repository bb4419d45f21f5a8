"""Import matplotlib whatever the environment says about its windows."""

from __future__ import annotations

import contextlib
import os
import sys

BACKEND = "MPLBACKEND"
AGG = "agg"


def import_matplotlib() -> None:
    """Import matplotlib where MPLBACKEND could prevent it; do nothing if it is imported, or not installed.

    Notebooks give MPLBACKEND to all processes that they start. Matplotlib refuses to be imported if that names
    something that is not installed here. LPT draws into files and needs no window. A backend that can be used stays
    the one of pyplot.
    """
    backend = os.environ.get(BACKEND, "")
    if backend.lower() in ("", AGG) or "matplotlib" in sys.modules:
        return
    del os.environ[BACKEND]
    try:
        import matplotlib
    except ModuleNotFoundError:  # the extra `train`; whoever draws says so
        return
    finally:
        os.environ[BACKEND] = backend
    with contextlib.suppress(ValueError):
        matplotlib.rcParams["backend"] = backend
