"""Templates: minijinja, strict, with bounded work, and without a way to Python."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import minijinja

from batchmix.errors import JobError
from batchmix.job import Input

_FUEL = 1_000_000
_SCALARS = (str, int, float, bool)


class BadRowError(Exception):
    """A row that can't be asked; its text says why."""


class Template:
    """The job's messages with templates in them. `used` are the columns that they name. Raises `JobError`."""

    def __init__(self, asked: Input) -> None:
        self._plain = _environment(None)
        self._checking = _environment(_refuse_null)
        self._count = 0
        used: set[str] = set()
        if asked.messages is not None:
            self._messages = self._compiled(asked.messages, "input.messages", used)
        else:
            texts = {"system": asked.system, "user": asked.prompt}
            settings = {"system": "input.system", "user": "input.prompt"}
            self._messages = [
                {"role": role, "content": self._compiled(text, settings[role], used)}
                for role, text in texts.items()
                if text is not None
            ]
        self.used = frozenset(used)

    def _compiled(self, value: Any, setting: str, used: set[str]) -> Any:
        """Return the messages with each text that is a template replaced by a `_Text`."""
        if isinstance(value, list | tuple):
            return [self._compiled(item, f"{setting}[{i}]", used) for i, item in enumerate(value)]
        if isinstance(value, dict):
            return {key: self._compiled(item, f"{setting}.{key}", used) for key, item in value.items()}
        if not isinstance(value, str) or not re.search(r"\{[{%#]", value):
            return value
        name = f"t{self._count}"
        self._count += 1
        try:
            self._plain.add_template(name, value)
            self._checking.add_template(name, value)
            used |= self._plain.undeclared_variables_in_template(name)
        except minijinja.TemplateError as error:
            raise JobError(f"{setting}: the template has an error: {_first_line(error)}") from None
        return _Text(name, setting)

    def render(self, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the messages for a row. Raises `BadRowError`."""
        given = {name: values[name] for name in self.used if name in values}
        # The check for nulls costs a second rendering; plain values can be seen to have none.
        check = any(not isinstance(value, _SCALARS) for value in given.values())
        messages: list[dict[str, Any]] = self._rendered(self._messages, given, check=check)
        return messages

    def _rendered(self, value: Any, given: dict[str, Any], *, check: bool) -> Any:
        if type(value) is _Text:
            return self._text(value, given, check=check)
        if type(value) is dict:
            return {key: self._rendered(item, given, check=check) for key, item in value.items()}
        if type(value) is list:
            return [self._rendered(item, given, check=check) for item in value]
        return value

    def _text(self, text: _Text, given: dict[str, Any], *, check: bool) -> str:
        try:
            if check:
                self._checking.render_template(text.name, **given)
            return self._plain.render_template(text.name, **given)
        except _NullError:
            nulls = [name for name, value in given.items() if value is None]
            what = f"column {nulls[0]!r} is null" if nulls else "a value inside a column is null"
            raise BadRowError(f"{text.setting}: {what}") from None
        except minijinja.TemplateError as error:
            raise BadRowError(f"{text.setting}: {_first_line(error)}") from None


class _Text:
    def __init__(self, name: str, setting: str) -> None:
        self.name = name
        self.setting = setting


class _NullError(Exception):
    pass


def _environment(finalizer: Any) -> minijinja.Environment:
    return minijinja.Environment(
        undefined_behavior="strict",
        keep_trailing_newline=True,
        auto_escape_callback=lambda _: False,
        fuel=_FUEL,
        finalizer=finalizer,
        debug=False,
    )


def _refuse_null(value: Any) -> Any:
    if value is None:
        raise _NullError
    return value


def _first_line(error: minijinja.TemplateError) -> str:
    line = str(error).splitlines()[0]
    return re.sub(r" \(in t\d+:(\d+)\)", r" (line \1 of the template)", line)
