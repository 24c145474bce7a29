"""Runs as datasets: other programs read one run, or many nights, in one line each."""

from __future__ import annotations

import datetime
import glob
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pandas
import polars
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from batchmix.engine.run import Options, run_job
from batchmix.engine.run_status import RunStatus
from batchmix.job import read_job
from batchmix.redact import Secrets
from batchmix.store.parts import write_rows
from batchmix.store.schema import RunIdentity, part_schema
from tests.conftest import Bench
from tests.documents import blocks, page

pytestmark = pytest.mark.usefixtures("all_at_once")
NIGHTS = [datetime.date(2026, 11, day) for day in (25, 26, 27)]
SCORES: list[Any] = [None, 3, 0.5]
"""The values of a column in each night. In JSON they are nothing, a whole number and a fraction."""
GLOB = "runs/*/*/data/*.parquet"


def run_night(bench: Bench, night: datetime.date, **options: Any) -> None:
    job = read_job(None, bench.settings, {}, scheduled=night)
    run_job(job, Secrets(""), Options(**options), RunStatus())


def nights(bench: Bench, monkeypatch: pytest.MonkeyPatch, **column: str) -> None:
    """Run a job on three nights, and make the folder of its runs the working directory."""
    monkeypatch.chdir(bench.root)
    bench.settings["name"] = "news"
    bench.settings["output"]["path"] = "runs/{name}/{date}"
    bench.settings["input"]["columns"] = ["text", {"from": "score", **column}]
    for night, score in zip(NIGHTS, SCORES, strict=True):
        rows = ({"text": f"word {number}", "score": score} for number in range(12))
        bench.source.write_text("".join(json.dumps(row) + "\n" for row in rows))
        run_night(bench, night)


def files() -> list[str]:
    return sorted(glob.glob(GLOB))  # noqa: PTH207 - as in the documentation


def with_pandas() -> pa.Table:
    return pa.Table.from_pandas(pandas.read_parquet(files(), dtype_backend="pyarrow"))


def with_datasets() -> pa.Table:
    import datasets

    datasets.disable_progress_bars()
    try:
        found = datasets.load_dataset("parquet", data_files=GLOB, split="train", cache_dir="cache")
    finally:
        datasets.enable_progress_bars()
    return found.data.table


READERS: dict[str, Callable[[], pa.Table]] = {
    "duckdb": lambda: duckdb.sql(f"from '{GLOB}'").to_arrow_table(),
    "polars": lambda: polars.read_parquet(GLOB).to_arrow(),
    "pandas": with_pandas,
    "datasets": with_datasets,
    "pyarrow": lambda: pa.dataset.dataset(files()).to_table(),
}


@pytest.fixture
def typed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Three nights whose column has a declared type."""
    nights(bench, monkeypatch, type="double")
    return bench


def test_each_reader_takes_many_nights_as_one_table(typed: Bench) -> None:
    """Also where the values of a night were all null, or whole numbers: the job declares the column's type."""
    expected = sorted(
        (night, f"news/{night}", "news", number, None if score is None else float(score))
        for night, score in zip(NIGHTS, SCORES, strict=True)
        for number in range(12)
    )
    for name, read in READERS.items():
        table = read().select(["night", "run", "job", "row", "score"])
        found = [tuple(row.values()) for row in table.to_pylist()]
        assert sorted(found) == expected, name


