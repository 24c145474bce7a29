"""The rehearsal's prompt caches: what is read and written, when, and how the usage says so."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from batchmix.rehearsal.behaviour import Behaviour
from batchmix.rehearsal.lookups import catalogue
from batchmix.rehearsal.prompt_cache import CacheUse, PromptCache, saved_tokens, usage_with
from batchmix.rehearsal.request import RehearsalRequest, read_request
from batchmix.responses.usage import read_usage

SYSTEM = "word " * 1000
USAGE = {
    "prompt_tokens": 2000, "completion_tokens": 5, "total_tokens": 2005, "prompt_tokens_details": {"cached_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0},
}  # fmt: skip


def asking(system: Any, question: str = "Why?") -> RehearsalRequest:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
    request = read_request("/v1/chat/completions", msgspec.json.encode({"model": "m", "messages": messages}))
    assert isinstance(request, RehearsalRequest)
    return request


def marked(text: str, **more: str) -> list[Any]:
    return [{"type": "text", "text": text, "cache_control": {"type": "ephemeral", **more}}]


def test_a_prompt_is_read_in_blocks_once_its_answer_has_ended_and_for_five_minutes() -> None:
    cache = PromptCache(Behaviour(cache="automatic", cache_lag_s=1.0))
    first = cache.use(asking(SYSTEM), 0.0)
    assert first.read_tokens == 0
    assert cache.use(asking(SYSTEM, "Who?"), 1.0).read_tokens == 0  # the first answer has not ended
    cache.answered(first, 2.0)
    assert cache.use(asking(SYSTEM, "Who?"), 2.5).read_tokens == 0
    assert cache.use(asking(SYSTEM, "Who?"), 3.0).read_tokens == 1250 // 128 * 128
    assert cache.use(asking(SYSTEM, "Who?"), 303.5).read_tokens == 0
    assert cache.use(asking("other " + SYSTEM), 3.0).read_tokens == 0


def test_each_use_keeps_a_prompt_for_another_five_minutes() -> None:
    cache = PromptCache(Behaviour(cache="automatic"))
    for now in (0.0, 200.0, 400.0, 600.0):
        use = cache.use(asking(SYSTEM), now)
        assert bool(use.read_tokens) == (now > 0)
        cache.answered(use, now + 1)


def test_short_prompts_are_not_cached() -> None:
    cache = PromptCache(Behaviour(cache="automatic"))
    for now in (0.0, 1.0):
        use = cache.use(asking("word " * 750), now)
        assert use == CacheUse()
        cache.answered(use, now)


def test_claude_caches_only_what_is_marked() -> None:
    cache = PromptCache(Behaviour(cache="marked"))
    assert cache.use(asking(SYSTEM), 0.0) == CacheUse()
    first = cache.use(asking(marked(SYSTEM)), 0.0)
    assert (first.read_tokens, first.written_tokens) == (0, pytest.approx(1260, abs=10))
    cache.answered(first, 1.0)
    second = cache.use(asking(marked(SYSTEM), "Who?"), 2.0)
    assert (second.read_tokens, second.written_tokens) == (first.written_tokens, 0)
    assert cache.use(asking(SYSTEM), 2.0).read_tokens == 0


def test_a_mark_can_hold_for_an_hour() -> None:
    cache = PromptCache(Behaviour(cache="marked"))
    cache.answered(cache.use(asking(marked(SYSTEM, ttl="1h")), 0.0), 1.0)
    assert cache.use(asking(marked(SYSTEM, ttl="1h")), 3600.0).read_tokens
    assert not cache.use(asking(marked(SYSTEM, ttl="1h")), 3602.0).read_tokens


@pytest.mark.parametrize("kind", ["automatic", "marked"])
def test_the_usage_is_what_batchmix_reads(kind: str) -> None:
    use = CacheUse(read_tokens=1280, written_tokens=0 if kind == "automatic" else 300, is_hour=True)
    usage = usage_with(USAGE, use, Behaviour(cache=kind))
    found = read_usage(usage, has_completion_tokens=True, has_text=True)
    assert (found.prompt_tokens, found.cached_tokens) == (2000, 1280)
    if kind == "marked":
        assert (found.cache_write_tokens, found.hour_tokens) == (300, 300)


def test_the_cache_has_prices() -> None:
    use = CacheUse(read_tokens=1000, written_tokens=100)
    assert saved_tokens(use, Behaviour(cache="automatic")) == 500
    assert saved_tokens(use, Behaviour(cache="marked")) == pytest.approx(900 - 25)
    (entry,) = catalogue(Behaviour(cache="marked", models=("m",), price=(1.0, 2.0)))["data"]
    assert entry["pricing"] == {"input": 1.0, "output": 2.0, "cache_read": 0.1, "cache_write": 1.25}
