"""Providers that limit a rate: of requests, of tokens, or of several at once."""

from __future__ import annotations

import math
from typing import Any

from tests.pacing.cases import HARD, Case, found, told
from tests.pacing.provider import Profile
from tests.pacing.rules import requests, tokens

SILENT: Any = {"retry_after": "none"}
UNEVEN: Any = {"sizes": 0.8}
NEAR: Any = {"network_s": (0.002, 0.004)}
"""The network delays all requests by nearly the same time, so that they arrive in the intervals in which they left."""

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
    Profile("20 a second, no burst, silent", (requests(1200, holds=1),), **NEAR, **SILENT),
    Profile("20 a second, no burst, fast, silent", (requests(1200, holds=1),), latency_s=0.2, **NEAR, **SILENT),
    Profile("20 a second, no burst", (requests(1200, holds=1),), **NEAR),
    Profile("5 a second, burst 2, silent", (requests(300, holds=3),), **SILENT),
    Profile("20 a second, burst 2, silent", (requests(1200, holds=3),), **SILENT),
]
"""Limits of nginx, which lets in one request after the other, and so many more at once as its burst."""
FAR = Profile("20 a second, no burst, far away, silent", (requests(1200, holds=1),), **SILENT)
"""If intervals of 50 ms arrive up to 18 ms shorter, 3 % refused needs intervals of 64 ms."""

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
    Profile("20 in a sliding second, reported", (requests(1200, window="sliding", span_s=1, reported="all"),)),
    Profile("5 in a fixed second, reported", (requests(300, window="fixed", span_s=1, reported="all"),)),
    Profile("200 in fixed 10 s, silent", (requests(1200, window="fixed", span_s=10, random_phase=True),), **SILENT),
    Profile("200 in fixed 10 s", (requests(1200, window="fixed", span_s=10, random_phase=True),)),
    Profile("200 in sliding 10 s, silent", (requests(1200, window="sliding", span_s=10),), **SILENT),
]
"""Buckets and windows that mostly say nothing."""

BY_CLOCK: Any = {"window": "fixed", "random_phase": True}
WINDOWS = [
    Profile("20 in a fixed minute, silent", (requests(20, **BY_CLOCK),), **SILENT),
    Profile("20 in a sliding minute", (requests(20, window="sliding"),)),
    Profile("1200 in a fixed minute, slow, silent", (requests(1200, **BY_CLOCK),), latency_s=20, **SILENT),
    Profile("1200 in a fixed minute, 'try again in 1 s'", (requests(1200, **BY_CLOCK),), retry_after=1.0),
    Profile("1200 in a fixed minute, 'try again in 60 s'", (requests(1200, **BY_CLOCK),), retry_after=60.0),
    Profile("1200 requests, 10 s saved up, 'try again in 10 s'", (requests(1200, span_s=10),), retry_after=10.0),
    Profile("30000 requests, a second saved up, silent", (requests(30_000, span_s=1),), **SILENT),
    Profile("1200 requests, 4 workers, silent", (requests(1200),), workers=4, **SILENT),
]
"""Very low and very high limits, waits that are always the same, and limits of which each worker has a part."""

OF_TOKENS = [
    Profile("60k reserved tokens, silent", (tokens(60_000, "reserved"),), **SILENT),
    Profile("400k reserved tokens, uneven, silent", (tokens(400_000, "reserved"),), **UNEVEN, **SILENT),
    Profile("60k input tokens", (tokens(60_000, "input"),)),
    Profile("60k input tokens, uneven, silent", (tokens(60_000, "input"),), **UNEVEN, **SILENT),
    Profile("60k output tokens", (tokens(60_000, "output"),)),
    Profile("60k output tokens, uneven, silent", (tokens(60_000, "output"),), **UNEVEN, **SILENT),
    Profile("200k tokens in a fixed minute, silent", (tokens(200_000, **BY_CLOCK),), **SILENT),
    Profile("200k tokens in a sliding minute, silent", (tokens(200_000, window="sliding"),), **SILENT),
]
"""Tokens that are counted in other ways than as usage in a bucket that states the wait."""

