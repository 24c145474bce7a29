"""The stand-in's limits, as token buckets."""

from __future__ import annotations

import math

from batchmix.rehearsal.behaviour import Behaviour


class Limits:
    """Says whether a request is let in, on a clock that is handed in."""

    def __init__(self, behaviour: Behaviour, now: float) -> None:
        per_s = {"requests": behaviour.rpm / 60, "tokens": behaviour.tpm / 60}
        self._per_s = {name: rate for name, rate in per_s.items() if rate}
        self._room = {name: max(1.0, rate * behaviour.burst_s) for name, rate in self._per_s.items()}
        self._level = dict(self._room)
        self._at = now

    def admit(self, tokens: int, now: float) -> float:
        """Take a request's share; return 0, or the seconds until there would be enough, and then take nothing.

        What is larger than a whole bucket is let in by a full one.
        """
        if not self._per_s:
            return 0.0
        self._refill(now)
        asked = {"requests": 1.0, "tokens": float(tokens)}
        taken = {name: min(asked[name], self._room[name]) for name in self._per_s}
        wait_s = max((taken[name] - self._level[name]) / rate for name, rate in self._per_s.items())
        if wait_s > 1e-9:  # less is rounding
            return wait_s
        for name, amount in taken.items():
            self._level[name] -= amount
        return 0.0

    def headers(self, now: float) -> list[tuple[str, str]]:
        """Return the x-ratelimit headers."""
        if not self._per_s:
            return []
        self._refill(now)
        found = []
        for name, rate in self._per_s.items():
            full_s = (self._room[name] - self._level[name]) / rate
            found.append((f"x-ratelimit-limit-{name}", str(round(rate * 60))))
            found.append((f"x-ratelimit-remaining-{name}", str(max(0, math.floor(self._level[name] + 1e-9)))))
            found.append((f"x-ratelimit-reset-{name}", duration(full_s)))
        return found

    def _refill(self, now: float) -> None:
        for name, rate in self._per_s.items():
            self._level[name] = min(self._room[name], self._level[name] + (now - self._at) * rate)
        self._at = now


def duration(seconds: float) -> str:
    """Return a time as Go writes it, to the millisecond: `12ms`, `1.5s`, `6m0s`."""
    ms = math.ceil(seconds * 1000 - 1e-6)
    if ms < 1000:
        return f"{ms}ms"
    minutes, rest = divmod(ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{rest / 1000:g}s"
