"""A schema that changes between two starts: answers that fit it stay, and the others are requested again."""

from __future__ import annotations

import copy
import json
import shutil
from typing import Any

import pytest

from batchmix.errors import ProviderStopped, RunError
from tests import odd_provider
from tests.conftest import Bench
from tests.engine.test_typed_answers import SCHEMA, WRONG, said, typed  # noqa: F401 - a fixture
from tests.wire import reply


@pytest.fixture
def answered(typed: Bench, provider: odd_provider.Provider) -> Bench:  # noqa: F811
    """A finished run in which row n has the score n. The answer of row 9 does not fit, and is kept."""
    typed.settings["answer"] |= {"schema": bounded(0), "send": "response_format", "on_invalid": "keep"}
    # Each row has a response format of its own, so that the schema is only checked.
    typed.settings["input"] = {"path": str(typed.source)}
    lines = (
        {"custom_id": f"r{row}", "method": "POST", "url": "/v1/chat/completions", "body": body(row)}
        for row in range(12)
    )
    typed.source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    provider.answer = lambda row, attempt, _: said(WRONG if row == 9 else json.dumps({"mood": "good", "score": row}))
    typed.run()
    assert [row["status"] for row in typed.rows()] == ["ok"] * 12
    provider.rows_received.clear()
    return typed


def body(row: int) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"row {row}"}]
    return {"model": "m", "messages": messages, "response_format": {"type": "json_object"}}


def bounded(minimum: int) -> dict[str, Any]:
    schema: dict[str, Any] = copy.deepcopy(SCHEMA)
    schema["properties"]["score"]["minimum"] = minimum
    return schema


def test_a_start_with_another_schema_names_it_and_what_would_be_requested_again(answered: Bench) -> None:
    answered.settings["answer"] |= {"schema": bounded(-5)}
    with pytest.raises(RunError, match=r"answer\.schema, .* have changed since; add --update"):
        answered.run()
    answered.settings["answer"] |= {"schema": bounded(3)}
    with pytest.raises(RunError, match="request 3 existing answers again"):
        answered.run()
    answered.settings["answer"] |= {"schema": bounded(0), "flatten": True}
    with pytest.raises(RunError, match=r"answer\.flatten, .* have changed since"):
        answered.run()


def test_only_answers_that_no_longer_fit_are_requested_again(answered: Bench, provider: odd_provider.Provider) -> None:
    answered.settings["answer"] |= {"schema": bounded(3)}
    provider.answer = lambda row, attempt, _: said(json.dumps({"mood": "bad", "score": 10 * row + 3}))
    view = answered.run(update=True)
    assert sorted(provider.rows_received) == [0, 1, 2]
    rows = answered.rows()
    assert [row["answer"] and row["answer"]["score"] for row in rows] == [3, 13, 23, *range(3, 9), None, 10, 11]
    assert (rows[9]["status"], rows[9]["error_type"], rows[9]["response"]) == ("ok", "schema", WRONG)
    assert view.totals.cost_usd == pytest.approx(12 * 120e-6)
    assert view.totals.billed_retries_usd == pytest.approx(4 * 120e-6)  # of rows 0 to 2 before, and of row 9
    answered.run()
    assert len(provider.rows_received) == 3


def test_nothing_is_sent_for_a_schema_that_all_answers_fit(answered: Bench, provider: odd_provider.Provider) -> None:
    before = answered.rows()
    answered.settings["answer"] |= {"schema": bounded(-5), "flatten": True}
    answered.run(update=True)
    assert not provider.rows_received
    after = answered.rows()
    assert [row["answer.score"] for row in after] == [row["answer"] and row["answer"]["score"] for row in before]
    assert [row["cost_usd"] for row in after] == [row["cost_usd"] for row in before]


