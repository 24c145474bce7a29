"""Parses and checks the body of a request to the rehearsal provider."""

from __future__ import annotations

from typing import Any

import msgspec

from batchmix.rehearsal.asked_schema import AskedSchema, asked_schema
from batchmix.rehearsal.asked_verdict import AskedVerdict, asked_verdict

Json = dict[str, Any]
ENDPOINTS = {
    "/v1/chat/completions": "messages",
    "/v1/completions": "prompt",
    "/v1/embeddings": "input",
    "/v1/responses": "input",
}
"""The endpoints for completions, and for each the field that a body must have."""
_WITH_CHOICES = frozenset({"/v1/chat/completions", "/v1/completions"})
_CAPS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
"""Parameters that bound the tokens of an answer; the first one in a body counts."""
_MAX_CHOICES = 128
"""The largest `n` that OpenAI accepts."""
_encoder = msgspec.json.Encoder(order="sorted")


class RehearsalRequest(msgspec.Struct, frozen=True):
    """The parts of a request's body that the reply depends on."""

    endpoint: str
    model: str
    prompt: str
    """The text of the last user message, or of the fields `prompt` or `input`."""
    content: Any
    """The value of `messages`, `prompt` or `input`, unchanged."""
    canonical: bytes
    """The content as JSON with sorted keys. Equal contents have equal bytes."""
    n: int
    max_tokens: int | None
    """The value of the parameter that `cap` names. None if there is no such parameter."""
    cap: str | None = None
    """The name of the parameter that bounds the answer, such as `max_tokens`. None if no parameter does."""
    streams: bool = False
    """Whether a stream is requested, at an endpoint that supports streams."""
    wants_usage: bool = False
    """Whether the request wants the usage at the end of the stream."""
    turns: int = 1
    """The number of the user's messages. 1 for a prompt without messages."""
    opening: str = ""
    """The text of the first of the user's messages. Empty if there is only one."""
    asked: AskedSchema | None = None
    """The schema that the answer must fit. None if the request asks for none."""
    verdict: AskedVerdict | None = None
    """The verdict that the answer must end with. None if the prompt asks for none."""

    @property
    def has_choices(self) -> bool:
        """Whether the answer has `choices`."""
        return self.endpoint in _WITH_CHOICES

    @property
    def prompt_tokens(self) -> int:
        """The number of prompt tokens: the bytes of `canonical`, divided by four and rounded up."""
        return -(-len(self.canonical) // 4)


def read_request(endpoint: str, raw: bytes) -> RehearsalRequest | str:
    """Parse and check the body of a request. Returns an error message if the body is invalid."""
    try:
        body = msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        return "We could not parse the JSON body of your request"
    key = ENDPOINTS[endpoint]
    if not isinstance(body, dict) or body.get(key) is None:
        return f"Missing required parameter: '{key}'"
    content = body[key]
    is_chat = endpoint != "/v1/embeddings" and _is_messages(content)
    if key == "messages" and not is_chat:
        return "Invalid value for 'messages': it must be a list of messages, and not empty"
    cap = next((name for name in _CAPS if body.get(name) is not None), None)
    max_tokens = None if cap is None else body[cap]
    n = body.get("n")
    for name, value, limit in (("n", n, _MAX_CHOICES), ("max_tokens", max_tokens, None)):
        if value is not None and not _is_count(value, limit):
            return f"Invalid value for '{name}'"
    users = [message for message in content if message.get("role") == "user"] if is_chat else []
    model = body.get("model")
    streams = body.get("stream") is True and endpoint in _WITH_CHOICES
    prompt = _text((users or content)[-1].get("content")) if is_chat else _text(content)
    return RehearsalRequest(
        endpoint=endpoint,
        model=model if isinstance(model, str) else "",
        prompt=prompt,
        content=content,
        canonical=_encoder.encode(content),
        n=1 if n is None else n,
        max_tokens=max_tokens,
        cap=cap,
        streams=streams,
        wants_usage=streams and _wants_usage(body.get("stream_options")),
        turns=len(users) if is_chat else 1,
        opening=_text(users[0].get("content")) if len(users) > 1 else "",
        asked=None if endpoint == "/v1/embeddings" else asked_schema(body, content),
        verdict=asked_verdict(prompt),
    )


def _wants_usage(options: object) -> bool:
    return isinstance(options, dict) and options.get("include_usage") is True


def _is_messages(content: object) -> bool:
    return isinstance(content, list) and set(map(type, content)) == {dict}


def _is_count(value: object, limit: int | None) -> bool:
    return type(value) is int and value >= 1 and (limit is None or value <= limit)


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list) and content and all(isinstance(part, dict) for part in content):
        return "".join(part["text"] for part in content if isinstance(part.get("text"), str))
    return _encoder.encode(content).decode()
