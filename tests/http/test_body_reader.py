"""Streamed answers over a socket: whole, cut off, silent, refused, or no streams at all."""

from __future__ import annotations

import asyncio
import gzip
import json

import msgspec
import pytest

from batchmix.errors import FailureAction
from batchmix.http.body_reader import read_stream
from batchmix.records import Completion, Exchange, Failure
from batchmix.responses.classify import classify
from batchmix.responses.stream import AnswerStream
from tests.http.test_client import chunked
from tests.polling import WITHIN_S
from tests.streams import DONE, PARIS, WHOLE, chunk, content_chunks, events, usage
from tests.wire import GOOD, KEY, REQUEST, Closing, Reply, Wire, error, reply

STREAMED = msgspec.structs.replace(REQUEST, streamed_choices=1)
FINISHED = [*content_chunks("Par", "is"), chunk(finish="stop")]


def streaming(*chunks: object, end: bool = True) -> bytes:
    """Return a streamed reply with each event in an HTTP chunk."""
    return chunked(*(events(one) for one in chunks), end=end).replace(b"application/json", b"text/event-stream")


async def exchange(wire: Wire, found: Reply, **timeouts: float) -> Exchange:
    wire.replies = [found]
    async with wire.client(**timeouts) as client:
        return await client.post(STREAMED)


@pytest.mark.parametrize(
    "answer",
    [
        streaming(*PARIS),
        reply(200, events(*PARIS), kind="text/event-stream"),
        reply(200, gzip.compress(events(*PARIS)), "Content-Encoding: gzip"),
        Closing(b"HTTP/1.0 200 OK\r\n\r\n" + events(*PARIS)),
    ],
    ids=["in chunks", "with a length", "gzip", "up to the end"],
)
async def test_a_stream_is_received_as_the_body_of_an_answer_without_streaming(wire: Wire, answer: Reply) -> None:
    received = await exchange(wire, answer)
    assert (received.fault, received.fault_message, received.maybe_billed, received.status) == (None, "", False, 200)
    assert json.loads(received.body) == WHOLE
    assert isinstance(classify(received), Completion)


async def test_connections_are_kept_from_one_stream_to_the_next(wire: Wire) -> None:
    wire.replies = [streaming(*PARIS)]
    async with wire.client() as client:
        for _ in range(5):
            assert isinstance(classify(await client.post(STREAMED)), Completion)
    assert wire.connections == 1


@pytest.mark.parametrize(
    ("answer", "timeouts", "fault"),
    [
        (Closing(streaming(*content_chunks("Par"), end=False)), {}, "cut_off"),
        (Closing(streaming(*content_chunks("Par"), end=False), reset=True), {}, "cut_off"),
        (streaming(*content_chunks("Par"), DONE), {}, "unfinished"),
        (Closing(streaming(*content_chunks("Par"), DONE, end=False), reset=True), {}, "unfinished"),
        (streaming(*content_chunks("Par"), DONE, end=False), {"idle_s": 0.05}, "unfinished"),
        (streaming(*content_chunks("Par"), usage(), end=False), {"idle_s": 0.05}, "unfinished"),
        (Closing(streaming(*content_chunks("Par"), usage(), end=False)), {}, "cut_off"),
        (streaming(*content_chunks("Par")), {}, "cut_off"),
        (streaming(*content_chunks("Par"), end=False), {"idle_s": 0.05}, "timeout"),
        (streaming(*content_chunks("Par"), end=False), {"total_s": 0.05}, "timeout"),
        (streaming(end=False), {"idle_s": 0.05}, "timeout"),
        (streaming(*content_chunks("x" * 200_000)), {}, "too_large"),
    ],
    ids=[
        "closed",
        "reset",
        "DONE",
        "reset after DONE",
        "silent after DONE",
        "silent after usage",
        "closed after usage",
        "ended",
        "silent",
        "not whole in time",
        "silent at once",
        "too large",
    ],
)
@pytest.mark.virtual_time(sockets=True)
async def test_each_broken_stream_may_be_billed_and_is_no_answer(
    wire: Wire, answer: Reply, timeouts: dict[str, float], fault: str
) -> None:
    received = await exchange(wire, answer, **timeouts)
    assert (received.fault, received.maybe_billed, received.status) == (fault, True, 200)
    outcome = classify(received)
    assert isinstance(outcome, Failure)
    assert (outcome.type, outcome.action) == (
        fault,
        FailureAction.REJECT if fault == "too_large" else FailureAction.RETRY,
    )
    assert outcome.message


@pytest.mark.virtual_time(sockets=True)
async def test_a_stream_that_does_not_begin_times_out(wire: Wire) -> None:
    received = await exchange(wire, None, idle_s=0.05)
    assert (received.fault, received.maybe_billed, received.status) == ("timeout", True, None)
    assert received.fault_message == f"nothing came from {wire.address} for 0.05 s"
    received = await exchange(wire, streaming(*FINISHED), idle_s=5)
    assert isinstance(classify(received), Completion)


