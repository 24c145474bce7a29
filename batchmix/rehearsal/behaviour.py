"""How the stand-in provider is to behave."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
import math
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from batchmix.rehearsal.reply_table import KINDS

_MARKER = re.compile(r"\[\[rehearsal:([a-z0-9_]+?)(?:x(\d+))?\]\]")
_RANGE = re.compile(r"([\d.]+(?:e[+-]?\d+)?)(?:-([\d.]+(?:e[+-]?\d+)?))?")
_NAME = re.compile(r"(\w+)(?:\[(.+)\])?")
"""An option or a kind, perhaps of one model."""
REFUSED = "refused"
"""How an outage refuses connections; it has no kind, since nothing is heard."""
_OF_A_MODEL = {"latency", "speed", "words", "rpm", "tpm", "burst_s", "concurrency", "price", "successor"}


@dataclasses.dataclass(frozen=True)
class Outage:
    """A while in which everything fails."""

    start_s: float
    """From when the behaviour was taken on."""
    length_s: float
    how: str = "503_down"
    """A kind, or `refused`: connections are cut, and new ones refused."""


@dataclasses.dataclass(frozen=True)
class Behaviour:
    """All that can be asked of it. `kinds.KINDS` has what can become of a request.

    As text, `latency=0.05-0.2&500=0.02&rpm[m]=60`: an option, or a kind with the share of requests that get it, from 0
    to 1; with a model in brackets for that model only, whose limits then are its own. What happens to a request
    follows from `seed`, its body and how often that body came before, so that a test can be run again. A marker in the
    prompt goes before the shares: `[[rehearsal:500]]`, or `[[rehearsal:500x2]]` for the first two attempts only; of
    several, the first that still applies.
    """

    seed: int = 0
    """Other seeds give other answers, faults and latencies."""
    latency: tuple[float, float] = (0.0, 0.0)
    """Seconds, or a range of them such as `0.05-0.2`."""
    speed: float = 0.0
    """Words that are said in a second; 0: all at once."""
    words: int = 12
    """Words in an answer, on average."""
    slow_s: float = 5.0
    """Seconds over which `drip` sends an answer."""
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
    faults: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """The share of requests that get a kind. In text, each kind is an option of its own."""
    max_faults: int = 3
    """The most faults, by these shares, for the same body; refusals, which don't pass, are not bounded."""
    outage: tuple[Outage, ...] = ()
    """Outages as START_S:LENGTH_S, or with a kind or `refused` behind (`30:60:hang`); several comma-separated."""
    reject: float = 0.0
    """Share of prompts that get a 400, each time."""
    key: str = ""
    """The only key that is accepted; empty: any or none."""
    models: tuple[str, ...] = ()
    """The models that there are, comma-separated; empty: any."""
    price: tuple[float, float] = (0.15, 0.6)
    """USD per 1M tokens of prompt and of completion, such as `0.15-0.6`; a cached token costs half."""
    successor: str = "rehearsal-2"
    """The model that `404_retired` names."""
    balance: int = -1
    """After so many answers the money is gone; -1: never."""
    balance_usd: float = -1.0
    """After so many USD the money is gone; -1: never."""
    broke: str = "403"
    """The kind that says that the money is gone."""
    ledger: bool = True
    """Whether each request is written down."""
    gzip: bool = False
    """Whether bodies over 1 KB are compressed for clients that take it."""
    stable: bool = True
    """Whether `id` and `created` too follow from the request, so that whole bodies can be compared."""
    own: Mapping[str, Behaviour] = dataclasses.field(default_factory=dict)
    """The behaviour of models that have one of their own. In text, options with the model in brackets."""

    def __post_init__(self) -> None:
        for name, share in (*self.faults.items(), ("reject", self.reject)):
            if not 0 <= share <= 1:
                raise ValueError(f"rehearsal's {name} is a share, from 0 to 1")
        if sum(self.faults.values()) > 1 + 1e-9:
            raise ValueError("rehearsal's shares come to more than 1")
        for name, least in _LEAST.items():
            if not least <= getattr(self, name) < math.inf:
                raise ValueError(f"rehearsal's {name} must be {least} or more")
        if not 0 <= self.latency[0] <= self.latency[1] < math.inf:
            raise ValueError("rehearsal's latency is a number of seconds or a range, such as 0.05-0.2")
        for name in (*self.faults, self.broke, *(one.how for one in self.outage if one.how != REFUSED)):
            if name not in KINDS:
                raise ValueError(f"rehearsal has no kind {name!r}")
        for model in self.own if self.models else ():
            if model not in self.models:
                raise ValueError(f"rehearsal's models have no {model!r}")

    @classmethod
    def parse(cls, text: str) -> Behaviour:
        """Return what a query such as `latency=0.05-0.2&rpm=600` asks for. Raises `ValueError`."""
        given: dict[str, dict[str, Any]] = {"": {}}
        for name, value in parse_qsl(text.strip(), keep_blank_values=True):
            option, model = _option(name)
            _read(given.setdefault(model, {}), option, value)
        general = given.pop("")
        common = cls(**general)
        own = {}
        for model, special in given.items():
            faults = {**common.faults, **special.pop("faults", {})}
            own[model] = dataclasses.replace(common, faults=faults, models=(), **special)
        return dataclasses.replace(common, own=own) if own else common

    def of(self, model: str) -> Behaviour:
        """Return how a model behaves."""
        return self.own.get(model, self)

    def outage_at(self, elapsed_s: float) -> str | None:
        """Return how everything fails so long after the start, or None."""
        for one in self.outage:
            if one.start_s <= elapsed_s < one.start_s + one.length_s:
                return one.how
        return None

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
        return [(self.faults[kind], kind) for kind in KINDS if self.faults.get(kind)]


