"""Parameters of request bodies: columns that are sent beside a row's messages, and what is wrong with a `stream`."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Any

from batchmix.formats.display import column_list, kind_of
from batchmix.job import CheckedJob
from batchmix.load.jsonl import decode_cell
from batchmix.responses.endpoints import STREAMED, endpoint_of

_TEXT, _LIST, _OBJECT = "text", "a list", "an object"
_NUMBER, _WHOLE, _SWITCH = "a number", "a whole number", "true or false"
CHAT_PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "audio": (_OBJECT,),
    "frequency_penalty": (_NUMBER,),
    "function_call": (_TEXT, _OBJECT),
    "functions": (_LIST,),
    "logit_bias": (_OBJECT,),
    "logprobs": (_SWITCH,),
    "max_completion_tokens": (_WHOLE,),
    "max_tokens": (_WHOLE,),
    "modalities": (_LIST,),
    "n": (_WHOLE,),
    "parallel_tool_calls": (_SWITCH,),
    "prediction": (_OBJECT,),
    "presence_penalty": (_NUMBER,),
    "reasoning_effort": (_TEXT,),
    "response_format": (_OBJECT,),
    "seed": (_WHOLE,),
    "service_tier": (_TEXT,),
    "stop": (_TEXT, _LIST),
    "stream": (_SWITCH,),
    "stream_options": (_OBJECT,),
    "temperature": (_NUMBER,),
    "tool_choice": (_TEXT, _OBJECT),
    "tools": (_LIST,),
    "top_logprobs": (_WHOLE,),
    "top_p": (_NUMBER,),
    "verbosity": (_TEXT,),
    "web_search_options": (_OBJECT,),
}
"""The parameters of an OpenAI chat request and their types (CreateChatCompletionRequest in openapi.yaml).

Parameters that only label a request are in `EXTRA_PARAMETERS`, since a dataset's `user` or `metadata` seldom belongs
into a request.
"""
EXTRA_PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "chat_template_kwargs": (_OBJECT,),
    "enable_thinking": (_SWITCH,),
    "metadata": (_OBJECT,),
    "min_p": (_NUMBER,),
    "prompt_cache_key": (_TEXT,),
    "prompt_cache_retention": (_TEXT,),
    "reasoning": (_OBJECT,),
    "repetition_penalty": (_NUMBER,),
    "safety_identifier": (_TEXT,),
    "store": (_SWITCH,),
    "thinking": (_OBJECT,),
    "thinking_budget": (_WHOLE,),
    "top_k": (_WHOLE,),
    "user": (_TEXT,),
}
"""Labels, and parameters of other providers. They are sent only if rows are whole requests (`Mode.BODIES`)."""
_SUSPECTED = frozenset({
    "chat_template_kwargs", "enable_thinking", "extra_body", "min_p", "repetition_penalty", "stop_sequences", "system",
    "thinking_budget", "top_k",
})  # fmt: skip
"""Columns beside `messages` that are most likely parameters. A warning says that they are not sent."""
_SUSPECTED_BESIDE_PROMPT = _SUSPECTED | {
    "max_completion_tokens", "max_tokens", "response_format", "temperature", "tools", "top_p",
}  # fmt: skip
_TYPES = {**CHAT_PARAMETERS, **EXTRA_PARAMETERS}
_CAPS = ("max_tokens", "max_completion_tokens")
_logger = logging.getLogger(__name__)


def warn_unsent_columns(job: CheckedJob, columns: Collection[str], mode: str, sent: Collection[str]) -> None:
    """Warn of columns that look like request parameters but are not sent, if rows have messages or a prompt.

    `sent` are the columns that are sent.
    """
    if mode not in ("plain", "bodies") or job.input.params is not None:
        return
    suspected = _SUSPECTED if "messages" in columns else _SUSPECTED_BESIDE_PROMPT
    unsent = sorted(
        suspected.intersection(columns).difference(sent, {"system"} if job.input.system is not None else ())
    )
    if unsent:
        _logger.warning(
            "only carried and not sent with the rows: %s; to send them, put them into the messages, under [params], or"
            " into an object in the column that input.params names",
            column_list(unsent),
        )


def param_problem(row: Mapping[str, Any], names: frozenset[str]) -> str | None:
    """Return a message about a parameter of a row that has the wrong type. None if all types are right."""
    for name in sorted(names & row.keys()):
        value = _value(name, row[name])
        if value is not None and not any(_is(expected, value) for expected in _TYPES[name]):
            return (
                f"{name} is {kind_of(value)}; it is sent with the row's messages as OpenAI's parameter of that name,"
                f" which must be {' or '.join(_TYPES[name])}. If the column means something else, leave all such"
                " columns out: --set input.params=''"
            )
    return None


def with_row_params(params: Mapping[str, Any], row: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    """Return the job's parameters, overridden by the row's parameters."""
    of_row = {name: value for name in row if name in names and (value := _value(name, row[name])) is not None}
    if len(of_row.keys() & set(_CAPS)) == 1:  # both names mean the same cap: the row's replaces the job's
        params = {name: value for name, value in params.items() if name not in _CAPS}
    return {**params, **of_row}


def _value(name: str, value: Any) -> Any:
    """Return a column's value as a parameter of the right type, if possible.

    CSV cells are text, and pandas turns a column of whole numbers and nulls into floats.
    """
    types = _TYPES[name]
    if isinstance(value, float) and _WHOLE in types and value.is_integer():
        return int(value)
    if isinstance(value, str) and _TEXT not in types:
        return decode_cell(value.lower() if _SWITCH in types else value)
    if isinstance(value, str):
        return decode_cell(value) if value.startswith(("{", "[")) else value
    return decode_cell(value)


def _is(expected: str, value: Any) -> bool:
    python_type = {
        _TEXT: str, _LIST: list, _OBJECT: dict, _NUMBER: int | float, _WHOLE: int, _SWITCH: bool,
    }[expected]  # fmt: skip
    return isinstance(value, python_type) and (expected == _SWITCH or not isinstance(value, bool))


def streaming_problem(path: str, body: Mapping[str, Any]) -> str | None:
    """Return a message that says why a body's `stream` can't be sent. None if it can be sent."""
    stream = body.get("stream")
    if not isinstance(stream, bool | None):
        return "can't be sent: stream must be true or false"
    if stream and not endpoint_of(path).can_stream:
        return (
            f"requests a stream from {path}; streams are supported only for {' and '.join(STREAMED)}:"
            " take stream out of its body"
        )
    return None
