"""A shard's state follows from its part and then its journals, whatever interrupted the run."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path

import pyarrow as pa
import pytest

from batchmix.errors import FailureAction
from batchmix.records import Exchange, Failure, RejectedRow, Request
from batchmix.store.lane_log import LaneLog, RowCounts
from batchmix.store.result_rows import ResultRows
from batchmix.store.row_slots import named
from batchmix.store.row_state import CacheMemory
from batchmix.store.schema import RunIdentity, part_schema
from batchmix.store.shard import Shard

REJECTED = Failure(FailureAction.REJECT, "rejected", "no")
FAILED = Failure(FailureAction.RETRY, "timeout", "no")


def request(row: int, hash_: str = "h") -> Request:
    return Request(row, "m", 0, hash_, "/chat/completions", b"{}", 1, None)


def good(text: str = "answer") -> Exchange:
    body = {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}
    return Exchange(1, 2, 0.1, 200, json.dumps(body).encode())


BAD = Exchange(1, 2, 0.1, 500, b"x")


class Opened:
    """A shard, and the log of a lane that works on it."""

    def __init__(self, journals: dict[int, Path], part: Path, cache: CacheMemory | None = None) -> None:
        self.shard = Shard(0, journals, part)
        self.states = self.shard.states
        self.cache = cache or CacheMemory()
        self.log = LaneLog(self, 0, 1000, RowCounts("m"), retry_rejected=False)  # type: ignore[arg-type]
        asyncio.run(self.log.open(0))

    async def open(self, index: int) -> Shard:
        return self.shard

    def earlier_usd(self, shard: Shard, model: str) -> float | None:
        return None

    listener = None

    async def rows_to_tell(self, shard: Shard) -> None:
        pass

    def answer(self, item: Request, text: str = "answer") -> None:
        """Send a request, and receive an answer."""
        self.log.sent(item, 5)
        self.log.received(item, good(text))


@pytest.fixture
def opened(tmp_path: Path):
    with contextlib.ExitStack() as stack:

        def opening(*more: Path) -> Opened:
            journals = dict(enumerate([tmp_path / "00000-000.jsonl", *more]))
            found = Opened(journals, tmp_path / "part")
            stack.enter_context(contextlib.closing(found.shard))
            return found

        yield opening


def reopened(before: Opened, opened) -> Opened:
    """Open the shard again without closing it first, as after a kill."""
    again = opened()
    assert {
        key: (e.status, e.hash, e.attempts, e.maybe_billed) for key, e in again.states.items() if e.attempts or e.status
    } == {
        key: (e.status, e.hash, e.attempts, e.maybe_billed)
        for key, e in before.states.items()
        if e.attempts or e.status
    }
    return again


def needs(opened: Opened, item: Request | RejectedRow, *, retry_rejected: bool = False) -> bool:
    """Return whether a request has work left, and hand it out if so; a rejected row finishes."""
    (needed,) = opened.shard.need_work([item], retry_rejected=retry_rejected)
    opened.log.unfinished(0, [item])
    return needed


def test_an_answered_request_has_no_work_left(opened) -> None:
    shard = opened()
    assert needs(shard, request(1))
    shard.answer(request(1))
    again = reopened(shard, opened)
    assert not needs(again, request(1))
    assert needs(again, request(1, "another hash"))


def test_cached_answers_equal_those_in_the_journals(opened, tmp_path: Path) -> None:
    """They are cached as far as there is space, never after another answer or failure replaced them."""
    cache = CacheMemory(3500)
    journals = {0: tmp_path / "00000-000.jsonl"}
    shard = Opened(journals, tmp_path / "part", cache)
    with contextlib.closing(shard.shard):
        for row, hash_, text in [
            (1, "h", "one"),
            (2, "h", "old"),
            (2, "new", "two"),
            (3, "h", "gone"),
            (4, "h", "late"),
            (5, "h", "too late"),
        ]:
            needs(shard, request(row, hash_))
            shard.answer(request(row, hash_), text)
        shard.log.finished(request(3, "new"), FAILED)
        keys = sorted(shard.states)
        assert [key[0] for key in keys if shard.states[key].cached] == [1, 2, 4]
        kept = ResultRows(shard.shard, lambda *_: 0.5, raw=True)
        read = ResultRows(opened().shard, lambda *_: 0.5, raw=True)
        assert [kept.row(key) for key in keys] == [read.row(key) for key in keys]
        cache.give_back(0)
        shard.answer(request(1, "again"))
        assert shard.states[1, "m", 0].cached


def test_a_request_in_flight_at_a_kill_counts_as_maybe_billed_and_is_sent_again(opened) -> None:
    shard = opened()
    needs(shard, request(1))
    shard.log.sent(request(1), 5)
    again = reopened(shard, opened)
    state = again.states[1, "m", 0]
    assert (state.attempts, state.maybe_billed) == (1, 1)
    assert needs(again, request(1))
    again.answer(request(1))
    last = reopened(again, opened).states[1, "m", 0]
    assert (last.status, last.attempts, last.maybe_billed) == ("ok", 2, 1)


def test_an_answer_is_not_replaced_by_a_failure_of_the_same_request(opened) -> None:
    shard = opened()
    needs(shard, request(1))
    shard.answer(request(1))
    shard.log.finished(request(1), FAILED)
    assert reopened(shard, opened).states[1, "m", 0].status == "ok"


def test_an_answer_to_an_older_request_is_replaced_by_a_failure(opened) -> None:
    shard = opened()
    needs(shard, request(1))
    shard.answer(request(1))
    shard.log.sent(request(1, "new"), 6)
    shard.log.received(request(1, "new"), BAD)
    assert reopened(shard, opened).states[1, "m", 0].hash == "h"
    shard.log.finished(request(1, "new"), FAILED)
    state = reopened(shard, opened).states[1, "m", 0]
    assert (state.status, state.hash) == ("failed", "new")


def test_failed_rows_are_sent_again_and_rejected_ones_on_request_or_when_changed(opened) -> None:
    shard = opened()
    for row, failure in ((1, FAILED), (2, REJECTED)):
        needs(shard, request(row))
        shard.log.sent(request(row), 5)
        shard.log.received(request(row), BAD)
        shard.log.finished(request(row), failure)
    again = reopened(shard, opened)
    assert needs(again, request(1))
    assert not needs(again, request(2))
    assert needs(again, request(2), retry_rejected=True)
    assert needs(again, request(2, "changed"))


def test_a_row_without_a_request_is_rejected_until_it_changes(opened) -> None:
    shard = opened()
    unsendable = RejectedRow(1, "m", 0, REJECTED)
    assert needs(shard, unsendable)
    assert shard.states[1, "m", 0].status == "rejected"
    again = reopened(shard, opened)
    assert not needs(again, unsendable)
    assert not needs(again, unsendable, retry_rejected=True)
    assert needs(again, request(1))


def test_reading_the_same_events_twice_changes_nothing(opened, tmp_path: Path) -> None:
    shard = opened()
    for row in range(3):
        needs(shard, request(row))
        shard.log.sent(request(row), 5)
        if row:
            shard.log.received(request(row), good() if row == 1 else BAD)
    shard.shard.close()
    (tmp_path / "copy").write_bytes((tmp_path / "00000-000.jsonl").read_bytes())
    twice = opened(tmp_path / "copy")
    once = opened()
    assert [(e.status, e.attempts, e.maybe_billed) for e in twice.states.values()] == [
        (e.status, e.attempts, e.maybe_billed) for e in once.states.values()
    ]


def test_an_answer_that_is_rejected_at_sealing_is_stored_as_a_failure(opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part is classified when it is written, so such an answer cannot block the folder."""
    shard = opened()
    needs(shard, request(1))
    shard.answer(request(1))
    no = Failure(FailureAction.RETRY, "bad_answer", "no")
    monkeypatch.setattr("batchmix.responses.classify._outcome", lambda exchange, path: no)
    results = ResultRows(shard.shard, lambda *_: None, raw=True)
    row = named(results.row((1, "m", 0)))
    assert (row["status"], row["error_type"], row["error_message"], row["raw"], row["latency_s"]) == (
        "failed", "bad_answer", "no", good().body.decode(), 0.1
    )  # fmt: skip


