"""A schema that changes between two starts: answers that fit it stay, and the others are requested again."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from batchmix.errors import RunError
from tests import odd_provider
from tests.conftest import Bench
from tests.engine.test_typed_answers import SCHEMA, WRONG, said, typed  # noqa: F401 - a fixture


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
