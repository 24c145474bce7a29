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
        """Take a request's share; return 0, or the seconds until there would be enough, and then take nothing."""
        self._refill(now)
        asked = {name: 1.0 if name == "requests" else float(tokens) for name in self._per_s}
        waits = [(asked[name] - self._level[name]) / rate for name, rate in self._per_s.items()]
        wait_s = max(waits, default=0.0)
        if wait_s > 0:
            return wait_s
        for name, amount in asked.items():
            self._level[name] -= amount
        return 0.0

    def headers(self, now: float) -> dict[str, str]:
        """Return the x-ratelimit headers."""
        self._refill(now)
        found = {}
        for name, rate in self._per_s.items():
            full_s = (self._room[name] - self._level[name]) / rate
            found[f"x-ratelimit-limit-{name}"] = str(round(rate * 60))
            found[f"x-ratelimit-remaining-{name}"] = str(max(0, math.floor(self._level[name])))
            found[f"x-ratelimit-reset-{name}"] = f"{math.ceil(full_s * 1000)}ms"
        return found

    def _refill(self, now: float) -> None:
        for name, rate in self._per_s.items():
            self._level[name] = min(self._room[name], self._level[name] + (now - self._at) * rate)
        self._at = now
