"""The user's values of a run, from all places."""

from __future__ import annotations

from pathlib import Path

import pytest

from lpt.commands.fit.request import RunRequest, gather_values
from lpt.errors import ConfigError

CONFIG = {"data": {"source": "photos", "long_tail": 10.0}, "train": {"batch_size": 8}}


def test_settings_win_over_the_configuration() -> None:
    """Field by field, of a file as of a mapping; data and method win over both."""
    settings = {"data.long_tail": None, "train.batch_size": 4}
    expected = {"data": {"source": "others", "long_tail": None}, "train": {"batch_size": 4}, "method": "lift"}
    assert gather_values(RunRequest("others", config=CONFIG, settings=settings, method="lift")) == expected
    assert CONFIG["train"] == {"batch_size": 8}


def test_texts_and_mappings_say_the_same(tmp_path: Path) -> None:
    """`section.field=value` texts are read as YAML; mappings as they are."""
    file = tmp_path / "run.yaml"
    file.write_text("data: {source: photos, long_tail: 10.0}\ntrain: {batch_size: 8}\n")
    texts = RunRequest(config=file, settings=["train.batch_size=4", "image.size=[32, 64]"])
    mapping = RunRequest(config=CONFIG, settings={"train.batch_size": 4, "image.size": (32, 64)})
    assert gather_values(texts) == gather_values(mapping)
    assert (texts.origin, mapping.origin, RunRequest().origin) == (str(file), "the configuration", "the settings")


def test_contradictions_are_refused() -> None:
    """A preset or method other than the configuration's would take its settings for its own."""
    config = {**CONFIG, "method": "lift"}
    assert gather_values(RunRequest(config=config, method="lift"))["method"] == "lift"
    with pytest.raises(ConfigError, match="method lpt: the configuration says method: lift"):
        gather_values(RunRequest(config=config, method="lpt"))
    with pytest.raises(ConfigError, match="no data was given"):
        gather_values(RunRequest(preset="laptop"))
    assert gather_values(RunRequest(preset="laptop"), needs_source=False) == {"preset": "laptop"}
