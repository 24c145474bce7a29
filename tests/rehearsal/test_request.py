"""The rehearsal provider has the endpoints that requests can be sent to, though it imports nothing of theirs."""

from __future__ import annotations

import json

import pytest

from batchmix.records import Completion, Exchange
from batchmix.rehearsal.request import ENDPOINTS, read_request
from batchmix.responses.classify import classify
from batchmix.responses.endpoints import STREAMED, SUPPORTED


def test_both_tables_list_the_same_endpoints() -> None:
    rehearsed = {path.removeprefix("/v1") for path in ENDPOINTS}
    assert rehearsed == set(SUPPORTED), (
        "an endpoint stands in only one of responses/endpoints.py: ENDPOINTS and rehearsal/request.py: ENDPOINTS"
    )


@pytest.mark.parametrize("suffix", SUPPORTED)
def test_both_tables_say_the_same_of_streams(suffix: str) -> None:
    content = [{"role": "user", "content": "Hello"}]
    request = read_request(f"/v1{suffix}", json.dumps({ENDPOINTS[f"/v1{suffix}"]: content, "stream": True}).encode())
    assert not isinstance(request, str)
    assert request.streams == (suffix in STREAMED)


@pytest.mark.parametrize("suffix", SUPPORTED)
async def test_its_answers_are_read_as_answers(calling, suffix: str) -> None:
    content = [{"role": "user", "content": "Hello"}] if ENDPOINTS[f"/v1{suffix}"] == "messages" else "Hello"
    async with calling() as caller:
        response = await caller.send(path=suffix, **{"messages": None, ENDPOINTS[f"/v1{suffix}"]: content})
    exchange = Exchange(0, 1, 0.001, response.status, response.raw, content_type=response.headers["Content-Type"])
    answer = classify(exchange, f"/v1{suffix}")
    assert isinstance(answer, Completion)
    assert answer.usage.prompt_tokens
    assert answer.response
