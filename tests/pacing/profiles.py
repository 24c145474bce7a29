"""All cases of the simulation, with what is promised of each.

Told its limits, a client uses 98 % of them and 1 % of its requests are refused. Told nothing, 93 % and 3 %, after the
first minute: less is possible with strict spacing, and where requests in flight are limited and some are refused at
random.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from tests.pacing.cases import Case
from tests.pacing.provider import Profile
from tests.pacing.rules import requests, tokens

TOLD = {"used": 0.98, "refused": 0.01}
UNTOLD = {"used": 0.93, "refused": 0.03}
HARD = {"used": 0.90, "refused": 0.03}
SILENT: Any = {"retry_after": "none"}
UNEVEN: Any = {"sizes": 0.8}


def found(profile: Profile, bounds: Any = UNTOLD) -> Case:
    """Return the case of limits that nobody tells."""
    reached = {"reached": max(30, 8 * profile.latency_s), "row refused": 9}
    return Case(profile, {**bounds, **reached}, seconds=seconds(profile))


def seconds(profile: Profile) -> float:
    """Return how long to simulate: half an hour of few requests, four minutes of many."""
    per_s = [rule.per_minute / 60 for rule in profile.rules if rule.counts == "requests"]
    per_s.append(min(profile.concurrency, profile.slots) / profile.latency_s)
    return 1800 if min(per_s) < 2 else 240 if 75 < min(per_s) < 1e9 else 600


def told(profile: Profile) -> Case:
    """Return the case in which the job states the limits."""
    profile = dataclasses.replace(profile, name=f"{profile.name}, told", told=True)
    return Case(profile, {**TOLD, "reached": max(5, 2 * profile.latency_s)}, seconds=seconds(profile))


STEADY = [
    Profile("600 requests", (requests(600),)),
    Profile("1200 requests", (requests(1200),)),
    Profile("1200 requests, a second saved up", (requests(1200, span_s=1),)),
    Profile("1200 requests, a second saved up, to the millisecond", (requests(1200, span_s=1),), retry_after="ms"),
    Profile("6000 requests, no time given", (requests(6000),), **SILENT),
    Profile("6000 requests, ten seconds saved up, fast", (requests(6000, span_s=10),), latency_s=0.1),
    Profile("3000 requests, a second saved up", (requests(3000, span_s=1),)),
    Profile("600 requests, slow", (requests(600),), latency_s=20),
    Profile("120 requests, slow", (requests(120),), latency_s=5),
    Profile("60k tokens", (tokens(60_000),)),
    Profile("200k tokens, uneven", (tokens(200_000),), **UNEVEN),
    Profile("1M tokens, a second saved up, uneven", (tokens(1e6, span_s=1),), retry_after="ms", **UNEVEN),
    Profile("1200 requests and 400k tokens, uneven", (requests(1200), tokens(400_000)), **UNEVEN),
    Profile("1200 requests, reported", (requests(1200, reported="all"),)),
    Profile("200k reserved tokens, uneven, reported", (tokens(200_000, "reserved", reported="all"),), **UNEVEN),
    Profile(
        "1200 requests and 400k tokens, uneven, reported",
        (requests(1200, reported="all"), tokens(400_000, reported="all")),
        **UNEVEN,
    ),
    Profile("1200 requests, slow, reported", (requests(1200, reported="all"),), latency_s=20),
    Profile("1200 requests in a fixed minute, reported", (requests(1200, window="fixed", reported="all"),)),
    Profile("1200 requests in a fixed minute", (requests(1200, window="fixed"),)),
    Profile("100 at once and 1200 requests", (requests(1200),), concurrency=100, latency_s=2),
    Profile("60 requests", (requests(60),)),
    Profile("100k tokens in a fixed minute", (tokens(100_000, window="fixed"),)),
]
"""Limits that a job can state as well."""

ONLY_FOUND = [
    Profile("1200 requests in a sliding minute", (requests(1200, window="sliding"),)),
    Profile("64 slots that share a machine", slots=64, latency_s=2),
    Profile("50 at once, no time given", concurrency=50, latency_s=2, **SILENT),
    Profile("50 at once", concurrency=50, latency_s=2),
    Profile("300 at once", concurrency=300),
    Profile("1000 at once, to the millisecond", concurrency=1000, latency_s=5, retry_after="ms"),
    Profile("60k reserved tokens", (tokens(60_000, "reserved"),)),
]

SPACED = [
    Profile("5 a second, no burst, silent", (requests(300, holds=1),), **SILENT),
    Profile("20 a second, no burst, silent", (requests(1200, holds=1),), **SILENT),
    Profile("20 a second, no burst, fast, silent", (requests(1200, holds=1),), latency_s=0.2, **SILENT),
    Profile("20 a second, no burst", (requests(1200, holds=1),)),
    Profile("5 a second, burst 2, silent", (requests(300, holds=3),), **SILENT),
    Profile("20 a second, burst 2, silent", (requests(1200, holds=3),), **SILENT),
]
"""Limits of nginx, which lets in one request after the other, and so many more at once as its burst."""

MINUTES = [
    Profile("1200 requests, silent", (requests(1200),), **SILENT),
    Profile("1200 requests, a second saved up, silent", (requests(1200, span_s=1),), **SILENT),
    Profile("1200 requests, 10 s saved up, silent", (requests(1200, span_s=10),), **SILENT),
    Profile("60k tokens, silent", (tokens(60_000),), **SILENT),
    Profile("1200 in a fixed minute, silent", (requests(1200, window="fixed", random_phase=True),), **SILENT),
    Profile("1200 in a fixed minute, any phase", (requests(1200, window="fixed", random_phase=True),)),
    Profile("1200 in a minute from the first on, silent", (requests(1200, window="first"),), **SILENT),
    Profile("1200 in a sliding minute, silent", (requests(1200, window="sliding"),), **SILENT),
    Profile("60 in a fixed minute, silent", (requests(60, window="fixed", random_phase=True),), **SILENT),
    Profile("60 in a sliding minute, silent", (requests(60, window="sliding"),), **SILENT),
    Profile("20 in a fixed second, silent", (requests(1200, window="fixed", span_s=1, random_phase=True),), **SILENT),
    Profile("20 in a sliding second, silent", (requests(1200, window="sliding", span_s=1),), **SILENT),
    Profile("200 in fixed 10 s, silent", (requests(1200, window="fixed", span_s=10, random_phase=True),), **SILENT),
    Profile("200 in fixed 10 s", (requests(1200, window="fixed", span_s=10, random_phase=True),)),
    Profile("200 in sliding 10 s, silent", (requests(1200, window="sliding", span_s=10),), **SILENT),
]
"""Buckets and windows that mostly say nothing."""

NO_RESET: Any = {"reported": "no reset"}
REPORTED = [
    Profile(
        "LiteLLM, 60 in a minute from the first on", (requests(60, window="first", **NO_RESET),), bare=True, **SILENT
    ),
    Profile(
        "60 in a fixed minute, no reset", (requests(60, window="fixed", random_phase=True, **NO_RESET),), bare=True,
        **SILENT,
    ),
    Profile(
        "1200 in a fixed minute, no reset", (requests(1200, window="fixed", random_phase=True, **NO_RESET),), **SILENT
    ),
    Profile("1200 requests, no reset", (requests(1200, **NO_RESET),), **SILENT),
    Profile("60k tokens, no reset", (tokens(60_000, **NO_RESET),), **SILENT),
]  # fmt: skip
"""Headers that do not say when a limit resets."""

CAPPED = [
    Profile("50 at once, 2 % strays, silent", concurrency=50, latency_s=2, strays=0.02, **SILENT),
    Profile("50 at once, 5 % strays, silent", concurrency=50, latency_s=2, strays=0.05, **SILENT),
    Profile("50 at once, 2 % strays", concurrency=50, latency_s=2, strays=0.02),
    Profile("50 at once, 5 % strays", concurrency=50, latency_s=2, strays=0.05),
    Profile("300 at once, 2 % strays, silent", concurrency=300, strays=0.02, **SILENT),
    Profile("8 at once, silent", concurrency=8, latency_s=2, **SILENT),
]
"""Caps on the requests in flight, beside which some requests are refused at random."""

STRAYS = [
    Profile("no limit", slots=60, latency_s=0.25, strays=0.02, **SILENT),
    Profile("no limit, slow", slots=200, latency_s=3, strays=0.02, **SILENT),
    Profile("3000 requests, 2 % strays", (requests(3000),), strays=0.02),
    Profile("6000 requests, 2 % strays, no time given", (requests(6000),), strays=0.02, **SILENT),
    Profile("3000 requests, 2 % strays, told", (requests(3000),), strays=0.02, told=True),
    Profile("often", slots=150, strays=0.05, **SILENT),
]


def course(factor: float, at_s: float = 300.0) -> Any:
    return {"course": ((at_s, factor),)}


CHANGED = [
    Profile("halved", (requests(1200),), **course(0.5)),
    Profile("doubled", (requests(1200),), **course(2)),
    Profile("halved, a second saved up", (requests(3000, span_s=1),), **course(0.5)),
    Profile("doubled, a second saved up", (requests(3000, span_s=1),), **course(2)),
    Profile("halved, reported", (requests(1200, reported="all"),), **course(0.5)),
    Profile("doubled, reported", (requests(1200, reported="all"),), **course(2)),
    Profile("doubled, no time given", (requests(1200),), **course(2), **SILENT),
    Profile("half of 50 at once", concurrency=50, latency_s=2, **course(0.5)),
    Profile("double of 50 at once", concurrency=50, latency_s=2, **course(2)),
    Profile("double tokens", (tokens(400_000),), **course(2)),
]
HALVED = Profile("halved after 75 s", (requests(1200, span_s=5),), **course(0.5, 75))

SHARED = [
    Case(
        Profile("shared", (requests(1200, span_s=5),), retry_after=retry_after),
        {"used": 0.93, "refused": 0.03, "share": 0.35, "minute": 0.40},
        since_s=120, seconds=720, clients=2, apart_s=apart_s, name=f"shared, {retry_after}, {apart_s:g} s apart",
    )
    for retry_after in ("seconds", "ms")
    for apart_s in (0.0, 5.0, 60.0)
]  # fmt: skip

LLMOCK = Profile(
    "llmock, 1000 rows",
    (requests(1200, reported="all"), tokens(60_000, "reserved", reported="all")),
    retry_after="ms", latency_s=0.2, prompt=51, prompt_ratio=1.0, overhead=20, completion=15, sizes=0.0, max_tokens=50,
    rows=1000,
)  # fmt: skip
JOBS = [
    Case(
        Profile("LiteLLM, 130 rows", (requests(60, window="first", **NO_RESET),), bare=True, rows=130, **SILENT),
        {"time": 1 / 0.93, "refused": 0.03, "failed": 0}, since_s=0, seconds=900,
    ),
    Case(
        Profile("LiteLLM by the clock, 130 rows", (requests(60, window="fixed", random_phase=True, **NO_RESET),),
                bare=True, rows=130, **SILENT),
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
    Case(
        Profile("8 slots, 20 s, 500 rows", concurrency=8, queue=1e9, latency_s=20, rows=500),
        {"time": 1.05, "requests": 1.0, "failed": 0}, since_s=0, seconds=3600,
    ),
]  # fmt: skip
"""Jobs that end: their time beside the least possible one, and their requests beside their rows."""

CASES = [
    *(found(profile) for profile in [*STEADY, *ONLY_FOUND]),
    *(told(profile) for profile in STEADY),
    *(found(profile, HARD) for profile in SPACED),
    *(found(profile) for profile in [*MINUTES, *REPORTED]),
    *(found(profile, {"used": 0.90, "refused": profile.strays + 0.03}) for profile in CAPPED),
    *(Case(profile, {"used": 0.93, "refused": profile.strays + 0.01}, seconds=seconds(profile)) for profile in STRAYS),
    *(Case(profile, {"again": 30, "refused": 0.03}, changed_s=300) for profile in CHANGED),
    Case(HALVED, {"refused": 0.03}, since_s=105, seconds=150, name="halved after 75 s, at once"),
    Case(HALVED, {"used": 0.98, "refused": 0.015}, since_s=150, seconds=400),
    *SHARED,
    *JOBS,
]  # fmt: skip