def test_long_answers_are_stored_in_small_batches(opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchmix.store.result_rows._SLICE_BYTES", 2000)
    shard = opened()
    texts = ["a", "b" * 500, "c" * 900, "d", "e"]
    for row, text in enumerate(texts):
        needs(shard, request(row))
        shard.answer(request(row), text)
    schema = part_schema(pa.schema([pa.field("custom_id", pa.string())]), RunIdentity("job", "run"))
    carried = pa.record_batch([pa.array(list("vwxyz"))], names=["custom_id"])
    keys = {row: [(row, "m", 0)] for row in range(5) if row != 3}
    found = list(ResultRows(shard.shard, lambda *_: None, raw=True).batches(schema, iter([carried]), 0, keys))
    rows = [[(row["row"], row["custom_id"], row["response"]) for row in batch.to_pylist()] for batch in found]
    assert rows == [[(0, "v", "a"), (1, "w", texts[1]), (2, "x", texts[2])], [(4, "z", "e")]]


def test_a_shard_that_can_not_be_read_leaves_no_file_open(opened, monkeypatch: pytest.MonkeyPatch) -> None:
    before = opened()
    assert needs(before, request(0))
    before.answer(request(0))
    files = []

    def broken(file: object, *_: object) -> None:
        files.append(file)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("batchmix.store.shard.read_own_lines", broken)
    with pytest.raises(OSError, match="Input/output"):
        opened()
    assert [file.closed for file in files] == [True]


def test_a_shard_is_still_known_to_have_journals_once_its_files_are_closed(opened) -> None:
    before = opened()
    assert needs(before, request(0))
    before.answer(request(0))
    again = opened()
    again.shard.close()
    assert again.shard.has_journals
    assert not needs(again, request(0))
