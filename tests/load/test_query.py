"""`input.query`: one SELECT over local files, run once."""

from __future__ import annotations

import io
import os
import re
import sys
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import batchmix as bm
from batchmix.errors import InputError, JobError
from batchmix.job import QUERY, read_job
from batchmix.load import query_process
from batchmix.load.query import query_result


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the job file, with a table. That of the working directory has the same name."""
    for name, first in (("a, job", 0), ("elsewhere", 100)):
        (tmp_path / name).mkdir()
        duckdb.sql(f"select i as id, 'Text ' || i as text from range({first}, {first + 5}) t(i)").write_parquet(
            str(tmp_path / name / "rows.parquet")
        )
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "a, job"


def result(folder: Path, query: str) -> pa.Table:
    path = QUERY + msgspec.json.encode([str(folder), query]).decode()
    with query_result(path, folder / "run" / "input") as file:
        return pq.read_table(file)


def test_names_start_in_the_folder_whatever_the_working_directory_has(folder: Path) -> None:
    for source in ("rows.parquet", "*.parquet"):
        assert result(folder, f"select id from '{source}' order by id desc")["id"].to_pylist() == [4, 3, 2, 1, 0]


WRONG = {
    "select 1; select 2": "must be one SELECT statement",
    "": "must be one SELECT statement",
    "copy (select 1) to 'made.csv'": "must be one SELECT statement",
    "install httpfs": "must be one SELECT statement",
    "set threads = 1": "must be one SELECT statement",
    "selec 1": 'syntax error at or near "selec"$',
    "from 'none.parquet'": 'No files found that match the pattern "none.parquet"',
    "from 'http://127.0.0.1:9/x.parquet'": "requires the extension httpfs to be loaded; only local files",
    "select interval 1 day as a": "the column 'a', of the type month_day_nano_interval, can't be read",
    "select 1 as a, 2 as a": "the table has 2 columns named 'a'",
    "select * from folder": "folder does not exist",
}


@pytest.mark.parametrize("query", WRONG)
def test_what_is_wrong_is_said(
    query: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, to save the time of starting others."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(query.encode())))
    monkeypatch.setattr(sys, "argv", ["query_process", str(os.open(folder / "out", os.O_CREAT | os.O_RDWR))])
    assert query_process.main() == 1
    assert re.search(WRONG[query], capsys.readouterr().out.strip())
    assert not Path("made.csv").exists()


def test_a_mistake_reaches_the_caller(folder: Path) -> None:
    with pytest.raises(InputError, match=r'^input\.query: .*No files found that match the pattern "none\.csv"$'):
        result(folder, "from 'none.csv'")


@pytest.mark.parametrize("other", ["path", "run"])
def test_a_query_takes_the_place_of_other_input(other: str) -> None:
    with pytest.raises(JobError, match=f"input: give either {other} or query, not both"):
        read_job(None, {"model": "m", "input": {other: "a", "query": "select 1"}})


def job_file(folder: Path, query: str) -> Path:
    path = folder / "job.toml"
    path.write_text(
        f'model = "m"\n[input]\nquery = "{query}"\nprompt = "{{{{ text }}}}"\n[provider]\nbase_url = "rehearsal:"\n'
    )
    return path


def test_the_query_runs_once_and_again_with_update(folder: Path) -> None:
    path, table = job_file(folder, "from 'rows.parquet' where id > 2 order by id desc"), folder / "rows.parquet"
    out: Any = folder / "out"

    def texts(**options: Any) -> list[Any]:
        return list(bm.run(path, out=out, **options).to_arrow()["text"].to_pylist())

    assert texts() == ["Text 4", "Text 3"]
    table.rename(folder / "gone")
    assert texts() == ["Text 4", "Text 3"]
    assert len(bm.open(out).go_on()) == 2
    with pytest.raises(InputError, match=r"input\.query: .*No files found"):
        texts(update=True)
    duckdb.sql("select 7 as id, 'new' as text").write_parquet(str(table))
    assert texts() == ["Text 4", "Text 3"]
    assert texts(update=True) == ["new"]


def test_a_query_without_rows_sends_nothing(folder: Path) -> None:
    with pytest.raises(InputError, match=r"input\.query: there are no rows in it"):
        bm.run(job_file(folder, "from 'rows.parquet' where id > 9"), out=folder / "out")
