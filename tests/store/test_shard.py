"""A shard's state is the fold of its part, then its journals, whatever came between."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest

from batchmix.errors import FailureAction
from batchmix.records import Exchange, Failure, RejectedRow, Request
from batchmix.store.result_rows import Results, named
from batchmix.store.shard import Room, Shard

REJECTED = Failure(FailureAction.REJECT, "rejected", "no")


def request(row: int, hash_: str = "h") -> Request:
    return Request(row, "m", 0, hash_, "/chat/completions", b"{}", 1, None)


def good(text: str = "answer") -> Exchange:
    body = {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}
    return Exchange(1, 2, 0.1, 200, json.dumps(body).encode())


BAD = Exchange(1, 2, 0.1, 500, b"x")


@pytest.fixture
def opened(tmp_path: Path):
    with contextlib.ExitStack() as stack:

        def opening(*more: Path) -> Shard:
            journals = dict(enumerate([tmp_path / "00000-000.jsonl", *more]))
            return stack.enter_context(contextlib.closing(Shard(0, journals, tmp_path / "part")))

        yield opening


def reopened(shard: Shard, opened) -> Shard:
    """Open the shard again, as after a kill: nothing was closed."""
    again = opened()
    assert {
        key: (e.status, e.hash, e.attempts, e.maybe_billed)
        for key, e in again.entries.items()
        if e.attempts or e.status
    } == {
        key: (e.status, e.hash, e.attempts, e.maybe_billed)
        for key, e in shard.entries.items()
        if e.attempts or e.status
    }
    return again


def needs(shard: Shard, asked: Request | RejectedRow, *, retry_rejected: bool = False) -> bool:
    return shard.needs(asked, retry_rejected=retry_rejected)


def test_an_answer_is_never_needed_again(opened) -> None:
    shard = opened()
    assert needs(shard, request(1))
    shard.sent(0, request(1), 5)
    shard.heard(0, request(1), good())
    again = reopened(shard, opened)
    assert not needs(again, request(1))
    assert needs(again, request(1, "another hash"))


def test_what_is_kept_in_memory_is_what_the_journals_say(opened, tmp_path: Path) -> None:
    """Kept as far as there is room; never what another answer or failure has replaced."""
    room = Room()
    room.left = 3500
    journals = {0: tmp_path / "00000-000.jsonl"}
    with contextlib.closing(Shard(0, journals, tmp_path / "part", room=room)) as shard:
        for row, hash_, text in [
            (1, "h", "one"),
            (2, "h", "old"),
            (2, "new", "two"),
            (3, "h", "gone"),
            (4, "h", "late"),
        ]:
            needs(shard, request(row, hash_))
            shard.sent(0, request(row, hash_), 5)
            shard.heard(0, request(row, hash_), good(text))
        shard.ended(0, request(3, "new"), "failed", REJECTED)
        assert room.left < 0
        keys = sorted(shard.entries)
        assert [key[0] for key in keys if shard.entries[key].kept] == [1, 2, 4]
        kept = Results(shard, lambda *_: 0.5, raw=True)
        read = Results(opened(), lambda *_: 0.5, raw=True)
        assert [kept.row(key) for key in keys] == [read.row(key) for key in keys]


def test_what_was_in_flight_is_named_and_asked_again_with_the_next_number(opened) -> None:
    shard = opened()
    needs(shard, request(1))
    shard.sent(0, request(1), 5)
    again = reopened(shard, opened)
    entry = again.entries[1, "m", 0]
    assert (entry.attempts, entry.maybe_billed) == (1, 1)
    assert needs(again, request(1))
    again.sent(0, request(1), 6)
    again.heard(0, request(1), good())
    last = reopened(again, opened).entries[1, "m", 0]
    assert (last.status, last.attempts, last.maybe_billed) == ("ok", 2, 1)


def test_an_answer_is_not_replaced_by_a_failure_of_the_same_request(opened) -> None:
    shard = opened()
    needs(shard, request(1))
    shard.sent(0, request(1), 5)
    shard.heard(0, request(1), good())
    shard.ended(0, request(1), "failed", REJECTED)
    assert reopened(shard, opened).entries[1, "m", 0].status == "ok"


def test_an_answer_to_an_older_request_is(opened) -> None:
    shard = opened()
    needs(shard, request(1))
    shard.sent(0, request(1), 5)
    shard.heard(0, request(1), good())
    shard.sent(0, request(1, "new"), 6)
    shard.heard(0, request(1, "new"), BAD)
    assert reopened(shard, opened).entries[1, "m", 0].hash == "h"
    shard.ended(0, request(1, "new"), "failed", REJECTED)
    entry = reopened(shard, opened).entries[1, "m", 0]
    assert (entry.status, entry.hash) == ("failed", "new")


def test_failed_rows_are_needed_and_rejected_ones_on_request_or_when_they_changed(opened) -> None:
    shard = opened()
    for row, status in ((1, "failed"), (2, "rejected")):
        needs(shard, request(row))
        shard.sent(0, request(row), 5)
        shard.heard(0, request(row), BAD)
        shard.ended(0, request(row), status, REJECTED)
    again = reopened(shard, opened)
    assert needs(again, request(1))
    assert not needs(again, request(2))
    assert needs(again, request(2), retry_rejected=True)
    assert needs(again, request(2, "changed"))


def test_a_row_that_cant_be_asked_is_rejected_until_it_changes(opened) -> None:
    shard = opened()
    unsendable = RejectedRow(1, "m", 0, REJECTED)
    assert needs(shard, unsendable)
    shard.ended(0, unsendable, "rejected", REJECTED)
    again = reopened(shard, opened)
    assert not needs(again, unsendable)
    assert not needs(again, unsendable, retry_rejected=True)
    assert needs(again, request(1))


def test_folding_twice_changes_nothing(opened, tmp_path: Path) -> None:
    shard = opened()
    for row in range(3):
        needs(shard, request(row))
        shard.sent(0, request(row), 5)
        if row:
            shard.heard(0, request(row), good() if row == 1 else BAD)
    shard.close()
    (tmp_path / "copy").write_bytes((tmp_path / "00000-000.jsonl").read_bytes())
    twice = opened(tmp_path / "copy")
    once = opened()
    assert [(e.status, e.attempts, e.maybe_billed) for e in twice.entries.values()] == [
        (e.status, e.attempts, e.maybe_billed) for e in once.entries.values()
    ]


def test_an_answer_that_is_none_any_more_when_it_is_sealed_is_a_failure(
    opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part says what is so when it is written; a folder is never locked by an answer."""
    shard = opened()
    shard.needs(request(1), retry_rejected=False)
    shard.sent(0, request(1), 1)
    shard.heard(0, request(1), good())
    no = Failure(FailureAction.RETRY, "bad_answer", "no")
    monkeypatch.setattr("batchmix.responses.classify._outcome", lambda exchange, path: no)
    results = Results(shard, lambda *_: None, raw=True)
    row = named(results.row((1, "m", 0)))
    assert (row["status"], row["error_type"], row["error_message"], row["raw"], row["latency_s"]) == (
        "failed", "bad_answer", "no", good().body.decode(), 0.1
    )  # fmt: skip
