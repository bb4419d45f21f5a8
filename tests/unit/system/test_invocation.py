"""The recorded command is what was typed, less what is secret."""

from __future__ import annotations

import sys

import pytest

from lpt.system.invocation import typed_command

TOKEN = "hf_" + "a1B2" * 8


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["/venv/bin/lpt", "fit", "my photos"], "lpt fit 'my photos'"),
        (["-m", "lpt", "fit", "x", "--set", "train.batch_size=64"], "lpt fit x --set train.batch_size=64"),
        (["train.py", "--api-key", "s3cret", "--epochs", "3"], "python train.py --api-key '***' --epochs 3"),
        (["train.py", "--hf_token=s3cret", "a-secret", "b"], "python train.py '--hf_token=***' a-secret b"),
        (["-c", f"login({TOKEN!r})"], "python -c 'login('\"'\"'***'\"'\"')'"),
        (["/bin/lpt", "fit", "https://me:pw@host/x", "hf_photos_of_birds_and_more"],
         "lpt fit 'https://***@host/x' hf_photos_of_birds_and_more"),
        ([], "python"),
    ],
)  # fmt: skip
def test_the_command(arguments: list[str], command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["/usr/bin/python3", *arguments])
    assert typed_command() == command


def test_python_inside_another_program_has_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "orig_argv", [])
    assert typed_command() == "python"
