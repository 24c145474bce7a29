"""A job as checked, immutable values."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec

from batchmix.job.cron import Schedule
from batchmix.job.eval_table import Eval
from batchmix.job.masking import masked, masked_url
from batchmix.redact import MASK

DEFAULT_BASE_URL = "https://aihubmix.com/v1"
REHEARSAL = "rehearsal:"
"""A base URL with this scheme starts the stand-in provider; its options stand behind a `?`."""

Positive = Annotated[float, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000)]


class Column(msgspec.Struct, frozen=True, rename={"source": "from", "name": "to"}, omit_defaults=True):
    """An input column that is carried into the output, perhaps under another name, or as a type that is told."""

    source: str
    name: str = ""
    """A checked job has one: default: as in the input."""
    type: str | None = None
    """As `checked_type` returns it; None: what the values make of it, or the file says."""


class Input(msgspec.Struct, frozen=True):
    """Where the rows come from, and what is asked about each."""

    path: str
    """Absolute, or `-` for stdin; may be a file, a folder or a glob."""
    prompt: str | None = None
    system: str | None = None
    messages: tuple[dict[str, Any], ...] | None = None
    id: str | None = None
    model: str | None = None
    """The column that names each row's model, instead of the job."""
    params: str | None = None
    """The column with an object of parameters of each row's own, which go before the job's.

    None: the columns beside `messages` that are called like parameters; empty: none.
    """
    columns: tuple[str | Column, ...] | None = None
    """None carries all but the id, the Batch keys and an input run's result columns."""


class Limits(msgspec.Struct, frozen=True):
    """What the provider allows; what is None is not known."""

    requests_per_minute: Positive | None = None
    tokens_per_minute: Positive | None = None
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 512


MOST_USD = 1e9
"""No price is higher; sums of what is priced stay numbers."""
_Usd = Annotated[float, msgspec.Meta(ge=0, le=MOST_USD)]


class Price(msgspec.Struct, frozen=True):
    """USD per 1M tokens."""

    input: _Usd
    output: _Usd
    cache_read: _Usd | None = None
    """None: cached tokens cost what others do."""
    up_to: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Prompt tokens up to which this is the price; what a longer prompt costs is not known. None: all."""
    cache_write: _Usd | None = None
    """None: tokens that are written to a cache cost what others do."""


class Model(msgspec.Struct, frozen=True):
    """One lane of a job: a model with its own parameters and limits."""

    id: str
    """What the provider calls it."""
    name: str
    """What the result column `model` calls it; unique in the job."""
    params: dict[str, Any]
    limits: Limits
    price: Price | None = None
    """What this entry's answers cost, where the entry says so."""
    places: dict[str, str] = {}
    """Where each of `params` was given: `job.toml:12`, or the option."""


class Provider(msgspec.Struct, frozen=True):
    """The API's address, and where its secrets are found."""

    base_url: str
    api_key_env: str = "AIHUBMIX_API_KEY"
    headers: dict[str, str] = {}

    @property
    def rehearsal(self) -> bool:
        """Whether the stand-in provider answers."""
        return self.base_url.startswith(REHEARSAL)

    @property
    def path(self) -> str:
        """The URL path of the API's root, such as `/v1`."""
        return "/v1" if self.rehearsal else urlsplit(self.base_url).path


class Retry(msgspec.Struct, frozen=True):
    """How hard to try, for each row and start."""

    attempts: Count = 6
    outage_s: Positive = 600.0
    """How long to wait for a provider that is down before the run stops."""


class Timeouts(msgspec.Struct, frozen=True):
    """Bounds in seconds."""

    total_s: Positive = 600.0
    idle_s: Positive = 120.0
    """How long a streamed answer may be silent, before its first byte too."""
    connect_s: Positive = 30.0
    row_s: Positive | None = None
    """How long after its first attempt a row may be asked again; None: as long as it has attempts."""
    job_s: Positive | None = None
    """How long one start of the run may take."""
    drain_s: Annotated[float, msgspec.Meta(ge=0)] = 60.0


class Budget(msgspec.Struct, frozen=True):
    """What the whole run may use, over all its starts."""

    max_usd: Positive | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Of prompts and answers."""


class Reuse(msgspec.Struct, frozen=True, rename={"folders": "from"}):
    """Where answers may be taken from instead of being asked for."""

    folders: tuple[str, ...] = ()
    """Run folders, relative to the working directory as the output is."""
    dedupe: bool = False
    """Ask once for all rows of the job with the same request."""


class Output(msgspec.Struct, frozen=True):
    """The run folder, and how its parts are cut."""

    path: str
    """Absolute."""
    shard_rows: Count = 10_000
    raw: bool = True
    mode: str | None = None
    """The permissions of its files, such as `0640`; None: they are for their owner only."""

    @property
    def permissions(self) -> int | None:
        """The mode as a number."""
        return None if self.mode is None else int(self.mode, 8)


class Job(msgspec.Struct, frozen=True):
    """What a run is asked to do."""

    name: str
    models: tuple[Model, ...]
    """Empty where each row (an OpenAI Batch line) names its own."""
    input: Input
    provider: Provider
    output: Output
    samples: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1
    params: dict[str, Any] = {}
    """For models that have no entry of their own, because the rows name them."""
    places: dict[str, str] = {}
    """Where each of these was given."""
    limits: Limits = Limits()
    """For each model that has no entry of its own."""
    retry: Retry = Retry()
    timeouts: Timeouts = Timeouts()
    budget: Budget = Budget()
    reuse: Reuse = Reuse()
    prices: dict[str, Price] = {}
    schedule: Schedule | None = None
    eval: Eval | None = None
    """None: the answers are not judged."""

    def public(self) -> dict[str, Any]:
        """The job as JSON-able values, fit for a file.

        What may hold secrets (headers, `on_finish`, what is named so) is left out, and what is of this call alone
        (`places`).
        """
        record: dict[str, Any] = masked(msgspec.to_builtins(self))
        for params in (record, *record["models"]):
            del params["places"]
        record["provider"]["headers"] = dict.fromkeys(self.provider.headers, MASK)
        record["provider"]["base_url"] = masked_url(self.provider.base_url)
        if self.schedule:
            record["schedule"]["on_finish"] = []
        return record
