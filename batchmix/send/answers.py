"""From the bytes of an answer to a `Completion`: typed decoding first, tolerant extraction where that refuses."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import msgspec

from batchmix.records import Completion, Usage
from batchmix.send.usage import count, read_usage

_LONGEST_INT = 4000
"""Digits; Python refuses to read more than 4,300."""

_ABSENT = msgspec.Raw()
_NONE_OF_THEM = (_ABSENT,) * 7
_NOTHING = (b"", b"null", b"[]", b"{}", b'""', b"false", b"0")


class _Message(msgspec.Struct, gc=False):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: msgspec.Raw = _ABSENT
    reasoning_details: msgspec.Raw = _ABSENT


class _Choice(msgspec.Struct, gc=False):
    message: _Message
    finish_reason: str | None = None


class _PromptDetails(msgspec.Struct, gc=False):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_creation_tokens: int | None = None
    cached_creation_tokens: int | None = None

    def unusual(self, prompt_tokens: int) -> bool:
        """Return whether anything was written to a cache, or a count can't be one of a prompt's own tokens."""
        written = self.cache_write_tokens or self.cache_creation_tokens or self.cached_creation_tokens
        return bool(written) or not 0 <= (self.cached_tokens or 0) <= prompt_tokens


class _CompletionDetails(msgspec.Struct, gc=False):
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    claude_cache_tokens_details: msgspec.Raw = _ABSENT
    prompt_cache_hit_tokens: msgspec.Raw = _ABSENT
    cache_read_input_tokens: msgspec.Raw = _ABSENT
    cache_creation_input_tokens: msgspec.Raw = _ABSENT
    cache_creation: msgspec.Raw = _ABSENT


class _Chat(msgspec.Struct, gc=False):
    choices: list[_Choice]
    usage: _Usage
    model: str | None = None
    error: msgspec.Raw = _ABSENT


_decoder = msgspec.json.Decoder(_Chat)


def read_answer(body: bytes, path: str, served_model: str | None) -> Completion | str:
    """Return the answer in a body, or in words what it lacks ("is empty", "has no choices"). Never raises."""
    if path.endswith("/chat/completions"):
        try:
            return _ordinary(_decoder.decode(body), served_model)
        except (msgspec.MsgspecError, UnicodeError, RecursionError, _Unusual):
            pass
    return _tolerant(body, path, served_model)


def billed_usage(body: bytes, path: str) -> Usage | None:
    """Return the usage in a body that holds no answer, or None where it tells none. Never raises."""
    found = read_json(body)
    usage = read_usage(found.get("usage"), path, said_something=False) if isinstance(found, dict) else Usage()
    return usage if usage.prompt_tokens and usage.completion_tokens is not None else None


class _Unusual(Exception):
    """Something that the typed structs do not cover."""


def _ordinary(chat: _Chat, served_model: str | None) -> Completion:
    usage = chat.usage
    if not chat.choices:
        raise _Unusual
    choice = chat.choices[0]
    message = choice.message
    rare = (
        chat.error, message.reasoning_details, usage.claude_cache_tokens_details, usage.prompt_cache_hit_tokens,
        usage.cache_read_input_tokens, usage.cache_creation_input_tokens, usage.cache_creation,
    )  # fmt: skip
    if rare != _NONE_OF_THEM and any(map(_is_there, rare)):
        raise _Unusual
    prompt, completion = usage.prompt_tokens_details, usage.completion_tokens_details
    if usage.prompt_tokens <= 0 or usage.completion_tokens < (1 if message.content else 0):
        raise _Unusual
    if not usage.prompt_tokens + usage.completion_tokens <= usage.total_tokens < 2**63:
        raise _Unusual
    if prompt and prompt.unusual(usage.prompt_tokens):
        raise _Unusual
    return Completion(
        message.content,
        message.reasoning_content or message.reasoning,
        message.refusal,
        _raw_text(message.tool_calls) if message.tool_calls is not _ABSENT else None,
        choice.finish_reason,
        served_model or chat.model,
        Usage(
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.total_tokens,
            prompt.cached_tokens if prompt else None,
            count(completion.reasoning_tokens) if completion else None,
        ),
    )


def _is_there(raw: msgspec.Raw) -> bool:
    return raw is not _ABSENT and bytes(raw) not in _NOTHING


def _raw_text(raw: msgspec.Raw) -> str | None:
    return bytes(raw).decode() if _is_there(raw) else None


def read_json(body: bytes) -> Any:
    """Return the JSON value in a body, however strange, or None where there is none. Never raises."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        pass
    try:  # lone surrogates, NaN, a BOM, bytes that are not UTF-8
        text = body.decode("utf-8", "replace").lstrip("\ufeff")
        return json.loads(text, strict=False, parse_int=_whole)
    except (ValueError, RecursionError):
        return None


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) < _LONGEST_INT else math.inf