TWO = [
    Profile(
        "600 requests, 240k tokens in a fixed minute, silent", (requests(600), tokens(240_000, **BY_CLOCK)), **SILENT
    ),
    Profile(
        "600 requests, 240k tokens in a fixed minute, uneven", (requests(600), tokens(240_000, **BY_CLOCK)), **UNEVEN
    ),
    Profile("100 at once and 1200 requests, silent", (requests(1200),), concurrency=100, latency_s=4, **SILENT),
    Profile(
        "10 in a fixed second, 300 in a fixed minute, silent",
        (requests(600, **BY_CLOCK, span_s=1), requests(300, **BY_CLOCK)),
        **SILENT,
    ),
    Profile(
        "10 in a sliding second, 300 in a sliding minute",
        (requests(600, window="sliding", span_s=1), requests(300, window="sliding")),
    ),
]
"""Two limits at once."""

DAY = requests(100_000 / 1440, window="fixed", span_s=86_400, reported="all")
NO_RESET: Any = {"reported": "no reset"}
REPORTED = [
    Profile("1200 requests, the day's limit reported", (requests(1200), DAY)),
    Profile("1200 requests, the day's limit reported, silent", (requests(1200), DAY), **SILENT),
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
"""Headers that report the limit of a day, or do not say when a limit resets."""


def breathing(depth: float, period_s: float) -> Any:
    """Return the course of limits that rise and fall like a sine."""
    return {"course": tuple((at, 1 + depth * math.sin(2 * math.pi * at / period_s)) for at in range(5, 600, 5))}


STEPS: Any = {"course": ((120, 0.5), (210, 1.0), (330, 0.3), (450, 1.0))}
VARYING = [
    Profile("1200 requests, breathing over 4 minutes", (requests(1200, span_s=5),), **breathing(0.4, 240)),
    Profile("1200 requests, breathing over 4 minutes, silent", (requests(1200, span_s=5),), **breathing(0.4, 240), **SILENT),
    Profile("50 at once, breathing over 4 minutes", concurrency=50, latency_s=2, **breathing(0.4, 240)),
    Profile("1200 requests, others come and go", (requests(1200, span_s=5),), **STEPS),
    Profile("1200 requests, others come and go, silent", (requests(1200, span_s=5),), **STEPS, **SILENT),
]  # fmt: skip
"""Limits that rise and fall, or of which others take a part from time to time."""

LONG = [
    Case(
        Profile("3600 in a fixed hour, silent", (requests(60, **BY_CLOCK, span_s=3600),), **SILENT),
        {"used": 0.93, "refused": 0.03}, seconds=9000, since_s=0,
    ),
    Case(
        Profile("2000 in a day, silent", (requests(2000 / 1440, window="fixed", span_s=86_400),), **SILENT),
        {"used": 0.98, "refusals": 300}, seconds=1800, since_s=0,
    ),
]  # fmt: skip
"""Quotas: much at once, and then nothing for a long time."""


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


RATE_CASES = [
    *(found(profile) for profile in [*STEADY, *ONLY_FOUND]),
    *(told(profile) for profile in STEADY),
    *(found(profile, HARD) for profile in SPACED),
    *(told(profile, HARD) for profile in SPACED),
    Case(FAR, {"used": 0.70, "refused": 0.05}),
    *(found(profile) for profile in [*MINUTES, *REPORTED, *OF_TOKENS, *TWO]),
    *(told(profile) for profile in MINUTES if profile.rules[0].window != "sliding"),
    *(found(profile, HARD) for profile in [*WINDOWS, *VARYING]),
    *LONG,
    *(Case(profile, {"again": 30, "refused": 0.03}, seconds=480, changed_s=300) for profile in CHANGED),
    Case(HALVED, {"refused": 0.03}, since_s=105, seconds=150, name="halved after 75 s, at once"),
    Case(HALVED, {"used": 0.98, "refused": 0.015}, since_s=150, seconds=400),
]
