"""Keep comparisons beyond the machine they run on: put finished cells into docs/results, without their weights.

A comparison of hours is begun on one machine and ended on another. What its tables need of a finished cell (settings,
metrics, predictions of each test image, pack.json) is a zip of about 50 kB in docs/results/NAME/cells/, with plan.json
and inference.json beside it. They are committed. The command that made them puts back those that `runs/` lacks, and
goes on from there. Delete the zips of a recipe or preset that has changed since: such cells are refused.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lpt.commands.compare.compare import compare
from lpt.packs.pack import TENSORS_NAME
from lpt.training.folder import RunFolder

RESULTS = Path("docs/results")
_BESIDE = ("plan.json", "inference.json")
_NEEDED = ("config.yaml", "run.json", "metrics.json", "predictions.csv", "pack/pack.json")
_FILE_DATE = (1980, 1, 1, 0, 0, 0)  # of every file in a zip: the same cell gives the same bytes


def run_comparison(data: Any, folder: Path, target: Path, **options: Any) -> None:
    """Run `lpt compare` and copy tables, plots and finished cells to the results; cells also when it is stopped.

    Args:
        data: as for `lpt.commands.compare.compare.compare`.
        folder: folder of the runs.
        target: folder of the results; cells that it holds are not trained again.
        options: further arguments of `compare`.
    """
    restore(target, folder)
    try:
        compare(data, folder, **options)
    finally:
        keep(folder, target)
    copy_results(folder, target, ("*.md", "*.csv", "comparison.json", "*.png"))


def keep(folder: Path, target: Path) -> None:
    """Write every finished cell of a comparison into its results."""
    cells = target / "cells"
    cells.mkdir(parents=True, exist_ok=True)
    for run in sorted(folder.glob("runs/*/seed*")):
        if not RunFolder(run).finished:
            continue
        path = cells / f"{run.parent.name}_{run.name}.zip"
        with zipfile.ZipFile(path.with_suffix(".part"), "w", zipfile.ZIP_LZMA) as archive:
            for name in _NEEDED:
                archive.writestr(zipfile.ZipInfo(name, _FILE_DATE), (run / name).read_bytes(), zipfile.ZIP_LZMA)
        path.with_suffix(".part").replace(path)
    for path in (folder / name for name in _BESIDE if (folder / name).is_file()):
        shutil.copy2(path, cells / path.name)


def restore(target: Path, folder: Path) -> None:
    """Put back finished cells, and the files beside them, that the folder of runs lacks."""
    cells = target / "cells"
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(cells.glob("*.zip")):
        method, _, seed = path.stem.rpartition("_")
        run = folder / "runs" / method / seed
        if not RunFolder(run).finished:
            shutil.rmtree(run, ignore_errors=True)  # begun here before the finished one came
            with zipfile.ZipFile(path) as archive:
                archive.extractall(run.with_suffix(".part"))
            run.with_suffix(".part").rename(run)
    for path in (cells / name for name in _BESIDE if (cells / name).is_file() and not (folder / name).exists()):
        shutil.copy2(path, folder / path.name)


def has_weights(run: Path) -> bool:
    """Return whether a cell has its weights; one that was put back from the results has none."""
    return (run / "pack" / TENSORS_NAME).is_file()


def copy_results(folder: Path, target: Path, patterns: Sequence[str]) -> None:
    """Copy files whose names match from a folder of runs to the committed results."""
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(path for pattern in patterns for path in folder.glob(pattern)):
        shutil.copy2(path, target / path.name)
    print(f"copied to {target}")
