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

from batchmix.rehearsal.option_values import REFUSED, Limit, Outage, flag, limits, number_range, outages
from batchmix.rehearsal.reply_table import REPLY_KINDS

_MARKER = re.compile(r"\[\[rehearsal:([a-z0-9_]+?)(?:x(\d+))?\]\]")
_NAME = re.compile(r"(\w+)(?:\[(.+)\])?")
"""The name of an option or of a kind of reply, optionally followed by a model in brackets."""
_PER_MODEL = {
    "latency", "speed", "words", "rpm", "tpm", "burst_s", "concurrency", "price", "successor", "needs_tokens",
    "structured_outputs", "cache", "cache_s", "cache_lag_s", "limit", "limit_by", "refuse_with", "queue", "queue_s",
}  # fmt: skip
"""The options that can also be set for a single model."""


@dataclasses.dataclass(frozen=True)
class Behaviour:
    """The options of the rehearsal provider. The kinds of replies are listed in `reply_table.REPLY_KINDS`.

    The text form is a query such as `latency=0.05-0.2&500=0.02&rpm[m]=60`. Each part sets an option, or gives the share
    (0 to 1) of requests that get a kind of reply. A part with a model in brackets applies only to that model, which
    then has limits of its own.

    Faults are pseudo-random but repeatable: they depend only on `seed`, the request's body, and how often that body has
    arrived. A marker in the prompt overrides the shares: `[[rehearsal:500]]` chooses a kind of reply, and
    `[[rehearsal:500x2]]` chooses it for the first two attempts. Of several markers, the first that applies counts.
    """

    seed: int = 0
    """The seed of the pseudo-random answers, faults and latencies."""
    latency: tuple[float, float] = (0.0, 0.0)
    """Seconds before a reply starts: a number, or a range such as `0.05-0.2`."""
    speed: float = 0.0
    """Words per second at which an answer is sent. 0 sends it all at once."""
    words: int = 12
    """Words in an answer, on average."""
    slow_s: float = 5.0
    """Seconds over which the kind `drip` spreads an answer."""
    rpm: float = 0.0
    """Requests per minute. 0 means no limit."""
    tpm: float = 0.0
    """Tokens per minute. 0 means no limit. A request counts its prompt and, per choice, `max_tokens` or the answer."""
    burst_s: float = 60.0
    """The capacity of the token buckets for `rpm` and `tpm`: how many seconds fill them. They start full."""
    limit: tuple[Limit, ...] = ()
    """More limits, comma-separated: AMOUNT:UNIT:SECONDS, optionally with a window, as in `60:requests:60:fixed`."""
    limit_by: str = "model"
    """What the limits are kept for: each `model` with a behaviour of its own, or each `connection`."""
    refuse_with: str = ""
    """The kind of reply that requests over a limit get at once. Empty for `throttled`, or `busy` over `concurrency`."""
    rate_headers: bool = True
    """Whether headers report the limits and, with a 429, how long to wait."""
    reset_headers: bool = True
    """Whether the headers that report the limits say when each is full again."""
    concurrency: int = 0
    """The most requests in flight. Further requests are refused. 0 means no limit."""
    queue: int = 0
    """How many requests over `concurrency` wait for a place instead of being refused."""
    queue_s: float = 0.0
    """Seconds after which a request that waits for a place is refused. 0 lets it wait."""
    faults: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """The share of requests that get each kind of reply. In text form, each kind is an option of its own."""
    max_faults: int = 3
    """The most temporary faults that the shares give to the same body. Refusals are permanent and have no bound."""
    outage: tuple[Outage, ...] = ()
    """Outages, comma-separated: START_S:LENGTH_S, optionally with a kind of reply or `refused`, as in `30:60:hang`."""
    structured_outputs: bool = True
    """Whether the models have structured outputs. If not, `response_format` of type `json_schema` is ignored."""
    needs_tokens: int = 512
    """The least `max_tokens` with which an answer of the kind `cut_off_answer` is not cut off."""
    reject: float = 0.0
    """The share of prompts that are refused with a 400 at every attempt."""
    key: str = ""
    """The only API key that is accepted. If empty, any key is accepted, and none is needed."""
    models: tuple[str, ...] = ()
    """The ids of the models that are served, comma-separated. If empty, any model is served."""
    price: tuple[float, float] = (0.15, 0.6)
    """USD per 1M tokens of prompt and of completion, such as `0.15-0.6`. A cached token costs half, or a tenth if
    `cache=marked`, where writing it costs 1.25 times as much as the prompt."""
    cache: str = ""
    """The prompt cache: `automatic`, as OpenAI has it, or `marked`, as Claude has it. Empty for none."""
    cache_s: float = 300.0
    """For how many seconds after its last use a prompt stays in the cache."""
    cache_lag_s: float = 0.0
    """How many seconds after the end of its answer a prompt can first be read from the cache."""
    successor: str = "rehearsal-2"
    """The id of the model that the kind `404_retired` recommends instead."""
    balance: int = -1
    """The account's balance, as a number of answers. -1 means unlimited."""
    balance_usd: float = -1.0
    """The account's balance in USD. -1 means unlimited."""
    broke: str = "403"
    """The kind of reply that requests get once the balance is used up."""
    ledger: bool = True
    """Whether a record of each request is kept."""
    gzip: bool = False
    """Whether bodies over 1 KB are compressed with gzip for clients that accept it."""
    stable: bool = True
    """Whether even `id` and `created` depend only on the request, so that whole bodies can be compared."""
    own: Mapping[str, Behaviour] = dataclasses.field(default_factory=dict)
    """The behaviour of models that have their own. In text form, this is options with the model in brackets."""

    def __post_init__(self) -> None:
        for name, share in (*self.faults.items(), ("reject", self.reject)):
            if not 0 <= share <= 1:
                raise ValueError(f"rehearsal's {name} is a share, from 0 to 1")
        if sum(self.faults.values()) > 1 + 1e-9:
            raise ValueError("rehearsal's shares come to more than 1")
        for name, minimum in _MINIMUM.items():
            if not minimum <= getattr(self, name) < math.inf:
                raise ValueError(f"rehearsal's {name} must be {minimum} or more")
        if self.cache not in {"", "automatic", "marked"}:
            raise ValueError("rehearsal's cache is automatic or marked")
        if not 0 <= self.latency[0] <= self.latency[1] < math.inf:
            raise ValueError("rehearsal's latency is a number of seconds or a range, such as 0.05-0.2")
        if self.limit_by not in {"model", "connection"}:
            raise ValueError("rehearsal's limit_by is model or connection")
        refusal = [self.refuse_with] if self.refuse_with else []
        for name in (
            *self.faults,
            self.broke,
            *refusal,
            *(outage.kind for outage in self.outage if outage.kind != REFUSED),
        ):
            if name not in REPLY_KINDS:
                raise ValueError(f"rehearsal has no kind {name!r}")
        for model in self.own if self.models else ():
            if model not in self.models:
                raise ValueError(f"rehearsal's models have no {model!r}")

    @classmethod
    def parse(cls, text: str) -> Behaviour:
        """Read a query such as `latency=0.05-0.2&rpm=600`. Raises `ValueError`."""
        options: dict[str, dict[str, Any]] = {"": {}}
        for name, value in parse_qsl(text.strip(), keep_blank_values=True):
            option, model = _option(name)
            _read(options.setdefault(model, {}), option, value)
        general = options.pop("")
        common = cls(**general)
        own = {}
        for model, special in options.items():
            faults = {**common.faults, **special.pop("faults", {})}
            own[model] = dataclasses.replace(common, faults=faults, models=(), **special)
        return dataclasses.replace(common, own=own) if own else common

    def for_model(self, model: str) -> Behaviour:
        """Return the model's own behaviour if it has one, or else this behaviour."""
        return self.own.get(model, self)

    def outage_at(self, elapsed_s: float) -> str | None:
        """Return the kind of the outage at a time in seconds. None if there is no outage at that time."""
        for outage in self.outage:
            if outage.start_s <= elapsed_s < outage.start_s + outage.length_s:
                return outage.kind
        return None

    def marked_kind(self, prompt: str, attempt: int) -> str | None:
        """Return the kind of reply in the first marker of a prompt that applies to this attempt. None without one.

        The kind may be one that does not exist.
        """
        for marker in _MARKER.finditer(prompt) if "[[rehearsal:" in prompt else ():
            if marker[2] is None or attempt <= int(marker[2]):
                return marker[1]
        return None

    def drawn_kind(self, digest: str, attempt: int) -> str | None:
        """Draw the kind of faulty reply for an attempt by the share configured for each kind. None for a plain answer.

        `digest` identifies the request's body. With the same seed, the same body and attempt always draw the same kind.
        """
        if not self._shares:
            return None
        point = self.draw(digest, "fault", attempt)
        for share, kind in self._shares:
            point -= share
            if point < 0:
                return kind
        return None

    def latency_s(self, digest: str, attempt: int) -> float:
        """Return the latency of this attempt to send a body, in seconds."""
        low, high = self.latency
        return low if low == high else low + (high - low) * self.draw(digest, "latency", attempt)

    def draw(self, *values: object) -> float:
        """Return a pseudo-random number in [0, 1) that depends only on the seed and these values."""
        text = "|".join(map(str, (self.seed, *values)))
        return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=6).digest()) / 2**48

    @functools.cached_property
    def _shares(self) -> list[tuple[float, str]]:
        return [(self.faults[kind], kind) for kind in REPLY_KINDS if self.faults.get(kind)]


