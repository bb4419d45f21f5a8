"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import pytest

from lpt.cli.options import parse_size, settings
from lpt.errors import ConfigError


def test_settings_are_the_options_given_and_the_texts() -> None:
    """An option that was not given sets nothing; of the same field `--set` wins, and may set it to nothing."""
    options = {"data.long_tail": 10.0, "runtime.seed": 3, "image.size": None, "data.test": Path("photos")}
    assert settings(options, ["runtime.seed=4", "train.phase1.lr=0.1", "data.long_tail=null"]) == {
        "data.long_tail": None,
        "runtime.seed": 4,
        "data.test": Path("photos"),
        "train.phase1.lr": 0.1,
    }
    assert settings({"image.size": None}, None) == {}
    with pytest.raises(ConfigError, match=r"settings 'seed': write it as section\.field=value"):
        settings({}, ["seed"])


@pytest.mark.parametrize(("text", "size"), [("224", 224), ("160x128", [160, 128]), ("auto", "auto")])
def test_sizes(text: str, size: object) -> None:
    assert parse_size(text) == size


def test_other_sizes_are_refused() -> None:
    with pytest.raises(ConfigError, match="write pixels as 224"):
        parse_size("large")
