"""Suggests the right table or name for an unknown setting."""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Iterator

import msgspec

from batchmix.job.table import JobTable, KeyPath, dotted, item_type, keys_of, tables_in, type_at

CHAT_PARAMETERS = frozenset(
    {
        "audio", "dimensions", "enable_thinking", "encoding_format", "extra_body", "frequency_penalty",
        "function_call", "functions", "logit_bias", "logprobs", "max_completion_tokens", "max_output_tokens",
        "max_tokens", "metadata", "min_p", "modalities", "n", "parallel_tool_calls", "prediction",
        "presence_penalty", "prompt_cache_key", "reasoning", "reasoning_effort", "repetition_penalty",
        "response_format", "safety_identifier", "seed", "service_tier", "stop", "store", "stream",
        "stream_options", "temperature", "thinking", "tool_choice", "tools", "top_k", "top_logprobs", "top_p",
        "user", "verbosity", "web_search_options"
    }
)  # fmt: skip
"""The parameters of a chat request, besides `model` and `messages`, in OpenAI's API and compatible ones."""
_ALSO_CALLED = {
    "rpm": "limits.requests_per_minute",
    "tpm": "limits.tokens_per_minute",
    "max_concurrency": "limits.concurrency",
    "workers": "limits.concurrency",
    "timeout": "timeouts.total_s",
    "deadline": "timeouts.job_s",
    "retries": "retry.attempts",
    "max_retries": "retry.attempts",
    "max_cost": "budget.max_usd",
    "api_key": "provider.api_key_env, which names the environment's variable and never holds the key",
    "url": "provider.base_url",
    "api_base": "provider.base_url",
    "out": "output.path",
    "output_path": "output.path",
    "file": "input.path",
    "dir": "output.path",
    "timeout_s": "timeouts.total_s",
    "bad_rows": "the command's option --bad-rows",
    "canary": "the command's option --canary",
    "limit": "the command's option --limit",
}
_MIN_LIKENESS = 0.6
"""The minimum similarity, from 0 to 1, of a name that is suggested."""
_SAME_TABLE_BONUS = 0.1
"""Added to the similarity of names in the same table, since a typo is likelier than a wrong table."""


def hint(key: str, table: type, path: KeyPath) -> str:
    """Return a suggestion for the unknown setting `key` of the table at `path`.

    It names the table that the setting belongs to, or a similar setting.
    """
    folded = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key).lower().replace("-", "_")
    below, everywhere = dict(_tables_below(table, path)), dict(_tables_below(JobTable, ()))
    everywhere.pop(("steps",))  # which has keys of other tables
    if folded in keys_of(table):
        return f"did you mean {dotted((*path, folded))}?"
    places = [place for place, keys in below.items() if folded in keys]
    places = places or [place for place, keys in everywhere.items() if folded in keys]
    if places:
        return f"{folded} belongs {' or '.join(map(_under, places))}"
    if folded in _ALSO_CALLED:
        return f"did you mean {_ALSO_CALLED[folded]}?"
    near = {dotted((*place, name)): _likeness(folded, name) for place, keys in everywhere.items() for name in keys}
    near |= {dotted((*path, name)): _likeness(folded, name) + _SAME_TABLE_BONUS for name in keys_of(table)}
    best = max(near, key=lambda name: near[name])
    if near[best] >= _MIN_LIKENESS:
        return f"did you mean {best}?"
    return f"there are {', '.join(sorted(keys_of(table)))}"


def settings_of(name: str) -> list[str]:
    """Return the dotted names of the settings that a user may mean by an unknown command-line option."""
    tables = [(place, keys) for place, keys in _tables_below(JobTable, ()) if not _is_list(place)]
    settings = [dotted((*place, name)) for place, keys in tables if name in keys]
    also = _ALSO_CALLED.get(name, " ").partition(",")[0]
    return settings if settings or " " in also else [also]


def _likeness(left: str, right: str) -> float:
    return difflib.SequenceMatcher(None, left, right).ratio()


def _under(table: KeyPath) -> str:
    if not table:
        return "at the top, before the first [table]"
    return f"under [[{dotted(table)}]]" if _is_list(table) else f"under [{dotted(table)}]"


def _is_list(table: KeyPath) -> bool:
    return bool(table) and typing.get_origin(type_at(table)) is tuple


def _tables_below(table: type, path: KeyPath) -> Iterator[tuple[KeyPath, set[str]]]:
    """Yield the path and keys of each table directly within a table. For the whole job, the top level comes last."""
    for field in msgspec.structs.fields(table):
        if field.name == "params" and typing.get_origin(field.type) is dict:
            yield (*path, "params"), set(CHAT_PARAMETERS)
    for field in msgspec.structs.fields(table):
        type_ = item_type(field.type) if typing.get_origin(field.type) is tuple else field.type
        keys = {key for inside in tables_in(type_) for key in keys_of(inside)}
        if keys:
            yield (*path, field.encode_name), keys
    if not path:
        yield path, keys_of(table)
