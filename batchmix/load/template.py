"""Compiles the templates of a job's prompt or messages once per start, and renders them for each row."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import minijinja
import msgspec

from batchmix.errors import JobError
from batchmix.formats.display import clean, quoted
from batchmix.job import Input
from batchmix.load.json_texts import decode_json_text, joined_json
from batchmix.load.template_limits import FUEL, MAX_INT_BITS, ShieldedDict, check_template, reason, shielded, to_json
from batchmix.load.template_names import ROW, RowAccess, columns_in, misspelt, row_access, unquoted_column
from batchmix.records import SKIPPED

_TAG_START = re.compile(r"\{[{%#]")
_COLUMN = re.compile(r"\{\{\s*([A-Za-z_]\w*)\s*\}\}", re.ASCII)
_CONSTANTS = frozenset({"true", "True", "false", "False", "none", "None", ROW})
"""What stands for itself in a template, even if a column has the name."""
_OF_UNDEFINED = re.compile(r"unsupported types [\w ]*\bundefined\b")

Render = Callable[[dict[str, Any]], str | msgspec.Raw]
"""Renders a text from a row's values. Raises `BadRowError`."""
_TEXTS = (str, msgspec.Raw)


class BadRowError(Exception):
    """Raised for a row whose request can't be built. The text of the error says why."""

    type = "bad_row"
    """The row's `error_type`."""


class RowSkippedError(BadRowError):
    """Raised for a row for which the job's condition is false."""

    type = SKIPPED


class UndefinedError(BadRowError):
    """Raised if a template uses a name that the row does not have."""


class _NullError(Exception):
    pass


class _CallableError(Exception):
    pass


