"""Whole runs over responses with status 200 that are no normal answers: each row finishes, and the run can be resumed."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from batchmix.cli import cli
from batchmix.errors import FailureAction, ProviderStopped
from batchmix.formats.lenient_json import MAX_DEPTH
from batchmix.records import Completion, Exchange, Failure
from batchmix.redact import Secrets
from batchmix.responses.classify import classify
from tests.conftest import Bench
from tests.odd_provider import Provider
from tests.wire import GOOD, error, reply

USAGE = GOOD["usage"]
Body = Callable[[str], str]
"""Takes JSON text, and returns a body that contains it in one place."""


def code_of(*words: str) -> int:
    """Run a command, and return its exit code."""
    done = CliRunner().invoke(cli, words, catch_exceptions=False, standalone_mode=False)
    return int(done.return_value or 0)


def chat(message: str, *, more: str = "") -> str:
    return f'{{"choices":[{{"message":{message},"finish_reason":"stop"}}],"usage":{json.dumps(USAGE)}{more}}}'


PLACES: dict[str, Body] = {
    "content": lambda value: chat(f'{{"content":{value}}}'),
    "reasoning": lambda value: chat(f'{{"content":"Paris","reasoning":{value}}}'),
    "reasoning_content": lambda value: chat(f'{{"content":"Paris","reasoning_content":{value}}}'),
    "reasoning_details": lambda value: chat(f'{{"content":"Paris","reasoning_details":{value}}}'),
    "thinking": lambda value: chat(f'{{"content":[{{"type":"thinking","thinking":{value}}}]}}'),
    "parts": lambda value: chat(f'{{"content":[{{"type":"text","text":{value}}}]}}'),
    "tool_calls": lambda value: chat(f'{{"content":null,"tool_calls":{value}}}'),
    "function_call": lambda value: chat(f'{{"content":null,"function_call":{value}}}'),
    "refusal": lambda value: chat(f'{{"content":null,"refusal":{value}}}'),
    "audio": lambda value: chat(f'{{"content":null,"audio":{value}}}'),
    "finish_reason": lambda value: f'{{"choices":[{{"message":{{"content":"Paris"}},"finish_reason":{value}}}]}}',
    "choices": lambda value: f'{{"choices":{value}}}',
    "choice error": lambda value: f'{{"choices":[{{"error":{value}}}]}}',
    "usage": lambda value: f'{{"choices":[{{"message":{{"content":"Paris"}}}}],"usage":{value}}}',
    "cached": lambda value: chat('{"content":"Paris"}', more=f',"usage":{{"prompt_tokens":1,"prompt_tokens_details":{value}}}'),
    "model": lambda value: chat('{"content":"Paris"}', more=f',"model":{value}'),
    "error": lambda value: chat('{"content":"Paris"}', more=f',"error":{value}'),
    "error alone": lambda value: f'{{"error":{value}}}',
    "error message": lambda value: f'{{"error":{{"message":{value},"code":{value},"param":{value}}}}}',
    "metadata": lambda value: f'{{"error":{{"message":"x","metadata":{{"raw":{value}}}}}}}',
    "errors": lambda value: f'{{"errors":{value}}}',
    "detail": lambda value: f'{{"detail":[{{"loc":{value},"msg":{value}}}]}}',
    "message": lambda value: f'{{"message":{value},"code":{value}}}',
    "base_resp": lambda value: f'{{"base_resp":{value}}}',
    "prompt_feedback": lambda value: f'{{"prompt_feedback":{{"block_reason":{value}}}}}',
    "filters": lambda value: f'{{"choices":[],"prompt_filter_results":{value}}}',
    "unknown": lambda value: chat('{"content":"Paris"}', more=f',"x":{value}'),
    "alone": lambda value: value,
    "event": lambda value: f'data: {{"choices":[{{"index":0,"delta":{{"content":{value}}},"finish_reason":"stop"}}],"x":{value}}}\n\n',
    "output": lambda value: f'{{"status":"completed","output":{value},"output_text":{value}}}',
    "output content": lambda value: f'{{"output":[{{"type":"message","content":{value}}},{{"type":"reasoning","summary":{value},"content":{value}}},{{"type":"function_call","arguments":{value}}}]}}',
    "incomplete": lambda value: f'{{"status":"incomplete","incomplete_details":{{"reason":{value}}},"output":[]}}',
    "embedding": lambda value: f'{{"data":[{{"embedding":{value},"index":{value}}}]}}',
}  # fmt: skip
VALUES = {
    **{f"{depth} lists": "[" * depth + '"x"' + "]" * depth for depth in (500, 20_000)},
    "500 objects": '{"text":' * 500 + '"x"' + "}" * 500,
    "500 of both": '[{"text":' * 250 + '"x"' + "}]" * 250,
    "5,000 digits": "9" * 5000,
    "400 digits": "-" + "9" * 400,
    "1e400": "1e400",
    "NaN": "[NaN, Infinity, -Infinity]",
    "a surrogate": '"\\ud800"',
    "a loose quote": '"' + "\\" * 3001,
    "brackets": '"' + "[{" * 500 + '"',
}  # fmt: skip
ODD = {f"{place}, {name}": body(value) for place, body in PLACES.items() for name, value in VALUES.items()}


@pytest.mark.parametrize("path", ["/chat/completions", "/completions", "/responses", "/embeddings", "/v1/rerank"])
def test_any_body_is_classified_alike_at_any_depth_of_the_stack(path: str, caplog: pytest.LogCaptureFixture) -> None:
    """A body that was classified as an answer is one for every later reader of its journal."""

    def deeper(levels: int, exchange: Exchange) -> object:
        return deeper(levels - 1, exchange) if levels else classify(exchange, path)

    for name, body in ODD.items():
        exchange = Exchange(0, 0, 0.0, 200, body.encode(), inputs=1)
        outcome = classify(exchange, path)
        assert deeper(500, exchange) == outcome, name
        if isinstance(outcome, Completion):
            for text in (outcome.response, outcome.reasoning, outcome.refusal, outcome.tool_calls):
                assert text is None or text.encode() is not None
    assert not caplog.records, "the net was needed"


def test_a_folder_with_odd_answers_is_read_and_resumed(bench: Bench, provider: Provider) -> None:
    """They are in an open journal, since the key was refused after them; then in a part."""
    some = ("500 lists", "500 objects", "5,000 digits", "NaN", "a surrogate")
    odd = [body for name, body in ODD.items() if name.endswith(some) for body in (body, json.dumps(GOOD))]

    def answer(row: int, attempt: int, nth: int) -> bytes:
        if row == len(odd):
            return reply(401, error("Invalid key"))
        return reply(200, odd[row].encode())

    bench.settings["output"]["shard_rows"] = 1000
    bench.settings["retry"] = {"attempts": 1}
    bench.write(len(odd) + 1, text="row {}")
    provider.answer = answer
    with pytest.raises(ProviderStopped):
        bench.run(keep_going=True)
    for command in ("status", "report"):
        assert code_of(command, str(bench.out)) == 0
    for file in ("a.jsonl", "a.csv", "a.parquet"):
        assert code_of("export", str(bench.out), str(bench.root / file)) == 0
    assert code_of("export", str(bench.out), str(bench.root / "b.jsonl"), "--format", "openai-batch") == 0
    for line in (bench.root / "b.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=float.fromhex)
    provider.rows_received.clear()
    provider.answer = lambda row, attempt, nth: reply(200, GOOD)
    view = bench.run()
    outcomes = [classify(Exchange(0, 0, 0.0, 200, body.encode())) for body in odd]
    again = [
        row for row, one in enumerate(outcomes) if isinstance(one, Failure) and one.action is not FailureAction.REJECT
    ]
    assert len(again) > 50
    assert Counter(provider.rows_received) == Counter([*again, len(odd)])
    assert (view.totals.failed, view.totals.finished) == (0, len(odd) + 1)
    assert code_of("status", str(bench.out)) == 0


def test_json_nested_too_deeply_is_left_out_and_the_rest_is_kept() -> None:
    deep = "[" * 3 * MAX_DEPTH + "]" * 3 * MAX_DEPTH
    outcome = classify(Exchange(0, 0, 0.0, 200, PLACES["unknown"](deep).encode()))
    assert isinstance(outcome, Completion)
    assert (outcome.response, outcome.finish_reason) == ("Paris", "stop")
    called: Any = classify(Exchange(0, 0, 0.0, 200, PLACES["tool_calls"](f'[{{"id":"a","x":{deep}}}]').encode()))
    assert json.loads(called.tool_calls)[0]["id"] == "a"


# Other endpoints


def response(status: str | None = "completed", *output: Any, **more: Any) -> dict[str, Any]:
    usage = {
        "input_tokens": 9, "input_tokens_details": {"cached_tokens": 4},
        "output_tokens": 8, "output_tokens_details": {"reasoning_tokens": 5}, "total_tokens": 17,
    }  # fmt: skip
    fields = {} if status is None else {"status": status}
    return {
        "object": "response",
        "model": "m-1",
        **fields,
        "output": [*output],
        "error": None,
        "usage": usage,
        **more,
    }


def spoken(*parts: Any) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": [*parts]}


CALL = {"type": "function_call", "call_id": "c", "name": "look_up", "arguments": '{"a": 1}'}
PARTS = [{"type": "output_text", "text": "Pa", "annotations": []}, {"type": "output_text", "text": "ris"}]
THOUGHT = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}
WHOLE = response("completed", spoken(*PARTS))
SAYS = ("response", "reasoning", "refusal", "tool_calls", "finish_reason")
RESPONSES: dict[str, tuple[Any, tuple[str | None, ...]]] = {
    "whole": (WHOLE, ("Paris", None, None, None, "stop")),
    "no status": (response(None, spoken(*PARTS)), ("Paris", None, None, None, None)),
    "thought": (response("completed", THOUGHT, spoken(*PARTS)), ("Paris", "hm", None, None, "stop")),
    "thought aloud": (response("completed", {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "so"}]}, spoken(*PARTS)), ("Paris", "so", None, None, "stop")),
    "refused": (response("completed", spoken({"type": "refusal", "refusal": "I can't"})), (None, None, "I can't", None, "stop")),
    "called": (response("completed", CALL), (None, None, None, json.dumps([CALL]), "tool_calls")),
    "searched": (response("completed", {"type": "web_search_call", "status": "completed"}, spoken(*PARTS)), ("Paris", None, None, None, "stop")),
    "cut": (response("incomplete", spoken(*PARTS), incomplete_details={"reason": "max_output_tokens"}), ("Paris", None, None, None, "length")),
    "cut while it thought": (response("incomplete", THOUGHT, incomplete_details={"reason": "max_output_tokens"}), (None, "hm", None, None, "length")),
    "cut before all": (response("incomplete", incomplete_details={"reason": "max_output_tokens"}), (None, None, None, None, "length")),
    "filtered": (response("incomplete", spoken(*PARTS), incomplete_details={"reason": "content_filter"}), ("Paris", None, None, None, "content_filter")),
    "cut for another reason": (response("incomplete", spoken(*PARTS), incomplete_details={"reason": "pause"}), ("Paris", None, None, None, "pause")),
    "cut for no reason": (response("incomplete", spoken(*PARTS), incomplete_details=None), ("Paris", None, None, None, "incomplete")),
    "cut, as a message says": (response("completed", spoken(*PARTS) | {"status": "incomplete"}), ("Paris", None, None, None, "incomplete")),
    "cut, as the details say": (response(None, spoken(*PARTS), incomplete_details={"reason": "max_output_tokens"}), ("Paris", None, None, None, "length")),
    "in capitals": (response("INCOMPLETE", spoken(*PARTS)), ("Paris", None, None, None, "incomplete")),
    "a status of no known kind": (response("paused", spoken(*PARTS)), ("Paris", None, None, None, "paused")),
    "waits for its caller": (response("requires_action", CALL), (None, None, None, json.dumps([CALL]), "requires_action")),
    "cut in a call": (response("completed", CALL | {"status": "incomplete"}), (None, None, None, json.dumps([CALL | {"status": "incomplete"}]), "incomplete")),
    "an object for a text": (response("completed", spoken({"type": "output_json", "json": {"a": 1}})), ('[{"type": "output_json", "json": {"a": 1}}]', None, None, None, "stop")),
    "text alone": (response("completed", output_text="Paris"), ("Paris", None, None, None, "stop")),
}  # fmt: skip
NO_RESPONSES: dict[str, tuple[Any, str]] = {
    "failed": (response("failed", error={"code": "server_error", "message": "Broke"}), "server_error"),
    "failed for no reason": (response("failed"), "bad_answer"),
    "failed, in capitals": (response("FAILED", spoken(*PARTS)), "bad_answer"),
    "an error for a status": (response("error", spoken(*PARTS)), "bad_answer"),
    "an empty item": (response("completed", {}), "bad_answer"),
    "failed by a limit": (response("failed", error={"code": "rate_limit_exceeded", "message": "Too fast"}), "throttled"),
    "queued": (response("queued", usage=None), "bad_answer"),
    "in progress": (response("in_progress", usage=None), "bad_answer"),
    "cancelled": (response("cancelled"), "bad_answer"),
    **{status: (response(status, spoken(*PARTS)), "bad_answer") for status in ("errored", "Aborted", "timed_out", "rejected", "pending", "running", "processing", "cancelling")},
    "a message that failed": (response("completed", spoken() | {"status": "failed"}), "bad_answer"),
    "a stream that ends with an error": ({"type": "error", "code": "rate_limit_exceeded", "message": "Too fast"}, "throttled"),
    "nothing": (response("completed"), "bad_answer"),
    "a chat's answer": (GOOD, "bad_answer"),
    "FastAPI": ({"detail": "no"}, "unknown"),
    "a status": ({"message": "Service Unavailable", "code": 503}, "server_error"),
    "an empty object": ({}, "bad_answer"),
    "a list": ([], "bad_answer"),
}  # fmt: skip


def vectors(*data: Any, **more: Any) -> dict[str, Any]:
    return {"object": "list", "model": "e-1", "data": [*data], "usage": {"prompt_tokens": 3, "total_tokens": 3}, **more}


def vector(index: int | None, embedding: Any) -> dict[str, Any]:
    return {"object": "embedding", **({} if index is None else {"index": index}), "embedding": embedding}


VECTORS: dict[str, tuple[Any, str]] = {
    "in order": (vectors(vector(0, [0.1, -2.0]), vector(1, [1, 2])), "[[0.1, -2.0],[1, 2]]"),
    "out of order": (vectors(vector(1, [1]), vector(0, [0.10])), "[[0.1],[1]]"),
    "without indexes": (vectors(vector(None, [1]), vector(None, [2])), "[[1],[2]]"),
    "out of order, their indexes as text": (
        vectors(vector(0, [1]) | {"index": "1"}, vector(0, [2]) | {"index": "0"}),
        "[[2],[1]]",
    ),
    "for each token": (vectors(vector(0, [[1], [2]]), vector(1, [[3]])), "[[[1], [2]],[[3]]]"),
    "base64": (vectors(vector(0, "AACAPw=="), vector(1, "AAAAQA==")), '["AACAPw==","AAAAQA=="]'),
}
NO_VECTORS: dict[str, tuple[Any, str]] = {
    "none": (vectors(), "bad_answer"),
    "null": (vectors() | {"data": None}, "bad_answer"),
    "too few": (vectors(vector(0, [1])), "bad_answer"),
    "too many": (vectors(vector(0, [1]), vector(1, [1]), vector(2, [1])), "bad_answer"),
    "the same twice": (vectors(vector(0, [1]), vector(0, [1])), "bad_answer"),
    "a gap": (vectors(vector(0, [1]), vector(2, [1])), "bad_answer"),
    "an empty one": (vectors(vector(0, [1]), vector(1, [])), "bad_answer"),
    "a null in one": (vectors(vector(0, [1, 2]), vector(1, [1, None])), "bad_answer"),
    "NaN in one": (vectors(vector(0, [1, 2]), vector(1, [1, float("nan")])), "bad_answer"),
    "texts in one": (vectors(vector(0, [1, 2]), vector(1, ["1", "2"])), "bad_answer"),
    "truths in one": (vectors(vector(0, [1]), vector(1, [True])), "bad_answer"),
    "a token's that is empty": (vectors(vector(0, [[1], []]), vector(1, [[1]])), "bad_answer"),
    "an empty type of one": (vectors(vector(0, {"float": []}), vector(1, {"float": [1]})), "bad_answer"),
    "a blank": (vectors(vector(0, " "), vector(1, "AACAPw==")), "bad_answer"),
    "base64 of different lengths": (vectors(vector(0, "AACAPw=="), vector(1, "AACAPwAAAEA=")), "bad_answer"),
    "one cut short": (vectors(vector(0, [1, 2]), vector(1, [1])), "bad_answer"),
    "a null one": (vectors(vector(0, [1]), vector(1, None)), "bad_answer"),
    "FastAPI": ({"detail": [{"loc": ["x"], "msg": "y"}]}, "unknown"),
    "a status": ({"message": "Service Unavailable", "code": 503}, "server_error"),
    "vLLM's error": ({"object": "error", "message": "too long", "type": "BadRequestError", "code": 400}, "rejected"),
    "an error beside them": (vectors(vector(0, [1]), vector(1, [1]), error={"message": "half of it"}), "unknown"),
}  # fmt: skip


@pytest.mark.parametrize("name", RESPONSES)
def test_an_answer_of_the_responses_endpoint_is_read_by_its_own_shape(name: str) -> None:
    body, parts = RESPONSES[name]
    for came in (json.dumps(body), f"event: response.completed\ndata: {json.dumps({'type': 'response.completed', 'response': body})}\n\n"):  # fmt: skip
        outcome = classify(Exchange(0, 0, 0.0, 200, came.encode()), "/responses")
        assert isinstance(outcome, Completion), outcome
        assert tuple(getattr(outcome, field) for field in SAYS) == parts
        usage = outcome.usage
        assert (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens, usage.reasoning_tokens) == (9, 8, 4, 5)  # fmt: skip


def test_a_body_without_an_answer_is_retried_on_other_endpoints_too(bench: Bench, provider: Provider) -> None:
    """Also queued, failed, empty and short ones; a whole answer is requested once, and a refused row is not retried."""
    azure = "/openai/deployments/e/embeddings?api-version=1"
    bad = [*(("/v1/responses", *one) for one in NO_RESPONSES.values()), *((azure, *one) for one in NO_VECTORS.values())]
    good = [*(("/v1/responses", *one) for one in RESPONSES.values()), *((azure, *one) for one in VECTORS.values())]
    cases = [one for pair in itertools.zip_longest(bad, good) for one in pair if one]
    texts = [["row {}", "x"] if "embeddings" in url else "row {}" for url, _, _ in cases]
    bodies = [{"model": "m", "input": json.loads(json.dumps(text).replace("{}", str(row)))} for row, text in enumerate(texts)]  # fmt: skip
    lines = [{"custom_id": str(row), "url": cases[row][0], "body": body} for row, body in enumerate(bodies)]
    bench.source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    bench.settings["input"] = {"path": str(bench.source)}
    whole = {"/v1/responses": WHOLE, azure: VECTORS["out of order"][0]}
    provider.answer = lambda row, attempt, nth: reply(200, cases[row][1] if attempt == 1 else whole[cases[row][0]])
    bench.run(keep_going=True)
    for row, (url, body, expected) in zip(bench.rows(), cases, strict=True):
        case = json.dumps(body)
        if (url, body, expected) in good:
            parts = expected if isinstance(expected, tuple) else (expected, None, None, None, None)
            assert (tuple(row[name] for name in SAYS), row["attempts"]) == (parts, 1), case
            continue
        outcome = classify(Exchange(0, 0, 0.0, 200, case.encode(), inputs=2), url.partition("?")[0])
        assert isinstance(outcome, Failure), case
        assert outcome.type == expected, case
        again = outcome.action is not FailureAction.REJECT
        assert (row["status"], row["attempts"]) == (("ok", 2) if again else ("rejected", 1)), case


def test_answers_that_are_incomplete_by_todays_rules_are_not_reused(
    bench: Bench, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part of an earlier version lists answers by its own rules; their bodies are classified again."""
    texts = ["cut", "whole", "queued", "filtered"]
    lines = [{"url": "/v1/responses", "body": {"model": "m", "input": f"row {row}"}} for row in range(len(texts))]
    bench.source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    bench.settings["input"] = {"path": str(bench.source)}
    provider.answer = lambda row, attempt, nth: reply(200, {**WHOLE, "model": texts[row]})
    bench.run()

    def stricter(exchange: Exchange, path: str, secrets: Secrets | None) -> Completion | Failure:
        if secrets is not None:  # an answer to this run, not one of the earlier run's parts
            return classify(exchange, path, secrets)
        name = json.loads(exchange.body)["model"]
        body = json.dumps((RESPONSES | NO_RESPONSES)[name][0]).encode()
        return classify(msgspec.structs.replace(exchange, body=body), path)

    monkeypatch.setattr("batchmix.responses.classify.classify", stricter)
    bench.settings["reuse"] = {"from": [str(bench.out)]}
    bench.out = bench.root / "today"
    bench.settings["output"] = {"path": str(bench.out)}
    provider.rows_received.clear()
    assert bench.run().totals.reused == 1
    assert sorted(provider.rows_received) == [0, 2, 3]


