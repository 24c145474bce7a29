"""Rows with columns for their model and their parameters."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchmix.errors import InputError, JobError
from batchmix.job import read_job
from batchmix.load import Dataset, Scan
from tests.conftest import Bench
from tests.load.conftest import all_requests, open_rows

ROWS = [
    {"text": "one", "which": "a", "extra": {"max_tokens": 5}},
    {"text": "two", "which": "b/c", "extra": None},
    {"text": "three", "which": "a", "extra": {"temperature": 0.5, "top_p": 1.0}},
    {"text": "four", "which": "b/c", "extra": {}},
]
ASKED = {"prompt": "Say {{ text }}", "model": "which", "params": "extra"}


def bodies(dataset: Dataset, job: Any) -> list[dict[str, Any]]:
    lanes = dataset.models
    return [json.loads(request.body) for model in lanes for request in all_requests(dataset, job, model)]


@pytest.mark.parametrize("form", ["jsonl", "parquet", "parquet with JSON text"])
def test_each_row_is_sent_to_its_model_with_its_parameters(tmp_path: Path, form: str) -> None:
    path = tmp_path / ("rows.jsonl" if form == "jsonl" else "rows.parquet")
    if form == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    else:
        rows = [row | {"extra": json.dumps(row["extra"])} for row in ROWS] if "text" in form else ROWS
        pq.write_table(pa.Table.from_pylist(rows), path)
    job = read_job(None, {"input": {"path": str(path), **ASKED}, "params": {"temperature": 0}}, {})
    dataset = open_rows(job, tmp_path / "spool")
    assert dataset.scan.models == ("a", "b/c")

    def said(text: str, model: str, **params: Any) -> dict[str, Any]:
        return {"model": model, "messages": [{"role": "user", "content": f"Say {text}"}], "temperature": 0, **params}

    assert bodies(dataset, job) == [
        said("one", "a", max_tokens=5), said("three", "a", temperature=0.5, top_p=1.0),
        said("two", "b/c"), said("four", "b/c"),
    ]  # fmt: skip
    assert [request.max_tokens for request in all_requests(dataset, job, dataset.models[0])] == [
        5,
        None,
    ]
    assert dataset.carried_schema.names == ["custom_id", "text", "extra"]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"text": "x", "which": None, "extra": {}}, "it must be the id of a model"),
        ({"text": "x", "which": 7, "extra": {}}, "it must be the id of a model"),
        ({"text": "x", "which": " ", "extra": {}}, "it must be the id of a model"),
        ({"text": "x", "extra": {}}, "has no column 'which'"),
        ({"text": "x", "which": "a", "extra": [1]}, "it must be an object"),
        ({"text": "x", "which": "a", "extra": {"model": "b"}}, "take them out"),
        ({"which": "a", "extra": {}}, "text"),
    ],
)
def test_a_row_without_a_model_is_bad(
    tmp_path: Path, rows_file: Callable[..., Path], row: dict[str, Any], said: str
) -> None:
    job = read_job(None, {"input": {"path": str(rows_file([ROWS[0], row])), **ASKED}}, {})
    with pytest.raises(InputError, match=said):
        open_rows(job, tmp_path / "spool")


def test_either_the_job_or_the_rows_name_the_models(rows_file: Callable[..., Path]) -> None:
    with pytest.raises(JobError, match=r"input\.model"):
        read_job(None, {"model": "a", "input": {"path": str(rows_file(ROWS)), **ASKED}}, {})


def test_another_model_column_needs_another_scan(tmp_path: Path, rows_file: Callable[..., Path]) -> None:
    path = rows_file([{"text": "x", "one": "a", "two": "b"}])
    input_settings = {"prompt": "{{ text }} {{ one }} {{ two }}"}
    known: Scan | None = None
    for column, model in (("one", "a"), ("two", "b"), ("one", "a")):
        job = read_job(None, {"input": {"path": str(path), **input_settings, "model": column}}, {})
        known = open_rows(job, tmp_path / "spool", previous=known).scan
        assert known.models == (model,)


def test_lanes_follow_the_models_of_the_rows(bench: Bench) -> None:
    del bench.settings["model"]
    bench.settings["input"] |= {"model": "which"}
    bench.source.write_text(
        "".join(json.dumps({"text": f"t{number}", "which": "ab"[number % 2]}) + "\n" for number in range(25))
    )
    bench.run(limit=10)
    bench.run()
    assert bench.standin.request_count() == 25
    assert [(row["row"], row["model"]) for row in bench.rows()] == [(number, "ab"[number % 2]) for number in range(25)]
