"""The parameters that a row brings beside its messages, as in request bodies and in files for fine-tuning."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Any

from batchmix.formats.display import column_list, kind_of
from batchmix.job import Job
from batchmix.load.arrow_rows import decode_cell

_TEXT, _LIST, _OBJECT, _NUMBER, _WHOLE, _SWITCH = (
    "text",
    "a list",
    "an object",
    "a number",
    "a whole number",
    "true or false",
)
PARAMETERS: Mapping[str, tuple[str, ...]] = {
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
"""What OpenAI's API takes in a chat request, and of what kinds (CreateChatCompletionRequest in its openapi.yaml).

What only labels a request is not among them: a dataset's `user` or `metadata` is seldom meant for a provider.
"""
LABELS: Mapping[str, tuple[str, ...]] = {
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
"""The others, and those of other providers, which are sent where rows are whole requests that name their models."""
_MEANT = frozenset({
    "chat_template_kwargs", "enable_thinking", "extra_body", "min_p", "repetition_penalty", "stop_sequences", "system",
    "thinking_budget", "top_k",
})  # fmt: skip
_MEANT_BESIDE_PROMPT = _MEANT | {
    "max_completion_tokens", "max_tokens", "response_format", "temperature", "tools", "top_p",
}  # fmt: skip
"""Columns that are seldom only a dataset's own."""
_logger = logging.getLogger(__name__)
_KINDS = {**PARAMETERS, **LABELS}
_CAPS = ("max_tokens", "max_completion_tokens")


def warn_unsent_columns(job: Job, columns: Collection[str], mode: str, own: Collection[str]) -> None:
    """Warn of columns that rows which bring their messages or prompt seem to bring to be sent, and that are not."""
    if mode not in ("plain", "bodies") or job.input.params is not None:
        return
    meant = _MEANT if "messages" in columns else _MEANT_BESIDE_PROMPT
    left = sorted(meant.intersection(columns).difference(own, {"system"} if job.input.system is not None else ()))
    if left:
        _logger.warning(
            "only carried and not sent with the rows: %s; what is to be sent stands in the messages, under [params], or"
            " in an object in the column that input.params names",
            column_list(left),
        )


def param_problem(row: Mapping[str, Any], names: frozenset[str]) -> str | None:
    """Return which of a row's own parameters is not what it should be."""
    for name in sorted(names & row.keys()):
        value = _value(name, row[name])
        if value is not None and not any(_is(kind, value) for kind in _KINDS[name]):
            return (
                f"{name} is {kind_of(value)}; it goes with the row's messages as OpenAI's parameter of that name, which"
                f" is {' or '.join(_KINDS[name])}. Where something else is meant: --set input.params='' leaves all out"
            )
    return None


def with_row_params(params: Mapping[str, Any], row: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    """Return the job's parameters with a row's own before them."""
    own = {name: value for name in row if name in names and (value := _value(name, row[name])) is not None}
    if len(own.keys() & set(_CAPS)) == 1:  # the two say the same
        params = {name: value for name, value in params.items() if name not in _CAPS}
    return {**params, **own}


def _value(name: str, value: Any) -> Any:
    """Return a parameter out of a column: of text where a table's cells are, of a float where pandas made it one."""
    kinds = _KINDS[name]
    if isinstance(value, float) and _WHOLE in kinds and value.is_integer():
        return int(value)
    if isinstance(value, str) and _TEXT not in kinds:
        return decode_cell(value.lower() if _SWITCH in kinds else value)
    if isinstance(value, str):
        return decode_cell(value) if value.startswith(("{", "[")) else value
    return decode_cell(value)


def _is(kind: str, value: Any) -> bool:
    is_a = {
        _TEXT: str, _LIST: list, _OBJECT: dict, _NUMBER: int | float, _WHOLE: int, _SWITCH: bool,
    }[kind]  # fmt: skip
    return isinstance(value, is_a) and (kind == _SWITCH or not isinstance(value, bool))
