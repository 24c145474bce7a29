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
"""A base URL with this scheme starts the stand-in provider; its options follow a `?`."""

Positive = Annotated[float, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000)]


class Column(msgspec.Struct, frozen=True, rename={"source": "from", "name": "to"}, omit_defaults=True):
    """An input column that is carried into the output, optionally under another name or as another type."""

    source: str
    name: str = ""
    """Default: as in the input; never empty in a checked job."""
    type: str | None = None
    """As `checked_type` returns it; None: inferred from the values, or as in the file."""


class Input(msgspec.Struct, frozen=True):
    """Where the rows come from, and the prompt that is made of each."""

    path: str
    """Absolute, or `-` for stdin; may be a file, a folder or a glob."""
    prompt: str | None = None
    system: str | None = None
    messages: tuple[dict[str, Any], ...] | None = None
    id: str | None = None
    model: str | None = None
    """The column that names each row's model, instead of the job."""
    params: str | None = None
    """The column with an object of each row's own parameters, which replace the job's.

    None: the columns beside `messages` that have the name of a parameter; empty: none.
    """
    columns: tuple[str | Column, ...] | None = None
    """None: all but the id, the Batch keys and an input run's result columns."""


class Limits(msgspec.Struct, frozen=True):
    """What the provider allows; None: unknown."""

    requests_per_minute: Positive | None = None
    tokens_per_minute: Positive | None = None
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 512


MAX_USD = 1e9
"""The highest price, in USD per 1M tokens, so that sums of costs stay finite."""
_Usd = Annotated[float, msgspec.Meta(ge=0, le=MAX_USD)]


class Price(msgspec.Struct, frozen=True):
    """USD per 1M tokens."""

    input: _Usd
    output: _Usd
    cache_read: _Usd | None = None
    """None: cached tokens cost as much as others."""
    up_to: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Prompt tokens up to which this is the price; a longer prompt has no known price. None: no bound."""
    cache_write: _Usd | None = None
    """None: tokens that are written to a cache cost as much as others."""


class Model(msgspec.Struct, frozen=True):
    """One lane of a job: a model with its own parameters and limits."""

    id: str
    """The provider's name for it."""
    name: str
    """Its value in the result column `model`; unique in the job."""
    params: dict[str, Any]
    limits: Limits
    price: Price | None = None
    """The price given with this entry; None: not given."""
    places: dict[str, str] = {}
    """Where each of `params` was given: `job.toml:12`, or the command-line option."""


class Provider(msgspec.Struct, frozen=True):
    """The job file's `[provider]`: the API's base URL, and where its secrets are."""

    base_url: str = ""
    """Empty in a job file: from `AIHUBMIX_BASE_URL`, or `DEFAULT_BASE_URL`; never empty in a checked job."""
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
    """Retries, for each row and start."""

    attempts: Count = 6
    outage_s: Positive = 600.0
    """How long to wait for a provider that is down before the run stops."""


class Timeouts(msgspec.Struct, frozen=True):
    """Bounds in seconds."""

    total_s: Positive = 600.0
    idle_s: Positive = 120.0
    """The longest pause in a streamed answer, also before its first byte."""
    connect_s: Positive = 30.0
    row_s: Positive | None = None
    """How long after its first attempt a row may be retried; None: as long as it has attempts."""
    job_s: Positive | None = None
    """How long one start of the run may take."""
    drain_s: Annotated[float, msgspec.Meta(ge=0)] = 60.0


class Budget(msgspec.Struct, frozen=True):
    """The most that the whole run may use, over all its starts."""

    max_usd: Positive | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Of prompts and answers together."""


class Reuse(msgspec.Struct, frozen=True, rename={"folders": "from"}):
    """Answers that are taken from elsewhere instead of sending a request."""

    folders: tuple[str, ...] = ()
    """Run folders, relative to the working directory as the output is."""
    dedupe: bool = False
    """Send one request for all rows of the job that have the same one."""


class Output(msgspec.Struct, frozen=True):
    """The job file's `[output]`: the run folder, and its parts."""

    path: str = "runs/{name}"
    """A template with `{name}` and `{date}` in a job file; an absolute path in a checked job."""
    shard_rows: Count = 10_000
    raw: bool = True
    mode: str | None = None
    """The permissions of its files, such as `0640`; None: only their owner may read them."""

    @property
    def permissions(self) -> int | None:
        """The mode as a number."""
        return None if self.mode is None else int(self.mode, 8)


class JobSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The top-level keys that have the same type in the job file (`JobTable`) and in the checked `Job`."""

    input: Input
    provider: Provider = Provider()
    output: Output = Output()
    samples: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1
    params: dict[str, Any] = {}
    """Parameters of all requests; in a checked `Job`, of models that the rows name. A `Model` has its own copy."""
    limits: Limits = Limits()
    """For each model without limits of its own."""
    retry: Retry = Retry()
    timeouts: Timeouts = Timeouts()
    budget: Budget = Budget()
    reuse: Reuse = Reuse()
    prices: dict[str, Price] = {}
    schedule: Schedule | None = None
    eval: Eval | None = None
    """None: the answers are not scored."""


class Job(JobSettings, frozen=True):
    """The settings of a run, checked and complete."""

    name: str
    models: tuple[Model, ...]
    """Empty if each row (an OpenAI Batch line) names its own."""
    places: dict[str, str] = {}
    """Where each of `params` was given: `job.toml:12`, or the command-line option."""

    def public(self) -> dict[str, Any]:
        """The job as JSON-able values, fit for a file.

        Values that may be secrets (headers, `on_finish`, and those under a secret's name) are left out, and so is what
        belongs to this command only (`places`).
        """
        record: dict[str, Any] = masked(msgspec.to_builtins(self))
        for params in (record, *record["models"]):
            del params["places"]
        record["provider"]["headers"] = dict.fromkeys(self.provider.headers, MASK)
        record["provider"]["base_url"] = masked_url(self.provider.base_url)
        if self.schedule:
            record["schedule"]["on_finish"] = []
        return record
