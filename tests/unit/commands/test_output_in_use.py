"""Two commands with one output: the second says so, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lpt.cli.app import app
from lpt.system.lock import locked_output, locked_path

Hold = Callable[[Path, Callable[[str], None]], AbstractContextManager[None]]


@pytest.mark.parametrize(
    ("hold", "command", "option"),
    [
        (locked_path, "calibrate PACK DATA", "--output"),
        (locked_path, "extend PACK DATA", "--output"),
        (locked_path, "import FILE --backbone NAME --classes FILE", "--output"),
        (locked_path, "report .", "--output"),
        (locked_output, "evaluate PACK DATA", "--output"),
        (locked_output, "evaluate PACK DATA --shift corruptions", "--output"),
        (locked_output, "export PACK", "--output"),
        (locked_output, "export PACK", "--web"),
    ],
)
def test_a_second_command_is_refused_before_it_reads_anything(
    hold: Hold, command: str, option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither PACK nor DATA is there: the message about the output comes first."""
    monkeypatch.chdir(tmp_path)
    output = tmp_path / "out.csv"
    with hold(output, print):
        before = sorted(tmp_path.rglob("*"))
        result = CliRunner().invoke(app, [*command.split(), option, str(output)])
        assert sorted(tmp_path.rglob("*")) == before
    assert result.exit_code == 2
    assert "is in use: process" in " ".join(result.output.split())
    assert list(tmp_path.iterdir()) == []
    result = CliRunner().invoke(app, [*command.split(), option, str(output)])
    assert result.exit_code == 2
    assert "in use" not in result.output
    assert list(tmp_path.iterdir()) == []
