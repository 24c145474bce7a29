"""`[answer]` with answers that rows share: `reuse.dedupe` within a run, and `reuse.from` another run."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests import odd_provider
from tests.conftest import Bench
from tests.engine.test_typed_answers import GOOD, WRONG, said, typed  # noqa: F401 - a fixture

FIRST = (0, 1)
"""The rows that are sent. All other rows have the same request as one of them."""


def write_twins(bench: Bench) -> None:
    """Write eight rows with two different prompts."""
    with bench.source.open("w") as file:
        file.writelines(json.dumps({"n": number % 2, "text": "the same"}) + "\n" for number in range(8))


def values(rows: list[dict[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in rows]


@pytest.mark.parametrize("on_invalid", ["fail", "keep"])
def test_rows_with_the_same_request_get_the_repaired_answer_or_the_invalid_one(
    typed: Bench,  # noqa: F811
    provider: odd_provider.Provider,
    on_invalid: str,
) -> None:
    typed.settings["answer"] |= {"on_invalid": on_invalid}
    typed.settings["reuse"] = {"dedupe": True}
    write_twins(typed)
    provider.answer = lambda row, attempt, _: said(WRONG if row == 0 or attempt == 1 else GOOD)
    view = typed.run()
    assert sorted(provider.rows_received) == [0, 0, 1, 1]
    rows = typed.rows()
    answer = {"mood": "good", "score": 3}
    kept = "ok" if on_invalid == "keep" else "failed"
    assert values(rows, "status", "response", "answer", "error_code") == 4 * [
        (kept, WRONG, None, "/mood"),
        ("ok", GOOD, answer, None),
    ]
    assert [row["repairs"] for row in rows] == [1, 1, *[0] * 6]
    assert (view.totals.cost_usd or 0) + (view.totals.billed_retries_usd or 0) == pytest.approx(4 * 120e-6)
    assert {row["cost_usd"] for row in rows[2:] if row["status"] == "ok"} == {0.0}
    typed.run()
    assert len(provider.rows_received) == (4 if on_invalid == "keep" else 6)


def test_a_run_reuses_the_valid_answers_of_another_run(
    typed: Bench,  # noqa: F811
    provider: odd_provider.Provider,
) -> None:
    typed.settings["answer"] |= {"on_invalid": "keep"}
    typed.write(6)
    provider.answer = lambda row, attempt, _: said(WRONG if row == 2 or (row == 3 and attempt == 1) else GOOD)
    typed.run()
    provider.rows_received.clear()
    other = typed.root / "other"
    typed.out.rename(other)
    typed.settings["reuse"] = {"from": [str(other)]}
    provider.answer = lambda row, attempt, _: said(GOOD)
    view = typed.run()
    assert provider.rows_received == [2]
    assert values(typed.rows(), "answer", "repairs") == 6 * [({"mood": "good", "score": 3}, 0)]
    assert view.totals.reused == 5
    assert view.totals.cost_usd == pytest.approx(120e-6)


def test_answers_without_a_schema_are_reused_if_they_fit_it(
    typed: Bench,  # noqa: F811
    provider: odd_provider.Provider,
) -> None:
    """Requests are the same if each row has a response format of its own."""
    answer = typed.settings.pop("answer")
    typed.settings["input"] = {"path": str(typed.source)}
    with typed.source.open("w") as file:
        for row in range(4):
            messages = [{"role": "user", "content": f"row {row}"}]
            body = {"model": "m", "messages": messages, "response_format": {"type": "json_object"}}
            line = {"custom_id": f"r{row}", "method": "POST", "url": "/v1/chat/completions", "body": body}
            file.write(json.dumps(line) + "\n")
    provider.answer = lambda row, attempt, _: said("5" if row == 1 else GOOD)
    typed.run()
    provider.rows_received.clear()
    other = typed.root / "other"
    typed.out.rename(other)
    typed.settings |= {"answer": answer, "reuse": {"from": [str(other)]}}
    provider.answer = lambda row, attempt, _: said(GOOD)
    typed.run()
    assert provider.rows_received == [1]
    assert values(typed.rows(), "status", "answer") == 4 * [("ok", {"mood": "good", "score": 3})]
