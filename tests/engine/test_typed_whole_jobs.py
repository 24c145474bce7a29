"""Whole jobs with typed answers, in each form of request and answer: the table, the bill and the provider's own account."""

from __future__ import annotations

import json
import urllib.request
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from batchmix.engine.plan import plan_run
from batchmix.engine.run import Options
from batchmix.job import read_job
from batchmix.store.view import View
from tests.chain_provider import HANG, PRICE, RESET, ChainProvider, Turn, chain_provider
from tests.conftest import Bench
from tests.wire import error, reply

SCHEMA = {
    "type": "object",
    "properties": {"mood": {"enum": ["good", "bad"]}, "score": {"type": "integer"}},
    "required": ["mood", "score"],
    "additionalProperties": False,
}
VALUE = {"mood": "good", "score": 3}
GOOD, WRONG = '{"mood": "good", "score": 3}', '{"mood": "great", "score": 3}'
FENCED = f"```json\n{GOOD}\n```"
CUT_OFF = Turn(GOOD[:9], "length")
CHAINS = (
    (Turn(GOOD),),
    (Turn(FENCED),),
    (Turn(WRONG), Turn(GOOD)),
    (Turn(WRONG), Turn("no JSON"), Turn(FENCED)),
    (Turn(WRONG), Turn(WRONG), Turn(WRONG)),
    (CUT_OFF, Turn(GOOD)),
    (CUT_OFF, CUT_OFF, Turn(GOOD)),
    (Turn(""), Turn(GOOD)),
    (Turn(None, beside=(("reasoning_content", "Well."),)), Turn(GOOD)),
    (Turn(None, beside=(("refusal", "No."),)),),
    (Turn("", "content_filter"),),
)
ROWS = len(CHAINS)
ENDS: list[tuple[bool | None, str | None, str | None]] = [
    (False, None, None),
    (True, None, None),
    (False, None, None),
    (True, None, None),
    (None, "/mood", '/mood: "great" is not one of "good" or "bad"'),
    *[(False, None, None)] * 4,
    (None, "", "the model refused: No."),
    (None, "", "the model refused: content_filter"),
]
"""What each row has after two repairs: whether its answer was healed, and the code and the message of its error."""
SAID = {WRONG: 'at /mood: "great" is not one of "good" or "bad". ', "no JSON": "there is no valid JSON in it. "}
"""What the request for a repair says of some texts."""
CUT_SHORT = "the answer was cut off by its limit of tokens, so it must be shorter. "
CHAT, RESPONSES = "/chat/completions", "/responses"


@pytest.fixture
def chained(bench: Bench) -> Iterator[ChainProvider]:
    """The provider of the bench, whose job has a schema and allows two repairs."""
    with chain_provider(lambda row: CHAINS[row % ROWS]) as server:
        bench.settings |= {
            "provider": {"base_url": server.url, "api_key_env": ""},
            "answer": {"schema": SCHEMA, "repair": 2},
            "prices": {"m": PRICE},
            "input": {"path": str(bench.source), "prompt": "row {{ n }} {{ text }}"},
        }
        yield server


def write_batch(bench: Bench, path: str, params: dict[str, Any], count: int = ROWS) -> None:
    """Write lines of a Batch file."""
    bench.settings["input"] = {"path": str(bench.source)}
    lines = []
    for row in range(count):
        turns = [{"role": "user", "content": f"row {row}"}]
        body = {"model": "m", "input" if path == RESPONSES else "messages": turns, **params}
        lines.append({"custom_id": f"r{row}", "method": "POST", "url": f"/v1{path}", "body": body})
    bench.source.write_text("".join(json.dumps(line) + "\n" for line in lines))


def check_account(view: View, provider: ChainProvider) -> None:
    """Compare the sums of all starts of a run with the provider's own account."""
    totals = view.totals
    beside = sum(cost.retries_tokens for cost in totals.costs.values())
    assert (totals.cost_usd or 0) + (totals.billed_retries_usd or 0) == pytest.approx(provider.usd, abs=1e-12)
    assert totals.prompt_tokens + totals.completion_tokens + beside == provider.tokens
    assert totals.attempts == len(provider.answered) + len(provider.failed)


