"""Chunks of any provider add up to the body of an answer without streaming."""

from __future__ import annotations

import json
from typing import Any

import pytest

from batchmix.responses.deltas import PartialAnswer
from tests.streams import USAGE, WHOLE, chunk, content_chunks, usage


def deltas(*chunks: dict[str, Any], choices: int = 1) -> PartialAnswer:
    found = PartialAnswer(choices)
    for one in chunks:
        found.add(json.loads(json.dumps(one)), len(json.dumps(one)))
    return found


def answer(*chunks: dict[str, Any], choices: int = 1) -> Any:
    found = deltas(*chunks, choices=choices)
    assert found.is_whole
    body = found.answer()
    assert body is not None
    return json.loads(body)


def message(*parts: object) -> Any:
    """Return the message that these deltas add up to."""
    return answer(*map(chunk, parts), chunk(finish="stop"))["choices"][0]["message"]


def call(arguments: str, index: int | None = 0, id_: str | None = None, name: str | None = None) -> dict[str, Any]:
    """Return a piece of a tool call."""
    function = {"arguments": arguments} | ({"name": name} if name is not None else {})
    head = ({"index": index} if index is not None else {}) | ({"id": id_, "type": "function"} if id_ else {})
    return {"tool_calls": [{**head, "function": function}]}


def called(id_: str, name: str, arguments: str) -> dict[str, Any]:
    return {"id": id_, "type": "function", "function": {"arguments": arguments, "name": name}}


def test_an_ordinary_stream_gives_an_ordinary_answer() -> None:
    found = answer(*content_chunks("Par", "is"), chunk(finish="stop"), usage())
    assert found == WHOLE
    assert list(found["choices"][0]) == ["index", "message", "finish_reason"]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([], {"content": None}),
        ([{"role": "assistant", "content": None}], {"content": None}),
        ([{"content": ""}], {"content": ""}),
        ([{"content": "a"}, {"content": None}, {"content": "b"}], {"content": "ab"}),
        ([{"refusal": "I "}, {"refusal": "can't"}], {"content": None, "refusal": "I can't"}),
        ([{"reasoning_content": "h"}, {"reasoning_content": "m"}, {"content": "x"}], {"content": "x", "reasoning_content": "hm"}),
        ([{"reasoning": "h"}, {"reasoning": "m", "content": ""}, {"content": "x"}], {"content": "x", "reasoning": "hm"}),
        (
            [{"reasoning_details": [{"type": "reasoning.text", "text": text, "index": 0, "format": "f"}]} for text in "hm"]
            + [{"reasoning_details": [{"type": "reasoning.encrypted", "data": "e", "index": 0}]}],
            {"content": None, "reasoning_details": [{"type": "reasoning.text", "text": "hm", "index": 0, "format": "f"}, {"type": "reasoning.encrypted", "data": "e", "index": 0}]},
        ),
        ([{"reasoning_details": [{"text": "h"}]}, {"reasoning_details": [{"text": "m"}]}], {"content": None, "reasoning_details": [{"text": "h"}, {"text": "m"}]}),
        ([{"function_call": {"name": "f", "arguments": ""}}, {"function_call": {"arguments": "{}"}}], {"content": None, "function_call": {"name": "f", "arguments": "{}"}}),
        ([{"content": [{"type": "thinking", "thinking": [{"text": "h"}]}]}, {"content": "a"}, {"content": "b"}], {"content": [{"type": "thinking", "thinking": [{"text": "h"}]}, "a", "b"]}),
        ([{"content": "a", "annotations": [1]}, {"annotations": [2]}], {"content": "a", "annotations": [1, 2]}),
        ([{"audio": {"id": "a", "data": "AA=="}}, {"audio": {"transcript": "x", "expires_at": 9}}], {"content": None, "audio": {"id": "a", "data": "AA==", "transcript": "x", "expires_at": 9}}),
        ([{"role": "assistant", "new": "a"}, {"new": "b"}, {"new": ""}], {"content": None, "new": "b"}),
        (["text", None, 7, ["x"]], {"content": None}),
        ([{"content": "a\ud83d"}, {"content": "\ude00b"}], {"content": "a😀b"}),
    ],
)  # fmt: skip
def test_a_message_is_joined_from_its_deltas(parts: list[object], expected: dict[str, Any]) -> None:
    assert message(*parts) == {"role": "assistant", **expected}


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([call("", 0, "a", "f"), call('{"x":', 0), call("1}", 0)], [called("a", "f", '{"x":1}')]),
        ([call("", 0, "a", "f"), call("", 1, "b", "g"), call("{1}", 1), call("{0}", 0)], [called("a", "f", "{0}"), called("b", "g", "{1}")]),
        ([call("{1}", 1, "b", "g"), call("{0}", 0, "a", "f")], [called("a", "f", "{0}"), called("b", "g", "{1}")]),
        ([call("{0}", 0, "a", "f"), call("{1}", 0, "b", "g")], [called("a", "f", "{0}"), called("b", "g", "{1}")]),
        ([call("{", 0, "a", "f"), call("}", 0, "other")], [called("other", "f", "{}")]),
        ([call("{", 0, "a", "f"), call("}", 0, "a", "f")], [called("a", "f", "{}")]),
        ([call("{0}", None, "a", "f"), call("{1", None, "b", "g"), call("}", None)], [called("a", "f", "{0}"), called("b", "g", "{1}")]),
        ([call("{", 0, "a", "f"), call("}", 0, None, "")], [called("a", "f", "{}")]),
    ],
    ids=["one", "two at once", "in another order", "Gemini's, all of index 0", "an id that changes", "all said again", "without an index", "an empty name"],
)  # fmt: skip
def test_tool_calls_are_joined_by_their_index(parts: list[object], expected: list[object]) -> None:
    assert message(*parts)["tool_calls"] == expected


