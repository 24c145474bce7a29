"""Error messages for a caller in Python: keyword arguments where a message names options of the command line."""

from __future__ import annotations

import contextlib
import re
import shlex
from types import TracebackType

from batchmix.errors import BatchmixError, BudgetSpent, JobRefused, PartDamaged, UsageError
from batchmix.formats.display import clean

_QUOTES = "'\""
_SWITCHES = "update|retry-rejected|keep-going"
_VALUES = "out|limit|model|prompt|canary|bad-rows"
_OPTION = re.compile(
    rf"""--(?:
    set[ ](?P<key>[\w.]+)=(?P<setting>[^\s;,)]*)     # --set input.path=…
    |(?P<switch>{_SWITCHES})\b
    |(?P<name>{_VALUES})[ ](?P<value>'[^']*'|"[^"]*"|\d+|reject\b|[\w./-]*\d[\w./-]*)   # --limit 5, --model gpt-4o
    |(?P<bare>{_VALUES}|models)\b
    )""",
    re.VERBOSE,
)
_IN_TABLE = re.compile(
    r"rename it under \[(?P<table>input)\]: columns = \[\{from = (?P<from>\"[^\"]*\"), to = (?P<to>\"[^\"]*\")\}\]"
    r"|(?P<how>belongs under|or under) \[(?P<belongs>\w+)\]"
    r"|set provider\.api_key_env = \"\""
)
_NO_TABLE, _NO_DICT = "expected a table, got", "expected a dict, got"
_COPY = re.compile(r"^[^\n]*?/input/\d{6}/\d{5}\.parquet(?=, row |: )", re.MULTILINE)
"""The copy of a table in the run folder, at the beginning of a line."""
_EVALUATE = re.compile(r"run batchmix eval (.+)$")
_OF_A_FILE = re.compile(r"\.toml:\d")
"""The place of a mistake in a job file, which keeps its own terms."""
_IN_A_SHELL = " In a shell, put the template in single quotes."


class _SpeakingPython(contextlib.ContextDecorator):
    def __enter__(self) -> None:
        pass

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if isinstance(error, BatchmixError):
            error.reworded(_shown)
        if isinstance(error, UsageError):
            # The message says all. The frames below have the environment as a variable, which some tracebacks show.
            error.__traceback__ = None


def speaking_python() -> _SpeakingPython:
    """Return a context manager that rewords the message of a `BatchmixError`, and escapes control characters in it.

    Python prints the message of an error as it is, and it may quote what a provider or a row says.
    """
    return _SpeakingPython()


def _shown(message: str) -> str:
    return "\n".join(clean(line, len(line)) for line in in_python(message).split("\n"))


def how_to_go_on(error: BatchmixError, where: str, message: str) -> str:
    """Return the message of an error that ended a run, with how to go on with the run."""
    if isinstance(error, JobRefused | BudgetSpent):
        return f"{message}\nTo go on, change that in the call and call it again, or give it to error.run.go_on(…)."
    if isinstance(error, PartDamaged):
        return f"{message}\nTo go on, restore the part from a copy, or call it again with update=True."
    shell = shlex.join(["batchmix", "resume", where])
    return f"{message}\nTo go on, call it again, or error.run.go_on(), or in a shell: {shell}"


def in_python(message: str) -> str:
    """Return a message with keyword arguments in place of options of the command line and tables of a job file.

    >>> in_python("choose another folder with --out, or add --update")
    'choose another folder with out=…, or add update=True'
    >>> in_python("give --bad-rows reject, or --set input.path=…")
    "give bad_rows='reject', or input={'path': …}"
    """
    message = _OPTION.sub(_keyword, message.replace(_IN_A_SHELL, ""))
    message = _COPY.sub("data", message)
    message = _EVALUATE.sub(r"call bm.evaluate('\1', …)", message)
    return message if _OF_A_FILE.search(message) else _IN_TABLE.sub(_mapping, message).replace(_NO_TABLE, _NO_DICT)


def _mapping(found: re.Match[str]) -> str:
    if found["table"]:
        return f'rename it: input={{"columns": [{{"from": {found["from"]}, "to": {found["to"]}}}]}}'
    if found["belongs"]:
        return f"{found['how'].replace('under', 'in')} {found['belongs']}={{…}}"
    return 'pass provider={"api_key_env": ""}'


def _keyword(found: re.Match[str]) -> str:
    if found["key"]:
        *tables, last = found["key"].split(".")
        value = f"{{{last!r}: {found['setting']}}}" if tables else found["setting"]
        for table in tables[:0:-1]:
            value = f"{{{table!r}: {value}}}"
        return f"{(tables or [last])[0]}={value}"
    if found["switch"]:
        return f"{found['switch'].replace('-', '_')}=True"
    if found["bare"]:
        return found["bare"].replace("-", "_") + ("" if found["bare"] in {"models", "limit"} else "=…")
    value = found["value"]
    return f"{found['name'].replace('-', '_')}={value if value[0] in _QUOTES or value.isdigit() else repr(value)}"
