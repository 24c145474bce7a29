"""Builds the JSON bodies of replies in AiHubMix's format."""

from __future__ import annotations

import functools
import hashlib
import itertools
import re
import secrets
import time
from collections.abc import Iterator
from random import Random

import msgspec

from batchmix.rehearsal.answer_pool import PooledAnswer, pool_of
from batchmix.rehearsal.asked_schema import AskedSchema
from batchmix.rehearsal.behaviour import Behaviour
from batchmix.rehearsal.misfits import FittingAnswer
from batchmix.rehearsal.reply_kind import ErrorBody, ReplyKind
from batchmix.rehearsal.request import Json, RehearsalRequest
from batchmix.rehearsal.string_value import WORDS

_STABLE_CREATED = 1_700_000_000
_WORD = re.compile(r"\S+")
_encode = msgspec.json.Encoder().encode
_numbers = itertools.count(1)
_process = secrets.token_hex(3)


def trace_id() -> str:
    """Return a new request id, which is unique even across processes."""
    return f"{_stamp(int(time.time()))}{_process}{next(_numbers):08d}"


@functools.lru_cache(maxsize=1)
def _stamp(second: int) -> str:
    return time.strftime("%Y%m%d%H%M%S", time.localtime(second))


def error(error: ErrorBody, message: str, tid: str) -> bytes:
    """Return the body of an error in the gateway's format."""
    if error.trace:
        message = f"{message} ({error.trace}: {tid})"
    if error.bare:
        return _encode({"error": {"message": message}})
    return _encode({"error": {"message": message, "type": error.type, "param": error.param, "code": error.code}})


def answer(request: RehearsalRequest, behaviour: Behaviour, kind: ReplyKind, tid: str) -> Json:
    """Return the body of an answer in the format of its endpoint. The kind of reply may change its messages."""
    if request.endpoint == "/v1/embeddings":
        return _embedding(request, behaviour)
    if request.endpoint == "/v1/responses":
        return _response(request, behaviour, kind, tid)
    return _completion(request, behaviour, kind, tid)


def words(request: RehearsalRequest, behaviour: Behaviour, choice: int) -> list[str]:
    """Return the pseudo-random words of one choice. They depend only on prompt, model, seed and choice."""
    bits = _bits(request, behaviour, choice)
    step, places = bits[1], zip(range(_count(bits, behaviour)), itertools.cycle(bits[2:62]), strict=False)
    return [WORDS[(bit * 7 + at * step) % len(WORDS)] for at, bit in places]


def length(request: RehearsalRequest, behaviour: Behaviour) -> int:
    """Return the number of words in the first choice of an answer."""
    count = _whole_count(request, behaviour, 0)
    return count if request.max_tokens is None else min(count, request.max_tokens)


def charge(request: RehearsalRequest, behaviour: Behaviour, unit: str) -> int:
    """Return how much a request takes from a limit of a unit, one of `option_values.UNITS`."""
    if unit == "requests":
        return 1
    if unit == "input_tokens" or request.endpoint == "/v1/embeddings":
        return request.prompt_tokens
    most = request.max_tokens
    if unit == "tokens" and most is not None:
        return request.prompt_tokens + most * request.n
    counts = (_whole_count(request, behaviour, choice) for choice in range(request.n))
    return request.prompt_tokens + sum(count if most is None else min(count, most) for count in counts)


def _bits(request: RehearsalRequest, behaviour: Behaviour, choice: int) -> bytes:
    source = b"\0".join((request.canonical, request.model.encode(), str(behaviour.seed).encode(), str(choice).encode()))
    return hashlib.blake2b(source).digest()


def _count(bits: bytes, behaviour: Behaviour) -> int:
    return 1 + bits[0] * 2 * (behaviour.words - 1) // 255


def _whole_count(request: RehearsalRequest, behaviour: Behaviour, choice: int) -> int:
    """Return the number of words in a choice that no `max_tokens` cuts off."""
    bits = _bits(request, behaviour, choice)
    return _count(bits, behaviour) if request.asked is None else _pooled(request.asked, bits).words


def _pooled(asked: AskedSchema, bits: bytes) -> PooledAnswer:
    """Return an answer that fits the schema a request asks for, by the bits of request, seed and choice."""
    return pool_of(asked.schema).answer(int.from_bytes(bits[:8]))


def _completion(request: RehearsalRequest, behaviour: Behaviour, kind: ReplyKind, tid: str) -> Json:
    chat = request.endpoint == "/v1/chat/completions"
    choices, used, reasoning_tokens = [], 0, 0
    for index in range(request.n):
        text, count, reason = _text(request, behaviour, kind, index)
        used += count
        choice: Json = {"index": index, "finish_reason": reason}
        if chat:
            message, finish_override = _message(request, kind, text, index)
            choice = {"index": index, "message": message, "finish_reason": finish_override or reason}
            reasoning_tokens += len(message.get("reasoning_content", "").split())
        else:
            choice["text"] = text
        choices.append(choice)
    name = hashlib.blake2b(request.canonical + request.model.encode(), digest_size=12).hexdigest()
    prompt, used = request.prompt_tokens, used + reasoning_tokens
    return {
        "id": f"chatcmpl-{name if behaviour.stable else tid}",
        "object": "chat.completion" if chat else "text_completion",
        "created": _STABLE_CREATED if behaviour.stable else int(time.time()),
        "model": request.model,
        "choices": choices,
        "system_fingerprint": "fp_rehearsal",
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": used,
            "total_tokens": prompt + used,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": reasoning_tokens},
        },
    }


