"""What the stand-in says: bodies in AiHubMix's shapes."""

from __future__ import annotations

import functools
import hashlib
import itertools
import secrets
import time
from collections.abc import Iterator

import msgspec

from batchmix.rehearsal.behaviour import Behaviour
from batchmix.rehearsal.reply_kind import Error, Kind
from batchmix.rehearsal.request import Asked, Json

_STABLE_CREATED = 1_700_000_000
_WORDS = (
    "river", "stone", "quiet", "amber", "window", "north", "garden", "signal", "paper", "cloud", "seven",
    "harbor", "early", "copper", "meadow", "drift", "lantern", "orbit", "maple", "field", "silver", "under",
    "bright", "engine", "valley", "cotton", "winter", "letter", "bridge", "salt", "morning", "velvet", "anchor",
)  # fmt: skip
_KNOWN = len(_WORDS)
_encode = msgspec.json.Encoder().encode
_numbers = itertools.count(1)
_process = secrets.token_hex(3)


def trace_id() -> str:
    """Return a new request id, unlike those of all processes."""
    return f"{_stamp(int(time.time()))}{_process}{next(_numbers):08d}"


@functools.lru_cache(maxsize=1)
def _stamp(second: int) -> str:
    return time.strftime("%Y%m%d%H%M%S", time.localtime(second))


def error(error: Error, message: str, tid: str) -> bytes:
    """Return an error in the gateway's envelope, with its message filled in."""
    if error.trace:
        message = f"{message} ({error.trace}: {tid})"
    if error.bare:
        return _encode({"error": {"message": message}})
    return _encode({"error": {"message": message, "type": error.type, "param": "", "code": error.code}})


def answer(asked: Asked, behaviour: Behaviour, kind: Kind, tid: str) -> Json:
    """Return an answer, for any endpoint, with its messages in the kind's shape."""
    if asked.endpoint == "/v1/embeddings":
        return _embedding(asked, behaviour)
    if asked.endpoint == "/v1/responses":
        return _response(asked, behaviour, kind, tid)
    return _completion(asked, behaviour, kind, tid)


def words(asked: Asked, behaviour: Behaviour, choice: int) -> list[str]:
    """Return the words of an answer: a pure function of prompt, model, seed and choice."""
    bits = _bits(asked, behaviour, choice)
    step, places = bits[1], zip(range(_count(bits, behaviour)), itertools.cycle(bits[2:62]), strict=False)
    return [_WORDS[(bit * 7 + at * step) % _KNOWN] for at, bit in places]


def length(asked: Asked, behaviour: Behaviour) -> int:
    """Return how many words an answer has."""
    said = _count(_bits(asked, behaviour, 0), behaviour)
    return said if asked.most is None else min(said, asked.most)


def charge(asked: Asked, behaviour: Behaviour) -> int:
    """Return the tokens that a request is charged: its prompt's and, for each choice, its cap or else its words."""
    if asked.endpoint == "/v1/embeddings":
        return asked.prompt_tokens
    if asked.most is not None:
        return asked.prompt_tokens + asked.most * asked.n
    return asked.prompt_tokens + sum(_count(_bits(asked, behaviour, choice), behaviour) for choice in range(asked.n))


def _bits(asked: Asked, behaviour: Behaviour, choice: int) -> bytes:
    source = b"\0".join((asked.canonical, asked.model.encode(), str(behaviour.seed).encode(), str(choice).encode()))
    return hashlib.blake2b(source).digest()


def _count(bits: bytes, behaviour: Behaviour) -> int:
    return 1 + bits[0] * 2 * (behaviour.words - 1) // 255


def _completion(asked: Asked, behaviour: Behaviour, kind: Kind, tid: str) -> Json:
    chat = asked.endpoint == "/v1/chat/completions"
    choices, used, thought = [], 0, 0
    for index in range(asked.n):
        text, count, reason = _said(asked, behaviour, kind, index)
        used += count
        choice: Json = {"index": index, "finish_reason": reason}
        if chat:
            message, instead = _message(kind, text, index)
            choice = {"index": index, "message": message, "finish_reason": instead or reason}
            thought += len(message.get("reasoning_content", "").split())
        else:
            choice["text"] = text
        choices.append(choice)
    name = hashlib.blake2b(asked.canonical + asked.model.encode(), digest_size=12).hexdigest()
    prompt, used = asked.prompt_tokens, used + thought
    return {
        "id": f"chatcmpl-{name if behaviour.stable else tid}",
        "object": "chat.completion" if chat else "text_completion",
        "created": _STABLE_CREATED if behaviour.stable else int(time.time()),
        "model": asked.model,
        "choices": choices,
        "system_fingerprint": "fp_rehearsal",
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": used,
            "total_tokens": prompt + used,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": thought},
        },
    }


def _said(asked: Asked, behaviour: Behaviour, kind: Kind, index: int) -> tuple[str, int, str]:
    """Return a choice's text, how many words it has, and why it ends."""
    said = asked.prompt.split() if kind.echoes else words(asked, behaviour, index)
    if asked.most is not None and len(said) > asked.most:
        return " ".join(said[: asked.most]), asked.most, "length"
    return asked.prompt if kind.echoes else " ".join(said), len(said), "stop"


def _message(kind: Kind, text: str, index: int) -> tuple[Json, str | None]:
    shape = kind.shape
    if shape is None:
        return {"role": "assistant", "content": text}, None
    message, reason = shape(text, index)
    return {"role": "assistant", **message}, reason


def _response(asked: Asked, behaviour: Behaviour, kind: Kind, tid: str) -> Json:
    text, said, reason = _said(asked, behaviour, kind, 0)
    message, instead = _message(kind, text, 0)
    thought = len(message.get("reasoning_content", "").split())
    why = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(instead or reason)
    name = hashlib.blake2b(asked.canonical + asked.model.encode(), digest_size=12).hexdigest()
    return {
        "id": f"resp_{name if behaviour.stable else tid}",
        "object": "response",
        "created_at": _STABLE_CREATED if behaviour.stable else int(time.time()),
        "status": "incomplete" if why else "completed",
        "incomplete_details": {"reason": why} if why else None,
        "model": asked.model,
        "output": list(_items(message, "incomplete" if why else "completed")),
        "usage": {
            "input_tokens": asked.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": said + thought,
            "output_tokens_details": {"reasoning_tokens": thought},
            "total_tokens": asked.prompt_tokens + said + thought,
        },
    }


def _items(message: Json, status: str) -> Iterator[Json]:
    """Say a chat message as the output items of a response."""
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


def _embedding(asked: Asked, behaviour: Behaviour) -> Json:
    texts = asked.asked if isinstance(asked.asked, list) else [asked.asked]
    data = [
        {"object": "embedding", "index": i, "embedding": [round(behaviour.draw(text, place), 6) for place in range(8)]}
        for i, text in enumerate(texts)
    ]
    used = asked.prompt_tokens
    usage = {"prompt_tokens": used, "total_tokens": used}
    return {"object": "list", "data": data, "model": asked.model, "usage": usage}
