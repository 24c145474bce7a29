"""Joins the chunks of a streamed completion into the body that the same answer has without streaming.

It reads OpenAI's chunks (`/chat/completions` and `/completions`) and other providers' variants: usage in a choice,
usage of zeros in the middle, calls without an index, a whole `message` in the last chunk. For an unknown key the last
value is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from batchmix.formats.lenient_json import nonempty_json
from batchmix.responses.usage import count

_JOINED = frozenset(
    {
        "content", "refusal", "reasoning_content", "reasoning", "arguments", "text", "summary", "thinking", "input",
        "data", "transcript",
    }
)  # fmt: skip
"""The keys of texts that arrive in pieces and are joined. For other texts the last value is kept."""
_IN_PIECES = frozenset({"delta", "message", "text", "logprobs"})
"""The keys of a choice whose values arrive in pieces."""
_NO_FINISH_REASON = (None, "", "null", False)

_Node = dict[str, Any]


class TextPlace(msgspec.Struct, frozen=True):
    """A text in the `delta` of a choice, and what else the chunks bring that continue it."""

    index: int
    key: str
    role: Any
    rest: _Node
    """The values beside the choices."""


class PartialAnswer:
    """The part of an answer that has arrived so far. `choices` is the number of choices requested."""

    def __init__(self, choices: int) -> None:
        self.size = 0
        """The approximate number of bytes in memory: all texts, and each event that brought anything besides text."""
        self.has_text = False
        """Whether any text of the answer has arrived."""
        self.has_usage = False
        """Whether usage arrived together with the last finish reason or after it."""
        self.is_closed = False
        """Whether the latest chunk had usage and no choices, as the last chunk of a stream has."""
        self._requested = choices
        self._choices: dict[int, _Node] = {}
        self._usage: _Node | None = None
        self._rest: _Node = {}
        self._holds_more = False
        """Whether the chunk that is being added has brought something other than text."""

    def add(self, chunk: _Node, event_bytes: int) -> None:
        """Add the next chunk. `event_bytes` is the size of its event.

        Raises `RecursionError` if the chunk is nested too deeply.
        """
        self._holds_more = False
        choices = chunk.get("choices")
        for place, choice in enumerate(choices if isinstance(choices, list) else ()):
            if isinstance(choice, dict):
                self._add_choice(place, choice)
        self.is_closed = self._add_usage(chunk.get("usage")) and not choices
        for key, value in chunk.items():
            if key not in ("choices", "usage"):
                self._replace(self._rest, key, value)
        if self._holds_more:
            self.size += event_bytes

    def place_of(self, index: int, key: str) -> TextPlace:
        """Return the place of a text to which the last chunk has added."""
        return TextPlace(index, key, self._choices[index]["delta"].get("role"), self._rest.copy())

    def text_at(self, place: TextPlace) -> bytearray | None:
        """Return the text at a place so far. None if a chunk has changed what else the chunks of this text bring."""
        delta = self._choices[place.index].get("delta")
        if self._rest != place.rest or not isinstance(delta, dict) or delta.get("role") != place.role:
            return None
        text = delta.get(place.key)
        return text if isinstance(text, bytearray) else None

    def add_text(self, so_far: bytearray, text: str) -> None:
        """Add the next piece to a text, from chunks that bring nothing else that is new."""
        so_far += text.encode()
        self.size += len(text)
        self.has_text |= bool(text)
        self.is_closed = False

    @property
    def has_begun(self) -> bool:
        """Whether any text or usage of the answer has arrived."""
        return self.has_text or self._usage is not None

    @property
    def is_finished(self) -> bool:
        """Whether every choice that has begun also has a finish reason. False if none has begun."""
        return bool(self._choices) and all(choice.get("finish_reason") for choice in self._choices.values())

    @property
    def is_whole(self) -> bool:
        """Whether every requested choice has begun and has a finish reason."""
        return all(index in self._choices for index in range(self._requested)) and self.is_finished

    def answer(self) -> bytes | None:
        """Return the answer as an ordinary JSON body. None if it is nested too deeply to be encoded."""
        return self._encoded(_whole_choice, str(self._rest.get("object") or "").removesuffix(".chunk"))

    def chunk(self) -> bytes | None:
        """Return everything that has arrived as one chunk. None if nothing arrived, or if it is nested too deeply."""
        if not self._rest and not self._choices and self._usage is None:
            return None
        return self._encoded(lambda choice: choice, self._rest.get("object"))

    def _encoded(self, shape: Callable[[_Node], _Node], object_type: Any) -> bytes | None:
        try:
            choices = [shape(_built(choice)) for _, choice in sorted(self._choices.items())]
        except RecursionError:
            return None
        body = {**self._rest, "object": object_type, "choices": choices, "usage": self._usage}
        try:
            return msgspec.json.encode(body)
        except (ValueError, TypeError, OverflowError, RecursionError):  # lone surrogates, whole numbers of any size
            text = nonempty_json(body)
            return text.encode() if text else None

    def _add_choice(self, place: int, choice: _Node) -> None:
        index = choice.get("index")
        index = index if type(index) is int else place
        if index not in self._choices:
            self._choices[index] = {"index": index}
            self._holds_more = True
        kept = self._choices[index]
        for key, value in choice.items():
            if key == "usage":
                self._add_usage(value)
            elif key == "finish_reason" and value in _NO_FINISH_REASON:
                kept.setdefault(key, None)
            elif key in _IN_PIECES:
                self._keep(kept, key, value)
            elif key != "index":
                self._replace(kept, key, value)

    def _add_usage(self, usage: Any) -> bool:
        if not (isinstance(usage, dict) and any(map(count, usage.values()))):
            return False
        self._usage = usage
        self.has_usage = self.is_whole
        return True

    def _replace(self, node: _Node, key: str, value: Any) -> None:
        if key not in node or (value and isinstance(value, dict | list)):
            self._holds_more = True
        elif isinstance(value, str):
            self.size += len(value)
        node[key] = value or node.get(key, value)

    def _keep(self, node: _Node, key: str, value: Any) -> None:
        if key not in node:
            self._holds_more = True
        node[key] = self._joined(node.get(key), value, key)

    def _joined(self, old: Any, value: Any, key: str) -> Any:
        """Join a new piece, `value`, to the `old` value of `key`, and return the result."""
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
        self.has_text |= bool(value)
        if isinstance(old, _Items):  # plain text after a list of parts
            if value:
                old.append(value)
            return old
        text = old if isinstance(old, bytearray) else bytearray()
        text += value.encode("utf-8", "surrogatepass")  # a surrogate pair may be split between two pieces
        return text

    def _add_item(self, items: _Items, item: Any) -> None:
        """Append an item to a list, or join it to the item that it continues."""
        if not isinstance(item, dict) or not ("function" in item or type(item.get("index")) is int):
            self._holds_more = True
            items.append(item)
            return
        target = items.item_for(item)
        for key, value in item.items():
            self._keep(target, key, value)


class _Items:
    """A list whose items arrive in pieces. The `index` of a piece says which item it continues."""

    def __init__(self, first: Any) -> None:
        self.items: list[Any] = [] if first is None else [first]
        self._at: dict[int, _Node] = {}
        self._last: _Node | None = None

    def append(self, item: Any) -> None:
        """Add a complete item."""
        self.items.append(item)

    def item_for(self, piece: _Node) -> _Node:
        """Return the item that a piece continues. A piece that continues none begins a new item.

        A piece continues the item with the same index, or without an index the last item. Gemini sends every call
        whole, with the index 0, an id and a name. Other providers send no index.
        """
        index = piece.get("index")
        kept = self._at.get(index) if type(index) is int else self._last
        if kept is None or _begins(kept, piece):
            kept = {}
            self.items.append(kept)
        if type(index) is int:
            self._at[index] = kept
        self._last = kept
        return kept


def _begins(kept: _Node, item: _Node) -> bool:
    """Return whether a piece begins a new item instead of continuing `kept`."""
    if item.get("type") and kept.get("type", item["type"]) != item["type"]:
        return True
    function = item.get("function")
    is_named = isinstance(function, dict) and bool(function.get("name"))
    return is_named and bool(item.get("id")) and item["id"] != kept.get("id", item["id"])


def _built(value: Any) -> Any:
    """Return a value with the buffers and lists of this module converted to plain JSON values."""
    if isinstance(value, bytearray):
        return value.decode("utf-8", "surrogatepass")
    if isinstance(value, _Items):
        return [_built(item) for item in value.items]
    if isinstance(value, dict):
        return {key: _built(inner) for key, inner in value.items()}
    return value


def _whole_choice(choice: _Node) -> _Node:
    """Return a choice in the form that it has without streaming: with a `message`, and tool calls without `index`."""
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
