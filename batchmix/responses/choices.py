"""Reads the answer in the `choices` of a completion, in all the shapes that providers use.

The `openai` package returns the content of the first choice in the list, whatever its type. Here the choice with the
lowest index counts, since some providers list choices in another order. The content is always turned into text, since
it becomes a text column. The text may also be in parts, in a `delta`, in the transcript of speech, or in `text` beside
an empty message.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from batchmix.formats.lenient_json import nonempty_json, plain_text
from batchmix.records import Completion
from batchmix.responses.usage import count

NORMAL_FINISH_REASONS = frozenset({None, "stop", "length", "tool_calls", "content_filter", "function_call"})
"""The finish reasons that never mean an error: OpenAI's, and None for an answer without one."""
_ERROR_REASON = re.compile(
    "error|abort|cancel|fail|time.?(?:d.)?out|overload|unavailable|rate.?limit|interrupt|disconnect|malformed"
    "|insufficient.system.resource",
    re.IGNORECASE,
)
"""Matches the finish reasons that mean an error at OpenRouter, vLLM, Zhipu, DeepSeek, Cohere, Gemini and gateways."""
_NO_RESPONSE_TYPES = frozenset({"thinking", "redacted_thinking", "reasoning", "refusal", "tool_use", "tool_call"})
"""The types of content parts that are not part of the response."""
_TEXT_TYPES = ("text", "output_text")
_NO_EXPLANATION = (None, "", "stop", "null")
"""Finish reasons that do not explain why an answer is empty."""


def read_choices(decoded: dict[str, Any], _body: bytes, _inputs: int) -> Completion | str:
    """Return the answer in the choice with the lowest index.

    If there is none, return the reason as the end of a sentence, such as "has no choices".
    """
    choices = decoded.get("choices")
    objects = [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []
    if not objects:
        return "has no choices"
    choice = min(objects, key=lambda choice: (index_of(choice, 0), count(choice.get("index")) is None))
    reason = plain_text(choice.get("finish_reason"))
    if is_error_reason(reason) or has_content(choice.get("error")):
        return "ended with an error"
    message = next((given for name in ("message", "delta") if (given := _message(choice.get(name))) is not None), None)
    if message is None and not isinstance(choice.get("text"), str) and reason in _NO_EXPLANATION:
        return "has a choice with nothing in it"
    return _completion(message or {}, choice.get("text"), reason)


def is_error_reason(reason: str | None) -> bool:
    """Return whether a finish reason or a status means that the answer ended with an error."""
    return reason not in NORMAL_FINISH_REASONS and _ERROR_REASON.search(reason or "") is not None


def has_content(error: Any) -> bool:
    """Return whether the value of an `error` field has any field that is not empty."""
    if isinstance(error, dict):
        return any(map(has_content, error.values()))
    if isinstance(error, list):
        return any(map(has_content, error))
    return bool(error.strip() if isinstance(error, str) else error)


def index_of(item: dict[str, Any], place: int) -> int:
    """Return a list item's `index`, which may be a number or text.

    If it has none, return `place`, its position in the list.
    """
    index = count(item.get("index"))
    return place if index is None else index


def _message(value: Any) -> dict[str, Any] | None:
    if isinstance(value, str):
        return {"content": value}
    return value if isinstance(value, dict) else None


def _completion(message: dict[str, Any], text: Any, reason: str | None) -> Completion:
    content = message.get("content")
    audio = message.get("audio")
    return Completion(
        response=content_text(content if content not in (None, "", []) or text is None else text)
        or (plain_text(audio.get("transcript")) if isinstance(audio, dict) else None)
        or ("" if content == "" else None),
        reasoning=text_in(message.get("reasoning_content")) or text_in(message.get("reasoning"))
        or text_in(message.get("reasoning_details")) or _thinking(content),
        refusal=plain_text(message.get("refusal")) or refusal_in(content),
        tool_calls=nonempty_json(message.get("tool_calls")) or _function_calls(message.get("function_call"), content),
        finish_reason=reason,
    )  # fmt: skip


def content_text(value: Any) -> str | None:
    """Return a message's content as text: its text, or its JSON if it has no text."""
    if value is None or isinstance(value, str):
        return plain_text(value)
    if isinstance(value, list):
        skipped = {*_NO_RESPONSE_TYPES, *_TEXT_TYPES}  # a part for text without any says nothing
        kept = [part for part in value if not (isinstance(part, dict) and part.get("type") in skipped)]
        return text_in(value) or nonempty_json(kept, readable=True)
    if isinstance(value, dict) and value.get("type") in _TEXT_TYPES:
        return text_in(value)
    text = nonempty_json([value], readable=True)
    return text and text[1:-1]


def text_in(value: Any) -> str | None:
    """Return the joined text of a value that is text, a content part, or a list of parts. None if it has no text."""
    texts = list(_texts(value))
    return plain_text("".join(texts)) if texts else None


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts of content parts. The recursion is bounded, since `read_json` limits the depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)
    elif isinstance(value, dict):
        text = value.get("text") or value.get("summary")
        yield from _texts(text.get("value") if isinstance(text, dict) else text)


def refusal_in(content: Any) -> str | None:
    """Return the refusal in a message's content. None if the content is not a list of parts, or has no refusal."""
    parts = content if isinstance(content, list) else []
    texts = [part["refusal"] for part in parts if isinstance(part, dict) and isinstance(part.get("refusal"), str)]
    return plain_text("".join(texts)) if texts else None


def _thinking(content: Any) -> str | None:
    """Return the reasoning in a list of content parts, as Mistral and Claude send it."""
    parts = content if isinstance(content, list) else []
    return text_in([part["thinking"] for part in parts if isinstance(part, dict) and "thinking" in part])


def _function_calls(function: Any, content: Any) -> str | None:
    """Return the function calls in OpenAI's older field `function_call`, or else those among Claude's content parts."""
    if function:
        return nonempty_json([{"type": "function", "function": function}])
    parts = content if isinstance(content, list) else []
    return nonempty_json([part for part in parts if isinstance(part, dict) and part.get("type") == "tool_use"])
