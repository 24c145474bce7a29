"""Reads the gateway's public list of models, with their prices, their limits, and whether they are retired.

AiHubMix answers `GET /api/v1/models` with an ETag and `{"data": [{"model_id", "context_length", "max_output",
"pricing": {"input", "output", "cache_read"?, "cache_write"?, "tiers"?}, "retire_stage", "successor_model", …}]}`,
prices in USD per 1M tokens. The list is requested each time. A copy in the user's cache folder is used when the gateway
can't be reached.
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
from batchmix.job import MAX_USD, Price

_logger = logging.getLogger(__name__)
_TIMEOUT_S = 5.0
_HOSTS = ("aihubmix.com", "inferera.com")
"""These domains and their subdomains serve a catalogue."""
_MAX_TEXT = 200
"""Texts in the catalogue are cut to this many characters."""
_NO_COMPLETION = ("embedding", "rerank")
"""Types of models that generate no completion tokens."""
_RETIRED = ("retired", "removed", "offline")
"""A `retire_stage` that contains one of these words means that the model can no longer be used."""
_INT64 = 2**63


class CatalogueModel(msgspec.Struct, frozen=True):
    """One model of the catalogue. All its texts are printable."""

    id: str
    price: Price | None
    """None if the catalogue lists no price."""
    context_length: int | None
    """The maximum number of tokens of the prompt and the completion together."""
    max_output: int | None
    """The maximum number of tokens of a completion."""
    retire_stage: str
    """The stage of retirement in the gateway's words. Empty if the model is in normal use."""
    successor: str
    """The model to use instead. Empty if the gateway names none."""
    features: tuple[str, ...] = ()
    """What the model can do, in the gateway's words, such as `structured_outputs`."""
    tiered: bool = False
    """Whether the price depends on the prompt's length. If so, `price` is the lowest tier and not used for costs."""

    @property
    def retired(self) -> bool:
        """Whether the model can no longer be used."""
        return any(word in self.retire_stage.lower() for word in _RETIRED)


class Catalogue(msgspec.Struct, frozen=True):
    """A gateway's catalogue of models."""

    models: dict[str, CatalogueModel]
    """The models by id."""
    fresh: bool
    """Whether the gateway confirmed it just now. A cached copy is not fresh."""
    others: CatalogueModel | None = None
    """What holds for each model that is not listed. None if nothing is known of them."""

    @property
    def prices(self) -> dict[str, Price]:
        """The prices by model id. Tiered prices are left out, because no price is better than a wrong one."""
        return {model.id: model.price for model in self.models.values() if model.price and not model.tiered}

    def lacks(self, id_: str, feature: str) -> bool:
        """Return whether a model can't do something, as far as the catalogue says."""
        model = self.models.get(id_, self.others)
        return model is not None and feature not in model.features

    def check(self, ids: Iterable[str]) -> None:
        """Raise `JobError` if a model is retired or not in the catalogue. The message names an alternative.

        A cached copy is not checked, because a model may be newer than the copy.
        """
        for id_ in ids if self.fresh and self.models else ():
            model = self.models.get(id_)
            if model is None:
                raise JobError(f"model: the gateway's catalogue has no {id_!r}{self._nearest(id_)}; {_ANYWAY}")
            if model.retired:
                instead = f"; its successor is {model.successor}" if model.successor else ""
                raise JobError(f"model: {id_} is retired{instead}")

    def _nearest(self, id_: str) -> str:
        folded = {name.casefold(): name for name, model in self.models.items() if not model.retired}
        near = difflib.get_close_matches(id_.casefold(), folded, n=3, cutoff=0.5)
        return f"; did you mean {' or '.join(folded[name] for name in near)}?" if near else ""


_ANYWAY = "list all with batchmix models, or use a model that is not listed by giving its price under [prices]"


def has_catalogue(base_url: str) -> bool:
    """Return whether the API at this address serves a catalogue."""
    host = urlsplit(base_url).hostname or ""
    return any(host == domain or host.endswith(f".{domain}") for domain in _HOSTS)


