"""The prompts of results as they were sent, as text to read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from batchmix.engine.sent_requests import sent_requests
from batchmix.errors import BatchmixError
from batchmix.formats.display import clean
from batchmix.records import Key

_MAX_DATA_CHARS = 60
"""The most characters that are kept of a picture or a file within a prompt."""
_TEXTS = ("text", "input_text", "output_text")
_DATA = ("data", "file_data")


class Turn(msgspec.Struct, frozen=True):
    """One message of a prompt."""

    role: str
    text: str


class SentPrompts(msgspec.Struct, frozen=True):
    """The prompts of some results."""

    turns: dict[Key, tuple[Turn, ...]]
    missing: str = ""
    """Why prompts are missing. Empty if none is."""


def sent_prompts(folder: Path, hashes: Mapping[Key, str]) -> SentPrompts:
    """Return the prompts of results, given their request hashes. They are built again from the job and the input.

    A prompt is left out if the request is no longer the one that was sent.
    """
    turns: dict[Key, tuple[Turn, ...]] = {}
    try:
        for request in sent_requests(folder, hashes):
            if request.hash == hashes[request.key]:
                turns[request.key] = tuple(turns_of(json.loads(request.body)))
    except BatchmixError as error:
        return SentPrompts(turns, f"the input can't be read any more: {clean(str(error))}")
    changed = len(hashes) - len(turns)
    return SentPrompts(turns, f"the input or the job has changed since {changed:,} of them were sent" * bool(changed))


def turns_of(body: Mapping[str, Any]) -> Iterator[Turn]:
    """Yield the messages of a request's body, of any endpoint."""
    if isinstance(body.get("instructions"), str):
        yield Turn("instructions", body["instructions"])
    for message in _messages(body):
        if not isinstance(message, dict):
            yield Turn("input", _text(message))
            continue
        role = message.get("role", message.get("type", ""))
        rest = {key: value for key, value in message.items() if key not in {"role", "content"}}
        said = [_text(message["content"])] if message.get("content") is not None else []
        yield Turn(str(role), "\n".join([*said, *([_json(rest)] if rest else [])]))


def _messages(body: Mapping[str, Any]) -> list[Any]:
    asked: Any = next((body[name] for name in ("messages", "input", "prompt") if name in body), [])
    return asked if isinstance(asked, list) else [asked]


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(map(_part, content))
    return _json(content)


def _part(part: Any) -> str:
    if isinstance(part, dict) and part.get("type") in _TEXTS and isinstance(part.get("text"), str):
        text: str = part["text"]
        return text
    return part if isinstance(part, str) else _json(part)


def _json(value: Any) -> str:
    return json.dumps(_shortened(value), ensure_ascii=False)


def _shortened(value: Any, name: str = "") -> Any:
    """Return a value in which pictures and files are cut, with their length in place of the rest."""
    if isinstance(value, dict):
        return {key: _shortened(inside, key) for key, inside in value.items()}
    if isinstance(value, list):
        return [_shortened(inside) for inside in value]
    if isinstance(value, str) and len(value) > _MAX_DATA_CHARS and (name in _DATA or value.startswith("data:")):
        return f"{value[:_MAX_DATA_CHARS]}… ({len(value):,} characters)"
    return value
