"""The endpoints that requests can be sent to.

To add an endpoint, write its reader and add an entry to `ENDPOINTS`.
"""

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

Reader = Callable[[dict[str, Any], bytes, int], Completion | str]
"""A function that takes the decoded body, its bytes, and the number of embeddings requested (0 if unknown).

It returns the answer without its usage. If there is none, it returns the reason as the end of a sentence, such as "has
no choices".
"""


def _read_nothing(_decoded: dict[str, Any], _body: bytes, _inputs: int) -> Completion:
    return Completion()


class Endpoint(msgspec.Struct, frozen=True):
    """An endpoint of the API, with everything that differs between endpoints."""

    suffix: str
    """The end of the endpoint's URL path."""
    read: Reader = _read_nothing
    """Reads the answer in an ordinary body. The default returns an empty answer: only the usage and `raw` are kept."""
    join_stream: Callable[[bytes], bytes | None] = join_chunks
    """Turns a body of server-sent events into an ordinary body. Returns None if the stream is incomplete."""
    can_stream: bool = False
    """Whether a request may ask for a stream. A stream that arrives without being requested is read in any case."""
    has_completion_tokens: bool = True
    """Whether an answer has completion tokens. If not, a missing count of them means 0, not unknown."""
    counts_inputs: bool = False
    """Whether to count the items of the request's `input`, since the answer must have one vector for each."""
    offers_background: bool = False
    """Whether the endpoint can answer in the background, which rows may not request."""
    is_supported: bool = True
    """Whether requests can be sent to this endpoint."""


ENDPOINTS = (
    Endpoint(CHAT, read_choices, can_stream=True),
    Endpoint("/completions", read_choices, can_stream=True),
    Endpoint("/responses", read_response, last_response, offers_background=True),
    Endpoint("/embeddings", read_embeddings, has_completion_tokens=False, counts_inputs=True),
    # Requests are no longer sent to these, but run folders of earlier versions may hold their answers.
    Endpoint("/rerank", has_completion_tokens=False, is_supported=False),
    Endpoint("/moderations", has_completion_tokens=False, is_supported=False),
)
"""The first endpoint whose suffix a path ends with applies, so `/chat/completions` comes before `/completions`."""
SUPPORTED = tuple(endpoint.suffix for endpoint in ENDPOINTS if endpoint.is_supported)
"""The suffixes of the endpoints that requests can be sent to."""
STREAMED = tuple(endpoint.suffix for endpoint in ENDPOINTS if endpoint.can_stream)
"""The suffixes of the endpoints that can stream."""
_OTHER = Endpoint("", is_supported=False)
"""The endpoint of a path that ends with none of the suffixes in `ENDPOINTS`."""


@lru_cache(maxsize=64)
def endpoint_of(path: str) -> Endpoint:
    """Return the endpoint that a URL path ends with, ignoring a query and trailing slashes.

    For any other path it returns an endpoint whose `is_supported` is False, and not None.
    """
    path = path.partition("?")[0].rstrip("/")
    return next((endpoint for endpoint in ENDPOINTS if path.endswith(endpoint.suffix)), _OTHER)
