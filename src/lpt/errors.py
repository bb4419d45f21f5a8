"""Errors a user can act on.

Every message says what was given (with its path, row or field), what is accepted, and what to do next. The
command line prints the message without a traceback and exits with `exit_code`.
"""


class LptError(Exception):
    """Base of every error that LPT raises on purpose."""

    exit_code = 2
    alone = False
    """Whether the other processes of the run do not raise it, so that this one must say it."""


class ConfigError(LptError):
    """A setting, an argument or a model that LPT cannot be right for."""


class DataError(LptError):
    """An image, a label or a data source that cannot be used as it is."""


class PackError(LptError):
    """A prompt pack that is damaged, or does not belong to the backbone it is loaded on."""


class RunError(LptError):
    """A run that cannot start, go on or be resumed."""