def test_each_choice_has_its_own_deltas_and_finish_reason() -> None:
    found = answer(
        *content_chunks("b", index=1),
        *content_chunks("a"),
        chunk(finish="length", index=1),
        chunk({"content": "!"}, "stop"),
        choices=2,
    )
    assert [(one["index"], one["message"]["content"], one["finish_reason"]) for one in found["choices"]] == [(0, "a!", "stop"), (1, "b", "length")]  # fmt: skip


def test_a_stream_is_finished_when_all_requested_choices_are() -> None:
    assert not deltas(*content_chunks("a")).is_finished
    assert not deltas(usage()).is_finished
    assert not deltas(chunk({"content": "a"}, "stop", index=1)).is_whole
    one = deltas(chunk({"content": "a"}, "stop"), choices=2)
    assert (one.is_finished, one.is_whole) == (True, False)
    assert not deltas(chunk({"content": "a"}, "stop"), *content_chunks("b", index=1)).is_finished
    for none in (None, "", "null"):
        assert not deltas(chunk({"content": "a"}, none)).is_finished
        assert deltas(chunk({"content": "a"}, "stop"), chunk(finish=none)).is_whole


def test_logprobs_are_appended() -> None:
    first, second = ({**chunk(), "choices": [{"index": 0, "delta": {"content": text}, "logprobs": {"content": [{"token": text, "logprob": -0.5, "top_logprobs": []}], "refusal": None}}]} for text in "ab")  # fmt: skip
    assert answer(first, second, chunk(finish="stop"))["choices"][0]["logprobs"] == {
        "content": [{"token": text, "logprob": -0.5, "top_logprobs": []} for text in "ab"],
        "refusal": None,
    }


def test_text_completions_keep_their_shape() -> None:
    chunks = [{"object": "text_completion", "choices": [{"index": 0, "text": text, "logprobs": {"tokens": [text]}, "finish_reason": finish}]} for text, finish in [("Par", None), ("is", "stop")]]  # fmt: skip
    found = answer(*chunks, {"choices": [], "usage": USAGE})
    assert found == {
        "object": "text_completion",
        "choices": [{"index": 0, "text": "Paris", "logprobs": {"tokens": ["Par", "is"]}, "finish_reason": "stop"}],
        "usage": USAGE,
    }


