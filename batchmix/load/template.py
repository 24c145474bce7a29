"""Templates: minijinja, strict, with bounded work.

They are given text, numbers, and lists and objects that they can read but not change. What minijinja's fuel does not
bound is refused: `.format()` and `tojson` would fill any width with spaces, and a list that is added to itself again
and again never comes to an end.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import minijinja

from batchmix.errors import JobError
from batchmix.formats.display import clean, quoted
from batchmix.job import Input
from batchmix.load.template_columns import columns_in
from batchmix.load.template_names import ROW, RowAccess, called, misspelt, row_access, wrong_hole

_FUEL = 1_000_000
_WIDEST_INT = 127
"""Bits; minijinja turns wider ones into floating point."""
_UNKNOWN = {"UnknownFilter", "UnknownTest", "UnknownFunction", "TemplateNotFound"}
_HOLE = re.compile(r"\{[{%#]")
_FORMAT_CALL = re.compile(r"\{[{%](?:(?![%}]\}).)*\.\s*format\s*\(", re.DOTALL)
_OF_UNDEFINED = re.compile(r"unsupported types [\w ]*\bundefined\b")
_WIDEST_INDENT = 16
_TRIAL_S = 10.0
_TRIAL = f"""
import minijinja, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32))
trial = minijinja.Environment(undefined_behavior="chainable", fuel={_FUEL})
trial.add_template("t", sys.stdin.buffer.read().decode())
names = trial.undeclared_variables_in_template("t") - trial.globals.keys()
for value in ([1], 99, "x"):
    try:
        trial.render_template("t", **dict.fromkeys(names, value))
    except Exception:
        pass
"""
_METHODS = frozenset({"items", "keys", "values", "get", "index", "count"})
"""What may be called of a row's lists and objects; everything else would change them, or copy them without end."""


class BadRowError(Exception):
    """A row that can't be asked; its text says why."""


class UndefinedError(BadRowError):
    """A template names what the row does not have."""


class _NullError(Exception):
    pass


class _CallableError(Exception):
    pass


class _Shielded:
    """A list or an object of a row, of which a template reaches no more than it may."""

    __slots__ = ()

    def __getattribute__(self, name: str) -> Any:
        if name in _METHODS or name.startswith("__"):  # minijinja itself lets no template near the latter
            return super().__getattribute__(name)
        raise AttributeError(f"a template can't reach {name!r}")


class _List(_Shielded, list[Any]):
    __slots__ = ()


class _Dict(_Shielded, dict[str, Any]):
    __slots__ = ()


def _shielded(value: Any) -> Any:
    if type(value) is list:
        return _List([_shielded(item) for item in value])
    if type(value) is dict:
        return _Dict({key: _shielded(item) for key, item in value.items()})
    return value


