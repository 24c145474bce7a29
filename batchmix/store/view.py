"""A run as a reader sees it: totals, what is in flight, what may have been billed twice. Takes no lock."""

from __future__ import annotations

import calendar
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from batchmix import __version__
from batchmix.errors import PartDamaged, RunError
from batchmix.records import Key
from batchmix.store.ledger import LastState, ShardLeftOpen
from batchmix.store.parts import check_place, list_parts, open_part, part_path, read_through
from batchmix.store.result_rows import SLICE_ROWS, Price, ResultRows, add_rows, ended_since, named
from batchmix.store.run_folder import Layout, RunFile, holder
from batchmix.store.shard import Shard
from batchmix.store.totals import COUNTS, Totals

RECENT_S = 60


class View(msgspec.Struct):
    """A run folder at one moment."""

    layout: Layout
    run: RunFile
    holder: str | None
    """The process that works on it now."""
    totals: Totals
    """Of all results, sealed or not; while nobody works on it, what was in flight counts as maybe billed."""
    open_shards: list[int]
    in_flight: list[Key]
    """Requests under way; empty while nobody works on the run."""
    maybe_billed: list[Key]
    """Requests of which an attempt may have been billed for nothing."""
    damage: list[str]
    """Where journals and parts are damaged, or missing, in words."""
    left: list[ShardLeftOpen]
    """How the shards stand that have journals, for the ledger."""
    lost: bool = False
    """Parts can't be read."""
    recent: Counter[str] = msgspec.field(default_factory=Counter)
    """Results of each model that have ended within the last minute, about."""

    @property
    def unanswered(self) -> int:
        """Results that are still missing."""
        return max(0, self.run.results - self.totals.ended)

    @property
    def surplus_answers(self) -> int:
        """How often the provider sent something that nobody had asked for, in all starts."""
        return sum(start.surplus_answers for start in self.run.starts)

    @property
    def answers_per_s(self) -> float | None:
        """How fast it was within the last minute, or since it started; None while nobody works on it."""
        speeds = self.speeds
        return None if speeds is None else sum(speeds.values())

    @property
    def speeds(self) -> dict[str, float] | None:
        """The same of each model."""
        if self.holder is None or not self.run.starts:
            return None
        began = calendar.timegm(time.strptime(self.run.starts[-1].at, "%Y-%m-%dT%H:%M:%SZ"))
        span_s = max(1.0, min(RECENT_S, time.time() - began))
        return {model: self.recent[model] / span_s for model in self.run.models}

    def lose(self, words: str) -> None:
        """Take note of a part that can't be read."""
        self.damage.append(words)
        self.lost = True

    def summary(self) -> dict[str, Any]:
        """Return `summary.json`: the totals of the whole run."""
        totals = self.totals
        return {
            "version": 1,
            "batchmix": __version__,
            "name": self.run.name,
            "complete": self.unanswered == 0,
            "rows": self.run.rows,
            "results": self.run.results,
            "ok": totals.ok,
            "failed": totals.failed,
            "rejected": totals.rejected,
            "unanswered": self.unanswered,
            "reused": totals.reused,
            "attempts": totals.attempts,
            "billed_retries": totals.billed_retries,
            "maybe_billed": totals.maybe_billed,
            **{name: getattr(totals, name) for name in COUNTS},
            "cost_usd": totals.cost_usd,
            "billed_retries_usd": totals.billed_retries_usd,
            "maybe_billed_usd": totals.maybe_billed_usd,
            "unpriced": totals.unpriced,
            "surplus_answers": self.surplus_answers,
            "costs": {
                model: {
                    "cost_usd": cost.usd if cost.priced else None,
                    "billed_retries_usd": cost.billed_retries_usd,
                    "maybe_billed_usd": cost.maybe_billed_usd,
                }
                for model, cost in sorted(totals.costs.items())
            },
            "first_sent_at": _iso(totals.first_sent_ms),
            "last_finished_at": _iso(totals.last_finished_ms),
            "failures": {kind: msgspec.to_builtins(value) for kind, value in sorted(totals.failures.items())},
            "models": totals.models,
            "judges": self.judges,
        }

    @property
    def judges(self) -> dict[str, dict[str, Any]]:
        """What each judge has done and cost, by its name, as its own summary says; in no sum of this run's."""
        return judges_in(self.layout.evaluation)


def judges_in(evaluation: Path) -> dict[str, dict[str, Any]]:
    """Return what the judges in a run's folder of evaluation have done and cost."""
    found = {}
    for path in sorted(evaluation.glob("judge-*/run/summary.json")):
        with contextlib.suppress(OSError, msgspec.DecodeError):
            summary = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
            found[path.parts[-3].removeprefix("judge-")] = {name: summary.get(name) for name in _OF_JUDGES}
    return found


_OF_JUDGES = (
    "ok",
    "failed",
    "prompt_tokens",
    "completion_tokens",
    "cost_usd",
    "billed_retries_usd",
    "maybe_billed_usd",
)


