"""Errors that a user can act on.

Every message names the value (with its path, row or field), says what is accepted, and what to do next. The command
line prints the message without a traceback and exits with `exit_code`.
"""


class LptError(Exception):
    """Base of every error that LPT raises on purpose."""

    exit_code = 2
    alone = False
    """Whether this process alone raises it, so that it must print the message whatever its rank."""


class ConfigError(LptError):
    """A setting, an argument or a model that LPT does not accept, or a package that an install lacks."""


class DataError(LptError):
    """An image, a label or a data source that LPT cannot use as it is."""


class PackError(LptError):
    """A prompt pack that is damaged, or that does not belong to the given backbone."""


class RunError(LptError):
    """A run that cannot start, go on or be resumed."""
