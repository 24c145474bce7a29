"""Finds the provider's error in a body, whatever its shape, as text that can be shown to a person."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from batchmix.formats.lenient_json import json_text, read_json
from batchmix.records import Exchange
from batchmix.responses.choices import has_content

_MAX_MESSAGE_CHARS, _MAX_CODE_CHARS = 500, 100
"""Characters that are kept."""
_MESSAGES = ("message", "Message", "detail", "msg", "error_msg", "status_msg")
_CODES = ("code", "type", "status", "status_code", "statusCode", "error_code", "__type")
BLOCKED = "prompt_blocked"
"""The code of an error that is made of what Gemini or Azure report of a blocked prompt."""
_QUOTED = re.compile(r"""(?<!\w)(['"`])((?:(?!\1(?!\w)).)*)(?:\1|$)""", re.ASCII)
_LABEL = re.compile(r"(?:error|message|msg|detail)['\"]?\s*[:=]\s*$", re.IGNORECASE)


class ProviderError(msgspec.Struct, frozen=True):
    """An error as the provider put it."""

    message: str
    """One printable line."""
    code: str = ""
    """Its code as text, else its type; empty where it gave none."""
    codes: frozenset[str] = frozenset()
    """Everything that may be its code, in lower case."""
    param: str = ""
    """The key of the request that it is about; empty where it named none."""


def without_quotes(message: str) -> str:
    """Return a message without the sentences that it quotes: they may come out of a prompt.

    A name in quotation marks stays, and so does an error that is wrapped in another one.
    """
    return _QUOTED.sub(_unquoted, message)


def _unquoted(match: re.Match[str]) -> str:
    is_name = match[2].isascii() and " " not in match[2]
    if is_name or _LABEL.search(match.string, 0, match.start()):
        return match[0]
    return f"{match[1]}…{match[1]}"


def find_error(body: bytes) -> ProviderError | None:
    """Return the error in a body, or None where there is none. Never raises.

    OpenAI's `{"error": {"message", "type", "code"}}`, with only `message` sure; `{"error": "text"}`; Gemini's list
    around it; OpenRouter's in a choice; FastAPI's and vLLM's `{"detail": …}` and `{"message": …}`; `{"code", "msg"}`;
    MiniMax's `base_resp`; Bedrock's `__type`; a text alone; and what Gemini and Azure report of a blocked prompt.
    """
    found = read_json(body)
    if isinstance(found, list) and found:
        found = found[0]
    if isinstance(found, str):
        return ProviderError(one_line(found))
    if not isinstance(found, dict):
        return None
    places = (found.get("error"), found.get("errors"), *_of_choices(found), found.get("base_resp"))
    error = next(filter(has_content, places), None)
    if error is None:
        blocked = _blocked(found)
        if blocked or not any(isinstance(found.get(name), str | list | dict) and found[name] for name in _MESSAGES):
            return blocked
        error = found
    if isinstance(error, list):
        error = error[0]
    if not isinstance(error, dict):
        error = {"message": error}
    codes = [
        one_line(str(value).rpartition("#")[2])[:_MAX_CODE_CHARS]  # AWS puts a service's name before it
        for value in (*map(error.get, _CODES), found.get("code"))
        if isinstance(value, str | int) and not isinstance(value, bool) and value != ""
    ]
    param = error.get("param")
    return ProviderError(
        one_line(_message(error)),
        next(iter(codes), ""),
        frozenset(code.lower() for code in codes),
        param if isinstance(param, str) else "",
    )


def _of_choices(found: dict[str, Any]) -> Iterator[Any]:
    choices = found.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict):
            yield choice.get("error")


def _blocked(found: dict[str, Any]) -> ProviderError | None:
    """Return an error for a blocked prompt: `promptFeedback` or `prompt_filter_results` without an answer."""
    feedback = found.get("promptFeedback") or found.get("prompt_feedback")
    if isinstance(feedback, dict):
        reason = feedback.get("blockReason") or feedback.get("block_reason")
        if isinstance(reason, str | int) and reason:
            message = feedback.get("blockReasonMessage") or feedback.get("block_reason_message")
            why = one_line(": ".join(text for text in (str(reason), message) if isinstance(text, str)))
            return ProviderError(f"the prompt was blocked: {why}", BLOCKED, frozenset({BLOCKED}))
    results = found.get("prompt_filter_results") or found.get("prompt_annotations")
    filters = sorted({*_filtered(results), *_rated(feedback)})
    if filters:
        return ProviderError(f"the prompt was blocked: {one_line(', '.join(filters))}", BLOCKED, frozenset({BLOCKED}))
    return None


def _filtered(value: Any) -> Iterator[str]:
    """Yield the names of Azure's filters that have blocked something."""
    if isinstance(value, list):
        for part in value:
            yield from _filtered(part)
    elif isinstance(value, dict):
        for name, part in value.items():
            if isinstance(part, dict) and part.get("filtered") is True:
                yield name
            yield from _filtered(part)


def _rated(feedback: Any) -> Iterator[str]:
    """Yield the categories for which Gemini has blocked a prompt."""
    ratings = feedback.get("safetyRatings") or feedback.get("safety_ratings") if isinstance(feedback, dict) else None
    for rating in ratings if isinstance(ratings, list) else ():
        if isinstance(rating, dict) and rating.get("blocked") is True:
            yield str(rating.get("category"))


def _message(error: dict[str, Any]) -> str:
    """Return the message, and that of the provider behind OpenRouter."""
    message = next((error[name] for name in _MESSAGES if error.get(name)), error)
    if isinstance(message, dict) and isinstance(message.get("detail"), list):  # Mistral
        message = message["detail"]
    if isinstance(message, list):
        message = "; ".join(map(_finding, message))
    metadata = error.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    return f"{_as_text(message)}: {raw}" if isinstance(raw, str) else _as_text(message)


def _finding(part: Any) -> str:
    """Return what FastAPI found, and where; not the input, which it repeats."""
    if not isinstance(part, dict) or not isinstance(part.get("msg"), str):
        return _as_text(part)
    place = part.get("loc")
    steps = [str(step) for step in place if step != "body"] if isinstance(place, list) else []
    return ": ".join(filter(None, [".".join(steps), part["msg"]]))


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json_text(value) or "null"


def body_as_text(exchange: Exchange) -> str:
    """Return the message of an error that is not in JSON."""
    if is_web_page(exchange):
        return f"HTTP {exchange.status} with a web page"
    return one_line(exchange.body[: 4 * _MAX_MESSAGE_CHARS].decode("utf-8", "replace"))


def is_web_page(exchange: Exchange) -> bool:
    """Return whether a body is HTML, by its beginning and then by its content type."""
    start = exchange.body[:200].lstrip(b"\xef\xbb\xbf \t\r\n")
    return start.startswith(b"<") or ("html" in exchange.content_type.lower() and not start.startswith((b"{", b"[")))


def one_line(text: str) -> str:
    """Return text as one printable line of bounded length."""
    text = " ".join(text[: 4 * _MAX_MESSAGE_CHARS].encode("utf-8", "replace").decode().split())
    text = "".join(char for char in text if char.isprintable())
    return text if len(text) <= _MAX_MESSAGE_CHARS else text[: _MAX_MESSAGE_CHARS - 1] + "…"