def _iso(ms: int | None) -> str | None:
    return None if ms is None else time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ms // 1000)) + f".{ms % 1000:03}Z"


def read_view(layout: Layout, price: Price, *, idle: bool = False) -> View:
    """Return what stands in a run folder, also while another process works on it. Raises `RunError`.

    `idle` says that whoever holds it has nothing under way: requests without an end are lost.
    """
    run = layout.read_run()
    if run is None:
        raise RunError(f"{layout.root}: is not a run folder: it has no run.json")
    view = View(layout, run, None if idle else holder(layout), Totals(), [], [], [], [], [])
    known = layout.ledger.read()  # before what it knows of
    journals, parts = layout.journals(), list_parts(layout.data)
    sealed = {index for index, shard in known.items() if shard.has_part}
    for index in sorted(sealed | journals.keys() | parts.keys()):
        part = part_path(layout.data, index)
        if index in journals:
            with contextlib.closing(Shard(index, journals[index], part, secrets=layout.secrets)) as shard:
                if shard.has_journals:
                    _add_open(view, shard, ResultRows(shard, price, raw=False))
                    continue
        try:
            _add_part(view, index, part, known.get(index, LastState()))
        except PartDamaged as error:
            view.lose(error.damage)
        except FileNotFoundError:
            if index in layout.ledger.sealed_shards():  # not let go meanwhile
                view.lose(f"{part}: is missing")
    return view


def _add_part(view: View, index: int, part: Path, known: LastState) -> None:
    """Add a shard that is sealed; its part is read through if it was written to since. Raises `PartDamaged`."""
    footer, seal = check_place(part, index)
    if known.sealed and known.sealed.seal != seal:
        damage: list[str] = []
        read_through(part, damage)
        for words in damage:
            view.lose(words)
    view.totals.add(footer.totals)
    view.recent.update(_recent(footer.totals))
    view.maybe_billed.extend(_billed_keys(part) if footer.totals.maybe_billed else ())


def _since_ms() -> int:
    return int((time.time() - RECENT_S) * 1000)


def _recent(totals: Totals) -> dict[str, int]:
    """Return about how many results of each model in a part have ended within the last minute, as if evenly."""
    last, since = totals.last_finished_ms, _since_ms()
    if last is None or last <= since:
        return {}
    first = last if totals.first_sent_ms is None else totals.first_sent_ms
    share = min(1.0, (last - since) / max(1, last - first))
    return {model: round(sum(counts.values()) * share) for model, counts in totals.models.items()}


def _add_open(view: View, shard: Shard, results: ResultRows) -> None:
    """Add a shard that has journals."""
    view.open_shards.append(shard.index)
    view.damage.extend(shard.warnings)
    for words in shard.part_damage:
        view.lose(words)
    view.left.append(
        ShardLeftOpen(shard.index, shard.answers, shard.whole_bytes, len(shard.damage), torn=bool(shard.part_damage))
    )
    attempts = billed = 0
    since_ms = _since_ms()
    rows = []
    for key, state in sorted(shard.states.items()):
        if state.status:
            rows.append(results.row(key))
        if len(rows) == SLICE_ROWS:
            view.recent.update(ended_since(rows, since_ms))
            add_rows(results.totals, rows)
            rows = []
        attempts += state.attempts
        under_way = bool(state.in_flight) and view.holder is not None
        if under_way:
            view.in_flight.append(key)
        lost = state.maybe_billed_before if under_way else state.maybe_billed
        if lost:
            view.maybe_billed.append(key)
            if not state.status:
                results.totals.cost(key[1]).row(None, lost)
        billed += lost
    view.recent.update(ended_since(rows, since_ms))
    add_rows(results.totals, rows)
    results.totals.attempts, results.totals.maybe_billed = attempts, billed
    view.totals.add(results.totals)


def _billed_keys(part: Path) -> list[Key]:
    columns = ["row", "model", "sample", "maybe_billed"]
    with open_part(part) as file:
        table = file.read(columns=columns)
    rows = zip(*(table.column(name).to_pylist() for name in columns), strict=True)
    return [(row, model, sample) for row, model, sample, lost in rows if lost]


def read_rows(view: View, rows: list[int], price: Price) -> Iterator[dict[str, Any]]:
    """Yield what stands in a run of some input rows (ascending), in input order; carried columns are left out."""
    journals, first = view.layout.journals(), view.run.shard_rows
    for index, some in itertools.groupby(rows, key=lambda row: row // first):
        wanted = set(some)
        part = part_path(view.layout.data, index)
        shard = Shard(index, journals.get(index, {}), part, secrets=view.layout.secrets)
        with contextlib.closing(shard):
            results = ResultRows(shard, price, raw=False)
            for key in sorted(key for key, state in shard.states.items() if key[0] in wanted and state.status):
                yield named(results.row(key))