def _option(name: str) -> tuple[str, str]:
    """Return an option's or a kind's name, and the model it is for, if it is for one. Raises `ValueError`."""
    found = _NAME.fullmatch(name)
    option, model = (found[1], found[2] or "") if found else (name, "")
    known = [*_OF_A_MODEL, *KINDS] if model else [*_READ_OF, *KINDS]
    if option not in known or (model and option == "reject"):
        near = difflib.get_close_matches(option, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
        raise ValueError(f"rehearsal has no option {name!r}; {hint}")
    return option, model


def _read(given: dict[str, Any], option: str, value: str) -> None:
    """Put an option's value, or a kind's share, where it belongs. Raises `ValueError`."""
    try:
        if option in _READ_OF:
            given[option] = _READ_OF[option](value)
        else:
            given.setdefault("faults", {})[option] = float(value)
    except ValueError:
        raise ValueError(f"rehearsal can't take {value!r} for {option}") from None


def _range(text: str) -> tuple[float, float]:
    found = _RANGE.fullmatch(text)
    if not found:
        raise ValueError(text)
    return float(found[1]), float(found[2] or found[1])


def _flag(text: str) -> bool:
    if text.lower() not in {"true", "false", "1", "0"}:
        raise ValueError(text)
    return text.lower() in {"true", "1"}


def _outages(text: str) -> tuple[Outage, ...]:
    return tuple(_outage(*one.split(":")) for one in text.split(","))


def _outage(start_s: str, length_s: str = "", *how: str) -> Outage:
    if len(how) > 1 or not 0 <= float(start_s) < math.inf or not 0 < float(length_s) < math.inf:
        raise ValueError(start_s)
    return Outage(float(start_s), float(length_s), *how)


_LEAST = {
    "rpm": 0, "tpm": 0, "burst_s": 0, "concurrency": 0, "max_faults": 0, "words": 1, "speed": 0, "slow_s": 0,
}  # fmt: skip
_READ: dict[str, Callable[[str], Any]] = {
    "int": int,
    "float": float,
    "bool": _flag,
    "str": str,
    "tuple[float, float]": _range,
    "tuple[str, ...]": lambda text: tuple(name for name in text.split(",") if name),
    "tuple[Outage, ...]": _outages,
}
"""How an option is read, by its annotation."""
_READ_OF = {field.name: _READ[str(field.type)] for field in dataclasses.fields(Behaviour) if str(field.type) in _READ}