def _text(request: RehearsalRequest, behaviour: Behaviour, kind: ReplyKind, index: int) -> tuple[str, int, str]:
    """Return a choice's text, its number of words, and its finish_reason."""
    if request.asked is not None and not kind.echoes:
        bits = _bits(request, behaviour, index)
        pooled = _pooled(request.asked, bits)
        if kind.misfit is None:
            return _capped(pooled.text, pooled.words, request.max_tokens, request.asked.finish_reason)
        fitting = FittingAnswer(pooled.text, pooled.schema, Random(bits), request.max_tokens, behaviour.needs_tokens)
        text, reason = kind.misfit(fitting)
        return _capped(text, len(text.split()), request.max_tokens, reason or request.asked.finish_reason)
    if request.verdict is not None and not kind.echoes:
        bits = _bits(request, behaviour, index)
        spoken = words(request, behaviour, index)
        text = f"{' '.join(spoken)}\n\n{request.verdict.ending(int.from_bytes(bits[:8]))}"
        return _capped(text, len(spoken) + 2, request.max_tokens, "stop")
    answer = request.prompt.split() if kind.echoes else words(request, behaviour, index)
    if request.max_tokens is not None and len(answer) > request.max_tokens:
        return " ".join(answer[: request.max_tokens]), request.max_tokens, "length"
    return request.prompt if kind.echoes else " ".join(answer), len(answer), "stop"


def _capped(text: str, words: int, max_tokens: int | None, finish_reason: str) -> tuple[str, int, str]:
    """Return a text up to its last word that `max_tokens` allows, with its spaces, as `_text` returns it."""
    if max_tokens is None or words <= max_tokens:
        return text, words, finish_reason
    *_, last = itertools.islice(_WORD.finditer(text), max_tokens)
    return text[: last.end()], max_tokens, "length"


def _message(request: RehearsalRequest, kind: ReplyKind, text: str, index: int) -> tuple[Json, str | None]:
    if kind.make_message is not None:
        message, reason = kind.make_message(text, index)
        return {"role": "assistant", **message}, reason
    if request.asked is not None and request.asked.tool:
        function = {"name": request.asked.tool, "arguments": text}
        call = {"id": f"call_{index}", "type": "function", "function": function}
        return {"role": "assistant", "content": None, "tool_calls": [call]}, None
    return {"role": "assistant", "content": text}, None


def _response(request: RehearsalRequest, behaviour: Behaviour, kind: ReplyKind, tid: str) -> Json:
    text, count, reason = _text(request, behaviour, kind, 0)
    message, finish_override = _message(request, kind, text, 0)
    reasoning_tokens = len(message.get("reasoning_content", "").split())
    reasons = {"length": "max_output_tokens", "content_filter": "content_filter"}
    incomplete_reason = reasons.get(finish_override or reason)
    status = "incomplete" if incomplete_reason else "completed"
    name = hashlib.blake2b(request.canonical + request.model.encode(), digest_size=12).hexdigest()
    return {
        "id": f"resp_{name if behaviour.stable else tid}",
        "object": "response",
        "created_at": _STABLE_CREATED if behaviour.stable else int(time.time()),
        "status": status,
        "incomplete_details": {"reason": incomplete_reason} if incomplete_reason else None,
        "model": request.model,
        "output": list(_items(message, status)),
        "usage": {
            "input_tokens": request.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": count + reasoning_tokens,
            "output_tokens_details": {"reasoning_tokens": reasoning_tokens},
            "total_tokens": request.prompt_tokens + count + reasoning_tokens,
        },
    }


def _items(message: Json, status: str) -> Iterator[Json]:
    """Yield a chat message as output items of the Responses API."""
    if "reasoning_content" in message:
        summary = [{"type": "summary_text", "text": message["reasoning_content"]}]
        yield {"type": "reasoning", "id": "rs_0", "summary": summary}
    for call in message.get("tool_calls", ()):
        yield {"type": "function_call", "id": "fc_0", "call_id": call["id"], "status": status, **call["function"]}
    content: list[Json] = []
    if message.get("content") is not None:
        content.append({"type": "output_text", "text": message["content"], "annotations": []})
    if "refusal" in message:
        content.append({"type": "refusal", "refusal": message["refusal"]})
    if content:
        yield {"type": "message", "id": "msg_0", "role": "assistant", "status": status, "content": content}


def _embedding(request: RehearsalRequest, behaviour: Behaviour) -> Json:
    texts = request.content if isinstance(request.content, list) else [request.content]
    data = [
        {"object": "embedding", "index": i, "embedding": [round(behaviour.draw(text, place), 6) for place in range(8)]}
        for i, text in enumerate(texts)
    ]
    used = request.prompt_tokens
    usage = {"prompt_tokens": used, "total_tokens": used}
    return {"object": "list", "data": data, "model": request.model, "usage": usage}
