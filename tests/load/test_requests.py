from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchmix.load.requests import encode_body, output_cap, request_hash, with_encoded_texts
from batchmix.load.template import BadRowError
from tests.load.conftest import MODEL, all_requests, make_job, open_rows

_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=5), _values, max_size=4))
def test_any_json_is_sent_unchanged(body: dict[str, Any]) -> None:
    """Large integers, odd texts and the order of keys are kept."""
    sent = json.loads(encode_body(body))
    assert sent == body
    assert list(sent) == list(body)


@given(st.dictionaries(st.text(max_size=5), _values, max_size=4), st.randoms())
def test_the_hash_does_not_depend_on_key_order_or_streaming(body: dict[str, Any], random: Any) -> None:
    """The same body with its keys shuffled, or streamed, is the same request; another path is not."""
    keys = list(body)
    random.shuffle(keys)
    shuffled = {key: body[key] for key in keys}
    body = {key: value for key, value in body.items() if key not in ("stream", "stream_options")}
    streamed = {"stream_options": {}, **shuffled, "stream": True}
    assert request_hash("/v1/x", body) == request_hash("/v1/x", streamed) != request_hash("/v1/y", body)


def test_the_hash_is_that_of_path_and_canonical_body(rows_file: Any, spool: Path) -> None:
    """It stays the same in all versions, because answers are stored under it."""
    job = make_job(rows_file([{"prompt": "é"}]), settings={"samples": 2, "params": {"temperature": 0}})
    first, second = all_requests(open_rows(job, spool), job)
    canonical = (
        f'/v1/chat/completions\n{{"messages":[{{"content":"é","role":"user"}}],"model":"{MODEL}","temperature":0}}'
    )
    assert first.hash == second.hash == hashlib.sha256(canonical.encode()).hexdigest()[:32]
    assert [r.key for r in (first, second)] == [(0, MODEL, 0), (0, MODEL, 1)]


@pytest.mark.parametrize("text", ["a", "é\n", '\\"', "\ud83d\ude00", "\ud800", "€\x00\u2028"])
@pytest.mark.parametrize("more", [{}, {"seed": 10**30}, {"user": "\udc00"}, {"x": None}])
def test_a_long_message_is_sent_and_hashed_as_a_short_one(text: str, more: dict[str, Any]) -> None:
    """Also in a body that msgspec can't encode."""
    messages = [{"role": "system", "content": "b"}, {"role": "user", "content": text * 3000, "name": "c"}]
    body = {"model": "m", "messages": messages, **more}
    encodable = with_encoded_texts(body)
    assert encode_body(encodable) == encode_body(body)
    assert request_hash("/v1/x", encodable) == request_hash("/v1/x", body)
    assert body["messages"] is messages
    assert messages[1]["content"] == text * 3000


def test_lone_surrogates_can_be_sent() -> None:
    """JSON expresses them as escapes."""
    body = {"a": "\ud800"}
    assert encode_body(body) == b'{"a":"\\ud800"}'
    assert len(request_hash("/v1/x", body)) == 32


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), [{"x": float("-inf")}]])
def test_numbers_that_json_lacks_reject_their_row(odd: Any) -> None:
    """They are not sent as null."""
    with pytest.raises(BadRowError, match="can't be written as JSON"):
        encode_body({"a": odd, "b": None})


def test_odd_numbers_in_a_batch_line_reject_its_row_under_its_model(rows_file: Any, spool: Path) -> None:
    """Each of its samples."""
    path = rows_file(b'{"custom_id":"a","body":{"model":"x","temperature":-Infinity}}\n')
    job = make_job(path, settings={"samples": 2})
    found = all_requests(open_rows(job, spool), job)
    assert [(r.key, r.failure.type) for r in found] == [((0, MODEL, 0), "bad_row"), ((0, MODEL, 1), "bad_row")]


@pytest.mark.parametrize(
    ("body", "most"),
    [
        ({}, None),
        ({"max_tokens": 5}, 5),
        ({"max_tokens": 5, "max_completion_tokens": 7, "n": 3}, 21),
        ({"max_tokens": 5, "max_completion_tokens": None, "n": None}, 5),
        ({"max_tokens": "5"}, None),
        ({"max_tokens": 5, "n": "x"}, None),
    ],
)
def test_the_most_tokens_are_summed_over_all_choices(body: dict[str, Any], most: int | None) -> None:
    """None if the body has no limit, or one that is not a number."""
    assert output_cap(body) == most


def test_requests_come_in_lists_of_some_hundred_with_samples_together(rows_file: Any, spool: Path) -> None:
    """In row order."""
    job = make_job(rows_file([{"prompt": str(i)} for i in range(500)]), settings={"samples": 3})
    batches = list(open_rows(job, spool, shard_rows=1000).requests(0, job.models[0]))
    assert all(64 <= len(batch) <= 256 for batch in batches[:-1])
    keys = [r.key for batch in batches for r in batch]
    assert keys == [(row, MODEL, sample) for row in range(500) for sample in range(3)]
