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
"""The name of an option or of a kind of reply, optionally followed by a model in brackets."""
REFUSED = "refused"
"""The value of `Outage.how` for refused connections. It is no kind of reply, since nothing is replied."""
_PER_MODEL = {"latency", "speed", "words", "rpm", "tpm", "burst_s", "concurrency", "price", "successor"}
"""The options that can also be given for a single model."""


@dataclasses.dataclass(frozen=True)
class Outage:
    """A period in which every request fails."""

    start_s: float
    """Seconds since the behaviour was adopted."""
    length_s: float
    how: str = "503_down"
    """The kind of reply that all requests get; or `refused`: open connections are cut, and new ones refused."""


@dataclasses.dataclass(frozen=True)
class Behaviour:
    """The options of the rehearsal provider. The kinds of replies are listed in `reply_table.REPLY_KINDS`.

    The text form is a query such as `latency=0.05-0.2&500=0.02&rpm[m]=60`. Each part sets an option, or gives the share
    (0 to 1) of requests that get a kind of reply. With a model in brackets, it applies to that model only, which then
    has limits of its own.

    Faults are pseudo-random but repeatable: they depend only on `seed`, the request's body, and how often that body has
    come. A marker in the prompt overrides the shares: `[[rehearsal:500]]` chooses a kind, `[[rehearsal:500x2]]` only
    for the first two attempts. Of several markers, the first that still applies counts.
    """

    seed: int = 0
    """The seed of the pseudo-random answers, faults and latencies."""
    latency: tuple[float, float] = (0.0, 0.0)
    """Seconds before a reply starts: a number, or a range such as `0.05-0.2`."""
    speed: float = 0.0
    """Words per second at which an answer is sent; 0: all at once."""
    words: int = 12
    """Words in an answer, on average."""
    slow_s: float = 5.0
    """Seconds over which the kind `drip` spreads an answer."""
    rpm: float = 0.0
    """Requests per minute; 0: no limit."""
    tpm: float = 0.0
    """Tokens per minute; 0: no limit. A request counts its prompt and, per choice, `max_tokens` or the answer."""
    burst_s: float = 60.0
    """The capacity of the token buckets behind `rpm` and `tpm`, in seconds' worth of the limit. They start full."""
    rate_headers: bool = True
    """Whether headers report the limits and, with a 429, how long to wait."""
    concurrency: int = 0
    """The most requests at once; further ones get a 429. 0: no limit."""
    faults: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """The share of requests that get each kind of reply. As text, each kind is an option of its own."""
    max_faults: int = 3
    """The most temporary faults that the shares give to the same body. Refusals are permanent and not bounded."""
    outage: tuple[Outage, ...] = ()
    """Outages as START_S:LENGTH_S, optionally with a kind or `refused` (`30:60:hang`); several comma-separated."""
    reject: float = 0.0
    """The share of prompts that get a 400 each time."""
    key: str = ""
    """The only API key that is accepted; empty: any key or none."""
    models: tuple[str, ...] = ()
    """The ids of the models that are served, comma-separated; empty: any."""
    price: tuple[float, float] = (0.15, 0.6)
    """USD per 1M tokens of prompt and of completion, such as `0.15-0.6`; a cached token costs half."""
    successor: str = "rehearsal-2"
    """The id of the model that the kind `404_retired` recommends instead."""
    balance: int = -1
    """The account's balance in answers; -1: unlimited."""
    balance_usd: float = -1.0
    """The account's balance in USD; -1: unlimited."""
    broke: str = "403"
    """The kind of reply after the balance is used up."""
    ledger: bool = True
    """Whether a record of each request is kept."""
    gzip: bool = False
    """Whether bodies over 1 KB are compressed for clients that accept it."""
    stable: bool = True
    """Whether even `id` and `created` depend only on the request, so that whole bodies can be compared."""
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
        for name in (*self.faults, self.broke, *(outage.how for outage in self.outage if outage.how != REFUSED)):
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
        """Return the behaviour of a model: its own, or else this one."""
        return self.own.get(model, self)

    def outage_at(self, elapsed_s: float) -> str | None:
        """Return how requests fail at a time in seconds: a kind of reply or `refused`; None outside of outages."""
        for outage in self.outage:
            if outage.start_s <= elapsed_s < outage.start_s + outage.length_s:
                return outage.how
        return None

    def marked(self, text: str, attempt: int) -> str | None:
        """Return the name in the first marker that applies to this attempt, or None. The name may be no valid kind."""
        for marker in _MARKER.finditer(text) if "[[rehearsal:" in text else ():
            if marker[2] is None or attempt <= int(marker[2]):
                return marker[1]
        return None

    def drawn(self, digest: str, attempt: int) -> str | None:
        """Return the kind of reply that the shares give to this attempt of a body, or None."""
        if not self._shares:
            return None
        point = self.draw(digest, "fault", attempt)
        for share, kind in self._shares:
            point -= share
            if point < 0:
                return kind
        return None

    def latency_s(self, digest: str, attempt: int) -> float:
        """Return the seconds of latency for this attempt of a body."""
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
    """Split `NAME[MODEL]` into a valid option or kind and its model (empty: all). Raises `ValueError`."""
    found = _NAME.fullmatch(name)
    option, model = (found[1], found[2] or "") if found else (name, "")
    valid = [*_PER_MODEL, *REPLY_KINDS] if model else [*_PARSERS, *REPLY_KINDS]
    if option not in valid or (model and option == "reject"):
        near = difflib.get_close_matches(option, valid, n=1)
        hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(valid)}"
        raise ValueError(f"rehearsal has no option {name!r}; {hint}")
    return option, model


def _read(given: dict[str, Any], option: str, value: str) -> None:
    """Parse an option's value, or a kind's share, and store it in `given`. Raises `ValueError`."""
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
    return tuple(_outage(*outage.split(":")) for outage in text.split(","))


def _outage(start_s: str, length_s: str = "", *how: str) -> Outage:
    if len(how) > 1 or not 0 <= float(start_s) < math.inf or not 0 < float(length_s) < math.inf:
        raise ValueError(start_s)
    return Outage(float(start_s), float(length_s), *how)


_MINIMUM = {
    "rpm": 0, "tpm": 0, "burst_s": 0, "concurrency": 0, "max_faults": 0, "words": 1, "speed": 0, "slow_s": 0,
}  # fmt: skip
"""The least valid value of each numeric option."""
_TYPE_PARSERS: dict[str, Callable[[str], Any]] = {
    "int": int,
    "float": float,
    "bool": _flag,
    "str": str,
    "tuple[float, float]": _range,
    "tuple[str, ...]": lambda text: tuple(name for name in text.split(",") if name),
    "tuple[Outage, ...]": _outages,
}
"""For each annotation of a `Behaviour` field, the function that parses the option's text."""
_PARSERS = {
    field.name: _TYPE_PARSERS[str(field.type)]
    for field in dataclasses.fields(Behaviour)
    if str(field.type) in _TYPE_PARSERS
}
