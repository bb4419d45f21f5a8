"""Rules that say when a field of the configuration has an effect. Each stands beside its field, in the field's type.

    margin: Annotated[float, used_if("name", "a_gcl")] = Field(0.1, ...)

A field may have several rules, and all of them must hold. A rule of a section counts for every field in it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo


class Rule(ABC):
    """A condition that must hold for a field to have an effect."""

    @abstractmethod
    def placed_in(self, section: str) -> Rule:
        """Return the rule with dotted paths for the fields that it names, given the path of its own section."""

    @abstractmethod
    def unused_reason(self, run: BaseModel) -> str | None:
        """Return why the field has no effect in a run, or None if the rule holds."""

    @abstractmethod
    def condition(self) -> str:
        """Return the condition as text to follow "Only used if"; empty if it goes without saying."""


@dataclass(frozen=True)
class Comparison(Rule):
    """A rule on the value of another field.

    Args:
        field: the other field, by its name in the same section or by its dotted path.
        values: the values to compare it with.
        among: whether it must have one of the values, or none of them.
        reason: the text of `unused_reason`; `{path}` and `{value}` stand for those of the other field.
        obvious: whether the condition goes without saying.
    """

    field: str
    values: tuple[object, ...]
    among: bool
    reason: str
    obvious: bool = False

    def placed_in(self, section: str) -> Comparison:
        """Return the rule with the dotted path of the other field."""
        return self if "." in self.field or not section else replace(self, field=f"{section}.{self.field}")

    def unused_reason(self, run: BaseModel) -> str | None:
        """Return the reason, unless the other field has a value that the rule asks for."""
        value: Any = run
        for name in self.field.split("."):
            value = getattr(value, name)
        return None if (value in self.values) is self.among else self.reason.format(path=self.field, value=value)

    def condition(self) -> str:
        """Return the condition, such as "loss.name is a_gcl or gcl"."""
        if self.obvious:
            return ""
        if self.values == (None,):
            return f"{self.field} is {'not ' if self.among else ''}set"
        *others, last = map(str, self.values)
        joined = f"{', '.join(others)} {'or' if self.among else 'nor'} {last}" if others else last
        return f"{self.field} is {'' if self.among else 'not '}{joined}"


@dataclass(frozen=True)
class AnyOf(Rule):
    """A rule that holds if any of its rules holds.

    Args:
        rules: the rules.
        reason: the text of `unused_reason`.
        summary: the text of `condition`, if those of the rules are too long.
    """

    rules: tuple[Rule, ...]
    reason: str
    summary: str = ""

    def placed_in(self, section: str) -> AnyOf:
        """Return the rule with all of its rules placed."""
        return replace(self, rules=tuple(rule.placed_in(section) for rule in self.rules))

    def unused_reason(self, run: BaseModel) -> str | None:
        """Return the reason, unless a rule holds."""
        return self.reason if all(rule.unused_reason(run) for rule in self.rules) else None

    def condition(self) -> str:
        """Return the summary, or the conditions of all rules."""
        return self.summary or " or ".join(rule.condition() for rule in self.rules)


def used_if(field: str, *values: object, reason: str = "{path} is {value}") -> Rule:
    """Return the rule that another field must have one of these values; for arguments see `Comparison`."""
    return Comparison(field, values, among=True, reason=reason)


def used_unless(field: str, *values: object, reason: str = "{path} is {value}", obvious: bool = False) -> Rule:
    """Return the rule that another field must have none of these values; for arguments see `Comparison`."""
    return Comparison(field, values, among=False, reason=reason, obvious=obvious)


def used_if_any(*rules: Rule, reason: str, summary: str = "") -> Rule:
    """Return the rule that at least one of these rules must hold; for arguments see `AnyOf`."""
    return AnyOf(rules, reason, summary)


@dataclass(frozen=True)
class Setting:
    """A field that holds a value, with its place in the configuration.

    Args:
        path: its dotted path.
        field: the field.
        rules: the rules of its sections, then its own.
    """

    path: str
    field: FieldInfo
    rules: tuple[Rule, ...]

    def unused_reason(self, run: BaseModel) -> str | None:
        """Return why the setting has no effect in a run, by the first rule that does not hold; None if all hold."""
        reasons = (rule.unused_reason(run) for rule in self.rules)
        return next((reason for reason in reasons if reason is not None), None)

    def condition(self) -> str:
        """Return a sentence that says when the setting has an effect; empty if it always has."""
        conditions = [condition for rule in self.rules if (condition := rule.condition())]
        return f"Only used if {', and if '.join(conditions)}." if conditions else ""


def settings_of(section: type[BaseModel], path: str = "", rules: tuple[Rule, ...] = ()) -> Iterator[Setting]:
    """Yield the settings of a section and of the sections in it.

    Args:
        section: the class of the section.
        path: its dotted path; empty for the whole configuration.
        rules: the rules of the section itself.
    """
    for name, field in section.model_fields.items():
        field_path = f"{path}.{name}" if path else name
        field_rules = (*rules, *(rule.placed_in(path) for rule in field.metadata if isinstance(rule, Rule)))
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from settings_of(kind, field_path, field_rules)
        else:
            yield Setting(field_path, field, field_rules)