def test_an_answer_that_no_longer_fits_is_no_result_until_it_is_replaced(
    answered: Bench, provider: odd_provider.Provider
) -> None:
    answered.settings["answer"] |= {"schema": bounded(11)}
    provider.answer = lambda row, attempt, _: said(json.dumps({"mood": "good", "score": 0}))
    view = answered.run(update=True)
    rows = answered.rows()
    assert [(row["status"], row["error_type"]) for row in rows] == [("ok", "schema")] * 11 + [("ok", None)]
    assert sorted(provider.rows_received) == sorted([*range(9), *range(9), 10, 10])
    paid = (view.totals.cost_usd or 0) + (view.totals.billed_retries_usd or 0)
    assert paid == pytest.approx((13 + 20) * 120e-6)


@pytest.fixture
def stopped(answered: Bench, provider: odd_provider.Provider) -> Bench:
    """A run with a journal and no part: rows 0 to 5 are answered, and row 6 waits for its repair."""
    shutil.rmtree(answered.out)
    answered.settings["limits"] = {"concurrency": 1}
    answered.settings["output"]["shard_rows"] = 100
    key = reply(401, b'{"error":{"message":"key"}}')
    provider.answer = lambda row, attempt, _: (
        said(json.dumps({"mood": "good", "score": row})) if row < 6 else said(WRONG) if attempt == 1 else key
    )
    with pytest.raises(ProviderStopped):
        answered.run()
    assert not list((answered.out / "data").iterdir())
    assert provider.rows_received == [*range(7), 6]
    provider.rows_received.clear()
    return answered


def test_answers_in_a_journal_that_no_longer_fit_are_not_requested_again_without_update(
    stopped: Bench, provider: odd_provider.Provider
) -> None:
    """Whatever the journal ends with. The row that waits for its repair has none."""
    stopped.settings["answer"] |= {"schema": bounded(3)}
    (journal,) = (stopped.out / "journal").iterdir()
    (stopped.out / "ledger.jsonl").unlink()
    (stopped.out / "summary.json").unlink()
    lines = journal.read_bytes().splitlines(keepends=True)
    for number in range(len(lines), 0, -1):
        journal.write_bytes(b"".join(lines[:number]))
        heard = {event["row"] for event in map(json.loads, lines[:number]) if event["e"] == "heard"}
        unfit = len(heard & {0, 1, 2})
        if unfit == 0:
            break
        with pytest.raises(RunError, match=f"would request {unfit} existing answers? again"):
            stopped.run()
    assert number > 1
    assert not provider.rows_received


def test_with_update_they_are_repaired(stopped: Bench, provider: odd_provider.Provider) -> None:
    stopped.settings["answer"] |= {"schema": bounded(3)}
    provider.answer = lambda row, attempt, _: said(json.dumps({"mood": "bad", "score": row + 3}))
    view = stopped.run(update=True)
    assert sorted(provider.rows_received) == [0, 1, 2, *range(6, 12)]
    assert [row["answer"]["score"] for row in stopped.rows()] == [3, 4, 5, 3, 4, 5, *range(9, 15)]
    assert [row["repairs"] for row in stopped.rows()] == [1, 1, 1, 0, 0, 0, 1, *[0] * 5]
    assert view.totals.billed_retries == 4


def test_answers_in_a_journal_to_requests_that_hold_another_schema_are_counted_too(
    stopped: Bench, provider: odd_provider.Provider
) -> None:
    """They are lost whether they fit it or not, since their requests have changed."""
    stopped.settings["input"] = {"path": str(stopped.source), "prompt": "row {{ n }}"}
    shutil.rmtree(stopped.out)
    stopped.write(12)
    with pytest.raises(ProviderStopped):
        stopped.run()
    provider.rows_received.clear()
    stopped.settings["answer"] |= {"schema": bounded(3)}
    with pytest.raises(RunError, match="would request 6 existing answers again"):
        stopped.run()
    assert not provider.rows_received


def test_a_schema_that_all_answers_in_a_journal_fit_needs_no_update(
    stopped: Bench, provider: odd_provider.Provider
) -> None:
    stopped.settings["answer"] |= {"schema": bounded(-5)}
    provider.answer = lambda row, attempt, _: said(json.dumps({"mood": "bad", "score": row}))
    stopped.run()
    assert provider.rows_received == [*range(6, 12)]
    assert [row["answer"]["score"] for row in stopped.rows()] == list(range(12))
