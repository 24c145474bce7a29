"""Reads a run folder without a lock: totals, requests in flight, attempts that may have been billed for nothing."""

from __future__ import annotations

import contextlib
import datetime
import functools
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from batchmix import __version__
from batchmix.errors import PartDamaged, RunError
from batchmix.formats.run_times import text_of_ms
from batchmix.records import Key
from batchmix.store.answer_totals import answers_as_json
from batchmix.store.ledger import LastState, ShardLeftOpen
from batchmix.store.parts import list_parts, open_part, part_path, read_part_of, read_through
from batchmix.store.result_rows import SLICE_ROWS, Price, ResultRows
from batchmix.store.row_slots import add_rows, finished_since
from batchmix.store.run_folder import Layout, RunFile, holder
from batchmix.store.schema import PartFooter, Seal
from batchmix.store.shard import Shard
from batchmix.store.totals import COUNTS, Totals

RECENT_S = 60
"""The number of seconds over which the current speed is measured."""


class View(msgspec.Struct):
    """The content of a run folder at one moment."""

    layout: Layout
    run: RunFile
    holder: str | None
    """The process that works on the run now. None if no process does."""
    totals: Totals
    """The totals of all results. If no process works on the run, requests in flight count as maybe billed."""
    open_shards: list[int]
    in_flight: list[Key]
    """The requests in flight. Empty if no process works on the run."""
    maybe_billed: list[Key]
    """The requests with an attempt that may have been billed without an answer."""
    damage: list[str]
    """Messages about damaged or missing journals and parts."""
    left: list[ShardLeftOpen]
    """The state of the shards that have journals, for the ledger."""
    parts: dict[int, tuple[PartFooter, Seal]] = {}
    """The parts that can be read, by shard: also those to which journals add."""
    lost: bool = False
    """Whether parts are missing or can't be read."""
    recent: Counter[str] = msgspec.field(default_factory=Counter)
    """The approximate number of results of each model in the last minute."""
    cache_saved_usd: float | None = None
    """How much the prompt cache has saved. None if no answer with a price has used it. Negative if writing to it cost
    more than reading has saved."""

    @property
    def unanswered(self) -> int:
        """The number of results that are still missing."""
        return max(0, self.run.results - self.totals.finished)

    @property
    def asked(self) -> int:
        """The number of results that were asked for: those of the whole run, or of a try that ended by itself."""
        return self.totals.finished if self.run.is_ended_try else self.run.results

    @property
    def is_finished(self) -> bool:
        """Whether there is each result that was asked for."""
        return self.totals.finished >= self.asked

    @property
    def is_whole(self) -> bool:
        """Whether the parts have a result for each row that the job asks for."""
        return not (self.unanswered or self.open_shards or self.lost or self.run.is_try)

    @property
    def surplus_answers(self) -> int:
        """How often the provider sent more than one response to a request, summed over all starts."""
        return sum(start.surplus_answers for start in self.run.starts)

    @property
    def answers_per_s(self) -> float | None:
        """The number of answers per second in the last minute, or since a later start.

        None if no process works on the run.
        """
        speeds = self.speeds
        return None if speeds is None else sum(speeds.values())

    @property
    def speeds(self) -> dict[str, float] | None:
        """The number of answers per second of each model, as in `answers_per_s`."""
        if self.holder is None or not self.run.starts:
            return None
        started = datetime.datetime.fromisoformat(self.run.starts[-1].at).timestamp()
        span_s = max(1.0, min(RECENT_S, time.time() - started))
        return {model: self.recent[model] / span_s for model in self.run.models}

    def lose(self, message: str) -> None:
        """Add a message about a part that is missing or can't be read completely."""
        self.damage.append(message)
        self.lost = True

    def summary(self) -> dict[str, Any]:
        """Return the content of `summary.json`: the totals of the whole run."""
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
            "cache_saved_usd": self.cache_saved_usd,
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
            "failures": {type_: msgspec.to_builtins(value) for type_, value in sorted(totals.failures.items())},
            "models": totals.models,
            "judges": self.judges,
            **({} if self.answers is None else {"answers": self.answers}),
        }

    @property
    def answers(self) -> dict[str, Any] | None:
        """How the answers fared in the check by the job's schema, in all and by model. None if it has no schema."""
        if self.totals.answers is None:
            return None
        costs = self.totals.costs.items()
        return answers_as_json(self.totals.answers, {model for model, cost in costs if cost.has_price})

    @property
    def judges(self) -> dict[str, dict[str, Any]]:
        """The counts and costs of each judge by name, from the judge's own summary.

        The sums of this run do not include them.
        """
        return judges_in(self.layout.evaluation)


def judges_in(evaluation: Path) -> dict[str, dict[str, Any]]:
    """Return the counts and costs of the judges in a run's evaluation folder."""
    judges = {}
    for path in sorted(evaluation.glob("judge-*/run/summary.json")):
        with contextlib.suppress(OSError, msgspec.DecodeError):
            summary = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
            judges[path.parts[-3].removeprefix("judge-")] = {name: summary.get(name) for name in _OF_JUDGES}
    return judges


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
    return None if ms is None else text_of_ms(ms)


