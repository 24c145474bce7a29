"""How well the pacing does with simulated providers of many kinds: python -m tests.benchmarks.pacing.

Each case is played with 20 seeds (--seeds; --quick: 3). A line has the median and the worst seed of each figure that has
a bound, and says which bounds are missed, and with how many seeds. `used` is the share of the possible requests that
were let in, `refused` the share of those sent that were not, `reached` the seconds until the rate came to 90 % of the
limit, `again` those after a change. Of a job that ends: its `time` beside the least possible one, and its `requests`
beside its rows. Of two clients: the smaller `share`, and what each had of the limit in any `minute`.

--profile SUBSTRING plays some of the cases, and --trace SEED shows what happened in them. --without NAME switches a
mechanism off and shows what that costs; with `all`, one mechanism after the other. --constants halves and doubles each
number that the search for limits depends on, and names the case that suffers most. --missed prints with which of the
tests' seeds which cases miss a bound, for `tests/pacing/missed.json`.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import json
import math
import multiprocessing
import pkgutil
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

from tests.pacing.cases import AT_LEAST, SEEDS, Case, holds, play, simulated
from tests.pacing.profiles import CASES

MECHANISMS: dict[str, tuple[tuple[str, str, Any], ...]] = {
    "ramp": (("batchmix.pacing.ramp:Ramp", "wait_s", lambda self, now: 0.0),),
    "strays": (("batchmix.pacing.strays:Strays", "explain", lambda self, *, limited, far: False),),
    "trials": (("batchmix.pacing.trials:Trials", "hit", lambda self, now: None),),
    "adaptive step": (
        ("batchmix.pacing.rate_search", "_MIN_STEP", 0.05),
        ("batchmix.pacing.rate_search", "_MAX_STEP", 0.05),
    ),
    "faster rise": (("batchmix.pacing.rate_search", "_DOUBLING_S", math.inf),),
    "debt": (("batchmix.pacing.rate_search", "_DEBT", 0),),
    "scale": (("batchmix.pacing.rate_search", "_FADE", 0.0),),
    "tokens": (("batchmix.pacing.rates", "_HEAVIER", math.inf),),
    "cap": (("batchmix.pacing.window:Window", "explains_hit", lambda self: False),),
    "latency": (("batchmix.pacing.window:_Latency", "has_room", lambda self, now, size: True),),
    "holds": (("batchmix.pacing.governor:Governor", "failed", lambda self, now: None),),
    "reports": (("batchmix.pacing.reported:Reported", "follow", lambda self, *args: None),),
    "minutes": (("batchmix.pacing.minute:Minute", "found", lambda self, *args, by_clock: None),),
    "windows": (("batchmix.pacing.rate_search", "_WINDOWED_S", math.inf),),
}
"""What can be switched off: attributes of classes or modules, and what takes their place."""
TUNED = ("governor", "minute", "pace", "ramp", "rate_search", "rates", "strays", "trials", "window")
"""The modules whose constants --constants changes."""
SHORT = {"row refused": "row"}


@contextlib.contextmanager
def switched_off(name: str) -> Iterator[None]:
    """Play without a mechanism; with all if the name is empty."""
    with contextlib.ExitStack() as stack:
        for owner, attribute, replacement in MECHANISMS[name] if name else ():
            stack.enter_context(mock.patch.object(pkgutil.resolve_name(owner), attribute, replacement))
        yield


def measured(task: tuple[int, int, str]) -> list[dict[str, float]]:
    """Return the figures of a case with each seed."""
    number, seeds, without = task
    gc.disable()  # a fifth faster
    figures = []
    with switched_off(without):
        for seed in range(1, seeds + 1):
            figures.append(play(CASES[number], seed))
            gc.collect()
    return figures


def summary(case: Case, figures: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Return the median and the worst of each figure with a bound, and how many seeds miss it."""
    found: dict[str, Any] = {"name": case.name, "bounds": {}}
    for name, bound in case.bounds.items():
        values = [one[name] for one in figures]
        worst: Callable[[list[float]], float] = min if name in AT_LEAST else max
        found["bounds"][name] = {
            "median": statistics.median(values),
            "worst": worst(values),
            "bound": bound,
            "missed": sum(not holds(name, value, bound) for value in values),
        }
    return found


def line(found: dict[str, Any]) -> str:
    """Return a summary as one line."""
    cells, missed = [], []
    for name, of in found["bounds"].items():
        cells.append(f"{SHORT.get(name, name)} {_number(name, of['median'])} {_number(name, of['worst'])}")
        if of["missed"]:
            sign = ">=" if name in AT_LEAST else "<="
            missed.append(f"{name} {sign} {_number(name, of['bound']).strip()} ({of['missed']})")
    figures = "  ".join(f"{cell:<18}" for cell in cells)
    return f"{found['name']:<54} {figures:<84} {'MISSED ' + ', '.join(missed) if missed else 'kept'}"


def _number(figure: str, value: float) -> str:
    if figure == "refused":
        return f"{value:5.1%}"
    if figure in {"used", "share", "minute", "time", "requests"}:
        return f"{value:5.3f}"
    return f"{value:4.0f}"


def table(numbers: Sequence[int], seeds: int, without: str, pool: Any) -> Iterator[dict[str, Any]]:
    """Yield the summary of each case."""
    for number, figures in zip(numbers, pool.imap(measured, [(n, seeds, without) for n in numbers]), strict=True):
        yield summary(CASES[number], figures)


