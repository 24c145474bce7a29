"""What a request asks for."""

from __future__ import annotations

from typing import Any

import msgspec

Json = dict[str, Any]
ENDPOINTS = {
    "/v1/chat/completions": "messages",
    "/v1/completions": "prompt",
    "/v1/embeddings": "input",
    "/v1/responses": "input",
}
"""What is served, and the key that each must have."""
_WITH_CHOICES = frozenset({"/v1/chat/completions", "/v1/completions"})
_CAPS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_MOST_CHOICES = 128
_encoder = msgspec.json.Encoder(order="sorted")


class Asked(msgspec.Struct, frozen=True):
    """A request's body as far as an answer depends on it."""

    endpoint: str
    model: str
    prompt: str
    """The last user message's text, or the text of the prompt or the input."""
    asked: Any
    """The messages, the prompt or the input."""
    canonical: bytes
    """That as JSON, the same for the same values."""
    n: int
    most: int | None
    """What `cap` says."""
    cap: str | None = None
    """`max_completion_tokens`, `max_tokens` or `max_output_tokens`, whichever is there."""
    streams: bool = False
    """Whether a stream is asked for, where there are any."""
    wants_usage: bool = False
    """Whether the stream is to end with the usage."""

    @property
    def has_choices(self) -> bool:
        """Whether the answer to it has `choices`."""
        return self.endpoint in _WITH_CHOICES

    @property
    def prompt_tokens(self) -> int:
        """How many tokens the prompt counts."""
        return -(-len(self.canonical) // 4)


def read(endpoint: str, raw: bytes) -> Asked | str:
    """Return what a body asks for, or in words what is wrong with it."""
    try:
        body = msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        return "We could not parse the JSON body of your request"
    key = ENDPOINTS[endpoint]
    if not isinstance(body, dict) or body.get(key) is None:
        return f"Missing required parameter: '{key}'"
    asked = body[key]
    spoken = endpoint != "/v1/embeddings" and _is_messages(asked)
    if key == "messages" and not spoken:
        return "Invalid value for 'messages': it must be a list of messages, and not empty"
    cap = next((name for name in _CAPS if body.get(name) is not None), None)
    most = None if cap is None else body[cap]
    n = body.get("n")
    for name, value, limit in (("n", n, _MOST_CHOICES), ("max_tokens", most, None)):
        if value is not None and not _is_count(value, limit):
            return f"Invalid value for '{name}'"
    model = body.get("model")
    streams = body.get("stream") is True and endpoint in _WITH_CHOICES
    return Asked(
        endpoint=endpoint,
        model=model if isinstance(model, str) else "",
        prompt=_prompt(asked) if spoken else _text(asked),
        asked=asked,
        canonical=_encoder.encode(asked),
        n=1 if n is None else n,
        most=most,
        cap=cap,
        streams=streams,
        wants_usage=streams and _wants_usage(body.get("stream_options")),
    )


def _wants_usage(options: object) -> bool:
    return isinstance(options, dict) and options.get("include_usage") is True


def _is_messages(asked: object) -> bool:
    return isinstance(asked, list) and set(map(type, asked)) == {dict}


def _is_count(value: object, limit: int | None) -> bool:
    return type(value) is int and value >= 1 and (limit is None or value <= limit)


def _prompt(messages: list[Json]) -> str:
    users = [message for message in messages if message.get("role") == "user"]
    return _text((users or messages)[-1].get("content"))


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list) and content and all(isinstance(part, dict) for part in content):
        return "".join(part["text"] for part in content if isinstance(part.get("text"), str))
    return _encoder.encode(content).decode()