def check_rows(bench: Bench, provider: ChainProvider, *, is_called: bool = False, is_kept: bool = False) -> None:
    """Compare the rows, whose chains are those of `CHAINS` to their ends, with what the provider has answered.

    `is_called` says that the answers are calls of a tool, `is_kept` that the job keeps invalid ones.
    """
    for row in bench.rows():
        healed, code, message = ENDS[row["row"] % ROWS]
        chain = CHAINS[row["row"] % ROWS]
        is_valid = code is None
        is_ok = is_valid or is_kept
        text, found = chain[-1].text, row["response"]
        if is_called and text is not None and chain[-1].finish == "stop":
            (call,) = json.loads(row["tool_calls"])
            found = call.get("function", call)["arguments"]
        assert (found or None) == (text or None)
        assert (row["status"], row["answer"]) == ("ok" if is_ok else "failed", VALUE if is_valid else None)
        assert (row["healed"], row["repairs"]) == (healed, len(chain) - 1)
        assert (row["error_code"], row["error_message"]) == (code, message)
        assert row["error_type"] == (None if is_valid else "schema")
        last = next(a for a in reversed(provider.answered) if a.row == row["row"] and a.body["model"] == row["model"])
        assert row["cost_usd"] == (pytest.approx(last.usd) if is_ok else None)
        assert row["completion_tokens"] == (last.completion_tokens if is_ok else None)


FORMS = {
    "chat": (CHAT, {}),
    "streamed": (CHAT, {"stream": True}),
    "n of 2, streamed": (CHAT, {"stream": True, "n": 2, "max_tokens": 51}),
    "max_tokens": (CHAT, {"max_tokens": 51}),
    "max_completion_tokens": (CHAT, {"max_completion_tokens": 51}),
    "responses": (RESPONSES, {}),
    "max_output_tokens": (RESPONSES, {"max_output_tokens": 51}),
}


@pytest.mark.parametrize("send", ["response_format", "json_object", "prompt", "tool"])
@pytest.mark.parametrize("form", FORMS)
def test_each_row_takes_its_chain_once_in_each_form(bench: Bench, chained: ChainProvider, form: str, send: str) -> None:
    path, params = FORMS[form]
    write_batch(bench, path, params)
    bench.settings["answer"]["send"] = send
    view = bench.run()
    check_account(view, chained)
    check_rows(bench, chained, is_called=send == "tool")
    assert chained.places() == {row: list(range(len(chain))) for row, chain in enumerate(CHAINS)}
    assert view.totals.maybe_billed == 0
    caps = {name: value for name, value in params.items() if name.startswith("max")}
    for received in chained.answered:
        is_raised = bool(caps) and CHAINS[received.row][0] is CUT_OFF and received.place > 0
        assert {name: received.body[name] for name in caps} == {
            name: cap * (1 + is_raised) for name, cap in caps.items()
        }
        turns = received.body.get("messages") or received.body["input"]
        asked = [turn for turn in turns if str(turn.get("content")).startswith("Your answer does not fit")]
        assert len(asked) == received.place - is_raised
        if asked:
            before = CHAINS[received.row][received.place - 1]
            assert f": {SAID.get(before.text, CUT_SHORT if before is CUT_OFF else '')}" in asked[-1]["content"]


def test_models_and_samples_take_their_own_chains(bench: Bench, chained: ChainProvider) -> None:
    bench.settings |= {"samples": 2, "models": [{"id": "m", "name": "m"}, {"id": "o", "name": "o"}]}
    bench.settings["prices"]["o"] = PRICE
    del bench.settings["model"]
    bench.write(ROWS)
    view = bench.run()
    check_account(view, chained)
    check_rows(bench, chained)
    keys = Counter((row["row"], row["model"], row["sample"]) for row in bench.rows())
    assert keys == Counter({(row, model, sample): 1 for row in range(ROWS) for model in "mo" for sample in (0, 1)})
    assert chained.places() == {row: sorted([*range(len(chain))] * 4) for row, chain in enumerate(CHAINS)}


@pytest.mark.parametrize(
    ("own", "streams"), [({}, [None, True, True]), ({"stream": False}, [False] * 3), ({"stream": True}, [True] * 3)]
)
def test_an_answer_whose_raised_limit_makes_it_long_is_streamed(
    bench: Bench, chained: ChainProvider, own: dict[str, bool], streams: list[bool | None]
) -> None:
    chained.chain_of = lambda row: (CUT_OFF, Turn(WRONG), Turn(GOOD))
    write_batch(bench, CHAT, {"max_tokens": 5001, **own}, 3)
    view = bench.run()
    sent = {place: [a.body for a in chained.answered if a.place == place] for place in range(3)}
    assert [[body["max_tokens"] for body in bodies] for bodies in sent.values()] == [[5001] * 3, *[[10002] * 3] * 2]
    assert [[body.get("stream") for body in bodies] for bodies in sent.values()] == [[stream] * 3 for stream in streams]
    assert [row["answer"] for row in bench.rows()] == [VALUE] * 3
    check_account(view, chained)


