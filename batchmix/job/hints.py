"""Where a setting belongs that stands where there is none of that name."""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Iterator

import msgspec

from batchmix.job.table import JobTable, KeyPath, inner, kind_of, name_of, names, tables

PARAMETERS = frozenset(
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
"""What OpenAI's API, and those that are like it, take in a request beside the model and the messages."""
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
_NEAR = 0.6
_HERE = 0.1
"""A name of the same table may be so much farther from what was written than others."""


def hint(key: str, table: type, at: KeyPath) -> str:
    """Return where an unknown setting belongs, or which one may be meant."""
    folded = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key).lower().replace("-", "_")
    below, everywhere = dict(_shelves(table, at)), dict(_shelves(JobTable, ()))
    if folded in names(table):
        return f"did you mean {name_of((*at, folded))}?"
    places = [shelf for shelf, known in below.items() if folded in known]
    places = places or [shelf for shelf, known in everywhere.items() if folded in known]
    if places:
        return f"{folded} belongs {' or '.join(map(_under, places))}"
    if folded in _ALSO_CALLED:
        return f"did you mean {_ALSO_CALLED[folded]}?"
    near = {name_of((*shelf, name)): _likeness(folded, name) for shelf, known in everywhere.items() for name in known}
    near |= {name_of((*at, name)): _likeness(folded, name) + _HERE for name in names(table)}
    best = max(near, key=lambda name: near[name])
    return f"did you mean {best}?" if near[best] >= _NEAR else f"known are {', '.join(sorted(names(table)))}"


def settings_of(name: str) -> list[str]:
    """Return the settings, with their tables, that a call may mean by an option that there is not."""
    shelves = [(shelf, known) for shelf, known in _shelves(JobTable, ()) if not _is_list(shelf)]
    found = [name_of((*shelf, name)) for shelf, known in shelves if name in known]
    also = _ALSO_CALLED.get(name, " ").partition(",")[0]
    return found if found or " " in also else [also]


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def _under(shelf: KeyPath) -> str:
    if not shelf:
        return "at the top, before the first [table]"
    return f"under [[{name_of(shelf)}]]" if _is_list(shelf) else f"under [{name_of(shelf)}]"


def _is_list(shelf: KeyPath) -> bool:
    return bool(shelf) and typing.get_origin(kind_of(shelf)) is tuple


def _shelves(table: type, at: KeyPath) -> Iterator[tuple[KeyPath, set[str]]]:
    """Yield the tables in a table, and itself at the end, with the names that each knows."""
    for field in msgspec.structs.fields(table):
        if field.name == "params" and typing.get_origin(field.type) is dict:
            yield (*at, "params"), set(PARAMETERS)
    for field in msgspec.structs.fields(table):
        kind = inner(field.type) if typing.get_origin(field.type) is tuple else field.type
        known = {name for inside in tables(kind) for name in names(inside)}
        if known:
            yield (*at, field.encode_name), known
    if not at:
        yield at, names(table)
