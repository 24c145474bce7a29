"""Jobs with typed answers over several starts: whatever ended a start or changed before the next, no answer is lost."""

from __future__ import annotations

import json
import signal
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from batchmix.engine.run_status import Phase
from batchmix.engine.shutdown import StopRequest
from batchmix.errors import BatchmixError, Interrupted, RunError
from batchmix.store.view import View
from tests.chain_provider import HANG, ChainProvider, Turn
from tests.conftest import Bench
from tests.deadlines import deadline_counts_from
from tests.engine.test_typed_whole_jobs import (  # noqa: F401 - `chained` is a fixture
    CHAINS,
    FENCED,
    GOOD,
    ROWS,
    VALUE,
    chained,
    check_account,
    check_rows,
)
from tests.polling import wait_until
from tests.wire import error, reply

WHOLE = {row: list(range(len(chain))) for row, chain in enumerate(CHAINS)}
"""The places of the answers of each row, if each is answered once."""
REPAIRS = [(row, place) for row, places in WHOLE.items() for place in places[1:]]
WRONG_KEY = reply(401, error("key"))


def goes_on(bench: Bench, provider: ChainProvider, maybe_billed: int = 0) -> None:
    """Run the job until it is done, and check that each row took its chain once in all starts."""
    bench.settings |= {"budget": {}, "timeouts": {}}
    view = bench.run()
    check_account(view, provider)
    check_rows(bench, provider, is_kept=True)
    assert provider.places() == WHOLE
    assert view.totals.maybe_billed == maybe_billed


@pytest.fixture
def kept(bench: Bench, chained: ChainProvider) -> Bench:  # noqa: F811
    """A job that keeps invalid answers, so that no row begins again."""
    bench.settings["answer"] |= {"on_invalid": "keep"}
    bench.write(ROWS)
    return bench


