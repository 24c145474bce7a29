"""`[answer]`: a row whose repair is refused ends as its invalid answer would, since its own request was not refused."""

from __future__ import annotations

import json
import shutil

import pytest

from batchmix.errors import BatchmixError
from tests import odd_provider
from tests.conftest import Bench
from tests.engine.test_typed_answers import GOOD, WRONG, said, typed  # noqa: F401 - a fixture
from tests.wire import reply


def refused(message: str, code: str = "") -> bytes:
    return reply(400, json.dumps({"error": {"message": message, "code": code}}).encode())


TOO_LONG = refused("This model's maximum context length is 100 tokens", "context_length_exceeded")
CUT_OFF = said(GOOD[:9], "length")
REFUSALS = {
    "context length": (said(WRONG), TOO_LONG, "/mood", "maximum context length is 100 tokens"),
    "content filter": (said(WRONG), refused("filtered", "content_filter"), "/mood", "filtered"),
    "bad request": (said(WRONG), refused("messages: roles must alternate"), "/mood", "roles must alternate"),
    "larger limit": (CUT_OFF, refused("max_tokens is too large: 20"), "", "max_tokens is too large: 20"),
}


@pytest.mark.parametrize("on_invalid", ["fail", "keep"])
@pytest.mark.parametrize("name", REFUSALS)
def test_the_row_ends_with_its_answer_and_says_that_the_repair_was_refused(
    typed: Bench,  # noqa: F811
    provider: odd_provider.Provider,
    name: str,
    on_invalid: str,
) -> None:
    answer, refusal, path, reason = REFUSALS[name]
    typed.settings["answer"] |= {"on_invalid": on_invalid, "repair": 2}
    typed.settings["params"] = {"max_tokens": 10}
    typed.write(4)
    provider.answer = lambda row, attempt, _: said(GOOD) if row != 2 else answer if attempt % 2 else refusal
    view = typed.run()
    row = typed.rows()[2]
    assert (row["status"], row["error_type"], row["error_code"]) == (
        "ok" if on_invalid == "keep" else "failed", "schema", path,
    )  # fmt: skip
    assert row["error_message"].startswith("/mood: " if path else "the answer was cut off")
    assert "the request that followed on this answer was refused: " in row["error_message"]
    assert reason in row["error_message"]
    assert row["response"] == (WRONG if path else GOOD[:9])
    assert (row["answer"], row["repairs"], row["attempts"], row["http_status"]) == (None, 0, 2, 200)
    assert row["cost_usd"] == (pytest.approx(120e-6) if on_invalid == "keep" else None)
    assert (view.totals.cost_usd or 0) + (view.totals.billed_retries_usd or 0) == pytest.approx(4 * 120e-6)
    account = view.summary()["answers"]
    assert (account["lost"], account["repairs"], account["invalid_paths"]) == (1, 0, {path: 1})
    typed.run()
    assert provider.rows_received.count(2) == (2 if on_invalid == "keep" else 4)
    assert len(provider.rows_received) == 3 + provider.rows_received.count(2)


def test_a_row_whose_own_request_is_refused_stays_rejected(typed: Bench, provider: odd_provider.Provider) -> None:  # noqa: F811
    typed.write(4)
    provider.answer = lambda row, attempt, _: TOO_LONG if row == 2 else said(GOOD)
    typed.run()
    assert [row["error_type"] for row in typed.rows()] == [None, None, "context_length", None]
    assert typed.rows()[2]["status"] == "rejected"


def test_the_first_20_invalid_answers_stop_the_model_though_no_repair_fits(
    typed: Bench,  # noqa: F811
    provider: odd_provider.Provider,
) -> None:
    typed.write(200)
    provider.answer = lambda row, attempt, _: said(WRONG) if attempt == 1 else TOO_LONG
    with pytest.raises(BatchmixError, match=r"the first 20 answers do not fit the schema: /mood: .*maximum context"):
        typed.run()
    assert len(provider.rows_received) < 2 * (20 + 8) + 8


@pytest.mark.parametrize("on_invalid", ["fail", "keep"])
def test_rows_that_share_the_answer_end_like_the_first(
    typed: Bench,  # noqa: F811
    provider: odd_provider.Provider,
    on_invalid: str,
) -> None:
    typed.settings["answer"] |= {"on_invalid": on_invalid}
    typed.settings["reuse"] = {"dedupe": True}
    typed.source.write_text("".join(json.dumps({"n": 0, "text": "the same"}) + "\n" for _ in range(4)))
    provider.answer = lambda row, attempt, _: said(WRONG) if attempt == 1 else TOO_LONG
    typed.run()
    assert len(provider.rows_received) == 2
    shared = {(row["status"], row["response"], row["error_type"], row["error_message"]) for row in typed.rows()}
    ((status, response, error_type, message),) = shared
    assert (status, response, error_type) == ("ok" if on_invalid == "keep" else "failed", WRONG, "schema")
    assert "maximum context" in message


def test_a_start_after_a_kill_ends_the_row_in_the_same_way(typed: Bench, provider: odd_provider.Provider) -> None:  # noqa: F811
    typed.settings["answer"] |= {"on_invalid": "keep"}
    typed.settings["limits"] = {"concurrency": 1}
    typed.write(3)
    key = reply(401, b'{"error":{"message":"key"}}')
    provider.answer = lambda row, attempt, _: (
        key if row == 2 else said(GOOD) if row == 0 else said(WRONG) if attempt == 1 else TOO_LONG
    )
    with pytest.raises(BatchmixError):
        typed.run()
    stopped = typed.root / "stopped"
    typed.out.rename(stopped)
    for name in ("ledger.jsonl", "summary.json"):
        (stopped / name).unlink()
    (journal,) = (stopped / "journal").iterdir()
    lines = journal.read_bytes().splitlines(keepends=True)
    for number in range(len(lines), 0, -1):
        shutil.copytree(stopped, typed.out)
        (typed.out / "journal" / journal.name).write_bytes(b"".join(lines[:number]))
        events = [json.loads(line) for line in lines[:number]]
        heard = [event["row"] for event in events if event["e"] == "heard" and event["row"] == 1]
        ended = any(event["e"] == "ended" and event["row"] == 1 for event in events)
        provider.rows_received[:] = heard[:1]
        provider.answer = lambda row, attempt, _: said(GOOD) if row != 1 else said(WRONG) if attempt == 1 else TOO_LONG
        view = typed.run()
        assert provider.rows_received.count(1) == (1 if ended else 2), number
        row = typed.rows()[1]
        assert (row["status"], row["error_code"], row["response"]) == ("ok", "/mood", WRONG), number
        assert "maximum context" in row["error_message"]
        assert view.totals.cost_usd == pytest.approx(3 * 120e-6), number
        assert not view.totals.billed_retries_usd, number
        shutil.rmtree(typed.out)


@pytest.mark.parametrize("valid", [0, 1])
def test_a_job_that_keeps_all_invalid_answers_is_warned_and_goes_on(
    typed: Bench,  # noqa: F811
    provider: odd_provider.Provider,
    caplog: pytest.LogCaptureFixture,
    valid: int,
) -> None:
    typed.settings["answer"] |= {"on_invalid": "keep"}
    typed.write(50)
    provider.answer = lambda row, attempt, _: said(GOOD if row < valid else WRONG)
    assert typed.run().totals.ok == 50
    warned = [record.getMessage() for record in caplog.records if "none of the first 20" in record.getMessage()]
    assert [message[:50] for message in warned] == ["m: none of the first 20 answers fits the schema, a"] * (not valid)
