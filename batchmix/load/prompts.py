"""How rows become what is asked: by the job's template, by their own messages, or as OpenAI Batch lines."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any, Protocol
from urllib.parse import urlsplit

from batchmix.errors import JobError
from batchmix.formats.display import clean, column_list, kind_of, quoted
from batchmix.job import Job, Model
from batchmix.load.arrow_rows import decode_cell
from batchmix.load.column_types import ColumnType, column_types, type_problem
from batchmix.load.messages import MessageRows, RequestBodies, given, is_model, missing_column
from batchmix.load.streaming import streaming_problem
from batchmix.load.template import Template
from batchmix.responses.endpoints import CHAT, READERS, RESPONSES, endpoint_of

BATCH_KEYS = frozenset({"custom_id", "method", "url", "body"})
_NO_PATH = "can't be sent: url must be an API's path such as /v1/chat/completions"


class PromptSource(Protocol):
    """How rows become requests, in one of four modes."""

    required: frozenset[str]
    """Columns that every row must have."""
    reads: frozenset[str] | None
    """All columns that are looked at; None: any."""
    param_columns: frozenset[str]
    """Columns that are parameters of the row's own, beside its messages."""
    has_row_params: bool
    """Whether each row brings its own parameters, and not the job."""
    names_model: bool
    """Whether each row names its model, and not the job."""
    checks_types: bool
    """Whether values must be of types that the job tells."""

    def problem(self, row: Mapping[str, Any]) -> str | None:
        """Return why a row can't be asked, as the scan sees it; None where nothing is wrong so far.

        Raises `InputError` where it is the job and the file that don't fit.
        """

    def asked(self, row: Mapping[str, Any], model: Model) -> tuple[str, dict[str, Any]] | None:
        """Return URL path and body for a row without a problem, or None where it is not for this model.

        Raises `BadRowError`.
        """

    def model_of(self, row: Mapping[str, Any]) -> str:
        """Return the model that a row without a problem names, where rows do."""


def has_template(job: Job) -> bool:
    """Return whether the job's template makes the requests."""
    return job.input.prompt is not None or job.input.messages is not None


def detect_mode(job: Job, first: Mapping[str, Any]) -> str:
    """Return the mode for an input whose first row is given."""
    if has_template(job):
        return "template"
    if "body" in first and first.keys() & {"custom_id", "method", "url"}:
        return "batch"
    return "bodies" if rows_must_name_models(job) and first.keys() >= {"model", "messages"} else "plain"


def rows_must_name_models(job: Job) -> bool:
    """Return whether nothing but the rows can name the models."""
    return not job.models and job.input.model is None


def prompt_source(job: Job, mode: str, columns: Collection[str] | None = None) -> PromptSource:
    """Return how rows become requests in a mode; `columns` are those that there are, if it is known yet.

    Raises `JobError`.
    """
    prompts: PromptSource
    if mode == "template":
        prompts = TemplatePrompts(job)
    elif mode == "batch":
        prompts = BatchLines(job)
    else:
        prompts = RequestBodies(job, columns) if mode == "bodies" else MessageRows(job, columns)
    if job.input.model is not None or job.input.params:
        if mode == "batch":
            raise JobError("input.model, input.params: the lines of an OpenAI Batch file bring theirs; take them out")
        prompts = RowSettings(prompts, job)
    if configured := column_types(job):
        prompts = TypedColumns(prompts, configured)
    if not job.models and not prompts.names_model:
        raise JobError("model: is missing; name one, such as --model gpt-4o-mini, or in input.model the rows' column")
    return prompts


class TypedColumns:
    """Another way of asking, of rows whose columns are to be of types that the job tells."""

    checks_types = True

    def __init__(self, prompts: PromptSource, configured: Mapping[str, ColumnType]) -> None:
        self._kinds = configured
        self.required, self.reads = (
            prompts.required,
            None if prompts.reads is None else prompts.reads | configured.keys(),
        )
        self.param_columns, self.has_row_params, self.names_model = (
            prompts.param_columns,
            prompts.has_row_params,
            prompts.names_model,
        )
        self.asked, self.model_of = prompts.asked, prompts.model_of
        self._problem = prompts.problem

    def problem(self, row: Mapping[str, Any]) -> str | None:
        """Return which value is not of its column's type, or else what is wrong with the row."""
        return type_problem(self._kinds, row) or self._problem(row)


