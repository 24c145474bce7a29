"""Whole runs against a server that sends given bytes: the bytes on the socket, and the row that they become."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from batchmix.cli.summary import closing_lines
from batchmix.engine.run_status import RunStatus
from batchmix.errors import ProviderStopped
from batchmix.records import Completion, Usage
from tests.calling import batchmix
from tests.conftest import Bench
from tests.odd_provider import Provider
from tests.responses.test_parse import ANSWERS, USAGES
from tests.wire import GOOD, error, page, reply

# Answers

LONG = "long " * 1_000_000
BODIES = [
    *((body, answer) for _, body, answer in ANSWERS),
    *((json.dumps({**GOOD, "usage": said}).encode(), Completion("Paris", finish_reason="stop", usage=usage)) for said, usage in USAGES),
    (json.dumps(GOOD).replace("Paris", LONG).encode(), Completion(LONG, finish_reason="stop", usage=Usage(5, 1, 6))),
]  # fmt: skip


def test_every_odd_answer_becomes_a_row_with_all_its_content(bench: Bench, provider: Provider) -> None:
    provider.answer = lambda row, attempt, nth: reply(200, BODIES[row][0])
    bench.write(len(BODIES), text="row {}")
    bench.run()
    rows = bench.rows()
    assert [(row["row"], row["status"], row["attempts"], row["error_type"]) for row in rows] == [
        (n, "ok", 1, None) for n in range(len(BODIES))
    ]
    for row, (body, answer) in zip(rows, BODIES, strict=True):
        usage = answer.usage
        assert [row[name] for name in ("response", "reasoning", "refusal", "tool_calls", "finish_reason")] == [
            answer.response, answer.reasoning, answer.refusal, answer.tool_calls, answer.finish_reason
        ]  # fmt: skip
        names = [name for name in usage.__struct_fields__ if name in row]
        assert [row[name] for name in names] == [getattr(usage, name) for name in names]
        assert row["raw"] == body.decode("utf-8", "replace")
        assert row["served_model"] == "gpt-4o-mini-2024"


# Connections


def test_a_server_that_closes_each_connection_at_once_costs_no_row(bench: Bench, provider: Provider) -> None:
    provider.closes = True
    bench.write(200, text="row {}")
    assert bench.run().totals.ok == 200
    assert len(provider.rows_received) == 200
    assert all(row["maybe_billed"] == row["attempts"] - 1 for row in bench.rows())


def test_a_request_lost_on_a_closing_connection_is_sent_again_and_counted(bench: Bench, provider: Provider) -> None:
    """The server closes kept connections just after a request was sent, so it is unknown whether it was served."""
    lost: list[int] = []

    def answer(row: int, attempt: int, nth: int) -> bytes | None:
        if nth == 1 or len(lost) == 10:
            return reply(200, GOOD)
        lost.append(row)
        return None

    provider.answer = answer
    bench.settings["limits"]["concurrency"] = 1
    bench.write(40, text="row {}")
    assert bench.run().totals.ok == 40
    assert len(lost) == 10
    assert {row["row"]: row["maybe_billed"] for row in bench.rows() if row["maybe_billed"]} == {
        row: lost.count(row) for row in lost
    }
    assert all(row["attempts"] == 1 + row["maybe_billed"] for row in bench.rows())


def named(row: int) -> dict[str, Any]:
    return {**GOOD, "choices": [{"index": 0, "message": {"content": f"of {row}"}, "finish_reason": "stop"}]}


def test_an_answer_belongs_to_its_row_whatever_follows_it(bench: Bench, provider: Provider) -> None:
    """Surplus answers, whole or cut, and rubbish are given to no row, cause no second request, and are reported."""

    def answer(row: int, attempt: int, nth: int) -> bytes:
        other = reply(200, named(1000 + row))
        behind = (b"", other, other[: 5 * row], b"rubbish\r\n\r\n")[row % 4]
        return reply(200, named(row)) + behind

    provider.answer = answer
    bench.write(60, text="row {}")
    bench.settings["prices"] = {"m": {"input": 1.0, "output": 2.0}}
    view = bench.run()
    assert [(row["response"], row["attempts"], row["maybe_billed"]) for row in bench.rows()] == [
        (f"of {row}", 1, 0) for row in range(60)
    ]
    assert sorted(provider.rows_received) == list(range(60))
    assert view.surplus_answers == bench.start()["surplus_answers"] == 45
    bench.write(4, first=60, text="row {}")
    provider.answer = lambda row, attempt, nth: reply(200, named(row)) + b"HTTP/1."
    assert bench.run().surplus_answers == 49
    summary = json.loads((bench.out / "summary.json").read_text())
    assert (summary["surplus_answers"], summary["maybe_billed"]) == (49, 0)
    assert any(
        "49 times a response came that was not requested" in line
        for line in closing_lines(bench.run(), RunStatus(), 1.0)
    )


def test_a_whole_answer_of_a_length_that_was_never_sent_is_billed_once(bench: Bench, provider: Provider) -> None:
    provider.answer = lambda row, attempt, nth: reply(200, GOOD).replace(b"Content-Length: ", b"Content-Length: 1")
    provider.closes = True
    bench.write(3, text="row {}")
    bench.settings["prices"] = {"m": {"input": 1.0, "output": 2.0}}
    totals = bench.run().totals
    assert (totals.ok, totals.attempts, totals.maybe_billed, totals.cost_usd) == (3, 3, 0, pytest.approx(3 * 7e-6))
    assert [row["maybe_billed"] for row in bench.rows()] == [0, 0, 0]


# Errors


NASTY = "\x1b]0;title\x07\x1b[31mred\x9b2J\u202eevil\u2028\x85\b"
SAYS = [
    reply(
        200, {**GOOD, "id": NASTY, "model": NASTY, "choices": [{"message": {"content": NASTY}, "finish_reason": NASTY}]}
    ),
    reply(400, error(f"bad {NASTY}", NASTY, type=NASTY, param=NASTY)),
    reply(400, error(f"Unsupported parameter: '{NASTY}'", "unsupported_parameter", param=NASTY)),
    reply(500, f"plain {NASTY}".encode(), kind="text/plain\x1b[31m"),
    reply(418, {"detail": [{"loc": ["body", NASTY], "msg": NASTY}]}),
    reply(302, b"", "Location: http://x/\x1b[31m"),
    reply(200, b"{}", "X-Request-Id: a\x1b[31m", "X-Aihubmix-Model: m\x1b[31m"),
    b"SSH-2.0 \x1b[31m\r\n\r\n",
]


def test_no_text_of_the_provider_reaches_the_terminal_raw(bench: Bench, provider: Provider) -> None:
    """Nor any text of names and rows, in any output; only the bar moves the cursor."""
    provider.answer = lambda row, attempt, nth: SAYS[row % len(SAYS)]
    url = str(bench.settings["provider"]["base_url"])
    source, out = bench.root / "rows\x9b\u202e.jsonl", bench.root / "run\x9b\u202e"
    source.write_text("".join(json.dumps({"id": NASTY, "text": f"row {n}{NASTY}", f"a{NASTY}": NASTY}) + "\n" for n in range(16)))  # fmt: skip
    settings = ("--model", "m\x9b\u202e", "--prompt", "{{ text }}", "--base-url", url, "--set", "provider.api_key_env=")
    more = ("--keep-going", "--set", "retry.attempts=1", "--progress", "bar", "-vv")
    shown = ""
    for call in (
        ("plan", str(source), *settings),
        ("run", str(source), *settings, "--out", str(out), *more),
        ("status", str(out)),
        ("status", str(out), "--json"),
        ("report", str(out)),
        ("run", str(source), *settings, "--out", str(out), "--set", f"params.x{NASTY}=1"),
    ):
        done = batchmix(*call)
        assert "Traceback" not in done.stderr
        shown += done.stdout + done.stderr
    assert "evil" in shown
    raw = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e]")
    own = re.compile(r"\n\x1b\[\?7l(?:\x1b\[2K[^\n\x1b]*(?:\n|\x1b\[J\n))+(?:\x1b\[[0-9]+A)?\x1b\[\?7h")
    painted = own.findall(shown)
    assert painted  # the bar's own control codes surround its lines and never occur in them
    assert not any(raw.search(line) for one in painted for line in re.split(r"\x1b\[(?:\?7[lh]|2K|J|[0-9]+A)", one))
    assert not raw.findall(own.sub("", shown))


def test_an_unknown_error_is_retried_twice_and_shown(bench: Bench, provider: Provider) -> None:
    provider.answer = lambda row, attempt, nth: reply(418, error("the teapot", "t")) if row == 3 else reply(200, GOOD)
    bench.write(10, text="row {}")
    bench.run()
    row = bench.rows()[3]
    shown = {name: row[name] for name in ("status", "attempts", "http_status", "error_type", "error_code")}
    assert shown == {
        "status": "failed", "attempts": 3, "http_status": 418, "error_type": "unknown", "error_code": "t"
    }  # fmt: skip
    assert row["error_message"] == "the teapot (tid: 2026112300000001)"
    assert provider.rows_received.count(3) == 3


PASSING = [
    page(200),
    reply(302, b"", "Location: https://maintenance.example/"),
    reply(503, error("No available channel for model m under group default")),
]


@pytest.mark.parametrize("trouble", PASSING, ids=["web page", "redirect", "no channel"])
def test_an_error_that_stops_at_the_start_is_transient_in_the_middle(
    bench: Bench, provider: Provider, trouble: bytes
) -> None:
    bench.settings["limits"]["concurrency"] = 1
    bench.write(10, text="row {}")
    provider.answer = lambda row, attempt, nth: trouble
    with pytest.raises(ProviderStopped):
        bench.run()
    assert len(provider.rows_received) == 3
    provider.rows_received.clear()
    provider.answer = lambda row, attempt, nth: trouble if row == 5 and attempt == 1 else reply(200, GOOD)
    assert bench.run().totals.ok == 10
    assert sorted(provider.rows_received) == sorted([*range(10), 5])


def test_a_parameter_that_the_model_refuses_stops_and_is_named(bench: Bench, provider: Provider) -> None:
    refusal = error("Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.", "unsupported_parameter", param="max_tokens")  # fmt: skip
    provider.answer = lambda row, attempt, nth: reply(400, refusal)
    bench.settings["params"] = {"max_tokens": 9}
    bench.write(200, text="row {}")
    with pytest.raises(
        ProviderStopped,
        match=r"use max_completion_tokens instead of max_tokens for this model \(--set params.max_tokens\)",
    ):
        bench.run()
    assert len(provider.rows_received) <= 20 + 8
    bench.settings["params"] = {"max_completion_tokens": 9}
    provider.answer = lambda row, attempt, nth: reply(200, GOOD)
    assert bench.run().totals.ok == 200
