"""The reference of the site has every command, setting and file as the code and a real run have them."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any, get_args

from benchmarks.documents.pages import DOCS
from benchmarks.documents.reference import commands, configuration
from pydantic import BaseModel
from typer.main import get_command

from lpt.cli.app import app
from lpt.config.architecture import Architecture
from lpt.config.schema import RunConfig
from lpt.config.values import leaves
from lpt.evaluation.metrics import Metrics
from lpt.model.shapes import trained_shapes
from lpt.packs.info import PackInfo
from lpt.training.folder import RUN_NAMES

FORMATS = (DOCS / "reference" / "formats.md").read_text(encoding="utf-8")


def test_commands_have_all_options_that_the_program_takes() -> None:
    """Typer makes the program's options from the same functions, on its own."""
    program: Any = get_command(app)
    sections = dict(re.findall(r"^## lpt ([\w-]+)\n(.*?)(?=^## |\Z)", commands(), flags=re.MULTILINE | re.DOTALL))
    assert list(sections) == list(program.commands)
    for name, command in program.commands.items():
        for parameter in command.params:
            names = parameter.opts + parameter.secondary_opts
            shown = names if parameter.param_type_name == "option" else [parameter.metavar or parameter.name.upper()]
            for option in shown:
                assert re.search(rf"`{re.escape(option)}[` ]", sections[name]), (name, option)


def test_configuration_has_all_settings_with_defaults_and_bounds() -> None:
    rows = {row[0].strip("`"): row[1:] for row in table_rows(configuration())}
    assert set(rows) == {path for path, _ in leaves(RunConfig().model_dump())}
    assert rows["train.batch_size"][:3] == ["int", "`256`", "≥ 2"]
    assert rows["image.crop_area"][2] == "> 0, ≤ 1"
    assert rows["loss.margin"][3].endswith("Only used if loss.name is a_gcl.")
    assert rows["model.adapter_scale"][3].startswith("Factor on the output")


def test_fields_of_a_pack_are_those_of_its_description() -> None:
    fields = list(paths(PackInfo))
    assert documented("`pack.json`") == [field for field in fields if not field.startswith(("metrics.", "training."))]


def test_tensors_of_a_pack_are_those_that_methods_have() -> None:
    lpt = Architecture(adapter_size=1, adapter_norm=True, adapter_scale=None)
    linear = Architecture(prompts="none", head="linear")
    names = trained_shapes(lpt, 4, 8, 3, {}, added=1) | trained_shapes(linear, 4, 8, 3, {})
    assert set(documented("`pack.safetensors`")) == set(names)


def test_files_of_a_run_are_those_that_a_run_writes(fitted_run: Path) -> None:
    assert set(documented("The run folder")) == {re.sub(r"\\(.)", r"\1", name) for name in RUN_NAMES}
    assert list(json.loads((fitted_run / "run.json").read_text())) == documented("`run.json`")
    assert list(json.loads((fitted_run / "log.jsonl").read_text().splitlines()[0])) == documented("`log.jsonl`")
    for name in ("per_class.csv", "predictions.csv"):
        with (fitted_run / name).open(encoding="utf-8") as file:
            assert next(csv.reader(file)) == documented(f"`{name}`")
    metrics = json.loads((fitted_run / "metrics.json").read_text())
    measures, facts = tables("`metrics.json`")
    assert [row[0].strip("`") for row in measures] == list(metrics.pop("test")) == list(Metrics.__dataclass_fields__)
    assert [row[0].strip("`") for row in facts] == list(metrics)


def paths(kind: type[BaseModel], before: str = "") -> Iterator[str]:
    """Yield the dotted paths of the fields of a model, those of lists of models with [] in them."""
    for name, field in kind.model_fields.items():
        inner, several = model_in(field.annotation)
        if inner is None:
            yield before + name
        else:
            yield from paths(inner, f"{before}{name}{'[]' * several}.")


def model_in(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """Return the model that a field holds, and whether it holds a list of them."""
    kinds = [kind for kind in get_args(annotation) or (annotation,) if kind is not NoneType]
    inner = kinds[0] if len(kinds) == 1 and isinstance(kinds[0], type) and issubclass(kinds[0], BaseModel) else None
    return inner, inner is not None and str(annotation).startswith("list")


def documented(heading: str) -> list[str]:
    """Return the first cells of the tables below a heading of the page."""
    return [row[0].strip("`") for table in tables(heading) for row in table]


def tables(heading: str) -> list[list[list[str]]]:
    section = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", FORMATS, flags=re.MULTILINE | re.DOTALL)
    assert section is not None, heading
    return [rows for part in re.split(r"\n\n+", section[1]) if (rows := table_rows(part))]


def table_rows(text: str) -> list[list[str]]:
    """Return the cells of all rows of Markdown tables, without headers."""
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
