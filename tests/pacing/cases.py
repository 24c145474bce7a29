"""The simulated cases: a provider, how long and by how many clients it is used, and the bounds of what is measured.

Told its limits, a client should use 98 % of them, and 1 % of its requests may be refused; told nothing, 93 % and 3 %,
after the first minute. Less is promised where no more is possible: with strict spacing, where the order in which requests
arrive is chance, and where requests in flight are limited and some are refused at random.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

from tests.pacing.provider import Profile
from tests.pacing.simulation import Simulation

AT_LEAST = frozenset({"used", "share", "minute"})
"""The figures that must not be smaller than their bound. All others must not be larger."""

SEEDS = (3, 1, 2, 4, 7)
"""The seeds of the tests; the ordinary suite plays the first."""
TOLD = {"used": 0.98, "refused": 0.01}
UNTOLD = {"used": 0.93, "refused": 0.03}
HARD = {"used": 0.90, "refused": 0.03}


@dataclasses.dataclass(frozen=True)
class Case:
    """What is simulated, and the bounds of its figures."""

    profile: Profile
    bounds: Mapping[str, float]
    seconds: float = 600.0
    since_s: float = 60.0
    """The time from which on `used` and `refused` are measured, until the end."""
    clients: int = 1
    apart_s: float = 0.01
    """Seconds between the starts of the clients."""
    changed_s: float | None = None
    """When the limits change."""
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or self.profile.name)

    def missed(self, figures: Mapping[str, float]) -> list[str]:
        """Return the figures that miss their bounds."""
        return [name for name, bound in self.bounds.items() if not holds(name, figures[name], bound)]


def found(profile: Profile, bounds: Mapping[str, float] = UNTOLD, **more: Any) -> Case:
    """Return the case of limits that nobody tells."""
    reached = {"reached": max(30, 8 * profile.latency_s), "row refused": 9}
    return Case(
        profile,
        {**bounds, **{name: bound for name, bound in reached.items() if name not in bounds}},
        **{"seconds": seconds(profile), **more},
    )


def seconds(profile: Profile) -> float:
    """Return how long to simulate: longer where there are few requests, or where windows are long."""
    rules = [rule for rule in profile.rules if rule.span_s <= 60]
    per_s = [rule.per_minute / 60 for rule in rules if rule.counts == "requests"]
    per_s.append(min(profile.concurrency, profile.slots) / profile.latency_s)
    if min(per_s) < 2:
        return 1860
    if any(rule.window != "bucket" and rule.span_s == 60 for rule in rules):
        return 1140
    return next((most for least, most in ((1e9, 600), (300, 120), (75, 240), (40, 360)) if min(per_s) >= least), 600)


def told(profile: Profile, bounds: Mapping[str, float] = TOLD) -> Case:
    """Return the case in which the job states the limits."""
    profile = dataclasses.replace(profile, name=f"{profile.name}, told", told=True)
    return Case(profile, {**bounds, "reached": max(5, 2 * profile.latency_s)}, seconds=max(120, seconds(profile) / 2))


def holds(figure: str, value: float, bound: float) -> bool:
    """Return whether a figure keeps its bound."""
    return value >= bound if figure in AT_LEAST else value <= bound


def simulated(case: Case, seed: int) -> Simulation:
    """Simulate a case with a seed."""
    simulation = Simulation(case.profile, seed, case.clients)
    simulation.run(case.seconds, case.apart_s)
    return simulation


def play(case: Case, seed: int) -> dict[str, float]:
    """Simulate a case with a seed; return all its figures."""
    return dict(_figures(case, simulated(case, seed)))


def _figures(case: Case, simulation: Simulation) -> Iterator[tuple[str, float]]:
    start, end = case.since_s, case.seconds
    clients = simulation.clients
    if rows := case.profile.rows:
        sent = sum(client.sent for client in clients)
        done = sum(client.answered + client.failed_rows for client in clients)
        end = max(client.finished_s for client in clients)
        yield "time", end / simulation.best.finished_s if done == rows else math.inf
        yield "requests", sent / rows
    else:
        yield "used", simulation.used(start, end)
        yield "reached", simulation.reached_s(0.0, case.changed_s or end)
    yield "refused", simulation.refused(start, end)
    yield "refusals", sum(len(client.refused) for client in clients)
    yield "failed", sum(client.failed_rows for client in clients)
    yield "row refused", max(client.most_refused for client in clients)
    if case.changed_s is not None:
        yield "again", simulation.reached_s(case.changed_s, end)
    if case.clients > 1:
        yield from _shares(case, simulation)


def _shares(case: Case, simulation: Simulation) -> Iterator[tuple[str, float]]:
    """Yield the smallest share of a client: of what all were given, and in any minute of what was possible."""
    start, end = case.since_s, case.seconds
    clients = range(case.clients)
    both = simulation.accepted(start, end)
    yield "share", min(simulation.accepted(start, end, client) for client in clients) / both
    minutes = [start + 60 * number for number in range(int((end - start) // 60))]
    yield "minute", min(simulation.used(begin, begin + 60, client) for client in clients for begin in minutes)
