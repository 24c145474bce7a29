"""A stream is a whole answer, an error or cut off, however its bytes are cut and wherever they end."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchmix.records import Completion, Exchange, Failure, Usage
from batchmix.responses.classify import classify
from batchmix.responses.stream import UNFINISHED, AnswerStream, StreamResult
from tests.responses.test_sse import cut
from tests.streams import DONE, PARIS, USAGE, WHOLE, chunk, content_chunks, events, usage
from tests.wire import GOOD

ERROR = {"error": {"message": "Upstream broke", "type": "server_error", "code": 502}}
PAGE = b"<!DOCTYPE html>\n<html><title>data: x</title></html>"


def stream(*pieces: bytes, choices: int = 1, max_bytes: int = 1_000_000) -> AnswerStream:
    found = AnswerStream(choices, max_bytes)
    for piece in pieces:
        found.feed(piece)
    return found


def received(*chunks: object, choices: int = 1) -> StreamResult:
    return stream(events(*chunks), choices=choices).end()


def outcome(found: StreamResult) -> Completion | Failure:
    return classify(Exchange(0, 0, 0.0, 200, found.body, fault=found.fault, fault_message=found.fault_message))


def answered(found: StreamResult) -> Any:
    assert (found.fault, found.is_settled, found.maybe_billed) == (None, True, False)
    assert isinstance(outcome(found), Completion)
    return json.loads(found.body)


def cut_off(found: StreamResult) -> Any:
    assert (found.fault, found.is_settled) == ("cut_off", False)
    failure = outcome(found)
    assert isinstance(failure, Failure)
    assert (failure.type, failure.message) == ("cut_off", found.fault_message)
    return json.loads(found.body) if found.body else None


def test_a_whole_stream_gives_an_ordinary_body() -> None:
    assert answered(received(*PARIS)) == WHOLE
    assert outcome(received(*PARIS)) == Completion(
        "Paris", finish_reason="stop", served_model="gpt-4o-mini-2024", usage=Usage(5, 2, 7)
    )


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([*content_chunks("x"), chunk(finish="stop"), DONE], None),
        ([*content_chunks("x"), chunk(finish="stop")], None),
        ([*content_chunks("x"), chunk(finish="stop"), usage()], USAGE),
        ([*content_chunks("x"), chunk(finish="stop"), DONE, usage(), ERROR], None),
        ([*content_chunks("x"), chunk(finish="stop"), usage(), ERROR], USAGE),
        ([*content_chunks("x"), chunk(finish="stop"), usage(), b'{"cut'], USAGE),
        ([b"ping", *content_chunks("x"), b"keep-alive", chunk(finish="stop"), usage(), DONE], USAGE),
        (
            [*content_chunks("x"), chunk(error={"message": "", "code": None}), chunk(finish="stop"), usage(), DONE],
            USAGE,
        ),
    ],
    ids=[
        "no usage",
        "no end",
        "no DONE",
        "more after DONE",
        "an error after it",
        "nonsense after it",
        "plain words between",
        "an error of nothing",
    ],
)
def test_an_answer_with_its_finish_reasons_is_whole_whatever_follows(chunks: list[object], expected: object) -> None:
    found = answered(received(*chunks))
    assert (found["choices"][0]["message"]["content"], found["usage"]) == ("x", expected)


@pytest.mark.parametrize("last", [[], [chunk(finish="")], [usage(), chunk({"content": ""})]])
def test_an_answer_without_a_finish_reason_is_cut_off_whatever_else_was_received(last: list[object]) -> None:
    (so_far,) = cut_off(received(*content_chunks("Par"), *last))
    assert so_far["choices"][0]["delta"]["content"] == "Par"


@pytest.mark.parametrize(
    "last", [[DONE], [usage(), DONE], [chunk(finish=""), DONE], [usage()], [chunk(finish=""), usage()]]
)
def test_a_stream_that_lacks_only_a_finish_reason_is_recognised(last: list[object]) -> None:
    """Another stream would lack it too. Not all providers send `[DONE]`."""
    found = received(*content_chunks("Par"), *last)
    assert (found.fault, found.is_settled) == (UNFINISHED, DONE in last)
    assert json.loads(found.body)[0]["choices"][0]["delta"]["content"] == "Par"


def test_usage_under_other_names_and_in_its_own_chunk_is_kept() -> None:
    counts = {"promptTokens": 5, "completionTokens": 2, "totalTokens": 7}
    assert answered(received(*content_chunks("Paris"), chunk(finish="stop"), usage(counts), DONE))["usage"] == counts
    failure = outcome(received({"choices": [], "usage": USAGE}, DONE))
    assert isinstance(failure, Failure)
    assert failure.usage == Usage(5, 2, 7)


def test_a_stream_with_nothing_but_its_end_is_cut_off() -> None:
    assert cut_off(received(DONE)) is None
    assert cut_off(stream(b": keep-alive\n\n: keep-alive\n\n").end()) is None


def test_each_requested_choice_needs_its_finish_reason() -> None:
    first, second = [*content_chunks("a"), chunk(finish="stop")], content_chunks("b", index=1)
    assert received(*first, *second, usage(), DONE, choices=2).fault == UNFINISHED
    cut_off(received(*first, choices=2))
    assert len(answered(received(*first, *second, chunk(finish="length", index=1), choices=2))["choices"]) == 2
    assert (
        len(answered(received(*first, usage(), DONE, choices=2))["choices"]) == 1
    )  # a provider that does not honour n, and sends no second choice


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ERROR, "server_error"),
        ({"error": {"message": "Too many requests", "code": "rate_limit_exceeded"}, "choices": []}, "throttled"),
        ({"error": {"message": "x", "code": 502}, **chunk({"content": ""}, "error")}, "server_error"),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "throttled"),
        ({"object": "error", "message": "The model broke", "code": 400}, "rejected"),
        ({"error": "something"}, "unknown"),
        ({"error": {"message": "x", "code": "insufficient_user_quota"}}, "no_balance"),
        ({"choices": [], "prompt_feedback": {"block_reason": "SAFETY"}}, "content_filter"),
        ({"choices": None, "promptFeedback": {"blockReason": "OTHER"}, "usage": USAGE}, "content_filter"),
    ],
)
@pytest.mark.parametrize(
    "before", [[], content_chunks(), content_chunks("Par")], ids=["at once", "after the role", "after content"]
)
def test_an_error_in_a_stream_is_classified_as_such_and_may_be_billed_after_content(
    before: list[object], error: dict[str, Any], kind: str
) -> None:
    found = received(*before, error, chunk(finish="stop"), DONE)
    assert (found.fault, found.is_settled, found.maybe_billed) == (None, True, before == content_chunks("Par"))
    assert json.loads(found.body) == error
    failure = outcome(found)
    assert isinstance(failure, Failure)
    assert failure.type == kind


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (json.dumps(GOOD).encode(), None),
        (b"\n \n" + json.dumps(GOOD, indent=1).encode(), None),
        (b"\xef\xbb\xbf" + json.dumps(GOOD).encode(), None),
        (json.dumps(ERROR).encode(), "server_error"),
        (b'[{"error":{"code":429,"message":"x"}}]', "throttled"),
        (PAGE, "web_page"),
        (b"upstream connect error: reset", "bad_answer"),
        (b"dat", "bad_answer"),
        (b"data is gone", "bad_answer"),
        (b"  \r\n ", "empty"),
        (b"", "empty"),
    ],
)
def test_a_body_that_is_no_stream_is_passed_on_unchanged(body: bytes, kind: str | None) -> None:
    for pieces in ([body], [body[at : at + 1] for at in range(len(body))]):
        found = stream(*pieces).end()
        assert found == StreamResult(body)
        judged = outcome(found)
        assert (judged.type if isinstance(judged, Failure) else None) == kind


@pytest.mark.parametrize(
    "start", [b"\xef\xbb\xbf", b"\n\r\n", b": hello\n\n", b"event: x\n", b"id\n", b"retry:7\r\r", b"data\n\n"]
)
def test_a_stream_is_recognised_by_its_first_field(start: bytes) -> None:
    whole = start + events(*PARIS)
    for pieces in ([whole], [whole[at : at + 1] for at in range(len(whole))]):
        assert answered(stream(*pieces).end()) == WHOLE


def test_a_stream_with_an_unreadable_chunk_is_no_answer() -> None:
    found = received(
        *content_chunks("a"), b'{"choices": [{"delta": {"content"', *content_chunks("c"), chunk(finish="stop"), DONE
    )
    assert (found.fault, found.is_settled) == ("bad_answer", False)
    assert outcome(found) == classify(
        Exchange(0, 0, 0.0, 200, b"", fault="bad_answer", fault_message=found.fault_message)
    )


def test_json_that_decoders_disagree_on_is_read() -> None:
    odd = json.dumps(chunk({"content": "a\ud800"}, "stop", at=float("nan"))).encode()
    found = stream(events(odd)).end()
    assert found.is_settled
    judged = outcome(found)
    assert isinstance(judged, Completion)
    assert judged.response == "a\ufffd"


@pytest.mark.parametrize("depth", [300, 900, 5000, 100_000])
def test_no_nesting_depth_breaks_a_stream(depth: int) -> None:
    for left, right in ((b"[", b"]"), (b'{"a":', b"}"), (b'[{"a":', b"}]")):
        nested = left * depth + b"1" + right * depth
        for value in (nested, b"[%b]" % nested):
            deep = b'{"choices":[{"delta":{"a":' + value + b'},"finish_reason":"stop"}]}'
            found = stream(events(deep, *PARIS)).end()
            assert found.fault in {None, "bad_answer"}
            outcome(found)


def test_the_last_event_needs_no_empty_line() -> None:
    assert answered(stream(events(*PARIS[:-2]).rstrip(b"\n")).end())["usage"] is None
    assert answered(stream(events(*PARIS).rstrip(b"\n")).end()) == WHOLE


def test_a_stream_is_done_when_no_more_is_expected() -> None:
    for number, one in enumerate(PARIS):
        assert stream(events(*PARIS[: number + 1])).is_done == (one is PARIS[-1] or one is PARIS[-2])
    assert stream(events(*content_chunks("a"), DONE)).is_done
    assert stream(events(*content_chunks("a"), ERROR)).is_done
    assert not stream(b"{}").is_done
    assert not stream(events(chunk({"content": "a"}, usage=USAGE), chunk(finish="stop"))).is_done


def test_a_too_large_stream_is_reported_and_not_kept_in_memory() -> None:
    for pieces in (
        [b"x" * 2000],
        [b"data: " + b"x" * 2000],
        [events(*content_chunks(*["word "] * 400))],
        [b"data: x\n" * 600],
    ):
        found = stream(*pieces, max_bytes=1000)
        assert found.is_too_large
        assert (found.end().body, found.end().fault) == (b"", "too_large")
        assert outcome(found.end()) == classify(
            Exchange(0, 0, 0.0, 200, b"", fault="too_large", fault_message="the answer is larger than 1000 bytes")
        )


def test_the_memory_of_a_too_large_stream_is_released() -> None:
    found = AnswerStream(1, 1_000_000)
    tracemalloc.start()
    for _ in range(12):
        found.feed(b"x" * 100_000)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.is_too_large
    assert held < 200_000


def test_memory_grows_with_the_answer_and_not_with_its_chunks() -> None:
    found = AnswerStream(1, 1_000_000)
    piece = events(chunk({"content": "word "}), b"[ping]") + b": a comment that keeps the connection alive\n\n"
    found.feed(piece)
    tracemalloc.start()
    for _ in range(4000):
        found.feed(piece)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(piece) * 4000 > 900_000
    assert held < 60_000


# Cuts anywhere

texts = st.text(max_size=8)
chunks = st.one_of(
    st.builds(lambda text, index: chunk({"content": text}, index=index), texts, st.integers(0, 1)),
    st.builds(lambda text: chunk({"reasoning_content": text}), texts),
    st.builds(lambda text, at: chunk({"tool_calls": [{"index": at, "function": {"arguments": text}}]}), texts, st.integers(0, 2)),
    st.sampled_from([usage(), usage({"prompt_tokens": 0}), b"ping", chunk(finish="length", index=1)]),
)  # fmt: skip
streams = st.builds(
    lambda found, end, line: events(*found, *end).replace(b"\n", line),
    st.lists(chunks, max_size=8),
    st.sampled_from([PARIS[-3:], PARIS[-3:-1], PARIS[-3:-2], [DONE], [ERROR], []]),
    st.sampled_from([b"\n", b"\r", b"\r\n"]),
)


@given(streams, st.lists(st.integers(0, 2000)), st.integers(1, 2))
def test_a_stream_cut_into_any_pieces_gives_the_same_result(whole: bytes, places: list[int], choices: int) -> None:
    assert stream(*cut(whole, places), choices=choices).end() == stream(whole, choices=choices).end()


@given(streams, st.data())
def test_a_stream_that_ends_anywhere_is_cut_off_or_a_whole_answer(whole: bytes, data: st.DataObject) -> None:
    uncut = stream(whole).end()
    expected = outcome(uncut)
    found = stream(whole[: data.draw(st.integers(0, len(whole)))]).end()
    judged = outcome(found)
    if isinstance(judged, Completion):
        assert isinstance(expected, Completion)
        assert json.loads(found.body)["choices"] == json.loads(uncut.body)["choices"]
        assert judged.usage in (expected.usage, Usage())
    elif judged != expected:
        assert judged.type in {"cut_off", "empty", "bad_answer", UNFINISHED}


@given(
    st.lists(
        st.binary(max_size=40) | st.sampled_from([b"data: ", b"\n\n", b"[DONE]", events(*PARIS), b'{"choices":']),
        max_size=8,
    )
)
def test_no_bytes_break_a_stream(pieces: list[bytes]) -> None:
    assert isinstance(outcome(stream(*pieces).end()), Completion | Failure)
