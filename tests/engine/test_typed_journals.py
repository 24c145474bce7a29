"""`[answer]` after a kill: each row goes on after the answers that the journal has, wherever the journal ends."""

from __future__ import annotations

import collections
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from batchmix.answers.typed import TypedAnswers
from batchmix.errors import BatchmixError
from batchmix.records import CLASSIFIER_VERSION
from batchmix.responses.classify import Classifier
from batchmix.store.ledger import Ledger, ShardLeftOpen
from batchmix.store.row_state import RowState
from batchmix.store.shard import Shard
from tests import odd_provider
from tests.conftest import Bench
from tests.engine.test_typed_answers import GOOD, SCHEMA, WRONG, said, typed  # noqa: F401 - a fixture
from tests.wire import reply

CUT_OFF = said(GOOD[:9], "length")
REFUSED_KEY = reply(401, b'{"error":{"message":"key"}}')
REPLIES = [
    [said(GOOD)],
    [said(WRONG), said(GOOD)],
    [CUT_OFF, said(f"```\n{GOOD}\n```")],
    [said(WRONG), said(WRONG), said(WRONG)],
    [CUT_OFF, said(WRONG), said("no JSON"), said(GOOD)],
    [said(None), said(GOOD)],
    [said(GOOD)],
]
"""For each row, the replies to its requests. The key is refused for the last row in the first start, so that the journal
stays."""
LAST = len(REPLIES) - 1
BILLED = sum(len(replies) for replies in REPLIES)
SHOWN = ("status", "answer", "healed", "repairs", "response", "cost_usd", "attempts", "error_type", "error_code", "raw")


def shown(bench: Bench) -> list[dict[str, Any]]:
    return [{name: row[name] for name in SHOWN} for row in bench.rows()]


def heard(lines: list[bytes]) -> list[int]:
    """Return the rows of the responses in a journal, except those of the last row, whose key was refused."""
    events = [json.loads(line) for line in lines]
    return [event["row"] for event in events if event["e"] == "heard" and event["row"] != LAST]


def folded(journals: dict[int, Path], part: Path) -> list[tuple[Any, ...]]:
    """Return what follows from the journals of a shard, and its part."""
    classifier = Classifier(typed=TypedAnswers(SCHEMA, repair=2, keep_invalid=True))
    shard = Shard(0, journals, part, classifier=classifier)
    shard.close()
    return [_followed(state) for state in shard.states.values()]


def _followed(state: RowState) -> tuple[Any, ...]:
    going_on = len(state.to_continue(state.chain.hash)) if state.chain else 0
    return state.status, state.repairs, going_on, state.billed_failures, state.attempts, state.maybe_billed


@pytest.fixture
def stopped(typed: Bench, provider: odd_provider.Provider) -> Path:  # noqa: F811
    """A run folder with a journal in which each row but the last has its outcome."""
    typed.settings["answer"] |= {"repair": 2, "on_invalid": "keep"}
    typed.settings["limits"] = {"concurrency": 1}
    typed.settings["params"] = {"max_tokens": 10}
    typed.write(len(REPLIES))
    provider.answer = lambda row, attempt, _: REFUSED_KEY if row == LAST else REPLIES[row][attempt - 1]
    with pytest.raises(BatchmixError):
        typed.run()
    provider.answer = lambda row, attempt, _: REPLIES[row][attempt - 1]
    provider.rows_received.remove(LAST)
    kept = typed.root / "stopped"
    typed.out.rename(kept)
    for name in ("ledger.jsonl", "summary.json"):  # as after a kill, they do not know how long the journal is
        (kept / name).unlink()
    return kept


def test_a_row_goes_on_where_the_journal_ends(stopped: Path, typed: Bench, provider: odd_provider.Provider) -> None:  # noqa: F811
    (journal,) = (stopped / "journal").iterdir()
    lines = journal.read_bytes().splitlines(keepends=True)
    expected = None
    for number in range(len(lines), 0, -1):
        shutil.copytree(stopped, typed.out)
        (typed.out / "journal" / journal.name).write_bytes(b"".join(lines[:number]))
        events = [json.loads(line) for line in lines[:number]]
        provider.rows_received[:] = heard(lines[:number])
        view = typed.run()
        received = collections.Counter(provider.rows_received)
        assert [received[row] for row in range(len(REPLIES))] == [len(replies) for replies in REPLIES], number
        in_flight = events[-1]["e"] == "sent"
        found = shown(typed)
        attempts = [row.pop("attempts") for row in found]
        assert attempts[:LAST] == [
            len(REPLIES[row]) + (in_flight and row == events[-1]["row"]) for row in range(LAST)
        ], number
        expected = expected or found
        assert found == expected, number
        assert view.totals.cost_usd == pytest.approx(len(REPLIES) * 120e-6)
        assert view.totals.billed_retries_usd == pytest.approx((BILLED - len(REPLIES)) * 120e-6)
        assert view.totals.maybe_billed == in_flight
        shutil.rmtree(typed.out)
    assert expected is not None
    assert [row["repairs"] for row in expected] == [0, 1, 1, 2, 3, 1, 0]
    assert [row["status"] for row in expected] == ["ok"] * len(REPLIES)
    assert (expected[3]["answer"], expected[3]["response"]) == (None, WRONG)


def test_reading_a_chain_twice_changes_nothing(stopped: Path) -> None:
    (journal,) = (stopped / "journal").iterdir()
    lines = journal.read_bytes().splitlines(keepends=True)
    part = stopped / "none.parquet"
    cut, copy = stopped / "cut", stopped / "copy"
    for number in range(1, len(lines) + 1):
        cut.write_bytes(b"".join(lines[:number]))
        shutil.copy(cut, copy)
        assert folded({0: cut, 1: copy}, part) == folded({0: cut}, part), number


def test_a_kill_between_sealing_and_removing_the_journals_changes_nothing(
    stopped: Path,
    typed: Bench,  # noqa: F811
    provider: odd_provider.Provider,
) -> None:
    shutil.copytree(stopped, typed.out)
    before = typed.run()
    rows = typed.rows()
    received = len(provider.rows_received)
    for path in (stopped / "journal").iterdir():
        shutil.copy(path, typed.out / "journal")
    after = typed.run()
    assert typed.rows() == rows
    assert len(provider.rows_received) == received
    assert after.totals == before.totals


def test_a_row_that_waits_for_its_repair_is_no_answer_that_a_later_version_rejects(
    stopped: Path,
    typed: Bench,  # noqa: F811
    provider: odd_provider.Provider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Wherever the journal ends, a later version loses none of its answers."""
    for place in ("missing_answers", "send"):
        monkeypatch.setattr(f"batchmix.engine.{place}.CLASSIFIER_VERSION", CLASSIFIER_VERSION + 1)
    (journal,) = (stopped / "journal").iterdir()
    lines = journal.read_bytes().splitlines(keepends=True)
    for number in range(len(lines), 0, -1):
        shutil.copytree(stopped, typed.out)
        (typed.out / "journal" / journal.name).write_bytes(b"".join(lines[:number]))
        Ledger(typed.out / "ledger.jsonl", None).append(ShardLeftOpen(0))  # as it is after a kill
        provider.rows_received[:] = heard(lines[:number])
        assert typed.run().totals.ok == len(REPLIES), number
        shutil.rmtree(typed.out)
