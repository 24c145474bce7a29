"""The job file's `[answer]`: the JSON Schema that answers must fit, and what happens to those that do not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from batchmix.errors import JobError


class AnswerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of `[answer]` that are the same in the job file (`AnswerTable`) and in a checked job (`Answer`)."""

    send: Literal["auto", "response_format", "json_object", "prompt", "tool"] = "auto"
    """How the schema is sent. `auto` for the strictest way that the model is known to support."""
    repair: Annotated[int, msgspec.Meta(ge=0, le=10)] = 1
    """How often a row is asked again, with what was wrong."""
    on_invalid: Literal["fail", "keep"] = "fail"
    """Whether a row whose last answer does not fit is failed, or kept as answered, without a value."""
    flatten: bool = False
    """Whether each field of the schema has a column of its own."""


class AnswerTable(AnswerSettings, frozen=True):
    """The job file's `[answer]`, before the checks."""

    schema: str | dict[str, Any]
    """The name of a file, `module:Model`, the schema itself, or its JSON text."""


class Answer(AnswerSettings, frozen=True):
    """What the answers of a checked job must be."""

    schema: dict[str, Any]

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the schema's top-level fields. Empty if its root is no object, or one with any fields."""
        from batchmix.answers.schema import resolved

        return tuple(resolved(self.schema, self.schema).get("properties", ()))

    @property
    def paths(self) -> dict[str, tuple[str, ...]]:
        """The keys that lead to each field, at all levels, by names such as `address.city`; `answer` is the whole."""
        from batchmix.answers.column import AnswerColumn, field_paths

        return field_paths(AnswerColumn(self.schema).type)

    @property
    def columns(self) -> frozenset[str]:
        """The names of the output's columns for typed answers, flattened or not."""
        return frozenset({"answer", "healed", "repairs", *(f"answer.{name}" for name in self.fields)})


def checked_answer(table: AnswerTable, folder: Path, params: Mapping[str, Mapping[str, Any]]) -> Answer:
    """Return `[answer]` with its schema, read from `folder` if it is in a file. Raises `JobError`.

    `params` are all parameters of requests, by the name of the setting that holds them.
    """
    # Only here: it takes 20 ms, which jobs without [answer] need not wait.
    from batchmix.answers.schema import read_schema
    from batchmix.answers.strict import is_object_schema

    for place, given in params.items():
        _check_params(table, place, given)
    settings = msgspec.structs.asdict(table)
    answer = Answer(**settings | {"schema": read_schema(given_schema(table.schema), folder)})
    if answer.flatten and not (is_object_schema(answer.schema) and answer.fields):
        raise JobError(
            'answer.flatten: needs a schema with type = "object" and properties, whose fields become the columns; take'
            " flatten out"
        )
    return answer


def schema_as_text(schema: Mapping[str, Any]) -> str:
    """Return a schema as a job file can hold it whatever is in it: TOML has no null, and moves tables to the end."""
    return json.dumps(schema, ensure_ascii=False)


def given_schema(schema: str | dict[str, Any]) -> str | dict[str, Any]:
    """Return a schema as it was given, parsed if it is JSON text. Raises `JobError`."""
    if not isinstance(schema, str) or not schema.lstrip().startswith("{"):
        return schema
    try:
        value: dict[str, Any] = json.loads(schema)
    except (ValueError, RecursionError) as error:
        raise JobError(f"answer.schema: begins like JSON, but is none: {error}") from error
    return value


def _check_params(table: AnswerTable, place: str, params: Mapping[str, Any]) -> None:
    """Raise `JobError` if parameters ask for answers of another form than the schema."""
    from batchmix.answers.asking import tool_clash

    text = params.get("text")
    forms = {
        "response_format": params.get("response_format"),
        "text.format": text.get("format") if isinstance(text, Mapping) else None,
    }
    for key, form in forms.items():
        if form is not None:
            raise JobError(f"{place}.{key}: can't be together with [answer], whose schema says the same; take it out")
    if clash := tool_clash(params, table.send):
        raise JobError(f"{place}.{clash[0]}: {clash[1]}")
