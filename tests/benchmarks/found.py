"""What a run makes of a provider's limits, told and not told: python -m tests.benchmarks.found.

The stand-in limits requests or tokens a minute, or the requests at once; in half of the scenes it changes its limits in
the middle. All scenes run side by side, each a process of the stand-in's and one of ours, for two and a half minutes:
none asks for more than some fifty requests a second. Printed is how much of what was allowed was used after the first
minute, what share was refused, how long it took to come to 90 % of the limit, and how long it took again after a change.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
import sys
import tempfile
import time
from pathlib import Path

from tests.killing import command, fetch, provider, write_rows

ROWS = 20_000
CHANGE_S, END_S = 75, 150
SPAN_S = 4.0
"""Seconds over which rates are measured."""


@dataclasses.dataclass(frozen=True)
class Scene:
    """The limits of the stand-in, the limits configured for the run, and the change."""

    behaviour: str
    per_s: float
    """The answers a second that it allows."""
    limit_options: tuple[str, ...] = ()
    changed: str = ""
    changed_per_s: float = math.nan


QUICK, SAID = "latency=0.5-1.5&burst_s=5", "&rate_headers=true"
QUIET = "&rate_headers=false"
SCENES = [
    Scene(f"rpm=1200&{QUICK}{SAID}", 20, ("--rpm", "1200")),
    Scene(f"rpm=3000&{QUICK}{QUIET}", 50, ("--rpm", "3000")),
    Scene(f"rpm=1200&{QUICK}{SAID}", 20),
    Scene(f"rpm=1200&{QUICK}{QUIET}", 20),
    Scene(f"rpm=3000&latency=0.1&burst_s=1{QUIET}", 50),
    Scene(f"concurrency=40&latency=0.5-1.5{QUIET}", 40),
    Scene(f"rpm=1200&{QUICK}{QUIET}", 20, (), f"rpm=600&{QUICK}{QUIET}", 10),
    Scene(f"rpm=1200&{QUICK}{QUIET}", 20, (), f"rpm=2400&{QUICK}{QUIET}", 40),
    Scene(f"rpm=1200&{QUICK}{SAID}", 20, (), f"rpm=2400&{QUICK}{SAID}", 40),
    Scene(f"concurrency=40&latency=0.5-1.5{QUIET}", 40, (), f"concurrency=20&latency=0.5-1.5{QUIET}", 20),
]


@dataclasses.dataclass
class Seen:
    """What the stand-in had counted at a time."""

    at_s: float
    requests: int
    answered: int


async def play(scene: Scene, root: Path) -> str:
    """Return a line on how a scene went."""
    root.mkdir()
    write_rows(root / "rows.jsonl", ROWS)
    with provider(scene.behaviour) as url:
        call = command(url, root / "rows.jsonl", root / "out", *scene.limit_options)
        quiet = asyncio.subprocess.DEVNULL
        running = await asyncio.create_subprocess_exec(*call, stdout=quiet, stderr=quiet)
        try:
            seen = await watched(url, scene)
        finally:
            running.terminate()
            await running.wait()
    return line(scene, seen)


async def watched(url: str, scene: Scene) -> list[Seen]:
    """Look once a second what has been answered, and change the limits on time."""
    began, seen, changed = time.monotonic(), [Seen(0.0, 0, 0)], not scene.changed
    while seen[-1].at_s < END_S:
        await asyncio.sleep(0.5)
        at_s = time.monotonic() - began
        if at_s >= CHANGE_S and not changed:
            changed = True
            await asyncio.to_thread(fetch, url, "behaviour", scene.changed)
        totals = await asyncio.to_thread(fetch, url, "totals")
        seen.append(Seen(at_s, totals.get("requests", 0), totals.get("answered", 0)))
    return seen


def line(scene: Scene, seen: list[Seen]) -> str:
    """Return the result."""
    until = CHANGE_S if scene.changed else END_S
    used, throttled = shares(seen, 60, until, scene.per_s)
    limit_options = " ".join(scene.limit_options) or "not told"
    text = f"{scene.behaviour:58} {limit_options:11} used {used:6.1%} throttled {throttled:5.2%} 90 % after {reached(seen, 0, scene.per_s):4.1f} s"
    if scene.changed:
        again = reached([one for one in seen if one.at_s >= CHANGE_S], CHANGE_S, scene.changed_per_s)
        used, throttled = shares(seen, CHANGE_S + 30, END_S, scene.changed_per_s)
        text += (
            f"; then {scene.changed_per_s:g}/s: again after {again:4.1f} s, used {used:6.1%} throttled {throttled:5.2%}"
        )
    return text


def shares(seen: list[Seen], start_s: float, end_s: float, per_s: float) -> tuple[float, float]:
    """Return what share of the allowed was answered between two times, and what share of the requests was not."""
    within = [one for one in seen if start_s <= one.at_s <= end_s]
    first, last = within[0], within[-1]
    answered, requests = last.answered - first.answered, last.requests - first.requests
    return answered / (per_s * (last.at_s - first.at_s)), max(0.0, 1 - answered / max(1, requests))


def reached(seen: list[Seen], since_s: float, per_s: float) -> float:
    """Return how long it took until answers came at 90 % of the limit, and no faster than it lets in for long."""
    for first in seen:
        last = next((one for one in seen if one.at_s >= first.at_s + SPAN_S), None)
        if last and (last.answered - first.answered) / (last.at_s - first.at_s) >= 0.9 * per_s:
            return first.at_s - since_s
    return math.inf


async def main(root: Path) -> None:
    """Run all scenes at once."""
    chosen = [scene for scene in SCENES if not sys.argv[1:] or sys.argv[1] in scene.behaviour]
    for text in await asyncio.gather(*(play(scene, root / str(n)) for n, scene in enumerate(chosen))):
        print(text, flush=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main(Path(folder)))
