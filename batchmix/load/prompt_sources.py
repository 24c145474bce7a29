"""Creates the prompt source of a job: the source for its mode, wrapped to apply row settings and to check values."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import cached_property, partial
from typing import Any

from batchmix.errors import JobError
from batchmix.formats.display import column_list, kind_of, quoted
from batchmix.job import CheckedJob, Model
from batchmix.load.column_types import column_types, type_problem
from batchmix.load.conditions import Condition, ConditionalRows
from batchmix.load.jsonl import decode_cell
from batchmix.load.messages import BatchLines, MessageRows, RequestBodies, is_model, missing_column
from batchmix.load.parameters import streaming_problem
from batchmix.load.prompts import Mode, PromptSource
from batchmix.load.template import Template
from batchmix.load.weights import weight_problem, weight_source
from batchmix.responses.endpoints import CHAT


class PromptSources:
    """The prompt sources of a job. The job's template is compiled once, when it is first needed."""

    def __init__(self, job: CheckedJob) -> None:
        self.job = job

    @cached_property
    def template(self) -> Template:
        """The compiled template of the job. Raises `JobError`."""
        return Template(self.job.input)

    @cached_property
    def condition(self) -> Condition | None:
        """The compiled condition of the job. None if it has none. Raises `JobError`."""
        return None if self.job.input.when is None else Condition(self.job.input.when)

    def source(self, mode: Mode, columns: Collection[str] | None = None) -> PromptSource:
        """Return the source for a mode. `columns` are the input's columns, or None if only a scan can find them.

        Raises `JobError` if the job does not fit the mode.
        """
        job, source = self.job, self._of_mode(mode, columns)
        if job.input.model is not None or job.input.params:
            if mode is Mode.BATCH:
                raise JobError(
                    "input.model, input.params: the lines of an OpenAI Batch file bring theirs; take them out"
                )
            source = RowSettings(source, job)
        if self.condition is not None:
            source = ConditionalRows(source, self.condition)
        if types := column_types(job):
            source = CheckedValues(source, types.keys(), partial(type_problem, types))
        if weight := weight_source(job):
            source = CheckedValues(source, {weight}, partial(weight_problem, weight))
        if job.answer is not None:
            source.json_columns = frozenset()  # the schema may be added to a text
        if not job.models and not source.names_model:
            raise JobError(
                "model: is missing; name one, such as --model gpt-4o-mini, or in input.model the rows' column"
            )
        return source

    def _of_mode(self, mode: Mode, columns: Collection[str] | None) -> PromptSource:
        job = self.job
        if mode is Mode.TEMPLATE:
            return TemplatePrompts(self.template)
        if mode is Mode.BATCH:
            return BatchLines(job)
        system = self.template if job.input.system is not None else None
        return RequestBodies(job, system, columns) if mode is Mode.BODIES else MessageRows(job, system, columns)


class CheckedValues:
    """Wraps a source, and reports rows in which a column has a wrong value: of another type, or no weight."""

    checks_values = True

    def __init__(
        self, source: PromptSource, columns: Collection[str], check: Callable[[Mapping[str, Any]], str | None]
    ) -> None:
        """`check` returns a message about the values that a row has in `columns`, or None."""
        self._check = check
        self.mode, self.is_text = source.mode, source.is_text
        self.required, self.reads = source.required, None if source.reads is None else source.reads.union(columns)
        self.json_columns = source.json_columns.difference(columns)
        self.param_columns, self.has_row_params = source.param_columns, source.has_row_params
        self.names_model = source.names_model
        self.request_for, self.model_of = source.request_for, source.model_of
        self._problem = source.problem

    def problem(self, row: Mapping[str, Any]) -> str | None:
        """Return a message about a wrong value, or else the wrapped source's message."""
        return self._check(row) or self._problem(row)


class RowSettings:
    """Wraps a source for rows that have their model or their parameters in a column (`input.model`, `input.params`)."""

    checks_values = False

    def __init__(self, source: PromptSource, job: CheckedJob) -> None:
        self._source = source
        self._model = job.input.model
        self._params = job.input.params or None
        columns = {name for name in (self._model, self._params) if name is not None}
        self.mode, self.is_text = source.mode, source.is_text and self._params is None
        self.required = source.required | columns
        self.reads = None if source.reads is None else source.reads | columns
        self.json_columns = source.json_columns - columns
        self.param_columns = source.param_columns
        self.has_row_params = source.has_row_params or self._params is not None
        self.names_model = self._model is not None

    def problem(self, row: Mapping[str, Any]) -> str | None:
        """Return a message about the row's model or parameters, or else the wrapped source's message about the row."""
        for name in (self._model, self._params):
            if name is not None and name not in row:
                return f"has no column {quoted(name)}; it has {column_list(row)}"
        if self._model is not None:
            model = row[self._model]
            if not is_model(model):
                return f"column {quoted(self._model)} is {kind_of(model)}; it must be the id of a model"
        return self._params_problem(row) or self._source.problem(row)

    def _params_problem(self, row: Mapping[str, Any]) -> str | None:
        params = self._params_of(row)
        if not isinstance(params, dict):
            return f"column {quoted(str(self._params))} is {kind_of(params)}; it must be an object"
        if params.keys() & {"model", "messages"}:
            return f"column {quoted(str(self._params))} holds model or messages; take them out"
        return streaming_problem(CHAT, params)

    def _params_of(self, row: Mapping[str, Any]) -> Any:
        params = decode_cell(row[self._params]) if self._params is not None else None
        return {} if params is None else params

    def request_for(self, row: Mapping[str, Any], model: Model) -> tuple[str, dict[str, Any]] | None:
        """Return the URL path and the body, in which the row's parameters override the job's.

        None if the row is for another model.
        """
        if self._model is not None and row[self._model] != model.name:
            return None
        request = self._source.request_for(row, model)
        return (request[0], {**request[1], **self._params_of(row)}) if request else None

    def model_of(self, row: Mapping[str, Any]) -> str:
        """Return the model in the row's column `input.model`."""
        return str(row[self._model or ""])


class TemplatePrompts:
    """Rows whose messages are made by the job's template."""

    mode = Mode.TEMPLATE
    param_columns: frozenset[str] = frozenset()
    has_row_params = False
    names_model = False
    checks_values = False

    def __init__(self, template: Template) -> None:
        self._template = template
        self._render = template.render
        self.required, self.reads, self.is_text = template.required, template.reads, template.is_text
        self.json_columns = template.json_columns

    def problem(self, row: Mapping[str, Any]) -> str | None:
        """Return a message about a column that the template needs and the row does not have.

        None if nothing is missing.
        """
        return None if self.required <= row.keys() else missing_column(self._template, row)

    def request_for(self, row: Mapping[str, Any], model: Model) -> tuple[str, dict[str, Any]] | None:
        """Return the URL path, and the body with the rendered messages."""
        return CHAT, {"model": model.id, "messages": self._render(row), **model.params}

    def model_of(self, row: Mapping[str, Any]) -> str:
        """Return empty text, since the job names the model."""
        return ""
