"""Whole runs over 200s that are not what they seem: each row ends, and the folder stays a run that goes on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from batchmix.errors import Next, ProviderStopped
from batchmix.loose_json import DEEPEST
from batchmix.records import Completion, Exchange, Failure
from batchmix.send.classify import judge
from tests.conftest import Bench
from tests.fuzzing_runs import call
from tests.odd_provider import Provider
from tests.send.conftest import GOOD, error, reply

USAGE = GOOD["usage"]
Body = Callable[[str], str]
"""Takes some JSON; returns a body in which that stands at one place."""


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
def test_whatever_comes_is_judged_at_any_depth_of_the_stack_alike(path: str, caplog: pytest.LogCaptureFixture) -> None:
    """What was taken for an answer when it came is one when its journal is read again, by whoever reads it."""

    def deeper(levels: int, exchange: Exchange) -> object:
        return deeper(levels - 1, exchange) if levels else judge(exchange, path)

    for name, body in ODD.items():
        exchange = Exchange(0, 0, 0.0, 200, body.encode(), inputs=1)
        outcome = judge(exchange, path)
        assert deeper(500, exchange) == outcome, name
        if isinstance(outcome, Completion):
            for text in (outcome.response, outcome.reasoning, outcome.refusal, outcome.tool_calls):
                assert text is None or text.encode() is not None
    assert not caplog.records, "the net was needed"


def test_a_folder_that_holds_such_answers_is_read_and_goes_on(bench: Bench, provider: Provider) -> None:
    """They lie in an open journal, since the key was refused after them; then in a part."""
    some = ("500 lists", "500 objects", "5,000 digits", "NaN", "a surrogate")
    odd = [body for name, body in ODD.items() if name.endswith(some) for body in (body, json.dumps(GOOD))]

    def answer(row: int, asked: int, kept: int) -> bytes:
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
        assert call(command, str(bench.out)).code == 0
    for file in ("a.jsonl", "a.csv", "a.parquet"):
        assert call("export", str(bench.out), str(bench.root / file)).code == 0
    assert call("export", str(bench.out), str(bench.root / "b.jsonl"), "--format", "openai-batch").code == 0
    for line in (bench.root / "b.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=float.fromhex)
    provider.asked.clear()
    provider.answer = lambda row, asked, kept: reply(200, GOOD)
    view = bench.run()
    outcomes = [judge(Exchange(0, 0, 0.0, 200, body.encode())) for body in odd]
    again = [row for row, one in enumerate(outcomes) if isinstance(one, Failure) and one.next is not Next.REJECT]
    assert len(again) > 50
    assert Counter(provider.asked) == Counter([*again, len(odd)])
    assert (view.totals.failed, view.totals.ended) == (0, len(odd) + 1)
    assert call("status", str(bench.out)).code in {0, 1}


def test_what_lies_deeper_than_is_read_is_left_out_and_the_rest_is_kept() -> None:
    deep = "[" * 3 * DEEPEST + "]" * 3 * DEEPEST
    outcome = judge(Exchange(0, 0, 0.0, 200, PLACES["unknown"](deep).encode()))
    assert isinstance(outcome, Completion)
    assert (outcome.response, outcome.finish_reason) == ("Paris", "stop")
    called: Any = judge(Exchange(0, 0, 0.0, 200, PLACES["tool_calls"](f'[{{"id":"a","x":{deep}}}]').encode()))
    assert json.loads(called.tool_calls)[0]["id"] == "a"
