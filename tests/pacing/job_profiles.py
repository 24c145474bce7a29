"""Jobs that end, and two clients that share a limit."""

from __future__ import annotations

import dataclasses
from typing import Any

from tests.pacing.cases import Case
from tests.pacing.provider import Profile
from tests.pacing.rules import Rule, requests, tokens

SILENT: Any = {"retry_after": "none"}
FAIR = {"used": 0.93, "refused": 0.03, "share": 0.35, "minute": 0.40}


def shared(name: str, rule: Rule, apart_s: float, **more: Any) -> Case:
    """Return the case of two clients with one key: each minute of ten is looked at."""
    profile = Profile(f"shared, {name}, {apart_s:g} s apart", (rule,), **more)
    return Case(profile, FAIR, since_s=120, seconds=720, clients=2, apart_s=apart_s)


SHARED = [
    *(
        shared(retry_after, requests(1200, span_s=5), apart_s, retry_after=retry_after)
        for retry_after in ("seconds", "ms")
        for apart_s in (0.0, 5.0, 60.0)
    ),
    shared("silent", requests(1200, span_s=5), 5.0, **SILENT),
    shared("reported", requests(1200, span_s=5, reported="all"), 5.0),
    shared("a minute saved up", requests(1200), 5.0),
    shared("fixed minutes", requests(1200, window="fixed", random_phase=True), 5.0),
]

LLMOCK = Profile(
    "llmock, 1000 rows",
    (requests(1200, reported="all"), tokens(60_000, "reserved", reported="all")),
    retry_after="ms", latency_s=0.2, prompt=51, prompt_ratio=1.0, overhead=20, completion=15, sizes=0.0, max_tokens=50,
    rows=1000,
)  # fmt: skip
JOBS = [
    Case(
        Profile("LiteLLM, 130 rows", (requests(60, window="first", reported="no reset"),), bare=True, rows=130, **SILENT),
        {"time": 1 / 0.93, "refused": 0.03, "failed": 0}, since_s=0, seconds=900,
    ),
    Case(
        Profile("LiteLLM by the clock, 130 rows", (requests(60, window="fixed", random_phase=True, reported="no reset"),),
                bare=True, rows=130, **SILENT),
        {"time": 1 / 0.93, "refused": 0.03, "failed": 0}, since_s=0, seconds=900,
    ),
    Case(
        Profile("LiteLLM by the clock, 'try again in 60 s', 130 rows",
                (requests(60, window="fixed", random_phase=True, reported="no reset"),),
                bare=True, rows=130, retry_after=60.0),
        {"time": 1 / 0.93, "refused": 0.03, "failed": 0}, since_s=0, seconds=900,
    ),
    Case(
        Profile("nginx, 5 a second, burst 2, 300 rows", (requests(300, holds=3),), rows=300, **SILENT),
        {"time": 1 / 0.9, "refused": 0.05, "failed": 0}, since_s=10, seconds=900,
    ),
    Case(
        Profile("nginx, 5 a second, burst 2, 503, 300 rows", (requests(300, holds=3),), rows=300, status=503),
        {"time": 1 / 0.9, "refused": 0.05, "failed": 0}, since_s=10, seconds=900,
    ),
    Case(LLMOCK, {"time": 1.05, "refusals": 30, "failed": 0}, since_s=0),
    Case(
        dataclasses.replace(LLMOCK, name="llmock, 1000 rows, told", told=True),
        {"time": 1.05, "refusals": 10, "failed": 0}, since_s=0,
    ),
    *(
        Case(
            Profile(f"HAProxy, 4 served, 4 wait, {wait}, 40 rows", concurrency=4, queue=4, queue_s=queue_s,
                    latency_s=latency_s, rows=40, status=503),
            {"time": 1.5, "requests": 1.5, "failed": 0}, since_s=0,
        )
        for wait, queue_s, latency_s in (("others refused", 60.0, 1.0), ("1 s at most", 1.0, 2.0))
    ),
    *(
        Case(
            Profile(f"no limit, {latency_s:g} s, 1000 rows", latency_s=latency_s, rows=1000),
            {"time": 2.2, "requests": 1.0, "failed": 0}, since_s=0,
        )
        for latency_s in (1.0, 3.0)
    ),
    *(
        Case(
            Profile(f"{most} at once, others fail, {60 * most} rows", concurrency=most, status=500, rows=60 * most),
            {"time": 1.7, "requests": 1.5, "failed": 0}, since_s=0, seconds=900,
        )
        for most in (150, 300)
    ),
    Case(
        Profile("8 slots, 20 s, 500 rows", concurrency=8, queue=1e9, latency_s=20, rows=500),
        {"time": 1.05, "requests": 1.0, "failed": 0}, since_s=0, seconds=3600,
    ),
]  # fmt: skip
"""Jobs that end: their time beside the least possible one, and their requests beside their rows."""

JOB_CASES = [*SHARED, *JOBS]
