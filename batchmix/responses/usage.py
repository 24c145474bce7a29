"""Reads the token counts that a provider reports.

Providers have many names for the same counts, and report 0 for tokens that they did not count. In the `Usage` returned
here, the prompt's tokens include cached tokens, and the completion's tokens include reasoning tokens.

OpenAI, LiteLLM, OpenRouter and AiHubMix include cached tokens too (`prompt_tokens_details`, with `cached_tokens` and
`cache_write_tokens`, `cache_creation_tokens` or `cached_creation_tokens`; AiHubMix's `claude_cache_tokens_details`).
Anthropic (`input_tokens`, `cache_read_input_tokens`, `cache_creation_input_tokens`) and gateways that only rename its
counts report them separately. Reasoning tokens are included by OpenAI and reported separately by xAI and Gemini, as the
total shows. Gemini's and Bedrock's own names and camelCase are read too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from batchmix.records import Usage

MAX_TOKENS = 10**12
"""The most tokens that one answer can have. A larger number is not a count, and would spoil all sums."""
_DIGITS = re.compile(r"[0-9]{1,13}(?:\.0{1,2})?|[0-9]{1,3}(?:,[0-9]{3}){1,4}")
_DETAILS = (
    "prompt_tokens_details", "input_tokens_details", "claude_cache_tokens_details", "cache_creation",
    "cache_creation_token_details",
)  # fmt: skip
_READ = ("cached_tokens", "cache_read_tokens", "cache_read_input_tokens", "prompt_cache_hit_tokens")
_WRITTEN = (
    "cache_write_tokens", "cache_creation_tokens", "cached_creation_tokens", "cache_creation_input_tokens",
)  # fmt: skip
_WRITTEN_FOR = (
    "cache_creation_5_m_tokens", "cache_creation_1_h_tokens", "claude_cache_creation_5_m_tokens",
    "claude_cache_creation_1_h_tokens", "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens",
)  # fmt: skip
_HOUR = frozenset(name for name in _WRITTEN_FOR if "1_h" in name or "1h" in name)
_OTHER_NAMES = {
    "prompt_token_count": "prompt_tokens",
    "candidates_token_count": "completion_tokens",
    "total_token_count": "total_tokens",
    "cached_content_token_count": "cached_tokens",
    "thoughts_token_count": "reasoning_tokens",
    "cache_write_input_tokens": "cache_creation_input_tokens",
}
_CAPITAL = re.compile("(?<=[a-z])(?=[A-Z])")
_SEPARATE_COUNTS = ("cache_read_input_tokens", "cache_creation_input_tokens", "cache_creation")
"""Anthropic's names. Without `prompt_tokens`, the counts under these names are not included in `input_tokens`."""


def read_usage(usage: Any, *, has_completion_tokens: bool, has_text: bool) -> Usage:
    """Return the usage in a body, with cached tokens counted as part of the prompt's. Never raises.

    A missing count is None, unless it follows from the others. A prompt of 0 tokens is treated as a missing count. So
    is a completion of 0 tokens if the answer has text (`has_text`). `has_completion_tokens` is the endpoint's: if
    False, a missing completion count is 0.
    """
    if not isinstance(usage, dict):
        return Usage()
    usage = _renamed(usage)
    read, written = _cached(usage), _written(usage)
    prompt = _first(usage, ("prompt_tokens", "input_tokens"))
    prompt = None if prompt is None else _whole_prompt(usage, prompt, (read or 0) + (written or 0)) or None
    completion = _first(usage, ("completion_tokens", "output_tokens"))
    total = count(usage.get("total_tokens")) or None
    if not has_completion_tokens:
        completion = completion or 0
    elif not completion and (has_text or prompt is None):
        completion = None
    if prompt is None and completion is not None and total and total > completion:
        prompt = total - completion
    if completion is None and prompt is not None and total and total > prompt:
        completion = total - prompt
    reasoning = _reasoning(usage)
    if prompt is not None and completion is not None:
        if reasoning and (reasoning > completion or total == prompt + completion + reasoning):
            completion += reasoning
        total = max(total or 0, prompt + completion)
    if prompt is not None and written:
        written = min(written, max(0, prompt - (read or 0)))
    hour = min(written, max(_counts(usage, _HOUR), default=0)) if written else 0
    return Usage(prompt, completion, total, read, reasoning, written, hour or None)


def count(value: Any) -> int | None:
    """Return a value as a number of tokens. It may be `150.0` or `"150"`. None if it is not such a number."""
    if isinstance(value, str) and _DIGITS.fullmatch(value.strip()):
        value = float(value.replace(",", ""))
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        value = int(value)
    return value if type(value) is int and 0 <= value <= MAX_TOKENS else None


def _first(usage: dict[str, Any], names: Iterable[str]) -> int | None:
    """Return the first count under these names that is not 0, since a gateway may put a 0 under an unused name.

    If all counts are 0, return 0. None if there are no counts.
    """
    counts = [number for name in names if (number := count(usage.get(name))) is not None]
    return next((number for number in counts if number), counts[0] if counts else None)


def _whole_prompt(usage: dict[str, Any], prompt: int, cached: int) -> int:
    """Return the prompt tokens, including cached ones. `cached` is added if the provider did not include it."""
    has_anthropic_names = not count(usage.get("prompt_tokens")) and any(usage.get(name) for name in _SEPARATE_COUNTS)
    is_separate = has_anthropic_names or cached > prompt
    return prompt + cached if is_separate else prompt


def _cached(usage: dict[str, Any]) -> int | None:
    return max(_counts(usage, _READ), default=None)


def _written(usage: dict[str, Any]) -> int | None:
    """Return the tokens written to a cache: the reported total, or the sum over storage times if that is larger."""
    places = _places(usage)
    by_time = [[number for name in _WRITTEN_FOR if (number := count(place.get(name))) is not None] for place in places]
    return max([*_counts(usage, _WRITTEN), *(sum(counts) for counts in by_time if counts)], default=None)


def _places(usage: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the usage object and all objects in it that hold details."""
    places = [usage]
    for place in places:
        places += (details for name in _DETAILS if isinstance(details := place.get(name), dict))
    return places


def _counts(usage: dict[str, Any], names: Iterable[str]) -> list[int]:
    return [number for place in _places(usage) for name in names if (number := count(place.get(name))) is not None]


def _reasoning(usage: dict[str, Any]) -> int | None:
    for name in ("completion_tokens_details", "output_tokens_details"):
        details = usage.get(name)
        if isinstance(details, dict) and (number := count(details.get("reasoning_tokens"))) is not None:
            return number
    return count(usage.get("reasoning_tokens"))


def _renamed(usage: dict[str, Any]) -> dict[str, Any]:
    """Return a usage object that also has each count under the name this module reads.

    For example, `promptTokenCount` is added as `prompt_tokens`. A count that already has that name is kept.
    """
    names = {_OTHER_NAMES.get(snake := _CAPITAL.sub("_", name).lower(), snake): value for name, value in usage.items()}
    return names | usage