def read_catalogue(body: bytes) -> dict[str, CatalogueModel]:
    """Return the models of a catalogue by id, without malformed ones.

    Raises `ValueError` if the body is not a catalogue.
    """
    decoded = read_json(body)
    if decoded is None:
        raise ValueError("it is not JSON")
    data = decoded.get("data") if isinstance(decoded, dict) else None
    if not isinstance(data, list):
        raise ValueError("it has no list of models")
    models = (_model(entry) for entry in data if isinstance(entry, dict))
    return {model.id: model for model in models if model.id}


def _model(entry: dict[str, Any]) -> CatalogueModel:
    stage = _text(entry.get("retire_stage"))
    return CatalogueModel(
        id=_text(entry.get("model_id")),
        price=_price(entry.get("pricing"), has_completions=_text(entry.get("types")) not in _NO_COMPLETION),
        context_length=_count(entry.get("context_length")),
        max_output=_count(entry.get("max_output")),
        retire_stage="" if stage.lower() in {"none", "active", "normal", "0"} else stage,
        successor=_text(entry.get("successor_model")),
        features=_words(entry.get("features")),
        tiered=isinstance(entry.get("pricing"), Mapping) and bool(entry["pricing"].get("tiers")),
    )


def _price(pricing: Any, *, has_completions: bool) -> Price | None:
    if not isinstance(pricing, Mapping):
        return None
    prompt, completion = _usd(pricing.get("input")), _usd(pricing.get("output")) if has_completions else 0.0
    if prompt is None or completion is None:
        return None
    cached, written = (_usd(pricing.get(name)) for name in ("cache_read", "cache_write"))
    return Price(prompt, completion, cached, cache_write=written)


def _usd(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if 0 <= number <= MAX_USD else None


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 < value < _INT64 else None


def _text(value: Any) -> str:
    """Return a text cut to `_MAX_TEXT`, with `?` for unprintable characters. Empty for a value that is not text."""
    if not isinstance(value, str):
        return ""
    return "".join(char if char.isprintable() else "?" for char in value.strip())[:_MAX_TEXT]


def _words(value: Any) -> tuple[str, ...]:
    """Return the words of a text with commas between, or of a list. Each is printable."""
    words = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else []
    return tuple(word for word in map(_text, words) if word)


class _CachedCatalogue(msgspec.Struct):
    etag: str
    body: str


def get_catalogue(base_url: str, folder: Path | None = None) -> Catalogue | None:
    """Return a gateway's catalogue, or the cached copy if it can't be fetched. None if there is no copy either.

    A failed request raises no error. The function waits five seconds at most. It starts an event loop, so its thread
    must not have a running one.
    """
    path = (folder or cache_folder()) / f"catalogue-{hashlib.sha256(base_url.encode()).hexdigest()[:16]}.json"
    cached = _read_cached(path)
    url = f"{base_url.removesuffix('/v1')}/api/v1/models"
    try:
        response = asyncio.run(fetch(url, cached.etag if cached else "", _TIMEOUT_S))
        if response is None and cached is not None:
            return Catalogue(read_catalogue(cached.body.encode()), fresh=True)
        etag, body = response or ("", b"")
        models = read_catalogue(body)
        _write_cached(path, _CachedCatalogue(etag, body.decode("utf-8", "replace")))
        return Catalogue(models, fresh=True)
    except (FetchError, JobError, ValueError) as error:
        _logger.info("no catalogue from %s: %s", urlsplit(url).netloc, error)
    with contextlib.suppress(ValueError):
        return Catalogue(read_catalogue(cached.body.encode()), fresh=False) if cached else None
    return None


def cache_folder() -> Path:
    """Return this user's cache folder (XDG Base Directory Specification)."""
    configured = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(configured) if Path(configured).is_absolute() else Path.home() / ".cache") / "batchmix"


def _read_cached(path: Path) -> _CachedCatalogue | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_CachedCatalogue)
    except (OSError, msgspec.MsgspecError, RecursionError):
        return None


def _write_cached(path: Path, cached: _CachedCatalogue) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:  # noqa: PTH123 - opened with its mode above
            file.write(msgspec.json.encode(cached))
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        _logger.info("the catalogue could not be cached: %s", error.strerror)
