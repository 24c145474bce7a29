"""Finds the long prefixes that several requests of a lane share, while the requests are read: a radix tree of bodies.

A provider can keep the beginning of a prompt in a cache, and charges less for tokens that it reads from there. Requests
share a prefix if their bodies begin with the same bytes: the same system prompt, examples or document. One prefix may
begin with another, as when many questions about each of several documents have one system prompt.
"""

from __future__ import annotations

import collections
from typing import Any

from batchmix.records import BYTES_PER_TOKEN

_LEAST_TOKENS = 1024
"""The shortest prompt that OpenAI caches (platform.openai.com/docs/guides/prompt-caching), and most others too."""
_LEAST_TOKENS_OF = (
    ("claude-opus-4-5", 4096), ("claude-opus-4-6", 4096), ("claude-haiku-4-5", 4096), ("claude-3-haiku", 2048),
    ("claude-3-5-haiku", 2048), ("gemini-2", 2048), ("gemini", 4096),
)  # fmt: skip
"""Models that cache only longer prompts, by a part of their id (docs.aihubmix.com/en/api/Claude-Cache,
ai.google.dev/gemini-api/docs/caching). The first that applies counts."""
_STEP_BYTES = 256 * BYTES_PER_TOKEN
"""How much longer a prefix must be than another one that it begins with. Less is not worth a wait of its own."""
_MAX_BYTES = 16 << 20
"""The bytes of the prefixes that all lanes remember. Beyond that, those that no request has shared are forgotten."""


class Prefix:
    """The beginning of one request's body, or of several."""

    __slots__ = ("children", "failed", "is_used", "leader", "parent", "text", "tries", "warm_until")

    def __init__(self, text: bytes, parent: Prefix | None) -> None:
        self.text = text
        self.parent = parent
        """The next shorter prefix that this one begins with. The root of the tree, which is empty, has none."""
        self.children: dict[bytes, Prefix] = {}
        """The longer prefixes that begin with this one, by what follows it, up to where they may first differ."""
        self.is_used = False
        """Whether another request has had this prefix lately."""
        self.leader: Any = None
        """The request that is to bring the prefix into the cache, while it is in flight. None if there is none."""
        self.warm_until = 0.0
        """Until when, on the event loop's clock, the prefix is taken to be in the cache."""
        self.tries = self.failed = 0
        """How many leaders were answered without a sign of the cache, and how many failed."""

    @property
    def shared(self) -> Prefix | None:
        """The longest prefix, this one or one above it, that other requests have had too. None if there is none."""
        node = self if self.is_used else self.parent
        return node if node is not None and node.text else None

    def split(self, size: int) -> Prefix:
        """Return a prefix between this one and its parent, of `size` bytes. What is known of this one holds for it."""
        upper = Prefix(self.text[:size], self.parent)
        upper.leader, upper.warm_until, upper.is_used = self.leader, self.warm_until, True
        upper.tries, upper.failed = self.tries, self.failed
        self.parent = upper
        return upper


class PrefixTree:
    """The prefixes of the requests to one model."""

    def __init__(self, model_id: str, *, is_marked: bool = False, lanes: int = 1) -> None:
        """`is_marked` says whether prefixes are marked when requests are sent, for a model that needs that."""
        self._max_bytes = _MAX_BYTES // lanes
        self.needs_marks = "claude" in model_id.lower()
        """Whether the model caches only what is marked."""
        self._is_marked = is_marked or not self.needs_marks
        self._least_bytes = least_tokens(model_id) * BYTES_PER_TOKEN
        self._root = Prefix(b"", None)
        self._bytes = 0
        # In the order in which they are forgotten, each with the dict and the key that lead to it.
        self._nodes: collections.deque[tuple[dict[bytes, Prefix], bytes, Prefix]] = collections.deque()

    def add(self, body: bytes) -> Prefix | None:
        """Add a request's body, and return its longest prefix. None if it is too short for any cache, or not marked.

        The prefix may be that of this request alone so far, and become shorter when others share a part of it.
        """
        if not self._is_marked and not has_marks(body):
            return None
        node, step = self._root, self._least_bytes
        while len(body) >= (end := len(node.text) + step):
            key = body[len(node.text) : end]
            child = node.children.get(key)
            if child is None:
                return self._remember(node.children, key, Prefix(body, node))
            if not body.startswith(child.text):
                child = self._shortened(node, key, child, common_size(child.text, body))
            child.is_used = True
            node, step = child, _STEP_BYTES
        return node if node.text else None

    def _shortened(self, node: Prefix, key: bytes, child: Prefix, size: int) -> Prefix:
        """Return the child's first `size` bytes as a prefix: the child itself if little is lost, or one above it."""
        end = size + _STEP_BYTES
        if len(child.text) < end:
            self._bytes -= len(child.text) - size
            child.text = child.text[:size]
            child.children.clear()  # they were looked up by their bytes after the longer text
            return child
        upper = child.split(size)
        upper.children[child.text[size:end]] = child
        return self._remember(node.children, key, upper)

    def _remember(self, siblings: dict[bytes, Prefix], key: bytes, prefix: Prefix) -> Prefix:
        siblings[key] = prefix
        self._nodes.append((siblings, key, prefix))
        self._bytes += len(prefix.text)
        while self._bytes > self._max_bytes and len(self._nodes) > 1:
            siblings, key, oldest = self._nodes.popleft()
            if oldest.is_used:
                oldest.is_used = False
                self._nodes.append((siblings, key, oldest))
                continue
            self._bytes -= len(oldest.text)
            if siblings.get(key) is oldest:
                del siblings[key]
        return prefix


def least_tokens(model_id: str) -> int:
    """Return the fewest tokens of a prompt that a model's provider caches, as far as is known."""
    name = model_id.lower().replace(".", "-")
    return next((tokens for part, tokens in _LEAST_TOKENS_OF if part in name), _LEAST_TOKENS)


def has_marks(body: bytes) -> bool:
    """Return whether a row or the job has put marks for a prompt cache into a body."""
    return body.find(b'"cache_control"') >= 0


def common_size(one: bytes, other: bytes) -> int:
    """Return how many bytes two texts have in common at their beginning."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
