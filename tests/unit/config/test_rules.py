"""Test the rules that say when a field of the configuration has an effect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, TypeAdapter

from lpt.config.rules import AnyOf, Comparison, Rule, Setting, settings_of, used_if, used_if_any, used_unless
from lpt.config.schema import RunConfig

BIG = used_if("shape.size", "big", "huge", reason="{path} is {value}: too small")


class Shape(BaseModel):
    size: Literal["small", "big", "huge"] = "small"
    colour: Annotated[str | None, BIG] = None
    gloss: Annotated[int, BIG, used_unless("colour", None)] = 0
    edges: Annotated[int, used_unless("size", "small", "huge")] = 3
    shade: Annotated[int, used_unless("edges", 0, obvious=True)] = 1


class Drawing(BaseModel):
    shape: Shape = Shape()
    copies: int = 1
    frame: Annotated[Shape, used_unless("copies", 0, reason="nothing is drawn")] = Shape()
    margin: Annotated[
        int, used_if_any(used_if("shape.size", "big"), used_unless("shape.edges", 0), reason="no place")
    ] = 0


def settings() -> dict[str, Setting]:
    return {setting.path: setting for setting in settings_of(Drawing)}


@pytest.mark.parametrize(
    ("path", "condition"),
    [
        ("shape.size", ""),
        ("shape.colour", "Only used if shape.size is big or huge."),
        ("shape.gloss", "Only used if shape.size is big or huge, and if shape.colour is set."),
        ("shape.edges", "Only used if shape.size is not small nor huge."),
        ("shape.shade", ""),
        ("margin", "Only used if shape.size is big or shape.edges is not 0."),
    ],
)
def test_a_condition_is_a_sentence_with_dotted_paths(path: str, condition: str) -> None:
    assert settings()[path].condition() == condition


@pytest.mark.parametrize(
    ("path", "shape", "reason"),
    [
        ("shape.colour", {}, "shape.size is small: too small"),
        ("shape.colour", {"size": "huge"}, None),
        ("shape.gloss", {}, "shape.size is small: too small"),
        ("shape.gloss", {"size": "big"}, "shape.colour is None"),
        ("shape.gloss", {"size": "big", "colour": "red"}, None),
        ("shape.shade", {"edges": 0}, "shape.edges is 0"),
        ("margin", {"edges": 0}, "no place"),
        ("margin", {"edges": 0, "size": "big"}, None),
        ("margin", {}, None),
    ],
)
def test_the_reason_is_that_of_the_first_rule_that_does_not_hold(
    path: str, shape: dict[str, Any], reason: str | None
) -> None:
    assert settings()[path].unused_reason(Drawing(shape=Shape(**shape))) == reason


def test_a_rule_of_a_section_counts_for_all_of_its_fields() -> None:
    drawing = Drawing.model_validate({"copies": 0, "shape": {"size": "big"}})
    unused = {path for path, setting in settings().items() if setting.unused_reason(drawing) == "nothing is drawn"}
    assert unused == {f"frame.{name}" for name in Shape.model_fields}


def comparisons(rule: Rule) -> Iterator[Comparison]:
    if isinstance(rule, AnyOf):
        for part in rule.rules:
            yield from comparisons(part)
    else:
        assert isinstance(rule, Comparison)
        yield rule


CASES = {
    (comparison.field, value)
    for setting in settings_of(RunConfig)
    for rule in setting.rules
    for comparison in comparisons(rule)
    for value in comparison.values
}


@pytest.mark.parametrize(("path", "value"), sorted(CASES, key=str))
def test_rules_compare_fields_with_values_that_they_can_have(path: str, value: object) -> None:
    fields = {setting.path: setting.field for setting in settings_of(RunConfig)}
    TypeAdapter(fields[path].annotation).validate_python(value, strict=True)
