"""`[answer]` with `reuse.dedupe`, over several starts: a later row shares what the first row with its request has got."""

from __future__ import annotations

import json
from typing import Any

import pytest

from batchmix.errors import BatchmixError
from tests import odd_provider
from tests.conftest import Bench
from tests.engine.test_changed_schema import bounded
from tests.engine.test_typed_answers import GOOD, WRONG, said, typed  # noqa: F401 - a fixture
from tests.wire import reply

ANSWER = {"mood": "good", "score": 3}
DOWN = reply(500, b'{"error":{"message":"down"}}')


@pytest.fixture
def twins(typed: Bench) -> Bench:  # noqa: F811
    """A job whose rows have the same request if they have the same number."""
    typed.settings["answer"] |= {"on_invalid": "keep"}
    typed.settings["reuse"] = {"dedupe": True}
    return typed


def write(bench: Bench, numbers: list[int]) -> None:
    bench.source.write_text("".join(json.dumps({"n": number, "text": "the same"}) + "\n" for number in numbers))


def values(bench: Bench, *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in bench.rows()]


@pytest.mark.parametrize("stopped", [False, True], ids=["in a part", "in a journal"])
def test_a_later_start_shares_an_answer_that_is_kept(
    twins: Bench, provider: odd_provider.Provider, stopped: bool
) -> None:
    write(twins, [0, 1, *[5] * stopped])
    key = reply(401, b'{"error":{"message":"key"}}')
    provider.answer = lambda row, attempt, _: key if row == 5 else said(WRONG if row == 0 else GOOD)
    twins.settings["limits"] = {"concurrency": 1}
    if stopped:
        with pytest.raises(BatchmixError):
            twins.run()
        assert not list((twins.out / "data").iterdir())
    else:
        twins.run()
    provider.answer = lambda row, attempt, _: said(GOOD)
    provider.rows_received.clear()
    write(twins, [0, 1, 5, *[0, 1] * 10])
    twins.run()
    assert provider.rows_received == [5]
    kept, valid = ("ok", None, WRONG, "/mood", 0.0), ("ok", ANSWER, GOOD, None, 0.0)
    assert values(twins, "status", "answer", "response", "error_code", "cost_usd")[3:] == [kept, valid] * 10
    assert {row["reused_from"] for row in twins.rows()[3:]} == {"bench"}
    assert [row["repairs"] for row in twins.rows()] == [1, *[0] * 22]
    before = twins.rows()
    twins.run()
    assert provider.rows_received == [5]
    assert twins.rows() == before


def test_a_row_that_is_read_after_the_first_has_ended_shares_its_answer(
    twins: Bench, provider: odd_provider.Provider
) -> None:
    """Within one start, over models, samples and shards."""
    del twins.settings["model"]
    twins.settings |= {"models": [{"id": "m"}, {"id": "n"}], "samples": 2, "limits": {"concurrency": 1}}
    write(twins, [0, *range(1, 300), *[0] * 30])
    provider.answer = lambda row, attempt, _: said(WRONG if row == 0 else GOOD)
    view = twins.run()
    assert provider.rows_received.count(0) == 2 * 2 * 2
    assert len(provider.rows_received) == 4 * 301
    assert view.totals.ok == 4 * 330
    kept = [row for row in twins.rows() if row["error_type"] == "schema"]
    assert len(kept) == 4 * 31
    assert {(row["response"], row["error_code"]) for row in kept} == {(WRONG, "/mood")}
    assert sum(row["reused_from"] is None for row in kept) == 4


def test_rows_share_an_answer_that_was_healed_or_repaired(twins: Bench, provider: odd_provider.Provider) -> None:
    fenced = f"```json\n{GOOD}\n```"
    write(twins, [0, 1])
    provider.answer = lambda row, attempt, _: said(fenced if row == 0 else WRONG if attempt == 1 else GOOD)
    twins.run()
    provider.rows_received.clear()
    write(twins, [0, 1, 0, 1])
    view = twins.run()
    assert provider.rows_received == []
    assert values(twins, "answer", "healed", "repairs") == [
        (ANSWER, True, 0),
        (ANSWER, False, 1),
        (ANSWER, True, 0),
        (ANSWER, False, 0),
    ]
    account = view.summary()["answers"]
    assert (account["valid"], account["healed"], account["repaired"], account["repairs"]) == (1, 2, 1, 1)


