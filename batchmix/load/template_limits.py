"""Bounds the work of a template, and the methods that it can call.

minijinja's fuel bounds the steps of a template, but not the work of a single step. Therefore lists and objects are
read-only. Templates that could do unlimited work in a few steps are refused: `.format()` and `tojson` would pad with
any number of spaces, and a list that is added to itself in a loop grows without end.
"""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import minijinja

from batchmix.errors import JobError
from batchmix.formats.display import clean
from batchmix.load.template_names import unknown_call

FUEL = 1_000_000
"""The number of steps that minijinja may take to render one text."""
MAX_INT_BITS = 127
"""The maximum size of an integer in bits. minijinja converts larger integers to floating point."""
_MAX_INDENT = 16
"""The maximum number of spaces per level of JSON."""
_TRIAL_S = 10.0
"""A template that takes more seconds than this with small values counts as one that never ends."""
_UNKNOWN = {"UnknownFilter", "UnknownTest", "UnknownFunction", "TemplateNotFound"}
_FORMAT_CALL = re.compile(r"\{[{%](?:(?![%}]\}).)*\.\s*format\s*\(", re.DOTALL)
_METHODS = frozenset({"items", "keys", "values", "get", "index", "count"})
"""The methods of lists and objects that a template may call. Other methods change or copy the value."""
_TRIAL = f"""
import minijinja, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32))
trial = minijinja.Environment(undefined_behavior="chainable", fuel={FUEL})
trial.add_template("t", sys.stdin.buffer.read().decode())
names = trial.undeclared_variables_in_template("t") - trial.globals.keys()
for value in ([1], 99, "x"):
    try:
        trial.render_template("t", **dict.fromkeys(names, value))
    except Exception:
        pass
"""


class _Shielded:
    """A list or object of a row, whose methods a template can't call unless they are in `_METHODS`."""

    __slots__ = ()

    def __getattribute__(self, name: str) -> Any:
        if name in _METHODS or name.startswith("__"):  # minijinja itself denies templates the names with `__`
            return super().__getattribute__(name)
        raise AttributeError(f"a template can't reach {name!r}")


class _List(_Shielded, list[Any]):
    __slots__ = ()


class ShieldedDict(_Shielded, dict[str, Any]):
    """An object that a template can only read."""

    __slots__ = ()


def shielded(value: Any) -> Any:
    """Return lists and objects as read-only copies, and any other value itself. Raises `RecursionError`."""
    if type(value) is list:
        return _List([shielded(item) for item in value])
    if type(value) is dict:
        return ShieldedDict({key: shielded(item) for key, item in value.items()})
    return value


def check_template(text: str, setting: str) -> None:
    """Raise `JobError` if a template may never end, or uses an unknown filter, test or function."""
    if _FORMAT_CALL.search(text):
        raise JobError(
            f"{setting}: templates have no .format(); use the filter instead: {{{{ '%5.2f'|format(price) }}}}"
        )
    # Adding a list to itself takes a statement. Fuel counts it as one step, however long the list is.
    if "{%" in text and "+" in text and not _ends(text):
        raise JobError(f"{setting}: the template never ends; does it add a list to itself in a loop?")
    lenient = minijinja.Environment(undefined_behavior="chainable", fuel=FUEL, debug=False)
    lenient.add_template("t0", text)
    try:
        lenient.render_template("t0")
    except minijinja.TemplateError as error:
        if error.kind in _UNKNOWN:
            unknown = re.search(r"unknown function: (\w+) is", str(error))
            hint = unknown_call(text, unknown[1]) if unknown else ""
            raise JobError(f"{setting}: the template has an error: {reason(error)}{hint}") from None
    except (ValueError, TypeError, RecursionError, LookupError, AttributeError):
        pass  # perhaps only because the values are missing. If not, each row is rejected.


def _ends(text: str) -> bool:
    """Return whether a template ends if it is rendered with small values, in a process that can be stopped."""
    try:
        call = [sys.executable, "-I", "-c", _TRIAL]
        done = subprocess.run(  # noqa: S603 - Python, and a program of our own
            call, input=text.encode(), timeout=_TRIAL_S, capture_output=True, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode >= 0


_unlimited = minijinja.Environment(fuel=FUEL, debug=False)


def to_json(value: Any, indent: int | None = None) -> str:
    """Do the same as minijinja's filter `tojson`, but raise `ValueError` for an indent over `_MAX_INDENT`."""
    if indent is not None and not 0 <= indent <= _MAX_INDENT:
        raise ValueError(f"tojson can't indent by more than {_MAX_INDENT}")
    text: str = _unlimited.eval_expr("value|tojson(indent)", value=value, indent=indent)
    return text


def reason(error: minijinja.TemplateError) -> str:
    """Return a template's error as a message, with the line in the template."""
    text = re.sub(r" \(in t\d+:\d+\)$", "", str(error).splitlines()[0])
    return clean(text) + (f" (line {error.line} of the template)" if error.line else "")
