"""Finds the provider's error in a response body of any shape, and turns it into text for the user."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from batchmix.formats.lenient_json import nonempty_json, read_json
from batchmix.records import Exchange
from batchmix.responses.choices import has_content

_MAX_MESSAGE_CHARS, _MAX_CODE_CHARS = 500, 100
"""Longer messages and codes are cut."""
_MESSAGES = ("message", "Message", "detail", "msg", "error_msg", "status_msg")
_CODES = ("code", "type", "status", "status_code", "statusCode", "error_code", "__type")
BLOCKED = "prompt_blocked"
"""The error code for a blocked prompt. Gemini and Azure do not report a blocked prompt as an error."""
_QUOTED = re.compile(r"""(?<!\w)(['"`])((?:(?!\1(?!\w)).)*)(?:\1|$)""", re.ASCII)
_LABEL = re.compile(r"(?:error|message|msg|detail)['\"]?\s*[:=]\s*$", re.IGNORECASE)


class ProviderError(msgspec.Struct, frozen=True):
    """An error as the provider reported it."""

    message: str
    """The message as one printable line."""
    code: str = ""
    """The error's code as text, or else its type. Empty if it has neither."""
    codes: frozenset[str] = frozenset()
    """The values of all fields that may hold the code, in lower case."""
    param: str = ""
    """The request parameter that the error names. Empty if it names none."""


def without_quotes(message: str) -> str:
    """Return a message without the sentences that it quotes, since they may come from a prompt.

    A quoted name is kept, and so is an error message that is quoted in another error.
    """
    return _QUOTED.sub(_unquoted, message)


def _unquoted(match: re.Match[str]) -> str:
    is_name = match[2].isascii() and " " not in match[2]
    if is_name or _LABEL.search(match.string, 0, match.start()):
        return match[0]
    return f"{match[1]}…{match[1]}"


def find_error(body: bytes) -> ProviderError | None:
    """Return the error in a body. None if it has none. Never raises.

    It reads these shapes: OpenAI's `{"error": {"message", "type", "code"}}`, where only `message` is certain;
    `{"error": "text"}`; Gemini's list around the error; OpenRouter's error in a choice; FastAPI's and vLLM's
    `{"detail": …}` and `{"message": …}`; `{"code", "msg"}`; MiniMax's `base_resp`; Bedrock's `__type`; text alone; and
    Gemini's and Azure's reports of a blocked prompt.
    """
    decoded = read_json(body)
    if isinstance(decoded, list) and decoded:
        decoded = decoded[0]
    if isinstance(decoded, str):
        return ProviderError(one_line(decoded))
    if not isinstance(decoded, dict):
        return None
    places = (decoded.get("error"), decoded.get("errors"), *_of_choices(decoded), decoded.get("base_resp"))
    error = next(filter(has_content, places), None)
    if error is None:
        blocked = _blocked(decoded)
        if blocked or not any(isinstance(decoded.get(name), str | list | dict) and decoded[name] for name in _MESSAGES):
            return blocked
        error = decoded
    if isinstance(error, list):
        error = error[0]
    if not isinstance(error, dict):
        error = {"message": error}
    codes = [
        one_line(str(value).rpartition("#")[2])[:_MAX_CODE_CHARS]  # AWS puts a service's name before the code
        for value in (*map(error.get, _CODES), decoded.get("code"))
        if isinstance(value, str | int) and not isinstance(value, bool) and value != ""
    ]
    param = error.get("param")
    return ProviderError(
        one_line(_message(error)),
        next(iter(codes), ""),
        frozenset(code.lower() for code in codes),
        param if isinstance(param, str) else "",
    )


def _of_choices(decoded: dict[str, Any]) -> Iterator[Any]:
    choices = decoded.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict):
            yield choice.get("error")


def _blocked(decoded: dict[str, Any]) -> ProviderError | None:
    """Return an error if Gemini (`promptFeedback`) or Azure (`prompt_filter_results`) blocked the prompt."""
    feedback = decoded.get("promptFeedback") or decoded.get("prompt_feedback")
    if isinstance(feedback, dict):
        reason = feedback.get("blockReason") or feedback.get("block_reason")
        if isinstance(reason, str | int) and reason:
            message = feedback.get("blockReasonMessage") or feedback.get("block_reason_message")
            why = one_line(": ".join(text for text in (str(reason), message) if isinstance(text, str)))
            return ProviderError(f"the prompt was blocked: {why}", BLOCKED, frozenset({BLOCKED}))
    results = decoded.get("prompt_filter_results") or decoded.get("prompt_annotations")
    filters = sorted({*_filtered(results), *_rated(feedback)})
    if filters:
        return ProviderError(f"the prompt was blocked: {one_line(', '.join(filters))}", BLOCKED, frozenset({BLOCKED}))
    return None


def _filtered(value: Any) -> Iterator[str]:
    """Yield the names of the Azure filters that blocked the prompt."""
    if isinstance(value, list):
        for part in value:
            yield from _filtered(part)
    elif isinstance(value, dict):
        for name, part in value.items():
            if isinstance(part, dict) and part.get("filtered") is True:
                yield name
            yield from _filtered(part)


def _rated(feedback: Any) -> Iterator[str]:
    """Yield the categories for which Gemini blocked the prompt."""
    ratings = feedback.get("safetyRatings") or feedback.get("safety_ratings") if isinstance(feedback, dict) else None
    for rating in ratings if isinstance(ratings, list) else ():
        if isinstance(rating, dict) and rating.get("blocked") is True:
            yield str(rating.get("category"))


def _message(error: dict[str, Any]) -> str:
    """Return an error's message. OpenRouter's message is followed by that of the provider behind OpenRouter."""
    message = next((error[name] for name in _MESSAGES if error.get(name)), error)
    if isinstance(message, dict) and isinstance(message.get("detail"), list):  # Mistral
        message = message["detail"]
    if isinstance(message, list):
        message = "; ".join(map(_finding, message))
    metadata = error.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    return f"{_as_text(message)}: {raw}" if isinstance(raw, str) else _as_text(message)


def _finding(part: Any) -> str:
    """Return the location and the message of one of FastAPI's validation errors, without the input that it repeats."""
    if not isinstance(part, dict) or not isinstance(part.get("msg"), str):
        return _as_text(part)
    place = part.get("loc")
    steps = [str(step) for step in place if step != "body"] if isinstance(place, list) else []
    return ": ".join(filter(None, [".".join(steps), part["msg"]]))


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else nonempty_json(value) or "null"


def body_as_text(exchange: Exchange) -> str:
    """Return a message for an error whose body is not JSON: the body as one line, or a note that it is a web page."""
    if is_web_page(exchange):
        return f"HTTP {exchange.status} with a web page"
    return one_line(exchange.body[: 4 * _MAX_MESSAGE_CHARS].decode("utf-8", "replace"))


def is_web_page(exchange: Exchange) -> bool:
    """Return whether a body is HTML, judging by its first bytes and its content type."""
    start = exchange.body[:200].lstrip(b"\xef\xbb\xbf \t\r\n")
    return start.startswith(b"<") or ("html" in exchange.content_type.lower() and not start.startswith((b"{", b"[")))


def one_line(text: str) -> str:
    """Return text as one printable line, cut to `_MAX_MESSAGE_CHARS`."""
    text = " ".join(text[: 4 * _MAX_MESSAGE_CHARS].encode("utf-8", "replace").decode().split())
    text = "".join(char for char in text if char.isprintable())
    return text if len(text) <= _MAX_MESSAGE_CHARS else text[: _MAX_MESSAGE_CHARS - 1] + "…"
