"""The endpoints whose answers can be read: to add one, write its reader and add a line to `READERS`."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from batchmix.records import Completion
from batchmix.responses.choices import read_choices
from batchmix.responses.embeddings import read_embeddings
from batchmix.responses.responses_api import read_response

CHAT = "/chat/completions"
COMPLETIONS = "/completions"
RESPONSES = "/responses"
EMBEDDINGS = "/embeddings"

Reader = Callable[[dict[str, Any], bytes, int], Completion | str]
"""Takes the decoded body, its bytes, and how many embeddings were requested (0: unknown).

Returns the answer without its usage, or what is wrong with it, as the end of a sentence: "has no choices".
"""
READERS: dict[str, Reader] = {
    CHAT: read_choices,
    COMPLETIONS: read_choices,
    RESPONSES: read_response,
    EMBEDDINGS: read_embeddings,
}
"""By how the URL path ends; the first that fits counts."""


@lru_cache(maxsize=64)
def endpoint_of(path: str) -> str | None:
    """Return which endpoint a URL path leads to, whatever comes before or after it; None: its answers can't be read."""
    path = path.partition("?")[0].rstrip("/")
    return next((ending for ending in READERS if path.endswith(ending)), None)
