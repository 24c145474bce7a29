"""The condition of a job (`input.when`): only rows for which it is true are sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from batchmix.errors import JobError
from batchmix.formats.display import clean
from batchmix.job import Input, Model
from batchmix.load.prompts import PromptSource
from batchmix.load.template import RowSkippedError, Template

_EXPRESSION = re.compile(r"\s*\{\{(?P<inside>(?:(?!\{\{|\}\}).)*)\}\}\s*", re.DOTALL)


class Condition:
    """The template of a condition. Raises `JobError` if it is no expression in `{{ … }}`, or a wrong one.

    `setting` is what messages call it.
    """

    def __init__(self, text: str, setting: str = "input.when") -> None:
        match = _EXPRESSION.fullmatch(text)
        if match is None:
            raise JobError(f"{setting}: must be one expression in braces, such as '{{{{ score < 3 }}}}'")
        inside = match["inside"].removeprefix("-").removesuffix("-")
        # minijinja decides what is true: not null, 0, false, an empty text or list.
        self.template = Template(Input(prompt=f"{{% if {inside} %}}1{{% endif %}}"), prompt_setting=setting)
        self._false = f"{setting} is false: {clean(text.strip(), 200)}"

    def holds(self, row: Mapping[str, Any]) -> bool:
        """Return whether the condition is true for a row. Raises `BadRowError` if that can't be told."""
        return bool(self.template.render(row)[0]["content"])

    def check(self, row: Mapping[str, Any]) -> None:
        """Raise `RowSkippedError` if the condition is false for a row, and `BadRowError` if that can't be told."""
        if not self.holds(row):
            raise RowSkippedError(self._false)


class ConditionalRows:
    """Wraps a source, and skips the rows for which the job's condition is false."""

    def __init__(self, source: PromptSource, condition: Condition) -> None:
        template = condition.template
        self._source, self._check = source, condition.check
        self.mode, self.is_text, self.checks_values = source.mode, source.is_text, source.checks_values
        self.required = source.required | template.required
        self.reads = None if source.reads is None or template.reads is None else source.reads | template.reads
        self.json_columns = source.json_columns
        self.param_columns, self.has_row_params = source.param_columns, source.has_row_params
        self.names_model, self.model_of = source.names_model, source.model_of
        self._needed = template.required

    def problem(self, row: Mapping[str, Any]) -> str | None:
        """Return a message about a column that the condition needs, or else the wrapped source's message."""
        missing = sorted(self._needed - row.keys())
        return f"input.when: there is no column '{clean(missing[0], 60)}'" if missing else self._source.problem(row)

    def request_for(self, row: Mapping[str, Any], model: Model) -> tuple[str, dict[str, Any]] | None:
        """Return the wrapped source's request. Raises `RowSkippedError` if the condition is false."""
        if self._source.names_model and self._source.model_of(row) != model.name:
            return None
        self._check(row)
        return self._source.request_for(row, model)
