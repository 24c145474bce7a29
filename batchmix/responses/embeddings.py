"""Reads the vectors in an answer of the embeddings endpoint."""

from __future__ import annotations

from typing import Any

import msgspec

from batchmix.formats.lenient_json import nonempty_json, shallow
from batchmix.records import Completion
from batchmix.responses.choices import index_of

_NUMBERS = {int, float, type(None)}
"""The types of the values in a vector. None is allowed here, and rejected later by `read_embeddings`."""


class _Vector(msgspec.Struct, gc=False):
    embedding: msgspec.Raw


class _Vectors(msgspec.Struct, gc=False):
    data: list[_Vector]


_decoder = msgspec.json.Decoder(_Vectors)


def read_embeddings(decoded: dict[str, Any], body: bytes, inputs: int) -> Completion | str:
    """Return the vectors as a JSON list in the order of the inputs. If there is no answer, return the reason.

    Each vector stays as received: a list of numbers, or base64. `inputs` is the number of vectors requested, or 0 if
    unknown.
    """
    data = decoded.get("data")
    if not isinstance(data, list) or not data:
        return "has no embeddings"
    if not all(isinstance(item, dict) and _is_vector(item.get("embedding")) for item in data):
        return "has an embedding with nothing in it"
    order = [index_of(item, place) for place, item in enumerate(data)]
    wanted = inputs or len(data)
    if len(data) != wanted:
        return f"has {len(data)} embeddings where {wanted} were requested"
    if sorted(order) != list(range(wanted)):
        return "has embeddings whose indexes are not those of the inputs"
    texts = _raw_vectors(body) or [nonempty_json(item["embedding"]) or "null" for item in data]
    if any(text.startswith("[") and "null" in text for text in texts):
        return "has an embedding with nothing in it"
    if len({(type(vector), len(vector)) for item in data if _is_plain(vector := item["embedding"])}) > 1:
        return "has embeddings of different lengths"
    return Completion(f"[{','.join(text for _, text in sorted(zip(order, texts, strict=True)))}]")


def _is_vector(value: Any) -> bool:
    """Return whether a value is a vector in any form: numbers, base64, one vector per token, or vectors by type."""
    if isinstance(value, str):
        return bool(value.strip())
    if isinstance(value, list) and value:
        return set(map(type, value)) <= _NUMBERS or all(
            isinstance(token, list) and _is_vector(token) for token in value
        )
    return isinstance(value, dict) and any(map(_is_vector, value.values()))


def _is_plain(vector: Any) -> bool:
    """Return whether an input has a single vector, not one per token. All single vectors must have the same length."""
    return isinstance(vector, str) or (isinstance(vector, list) and not isinstance(vector[0], list))


def _raw_vectors(body: bytes) -> list[str]:
    """Return the JSON text of each vector, unchanged. Empty if the fast decoder can't read the body."""
    try:
        return [bytes(item.embedding).decode() for item in _decoder.decode(shallow(body)).data]
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return []
