"""Keyword arguments describe a job as its file and the command line do."""

from __future__ import annotations

import datetime
import re
import typing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from batchmix.api.job import Job
from batchmix.api.settings import JobKeywords, Settings, StartKeywords, checked_job, start_options
from batchmix.cli.options import job_from
from batchmix.engine.run import Options
from batchmix.errors import JobError
from batchmix.job import CheckedJob, job_settings
from batchmix.job.answer_table import Answer
from batchmix.job.call import FLAGS
from batchmix.job.table import JobTable, keys_of


def described(source: Any = "rows.jsonl", **settings: Any) -> CheckedJob:
    prompt, model, out = (settings.pop(name, None) for name in ("prompt", "model", "out"))
    return checked_job(source, prompt, model, out, typing.cast(JobKeywords, settings))


def test_each_top_level_key_of_a_job_file_is_a_keyword_argument() -> None:
    assert keys_of(JobTable) - {"steps"} | FLAGS.keys() == JobKeywords.__annotations__.keys() - {"examples", "date"} | {
        "prompt", "model", "out",
    }  # fmt: skip
    assert Settings.__annotations__.keys() - JobKeywords.__annotations__.keys() == set(StartKeywords.__struct_fields__)


def test_short_names_and_tables_are_the_options_of_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = {"model": "m", "prompt": "{{ text }}", "base_url": "rehearsal:", "out": "there", "rpm": 60.0, "tpm": 10.0,
             "concurrency": 7, "deadline": 5.0}  # fmt: skip
    called = job_from("rows.jsonl", ("params.seed=1", "limits.concurrency=9"), flags | {"date": None})
    given = described(**flags, params={"seed": 1}, limits={"concurrency": 9})
    assert job_settings(given) == job_settings(called)
    assert given.models[0].places == {"seed": "params.seed"}
    assert called.models[0].places == {"seed": "--set params.seed"}


def test_arguments_override_a_job_file_and_its_tables(tmp_path: Path) -> None:
    file = tmp_path / "job.toml"
    file.write_text('model = "m"\n[input]\npath = "rows.jsonl"\n[params]\nseed = 1\ntop_p = 0.5\n')
    job = described(file, model="other", out=tmp_path / "run", params={"seed": 2})
    assert job.name == "job"
    assert job.models[0].params == {"seed": 2, "top_p": 0.5}
    assert (job.models[0].id, job.output.path) == ("other", str(tmp_path / "run"))
    assert (job.input.path, job.scorer_folder) == (str(tmp_path / "rows.jsonl"), str(tmp_path))


def test_paths_tuples_and_other_mappings_are_taken_as_a_file_has_them(tmp_path: Path) -> None:
    messages = ({"role": "user", "content": "{{ text }}"},)
    job = described(tmp_path / "rows.jsonl", model="m", messages=messages, reuse={"from": (tmp_path / "run",)})
    assert job.input.messages == messages
    assert job.reuse.folders == (str(tmp_path / "run"),)


def test_the_input_may_be_in_its_table_or_in_memory() -> None:
    assert described(None, model="m", input={"path": "-"}).input.path == "-"
    job = described("memory:jsonl", model="m")
    assert (job.input.path, job.name) == ("memory:jsonl", "data")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"concurency": 3}, "unknown keyword argument concurency: did you mean concurrency?"),
        ({"retry_rejectd": True}, "unknown keyword argument retry_rejectd: did you mean retry_rejected?"),
        ({"temperature": 0}, "unknown setting temperature: temperature belongs under [params]"),
        ({"limits": {"concurency": 3}}, "unknown setting limits.concurency: did you mean limits.concurrency?"),
        ({"concurrency": "many"}, "limits.concurrency: expected a whole number, got text"),
        ({"params": 3}, "params: expected a table, got a whole number"),
        ({"prompt": "{{ text }}", "messages": []}, "input: give either messages, or prompt and system, not both"),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_refused_with_the_nearest_right_one(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(JobError) as refused:
        described(**{"model": "m"} | settings)
    assert str(refused.value) == message


def test_the_options_of_a_start_are_no_part_of_the_job() -> None:
    settings: Settings = {"limit": 3, "canary": 20, "update": True, "bad_rows": "reject", "progress": "none"}
    options = start_options(settings)
    wanted = Options(limit=3, canary=20, update=True, reject_bad_rows=True, stop_request=options.stop_request)
    assert options == wanted
    assert job_settings(described(model="m", **settings)) == job_settings(described(model="m"))
    for wrong, message in (
        ({"limit": 0}, "limit: expected a whole number >= 1"),
        ({"bad_rows": "rejct"}, "bad_rows: there is no 'rejct'; did you mean reject?"),
    ):
        with pytest.raises(JobError, match=message):
            start_options(typing.cast(Settings, wrong))


class Review(msgspec.Struct):
    mood: str
    token: str | None = None


@pytest.mark.parametrize(
    "settings", [{"schema": Review}, {"answer": {"schema": Review}}, {"schema": Review, "answer": {"schema": "x.json"}}]
)
def test_a_class_stands_for_its_schema(settings: dict[str, Any]) -> None:
    job = Job("rows.jsonl", "{{ text }}", model="m", **settings)
    assert job.checked.answer == Answer(schema=msgspec.json.schema(Review))
    assert Job.from_toml(job.to_toml()) == job
    assert job != Job("rows.jsonl", "{{ text }}", model="m")


def test_a_class_without_a_schema_is_refused() -> None:
    with pytest.raises(JobError, match=re.escape("answer.schema: <class 'int'>: has no JSON Schema")):
        described(model="m", schema=int)


def test_a_date_fills_the_path_and_is_the_night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    night = datetime.date(2026, 11, 27)
    job = described(prompt="Say {{ text }}", model="m", out="runs/{name}/{date}", date=night)
    assert (job.output.path, job.night) == (str(tmp_path / "runs" / "rows" / "2026-11-27"), night)
    with pytest.raises(JobError, match="expected a datetime"):
        described(prompt="Say {{ text }}", model="m", date="2026-11-27")
