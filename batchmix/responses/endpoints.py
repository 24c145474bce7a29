"""The endpoints that requests can be sent to: to add one, write its reader and add an entry to `ENDPOINTS`."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import msgspec

from batchmix.records import Completion
from batchmix.responses.choices import read_choices
from batchmix.responses.embeddings import read_embeddings
from batchmix.responses.responses_api import read_response
from batchmix.responses.stream import join_chunks, last_response

CHAT = "/chat/completions"
RESPONSES = "/responses"

Reader = Callable[[dict[str, Any], bytes, int], Completion | str]
"""Takes the decoded body, its bytes, and how many embeddings were requested (0: unknown).

Returns the answer without its usage, or else the reason why it is none, as the end of a sentence: "has no choices".
"""


def _read_nothing(_found: dict[str, Any], _body: bytes, _inputs: int) -> Completion:
    return Completion()


class Endpoint(msgspec.Struct, frozen=True):
    """An endpoint of the API, with everything that differs between endpoints."""

    suffix: str
    """The end of its URL path."""
    read: Reader = _read_nothing
    """Reads the answer in a body that is not streamed. The default keeps an answer for its usage and `raw` only."""
    join_stream: Callable[[bytes], bytes | None] = join_chunks
    """Turns a body of server-sent events into the ordinary body; None if the stream is incomplete."""
    can_stream: bool = False
    """Whether a request may ask for a stream. If not, a stream that comes all the same is still read."""
    has_completion_tokens: bool = True
    """Whether an answer has tokens of its own; if not, a missing count of them is 0 and not unknown."""
    counts_inputs: bool = False
    """Whether the items of the request's `input` are counted, since an answer must have one vector for each."""
    is_supported: bool = True
    """Whether requests can be sent to it."""


ENDPOINTS = (
    Endpoint(CHAT, read_choices, can_stream=True),
    Endpoint("/completions", read_choices, can_stream=True),
    Endpoint(RESPONSES, read_response, last_response),
    Endpoint("/embeddings", read_embeddings, has_completion_tokens=False, counts_inputs=True),
    # No longer sent; run folders of earlier versions may hold answers of these.
    Endpoint("/rerank", has_completion_tokens=False, is_supported=False),
    Endpoint("/moderations", has_completion_tokens=False, is_supported=False),
)
"""The first endpoint whose suffix a path ends with counts, so `/chat/completions` comes before `/completions`."""
SUPPORTED = tuple(endpoint.suffix for endpoint in ENDPOINTS if endpoint.is_supported)
STREAMED = tuple(endpoint.suffix for endpoint in ENDPOINTS if endpoint.can_stream)
"""The suffixes of the endpoints that requests can be sent to, and of those that can stream."""
_OTHER = Endpoint("", is_supported=False)
"""Stands for all paths that end with no suffix in `ENDPOINTS`."""


@lru_cache(maxsize=64)
def endpoint_of(path: str) -> Endpoint:
    """Return the endpoint that a URL path ends with, ignoring a query and trailing slashes.

    For any other path it returns an endpoint with `is_supported` False, and not None.
    """
    path = path.partition("?")[0].rstrip("/")
    return next((endpoint for endpoint in ENDPOINTS if path.endswith(endpoint.suffix)), _OTHER)
