"""Test the listing of `lpt config`."""

from __future__ import annotations

from typer.testing import CliRunner

from lpt.cli.app import app
from lpt.config.rules import settings_of
from lpt.config.schema import RunConfig


def test_every_field_is_listed_with_the_condition_for_its_effect() -> None:
    result = CliRunner().invoke(app, ["config"], env={"COLUMNS": "400"})
    assert result.exit_code == 0
    rows = [line for line in result.output.splitlines() if "." in line.split(" ")[0]]
    settings = [setting for setting in settings_of(RunConfig) if "." in setting.path]
    assert [row.split(" ")[0] for row in rows] == [setting.path for setting in settings]
    for row, setting in zip(rows, settings, strict=True):
        assert row.rstrip().endswith(f"{setting.field.description} {setting.condition()}".rstrip())
    assert any("Only used if loss.name is a_gcl." in row for row in rows)
