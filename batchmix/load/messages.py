"""Rows that bring their own messages or a prompt, some of them as whole requests."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping
from typing import Any

from batchmix.errors import InputError
from batchmix.formats.display import clean, column_list, kind_of, quoted
from batchmix.job import Job, Model
from batchmix.load.arrow_rows import decode_cell
from batchmix.load.row_params import LABELS, PARAMETERS, param_problem, with_row_params
from batchmix.load.streaming import streaming_problem
from batchmix.load.template import BadRowError, Template, UndefinedError
from batchmix.load.template_names import nearest, spelt
from batchmix.responses.endpoints import CHAT

SYSTEM_CLASH = (
    "input.system goes before a row's prompt, but the rows bring their own messages; take input.system out of the job,"
    " or make the messages there: messages = [{role = …, content = …}, …]"
)
_IDS = ("id", "custom_id")
_LIKELY = frozenset({"text", "prompt", "question", "query", "input", "inputs", "content", "message", "review", "body"})
"""Columns that are rather asked about than others."""
_TUNING = "weight"
"""What files for fine-tuning say of a message, and no provider takes."""


class MessageRows:
    """Rows bring `messages`, perhaps with parameters beside them, or a `prompt`."""

    names_model = False
    checks_types = False

    def __init__(self, job: Job, columns: Collection[str] | None = None) -> None:
        self._system = Template(job.input) if job.input.system is not None else None
        self.required = self._system.required if self._system else frozenset()
        names = frozenset() if job.input.params is not None else frozenset(self._parameters())
        if columns is not None:
            names = names.intersection(columns) if "messages" in columns else frozenset()
        self.param_columns = names
        self.has_row_params = bool(self.param_columns)
        also = self._system.reads if self._system else frozenset()
        self.reads = None if also is None else also | {"messages", "prompt"} | self.param_columns

    def _parameters(self) -> Collection[str]:
        return PARAMETERS.keys()

    def problem(self, row: Mapping[str, Any]) -> str | None:
        """Return what is wrong with `messages` or `prompt`, or which column `input.system` misses."""
        messages = given(row, "messages")
        if messages is not None:
            if self._system is not None:
                raise InputError(SYSTEM_CLASH)
            return messages_problem(messages) or self._own_problem(row)
        prompt = row.get("prompt")
        if prompt is None and "prompt" not in row and "messages" not in row:
            return neither(row)
        if prompt is not None and not isinstance(prompt, str):
            messages = isinstance(prompt, list) and messages_problem(prompt) is None
            return f"prompt is {kind_of(prompt)}; it must be text{'; call a list of messages messages' * messages}"
        return None if self._system is None or self.required <= row.keys() else missing_column(self._system, row)

    def _own_problem(self, row: Mapping[str, Any]) -> str | None:
        if self.param_columns.isdisjoint(row):
            return None
        return param_problem(row, self.param_columns) or streaming_problem(
            CHAT, with_row_params({}, row, self.param_columns)
        )

    def asked(self, row: Mapping[str, Any], model: Model) -> tuple[str, dict[str, Any]] | None:
        """Return the body with the row's messages, and the row's parameters before the job's."""
        messages, params = given(row, "messages"), model.params
        if messages is None:
            prompt = row.get("prompt")
            if prompt is None:
                raise BadRowError(f"column {'prompt' if 'prompt' in row else 'messages'!r} is null")
            messages = [*(self._system.render(row) if self._system else ()), {"role": "user", "content": prompt}]
        else:
            for message in messages:
                if _TUNING in message:
                    messages = [{key: value for key, value in one.items() if key != _TUNING} for one in messages]
                    break
            if self.param_columns:
                params = with_row_params(params, row, self.param_columns)
        return CHAT, {"model": model.id, "messages": messages, **params}

    def model_of(self, row: Mapping[str, Any]) -> str:
        """Return nothing: the job names the model."""
        return ""


class RequestBodies(MessageRows):
    """Rows are whole requests, which name their models."""

    names_model = True

    def __init__(self, job: Job, columns: Collection[str] | None = None) -> None:
        super().__init__(job, columns)
        self.reads = None if self.reads is None else self.reads | {"model"}

    def _parameters(self) -> Collection[str]:
        return PARAMETERS.keys() | LABELS.keys()

    def problem(self, row: Mapping[str, Any]) -> str | None:
        """Return what is wrong with the request."""
        model = row.get("model")
        if not is_model(model):
            what = "names no model" if model in (None, "") else "names a model that is no plain text"
            return f"{what}; set model in the job"
        return super().problem(row)

    def asked(self, row: Mapping[str, Any], model: Model) -> tuple[str, dict[str, Any]] | None:
        """Return the request, where it is for this model."""
        return super().asked(row, model) if row["model"] == model.name else None

    def model_of(self, row: Mapping[str, Any]) -> str:
        """Return what the row says."""
        return str(row["model"])


def neither(columns: Collection[str]) -> str:
    """Return what is wrong with a row, or a file, that has no column by which it could be asked."""
    others = [name for name in columns if name not in _IDS]
    example = clean(spelt(min(others, key=lambda name: name.lower() not in _LIKELY, default="question")), 100)
    return (
        f"has neither messages nor prompt; it has {column_list(columns)}. Name columns in a template, such as"
        f" --prompt {shlex.quote(example)}"
    )


def messages_problem(messages: Any) -> str | None:
    """Return what is wrong with a row's `messages`."""
    if not isinstance(messages, list):
        return f"messages is {kind_of(messages)}; it must be a list of objects, each with a text as role"
    if not messages:
        return "messages is empty"
    for message in messages:
        if not isinstance(message, dict):
            return f"messages holds {kind_of(message)}; it must be a list of objects, each with a text as role"
        if not isinstance(message.get("role"), str):
            return "messages holds a message without a text as role"
    return None


def given(row: Mapping[str, Any], name: str) -> Any:
    """Return `messages` or `body`, which may be JSON text, as in a table's cell."""
    value = row.get(name)
    return decode_cell(value) if isinstance(value, str) else value


def is_model(value: Any) -> bool:
    """Return whether a value can be the id of a model."""
    return isinstance(value, str) and bool(value.strip()) and value.isprintable()


def missing_column(template: Template, row: Mapping[str, Any]) -> str | None:
    """Return which column is missing; None where the template can be rendered without, as with `is defined`."""
    try:
        template.render(row)
    except UndefinedError:
        missing = min(template.required - row.keys())
        meant = template.misspelt(row) or nearest(missing, row)
        hint = f"; for {quoted(meant)} write {clean(spelt(meant), 100)}" if meant is not None else ""
        return f"has no column {quoted(missing)}, which the template names; it has {column_list(row)}{hint}"
    except BadRowError:
        return None  # a matter of this row alone, which ends as rejected
    return None