class Template:
    """The messages of a job, with templates in them. Several threads may render at once.

    Raises `JobError` for a template that is wrong for every row.
    """

    def __init__(self, settings: Input, prompt_setting: str = "input.prompt") -> None:
        """`prompt_setting` is what messages call the prompt."""
        self._environment = minijinja.Environment(
            undefined_behavior="strict",
            keep_trailing_newline=True,
            auto_escape_callback=lambda _: False,
            fuel=FUEL,
            finalizer=_printed,
            debug=False,
        )
        self._environment.add_filter("tojson", to_json)
        self._texts: list[str] = []
        self._access = RowAccess()
        self._columns: set[str] = set()
        if settings.messages is not None:
            self._messages = self._compiled(list(settings.messages), "input.messages")
        else:
            texts = (("system", settings.system, "input.system"), ("user", settings.prompt, prompt_setting))
            self._messages = _filled(
                [
                    _filled({"role": role, "content": self._compiled(text, setting)})
                    for role, text, setting in texts
                    if text is not None
                ]
            )
        self.is_text = settings.messages is None or all(map(_is_text, settings.messages))
        """Whether the messages are only text, without pictures, sound or files."""
        names = self._columns - {ROW}
        self.reads = None if self._access.whole else frozenset(self._columns | self._access.names)
        """The columns that the templates may use. None if they may use any column."""
        self.required = frozenset(names - self._environment.globals.keys() | self._access.names)
        """The columns without which the templates can't be rendered."""
        self._names = tuple(sorted(names))
        self._uses_row = ROW in self._columns
        self.json_columns = frozenset(names if all(map(_pieces, self._texts)) else ())
        """The columns whose values may be JSON texts, as `msgspec.Raw`: the templates only put them into their text."""

    def render(self, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the messages for a row. Rows share the parts without templates. Raises `BadRowError`."""
        given = {}
        for name in self._names:
            if name in values:
                value = values[name]
                given[name] = value if type(value) in _TEXTS else _fitted(name, value)
        if self._uses_row:
            given[ROW] = self._row(values)
        messages: list[dict[str, Any]] = self._messages(given) if callable(self._messages) else self._messages
        return messages

    def _row(self, values: Mapping[str, Any]) -> Any:
        """Return the value of `row` in a template.

        Normally it is the whole row. If the input has a column named `row`, it is the value of that column, provided
        that the value is a list or an object, or that a template uses `row` by itself, as in `{{ row }}`.
        """
        access = self._access
        if ROW in values and (access.bare or isinstance(values[ROW], list | dict)):
            return _fitted(ROW, values[ROW])
        names = values if access.whole else access.names & values.keys()
        return ShieldedDict({name: _fitted(name, values[name]) for name in names})

    def misspelt(self, columns: Iterable[str]) -> str | None:
        """Return a column that the templates name as if it were a single word, as in `{{ first-name }}`, or None."""
        return misspelt(self._texts, columns)

    def _compiled(self, value: Any, setting: str) -> Any:
        """Return a function that renders the value for a row, or the value itself if it contains no template."""
        if isinstance(value, list | tuple):
            return _filled([self._compiled(item, f"{setting}[{i}]") for i, item in enumerate(value)])
        if isinstance(value, dict):
            return _filled({key: self._compiled(item, f"{setting}.{key}") for key, item in value.items()})
        if not isinstance(value, str) or not _TAG_START.search(value):
            return value
        return self._text(value, setting)

    def _text(self, text: str, setting: str) -> Render:
        self._texts.append(text)
        name = f"t{len(self._texts)}"
        try:
            self._environment.add_template(name, text)
            columns = columns_in(self._environment, text)
        except minijinja.TemplateError as error:
            hint = unquoted_column(text, _compiles)
            raise JobError(f"{setting}: the template has an error: {reason(error)}{hint}") from None
        check_template(text, setting)
        access = row_access(text) if ROW in columns else RowAccess()
        self._columns |= columns
        self._access |= access
        render = self._environment.render_template
        pieces = _pieces(text)
        named = pieces[1::2]

        def rendered(given: dict[str, Any]) -> str | msgspec.Raw:
            values = [given[column] for column in named if type(given.get(column)) in _TEXTS]
            if values and len(values) == len(named):  # minijinja would copy long texts several times
                filled = pieces.copy()
                filled[1::2] = values
                if msgspec.Raw in map(type, values):
                    return joined_json(filled)
                whole = "".join(filled)
                if _is_unicode(whole):
                    return whole
            given = {column: decode_json_text(value) for column, value in given.items()}
            try:
                return render(name, **given)
            except _NullError:
                raise _null_error(setting, given, columns, access) from None
            except _CallableError:
                raise BadRowError(f"{setting}: would print a function; is a key missing?") from None
            except minijinja.TemplateError as error:
                is_undefined = error.kind == "UndefinedError" or _OF_UNDEFINED.search(str(error))
                error_type = UndefinedError if is_undefined else BadRowError
                raise error_type(f"{setting}: {reason(error)}") from None
            except (ValueError, TypeError, RecursionError, LookupError, AttributeError) as error:
                raise BadRowError(f"{setting}: {clean(str(error) or type(error).__name__)}") from None

        return rendered


def _is_unicode(text: str) -> bool:
    """Return whether a text is free of lone surrogates, which minijinja refuses."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _pieces(text: str) -> list[str]:
    """Return the pieces of a template around its columns, and at the odd places the columns.

    Empty if the template has more than columns by their plain names.
    """
    pieces = _COLUMN.split(text)
    is_plain = not _CONSTANTS.intersection(pieces[1::2]) and not any(map(_TAG_START.search, pieces[::2]))
    return pieces if is_plain else []


def _is_text(message: Any) -> bool:
    return isinstance(message, Mapping) and "role" in message and not isinstance(message.get("content"), list | tuple)


def _compiles(text: str) -> bool:
    try:
        minijinja.Environment().add_template("t", text)
    except minijinja.TemplateError:
        return False
    return True


def _null_error(setting: str, given: dict[str, Any], columns: set[str], access: RowAccess) -> BadRowError:
    """Return the error for a null that a template would print. It names the column if it is clear which one is null."""
    row = given.get(ROW)
    row = row if isinstance(row, ShieldedDict) else {}
    nulls = sorted(column for column in columns if given.get(column, 0) is None)
    nulls += sorted(column for column in access.names if row.get(column, 0) is None)
    if not nulls and not access.gets <= row.keys():
        return UndefinedError(f"{setting}: undefined value")  # from row.get("x") for a missing column
    what = f"column {quoted(nulls[0])} is null" if nulls else "a value in it is null"
    return BadRowError(f"{setting}: {what}")


def _fitted(name: str, value: Any) -> Any:
    """Return a column's value in the form that templates get: read-only, and with very large integers as text."""
    value_type = type(value)
    if value_type is int:
        return str(value) if value.bit_length() > MAX_INT_BITS else value
    if value_type is list or value_type is dict:
        try:
            return shielded(value)
        except RecursionError:
            raise BadRowError(f"column {quoted(name)} is nested too deeply") from None
    return value


def _filled(items: Any) -> Any:
    """Return a function that copies a list or object and renders its templates. Without templates, return `items`."""
    places = items.items() if isinstance(items, dict) else enumerate(items)
    templates = [(place, item) for place, item in places if callable(item)]
    if not templates:
        return items

    def filled(given: dict[str, Any]) -> Any:
        copied = items.copy()
        for place, item in templates:
            copied[place] = item(given)
        return copied

    return filled


def _printed(value: Any) -> Any:
    """Raise an error for null and functions, which make no sense in a prompt. Let minijinja print any other value."""
    if value is None:
        raise _NullError
    if callable(value):
        raise _CallableError
    return NotImplemented
