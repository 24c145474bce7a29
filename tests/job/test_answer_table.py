"""`[answer]` has its schema read and checked with the job, wherever the job file or the call says that it is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from batchmix.errors import JobError
from batchmix.job import Answer, CheckedJob, job_of_call, job_settings, read_job, to_toml

SCHEMA: dict[str, Any] = {
    "properties": {"token": {"type": "string", "default": "none"}, "age": {"enum": [1, None]}},
    "type": "object",
}
RIGHT: dict[str, Any] = {"model": "m", "input": {"path": "rows.jsonl", "prompt": "x"}}
JOB_FILE = 'model = "m"\n[input]\npath = "rows.jsonl"\nprompt = "x"\n'


def in_order(answer: Answer | None) -> bytes:
    """Return `[answer]` as JSON: the order of a schema's keys is that of the columns, and part of a prompt."""
    return msgspec.json.encode(answer)


def with_answer(**answer: Any) -> CheckedJob:
    return read_job(None, RIGHT | {"answer": {"schema": SCHEMA} | answer}, {})


def test_a_job_without_it_takes_any_text() -> None:
    job = read_job(None, RIGHT, {})
    assert (job.answer, job.answer_columns) == (None, frozenset())


def test_the_defaults_ask_once_more_and_then_fail() -> None:
    assert with_answer().answer == Answer(schema=SCHEMA, send="auto", repair=1, on_invalid="fail", flatten=False)


def test_its_columns_are_named_by_the_schema() -> None:
    names = {"answer", "healed", "repairs", "answer.token", "answer.age"}
    assert with_answer().answer_columns == with_answer(flatten=True).answer_columns == names


@pytest.mark.parametrize(
    "text",
    [
        "schema = 'schema.json'",
        f"schema = '{json.dumps(SCHEMA)}'",
        "schema = 'shapes:Person'",
    ],
)
def test_a_schema_of_the_job_file_is_relative_to_it(text: str, tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    (tmp_path / "shapes.py").write_text(
        f"class Person:\n    @staticmethod\n    def model_json_schema():\n        return {SCHEMA!r}\n"
    )
    (tmp_path / "job.toml").write_text(f"{JOB_FILE}[answer]\n{text}\n")
    assert in_order(read_job(tmp_path / "job.toml", {}, {}).answer) == in_order(Answer(schema=SCHEMA))


def test_a_schema_of_the_command_line_is_relative_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "schema.json").write_text(json.dumps(SCHEMA))
    (tmp_path / "job.toml").write_text(f"{JOB_FILE}[answer]\nschema = {{type = 'string'}}\nrepair = 3\n")
    monkeypatch.chdir(tmp_path / "here")
    job = job_of_call("../job.toml", [], {"schema": "schema.json"})
    assert job.answer == Answer(schema=SCHEMA, repair=3)


