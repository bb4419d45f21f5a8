"""Errors that a user can act on.

Every message names the value (with its path, row or field), says what is accepted, and what to do next. The command
line prints the message without a traceback and exits with `exit_code`.

Messages are written with the options of the command line. In Python they name the settings and arguments instead.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

_SETTINGS = {
    "backbone": "backbone.name",
    "bad-images": "data.bad_images",
    "batch-size": "train.batch_size",
    "checkpoint": "backbone.checkpoint",
    "device": "runtime.device",
    "image-column": "data.image_column",
    "image-root": "data.image_root",
    "label-column": "data.label_column",
    "long-tail": "data.long_tail",
    "seed": "runtime.seed",
    "size": "image.size",
    "test": "data.test",
    "val": "data.validation",
    "workers": "runtime.workers",
}
"""Settings by the option that gives them; other options have the name of an argument."""

_START = r"(?<![^\s(])--"
_OPTION = rf"{_START}([a-z]+(?:-[a-z]+)*)"
_SETTING_BESIDE = re.compile(rf"({_OPTION}(?: \w+)?) \((\w+\.\w+(?:: \w+)?)\)")
_IN_PYTHON = (
    (re.compile(rf"{_OPTION} [^()]*\(Python: (.*?)\)(?=[.,;]|\s|$)"), r"\2"),
    (re.compile(r"lpt fit DATA --resume (\S+?)(?=[.,;)]*(?:\s|$))"), r"lpt.resume('\1', DATA)"),
    (re.compile(r"lpt fit --resume ('(?:[^']|'\"'\"')*')"), r"lpt.resume(\1)"),
    (re.compile(r"lpt fit --resume (\S+?)(?=[.,;)]*(?:\s|$))"), r"lpt.resume('\1')"),
    (re.compile(rf"{_START}resume\b"), "lpt.resume"),
    (re.compile(rf"{_START}set (?!')([\w.:-]+?)=(\.\.\.|[\w.]*\w)"), r"\1: \2"),
    (re.compile(rf"{_START}set\b"), "settings"),
    (re.compile(rf"{_START}overwrite\b"), "overwrite=True"),
    (_SETTING_BESIDE, r"\3"),
)
_WITH_VALUE = re.compile(rf"{_OPTION}( (?:[A-Z_]+|skip|stop|cpu|\d[\d.]*)(?![\w/:]|\.\w))?(?=([.,;)]|$)?)")

_options_are_known = False


class LptError(Exception):
    """Base of every error that LPT raises on purpose.

    Example:
        >>> try:
        ...     lpt.load_pack("nowhere")
        ... except lpt.LptError as error:
        ...     print(error)
        there is no folder nowhere. Give a prompt pack, or a run folder that holds one.
    """

    exit_code = 2
    alone = False
    """Whether this process alone raises it, so that it must print the message whatever its rank."""

    @property
    def message(self) -> str:
        """The message as it was written, with options of the command line."""
        return super().__str__()

    def __str__(self) -> str:
        return on_command_line(self.message) if _options_are_known else in_python(self.message)


class ConfigError(LptError):
    """A setting, an argument or a model that LPT does not accept, or a package that an install lacks."""


class DataError(LptError):
    """An image, a label or a data source that LPT cannot use as it is."""


class PackError(LptError):
    """A prompt pack that is damaged, or that does not belong to the given backbone."""


class RunError(LptError):
    """A run that cannot start, go on or be resumed."""


@contextmanager
def command_line() -> Iterator[None]:
    """Let messages name options: the user sits at a command line."""
    global _options_are_known
    before, _options_are_known = _options_are_known, True
    try:
        yield
    finally:
        _options_are_known = before


def on_command_line(message: str) -> str:
    """Return a message without the settings beside options: not every command takes settings."""
    return _SETTING_BESIDE.sub(r"\1", message)


def in_python(message: str) -> str:
    """Return a message in which settings and arguments stand for the options of the command line."""
    if "--" not in message:
        return message
    for pattern, replacement in _IN_PYTHON:
        message = pattern.sub(replacement, message)
    return _WITH_VALUE.sub(_named, message)


def _named(option: re.Match[str]) -> str:
    name, value, at_end = option[1], option[2] or "", option[3] is not None
    setting = _SETTINGS.get(name)
    if setting is None:
        argument = name.replace("-", "_")
        return f"`{argument}`" if at_end and not value else argument + value
    return f"{setting}:{value}" if value else setting