def _option(name: str) -> tuple[str, str]:
    """Split `NAME` or `NAME[MODEL]` into the name and the model, which is empty if none is given.

    The name is that of an option or of a kind of reply. Raises `ValueError` if it is unknown.
    """
    match = _NAME.fullmatch(name)
    option, model = (match[1], match[2] or "") if match else (name, "")
    valid = [*_PER_MODEL, *REPLY_KINDS] if model else [*_PARSERS, *REPLY_KINDS]
    if option not in valid or (model and option == "reject"):
        near = difflib.get_close_matches(option, valid, n=1)
        hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(valid)}"
        raise ValueError(f"rehearsal has no option {name!r}; {hint}")
    return option, model


def _read(options: dict[str, Any], option: str, value: str) -> None:
    """Parse the value of an option, or the share of a kind of reply, and add it to `options`. Raises `ValueError`."""
    try:
        if option in _PARSERS:
            options[option] = _PARSERS[option](value)
        else:
            options.setdefault("faults", {})[option] = float(value)
    except ValueError:
        raise ValueError(f"rehearsal can't take {value!r} for {option}") from None


_MINIMUM = {
    "rpm": 0, "tpm": 0, "burst_s": 0, "concurrency": 0, "queue": 0, "queue_s": 0, "max_faults": 0, "words": 1,
    "speed": 0, "slow_s": 0, "needs_tokens": 1, "cache_s": 0, "cache_lag_s": 0,
}  # fmt: skip
"""The minimum of each numeric option."""
_TYPE_PARSERS: dict[str, Callable[[str], Any]] = {
    "int": int,
    "float": float,
    "bool": flag,
    "str": str,
    "tuple[float, float]": number_range,
    "tuple[str, ...]": lambda text: tuple(name for name in text.split(",") if name),
    "tuple[Outage, ...]": outages,
    "tuple[Limit, ...]": limits,
}
"""The function that parses the text of an option, by the annotation of its field in `Behaviour`."""
_PARSERS = {
    field.name: _TYPE_PARSERS[str(field.type)]
    for field in dataclasses.fields(Behaviour)
    if str(field.type) in _TYPE_PARSERS
}
