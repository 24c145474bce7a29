"""Reads the answer in the `choices` of a completion, in all the shapes that providers use.

This differs from the `openai` package, which returns the content of the first choice in the list, whatever its type.
Here the choice with index 0 counts, since some providers list choices in another order. The content is always turned
into text, since it becomes a text column. It is also found in parts, in a `delta`, in the transcript of speech, and in
`text` beside an empty message.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from batchmix.formats.lenient_json import json_text, plain_text
from batchmix.records import Completion
from batchmix.responses.usage import count

WHOLE_OR_CUT = frozenset({None, "stop", "length", "tool_calls", "content_filter", "function_call"})
"""OpenAI's finish reasons and a missing one; none of them means an error."""
_ERROR_REASON = re.compile(
    "error|abort|cancel|fail|time.?(?:d.)?out|overload|unavailable|rate.?limit|interrupt|disconnect|malformed"
    "|insufficient.system.resource",
    re.IGNORECASE,
)
"""Matches the finish reasons that mean an error at OpenRouter, vLLM, Zhipu, DeepSeek, Cohere, Gemini and gateways."""
_NO_RESPONSE_TYPES = frozenset({"thinking", "redacted_thinking", "reasoning", "refusal", "tool_use", "tool_call"})
"""The types of content parts that do not belong to the response."""
_TEXT_TYPES = ("text", "output_text")
_NO_EXPLANATION = (None, "", "stop", "null")
"""Finish reasons that do not explain why an answer is empty."""


def read_choices(found: dict[str, Any], _body: bytes, _inputs: int) -> Completion | str:
    """Return the answer in the choice with the lowest index, or why there is none, such as "has no choices"."""
    choices = found.get("choices")
    found_choices = [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []
    if not found_choices:
        return "has no choices"
    choice = min(found_choices, key=lambda choice: (index_of(choice, 0), count(choice.get("index")) is None))
    reason = plain_text(choice.get("finish_reason"))
    if is_error_reason(reason) or has_content(choice.get("error")):
        return "ended with an error"
    message = next((given for name in ("message", "delta") if (given := _message(choice.get(name))) is not None), None)
    if message is None and not isinstance(choice.get("text"), str) and reason in _NO_EXPLANATION:
        return "has a choice with nothing in it"
    return _completion(message or {}, choice.get("text"), reason)


def is_error_reason(reason: str | None) -> bool:
    """Return whether a finish reason or a status means that the answer ended with an error."""
    return reason not in WHOLE_OR_CUT and _ERROR_REASON.search(reason or "") is not None


def has_content(error: Any) -> bool:
    """Return whether the value of an `error` field has any field that is not empty."""
    if isinstance(error, dict):
        return any(map(has_content, error.values()))
    if isinstance(error, list):
        return any(map(has_content, error))
    return bool(error.strip() if isinstance(error, str) else error)


def index_of(item: dict[str, Any], place: int) -> int:
    """Return a list item's `index`, a number or a number as text; `place` if it has none."""
    index = count(item.get("index"))
    return place if index is None else index


def _message(found: Any) -> dict[str, Any] | None:
    if isinstance(found, str):
        return {"content": found}
    return found if isinstance(found, dict) else None


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
        tool_calls=json_text(message.get("tool_calls")) or _function_calls(message.get("function_call"), content),
        finish_reason=reason,
    )  # fmt: skip


def content_text(value: Any) -> str | None:
    """Return a message's content as text: its text, or its JSON if it has no text."""
    if value is None or isinstance(value, str):
        return plain_text(value)
    if isinstance(value, list):
        kept = [part for part in value if not (isinstance(part, dict) and part.get("type") in _NO_RESPONSE_TYPES)]
        return text_in(value) or json_text(kept, readable=True)
    if isinstance(value, dict) and value.get("type") in _TEXT_TYPES:
        return text_in(value)
    text = json_text([value], readable=True)
    return text and text[1:-1]


def text_in(value: Any) -> str | None:
    """Return the joined text of a value that is text, a part, or a list of parts; None if it has no text."""
    found = list(_texts(value))
    return plain_text("".join(found)) if found else None


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts of parts. The recursion is bounded, since `read_json` bounds the depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)
    elif isinstance(value, dict):
        text = value.get("text") or value.get("summary")
        yield from _texts(text.get("value") if isinstance(text, dict) else text)


def refusal_in(content: Any) -> str | None:
    """Return the refusal in a content that is a list of parts; None if it has none."""
    parts = content if isinstance(content, list) else []
    texts = [part["refusal"] for part in parts if isinstance(part, dict) and isinstance(part.get("refusal"), str)]
    return plain_text("".join(texts)) if texts else None


def _thinking(content: Any) -> str | None:
    """Return the reasoning in a content that is a list of parts, as from Mistral and Claude."""
    parts = content if isinstance(content, list) else []
    return text_in([part["thinking"] for part in parts if isinstance(part, dict) and "thinking" in part])


def _function_calls(function: Any, content: Any) -> str | None:
    """Return function calls in OpenAI's older form, or in Claude's, which is a part of the content."""
    if function:
        return json_text([{"type": "function", "function": function}])
    parts = content if isinstance(content, list) else []
    return json_text([part for part in parts if isinstance(part, dict) and part.get("type") == "tool_use"])
