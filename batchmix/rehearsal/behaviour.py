"""The options of the rehearsal provider, read from a query such as `latency=0.1-0.5&rpm=600`."""

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

from batchmix.rehearsal.reply_table import REPLY_KINDS

_MARKER = re.compile(r"\[\[rehearsal:([a-z0-9_]+?)(?:x(\d+))?\]\]")
_RANGE = re.compile(r"([\d.]+(?:e[+-]?\d+)?)(?:-([\d.]+(?:e[+-]?\d+)?))?")
_NAME = re.compile(r"(\w+)(?:\[(.+)\])?")
"""An option or a kind, with or without a model in brackets."""
REFUSED = "refused"
"""An outage that refuses connections; it is no kind of reply, since there is none."""
_PER_MODEL = {"latency", "speed", "words", "rpm", "tpm", "burst_s", "concurrency", "price", "successor"}
"""The options that can be given for a single model."""


@dataclasses.dataclass(frozen=True)
class Outage:
    """A period in which every request fails."""

    start_s: float
    """Seconds since the behaviour was adopted."""
    length_s: float
    how: str = "503_down"
    """A kind of reply, or `refused`: connections are cut, and new ones refused."""


@dataclasses.dataclass(frozen=True)
class Behaviour:
    """The options of the rehearsal provider. `reply_table.REPLY_KINDS` has the kinds of replies.

    As text, `latency=0.05-0.2&500=0.02&rpm[m]=60`: an option, or a kind with the share of requests that get it, from 0
    to 1. With a model in brackets it is for that model only, which then has limits of its own. The reply to a request
    depends only on `seed`, its body and how often that body came before, so that tests are repeatable. A marker in the
    prompt takes precedence over the shares: `[[rehearsal:500]]`, or `[[rehearsal:500x2]]` for the first two attempts
    only; of several markers the first that still applies counts.
    """

    seed: int = 0
    """Other seeds give other answers, faults and latencies."""
    latency: tuple[float, float] = (0.0, 0.0)
    """Seconds, or a range of them such as `0.05-0.2`."""
    speed: float = 0.0
    """Words of an answer per second; 0: all at once."""
    words: int = 12
    """Words in an answer, on average."""
    slow_s: float = 5.0
    """Seconds over which `drip` sends an answer."""
    rpm: float = 0.0
    """Requests per minute; 0: no limit."""
    tpm: float = 0.0
    """Tokens per minute: the prompt's and, for each choice, `max_tokens` or the answer's; 0: no limit."""
    burst_s: float = 60.0
    """The size of the limits' buckets, in seconds; they start full."""
    rate_headers: bool = True
    """Whether headers report the limits and, with a 429, the wait."""
    concurrency: int = 0
    """Requests at once; more get a 429. 0: no limit."""
    faults: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """The share of requests that get each kind. As text, each kind is an option of its own."""
    max_faults: int = 3
    """The most faults by these shares for the same body; refusals are permanent and not bounded."""
    outage: tuple[Outage, ...] = ()
    """Outages as START_S:LENGTH_S, optionally with a kind or `refused` (`30:60:hang`); several comma-separated."""
    reject: float = 0.0
    """The share of prompts that always get a 400."""
    key: str = ""
    """The only key that is accepted; empty: any or none."""
    models: tuple[str, ...] = ()
    """The models that are served, comma-separated; empty: any."""
    price: tuple[float, float] = (0.15, 0.6)
    """USD per 1M tokens of prompt and of completion, such as `0.15-0.6`; a cached token costs half."""
    successor: str = "rehearsal-2"
    """The model that `404_retired` names."""
    balance: int = -1
    """The account's balance in answers; -1: unlimited."""
    balance_usd: float = -1.0
    """The account's balance in USD; -1: unlimited."""
    broke: str = "403"
    """The kind of reply when the balance is used up."""
    ledger: bool = True
    """Whether each request is recorded."""
    gzip: bool = False
    """Whether bodies over 1 KB are compressed for clients that accept it."""
    stable: bool = True
    """Whether `id` and `created` too depend only on the request, so that whole bodies can be compared."""
    own: Mapping[str, Behaviour] = dataclasses.field(default_factory=dict)
    """The behaviour of single models. As text, options with the model in brackets."""

    def __post_init__(self) -> None:
        for name, share in (*self.faults.items(), ("reject", self.reject)):
            if not 0 <= share <= 1:
                raise ValueError(f"rehearsal's {name} is a share, from 0 to 1")
        if sum(self.faults.values()) > 1 + 1e-9:
            raise ValueError("rehearsal's shares come to more than 1")
        for name, least in _MINIMUM.items():
            if not least <= getattr(self, name) < math.inf:
                raise ValueError(f"rehearsal's {name} must be {least} or more")
        if not 0 <= self.latency[0] <= self.latency[1] < math.inf:
            raise ValueError("rehearsal's latency is a number of seconds or a range, such as 0.05-0.2")
        for name in (*self.faults, self.broke, *(one.how for one in self.outage if one.how != REFUSED)):
            if name not in REPLY_KINDS:
                raise ValueError(f"rehearsal has no kind {name!r}")
        for model in self.own if self.models else ():
            if model not in self.models:
                raise ValueError(f"rehearsal's models have no {model!r}")

    @classmethod
    def parse(cls, text: str) -> Behaviour:
        """Read a query such as `latency=0.05-0.2&rpm=600`. Raises `ValueError`."""
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
        """Return the behaviour of a model."""
        return self.own.get(model, self)

    def outage_at(self, elapsed_s: float) -> str | None:
        """Return the kind of failure (or `refused`) of the outage at a time, or None outside of outages."""
        for one in self.outage:
            if one.start_s <= elapsed_s < one.start_s + one.length_s:
                return one.how
        return None

    def marked(self, text: str, attempt: int) -> str | None:
        """Return the name in the first marker that applies to the n-th attempt, which may not be a kind's."""
        for marker in _MARKER.finditer(text) if "[[rehearsal:" in text else ():
            if marker[2] is None or attempt <= int(marker[2]):
                return marker[1]
        return None

    def drawn(self, digest: str, attempt: int) -> str | None:
        """Return the kind that the shares give to the n-th attempt of a body, or None."""
        if not self._shares:
            return None
        point = self.draw(digest, "fault", attempt)
        for share, kind in self._shares:
            point -= share
            if point < 0:
                return kind
        return None

    def latency_s(self, digest: str, attempt: int) -> float:
        """Return the latency of the n-th attempt of a body."""
        low, high = self.latency
        return low if low == high else low + (high - low) * self.draw(digest, "latency", attempt)

    def draw(self, *of: object) -> float:
        """Return a pseudo-random number in [0, 1) that depends only on the seed and the arguments."""
        text = "|".join(map(str, (self.seed, *of)))
        return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=6).digest()) / 2**48

    @functools.cached_property
    def _shares(self) -> list[tuple[float, str]]:
        return [(self.faults[kind], kind) for kind in REPLY_KINDS if self.faults.get(kind)]


