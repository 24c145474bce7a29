"""The checked job: `CheckedJob` and its parts, as immutable values."""

from __future__ import annotations

import datetime
import os
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec

from batchmix.job.answer_table import Answer
from batchmix.job.cron import Schedule
from batchmix.job.eval_table import Eval, named_run
from batchmix.job.masking import masked, masked_headers, masked_url

DEFAULT_BASE_URL = "https://aihubmix.com/v1"
REHEARSAL = "rehearsal:"
"""A base URL with this scheme selects the built-in rehearsal provider. Options follow a `?`."""

MEMORY = "memory:"
"""An input path with this scheme stands for rows that were handed over in memory. The format follows: `memory:jsonl`.

The run folder has a copy of them. Without such a copy, a job with this path can only be run from Python."""

QUERY = "query:"
"""An input path with this scheme stands for the result of `input.query`, of which the run folder has a copy.

The folder in which relative names of files start, and the query follow, as a JSON array.
"""

Positive = Annotated[float, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000)]


class Column(msgspec.Struct, frozen=True, rename={"source": "from", "name": "to"}, omit_defaults=True):
    """An input column that is carried into the output, optionally under another name or as another type."""

    source: str
    name: str = ""
    """The column's name in the output. Default: the name in the input, which is filled in for a checked job."""
    type: str | None = None
    """The standard name of a type (see `checked_type`). None for the type in the file, or one that fits the values."""


class Input(msgspec.Struct, frozen=True):
    """The job file's `[input]`: the source of the rows, and the template of the prompt for each row."""

    path: str = ""
    """A file, a folder, a run folder or a glob, or `-` for stdin. Absolute in a checked job. See also `MEMORY`."""
    run: str | None = None
    """The run whose results are the rows: a folder beside the run's own. None in a checked job, which has its path."""
    query: str | None = None
    """The query of DuckDB whose result is the rows. None in a checked job, which has it in its path: see `QUERY`."""
    when: str | None = None
    """A template `{{ … }}`: only rows for which it is true are sent. None for all rows."""
    prompt: str | None = None
    system: str | None = None
    messages: tuple[dict[str, Any], ...] | None = None
    id: str | None = None
    model: str | None = None
    """The column with the name of each row's model. None if the job names the models."""
    params: str | None = None
    """The column with an object of each row's own parameters, which override the job's.

    If it is None, columns beside `messages` that have the name of a parameter are parameters. If it is empty, rows have
    no parameters.
    """
    columns: tuple[str | Column, ...] | None = None
    """The columns to carry into the output. None for all except the id, the keys of OpenAI Batch lines, and, if the
    input is a run folder, its result columns.
    """


class Limits(msgspec.Struct, frozen=True):
    """The job file's `[limits]`: the rates that the provider allows. A rate is None if it is unknown."""

    requests_per_minute: Positive | None = None
    tokens_per_minute: Positive | None = None
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 512


MAX_USD = 1e9
"""The highest price that is accepted, in USD per 1M tokens. It keeps sums of costs finite."""
_Usd = Annotated[float, msgspec.Meta(ge=0, le=MAX_USD)]


class Price(msgspec.Struct, frozen=True):
    """A model's price in USD per 1M tokens."""

    input: _Usd
    output: _Usd
    cache_read: _Usd | None = None
    """None if cached tokens cost as much as other prompt tokens."""
    up_to: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """The longest prompt, in tokens, that has this price. The price of longer prompts is unknown. None for no bound."""
    cache_write: _Usd | None = None
    """None if tokens that are written to a cache cost as much as other prompt tokens."""


class Model(msgspec.Struct, frozen=True):
    """A model of a job, with its own parameters and limits."""

    id: str
    """The provider's name for the model."""
    name: str
    """The model's value in the result column `model`. Unique in the job."""
    params: dict[str, Any]
    limits: Limits
    price: Price | None = None
    """The price in this entry of `[[models]]`. None if the entry has none."""
    way: str = ""
    """How the schema of the answers is sent to the model. Empty before a start has settled it, or without a schema."""
    places: dict[str, str] = {}
    """Where each of `params` was given: `job.toml:12`, or the command-line option."""


class Provider(msgspec.Struct, frozen=True):
    """The job file's `[provider]`: the API's base URL, and where its secrets are."""

    base_url: str = ""
    """If it is empty, a checked job has the value of `AIHUBMIX_BASE_URL`, or else `DEFAULT_BASE_URL`."""
    api_key_env: str = "AIHUBMIX_API_KEY"
    headers: dict[str, str] = {}

    def __repr__(self) -> str:
        """Return the settings without secrets: tracebacks, notebooks and logs may show them."""
        headers = masked_headers(self.headers)
        return f"Provider(base_url={masked_url(self.base_url)!r}, api_key_env={self.api_key_env!r}, {headers=})"

    @property
    def rehearsal(self) -> bool:
        """Whether the built-in rehearsal provider answers the requests."""
        return self.base_url.startswith(REHEARSAL)

    @property
    def path(self) -> str:
        """The URL path of the API's root, such as `/v1`."""
        return "/v1" if self.rehearsal else urlsplit(self.base_url).path


class Retry(msgspec.Struct, frozen=True):
    """The job file's `[retry]`: how often a row is retried in each start of a run."""

    attempts: Count = 6
    outage_s: Positive = 600.0
    """Seconds for which a provider may be down before the run stops."""


