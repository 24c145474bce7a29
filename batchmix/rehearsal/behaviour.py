"""How the stand-in provider is to behave."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
import math
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from batchmix.rehearsal.kinds import SHARES

_MARKER = re.compile(r"\[\[rehearsal:([a-z0-9_]+?)(?:x(\d+))?\]\]")
_RANGE = re.compile(r"([\d.]+(?:e[+-]?\d+)?)(?:-([\d.]+(?:e[+-]?\d+)?))?")


@dataclasses.dataclass(frozen=True)
class Behaviour:
    """All that can be asked of it. Shares are from 0 to 1, of the requests that come in.

    What happens to a request follows from `seed`, its body and how often that body came before, so that a test can
    be run again. A marker in the prompt goes before the shares: `[[rehearsal:500]]`, or `[[rehearsal:500x2]]` for the
    first two attempts only; of several, the first that still applies. `kinds.KINDS` has the names.
    """

    seed: int = 0
    """Other seeds give other answers, faults and latencies."""
    latency: tuple[float, float] = (0.0, 0.0)
    """Seconds, or a range of them such as `0.05-0.2`."""
    words: int = 12
    """Words in an answer, on average."""
    rpm: float = 0.0
    """Requests per minute; 0: no limit."""
    tpm: float = 0.0
    """Tokens per minute, of the prompt and, for each choice, `max_tokens` or what is said; 0: no limit."""
    burst_s: float = 60.0
    """How many seconds' worth the limits save up; they start full."""
    rate_headers: bool = True
    """Whether the limits are told in headers, and with a 429 how long to wait."""
    concurrency: int = 0
    """Requests at once; more get a 429. 0: no limit."""
    e429: float = 0.0
    """Share of 429."""
    e500: float = 0.0
    """Share of 500."""
    e502: float = 0.0
    """Share of 502."""
    e503: float = 0.0
    """Share of 503 that mean throttled."""
    hang: float = 0.0
    """Share that is never answered."""
    cut: float = 0.0
    """Share that is cut in the middle of the body."""
    drop: float = 0.0
    """Share whose connection is closed without an answer."""
    html: float = 0.0
    """Share of 200 with a web page."""
    empty: float = 0.0
    """Share of 200 with nothing."""
    max_faults: int = 3
    """The most faults, by these shares, for the same body."""
    reject: float = 0.0
    """Share of prompts that get a 400, each time."""
    key: str = ""
    """The only key that is accepted; empty: any or none."""
    models: tuple[str, ...] = ()
    """The models that there are, comma-separated; empty: any."""
    balance: int = -1
    """After so many answers the money is gone; -1: never."""
    ledger: bool = True
    """Whether each request is written down."""
    gzip: bool = False
    """Whether bodies over 1 KB are compressed for clients that take it."""
    stable: bool = True
    """Whether `id` and `created` too follow from the request, so that whole bodies can be compared."""

    def __post_init__(self) -> None:
        for name in (*SHARES, "reject"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"rehearsal's {name} is a share, from 0 to 1")
        if sum(share for share, _ in self._shares) > 1 + 1e-9:
            raise ValueError("rehearsal's shares come to more than 1")
        for name, least in {"rpm": 0, "tpm": 0, "burst_s": 0, "concurrency": 0, "max_faults": 0, "words": 1}.items():
            if not least <= getattr(self, name) < math.inf:
                raise ValueError(f"rehearsal's {name} must be {least} or more")
        if not 0 <= self.latency[0] <= self.latency[1] < math.inf:
            raise ValueError("rehearsal's latency is a number of seconds or a range, such as 0.05-0.2")

    @classmethod
    def parse(cls, text: str) -> Behaviour:
        """Return what a query such as `latency=0.05-0.2&rpm=600` asks for. Raises `ValueError`."""
        fields = {field.name: field for field in dataclasses.fields(cls)}
        given: dict[str, Any] = {}
        for name, value in parse_qsl(text.strip(), keep_blank_values=True):
            if name not in fields:
                near = difflib.get_close_matches(name, fields, n=1)
                hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(fields)}"
                raise ValueError(f"rehearsal has no option {name!r}; {hint}")
            try:
                given[name] = _READ[str(fields[name].type)](value)
            except ValueError:
                raise ValueError(f"rehearsal can't take {value!r} for {name}") from None
        return cls(**given)

    def marked(self, text: str, attempt: int) -> str | None:
        """Return the name in the first marker that applies to the n-th attempt, whether it is a kind or not."""
        for marker in _MARKER.finditer(text) if "[[rehearsal:" in text else ():
            if marker[2] is None or attempt <= int(marker[2]):
                return marker[1]
        return None

    def drawn(self, digest: str, attempt: int) -> str | None:
        """Return the fault that the shares give to the n-th attempt of a body, or None."""
        if not self._shares:
            return None
        point = self.draw(digest, "fault", attempt)
        for share, kind in self._shares:
            point -= share
            if point < 0:
                return kind
        return None

    def latency_s(self, digest: str, attempt: int) -> float:
        """Return how long the n-th attempt of a body takes."""
        low, high = self.latency
        return low if low == high else low + (high - low) * self.draw(digest, "latency", attempt)

    def draw(self, *of: object) -> float:
        """Return a number in [0, 1) that follows from the seed and what is given."""
        text = "|".join(map(str, (self.seed, *of)))
        return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=6).digest()) / 2**48

    @functools.cached_property
    def _shares(self) -> list[tuple[float, str]]:
        return [(getattr(self, option), kind) for option, kind in SHARES.items() if getattr(self, option)]


def _range(text: str) -> tuple[float, float]:
    found = _RANGE.fullmatch(text)
    if not found:
        raise ValueError(text)
    return float(found[1]), float(found[2] or found[1])


def _flag(text: str) -> bool:
    if text.lower() not in {"true", "false", "1", "0"}:
        raise ValueError(text)
    return text.lower() in {"true", "1"}


_READ: dict[str, Callable[[str], Any]] = {
    "int": int,
    "float": float,
    "bool": _flag,
    "str": str,
    "tuple[float, float]": _range,
    "tuple[str, ...]": lambda text: tuple(name for name in text.split(",") if name),
}
"""How an option is read, by its annotation."""
