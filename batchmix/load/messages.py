"""Turns rows that contain their own prompt or messages, whole requests, or Batch lines into requests."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import msgspec

from batchmix.errors import InputError, JobError
from batchmix.formats.display import clean, column_list, kind_of, quoted
from batchmix.job import CheckedJob, Model
from batchmix.load.jsonl import decode_cell
from batchmix.load.parameters import (
    CHAT_PARAMETERS,
    EXTRA_PARAMETERS,
    param_problem,
    streaming_problem,
    with_row_params,
)
from batchmix.load.prompts import Mode
from batchmix.load.template import BadRowError, Template, UndefinedError
from batchmix.load.template_names import nearest, spelt
from batchmix.responses.endpoints import CHAT, SUPPORTED, endpoint_of

BATCH_KEYS = frozenset({"custom_id", "method", "url", "body"})
_SYSTEM_CLASH = (
    "input.system is for rows with a prompt, but these rows bring their own messages; take input.system out of the job,"
    " or make the messages there: messages = [{role = …, content = …}, …]"
)
_BAD_URL = "can't be sent: url must be an API path such as /v1/chat/completions"
_IDS = ("id", "custom_id")
_LIKELY = frozenset({"text", "prompt", "question", "query", "input", "inputs", "content", "message", "review", "body"})
"""The names of columns that are likely to contain the prompt, for hints."""
_TUNING = "weight"
"""A key of messages in fine-tuning files. It is left out, since no provider accepts it in a request."""


class MessageRows:
    """Rows with `messages` (and perhaps parameters in other columns) or a `prompt`."""

    mode = Mode.PLAIN
    json_columns = frozenset({"prompt"})
    names_model = False
    checks_values = False
    is_text = False

    def __init__(self, job: CheckedJob, system: Template | None, columns: Collection[str] | None = None) -> None:
        self._system = system
        self.required = system.required if system else frozenset()
        names = frozenset() if job.input.params is not None else frozenset(self._parameters())
        if columns is not None:
            names = names.intersection(columns) if "messages" in columns else frozenset()
        self.param_columns = names
        self.has_row_params = bool(names)
        also = system.reads if system else frozenset()
        self.reads = None if also is None else also | {"messages", "prompt"} | names

    def _parameters(self) -> Collection[str]:
        return CHAT_PARAMETERS.keys()

    def problem(self, row: Mapping[str, Any]) -> str | None:
        """Return a message about a bad `messages`, `prompt` or parameter, or about a column that `input.system` needs.

        None if nothing is wrong.
        """
        messages = column_value(row, "messages")
        if messages is not None:
            if self._system is not None:
                raise InputError(_SYSTEM_CLASH)
            return _messages_problem(messages) or self._params_problem(row)
        prompt = row.get("prompt")
        if prompt is None and "prompt" not in row and "messages" not in row:
            return no_prompt(row)
        if prompt is not None and not isinstance(prompt, str | msgspec.Raw):
            messages = isinstance(prompt, list) and _messages_problem(prompt) is None
            return f"prompt is {kind_of(prompt)}; it must be text{'; rename a list of messages to messages' * messages}"
        return None if self._system is None or self.required <= row.keys() else missing_column(self._system, row)

    def _params_problem(self, row: Mapping[str, Any]) -> str | None:
        names = self.param_columns
        if names.isdisjoint(row):
            return None
        return param_problem(row, names) or streaming_problem(CHAT, with_row_params({}, row, names))

    def request_for(self, row: Mapping[str, Any], model: Model) -> tuple[str, dict[str, Any]] | None:
        """Return the URL path, and the body with the row's messages and parameters.

        The row's parameters override the job's.
        """
        messages, params = column_value(row, "messages"), model.params
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
        """Return an empty string, since the job names the model."""
        return ""


class RequestBodies(MessageRows):
    """Rows that are whole requests, with a model each."""

    mode = Mode.BODIES
    names_model = True

    def __init__(self, job: CheckedJob, system: Template | None, columns: Collection[str] | None = None) -> None:
        super().__init__(job, system, columns)
        self.reads = None if self.reads is None else self.reads | {"model"}

    def _parameters(self) -> Collection[str]:
        return CHAT_PARAMETERS.keys() | EXTRA_PARAMETERS.keys()

    def problem(self, row: Mapping[str, Any]) -> str | None:
        """Return a message about what is wrong with the request. None if nothing is wrong."""
        model = row.get("model")
        if not is_model(model):
            return f"{_no_model(model)}; set model in the job"
        return super().problem(row)

    def request_for(self, row: Mapping[str, Any], model: Model) -> tuple[str, dict[str, Any]] | None:
        """Return the URL path and body of the request. None if the row is for another model."""
        return super().request_for(row, model) if row["model"] == model.name else None

    def model_of(self, row: Mapping[str, Any]) -> str:
        """Return the row's `model`."""
        return str(row["model"])


