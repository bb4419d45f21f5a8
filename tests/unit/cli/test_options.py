"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import pytest

from lpt.cli.options import parse_size, parse_validation, settings
from lpt.config.schema import validate
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


@pytest.mark.parametrize(
    ("text", "share"),
    [("0.1", 0.1), ("10%", 0.1), ("12.5 %", 0.125), ("0,2", 0.2), ("1e-1", 0.1), ("10", 10.0), ("./20", "./20")],
)
def test_validation_is_a_share_a_percentage_or_a_source(text: str, share: object) -> None:
    assert parse_validation(text) == share
    assert parse_validation("v1.0%x") == "v1.0%x"


@pytest.mark.parametrize("value", [20, 20.0, "2000%"])
def test_a_number_that_is_no_share_says_how_a_percentage_is_written(value: object) -> None:
    with pytest.raises(ConfigError, match=r"got 20: for 20 % write 0\.2 or 20%, for a folder of that name \./20"):
        validate({"data": {"validation": value}}, origin="here")
    assert validate({"data": {"validation": "5%"}}, origin="here").data.validation == 0.05
    with pytest.raises(ConfigError, match=r"got 0 \("):
        validate({"data": {"validation": "0%"}}, origin="here")


def test_columns_that_yaml_takes_for_something_else() -> None:
    assert validate({"data": {"label_column": 2021}}, origin="here").data.label_column == "2021"
    with pytest.raises(ConfigError, match="must stand in quotes"):
        validate({"data": {"label_column": False}}, origin="here")
