"""`[answer]`: answers are checked by a schema, requested again if they don't fit, and stored as columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchmix.errors import BatchmixError
from tests import odd_provider
from tests.conftest import Bench
from tests.wire import reply

SCHEMA = {
    "type": "object",
    "properties": {"mood": {"enum": ["good", "bad"]}, "score": {"type": "integer"}},
    "required": ["mood", "score"],
    "additionalProperties": False,
}
GOOD = '{"mood": "good", "score": 3}'
WRONG = '{"mood": "great", "score": 3}'


@pytest.fixture
def typed(bench: Bench, provider: odd_provider.Provider) -> Bench:
    bench.settings |= {
        "answer": {"schema": SCHEMA},
        "provider": {"base_url": f"http://127.0.0.1:{provider.server_address[1]}/v1", "api_key_env": ""},
        "input": {"path": str(bench.source), "prompt": "row {{ n }} {{ text }}"},
        "prices": {"m": {"input": 1.0, "output": 2.0}},
    }
    return bench


def said(text: str | None, finish: str = "stop") -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    return reply(200, json.dumps({"id": "x", "model": "m", "choices": [choice], "usage": usage}).encode())


def test_an_invalid_answer_is_repaired_and_what_it_cost_is_kept_apart(
    typed: Bench, provider: odd_provider.Provider
) -> None:
    typed.write(12)
    provider.answer = lambda row, attempt, _: said(WRONG if row % 3 == 0 and attempt == 1 else GOOD)
    view = typed.run()
    rows = typed.rows()
    assert [row["answer"] for row in rows] == [{"mood": "good", "score": 3}] * 12
    assert [row["repairs"] for row in rows] == [row["n"] % 3 == 0 for row in rows]
    assert {row["healed"] for row in rows} == {False}
    assert len(provider.rows_received) == 12 + 4
    assert view.totals.billed_retries == 4
    assert view.totals.cost_usd == pytest.approx(12 * 120e-6)
    assert view.totals.billed_retries_usd == pytest.approx(4 * 120e-6)


@pytest.mark.parametrize("on_invalid", ["fail", "keep"])
def test_an_answer_that_stays_invalid_fails_its_row_or_is_kept(
    typed: Bench, provider: odd_provider.Provider, on_invalid: str
) -> None:
    typed.settings["answer"] |= {"on_invalid": on_invalid}
    typed.write(4)
    provider.answer = lambda row, attempt, _: said(WRONG if row == 2 else GOOD)
    view = typed.run()
    row = typed.rows()[2]
    assert (row["status"], row["answer"], row["response"], row["repairs"]) == (
        "ok" if on_invalid == "keep" else "failed", None, WRONG, 1,
    )  # fmt: skip
    assert (row["error_type"], row["error_code"]) == ("schema", "/mood")
    assert row["error_message"].startswith("/mood: ")
    assert "great" in row["error_message"]
    assert row["cost_usd"] == (pytest.approx(120e-6) if on_invalid == "keep" else None)
    assert (view.totals.cost_usd or 0) + (view.totals.billed_retries_usd or 0) == pytest.approx(5 * 120e-6)
    received = len(provider.rows_received)
    typed.run()
    assert len(provider.rows_received) == received + (0 if on_invalid == "keep" else 2)


def test_a_start_goes_on_after_the_invalid_answers_that_are_in_the_journal(
    typed: Bench, provider: odd_provider.Provider
) -> None:
    typed.settings["answer"] |= {"repair": 2}
    typed.write(6)
    # The key is refused as soon as a repair is sent.
    provider.answer = lambda row, attempt, _: (
        said(WRONG) if attempt == 1 else reply(401, b'{"error":{"message":"key"}}')
    )
    with pytest.raises(BatchmixError):
        typed.run()
    answered = set(provider.rows_received)
    provider.rows_received.clear()
    provider.answer = lambda row, attempt, _: said(GOOD)
    typed.run()
    assert sorted(provider.rows_received) == list(range(6))  # once for each row: its repair, if it had an answer
    assert [row["repairs"] for row in typed.rows()] == [row in answered for row in range(6)]
    assert {row["status"] for row in typed.rows()} == {"ok"}


def test_the_first_20_answers_that_are_wrong_at_the_same_path_stop_the_model(
    typed: Bench, provider: odd_provider.Provider
) -> None:
    typed.write(200)
    provider.answer = lambda row, attempt, _: said(json.dumps({"mood": f"mood {row}", "score": row}))
    with pytest.raises(BatchmixError, match="the first 20 answers do not fit the schema: /mood: "):
        typed.run()
    assert len(provider.rows_received) < 2 * (20 + 8) + 8


def test_an_answer_that_was_cut_off_is_requested_once_with_a_larger_limit(
    typed: Bench, provider: odd_provider.Provider
) -> None:
    typed.settings["params"] = {"max_tokens": 10}
    typed.write(3)
    provider.answer = lambda row, attempt, _: said(GOOD[:9], "length") if attempt == 1 else said(GOOD)
    typed.run()
    assert [row["repairs"] for row in typed.rows()] == [1, 1, 1]
    sent = [json.loads(line) for path in (typed.out / "journal").glob("*") for line in path.read_text().splitlines()]
    assert not sent  # all is sealed
    assert {row["finish_reason"] for row in typed.rows()} == {"stop"}


@pytest.mark.parametrize("flatten", [False, True])
def test_the_columns_follow_from_the_schema_alone(typed: Bench, provider: odd_provider.Provider, flatten: bool) -> None:
    typed.settings["answer"] |= {"flatten": flatten, "repair": 0}
    typed.write(2)
    provider.answer = lambda row, attempt, _: said("no JSON at all")
    typed.run()
    schema: pa.Schema = pq.read_schema(next((typed.out / "data").iterdir()))
    names = schema.names[schema.names.index("response") + 1 : schema.names.index("reasoning")]
    values: dict[str, Any] = {"mood": pa.string(), "score": pa.int64()}
    if flatten:
        assert names == ["answer.mood", "answer.score", "healed", "repairs"]
        assert [schema.field(f"answer.{name}").type for name in values] == list(values.values())
    else:
        assert names == ["answer", "healed", "repairs"]
        assert schema.field("answer").type == pa.struct(list(values.items()))
    assert len(provider.rows_received) == 2


def test_without_a_schema_there_are_no_such_columns(bench: Bench, tmp_path: Path) -> None:
    bench.write(2)
    bench.run()
    assert not {"answer", "healed", "repairs"} & set(bench.rows()[0])
