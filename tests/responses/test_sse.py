"""Events are parsed by the WHATWG's rules, however the bytes are cut."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchmix.responses.sse import EventDecoder


def read(*pieces: bytes) -> list[bytes]:
    events = EventDecoder()
    return [data for piece in pieces for data in events.feed(piece)]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: a\n\n", [b"a"]),
        (b"data: a\r\n\r\ndata: b\r\rdata: c\n\n", [b"a", b"b", b"c"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a\n\n", [b" a"]),
        (b"data: a\ndata\ndata: b\n\n", [b"a\n\nb"]),
        (b"data: YHOO\ndata: +2\ndata: 10\n\n", [b"YHOO\n+2\n10"]),
        (b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n", [b"first event", b"second event", b" third event"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n", [b"b"]),
        (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [b"a"]),
        (b"event: error\ndata: a: b\nretry: 7\n\n", [b"a: b"]),
        (b"data\n\ndata:\n\ndata: \n\n", []),
        (b"database: a\n Data: b\nDATA: c\n\n", []),
        (b"\n\n\n: only\n\n", []),
        (b"data: a\n", []),
        (b"data: a\n\ndata: b", [b"a"]),
        ("data: é€😀\u2028\x0b\x0c\x85\n\n".encode(), ["é€😀\u2028\x0b\x0c\x85".encode()]),
        (b"data: \xff\x00\n\n", [b"\xff\x00"]),
    ],
)  # fmt: skip
def test_events_follow_the_standard_and_its_examples(stream: bytes, expected: list[bytes]) -> None:
    assert read(stream) == expected
    assert read(*(stream[at : at + 1] for at in range(len(stream)))) == expected


lines = st.sampled_from([b"data: a", b"data:b", b"data", b": c", b"", b"", b"id: 1", b"x", b"data: \xc3\xa9", b"\xef\xbb\xbfdata: d"])  # fmt: skip
streams = st.lists(st.tuples(lines, st.sampled_from([b"\n", b"\r", b"\r\n"]))).map(
    lambda pairs: b"".join(line + end for line, end in pairs)
)


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    """Return a stream in pieces, cut at these places."""
    at = sorted({min(place, len(stream)) for place in places})
    return [stream[first:last] for first, last in zip([0, *at], [*at, len(stream)], strict=True)]


@given(streams, st.lists(st.integers(0, 200)))
def test_a_stream_cut_into_any_pieces_gives_the_same_result(stream: bytes, places: list[int]) -> None:
    """The result also equals that of a reader that splits the whole text into lines first."""
    found, data = [], []
    for line in stream.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")[:-1]:
        if line:
            field, _, value = line.partition(b":")
            data += [value.removeprefix(b" ")] if field == b"data" else []
        else:
            found += [joined for joined in [b"\n".join(data)] if joined]
            data = []
    assert read(*cut(stream, places)) == read(stream) == found


def test_data_after_the_last_whole_event_is_available_at_the_end() -> None:
    events = EventDecoder()
    assert events.feed(b"data: a\n\ndata: b\ndata: c") == [b"a"]
    assert events.rest() == b"b\nc"


def test_only_the_unfinished_event_is_kept_in_memory() -> None:
    events = EventDecoder()
    for _ in range(1000):
        events.feed(b"data: 0123456789\n: a comment\nid: 7\n\n")
    assert events.size == 0
    events.feed(b"data: 0123456789\ndata: 0123")
    assert 14 <= events.size <= 30


def test_a_long_line_takes_linear_time() -> None:
    """A million pieces of one line; joining them with each new piece would take hours."""
    events = EventDecoder()
    began = time.process_time()
    for _ in range(1_000_000):
        events.feed(b"x")
    assert events.size == 1_000_000
    assert time.process_time() - began < 20
