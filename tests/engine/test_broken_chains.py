"""`[answer]`: a row that failed between an invalid answer and its repair goes on with the repair in the next start."""

from __future__ import annotations

import collections
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from batchmix.engine import reader
from batchmix.errors import BatchmixError
from batchmix.store.shard import Shard
from tests import odd_provider
from tests.conftest import Bench
from tests.engine.test_typed_answers import GOOD, WRONG, said, typed  # noqa: F401 - a fixture
from tests.engine.test_typed_journals import shown
from tests.wire import reply

ROWS = 8
DOWN = reply(500, b'{"error":{"message":"down"}}')
OTHER = '{"mood": "fine", "score": 3}'
CUT_OFF = said(GOOD[:9], "length")
EACH = 120e-6
"""The cost of an answer in USD."""


@pytest.fixture
def broken(typed: Bench, provider: odd_provider.Provider) -> Bench:  # noqa: F811
    """A finished run: the repairs of row 2 (after one answer), 5 (after two) and 6 (after a cut-off one) failed."""
    typed.settings["answer"] |= {"repair": 2, "on_invalid": "keep"}
    typed.settings["retry"] = {"attempts": 1}
    typed.settings["params"] = {"max_tokens": 10}
    typed.write(ROWS)
    first = {2: [said(WRONG)], 5: [said(WRONG), said(OTHER)], 6: [CUT_OFF]}
    provider.answer = lambda row, attempt, _: (
        said(GOOD) if row not in first else first[row][attempt - 1] if attempt <= len(first[row]) else DOWN
    )
    typed.run()
    assert [row["n"] for row in typed.rows() if row["error_type"] == "server_error"] == [2, 5, 6]
    provider.rows_received.clear()
    provider.bodies_received.clear()
    return typed


def messages(body: str) -> list[Any]:
    return [message["content"] for message in json.loads(body)["messages"]][1:]


def paid(bench: Bench) -> float:
    totals = reader.look(bench.out).totals
    return (totals.cost_usd or 0) + (totals.billed_retries_usd or 0)


@pytest.mark.parametrize("raw", [True, False])
def test_the_next_start_sends_the_repairs_that_failed(
    broken: Bench,
    provider: odd_provider.Provider,
    raw: bool,
) -> None:
    assert paid(broken) == pytest.approx((5 + 4) * EACH)
    broken.settings["output"]["raw"] = raw
    provider.answer = lambda row, attempt, _: said(GOOD)
    view = broken.run()
    assert sorted(provider.rows_received) == [2, 5, 6]
    bodies = dict(zip(provider.rows_received, provider.bodies_received, strict=True))
    assert messages(bodies[2])[0] == WRONG
    assert [messages(bodies[5])[at] for at in (0, 2)] == [WRONG, OTHER]
    assert (messages(bodies[6]), json.loads(bodies[6])["max_tokens"]) == ([], 20)
    assert [row["repairs"] for row in broken.rows()] == [0, 0, 1, 0, 0, 2, 1, 0]
    assert [row["attempts"] for row in broken.rows()] == [1, 1, 3, 1, 1, 4, 3, 1]
    assert paid(broken) == pytest.approx((8 + 4) * EACH)
    account = view.summary()["answers"]
    assert (account["valid"], account["repaired"], account["repairs"]) == (5, 3, 4)
    assert account["repairs_usd"] == pytest.approx(4 * EACH)
    assert account["invalid_paths"] == {"/mood": 3, "": 1}
    assert not list((broken.out / "journal").iterdir())
    broken.run()
    assert len(provider.rows_received) == 3


def test_a_chain_may_break_in_each_of_many_starts(broken: Bench, provider: odd_provider.Provider) -> None:
    provider.answer = lambda row, attempt, _: DOWN
    for _ in range(3):
        provider.rows_received.clear()
        broken.run()
        assert sorted(provider.rows_received) == [2, 5, 6]
    provider.answer = lambda row, attempt, _: said(OTHER)
    view = broken.run()
    rows = broken.rows()
    assert [(rows[n]["status"], rows[n]["error_code"], rows[n]["repairs"]) for n in (2, 5, 6)] == [
        ("ok", "/mood", 2),
        ("ok", "/mood", 2),
        ("ok", "/mood", 3),
    ]
    assert paid(broken) == pytest.approx((5 + 3 + 3 + 4) * EACH)
    account = view.summary()["answers"]
    assert (account["lost"], account["repairs"]) == (3, 7)
    assert account["repairs_usd"] == pytest.approx(7 * EACH)


def test_an_answer_that_was_counted_beside_its_row_is_counted_once_when_the_row_keeps_it(
    broken: Bench, provider: odd_provider.Provider
) -> None:
    """Without repairs, the next start gives the rows up with the answers that they have."""
    broken.settings["answer"]["repair"] = 0
    view = broken.run()
    assert not provider.rows_received
    rows = broken.rows()
    assert [(rows[n]["status"], rows[n]["response"], rows[n]["cost_usd"]) for n in (2, 5, 6)] == [
        ("ok", text, pytest.approx(EACH)) for text in (WRONG, OTHER, GOOD[:9])
    ]
    assert view.totals.cost_usd == pytest.approx(8 * EACH)
    assert view.totals.billed_retries_usd == pytest.approx(EACH)
    account = view.summary()["answers"]
    assert (account["lost"], account["repairs"], account["repairs_usd"]) == (3, 1, pytest.approx(EACH))
    assert account["invalid_paths"] == {"/mood": 3, "": 1}
    assert reader.look(broken.out).summary() == view.summary()


