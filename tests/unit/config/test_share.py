"""What --val and --test say (data.validation, data.test): a share of each class, or images."""

from __future__ import annotations

from pathlib import Path

import pytest

from lpt.config.machine import check_of_the_machine
from lpt.config.schema import DataConfig, validate
from lpt.data.sources import open_splits
from lpt.errors import ConfigError, LptError


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("0.1", 0.1),
        ("10%", 0.1),
        ("10 %", 0.1),
        (" 12.5%", 0.125),
        ("0,2", 0.2),
        ("1%", 0.01),
        ("1e-1", 0.1),
        (0.3, 0.3),
    ],
)
def test_shares(text: str | float, share: float) -> None:
    assert DataConfig(validation=text).validation == pytest.approx(share)
    assert DataConfig(test=text).test == pytest.approx(share)


@pytest.mark.parametrize("text", ["held_out", "hf:owner/name", "10%/images", "val%", "%", "x" * 5000, "a\0b"])
def test_sources(text: str) -> None:
    assert DataConfig(validation=text).validation == text
    assert DataConfig(test=text).test == text


@pytest.mark.parametrize(
    ("value", "advice"),
    [("20", "20% or 0.2"), (20, "20% or 0.2"), ("0", "between 0 and 1"), ("-0.1", "between 0 and 1"),
     ("100%", "between 0 and 1"), ("250", "A number of images cannot be given"), (1.0, "1% or 0.01")],
)  # fmt: skip
def test_numbers_that_are_no_share(value: object, advice: str) -> None:
    with pytest.raises(ConfigError, match=r"data.*validation") as failure:
        validate({"data": {"source": "x", "validation": value}}, origin="the options")
    assert advice in str(failure.value)
    with pytest.raises(ConfigError, match=r"data.*test") as failure:
        validate({"data": {"source": "x", "test": value}}, origin="the options")
    assert advice in str(failure.value)


def test_a_folder_of_that_name_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "10%").mkdir()
    (tmp_path / "20").mkdir()
    assert DataConfig(validation="10%").validation == "10%"
    config = DataConfig(source=str(tmp_path), validation="20")
    assert config.validation == "20"
    with pytest.raises(LptError):  # it has no images: it is read, not taken as a number
        open_splits(config, seed=0)


def test_the_cut_is_told_in_percent(photo_folder: Path) -> None:
    splits = open_splits(DataConfig(source=str(photo_folder), validation="25%"), seed=0)
    assert any("25 % of each class" in note for note in splits.notes)
    assert splits.validation is not None
    assert len(splits.validation) == 3


@pytest.mark.parametrize("field", ["test", "validation"])
def test_a_resumed_run_keeps_its_share(field: str) -> None:
    """It decides which images are trained on; images of their own may have moved."""
    stored = {"data": {field: 0.2}}
    check_of_the_machine({"data": {field: 0.2}}, stored)
    check_of_the_machine({"data": {field: "elsewhere/images"}}, {"data": {field: "images"}})
    for other in (0.1, "images"):
        with pytest.raises(ConfigError, match=f"data.{field}: a resumed run keeps"):
            check_of_the_machine({"data": {field: other}}, stored)