ZERO = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        ([chunk(finish="stop")], None),
        ([chunk(finish="stop", usage=None), usage()], USAGE),
        ([chunk(usage=ZERO), chunk(finish="stop", usage=USAGE)], USAGE),
        ([chunk(finish="stop", usage=USAGE), usage(ZERO)], USAGE),
        ([chunk(usage={**USAGE, "completion_tokens": 1}), chunk(finish="stop", usage=USAGE)], USAGE),
        ([chunk(finish="stop", usage=ZERO)], None),
        ([{**chunk(), "choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": USAGE}]}], USAGE),
        ([chunk(finish="stop", usage="none")], None),
    ],
    ids=[
        "none",
        "last chunk",
        "Gemini",
        "zeros at the end",
        "in each chunk",
        "zeros only",
        "in the choice",
        "no object",
    ],
)
def test_the_last_usage_with_counts_is_kept(last: list[dict[str, Any]], expected: object) -> None:
    assert answer(*content_chunks("x"), *last)["usage"] == expected


def test_usage_is_awaited_with_the_finish_reason_or_after_it() -> None:
    counting = deltas(chunk({"content": "a"}, usage=USAGE), chunk(finish="stop"))
    assert not counting.has_usage
    counting.add(usage(), 100)
    assert counting.has_usage


def test_unknown_fields_are_kept_with_their_last_value() -> None:
    first = chunk({"content": "a"}, system_fingerprint="f", service_tier="x", citations=["u"])
    second = {**chunk(finish="stop", system_fingerprint="", extra={"y": 2}), "id": "c-2", "model": ""}
    second["choices"][0]["content_filter_results"] = {"hate": {"filtered": False}}
    found = answer(first, second)
    assert {name: found[name] for name in ("id", "model", "system_fingerprint", "service_tier", "citations", "extra")} == {
        "id": "c-2", "model": "gpt-4o-mini-2024", "system_fingerprint": "f", "service_tier": "x", "citations": ["u"],
        "extra": {"y": 2},
    }  # fmt: skip
    assert found["choices"][0]["content_filter_results"] == {"hate": {"filtered": False}}


def test_a_last_chunk_with_the_whole_message_doubles_nothing() -> None:
    last = {**chunk(), "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Paris", "name": "n"}}]}  # fmt: skip
    assert answer(*content_chunks("Par", "is"), last)["choices"][0]["message"] == {
        "role": "assistant",
        "content": "Paris",
        "name": "n",
    }
    assert answer(last)["choices"][0]["message"]["content"] == "Paris"


def test_a_number_out_of_range_is_kept() -> None:
    assert answer(chunk({"content": "x"}, "stop", seed=2**200))["seed"] == 2**200


def test_a_partial_answer_is_one_chunk() -> None:
    found = deltas(*content_chunks("Par")).chunk()
    assert found is not None
    assert json.loads(found) == {**chunk({"role": "assistant", "content": "Par"}), "usage": None}
    assert PartialAnswer(1).chunk() is None


def test_the_size_of_a_partial_answer_counts_its_content() -> None:
    """An answer in many small chunks is not large because each repeats its id and model."""
    begun = deltas(*content_chunks("x")).size
    text = deltas(*content_chunks("x"), *(chunk({"content": "word "}) for _ in range(1000))).size - begun
    assert 5000 <= text <= 5000 + 1000 * len("c-1chat.completion.chunkgpt-4o-mini-2024")
    details = [chunk({"annotations": [{"a": 1}]}) for _ in range(1000)]
    assert deltas(*content_chunks("x"), *details).size - begun >= 1000 * len('{"a": 1}')
    choices = [{"choices": [{"index": at}]} for at in range(1000)]
    assert deltas(*choices).size >= 1000 * len('{"index": 1}')
    calls = [chunk({"tool_calls": [{"index": at}]}) for at in range(1000)]
    assert deltas(*content_chunks("x"), *calls).size - begun >= 1000 * len('{"index": 1}')