class Template:
    """The job's messages with templates in them. Raises `JobError` for one that can't be right."""

    def __init__(self, asked: Input) -> None:
        self._environment = minijinja.Environment(
            undefined_behavior="strict",
            keep_trailing_newline=True,
            auto_escape_callback=lambda _: False,
            fuel=_FUEL,
            finalizer=_printed,
            debug=False,
        )
        self._environment.add_filter("tojson", _json)
        self._texts: list[str] = []
        self._looks = RowAccess()
        used: set[str] = set()
        if asked.messages is not None:
            built = self._compiled(list(asked.messages), "input.messages", used)
        else:
            texts = [("system", asked.system, "input.system"), ("user", asked.prompt, "input.prompt")]
            built = _filled(
                [
                    _filled({"role": role, "content": self._compiled(text, setting, used)})
                    for role, text, setting in texts
                    if text is not None
                ]
            )
        self._built = built
        looks = self._looks
        words = used - {ROW}
        self.reads = None if looks.whole else frozenset(used | looks.names)
        """The columns that the templates may look at; None: all."""
        self.required = frozenset(words - self._environment.globals.keys() | looks.names)
        """Those without which they can't be rendered."""
        self._names = tuple(sorted(words))
        self._sees_row = ROW in used

    def render(self, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the messages for a row; parts without templates are shared between rows. Raises `BadRowError`."""
        given = {}
        for name in self._names:
            if name in values:
                value = values[name]
                given[name] = value if type(value) is str else _fit(name, value)
        if self._sees_row:
            given[ROW] = self._row(values)
        messages: list[dict[str, Any]] = self._built(given) if callable(self._built) else self._built
        return messages

    def _row(self, values: Mapping[str, Any]) -> Any:
        """Return the column `row`, or the whole row where there is none, or one that can't be looked into."""
        looks = self._looks
        if ROW in values and (looks.bare or isinstance(values[ROW], list | dict)):
            return _fit(ROW, values[ROW])
        names = values if looks.whole else looks.names & values.keys()
        return _Dict({name: _fit(name, values[name]) for name in names})

    def misspelt(self, columns: Iterable[str]) -> str | None:
        """Return which of some columns the templates name as if its name were a word."""
        return misspelt(self._texts, columns)

    def _compiled(self, value: Any, setting: str, used: set[str]) -> Any:
        """Return what makes the value for a row, or the value itself where there is no template in it."""
        if isinstance(value, list | tuple):
            return _filled([self._compiled(item, f"{setting}[{i}]", used) for i, item in enumerate(value)])
        if isinstance(value, dict):
            return _filled({key: self._compiled(item, f"{setting}.{key}", used) for key, item in value.items()})
        if not isinstance(value, str) or not _HOLE.search(value):
            return value
        return self._text(value, setting, used)

    def _text(self, text: str, setting: str, used: set[str]) -> Callable[[dict[str, Any]], str]:
        self._texts.append(text)
        name = f"t{len(self._texts)}"
        try:
            self._environment.add_template(name, text)
            columns = columns_in(self._environment, text)
        except minijinja.TemplateError as error:
            hint = wrong_hole(text, _compiles)
            raise JobError(f"{setting}: the template has an error: {_reason(error)}{hint}") from None
        if _FORMAT_CALL.search(text):
            raise JobError(
                f"{setting}: a template has no .format(); the filter does it: {{{{ '%5.2f'|format(price) }}}}"
            )
        used |= columns
        looks = row_access(text) if ROW in columns else RowAccess()
        self._looks |= looks
        self._check_names(name, text, setting)
        render = self._environment.render_template

        def rendered(given: dict[str, Any]) -> str:
            try:
                return render(name, **given)
            except _NullError:
                raise _null_error(setting, given, columns, looks) from None
            except _CallableError:
                raise BadRowError(f"{setting}: would print a function; is a key missing?") from None
            except minijinja.TemplateError as error:
                is_undefined = error.kind == "UndefinedError" or _OF_UNDEFINED.search(str(error))
                kind = UndefinedError if is_undefined else BadRowError
                raise kind(f"{setting}: {_reason(error)}") from None
            except (ValueError, TypeError, RecursionError, LookupError, AttributeError) as error:
                raise BadRowError(f"{setting}: {clean(str(error) or type(error).__name__)}") from None

        return rendered

    def _check_names(self, name: str, text: str, setting: str) -> None:
        """Raise `JobError` for an unknown filter, test or function, which would end every row."""
        # What adds a list to itself needs a statement for that; fuel counts one step for it, whatever the length.
        if "{%" in text and "+" in text and not _ends(text):
            raise JobError(f"{setting}: the template comes to no end; does it add a list to itself again and again?")
        lenient = minijinja.Environment(undefined_behavior="chainable", fuel=_FUEL, debug=False)
        lenient.add_template(name, text)
        try:
            lenient.render_template(name)
        except minijinja.TemplateError as error:
            if error.kind in _UNKNOWN:
                unknown = re.search(r"unknown function: (\w+) is", str(error))
                hint = called(text, unknown[1]) if unknown else ""
                raise JobError(f"{setting}: the template has an error: {_reason(error)}{hint}") from None
        except (ValueError, TypeError, RecursionError, LookupError, AttributeError):
            pass  # for want of values; each row will tell


def _ends(text: str) -> bool:
    """Try a template in a process of its own, where it can be stopped, with values of several kinds."""
    try:
        call = [sys.executable, "-I", "-c", _TRIAL]
        done = subprocess.run(  # noqa: S603 - Python, and a program of our own
            call, input=text.encode(), timeout=_TRIAL_S, capture_output=True, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode >= 0


def _compiles(text: str) -> bool:
    try:
        minijinja.Environment().add_template("t", text)
    except minijinja.TemplateError:
        return False
    return True


def _null_error(setting: str, given: dict[str, Any], columns: set[str], looks: RowAccess) -> BadRowError:
    """Return what to say of a null that would be printed: which column it is, if that is plain."""
    row = given.get(ROW)
    row = row if isinstance(row, _Dict) else {}
    nulls = sorted(column for column in columns if given.get(column, 0) is None)
    nulls += sorted(column for column in looks.names if row.get(column, 0) is None)
    if not nulls and not looks.gets <= row.keys():
        return UndefinedError(f"{setting}: undefined value")  # row.get("x") of a column that there is not
    what = f"column {quoted(nulls[0])} is null" if nulls else "a value in it is null"
    return BadRowError(f"{setting}: {what}")


def _fit(name: str, value: Any) -> Any:
    """Return a column's value as a template is given it."""
    kind = type(value)
    if kind is int and value.bit_length() > _WIDEST_INT:
        return str(value)
    return _nested(name, value) if kind is list or kind is dict else value


def _nested(name: str, value: Any) -> Any:
    try:
        return _shielded(value)
    except RecursionError:
        raise BadRowError(f"column {quoted(name)} is nested too deeply") from None


def _filled(items: Any) -> Any:
    """Return what makes a copy of a list or an object with its templates filled in; itself where there are none."""
    places = items.items() if isinstance(items, dict) else enumerate(items)
    made = [(place, item) for place, item in places if callable(item)]
    if not made:
        return items

    def filled(given: dict[str, Any]) -> Any:
        found = items.copy()
        for place, item in made:
            found[place] = item(given)
        return found

    return filled


def _printed(value: Any) -> Any:
    """Refuse what a prompt can't mean; all else is printed as minijinja does it."""
    if value is None:
        raise _NullError
    if callable(value):
        raise _CallableError
    return NotImplemented


_plain = minijinja.Environment(fuel=_FUEL, debug=False)


def _json(value: Any, indent: int | None = None) -> str:
    """Do what the filter of that name does, which by itself would indent by any number of spaces."""
    if indent is not None and not 0 <= indent <= _WIDEST_INDENT:
        raise ValueError(f"tojson can't indent by more than {_WIDEST_INDENT}")
    text: str = _plain.eval_expr("value|tojson(indent)", value=value, indent=indent)
    return text


def _reason(error: minijinja.TemplateError) -> str:
    text = re.sub(r" \(in t\d+:\d+\)$", "", str(error).splitlines()[0])
    return clean(text) + (f" (line {error.line} of the template)" if error.line else "")
