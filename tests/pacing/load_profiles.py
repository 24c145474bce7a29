"""Providers that limit the requests in flight or slow down under them, refuse some at random, or fail."""

from __future__ import annotations

from typing import Any

from tests.pacing.cases import Case, found, seconds
from tests.pacing.provider import Profile
from tests.pacing.rules import requests

SILENT: Any = {"retry_after": "none"}

CAPPED = [
    Profile("50 at once, 2 % strays, silent", concurrency=50, latency_s=2, strays=0.02, **SILENT),
    Profile("50 at once, 5 % strays, silent", concurrency=50, latency_s=2, strays=0.05, **SILENT),
    Profile("50 at once, 2 % strays", concurrency=50, latency_s=2, strays=0.02),
    Profile("50 at once, 5 % strays", concurrency=50, latency_s=2, strays=0.05),
    Profile("300 at once, 2 % strays, silent", concurrency=300, strays=0.02, **SILENT),
    Profile("20 connections, silent", concurrency=20, latency_s=5, **SILENT),
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


SLOW = [
    Profile("8 slots, 20 s, all wait", concurrency=8, queue=1e9, latency_s=20),
    Profile("64 slots, 2 s, all wait", concurrency=64, queue=1e9, latency_s=2),
    Profile("vLLM, 256 in a batch, all wait", concurrency=256, queue=1e9, latency_s=2, batch=64),
]
"""Engines of one machine, which refuse nothing: whoever sends too much waits too long."""

PAGE: Any = {"status": 503}
SPEECHLESS = [
    Profile("5 a second, burst 2, 503", (requests(300, holds=3),), **PAGE),
    Profile("1200 requests, a second saved up, 503", (requests(1200, span_s=1),), **PAGE),
    Profile("1200 requests in a fixed minute, 503", (requests(1200, window="fixed", random_phase=True),), **PAGE),
    Profile("50 at once, 503", concurrency=50, latency_s=2, **PAGE),
    Profile("8 served, 8 wait, 503", concurrency=8, queue=8, latency_s=2, **PAGE),
]
"""Limits whose refusals are pages that do not speak of limits."""

FAULTY = [
    Profile("no limit, 3 % fail", slots=200, strays=0.03, stray_status=503),
    Profile("1200 requests, 3 % fail", (requests(1200, span_s=5),), strays=0.03, stray_status=503),
]
OUTAGE = Profile("1200 requests, an outage of 30 s", (requests(1200, span_s=5),), outage=(90, 120))
"""Failures that no limit explains."""

LOAD_CASES = [
    *(found(profile, {"used": 0.90, "refused": profile.strays + 0.03}) for profile in CAPPED),
    *(Case(profile, {"used": 0.93, "refused": profile.strays + 0.01}, seconds=seconds(profile)) for profile in STRAYS),
    *(
        Case(
            profile, {"used": 0.93, "refused": 0.0, "failed": 0}, seconds=max(600, 60 * profile.latency_s), since_s=120
        )
        for profile in SLOW
    ),
    *(Case(profile, {"used": 0.90, "refused": 0.05, "failed": 0}) for profile in SPEECHLESS),
    *(Case(profile, {"used": 0.93, "refused": 0.05, "failed": 0}, seconds=seconds(profile)) for profile in FAULTY),
    Case(OUTAGE, {"used": 0.93, "refused": 0.03, "failed": 0, "refusals": 500}, since_s=150, seconds=450),
]