def test_a_deadline_in_mid_chain(kept: Bench, chained: ChainProvider, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    first = [repair for repair in REPAIRS if repair[1] == 1]
    chained.faults = {repair: [HANG] for repair in first}
    kept.settings |= {"timeouts": {"job_s": 1, "drain_s": 0}, "limits": {"concurrency": ROWS}}
    deadline_counts_from(monkeypatch, lambda: len(chained.failed) == len(first))
    with pytest.raises(BatchmixError, match="deadline"):
        kept.run()
    assert chained.places() == {row: [0] for row in WHOLE}
    goes_on(kept, chained, maybe_billed=len(first))


@pytest.mark.parametrize("max_usd", [0.0005, 0.002, 0.004])
def test_a_budget_that_is_spent_in_mid_chain(kept: Bench, chained: ChainProvider, max_usd: float) -> None:  # noqa: F811
    kept.settings |= {"budget": {"max_usd": max_usd}, "params": {"max_tokens": 51}, "limits": {"concurrency": 2}}
    with pytest.raises(BatchmixError, match="budget"):
        kept.run()
    assert 0 < chained.usd < max_usd + 0.0005
    goes_on(kept, chained)


@pytest.mark.parametrize("at", [(2, 0), (2, 1), (3, 2), (6, 1)])
@pytest.mark.parametrize("is_cut", [False, True], ids=["drained", "cut"])
def test_an_interruption_in_mid_chain(
    kept: Bench,
    chained: ChainProvider,  # noqa: F811
    at: tuple[int, int],
    is_cut: bool,
) -> None:
    stop, seen, ended = StopRequest(), threading.Event(), threading.Event()

    def interrupt(row: int, place: int) -> None:
        if (row, place) == at:
            for _ in range(1 + is_cut):
                stop.stop(Interrupted("interrupted", signal.SIGINT))
            wait_until(lambda: kept.run_status.phase is not Phase.SENDING)
            seen.set()
            assert not is_cut or ended.wait(60)
        assert row <= at[0] or seen.wait(60)  # else the other rows might be done before the stop

    chained.faults = {at: [HANG]} if is_cut else {}
    chained.on_request = interrupt
    kept.settings |= {"params": {"max_tokens": 51}, "limits": {"concurrency": 1 if is_cut else 3}}
    with pytest.raises(Interrupted):
        kept.run(stop_request=stop)
    ended.set()
    wait_until(lambda: len(chained.failed) == is_cut)
    chained.on_request = lambda row, place: None
    assert chained.places() != WHOLE
    goes_on(kept, chained, maybe_billed=is_cut)


def walked(chain: tuple[Turn, ...], repair: int) -> tuple[int, str]:
    """Return how many answers a row takes, and what it comes to: `valid`, `healed`, `repaired` or `lost`."""
    for number, turn in enumerate(chain, 1):
        if turn.text in {GOOD, FENCED}:
            return number, "repaired" if number > 1 else "healed" if turn.text == FENCED else "valid"
        if turn.finish == "content_filter" or "refusal" in dict(turn.beside):
            break
        if number > repair:
            break
    return min(number, repair + 1), "lost"


@pytest.mark.parametrize("is_sealed", [True, False], ids=["sealed", "in the journal"])
@pytest.mark.parametrize(
    "starts",
    [
        [(0, "fail"), (1, "fail"), (2, "fail"), (0, "fail")],
        [(0, "keep"), (2, "keep")],
        [(1, "fail"), (1, "keep"), (2, "fail")],
    ],
    ids=["more repairs", "kept", "kept later"],
)
def test_other_repairs_hold_for_what_is_sent_from_then_on(
    bench: Bench,
    chained: ChainProvider,  # noqa: F811
    starts: list[tuple[int, str]],
    is_sealed: bool,
) -> None:
    """A failed row begins again. Its earlier answers stay in the account, and those of a kept row are in its own row."""
    bench.write(ROWS if is_sealed else ROWS + 1)
    bench.settings["limits"] = {"concurrency": 1}
    chained.faults = {(ROWS, 0): [WRONG_KEY] * len(starts)}  # as long as its last row is open, nothing is sealed
    taken, invalid, repairs = Counter[int](), 0, 0
    ends: dict[int, tuple[str, int]] = {}
    for repair, on_invalid in starts:
        bench.settings["answer"] |= {"repair": repair, "on_invalid": on_invalid}
        for row, chain in enumerate(CHAINS):
            if ends.get(row, ("failed",))[0] == "failed":
                number, what = walked(chain, repair)
                status = "failed" if what == "lost" and on_invalid == "fail" else what
                ends[row] = status, number - 1
                taken[row] += number
                repairs += number - 1
                invalid += number - (what != "lost")
        view = started(bench, is_sealed=is_sealed)
        assert {row: len(places) for row, places in chained.places().items()} == taken
        whats = Counter("lost" if status == "failed" else status for status, _ in ends.values())
        account = json.loads((bench.out / "summary.json").read_text())["answers"]
        assert Counter({name: account[name] for name in ("valid", "healed", "repaired", "lost")}) == whats
        assert (account["repairs"], sum(account["invalid_paths"].values())) == (repairs, invalid)
    if not is_sealed:
        chained.faults.clear()
        before = chained.places()
        bench.settings["answer"] |= {"on_invalid": "keep"}
        view = bench.run()
        for row, (status, _) in list(ends.items()):
            if status == "failed":
                number, what = walked(CHAINS[row], starts[-1][0])
                ends[row] = what, number - 1
                assert len(chained.places()[row]) == len(before[row]) + number
    assert view is not None
    check_account(view, chained)
    for row in bench.rows()[:ROWS]:
        status, number = ends[row["row"]]
        assert (row["status"], row["repairs"]) == ("failed" if status == "failed" else "ok", number)
        assert row["answer"] == (None if status in {"failed", "lost"} else VALUE)


def started(bench: Bench, *, is_sealed: bool) -> View | None:
    if is_sealed:
        return bench.run()
    with pytest.raises(BatchmixError):
        bench.run()
    return None


def test_another_way_to_send_the_schema_makes_other_requests(kept: Bench, chained: ChainProvider) -> None:  # noqa: F811
    kept.run()
    kept.settings["answer"] |= {"send": "prompt"}
    with pytest.raises(RunError, match=f"request {ROWS} existing answers again"):
        kept.run()
    assert chained.places() == WHOLE
    view = kept.run(update=True)
    assert chained.places() == {row: sorted(places * 2) for row, places in WHOLE.items()}
    assert not chained.asked_again()
    assert (view.totals.ok, view.totals.attempts) == (ROWS, len(chained.answered))
    assert view.totals.cost_usd == pytest.approx(sum(row["cost_usd"] for row in kept.rows()))
    kept.run()
    assert len(chained.answered) == view.totals.attempts
    kept.settings["answer"] |= {"send": "auto"}
    with pytest.raises(RunError, match=f"request {ROWS} existing answers again"):
        kept.run()


def appended(bench: Bench) -> None:
    bench.write(ROWS - 4, first=4)


def unchanged(bench: Bench) -> None:
    """The rows are there from the beginning."""


@pytest.mark.parametrize(
    ("rows", "options", "then"),
    [(ROWS, {"limit": 5}, unchanged), (ROWS, {"canary": 4}, unchanged), (4, {}, appended)],
    ids=["limit", "canary", "appended"],
)
@pytest.mark.parametrize("shard_rows", [3, 100])
def test_a_part_of_the_rows_first(
    bench: Bench,
    chained: ChainProvider,  # noqa: F811
    rows: int,
    options: dict[str, Any],
    then: Callable[[Bench], None],
    shard_rows: int,
) -> None:
    bench.settings["answer"] |= {"on_invalid": "keep"}
    bench.settings["output"]["shard_rows"] = shard_rows
    bench.write(rows)
    first = bench.run(**options)
    assert 0 < first.totals.ok < ROWS
    check_account(first, chained)
    then(bench)
    view = bench.run()
    check_account(view, chained)
    assert chained.places() == WHOLE
    assert view.totals.ok == ROWS
    account = view.summary()["answers"]
    assert account["repairs"] == sum(row["repairs"] for row in bench.rows()) == len(REPAIRS)


@pytest.mark.parametrize("name", ["healed", "answer", "repairs", "answer.mood"])
def test_a_run_whose_carried_column_is_named_like_a_typed_one_is_reused(
    bench: Bench,
    chained: ChainProvider,  # noqa: F811
    name: str,
) -> None:
    """The requests of all runs are the same, since each row has a response format of its own."""
    answer = bench.settings.pop("answer") | {"on_invalid": "keep"}
    common = {"response_format": {"type": "json_object"}, "number": 1}
    rows = ({"messages": [{"role": "user", "content": f"row {row}"}], name: f"x{row}", **common} for row in range(ROWS))
    bench.source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    bench.settings["input"] = {"path": str(bench.source), "columns": [name]}
    bench.run()
    assert [row[name] for row in bench.rows()] == [f"x{row}" for row in range(ROWS)]
    bench.settings["input"]["columns"] = ["number"]
    first = [row for row, chain in enumerate(CHAINS) if walked(chain, 0)[1] != "lost"]
    repaired = [row for row, chain in enumerate(CHAINS) if walked(chain, 2)[1] != "lost"]
    for earlier, reused in (("untyped", first), ("typed", repaired)):
        bench.out.rename(bench.root / earlier)
        bench.settings |= {"answer": answer, "reuse": {"from": [str(bench.root / earlier)]}}
        chained.answered.clear()
        view = bench.run()
        assert view.totals.reused == len(reused)
        assert chained.places() == {row: places for row, places in WHOLE.items() if row not in reused}
        check_account(view, chained)
        assert [row["answer"] for row in bench.rows()] == [VALUE if row in repaired else None for row in range(ROWS)]


def test_a_rejected_row_takes_its_whole_chain_once_it_is_retried(kept: Bench, chained: ChainProvider) -> None:  # noqa: F811
    chained.faults = {(2, 0): [reply(400, error("refused", "content_filter"))]}
    assert kept.run().totals.rejected == 1
    kept.run()
    assert chained.places() == {row: places for row, places in WHOLE.items() if row != 2}
    view = kept.run(retry_rejected=True)
    assert chained.places() == WHOLE
    check_account(view, chained)
    assert (kept.rows()[2]["answer"], kept.rows()[2]["repairs"]) == (VALUE, 1)
