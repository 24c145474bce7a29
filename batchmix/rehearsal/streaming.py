"""What the stand-in streams: an answer as server-sent events, in OpenAI's chunks."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

import msgspec

from batchmix.rehearsal.asking import Json

_WORD = re.compile(r"\s*\S+|\s+")
_encode = msgspec.json.Encoder().encode


def events(answer: Json, *, usage: bool) -> bytes:
    """Return an answer as a stream: a word in each chunk, the choices in turns, and the usage last if it is wanted."""
    head = {key: value for key, value in answer.items() if key not in ("choices", "usage")}
    if head["object"] == "chat.completion":
        head["object"] = "chat.completion.chunk"
    said = {"usage": None} if usage else {}
    turns = itertools.zip_longest(*map(_pieces, answer["choices"]))
    chunks = [{**head, "choices": [piece], **said} for turn in turns for piece in turn if piece is not None]
    if usage:
        chunks.append({**head, "choices": [], "usage": answer["usage"]})
    return b"".join(b"data: %b\n\n" % _encode(chunk) for chunk in chunks) + b"data: [DONE]\n\n"


def _pieces(choice: Json) -> Iterator[Json]:
    """Yield what each chunk says of a choice."""
    index, finish = choice["index"], choice["finish_reason"]
    if "text" in choice:
        for text in _WORD.findall(choice["text"]):
            yield {"index": index, "text": text, "finish_reason": None}
        yield {"index": index, "text": "", "finish_reason": finish}
        return
    for delta in _deltas(choice["message"]):
        yield {"index": index, "delta": delta, "finish_reason": None}
    yield {"index": index, "delta": {}, "finish_reason": finish}


def _deltas(message: Json) -> Iterator[Json]:
    content = message["content"]
    yield {"role": message["role"], "content": content and ""}
    for key in ("reasoning_content", "refusal", "content"):
        for text in _WORD.findall(message.get(key) or ""):
            yield {key: text}
    for index, call in enumerate(message.get("tool_calls", ())):
        yield {"tool_calls": [{"index": index, **call, "function": {**call["function"], "arguments": ""}}]}
        for text in _WORD.findall(call["function"]["arguments"]):
            yield {"tool_calls": [{"index": index, "function": {"arguments": text}}]}