def test_a_schema_replaces_that_of_the_job_file(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text(f"{JOB_FILE}[answer]\nschema = {{type = 'string', minLength = 1}}\n")
    assert read_job(tmp_path / "job.toml", {"answer": {"schema": SCHEMA}}, {}).answer == Answer(schema=SCHEMA)


def test_it_is_recorded_unmasked_and_written_again_in_its_order(tmp_path: Path) -> None:
    job = with_answer(repair=2)
    recorded = json.loads(json.dumps(job.public()))
    assert recorded["answer"]["schema"] == SCHEMA
    assert in_order(msgspec.convert(recorded, CheckedJob).answer) == in_order(job.answer)
    assert in_order(read_job(None, job_settings(job), {}).answer) == in_order(job.answer)
    (tmp_path / "job.toml").write_text(to_toml(job))
    assert in_order(read_job(tmp_path / "job.toml", {}, {}).answer) == in_order(job.answer)


def test_what_looks_masked_in_a_schema_is_part_of_it() -> None:
    schema = {"type": "object", "default": {"token": "***"}, "properties": {"token": {"type": "string"}}}
    assert with_answer(schema=schema).answer == Answer(schema=schema)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"answer": {}}, "answer.schema is missing"),
        ({"answer": {"schema": SCHEMA, "repairs": 1}}, "unknown setting answer.repairs: did you mean answer.repair?"),
        ({"answer": {"schema": SCHEMA, "repair": 11}}, "answer.repair: expected a whole number <= 10"),
        ({"answer": {"schema": SCHEMA, "send": "tools"}}, "answer.send: there is no 'tools'; did you mean tool?"),
        ({"answer": {"schema": SCHEMA, "on_invalid": "drop"}}, "answer.on_invalid: there is no 'drop'; there are fail"),
        ({"answer": {"schema": 1}}, "answer.schema: expected text or a table, got a whole number"),
        ({"answer": {"schema": "{nothing}"}}, "answer.schema: begins like JSON, but is none: "),
        ({"answer": {"schema": "missing.json"}}, "answer.schema: missing.json: there is no such file"),
        ({"answer": {"schema": {"type": "string"}, "flatten": True}}, "answer.flatten: needs a schema with type ="),
        ({"answer": {"schema": {"type": "object"}, "flatten": True}}, "answer.flatten: needs a schema with type ="),
        ({"params": {"response_format": {"type": "json_object"}}}, "params.response_format: can't be together with"),
        ({"params": {"text": {"format": {"type": "json_object"}}}}, "params.text.format: can't be together with"),
        ({"params": {"tools": [{}]}, "answer": {"schema": SCHEMA, "send": "tool"}}, "params.tools: can't be together"),
        ({"params": {"tools": [{}], "tool_choice": "required"}}, "params.tools: a model that must call one of these"),
        (
            {"params": {"tool_choice": "auto"}, "answer": {"schema": SCHEMA, "send": "tool"}},
            "params.tool_choice: can't be together",
        ),
        (
            {"model": None, "models": [{"id": "m", "params": {"response_format": {"type": "text"}}}]},
            "models.m.params.response_format: can't be together with",
        ),
    ],
)
def test_a_wrong_setting_is_refused_with_its_name(settings: dict[str, Any], message: str) -> None:
    given = {key: value for key, value in (RIGHT | {"answer": {"schema": SCHEMA}} | settings).items() if value}
    given |= {"answer": settings.get("answer", {"schema": SCHEMA})}
    with pytest.raises(JobError, match="^" + re.escape(message)):
        read_job(None, given, {})


@pytest.mark.parametrize(
    "params",
    [
        {"response_format": None},
        {"text": {"verbosity": "low"}},
        {"tools": [{"type": "web_search"}]},
        {"tools": [{"type": "web_search"}], "tool_choice": "auto"},
    ],
)
def test_parameters_that_leave_the_answer_free_are_taken(params: dict[str, Any]) -> None:
    assert read_job(None, RIGHT | {"params": params, "answer": {"schema": SCHEMA}}, {}).answer is not None


def test_a_refusal_names_its_line(tmp_path: Path) -> None:
    file = tmp_path / "job.toml"
    file.write_text(f"{JOB_FILE}[params]\nresponse_format = {{}}\n[answer]\nschema = 'x'\n")
    with pytest.raises(JobError, match=re.escape(f"{file}:6: params.response_format: ")):
        read_job(file, {}, {})
    with pytest.raises(JobError, match=re.escape(f"{file}:8: answer.schema: x: ")):
        read_job(file, {"params": {"response_format": None}}, {})


@pytest.mark.parametrize("base_url", ["rehearsal:", "http://localhost/v1"])
def test_what_a_schemas_module_says_does_not_show_the_key(tmp_path: Path, base_url: str) -> None:
    key = "sk-" + "1aB" * 12
    (tmp_path / "telling.py").write_text(f"raise RuntimeError('boom' + ' ' * 280 + '{key}')")
    job = tmp_path / "job.toml"
    job.write_text(
        f'model = "m"\n[input]\npath = "rows.jsonl"\n[answer]\nschema = "telling:Review"\n[provider]\nbase_url = "{base_url}"'
    )
    with pytest.raises(JobError, match="can't be imported: RuntimeError: boom") as raised:
        read_job(job, {}, {"AIHUBMIX_API_KEY": key})
    assert key not in str(raised.value)