KINDS = {
    "/v1/chat/completions": "choice_error null_choice detail 200_code 429_words object empty_error unasked",
    "/v1/responses": "failed queued no_output incomplete",
    "/v1/embeddings": "few_vectors turned_vectors",
}  # fmt: skip
ONCE = {"object", "empty_error", "unasked", "incomplete", "turned_vectors"}
"""They count as answers."""


def test_the_rehearsal_provider_sends_odd_answers_too(bench: Bench) -> None:
    """Each kind is sent once, before a plain answer; blocked and impossible requests fail their own row."""
    kinds = [(url, kind) for url, names in KINDS.items() for kind in names.split()]
    kinds += [("/v1/chat/completions", kind) for kind in ("blocked", "500_row")]
    requests = [{"messages": [{"role": "user", "content": f"[[rehearsal:{kind}x1]]"}]} if "chat" in url else {"input": [f"[[rehearsal:{kind}x1]]", "b"] if "embed" in url else f"[[rehearsal:{kind}x1]]"} for url, kind in kinds]  # fmt: skip
    lines = [{"url": url, "body": {"model": "m", **body}} for (url, _), body in zip(kinds, requests, strict=True)]
    bench.source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    bench.settings["input"] = {"path": str(bench.source)}
    bench.run(keep_going=True)
    found = {kind: (row["status"], row["attempts"]) for (_, kind), row in zip(kinds, bench.rows(), strict=True)}
    assert found == {
        kind: ("rejected", 1) if kind in {"blocked", "500_row"} else ("ok", 1 if kind in ONCE else 2)
        for _, kind in kinds
    }
    assert bench.rows()[[kind for _, kind in kinds].index("object")]["response"] == '{"city": "Zürich"}'
