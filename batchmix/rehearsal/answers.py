"""What the stand-in says: bodies in AiHubMix's shapes."""

from __future__ import annotations

import hashlib
import itertools
import secrets
import time

import msgspec

from batchmix.rehearsal.asking import Asked, Json
from batchmix.rehearsal.behaviour import Behaviour
from batchmix.rehearsal.kinds import KINDS

WEB_PAGE = b"<!doctype html><html><head><title>A gateway</title></head><body>Welcome</body></html>"
_STABLE_CREATED = 1_700_000_000
_WORDS = (
    "river", "stone", "quiet", "amber", "window", "north", "garden", "signal", "paper", "cloud", "seven",
    "harbor", "early", "copper", "meadow", "drift", "lantern", "orbit", "maple", "field", "silver", "under",
    "bright", "engine", "valley", "cotton", "winter", "letter", "bridge", "salt", "morning", "velvet", "anchor",
)  # fmt: skip
_encode = msgspec.json.Encoder().encode
_numbers = itertools.count(1)
_process = secrets.token_hex(3)


def trace_id() -> str:
    """Return a new request id, unlike those of all processes."""
    return f"{time.strftime('%Y%m%d%H%M%S')}{_process}{next(_numbers):08d}"


def error(message: str, kind: str, code: str | None, tid: str) -> bytes:
    """Return an error in the gateway's envelope."""
    return _encode({"error": {"message": f"{message} (tid: {tid})", "type": kind, "param": "", "code": code}})


def models(names: tuple[str, ...]) -> bytes:
    """Return the list of models."""
    data = [{"id": name, "object": "model", "created": _STABLE_CREATED, "owned_by": "rehearsal"} for name in names]
    return _encode({"object": "list", "data": data})


def answer(asked: Asked, behaviour: Behaviour, kind: str, tid: str) -> bytes:
    """Return an answer of a kind, for any endpoint."""
    if asked.endpoint == "/v1/embeddings":
        return _encode(_embedding(asked, behaviour))
    return _encode(_completion(asked, behaviour, kind, tid))


def words(asked: Asked, behaviour: Behaviour, choice: int) -> list[str]:
    """Return the words of an answer: a pure function of prompt, model, seed and choice."""
    source = b"\0".join((asked.canonical, asked.model.encode(), str(behaviour.seed).encode(), str(choice).encode()))
    bits = hashlib.blake2b(source).digest()
    count = 1 + bits[0] * 2 * (behaviour.words - 1) // 255
    return [_WORDS[(bits[i % 60 + 2] * 7 + i * bits[1]) % len(_WORDS)] for i in range(count)]


def _completion(asked: Asked, behaviour: Behaviour, kind: str, tid: str) -> Json:
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


def _said(asked: Asked, behaviour: Behaviour, kind: str, index: int) -> tuple[str, int, str]:
    """Return a choice's text, how many words it has, and why it ends."""
    said = asked.prompt.split() if kind == "echo" else words(asked, behaviour, index)
    if asked.most is not None and len(said) > asked.most:
        return " ".join(said[: asked.most]), asked.most, "length"
    return asked.prompt if kind == "echo" else " ".join(said), len(said), "stop"


def _message(kind: str, text: str, index: int) -> tuple[Json, str | None]:
    shape = KINDS[kind].shape
    if shape is None:
        return {"role": "assistant", "content": text}, None
    message, reason = shape(text, index)
    return {"role": "assistant", **message}, reason


def _embedding(asked: Asked, behaviour: Behaviour) -> Json:
    texts = asked.asked if isinstance(asked.asked, list) else [asked.asked]
    data = [
        {"object": "embedding", "index": i, "embedding": [round(behaviour.draw(text, place), 6) for place in range(8)]}
        for i, text in enumerate(texts)
    ]
    used = asked.prompt_tokens
    usage = {"prompt_tokens": used, "total_tokens": used}
    return {"object": "list", "data": data, "model": asked.model, "usage": usage}
