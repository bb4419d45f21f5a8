"""Messages name options at the command line, settings and arguments in Python."""

from __future__ import annotations

import ast
import pickle
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import lpt
from lpt.cli.app import app
from lpt.data.decoding import ImageError
from lpt.errors import ConfigError, LptError, command_line, in_python

SOURCES = Path(lpt.__file__).parent
OPTION = re.compile(r"(?<![^\s(])--[a-z]")
EXAMPLES = {
    "Choose another output folder with --output.": "Choose another output folder with `output`.",
    "Replace it: add --overwrite.": "Replace it: add overwrite=True.",
    "leave them out with --bad-images skip (data.bad_images: skip).": "leave them out with data.bad_images: skip.",
    "leave them out with --bad-images skip.": "leave them out with data.bad_images: skip.",
    "(--set train.phase1.lr=...) or (--set runtime.precision=fp32).": "(train.phase1.lr: ...) or (runtime.precision: "
    "fp32).",
    "--set 'a b': write it": "settings 'a b': write it",
    "Go on: lpt fit --resume runs/x.1.": "Go on: lpt.resume('runs/x.1').",
    "Go on: lpt fit --resume 'my runs/x'\n": "Go on: lpt.resume('my runs/x')\n",
    "(--backbone NAME or --checkpoint FILE), or": "(backbone.name: NAME or backbone.checkpoint: FILE), or",
    "--backbone NAME --checkpoint FILE (Python: lpt.f(a, b=C)). Its": "lpt.f(a, b=C). Its",
    "Try --device cpu; a smaller input (--size)": "Try runtime.device: cpu; a smaller input (image.size)",
    "--shift-images 3 is below": "shift_images 3 is below",
    "/data/a--size/--no: not found -- ever": "/data/a--size/--no: not found -- ever",
}


def texts(file: Path) -> list[str]:
    """The texts of a module, each joined as it is written, without what it puts in and without docstrings."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    matches = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            matches.append("".join(str(part.value) if isinstance(part, ast.Constant) else "1" for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            matches.append(node.value)
    return matches


@pytest.mark.parametrize("text", EXAMPLES)
def test_settings_and_arguments_stand_for_options(text: str) -> None:
    assert in_python(text) == EXAMPLES[text]
    assert in_python(EXAMPLES[text]) == EXAMPLES[text]


def test_no_message_of_the_package_advises_an_option_in_python() -> None:
    """Whatever a module below the command line may write into a message."""
    files = [file for file in SOURCES.rglob("*.py") if "cli" not in file.relative_to(SOURCES).parts]
    given = [text for file in files if file.name != "errors.py" for text in texts(file) if OPTION.search(text)]
    assert len(given) > 50
    assert [in_python(text) for text in given if OPTION.search(in_python(text))] == []


def test_errors_speak_as_they_are_asked() -> None:
    """The error is the same; the command line asks for options, also when it is called within Python."""
    for error in (ConfigError("add --overwrite"), ImageError("x.png", "it is empty")):
        in_call = str(error)
        assert "--" not in in_call
        with command_line(), command_line():
            in_command = str(error)
        assert "--" in in_command
        assert "data." not in in_command  # not every command has settings
        assert error.message.startswith(in_command.rstrip("."))
        assert str(error) == str(pickle.loads(pickle.dumps(error))) == in_call


def test_a_command_and_a_call_that_fail_alike(photo_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(app, ["fit", str(photo_folder), "--output", str(tmp_path / "file")])
    assert "choose another output folder with --output" in " ".join(result.output.split())
    with pytest.raises(LptError, match="choose another output folder with `output`"):
        lpt.fit(photo_folder, tmp_path / "file")
