"""Generate the reference of the site from the code: commands, settings and docstrings.

A page of docs/reference holds a mark, such as `<!-- generated commands -->`. The site gets the reference in its place;
nothing generated is kept in the repository.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from typing import Any, Literal, get_args, get_origin

from typer.models import ArgumentInfo, OptionInfo
from typer.utils import get_params_from_function

from benchmarks.documents.performance_tables import rows_of
from lpt.cli.app import app
from lpt.config.describe import default_text, kind_of
from lpt.config.rules import Setting, settings_of
from lpt.config.schema import RunConfig

Schema = dict[str, Any]
_LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
_EXAMPLE = re.compile(r"^\*\*(?P<title>[\w ]+):\*\* (?P<command>(?:[A-Z_]+=\S+ )?(?:lpt|torchrun) .*)$")


def commands() -> str:
    """Return every command of the program: what it does, its arguments and its options."""
    return "\n\n".join(_command(info.name or "", info.callback) for info in app.registered_commands if info.callback)


def configuration() -> str:
    """Return every setting of a run: type, default, bounds, meaning, and when it has an effect."""
    settings, schema = list(settings_of(RunConfig)), RunConfig.model_json_schema()
    alone = [setting for setting in settings if "." not in setting.path]
    parts = [_settings(alone, schema)]
    for name, field in RunConfig.model_fields.items():
        within = [setting for setting in settings if setting.path.startswith(f"{name}.")]
        if within:
            parts += [f"## {name}", str(getattr(field.annotation, "__doc__", "")), _settings(within, schema)]
    return "\n\n".join(parts)


def module(name: str) -> str:
    """Return the directives that document what a module exports: functions, classes, then everything else."""
    exporting = import_module(name)
    kinds = {exported: _kind_of_object(getattr(exporting, exported)) for exported in exporting.__all__}
    order = ("function", "class", "exception", "data")
    names = sorted(kinds, key=lambda exported: order.index(kinds[exported]))
    return "\n\n".join(_directive(f"{name}.{exported}", kinds[exported]) for exported in names)


GENERATED: dict[str, Callable[[], str]] = {
    "commands": commands,
    "configuration": configuration,
    **{f"module {name}": partial(module, name) for name in ("lpt", "lpt.model", "lpt.losses", "lpt.serving")},
}


def completed(text: str) -> str:
    """Return a page with the reference in the place of its mark."""
    return re.sub(r"<!-- generated ([\w. ]+) -->", lambda mark: GENERATED[mark[1]](), text)


def _command(name: str, callback: Callable[..., Any]) -> str:
    given = get_params_from_function(callback).values()  # Typer's context is among them
    arguments = [_argument(each.name, each.default) for each in given if isinstance(each.default, ArgumentInfo)]
    options = [
        _option(each.name, each.annotation, each.default) for each in given if isinstance(each.default, OptionInfo)
    ]
    usage = " ".join(["lpt", name, *(f"[{each[0]}]" if each[2] else each[0] for each in arguments), "[OPTIONS]"])
    parts = [f"## lpt {name}", f"```sh\n{usage}\n```", *_paragraphs(inspect.getdoc(callback) or "")]
    if arguments:
        parts.append("\n".join(rows_of(["argument", "meaning"], ([f"`{each[0]}`", each[1]] for each in arguments))))
    return "\n\n".join([*parts, "\n".join(rows_of(["option", "default", "meaning"], options))])


def _argument(parameter: str, info: ArgumentInfo) -> tuple[str, str, bool]:
    """Return the name of an argument, its meaning, and whether it may be left out."""
    return info.metavar or parameter.upper(), _text(info.help), info.default is not ...


def _option(parameter: str, kind: Any, info: OptionInfo) -> list[str]:
    """Return the cells of an option: its names with what it takes, its default, its meaning."""
    dashed = parameter.strip("_").replace("_", "-")
    names = list(info.param_decls or (f"--{dashed}",)) if kind is not bool else _flags(dashed, info)
    takes = "" if kind is bool else f" {info.metavar or _takes(kind)}"
    default = "" if info.default in (None, False) else f"`{_shown(info.default)}`"
    meaning = " ".join(filter(None, (_text(info.help), _range(info))))
    return [
        ", ".join(_cell(f"`{each}{takes}`") for each in names),
        "needed" if info.default is ... else default,
        meaning,
    ]


def _flags(dashed: str, info: OptionInfo) -> list[str]:
    """Return the names of a flag; `--decode/--no-decode` are two."""
    return [name for both in info.param_decls or (f"--{dashed}/--no-{dashed}",) for name in both.split("/")]


def _takes(kind: Any) -> str:
    """Return what an option without a name for its value takes: its choices, or its type."""
    if get_origin(kind) is Literal:
        return "|".join(get_args(kind))
    return kind_of(kind).upper()


def _range(info: OptionInfo) -> str:
    limits = {"≥": info.min, "≤": info.max}
    return ", ".join(f"{sign} {limit:g}" for sign, limit in limits.items() if limit is not None)


def _shown(default: Any) -> str:
    return ", ".join(map(str, default)) if isinstance(default, list | tuple) else str(default)


def _paragraphs(docstring: str) -> Iterator[str]:
    """Yield the paragraphs of a docstring, examples as code."""
    for paragraph in docstring.split("\n\n"):
        line = " ".join(paragraph.split())
        example = _EXAMPLE.match(line)
        if example is None:
            yield line
        else:
            several = example["command"].replace(", then ", "\n")
            yield f"**{example['title']}:**\n\n```sh\n{several}\n```"


def _settings(settings: list[Setting], schema: Schema) -> str:
    rows = []
    for setting in settings:
        meaning = " ".join(filter(None, (setting.field.description, setting.condition())))
        kind = kind_of(setting.field.annotation).replace(" | ", " or ")
        bounds = ", ".join(dict.fromkeys(_bounds(_schema_of(setting.path, schema))))
        default = f"`{default_text(setting.field.default)}`"
        rows.append([f"`{setting.path}`", kind, default, bounds, _text(meaning)])
    return "\n".join(rows_of(["setting", "type", "default", "bounds", "meaning"], rows))


def _schema_of(path: str, schema: Schema) -> Schema:
    """Return the JSON schema of a setting by its dotted path."""
    section = schema
    for part in path.split("."):
        section = section["properties"][part]
        if reference := section.get("$ref"):
            section = schema["$defs"][reference.rpartition("/")[2]]
    return section


def _bounds(schema: Schema) -> Iterator[str]:
    """Yield the bounds in a JSON schema, such as `≥ 1`, those of parts too."""
    for key, sign in _LIMITS.items():
        if key in schema:
            yield f"{sign} {schema[key]:g}"
    for inner in (*schema.get("anyOf", ()), *schema.get("prefixItems", ())):
        yield from _bounds(inner)


def _text(text: str | None) -> str:
    """Return help text as a cell of a Markdown table: code stays, and nothing else is markup."""
    parts = re.split(r"(`[^`]*`)", " ".join((text or "").split()))
    plain = (part if part.startswith("`") else re.sub(r"([*<\[\]])", r"\\\1", part) for part in parts)
    return _cell("".join(plain))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _kind_of_object(exported: object) -> str:
    if inspect.isclass(exported):
        return "exception" if issubclass(exported, Exception) else "class"
    return "function" if inspect.isfunction(exported) else "data"


def _directive(name: str, kind: str) -> str:
    members = "\n   :members:" if kind == "class" else ""
    return f"```{{eval-rst}}\n.. auto{kind}:: {name}{members}\n```"