def _option(name: str) -> tuple[str, str]:
    """Return an option's or a kind's name, and the model it is for (empty: all). Raises `ValueError`."""
    found = _NAME.fullmatch(name)
    option, model = (found[1], found[2] or "") if found else (name, "")
    valid = [*_PER_MODEL, *REPLY_KINDS] if model else [*_PARSERS, *REPLY_KINDS]
    if option not in valid or (model and option == "reject"):
        near = difflib.get_close_matches(option, valid, n=1)
        hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(valid)}"
        raise ValueError(f"rehearsal has no option {name!r}; {hint}")
    return option, model


def _read(given: dict[str, Any], option: str, value: str) -> None:
    """Add an option's value, or a kind's share, to `given`. Raises `ValueError`."""
    try:
        if option in _PARSERS:
            given[option] = _PARSERS[option](value)
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


_MINIMUM = {
    "rpm": 0, "tpm": 0, "burst_s": 0, "concurrency": 0, "max_faults": 0, "words": 1, "speed": 0, "slow_s": 0,
}  # fmt: skip
_TYPE_PARSERS: dict[str, Callable[[str], Any]] = {
    "int": int,
    "float": float,
    "bool": _flag,
    "str": str,
    "tuple[float, float]": _range,
    "tuple[str, ...]": lambda text: tuple(name for name in text.split(",") if name),
    "tuple[Outage, ...]": _outages,
}
"""The parser of an option's text, by the option's annotation."""
_PARSERS = {
    field.name: _TYPE_PARSERS[str(field.type)]
    for field in dataclasses.fields(Behaviour)
    if str(field.type) in _TYPE_PARSERS
}
