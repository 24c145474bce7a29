"""Turns the body of an answer into a `Completion`.

Ordinary chat completions are decoded by typed structs, which is fast. All others go through the endpoint's reader.

A new field of the answer is added in three places: to `records.Completion`, to the endpoint's reader (for chat
completions `choices.py`), and to `_Message` here. In `_ordinary` it is one of the rare fields, unless many answers have
it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from batchmix.formats.lenient_json import may_be_deep, plain_text, read_json
from batchmix.records import Completion, Usage
from batchmix.responses.choices import NORMAL_FINISH_REASONS, has_content
from batchmix.responses.endpoints import CHAT, endpoint_of
from batchmix.responses.usage import MAX_TOKENS, read_usage

_ABSENT = msgspec.Raw()
_ALL_ABSENT = (_ABSENT,) * 14
"""The values of the rare fields in `_ordinary` if an answer has none of them."""
_EMPTY = (b"", b"null", b"[]", b"{}", b'""', b"false", b"0")


class _Message(msgspec.Struct, gc=False):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: msgspec.Raw = _ABSENT
    reasoning_details: msgspec.Raw = _ABSENT
    function_call: msgspec.Raw = _ABSENT
    audio: msgspec.Raw = _ABSENT


class _OrdinaryChoice(msgspec.Struct, gc=False):
    message: _Message
    finish_reason: str | None = None
    index: int | None = None
    text: msgspec.Raw = _ABSENT
    error: msgspec.Raw = _ABSENT


class _PromptDetails(msgspec.Struct, gc=False):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_creation_tokens: int | None = None
    cached_creation_tokens: int | None = None


class _CompletionDetails(msgspec.Struct, gc=False):
    reasoning_tokens: int | None = None


class _OrdinaryUsage(msgspec.Struct, gc=False):
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
    cached_tokens: msgspec.Raw = _ABSENT
    claude_cache_creation_5_m_tokens: msgspec.Raw = _ABSENT
    claude_cache_creation_1_h_tokens: msgspec.Raw = _ABSENT


class _Chat(msgspec.Struct, gc=False):
    choices: list[_OrdinaryChoice]
    usage: _OrdinaryUsage
    model: str | None = None
    error: msgspec.Raw = _ABSENT


_decoder = msgspec.json.Decoder(_Chat)


def read_answer(body: bytes, path: str, served_model: str | None, inputs: int) -> Completion | str:
    """Return the answer in a body. If there is none, return the reason, such as "is empty" or "has no choices".

    `inputs` is the number of embeddings requested, or 0 if unknown.
    """
    endpoint = endpoint_of(path)
    if endpoint.suffix == CHAT:
        try:
            return _ordinary(_decoder.decode(body), served_model)
        except (msgspec.MsgspecError, UnicodeError, RecursionError, _Unusual):
            pass
    if not body.strip():
        return "is empty"
    decoded = read_json(body)
    if decoded is None:
        return "is no JSON, or was cut off"
    if not isinstance(decoded, dict):
        return "is no JSON object"
    if has_content(decoded.get("error")):
        return "is an error"
    answer = endpoint.read(decoded, body, inputs)
    if isinstance(answer, str):
        return answer
    has_text = bool(answer.response or answer.reasoning or answer.refusal or answer.tool_calls)
    usage = read_usage(_usage_in(decoded), has_completion_tokens=endpoint.has_completion_tokens, has_text=has_text)
    served_model = served_model or plain_text(decoded.get("model"))
    answer = msgspec.structs.replace(answer, served_model=served_model, usage=usage)
    choices = decoded.get("choices") if answer.lacks_usage else None
    return msgspec.structs.replace(answer, choices=len(choices)) if isinstance(choices, list) and choices else answer


def billed_usage(body: bytes, path: str) -> Usage | None:
    """Return the usage in a body that has no answer. None if it is missing or incomplete. Never raises."""
    decoded = read_json(body)
    if not isinstance(decoded, dict):
        return None
    has_completion_tokens = endpoint_of(path).has_completion_tokens
    usage = read_usage(_usage_in(decoded), has_completion_tokens=has_completion_tokens, has_text=False)
    return usage if usage.prompt_tokens and usage.completion_tokens is not None else None


def _usage_in(decoded: dict[str, Any]) -> Any:
    return decoded.get("usage") or decoded.get("usageMetadata") or decoded.get("usage_metadata")


class _Unusual(Exception):
    """Raised for an answer with something that only the endpoint's reader can read."""


def _ordinary(chat: _Chat, served_model: str | None) -> Completion:
    if not chat.choices:
        raise _Unusual
    choice, usage = chat.choices[0], chat.usage
    message = choice.message
    rare = (
        chat.error, choice.error, choice.text, message.reasoning_details, message.function_call, message.audio,
        usage.claude_cache_tokens_details, usage.prompt_cache_hit_tokens, usage.cache_read_input_tokens,
        usage.cache_creation_input_tokens, usage.cache_creation, usage.cached_tokens,
        usage.claude_cache_creation_5_m_tokens, usage.claude_cache_creation_1_h_tokens,
    )  # fmt: skip
    if rare != _ALL_ABSENT and any(map(_is_present, rare)):
        raise _Unusual
    if choice.index or choice.finish_reason not in NORMAL_FINISH_REASONS:
        raise _Unusual
    if usage.completion_tokens < (1 if message.content else 0):
        raise _Unusual
    return Completion(
        message.content,
        message.reasoning_content or message.reasoning,
        message.refusal,
        _raw_text(message.tool_calls) if message.tool_calls is not _ABSENT else None,
        choice.finish_reason,
        served_model or chat.model,
        _ordinary_usage(usage),
    )


def _ordinary_usage(usage: _OrdinaryUsage) -> Usage:
    """Convert the usage of an ordinary answer.

    Raises `_Unusual` if the counts contradict each other, or if tokens were written to a cache. The caller then uses
    the endpoint's reader, which is slow and tolerant.
    """
    prompt_tokens, completion_tokens, total_tokens = usage.prompt_tokens, usage.completion_tokens, usage.total_tokens
    if prompt_tokens <= 0 or not prompt_tokens + completion_tokens == total_tokens <= MAX_TOKENS:
        raise _Unusual
    cached = reasoning = None
    if prompt := usage.prompt_tokens_details:
        cached = prompt.cached_tokens
        if prompt.cache_write_tokens or prompt.cache_creation_tokens or prompt.cached_creation_tokens:
            raise _Unusual
        if not 0 <= (cached or 0) <= prompt_tokens:
            raise _Unusual
    if completion := usage.completion_tokens_details:
        reasoning = completion.reasoning_tokens
        if not 0 <= (reasoning or 0) <= completion_tokens:
            raise _Unusual
    return Usage(prompt_tokens, completion_tokens, total_tokens, cached, reasoning)


def _is_present(raw: msgspec.Raw) -> bool:
    return raw is not _ABSENT and bytes(raw) not in _EMPTY


def _raw_text(raw: msgspec.Raw) -> str | None:
    if not _is_present(raw):
        return None
    text = bytes(raw)
    if may_be_deep(text):
        raise _Unusual
    return text.decode()