def trace(case: Case, seed: int) -> Iterator[str]:
    """Yield what happened, in 60 parts: the time, the requests that were let in beside those possible, and refusals."""
    simulation = simulated(case, seed)
    end = max(client.finished_s for client in simulation.clients) if case.profile.rows else case.seconds
    yield f"{case.name}, seed {seed}: until, let in, possible, refused"
    for number in range(60):
        span = end * number / 60, end * (number + 1) / 60
        refused = sum(span[0] <= at < span[1] for client in simulation.clients for at in client.refused)
        yield f"{span[1]:8.1f} {simulation.accepted(*span):6} {simulation.best.entered(*span):6} {refused:6}"


def costs(full: Sequence[dict[str, Any]], less: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield what is worse without a mechanism: bounds that more seeds miss."""
    for before, after in zip(full, less, strict=True):
        for name, of in after["bounds"].items():
            was = before["bounds"][name]
            if of["missed"] > was["missed"]:
                old, new = (f"{_number(name, one['median'])} {_number(name, one['worst'])}" for one in (was, of))
                yield f"    {after['name']:<54} {name:<11} {old} -> {new}, missed by {was['missed']} -> {of['missed']} seeds"


def kept(cases: Sequence[dict[str, Any]]) -> int:
    """Return how many cases keep all bounds with all seeds."""
    return sum(not any(of["missed"] for of in one["bounds"].values()) for one in cases)


def missed(number: int) -> list[int]:
    """Return the seeds of the tests with which a case misses a bound."""
    return [seed for seed in sorted(SEEDS) if CASES[number].missed(play(CASES[number], seed))]


def constants() -> Iterator[tuple[str, str, float]]:
    """Yield each number that the search for limits depends on: its module, its name and its value."""
    for module in TUNED:
        names = vars(importlib.import_module(f"batchmix.pacing.{module}"))
        yield from (
            (module, name, value) for name, value in names.items() if name[0] == "_" and type(value) in {int, float}
        )


def changed(task: tuple[str, str, float, int, Sequence[int]]) -> list[list[dict[str, float]]]:
    """Return the figures of some cases with each seed, with another value of a constant."""
    module, name, value, seeds, numbers = task
    with mock.patch.object(pkgutil.resolve_name(f"batchmix.pacing.{module}"), name, value):
        return [[play(CASES[number], seed) for seed in range(1, seeds + 1)] for number in numbers]


def harm(case: Case, before: Sequence[dict[str, float]], after: Sequence[dict[str, float]]) -> tuple[float, str]:
    """Return by how much a case is worse, as a share of its bounds, and the figure that is worst."""
    found = [(0.0, "")]
    for name, bound in case.bounds.items():
        old, new = (min(1e6, statistics.mean(min(one[name], 1e6) for one in figures)) for figures in (before, after))
        worse = old - new if name in AT_LEAST else new - old
        kept_by = bound - new if name in AT_LEAST else new - bound
        found.append((min(worse, kept_by) / max(bound, 0.01), f"{name} {_number(name, old)} -> {_number(name, new)}"))
    return max(found)


def vary(numbers: Sequence[int], seeds: int, pool: Any) -> None:
    """Halve and double each constant, and print the case that suffers most."""
    values = [(module, name, value) for module, name, value in constants()]
    tasks = [(m, n, type(v)(v * factor), seeds, numbers) for m, n, v in values for factor in (0.5, 2.0)]
    (before,) = pool.map(changed, [(*values[0], seeds, numbers)])
    for (module, name, value, *_), after in zip(tasks, pool.imap(changed, tasks), strict=True):
        harms = [(*harm(CASES[n], old, new), CASES[n].name) for n, old, new in zip(numbers, before, after, strict=True)]
        worst, figure, case = max(harms)
        print(
            f"{module + '.' + name:<30} {value:<8g} {f'{case}: {figure}' if worst > 0 else 'nothing is missed'}",
            flush=True,
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="three seeds")
    parser.add_argument("--profile", action="append", default=[], metavar="SUBSTRING", help="only these cases")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--without", choices=[*MECHANISMS, "all"], help="switch a mechanism off")
    parser.add_argument("--trace", type=int, metavar="SEED", help="show what happened in time, with this seed")
    parser.add_argument("--constants", action="store_true", help="halve and double each number")
    parser.add_argument("--missed", action="store_true", help="the list of the tests")
    parser.add_argument("--json", action="store_true", help="print JSON lines")
    args = parser.parse_args()
    seeds = 3 if args.quick else args.seeds
    numbers = [n for n, case in enumerate(CASES) if not args.profile or any(part in case.name for part in args.profile)]
    if args.trace is not None:
        print("\n".join(text for number in numbers for text in trace(CASES[number], args.trace)))
        return 0
    full = []
    with multiprocessing.Pool(args.jobs) as pool:
        if args.missed:
            lines = [
                f"{json.dumps(CASES[number].name)}: {seeds}"
                for number, seeds in zip(numbers, pool.imap(missed, numbers), strict=True)
                if seeds
            ]
            print("{\n  " + ",\n  ".join(lines) + "\n}")
            return 0
        if args.constants:
            vary(numbers, seeds, pool)
            return 0
        for found in table(numbers, seeds, "", pool):
            full.append(found)
            print(json.dumps(found) if args.json else line(found), flush=True)
        print(
            f"{kept(full)} of {len(full)} cases are kept with all of {seeds} seeds",
            file=sys.stderr if args.json else None,
        )
        for name in [*MECHANISMS] if args.without == "all" else filter(None, [args.without]):
            less = list(table(numbers, seeds, name, pool))
            print(f"without {name}: {kept(less)} of {len(full)} are kept; worse are", flush=True)
            for text in costs(full, less):
                print(text, flush=True)
    return 0 if kept(full) == len(full) else 1


if __name__ == "__main__":
    sys.exit(main())
