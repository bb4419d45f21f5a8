"""`lpt config`: list the fields of a configuration, or print a preset to start from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from lpt.cli.screen import output_console
from lpt.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

    from lpt.config.rules import Setting


def config(
    preset: Annotated[
        str | None, typer.Option(metavar="NAME", help="Print this preset as YAML: laptop, paper or auto.")
    ] = None,
    method: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --preset: as this method has it; lpt methods lists them.")
    ] = None,
) -> None:
    """List every field of a configuration with its type, default and meaning; or print a preset as YAML.

    **Example:** lpt config --preset laptop > my.yaml, then lpt fit photos/ --config my.yaml
    """
    if preset is not None:
        _print_preset(preset, method)
        return
    if method is not None:
        raise ConfigError(f"--method {method}: give the preset too, such as --preset laptop")
    from lpt.config.rules import settings_of
    from lpt.config.schema import RunConfig

    console = output_console()
    settings = list(settings_of(RunConfig))
    for name, field in RunConfig.model_fields.items():
        in_section = [setting for setting in settings if setting.path.startswith(f"{name}.")]
        if in_section:
            console.print(f"\n[bold]{name}[/bold]: {field.annotation.__doc__}")
            console.print(_table(in_section))
        else:
            console.print(f"[bold]{name}[/bold]: {field.description} Default: {field.default}")
    console.print(
        "\nSet a field: lpt fit DATA --set train.batch_size=32, or in a YAML file: lpt fit DATA --config FILE"
    )


def _print_preset(name: str, method: str | None) -> None:
    from lpt.config.presets import with_preset
    from lpt.config.values import to_yaml
    from lpt.system.hardware import inspect_machine
    from lpt.system.text import output_for_programs

    device = inspect_machine().device if name == "auto" else "cpu"
    resolved = with_preset({"preset": name, "method": method or "auto"}, device, origin="the preset")
    file = output_for_programs()
    for reason in resolved.reasons:
        typer.echo(f"# {reason}", file)
    typer.echo(to_yaml(resolved.config), file, nl=False)


def _table(settings: Iterable[Setting]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from lpt.config.describe import default_text, kind_of

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 2, 0, 0))
    for column in ("field", "type", "default", "meaning"):
        table.add_column(column, overflow="fold", no_wrap=column == "field")
    for setting in settings:
        field = setting.field
        meaning = Text(" ".join(filter(None, (field.description, setting.condition()))))
        kind, default = kind_of(field.annotation), default_text(field.default)
        table.add_row(Text(setting.path, style="bold"), Text(kind), Text(default), meaning)
    return table