class Timeouts(msgspec.Struct, frozen=True):
    """The job file's `[timeouts]`, in seconds."""

    total_s: Positive = 600.0
    idle_s: Positive = 120.0
    """The longest pause in a streamed answer, including the wait for its first byte."""
    connect_s: Positive = 30.0
    row_s: Positive | None = None
    """How long after its first attempt a row may be retried. None for as long as it has attempts left."""
    job_s: Positive | None = None
    """How long one start of the run may take."""
    drain_s: Annotated[float, msgspec.Meta(ge=0)] = 60.0


class Budget(msgspec.Struct, frozen=True):
    """The job file's `[budget]`: the maximum for the whole run, over all its starts."""

    max_usd: Positive | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """The maximum number of tokens of prompts and answers together."""


class Reuse(msgspec.Struct, frozen=True, rename={"folders": "from"}):
    """The job file's `[reuse]`: existing answers that are used instead of sending a request."""

    folders: tuple[str, ...] = ()
    """Run folders with earlier answers, relative to the working directory."""
    dedupe: bool = False
    """Whether identical requests of several rows are sent only once."""


class Cache(msgspec.Struct, frozen=True):
    """The job file's `[cache]`: how the run uses the provider's prompt cache."""

    wait_s: Annotated[float, msgspec.Meta(ge=0, le=600)] = 8.0
    """How many seconds a row may wait for the first answer to a prompt that begins like its own. 0: none waits."""
    mark: Literal["5m", "1h"] | None = None
    """For how long Claude is to keep what prompts have in common, by marks in the requests. None for no marks."""


class Output(msgspec.Struct, frozen=True):
    """The job file's `[output]`: the run folder and its parts."""

    path: str = "runs/{name}"
    """In a job file, a template with `{name}`, `{date}` and `{time}`. In a checked job, an absolute path."""
    shard_rows: Count = 10_000
    raw: bool = True
    publish: str | None = None
    """A path at which the run's results are published once it is whole. Absolute in a checked job. None for none."""
    delta_table: str | None = None
    """A Delta table that gets the run's results once it is whole. Absolute in a checked job. None for none."""
    mode: str | None = None
    """The permissions of the run's files, such as `0640`. None if only the owner may read them."""

    @property
    def permissions(self) -> int | None:
        """The permissions as a number."""
        return None if self.mode is None else int(self.mode, 8)


class JobSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The top-level keys that have the same type in the job file (`JobTable`) and in the checked `CheckedJob`."""

    input: Input
    provider: Provider = Provider()
    output: Output = Output()
    samples: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1
    params: dict[str, Any] = {}
    """Parameters of all requests. A `CheckedJob` has them for models that the rows name, since each `Model` has a
    copy.
    """
    limits: Limits = Limits()
    """The limits of each model that has none of its own."""
    retry: Retry = Retry()
    timeouts: Timeouts = Timeouts()
    budget: Budget = Budget()
    reuse: Reuse = Reuse()
    cache: Cache = Cache()
    prices: dict[str, Price] = {}
    schedule: Schedule | None = None
    eval: Eval | None = None
    """None if the answers are not scored."""


class CheckedJob(JobSettings, frozen=True):
    """The settings of a run, checked and complete."""

    name: str
    models: tuple[Model, ...]
    """Empty if each row names its model, as lines of an OpenAI Batch file do."""
    answer: Answer | None = None
    """What the answers must be. None if they are any text."""
    places: dict[str, str] = {}
    """Where each of `params` was given: `job.toml:12`, or the command-line option."""
    night: datetime.date | None = None
    """The scheduled date. None if the job has no schedule, and no date in the path of its output either."""
    steps: tuple[CheckedJob, ...] = ()
    """The jobs of a chain, in folders below that of this job. Empty for a single job."""
    scorer_folder: str = ""
    """The folder from which the modules of custom scorers are imported: the job file's. Empty if there is none."""

    @property
    def answer_columns(self) -> frozenset[str]:
        """The names of the output's columns for typed answers. Empty if answers are any text."""
        return self.answer.columns if self.answer else frozenset()

    def public(self) -> dict[str, Any]:
        """Return the job as JSON values that can be written to a file.

        Values that may be secrets are masked (headers, unless they name a variable, and texts whose key suggests a
        secret) or left out (`on_finish`). `places`, `night` and `scorer_folder` are left out too: they only concern
        this call, and a run folder, which may come from somebody else, must not name code to run.
        """
        record: dict[str, Any] = masked(msgspec.to_builtins(self))
        for params in (record, *record["models"]):
            del params["places"]
        for model in record["models"]:
            del model["way"]  # run.json lists them apart
        del record["scorer_folder"], record["night"], record["steps"]
        if self.answer:
            record["answer"]["schema"] = self.answer.schema  # a field named `token` is no secret
        record["provider"]["headers"] = masked_headers(self.provider.headers)
        record["provider"]["base_url"] = masked_url(self.provider.base_url)
        # Relative ones start from the working directory, which a run that goes on from its folder does not know.
        record["reuse"]["from"] = [os.path.abspath(folder) for folder in self.reuse.folders]  # noqa: PTH100
        if self.eval and (named := named_run(self.eval.against)):
            record["eval"]["against"] = os.path.abspath(named)  # noqa: PTH100
        if self.schedule:
            record["schedule"]["on_finish"] = []
        return record
