"""Reads the answer in a response of the Responses API."""

from __future__ import annotations

import re
from typing import Any

from batchmix.formats.lenient_json import nonempty_json, plain_text
from batchmix.records import Completion
from batchmix.responses.choices import content_text, is_error_reason, refusal_in, text_in

_NO_ANSWER = {
    "failed": "says that it failed",
    "error": "says that it failed",
    "cancelled": "says that it was cancelled",
    "canceled": "says that it was cancelled",
    "expired": "says that it has expired",
    "queued": "is still queued",
    "in_progress": "is still in progress",
}
_NOT_YET = re.compile("pending|running|processing|accepted|created|waiting|scheduled")
_CUT = frozenset({"incomplete", "in_progress"})
_REASONS = {"max_output_tokens": "length", "max_tokens": "length"}
"""The finish reasons of chat completions that correspond to the reasons for an incomplete response. Others are kept."""
_CALLS = frozenset(
    {"function_call", "custom_tool_call", "computer_call", "local_shell_call", "shell_call", "mcp_approval_request"}
)
"""The types of items that call one of the caller's tools. The provider's own tools have other types."""


def read_response(decoded: dict[str, Any], _body: bytes, _inputs: int) -> Completion | str:
    """Return the answer in a response. If there is none, return the reason.

    `finish_reason` is `stop` or `tool_calls` for a complete answer, and otherwise the reason why it is incomplete.
    """
    status = _status(decoded)
    problem = _problem(status)
    if problem:
        return problem
    output = decoded.get("output")
    items = [item for item in output if item and isinstance(item, dict)] if isinstance(output, list) else []
    whole = text_in(decoded.get("output_text"))
    if not items and not whole and status != "incomplete":
        return "has no output"
    messages = [item for item in items if item.get("type", "message") == "message"]
    if any(is_error_reason(_status(message)) for message in messages):
        return "holds a message that failed"
    parts = [message.get("content") for message in messages]
    calls = [item for item in items if item.get("type") in _CALLS]
    texts, refusals = map(content_text, parts), map(refusal_in, parts)
    is_cut = any(_status(item) in _CUT for item in (*messages, *calls))
    return Completion(
        response="".join(filter(None, texts)) or whole,
        reasoning="".join(filter(None, map(_reasoning_in, items))) or None,
        refusal="".join(filter(None, refusals)) or None,
        tool_calls=nonempty_json(calls),
        finish_reason=_finish_reason("incomplete" if is_cut else status, decoded.get("incomplete_details"), calls),
    )


def _reasoning_in(item: dict[str, Any]) -> str | None:
    """Return the reasoning in an item: the full text if there is one, otherwise the summary."""
    if item.get("type") != "reasoning":
        return None
    return text_in(item.get("content")) or text_in(item.get("summary"))


def _problem(status: str | None) -> str | None:
    """Return the reason why a response with this status has no answer. None if it may have one."""
    if status in _NO_ANSWER:
        return _NO_ANSWER[status]
    if status and _NOT_YET.search(status):
        return "is still to come"
    return "says that it failed" if is_error_reason(status) or status == "rejected" else None


def _status(item: dict[str, Any]) -> str | None:
    status = plain_text(item.get("status"))
    return (status and status.strip().lower()) or None


def _finish_reason(status: str | None, details: Any, calls: list[dict[str, Any]]) -> str | None:
    reason = plain_text(details.get("reason")) if isinstance(details, dict) else None
    if reason or status == "incomplete":
        return _REASONS.get(reason, reason) if reason else "incomplete"
    if status == "completed":
        return "tool_calls" if calls else "stop"
    return status