@pytest.mark.parametrize(
    ("answer", "timeouts"),
    [
        (Closing(streaming(*FINISHED, end=False)), {}),
        (Closing(streaming(*FINISHED, end=False), reset=True), {}),
        (streaming(*FINISHED, end=False), {"idle_s": 0.05}),
        (streaming(*FINISHED, end=False), {"total_s": 0.05}),
    ],
    ids=["closed", "reset", "silent", "not whole in time"],
)
@pytest.mark.virtual_time(sockets=True)
async def test_an_answer_with_its_finish_reason_is_whole_however_its_connection_ends(
    wire: Wire, answer: Reply, timeouts: dict[str, float]
) -> None:
    received = await exchange(wire, answer, **timeouts)
    assert (received.fault, received.maybe_billed) == (None, False)
    assert json.loads(received.body) == {**WHOLE, "usage": None}
    assert isinstance(classify(received), Completion)


@pytest.mark.parametrize(
    "chunks", [PARIS, [*FINISHED, usage()], [*content_chunks("x"), error("broke")]], ids=["DONE", "usage", "error"]
)
@pytest.mark.virtual_time(sockets=True)
async def test_the_end_of_the_body_of_a_finished_stream_is_waited_for_at_most_a_second(
    wire: Wire, chunks: list[object]
) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    received = await exchange(wire, streaming(*chunks, end=False))
    assert received.fault is None
    assert 0.9 < loop.time() - began < 1.1


class Dripping:
    """A body whose pieces arrive one per turn of the loop, followed by an endless repetition."""

    def __init__(self, *pieces: bytes, word: bytes = b": keep-alive\n\n") -> None:
        self.pieces = list(pieces)
        self.word = word
        self.read = 0

    def at_eof(self) -> bool:
        return False

    async def readany(self) -> bytes:
        self.read += 1
        await asyncio.sleep(0 if self.pieces else 0.01)
        return self.pieces.pop(0) if self.pieces else self.word


@pytest.mark.virtual_time
async def test_a_server_that_keeps_sending_after_the_end_is_disconnected() -> None:
    body = Dripping(*(events(one) for one in PARIS))
    stream = AnswerStream(1, 100_000)
    async with asyncio.timeout(WITHIN_S):
        await read_stream(body, stream, 60)
    assert stream.end().is_settled
    assert body.read > len(PARIS)


@pytest.mark.virtual_time
async def test_a_too_large_stream_is_disconnected_at_once() -> None:
    body = Dripping(word=b"x" * 1000)
    stream = AnswerStream(1, 10_000)
    async with asyncio.timeout(WITHIN_S):
        await read_stream(body, stream, 60)
    assert (stream.is_too_large, body.read) == (True, 11)


@pytest.mark.virtual_time
async def test_each_piece_of_a_stream_resets_its_idle_timeout() -> None:
    """Comments that keep the connection alive count too; the total timeout bounds them."""
    body = Dripping(events(*content_chunks("x")))
    stream = AnswerStream(1, 100_000)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2.0):
            await read_stream(body, stream, 1.0)
    assert stream.silent_s is None


async def test_errors_before_and_within_a_stream_are_received(wire: Wire) -> None:
    within = await exchange(wire, streaming(*content_chunks("Par"), error("Too many requests", "rate_limit_exceeded")))
    before = await exchange(wire, reply(429, error("Too many requests"), "Retry-After: 3"))
    for received, status, billed in ((within, 200, True), (before, 429, False)):
        outcome = classify(received)
        assert isinstance(outcome, Failure)
        assert (outcome.type, received.status, received.maybe_billed) == ("throttled", status, billed)
        assert received.request_id == "2026112300000001"
    assert before.retry_after_s == 3.0


@pytest.mark.parametrize(("body", "kind"), [(json.dumps(GOOD).encode(), None), (b"<html>", "web_page"), (b"", "empty")])
async def test_a_body_that_is_no_stream_is_received_unchanged(wire: Wire, body: bytes, kind: str | None) -> None:
    received = await exchange(wire, reply(200, body))
    assert (received.body, received.fault) == (body, None)
    outcome = classify(received)
    assert (outcome.type if isinstance(outcome, Failure) else None) == kind
    assert (await exchange(wire, Closing(reply(200, body + b" " * 9)[:-5]))).fault == "cut_off"


async def test_an_error_response_in_events_is_received_unchanged(wire: Wire) -> None:
    body = events(error("Too many requests"))
    received = await exchange(wire, reply(429, body, kind="text/event-stream"))
    assert (received.body, received.fault, received.maybe_billed) == (body, None, False)
    assert isinstance(classify(received), Failure)


async def test_the_key_is_removed_from_a_stream_even_when_split_between_pieces(wire: Wire) -> None:
    for chunks in (
        [*content_chunks(KEY[:5], KEY[5:]), *PARIS[-3:]],
        [error(f"bad key {KEY}")],
        content_chunks(KEY[:9], KEY[9:]),
    ):
        received = await exchange(wire, streaming(*chunks))
        assert KEY not in repr(received)
        assert KEY not in repr(classify(received))
        assert b"***" in received.body


async def test_a_body_that_is_not_streamed_is_received_as_usual(wire: Wire) -> None:
    received = await wire.exchange(streaming(*PARIS))
    assert received.body == b"".join(map(events, PARIS))