def test_without_a_declared_type_the_nights_differ(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """DuckDB makes them texts, and others refuse them. The columns that they share can be read all the same."""
    nights(bench, monkeypatch)
    types = {str(pq.read_schema(path).field("score").type) for path in files()}
    assert types == {"string", "int64", "double"}
    assert str(READERS["duckdb"]().schema.field("score").type) == "string"
    with pytest.raises(polars.exceptions.SchemaError, match="score"):
        READERS["polars"]()
    assert polars.scan_parquet(GLOB).select("night", "response").collect().height == 36
    bench.settings["input"]["columns"] = ["text", {"from": "score", "type": "double"}]
    for night in NIGHTS:
        run_night(bench, night, update=True)
    assert READERS["polars"]()["score"].to_pylist().count(0.5) == 36  # the input is the last night's


def test_the_run_folder_itself_is_no_table(typed: Bench) -> None:
    """Readers that take each file in it for Parquet refuse it by name. The line for a run is its `data/`."""
    run = f"runs/news/{NIGHTS[0]}"
    with pytest.raises(Exception, match=r"ledger\.jsonl|lock|manifest|Parquet"):
        pandas.read_parquet(run)
    with pytest.raises(Exception, match="different file extensions"):
        polars.read_parquet(run)
    assert sorted(path.name for path in Path(run, "data").iterdir()) == ["part-00000.parquet", "part-00001.parquet"]
    for table in (pandas.read_parquet(f"{run}/data"), polars.read_parquet(f"{run}/data")):
        assert len(table) == 12


class CountedFile(io.BytesIO):
    """A file that counts the bytes that are read from it."""

    read_bytes = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.read_bytes += len(data)
        return data


def part_of_failures(path: Path) -> None:
    """Write a part with 3 failures among 4000 answers, in several row groups."""
    schema = part_schema(pa.schema([("custom_id", pa.string())]), RunIdentity("job", "run"))

    def batches() -> Any:
        for first in range(0, 4000, 250):
            rows = [
                {
                    "row": row,
                    "status": "failed" if row in {700, 701, 702} else "ok",
                    "error_type": "timeout" if row in {700, 701, 702} else None,
                    "response": os.urandom(100).hex(),
                    "raw": os.urandom(1000).hex(),
                }
                for row in range(first, first + 250)
            ]
            yield pa.RecordBatch.from_pylist(rows, schema=schema)

    path.touch()
    write_rows(path, schema, batches(), lambda: None)


def test_a_filter_on_the_status_reads_only_what_it_needs(tmp_path: Path) -> None:
    """The row groups without a failure are left out by their statistics, and so are the other columns."""
    part = tmp_path / "part-00000.parquet"
    part_of_failures(part)
    failed = pa.compute.field("status") == "failed"

    def read(columns: list[str], condition: Any) -> tuple[int, int]:
        counted = CountedFile(part.read_bytes())
        source = pa.PythonFile(counted, mode="r")
        fragment = pyarrow.dataset.ParquetFileFormat().make_fragment(source)
        table = fragment.to_table(columns=columns, filter=condition)
        return table.num_rows, counted.read_bytes

    size = part.stat().st_size
    assert pq.read_metadata(part).num_row_groups > 1
    rows, everything = read(["row", "response", "raw"], None)
    assert rows == 4000
    assert everything > 0.9 * size
    rows, few = read(["row", "error_type"], failed)
    assert (rows, few < 0.1 * size) == (3, True), f"{few} of {size}"
    rows, group = read(["row", "response", "raw"], failed)
    assert (rows, group < 0.7 * size) == (3, True), f"{group} of {size}"


def test_the_recipe_for_incremental_loads_loads_each_part_once(
    typed: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    """A part that was written again replaces its rows, and rows that are gone go. A killed load is repeated."""
    recipe = next(block for block in blocks(page("jobs/downstream.md"), "python") if "manifest.json" in block)
    recipe = recipe.replace("nightly-capitals", "news")

    def load() -> tuple[int, list[Any]]:
        exec(compile(recipe, "downstream.md", "exec"), {})
        loaded = len(capsys.readouterr().out.splitlines())
        with duckdb.connect("warehouse.db") as warehouse:
            return loaded, warehouse.sql(
                "select night, count(*), count(distinct row) from results group by all order by 1"
            ).fetchall()

    assert load() == (6, [(night, 12, 12) for night in NIGHTS])
    assert load() == (0, [(night, 12, 12) for night in NIGHTS])
    source = typed.source
    source.write_text(source.read_text() + json.dumps({"text": "one more", "score": 1}) + "\n")
    run_night(typed, NIGHTS[2])
    assert load() == (1, [(NIGHTS[0], 12, 12), (NIGHTS[1], 12, 12), (NIGHTS[2], 13, 13)])
    source.write_text("".join(source.read_text().splitlines(keepends=True)[:10]))
    run_night(typed, NIGHTS[2], update=True)
    assert load() == (1, [(NIGHTS[0], 12, 12), (NIGHTS[1], 12, 12), (NIGHTS[2], 10, 10)])
