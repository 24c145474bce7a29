"""Events of a known form add up to the same answer as events that are decoded one by one."""

from __future__ import annotations

import json
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchmix.responses.stream import AnswerStream, StreamResult
from batchmix.responses.text_events import TextEvents
from tests.responses.test_sse import cut

TEXTS = st.sampled_from(
    ["a", " word", '"', "\\", '\\"', "é", "€", "\n", "", ":", '{"content":"x"}', "\ud83d", "\ude00"]
)
DELTAS = st.one_of(
    st.builds(lambda text: {"content": text}, TEXTS),
    st.builds(lambda text: {"role": "assistant", "content": text}, TEXTS),
    st.builds(lambda text: {"content": text, "reasoning_content": None}, TEXTS),
    st.builds(lambda text: {"content": "", "reasoning_content": text}, TEXTS),
    st.builds(lambda text: {"content": text, "tool_calls": [{"index": 0, "function": {"arguments": text}}]}, TEXTS),
    st.builds(lambda text: {"content": [{"type": "text", "text": text}]}, TEXTS),
    st.just({}),
)
CHOICES = st.fixed_dictionaries(
    {"index": st.integers(0, 1), "delta": DELTAS},
    optional={"finish_reason": st.sampled_from([None, None, None, "stop"]), "logprobs": st.just(None)},
)
CHUNKS = st.fixed_dictionaries(
    {"id": st.sampled_from(["1", "1", "1", "2"]), "choices": st.lists(CHOICES, min_size=0, max_size=2)},
    optional={"usage": st.sampled_from([None, None, {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}])},
)
EVENTS = st.one_of(
    CHUNKS.map(lambda chunk: json.dumps(chunk).encode()),
    CHUNKS.map(lambda chunk: json.dumps(chunk, separators=(",", ":")).encode()),
    st.sampled_from(
        [b"[DONE]", b'{"choices":[{"index":0,"delta":{"content":"a"b"}}]}', b"{", b'{"error":{"message":"no"}}']
    ),
)


def received(pieces: list[bytes]) -> tuple[StreamResult, bool, bool]:
    stream = AnswerStream(1, 1_000_000)
    for piece in pieces:
        stream.feed(piece)
    return stream.end(), stream.is_done, stream.is_too_large


@given(st.lists(st.tuples(EVENTS, st.integers(1, 4)), max_size=12), st.lists(st.integers(0, 2000)))
def test_a_stream_adds_up_to_the_same_answer_however_its_events_repeat(
    repeated: list[tuple[bytes, int]], places: list[int]
) -> None:
    whole = b"".join(b"data: " + event + b"\n\n" for event, times in repeated for _ in range(times))
    with mock.patch.object(TextEvents, "learn"):
        one_by_one = received([whole])
    assert received(cut(whole, places)) == one_by_one


def event(text: str, index: int = 0, **more: Any) -> bytes:
    chunk = {"id": "1", "choices": [{"index": index, "delta": {"content": text}, "finish_reason": None}], **more}
    return json.dumps(chunk).encode()


@pytest.mark.parametrize(
    ("events", "decoded"),
    [
        ([event("a")] * 50, 1),
        ([event("a"), event("b", index=1)] * 25, 2),
        ([event("a"), event("b", id="2")] * 25, 50),
        ([event(str(n), number=n) for n in range(50)], 50),
    ],
)
def test_events_that_repeat_a_form_are_not_decoded(events: list[bytes], decoded: int) -> None:
    stream = AnswerStream(1, 1_000_000)
    with mock.patch.object(stream, "_add", wraps=stream._add) as add:
        for data in events:
            stream.feed(b"data: " + data + b"\n\n")
    assert add.call_count == decoded
