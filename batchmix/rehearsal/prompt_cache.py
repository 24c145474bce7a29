"""The prompt cache of the rehearsal provider: which part of a prompt is read from it, and which is written to it.

An answer writes its prompt to the cache when it has ended. A request that arrives earlier reads nothing of it. Each
reading keeps the entry for another `cache_s`. Callers pass the time in seconds.

- `automatic`, as OpenAI does it (platform.openai.com/docs/guides/prompt-caching): prompts of 1,024 tokens and more, in
  blocks of 128 tokens. Writing costs nothing, reading half.
- `marked`, as Claude does it (docs.anthropic.com, "Prompt caching"): up to each `cache_control`, if that is 1,024
  tokens and more. Writing costs 1.25 times the price of a prompt, or twice for an hour, and reading a tenth.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from typing import Any

import msgspec

from batchmix.rehearsal.behaviour import Behaviour
from batchmix.rehearsal.request import Json, RehearsalRequest

LEAST_TOKENS = 1024
BYTES_PER_TOKEN = 4
_BLOCK_BYTES = 128 * BYTES_PER_TOKEN
_HOUR_S = 3600.0
_MOST_ENTRIES = 100_000
_PRICES = {"automatic": (0.5, 1.0, 1.0), "marked": (0.1, 1.25, 2.0)}
"""The prices of reading, of writing, and of writing for an hour, as multiples of the price of a prompt."""
_encode = msgspec.json.Encoder(order="sorted").encode


@dataclasses.dataclass(slots=True)
class CacheUse:
    """What a request reads from the cache, and what its answer writes to it."""

    read_tokens: int = 0
    written_tokens: int = 0
    is_hour: bool = False
    """Whether what is written stays for an hour."""
    entries: list[bytes] = dataclasses.field(default_factory=list)
    """The keys of the prompt's prefixes that are in the cache after the answer."""


class PromptCache:
    """The cache of one model, or of several, none of which reads what another one has written."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        # By key: from when on, and until when it can be read. In the order of writing.
        self._entries: dict[bytes, tuple[float, float]] = {}

    def use(self, request: RehearsalRequest, now: float) -> CacheUse:
        """Return what a request reads that arrives now, and what its answer will write."""
        found = CacheUse()
        is_marked = self._behaviour.cache == "marked"
        longest = 0
        for key, size, is_hour in _marked(request) if is_marked else _blocks(request):
            tokens = min(size // BYTES_PER_TOKEN, request.prompt_tokens)
            if tokens < LEAST_TOKENS:
                continue
            since, until = self._entries.get(key, (0.0, 0.0))
            if since <= now < until:
                found.read_tokens = tokens
            found.entries.append(key)
            found.is_hour |= is_hour
            longest = tokens
        found.written_tokens = longest - found.read_tokens if is_marked else 0
        return found

    def answered(self, use: CacheUse, now: float) -> None:
        """Write a prompt to the cache, after its answer has ended."""
        since = now + self._behaviour.cache_lag_s
        life_s = _HOUR_S if use.is_hour else self._behaviour.cache_s
        for key in use.entries:
            before = self._entries.pop(key, None)
            self._entries[key] = (before[0] if before and now < before[1] else since, since + life_s)
        while len(self._entries) > _MOST_ENTRIES:
            del self._entries[next(iter(self._entries))]


def usage_with(usage: Json, use: CacheUse, behaviour: Behaviour) -> Json:
    """Return a usage with what was read and written, in the form of the provider whose cache is played."""
    if behaviour.cache == "marked":
        plain = {name: count for name, count in usage.items() if not name.endswith("_details")}
        five, hour = (0, use.written_tokens) if use.is_hour else (use.written_tokens, 0)
        details = {"cache_read_input_tokens": use.read_tokens, "cache_creation_5_m_tokens": five}
        return {**plain, "claude_cache_tokens_details": {**details, "cache_creation_1_h_tokens": hour}}
    name = "prompt_tokens_details" if "prompt_tokens" in usage else "input_tokens_details"
    return {**usage, name: {"cached_tokens": use.read_tokens}}


def saved_tokens(use: CacheUse, behaviour: Behaviour) -> float:
    """Return how many prompt tokens less are billed because of the cache. Negative if more are."""
    read, written, for_an_hour = _PRICES[behaviour.cache]
    return use.read_tokens * (1 - read) + use.written_tokens * (1 - (for_an_hour if use.is_hour else written))


def cache_prices(behaviour: Behaviour) -> Json:
    """Return the prices of the cache as the catalogue has them."""
    prompt_usd = behaviour.price[0]
    if behaviour.cache != "marked":
        return {"cache_read": prompt_usd / 2}
    read, written, _ = _PRICES["marked"]
    return {"cache_read": prompt_usd * read, "cache_write": prompt_usd * written}


def _blocks(request: RehearsalRequest) -> Iterator[tuple[bytes, int, bool]]:
    """Yield a key and the size in bytes for each prefix of whole blocks."""
    canonical, digest = request.canonical, _digest_of(request)
    for end in range(_BLOCK_BYTES, len(canonical) + 1, _BLOCK_BYTES):
        digest.update(canonical[end - _BLOCK_BYTES : end])
        yield digest.digest(), end, False


def _marked(request: RehearsalRequest) -> Iterator[tuple[bytes, int, bool]]:
    """Yield a key and the size in bytes for each prefix that ends with a mark, and whether it is to stay an hour."""
    content, digest, size = request.content, _digest_of(request), 0
    for message in content if isinstance(content, list) else ():
        parts: Any = message.get("content") if isinstance(message, dict) else None
        for part in parts if isinstance(parts, list) else [{"type": "text", "text": parts}]:
            mark = part.get("cache_control") if isinstance(part, dict) else None
            bare = {name: part[name] for name in part if name != "cache_control"} if mark else part
            text = _encode([message.get("role"), bare])
            digest.update(text)
            size += len(text)
            if isinstance(mark, dict):
                yield digest.digest(), size, mark.get("ttl") == "1h"


def _digest_of(request: RehearsalRequest) -> hashlib.blake2b:
    return hashlib.blake2b(request.model.encode("utf-8", "replace"), digest_size=12)
