"""How the stand-in provider is to behave."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import re
from typing import Any
from urllib.parse import parse_qsl

_MARKER = re.compile(r"\[\[rehearsal:([a-z0-9]+?)(?:x(\d+))?\]\]")


@dataclasses.dataclass(frozen=True)
class Behaviour:
    """All that can be asked of it. Shares are from 0 to 1, of the requests that come in.

    What happens to a request follows from `seed`, its body and how often that body came before, so that a test can
    be run again. A marker in the last message goes before the shares: `[[rehearsal:500]]`, or `[[rehearsal:500x2]]`
    for the first two times only. Markers are named as the shares are, or by what an answer is to be:
    `filter`, `null`, `refusal`, `tools`, `reasoning`, `echo`.
    """

    seed: int = 0
    latency: tuple[float, float] = (0.0, 0.0)
    """Seconds, or a range of them such as `0.05-0.2`."""
    words: int = 12
    """Words in an answer, on average."""
    rpm: float = 0.0
    """Requests per minute; 0: no limit."""
    tpm: float = 0.0
    """Tokens per minute, of the prompt and `max_tokens` (or the answer); 0: no limit."""
    burst_s: float = 60.0
    """How many seconds' worth the limits save up; they start full."""
    rate_headers: bool = True
    """Whether the limits are told in headers, and with a 429 how long to wait."""
    concurrency: int = 0
    """Requests at once; more get a 429. 0: no limit."""
    e429: float = 0.0
    e500: float = 0.0
    e502: float = 0.0
    e503: float = 0.0
    """A 503 that means throttled."""
    hang: float = 0.0
    """Never answered."""
    cut: float = 0.0
    """Cut in the middle of the body."""
    drop: float = 0.0
    """Closed without an answer."""
    html: float = 0.0
    """200 with a web page."""
    empty: float = 0.0
    """200 with nothing."""
    max_faults: int = 3
    """The most faults, by shares, for the same body."""
    reject: float = 0.0
    """400, for the same prompts each time."""
    key: str = ""
    """The only key that is accepted; empty: any or none."""
    models: tuple[str, ...] = ()
    """The models that there are, comma-separated; empty: any."""
    balance: int = -1
    """After so many answers the money is gone; -1: never."""
    ledger: bool = True
    """Whether each request is written down."""

    @classmethod
    def parse(cls, text: str) -> Behaviour:
        """Return what a query such as `latency=0.05-0.2&rpm=600` asks for. Raises `ValueError`."""
        fields = {field.name: field for field in dataclasses.fields(cls)}
        given: dict[str, Any] = {}
        for name, value in parse_qsl(text, keep_blank_values=True):
            if name not in fields:
                near = difflib.get_close_matches(name, fields, n=1)
                hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(fields)}"
                raise ValueError(f"rehearsal has no option {name!r}; {hint}")
            try:
                given[name] = _READ[str(fields[name].type)](value)
            except ValueError:
                raise ValueError(f"rehearsal can't take {value!r} for {name}") from None
        return cls(**given)

    def fault(self, digest: str, attempt: int, text: str) -> str:
        """Return what is to happen to the n-th request with a body: the name of a kind, or `answer`."""
        marker = _MARKER.search(text)
        if marker and (marker[2] is None or attempt <= int(marker[2])):
            return marker[1]
        if self.reject and self.draw(digest, "reject") < self.reject:
            return "400"
        earlier = sum(self._drawn(digest, before) != "answer" for before in range(1, attempt)) if attempt > 1 else 0
        return "answer" if earlier >= self.max_faults else self._drawn(digest, attempt)

    def _drawn(self, digest: str, attempt: int) -> str:
        point = self.draw(digest, "fault", attempt)
        for kind in _SHARES:
            point -= getattr(self, kind)
            if point < 0:
                return kind.removeprefix("e") if kind[1:].isdigit() else kind
        return "answer"

    def latency_s(self, digest: str, attempt: int) -> float:
        """Return how long the n-th request with a body takes."""
        low, high = self.latency
        return low if low == high else low + (high - low) * self.draw(digest, "latency", attempt)

    def draw(self, *of: object) -> float:
        """Return a number in [0, 1) that follows from the seed and what is given."""
        text = "|".join(map(str, (self.seed, *of)))
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest()) / 2**56


_SHARES = ("e429", "e500", "e502", "e503", "hang", "cut", "drop", "html", "empty")


def _range(text: str) -> tuple[float, float]:
    low, _, high = text.partition("-")
    return float(low), float(high or low)


def _flag(text: str) -> bool:
    if text.lower() not in {"true", "false", "1", "0"}:
        raise ValueError(text)
    return text.lower() in {"true", "1"}


_READ: dict[str, Any] = {
    "int": int,
    "float": float,
    "bool": _flag,
    "str": str,
    "tuple[float, float]": _range,
    "tuple[str, ...]": lambda text: tuple(name for name in text.split(",") if name),
}