def test_rows_whose_first_has_failed_share_what_it_gets_in_the_next_start(
    twins: Bench, provider: odd_provider.Provider
) -> None:
    twins.settings["answer"] |= {"on_invalid": "fail"}
    write(twins, [0, 1])
    provider.answer = lambda row, attempt, _: said(WRONG if row == 0 else GOOD)
    twins.run()
    provider.rows_received.clear()
    write(twins, [0, 1, 0, 0])
    twins.run()
    assert provider.rows_received == [0, 0]
    assert values(twins, "status", "error_type") == [("failed", "schema"), ("ok", None), *[("failed", "schema")] * 2]
    provider.answer = lambda row, attempt, _: said(GOOD)
    twins.run()
    assert provider.rows_received == [0, 0, 0]
    assert values(twins, "status", "answer") == 4 * [("ok", ANSWER)]


def test_rows_do_not_share_what_is_kept_once_the_job_keeps_nothing(
    twins: Bench, provider: odd_provider.Provider
) -> None:
    write(twins, [0, 1])
    provider.answer = lambda row, attempt, _: said(WRONG if row == 0 else GOOD)
    twins.run()
    provider.rows_received.clear()
    twins.settings["answer"] |= {"on_invalid": "fail"}
    provider.answer = lambda row, attempt, _: said(GOOD)
    write(twins, [0, 1, 0, 0])
    twins.run()
    assert provider.rows_received == [0]
    assert values(twins, "answer", "error_type") == [(None, "schema"), *[(ANSWER, None)] * 3]


def test_an_answer_that_no_longer_fits_is_not_shared_as_if_it_were_kept(
    twins: Bench, provider: odd_provider.Provider
) -> None:
    twins.settings["answer"] |= {"schema": bounded(0), "send": "response_format"}
    body = {"model": "m", "response_format": {"type": "json_object"}}
    line = {"custom_id": "r", "method": "POST", "url": "/v1/chat/completions"}
    lines = [{**line, "body": {**body, "messages": [{"role": "user", "content": f"row {n}"}]}} for n in (0, 1, 0, 0)]
    twins.settings["input"] = {"path": str(twins.source)}
    twins.source.write_text("".join(json.dumps(one) + "\n" for one in lines))
    provider.answer = lambda row, attempt, _: said(GOOD)
    twins.run()
    provider.rows_received.clear()
    twins.settings["answer"] |= {"schema": bounded(5)}
    provider.answer = lambda row, attempt, _: said(GOOD.replace("3", "7"))
    twins.run(update=True)
    assert set(provider.rows_received) == {0, 1}
    assert values(twins, "answer", "error_type") == 4 * [({"mood": "good", "score": 7}, None)]


def test_a_row_with_an_answer_of_its_own_that_takes_that_of_another_counts_both_once(
    twins: Bench, provider: odd_provider.Provider
) -> None:
    """Row 2 is sent since row 0 has failed by then; its repair fails, and the next start lets it wait for row 0."""
    twins.settings["retry"] = {"attempts": 1}
    twins.settings["limits"] = {"concurrency": 1}
    write(twins, [0, *range(1, 700), 0])
    provider.answer = lambda row, attempt, _: (
        said(GOOD) if row else (DOWN, said(WRONG), DOWN, said(WRONG), said(WRONG))[attempt - 1]
    )
    twins.run()
    assert provider.rows_received.count(0) == 3
    assert values(twins, "error_type")[0] == values(twins, "error_type")[-1] == ("server_error",)
    view = twins.run()
    assert provider.rows_received.count(0) == 5
    first, last = twins.rows()[0], twins.rows()[-1]
    assert [(row["status"], row["error_type"], row["response"]) for row in (first, last)] == 2 * [
        ("ok", "schema", WRONG)
    ]
    assert (first["repairs"], first["cost_usd"]) == (1, pytest.approx(120e-6))
    assert (last["repairs"], last["cost_usd"], last["reused_from"]) == (0, 0.0, "bench")
    paid = (view.totals.cost_usd or 0) + (view.totals.billed_retries_usd or 0)
    assert paid == pytest.approx((699 + 3) * 120e-6)
    account = view.summary()["answers"]
    assert (account["lost"], account["repairs"], account["invalid_paths"]) == (2, 1, {"/mood": 3})