def read_view(layout: Layout, price: Price, own: RunFile | None = None) -> View:
    """Return the content of a run folder, even while another process works on it. Raises `RunError`.

    `own` is the run of this process, if it holds the lock and has nothing in flight, so that no more responses can
    arrive. The view then holds `own` instead of what `run.json` says.
    """
    run = own or layout.read_run()
    if run is None:
        raise RunError(f"{layout.root}: is not a run folder: it has no run.json")
    classifier = run.classifier(layout.secrets)
    totals = Totals(answers={} if classifier.typed else None)
    view = View(layout, run, None if own else holder(layout), totals, [], [], [], [], [])
    last_states = layout.ledger.read()  # read first, since parts and journals may change meanwhile
    journals, parts = layout.journals(), list_parts(layout.data)
    sealed = {index for index, last in last_states.items() if last.has_part}
    for index in sorted(sealed | journals.keys() | parts.keys()):
        part = part_path(layout.data, index)
        if index in journals:
            with contextlib.closing(Shard(index, journals[index], part, classifier=classifier)) as shard:
                if shard.has_journals:
                    view.left.append(_left_open(shard))
                if shard.adds_to_part:
                    _add_open(view, shard, ResultRows(shard, price, raw=False))
                    with contextlib.suppress(PartDamaged, FileNotFoundError):
                        view.parts[index] = read_part_of(part, index)
                    continue
        try:
            _add_part(view, index, part, last_states.get(index, LastState()))
        except PartDamaged as error:
            view.lose(error.damage)
        except FileNotFoundError:
            if index in layout.ledger.sealed_shards():  # otherwise it was dropped meanwhile
                view.lose(f"{part}: is missing")
    view.cache_saved_usd = _cache_saved_usd(totals, price)
    return view


def _cache_saved_usd(totals: Totals, price: Price) -> float | None:
    each = (cost.cache.saved_usd(functools.partial(price, model, None)) for model, cost in totals.costs.items())
    saved = [usd for usd in each if usd is not None]
    return sum(saved) if saved else None


def _add_part(view: View, index: int, part: Path, last: LastState) -> None:
    """Add a sealed shard. Its part is read completely if the file has changed. Raises `PartDamaged`."""
    footer, seal = view.parts[index] = read_part_of(part, index)
    if last.sealed and last.sealed.seal != seal:
        damage: list[str] = []
        read_through(part, damage)
        for message in damage:
            view.lose(message)
    view.totals.add(footer.totals)
    view.recent.update(_recent(footer.totals))
    view.maybe_billed.extend(_billed_keys(part) if footer.totals.maybe_billed else ())


def _since_ms() -> int:
    return int((time.time() - RECENT_S) * 1000)


def _recent(totals: Totals) -> dict[str, int]:
    """Estimate how many of a part's results each model got in the last minute, as if they had arrived evenly."""
    last, since = totals.last_finished_ms, _since_ms()
    if last is None or last <= since:
        return {}
    first = last if totals.first_sent_ms is None else totals.first_sent_ms
    share = min(1.0, (last - since) / max(1, last - first))
    return {model: round(sum(counts.values()) * share) for model, counts in totals.models.items()}


def _left_open(shard: Shard) -> ShardLeftOpen:
    is_damaged = bool(shard.part_damage)
    return ShardLeftOpen(shard.index, shard.answers, shard.whole_bytes, len(shard.damage), part_damaged=is_damaged)


def _add_open(view: View, shard: Shard, results: ResultRows) -> None:
    """Add a shard that has journals."""
    view.open_shards.append(shard.index)
    view.damage.extend(shard.warnings)
    for message in shard.part_damage:
        view.lose(message)
    attempts = billed = 0
    since_ms = _since_ms()
    rows = []
    for key, state in sorted(shard.states.items()):
        if state.status:
            rows.append(results.row(key))
        if len(rows) == SLICE_ROWS:
            view.recent.update(finished_since(rows, since_ms))
            add_rows(results.totals, rows)
            rows = []
        attempts += state.attempts
        is_in_flight = bool(state.in_flight) and view.holder is not None
        if is_in_flight:
            view.in_flight.append(key)
        lost = state.maybe_billed_before if is_in_flight else state.maybe_billed
        if lost:
            view.maybe_billed.append(key)
            if not state.status:
                results.totals.cost(key[1]).add_row(None, lost)
        billed += lost
    view.recent.update(finished_since(rows, since_ms))
    add_rows(results.totals, rows)
    results.totals.set_attempts(attempts, billed)
    view.totals.add(results.totals)


def _billed_keys(part: Path) -> list[Key]:
    columns = ["row", "model", "sample", "maybe_billed"]
    with open_part(part) as file:
        table = file.read(columns=columns)
    rows = zip(*(table.column(name).to_pylist() for name in columns), strict=True)
    return [(row, model, sample) for row, model, sample, lost in rows if lost]