class RowSettings:
    """Another way of asking, with a model or parameters out of columns of each row."""

    checks_types = False

    def __init__(self, prompts: PromptSource, job: Job) -> None:
        self._prompts = prompts
        self._model = job.input.model
        self._params = job.input.params or None
        columns = {name for name in (self._model, self._params) if name is not None}
        self.required = prompts.required | columns
        self.reads = None if prompts.reads is None else prompts.reads | columns
        self.param_columns, self.has_row_params = (
            prompts.param_columns,
            prompts.has_row_params or self._params is not None,
        )
        self.names_model = self._model is not None

    def problem(self, row: Mapping[str, Any]) -> str | None:
        """Return what is wrong with the row's model or parameters, or else with it."""
        for name in (self._model, self._params):
            if name is not None and name not in row:
                return f"has no column {quoted(name)}; it has {column_list(row)}"
        if self._model is not None:
            model = row[self._model]
            if not is_model(model):
                return f"column {quoted(self._model)} is {kind_of(model)}; it must be the id of a model"
        return self._params_problem(row) or self._prompts.problem(row)

    def _params_problem(self, row: Mapping[str, Any]) -> str | None:
        params = self._own(row)
        if not isinstance(params, dict):
            return f"column {quoted(str(self._params))} is {kind_of(params)}; it must be an object"
        if params.keys() & {"model", "messages"}:
            return f"column {quoted(str(self._params))} holds model or messages, which don't belong there"
        return streaming_problem(CHAT, params)

    def _own(self, row: Mapping[str, Any]) -> Any:
        found = decode_cell(row[self._params]) if self._params is not None else None
        return {} if found is None else found

    def asked(self, row: Mapping[str, Any], model: Model) -> tuple[str, dict[str, Any]] | None:
        """Return the body, with the row's parameters before the job's."""
        if self._model is not None and row[self._model] != model.name:
            return None
        asked = self._prompts.asked(row, model)
        return (asked[0], {**asked[1], **self._own(row)}) if asked else None

    def model_of(self, row: Mapping[str, Any]) -> str:
        """Return what the row's column says."""
        return str(row[self._model or ""])


class TemplatePrompts:
    """The job's template makes the messages."""

    param_columns: frozenset[str] = frozenset()
    has_row_params = False
    names_model = False
    checks_types = False

    def __init__(self, job: Job) -> None:
        self._template = Template(job.input)
        self.required, self.reads = self._template.required, self._template.reads

    def problem(self, row: Mapping[str, Any]) -> str | None:
        """Return which column is missing, unless the template can do without."""
        return None if self.required <= row.keys() else missing_column(self._template, row)

    def asked(self, row: Mapping[str, Any], model: Model) -> tuple[str, dict[str, Any]] | None:
        """Return the body with the rendered messages."""
        return CHAT, {"model": model.id, "messages": self._template.render(row), **model.params}

    def model_of(self, row: Mapping[str, Any]) -> str:
        """Return nothing: the job names the model."""
        return ""


class BatchLines:
    """Rows are lines of an OpenAI Batch file."""

    param_columns: frozenset[str] = frozenset()
    has_row_params = True
    checks_types = False

    def __init__(self, job: Job) -> None:
        if job.params or any(model.params for model in job.models):
            raise JobError("params: the lines of an OpenAI Batch file bring their own; take params out of the job")
        if job.input.system is not None:
            raise JobError("input.system: the lines of an OpenAI Batch file bring their own messages; take it out")
        self.required = frozenset({"body"})
        self.reads: frozenset[str] | None = BATCH_KEYS
        self.names_model = not job.models

    def problem(self, row: Mapping[str, Any]) -> str | None:
        """Return what is wrong with the line."""
        body = given(row, "body")
        if not isinstance(body, dict):
            return f"is no Batch line: body is {kind_of(body) if 'body' in row else 'missing'}; it must be an object"
        if row.get("method") not in (None, "POST"):
            return "can't be sent: method must be POST"
        path = _path_of(row.get("url"))
        if path is None or endpoint_of(path) is None:
            return _NO_PATH if path is None else _unread(path)
        if path == RESPONSES and body.get("background"):
            return "asks for a response in the background, which nobody waits for; take background out of its body"
        model = body.get("model")
        if self.names_model and not is_model(model):
            what = "names no model" if model in (None, "") else "names a model that is no plain text"
            return f"{what} in its body; mend it, or set model in the job"
        return streaming_problem(path, body)

    def asked(self, row: Mapping[str, Any], model: Model) -> tuple[str, dict[str, Any]] | None:
        """Return the line's body as it is; a model of the job replaces the line's."""
        body = given(row, "body")
        path = _path_of(row.get("url")) or CHAT
        if self.names_model:
            return (path, body) if body["model"] == model.name else None
        return path, {**body, "model": model.id}

    def model_of(self, row: Mapping[str, Any]) -> str:
        """Return what the line's body says."""
        return str(given(row, "body")["model"])


def _path_of(url: Any) -> str | None:
    """Return the path below the API's root that a Batch line's `url` means, or None for what is no such URL."""
    return CHAT if url is None else _path(url) if isinstance(url, str) else None


@lru_cache(maxsize=64)
def _path(url: str) -> str | None:
    try:
        path = urlsplit(url.strip()).path
    except ValueError:
        return None
    if not (path.isascii() and path.isprintable()) or ".." in path or " " in path:
        return None
    path = "/" + path.strip("/")
    # The file may have been written for another root: Azure's deployments, a gateway's /api/v1, Gemini's /v1beta.
    return endpoint_of(path) or (path[3:] if path.startswith("/v1/") else None)


def _unread(path: str) -> str:
    *others, last = READERS
    return f"can't be sent: answers of {clean(path, 60)} are not read yet; those of {', '.join(others)} and {last} are"