class BatchLines:
    """Rows that are lines of an OpenAI Batch file."""

    mode = Mode.BATCH
    json_columns: frozenset[str] = frozenset()
    param_columns: frozenset[str] = frozenset()
    has_row_params = True
    checks_values = False
    is_text = False

    def __init__(self, job: CheckedJob) -> None:
        if job.params or any(model.params for model in job.models):
            raise JobError("params: the lines of an OpenAI Batch file bring their own; take params out of the job")
        if job.input.system is not None:
            raise JobError("input.system: the lines of an OpenAI Batch file bring their own messages; take it out")
        self.required = frozenset({"body"})
        self.reads: frozenset[str] | None = BATCH_KEYS
        self.names_model = not job.models

    def problem(self, row: Mapping[str, Any]) -> str | None:
        """Return a message about what is wrong with the line. None if nothing is wrong."""
        body = column_value(row, "body")
        if not isinstance(body, dict):
            return f"is no Batch line: body is {kind_of(body) if 'body' in row else 'missing'}; it must be an object"
        if row.get("method") not in (None, "POST"):
            return "can't be sent: method must be POST"
        path = _path_of(row.get("url"))
        if path is None or not endpoint_of(path).is_supported:
            return _BAD_URL if path is None else _unsupported(path)
        if endpoint_of(path).offers_background and body.get("background"):
            return "requests a response in the background, which is not supported; take background out of its body"
        model = body.get("model")
        if self.names_model and not is_model(model):
            return f"{_no_model(model)} in its body; fix it, or set model in the job"
        return streaming_problem(path, body)

    def request_for(self, row: Mapping[str, Any], model: Model) -> tuple[str, dict[str, Any]] | None:
        """Return the line's path and body. None if it is for another model. A model in the job replaces the body's."""
        body = column_value(row, "body")
        path = _path_of(row.get("url")) or CHAT
        if self.names_model:
            return (path, body) if body["model"] == model.name else None
        return path, {**body, "model": model.id}

    def model_of(self, row: Mapping[str, Any]) -> str:
        """Return the model in the line's body."""
        return str(column_value(row, "body")["model"])


def no_prompt(columns: Collection[str]) -> str:
    """Return the message for a row or a file whose `columns` include neither messages nor a prompt."""
    others = [name for name in columns if name not in _IDS]
    example = clean(spelt(min(others, key=lambda name: name.lower() not in _LIKELY, default="question")), 100)
    return (
        f"has neither messages nor prompt; it has {column_list(columns)}. Name columns in a template, such as"
        f" --prompt {shlex.quote(example)}"
    )


def _messages_problem(messages: Any) -> str | None:
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


def _no_model(model: Any) -> str:
    return "names no model" if model in (None, "") else "names a model that is not plain text"


def column_value(row: Mapping[str, Any], name: str) -> Any:
    """Return the value of `messages` or `body`. JSON text, which CSV files have, is decoded."""
    value = row.get(name)
    return decode_cell(value) if isinstance(value, str) else value


def is_model(value: Any) -> bool:
    """Return whether a value can be the id of a model."""
    return isinstance(value, str) and bool(value.strip()) and value.isprintable()


def missing_column(template: Template, row: Mapping[str, Any]) -> str | None:
    """Return a message that names a column which the template uses and the row lacks, with a suggestion.

    None if the template renders, because it tests whether the column `is defined`, or if it fails for another reason.
    """
    try:
        template.render(row)
    except UndefinedError:
        missing = min(template.required - row.keys())
        meant = template.misspelt(row) or nearest(missing, row)
        hint = f"; for {quoted(meant)} write {clean(spelt(meant), 100)}" if meant is not None else ""
        return f"has no column {quoted(missing)}, which the template names; it has {column_list(row)}{hint}"
    except BadRowError:
        return None  # a fault of this row alone: it is rejected when its request is built
    return None


def _path_of(url: Any) -> str | None:
    """Return the path below the API's root that a Batch line's `url` stands for. None if it is not a valid URL path."""
    return CHAT if url is None else _path(url) if isinstance(url, str) else None


@lru_cache(maxsize=64)
def _path(url: str) -> str | None:
    try:
        path = urlsplit(url.strip()).path
    except ValueError:
        return None
    if not (path.isascii() and path.isprintable()) or ".." in path or " " in path:
        return None
    path = "/" + path.strip("/")
    # The file may have been written for another root: Azure's deployments, a gateway's /api/v1, Gemini's /v1beta.
    endpoint = endpoint_of(path)
    if endpoint.is_supported:
        return endpoint.suffix
    return path[3:] if path.startswith("/v1/") else None


def _unsupported(path: str) -> str:
    *others, last = SUPPORTED
    return f"can't be sent: the endpoint {clean(path, 60)} is not supported; use {', '.join(others)} or {last}"
