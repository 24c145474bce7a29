"""The endpoints whose answers are read, known by how their URL paths end."""

from __future__ import annotations

from functools import lru_cache

CHAT = "/chat/completions"
COMPLETIONS = "/completions"
RESPONSES = "/responses"
EMBEDDINGS = "/embeddings"
READ = (CHAT, COMPLETIONS, RESPONSES, EMBEDDINGS)


@lru_cache(maxsize=64)
def endpoint_of(path: str) -> str | None:
    """Return which endpoint a URL path leads to, whatever stands around it; None: answers of it are not read."""
    path = path.partition("?")[0].rstrip("/")
    return next((known for known in READ if path.endswith(known)), None)