def _tolerant(body: bytes, path: str, served_model: str | None) -> Completion | str:
    if not body.strip():
        return "is empty"
    found = read_json(body)
    if found is None:
        return "is no JSON, or was cut off"
    if not isinstance(found, dict):
        return "is no JSON object"
    if found.get("error"):
        return "is an error"
    served_model = served_model or _text(found.get("model"))
    if not path.endswith("/completions"):
        return _counted(Completion(response=_output_text(found), served_model=served_model), found, path)
    choices = found.get("choices")
    if not isinstance(choices, list) or not choices or not all(isinstance(choice, dict) for choice in choices):
        return "has no choices"
    choice = choices[0]
    message = choice.get("message")
    if not isinstance(message, dict):
        message = {"content": choice.get("text")}
        if not isinstance(choice.get("text"), str) and not _text(choice.get("finish_reason")):
            return "has a choice with nothing in it"
    answer = Completion(
        response=_content(message.get("content")),
        reasoning=_content(message.get("reasoning_content")) or _content(message.get("reasoning"))
        or _content(message.get("reasoning_details")) or _thinking(message.get("content")),
        refusal=_text(message.get("refusal")),
        tool_calls=json_text(message.get("tool_calls")),
        finish_reason=_text(choice.get("finish_reason")),
        served_model=served_model,
    )  # fmt: skip
    return _counted(answer, found, path)


def _counted(answer: Completion, found: dict[str, Any], path: str) -> Completion:
    """Return an answer with the usage that its body tells."""
    said = bool(answer.response or answer.reasoning or answer.refusal or answer.tool_calls)
    return msgspec.structs.replace(answer, usage=read_usage(found.get("usage"), path, said_something=said))


def _text(value: Any) -> str | None:
    """Return a string that Parquet takes: lone surrogates become U+FFFD."""
    if not isinstance(value, str):
        return None
    return re.sub("[\ud800-\udfff]", "\ufffd", value)


def _content(value: Any) -> str | None:
    """Return the text of a content, which may come as a list of parts."""
    if isinstance(value, list):
        texts = [
            part.get("text") or part.get("summary") if isinstance(part, dict)
            else _content(part) if isinstance(part, list) else part
            for part in value
        ]  # fmt: skip
        found = [text for text in texts if isinstance(text, str)]
        return _text("".join(found)) if found else None
    return _text(value)


def _thinking(content: Any) -> str | None:
    """Return what was thought where that stands among the parts of the content, as Mistral has it."""
    parts = content if isinstance(content, list) else []
    return _content([part["thinking"] for part in parts if isinstance(part, dict) and "thinking" in part])


def json_text(value: Any) -> str | None:
    """Return a value out of JSON as JSON again, or None for an empty one. Never raises."""
    if not value:
        return None
    try:
        return json.dumps(value)  # ASCII: lone surrogates stay escaped, and integers may be of any size
    except (ValueError, RecursionError):
        return None


def _output_text(found: dict[str, Any]) -> str | None:
    """Return the text of an answer of the Responses API; other endpoints have none."""
    output = found.get("output")
    if not isinstance(output, list):
        return None
    texts = [
        _content(item.get("content"))
        for item in output
        if isinstance(item, dict) and item.get("type", "message") == "message"
    ]
    return "".join(text for text in texts if text) or None