FAULTS = {
    "throttled": reply(429, error("slow down"), "Retry-After: 0"),
    "server error": reply(500, error("broken")),
    "reset": RESET,
    "silence": HANG,
    "no answer": reply(200, b"{}"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_repair_that_fails_is_sent_again_and_nothing_else_is(
    bench: Bench, chained: ChainProvider, fault: str
) -> None:
    repairs = [(row, place) for row, chain in enumerate(CHAINS) for place in range(1, len(chain))]
    chained.faults = {repair: [FAULTS[fault]] for repair in repairs}
    bench.settings["timeouts"] = {"total_s": 1}
    bench.write(ROWS)
    view = bench.run()
    check_account(view, chained)
    check_rows(bench, chained)
    assert sorted((failed.row, failed.place) for failed in chained.failed) == repairs
    assert chained.places() == {row: list(range(len(chain))) for row, chain in enumerate(CHAINS)}
    assert view.totals.maybe_billed == (len(repairs) if fault in {"reset", "silence", "no answer"} else 0)


WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


@pytest.mark.parametrize(
    ("send", "own", "message"),
    [
        ("auto", {"tools": [WEATHER], "tool_choice": "required"}, "tools: a model that must call one of these"),
        ("prompt", {"tools": [WEATHER], "tool_choice": WEATHER}, "tools: a model that must call one of these"),
        ("tool", {"tools": [WEATHER]}, "tools: can't be together with answer.send"),
    ],
)
def test_a_row_with_tools_that_leave_no_answer_is_rejected_before_it_is_paid_for(
    bench: Bench, chained: ChainProvider, send: str, own: dict[str, Any], message: str
) -> None:
    bench.settings["answer"]["send"] = send
    bench.settings["input"] = {"path": str(bench.source)}
    rows = (
        {"messages": [{"role": "user", "content": f"row {row * ROWS}"}], **(own if row else {})} for row in range(3)
    )
    bench.source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    plan = plan_run(read_job(None, bench.settings, {}), Options())
    assert (plan.requests, plan.rejected) == (1, 2)
    assert message in plan.rejected_example
    view = bench.run()
    assert [(row["status"], row["error_type"]) for row in bench.rows()] == [("ok", None)] + [
        ("rejected", "bad_row")
    ] * 2
    assert bench.rows()[1]["error_message"].startswith(message)
    assert [received.row for received in chained.answered] == [0]
    check_account(view, chained)


KINDS = ("fenced", "chatty", "thinking", "trailing_comma", "wrong_enum", "missing_key", "extra_key", "wrong_type")


@pytest.mark.parametrize(
    ("send", "path", "params"),
    [
        ("response_format", CHAT, {"max_tokens": 300}),
        ("tool", CHAT, {"stream": True, "max_tokens": 300}),
        ("json_object", RESPONSES, {}),
        ("prompt", CHAT, {"n": 2}),
    ],
)
def test_the_bill_of_the_rehearsal_is_that_of_the_run(
    bench: Bench, send: str, path: str, params: dict[str, Any]
) -> None:
    shares = "&".join(f"{kind}=0.1" for kind in KINDS)
    bench.standin.behave(f"{shares}&price=1-2&seed=4&max_faults=0")
    bench.settings |= {"answer": {"schema": SCHEMA, "repair": 2, "send": send}, "prices": {"m": PRICE}}
    write_batch(bench, path, params, 40)
    view = bench.run()
    ledger, totals = bench.standin.ledger(), view.totals
    with urllib.request.urlopen(f"{bench.standin.url}/dashboard/billing/usage") as response:
        spent_usd = json.load(response)["total_usage"] / 100
    assert (totals.cost_usd or 0) + (totals.billed_retries_usd or 0) == pytest.approx(spent_usd)
    assert totals.attempts == len(ledger) == len({record["digest"] for record in ledger}) > 40
