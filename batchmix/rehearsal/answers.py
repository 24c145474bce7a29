"""What the stand-in says: bodies in AiHubMix's shapes."""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from typing import Any

from batchmix.rehearsal.behaviour import Behaviour

Json = dict[str, Any]
_WORDS = ["river", "stone", "quiet", "amber", "window", "north", "garden", "signal", "paper", "cloud", "seven", "harbor", "early", "copper", "meadow", "drift", "lantern", "orbit", "maple", "field", "silver", "under", "bright", "engine", "valley", "cotton", "winter", "letter", "bridge", "salt", "morning", "velvet", "anchor"]
_numbers = itertools.count(1)


def trace_id() -> str:
    """Return a new request id."""
    return f"{time.strftime('%Y%m%d%H%M%S')}{next(_numbers):08d}"


def error(message: str, kind: str, code: str | int | None, tid: str) -> bytes:
    """Return an error in the gateway's envelope."""
    return json.dumps(
        {"error": {"message": f"{message} (tid: {tid})", "type": kind, "param": "", "code": code}}
    ).encode()


def last_text(body: Json) -> str:
    """Return the text of the last message, the prompt, or the input."""
    messages = body.get("messages")
    found = (
        messages[-1].get("content")
        if isinstance(messages, list) and messages and isinstance(messages[-1], dict)
        else None
    )
    if isinstance(found, list):
        found = "".join(part.get("text", "") for part in found if isinstance(part, dict))
    found = found if found is not None else body.get("prompt", body.get("input"))
    return found if isinstance(found, str) else json.dumps(found)


def prompt_tokens(body: Json) -> int:
    """Return how many tokens a prompt counts."""
    asked = body.get("messages", body.get("prompt", body.get("input")))
    return -(-len(json.dumps(asked, ensure_ascii=False).encode("utf-8", "replace")) // 4)


def _digest(body: Json) -> str:
    return hashlib.blake2b(json.dumps(body, sort_keys=True).encode("utf-8", "replace"), digest_size=12).hexdigest()


def words(body: Json, behaviour: Behaviour, choice: int) -> list[str]:
    """Return the words of an answer: a pure function of prompt, model, seed and choice."""
    asked = json.dumps(
        [body.get("messages", body.get("prompt", body.get("input"))), body.get("model"), choice], sort_keys=True
    )
    bits = hashlib.blake2b(asked.encode("utf-8", "replace"), key=str(behaviour.seed).encode()).digest()
    count = 1 + int(bits[0] / 128 * max(0, behaviour.words - 1))
    return [_WORDS[(bits[i % 60 + 2] * 7 + i * bits[1]) % len(_WORDS)] for i in range(count)]


def completion(body: Json, behaviour: Behaviour, kind: str, *, path: str) -> Json:
    """Return an answer; `kind` says what is special about it."""
    most = body.get("max_completion_tokens", body.get("max_tokens"))
    choices, used = [], 0
    for number in range(body.get("n") or 1):
        said = [last_text(body)] if kind == "echo" else words(body, behaviour, number)
        reason = "stop"
        if isinstance(most, int) and kind != "echo" and len(said) > most:
            said, reason = said[:most], "length"
        used += len(said)
        choices.append(_choice(number, " ".join(said), reason, kind, chat=path.endswith("/chat/completions")))
    prompt = prompt_tokens(body)
    return {
        "id": f"chatcmpl-{_digest(body)}",
        "object": "chat.completion" if path.endswith("/chat/completions") else "text_completion",
        "created": 1_700_000_000,  # whole answers are the same each time
        "model": body.get("model"),
        "choices": choices,
        "system_fingerprint": "fp_rehearsal",
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": used,
            "total_tokens": prompt + used,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }


def _choice(number: int, text: str, reason: str, kind: str, *, chat: bool) -> Json:
    if not chat:
        return {"index": number, "text": text, "finish_reason": reason}
    message: Json = {"role": "assistant", "content": text}
    if kind == "filter":
        reason = "content_filter"
    elif kind == "null":
        message["content"] = None
    elif kind == "refusal":
        message.update(content=None, refusal="I can't help with that.")
    elif kind == "reasoning":
        message["reasoning_content"] = f"Let me think about {text}."
    elif kind == "tools":
        call = {
            "id": f"call_{number}",
            "type": "function",
            "function": {"name": "look_up", "arguments": json.dumps({"word": text})},
        }
        message.update(content=None, tool_calls=[call])
        reason = "tool_calls"
    return {"index": number, "message": message, "finish_reason": reason}


def embedding(body: Json, behaviour: Behaviour) -> Json:
    """Return eight numbers for each input."""
    asked = body.get("input")
    texts = asked if isinstance(asked, list) else [asked]
    data = [
        {"object": "embedding", "index": i, "embedding": [round(behaviour.draw(text, place), 6) for place in range(8)]}
        for i, text in enumerate(texts)
    ]
    used = prompt_tokens(body)
    return {
        "object": "list",
        "data": data,
        "model": body.get("model"),
        "usage": {"prompt_tokens": used, "total_tokens": used},
    }
