"""The gateway's public list of models: what there is, what it costs, what has been retired.

AiHubMix answers `GET /api/v1/models` with an ETag and `{"data": [{"model_id", "context_length", "max_output",
"pricing": {"input", "output", "cache_read"?, "cache_write"?, "tiers"?}, "retire_stage", "successor_model", …}]}`,
prices in USD per 1M tokens. It is asked again each time, and kept under the user's cache folder for when it can't be
reached.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import hashlib
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from batchmix.errors import JobError
from batchmix.formats.lenient_json import read_json
from batchmix.http.get import FetchError, fetch
from batchmix.job import MOST_USD, Price

_logger = logging.getLogger(__name__)
_TIMEOUT_S = 5.0
_HOSTS = ("aihubmix.com", "inferera.com")
"""These, and what is below them, have such a list."""
_LONGEST_TEXT = 200
_WRITING_NOTHING = ("embedding", "rerank")
_RETIRED = ("retired", "removed", "offline")
_INT64 = 2**63


class Offer(msgspec.Struct, frozen=True):
    """One model of the catalogue; all text in it is printable."""

    id: str
    price: Price | None
    """None: it says none."""
    context_length: int | None
    """Tokens."""
    max_output: int | None
    """Tokens."""
    retire_stage: str
    """In the gateway's words; empty: nothing is said."""
    successor: str
    """The model to take instead; empty: none is named."""
    tiered: bool = False
    """The price is where tiers begin that change with the prompt's length, and no answer can be priced by it."""

    @property
    def retired(self) -> bool:
        """Whether it can no longer be asked."""
        return any(word in self.retire_stage.lower() for word in _RETIRED)


class Catalogue(msgspec.Struct, frozen=True):
    """What a gateway offers, by id; `fresh` where it said so just now."""

    offers: dict[str, Offer]
    fresh: bool

    @property
    def prices(self) -> dict[str, Price]:
        """The prices that are known, by id; no price is better than a wrong one, so those with tiers are left out."""
        return {offer.id: offer.price for offer in self.offers.values() if offer.price and not offer.tiered}

    def check(self, ids: Iterable[str]) -> None:
        """Raise `JobError` for a model that is not there any more, or never was, naming what to take instead.

        An old copy proves nothing: a model may be newer.
        """
        for model in ids if self.fresh and self.offers else ():
            offer = self.offers.get(model)
            if offer is None:
                raise JobError(f"model: the gateway's catalogue has no {model!r}{self._nearest(model)}; {_ANYWAY}")
            if offer.retired:
                instead = f"; its successor is {offer.successor}" if offer.successor else ""
                raise JobError(f"model: {model} is retired{instead}")

    def _nearest(self, model: str) -> str:
        folded = {name.casefold(): name for name, offer in self.offers.items() if not offer.retired}
        near = difflib.get_close_matches(model.casefold(), folded, n=3, cutoff=0.5)
        return f"; did you mean {' or '.join(folded[name] for name in near)}?" if near else ""


_ANYWAY = "batchmix models lists what there is, and a price under [prices] lets a model pass that is not listed"


def has_catalogue(base_url: str) -> bool:
    """Return whether an API is one of those that have a catalogue."""
    host = urlsplit(base_url).hostname or ""
    return any(host == known or host.endswith(f".{known}") for known in _HOSTS)


def read_catalogue(body: bytes) -> dict[str, Offer]:
    """Return the models in a catalogue; what is odd is left out. Raises `ValueError` where it is none at all."""
    found = read_json(body)
    if found is None:
        raise ValueError("it is no JSON")
    data = found.get("data") if isinstance(found, dict) else None
    if not isinstance(data, list):
        raise ValueError("it has no list of models")
    offers = (_offer(entry) for entry in data if isinstance(entry, dict))
    return {offer.id: offer for offer in offers if offer.id}


def _offer(entry: dict[str, Any]) -> Offer:
    stage = _text(entry.get("retire_stage"))
    return Offer(
        id=_text(entry.get("model_id")),
        price=_price(entry.get("pricing"), writes_nothing=_text(entry.get("types")) in _WRITING_NOTHING),
        context_length=_count(entry.get("context_length")),
        max_output=_count(entry.get("max_output")),
        retire_stage="" if stage.lower() in {"none", "active", "normal", "0"} else stage,
        successor=_text(entry.get("successor_model")),
        tiered=isinstance(entry.get("pricing"), Mapping) and bool(entry["pricing"].get("tiers")),
    )


def _price(pricing: Any, *, writes_nothing: bool) -> Price | None:
    if not isinstance(pricing, Mapping):
        return None
    asked, said = _usd(pricing.get("input")), 0.0 if writes_nothing else _usd(pricing.get("output"))
    if asked is None or said is None:
        return None
    cached, written = (_usd(pricing.get(name)) for name in ("cache_read", "cache_write"))
    return Price(asked, said, cached, cache_write=written)


def _usd(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if 0 <= number <= MOST_USD else None


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 < value < _INT64 else None


def _text(value: Any) -> str:
    """Return text that any terminal can show."""
    if not isinstance(value, str):
        return ""
    return "".join(char if char.isprintable() else "?" for char in value.strip())[:_LONGEST_TEXT]


class _Kept(msgspec.Struct):
    etag: str
    body: str


def get_catalogue(base_url: str, folder: Path | None = None) -> Catalogue | None:
    """Return a gateway's catalogue, an old copy of it where it can't be reached, or None. Never raises for either.

    Waits five seconds at most; to be called in a thread that has no event loop.
    """
    path = (folder or cache_folder()) / f"catalogue-{hashlib.sha256(base_url.encode()).hexdigest()[:16]}.json"
    kept = _kept(path)
    url = f"{base_url.removesuffix('/v1')}/api/v1/models"
    try:
        found = asyncio.run(fetch(url, kept.etag if kept else "", _TIMEOUT_S))
        if found is None and kept is not None:
            return Catalogue(read_catalogue(kept.body.encode()), fresh=True)
        etag, body = found or ("", b"")
        offers = read_catalogue(body)
        _keep(path, _Kept(etag, body.decode("utf-8", "replace")))
        return Catalogue(offers, fresh=True)
    except (FetchError, JobError, ValueError) as error:
        _logger.info("no catalogue from %s: %s", urlsplit(url).netloc, error)
    with contextlib.suppress(ValueError):
        return Catalogue(read_catalogue(kept.body.encode()), fresh=False) if kept else None
    return None


def cache_folder() -> Path:
    """Return where this user's programs keep what they can get again (XDG Base Directory Specification)."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(given) if Path(given).is_absolute() else Path.home() / ".cache") / "batchmix"


def _kept(path: Path) -> _Kept | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Kept)
    except (OSError, msgspec.MsgspecError, RecursionError):
        return None


def _keep(path: Path, kept: _Kept) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:  # noqa: PTH123 - opened with its mode above
            file.write(msgspec.json.encode(kept))
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        _logger.info("the catalogue can't be kept: %s", error.strerror)
