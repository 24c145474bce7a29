"""The answer in the `choices` of a completion, however oddly it is put.

The `openai` package hands out what stands in the first choice of the list, of whatever type. Here the choice with index
0 counts, since lists come in other orders too; a content is always text, since it is a column; and what is said in
parts, in a `delta`, as speech or in `text` beside an empty message is said all the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from batchmix.formats.lenient_json import json_text, plain_text
from batchmix.records import Completion
from batchmix.responses.usage import count

WHOLE_OR_CUT = frozenset({None, "stop", "length", "tool_calls", "content_filter", "function_call"})
"""OpenAI's own finish reasons, none of which tells of trouble."""
_TROUBLE = re.compile(
    "error|abort|cancel|fail|time.?(?:d.)?out|overload|unavailable|rate.?limit|interrupt|disconnect|malformed"
    "|insufficient.system.resource",
    re.IGNORECASE,
)
"""In the words of OpenRouter, vLLM, Zhipu, DeepSeek, Cohere, Gemini and of gateways before them."""
_NOT_SAID = frozenset({"thinking", "redacted_thinking", "reasoning", "refusal", "tool_use", "tool_call"})
"""Parts of a content that are no part of the response."""
_TEXTS = ("text", "output_text")
_SAYS_NOTHING = (None, "", "stop", "null")
"""Finish reasons that don't explain why there is nothing."""


def read_choices(found: dict[str, Any], _body: bytes, _inputs: int) -> Completion | str:
    """Return the first choice of an answer, by its index, or in words what is wrong with it."""
    choices = found.get("choices")
    known = [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []
    if not known:
        return "has no choices"
    choice = min(known, key=lambda choice: (index_of(choice, 0), count(choice.get("index")) is None))
    reason = plain_text(choice.get("finish_reason"))
    if is_error_reason(reason) or has_content(choice.get("error")):
        return "ended with an error"
    message = next((given for name in ("message", "delta") if (given := _message(choice.get(name))) is not None), None)
    if message is None and not isinstance(choice.get("text"), str) and reason in _SAYS_NOTHING:
        return "has a choice with nothing in it"
    return _completion(message or {}, choice.get("text"), reason)


def is_error_reason(reason: str | None) -> bool:
    """Return whether by its finish reason, or its status, an answer ended before it was one."""
    return reason not in WHOLE_OR_CUT and _TROUBLE.search(reason or "") is not None


def has_content(error: Any) -> bool:
    """Return whether an `error` holds anything but empty fields."""
    if isinstance(error, dict):
        return any(map(has_content, error.values()))
    if isinstance(error, list):
        return any(map(has_content, error))
    return bool(error.strip() if isinstance(error, str) else error)


def index_of(item: dict[str, Any], place: int) -> int:
    """Return where an item of a list belongs by its own index, which may come as text; else its place."""
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
        reasoning=said(message.get("reasoning_content")) or said(message.get("reasoning"))
        or said(message.get("reasoning_details")) or _thinking(content),
        refusal=plain_text(message.get("refusal")) or refused(content),
        tool_calls=json_text(message.get("tool_calls")) or _called(message.get("function_call"), content),
        finish_reason=reason,
    )  # fmt: skip


def content_text(value: Any) -> str | None:
    """Return a content as text: what it says, or what it is in JSON where it says nothing in words."""
    if value is None or isinstance(value, str):
        return plain_text(value)
    if isinstance(value, list):
        kept = [part for part in value if not (isinstance(part, dict) and part.get("type") in _NOT_SAID)]
        return said(value) or json_text(kept, readable=True)
    if isinstance(value, dict) and value.get("type") in _TEXTS:
        return said(value)
    text = json_text([value], readable=True)
    return text and text[1:-1]


def said(value: Any) -> str | None:
    """Return the text of a content, which may come as a part or a list of parts."""
    found = list(_texts(value))
    return plain_text("".join(found)) if found else None


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts of parts, which may be lists of parts; they are nested no deeper than JSON is read."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)
    elif isinstance(value, dict):
        text = value.get("text") or value.get("summary")
        yield from _texts(text.get("value") if isinstance(text, dict) else text)


def refused(content: Any) -> str | None:
    """Return the refusal among the parts of a content."""
    parts = content if isinstance(content, list) else []
    texts = [part["refusal"] for part in parts if isinstance(part, dict) and isinstance(part.get("refusal"), str)]
    return plain_text("".join(texts)) if texts else None


def _thinking(content: Any) -> str | None:
    """Return what was thought where that stands among the parts of the content, as Mistral and Claude have it."""
    parts = content if isinstance(content, list) else []
    return said([part["thinking"] for part in parts if isinstance(part, dict) and "thinking" in part])


def _called(function: Any, content: Any) -> str | None:
    """Return the call of a function as OpenAI had it before tools, or as Claude has it among the parts."""
    if function:
        return json_text([{"type": "function", "function": function}])
    parts = content if isinstance(content, list) else []
    return json_text([part for part in parts if isinstance(part, dict) and part.get("type") == "tool_use"])
