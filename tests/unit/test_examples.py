"""The examples in the docstrings of what `lpt`, `lpt.model` and `lpt.losses` export."""

from __future__ import annotations

import doctest
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import lpt

HAVE_NONE = {"compare", "export", "import_checkpoint", "push", "tune"}
"""Functions that take long, or need a network or a file of the authors: their own tests run them."""


@pytest.fixture
def in_folder(photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder with the data that the examples name."""
    shutil.copytree(photo_folder, tmp_path / "photos")
    for folder, count, brightness in (
        ("new_classes/red", 3, 120),
        *((f"more_photos/{name}", 20, level) for name, level in (("dark", 0), ("grey", 90), ("light", 180))),
    ):
        (tmp_path / folder).mkdir(parents=True)
        for number in range(count):
            pixels = np.random.default_rng(number).integers(0, 40, (40, 40, 3)) + brightness
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / folder / f"{number}.png")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("in_folder")
def test_examples_run_and_print_what_they_say() -> None:
    """Every function has one; they run in one folder, `fit` first, since others use its run."""
    runner, printed = doctest.DocTestRunner(verbose=False), list[str]()
    exported = {
        f"{module.__name__}.{name}": getattr(module, name)
        for module in (lpt, lpt.model, lpt.losses)
        for name in module.__all__
    }
    without = set()
    for name in sorted(exported, key=lambda name: name != "lpt.fit"):
        examples = doctest.DocTestParser().get_doctest(
            exported[name].__doc__ or "", {"lpt": lpt, "torch": torch}, name, None, 0
        )
        if examples.examples:
            runner.run(examples, out=printed.append)
        elif callable(exported[name]) and not isinstance(exported[name], type):
            without.add(name)
    assert not printed, "".join(printed)
    assert {name.removeprefix("lpt.") for name in without if name.count(".") == 1} == HAVE_NONE
