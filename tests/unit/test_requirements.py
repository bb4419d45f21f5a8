"""The lower bounds of pyproject.toml: none is below the lowest release that LPT works with."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

PROJECT: dict[str, Any] = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
LOWEST = {
    "accelerate": "1.0",
    "matplotlib": "3.9",
    "numpy": "1.26",
    "pillow": "10.3",
    "pydantic": "2.7",
    "rich": "14.3",  # --quiet is not silent below
    "timm": "1.0.26",  # unpickles files of strangers below
    "torch": "2.6",  # `weights_only` of torch.load can be got round below
    "typer": "0.19",  # knows no Literal below: no command starts
}
"""Lowest releases that were tried. `make lowest` tries those of the base install again."""
OUTSIDE_ONLY = ("tensorboard", "wandb", "mlflow")
"""Extras of services, which the tests do without."""


def numbers(release: str) -> tuple[int, ...]:
    """The numbers of a release, without zeros at the end: 2.6 and 2.6.0 are equal."""
    result = [int(part) for part in re.match(r"\d+(\.\d+)*", release)[0].split(".")]  # type: ignore[index]
    while result and not result[-1]:
        result.pop()
    return tuple(result)


def bounds() -> dict[str, str]:
    """The lower bound of every package that pyproject.toml names, except LPT itself."""
    extras = PROJECT["project"]["optional-dependencies"]
    listed = [*PROJECT["project"]["dependencies"], *(line for lines in extras.values() for line in lines)]
    result = {}
    for line in listed:
        name, _, bound = line.partition(">=")
        if not line.startswith("lpt["):
            assert re.fullmatch(r"\d+(\.\d+)*", bound), f"{line}: one lower bound, as name>=1.2 or name[extra]>=1.2"
            result[name.partition("[")[0]] = bound
    return result


@pytest.mark.parametrize("package", LOWEST)
def test_bound_is_not_below_the_lowest_release_that_works(package: str) -> None:
    assert numbers(bounds()[package]) >= numbers(LOWEST[package])


def test_packages_that_are_installed_satisfy_the_bounds() -> None:
    too_old = {}
    for package, bound in bounds().items():
        try:
            installed = version(package)
        except PackageNotFoundError:
            assert package in OUTSIDE_ONLY, package
            continue
        if numbers(installed) < numbers(bound):
            too_old[package] = installed
    assert too_old == {}


def test_bounds_of_an_extra_repeat_none_of_the_base_install() -> None:
    base = {line.partition(">=")[0] for line in PROJECT["project"]["dependencies"]}
    extras = PROJECT["project"]["optional-dependencies"]
    assert not base & {line.partition(">=")[0] for lines in extras.values() for line in lines}