def test_readers_need_only_the_parts(broken: Bench, tmp_path: Path) -> None:
    (journal,) = (broken.out / "journal").iterdir()
    assert [json.loads(line).get("row") for line in journal.read_bytes().splitlines()] == [None, 2, 5, 5, 6]
    broken.source.unlink()
    reader.export(broken.out, tmp_path / "rows.jsonl")
    exported = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [row["n"] for row in exported] == list(range(ROWS))


def test_a_kill_leaves_the_journal_whole_or_cut_down(
    broken: Bench, provider: odd_provider.Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start after the kill does the same: every line that is left out is in the part."""
    (journal,) = (broken.out / "journal").iterdir()
    shorter = journal.read_bytes().splitlines(keepends=True)
    provider.answer = lambda row, attempt, _: DOWN if row == 5 else said(GOOD)
    remove = Shard.remove_journals

    def killed(shard: Shard) -> None:
        raise BatchmixError("killed")

    monkeypatch.setattr(Shard, "remove_journals", killed)
    with pytest.raises(BatchmixError, match="killed"):
        broken.run()
    monkeypatch.setattr(Shard, "remove_journals", remove)
    lines = journal.read_bytes().splitlines(keepends=True)
    killed_there = broken.root / "killed"
    broken.out.rename(killed_there)
    provider.answer = lambda row, attempt, _: said(GOOD)
    expected = None
    for kept in [lines[:number] for number in range(len(shorter), len(lines) + 1)]:
        shutil.copytree(killed_there, broken.out)
        (broken.out / "journal" / journal.name).write_bytes(b"".join(kept))
        provider.rows_received.clear()
        view = broken.run()
        assert provider.rows_received == [5]
        summary = {name: value for name, value in view.summary().items() if not name.endswith("_at")}
        found = shown(broken), summary
        expected = expected or found
        assert found == expected
        assert paid(broken) == pytest.approx((8 + 4) * EACH)
        shutil.rmtree(broken.out)


def test_a_row_whose_request_has_changed_begins_anew(broken: Bench, provider: odd_provider.Provider) -> None:
    broken.settings["input"]["prompt"] = "Say row {{ n }} {{ text }}"
    provider.answer = lambda row, attempt, _: said(GOOD)
    broken.run(update=True)
    assert collections.Counter(provider.rows_received) == dict.fromkeys(range(ROWS), 1)
    assert {row["repairs"] for row in broken.rows()} == {0}
    assert not list((broken.out / "journal").iterdir())


def test_a_rejected_row_that_got_an_invalid_answer_goes_on_with_its_repair(
    typed: Bench,  # noqa: F811
    provider: odd_provider.Provider,
) -> None:
    """Also without --retry-rejected: its request is rejected no longer."""
    typed.write(3)
    filtered = reply(400, b'{"error":{"message":"filtered","code":"content_filter"}}')
    provider.answer = lambda row, attempt, _: filtered if row == 1 else said(GOOD)
    typed.run()
    assert [row["status"] for row in typed.rows()] == ["ok", "rejected", "ok"]
    key = reply(401, b'{"error":{"message":"key"}}')
    provider.answer = lambda row, attempt, _: said(WRONG) if attempt == 2 else key
    with pytest.raises(BatchmixError, match="key"):
        typed.run(retry_rejected=True)
    assert reader.look(typed.out).summary()["unanswered"] == 1
    provider.bodies_received.clear()
    provider.answer = lambda row, attempt, _: said(GOOD)
    typed.run()
    (body,) = provider.bodies_received
    assert messages(body)[0] == WRONG
    assert [(row["status"], row["repairs"]) for row in typed.rows()] == [("ok", 0), ("ok", 1), ("ok", 0)]
    assert paid(typed) == pytest.approx(4 * EACH)


def test_the_repairs_of_a_stopped_model_are_sent_once_it_is_back(
    typed: Bench,  # noqa: F811
    provider: odd_provider.Provider,
) -> None:
    """Its other rows fail meanwhile, so that the shard with the answers of the other model is finished."""
    del typed.settings["model"]
    typed.settings |= {"models": [{"id": "m"}, {"id": "n"}], "prices": {"n": {"input": 1.0, "output": 2.0}}}
    typed.write(3)
    gone = reply(404, b'{"error":{"message":"The model `n` does not exist","code":"model_not_found"}}')

    def answer(row: int, attempt: int, nth: int) -> bytes:
        request = json.loads(provider.current.body)
        if request["model"] == "m":
            return said(GOOD)
        return said(WRONG) if len(request["messages"]) == 1 and row == 0 else gone

    provider.answer = answer
    typed.settings["limits"] = {"concurrency": 1}
    with pytest.raises(BatchmixError, match="does not exist"):
        typed.run()
    assert [(row["model"], row["error_type"]) for row in typed.rows()] == [("m", None), ("n", "model_stopped")] * 3
    provider.bodies_received.clear()
    provider.answer = lambda row, attempt, _: said(GOOD)
    typed.run()
    sent = [messages(body)[:1] for body in provider.bodies_received]
    assert sorted(sent) == [[], [], [WRONG]]
    assert [row["repairs"] for row in typed.rows() if row["model"] == "n"] == [1, 0, 0]
