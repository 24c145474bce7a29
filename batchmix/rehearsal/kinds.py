"""The one table of what can become of a request; a new kind is a new line here."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any, Literal

Message = dict[str, Any]
Shape = Callable[[str, int], tuple[Message, str | None]]
"""Takes an answer's text and its choice's index; returns what the message has beyond its role, and a finish_reason
that goes before the usual one."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """What one kind of reply is made of."""

    how: Literal["answer", "error", "page", "empty", "cut", "drop", "hang"]
    status: int | None = None
    """The HTTP status; None where no status is sent."""
    message: str = ""
    type: str = ""
    code: str | None = None
    shape: Shape | None = None
    """How an answer's message differs from the usual one."""
    share: str = ""
    """The option of `Behaviour` that draws it."""
    late: bool = True
    """Whether it takes the latency; refusals at the door do not."""


def _tools(text: str, index: int) -> tuple[Message, str]:
    function = {"name": "look_up", "arguments": json.dumps({"word": text})}
    call = {"id": f"call_{index}", "type": "function", "function": function}
    return {"content": None, "tool_calls": [call]}, "tool_calls"


def _refusal(text: str, index: int) -> tuple[Message, None]:
    return {"content": None, "refusal": "I can't help with that."}, None


def _reasoning(text: str, index: int) -> tuple[Message, None]:
    return {"content": text, "reasoning_content": f"Let me think about {text}."}, None


KINDS: dict[str, Kind] = {
    # answers; `echo` answers with the prompt's text
    "answer": Kind("answer", 200),
    "echo": Kind("answer", 200),
    "filter": Kind("answer", 200, shape=lambda text, index: ({"content": text}, "content_filter")),
    "null": Kind("answer", 200, shape=lambda text, index: ({"content": None}, None)),
    "refusal": Kind("answer", 200, shape=_refusal),
    "reasoning": Kind("answer", 200, shape=_reasoning),
    "tools": Kind("answer", 200, shape=_tools),
    # faults that are drawn by shares, or asked for by markers
    "429": Kind("error", 429, "Too many requests", "rate_limit_error", "rate_limit_exceeded", share="e429"),
    "500": Kind("error", 500, "The server had an error", "server_error", share="e500"),
    "502": Kind("error", 502, "Bad gateway", "server_error", share="e502"),
    "503": Kind("error", 503, "Rate limited by provider", "aihubmix_error", "server_is_overloaded", share="e503"),
    "hang": Kind("hang", share="hang"),
    "cut": Kind("cut", 200, share="cut"),
    "drop": Kind("drop", share="drop"),
    "html": Kind("page", 200, share="html"),
    "empty": Kind("empty", 200, share="empty"),
    # faults by markers, and by what is wrong with a request
    "400": Kind("error", 400, "Invalid value for a parameter", "invalid_request_error", "invalid_value"),
    "401": Kind("error", 401, "Invalid API key: {key}", "invalid_request_error", "invalid_api_key", late=False),
    "402": Kind("error", 402, "Your balance is insufficient", "billing_error"),
    "403": Kind("error", 403, "Your balance is insufficient", "aihubmix_error", "insufficient_user_quota"),
    "504": Kind("error", 504, "The upstream took too long", "server_error"),
    "reject": Kind("error", 400, "Invalid value in the request", "invalid_request_error", "invalid_value"),
    "malformed": Kind("error", 400, "{detail}", "invalid_request_error", late=False),
    "unknown_marker": Kind("error", 400, "{detail}", "invalid_request_error", "unknown_marker", late=False),
    "incorrect_model": Kind(
        "error", 400, "Incorrect model ID. Please request to view the available models", "aihubmix_error",
    ),
    "unknown_model": Kind(
        "error", 503, "Incorrect model ID. Please request to view the available models: {detail}", "aihubmix_error",
        late=False,
    ),
    "busy": Kind("error", 429, "Too many requests", "rate_limit_error", "concurrency_exceeded", late=False),
    "throttled": Kind("error", 429, "Too many requests", "rate_limit_error", "rate_limit_exceeded", late=False),
}  # fmt: skip
SHARES: dict[str, str] = {kind.share: name for name, kind in KINDS.items() if kind.share}
"""From an option that is a share to the kind that it draws, in the order of drawing."""
