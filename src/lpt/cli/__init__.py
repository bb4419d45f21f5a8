"""The command line. Heavy modules are imported inside the commands, so that help and wrong arguments answer at once."""

from lpt.cli.app import main

__all__ = ["main"]
