"""The chunks of a streamed completion, put together into the body that would have come without streaming.

OpenAI's chunks (`/chat/completions` and `/completions`) and what others make of them: usage in a choice, usage of zeros
in the middle, calls without an index, a whole `message` in the last chunk. What is not known is kept, the last value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from batchmix.formats.lenient_json import json_text
from batchmix.responses.usage import count

_JOINED = frozenset(
    {
        "content", "refusal", "reasoning_content", "reasoning", "arguments", "text", "summary", "thinking", "input",
        "data", "transcript",
    }
)  # fmt: skip
"""Texts that come piece by piece; of all others the last one counts."""
_PIECES = frozenset({"delta", "message", "text", "logprobs"})
"""What of a choice comes piece by piece."""
_UNFINISHED = (None, "", "null", False)

_Node = dict[str, Any]


class PartialAnswer:
    """One answer in the making; `choices` are as many as were asked for."""

    def __init__(self, choices: int) -> None:
        self.size = 0
        """About how many bytes are held: all text, and each event that brought anything else."""
        self.is_begun = False
        """Whether any text of the answer has come."""
        self.has_usage = False
        """Whether its usage came with the last finish reason or after it."""
        self.is_closed = False
        """Whether the last chunk brought usage and nothing else, as one does at the end of a stream."""
        self._asked = choices
        self._choices: dict[int, _Node] = {}
        self._usage: _Node | None = None
        self._rest: _Node = {}
        self._brings_more = False
        """Whether the chunk that is being added brings more to hold than text."""

    def add(self, chunk: _Node, event_bytes: int) -> None:
        """Take the next chunk, of so many bytes. Raises `RecursionError` where it is nested too deeply."""
        self._brings_more = False
        choices = chunk.get("choices")
        for place, choice in enumerate(choices if isinstance(choices, list) else ()):
            if isinstance(choice, dict):
                self._add_choice(place, choice)
        self.is_closed = self._note_usage(chunk.get("usage")) and not choices
        for key, value in chunk.items():
            if key not in ("choices", "usage"):
                self._replace(self._rest, key, value)
        if self._brings_more:
            self.size += event_bytes

    @property
    def has_content(self) -> bool:
        """Whether any of an answer has come: text, or what it has used."""
        return self.is_begun or self._usage is not None

    @property
    def is_ended(self) -> bool:
        """Whether each choice that has begun has its finish reason, and there is one."""
        return bool(self._choices) and all(choice.get("finish_reason") for choice in self._choices.values())

    @property
    def is_whole(self) -> bool:
        """Whether all choices that were asked for have begun, and all that have begun have their finish reasons."""
        return all(index in self._choices for index in range(self._asked)) and self.is_ended

    def answer(self) -> bytes | None:
        """Return the ordinary JSON body; None where it is nested too deeply to be written."""
        return self._encoded(_whole_choice, str(self._rest.get("object") or "").removesuffix(".chunk"))

    def chunk(self) -> bytes | None:
        """Return what has come so far, as one chunk; None where nothing has, or as for `answer`."""
        if not self._rest and not self._choices and self._usage is None:
            return None
        return self._encoded(lambda choice: choice, self._rest.get("object"))

    def _encoded(self, told: Callable[[_Node], _Node], kind: Any) -> bytes | None:
        try:
            choices = [told(_built(choice)) for _, choice in sorted(self._choices.items())]
        except RecursionError:
            return None
        body = {**self._rest, "object": kind, "choices": choices, "usage": self._usage}
        try:
            return msgspec.json.encode(body)
        except (ValueError, TypeError, OverflowError, RecursionError):  # lone surrogates, whole numbers of any size
            text = json_text(body)
            return text.encode() if text else None

    def _add_choice(self, place: int, choice: _Node) -> None:
        index = choice.get("index")
        index = index if type(index) is int else place
        if index not in self._choices:
            self._choices[index] = {"index": index}
            self._brings_more = True
        kept = self._choices[index]
        for key, value in choice.items():
            if key == "usage":
                self._note_usage(value)
            elif key == "finish_reason" and value in _UNFINISHED:
                kept.setdefault(key, None)
            elif key in _PIECES:
                self._keep(kept, key, value)
            elif key != "index":
                self._replace(kept, key, value)

    def _note_usage(self, usage: Any) -> bool:
        if not (isinstance(usage, dict) and any(map(count, usage.values()))):
            return False
        self._usage = usage
        self.has_usage = self.is_whole
        return True

    def _replace(self, node: _Node, key: str, value: Any) -> None:
        if key not in node or (value and isinstance(value, dict | list)):
            self._brings_more = True
        elif isinstance(value, str):
            self.size += len(value)
        node[key] = value or node.get(key, value)

    def _keep(self, node: _Node, key: str, value: Any) -> None:
        if key not in node:
            self._brings_more = True
        node[key] = self._joined(node.get(key), value, key)

    def _joined(self, old: Any, value: Any, key: str) -> Any:
        """Return what a value makes of the one before it."""
        if isinstance(value, dict):
            node: _Node = old if isinstance(old, dict) else {}
            for inner, more in value.items():
                self._keep(node, inner, more)
            return node
        if isinstance(value, list):
            items = old if isinstance(old, _Items) else _Items(old)
            for item in value:
                self._add_item(items, item)
            return items
        if isinstance(value, str):
            self.size += len(value)
            return self._text(old, value) if key in _JOINED else value or old or value
        return old if value is None else value

    def _text(self, old: Any, value: str) -> Any:
        self.is_begun |= bool(value)
        if isinstance(old, _Items):  # parts, and then plain text
            old.append(value)
            return old
        text = old if isinstance(old, bytearray) else bytearray()
        text += value.encode("utf-8", "surrogatepass")  # half of a pair may come in each of two pieces
        return text

    def _add_item(self, items: _Items, item: Any) -> None:
        """Append an item to a list, or go on with the one that it belongs to."""
        if not isinstance(item, dict) or not ("function" in item or type(item.get("index")) is int):
            self._brings_more = True
            items.append(item)
            return
        place = items.place(item)
        for key, value in item.items():
            self._keep(place, key, value)


class _Items:
    """A list whose items come piece by piece, told apart by their `index`."""

    def __init__(self, first: Any = None) -> None:
        self.items: list[Any] = [] if first is None else [first]
        self._at: dict[int, _Node] = {}
        self._last: _Node | None = None

    def append(self, item: Any) -> None:
        """Add an item that is whole."""
        self.items.append(item)

    def place(self, item: _Node) -> _Node:
        """Return what an item goes on with: what has its index, or the last call; a new one where it begins.

        Gemini gives all calls the index 0, each with its id and its name; others give none.
        """
        index = item.get("index")
        kept = self._at.get(index) if type(index) is int else self._last
        if kept is None or _begins(kept, item):
            kept = {}
            self.items.append(kept)
        if type(index) is int:
            self._at[index] = kept
        self._last = kept
        return kept


def _begins(kept: _Node, item: _Node) -> bool:
    """Return whether an item is not the rest of the one that has its place."""
    if item.get("type") and kept.get("type", item["type"]) != item["type"]:
        return True
    function = item.get("function")
    is_named = isinstance(function, dict) and bool(function.get("name"))
    return is_named and bool(item.get("id")) and item["id"] != kept.get("id", item["id"])


def _built(value: Any) -> Any:
    """Return plain JSON values."""
    if isinstance(value, bytearray):
        return value.decode("utf-8", "surrogatepass")
    if isinstance(value, _Items):
        return [_built(item) for item in value.items]
    if isinstance(value, dict):
        return {key: _built(inner) for key, inner in value.items()}
    return value


def _whole_choice(choice: _Node) -> _Node:
    """Return a choice as it stands in a whole answer: with a message, and calls without their index."""
    if "text" in choice:
        return choice
    message: _Node = {"role": "assistant", "content": None}
    for part in ("message", "delta"):
        if isinstance(choice.get(part), dict):
            message.update((key, value) for key, value in choice[part].items() if value is not None)
    calls = message.get("tool_calls")
    if isinstance(calls, list):
        message["tool_calls"] = [_without_index(call) for call in sorted(calls, key=_index)]
    rest = {key: value for key, value in choice.items() if key not in ("index", "message", "delta")}
    return {"index": choice["index"], "message": message, **rest}


def _index(item: Any) -> int:
    index = item.get("index") if isinstance(item, dict) else None
    return index if type(index) is int else 0


def _without_index(call: Any) -> Any:
    return {key: value for key, value in call.items() if key != "index"} if isinstance(call, dict) else call
